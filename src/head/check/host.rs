//! The value of a Host header.

use crate::head::table::{HOST_NAME, IPV6};

/// A host name or an address, and a port if one is named: `gateway:8080`, `[::1]`.
pub(super) fn parse(value: &[u8]) -> Option<&str> {
    let port = if let Some(rest) = value.strip_prefix(b"[") {
        let end = memchr::memchr(b']', rest)?;
        let (address, rest) = rest.split_at_checked(end)?;
        if address.len() < 2 || !IPV6.has_all(address) {
            return None;
        }
        rest.strip_prefix(b"]")?
    } else {
        let end = memchr::memchr(b':', value).unwrap_or(value.len());
        let (name, rest) = value.split_at_checked(end)?;
        if name.is_empty() || !HOST_NAME.has_all(name) {
            return None;
        }
        rest
    };
    let is_port = port.is_empty() || port.strip_prefix(b":").is_some_and(is_port_number);
    if is_port { std::str::from_utf8(value).ok() } else { None }
}

fn is_port_number(digits: &[u8]) -> bool {
    let is_number = digits.iter().all(u8::is_ascii_digit);
    let number = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse::<u16>().ok());
    is_number && digits.len() <= 5 && number.is_some()
}
