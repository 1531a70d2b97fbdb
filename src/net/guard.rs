//! Which addresses an upstream may have.
//!
//! Pure. Base URLs come from people who may not reach the gateway's own network, so an address that
//! is not plainly on the public internet is refused unless the operator allows its network. The guard
//! judges addresses, not names: it is asked after every lookup.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::config::server::IpNetwork;

/// The IPv4 networks that are not public internet.
static REFUSED_V4: [(Ipv4Addr, u8); 16] = [
    (Ipv4Addr::UNSPECIFIED, 8), // "This" network; 0.0.0.0 reaches this host.
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10), // Shared by carriers; holds a metadata service, 100.100.100.200.
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(168, 63, 129, 16), 32), // Azure's host, seen from its virtual machines.
    (Ipv4Addr::new(169, 254, 0, 0), 16), // Link-local; holds the metadata services, 169.254.169.254.
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24), // Protocol assignments; holds a metadata service, 192.0.0.192.
    (Ipv4Addr::new(192, 0, 2, 0), 24), // Documentation, as the two below.
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    (Ipv4Addr::new(192, 88, 99, 0), 24), // Relays of 6to4.
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15), // Benchmarks.
    (Ipv4Addr::new(224, 0, 0, 0), 4),   // Multicast.
    (Ipv4Addr::new(240, 0, 0, 0), 4),   // Reserved, and broadcast.
];

/// All IPv6 addresses outside are refused: loopback, mapped and compatible IPv4, NAT64 (`64:ff9b::/96`),
/// unique local (with `fd00:ec2::254`), link-local, multicast.
const GLOBAL_V6: (Ipv6Addr, u8) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);

/// What is refused of [`GLOBAL_V6`].
static REFUSED_V6: [(Ipv6Addr, u8); 4] = [
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23), // Protocol assignments; Teredo, 2001::/32.
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32), // Documentation, as the last.
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16), // 6to4: any IPv4 address inside.
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
];

/// Whether an upstream may have this address. An IPv4 address in IPv6 clothes is what it is inside when
/// the allowed networks are asked, and is refused otherwise: no provider's name leads there.
pub fn is_allowed(ip: IpAddr, allow: &[IpNetwork]) -> bool {
    let canonical = ip.to_canonical();
    if allow.iter().any(|network| contains(*network, ip) || contains(*network, canonical)) {
        return true;
    }
    match ip {
        IpAddr::V4(ip) => !REFUSED_V4.iter().any(|(net, len)| in_v4(ip, *net, *len)),
        IpAddr::V6(ip) => {
            let (global, len) = GLOBAL_V6;
            in_v6(ip, global, len) && !REFUSED_V6.iter().any(|(net, len)| in_v6(ip, *net, *len))
        }
    }
}

/// Whether `ip` lies in `network`; never across families.
pub fn contains(network: IpNetwork, ip: IpAddr) -> bool {
    match (network.address, ip) {
        (IpAddr::V4(net), IpAddr::V4(ip)) => in_v4(ip, net, network.prefix_len),
        (IpAddr::V6(net), IpAddr::V6(ip)) => in_v6(ip, net, network.prefix_len),
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
    }
}

fn in_v4(ip: Ipv4Addr, network: Ipv4Addr, prefix_len: u8) -> bool {
    let free = 32 - u32::from(prefix_len.min(32));
    let differ = ip.to_bits() ^ network.to_bits();
    differ.checked_shr(free).unwrap_or(0) == 0
}

fn in_v6(ip: Ipv6Addr, network: Ipv6Addr, prefix_len: u8) -> bool {
    let free = 128 - u32::from(prefix_len.min(128));
    let differ = ip.to_bits() ^ network.to_bits();
    differ.checked_shr(free).unwrap_or(0) == 0
}

/// The host of a base URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    Ip(IpAddr),
    /// In lower case, without a dot at the end.
    Name(String),
    /// Neither an address as it should be written nor a name of letters, digits and hyphens.
    Invalid,
}

