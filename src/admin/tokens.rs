//! Admin tokens: for automation, with no more than their maker has.

use serde_json::{Value as Json, json};
use uuid::Uuid;

use super::body::Body;
use super::call::{Call, Reply};
use super::desk::digest_of;
use super::principal::{Permission, Principal};
use super::{AdminError, AdminState, token};
use crate::config::resources::Kind;
use crate::control::edit::{EditError, Editor};
use crate::control::store::Db;
use crate::control::store::audit::Event;
use crate::control::store::identity::{self, PlatformRole, TokenRow};
use crate::control::store::resources::{self, Place, id_or_empty};

/// Whose tokens the caller may see; `None` is everybody's.
fn whose(principal: &Principal) -> Option<Uuid> {
    if principal.role == PlatformRole::Superadmin && principal.token.is_none() {
        return None;
    }
    Some(principal.user.unwrap_or_default())
}

/// A token that is narrowed sees itself alone: another may hold more.
fn sees(principal: &Principal, row: &TokenRow) -> bool {
    let is_narrowed = |it: &&TokenRow| it.permissions.is_some() || it.workspaces.is_some();
    principal.token.as_ref().filter(is_narrowed).is_none_or(|own| own.id == row.id)
}

fn named(db: &mut Db, call: &Call) -> Result<TokenRow, AdminError> {
    let id: Uuid = call.param("id").parse().map_err(|_| AdminError::NotFound)?;
    let found = identity::token(db, id)?;
    let is_theirs = |it: &TokenRow| whose(&call.principal).is_none_or(|user| user == it.user);
    found.filter(|it| is_theirs(it) && sees(&call.principal, it)).ok_or(AdminError::NotFound)
}

pub(super) fn list(state: &AdminState, call: &Call) -> Result<Reply, AdminError> {
    let page = call.page(&[])?;
    let user = whose(&call.principal);
    state.desk.read(|db| {
        let tokens = identity::tokens(db, user, &id_or_empty(page.after), page.limit)?;
        let last = tokens.last().map(|token| token.id.to_string());
        let is_full = tokens.len() >= usize::try_from(page.limit).unwrap_or(usize::MAX);
        let seen = tokens.iter().filter(|token| sees(&call.principal, token));
        let shown: Vec<Json> = seen.map(TokenRow::view).collect();
        Ok(Reply::ok(json!({ "data": shown, "next_cursor": last.filter(|_| is_full) })))
    })
}

pub(super) fn get(state: &AdminState, call: &Call) -> Result<Reply, AdminError> {
    state.desk.read(|db| {
        let token = named(db, call)?;
        Ok(Reply::ok(token.view()).with_version(token.version))
    })
}

pub(super) fn create(state: &AdminState, call: &Call) -> Result<Reply, AdminError> {
    let body = Body::of(call, &["name", "permissions", "workspaces", "expires_at"])?;
    let name = body.text("name")?.to_owned();
    let expires_at = body.opt_time("expires_at")?;
    let permissions = permissions(&call.principal, body.opt_list("permissions")?)?;
    let names = body.opt_list("workspaces")?;
    state.desk.change(call, |editor| {
        let secret = token::random("at_", 43).map_err(|_| AdminError::Internal)?;
        let parent = call.principal.token.as_ref();
        let row = TokenRow {
            id: Uuid::now_v7(),
            user: owner(editor, &call.principal)?,
            name,
            hint: token::hint(&secret),
            permissions,
            workspaces: workspaces(editor, &call.principal, names)?,
            // A token makes none that lives longer than itself.
            expires_at: [expires_at, parent.and_then(|it| it.expires_at)]
                .into_iter()
                .flatten()
                .min(),
            last_used_at: None,
            version: 1,
            created_at: editor.tx.now,
            created_by: editor.actor.name.clone(),
        };
        editor.tx.insert_token(&row, &digest_of(secret.expose().as_bytes()))?;
        let mut shown = row.view();
        record(editor, "create", &row)?;
        if let Json::Object(fields) = &mut shown {
            fields.insert("token".to_owned(), json!(secret.expose()));
        }
        Ok(Reply::created(shown).with_version(row.version))
    })
}

/// A token is somebody's; those made with the operator's are the first superadmin's.
fn owner(editor: &mut Editor<'_, '_>, principal: &Principal) -> Result<Uuid, AdminError> {
    if let Some(user) = principal.user {
        return Ok(user);
    }
    identity::first_superadmin(editor.tx.db)?.ok_or(AdminError::NotFound)
}

/// No permission that the caller does not have, on the platform or in a workspace of theirs.
fn permissions(
    principal: &Principal,
    wanted: Option<Vec<String>>,
) -> Result<Option<Vec<String>>, AdminError> {
    let of_parent = principal.token.as_ref().and_then(|token| token.permissions.clone());
    let Some(wanted) = wanted else { return Ok(of_parent) };
    for name in &wanted {
        let permission = Permission::from_name(name)
            .ok_or_else(|| EditError::invalid("permissions", "names one that is not there"))?;
        let in_workspace = principal
            .memberships
            .iter()
            .any(|member| principal.may(permission, Some((member.workspace, None))));
        let has_role = principal.role == PlatformRole::Superadmin;
        let is_listed = of_parent.as_ref().is_none_or(|list| list.contains(name));
        let on_platform = !permission.is_of_workspace() && principal.may(permission, None);
        if !is_listed || !(on_platform || in_workspace || has_role) {
            return Err(AdminError::Forbidden);
        }
    }
    Ok(Some(wanted))
}

fn workspaces(
    editor: &mut Editor<'_, '_>,
    principal: &Principal,
    names: Option<Vec<String>>,
) -> Result<Option<Vec<Uuid>>, AdminError> {
    let Some(names) = names else {
        return Ok(principal.token.as_ref().and_then(|token| token.workspaces.clone()));
    };
    let mut ids = Vec::new();
    for name in names {
        let found = resources::find(editor.tx.db, Kind::Workspace, Place::default(), &name)?;
        let may_see = |id: Uuid| principal.may(Permission::SeeWorkspace, Some((id, None)));
        let id = found.map(|row| row.id).filter(|id| may_see(*id));
        let missing = || EditError::invalid("workspaces", "names one that is not there");
        ids.push(id.ok_or_else(missing)?);
    }
    Ok(Some(ids))
}

pub(super) fn delete(state: &AdminState, call: &Call) -> Result<Reply, AdminError> {
    state.desk.change(call, |editor| {
        let row = named(editor.tx.db, call)?;
        call.check_version(row.version)?;
        editor.tx.remove_token(row.id)?;
        record(editor, "delete", &row)?;
        Ok(Reply::empty())
    })
}

fn record(editor: &mut Editor<'_, '_>, action: &str, row: &TokenRow) -> Result<(), AdminError> {
    let event = Event {
        action,
        kind: "admin_token",
        id: row.id.to_string(),
        name: &row.name,
        after: Some(row.view()),
        ..Event::default()
    };
    Ok(editor.tx.record(editor.actor, event)?)
}
