//! The fields of `sluice.toml`, their defaults and their bounds.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;

use tracing_subscriber::EnvFilter;

use super::{
    AdminConfig, CacheConfig, CacheStore, DataConfig, DrainConfig, IpNetwork, LimitsConfig,
    OidcConfig, OnFull, SecretsConfig, ServerConfig, SharedConfig, StateConfig, StateUrl,
    SyncPolicy, TelemetryConfig, TlsConfig, UpstreamConfig, UsageConfig, UsageUrl,
};
use crate::config::document::Table;
use crate::config::fields::{Fields, Item};
use crate::config::url::{PostgresUrl, Url, base_url};
use crate::secret::Secret;

const MIB: u64 = 1024 * 1024;
const GIB: u64 = 1024 * MIB;

static EMPTY: Table = Table { entries: Vec::new() };

pub(super) fn server(root: Fields<'_>) -> ServerConfig {
    let shared = shared(section(&root, "shared"));
    let config = ServerConfig {
        resources: root.get("resources").and_then(|item| path(&item)),
        data: data(section(&root, "data")),
        admin: admin(section(&root, "admin")),
        state: state(section(&root, "state")),
        usage: usage(section(&root, "usage")),
        limits: limits(section(&root, "limits")),
        cache: cache(section(&root, "cache"), shared.redis.is_some()),
        shared,
        secrets: secrets(section(&root, "secrets")),
        upstream: upstream(section(&root, "upstream")),
        oidc: oidc(section(&root, "oidc")),
        telemetry: telemetry(section(&root, "telemetry")),
        drain: drain(section(&root, "drain")),
    };
    check_addresses(&root, &config);
    root.finish();
    config
}

/// The table `name`, or an empty one.
fn section<'a>(root: &Fields<'a>, name: &'static str) -> Fields<'a> {
    let written = root.get(name).and_then(|item| item.fields());
    written.unwrap_or_else(|| {
        let place = root.place().key(name, root.place().line);
        Fields::new(root.report(), place, &EMPTY)
    })
}

fn data(fields: Fields<'_>) -> DataConfig {
    let threads = match fields.number("threads", 0..=1024, 0) {
        0 => std::thread::available_parallelism().map_or(1, NonZeroUsize::get),
        threads => threads,
    };
    let config = DataConfig {
        listen: listen(&fields, &["127.0.0.1:8080"]),
        threads,
        body_bytes_max: fields.number("max_body_bytes", 1024..=1 << 30, 32 << 20),
        anonymous_access: fields.flag("anonymous_access", false),
        h2c: fields.flag("h2c", false),
        tls: fields.get("tls").and_then(|item| item.fields()).and_then(tls),
        header_timeout: fields.millis("header_timeout_ms", 100..=600_000, 10_000),
        stall_timeout: fields.millis("stall_timeout_ms", 100..=3_600_000, 30_000),
        keepalive_timeout: fields.seconds("keepalive_timeout_s", 1..=86_400, 60),
        connections_max: fields.number("max_connections", 1..=1_000_000, 20_000),
        connections_per_ip_max: fields.number("max_connections_per_ip", 0..=1_000_000, 0),
        in_flight_max: fields.number("max_in_flight", 1..=1_000_000, 10_000),
        server_timing: fields.flag("server_timing", false),
    };
    let tls_listen = config.tls.iter().flat_map(|tls| &tls.listen);
    let is_local = config.listen.iter().chain(tls_listen).all(|addr| addr.ip().is_loopback());
    if let Some(item) = fields.get("anonymous_access")
        && config.anonymous_access
        && !is_local
    {
        item.problem(
            "requests without a key are only let in where every data listener is a loopback \
             address, as 127.0.0.1",
        );
    }
    fields.finish();
    config
}

fn tls(fields: Fields<'_>) -> Option<TlsConfig> {
    let required = |name| fields.require(name).and_then(|item| path(&item));
    let (cert, key) = (required("cert"), required("key"));
    let listen = match fields.require("listen") {
        Some(_) => listen(&fields, &[]),
        None => Vec::new(),
    };
    fields.finish();
    Some(TlsConfig { listen, cert: cert?, key: key? })
}

