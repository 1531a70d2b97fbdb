//! Commands that work on the state store itself: audit verify, admin reset.

use std::path::Path;
use std::process::ExitCode;

use super::{FAILED, WRONG, load};
use crate::admin::first;
use crate::clock::Clock;
use crate::control::store::audit::{self, Actor};
use crate::control::store::{Store, StoreError};

fn open(config: Option<&Path>) -> Result<Store, ExitCode> {
    let config = load(config).map_err(|error| {
        eprintln!("{error}");
        ExitCode::from(WRONG)
    })?;
    Store::open(&config.state.url, Clock::default()).map_err(failed)
}

#[expect(clippy::needless_pass_by_value, reason = "it is what `map_err` hands over")]
fn failed(error: StoreError) -> ExitCode {
    eprintln!("{error}");
    ExitCode::from(FAILED)
}

/// `sluice audit verify`: exit 0 if the chain holds, 1 if not.
pub(super) fn verify(config: Option<&Path>) -> ExitCode {
    let store = match open(config) {
        Ok(store) => store,
        Err(code) => return code,
    };
    match store.read(audit::verify) {
        Ok(Ok(events)) => {
            println!("the audit log is intact: {events} event(s)");
            ExitCode::SUCCESS
        }
        Ok(Err(problem)) => {
            eprintln!("the audit log is not intact: {problem}");
            ExitCode::from(FAILED)
        }
        Err(error) => failed(error),
    }
}

/// `sluice admin reset`: a new one-time password of the first superadmin, and a new admin token.
pub(super) fn reset(config: Option<&Path>) -> ExitCode {
    let store = match open(config) {
        Ok(store) => store,
        Err(code) => return code,
    };
    let actor = Actor { kind: "system", name: "sluice admin reset".to_owned(), ..Actor::default() };
    match store.write(|tx| first::reset(tx, &actor)) {
        Ok(made) => {
            println!("user:        {}", made.email);
            println!(
                "password:    {}  (for one login; it must be changed then)",
                made.password.expose()
            );
            println!("admin token: {}  (shown once)", made.token.expose());
            ExitCode::SUCCESS
        }
        Err(error) => failed(error),
    }
}
