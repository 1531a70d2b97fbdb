//! A gateway on free ports of its own, for one test.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use loadtest::mock::{Behaviour, Mock};
use serde_json::Value;
use sluice::app::{App, Surroundings};
use sluice::clock::Clock;
use sluice::config::server::{IpNetwork, ServerConfig, StateUrl, UsageUrl};
use sluice::key;
use sluice::secret::Secret;
use sluice::usage::store::Reader;
use tempfile::TempDir;

use crate::client::{Answer, Client, request, within};
use crate::postgres_server::Postgres;

pub(crate) const ADMIN_TOKEN: &str = "at_0123456789abcdefghijklmnopqrstuvwxyzABCDEFG";

/// A running gateway. End each test with [`TestGateway::stop`], which settles the account.
pub(crate) struct TestGateway {
    app: Option<Box<App>>,
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) dir: TempDir,
    /// The virtual key that may do everything in `acme/production`.
    pub(crate) key: String,
    /// Its state store, if the tests run on PostgreSQL.
    _postgres: Option<Postgres>,
    /// Requests that must leave a row.
    expected: AtomicU64,
}

/// A gateway that is about to be started.
pub(crate) struct Builder {
    resources: String,
    key: String,
    config: ServerConfig,
    dir: TempDir,
    env: Vec<(String, String)>,
    clock: Clock,
}

/// One target of a deployment, as [`deployment`] writes it.
pub(crate) struct TargetSpec<'a> {
    pub(crate) mock: &'a Mock,
    /// The name of the model at the mock, with its script after a `?`.
    pub(crate) upstream_model: &'a str,
    /// More fields of the target, as `weight = 2, tier = 1`.
    pub(crate) fields: &'a str,
}

/// A target that behaves as `script` says.
pub(crate) fn target<'a>(mock: &'a Mock, upstream_model: &'a str) -> TargetSpec<'a> {
    TargetSpec { mock, upstream_model, fields: "" }
}