/// The addresses of `listen`.
fn listen(fields: &Fields<'_>, default: &[&str]) -> Vec<SocketAddr> {
    let Some(item) = fields.get("listen") else {
        return default.iter().filter_map(|text| text.parse().ok()).collect();
    };
    let Some(items) = item.list() else { return Vec::new() };
    if items.is_empty() {
        item.problem("must name at least one address");
    }
    items.iter().filter_map(socket_addr).collect()
}

fn socket_addr(item: &Item<'_>) -> Option<SocketAddr> {
    let addr = item.text()?.parse().ok();
    if addr.is_none() {
        item.problem("must be an IP address and a port, as 127.0.0.1:8080 or [::1]:8080");
    }
    addr
}

fn admin(fields: Fields<'_>) -> AdminConfig {
    let listen = fields.get("listen").and_then(|item| socket_addr(&item));
    fields.finish();
    AdminConfig { listen: listen.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 8081))) }
}

/// No two listeners on one address; port 0 takes a free port each time.
fn check_addresses(root: &Fields<'_>, config: &ServerConfig) {
    let mut taken: Vec<SocketAddr> = Vec::new();
    let tls = config.data.tls.iter().flat_map(|tls| &tls.listen);
    let all = config.data.listen.iter().chain(tls).chain([&config.admin.listen]);
    for addr in all.filter(|addr| addr.port() != 0) {
        if taken.contains(addr) {
            root.problem(format!("two listeners have the address {addr}"));
        }
        taken.push(*addr);
    }
}

fn state(fields: Fields<'_>) -> StateConfig {
    let written = fields.get("url").and_then(|item| {
        let text = item.text()?;
        if let Some(path) = sqlite_path(text) {
            return Some(StateUrl::Sqlite(path));
        }
        let schemes = ["postgres", "postgresql"];
        if let Err(fault) = PostgresUrl::parse(text) {
            item.problem(fault);
        }
        store_url(&item, text, &schemes, "sqlite://path or postgres://user:password@host/database")
            .map(StateUrl::Postgres)
    });
    let config = StateConfig {
        url: written.unwrap_or_else(|| StateUrl::Sqlite("data/state.db".into())),
        copy_file: path_or(&fields, "copy_file", "data/state.copy"),
        staleness_max: fields.seconds("max_staleness_s", 0..=2_592_000, 86_400),
    };
    fields.finish();
    config
}

const SYNC_POLICIES: [(&str, SyncPolicy); 2] =
    [("interval", SyncPolicy::Interval), ("always", SyncPolicy::Always)];

const ON_FULL: [(&str, OnFull); 3] = [
    ("shed", OnFull::Shed),
    ("shed_all", OnFull::ShedAll),
    ("continue_unmetered", OnFull::ContinueUnmetered),
];

fn usage(fields: Fields<'_>) -> UsageConfig {
    let url = fields.get("url").and_then(|item| {
        let text = item.text()?;
        if let Some(path) = sqlite_path(text) {
            return Some(UsageUrl::Sqlite(path));
        }
        let example = "sqlite://path or http(s)://user:password@host:8123/database";
        store_url(&item, text, &["http", "https"], example).map(UsageUrl::ClickHouse)
    });
    let url = url.unwrap_or_else(|| UsageUrl::Sqlite("data/usage.db".into()));
    let config = UsageConfig {
        cluster: fields.get("cluster").and_then(|item| cluster(&item, &url)),
        url,
        spool_dir: path_or(&fields, "spool_dir", "data/spool"),
        spool_bytes_max: fields.number("spool_max_bytes", MIB..=16 * 1024 * GIB, 10 * GIB),
        segment_bytes: fields.number("spool_segment_bytes", MIB..=256 * MIB, 64 * MIB),
        sync: fields.choice("fsync", &SYNC_POLICIES, SyncPolicy::Interval),
        on_full: fields.choice("on_full", &ON_FULL, OnFull::Shed),
        node: fields.get("node").and_then(|item| node(&item)),
        batch_rows_max: fields.number("batch_rows", 1..=1_000_000, 10_000),
        batch_bytes_max: fields.number("batch_bytes", 1024..=1 << 30, 8 << 20),
        batch_age_max: fields.millis("batch_interval_ms", 10..=60_000, 1_000),
        retention_days: fields.number("retention_days", 1..=3_650, 90),
        payload_bytes_max: fields.number("payload_max_bytes", 1_024..=131_072, 65_536),
    };
    fields.finish();
    config
}

