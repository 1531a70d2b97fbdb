//! The declarative document: workspaces and everything in them, checked.
//!
//! References between resources are by name and have been checked to exist.

use std::collections::BTreeMap;
use std::time::Duration;

use super::document::{self, Node};
use super::fields::{Fields, Report};
use super::interpolate::interpolate;
use super::problem::{Problem, Problems};
use crate::dialect::{Dialects, Endpoint};
use crate::limit::Limit;
use crate::price::Price;
use crate::provider::Provider;
use crate::rule::Rule;
use crate::secret::Secret;

mod additions;
mod cache;
pub use cache::CacheConfig;
mod connection;
mod deployment;
pub use deployment::DEFAULT_HEARTBEAT;
mod limit;
mod model;
mod names;
mod one;
pub use one::{Kind, Known, One, read_one};
mod rules;
pub use rules::read_rules;
mod unenforced;
mod virtual_key;
mod workspace;

/// What an env var holds.
pub type Env<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// A document without problems, and what its author should hear.
#[derive(Clone)]
pub struct Checked {
    pub resources: Resources,
    pub warnings: Vec<Problem>,
    /// The document itself, with the env vars in their places.
    pub tree: Node,
}

impl std::fmt::Debug for Checked {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { resources, warnings, tree: _ } = self; // The tree holds secrets.
        out.debug_struct("Checked")
            .field("resources", resources)
            .field("warnings", warnings)
            .finish()
    }
}

/// A whole document.
#[derive(Debug, Clone, Default)]
pub struct Resources {
    /// Global connections and models, managed by the platform.
    pub connections: Vec<Connection>,
    pub models: Vec<Model>,
    pub workspaces: Vec<Workspace>,
}

#[derive(Debug, Clone)]
pub struct Workspace {
    pub slug: String,
    pub name: String,
    pub description: String,
    pub is_archived: bool,
    pub limits: Vec<Limit>,
    pub settings: WorkspaceSettings,
    pub environments: Vec<Environment>,
}

/// What a workspace decides for everything in it.
#[derive(Debug, Clone, Default)]
pub struct WorkspaceSettings {
    /// How long its usage rows are kept; `None` leaves it to the process.
    pub retention_days: Option<u16>,
    pub payload_logging: PayloadLogging,
    /// Come first in the system prompts of all requests.
    pub instructions: Option<String>,
    /// Of all deployments that say nothing themselves.
    pub cache: Option<CacheConfig>,
}

/// What is kept of the bodies of requests and answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PayloadLogging {
    #[default]
    Off,
    /// Their types and sizes.
    Metadata,
    /// Their texts as well.
    Full,
}

#[derive(Debug, Clone)]
pub struct Environment {
    pub slug: String,
    pub name: String,
    /// Follow those of the workspace.
    pub instructions: Option<String>,
    /// For requests to `auto`, and to the deployments that say so.
    pub rules: Vec<Rule>,
    pub limits: Vec<Limit>,
    pub connections: Vec<Connection>,
    pub models: Vec<Model>,
    /// Aliases of global models that this environment may use.
    pub model_grants: Vec<ModelGrant>,
    pub deployments: Vec<Deployment>,
    pub keys: Vec<VirtualKey>,
}

#[derive(Debug, Clone)]
pub struct ModelGrant {
    pub model: String,
    pub limits: Vec<Limit>,
    pub enabled: bool,
}