/// An address at which nobody listens.
pub(crate) fn closed() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// A document with one environment, `acme/production`, and in it the deployment `chat` over
/// `targets`, tried in their order, with `fields` in the deployment's table; each target's model can
/// also be called directly as `m0`, `m1`, …; the key may do everything.
pub(crate) fn deployment(targets: &[TargetSpec<'_>], fields: &str) -> String {
    let urls: Vec<String> = targets.iter().map(|target| target.mock.base_url()).collect();
    let parts: Vec<(&str, &str, &str)> = targets
        .iter()
        .zip(&urls)
        .map(|(target, url)| (url.as_str(), target.upstream_model, target.fields))
        .collect();
    document(&parts, fields)
}

/// As [`deployment`], from (base URL, upstream model, fields of the target).
pub(crate) fn document(targets: &[(&str, &str, &str)], fields: &str) -> String {
    let mut text = String::from(
        "[[workspaces]]\nslug = \"acme\"\n[[workspaces.environments]]\nslug = \"production\"\n",
    );
    let mut list = Vec::new();
    for (n, (url, upstream_model, target)) in targets.iter().enumerate() {
        text += &format!(
            "[[workspaces.environments.connections]]\nname = \"c{n}\"\nprovider = \"simulated\"\n\
             base_url = \"{url}\"\ncredential = \"sk-provider-credential-{n}\"\n\
             [[workspaces.environments.models]]\nalias = \"m{n}\"\nconnection = \"c{n}\"\n\
             upstream_model = \"{upstream_model}\"\nprice = {{ input = \"1\", output = \"2\" }}\n"
        );
        let rest = if target.is_empty() { String::new() } else { format!(", {target}") };
        let tier = if target.contains("tier") || target.contains("weight") {
            String::new()
        } else {
            format!(", tier = {n}")
        };
        list.push(format!("{{ model = \"m{n}\"{tier}{rest} }}"));
    }
    text += &format!(
        "[[workspaces.environments.deployments]]\nname = \"chat\"\ntargets = [{}]\n{fields}\n\
         [[workspaces.environments.keys]]\nname = \"app\"\nsecret = \"${{KEY}}\"\n\
         scopes = {{ endpoints = \"all\", models = \"all\", deployments = \"all\", pin = true, \
         ad_hoc = true }}\n",
        list.join(", ")
    );
    text
}

impl Builder {
    /// For a document in TOML; `${KEY}` in it is the key of the harness.
    pub(crate) fn new(resources: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let mut config = ServerConfig::default();
        config.data.listen = vec![any];
        config.data.threads = 2;
        config.admin.listen = any;
        config.state.url = StateUrl::Sqlite(dir.path().join("state.db"));
        config.state.copy_file = dir.path().join("state.copy");
        config.secrets.master_key_file = dir.path().join("master.key");
        config.usage.url = UsageUrl::Sqlite(dir.path().join("usage.db"));
        config.limits.file = dir.path().join("limits");
        config.usage.spool_dir = dir.path().join("spool");
        config.usage.segment_bytes = 1 << 20;
        config.usage.batch_age_max = Duration::from_millis(100);
        config.upstream.allow_networks =
            vec![IpNetwork { address: "127.0.0.0".parse().unwrap(), prefix_len: 8 }];
        config.drain.delay = Duration::ZERO;
        config.resources = Some(dir.path().join("resources.toml"));
        let key = key::generate().expose().to_owned();
        let env = vec![("KEY".to_owned(), key.clone())];
        let clock = Clock::default();
        Self { resources: resources.to_owned(), key, config, dir, env, clock }
    }

    /// Changes the configuration of the process.
    pub(crate) fn with(mut self, change: impl FnOnce(&mut ServerConfig)) -> Self {
        change(&mut self.config);
        self
    }

    /// What `${name}` means in the document.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The wall clock of the gateway; a clone of it can be set later.
    pub(crate) fn clock(mut self, clock: &Clock) -> Self {
        self.clock = clock.clone();
        self
    }

    pub(crate) async fn start(self) -> TestGateway {
        self.try_start().await.unwrap_or_else(|error| panic!("{error}"))
    }

    /// The gateway, or why it does not start.
    pub(crate) async fn try_start(self) -> Result<TestGateway, String> {
        let Self { resources, key, mut config, dir, env, clock } = self;
        let own = dir.path().join("state.db");
        let is_own = matches!(&config.state.url, StateUrl::Sqlite(path) if *path == own);
        let postgres = (is_own && is_on_postgres()).then(Postgres::start);
        if let Some(postgres) = &postgres {
            config.state.url = postgres.url();
        }
        std::fs::write(dir.path().join("resources.toml"), resources).unwrap();
        let around = Surroundings {
            admin_token: Some(Secret::new(ADMIN_TOKEN.to_owned())),
            env: Some(Arc::new(move |name| {
                env.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
            })),
            clock,
            ..Surroundings::default()
        };
        // The gateway has runtimes of its own and starts like a process does.
        let app = tokio::task::spawn_blocking(move || App::start(config, around));
        let app = within(app).await.unwrap().map_err(|error| error.to_string())?;
        Ok(TestGateway {
            address: app.listening.data[0],
            admin: app.listening.admin,
            app: Some(Box::new(app)),
            dir,
            key,
            _postgres: postgres,
            expected: AtomicU64::new(0),
        })
    }
}

/// Whether the state of gateways is in PostgreSQL: `tests/run` runs the tests of the admin API once
/// more in this way.
pub(crate) fn is_on_postgres() -> bool {
    std::env::var_os("SLUICE_TEST_POSTGRES").is_some()
}

impl TestGateway {
    /// Starts a gateway whose deployment `chat` tries `targets` in this order.
    pub(crate) async fn start(targets: &[TargetSpec<'_>]) -> Self {
        Builder::new(&deployment(targets, "")).start().await
    }

    /// A gateway before one healthy mock.
    pub(crate) async fn with_mock() -> (Self, Mock) {
        let mock = Mock::start().await.unwrap();
        (Self::start(&[target(&mock, "sim")]).await, mock)
    }

    pub(crate) fn app(&self) -> &App {
        self.app.as_ref().unwrap()
    }

    /// Counts requests that must leave a row and that the harness does not see.
    pub(crate) fn expect_rows(&self, n: u64) {
        self.expected.fetch_add(n, Ordering::Relaxed);
    }

    pub(crate) fn authorization(&self) -> String {
        format!("Bearer {}", self.key)
    }

    /// The request for `body` at `path` with the harness's key. Leaves a row.
    pub(crate) fn request(&self, path: &str, body: &str) -> Vec<u8> {
        self.expect_rows(1);
        let authorization = self.authorization();
        let headers =
            [("authorization", authorization.as_str()), ("content-type", "application/json")];
        request("POST", path, &headers, body.as_bytes())
    }

    /// Posts `body` on a connection of its own. Leaves a row.
    pub(crate) async fn post(&self, path: &str, body: &str) -> Answer {
        let request = self.request(path, body);
        self.client().await.call(&request).await
    }

    /// A chat with the deployment `chat`, `fields` added to its body. Leaves a row.
    pub(crate) async fn chat(&self, fields: &str) -> Answer {
        self.post("/v1/chat/completions", &chat_body(fields)).await
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect(self.address).await
    }

    /// Rewrites the document and reloads.
    pub(crate) fn reload(&self, resources: &str) -> Result<(), sluice::app::StartError> {
        std::fs::write(self.dir.path().join("resources.toml"), resources).unwrap();
        self.app().reload(None)
    }

    /// All rows, oldest first, once everything so far is written.
    pub(crate) async fn rows(&self) -> Vec<Value> {
        within(self.app().usage().flush()).await;
        let reader = Reader::open(&self.dir.path().join("usage.db")).unwrap();
        let mut rows = reader.rows(100_000).unwrap();
        rows.reverse();
        rows
    }

    /// The only row there is.
    pub(crate) async fn row(&self) -> Value {
        let mut rows = self.rows().await;
        assert_eq!(rows.len(), 1, "{rows:#?}");
        rows.remove(0)
    }

    /// A page of the admin listener.
    pub(crate) async fn admin_get(&self, path: &str) -> Answer {
        let authorization = format!("Bearer {ADMIN_TOKEN}");
        let request = request("GET", path, &[("authorization", &authorization)], b"");
        Client::connect(self.admin).await.call(&request).await
    }

    /// A call of the admin API, below `/api/v1`, with the token of the harness.
    pub(crate) async fn admin(&self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        self.admin_as(ADMIN_TOKEN, (method, path, body), &[]).await
    }

    /// As [`Self::admin`], with another token and more headers.
    pub(crate) async fn admin_as(
        &self,
        token: &str,
        (method, path, body): (&str, &str, Option<&Value>),
        more: &[(&str, &str)],
    ) -> Answer {
        let authorization = format!("Bearer {token}");
        let mut headers =
            vec![("authorization", authorization.as_str()), ("content-type", "application/json")];
        headers.extend(more);
        let body = body.map(ToString::to_string).unwrap_or_default();
        let path = format!("/api/v1{path}");
        let request = request(method, &path, &headers, body.as_bytes());
        Client::connect(self.admin).await.call(&request).await
    }

    /// The value of a metric, as `sluice_panics_total`, summed over the labels that `text` leaves open.
    pub(crate) fn metric(&self, text: &str) -> f64 {
        let (name, labels) = text.split_once('{').unwrap_or((text, ""));
        let labels: Vec<&str> =
            labels.trim_end_matches('}').split(',').filter(|label| !label.is_empty()).collect();
        self.app()
            .metrics()
            .render()
            .lines()
            .filter(|line| line.split(['{', ' ']).next() == Some(name))
            .filter(|line| labels.iter().all(|label| line.contains(label)))
            .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
            .sum()
    }

    /// Waits until nothing is in flight.
    pub(crate) async fn idle(&self) {
        within(self.app().idle()).await;
    }

    /// Ends the gateway, and checks the account: one row for each request, none lost, nothing in
    /// flight, no panic.
    pub(crate) async fn stop(self) {
        let panics = self.metric("sluice_panics_total");
        assert_eq!(panics, 0.0, "a request panicked");
        Box::pin(self.stop_after_panics()).await;
    }

    /// Ends the gateway without a look at its rows: they are not in a file of the harness.
    pub(crate) async fn end(mut self) {
        self.idle().await;
        let app = self.app.take().unwrap();
        assert_eq!(within(Box::pin(app.stop())).await.cut, 0);
    }

    pub(crate) async fn stop_after_panics(mut self) {
        self.idle().await;
        let rows = self.rows().await;
        let expected = self.expected.load(Ordering::Relaxed);
        assert_eq!(rows.len() as u64, expected, "rows and requests: {rows:#?}");
        let [accepted, inserted, dropped, lost] = self.app().usage().totals().rows();
        assert_eq!((accepted, dropped, lost), (inserted, 0, 0));
        let app = self.app.take().unwrap();
        let drained = within(Box::pin(app.stop())).await;
        assert_eq!(drained.cut, 0);
    }
}

/// A body for the deployment `chat`.
pub(crate) fn chat_body(fields: &str) -> String {
    let fields = if fields.is_empty() { String::new() } else { format!(",{fields}") };
    format!(r#"{{"model":"chat","messages":[{{"role":"user","content":"hello there"}}]{fields}}}"#)
}

/// A behaviour from its text, as `status=503&retry_after=2`.
pub(crate) fn behaviour(text: &str) -> Behaviour {
    text.parse().unwrap()
}
