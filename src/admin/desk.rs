//! What stands between a call and its answer: who calls, may they, was it answered before; and for
//! changes one transaction, after which requests see them.

use std::sync::Arc;

use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use ring::digest::{SHA256, digest};
use serde_json::{Map, Value as Json};
use uuid::Uuid;

use super::call::{Call, Reply};
use super::principal::{Access, Permission, Principal, Where};
use super::routes::Route;
use super::token::{self, TokenDigest};
use super::{AdminError, AdminState};
use crate::config::resources::Kind;
use crate::config::server::IpNetwork;
use crate::config::url::base_url;
use crate::control::edit::{EditError, Editor};
use crate::control::follow::Follower;
use crate::control::load::{self, LoadError};
use crate::control::seal::{Binding, hex};
use crate::control::store::identity::{self, KeptAnswer, TokenRow, UserStatus};
use crate::control::store::resources::{self, Place, ResourceRow, Status};
use crate::control::store::{Db, StoreError, Tx};
use crate::net::guard::{self, Host};

const IDEMPOTENCY_KEY: &str = "idempotency-key";
const IDEMPOTENCY_KEY_LEN_MAX: usize = 255;
/// How long an answer is kept for the same `Idempotency-Key`.
const KEPT_MICROS: i64 = 24 * 3_600 * 1_000_000;
const MINUTE_MICROS: i64 = 60 * 1_000_000;

/// The state, and how a change of it gets in force.
#[derive(Clone)]
pub struct Desk {
    pub follower: Arc<Follower>,
    /// Puts in force what the store holds.
    pub follow: Arc<dyn Fn() -> Result<(), LoadError> + Send + Sync>,
    /// The token that the process was started with.
    pub operator: Option<TokenDigest>,
    /// Networks that connections may reach although they are not public.
    pub allow_networks: Arc<[IpNetwork]>,
}

/// A call before anybody knows who makes it.
pub(super) struct Incoming {
    pub route: &'static Route,
    pub path: String,
    pub params: Vec<(String, String)>,
    pub query: Vec<(String, String)>,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub source_ip: String,
}

/// Checks a call and answers it.
pub(super) fn answer(state: &AdminState, incoming: Incoming) -> Result<Reply, AdminError> {
    let route = incoming.route;
    let principal = if route.needs == Permission::Open {
        anonymous(&incoming.source_ip)
    } else {
        let mut principal = state.desk.authenticate(&incoming.headers, route.is_write())?;
        principal.actor.source_ip.clone_from(&incoming.source_ip);
        principal
    };
    let mut call = Call {
        route,
        path: incoming.path,
        params: incoming.params.into_iter().collect(),
        query: unique(incoming.query)?,
        headers: incoming.headers,
        body: incoming.body,
        principal,
        workspace: None,
        environment: None,
    };
    state.desk.authorise(&mut call)?;
    let answering = route.call.ok_or(AdminError::NotFound)?;
    answering(state, &call)
}

fn anonymous(source_ip: &str) -> Principal {
    let mut principal = Principal::operator();
    principal.role = identity::PlatformRole::Member;
    principal.actor.kind = "anonymous";
    "anonymous".clone_into(&mut principal.actor.name);
    source_ip.clone_into(&mut principal.actor.source_ip);
    principal
}

/// Whoever has a one-time password changes it before they do anything else.
pub(super) fn check_password_is_own(
    principal: &Principal,
    route: &Route,
) -> Result<(), AdminError> {
    let is_open = ["change_password", "get_me", "logout"].contains(&route.operation.as_str());
    if principal.must_change_password && !is_open {
        return Err(AdminError::PasswordChangeNeeded);
    }
    Ok(())
}

/// A parameter that stands twice could be read in two ways.
fn unique(
    pairs: Vec<(String, String)>,
) -> Result<std::collections::BTreeMap<String, String>, AdminError> {
    let n = pairs.len();
    let map: std::collections::BTreeMap<_, _> = pairs.into_iter().collect();
    if map.len() == n {
        return Ok(map);
    }
    Err(AdminError::InvalidQuery("a query parameter stands twice"))
}

/// The SHA-256 by which tokens, sessions and invitations are looked up.
pub(super) fn digest_of(secret: &[u8]) -> Vec<u8> {
    digest(&SHA256, secret).as_ref().to_vec()
}

impl Desk {
    pub fn read<T>(
        &self,
        read: impl FnOnce(&mut Db) -> Result<T, AdminError>,
    ) -> Result<T, AdminError> {
        self.follower.store.read(read)
    }

    fn now(&self) -> i64 {
        self.follower.store.clock().unix_micros()
    }

    /// Who sends these headers.
    pub fn authenticate(
        &self,
        headers: &HeaderMap,
        is_write: bool,
    ) -> Result<Principal, AdminError> {
        let given = headers.get(http::header::AUTHORIZATION);
        if let Some(given) = given {
            let token = token::bearer(given.as_bytes()).ok_or(AdminError::Unauthorized)?;
            return self.by_token(token);
        }
        super::session::authenticate(self, headers, is_write)
    }