fn node(item: &Item<'_>) -> Option<String> {
    let name = item.text()?;
    if name.is_empty() || name.len() > 64 || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
        item.problem("must be 1 to 64 letters, digits or signs, without spaces");
    }
    Some(name.to_owned())
}

fn cluster(item: &Item<'_>, url: &UsageUrl) -> Option<String> {
    let name = item.text()?;
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    if name.is_empty() || name.len() > 64 || !name.bytes().all(is_letter) {
        item.problem("must be 1 to 64 letters, digits, `_`, `-` or dots");
    }
    if matches!(url, UsageUrl::Sqlite(_)) {
        item.problem("needs a ClickHouse address in `usage.url`");
    }
    Some(name.to_owned())
}

fn limits(fields: Fields<'_>) -> LimitsConfig {
    let config = LimitsConfig {
        file: path_or(&fields, "file", "data/limits"),
        interval: fields.millis("interval_ms", 50..=60_000, 500),
        dimension_values_max: fields.number("max_dimension_values", 16..=10_000_000, 10_000),
    };
    fields.finish();
    config
}

const CACHE_STORES: [(&str, CacheStore); 2] =
    [("memory", CacheStore::Memory), ("redis", CacheStore::Redis)];

fn cache(fields: Fields<'_>, has_redis: bool) -> CacheConfig {
    let config = CacheConfig {
        bytes_max: fields.number("max_bytes", 0..=1 << 40, 256 * MIB),
        store: fields.choice("store", &CACHE_STORES, CacheStore::Memory),
        timeout: fields.millis("timeout_ms", 1..=1_000, 20),
    };
    if config.store == CacheStore::Redis && !has_redis {
        fields.problem("`store = \"redis\"` needs the address in `shared.redis`");
    }
    fields.finish();
    config
}

fn shared(fields: Fields<'_>) -> SharedConfig {
    let redis = fields
        .get("redis")
        .and_then(|item| store_url(&item, item.text()?, &["redis", "rediss"], "redis://host:6379"));
    let timeout = fields.millis("timeout_ms", 1..=1_000, 5);
    let lease = fields.millis("lease_ms", 1_000..=600_000, 15_000);
    fields.finish();
    SharedConfig { redis, timeout, lease }
}

fn secrets(fields: Fields<'_>) -> SecretsConfig {
    let master_key_file = path_or(&fields, "master_key_file", "data/master.key");
    fields.finish();
    SecretsConfig { master_key_file }
}

fn upstream(fields: Fields<'_>) -> UpstreamConfig {
    let networks = fields.items("allow_networks");
    let config = UpstreamConfig {
        allow_networks: networks.iter().filter_map(network).collect(),
        keepalive_pool: fields.number("keepalive_pool", 0..=65_536, 1024),
        ca_file: fields.get("ca_file").and_then(|item| path(&item)),
        dns_refresh: fields.seconds("dns_refresh_s", 1..=3_600, 30),
    };
    fields.finish();
    config
}

fn network(item: &Item<'_>) -> Option<IpNetwork> {
    let text = item.text()?;
    let (address, prefix_len) = match text.split_once('/') {
        Some((address, prefix_len)) => (address, Some(prefix_len)),
        None => (text, None),
    };
    let address: Option<IpAddr> = address.parse().ok();
    let network = address.and_then(|address| {
        let width = if address.is_ipv4() { 32 } else { 128 };
        let prefix_len = match prefix_len {
            Some(digits) => digits.parse().ok().filter(|&prefix_len: &u8| prefix_len <= width)?,
            None => width,
        };
        Some(IpNetwork { address, prefix_len })
    });
    if network.is_none() {
        item.problem("must be a network, as 10.0.0.0/8 or fd00::/8, or one address");
    }
    network
}

const SCOPES: [&str; 3] = ["openid", "email", "profile"];
const OTHERS: [(&str, bool); 2] = [("member", true), ("none", false)];

