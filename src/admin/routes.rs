//! Every route of the admin API, and what each needs: one table, from which the router, the check of
//! permissions and the OpenAPI document are made.

use std::sync::OnceLock;
use std::time::Duration;

use axum::http::Method;

use super::call::{Call, Reply};
use super::principal::Permission;
use super::{
    AdminError, AdminState, audit, auth, connections, documents, members, oidc, openapi, resources,
    rules, state, tokens, users, workspaces,
};
use crate::config::resources::Kind;

/// What stands before the paths of the table.
pub const PREFIX: &str = "/api/v1";
const ENVIRONMENT: &str = "/workspaces/{workspace}/environments/{environment}";
const BODY_BYTES_MAX: usize = 1 << 20;
/// Documents may hold a million keys.
const DOCUMENT_BYTES_MAX: usize = 1 << 29;
const TIME_MAX: Duration = Duration::from_secs(10);
const DOCUMENT_TIME_MAX: Duration = Duration::from_mins(30);

/// What answers a call. It may wait for the store.
pub type Answering = fn(&AdminState, &Call) -> Result<Reply, AdminError>;

/// One method of one path.
#[derive(Debug)]
pub struct Route {
    pub method: Method,
    /// After the prefix, with its parameters in braces.
    pub path: String,
    pub needs: Permission,
    /// As the OpenAPI document calls it.
    pub operation: String,
    pub summary: String,
    /// The resources it is about.
    pub kind: Option<Kind>,
    /// Names of schemas.
    pub body: Option<&'static str>,
    pub answer: Option<&'static str>,
    /// Content types of the answer.
    pub media: &'static [&'static str],
    pub query: &'static [&'static str],
    pub body_bytes_max: usize,
    pub time_max: Duration,
    /// `None` for a route that another part serves.
    pub call: Option<Answering>,
}

impl Route {
    fn new(method: Method, path: &str, needs: Permission, operation: &str) -> Self {
        Self {
            method,
            path: path.to_owned(),
            needs,
            operation: operation.to_owned(),
            summary: operation.replace('_', " "),
            kind: None,
            body: None,
            answer: None,
            media: &["application/json"],
            query: &[],
            body_bytes_max: BODY_BYTES_MAX,
            time_max: TIME_MAX,
            call: None,
        }
    }

    fn by(mut self, call: Answering) -> Self {
        self.call = Some(call);
        self
    }

    fn says(mut self, summary: &str) -> Self {
        summary.clone_into(&mut self.summary);
        self
    }

    fn takes(mut self, body: &'static str) -> Self {
        self.body = Some(body);
        self
    }

    fn answers(mut self, answer: &'static str) -> Self {
        self.answer = Some(answer);
        self
    }

    fn in_media(mut self, media: &'static [&'static str]) -> Self {
        self.media = media;
        self
    }

    fn with_query(mut self, query: &'static [&'static str]) -> Self {
        self.query = query;
        self
    }

    fn of(mut self, kind: Kind) -> Self {
        self.kind = Some(kind);
        self
    }

    fn with_document(mut self) -> Self {
        self.body_bytes_max = DOCUMENT_BYTES_MAX;
        self.time_max = DOCUMENT_TIME_MAX;
        self
    }

    /// The whole path.
    pub fn full_path(&self) -> String {
        format!("{PREFIX}{}", self.path)
    }

    pub fn is_write(&self) -> bool {
        self.method != Method::GET
    }
}

fn get(path: &str, needs: Permission, operation: &str) -> Route {
    Route::new(Method::GET, path, needs, operation)
}

fn post(path: &str, needs: Permission, operation: &str) -> Route {
    Route::new(Method::POST, path, needs, operation)
}

/// The table.
pub fn routes() -> &'static [Route] {
    static ROUTES: OnceLock<Vec<Route>> = OnceLock::new();
    ROUTES.get_or_init(|| {
        let mut routes = of_workspaces();
        for kind in [Kind::Connection, Kind::Model] {
            routes.extend(of_kind(kind, "", "global_"));
        }
        for kind in Kind::Environment.children() {
            routes.extend(of_kind(*kind, ENVIRONMENT, ""));
        }
        routes.extend(of_connections("", "global_", Permission::ManageGlobal));
        routes.extend(of_connections(ENVIRONMENT, "", Permission::ManageWorkspace));
        routes.extend(of_keys());
        routes.extend(of_rules());
        routes.extend(of_state());
        routes.extend(of_users());
        routes.extend(of_auth());
        routes
    })
}

