//! What the operator writes, read once: raw text to checked types, all problems at once.
//!
//! ```text
//! document      TOML, YAML or JSON as one tree in which every value knows its line
//! interpolate   puts env vars in place of `${NAME}`
//! fields        reads a table of that tree, field by field, collecting problems
//! problem       Problem { file, line, field, text }
//! suggest       "did you mean"
//! url           addresses of upstreams and stores
//! server        `sluice.toml`      -> ServerConfig
//! resources     `resources.toml`   -> Resources
//! ```
//!
//! **Invariant:** a problem never shows a secret, nor what an env var holds.

use std::io;
use std::path::{Path, PathBuf};

use self::problem::Problems;
use self::resources::{Checked, Resources};
use self::server::ServerConfig;

pub mod document;
pub mod fields;
pub mod interpolate;
pub mod problem;
pub mod resources;
pub mod server;
pub mod suggest;
pub mod url;

/// Why a file gives no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read {}: {error}", path.display())]
    Io { path: PathBuf, error: io::Error },
    #[error(transparent)]
    Problems(#[from] Problems),
}

/// Reads the process's configuration; without a file, the defaults and `env` count.
pub fn load_server(
    path: Option<&Path>,
    env: impl Iterator<Item = (String, String)>,
) -> Result<ServerConfig, ConfigError> {
    let (name, text) = match path {
        Some(path) => (path.to_string_lossy().into_owned(), read(path)?),
        None => ("sluice.toml".to_owned(), String::new()),
    };
    Ok(ServerConfig::parse(&name, &text, env)?)
}

/// Reads a document of resources; `env` gives the values of `${NAME}`.
pub fn load_resources(
    path: &Path,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Checked, ConfigError> {
    let text = read(path)?;
    Ok(Resources::parse(&path.to_string_lossy(), &text, env)?)
}

fn read(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|error| ConfigError::Io { path: path.to_owned(), error })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn missing_file_is_named() {
        let error = load_server(Some(Path::new("no/such.toml")), std::iter::empty()).unwrap_err();
        assert!(error.to_string().starts_with("cannot read no/such.toml: "), "{error}");
    }

    #[test]
    fn without_a_file_the_env_vars_count() {
        let env = [("SLUICE_DATA__LISTEN".to_owned(), "127.0.0.1:9999".to_owned())];
        let config = load_server(None, env.into_iter()).unwrap();
        assert_eq!(config.data.listen, ["127.0.0.1:9999".parse().unwrap()]);
    }

    #[test]
    fn files_are_read_by_their_ending() {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("a.toml", "[[workspaces]]\nslug = \"acme\""),
            ("a.yaml", "workspaces:\n  - slug: acme"),
            ("a.yml", "workspaces: [{slug: acme}]"),
            ("a.json", r#"{"workspaces":[{"slug":"acme"}]}"#),
        ] {
            let path = dir.path().join(name);
            fs::write(&path, text).unwrap();
            let checked = load_resources(&path, &|_| None).unwrap();
            assert_eq!(checked.resources.workspaces[0].slug, "acme");
        }
        let path = dir.path().join("a.txt");
        fs::write(&path, "").unwrap();
        let error = load_resources(&path, &|_| None).unwrap_err().to_string();
        assert!(error.contains("must end in .toml, .yaml, .yml or .json"), "{error}");
    }
}
