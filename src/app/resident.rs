//! What builds the snapshot in this process: the state it follows, and the parts that connections
//! need.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use loadtest::mock::Mock;
use pingora_core::connectors::ConnectorOptions;
use tokio::runtime::{Handle, Runtime};
use tokio::sync::watch;

use crate::app::{StartError, following};
use crate::config::resources::{BaseUrl, HealthCheck};
use crate::config::server::{ServerConfig, StateConfig, StateUrl};
use crate::control::build::Around;
use crate::control::follow::Follower;
use crate::control::live::lock;
use crate::control::load::LoadError;
use crate::control::store::{StoreError, copy};
use crate::net::health::Health;
use crate::net::resolve::{Name, Resolver};

/// Shared by the start, reloads, the admin API, and what follows other nodes.
pub(super) struct Resident {
    pub(super) follower: Arc<Follower>,
    pub(super) resolver: Arc<Resolver>,
    pub(super) runtime: Handle,
    pub(super) config: ServerConfig,
    /// The built-in provider, once a connection wants it.
    pub(super) simulated: Mutex<Option<Mock>>,
    /// Whether the store could be read when it was last looked at.
    pub(super) answers: Arc<AtomicBool>,
}

impl Resident {
    /// Puts the state in force, and from then on what others change in it.
    pub(super) fn start(
        follower: Follower,
        resolver: Arc<Resolver>,
        runtime: &Runtime,
        config: &ServerConfig,
        signal: watch::Receiver<bool>,
    ) -> Result<Arc<Self>, StartError> {
        let resident = Arc::new(Self {
            follower: Arc::new(follower),
            resolver,
            runtime: runtime.handle().clone(),
            config: config.clone(),
            simulated: Mutex::default(),
            answers: Arc::default(),
        });
        if let Err(error) = resident.follow() {
            resident.begin_with_copy(error)?;
        }
        let own = Arc::clone(&resident);
        std::thread::Builder::new()
            .name("sluice-state".to_owned())
            .spawn(move || following::run(&own, &signal))
            .map_err(StartError::Runtime)?;
        Ok(resident)
    }

    /// Puts in force what the store holds. Whether anything was new.
    pub(super) fn follow(&self) -> Result<bool, LoadError> {
        let followed = self.follower.follow(self);
        let is_read = !matches!(followed, Err(LoadError::Store(_)));
        self.answers.store(is_read, Ordering::Relaxed);
        let is_new = followed?;
        if is_new && self.config.shared.redis.is_none() && self.follower.has_shared_limits() {
            tracing::warn!(
                "limits are marked `shared`, but there is no `shared.redis`: each node counts them by itself"
            );
        }
        Ok(is_new)
    }

    /// Serves what was last known, if it is that for which the state cannot be followed.
    fn begin_with_copy(&self, error: LoadError) -> Result<(), StartError> {
        let LoadError::Store(error) = error else { return Err(error.into()) };
        let config = &self.config.state;
        if !may_use_copy(config, &error) {
            return Err(error.into());
        }
        let Follower { store, vault, .. } = &*self.follower;
        let now = store.clock().unix_micros();
        let copy = copy::read(&config.copy_file, vault, now, config.staleness_max)?;
        tracing::warn!(revision = copy.revision, "serving the last known state");
        Ok(self.follower.begin_with(copy, self)?)
    }

    fn connector_options(&self) -> ConnectorOptions {
        super::connector_options(&self.config)
    }
}

/// Whether there is something to serve without the store.
pub(super) fn may_use_copy(config: &StateConfig, error: &StoreError) -> bool {
    matches!(error, StoreError::Unavailable(_))
        && matches!(config.url, StateUrl::Postgres(_))
        && config.copy_file.exists()
}

fn start_simulated() -> std::io::Result<Mock> {
    let listener = std::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    let mock = Mock::from_listener(listener)?;
    mock.set_journal(false);
    Ok(mock)
}

impl Around for Resident {
    fn name(&self, url: &BaseUrl) -> Arc<Name> {
        self.resolver.handle(&url.host, url.port)
    }

    fn built_in(&self) -> Option<(SocketAddr, Arc<Name>)> {
        let mut simulated = lock(&self.simulated);
        if simulated.is_none() {
            let _entered = self.runtime.enter();
            *simulated = start_simulated()
                .inspect_err(|error| tracing::error!(%error, "no simulated provider"))
                .ok();
        }
        // A port at which nobody listens: calls fail over, as with any provider that is down.
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 9));
        let address = simulated.as_ref().map_or(nowhere, Mock::addr);
        Some((address, Resolver::built_in(address)))
    }

    fn health(&self, check: &HealthCheck, url: &BaseUrl, name: &Arc<Name>) -> Option<Health> {
        let _entered = self.runtime.enter();
        Health::start(check, url, Arc::clone(name), Some(self.connector_options()))
            .inspect_err(|error| tracing::error!(%error, host = url.host, "no health check"))
            .ok()
    }
}