/// The route that a request matched.
pub fn find(method: &Method, matched: &str) -> Option<&'static Route> {
    let path = matched.strip_prefix(PREFIX)?;
    routes().iter().find(|route| route.method == *method && route.path == path)
}

/// What narrows usage rows; `metadata.KEY` comes besides.
macro_rules! rows {
    ($($more:literal)?) => {
        &[
            $($more,)?
            "limit",
            "cursor",
            "from",
            "to",
            "request_id",
            "workspace",
            "environment",
            "key",
            "deployment",
            "model",
            "provider",
            "connection",
            "target",
            "status",
            "outcome",
            "error_class",
            "dialect",
            "end_user",
            "source_ip",
        ]
    };
}
const ROWS: &[&str] = rows!();
const ROWS_EXPORT: &[&str] = rows!("format");
const PAGE: &[&str] = &["limit", "cursor"];

/// List, create, read, change, replace, delete.
fn crud(kind: Kind, list: &str, prefix: &str, needs: [Permission; 2]) -> Vec<Route> {
    let [read, write] = needs;
    let one = match kind {
        Kind::Workspace => format!("{list}/{{workspace}}"),
        Kind::Environment => format!("{list}/{{environment}}"),
        _ => format!("{list}/{{id}}"),
    };
    let name = kind.name();
    let (schema, schemas) = schemas(kind);
    let op = |verb: &str| format!("{verb}_{prefix}{name}");
    let of = |route: Route| route.of(kind);
    vec![
        of(get(list, read, &format!("list_{prefix}{}", kind.list_name())))
            .by(resources::list)
            .with_query(PAGE)
            .answers(schemas),
        of(post(list, write, &op("create"))).by(resources::create).takes(schema).answers(schema),
        of(get(&one, read, &op("get"))).by(resources::get).answers(schema),
        of(Route::new(Method::PATCH, &one, write, &op("update")))
            .by(resources::patch)
            .says("merge patch (RFC 7396): fields that are null go back to their defaults")
            .takes(schema)
            .answers(schema),
        of(Route::new(Method::PUT, &one, write, &op("replace")))
            .by(resources::put)
            .takes(schema)
            .answers(schema),
        of(Route::new(Method::DELETE, &one, write, &op("delete"))).by(resources::delete),
    ]
}

const fn schemas(kind: Kind) -> (&'static str, &'static str) {
    match kind {
        Kind::Workspace => ("Workspace", "WorkspaceList"),
        Kind::Environment => ("Environment", "EnvironmentList"),
        Kind::Connection => ("Connection", "ConnectionList"),
        Kind::Model => ("Model", "ModelList"),
        Kind::ModelGrant => ("ModelGrant", "ModelGrantList"),
        Kind::Deployment => ("Deployment", "DeploymentList"),
        Kind::Key => ("Key", "KeyList"),
    }
}

fn of_workspaces() -> Vec<Route> {
    use Permission::{CreateWorkspace, ManageWorkspace, OwnWorkspace, ReadWorkspace, SeeWorkspace};
    let mut routes = crud(Kind::Workspace, "/workspaces", "", [SeeWorkspace, ManageWorkspace]);
    for route in &mut routes {
        match (route.method.as_str(), route.path.as_str()) {
            ("GET", "/workspaces") => {
                route.needs = Permission::SignedIn;
                route.call = Some(workspaces::list);
                route.query = &["limit", "cursor", "status"];
            }
            ("POST", _) => {
                route.needs = CreateWorkspace;
                route.call = Some(workspaces::create);
            }
            ("DELETE", _) => {
                route.needs = OwnWorkspace;
                route.call = Some(workspaces::delete);
            }
            _ => {}
        }
    }
    let one = "/workspaces/{workspace}";
    let act = |name: &str| {
        post(&format!("{one}/{name}"), OwnWorkspace, &format!("{name}_workspace"))
            .of(Kind::Workspace)
            .answers("Workspace")
    };
    routes.push(act("archive").by(workspaces::archive));
    routes.push(act("recover").by(workspaces::recover));
    let environments = format!("{one}/environments");
    routes.extend(crud(Kind::Environment, &environments, "", [SeeWorkspace, ManageWorkspace]));
    routes.push(
        get(&format!("{one}/export"), ReadWorkspace, "export_workspace")
            .by(documents::export_workspace)
            .answers("Document"),
    );
    routes.push(
        post("/workspaces/import", CreateWorkspace, "import_workspaces")
            .by(documents::import)
            .with_query(&["dry_run"])
            .takes("Document")
            .answers("Plan")
            .with_document(),
    );
    routes
}

