//! Logging in and out, passwords, invitations.

use axum::http::header;
use serde_json::json;

use super::body::Body;
use super::call::{Call, Reply};
use super::desk::digest_of;
use super::principal::Permission;
use super::session::COOKIE;
use super::users::{new_password, record};
use super::{AdminError, AdminState, token};
use crate::control::edit::{EditError, Editor};
use crate::control::password;
use crate::control::store::identity::{self, UserRow, UserStatus};
use crate::secret::Secret;

/// Where a page finds the token against forged requests after a single sign-on.
pub(super) const CSRF_COOKIE: &str = "sluice_csrf";
/// Failed logins of one account or from one address in one window; more are refused unseen.
const FAILURES_MAX: i64 = 5;
const WINDOW_MICROS: i64 = 60 * 1_000_000;
const SECOND: i64 = 1_000_000;

pub(super) fn login(state: &AdminState, call: &Call) -> Result<Reply, AdminError> {
    let body = Body::of(call, &["email", "password"])?;
    let email = body.text("email")?.to_ascii_lowercase();
    let password = Secret::new(body.text("password")?.to_owned());
    let subjects =
        [format!("account {email}"), format!("address {}", call.principal.actor.source_ip)];
    let [account, _] = &subjects;
    check_throttle(state, &subjects)?;
    let user = state.desk.read(|db| Ok(identity::user_by_email(db, &email)?))?;
    let hash = user.as_ref().map_or("", |user| user.password_hash.as_str());
    // The same work for an account that is not there.
    let is_right = password::matches(&password, hash);
    let user = user.filter(|user| is_right && user.status == UserStatus::Active);
    let Some(user) = user else {
        count_failure(state, &subjects)?;
        return Err(AdminError::Unauthorized);
    };
    state.desk.change(call, |editor| {
        let mut user = unchanged(editor, &user)?;
        // The address goes on being counted: it may try other accounts in between.
        editor.tx.forget_login_failures(account)?;
        Ok(open_session(editor, &mut user, "login")?.0)
    })
}

/// Begins a session of a user, however they have shown who they are; and the token against forged
/// requests, which the answer holds too.
pub(super) fn open_session(
    editor: &mut Editor<'_, '_>,
    user: &mut UserRow,
    action: &str,
) -> Result<(Reply, Secret), AdminError> {
    let made = || token::random("", 43).map_err(|_| AdminError::Internal);
    let (session, csrf) = (made()?, made()?);
    user.last_login_at = Some(editor.tx.now);
    update(editor, user)?;
    editor.tx.insert_session(
        user.id,
        &digest_of(session.expose().as_bytes()),
        &digest_of(csrf.expose().as_bytes()),
    )?;
    record(editor, action, user, None)?;
    let cookie = format!("{COOKIE}={}; Path=/; HttpOnly; SameSite=Strict", session.expose());
    let shown = json!({ "user": user.view(), "csrf_token": csrf.expose() });
    Ok((Reply::ok(shown).with_header(header::SET_COOKIE, cookie), csrf))
}

/// The user as they are now: they may have been disabled while their password was compared, which
/// takes too long to let other changes wait for it.
fn unchanged(editor: &mut Editor<'_, '_>, then: &UserRow) -> Result<UserRow, AdminError> {
    identity::user(editor.tx.db, then.id)?
        .filter(|now| now.status == then.status && now.password_hash == then.password_hash)
        .ok_or(AdminError::Unauthorized)
}

/// A change that users make of themselves.
fn update(editor: &mut Editor<'_, '_>, user: &mut UserRow) -> Result<(), AdminError> {
    let by = user.email.clone();
    Ok(editor.tx.update_user(user, &by)?)
}

fn count_failure(state: &AdminState, subjects: &[String]) -> Result<(), AdminError> {
    let store = &state.desk.follower.store;
    store
        .write(|tx| subjects.iter().try_for_each(|it| tx.count_login_failure(it, WINDOW_MICROS)))?;
    Ok(())
}