/// Reads a host, without its port; an IPv6 address with or without brackets.
///
/// The C library takes `2130706433`, `0x7f.1` and `0177.0.0.1` for 127.0.0.1. No such spelling is an
/// address here, nor a name: a name whose last label is a number is invalid.
pub fn parse_host(host: &str) -> Host {
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    if let Some(inner) = bracketed {
        return inner.parse().map_or(Host::Invalid, |ip| Host::Ip(IpAddr::V6(ip)));
    }
    if let Ok(ip) = host.parse() {
        return Host::Ip(ip);
    }
    let name = host.strip_suffix('.').unwrap_or(host);
    let is_name = (1..=253).contains(&name.len()) && name.split('.').all(is_label);
    if is_name && !name.rsplit('.').next().is_some_and(is_number) {
        Host::Name(name.to_ascii_lowercase())
    } else {
        Host::Invalid
    }
}

/// Underscores are no part of host names, but of names that container networks resolve.
fn is_label(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        && !label.starts_with('-')
        && !label.ends_with('-')
}

/// Decimal, octal or hexadecimal, as the C library reads a part of an address.
fn is_number(label: &str) -> bool {
    let hex = label.strip_prefix("0x").or_else(|| label.strip_prefix("0X"));
    match hex {
        Some(digits) => digits.bytes().all(|b| b.is_ascii_hexdigit()),
        None => label.bytes().all(|b| b.is_ascii_digit()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn network(text: &str) -> IpNetwork {
        let (address, prefix_len) = text.split_once('/').unwrap();
        IpNetwork { address: address.parse().unwrap(), prefix_len: prefix_len.parse().unwrap() }
    }

    fn allowed(ip: &str, allow: &[&str]) -> bool {
        let allow: Vec<_> = allow.iter().map(|text| network(text)).collect();
        is_allowed(ip.parse().unwrap(), &allow)
    }

    #[test]
    fn what_is_not_public_internet_is_refused() {
        let refused = [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "10.255.255.255",
            "100.64.0.1",
            "100.100.100.200",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.254",
            "168.63.129.16",
            "169.254.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.1",
            "192.0.0.192",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.0.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.7",
            "203.0.113.9",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:8.8.8.8",
            "::127.0.0.1",
            "::8.8.8.8",
            "::ffff:0:127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b::8.8.8.8",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:0:7f00:1::",
            "2001:10::1",
            "2001:20::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "2002:a00:1::1",
            "3fff::1",
            "5f00::1",
            "fc00::1",
            "fd00:ec2::254",
            "fd12::1",
            "fe80::1",
            "febf::1",
            "fec0::1",
            "ff02::1",
            "4000::1",
        ];
        for ip in refused {
            assert!(!allowed(ip, &[]), "{ip}");
        }
    }

    #[test]
    fn public_addresses_are_allowed() {
        let public = [
            "1.1.1.1",
            "8.8.8.8",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "128.0.0.1",
            "169.253.255.255",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.1",
            "192.167.255.255",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "2001:4860:4860::8888",
            "2606:4700::1111",
            "2a00:1450::1",
            "2003::1",
        ];
        for ip in public {
            assert!(allowed(ip, &[]), "{ip}");
        }
    }

    #[test]
    fn operator_allows_networks() {
        for (ip, allow, expected) in [
            ("127.0.0.1", "127.0.0.0/8", true),
            ("::ffff:127.0.0.1", "127.0.0.0/8", true),
            ("::1", "127.0.0.0/8", false),
            ("::1", "::1/128", true),
            ("10.1.2.3", "10.1.2.3/32", true),
            ("10.1.2.4", "10.1.2.3/32", false),
            ("64:ff9b::1.1.1.1", "64:ff9b::/96", true),
            ("fd12::5", "fd00::/8", true),
            ("169.254.169.254", "10.0.0.0/8", false),
            ("192.168.1.1", "0.0.0.0/0", true),
            ("::ffff:10.0.0.1", "0.0.0.0/0", true),
            ("fe80::1", "0.0.0.0/0", false),
            ("fe80::1", "::/0", true),
        ] {
            assert_eq!(allowed(ip, &[allow]), expected, "{ip} in {allow}");
        }
    }

    #[test]
    fn hosts_are_addresses_names_or_neither() {
        let name = |name: &str| Host::Name(name.to_owned());
        for (host, expected) in [
            ("api.openai.com", name("api.openai.com")),
            ("API.OpenAI.com.", name("api.openai.com")),
            ("localhost", name("localhost")),
            ("vllm_1", name("vllm_1")),
            ("xn--mnchen-3ya.de", name("xn--mnchen-3ya.de")),
            ("deadbeef", name("deadbeef")),
            ("1.2.3.4.example", name("1.2.3.4.example")),
            ("127.0.0.1", Host::Ip(Ipv4Addr::LOCALHOST.into())),
            ("::1", Host::Ip(Ipv6Addr::LOCALHOST.into())),
            ("[::1]", Host::Ip(Ipv6Addr::LOCALHOST.into())),
            ("[0:0:0:0:0:0:0:1]", Host::Ip(Ipv6Addr::LOCALHOST.into())),
        ] {
            assert_eq!(parse_host(host), expected, "{host}");
        }
    }

    #[test]
    fn odd_spellings_of_addresses_are_invalid() {
        let long_label = "a".repeat(64);
        let long_name = "a.".repeat(130);
        for host in [
            "2130706433",
            "017700000001",
            "0x7f000001",
            "0X7F000001",
            "127.1",
            "127.0.1",
            "0177.0.0.1",
            "0x7f.0.0.1",
            "0x7f.1",
            "127.0.0.0x1",
            "127.0.0.01",
            "127.0.0.1.",
            "1.2.3",
            "1.2.3.4.5",
            "256.1.1.1",
            "999",
            "0",
            "0x",
            "foo.0x7f",
            "foo.1",
            "127.0.0.1 ",
            "[127.0.0.1]",
            "[::1",
            "::1]",
            "[]",
            "::1%eth0",
            "[fe80::1%25eth0]",
            ":::1",
            "127。0。0。1",
            "１２７.0.0.1",
            "①.com",
            "münchen.de",
            "",
            ".",
            "..",
            "a..b",
            ".a",
            "-a",
            "a-",
            "a b",
            "a/b",
            "a:80",
            "user@host",
            "a%2eb",
            "a\0b",
            "a\nb",
            "a\\b",
            "*",
            &long_label,
            &long_name,
        ] {
            assert_eq!(parse_host(host), Host::Invalid, "{host}");
        }
    }

    proptest! {
        #[test]
        fn mapped_address_is_allowed_only_if_its_network_is(bits in any::<u32>()) {
            let ip = Ipv4Addr::from_bits(bits);
            let own = [IpNetwork { address: ip.into(), prefix_len: 32 }];
            let mapped = IpAddr::V6(ip.to_ipv6_mapped());
            prop_assert!(!is_allowed(mapped, &[]));
            prop_assert!(is_allowed(mapped, &own));
        }

        #[test]
        fn standard_library_calls_no_allowed_address_local(bits in any::<u32>()) {
            let ip = Ipv4Addr::from_bits(bits);
            if is_allowed(ip.into(), &[]) {
                prop_assert!(!ip.is_private() && !ip.is_loopback() && !ip.is_link_local());
                prop_assert!(!ip.is_multicast() && !ip.is_unspecified() && !ip.is_documentation());
            }
        }

        #[test]
        fn any_text_is_read_without_panic(host in "\\PC{0,40}") {
            if let Host::Name(name) = parse_host(&host) {
                prop_assert!(name.is_ascii() && name.parse::<IpAddr>().is_err());
            }
        }
    }
}
