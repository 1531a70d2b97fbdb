//! Where requests go.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};

/// An `http://` URL, resolved.
#[derive(Debug, Clone)]
pub(super) struct Url {
    pub(super) address: SocketAddr,
    pub(super) authority: String,
    /// Ends in `/v1` or in whatever version the URL names.
    pub(super) base_path: String,
}

impl Url {
    pub(super) fn parse(text: &str) -> io::Result<Self> {
        let invalid = |why: &str| io::Error::new(io::ErrorKind::InvalidInput, why.to_owned());
        let rest = text.strip_prefix("http://").ok_or_else(|| invalid("the URL is not http://"))?;
        let (authority, path) = match rest.split_once('/') {
            Some((authority, path)) => (authority, format!("/{}", path.trim_end_matches('/'))),
            None => (rest, String::new()),
        };
        let base_path = if path.len() > 1 { path } else { "/v1".to_owned() };
        let with_port =
            if authority.contains(':') { authority.to_owned() } else { format!("{authority}:80") };
        let address = with_port
            .to_socket_addrs()?
            .next()
            .ok_or_else(|| invalid("the URL's host has no address"))?;
        Ok(Self { address, authority: authority.to_owned(), base_path })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_is_the_version_unless_one_is_given() {
        let path = |text| Url::parse(text).unwrap().base_path;
        assert_eq!(path("http://127.0.0.1:8080"), "/v1");
        assert_eq!(path("http://127.0.0.1:8080/"), "/v1");
        assert_eq!(path("http://127.0.0.1:8080/v1/completion/a/b"), "/v1/completion/a/b");
        assert_eq!(Url::parse("http://127.0.0.1").unwrap().address.port(), 80);
        assert!(Url::parse("https://127.0.0.1").is_err());
    }
}