fn check_throttle(state: &AdminState, subjects: &[String]) -> Result<(), AdminError> {
    let now = state.desk.follower.store.clock().unix_micros();
    state.desk.read(|db| {
        for subject in subjects {
            let (n, since) = identity::login_failures(db, subject)?;
            let left = since + WINDOW_MICROS - now;
            if FAILURES_MAX <= n && 0 < left {
                return Err(AdminError::TooManyLogins { retry_after_s: left / SECOND + 1 });
            }
        }
        Ok(())
    })
}

pub(super) fn logout(state: &AdminState, call: &Call) -> Result<Reply, AdminError> {
    if let Some(session) = &call.principal.session {
        state.desk.follower.store.write(|tx| tx.end_session(session))?;
    }
    let gone = format!("{COOKIE}=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0");
    Ok(Reply::empty().with_header(header::SET_COOKIE, gone))
}

pub(super) fn me(state: &AdminState, call: &Call) -> Result<Reply, AdminError> {
    let principal = &call.principal;
    let user = match principal.user {
        None => None,
        Some(id) => state.desk.read(|db| Ok(identity::user(db, id)?))?,
    };
    let memberships: Vec<_> = principal
        .memberships
        .iter()
        .map(|it| {
            json!({ "workspace_id": it.workspace, "role": it.role.name(),
                "environments": it.environments })
        })
        .collect();
    let on_platform = |it: &Permission| !it.is_of_workspace() && principal.may(*it, None);
    let permissions: Vec<&str> =
        Permission::ALL.into_iter().filter(on_platform).map(Permission::name).collect();
    Ok(Reply::ok(json!({
        "kind": principal.actor.kind,
        "user": user.map(|user| user.view()),
        "platform_role": principal.role.name(),
        "permissions": permissions,
        "memberships": memberships,
    })))
}

pub(super) fn password(state: &AdminState, call: &Call) -> Result<Reply, AdminError> {
    let body = Body::of(call, &["current", "password"])?;
    let current = Secret::new(body.text("current")?.to_owned());
    let new = new_password(body.text("password")?)?;
    let (Some(id), None) = (call.principal.user, &call.principal.token) else {
        return Err(AdminError::Forbidden);
    };
    let subjects = [format!("password of {id}")];
    check_throttle(state, &subjects)?;
    let user = state.desk.read(|db| identity::user(db, id)?.ok_or(AdminError::NotFound))?;
    if !password::matches(&current, &user.password_hash) {
        count_failure(state, &subjects)?;
        return Err(EditError::invalid("current", "is not the password").into());
    }
    if current == new {
        return Err(EditError::invalid("password", "must be another one").into());
    }
    let hash = password::hash(&new);
    state.desk.change(call, |editor| {
        let mut user = unchanged(editor, &user)?;
        user.password_hash = hash;
        user.must_change_password = false;
        update(editor, &mut user)?;
        // Whoever knew the old one is out.
        editor.tx.end_sessions(user.id, call.principal.session.as_deref())?;
        record(editor, "change_password", &user, None)?;
        Ok(Reply::empty())
    })
}

/// The invited choose their password. The token counts once.
pub(super) fn accept(state: &AdminState, call: &Call) -> Result<Reply, AdminError> {
    let body = Body::of(call, &["token", "password", "name"])?;
    let digest = digest_of(body.text("token")?.as_bytes());
    let new = new_password(body.text("password")?)?;
    let unknown = || EditError::invalid("token", "is used, too old or unknown");
    // Nobody makes us hash passwords with tokens that they guess.
    state.desk.read(|db| identity::user_by_invite(db, &digest)?.ok_or_else(|| unknown().into()))?;
    let hash = password::hash(&new);
    state.desk.change(call, |editor| {
        let found = identity::user_by_invite(editor.tx.db, &digest)?;
        let now = editor.tx.now;
        let mut user = found
            .filter(|user| user.status == UserStatus::Invited)
            .filter(|user| user.invite_expires_at.is_some_and(|end| now < end))
            .ok_or_else(unknown)?;
        user.status = UserStatus::Active;
        user.password_hash = hash;
        if let Some(name) = body.opt_text("name")? {
            name.clone_into(&mut user.name);
        }
        update(editor, &mut user)?;
        editor.tx.set_invite(user.id, None, None)?;
        record(editor, "accept_invite", &user, None)?;
        Ok(Reply::ok(user.view()))
    })
}
