//! The audit log: listed, exported, verified. Nothing changes it.

use serde_json::json;

use super::call::{Call, Reply, list as page_of};
use super::{AdminError, AdminState};
use crate::clock::parse_rfc3339;
use crate::config::resources::Kind;
use crate::control::store::audit::{self, Filter};
use crate::control::store::resources::{self, Place};

/// What narrows a list.
pub(super) const QUERY: &[&str] = &[
    "limit",
    "cursor",
    "workspace",
    "action",
    "resource_kind",
    "resource_id",
    "actor_id",
    "from",
    "to",
];

pub(super) fn list(state: &AdminState, call: &Call) -> Result<Reply, AdminError> {
    call.known_query(QUERY)?;
    let limit = match call.query.get("limit") {
        None => 50,
        Some(text) => text
            .parse()
            .ok()
            .filter(|limit| (1..=1000).contains(limit))
            .ok_or(AdminError::InvalidQuery("limit must be a number from 1 to 1000"))?,
    };
    let before = call.query.get("cursor").map(|text| text.parse::<i64>()).transpose();
    let before = before.map_err(|_| AdminError::InvalidQuery("cursor must be a `next_cursor`"))?;
    state.desk.read(|db| {
        let filter = filter(db, call)?;
        let events = audit::list(db, &filter, before, limit)?;
        let last = events.last().map(|event| event["seq"].to_string());
        Ok(page_of(&events, limit, last))
    })
}

fn filter(db: &mut crate::control::store::Db, call: &Call) -> Result<Filter, AdminError> {
    let text = |name: &str| call.query.get(name).cloned().unwrap_or_default();
    let time = |name: &str| match call.query.get(name) {
        None => Ok(0),
        Some(text) => parse_rfc3339(text)
            .ok_or(AdminError::InvalidQuery("from and to must be times of RFC 3339")),
    };
    let workspace = match call.query.get("workspace") {
        None => String::new(),
        // The id of a workspace that is deleted still has its events.
        Some(name) => resources::find(db, Kind::Workspace, Place::default(), name)?
            .map_or_else(|| name.clone(), |row| row.id.to_string()),
    };
    Ok(Filter {
        workspace,
        action: text("action"),
        resource_kind: text("resource_kind"),
        resource_id: text("resource_id"),
        actor_id: text("actor_id"),
        from: time("from")?,
        to: time("to")?,
    })
}

/// Everything that matches, in one answer.
pub(super) fn export(state: &AdminState, call: &Call) -> Result<Reply, AdminError> {
    call.known_query(&[])?;
    state.desk.read(|db| {
        let events = audit::list(db, &Filter::default(), None, i64::MAX)?;
        Ok(Reply::ok(json!({ "data": events, "next_cursor": null })))
    })
}

pub(super) fn verify(state: &AdminState, call: &Call) -> Result<Reply, AdminError> {
    call.known_query(&[])?;
    state.desk.read(|db| {
        Ok(Reply::ok(match audit::verify(db)? {
            Ok(events) => json!({ "intact": true, "events": events, "problem": null }),
            Err(problem) => {
                json!({ "intact": false, "events": null, "problem": problem.to_string() })
            }
        }))
    })
}
