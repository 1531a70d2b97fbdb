//! What the admin listener asks of others: connections tried out, by what requests use, and the
//! identity provider.

use std::sync::{Arc, OnceLock};

use pingora_core::connectors::{ConnectorOptions, TransportConnector};
use serde_json::{Value as Json, json};
use tokio::runtime::{Handle, Runtime};
use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::admin::oidc::SignOn;
use crate::admin::{AdminError, Answer, Probe};
use crate::config::server::{OidcConfig, ServerConfig};
use crate::control::State;
use crate::control::snapshot::Connection;
use crate::id::ConnectionId;
use crate::proxy::fetch;
use crate::proxy::probe::{self, Ask, Probed, Refused, TIME_MAX};

/// At once: a provider that hangs must not take the admin listener's places from others.
const PROBES_MAX: usize = 3;

/// What trying out needs. It is far from the data plane's runtime.
pub(super) struct Prober {
    state: Arc<State>,
    runtime: Handle,
    options: ConnectorOptions,
    /// Made when it is first needed: it holds the certificates of all authorities.
    connector: OnceLock<TransportConnector>,
    places: Semaphore,
    oidc: Option<OidcConfig>,
}

impl Prober {
    pub(super) fn new(state: &Arc<State>, runtime: &Runtime, config: &ServerConfig) -> Arc<Self> {
        Arc::new(Self {
            state: Arc::clone(state),
            runtime: runtime.handle().clone(),
            options: super::connector_options(config),
            connector: OnceLock::new(),
            places: Semaphore::new(PROBES_MAX),
            oidc: config.oidc.clone(),
        })
    }

    /// Single sign-on, if it is configured.
    pub(super) fn sign_on(self: &Arc<Self>) -> Option<Arc<SignOn>> {
        const BYTES_MAX: usize = 1 << 20;
        let config = self.oidc.clone()?;
        let prober = Arc::clone(self);
        let fetch = move |ask: &fetch::Ask<'_>| {
            let asked = fetch::fetch(prober.connector(), ask, (TIME_MAX, BYTES_MAX));
            let whole = prober.runtime.block_on(asked).map_err(|error| error.to_string())?;
            Ok((whole.status, whole.body))
        };
        Some(Arc::new(SignOn::new(config, Box::new(fetch))))
    }

    fn connector(&self) -> &TransportConnector {
        self.connector.get_or_init(|| TransportConnector::new(Some(self.options.clone())))
    }

    /// Waits for the provider.
    pub(super) fn probe(&self, connection: Uuid, probe: Probe<'_>) -> Answer {
        let snapshot = self.state.snapshot.load_full();
        let Some(connection) = snapshot.connections.get(&ConnectionId(connection)) else {
            return Ok(None);
        };
        let Ok(_place) = self.places.try_acquire() else { return Err(AdminError::Unavailable) };
        let ask = match probe {
            Probe::Test { model: Some(model) } => Ask::Answer { model },
            Probe::Test { model: None } | Probe::Models => Ask::Models,
        };
        let asked = probe::ask(self.connector(), connection, (ask, TIME_MAX));
        let probed = self.runtime.block_on(asked);
        match probe {
            Probe::Test { .. } => Ok(Some(verdict(&probed))),
            Probe::Models => models(probed, connection).map(Some),
        }
    }
}

fn verdict(probed: &Result<Probed, Refused>) -> Json {
    let (status, latency, error) = match probed {
        Ok(probed) => (Some(probed.status), Some(probed.latency), Json::Null),
        Err(error) => {
            let shown = json!({ "class": error.class, "message": error.message });
            (error.status, error.latency, shown)
        }
    };
    json!({
        "ok": error.is_null(),
        "status": status,
        "latency_ms": latency.map(|latency| latency.as_millis()),
        "error": error,
    })
}

fn models(probed: Result<Probed, Refused>, connection: &Connection) -> Result<Json, AdminError> {
    let models = probed.and_then(|probed| probed.models(connection));
    let models = models.map_err(|error| AdminError::Provider(error.to_string()))?;
    Ok(json!({ "data": models, "next_cursor": null }))
}
