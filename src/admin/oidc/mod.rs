//! Single sign-on: OpenID Connect with the authorization code flow, PKCE, state and nonce.
//!
//! ```text
//! login      sends the browser to the provider; what it must bring back is sealed in a cookie
//! callback   code -> ID token -> claims -> user, made or found -> a session as after a password
//! provider   what the provider says of itself, and its keys
//! token      whether an ID token counts
//! ```

mod provider;
mod token;

use axum::http::{HeaderMap, StatusCode, header};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use ring::digest::{SHA256, digest};
use serde_json::{Map, Value as Json, json};
use uuid::Uuid;

pub use self::provider::{Fetch, SignOn};
use self::token::{Expected, TokenError, verify};
use super::auth::{CSRF_COOKIE, open_session};
use super::call::{Call, Reply};
use super::token as random_token;
use super::users::{email, has_other_superadmin, record};
use super::{AdminError, AdminState};
use crate::config::server::OidcConfig;
use crate::control::edit::Editor;
use crate::control::seal::Binding;
use crate::control::store::identity::{self, PlatformRole, UserRow, UserStatus};
use crate::percent::encoded;

const COOKIE: &str = "sluice_sign_on";
const COOKIE_PATH: &str = "/api/v1/auth/oidc";
/// How long somebody may take at the provider.
const LOGIN_S_MAX: i64 = 600;
/// Where a browser goes when it has its session.
const AFTER: &str = "0; url=/";
const MICROS: i64 = 1_000_000;
const NAME_CHARS_MAX: usize = 200;

/// What a login must bring back.
#[derive(Debug)]
struct Begun {
    state: String,
    nonce: String,
    verifier: String,
}

/// Who somebody is, as the provider says.
#[derive(Debug, PartialEq, Eq)]
struct Person {
    subject: String,
    email: String,
    is_email_verified: bool,
    name: String,
    role: Option<PlatformRole>,
}

fn binding() -> Binding<'static> {
    Binding { table: "sign_on", workspace: "", row: "login", column: "cookie" }
}

fn sign_on(state: &AdminState) -> Result<&SignOn, AdminError> {
    state.sign_on.as_deref().ok_or(AdminError::NotFound)
}

fn now_s(state: &AdminState) -> i64 {
    state.desk.follower.store.clock().unix_micros() / MICROS
}

/// Sends the browser to the provider.
pub(super) fn login(state: &AdminState, call: &Call) -> Result<Reply, AdminError> {
    call.known_query(&[])?;
    let sign_on = sign_on(state)?;
    let known = sign_on.known()?;
    let random = || random_token::random("", 43).map_err(|_| AdminError::Internal);
    let [state_text, nonce, verifier] = [random()?, random()?, random()?];
    let begun = json!([state_text.expose(), nonce.expose(), verifier.expose(), now_s(state)]);
    let sealed = state.desk.follower.vault.seal(binding(), &begun.to_string());
    let challenge = BASE64.encode(digest(&SHA256, verifier.expose().as_bytes()));
    let OidcConfig { client_id, redirect_url, scopes, .. } = &sign_on.config;
    let query = form(&[
        ("response_type", "code"),
        ("client_id", client_id),
        ("redirect_uri", redirect_url),
        ("scope", &scopes.join(" ")),
        ("state", state_text.expose()),
        ("nonce", nonce.expose()),
        ("code_challenge", &challenge),
        ("code_challenge_method", "S256"),
    ]);
    let between = if known.authorization_endpoint.contains('?') { '&' } else { '?' };
    let location = format!("{}{between}{query}", known.authorization_endpoint);
    let cookie = cookie(sign_on, &BASE64.encode(sealed), LOGIN_S_MAX);
    let reply = Reply { status: StatusCode::FOUND, body: None, headers: Vec::new() };
    Ok(reply.with_header(header::LOCATION, location).with_header(header::SET_COOKIE, cookie))
}

/// `Lax`, because the browser comes back from another site.
fn cookie(sign_on: &SignOn, value: &str, age_s: i64) -> String {
    let is_tls = sign_on.config.redirect_url.starts_with("https:");
    let secure = if is_tls { "; Secure" } else { "" };
    format!("{COOKIE}={value}; Path={COOKIE_PATH}; HttpOnly; SameSite=Lax; Max-Age={age_s}{secure}")
}