#[derive(Debug, Clone)]
pub struct Connection {
    pub name: String,
    pub provider: Provider,
    /// Checked: http or https, a host, no user, no query, no slash at the end. `None` is the
    /// provider's own, and for `simulated` the built-in provider.
    pub base_url: Option<BaseUrl>,
    pub credential: Option<Secret>,
    pub auth: Auth,
    /// Of Azure's older paths, which name the deployment: `/deployments/NAME/…?api-version=…`.
    pub api_version: Option<String>,
    /// Of Amazon, for its signatures.
    pub region: Option<String>,
    /// What this connection speaks: the provider's own dialects and those listed on top.
    pub dialects: Dialects,
    pub health_check: Option<HealthCheck>,
    pub limits: Vec<Limit>,
    pub enabled: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseUrl {
    pub is_tls: bool,
    /// Without brackets for an IPv6 address.
    pub host: String,
    pub port: u16,
    /// What stands before `/chat/completions`: empty, or `/v1`.
    pub path: String,
}

impl BaseUrl {
    /// Host and port as a `host` header has them.
    pub fn authority(&self) -> String {
        let Self { host, port, is_tls, path: _ } = self;
        let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        match (is_tls, port) {
            (true, 443) | (false, 80) => host,
            _ => format!("{host}:{port}"),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Auth {
    ApiKey,
    Passthrough,
    None,
}

/// An active check of a self-hosted upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthCheck {
    /// `None` checks that a TCP connection can be made.
    pub path: Option<String>,
    pub interval: Duration,
    pub timeout: Duration,
    pub unhealthy_after: usize,
    pub healthy_after: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModelKind {
    Chat,
    Embedding,
    Image,
    Audio,
    Rerank,
    Moderation,
}

#[derive(Debug, Clone)]
pub struct Model {
    pub alias: String,
    pub connection: String,
    pub upstream_model: String,
    pub kind: ModelKind,
    pub capabilities: Vec<String>,
    pub context_window: Option<u64>,
    pub output_tokens_max: Option<u64>,
    /// The user's own price; without it the catalogue's counts.
    pub price: Option<Price>,
    pub limits: Vec<Limit>,
    pub enabled: bool,
}

#[derive(Debug, Clone)]
pub struct Deployment {
    pub name: String,
    pub strategy: Strategy,
    pub targets: Vec<Target>,
    pub timeouts: Timeouts,
    pub failover: Failover,
    pub breaker: BreakerConfig,
    pub on_disconnect: OnDisconnect,
    /// Silence on a stream after which a comment is sent; `None` switches it off.
    pub heartbeat: Option<Duration>,
    pub default_params: Params,
    pub override_params: Params,
    /// Follow those of the environment; the client's own come after them.
    pub instructions: Option<String>,
    /// What stands here is taken in place of what the workspace says.
    pub cache: Option<CacheConfig>,
    pub rules: Vec<Rule>,
    /// The rules of the environment come before its own.
    pub environment_rules: bool,
    pub limits: Vec<Limit>,
    pub enabled: bool,
}

/// Top-level members of request bodies, with their values as JSON.
pub type Params = Vec<(String, String)>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Strategy {
    WeightedRoundRobin,
    LeastLatency,
    LeastBusy,
    Cheapest,
    Hash(HashOn),
}

/// What the `hash` strategy keeps together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HashOn {
    EndUser,
    Session,
    Metadata(String),
}

#[derive(Debug, Clone)]
pub struct Target {
    /// The model's alias, unique among the targets of a deployment unless named.
    pub name: String,
    pub model: String,
    pub weight: u32,
    pub tier: u16,
    pub enabled: bool,
    /// The deployment's, with what the target sets for itself on top.
    pub timeouts: Timeouts,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    pub connect: Duration,
    pub headers: Duration,
    pub first_token: Duration,
    pub idle: Duration,
    pub total: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failover {
    pub max_attempts: u8,
    pub retries: u8,
    pub on: FailoverOn,
}

/// The failures after which the next target is tried.
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own in the document")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailoverOn {
    pub connect: bool,
    pub timeout: bool,
    pub reset: bool,
    pub early_error: bool,
    /// Sorted.
    pub statuses: Vec<u16>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BreakerConfig {
    pub consecutive_failures: u32,
    /// Between 0 and 1.
    pub error_rate: f64,
    /// The first cooldown; each further one is twice as long, up to 300 s.
    pub cooldown: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnDisconnect {
    Cancel,
    Drain,
}

#[derive(Debug, Clone)]
pub struct VirtualKey {
    pub name: String,
    /// A full `vk_…` secret, checked; without it the key cannot be used until one is made.
    pub secret: Option<Secret>,
    pub scopes: Scopes,
    /// Microseconds since 1970 UTC.
    pub expires_at_us: Option<i64>,
    pub enabled: bool,
    pub labels: BTreeMap<String, String>,
    pub metadata_defaults: BTreeMap<String, String>,
    pub limits: Vec<Limit>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scopes {
    pub endpoints: Allowed<Endpoint>,
    /// Model aliases.
    pub models: Allowed<String>,
    /// Deployment names.
    pub deployments: Allowed<String>,
    /// May call `connection/upstream-model`.
    pub ad_hoc: bool,
    /// May pin a target.
    pub pin: bool,
}

/// `"all"`, `"none"` or a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Allowed<T> {
    All,
    Only(Vec<T>),
}

impl Resources {
    /// Reads `text`, whose format the ending of `file` tells; `env` gives the values of `${NAME}`.
    pub fn parse(
        file: &str,
        text: &str,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Checked, Problems> {
        let root = document::parse(file, text)?;
        Self::read(file, root, Some(env), &Known::default())
    }

    /// Reads a document's tree; without `env`, a `$` in it is a dollar sign. What is not in it may be
    /// among the global names of `known`.
    pub fn read(
        file: &str,
        mut root: Node,
        env: Option<&Env<'_>>,
        known: &Known,
    ) -> Result<Checked, Problems> {
        let mut report = Report::new(file);
        if let Some(env) = env {
            interpolate(&mut root, env, &mut report);
        }
        let resources =
            Fields::root(&report, &root).map(|fields| workspace::resources(fields, known));
        let warnings = report.finish()?;
        let resources = resources.expect("the root of a document is a table");
        Ok(Checked { resources, warnings, tree: root })
    }
}

impl<T: PartialEq> Allowed<T> {
    pub fn allows(&self, item: &T) -> bool {
        match self {
            Self::All => true,
            Self::Only(items) => items.contains(item),
        }
    }
}

#[cfg(test)]
mod tests;