fn of_kind(kind: Kind, below: &str, prefix: &str) -> Vec<Route> {
    use Permission::{ManageGlobal, ManageWorkspace, ReadGlobal, ReadWorkspace};
    let list = format!("{below}/{}", kind.list_name().replace('_', "-"));
    let needs = match (prefix.is_empty(), kind) {
        (true, _) => [ReadWorkspace, ManageWorkspace],
        // Whoever may grant a global model must find it.
        (false, Kind::Model) => [ReadGlobal, ManageGlobal],
        (false, _) => [ManageGlobal, ManageGlobal],
    };
    crud(kind, &list, prefix, needs)
}

/// Both use the credential, so they need what it takes to set it.
fn of_connections(below: &str, prefix: &str, needs: Permission) -> [Route; 2] {
    let one = format!("{below}/connections/{{id}}");
    [
        post(&format!("{one}/test"), needs, &format!("test_{prefix}connection"))
            .says("asks the provider for its models, or for a few tokens of `model`")
            .of(Kind::Connection)
            .by(connections::test)
            .takes("ConnectionTest")
            .answers("ConnectionVerdict"),
        get(&format!("{one}/models"), needs, &format!("list_{prefix}connection_models"))
            .says("the models that the provider offers")
            .of(Kind::Connection)
            .by(connections::models)
            .answers("UpstreamModelList"),
    ]
}

fn of_keys() -> Vec<Route> {
    use Permission::{ManageWorkspace, ReadWorkspace};
    let key = format!("{ENVIRONMENT}/keys/{{id}}");
    let usage = [Kind::Key, Kind::Deployment, Kind::Model, Kind::Connection].map(|kind| {
        let path = format!("{ENVIRONMENT}/{}/{{id}}/usage", kind.list_name());
        get(&path, ReadWorkspace, &format!("get_{}_usage", kind.name()))
            .says("live counters against each limit")
            .of(kind)
            .by(state::limit_usage)
            .answers("LimitUsage")
    });
    let mut routes = usage.into_iter().collect::<Vec<_>>();
    routes.extend([
        post(&format!("{key}/rotate"), ManageWorkspace, "rotate_key")
            .says("answers a new secret; the old one goes on for `grace_s` seconds")
            .of(Kind::Key)
            .by(resources::rotate)
            .takes("Rotation")
            .answers("Key"),
        post(&format!("{key}/revoke"), ManageWorkspace, "revoke_key")
            .says("ends the key for ever")
            .of(Kind::Key)
            .by(resources::revoke)
            .answers("Key"),
        get(
            &format!("{ENVIRONMENT}/deployments/{{id}}/health"),
            ReadWorkspace,
            "get_deployment_health",
        )
        .by(state::deployment_health)
        .answers("DeploymentHealth"),
    ]);
    routes
}

fn of_rules() -> Vec<Route> {
    let test = |path: &str, kind, operation: &str| {
        post(&format!("{path}/rules/test"), Permission::ReadWorkspace, operation)
            .says("which rule would take a request, and why; `rules` in place of the saved ones")
            .of(kind)
            .by(rules::test)
            .takes("RulesTrial")
            .answers("RulesVerdict")
    };
    let purge = |path: &str, kind, operation: &str| {
        post(&format!("{path}/cache/purge"), Permission::ManageWorkspace, operation)
            .says("drops the answers that this node keeps")
            .of(kind)
            .by(state::purge_cache)
            .answers("Purge")
    };
    let deployment = format!("{ENVIRONMENT}/deployments/{{id}}");
    vec![
        purge(ENVIRONMENT, Kind::Environment, "purge_environment_cache"),
        purge(&deployment, Kind::Deployment, "purge_deployment_cache"),
        test(ENVIRONMENT, Kind::Environment, "test_environment_rules"),
        test(&deployment, Kind::Deployment, "test_deployment_rules"),
    ]
}

