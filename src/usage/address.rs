//! `usage.url` of a `ClickHouse` store, as clients of its hosts.

use clickhouse::Client;

use crate::config::url::{Host, Url};
use crate::percent::decoded;
use crate::secret::Secret;

/// The port when the address has none, as of `ClickHouse`.
const PORT: u16 = 8123;
const TLS_PORT: u16 = 8443;

/// Where a `ClickHouse` store is.
#[derive(Clone)]
pub struct Address {
    pub database: String,
    /// At least one; each client is for one host and has the database set.
    pub clients: Vec<Client>,
}

impl Address {
    /// Takes a checked `usage.url` apart. User, password and database may be percent-encoded.
    pub fn parse(url: &Secret) -> Result<Self, &'static str> {
        let url = Url::parse(url.expose())?;
        let (user, password) =
            match url.user.as_deref().map(|user| user.split_once(':').unwrap_or((user, ""))) {
                Some((user, password)) => (decoded(user)?, decoded(password)?),
                None => ("default".to_owned(), String::new()),
            };
        let path = url.path.trim_matches('/');
        if url.has_query || path.contains('/') {
            return Err("must end with the name of the database");
        }
        let database = if path.is_empty() { "default".to_owned() } else { decoded(path)? };
        let client = Client::default()
            .with_user(user)
            .with_password(password)
            .with_database(&database)
            .with_product_info("sluice", env!("CARGO_PKG_VERSION"));
        let clients = url
            .hosts
            .iter()
            .map(|host| client.clone().with_url(origin(&url.scheme, host)))
            .collect();
        Ok(Self { database, clients })
    }
}

fn origin(scheme: &str, host: &Host) -> String {
    let port = host.port.unwrap_or(if scheme == "https" { TLS_PORT } else { PORT });
    if host.name.contains(':') {
        return format!("{scheme}://[{}]:{port}", host.name);
    }
    format!("{scheme}://{}:{port}", host.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<Address, &'static str> {
        Address::parse(&Secret::new(url.to_owned()))
    }

    #[test]
    fn each_host_gets_a_client() {
        let address = parse("https://u:p@a:1,b,[::1]:3/us%65").unwrap();
        assert_eq!(address.database, "use");
        assert_eq!(address.clients.len(), 3);
        assert_eq!(address.clients[0].database(), Some("use"));
        let origins: Vec<String> = Url::parse("https://a:1,b,[::1]:3/d")
            .unwrap()
            .hosts
            .iter()
            .map(|host| origin("https", host))
            .collect();
        assert_eq!(origins, ["https://a:1", "https://b:8443", "https://[::1]:3"]);
        assert_eq!(parse("http://a").unwrap().database, "default");
    }

    #[test]
    fn what_a_url_cannot_hold_is_percent_encoded() {
        assert_eq!(decoded("p%40s%3a%25%2F"), Ok("p@s:%/".to_owned()));
        for wrong in ["%", "%4", "%zz", "%+1", "a%é0"] {
            assert!(decoded(wrong).is_err(), "{wrong}");
        }
        assert!(decoded("%ff").is_err());
    }

    #[test]
    fn more_than_a_database_is_refused() {
        assert!(parse("http://a/b/c").is_err());
        assert!(parse("http://a/b?x=1").is_err());
    }
}
