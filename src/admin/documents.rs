//! Declarative documents: applied, exported, imported.

use serde_json::{Value as Json, json};

use super::call::{Call, Reply};
use super::{AdminError, AdminState};
use crate::config::document::{self, Node, Value};
use crate::config::resources::Kind;
use crate::control::apply::{self, ApplyError, Mode, Plan, Prune};
use crate::control::edit::EditError;
use crate::control::store::resources::{self, Place};

/// What problems of a document are said to stand in.
const FILE: &str = "document.json";

fn tree(call: &Call) -> Result<Node, AdminError> {
    let text = std::str::from_utf8(&call.body)
        .map_err(|_| AdminError::BadBody("the body must be UTF-8".to_owned()))?;
    document::parse(FILE, text).map_err(|problems| ApplyError::from(problems).into())
}

pub(super) fn apply(state: &AdminState, call: &Call) -> Result<Reply, AdminError> {
    call.known_query(&["dry_run"])?;
    run(state, call, Prune::Named)
}

pub(super) fn import(state: &AdminState, call: &Call) -> Result<Reply, AdminError> {
    call.known_query(&["dry_run"])?;
    let tree = tree(call)?;
    if let Value::Table(table) = &tree.value
        && let Some(entry) = table.entries.iter().find(|entry| entry.key != "workspaces")
    {
        return Err(EditError::invalid(&entry.key, "is not part of an import").into());
    }
    run(state, call, Prune::Nothing)
}

fn run(state: &AdminState, call: &Call, prune: Prune) -> Result<Reply, AdminError> {
    let dry_run = call.flag("dry_run")?;
    let tree = tree(call)?;
    let mode = Mode { prune, dry_run, owner: call.principal.user };
    let follower = &state.desk.follower;
    let actor = &call.principal.actor;
    let plan: Plan = apply::apply(&follower.store, &follower.vault, actor, (FILE, &tree), mode)?;
    if !dry_run {
        (state.desk.follow)().map_err(ApplyError::from)?;
    }
    Ok(Reply::ok(plan.to_json(dry_run)))
}

pub(super) fn export(state: &AdminState, call: &Call) -> Result<Reply, AdminError> {
    call.known_query(&["workspace"])?;
    let exported: Json = state.desk.read(|db| {
        let workspace = match call.query.get("workspace") {
            None => None,
            Some(name) => {
                let found = resources::find(db, Kind::Workspace, Place::default(), name)?;
                Some(found.ok_or(AdminError::NotFound)?)
            }
        };
        Ok(apply::export(db, workspace.as_ref())?)
    })?;
    Ok(Reply::ok(exported))
}

pub(super) fn export_workspace(state: &AdminState, call: &Call) -> Result<Reply, AdminError> {
    call.known_query(&[])?;
    let workspace = call.workspace.as_ref().ok_or(AdminError::NotFound)?;
    state.desk.read(|db| Ok(Reply::ok(json!(apply::export(db, Some(workspace))?))))
}
