//! Users: made, invited, disabled, enabled, deleted. Nobody gives what they do not have.

use serde_json::{Value as Json, json};
use uuid::Uuid;

use super::body::Body;
use super::call::{Call, Reply, list as page_of};
use super::desk::digest_of;
use super::{AdminError, AdminState, token};
use crate::clock::rfc3339;
use crate::control::edit::{EditError, Editor};
use crate::control::password;
use crate::control::store::audit::Event;
use crate::control::store::identity::{self, PlatformRole, UserRow, UserStatus, WorkspaceRole};
use crate::control::store::resources::id_or_empty;
use crate::control::store::{Db, StoreError};
use crate::secret::Secret;

const INVITE_MICROS: i64 = 7 * 86_400 * 1_000_000;

fn named(db: &mut Db, call: &Call) -> Result<UserRow, AdminError> {
    let id: Uuid = call.param("id").parse().map_err(|_| AdminError::NotFound)?;
    let user = identity::user(db, id)?.filter(|user| user.status != UserStatus::Deleted);
    user.ok_or(AdminError::NotFound)
}

pub(super) fn list(state: &AdminState, call: &Call) -> Result<Reply, AdminError> {
    let page = call.page(&[])?;
    state.desk.read(|db| {
        let users = identity::users(db, &id_or_empty(page.after), page.limit)?;
        let last = users.last().map(|user| user.id.to_string());
        let shown: Vec<Json> = users.iter().map(UserRow::view).collect();
        Ok(page_of(&shown, page.limit, last))
    })
}

pub(super) fn get(state: &AdminState, call: &Call) -> Result<Reply, AdminError> {
    state.desk.read(|db| {
        let user = named(db, call)?;
        Ok(Reply::ok(user.view()).with_version(user.version))
    })
}

/// A role that the caller may give, and a user whom the caller may change.
fn check_role(call: &Call, role: PlatformRole) -> Result<(), AdminError> {
    let is_superadmin = call.principal.role == PlatformRole::Superadmin;
    let may = match role {
        PlatformRole::Member => true,
        // Only superadmins change roles, and a token of theirs may hold less than the role.
        PlatformRole::Admin | PlatformRole::Superadmin => {
            is_superadmin && call.principal.holds_platform(role)
        }
    };
    if may { Ok(()) } else { Err(AdminError::Forbidden) }
}

pub(super) fn create(state: &AdminState, call: &Call) -> Result<Reply, AdminError> {
    let body = Body::of(call, &["email", "name", "platform_role", "password"])?;
    let email = email(body.text("email")?)?;
    let role = body.opt_word("platform_role", PlatformRole::from_name)?;
    let role = role.unwrap_or(PlatformRole::Member);
    check_role(call, role)?;
    let password = body.opt_text("password")?.map(new_password).transpose()?;
    // Before the transaction, which others wait for.
    let hash = password.as_ref().map(password::hash);
    state.desk.change(call, |editor| {
        if identity::user_by_email(editor.tx.db, &email)?.is_some() {
            return Err(EditError::NameTaken { kind: "user" }.into());
        }
        let user = UserRow {
            id: Uuid::now_v7(),
            email: email.clone(),
            name: body.opt_text("name")?.unwrap_or(&email).to_owned(),
            role,
            status: if hash.is_some() { UserStatus::Active } else { UserStatus::Invited },
            password_hash: hash.clone().unwrap_or_default(),
            // Whoever chose it for them knows it.
            must_change_password: hash.is_some(),
            invite_expires_at: None,
            last_login_at: None,
            version: 1,
            created_at: editor.tx.now,
            created_by: editor.actor.name.clone(),
        };
        editor.tx.insert_user(&user)?;
        let mut shown = user.view();
        if hash.is_none() {
            invite_to(editor, &user, &mut shown)?;
        }
        record(editor, "create", &user, None)?;
        Ok(Reply::created(shown).with_version(user.version))
    })
}

pub(super) fn patch(state: &AdminState, call: &Call) -> Result<Reply, AdminError> {
    let body = Body::of(call, &["name", "platform_role"])?;
    let role = body.opt_word("platform_role", PlatformRole::from_name)?;
    change(state, call, "update", |editor, user| {
        if let Some(role) = role.filter(|role| *role != user.role) {
            // Only superadmins change roles, and nobody their own.
            if call.principal.role != PlatformRole::Superadmin
                || call.principal.user == Some(user.id)
            {
                return Err(AdminError::Forbidden);
            }
            check_role(call, role)?;
            if user.role == PlatformRole::Superadmin {
                check_other_superadmin(editor, user)?;
            }
            user.role = role;
        }
        if let Some(name) = body.opt_text("name")? {
            name.clone_into(&mut user.name);
        }
        Ok(())
    })
}

pub(super) fn disable(state: &AdminState, call: &Call) -> Result<Reply, AdminError> {
    change(state, call, "disable", |editor, user| {
        check_other_superadmin(editor, user)?;
        user.status = UserStatus::Disabled;
        Ok(())
    })
}

