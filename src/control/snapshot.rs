//! The resources as a request reads them.
//!
//! A request loads one [`Snapshot`] and works on it to its end, whatever is reloaded meanwhile.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;

use crate::config::resources::{
    Allowed, Auth, BaseUrl, DEFAULT_HEARTBEAT, Failover, ModelKind, OnDisconnect, Scopes, Strategy,
    Timeouts, WorkspaceSettings,
};
use crate::control::limits::{Family, Limits};
use crate::control::live::{ConnectionLive, DeploymentLive, TargetLive};
use crate::dialect::{Dialects, Endpoint};
use crate::id::{ConnectionId, DeploymentId, EnvironmentId, ModelId, TargetId, VirtualKeyId};
use crate::json::Additions;
use crate::net::health::Health;
use crate::net::resolve::Name;
use crate::price::{Price, catalogue};
use crate::provider::Provider;
use crate::provider::aws::Signer;
use crate::route::failure::FailoverOn;
use crate::rule::Rule;
use crate::telemetry::metrics::ProviderLabel;
use crate::usage::record::{RowCaller, RowTarget};

/// The model of a request that leaves the choice to the rules of its environment.
pub const AUTO: &str = "auto";

/// Everything but the keys.
#[derive(Debug, Default)]
pub struct Snapshot {
    pub environments: HashMap<EnvironmentId, Arc<Environment>>,
    /// All, whether a request can come to them or not.
    pub connections: HashMap<ConnectionId, Arc<Connection>>,
}

/// A stage of a workspace. What a key can see is in here and nowhere else.
#[derive(Debug)]
pub struct Environment {
    pub id: EnvironmentId,
    /// What a row says of a caller here, its key apart.
    pub caller: RowCaller,
    /// Slug and id of the workspace and of the environment, as a path may name them.
    pub workspace_names: [Box<str>; 2],
    pub environment_names: [Box<str>; 2],
    pub is_archived: bool,
    /// Of its workspace.
    pub settings: WorkspaceSettings,
    /// Mostly none.
    pub rules: Option<Arc<[Rule]>>,
    pub limits: Option<Arc<Limits>>,
    pub workspace_limits: Option<Arc<Limits>>,
    pub deployments: HashMap<Box<str>, Arc<Deployment>>,
    /// A model that is called directly is a deployment of one target.
    pub models: HashMap<Box<str>, Arc<Deployment>>,
    /// For `connection/upstream-model`.
    pub ad_hoc: HashMap<Box<str>, AdHoc>,
    /// One target for each connection that a request of this environment can come to.
    pub reachable: HashMap<ConnectionId, Arc<Target>>,
}

/// What a call of `connection/upstream-model` is made of.
#[derive(Debug)]
pub struct AdHoc {
    pub target: TargetId,
    pub connection: Arc<Connection>,
    pub deployment_live: Arc<DeploymentLive>,
    pub target_live: Arc<TargetLive>,
    pub family: Arc<Family>,
    pub additions: Option<Arc<Additions>>,
}

/// How the answers of a deployment are kept.
#[derive(Debug)]
pub struct CacheRules {
    pub ttl: Duration,
    pub entry_bytes_max: usize,
    pub only_deterministic: bool,
    /// Names its targets and the models behind them: with others it gives other answers.
    pub targets: [u8; 16],
}

/// What a client names in `model`.
#[derive(Debug)]
pub struct Deployment {
    /// `None` for a model that is called directly.
    pub id: Option<DeploymentId>,
    pub name: Arc<str>,
    pub kind: ModelKind,
    pub strategy: Strategy,
    pub targets: Vec<Arc<Target>>,
    pub failover: Failover,
    /// `failover.on` as the table of failures reads it.
    pub failover_on: FailoverOn,
    pub on_disconnect: OnDisconnect,
    pub heartbeat: Option<Duration>,
    /// What requests get before anything else reads them; mostly nothing.
    pub additions: Option<Arc<Additions>>,
    /// How its answers are kept; mostly not at all.
    pub cache: Option<Arc<CacheRules>>,
    /// Mostly none.
    pub rules: Option<Arc<[Rule]>>,
    /// The rules of its environment are asked before its own; never set without such rules.
    pub has_environment_rules: bool,
    pub limits: Option<Arc<Limits>>,
    pub live: Arc<DeploymentLive>,
}

