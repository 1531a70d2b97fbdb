//! The declarative document: read, built, put in force, all or nothing.

use std::net::SocketAddr;
use std::sync::Arc;

use loadtest::mock::Mock;

use crate::app::{App, StartError};
use crate::config::problem::Problem;
use crate::config::resources::{BaseUrl, HealthCheck, Resources};
use crate::config::server::ServerConfig;
use crate::config::{ConfigError, load_resources};
use crate::control::build::{self, Around};
use crate::control::live::lock;
use crate::net::health::Health;
use crate::net::resolve::{Name, Resolver};
use crate::provider::Provider;
use crate::telemetry::metrics::ReloadResult;

/// Reads the document that the configuration names; without one there are no resources.
pub(super) fn read(
    config: &ServerConfig,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Resources, ConfigError> {
    let Some(path) = &config.resources else {
        tracing::warn!("no `resources` are configured: there is no key that could call anything");
        return Ok(Resources::default());
    };
    let checked = load_resources(path, env)?;
    for Problem { file, line, field, text } in &checked.warnings {
        tracing::warn!(file, line, field, "{text}");
    }
    Ok(checked.resources)
}

/// Whether a connection is of the built-in provider.
fn wants_simulated(resources: &Resources) -> bool {
    resources
        .connections
        .iter()
        .chain(resources.workspaces.iter().flat_map(|workspace| {
            workspace.environments.iter().flat_map(|environment| &environment.connections)
        }))
        .any(|connection| {
            connection.provider == Provider::Simulated && connection.base_url.is_none()
        })
}

/// Starts the built-in provider, if a connection wants it. Needs a runtime around it.
pub(super) fn simulated(resources: &Resources) -> Result<Option<Mock>, StartError> {
    if !wants_simulated(resources) {
        return Ok(None);
    }
    let address = SocketAddr::from(([127, 0, 0, 1], 0));
    let listen = |error| StartError::Listen { address, error };
    let listener = std::net::TcpListener::bind(address).map_err(listen)?;
    let mock = Mock::from_listener(listener).map_err(listen)?;
    mock.set_journal(false);
    Ok(Some(mock))
}

impl App {
    /// Builds `resources` and puts them in force.
    pub(super) fn install(&self, resources: &Resources) {
        let mut live = lock(&self.live);
        let built = build::build(resources, &live, self);
        if live.limits.has_shared() && self.shared.is_none() {
            tracing::warn!(
                "limits are marked `shared`, but there is no `shared.redis`: each node counts them by itself"
            );
        }
        *live = self.state.install(built);
    }

    /// Reads the document, the certificate and the log filter anew. What is wrong changes nothing.
    pub fn reload(&self, log: Option<&str>) -> Result<(), StartError> {
        let reloaded = self.read_again(log);
        match &reloaded {
            Ok(()) => {
                self.metrics.reloads.inc(ReloadResult::Applied);
                tracing::info!("resources reloaded");
            }
            Err(error) => {
                self.metrics.reloads.inc(ReloadResult::Refused);
                tracing::error!(%error, "reload refused; everything stays as it was");
            }
        }
        reloaded
    }

    fn read_again(&self, log: Option<&str>) -> Result<(), StartError> {
        let document = read(&self.config, &*self.env)?;
        if self.simulated.is_none() && wants_simulated(&document) {
            return Err(StartError::SimulatedNeedsRestart);
        }
        if let (Some(certificate), Some(tls)) = (&self.certificate, &self.config.data.tls) {
            certificate.reload(tls)?;
        }
        if let (Some(handle), Some(filter)) = (&self.log, log) {
            handle.set_filter(filter)?;
        }
        self.install(&document);
        Ok(())
    }
}

impl Around for App {
    fn name(&self, url: &BaseUrl) -> Arc<Name> {
        self.resolver.handle(&url.host, url.port)
    }

    fn built_in(&self) -> Option<(SocketAddr, Arc<Name>)> {
        let address = self.simulated.as_ref()?.addr();
        Some((address, Resolver::built_in(address)))
    }

    fn health(&self, check: &HealthCheck, url: &BaseUrl, name: &Arc<Name>) -> Option<Health> {
        let control = self.control.as_ref()?;
        let _entered = control.enter();
        let options = Some(super::connector_options(&self.config));
        Health::start(check, url, Arc::clone(name), options)
            .inspect_err(|error| tracing::error!(%error, host = url.host, "no health check"))
            .ok()
    }
}