pub(super) fn enable(state: &AdminState, call: &Call) -> Result<Reply, AdminError> {
    change(state, call, "enable", |_, user| {
        if user.status != UserStatus::Disabled {
            return Err(EditError::Conflict {
                code: "not_disabled",
                detail: "only a disabled user can be enabled",
            }
            .into());
        }
        let is_new = user.password_hash.is_empty();
        user.status = if is_new { UserStatus::Invited } else { UserStatus::Active };
        Ok(())
    })
}

pub(super) fn delete(state: &AdminState, call: &Call) -> Result<Reply, AdminError> {
    let deleted = change(state, call, "delete", |editor, user| {
        check_other_superadmin(editor, user)?;
        check_owns_nothing_alone(editor, user)?;
        user.status = UserStatus::Deleted;
        // The address can be used again; the row stays for what refers to it.
        user.email = format!("{} (deleted {})", user.email, user.id);
        user.password_hash.clear();
        Ok(editor.tx.forget_user(user.id)?)
    });
    deleted.map(|_| Reply::empty())
}

pub(super) fn invite(state: &AdminState, call: &Call) -> Result<Reply, AdminError> {
    state.desk.change(call, |editor| {
        let user = named(editor.tx.db, call)?;
        check_role(call, user.role)?;
        if user.status != UserStatus::Invited {
            return Err(EditError::Conflict {
                code: "not_invited",
                detail: "the user has accepted already",
            }
            .into());
        }
        let mut shown = user.view();
        invite_to(editor, &user, &mut shown)?;
        record(editor, "invite", &user, None)?;
        Ok(Reply::ok(shown))
    })
}

/// A token for one use that lets the user choose a password.
fn invite_to(
    editor: &mut Editor<'_, '_>,
    user: &UserRow,
    shown: &mut Json,
) -> Result<(), AdminError> {
    let token = token::random("inv_", 43).map_err(|_| AdminError::Internal)?;
    let expires_at = editor.tx.now + INVITE_MICROS;
    let digest = digest_of(token.expose().as_bytes());
    editor.tx.set_invite(user.id, Some(&digest), Some(expires_at))?;
    if let Json::Object(fields) = shown {
        fields.insert("invite_token".to_owned(), json!(token.expose()));
        fields.insert("invite_expires_at".to_owned(), json!(rfc3339(expires_at)));
    }
    Ok(())
}

fn change(
    state: &AdminState,
    call: &Call,
    action: &'static str,
    change: impl FnOnce(&mut Editor<'_, '_>, &mut UserRow) -> Result<(), AdminError>,
) -> Result<Reply, AdminError> {
    state.desk.change(call, |editor| {
        let mut user = named(editor.tx.db, call)?;
        call.check_version(user.version)?;
        check_role(call, user.role)?;
        let before = user.view();
        change(editor, &mut user)?;
        editor.tx.update_user(&mut user, &editor.actor.name)?;
        record(editor, action, &user, Some(before))?;
        Ok(Reply::ok(user.view()).with_version(user.version))
    })
}

/// A workspace always has an owner.
fn check_owns_nothing_alone(editor: &mut Editor<'_, '_>, user: &UserRow) -> Result<(), AdminError> {
    for member in identity::memberships(editor.tx.db, user.id)? {
        if member.role == WorkspaceRole::Owner {
            super::members::check_other_owner(editor, &member)?;
        }
    }
    Ok(())
}

pub(super) fn has_other_superadmin(
    editor: &mut Editor<'_, '_>,
    user: &UserRow,
) -> Result<bool, StoreError> {
    identity::has_other_superadmin(editor.tx.db, user.id)
}

/// Somebody must be left who can manage everything.
fn check_other_superadmin(editor: &mut Editor<'_, '_>, user: &UserRow) -> Result<(), AdminError> {
    if user.role == PlatformRole::Superadmin && !has_other_superadmin(editor, user)? {
        return Err(EditError::Conflict {
            code: "last_superadmin",
            detail: "there must be another active superadmin first",
        }
        .into());
    }
    Ok(())
}

pub(super) fn record(
    editor: &mut Editor<'_, '_>,
    action: &str,
    user: &UserRow,
    before: Option<Json>,
) -> Result<(), StoreError> {
    let event = Event {
        action,
        kind: "user",
        id: user.id.to_string(),
        name: &user.email,
        before,
        after: Some(user.view()),
        ..Event::default()
    };
    editor.tx.record(editor.actor, event)
}

pub(super) fn email(text: &str) -> Result<String, EditError> {
    let is_letter = |byte: u8| byte.is_ascii_graphic();
    let has_parts = text
        .split_once('@')
        .is_some_and(|(user, host)| !user.is_empty() && !host.is_empty() && !host.contains('@'));
    if has_parts && text.len() <= 254 && text.bytes().all(is_letter) {
        return Ok(text.to_ascii_lowercase());
    }
    Err(EditError::invalid("email", "must be an address as name@example.org"))
}

/// A password that somebody chose.
pub(super) fn new_password(text: &str) -> Result<Secret, EditError> {
    let n = text.chars().count();
    if (password::CHARS_MIN..=password::CHARS_MAX).contains(&n) {
        return Ok(Secret::new(text.to_owned()));
    }
    Err(EditError::invalid("password", "must have 12 to 512 characters"))
}
