//! The declarative document: read, made the state, put in force, all or nothing.

use crate::app::resident::Resident;
use crate::app::{App, Env, StartError};
use crate::config::problem::Problem;
use crate::config::resources::Checked;
use crate::config::server::ServerConfig;
use crate::config::{ConfigError, load_resources};
use crate::control::apply::{self, Mode, Plan, Prune};
use crate::control::edit::{self, EditError, Editor};
use crate::control::follow::Follower;
use crate::control::store::audit::Actor;
use crate::telemetry::metrics::ReloadResult;

/// Reads the document that the configuration names.
pub(super) fn read(config: &ServerConfig, env: &Env) -> Result<Option<Checked>, ConfigError> {
    let Some(path) = &config.resources else { return Ok(None) };
    let checked = load_resources(path, env)?;
    for Problem { file, line, field, text } in &checked.warnings {
        tracing::warn!(file, line, field, "{text}");
    }
    Ok(Some(checked))
}

/// Makes the state what the document says, and sees to the built-in workspace.
pub(super) fn install(
    follower: &Follower,
    config: &ServerConfig,
    document: Option<&Checked>,
) -> Result<(), StartError> {
    if !follower.store.is_open() {
        tracing::warn!("the document is not applied: the state store does not answer");
        return Ok(());
    }
    let actor = Actor { kind: "system", name: "sluice".to_owned(), ..Actor::default() };
    follower
        .store
        .write(|tx| edit::ensure_default(&mut Editor::new(tx, &follower.vault, &actor)))?;
    let (Some(path), Some(document)) = (&config.resources, document) else { return Ok(()) };
    let file = path.to_string_lossy();
    let actor = Actor { kind: "document", name: file.clone().into_owned(), ..Actor::default() };
    let mode = Mode { prune: Prune::Managed, dry_run: false, owner: None };
    let document = (&*file, &document.tree);
    let plan = apply::apply(&follower.store, &follower.vault, &actor, document, mode)?;
    report(&plan);
    Ok(())
}

fn report(plan: &Plan) {
    for step in &plan.steps {
        let (action, kind, path) = (step.action, step.kind.name(), step.path.as_str());
        tracing::info!(action, kind, path, "document applied");
    }
}

impl From<EditError> for StartError {
    fn from(error: EditError) -> Self {
        match error {
            EditError::Store(error) => Self::State(error),
            error => Self::Document(error.into()),
        }
    }
}

impl App {
    /// Reads the document, the certificate and the log filter anew. What is wrong changes nothing.
    pub fn reload(&self, log: Option<&str>) -> Result<(), StartError> {
        // Whoever asks may drive a runtime, and a store makes its caller wait: on a thread of its own.
        let reloaded = std::thread::scope(|scope| {
            let reading = scope.spawn(|| self.read_again(log));
            reading.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
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
        if let (Some(certificate), Some(tls)) = (&self.certificate, &self.config.data.tls) {
            certificate.reload(tls)?;
        }
        if let (Some(handle), Some(filter)) = (&self.log, log) {
            handle.set_filter(filter)?;
        }
        let resident: &Resident = &self.resident;
        install(&resident.follower, &self.config, document.as_ref())?;
        resident.follow()?;
        Ok(())
    }
}