    fn by_token(&self, token: &[u8]) -> Result<Principal, AdminError> {
        if self.operator.as_ref().is_some_and(|operator| operator.matches(token)) {
            return Ok(Principal::operator());
        }
        let now = self.now();
        let principal = self.read(|db| {
            let found = identity::token_by_digest(db, &digest_of(token))?;
            let token = found
                .filter(|token| token.expires_at.is_none_or(|end| now < end))
                .ok_or(AdminError::Unauthorized)?;
            let principal = principal_of(db, token.user)?.ok_or(AdminError::Unauthorized)?;
            Ok(principal.with_token(token))
        })?;
        if let Some(token) = &principal.token {
            self.note_use(token, now);
        }
        Ok(principal)
    }

    /// To the minute: a token that is used all the time costs one write in each.
    fn note_use(&self, token: &TokenRow, now: i64) {
        let minute = now - now % MINUTE_MICROS;
        if token.last_used_at.is_some_and(|at| minute <= at) {
            return;
        }
        // A store that takes no writes still lets its readers read.
        if let Err(error) = self.follower.store.write(|tx| tx.set_token_used(token.id, minute)) {
            tracing::debug!(%error, "when a token was last used is not written down");
        }
    }

    /// Finds what the path names, and whether the caller may do this there. Whoever is outside gets
    /// the same answer as for what does not exist.
    fn authorise(&self, call: &mut Call) -> Result<(), AdminError> {
        check_password_is_own(&call.principal, call.route)?;
        let Some(workspace) = call.params.get("workspace") else {
            return granted(call.principal.access(call.route.needs, None));
        };
        let environment = call.params.get("environment");
        let (workspace, environment) = self.read(|db| named(db, workspace, environment))?;
        let at: Where = (workspace.id, environment.as_ref().map(|row| row.id));
        granted(call.principal.access(call.route.needs, Some(at)))?;
        // Someone narrowed to environments learns of no other.
        let may_end = ["recover_workspace", "delete_workspace", "archive_workspace"];
        if workspace.status == Status::Archived
            && call.route.is_write()
            && !may_end.contains(&call.route.operation.as_str())
        {
            return Err(ARCHIVED.into());
        }
        call.workspace = Some(workspace);
        call.environment = environment;
        Ok(())
    }

    /// Makes a change, unless the same call was answered before; requests see it afterwards.
    pub fn change(
        &self,
        call: &Call,
        change: impl FnOnce(&mut Editor<'_, '_>) -> Result<Reply, AdminError>,
    ) -> Result<Reply, AdminError> {
        // Whoever has not said who they are must not get the answer of somebody else.
        let takes_key = call.route.method == "POST" && call.route.needs != Permission::Open;
        let key = call.header(IDEMPOTENCY_KEY).filter(|_| takes_key);
        if key.is_some_and(|key| key.is_empty() || IDEMPOTENCY_KEY_LEN_MAX < key.len()) {
            return Err(AdminError::BadBody(
                "Idempotency-Key must have 1 to 255 characters".to_owned(),
            ));
        }
        let reply = self.follower.store.write(|tx| {
            if let Some(key) = key
                && let Some(reply) = self.kept(tx, call, key)?
            {
                return Ok(reply);
            }
            check_place(tx, call)?;
            let mut editor = Editor::new(tx, &self.follower.vault, &call.principal.actor);
            let reply = change(&mut editor)?;
            if call.route.kind.is_some_and(|kind| kind != Kind::Key) {
                self.check_whole(tx)?;
            }
            if let Some(key) = key {
                self.keep(tx, call, (key, &reply))?;
            }
            Ok::<_, AdminError>(reply)
        })?;
        (self.follow)().map_err(|error| {
            tracing::error!(%error, "a change is stored but not in force");
            AdminError::Internal
        })?;
        Ok(reply)
    }

    /// An address that a body gives must be one that may be reached. Names are looked at whenever they
    /// are used; that an address is refused can be said at once.
    pub(super) fn check_address(
        &self,
        row: &ResourceRow,
        body: &Map<String, Json>,
    ) -> Result<(), EditError> {
        if row.kind != Kind::Connection || !body.contains_key("base_url") {
            return Ok(());
        }
        let given = row.spec.get("base_url").and_then(Json::as_str);
        let Some(url) = given.and_then(|text| base_url(text).ok()) else { return Ok(()) };
        match guard::parse_host(&url.host) {
            Host::Ip(ip) if !guard::is_allowed(ip, &self.allow_networks) => {
                let text = "leads into a network that connections may not reach; \
                            `upstream.allow_networks` can allow it";
                Err(EditError::invalid("base_url", text))
            }
            _ => Ok(()),
        }
    }