/// Lets somebody in who comes back from the provider.
pub(super) fn callback(state: &AdminState, call: &Call) -> Result<Reply, AdminError> {
    let sign_on = sign_on(state)?;
    let begun = begun(state, &call.headers)?;
    let given = |name: &str| call.query.get(name).map(String::as_str);
    if given("state") != Some(&begun.state) {
        return Err(AdminError::SignOn("this is not the login that began here"));
    }
    if given("error").is_some() {
        return Err(AdminError::SignOn("the provider did not let you in"));
    }
    // A provider that says who it is must be the one (RFC 9207).
    if given("iss").is_some_and(|issuer| issuer != sign_on.config.issuer) {
        return Err(AdminError::SignOn("the answer is of another provider"));
    }
    let code = given("code").ok_or(AdminError::SignOn("the provider sent no code"))?;
    let id_token = sign_on.exchange(code, &begun.verifier)?;
    let claims = claims(state, sign_on, &id_token, &begun.nonce)?;
    let person = person(&sign_on.config, &claims)?;
    state.desk.change(call, |editor| {
        let mut user = user_of(editor, &sign_on.config, &person)?;
        let (reply, csrf) = open_session(editor, &mut user, "sign_on")?;
        let csrf = format!("{CSRF_COOKIE}={}; Path=/; SameSite=Strict", csrf.expose());
        Ok(reply
            .with_header(header::SET_COOKIE, csrf)
            .with_header(header::SET_COOKIE, cookie(sign_on, "", 0))
            .with_header(header::REFRESH, AFTER.to_owned()))
    })
}

/// What the login began with, from its cookie.
fn begun(state: &AdminState, headers: &HeaderMap) -> Result<Begun, AdminError> {
    const LOST: AdminError =
        AdminError::SignOn("this login has ended, or did not begin in this browser");
    let sealed = super::session::cookie_of(headers, COOKIE).ok_or(LOST)?;
    let sealed = BASE64.decode(sealed).map_err(|_| LOST)?;
    let text = state.desk.follower.vault.open(binding(), &sealed).map_err(|_| LOST)?;
    let begun: (String, String, String, i64) =
        serde_json::from_str(text.expose()).map_err(|_| LOST)?;
    let (state_text, nonce, verifier, at) = begun;
    let age_s = now_s(state) - at;
    if !(0..LOGIN_S_MAX).contains(&age_s) {
        return Err(LOST);
    }
    Ok(Begun { state: state_text, nonce, verifier })
}

/// The claims of a token that counts. A provider may have new keys.
fn claims(
    state: &AdminState,
    sign_on: &SignOn,
    id_token: &str,
    nonce: &str,
) -> Result<Map<String, Json>, AdminError> {
    let expected = Expected {
        issuer: &sign_on.config.issuer,
        client_id: &sign_on.config.client_id,
        nonce,
        now_s: now_s(state),
    };
    let mut verified = verify(id_token, &sign_on.known()?.keys, &expected);
    if verified == Err(TokenError::UnknownKey) {
        verified = verify(id_token, &sign_on.known_anew()?.keys, &expected);
    }
    verified.map_err(|error| {
        tracing::warn!(%error, "single sign-on refused");
        AdminError::SignOn("the provider's ID token does not count; the log says why")
    })
}

fn person(config: &OidcConfig, claims: &Map<String, Json>) -> Result<Person, AdminError> {
    let text = |name: &str| claims.get(name).and_then(Json::as_str);
    let address =
        text("email").ok_or(AdminError::SignOn("the provider gives no e-mail address"))?;
    let address =
        email(address).map_err(|_| AdminError::SignOn("the provider's e-mail address is none"))?;
    let is_verified = claims.get("email_verified").is_some_and(|it| *it == true || *it == "true");
    let name = text("name").unwrap_or(&address);
    Ok(Person {
        subject: text("sub").unwrap_or_default().to_owned(),
        name: name.chars().filter(|c| !c.is_control()).take(NAME_CHARS_MAX).collect(),
        email: address,
        is_email_verified: is_verified || config.trust_email,
        role: role(config, claims)?,
    })
}

