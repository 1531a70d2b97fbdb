//! Commands that work on the state store itself: audit verify, admin reset.

use std::path::Path;
use std::process::ExitCode;

use super::remote::{Failure, report};
use super::serve::secret;
use super::{FAILED, WRONG, load};
use crate::admin::first;
use crate::clock::Clock;
use crate::control::seal::Vault;
use crate::control::store::audit::{self, Actor};
use crate::control::store::{Store, StoreError};

/// The state store that a configuration names, and its master key.
pub(super) fn open(config: Option<&Path>) -> Result<(Store, Vault), Failure> {
    let config = load(config).map_err(|error| (WRONG, error.to_string()))?;
    let opened = || {
        let store = Store::open(&config.state.url, Clock::default())?;
        let vault =
            Vault::load(secret("SLUICE_MASTER_KEY").as_ref(), &config.secrets.master_key_file)?;
        store.check_master_key(&vault.id())?;
        Ok((store, vault))
    };
    opened().map_err(failed)
}

/// Whoever runs a command on the machine of the state store.
pub(super) fn actor(command: &str) -> Actor {
    Actor { kind: "system", name: command.to_owned(), ..Actor::default() }
}

#[expect(clippy::needless_pass_by_value, reason = "it is what `map_err` hands over")]
fn failed(error: StoreError) -> Failure {
    (FAILED, error.to_string())
}

/// `sluice audit verify`: exit 0 if the chain holds, 1 if not.
pub(super) fn verify(config: Option<&Path>) -> ExitCode {
    let verified = || {
        let (store, _) = open(config)?;
        match store.read(audit::verify).map_err(failed)? {
            Ok(events) => {
                println!("the audit log is intact: {events} event(s)");
                Ok(ExitCode::SUCCESS)
            }
            Err(problem) => Err((FAILED, format!("the audit log is not intact: {problem}"))),
        }
    };
    report(verified())
}

/// `sluice admin reset`: a new one-time password of the first superadmin, and a new admin token.
pub(super) fn reset(config: Option<&Path>) -> ExitCode {
    let done = || {
        let (store, _) = open(config)?;
        let actor = actor("sluice admin reset");
        let made = store.write(|tx| first::reset(tx, &actor)).map_err(failed)?;
        println!("user:        {}", made.email);
        println!(
            "password:    {}  (for one login; it must be changed then)",
            made.password.expose()
        );
        println!("admin token: {}  (shown once)", made.token.expose());
        Ok(ExitCode::SUCCESS)
    };
    report(done())
}