    /// A change that each part allows may still not fit the whole.
    fn check_whole(&self, tx: &mut Tx<'_>) -> Result<(), AdminError> {
        match load::load(tx.db, &self.follower.vault) {
            Ok(_) => Ok(()),
            Err(LoadError::Problems(problems)) => Err(EditError::Invalid(problems.0).into()),
            Err(LoadError::Store(error)) => Err(error.into()),
            Err(error @ LoadError::Sealed { .. }) => {
                tracing::error!(%error, "the stored resources cannot be read");
                Err(AdminError::Internal)
            }
        }
    }

    fn kept(&self, tx: &mut Tx<'_>, call: &Call, key: &str) -> Result<Option<Reply>, AdminError> {
        let actor = actor_key(call);
        let since = tx.now - KEPT_MICROS;
        let Some(kept) = tx.kept_answer(&actor, key, since)? else { return Ok(None) };
        let text = self
            .follower
            .vault
            .open(binding(&actor, key), &kept.sealed)
            .map_err(|_| AdminError::Internal)?;
        let (call_then, answer) = text.expose().split_once('\n').ok_or(AdminError::Internal)?;
        if call_then != fingerprint(call) {
            return Err(AdminError::IdempotencyKeyReused);
        }
        let body: Json = serde_json::from_str(answer).map_err(|_| AdminError::Internal)?;
        let status = u16::try_from(kept.status).ok().and_then(|it| StatusCode::from_u16(it).ok());
        Ok(Some(Reply {
            status: status.unwrap_or(StatusCode::OK),
            body: Some(body).filter(|body| !body.is_null()),
            headers: vec![(
                http::HeaderName::from_static("idempotency-replayed"),
                "true".to_owned(),
            )],
        }))
    }

    fn keep(
        &self,
        tx: &mut Tx<'_>,
        call: &Call,
        (key, reply): (&str, &Reply),
    ) -> Result<(), StoreError> {
        let actor = actor_key(call);
        let answer = reply.body.as_ref().map_or_else(|| "null".to_owned(), Json::to_string);
        // The fingerprint is sealed too: a body may hold a password, and passwords can be guessed.
        let text = format!("{}\n{answer}", fingerprint(call));
        let answer = KeptAnswer {
            status: reply.status.as_u16().into(),
            sealed: self.follower.vault.seal(binding(&actor, key), &text),
        };
        tx.keep_answer((&actor, key), &answer)
    }
}

const ARCHIVED: EditError = EditError::Conflict {
    code: "workspace_archived",
    detail: "the workspace is archived; recover it first",
};

/// What the path names may have gone since the caller was let in.
fn check_place(tx: &mut Tx<'_>, call: &Call) -> Result<(), AdminError> {
    for row in [&call.workspace, &call.environment].into_iter().flatten() {
        if resources::by_id(tx.db, row.id)?.is_none() {
            return Err(AdminError::NotFound);
        }
    }
    Ok(())
}

fn granted(access: Access) -> Result<(), AdminError> {
    match access {
        Access::Granted => Ok(()),
        Access::Forbidden => Err(AdminError::Forbidden),
        Access::Hidden => Err(AdminError::NotFound),
    }
}

/// The workspace and the environment of a path, by slug or id.
fn named(
    db: &mut Db,
    workspace: &str,
    environment: Option<&String>,
) -> Result<(ResourceRow, Option<ResourceRow>), AdminError> {
    let found = resources::find(db, Kind::Workspace, Place::default(), workspace)?;
    let workspace = found.ok_or(AdminError::NotFound)?;
    let Some(environment) = environment else { return Ok((workspace, None)) };
    let place = Place::in_workspace(workspace.id);
    let found = resources::find(db, Kind::Environment, place, environment)?;
    Ok((workspace, Some(found.ok_or(AdminError::NotFound)?)))
}

/// A user who may log in, with their places.
pub(super) fn principal_of(db: &mut Db, user: Uuid) -> Result<Option<Principal>, StoreError> {
    let Some(user) = identity::user(db, user)? else { return Ok(None) };
    if user.status != UserStatus::Active {
        return Ok(None);
    }
    let memberships = identity::memberships(db, user.id)?;
    Ok(Some(Principal::of_user(&user, memberships)))
}

fn actor_key(call: &Call) -> String {
    format!("{}:{}", call.principal.actor.kind, call.principal.actor.id)
}

/// What makes a call the same call.
fn fingerprint(call: &Call) -> String {
    let text = [call.route.method.as_str().as_bytes(), call.path.as_bytes(), &call.body].join(&0);
    hex(digest(&SHA256, &text).as_ref())
}

fn binding<'a>(actor: &'a str, key: &'a str) -> Binding<'a> {
    Binding { table: "idempotency_keys", workspace: actor, row: key, column: "sealed" }
}
