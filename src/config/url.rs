//! Addresses of upstreams and stores, taken apart and checked.
//!
//! Messages say what is wrong without showing the address: it may hold a password.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use super::resources::BaseUrl;
use crate::secret::Secret;

/// `scheme://user@host:port/path`, of which the last three may be missing.
#[derive(Clone, PartialEq, Eq)]
pub struct Url {
    pub scheme: String,
    pub user: Option<String>,
    /// At least one; only the address of a cluster has several.
    pub hosts: Vec<Host>,
    /// With the slash at its start.
    pub path: String,
    pub has_query: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Lowercase, and without brackets for an IPv6 address.
    pub name: String,
    pub port: Option<u16>,
}

/// Reads what stands before `/chat/completions`.
pub fn base_url(text: &str) -> Result<BaseUrl, &'static str> {
    let url = Url::parse(text)?;
    let is_tls = match url.scheme.as_str() {
        "http" => false,
        "https" => true,
        _ => return Err("must begin with http:// or https://"),
    };
    if url.user.is_some() {
        return Err("must not hold a user or a password: use `credential`");
    }
    if url.has_query {
        return Err("must not hold `?` or `#`");
    }
    let mut hosts = url.hosts.into_iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return Err("must name one host");
    };
    let port = host.port.unwrap_or(if is_tls { 443 } else { 80 });
    let path = url.path.trim_end_matches('/').to_owned();
    Ok(BaseUrl { is_tls, host: host.name, port, path })
}

impl Url {
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("must be a URL: no spaces, and only ASCII characters");
        }
        let (scheme, rest) = text.split_once("://").ok_or("must be a URL with `://`")?;
        let is_query = |letter| letter == '?' || letter == '#';
        let (rest, has_query) = match rest.split_once(is_query) {
            Some((rest, _)) => (rest, true),
            None => (rest, false),
        };
        let authority = rest.split('/').next().unwrap_or_default();
        let path = rest.get(authority.len()..).unwrap_or_default();
        let (user, hosts) = match authority.rsplit_once('@') {
            Some((user, hosts)) => (Some(user.to_owned()), hosts),
            None => (None, authority),
        };
        let hosts = hosts.split(',').map(Host::parse).collect::<Result<_, _>>()?;
        Ok(Self {
            scheme: scheme.to_ascii_lowercase(),
            user,
            hosts,
            path: path.to_owned(),
            has_query,
        })
    }
}

impl Host {
    fn parse(text: &str) -> Result<Self, &'static str> {
        const BAD_PORT: &str = "must have a port between 1 and 65535 after `:`, or none";
        let (name, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (address, port) = rest.split_once(']').ok_or("`[` has no `]`")?;
                address.parse::<Ipv6Addr>().map_err(|_| "must have an IPv6 address in `[]`")?;
                let port = match port {
                    "" => None,
                    port => Some(port.strip_prefix(':').ok_or(BAD_PORT)?),
                };
                (address, port)
            }
            None => match text.split_once(':') {
                Some((name, port)) => (name, Some(port)),
                None => (text, None),
            },
        };
        let port = match port {
            None => None,
            Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => {
                Some(port.parse().ok().filter(|&port| port != 0).ok_or(BAD_PORT)?)
            }
            Some(_) => return Err(BAD_PORT),
        };
        if !text.starts_with('[') && !is_host_name(name) {
            return Err("must have a host: letters, digits, `-`, `_` and dots");
        }
        if !text.starts_with('[') && is_odd_address(name) {
            return Err("must have an IPv4 address as 127.0.0.1, or a name that ends in no number");
        }
        Ok(Self { name: name.to_ascii_lowercase(), port })
    }
}

/// An IPv4 address, or a name that DNS can look up.
fn is_host_name(name: &str) -> bool {
    let is_label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    // A dot at the end makes a name absolute.
    let name = name.strip_suffix('.').unwrap_or(name);
    name.len() <= 253 && name.split('.').all(is_label)
}

/// `2130706433`, `0x7f.1` and `0177.0.0.1` are addresses to some and names to others.
fn is_odd_address(name: &str) -> bool {
    let last = name.strip_suffix('.').unwrap_or(name).rsplit('.').next();
    last.is_some_and(is_number) && name.parse::<Ipv4Addr>().is_err()
}

