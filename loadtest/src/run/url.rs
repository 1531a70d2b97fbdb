//! Where requests go.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};

/// An `http://` or `https://` URL, resolved.
#[derive(Debug, Clone)]
pub(super) struct Url {
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) authority: String,
    pub(super) host: String,
    pub(super) is_tls: bool,
    /// Ends in `/v1` or in whatever version the URL names.
    pub(super) base_path: String,
}

impl Url {
    pub(super) fn parse(text: &str) -> io::Result<Self> {
        let invalid = |why: &str| io::Error::new(io::ErrorKind::InvalidInput, why.to_owned());
        let (rest, is_tls, port) = if let Some(rest) = text.strip_prefix("http://") {
            (rest, false, 80)
        } else if let Some(rest) = text.strip_prefix("https://") {
            (rest, true, 443)
        } else {
            return Err(invalid("the URL begins with neither http:// nor https://"));
        };
        let (authority, path) = match rest.split_once('/') {
            Some((authority, path)) => (authority, format!("/{}", path.trim_end_matches('/'))),
            None => (rest, String::new()),
        };
        if authority.contains('@') {
            return Err(invalid("the URL has a user in it; keys go into `keys`"));
        }
        let base_path = if path.len() > 1 { path } else { "/v1".to_owned() };
        let has_port =
            authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let with_port = if has_port { authority.to_owned() } else { format!("{authority}:{port}") };
        let host = with_port.rsplit_once(':').map_or("", |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let addresses: Vec<_> = with_port
            .to_socket_addrs()
            .map_err(|error| invalid(&format!("the URL's host `{host}` has no address: {error}")))?
            .collect();
        if addresses.is_empty() {
            return Err(invalid("the URL's host has no address"));
        }
        Ok(Self { addresses, authority: authority.to_owned(), host, is_tls, base_path })
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
        let port = |text| Url::parse(text).unwrap().addresses[0].port();
        assert_eq!([port("http://127.0.0.1"), port("https://127.0.0.1")], [80, 443]);
        let six = Url::parse("https://[::1]:8443/v1").unwrap();
        assert_eq!((six.host.as_str(), six.addresses[0].port(), six.is_tls), ("::1", 8443, true));
        assert!(Url::parse("ftp://127.0.0.1").is_err());
        assert!(Url::parse("http://user:secret@127.0.0.1").is_err());
    }
}
