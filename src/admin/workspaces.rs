//! Workspaces: listed, made, archived, recovered, deleted.

use serde_json::{Value as Json, json};

use super::call::{Call, Reply};
use super::principal::{Permission, Principal};
use super::resources::show;
use super::{AdminError, AdminState};
use crate::config::resources::Kind;
use crate::control::store::resources::{self, Page, Place, ResourceRow, Status};

/// Rows looked at to fill a page: most callers see few of many.
const LOOK_MAX: i64 = 100_000;

pub(super) fn list(state: &AdminState, call: &Call) -> Result<Reply, AdminError> {
    let page = call.page(&["status"])?;
    let wanted = match call.query.get("status").map(String::as_str) {
        Some("all") => None,
        None | Some("active") => Some(Status::Active),
        Some("archived") => Some(Status::Archived),
        Some(_) => {
            return Err(AdminError::InvalidQuery("status must be active, archived or all"));
        }
    };
    state.desk.read(|db| {
        let all = Page { after: page.after, limit: LOOK_MAX };
        let mut rows = resources::list(db, Kind::Workspace, Place::default(), all)?;
        rows.retain(|row| {
            wanted.is_none_or(|status| status == row.status) && sees(&call.principal, row)
        });
        let limit = usize::try_from(page.limit).unwrap_or(usize::MAX);
        let has_more = limit < rows.len();
        rows.truncate(limit);
        let last = rows.last().map(|row| row.id.to_string()).filter(|_| has_more);
        let shown = rows.iter().map(|row| show(db, row)).collect::<Result<Vec<Json>, _>>()?;
        Ok(Reply::ok(json!({ "data": shown, "next_cursor": last })))
    })
}

fn sees(principal: &Principal, row: &ResourceRow) -> bool {
    principal.may(Permission::SeeWorkspace, Some((row.id, None)))
}

pub(super) fn create(state: &AdminState, call: &Call) -> Result<Reply, AdminError> {
    let body = call.object()?;
    state.desk.change(call, |editor| {
        let (row, environments) = editor.create_workspace(&body)?;
        editor.own(row.id, call.principal.user)?;
        let mut shown = show(editor.tx.db, &row)?;
        let made = environments.iter().map(|row| show(editor.tx.db, row));
        let made = made.collect::<Result<Vec<Json>, _>>()?;
        if let Json::Object(fields) = &mut shown {
            fields.insert("environments".to_owned(), made.into());
        }
        let location = format!("{}/{}", call.path, row.id);
        Ok(Reply::created(shown)
            .with_version(row.version)
            .with_header(http::header::LOCATION, location))
    })
}

pub(super) fn archive(state: &AdminState, call: &Call) -> Result<Reply, AdminError> {
    change(state, call, Status::Archived)
}

pub(super) fn recover(state: &AdminState, call: &Call) -> Result<Reply, AdminError> {
    change(state, call, Status::Active)
}

fn change(state: &AdminState, call: &Call, to: Status) -> Result<Reply, AdminError> {
    let workspace = call.workspace_id()?;
    state.desk.change(call, |editor| {
        let mut row = resources::by_id(editor.tx.db, workspace)?.ok_or(AdminError::NotFound)?;
        call.check_version(row.version)?;
        match to {
            Status::Archived => editor.archive(&mut row)?,
            Status::Active | Status::Revoked => editor.recover(&mut row)?,
        }
        Ok(Reply::ok(show(editor.tx.db, &row)?).with_version(row.version))
    })
}

pub(super) fn delete(state: &AdminState, call: &Call) -> Result<Reply, AdminError> {
    let workspace = call.workspace_id()?;
    state.desk.change(call, |editor| {
        let row = resources::by_id(editor.tx.db, workspace)?.ok_or(AdminError::NotFound)?;
        call.check_version(row.version)?;
        editor.delete_workspace(&row)?;
        Ok(Reply::empty())
    })
}
