//! Who belongs to a workspace, and as what.

use serde_json::{Value as Json, json};
use uuid::Uuid;

use super::body::Body;
use super::call::{Call, Reply};
use super::{AdminError, AdminState};
use crate::clock::rfc3339;
use crate::config::resources::Kind;
use crate::control::edit::{EditError, Editor};
use crate::control::store::audit::Event;
use crate::control::store::identity::{self, MemberRow, UserRow, UserStatus, WorkspaceRole};
use crate::control::store::resources::{self, Place};
use crate::control::store::{Db, StoreError};

fn view(member: &MemberRow, user: Option<&UserRow>) -> Json {
    json!({
        "user_id": member.user,
        "email": user.map(|user| user.email.as_str()),
        "name": user.map(|user| user.name.as_str()),
        "role": member.role.name(),
        "environments": member.environments,
        "created_at": rfc3339(member.created_at),
        "created_by": member.created_by,
    })
}

/// A user by id or address.
fn user(db: &mut Db, text: &str) -> Result<UserRow, AdminError> {
    let found = match text.parse::<Uuid>() {
        Ok(id) => identity::user(db, id)?,
        Err(_) => identity::user_by_email(db, &text.to_ascii_lowercase())?,
    };
    found.filter(|user| user.status != UserStatus::Deleted).ok_or(AdminError::NotFound)
}

pub(super) fn list(state: &AdminState, call: &Call) -> Result<Reply, AdminError> {
    call.known_query(&[])?;
    let workspace = call.workspace_id()?;
    state.desk.read(|db| {
        let mut shown = Vec::new();
        for member in identity::members(db, workspace)? {
            let user = identity::user(db, member.user)?;
            shown.push(view(&member, user.as_ref()));
        }
        Ok(Reply::ok(json!({ "data": shown, "next_cursor": null })))
    })
}

fn named(db: &mut Db, call: &Call) -> Result<(MemberRow, UserRow), AdminError> {
    let user = user(db, call.param("user"))?;
    let member = identity::member(db, call.workspace_id()?, user.id)?;
    Ok((member.ok_or(AdminError::NotFound)?, user))
}

pub(super) fn get(state: &AdminState, call: &Call) -> Result<Reply, AdminError> {
    state.desk.read(|db| {
        let (member, user) = named(db, call)?;
        Ok(Reply::ok(view(&member, Some(&user))).with_version(member.version))
    })
}

/// Nobody gives or takes a role that holds more than they do, or changes themselves.
fn check(call: &Call, user: &UserRow, roles: [Option<WorkspaceRole>; 2]) -> Result<(), AdminError> {
    let workspace = call.workspace_id()?;
    let is_above = |role: WorkspaceRole| !call.principal.holds_in(workspace, role);
    if roles.into_iter().flatten().any(is_above) || call.principal.user == Some(user.id) {
        return Err(AdminError::Forbidden);
    }
    Ok(())
}

pub(super) fn put(state: &AdminState, call: &Call) -> Result<Reply, AdminError> {
    let body = Body::of(call, &["role", "environments"])?;
    let role = body
        .opt_word("role", WorkspaceRole::from_name)?
        .ok_or_else(|| EditError::invalid("role", "is missing"))?;
    let names = body.opt_list("environments")?;
    let workspace = call.workspace_id()?;
    state.desk.change(call, |editor| {
        let user = user(editor.tx.db, call.param("user"))?;
        let found = identity::member(editor.tx.db, workspace, user.id)?;
        check(call, &user, [Some(role), found.as_ref().map(|member| member.role)])?;
        if let Some(member) = &found {
            call.check_version(member.version)?;
            if member.role == WorkspaceRole::Owner && role != WorkspaceRole::Owner {
                check_other_owner(editor, member)?;
            }
        }
        let environments = environments(editor, workspace, names.as_deref())?;
        if role == WorkspaceRole::Owner && environments.is_some() {
            let text = "an owner has all environments";
            return Err(EditError::invalid("environments", text).into());
        }
        let member = MemberRow {
            workspace,
            user: user.id,
            role,
            environments,
            version: found.as_ref().map_or(1, |member| member.version + 1),
            created_at: found.as_ref().map_or(editor.tx.now, |member| member.created_at),
            created_by: editor.actor.name.clone(),
        };
        editor.tx.put_member(&member, &editor.actor.name)?;
        let (before, after) = (found.map(|it| view(&it, Some(&user))), view(&member, Some(&user)));
        record(editor, &user, workspace, [before, Some(after.clone())])?;
        Ok(Reply::ok(after).with_version(member.version))
    })
}

fn environments(
    editor: &mut Editor<'_, '_>,
    workspace: Uuid,
    names: Option<&[String]>,
) -> Result<Option<Vec<Uuid>>, AdminError> {
    let Some(names) = names else { return Ok(None) };
    let mut ids = Vec::new();
    for name in names {
        let place = Place::in_workspace(workspace);
        let found = resources::find(editor.tx.db, Kind::Environment, place, name)?;
        let missing = || EditError::invalid("environments", "names one that is not there");
        ids.push(found.ok_or_else(missing)?.id);
    }
    Ok(Some(ids))
}

pub(super) fn delete(state: &AdminState, call: &Call) -> Result<Reply, AdminError> {
    let workspace = call.workspace_id()?;
    state.desk.change(call, |editor| {
        let (member, user) = named(editor.tx.db, call)?;
        call.check_version(member.version)?;
        check(call, &user, [None, Some(member.role)])?;
        if member.role == WorkspaceRole::Owner {
            check_other_owner(editor, &member)?;
        }
        editor.tx.remove_member(workspace, user.id)?;
        record(editor, &user, workspace, [Some(view(&member, Some(&user))), None])?;
        Ok(Reply::empty())
    })
}

/// A workspace always has an owner.
pub(super) fn check_other_owner(
    editor: &mut Editor<'_, '_>,
    member: &MemberRow,
) -> Result<(), AdminError> {
    let members = identity::members(editor.tx.db, member.workspace)?;
    let is_other = |it: &MemberRow| it.role == WorkspaceRole::Owner && it.user != member.user;
    if members.iter().any(is_other) {
        return Ok(());
    }
    Err(EditError::Conflict {
        code: "last_owner",
        detail: "a workspace always has an owner; make another one first",
    }
    .into())
}

fn record(
    editor: &mut Editor<'_, '_>,
    user: &UserRow,
    workspace: Uuid,
    [before, after]: [Option<Json>; 2],
) -> Result<(), StoreError> {
    let action = match (&before, &after) {
        (None, _) => "create",
        (_, None) => "delete",
        _ => "update",
    };
    let event = Event {
        action,
        kind: "member",
        id: user.id.to_string(),
        name: &user.email,
        workspace: Some(workspace),
        before,
        after,
        ..Event::default()
    };
    editor.tx.record(editor.actor, event)
}
