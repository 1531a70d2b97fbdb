//! Sessions of browsers: a cookie that scripts cannot read, and a token against forged requests.

use axum::http::{HeaderMap, header};

use super::AdminError;
use super::desk::{Desk, digest_of, principal_of};
use super::principal::Principal;
use crate::control::store::identity::{self, SESSION_MICROS_MAX, SessionRow};

pub(super) const COOKIE: &str = "sluice_session";
pub(super) const CSRF_HEADER: &str = "x-csrf-token";
const MINUTE: i64 = 60 * 1_000_000;
const IDLE_MAX: i64 = 30 * MINUTE;

/// Who a session's cookie belongs to. What changes something needs the CSRF token besides.
pub(super) fn authenticate(
    desk: &Desk,
    headers: &HeaderMap,
    is_write: bool,
) -> Result<Principal, AdminError> {
    let cookie = cookie_of(headers, COOKIE).ok_or(AdminError::Unauthorized)?;
    let digest = digest_of(cookie.as_bytes());
    let now = desk.follower.store.clock().unix_micros();
    let (mut principal, session) = desk.read(|db| {
        let session = identity::session(db, &digest)?
            .filter(|session| is_alive(session, now))
            .ok_or(AdminError::Unauthorized)?;
        let principal = principal_of(db, session.user)?.ok_or(AdminError::Unauthorized)?;
        Ok((principal, session))
    })?;
    if is_write {
        check_csrf(headers, &session)?;
    }
    // Kept to the minute, so that reading does not write each time.
    if MINUTE < now - session.seen_at {
        desk.follower.store.write(|tx| tx.touch_session(&digest))?;
    }
    principal.session = Some(digest);
    Ok(principal)
}

fn is_alive(session: &SessionRow, now: i64) -> bool {
    now - session.seen_at < IDLE_MAX && now - session.created_at < SESSION_MICROS_MAX
}

fn check_csrf(headers: &HeaderMap, session: &SessionRow) -> Result<(), AdminError> {
    let token = headers.get(CSRF_HEADER).map(|value| digest_of(value.as_bytes()));
    if token.as_ref() != Some(&session.csrf_digest) {
        return Err(AdminError::Csrf);
    }
    let text = |name| headers.get(name).and_then(|value: &http::HeaderValue| value.to_str().ok());
    let Some(origin) = text(header::ORIGIN) else { return Ok(()) };
    let host = origin.split_once("://").map(|(_, host)| host);
    if host == text(header::HOST) { Ok(()) } else { Err(AdminError::Csrf) }
}

pub(super) fn cookie_of<'a>(headers: &'a HeaderMap, wanted: &str) -> Option<&'a str> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(name, _)| *name == wanted)
        .map(|(_, value)| value)
}