/// One member of a deployment.
#[derive(Debug)]
pub struct Target {
    pub id: TargetId,
    pub name: Arc<str>,
    /// 0 when the target is disabled, too.
    pub weight: u32,
    pub tier: u16,
    pub timeouts: Timeouts,
    pub upstream_model: Arc<str>,
    pub price: Option<Priced>,
    pub connection: Arc<Connection>,
    /// Of its model and the model's grant; the connection has its own.
    pub model_limits: [Option<Arc<Limits>>; 2],
    pub family: Arc<Family>,
    /// What the model can answer at most.
    pub output_tokens_max: Option<u64>,
    pub live: Arc<TargetLive>,
    pub row: Arc<RowTarget>,
}

/// A price and where it is from.
#[derive(Debug, Clone)]
pub struct Priced {
    pub price: Price,
    pub version: Arc<str>,
}

/// An account at a provider.
#[derive(Debug)]
pub struct Connection {
    pub id: ConnectionId,
    pub name: Arc<str>,
    pub provider: Provider,
    pub provider_label: ProviderLabel,
    pub dialects: Dialects,
    pub auth: Auth,
    pub base_url: BaseUrl,
    /// Of Azure's older paths, which name the deployment.
    pub api_version: Option<Box<str>>,
    /// Of a connection to Amazon with static keys: what its requests are signed with.
    pub signer: Option<Box<Signer>>,
    /// The lines of the head that are the same for every request: host and credential.
    pub head: HeadLines,
    pub upstream_name: Arc<Name>,
    pub health: Option<Arc<Health>>,
    pub limits: Option<Arc<Limits>>,
    pub live: Arc<ConnectionLive>,
}

/// Header lines that hold a credential, hence no `Debug` of them.
#[derive(Clone)]
pub struct HeadLines(pub Bytes);

/// A virtual key.
#[derive(Debug)]
pub struct KeyRecord {
    pub id: VirtualKeyId,
    pub environment: EnvironmentId,
    pub caller: Arc<RowCaller>,
    /// Shared by keys that may do the same.
    pub scopes: Arc<Scopes>,
    pub enabled: bool,
    /// Microseconds since 1970 UTC.
    pub expires_at_us: Option<i64>,
    /// Sorted by key.
    pub metadata_defaults: Vec<(Box<str>, Box<str>)>,
    pub limits: Option<Arc<Limits>>,
    /// The minute of the last request since 1970 UTC, until it is written down; else 0.
    pub used_min: AtomicU32,
}

impl std::fmt::Debug for HeadLines {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("[REDACTED]")
    }
}

impl AdHoc {
    /// The deployment of one target, with the defaults, that `name` means: `upstream_model` at this
    /// connection, priced by the catalogue.
    pub fn deployment(&self, name: &str, upstream_model: &str) -> Arc<Deployment> {
        let (name, upstream_model): (Arc<str>, Arc<str>) = (name.into(), upstream_model.into());
        let connection = &self.connection;
        let target = Target {
            id: self.target,
            name: Arc::clone(&name),
            weight: 1,
            tier: 0,
            timeouts: Timeouts::default(),
            upstream_model: Arc::clone(&upstream_model),
            price: Priced::of_catalogue(connection.provider, &upstream_model),
            connection: Arc::clone(connection),
            model_limits: [None, None],
            family: Arc::clone(&self.family),
            output_tokens_max: None,
            live: Arc::clone(&self.target_live),
            row: Arc::new(RowTarget {
                target: self.target,
                model: ModelId::of_path(&[&connection.id.to_string(), &upstream_model]),
                model_alias: Arc::clone(&name),
                upstream_model,
                connection: connection.id,
                connection_name: Arc::clone(&connection.name),
                provider: connection.provider.name(),
            }),
        };
        Arc::new(Deployment {
            id: None,
            name,
            kind: ModelKind::Chat,
            strategy: Strategy::WeightedRoundRobin,
            targets: vec![Arc::new(target)],
            failover: Failover::default(),
            failover_on: FailoverOn::default(),
            on_disconnect: OnDisconnect::Cancel,
            heartbeat: Some(DEFAULT_HEARTBEAT),
            additions: self.additions.clone(),
            cache: None,
            rules: None,
            has_environment_rules: false,
            limits: None,
            live: Arc::clone(&self.deployment_live),
        })
    }
}

