//! `sluice demo`: everything on embedded defaults, with the simulated provider.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::{FAILED, WRONG, code_of, serve};
use crate::admin::token::AdminToken;
use crate::app::App;
use crate::config::server::{ServerConfig, StateUrl, UsageUrl};
use crate::key;
use crate::secret::Secret;

/// One workspace, one environment, one deployment that fails over, and models to call directly.
const RESOURCES: &str = include_str!("demo.toml");

pub(super) fn run(dir: Option<PathBuf>, listen: SocketAddr, admin: SocketAddr) -> ExitCode {
    let temporary = tempfile::Builder::new().prefix("sluice-demo-").tempdir();
    let dir = match (dir, &temporary) {
        (Some(dir), _) => dir,
        (None, Ok(temporary)) => temporary.path().to_owned(),
        (None, Err(error)) => {
            eprintln!("cannot make a temporary folder: {error}");
            return ExitCode::from(FAILED);
        }
    };
    let secret = key::generate();
    let config = match prepare(&dir, secret.expose(), listen, admin) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("cannot write to {}: {error}", dir.display());
            return ExitCode::from(FAILED);
        }
    };
    let token = match AdminToken::new(std::env::var("SLUICE_ADMIN_TOKEN").ok().map(Secret::new)) {
        Ok(AdminToken::Given(token) | AdminToken::Made(token)) => token,
        Err(error) => {
            eprintln!("SLUICE_ADMIN_TOKEN: {error}");
            return ExitCode::from(WRONG);
        }
    };
    match serve::start(config, Some(token.clone())) {
        Ok(app) => {
            explain(&app, &dir, [secret.expose(), token.expose()]);
            serve::until_signalled(app, None)
        }
        Err(error) => {
            eprintln!("{error}");
            code_of(&error)
        }
    }
}

fn prepare(
    dir: &Path,
    secret: &str,
    listen: SocketAddr,
    admin: SocketAddr,
) -> std::io::Result<ServerConfig> {
    std::fs::create_dir_all(dir)?;
    let resources = dir.join("resources.toml");
    std::fs::write(&resources, RESOURCES.replace("${DEMO_KEY}", secret))?;
    let mut config = ServerConfig { resources: Some(resources), ..ServerConfig::default() };
    config.data.listen = vec![listen];
    config.admin.listen = admin;
    config.state.url = StateUrl::Sqlite(dir.join("state.db"));
    config.state.copy_file = dir.join("state.copy");
    config.usage.url = UsageUrl::Sqlite(dir.join("usage.db"));
    config.usage.spool_dir = dir.join("spool");
    config.secrets.master_key_file = dir.join("master.key");
    "warn".clone_into(&mut config.telemetry.log);
    config.drain.delay = std::time::Duration::ZERO;
    Ok(config)
}

fn explain(app: &App, dir: &Path, [key, token]: [&str; 2]) {
    let data = app.listening.data.first().map_or_else(String::new, ToString::to_string);
    let admin = app.listening.admin;
    let dir = dir.display();
    println!(
        r#"Sluice is running on embedded defaults with a simulated provider.

  data plane    http://{data}
  admin plane   http://{admin}
  virtual key   {key}
  admin token   {token}
  data folder   {dir}

Paste these:

  # chat
  curl -s http://{data}/v1/chat/completions -H "authorization: Bearer {key}" \
    -H "content-type: application/json" \
    -d '{{"model":"chat","messages":[{{"role":"user","content":"hello"}}]}}'

  # streaming chat
  curl -sN http://{data}/v1/chat/completions -H "authorization: Bearer {key}" \
    -H "content-type: application/json" \
    -d '{{"model":"chat","stream":true,"messages":[{{"role":"user","content":"hello"}}]}}'

  # responses
  curl -s http://{data}/v1/responses -H "authorization: Bearer {key}" \
    -H "content-type: application/json" -d '{{"model":"chat","input":"hello"}}'

  # messages
  curl -s http://{data}/v1/messages -H "x-api-key: {key}" -H "anthropic-version: 2023-06-01" \
    -H "content-type: application/json" \
    -d '{{"model":"chat","max_tokens":64,"messages":[{{"role":"user","content":"hello"}}]}}'

  # what was used: one row per request
  curl -s "http://{admin}/api/v1/requests?limit=5" -H "authorization: Bearer {token}"

Press Ctrl-C to stop."#
    );
}