/// The role that the claim gives; `None` where no values are configured, and roles are given here.
fn role(
    config: &OidcConfig,
    claims: &Map<String, Json>,
) -> Result<Option<PlatformRole>, AdminError> {
    let values = values(claims, &config.role_claim);
    let has = |wanted: &[String]| wanted.iter().any(|it| values.contains(&it.as_str()));
    let by_claim = if has(&config.superadmins) {
        Some(PlatformRole::Superadmin)
    } else if has(&config.admins) {
        Some(PlatformRole::Admin)
    } else if has(&config.members) {
        Some(PlatformRole::Member)
    } else {
        None
    };
    if by_claim.is_none() && !config.lets_others_in {
        return Err(AdminError::SignOn("you have none of the roles that are let in"));
    }
    let maps_roles = !config.superadmins.is_empty() || !config.admins.is_empty();
    Ok(by_claim.or_else(|| maps_roles.then_some(PlatformRole::Member)).filter(|_| maps_roles))
}

/// The values of a claim, which may stand deeper: `realm_access.roles`.
fn values<'a>(claims: &'a Map<String, Json>, name: &str) -> Vec<&'a str> {
    let mut found = claims.get(name);
    if found.is_none() {
        let mut parts = name.split('.');
        let first = parts.next().and_then(|part| claims.get(part));
        found = parts.fold(first, |at, part| at.and_then(|at| at.get(part)));
    }
    match found {
        Some(Json::String(one)) => vec![one],
        Some(Json::Array(all)) => all.iter().filter_map(Json::as_str).collect(),
        _ => Vec::new(),
    }
}

/// The user whom the provider names: known by its subject, else by a verified address, else new.
fn user_of(
    editor: &mut Editor<'_, '_>,
    config: &OidcConfig,
    person: &Person,
) -> Result<UserRow, AdminError> {
    let db = &mut *editor.tx.db;
    let found = match identity::user_by_subject(db, &config.issuer, &person.subject)? {
        Some(user) => Some(user),
        None => identity::user_by_email(db, &person.email)?,
    };
    let Some(mut user) = found else { return made(editor, config, person) };
    let is_known =
        identity::user_by_subject(editor.tx.db, &config.issuer, &person.subject)?.is_some();
    if !is_known {
        if !person.is_email_verified {
            return Err(AdminError::SignOn("the provider has not verified your e-mail address"));
        }
        editor.tx.link_subject(&config.issuer, &person.subject, user.id)?;
    }
    match user.status {
        UserStatus::Active => {}
        UserStatus::Invited => user.status = UserStatus::Active,
        UserStatus::Disabled | UserStatus::Deleted => return Err(AdminError::Unauthorized),
    }
    set_role(editor, &mut user, person.role)?;
    Ok(user)
}

/// The role that the provider gives, but for the last superadmin.
fn set_role(
    editor: &mut Editor<'_, '_>,
    user: &mut UserRow,
    role: Option<PlatformRole>,
) -> Result<(), AdminError> {
    let Some(role) = role.filter(|role| *role != user.role) else { return Ok(()) };
    if user.role == PlatformRole::Superadmin && !has_other_superadmin(editor, user)? {
        tracing::warn!("single sign-on leaves its role to the last superadmin");
        return Ok(());
    }
    let before = user.view();
    user.role = role;
    Ok(record(editor, "update", user, Some(before))?)
}

fn made(
    editor: &mut Editor<'_, '_>,
    config: &OidcConfig,
    person: &Person,
) -> Result<UserRow, AdminError> {
    // Whoever says an address that is not theirs must not be found by it later.
    if !person.is_email_verified {
        return Err(AdminError::SignOn("the provider has not verified your e-mail address"));
    }
    let user = UserRow {
        id: Uuid::now_v7(),
        email: person.email.clone(),
        name: person.name.clone(),
        role: person.role.unwrap_or(PlatformRole::Member),
        status: UserStatus::Active,
        password_hash: String::new(),
        must_change_password: false,
        invite_expires_at: None,
        last_login_at: None,
        version: 1,
        created_at: editor.tx.now,
        created_by: "single sign-on".to_owned(),
    };
    editor.tx.insert_user(&user)?;
    editor.tx.link_subject(&config.issuer, &person.subject, user.id)?;
    record(editor, "create", &user, None)?;
    Ok(user)
}

