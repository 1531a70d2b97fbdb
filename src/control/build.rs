//! Resources -> Snapshot, and virtual key -> its record.
//!
//! A reload makes a new snapshot beside the old one and swaps them. Live state is taken over by id;
//! a target whose breaker is configured anew starts with a fresh one.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use bytes::{BufMut as _, BytesMut};
use uuid::Uuid;

use crate::config::resources::{
    self, Auth, BaseUrl, BreakerConfig, CacheConfig, DEFAULT_HEARTBEAT, Failover, ModelKind,
    OnDisconnect, Resources, Scopes, Strategy, Timeouts,
};
use crate::config::url::base_url;
use crate::control::limits::{Limits, Owner, Registry};
use crate::control::live::{ConnectionLive, DeploymentLive, Live, TargetLive, lock};
use crate::control::load::Ids;
use crate::control::snapshot::{
    AdHoc, CacheRules, Connection, Deployment, Environment, HeadLines, KeyRecord, Priced, Snapshot,
    Target,
};
use crate::dialect::Dialects;
use crate::id::{
    ConnectionId, DeploymentId, EnvironmentId, ModelId, ResourceId, TargetId, VirtualKeyId,
    WorkspaceId,
};
use crate::json::Additions;
use crate::limit::{Level, Limit};
use crate::net::health::Health;
use crate::net::resolve::Name;
use crate::provider::Provider;
use crate::provider::aws::{AwsCredential, Signer};
use crate::route::breaker::{Breaker, Rules};
use crate::route::failure::{Cause, FailoverOn};
use crate::rule::Rule;
use crate::telemetry::metrics::ProviderLabel;
use crate::usage::record::{RowCaller, RowTarget};

type Connections<'a> = HashMap<&'a str, Arc<Connection>>;

/// What building needs from the rest of the process.
pub trait Around {
    /// The shared entry of a host name.
    fn name(&self, url: &BaseUrl) -> Arc<Name>;
    /// The built-in provider.
    fn built_in(&self) -> Option<(SocketAddr, Arc<Name>)>;
    /// Starts the active checks of a connection; `None` if they cannot be made.
    fn health(
        &self,
        check: &resources::HealthCheck,
        url: &BaseUrl,
        name: &Arc<Name>,
    ) -> Option<Health>;
}

/// The outcome: a snapshot and its live state.
#[derive(Debug)]
pub struct Built {
    pub snapshot: Snapshot,
    pub live: Live,
}

/// What tells a key from another with the same rights.
#[derive(Debug)]
pub struct NamedKey<'a> {
    pub id: VirtualKeyId,
    pub name: &'a str,
    pub scopes: Arc<Scopes>,
    /// Microseconds since 1970 UTC: the end of a secret that was rotated out.
    pub not_after: Option<i64>,
}

/// Builds the snapshot of `resources`, taking over live state from `previous`.
pub fn build(resources: &Resources, ids: &Ids, previous: &Live, around: &dyn Around) -> Built {
    let live = Live::new(Arc::clone(&previous.limits));
    let built = Built { snapshot: Snapshot::default(), live };
    let mut builder =
        Builder { ids, previous, around, built, instructions: Vec::new(), cache: None };
    let global = Path { workspace: "", environment: "" };
    let connections: HashMap<&str, Arc<Connection>> = resources
        .connections
        .iter()
        .map(|connection| (connection.name.as_str(), builder.connection(connection, global)))
        .collect();
    for workspace in &resources.workspaces {
        for environment in &workspace.environments {
            builder.instructions = [&workspace.settings.instructions, &environment.instructions]
                .into_iter()
                .filter_map(|instructions| instructions.as_deref())
                .collect();
            builder.cache = workspace.settings.cache;
            builder.environment(resources, &connections, (workspace, environment));
        }
    }
    builder.built
}

struct Builder<'a> {
    ids: &'a Ids,
    previous: &'a Live,
    around: &'a dyn Around,
    built: Built,
    /// Of the workspace and of the environment that is being built.
    instructions: Vec<&'a str>,
    /// Of the workspace.
    cache: Option<CacheConfig>,
}

