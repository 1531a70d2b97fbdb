//! `sluice.toml`: listeners, stores, limits of the process.
//!
//! An env var wins over the file, the file over the defaults. The defaults and bounds stand in
//! `read`, and nowhere else: [`ServerConfig::default`] is what an empty file gives.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::document;
use super::fields::{Fields, Report};
use super::problem::Problems;
use crate::secret::Secret;

mod env;
mod read;

/// The configuration of one process, checked.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// The declarative document, applied at start and on SIGHUP.
    pub resources: Option<PathBuf>,
    pub data: DataConfig,
    pub admin: AdminConfig,
    pub state: StateConfig,
    pub usage: UsageConfig,
    pub limits: LimitsConfig,
    pub cache: CacheConfig,
    pub shared: SharedConfig,
    pub secrets: SecretsConfig,
    pub upstream: UpstreamConfig,
    pub oidc: Option<OidcConfig>,
    pub telemetry: TelemetryConfig,
    pub drain: DrainConfig,
}

/// `[data]`: the listener that applications call.
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own in the document")]
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
    /// Where the last known state is kept for a start without PostgreSQL.
    pub copy_file: PathBuf,
    /// How old it may be.
    pub staleness_max: Duration,
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
    pub segment_bytes: u64,
    pub sync: SyncPolicy,
    pub on_full: OnFull,
    /// What rows say of the process that wrote them.
    pub node: Option<String>,
    pub batch_rows_max: usize,
    pub batch_bytes_max: usize,
    pub batch_age_max: Duration,
    pub retention_days: u32,
    /// What is kept of a body, where bodies are.
    pub payload_bytes_max: usize,
}

/// When a row has to be on the disk itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncPolicy {
    /// Soon after.
    Interval,
    /// Before its client has the end of the answer.
    Always,
}

/// What happens when there is no room for more rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFull {
    /// Requests under a budget are refused, others are served and counted.
    Shed,
    /// All requests are refused.
    ShedAll,
    /// All requests are served, and counted.
    ContinueUnmetered,
}

#[derive(Debug, Clone)]
pub enum UsageUrl {
    Sqlite(PathBuf),
    /// Holds the password, hence the type.
    ClickHouse(Secret),
}

/// `[limits]`
#[derive(Debug, Clone)]
pub struct LimitsConfig {
    /// What was used of limits by the hour and longer.
    pub file: PathBuf,
    /// A kill forgets what was used since the last writing.
    pub interval: Duration,
    /// Values of a dimension that are counted apart, for each limit.
    pub dimension_values_max: usize,
}

/// `[cache]`
#[derive(Debug, Clone)]
pub struct CacheConfig {
    /// Of all answers that this process keeps; 0 keeps none.
    pub bytes_max: u64,
    pub store: CacheStore,
    /// A request waits for the store so long.
    pub timeout: Duration,
}

/// Where answers are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheStore {
    Memory,
    Redis,
}

/// `[shared]`
#[derive(Debug, Clone)]
pub struct SharedConfig {
    pub redis: Option<Secret>,
    /// A request waits for the store so long.
    pub timeout: Duration,
    /// A slot whose node is silent so long comes back.
    pub lease: Duration,
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

/// `[oidc]`: single sign-on to the admin API.
#[derive(Debug, Clone)]
pub struct OidcConfig {
    /// As the provider writes it, to the letter.
    pub issuer: String,
    pub client_id: String,
    pub client_secret: Secret,
    pub redirect_url: String,
    pub scopes: Vec<String>,
    /// The claim whose values give a role on the platform, and these values.
    pub role_claim: String,
    pub superadmins: Vec<String>,
    pub admins: Vec<String>,
    pub members: Vec<String>,
    /// Whoever has none of these values is a member; else they are kept out.
    pub lets_others_in: bool,
    /// Addresses count as verified although the provider does not say so.
    pub trust_email: bool,
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

impl ServerConfig {
    /// Reads `text`, whose format the ending of `file` tells, and the `SLUICE_…` among `env`.
    pub fn parse(
        file: &str,
        text: &str,
        env: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, Problems> {
        let mut root = document::parse(file, text)?;
        let report = Report::new(file);
        env::overlay(&mut root, env, &report);
        let config = Fields::root(&report, &root).map(read::server);
        report.finish()?;
        Ok(config.expect("the root of a document is a table"))
    }
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self::parse("sluice.toml", "", std::iter::empty()).expect("the defaults have no problems")
    }
}

impl IpNetwork {
    /// The network of one address.
    pub const fn of(address: std::net::IpAddr) -> Self {
        let prefix_len = if address.is_ipv4() { 32 } else { 128 };
        Self { address, prefix_len }
    }

    pub fn contains(&self, address: std::net::IpAddr) -> bool {
        use std::net::IpAddr::{V4, V6};
        let (network, address, width) = match (self.address, address) {
            (V4(network), V4(address)) => (network.to_bits().into(), address.to_bits().into(), 32),
            (V6(network), V6(address)) => (network.to_bits(), address.to_bits(), 128),
            (V4(_), V6(_)) | (V6(_), V4(_)) => return false,
        };
        let host_bits = width - u32::from(self.prefix_len).min(width);
        let prefix = |bits: u128| bits.checked_shr(host_bits).unwrap_or(0);
        prefix(network) == prefix(address)
    }
}

#[cfg(test)]
mod tests;