/// `application/x-www-form-urlencoded`.
fn form(pairs: &[(&str, &str)]) -> String {
    let pair = |(name, value): &(&str, &str)| format!("{name}={}", encoded(value, ""));
    pairs.iter().map(pair).collect::<Vec<_>>().join("&")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::server::ServerConfig;

    fn config(rest: &str) -> OidcConfig {
        let text = format!(
            "[oidc]\nissuer = 'https://id.example'\nclient_id = 'c'\nclient_secret = 's'\n\
             redirect_url = 'https://s.example/api/v1/auth/oidc/callback'\n{rest}"
        );
        ServerConfig::parse("sluice.toml", &text, std::iter::empty()).unwrap().oidc.unwrap()
    }

    fn claims(rest: Json) -> Map<String, Json> {
        let mut claims = json!({ "sub": "1", "email": "Ada@Example.org", "name": "Ada\u{7}" });
        let (Json::Object(claims), Json::Object(rest)) = (&mut claims, rest) else { panic!() };
        claims.extend(rest);
        claims.clone()
    }

    #[test]
    fn claim_gives_the_role() {
        use PlatformRole::{Admin, Member, Superadmin};
        let mapped = "superadmins = ['root']\nadmins = ['ops', 'sre']\nmembers = ['dev']\n";
        let closed = format!("{mapped}default_role = 'none'\n");
        let deep = format!("{mapped}role_claim = 'realm_access.roles'\n");
        for (config_text, given, expected) in [
            ("", json!({ "groups": ["root"] }), Some(None)),
            (mapped, json!({ "groups": ["dev", "root", "ops"] }), Some(Some(Superadmin))),
            (mapped, json!({ "groups": ["x", "sre"] }), Some(Some(Admin))),
            (mapped, json!({ "groups": "ops" }), Some(Some(Admin))),
            (mapped, json!({ "groups": ["dev"] }), Some(Some(Member))),
            (mapped, json!({ "groups": ["Root"] }), Some(Some(Member))),
            (mapped, json!({}), Some(Some(Member))),
            (&closed, json!({ "groups": ["dev"] }), Some(Some(Member))),
            (&closed, json!({ "groups": [7, null, { "root": 1 }] }), None),
            (&closed, json!({}), None),
            ("members = ['dev']\ndefault_role = 'none'\n", json!({ "groups": "dev" }), Some(None)),
            (&deep, json!({ "realm_access": { "roles": ["ops"] } }), Some(Some(Admin))),
            (&deep, json!({ "realm_access.roles": ["root"] }), Some(Some(Superadmin))),
            (&deep, json!({ "realm_access": "root" }), Some(Some(Member))),
        ] {
            let role = role(&config(config_text), &claims(given.clone()));
            assert_eq!(role.ok(), expected, "{config_text} {given}");
        }
    }

    #[test]
    fn person_needs_an_address_and_keeps_a_clean_name() {
        let of = |given| person(&config(""), &claims(given));
        let ada = of(json!({})).unwrap();
        assert_eq!((&*ada.email, &*ada.name), ("ada@example.org", "Ada"));
        assert!(!ada.is_email_verified);
        assert!(of(json!({ "email_verified": true })).unwrap().is_email_verified);
        assert!(of(json!({ "email_verified": "true" })).unwrap().is_email_verified);
        assert!(!of(json!({ "email_verified": "no" })).unwrap().is_email_verified);
        for address in [json!(null), json!(7), json!("none"), json!("a b@c")] {
            assert!(of(json!({ "email": address })).is_err(), "{address}");
        }
        let trusting = config("trust_email = true\n");
        assert!(person(&trusting, &claims(json!({}))).unwrap().is_email_verified);
    }

    #[test]
    fn forms_are_encoded() {
        assert_eq!(form(&[("a", "b c&d=é"), ("e", "~._-")]), "a=b%20c%26d%3D%C3%A9&e=~._-");
    }
}