/// All of it, or nothing: a sign-on that is half configured would keep people out, or let them in.
fn oidc(fields: Fields<'_>) -> Option<OidcConfig> {
    const NEEDED: [&str; 4] = ["issuer", "client_id", "client_secret", "redirect_url"];
    const LISTS: [&str; 3] = ["superadmins", "admins", "members"];
    let texts = |name| -> Vec<String> {
        fields.items(name).iter().filter_map(|item| item.text().map(str::to_owned)).collect()
    };
    let [superadmins, admins, members] = LISTS.map(texts);
    let lists_roles = [&superadmins, &admins, &members].iter().any(|list| !list.is_empty());
    let is_wanted = lists_roles || NEEDED.iter().any(|name| fields.get(name).is_some());
    let scopes = match fields.get("scopes") {
        Some(_) => texts("scopes"),
        None => SCOPES.map(str::to_owned).to_vec(),
    };
    if let Some(item) = fields.get("scopes")
        && !scopes.iter().any(|scope| scope == "openid")
    {
        item.problem("must have `openid`");
    }
    let text = |name: &'static str| {
        let item = if is_wanted { fields.require(name) } else { None };
        let text = item.as_ref().and_then(Item::text);
        if let (Some(item), Some("")) = (&item, text) {
            item.problem("must not be empty");
        }
        text.map(str::to_owned)
    };
    let [issuer, client_id, client_secret, redirect_url] = NEEDED.map(text);
    for (name, url) in [("issuer", &issuer), ("redirect_url", &redirect_url)] {
        if let (Some(item), Some(url)) = (fields.get(name), url) {
            check_public_url(&item, url);
        }
    }
    let role_claim = fields.text("role_claim").unwrap_or("groups").to_owned();
    let lets_others_in = fields.choice("default_role", &OTHERS, true);
    let trust_email = fields.flag("trust_email", false);
    fields.finish();
    Some(OidcConfig {
        issuer: issuer?,
        client_id: client_id?,
        client_secret: Secret::new(client_secret?),
        redirect_url: redirect_url?,
        scopes,
        role_claim,
        superadmins,
        admins,
        members,
        lets_others_in,
        trust_email,
    })
}

/// Codes and tokens go there: only this machine may be spoken to without TLS.
fn check_public_url(item: &Item<'_>, text: &str) {
    let is_local = |host: &str| {
        let ip = host.parse::<IpAddr>().ok();
        host == "localhost" || ip.is_some_and(|ip| ip.is_loopback())
    };
    match base_url(text) {
        Err(fault) => item.problem(fault),
        Ok(url) if !url.is_tls && !is_local(&url.host) => item.problem("must begin with https://"),
        Ok(_) => {}
    }
}

fn telemetry(fields: Fields<'_>) -> TelemetryConfig {
    let log = fields.get("log").and_then(|item| {
        let text = item.text()?;
        if text.is_empty() || EnvFilter::builder().parse(text).is_err() {
            item.problem("must be a log filter, as `info` or `warn,sluice=debug`");
        }
        Some(text.to_owned())
    });
    let otlp = fields.get("otlp").and_then(|item| {
        let text = item.text()?;
        store_url(&item, text, &["http", "https"], "http://127.0.0.1:4317")?;
        Some(text.to_owned())
    });
    fields.finish();
    TelemetryConfig { log: log.unwrap_or_else(|| "info".to_owned()), otlp }
}

fn drain(fields: Fields<'_>) -> DrainConfig {
    let config = DrainConfig {
        delay: fields.seconds("delay_s", 0..=600, 5),
        time_max: fields.seconds("max_s", 0..=86_400, 300),
    };
    fields.finish();
    config
}

fn sqlite_path(text: &str) -> Option<PathBuf> {
    text.strip_prefix("sqlite://").filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// Checks the shape of an address that may hold a password, and keeps it secret.
fn store_url(item: &Item<'_>, text: &str, schemes: &[&str], example: &str) -> Option<Secret> {
    match Url::parse(text) {
        Ok(url) if schemes.contains(&url.scheme.as_str()) => Some(Secret::new(text.to_owned())),
        Ok(_) => {
            item.problem(format!("must be an address as {example}"));
            None
        }
        Err(fault) => {
            item.problem(format!("{fault} (an address as {example})"));
            None
        }
    }
}

fn path_or(fields: &Fields<'_>, name: &'static str, default: &str) -> PathBuf {
    fields.get(name).and_then(|item| path(&item)).unwrap_or_else(|| default.into())
}

/// Relative paths stay relative to the working directory.
fn path(item: &Item<'_>) -> Option<PathBuf> {
    let text = item.text()?;
    if text.is_empty() {
        item.problem("must not be empty");
        return None;
    }
    Some(PathBuf::from(text))
}