fn of_users() -> Vec<Route> {
    use Permission::{ManageMembers, ManageUsers, ReadWorkspace, SignedIn};
    let user = "/users/{id}";
    let act = |name: &str| {
        post(&format!("{user}/{name}"), ManageUsers, &format!("{name}_user")).answers("User")
    };
    let delete =
        |path: &str, needs, operation: &str| Route::new(Method::DELETE, path, needs, operation);
    let members = "/workspaces/{workspace}/members";
    let member = "/workspaces/{workspace}/members/{user}";
    let token = "/admin-tokens/{id}";
    vec![
        get("/users", ManageUsers, "list_users")
            .by(users::list)
            .with_query(PAGE)
            .answers("UserList"),
        post("/users", ManageUsers, "create_user").by(users::create).takes("User").answers("User"),
        get(user, ManageUsers, "get_user").by(users::get).answers("User"),
        Route::new(Method::PATCH, user, ManageUsers, "update_user")
            .by(users::patch)
            .takes("User")
            .answers("User"),
        delete(user, ManageUsers, "delete_user").by(users::delete),
        act("invite").by(users::invite),
        act("disable").by(users::disable),
        act("enable").by(users::enable),
        get(members, ReadWorkspace, "list_members").by(members::list).answers("MemberList"),
        get(member, ReadWorkspace, "get_member").by(members::get).answers("Member"),
        Route::new(Method::PUT, member, ManageMembers, "put_member")
            .by(members::put)
            .takes("Member")
            .answers("Member"),
        delete(member, ManageMembers, "delete_member").by(members::delete),
        get("/admin-tokens", SignedIn, "list_admin_tokens")
            .by(tokens::list)
            .with_query(PAGE)
            .answers("AdminTokenList"),
        post("/admin-tokens", SignedIn, "create_admin_token")
            .by(tokens::create)
            .takes("AdminToken")
            .answers("AdminToken"),
        get(token, SignedIn, "get_admin_token").by(tokens::get).answers("AdminToken"),
        delete(token, SignedIn, "delete_admin_token").by(tokens::delete),
    ]
}

fn of_auth() -> Vec<Route> {
    use Permission::{Open, SignedIn};
    vec![
        post("/auth/login", Open, "login").by(auth::login).takes("Login").answers("Session"),
        post("/auth/logout", SignedIn, "logout").by(auth::logout),
        post("/auth/password", SignedIn, "change_password")
            .by(auth::password)
            .takes("PasswordChange"),
        post("/auth/accept-invite", Open, "accept_invite")
            .by(auth::accept)
            .takes("Acceptance")
            .answers("User"),
        get("/auth/oidc/login", Open, "begin_sign_on")
            .says("sends a browser to the identity provider")
            .by(oidc::login),
        get("/auth/oidc/callback", Open, "finish_sign_on")
            .says("where the identity provider sends a browser back")
            .by(oidc::callback)
            .with_query(&["code", "state", "error", "iss"])
            .answers("Session"),
        get("/openapi.json", Open, "get_openapi")
            .says("this document")
            .by(openapi::document)
            .answers("Any"),
        get("/auth/me", SignedIn, "get_me").by(auth::me).answers("Me"),
    ]
}

fn of_state() -> Vec<Route> {
    use Permission::{ExportAudit, ManageState, Open, ReadAudit, ReadUsage, SignedIn};
    vec![
        post("/apply", ManageState, "apply_document")
            .says("makes the state what the document says, all or nothing")
            .by(documents::apply)
            .with_query(&["dry_run"])
            .takes("Document")
            .answers("Plan")
            .with_document(),
        get("/export", ManageState, "export_state")
            .by(documents::export)
            .with_query(&["workspace"])
            .answers("Document")
            .with_document(),
        get("/session/active", SignedIn, "get_active").by(state::active).answers("Active"),
        Route::new(Method::PUT, "/session/active", ManageState, "set_active")
            .by(state::set_active)
            .takes("Active")
            .answers("Active"),
        get("/audit-events", ReadAudit, "list_audit_events")
            .by(audit::list)
            .with_query(audit::QUERY)
            .answers("AuditEventList"),
        get("/audit-events/export", ExportAudit, "export_audit_events")
            .by(audit::export)
            .answers("AuditEventList")
            .with_document(),
        get("/audit-events/verify", ReadAudit, "verify_audit_events")
            .says("goes along the chain of hashes")
            .by(audit::verify)
            .answers("Verdict")
            .with_document(),
        get("/requests", ReadUsage, "list_requests").with_query(ROWS).answers("RequestList"),
        get("/requests/export", ReadUsage, "export_requests")
            .with_query(ROWS_EXPORT)
            .in_media(&["application/x-ndjson", "text/csv"])
            .answers("Request"),
        get("/requests/{request_id}", ReadUsage, "get_request").answers("Request"),
        get("/workspaces/{workspace}/usage/live", ReadUsage, "watch_usage")
            .says("requests as they finish")
            .in_media(&["text/event-stream"])
            .answers("Request"),
        post("/usage/query", ReadUsage, "query_usage").takes("UsageQuery").answers("UsageAnswer"),
        get("/prices", SignedIn, "list_prices").by(state::prices).answers("PriceList"),
        get("/providers", SignedIn, "list_providers").by(state::providers).answers("ProviderList"),
        get("/version", Open, "get_version").by(state::version).answers("Version"),
    ]
}
