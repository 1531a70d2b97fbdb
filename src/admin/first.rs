//! The first superadmin: made at the first start, with secrets that are shown once.

use uuid::Uuid;

use super::token::{self, AdminToken, TokenError};
use crate::control::password;
use crate::control::store::audit::{Actor, Event};
use crate::control::store::identity::{self, PlatformRole, TokenRow, UserRow, UserStatus};
use crate::control::store::{StoreError, Tx};
use crate::secret::Secret;

const EMAIL: &str = "admin@localhost";
const PASSWORD_CHARS: usize = 24;

/// What the first start made, to be shown once.
#[derive(Debug)]
pub struct Made {
    pub email: String,
    pub password: Secret,
    pub token: Secret,
}

/// What the operator gives instead.
#[derive(Debug, Default)]
pub struct Given {
    pub password: Option<Secret>,
    pub token: Option<Secret>,
}

/// The one-time password that the operator gives.
pub fn check_password(password: &Secret) -> bool {
    let n = password.expose().chars().count();
    (password::CHARS_MIN..=password::CHARS_MAX).contains(&n)
}

/// Makes the first superadmin if nobody was ever made.
pub fn ensure(tx: &mut Tx<'_>, given: &Given, actor: &Actor) -> Result<Option<Made>, StoreError> {
    if identity::has_users(tx.db)? {
        return Ok(None);
    }
    let made = secrets(given)?;
    let user = UserRow {
        id: Uuid::now_v7(),
        email: EMAIL.to_owned(),
        name: "Administrator".to_owned(),
        role: PlatformRole::Superadmin,
        status: UserStatus::Active,
        password_hash: password::hash(&made.password),
        must_change_password: true,
        invite_expires_at: None,
        last_login_at: None,
        version: 1,
        created_at: tx.now,
        created_by: actor.name.clone(),
    };
    tx.insert_user(&user)?;
    record(tx, actor, "create", &user)?;
    // A token that the operator gives counts for as long as they give it.
    if given.token.is_none() {
        add_token(tx, &user, &made.token, actor)?;
    }
    Ok(Some(made))
}

/// A new one-time password and a new token for the first superadmin, who is let in again.
pub fn reset(tx: &mut Tx<'_>, actor: &Actor) -> Result<Made, StoreError> {
    let Some(mut user) = first(tx)? else {
        let made = ensure(tx, &Given::default(), actor)?;
        return made.ok_or_else(|| StoreError::Corrupt("there is no superadmin".to_owned()));
    };
    let made = Made { email: user.email.clone(), ..secrets(&Given::default())? };
    user.password_hash = password::hash(&made.password);
    user.must_change_password = true;
    user.status = UserStatus::Active;
    tx.update_user(&mut user, &actor.name)?;
    tx.end_sessions(user.id, None)?;
    add_token(tx, &user, &made.token, actor)?;
    record(tx, actor, "reset", &user)?;
    Ok(made)
}

fn first(tx: &mut Tx<'_>) -> Result<Option<UserRow>, StoreError> {
    let users = identity::users(tx.db, "", i64::MAX)?;
    Ok(users.into_iter().find(|user| user.role == PlatformRole::Superadmin))
}

fn secrets(given: &Given) -> Result<Made, StoreError> {
    let no_randomness = |error: TokenError| StoreError::MasterKey(error.to_string());
    let token = match AdminToken::new(given.token.clone()).map_err(no_randomness)? {
        AdminToken::Given(token) | AdminToken::Made(token) => token,
    };
    let password = match &given.password {
        Some(password) => password.clone(),
        None => token::random("", PASSWORD_CHARS).map_err(no_randomness)?,
    };
    Ok(Made { email: EMAIL.to_owned(), password, token })
}

fn add_token(
    tx: &mut Tx<'_>,
    user: &UserRow,
    token: &Secret,
    actor: &Actor,
) -> Result<(), StoreError> {
    let row = TokenRow {
        id: Uuid::now_v7(),
        user: user.id,
        name: "first start".to_owned(),
        hint: token::hint(token),
        permissions: None,
        workspaces: None,
        expires_at: None,
        last_used_at: None,
        version: 1,
        created_at: tx.now,
        created_by: actor.name.clone(),
    };
    tx.insert_token(&row, &super::desk::digest_of(token.expose().as_bytes()))
}

fn record(tx: &mut Tx<'_>, actor: &Actor, action: &str, user: &UserRow) -> Result<(), StoreError> {
    let event = Event {
        action,
        kind: "user",
        id: user.id.to_string(),
        name: &user.email,
        after: Some(user.view()),
        ..Event::default()
    };
    tx.record(actor, event)
}