/// Decimal, octal or hexadecimal, as the C library reads a part of an address.
fn is_number(label: &str) -> bool {
    match label.strip_prefix("0x").or_else(|| label.strip_prefix("0X")) {
        Some(digits) => digits.bytes().all(|byte| byte.is_ascii_hexdigit()),
        None => label.bytes().all(|byte| byte.is_ascii_digit()),
    }
}

/// How a connection to PostgreSQL is secured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SslMode {
    Disable,
    /// If the server can, whoever it is.
    Prefer,
    /// Encrypted, whoever the server is.
    Require,
    /// Encrypted, and to the server that has a certificate of its name.
    VerifyFull,
}

/// The address of a PostgreSQL database, taken apart as far as TLS needs it.
#[derive(Clone, PartialEq, Eq)]
pub struct PostgresUrl {
    /// What the client of PostgreSQL reads.
    pub rest: Secret,
    pub mode: SslMode,
    /// PEM.
    pub root: Option<PathBuf>,
}

impl PostgresUrl {
    /// Reads a URL, or `name=value` with spaces between.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let (start, parameters, between) = match text.split_once('?') {
            Some((start, query)) if text.contains("://") => (Some(start), query, '&'),
            _ if text.contains("://") => (Some(text), "", '&'),
            _ => (None, text, ' '),
        };
        let (mut mode, mut root) = (None, None);
        let mut kept = Vec::new();
        for parameter in parameters.split(between).filter(|it| !it.is_empty()) {
            match parameter.split_once('=') {
                Some(("sslmode", "disable")) => mode = Some(SslMode::Disable),
                Some(("sslmode", "prefer")) => mode = Some(SslMode::Prefer),
                Some(("sslmode", "require")) => mode = Some(SslMode::Require),
                Some(("sslmode", "verify-full")) => mode = Some(SslMode::VerifyFull),
                Some(("sslmode", _)) => {
                    return Err("`sslmode` must be disable, prefer, require or verify-full");
                }
                Some(("sslrootcert", path)) => {
                    root = Some(PathBuf::from(path.replace("%2F", "/")));
                }
                _ => kept.push(parameter),
            }
        }
        // Who names authorities wants to be sure who the server is.
        if root.is_some() && mode != Some(SslMode::VerifyFull) {
            return Err("`sslrootcert` needs `sslmode=verify-full`");
        }
        let kept = kept.join(if start.is_some() { "&" } else { " " });
        let rest = match start {
            Some(start) if kept.is_empty() => start.to_owned(),
            Some(start) => format!("{start}?{kept}"),
            None => kept,
        };
        Ok(Self { rest: Secret::new(rest), mode: mode.unwrap_or(SslMode::Prefer), root })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn base_urls_are_taken_apart() {
        let read = |text| {
            let url = base_url(text).unwrap();
            format!("{} {} {} {:?}", url.is_tls, url.host, url.port, url.path)
        };
        assert_eq!(read("https://api.openai.com/v1"), r#"true api.openai.com 443 "/v1""#);
        assert_eq!(read("https://api.openai.com/v1/"), r#"true api.openai.com 443 "/v1""#);
        assert_eq!(read("http://LocalHost:8000"), r#"false localhost 8000 """#);
        assert_eq!(read("http://10.0.0.1/"), r#"false 10.0.0.1 80 """#);
        assert_eq!(read("HTTP://[::1]:8000/a/b"), r#"false ::1 8000 "/a/b""#);
    }

    #[test]
    fn bad_base_urls_are_refused_without_being_shown() {
        let mut table = String::new();
        for text in [
            "",
            "api.openai.com/v1",
            "ftp://a/v1",
            "https://",
            "https:///v1",
            "https://user:hunter2@a/v1",
            "https://a/v1?key=hunter2",
            "https://a/v1#x",
            "https://a b/v1",
            "https://a..b/v1",
            "https://ü/v1",
            "https://a:/v1",
            "https://a:0/v1",
            "https://a:+1/v1",
            "https://a:65536/v1",
            "https://[::1/v1",
            "https://[::1]x/v1",
            "https://[nonsense]/v1",
            "https://a,b/v1",
            "https://2130706433/",
            "https://0x7f.1/",
            "https://127.0.0.1./",
        ] {
            table += &format!("{text:<28} {}\n", base_url(text).unwrap_err());
        }
        insta::assert_snapshot!(table, @r"
                                 must be a URL with `://`
    api.openai.com/v1            must be a URL with `://`
    ftp://a/v1                   must begin with http:// or https://
    https://                     must have a host: letters, digits, `-`, `_` and dots
    https:///v1                  must have a host: letters, digits, `-`, `_` and dots
    https://user:hunter2@a/v1    must not hold a user or a password: use `credential`
    https://a/v1?key=hunter2     must not hold `?` or `#`
    https://a/v1#x               must not hold `?` or `#`
    https://a b/v1               must be a URL: no spaces, and only ASCII characters
    https://a..b/v1              must have a host: letters, digits, `-`, `_` and dots
    https://ü/v1                 must be a URL: no spaces, and only ASCII characters
    https://a:/v1                must have a port between 1 and 65535 after `:`, or none
    https://a:0/v1               must have a port between 1 and 65535 after `:`, or none
    https://a:+1/v1              must have a port between 1 and 65535 after `:`, or none
    https://a:65536/v1           must have a port between 1 and 65535 after `:`, or none
    https://[::1/v1              `[` has no `]`
    https://[::1]x/v1            must have a port between 1 and 65535 after `:`, or none
    https://[nonsense]/v1        must have an IPv6 address in `[]`
    https://a,b/v1               must name one host
    https://2130706433/          must have an IPv4 address as 127.0.0.1, or a name that ends in no number
    https://0x7f.1/              must have an IPv4 address as 127.0.0.1, or a name that ends in no number
    https://127.0.0.1./          must have an IPv4 address as 127.0.0.1, or a name that ends in no number
    ");
    }

    #[test]
    fn address_of_postgres_says_how_it_is_secured() {
        let read = |text: &str| {
            let url = PostgresUrl::parse(text)?;
            let root = url.root.map(|path| path.display().to_string());
            Ok::<_, &str>((url.rest.expose().to_owned(), url.mode, root))
        };
        let is = |rest: &str, mode, root: Option<&str>| {
            Ok((rest.to_owned(), mode, root.map(str::to_owned)))
        };
        let base = "postgres://u:p@db/x";
        assert_eq!(read(base), is(base, SslMode::Prefer, None));
        for (text, mode) in [
            ("disable", SslMode::Disable),
            ("prefer", SslMode::Prefer),
            ("require", SslMode::Require),
            ("verify-full", SslMode::VerifyFull),
        ] {
            assert_eq!(read(&format!("{base}?sslmode={text}")), is(base, mode, None));
            let many = format!("{base}?hostaddr=1.2.3.4&sslmode={text}&connect_timeout=3");
            let rest = format!("{base}?hostaddr=1.2.3.4&connect_timeout=3");
            assert_eq!(read(&many), is(&rest, mode, None));
        }
        let full = format!("{base}?sslmode=verify-full&sslrootcert=%2Fetc%2Fca.pem");
        assert_eq!(read(&full), is(base, SslMode::VerifyFull, Some("/etc/ca.pem")));
        assert_eq!(
            read("host=/run user=u sslmode=require"),
            is("host=/run user=u", SslMode::Require, None)
        );
        for wrong in ["sslmode=verify-ca", "sslmode=", "sslmode=REQUIRE", "sslrootcert=/ca"] {
            assert!(read(&format!("{base}?{wrong}")).is_err(), "{wrong}");
        }
        let require = format!("{base}?sslmode=require&sslrootcert=/ca");
        assert!(read(&require).is_err());
    }

    proptest! {
        #[test]
        fn no_text_panics(text: String, tail in "[a-z0-9:/@?#,\\[\\].-]{0,20}") {
            prop_assert!(base_url(&text).is_err());
            if let Ok(url) = base_url(&format!("http://{tail}")) {
                prop_assert!(!url.host.is_empty() && !url.path.ends_with('/'));
            }
        }
    }
}
