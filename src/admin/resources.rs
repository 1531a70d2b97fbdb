//! The resources of an environment, and the global ones: all by the same few answers.

use serde_json::{Map, Value as Json, json};

use super::call::{Call, Reply};
use super::{AdminError, AdminState};
use crate::clock::rfc3339;
use crate::config::resources::Kind;
use crate::control::edit::{EditError, Rotation, view};
use crate::control::store::resources::{self, Place, ResourceRow, Status};
use crate::control::store::{Db, secrets};

/// The longest time for which an old secret may go on: 30 days.
const GRACE_S_MAX: i64 = 30 * 86_400;

fn kind(call: &Call) -> Result<Kind, AdminError> {
    call.route.kind.ok_or(AdminError::Internal)
}

/// Where the resources of the route stand; an environment stands in its workspace.
fn place(call: &Call) -> Result<Place, AdminError> {
    Ok(match kind(call)? {
        Kind::Workspace => Place::default(),
        Kind::Environment => Place::in_workspace(call.workspace_id()?),
        _ => call.place(),
    })
}

/// The resource that the path names.
fn named(db: &mut Db, call: &Call) -> Result<ResourceRow, AdminError> {
    let name = match kind(call)? {
        Kind::Workspace => call.param("workspace"),
        Kind::Environment => call.param("environment"),
        _ => call.param("id"),
    };
    resources::find(db, kind(call)?, place(call)?, name)?.ok_or(AdminError::NotFound)
}

/// A resource with what else is known of it.
pub(super) fn show(db: &mut Db, row: &ResourceRow) -> Result<Json, AdminError> {
    let mut shown = view(row);
    if row.kind == Kind::Key
        && let Json::Object(fields) = &mut shown
    {
        let secrets = secrets::of_key(db, row.id)?;
        let hint = secrets.first().map(|secret| secret.hint.clone());
        fields.insert("hint".to_owned(), json!(hint));
        let secret = |it: &secrets::SecretRow| {
            json!({
                "hint": it.hint,
                "not_after": it.not_after.map(rfc3339),
                "created_at": rfc3339(it.created_at),
            })
        };
        fields.insert("secrets".to_owned(), secrets.iter().map(secret).collect());
        let used = secrets::last_used(db, row.id)?;
        fields.insert("last_used_at".to_owned(), json!(used.map(rfc3339)));
    }
    Ok(shown)
}

pub(super) fn list(state: &AdminState, call: &Call) -> Result<Reply, AdminError> {
    let page = call.page(&[])?;
    let (kind, place) = (kind(call)?, place(call)?);
    state.desk.read(|db| {
        let mut rows = resources::list(db, kind, place, page)?;
        let last = rows.last().map(|row| row.id.to_string());
        let n = rows.len();
        if kind == Kind::Environment {
            rows.retain(|row| sees_environment(call, row));
        }
        let shown = rows.iter().map(|row| show(db, row)).collect::<Result<Vec<_>, _>>()?;
        let is_full = n >= usize::try_from(page.limit).unwrap_or(usize::MAX);
        Ok(Reply::ok(json!({ "data": shown, "next_cursor": last.filter(|_| is_full) })))
    })
}

/// Someone narrowed to environments learns of no other.
fn sees_environment(call: &Call, row: &ResourceRow) -> bool {
    let Some(workspace) = row.workspace else { return false };
    call.principal.may(call.route.needs, Some((workspace, Some(row.id))))
}

pub(super) fn get(state: &AdminState, call: &Call) -> Result<Reply, AdminError> {
    call.known_query(&[])?;
    state.desk.read(|db| {
        let row = named(db, call)?;
        Ok(Reply::ok(show(db, &row)?).with_version(row.version))
    })
}

pub(super) fn create(state: &AdminState, call: &Call) -> Result<Reply, AdminError> {
    call.known_query(&[])?;
    let body = call.object()?;
    let (kind, place) = (kind(call)?, place(call)?);
    state.desk.change(call, |editor| {
        let (row, secret) = editor.create(kind, place, &body)?;
        state.desk.check_address(&row, &body)?;
        let mut shown = show(editor.tx.db, &row)?;
        if let (Json::Object(fields), Some(secret)) = (&mut shown, secret) {
            fields.insert("secret".to_owned(), json!(secret.expose()));
        }
        let location = format!("{}/{}", call.path, row.id);
        Ok(Reply::created(shown)
            .with_version(row.version)
            .with_header(http::header::LOCATION, location))
    })
}

/// What its author wrote, to be changed.
fn body_of(row: &ResourceRow) -> Map<String, Json> {
    let mut body = row.spec.clone();
    body.insert(row.kind.name_field().to_owned(), json!(row.name));
    body
}

