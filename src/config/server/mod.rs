//! `sluice.toml`: listeners, stores, limits of the process.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::secret::Secret;

/// The configuration of one process, checked.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// The declarative document, applied at start and on SIGHUP.
    pub resources: Option<PathBuf>,
    pub data: DataConfig,
    pub admin: AdminConfig,
    pub state: StateConfig,
    pub usage: UsageConfig,
    pub shared: SharedConfig,
    pub secrets: SecretsConfig,
    pub upstream: UpstreamConfig,
    pub telemetry: TelemetryConfig,
    pub drain: DrainConfig,
}

/// `[data]`: the listener that applications call.
#[derive(Debug, Clone)]
pub struct DataConfig {
    pub listen: Vec<SocketAddr>,
    /// `threads = 0` in the file means one per core.
    pub threads: usize,
    pub body_bytes_max: usize,
    pub anonymous_access: bool,
    /// HTTP/2 without TLS.
    pub h2c: bool,
    pub tls: Option<TlsConfig>,
    /// The whole head of a request must have arrived in this time.
    pub header_timeout: Duration,
    /// A stalled body, or a client that does not read, is cut after this time.
    pub stall_timeout: Duration,
    pub keepalive_timeout: Duration,
    /// More connections than this wait in the backlog.
    pub connections_max: usize,
    /// 0 = no limit.
    pub connections_per_ip_max: usize,
    /// More requests at once than this are refused with 503.
    pub in_flight_max: usize,
    /// Send `server-timing`.
    pub server_timing: bool,
}

#[derive(Debug, Clone)]
pub struct TlsConfig {
    pub listen: Vec<SocketAddr>,
    pub cert: PathBuf,
    pub key: PathBuf,
}

/// `[admin]`
#[derive(Debug, Clone)]
pub struct AdminConfig {
    pub listen: SocketAddr,
}

/// `[state]`
#[derive(Debug, Clone)]
pub struct StateConfig {
    pub url: StateUrl,
}

#[derive(Debug, Clone)]
pub enum StateUrl {
    Sqlite(PathBuf),
    Postgres(Secret),
}

/// `[usage]`
#[derive(Debug, Clone)]
pub struct UsageConfig {
    pub url: UsageUrl,
    pub cluster: Option<String>,
    pub spool_dir: PathBuf,
    pub spool_bytes_max: u64,
    pub batch_rows_max: usize,
    pub batch_bytes_max: usize,
    pub batch_age_max: Duration,
    /// Rows waiting for the writer; what comes on top is dropped and counted.
    pub queue_rows_max: usize,
    pub retention_days: u32,
}

#[derive(Debug, Clone)]
pub enum UsageUrl {
    Sqlite(PathBuf),
    /// Holds the password, hence the type.
    ClickHouse(Secret),
}

/// `[shared]`
#[derive(Debug, Clone)]
pub struct SharedConfig {
    pub redis: Option<Secret>,
}

/// `[secrets]`
#[derive(Debug, Clone)]
pub struct SecretsConfig {
    pub master_key_file: PathBuf,
}

/// `[upstream]`
#[derive(Debug, Clone)]
pub struct UpstreamConfig {
    pub allow_networks: Vec<IpNetwork>,
    pub keepalive_pool: usize,
    pub ca_file: Option<PathBuf>,
    /// How often the names of upstreams are resolved anew.
    pub dns_refresh: Duration,
}

/// An address with a prefix length, as `10.0.0.0/8`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IpNetwork {
    pub address: std::net::IpAddr,
    pub prefix_len: u8,
}

/// `[telemetry]`
#[derive(Debug, Clone)]
pub struct TelemetryConfig {
    /// A filter as of `tracing-subscriber`'s `EnvFilter`.
    pub log: String,
    pub otlp: Option<String>,
}

/// `[drain]`
#[derive(Debug, Clone)]
pub struct DrainConfig {
    /// Not ready, but still accepting: the time a load balancer needs to notice.
    pub delay: Duration,
    /// What is still running after this is cut.
    pub time_max: Duration,
}
