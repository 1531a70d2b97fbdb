//! The only place that knows all parts: configuration in, a running gateway out.
//!
//! ```text
//! App::start   builds the parts in order, each finished when built
//! schema       the tables of a usage store that is a server
//! resources    the declarative document: read, made the state, put in force; again on SIGHUP
//! resident     builds the snapshot
//! following    sees what other nodes change in the state store
//! listen       sockets and TLS
//! observe      what the admin listener shows
//! probe        connections tried out
//! limits       counters that outlive the process
//! drain        the way out
//! ```
//!
//! Two runtimes: one for the data plane, one for everything that must never slow it down.

mod drain;
mod following;
mod limits;
mod listen;
mod observe;
mod probe;
mod resident;
mod resources;
mod schema;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use pingora_core::connectors::{ConnectorOptions, TransportConnector};
use pingora_core::server::configuration::ServerConf;
use pingora_core::services::Service as _;
use pingora_proxy::http_proxy;
use tokio::runtime::Runtime;
use tokio::sync::{Semaphore, watch};

use crate::admin::{
    self,
    token::{AdminToken, TokenDigest, TokenError},
};
use crate::app::resident::Resident;
use crate::cache::{Cache, Remote, RemoteError};
use crate::clock::Clock;
use crate::config::ConfigError;
use crate::config::server::{CacheStore, ServerConfig};
use crate::control::State;
use crate::control::apply::ApplyError;
use crate::control::follow::Follower;
use crate::control::limits::SaveError;
use crate::control::load::LoadError;
use crate::control::seal::Vault;
use crate::control::store::Store;
use crate::control::store::audit::Actor;
use crate::control::store::copy::CopyError;
use crate::net::pool::Pool;
use crate::net::resolve::{Resolver, ResolverConfig, SystemLookup};
use crate::proxy::Shell;
use crate::proxy::call::BodyLimits;
use crate::proxy::flow::Flow;
use crate::proxy::front::{Front, FrontLimits};
use crate::proxy::serve::{Gateway, GatewayLimits};
use crate::proxy::stored::StoredResponses;
use crate::secret::Secret;
use crate::shared::{Shared, SharedError};
use crate::telemetry::log::{LogError, LogHandle};
use crate::telemetry::metrics::Metrics;
use crate::usage::schema::SchemaError;
use crate::usage::store::{StoreError, UsageSink};

pub use self::listen::Listening;

/// A running gateway.
pub struct App {
    pub listening: Listening,
    /// What the first start made, shown once by who started the gateway.
    pub first: Option<admin::first::Made>,
    config: ServerConfig,
    state: Arc<State>,
    resident: Arc<Resident>,
    metrics: Arc<Metrics>,
    usage: UsageSink,
    flow: Arc<Flow>,
    limits: limits::Kept,
    shared: Option<Arc<Shared>>,
    certificate: Option<Arc<listen::Certificate>>,
    shutdown: watch::Sender<bool>,
    log: Option<Arc<LogHandle>>,
    env: Arc<Env>,
    /// Dropped last, and in this order.
    data: Option<Runtime>,
    control: Option<Runtime>,
}

/// Besides the configuration, what only the starter knows.
#[derive(Default)]
pub struct Surroundings {
    pub clock: Clock,
    pub admin_token: Option<Secret>,
    /// The one-time password of the first superadmin; one is made without it.
    pub admin_password: Option<Secret>,
    /// 256 bits in base64; without it, the configured file counts.
    pub master_key: Option<Secret>,
    pub log: Option<Arc<LogHandle>>,
    /// What `${NAME}` in documents means; the process's own env vars by default.
    pub env: Option<Arc<Env>>,
}

/// What an env var holds.
pub type Env = dyn Fn(&str) -> Option<String> + Send + Sync;

