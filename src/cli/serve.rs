//! `sluice serve`: the gateway until a signal ends it.

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{FAILED, code_of, load};
use crate::app::{App, StartError, Surroundings};
use crate::config::server::ServerConfig;
use crate::secret::Secret;
use crate::telemetry::log;

const TOKEN: &str = "SLUICE_ADMIN_TOKEN";
const PASSWORD: &str = "SLUICE_ADMIN_PASSWORD";

pub(super) fn run(path: Option<&Path>) -> ExitCode {
    let config = match load(path) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("{error}");
            return code_of(&StartError::Config(error));
        }
    };
    let app = match start(config, None) {
        Ok(app) => app,
        Err(error) => {
            eprintln!("{error}");
            return code_of(&error);
        }
    };
    announce(&app);
    until_signalled(app, path)
}

pub(super) fn secret(name: &str) -> Option<Secret> {
    std::env::var(name).ok().map(Secret::new)
}

/// Starts the gateway with its log and the env vars of the process; `token` is the operator's if
/// they give none.
pub(super) fn start(config: ServerConfig, token: Option<Secret>) -> Result<App, StartError> {
    let log = log::init(&config.telemetry.log)?;
    let around = Surroundings {
        admin_token: secret(TOKEN).or(token),
        admin_password: secret(PASSWORD),
        master_key: secret("SLUICE_MASTER_KEY"),
        log: Some(Arc::new(log)),
        ..Surroundings::default()
    };
    App::start(config, around)
}

/// On stdout, so that stderr is the log and nothing else; in one go, so that who has read where to
/// connect need not read on.
fn announce(app: &App) {
    let at = |addresses: &[std::net::SocketAddr]| {
        addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    };
    let mut text = format!("data plane:  {}\n", at(&app.listening.data));
    if !app.listening.tls.is_empty() {
        text += &format!("with TLS:    {}\n", at(&app.listening.tls));
    }
    text += &format!("admin plane: {}\n", app.listening.admin);
    if let Some(made) = &app.first {
        text += &format!("admin user:  {}\n", made.email);
        if std::env::var_os(PASSWORD).is_none() {
            text += &format!(
                "password:    {}  (for one login; it must be changed then)\n",
                made.password.expose()
            );
        }
        if std::env::var_os(TOKEN).is_none() {
            text += &format!(
                "admin token: {}  (shown once; set {TOKEN} to choose it)\n",
                made.token.expose()
            );
        }
    }
    // That nobody listens is no reason not to serve.
    if let Err(error) = std::io::stdout().write_all(text.as_bytes()) {
        tracing::warn!(%error, "stdout does not take where the gateway listens");
    }
    tracing::info!(data = at(&app.listening.data), tls = at(&app.listening.tls),
        admin = %app.listening.admin, "listening");
}

/// SIGHUP reloads, SIGTERM drains, SIGINT ends at once.
pub(super) fn until_signalled(app: App, path: Option<&Path>) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let Ok(runtime) = runtime else {
        eprintln!("cannot start a runtime for signals");
        return ExitCode::from(FAILED);
    };
    runtime.block_on(async {
        let on = |kind| signal(kind);
        let signals =
            (on(SignalKind::hangup()), on(SignalKind::terminate()), on(SignalKind::interrupt()));
        let (Ok(hangup), Ok(terminate), Ok(interrupt)) = signals else {
            eprintln!("cannot listen to signals");
            return ExitCode::from(FAILED);
        };
        Box::pin(wait(app, path, (hangup, terminate, interrupt))).await
    })
}

async fn wait(
    app: App,
    path: Option<&Path>,
    (mut hangup, mut terminate, mut interrupt): (Signal, Signal, Signal),
) -> ExitCode {
    loop {
        tokio::select! {
            _ = hangup.recv() => {
                // Both failures are logged where they happen, and leave everything as it was.
                let log = load(path).map(|config| config.telemetry.log);
                drop(app.reload(log.ok().as_deref()));
            }
            _ = terminate.recv() => {
                return tokio::select! {
                    drained = app.stop() => ExitCode::from(u8::from(0 < drained.cut)),
                    _ = interrupt.recv() => ExitCode::from(FAILED),
                };
            }
            _ = interrupt.recv() => {
                app.stop_at_once().await;
                return ExitCode::SUCCESS;
            }
        }
    }
}