/// Where a resource is; empty for the global ones.
#[derive(Clone, Copy)]
struct Path<'a> {
    workspace: &'a str,
    environment: &'a str,
}

/// What a model is made of, once its references are followed.
struct ModelParts {
    id: ModelId,
    alias: Arc<str>,
    upstream_model: Arc<str>,
    kind: ModelKind,
    price: Option<Priced>,
    connection: Arc<Connection>,
    limits: [Option<Arc<Limits>>; 2],
    output_tokens_max: Option<u64>,
}

/// What a target is made of besides its model.
struct TargetParts<'a> {
    id: TargetId,
    name: &'a str,
    weight: u32,
    tier: u16,
    timeouts: Timeouts,
    breaker: BreakerConfig,
}

impl Path<'_> {
    fn of<'a>(&'a self, kind: &'a str, name: &'a str) -> [&'a str; 4] {
        [self.workspace, self.environment, kind, name]
    }
}

impl Builder<'_> {
    fn environment(
        &mut self,
        resources: &Resources,
        global: &HashMap<&str, Arc<Connection>>,
        (workspace, environment): (&resources::Workspace, &resources::Environment),
    ) {
        let path = Path { workspace: &workspace.slug, environment: &environment.slug };
        let caller = RowCaller {
            workspace: self.workspace_id(&workspace.slug),
            workspace_slug: workspace.slug.as_str().into(),
            environment: self.environment_id(path),
            environment_slug: environment.slug.as_str().into(),
            key: None,
            key_name: None,
        };
        let own: HashMap<&str, Arc<Connection>> = environment
            .connections
            .iter()
            .map(|connection| (connection.name.as_str(), self.connection(connection, path)))
            .collect();
        let models = self.models(resources, environment, path, (&own, global));
        let deployments: HashMap<Box<str>, Arc<Deployment>> = environment
            .deployments
            .iter()
            .filter(|deployment| deployment.enabled)
            .map(|deployment| {
                self.deployment(deployment, path, (&models, !environment.rules.is_empty()))
            })
            .map(|deployment| (Box::from(&*deployment.name), deployment))
            .collect();
        let direct: HashMap<Box<str>, Arc<Deployment>> = models
            .values()
            .map(|model| (Box::from(&*model.alias), self.direct(model, path)))
            .collect();
        let reachable = [&deployments, &direct]
            .into_iter()
            .flat_map(HashMap::values)
            .flat_map(|deployment| &deployment.targets)
            .map(|target| (target.connection.id, Arc::clone(target)))
            .collect();
        let names = |slug: &str, id: String| [Box::from(slug), id.into_boxed_str()];
        let built = Environment {
            id: caller.environment,
            caller: caller.clone(),
            workspace_names: names(&workspace.slug, caller.workspace.to_string()),
            environment_names: names(&environment.slug, caller.environment.to_string()),
            is_archived: workspace.is_archived,
            settings: workspace.settings.clone(),
            rules: listed(&environment.rules),
            limits: self.limits(
                (Level::Environment, caller.environment.0, caller.workspace.0),
                &environment.slug,
                &environment.limits,
            ),
            workspace_limits: self.limits(
                (Level::Workspace, caller.workspace.0, caller.workspace.0),
                &workspace.slug,
                &workspace.limits,
            ),
            deployments,
            models: direct,
            ad_hoc: own
                .into_iter()
                .map(|(name, connection)| (Box::from(name), self.ad_hoc(connection, path)))
                .collect(),
            reachable,
        };
        watch(&built);
        self.built.snapshot.environments.insert(built.id, Arc::new(built));
    }

    fn connection(
        &mut self,
        connection: &resources::Connection,
        path: Path<'_>,
    ) -> Arc<Connection> {
        let id = ConnectionId(self.id(path, "connection", &connection.name));
        let (base_url, upstream_name) = self.upstream(connection);
        let live = self
            .previous
            .connections
            .get(&id)
            .map_or_else(|| Arc::new(ConnectionLive::default()), Arc::clone);
        self.built.live.connections.insert(id, Arc::clone(&live));
        let health = live.health(connection.health_check.as_ref(), &base_url, |check| {
            self.around.health(check, &base_url, &upstream_name)
        });
        let built = Arc::new(Connection {
            id,
            name: connection.name.as_str().into(),
            provider: connection.provider,
            provider_label: ProviderLabel::from(connection.provider),
            dialects: if connection.enabled { connection.dialects } else { Dialects::NONE },
            auth: connection.auth,
            api_version: connection.api_version.as_deref().map(Box::from),
            signer: signer(connection, &base_url).map(Box::new),
            head: head_lines(connection, &base_url),
            base_url,
            upstream_name,
            health,
            limits: self.limits(
                (Level::Connection, id.0, id.0),
                &connection.name,
                &connection.limits,
            ),
            live,
        });
        self.built.snapshot.connections.insert(id, Arc::clone(&built));
        built
    }

    /// Where a connection leads: its own address, the built-in provider, or its provider's address.
    fn upstream(&self, connection: &resources::Connection) -> (BaseUrl, Arc<Name>) {
        if connection.provider == Provider::Simulated
            && connection.base_url.is_none()
            && let Some((address, name)) = self.around.built_in()
        {
            let base_url = BaseUrl {
                is_tls: false,
                host: address.ip().to_string(),
                port: address.port(),
                path: "/v1".to_owned(),
            };
            return (base_url, name);
        }
        let of_provider = || base_url(connection.provider.base_url()?).ok();
        let base_url = connection
            .base_url
            .clone()
            .or_else(of_provider)
            .expect("a checked connection has an address of its own or its provider's");
        let name = self.around.name(&base_url);
        (base_url, name)
    }

    fn deployment(
        &mut self,
        deployment: &resources::Deployment,
        path: Path<'_>,
        (models, has_environment_rules): (&HashMap<String, ModelParts>, bool),
    ) -> Arc<Deployment> {
        let id = DeploymentId(self.id(path, "deployment", &deployment.name));
        let id_text = id.to_string();
        let mut kind = None;
        let mut targets = Vec::with_capacity(deployment.targets.len());
        for target in &deployment.targets {
            // A model that is disabled leaves every pool at once.
            let Some(model) = models.get(&target.model) else { continue };
            kind.get_or_insert(model.kind);
            targets.push(self.target(
                &TargetParts {
                    id: TargetId::of_path(&[&id_text, &target.name]),
                    name: &target.name,
                    weight: if target.enabled { target.weight } else { 0 },
                    tier: target.tier,
                    timeouts: target.timeouts,
                    breaker: deployment.breaker,
                },
                model,
            ));
        }
        let cache = cache_rules(deployment.cache.or(self.cache), &targets);
        Arc::new(Deployment {
            id: Some(id),
            name: deployment.name.as_str().into(),
            kind: kind.unwrap_or(ModelKind::Chat),
            strategy: deployment.strategy.clone(),
            live: self.deployment_live(id.0, weights(&targets)),
            targets,
            failover_on: failover_on(&deployment.failover.on),
            failover: deployment.failover.clone(),
            on_disconnect: deployment.on_disconnect,
            heartbeat: deployment.heartbeat,
            additions: self.additions(
                &deployment.default_params,
                &deployment.override_params,
                deployment.instructions.as_deref(),
            ),
            cache,
            rules: listed(&deployment.rules),
            has_environment_rules: deployment.environment_rules && has_environment_rules,
            limits: self.limits(
                (Level::Deployment, id.0, WorkspaceId::of_path(&[path.workspace]).0),
                &deployment.name,
                &deployment.limits,
            ),
        })
    }

    /// A model called by its alias: a deployment of one target with the defaults.
    fn direct(&mut self, model: &ModelParts, path: Path<'_>) -> Arc<Deployment> {
        let id = TargetId::of_path(&["direct", path.workspace, path.environment, &model.alias]);
        let target = self.target(
            &TargetParts {
                id,
                name: &model.alias,
                weight: 1,
                tier: 0,
                timeouts: Timeouts::default(),
                breaker: BreakerConfig::default(),
            },
            model,
        );
        let targets = vec![target];
        let cache = cache_rules(self.cache, &targets);
        Arc::new(Deployment {
            id: None,
            name: Arc::clone(&model.alias),
            kind: model.kind,
            strategy: Strategy::WeightedRoundRobin,
            live: self.deployment_live(id.0, weights(&targets)),
            targets,
            failover_on: FailoverOn::default(),
            failover: Failover::default(),
            on_disconnect: OnDisconnect::Cancel,
            heartbeat: Some(DEFAULT_HEARTBEAT),
            additions: self.additions(&[], &[], None),
            cache,
            rules: None,
            has_environment_rules: false,
            limits: None,
        })
    }

    fn target(&mut self, parts: &TargetParts<'_>, model: &ModelParts) -> Arc<Target> {
        let live = self.target_live(parts.id, rules(parts.breaker));
        Arc::new(Target {
            id: parts.id,
            name: parts.name.into(),
            weight: parts.weight,
            tier: parts.tier,
            timeouts: parts.timeouts,
            upstream_model: Arc::clone(&model.upstream_model),
            price: model.price.clone(),
            connection: Arc::clone(&model.connection),
            model_limits: model.limits.clone(),
            family: self.previous.limits.family(&model.upstream_model),
            output_tokens_max: model.output_tokens_max,
            live,
            row: Arc::new(RowTarget {
                target: parts.id,
                model: model.id,
                model_alias: Arc::clone(&model.alias),
                upstream_model: Arc::clone(&model.upstream_model),
                connection: model.connection.id,
                connection_name: Arc::clone(&model.connection.name),
                provider: model.connection.provider.name(),
            }),
        })
    }

    /// Kept over a reload, with what was learnt; only the rules may change.
    fn target_live(&mut self, id: TargetId, rules: Rules) -> Arc<TargetLive> {
        let live = match self.previous.targets.get(&id) {
            Some(kept) => {
                lock(&kept.breaker).set_rules(rules);
                Arc::clone(kept)
            }
            None => Arc::new(TargetLive::new(Breaker::new(rules))),
        };
        self.built.live.targets.insert(id, Arc::clone(&live));
        live
    }

    /// The live state of calls that name a connection and an upstream model.
    fn ad_hoc(&mut self, connection: Arc<Connection>, path: Path<'_>) -> AdHoc {
        let id = TargetId::of_path(&path.of("ad_hoc", &connection.name));
        let rules = rules(BreakerConfig::default());
        AdHoc {
            target: id,
            target_live: self.target_live(id, rules),
            deployment_live: self.deployment_live(id.0, vec![1]),
            family: self.previous.limits.family(&connection.name),
            additions: self.additions(&[], &[], None),
            connection,
        }
    }

    /// Kept over a reload as long as the weights are the same: the turn goes on where it was.
    fn deployment_live(&mut self, id: Uuid, weights: Vec<u32>) -> Arc<DeploymentLive> {
        let kept = self.previous.deployments.get(&id).filter(|live| live.weights == weights);
        let live = kept.map_or_else(|| Arc::new(DeploymentLive::new(weights)), Arc::clone);
        self.built.live.deployments.insert(id, Arc::clone(&live));
        live
    }

    /// What requests of a deployment get: the instructions of workspace and environment before its own.
    fn additions(
        &self,
        defaults: &[(String, String)],
        overrides: &[(String, String)],
        instructions: Option<&str>,
    ) -> Option<Arc<Additions>> {
        let all: Vec<&str> = self.instructions.iter().copied().chain(instructions).collect();
        Additions::new(texts(defaults), texts(overrides), &all.join("\n\n")).map(Arc::new)
    }

    /// The limits of an owner, counted where they were counted before.
    fn limits(
        &self,
        (level, id, together): (Level, Uuid, Uuid),
        name: &str,
        limits: &[Limit],
    ) -> Option<Arc<Limits>> {
        if limits.is_empty() {
            return None;
        }
        self.previous.limits.limits(Owner { level, id, together }, &name.into(), limits)
    }

    /// The stored id of what stands at `path`; what the store does not have gets one of its path.
    fn id(&self, path: Path<'_>, kind: &str, name: &str) -> Uuid {
        let full = path.of(kind, name);
        self.ids.get(full).unwrap_or_else(|| ResourceId::of_path(&full).0)
    }

    fn workspace_id(&self, slug: &str) -> WorkspaceId {
        WorkspaceId(self.id(Path { workspace: "", environment: "" }, "workspace", slug))
    }

    fn environment_id(&self, path: Path<'_>) -> EnvironmentId {
        let above = Path { environment: "", ..path };
        EnvironmentId(self.id(above, "environment", path.environment))
    }

    /// The models of an environment: its own, and the global ones that are granted to it.
    fn models(
        &self,
        resources: &Resources,
        environment: &resources::Environment,
        path: Path<'_>,
        (own, global): (&Connections<'_>, &Connections<'_>),
    ) -> HashMap<String, ModelParts> {
        let connection = |name: &str| own.get(name).or_else(|| global.get(name)).map(Arc::clone);
        let global_path = Path { workspace: "", environment: "" };
        let mut models = HashMap::new();
        for grant in environment.model_grants.iter().filter(|grant| grant.enabled) {
            let found = resources.models.iter().find(|model| model.alias == grant.model);
            let Some(model) = found.filter(|model| model.enabled) else { continue };
            let connection = global.get(model.connection.as_str()).map(Arc::clone);
            let Some(connection) = connection else { continue };
            let mut parts = self.model_parts(model, global_path, connection);
            let id = self.id(path, "model_grant", &grant.model);
            parts.limits[1] = self.limits(
                (Level::ModelGrant, id, parts.connection.id.0),
                &grant.model,
                &grant.limits,
            );
            models.insert(model.alias.clone(), parts);
        }
        for model in environment.models.iter().filter(|model| model.enabled) {
            let Some(connection) = connection(&model.connection) else { continue };
            models.insert(model.alias.clone(), self.model_parts(model, path, connection));
        }
        models
    }

    fn model_parts(
        &self,
        model: &resources::Model,
        path: Path<'_>,
        connection: Arc<Connection>,
    ) -> ModelParts {
        let own = model.price.map(|price| Priced { price, version: Arc::from("user") });
        let from_catalogue = || Priced::of_catalogue(connection.provider, &model.upstream_model);
        let id = ModelId(self.id(path, "model", &model.alias));
        ModelParts {
            id,
            alias: model.alias.as_str().into(),
            upstream_model: model.upstream_model.as_str().into(),
            kind: model.kind,
            price: own.or_else(from_catalogue),
            limits: [
                self.limits((Level::Model, id.0, connection.id.0), &model.alias, &model.limits),
                None,
            ],
            output_tokens_max: model.output_tokens_max,
            connection,
        }
    }
}