/// Why the gateway does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("cannot listen on {address}: {error}")]
    Listen { address: SocketAddr, error: std::io::Error },
    #[error("cannot use the TLS certificate {}: {reason}", path.display())]
    Certificate { path: PathBuf, reason: String },
    #[error(transparent)]
    State(#[from] crate::control::store::StoreError),
    #[error(transparent)]
    Copy(#[from] CopyError),
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error(transparent)]
    Document(#[from] ApplyError),
    #[error(transparent)]
    Usage(#[from] StoreError),
    #[error(transparent)]
    Limits(#[from] SaveError),
    #[error(transparent)]
    Shared(#[from] SharedError),
    #[error(transparent)]
    Cache(#[from] RemoteError),
    #[error(transparent)]
    Schema(#[from] SchemaError),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error("SLUICE_ADMIN_TOKEN: {0}")]
    Token(#[from] TokenError),
    #[error("SLUICE_ADMIN_PASSWORD: a password has 12 to 512 characters")]
    Password,
    #[error("cannot start a thread: {0}")]
    Runtime(std::io::Error),
}

impl App {
    /// Starts everything. When this returns, the listeners accept.
    pub fn start(config: ServerConfig, around: Surroundings) -> Result<Self, StartError> {
        let env: Arc<Env> = around.env.unwrap_or_else(|| Arc::new(|name| std::env::var(name).ok()));
        let document = resources::read(&config, &*env)?;
        let operator = operator(around.admin_token.as_ref())?;
        let control = runtime("sluice-control", 1)?;
        let data = runtime("sluice-data", config.data.threads)?;
        let metrics = Arc::new(Metrics::default());
        let (shutdown, signal) = watch::channel(false);
        let kept = limits::Kept::open(&config.limits, &around.clock)?;
        let usage = schema::open(&config.usage, around.clock.clone(), &control, signal.clone())?;

        let resolver = Arc::new(resolver(&config, &metrics));
        control.spawn(Arc::clone(&resolver).run(signal.clone()));
        let shared = within(&control, || limits::shared(&config.shared, &around.clock, &metrics))?;
        let (state, flow) = (Arc::new(State::default()), Arc::new(Flow::default()));
        let opened = open_state(&config, around.master_key.as_ref(), &around.clock)?;
        let follower = Follower::new(opened, Arc::clone(&state), Arc::clone(&kept.registry));
        let first = first_start(&follower, around.admin_password, around.admin_token)?;
        resources::install(&follower, &config, document.as_ref())?;
        let resident = Resident::start(follower, resolver, &control, &config, signal.clone())?;
        let gateway = Gateway {
            state: Arc::clone(&state),
            connector: TransportConnector::new(Some(connector_options(&config))),
            pool: Arc::new(Pool::new(config.upstream.keepalive_pool)),
            usage: usage.clone(),
            metrics: Arc::clone(&metrics),
            clock: around.clock.clone(),
            cache: within(&control, || cache(&config, &metrics))?,
            shared: shared.clone(),
            limits: gateway_limits(&config),
            flow: Arc::clone(&flow),
            stored: StoredResponses::default(),
            drains: Arc::new(Semaphore::new(DRAINS_MAX)),
        };
        let prober = probe::Prober::new(&state, &control, &config);
        let observed = observed(&gateway, &resident, (&kept, &around.log), prober);
        let admin_state = observed.admin_state(desk(&resident, operator), &config.usage);
        let (listening, certificate, admin) = {
            let _data = data.enter();
            serve_data(&config, gateway, signal.clone())?
        };
        control.spawn(serve_admin(admin, admin_state, signal.clone()));
        control.spawn(kept.clone().write_on(signal));
        Ok(Self {
            listening,
            first,
            config,
            state,
            resident,
            metrics,
            usage,
            flow,
            limits: kept,
            shared,
            certificate,
            shutdown,
            log: around.log,
            env,
            data: Some(data),
            control: Some(control),
        })
    }

    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    pub fn usage(&self) -> &UsageSink {
        &self.usage
    }

    /// Where limits of all nodes are counted, if anywhere.
    pub fn shared(&self) -> Option<&Arc<Shared>> {
        self.shared.as_ref()
    }

    /// Requests that are being answered.
    pub fn in_flight(&self) -> usize {
        self.flow.in_flight()
    }

    /// Resolves once nothing is in flight.
    pub async fn idle(&self) {
        self.flow.idle().await;
    }

    /// The state store, and what follows it.
    pub fn follower(&self) -> Arc<Follower> {
        Arc::clone(&self.resident.follower)
    }

    /// The data plane's view of the resources.
    pub fn state(&self) -> &Arc<State> {
        &self.state
    }
}

/// The state store, and the master key that it was sealed with.
fn open_state(
    config: &ServerConfig,
    master_key: Option<&Secret>,
    clock: &Clock,
) -> Result<(Store, Vault), StartError> {
    let store = match Store::open(&config.state.url, clock.clone()) {
        // The last known state may do for a while.
        Err(error) if resident::may_use_copy(&config.state, &error) => {
            tracing::warn!(%error, "starting without the state store");
            let store = Store::unopened(&config.state.url, clock.clone());
            return Ok((store, Vault::load(master_key, &config.secrets.master_key_file)?));
        }
        opened => opened?,
    };
    let vault = Vault::load(master_key, &config.secrets.master_key_file)?;
    store.check_master_key(&vault.id())?;
    Ok((store, vault))
}

/// What the admin API works on.
fn desk(resident: &Arc<Resident>, operator: Option<TokenDigest>) -> admin::Desk {
    let following = Arc::clone(resident);
    admin::Desk {
        follower: Arc::clone(&resident.follower),
        follow: Arc::new(move || following.follow().map(|_is_new| ())),
        operator,
        allow_networks: resident.config.upstream.allow_networks.clone().into(),
    }
}

/// The token that the operator gives.
fn operator(given: Option<&Secret>) -> Result<Option<TokenDigest>, StartError> {
    let Some(given) = given else { return Ok(None) };
    Ok(Some(AdminToken::new(Some(given.clone()))?.digest()))
}

/// Makes the first superadmin if the state is new.
fn first_start(
    follower: &Follower,
    password: Option<Secret>,
    token: Option<Secret>,
) -> Result<Option<admin::first::Made>, StartError> {
    if password.as_ref().is_some_and(|password| !admin::first::check_password(password)) {
        return Err(StartError::Password);
    }
    if !follower.store.is_open() {
        return Ok(None);
    }
    let actor = Actor { kind: "system", name: "first start".to_owned(), ..Actor::default() };
    let given = admin::first::Given { password, token };
    Ok(follower.store.write(|tx| admin::first::ensure(tx, &given, &actor))?)
}

/// Where the data plane listens, its certificate, and the socket of the admin plane.
type Served = (Listening, Option<Arc<listen::Certificate>>, std::net::TcpListener);

/// What the admin listener looks at.
fn observed(
    gateway: &Gateway,
    resident: &Resident,
    (kept, log): (&limits::Kept, &Option<Arc<LogHandle>>),
    prober: Arc<probe::Prober>,
) -> observe::Observed {
    observe::Observed {
        cache: Arc::clone(&gateway.cache),
        state: Arc::clone(&gateway.state),
        flow: Arc::clone(&gateway.flow),
        metrics: Arc::clone(&gateway.metrics),
        usage: gateway.usage.clone(),
        log: log.clone(),
        limits: Arc::clone(&kept.registry),
        clock: gateway.clock.clone(),
        state_answers: Arc::clone(&resident.answers),
        prober,
    }
}

/// Binds the listeners and accepts on those of the data plane. Needs its runtime around it.
fn serve_data(
    config: &ServerConfig,
    gateway: Gateway,
    signal: watch::Receiver<bool>,
) -> Result<Served, StartError> {
    let (sockets, certificate) = listen::bind(config)?;
    let listening = sockets.addresses();
    let front = front(config, gateway);
    let (mut service, fds, admin) = sockets.into_service(front, certificate.as_ref());
    let fds = Arc::new(parking_lot::Mutex::new(fds));
    tokio::spawn(async move { service.start_service(Some(fds), signal, 1).await });
    Ok((listening, certificate, admin))
}

async fn serve_admin(
    listener: std::net::TcpListener,
    state: admin::AdminState,
    signal: watch::Receiver<bool>,
) {
    match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => admin::serve(listener, admin::router(state), signal).await,
        Err(error) => tracing::error!(%error, "the admin listener does not start"),
    }
}

/// Where answers are kept.
fn cache(config: &ServerConfig, metrics: &Arc<Metrics>) -> Result<Arc<Cache>, RemoteError> {
    let (CacheStore::Redis, Some(url)) = (config.cache.store, &config.shared.redis) else {
        return Ok(Cache::new(config.cache.bytes_max));
    };
    let remote = Remote::new(url, config.cache.timeout, Arc::clone(metrics))?;
    tokio::spawn(Arc::clone(&remote).run());
    Ok(Cache::shared(remote))
}

/// Calls what spawns tasks on `runtime`.
fn within<T>(runtime: &Runtime, call: impl FnOnce() -> T) -> T {
    let _entered = runtime.enter();
    call()
}

fn runtime(name: &str, threads: usize) -> Result<Runtime, StartError> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .thread_name(name)
        .on_thread_unpark(crate::net::turn::begin_round)
        .enable_all()
        .build()
        .map_err(StartError::Runtime)
}

fn resolver(config: &ServerConfig, metrics: &Arc<Metrics>) -> Resolver {
    let config = ResolverConfig {
        refresh: config.upstream.dns_refresh,
        stale_max: crate::net::resolve::STALE_MAX,
        allow_networks: config.upstream.allow_networks.clone(),
    };
    Resolver::new(SystemLookup, config, Arc::clone(metrics))
}

fn connector_options(config: &ServerConfig) -> ConnectorOptions {
    let mut options = ConnectorOptions::new(config.upstream.keepalive_pool);
    options.ca_file =
        config.upstream.ca_file.as_ref().map(|path| path.to_string_lossy().into_owned());
    options
}

fn gateway_limits(config: &ServerConfig) -> GatewayLimits {
    GatewayLimits {
        body: BodyLimits {
            bytes_max: config.data.body_bytes_max,
            stall_timeout: config.data.stall_timeout,
        },
        write_timeout: config.data.stall_timeout,
        in_flight_max: config.data.in_flight_max,
        server_timing: config.data.server_timing,
        on_full: config.usage.on_full,
    }
}

fn front(config: &ServerConfig, gateway: Gateway) -> Front {
    // `threads` counts shards of a notification; the runtime is ours.
    let mut conf =
        ServerConf { threads: config.data.threads, max_retries: 1, ..Default::default() };
    conf.ca_file = config.upstream.ca_file.as_ref().map(|path| path.to_string_lossy().into_owned());
    let gateway = Arc::new(gateway);
    let mut proxy = http_proxy(&Arc::new(conf), Shell(Arc::clone(&gateway)));
    let mut options = pingora_core::apps::HttpServerOptions::default();
    options.h2c = config.data.h2c;
    options.h2_idle_timeout = Some(config.data.keepalive_timeout);
    proxy.server_options = Some(options);
    let limits = FrontLimits {
        header_timeout: config.data.header_timeout,
        keepalive_timeout: config.data.keepalive_timeout,
        connections_max: listen::connections_max(config.data.connections_max),
        connections_per_ip_max: config.data.connections_per_ip_max,
        h2c: config.data.h2c,
    };
    Front::new(gateway, proxy, limits)
}

/// Answers that are read on at once after their client has left.
const DRAINS_MAX: usize = 256;
/// How long the last rows may take to reach the store when the process ends.
const USAGE_CLOSE_MAX: Duration = Duration::from_secs(20);