impl Deployment {
    pub fn target(&self, name: &str) -> Option<&Target> {
        self.targets.iter().find(|target| *target.name == *name).map(|target| &**target)
    }
}

impl Target {
    /// Whose limits an attempt on it must pass.
    pub fn limits(&self) -> impl Iterator<Item = &Limits> + Clone {
        self.model_limits.iter().chain([&self.connection.limits]).flatten().map(|limits| &**limits)
    }
}

impl Priced {
    /// The catalogue's price of a provider's model, if it has one.
    pub fn of_catalogue(provider: Provider, upstream_model: &str) -> Option<Self> {
        let entry = catalogue::lookup(provider.name(), upstream_model)?;
        Some(Self { price: entry.price, version: Arc::from(catalogue::version()) })
    }
}

impl Environment {
    /// Whether a path that says `workspace/environment`, by slug or id, means this one.
    pub fn is_named(&self, workspace: &str, environment: &str) -> bool {
        self.workspace_names.iter().any(|name| **name == *workspace)
            && self.environment_names.iter().any(|name| **name == *environment)
    }

    /// What `model` means for a key: a deployment, else a model. `None` when there is none, or the
    /// key may not use it: the two must look the same.
    pub fn resolve(&self, model: &str, scopes: &Scopes) -> Option<&Arc<Deployment>> {
        if let Some(deployment) = self.deployments.get(model) {
            return allows(&scopes.deployments, model).then_some(deployment);
        }
        self.models.get(model).filter(|_| allows(&scopes.models, model))
    }

    /// Whether `model` leaves the choice to the rules, and the key may.
    pub fn is_auto(&self, model: &str, scopes: &Scopes) -> bool {
        self.rules.is_some() && model == AUTO && allows(&scopes.deployments, AUTO)
    }

    /// The target that a rule of `deployment` calls `name`: one of its own, or `deployment/target`.
    pub fn target<'a>(
        &'a self,
        deployment: Option<&'a Deployment>,
        name: &str,
    ) -> Option<&'a Target> {
        if let Some(own) = deployment.and_then(|deployment| deployment.target(name)) {
            return Some(own);
        }
        // Names may hold slashes.
        name.match_indices('/').find_map(|(at, _)| {
            let (deployment, target) = (name.get(..at)?, name.get(at + 1..)?);
            self.deployments.get(deployment)?.target(target)
        })
    }

    /// Every name that a key may call, sorted.
    pub fn visible(&self, scopes: &Scopes) -> Vec<&Arc<Deployment>> {
        let models = self
            .models
            .iter()
            .filter(|(name, _)| !self.deployments.contains_key(*name))
            .filter(|(name, _)| allows(&scopes.models, name));
        let deployments =
            self.deployments.iter().filter(|(name, _)| allows(&scopes.deployments, name));
        let mut visible: Vec<_> =
            deployments.chain(models).map(|(_, deployment)| deployment).collect();
        visible.sort_by(|left, right| left.name.cmp(&right.name));
        visible
    }
}

/// As [`Allowed::allows`], without a `String` to compare with.
fn allows(allowed: &Allowed<String>, name: &str) -> bool {
    match allowed {
        Allowed::All => true,
        Allowed::Only(names) => names.iter().any(|allowed| allowed == name),
    }
}

impl KeyRecord {
    pub fn allows_endpoint(&self, endpoint: Endpoint) -> bool {
        // What lists the models a key may use needs no scope of its own.
        endpoint == Endpoint::Models || self.scopes.endpoints.allows(&endpoint)
    }

    /// Notes that the key was used. Most requests find it noted.
    pub fn mark_used(&self, unix_micros: i64) {
        let minute = u32::try_from(unix_micros / 60_000_000).unwrap_or(0);
        if self.used_min.load(Ordering::Relaxed) != minute {
            self.used_min.store(minute, Ordering::Relaxed);
        }
    }

    pub fn is_expired(&self, unix_micros: i64) -> bool {
        self.expires_at_us.is_some_and(|expires_at| expires_at <= unix_micros)
    }
}