pub(super) fn patch(state: &AdminState, call: &Call) -> Result<Reply, AdminError> {
    write(state, call, |row, patch| {
        let mut body = body_of(row);
        // What follows from other fields must not outlive them.
        if patch.contains_key("price") && !patch.contains_key("price_source") {
            body.remove("price_source");
        }
        merge(&mut body, patch);
        body
    })
}

pub(super) fn put(state: &AdminState, call: &Call) -> Result<Reply, AdminError> {
    write(state, call, |row, body| {
        let mut body = body.clone();
        body.entry(row.kind.name_field()).or_insert_with(|| json!(row.name));
        body
    })
}

fn write(
    state: &AdminState,
    call: &Call,
    merged: impl FnOnce(&ResourceRow, &Map<String, Json>) -> Map<String, Json>,
) -> Result<Reply, AdminError> {
    call.known_query(&[])?;
    let body = call.object()?;
    state.desk.change(call, |editor| {
        let mut row = named(editor.tx.db, call)?;
        call.check_version(row.version)?;
        check_writable(&row, &body)?;
        let whole = merged(&row, &body);
        editor.replace(&mut row, &whole)?;
        state.desk.check_address(&row, &body)?;
        Ok(Reply::ok(show(editor.tx.db, &row)?).with_version(row.version))
    })
}

/// Fields with a route of their own.
fn check_writable(row: &ResourceRow, body: &Map<String, Json>) -> Result<(), EditError> {
    match row.kind {
        Kind::Workspace if body.contains_key("status") => {
            Err(EditError::invalid("status", "use POST …/archive and …/recover"))
        }
        Kind::Key if body.contains_key("secret") => {
            Err(EditError::invalid("secret", "use POST …/rotate"))
        }
        Kind::Key if row.status == Status::Revoked => Err(EditError::Conflict {
            code: "key_revoked",
            detail: "the key is revoked for ever; make another",
        }),
        _ => Ok(()),
    }
}

/// A merge patch of RFC 7396.
fn merge(target: &mut Map<String, Json>, patch: &Map<String, Json>) {
    for (field, value) in patch {
        match value {
            Json::Null => {
                target.remove(field);
            }
            Json::Object(inner) => {
                let entry = target.entry(field.clone()).or_insert_with(|| json!({}));
                if !entry.is_object() {
                    *entry = json!({});
                }
                if let Json::Object(below) = entry {
                    merge(below, inner);
                }
            }
            value => {
                target.insert(field.clone(), value.clone());
            }
        }
    }
}

pub(super) fn delete(state: &AdminState, call: &Call) -> Result<Reply, AdminError> {
    call.known_query(&[])?;
    state.desk.change(call, |editor| {
        let row = named(editor.tx.db, call)?;
        call.check_version(row.version)?;
        editor.remove(&row)?;
        Ok(Reply::empty())
    })
}

pub(super) fn rotate(state: &AdminState, call: &Call) -> Result<Reply, AdminError> {
    let body = call.object()?;
    if let Some(field) = body.keys().find(|field| *field != "grace_s") {
        return Err(EditError::invalid(field, "unknown field").into());
    }
    let grace_s = match body.get("grace_s") {
        None | Some(Json::Null) => 0,
        Some(value) => value
            .as_i64()
            .filter(|seconds| (0..=GRACE_S_MAX).contains(seconds))
            .ok_or_else(|| EditError::invalid("grace_s", "must be seconds from 0 to 2592000"))?,
    };
    state.desk.change(call, |editor| {
        let mut row = named(editor.tx.db, call)?;
        call.check_version(row.version)?;
        let secret = editor.rotate(&mut row, &Rotation { grace_s, secret: None })?;
        let mut shown = show(editor.tx.db, &row)?;
        if let Json::Object(fields) = &mut shown {
            fields.insert("secret".to_owned(), json!(secret.expose()));
        }
        Ok(Reply::ok(shown).with_version(row.version))
    })
}

pub(super) fn revoke(state: &AdminState, call: &Call) -> Result<Reply, AdminError> {
    state.desk.change(call, |editor| {
        let mut row = named(editor.tx.db, call)?;
        call.check_version(row.version)?;
        editor.revoke(&mut row)?;
        Ok(Reply::ok(show(editor.tx.db, &row)?).with_version(row.version))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merge_patch_is_that_of_the_standard() {
        let mut target = json!({ "a": "b", "c": { "d": "e", "f": "g" }, "h": [1] });
        let patch = json!({ "a": "z", "c": { "f": null }, "h": { "i": 1 }, "j": null });
        if let (Json::Object(target), Json::Object(patch)) = (&mut target, &patch) {
            merge(target, patch);
        }
        assert_eq!(target, json!({ "a": "z", "c": { "d": "e" }, "h": { "i": 1 } }));
    }
}
