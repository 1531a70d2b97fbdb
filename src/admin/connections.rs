//! Connections tried out: does the provider answer, and which models has it?

use super::body::Body;
use super::call::{Call, Reply};
use super::{AdminError, AdminState, Probe};
use crate::config::resources::Kind;
use crate::control::edit::EditError;
use crate::control::store::resources;

pub(super) fn test(state: &AdminState, call: &Call) -> Result<Reply, AdminError> {
    call.known_query(&[])?;
    let body = Body::of(call, &["model"])?;
    probe(state, call, Probe::Test { model: body.opt_text("model")? })
}

pub(super) fn models(state: &AdminState, call: &Call) -> Result<Reply, AdminError> {
    call.known_query(&[])?;
    probe(state, call, Probe::Models)
}

fn probe(state: &AdminState, call: &Call, probe: Probe<'_>) -> Result<Reply, AdminError> {
    let row = state.desk.read(|db| {
        let found = resources::find(db, Kind::Connection, call.place(), call.param("id"))?;
        found.ok_or(AdminError::NotFound)
    })?;
    // One that was imported without its credential has nothing to show to a provider.
    if row.sealed.is_none() && row.spec.get("auth").is_none_or(|auth| auth == "api_key") {
        return Err(EditError::Conflict {
            code: "no_credential",
            detail: "the connection has no credential yet: PATCH it with one",
        }
        .into());
    }
    (state.probe)(row.id, probe)?.map(Reply::ok).ok_or(AdminError::NotFound)
}