/// The record of a key in the environment of `caller`.
pub fn key_record(
    key: &resources::VirtualKey,
    named: NamedKey<'_>,
    caller: &RowCaller,
    counters: &Registry,
) -> KeyRecord {
    let ends = [key.expires_at_us, named.not_after];
    let owner = Owner { level: Level::Key, id: named.id.0, together: caller.workspace.0 };
    let limits = counters.limits(owner, &named.name.into(), &key.limits);
    let caller =
        RowCaller { key: Some(named.id), key_name: Some(named.name.into()), ..caller.clone() };
    KeyRecord {
        id: named.id,
        environment: caller.environment,
        caller: Arc::new(caller),
        scopes: named.scopes,
        enabled: key.enabled,
        expires_at_us: ends.into_iter().flatten().min(),
        metadata_defaults: key
            .metadata_defaults
            .iter()
            .map(|(name, value)| (Box::from(name.as_str()), Box::from(value.as_str())))
            .collect(),
        limits,
        used_min: AtomicU32::new(0),
    }
}

fn texts(params: &[(String, String)]) -> impl Iterator<Item = (&str, &str)> {
    params.iter().map(|(key, value)| (key.as_str(), value.as_str()))
}

/// `None` where nothing is kept: also where an answer depends on the caller's own key at a provider.
fn cache_rules(config: Option<CacheConfig>, targets: &[Arc<Target>]) -> Option<Arc<CacheRules>> {
    let config = config.filter(|config| config.enabled)?;
    if targets.iter().any(|target| target.connection.auth == Auth::Passthrough) {
        return None;
    }
    let ids: Vec<String> = targets.iter().map(|target| target.connection.id.to_string()).collect();
    let named = targets.iter().zip(&ids);
    let path: Vec<&str> = named
        .flat_map(|(target, connection)| [&*target.name, &*target.upstream_model, connection])
        .collect();
    Some(Arc::new(CacheRules {
        ttl: config.ttl,
        entry_bytes_max: config.entry_bytes_max,
        only_deterministic: config.only_deterministic,
        targets: *ResourceId::of_path(&path).0.as_bytes(),
    }))
}

