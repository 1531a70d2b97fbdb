//! Active health checks of self-hosted upstreams.
//!
//! A task for each checked connection asks every address of the name, at each interval, whether it is
//! well; requests read the verdict without waiting. An address nobody has checked yet is healthy.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::future::join_all;
use http::Uri;
use pingora_core::connectors::{ConnectorOptions, TransportConnector, http::Connector};
use pingora_error::{Error, ErrorType};
use pingora_load_balancing::Backend;
use pingora_load_balancing::health_check::{HealthCheck as Check, HttpHealthCheck, TcpHealthCheck};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::clock::Millis;
use crate::config::resources::{BaseUrl, HealthCheck};
use crate::net::resolve::{Addresses, Name};

/// The verdict on one connection's addresses. Dropping it ends the checks.
pub struct Health {
    verdicts: Arc<Verdicts>,
    /// Counts the passes over all addresses.
    passes: watch::Receiver<u64>,
    task: JoinHandle<()>,
}

/// Few addresses: found by looking through them.
type Verdicts = ArcSwap<Vec<Arc<Verdict>>>;

#[derive(Debug)]
struct Verdict {
    address: SocketAddr,
    is_healthy: AtomicBool,
}

#[derive(Debug, thiserror::Error)]
#[error("the health check's path is not a path: {0}")]
pub struct InvalidPath(String);

impl Health {
    /// Begins to check the addresses of `name` as `config` says. Needs a runtime.
    pub fn start(
        config: &HealthCheck,
        base_url: &BaseUrl,
        name: Arc<Name>,
        options: Option<ConnectorOptions>,
    ) -> Result<Self, InvalidPath> {
        let check: Box<dyn Check + Send + Sync> = match &config.path {
            Some(path) => Box::new(http_check(config, base_url, path, options)?),
            None => Box::new(tcp_check(config, base_url, options)),
        };
        let verdicts = Arc::new(Verdicts::default());
        let (pass_ended, passes) = watch::channel(0);
        let checker = Checker {
            check,
            name,
            interval: config.interval,
            timeout: config.timeout,
            verdicts: Arc::clone(&verdicts),
            pass_ended,
        };
        Ok(Self { verdicts, passes, task: tokio::spawn(checker.run()) })
    }

    /// Whether this address is worth an attempt.
    pub fn is_healthy(&self, address: SocketAddr) -> bool {
        let verdicts = self.verdicts.load();
        let verdict = verdicts.iter().find(|verdict| verdict.address == address);
        verdict.is_none_or(|verdict| verdict.is_healthy.load(Relaxed))
    }

    /// Whether any address is. A name without addresses is up: that it has none is found elsewhere.
    pub fn is_up(&self) -> bool {
        let verdicts = self.verdicts.load();
        verdicts.is_empty() || verdicts.iter().any(|verdict| verdict.is_healthy.load(Relaxed))
    }

    /// Ends with the next pass over all addresses; says whether there will be more.
    pub async fn passed(&mut self) -> bool {
        self.passes.changed().await.is_ok()
    }
}

impl Drop for Health {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl fmt::Debug for Health {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:?}", self.verdicts.load())
    }
}

/// The task behind a [`Health`].
struct Checker {
    check: Box<dyn Check + Send + Sync>,
    name: Arc<Name>,
    interval: Duration,
    timeout: Duration,
    verdicts: Arc<Verdicts>,
    pass_ended: watch::Sender<u64>,
}

/// One address, and how many checks in a row spoke against its verdict.
struct Checked {
    verdict: Arc<Verdict>,
    n_against: usize,
}

impl Checker {
    async fn run(self) {
        let mut all: Vec<Checked> = Vec::new();
        // Checks of many connections that begin together spread out.
        sleep(self.interval.mul_f64(rand::random_range(0.0..0.2))).await;
        loop {
            let begin = Instant::now();
            self.follow_addresses(&mut all);
            join_all(all.iter_mut().map(|checked| self.check_one(checked))).await;
            self.pass_ended.send_modify(|passes| *passes += 1);
            let jittered = self.interval.mul_f64(rand::random_range(0.9..1.1));
            sleep(jittered.saturating_sub(begin.elapsed())).await;
        }
    }

    /// Keeps the verdicts on addresses that the name still has, begins new ones for the others.
    fn follow_addresses(&self, all: &mut Vec<Checked>) {
        let now = Millis::from(Instant::now().into_std());
        let Addresses::Known(addresses) = self.name.addresses(now) else { return };
        let is_same = all.iter().map(|checked| &checked.verdict.address).eq(addresses.iter());
        if is_same {
            return;
        }
        all.retain(|checked| addresses.contains(&checked.verdict.address));
        for address in addresses.iter() {
            if !all.iter().any(|checked| checked.verdict.address == *address) {
                let verdict = Verdict { address: *address, is_healthy: AtomicBool::new(true) };
                all.push(Checked { verdict: Arc::new(verdict), n_against: 0 });
            }
        }
        all.sort_by_key(|checked| checked.verdict.address);
        let verdicts = all.iter().map(|checked| Arc::clone(&checked.verdict)).collect();
        self.verdicts.store(Arc::new(verdicts));
    }

    async fn check_one(&self, checked: &mut Checked) {
        let verdict = &checked.verdict;
        let checking = async {
            let backend = Backend::new(&verdict.address.to_string())?;
            self.check.check(&backend).await
        };
        // Also for what the check does not limit itself, as the length of a body.
        let outcome = match timeout(self.timeout, checking).await {
            Ok(outcome) => outcome,
            Err(elapsed) => Err(Error::because(
                ErrorType::ReadTimedout,
                "health check",
                io::Error::from(elapsed),
            )),
        };
        let is_well = outcome.is_ok();
        if is_well == verdict.is_healthy.load(Relaxed) {
            checked.n_against = 0;
            return;
        }
        checked.n_against += 1;
        if checked.n_against >= self.check.health_threshold(is_well) {
            checked.n_against = 0;
            verdict.is_healthy.store(is_well, Relaxed);
            let (host, address) = (self.name.host(), verdict.address);
            match outcome {
                Ok(()) => tracing::info!(host, %address, "upstream is healthy again"),
                Err(error) => {
                    let error = error.etype().as_str();
                    tracing::warn!(host, %address, error, "upstream is unhealthy");
                }
            }
        }
    }
}

fn tcp_check(
    config: &HealthCheck,
    base_url: &BaseUrl,
    options: Option<ConnectorOptions>,
) -> TcpHealthCheck {
    let sni = if base_url.is_tls { base_url.host.as_str() } else { "" };
    let mut check = *TcpHealthCheck::new_tls(sni);
    check.consecutive_failure = config.unhealthy_after;
    check.consecutive_success = config.healthy_after;
    check.peer_template.options.connection_timeout = Some(config.timeout);
    check.set_connector(TransportConnector::new(options));
    check
}