/// `None` when there is none, so that a request need not look.
fn listed(rules: &[Rule]) -> Option<Arc<[Rule]>> {
    (!rules.is_empty()).then(|| rules.into())
}

/// Has the attempts counted whose error rate a rule asks for.
fn watch(environment: &Environment) {
    let of_deployments = environment.deployments.values().filter_map(|deployment| {
        deployment.rules.as_ref().map(|rules| (Some(&**deployment), rules))
    });
    let own = environment.rules.as_ref().map(|rules| (None, rules));
    for (deployment, rules) in own.into_iter().chain(of_deployments) {
        for expression in rules.iter().filter_map(|rule| rule.when.as_ref()) {
            for target in expression.targets() {
                if let Some(target) = environment.target(deployment, target) {
                    target.live.watch();
                }
            }
        }
    }
}

fn weights(targets: &[Arc<Target>]) -> Vec<u32> {
    targets.iter().map(|target| target.weight).collect()
}

fn rules(config: BreakerConfig) -> Rules {
    Rules {
        consecutive_failures: config.consecutive_failures,
        error_rate: config.error_rate,
        cooldown: config.cooldown,
    }
}

fn failover_on(on: &resources::FailoverOn) -> FailoverOn {
    let causes: Vec<Cause> = [
        (on.connect, Cause::Connect),
        (on.timeout, Cause::Timeout),
        (on.reset, Cause::Reset),
        (on.early_error, Cause::EarlyError),
    ]
    .into_iter()
    .filter_map(|(is_on, cause)| is_on.then_some(cause))
    .collect();
    FailoverOn::new(&causes, &on.statuses)
}

/// What signs the requests of a connection; `None` where the credential itself is shown.
fn signer(connection: &resources::Connection, url: &BaseUrl) -> Option<Signer> {
    if connection.provider != Provider::Bedrock || connection.auth != Auth::ApiKey {
        return None;
    }
    match AwsCredential::read(connection.credential.as_ref()?.expose()) {
        Ok(AwsCredential::Keys(keys)) => {
            Some(Signer::new(keys, connection.region.as_deref()?, &url.authority()))
        }
        Ok(AwsCredential::ApiKey) | Err(_) => None,
    }
}

/// Host and credential as lines of a head.
fn head_lines(connection: &resources::Connection, url: &BaseUrl) -> HeadLines {
    let mut lines = BytesMut::new();
    lines.put_slice(b"host: ");
    lines.put_slice(url.authority().as_bytes());
    lines.put_slice(b"\r\n");
    if let (Auth::ApiKey, Some(credential), None) =
        (connection.auth, &connection.credential, signer(connection, url))
    {
        let name = connection.provider.credential_header().start();
        lines.put_slice(name.as_bytes());
        lines.put_slice(credential.expose().as_bytes());
        lines.put_slice(b"\r\n");
    }
    HeadLines(lines.freeze())
}