/// A `GET` that must be answered with a 2xx.
fn http_check(
    config: &HealthCheck,
    base_url: &BaseUrl,
    path: &str,
    options: Option<ConnectorOptions>,
) -> Result<HttpHealthCheck, InvalidPath> {
    let invalid = || InvalidPath(path.to_owned());
    let uri: Uri = path.parse().map_err(|_uri| invalid())?;
    if !path.starts_with('/') {
        return Err(invalid());
    }
    let mut check = HttpHealthCheck::new(&base_url.host, base_url.is_tls);
    check.req.set_uri(uri);
    check.req.insert_header("host", base_url.authority()).map_err(|_header| invalid())?;
    check.consecutive_failure = config.unhealthy_after;
    check.consecutive_success = config.healthy_after;
    check.peer_template.options.connection_timeout = Some(config.timeout);
    check.peer_template.options.read_timeout = Some(config.timeout);
    check.peer_template.options.write_timeout = Some(config.timeout);
    check.validator = Some(Box::new(|response| {
        if response.status.is_success() {
            return Ok(());
        }
        Error::e_explain(ErrorType::HTTPStatus(response.status.as_u16()), "health check")
    }));
    check.set_connector(Connector::new(options));
    Ok(check)
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::sync::Mutex;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpSocket};

    use super::*;
    use crate::config::server::IpNetwork;
    use crate::net::resolve::{Resolver, ResolverConfig, STALE_MAX, SystemLookup};

    const DEADLINE: Duration = Duration::from_secs(20);

    fn config(path: Option<&str>) -> HealthCheck {
        HealthCheck {
            path: path.map(ToOwned::to_owned),
            interval: Duration::from_millis(5),
            timeout: Duration::from_secs(2),
            unhealthy_after: 2,
            healthy_after: 3,
        }
    }

    fn start(config: &HealthCheck, address: SocketAddr) -> Health {
        let allow: IpAddr = "127.0.0.0".parse().unwrap();
        let resolver = Resolver::new(
            SystemLookup,
            ResolverConfig {
                refresh: Duration::from_secs(30),
                stale_max: STALE_MAX,
                allow_networks: vec![IpNetwork { address: allow, prefix_len: 8 }],
            },
            Arc::default(),
        );
        let base_url = BaseUrl {
            is_tls: false,
            host: address.ip().to_string(),
            port: address.port(),
            path: String::new(),
        };
        let name = resolver.handle(&base_url.host, base_url.port);
        Health::start(config, &base_url, name, None).unwrap()
    }

    /// Waits until the address is as expected; how many passes that took.
    async fn until(health: &mut Health, address: SocketAddr, is_healthy: bool) -> u64 {
        let before = *health.passes.borrow_and_update();
        let changing = async {
            while health.is_healthy(address) != is_healthy {
                assert!(health.passed().await);
            }
        };
        timeout(DEADLINE, changing).await.unwrap();
        assert_eq!(health.is_up(), is_healthy);
        *health.passes.borrow() - before
    }

    fn listen_again(address: SocketAddr) -> TcpListener {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(address).unwrap();
        socket.listen(64).unwrap()
    }

    #[tokio::test]
    async fn listener_that_goes_away_and_comes_back_is_noticed() {
        // An address of its own, so that nobody takes the port in between.
        let [a, b, c] = std::array::from_fn(|_| rand::random_range(1..=254));
        let listener = listen_again(SocketAddr::from(([127, a, b, c], 0)));
        let address = listener.local_addr().unwrap();
        let mut health = start(&config(None), address);
        assert!(health.is_healthy(address) && health.is_up());
        assert!(timeout(DEADLINE, health.passed()).await.unwrap());
        assert!(health.is_healthy(address));

        drop(listener);
        assert!(until(&mut health, address, false).await >= 2);
        let _listener = listen_again(address);
        assert!(until(&mut health, address, true).await >= 3);
    }

    #[tokio::test]
    async fn http_check_needs_a_2xx_from_the_path() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let status = Arc::new(Mutex::new("204 No Content"));
        let heads = Arc::new(Mutex::new(String::new()));
        let (answers, kept) = (Arc::clone(&status), Arc::clone(&heads));
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut head = [0; 1024];
                let n = stream.read(&mut head).await.unwrap();
                *kept.lock().unwrap() = String::from_utf8_lossy(&head[..n]).into_owned();
                let status = *answers.lock().unwrap();
                let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        let mut health = start(&config(Some("/health?deep=1")), address);
        assert!(timeout(DEADLINE, health.passed()).await.unwrap());
        assert!(health.is_healthy(address));
        let head = heads.lock().unwrap().to_lowercase();
        assert!(head.starts_with("get /health?deep=1 http/1.1\r\n"), "{head}");
        assert!(head.contains(&format!("host: {address}\r\n")), "{head}");

        *status.lock().unwrap() = "503 Service Unavailable";
        until(&mut health, address, false).await;
        *status.lock().unwrap() = "200 OK";
        until(&mut health, address, true).await;
    }

    #[tokio::test]
    async fn upstream_that_hangs_is_unhealthy() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut config = config(Some("/"));
        config.timeout = Duration::from_millis(20);
        let mut health = start(&config, address);
        until(&mut health, address, false).await;
    }

    #[tokio::test]
    async fn dropped_health_checks_no_more() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let health = start(&config(None), listener.local_addr().unwrap());
        let mut passes = health.passes.clone();
        drop(health);
        let ended = async { while passes.changed().await.is_ok() {} };
        timeout(DEADLINE, ended).await.unwrap();
    }

    #[test]
    fn path_that_is_none_is_refused() {
        let base_url =
            BaseUrl { is_tls: true, host: "::1".to_owned(), port: 8443, path: "/v1".to_owned() };
        assert_eq!(base_url.authority(), "[::1]:8443");
        for path in ["health", "", "/a b", "http://elsewhere/"] {
            assert!(http_check(&config(None), &base_url, path, None).is_err(), "{path}");
        }
    }
}
