//! Deployments: targets and how to choose among them.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::additions::{instructions, params};
use super::cache::cache;
use super::limit::limits;
use super::names::{Names, check_form, is_metadata_key, refer};
use super::rules::{Whose, rules};
use super::unenforced;
use super::workspace::{Scope, check_description, check_labels};
use super::{
    BreakerConfig, Deployment, Failover, FailoverOn, HashOn, OnDisconnect, Strategy, Target,
    Timeouts,
};
use crate::config::fields::{Fields, Item};

const HOUR_MS: u64 = 3_600_000;

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            headers: Duration::from_mins(1),
            first_token: Duration::from_mins(1),
            idle: Duration::from_mins(1),
            total: Duration::from_mins(10),
        }
    }
}

impl Default for Failover {
    fn default() -> Self {
        Self {
            max_attempts: 3,
            retries: 0,
            on: FailoverOn {
                connect: true,
                timeout: true,
                reset: true,
                early_error: true,
                statuses: vec![408, 429, 500, 502, 503, 504, 529],
            },
        }
    }
}

impl Default for BreakerConfig {
    fn default() -> Self {
        Self { consecutive_failures: 5, error_rate: 0.5, cooldown: Duration::from_secs(5) }
    }
}

/// Silence on a stream after which a comment is sent.
pub const DEFAULT_HEARTBEAT: Duration = Duration::from_secs(15);

pub(super) fn read(
    fields: Fields<'_>,
    names: &mut Names,
    scope: &Scope,
    global_models: &Names,
) -> Deployment {
    let name = names.declare(&fields, "name");
    let timeouts = timeouts(&fields, Timeouts::default());
    let mut target_names = Names::default();
    let targets_item = fields.require("targets");
    let items = targets_item.as_ref().and_then(Item::list).unwrap_or_default();
    let targets: Vec<Target> = items
        .iter()
        .filter_map(Item::fields)
        .map(|fields| {
            let model = target_model(&fields, scope, global_models);
            target(fields, model, &mut target_names, timeouts)
        })
        .collect();
    let takes_requests = |target: &Target| target.enabled && target.weight != 0;
    if let Some(item) = targets_item.filter(|_| !targets.iter().any(takes_requests)) {
        item.problem("at least one target must be enabled and have a positive weight");
    }
    let deployment = Deployment {
        name,
        strategy: strategy(&fields),
        targets,
        timeouts,
        failover: failover(&fields),
        breaker: breaker(&fields),
        on_disconnect: fields.choice(
            "on_disconnect",
            &[("cancel", OnDisconnect::Cancel), ("drain", OnDisconnect::Drain)],
            OnDisconnect::Cancel,
        ),
        heartbeat: Some(fields.fraction_seconds("heartbeat_s", 0.0..=300.0, 15.0))
            .filter(|heartbeat| !heartbeat.is_zero()),
        default_params: params(&fields, "default_params"),
        override_params: params(&fields, "override_params"),
        instructions: instructions(&fields),
        rules: rules(&fields, Whose::Deployment(&target_names, &[&scope.models, &scope.granted])),
        cache: cache(&fields),
        environment_rules: fields.flag("environment_rules", false),
        limits: limits(&fields),
        enabled: fields.flag("enabled", true),
    };
    unenforced::deployment_policies(&fields);
    check_description(&fields);
    check_labels(&fields);
    fields.finish();
    deployment
}

fn target_model(fields: &Fields<'_>, scope: &Scope, global_models: &Names) -> Option<String> {
    let item = fields.require("model")?;
    let alias = item.text()?;
    let is_here = scope.models.contains(alias) || scope.granted.contains(alias);
    if !is_here && global_models.contains(alias) {
        let shown = item.report().show(alias);
        item.problem(format!("{shown} is a global model: list it in `model_grants` first"));
    } else {
        refer(&item, "model", &[&scope.models, &scope.granted]);
    }
    Some(alias.to_owned())
}

fn target(
    fields: Fields<'_>,
    model: Option<String>,
    names: &mut Names,
    deployment: Timeouts,
) -> Target {
    let model = model.unwrap_or_default();
    let name = match fields.get("name") {
        Some(item) => item.text().map(|name| {
            check_form(&item, name);
            names.insert(&item, name);
            name.to_owned()
        }),
        None => fields.get("model").filter(|_| !model.is_empty()).map(|item| {
            if names.contains(&model) {
                item.problem("a second target with this model needs a `name`");
            } else {
                names.insert(&item, &model);
            }
            model.clone()
        }),
    };
    let target = Target {
        name: name.unwrap_or_default(),
        model,
        weight: fields.number("weight", 0..=1_000_000, 1),
        tier: fields.number("tier", 0..=1_000, 0),
        enabled: fields.flag("enabled", true),
        timeouts: timeouts(&fields, deployment),
    };
    unenforced::free_table(&fields, "params");
    fields.finish();
    target
}

fn timeouts(fields: &Fields<'_>, default: Timeouts) -> Timeouts {
    let Some(fields) = fields.get("timeouts").and_then(|item| item.fields()) else {
        return default;
    };
    let read = |name, bounds: RangeInclusive<u64>, default: Duration| {
        let item = fields.get(name).and_then(|item| item.number(&bounds));
        item.map_or(default, Duration::from_millis)
    };
    let timeouts = Timeouts {
        connect: read("connect_ms", 1..=60_000, default.connect),
        headers: read("headers_ms", 1..=HOUR_MS, default.headers),
        first_token: read("first_token_ms", 1..=HOUR_MS, default.first_token),
        idle: read("idle_ms", 1..=HOUR_MS, default.idle),
        total: read("total_ms", 1..=24 * HOUR_MS, default.total),
    };
    fields.finish();
    timeouts
}

fn strategy(fields: &Fields<'_>) -> Strategy {
    let names = [
        ("weighted_round_robin", 0),
        ("least_latency", 1),
        ("least_busy", 2),
        ("cheapest", 3),
        ("hash", 4),
    ];
    let chosen = fields.choice("strategy", &names, 0);
    let hash_on = fields.get("hash_on");
    if let Some(item) = hash_on.as_ref().filter(|_| chosen != 4) {
        item.problem("is only for `strategy = \"hash\"`");
    }
    match chosen {
        1 => Strategy::LeastLatency,
        2 => Strategy::LeastBusy,
        3 => Strategy::Cheapest,
        4 => Strategy::Hash(hash_on.and_then(|item| hash(&item)).unwrap_or(HashOn::EndUser)),
        _ => Strategy::WeightedRoundRobin,
    }
}

fn hash(item: &Item<'_>) -> Option<HashOn> {
    match item.text()? {
        "end_user" => Some(HashOn::EndUser),
        "session" => Some(HashOn::Session),
        text => {
            let key = text.strip_prefix("metadata.").filter(|key| is_metadata_key(key));
            if key.is_none() {
                item.problem("must be `end_user`, `session` or `metadata.<key>`");
            }
            key.map(|key| HashOn::Metadata(key.to_owned()))
        }
    }
}

fn failover(fields: &Fields<'_>) -> Failover {
    let mut failover = Failover::default();
    let Some(fields) = fields.get("failover").and_then(|item| item.fields()) else {
        return failover;
    };
    failover.max_attempts = fields.number("max_attempts", 1..=10, failover.max_attempts);
    failover.retries = fields.number("retries", 0..=9, failover.retries);
    if let Some(items) = fields.get("on").and_then(|item| item.list()) {
        failover.on = failover_on(&items);
    }
    fields.finish();
    failover
}

fn failover_on(items: &[Item<'_>]) -> FailoverOn {
    let mut on = FailoverOn {
        connect: false,
        timeout: false,
        reset: false,
        early_error: false,
        statuses: Vec::new(),
    };
    for item in items {
        let word = if item.is_number() { item.decimal() } else { item.text() };
        match word {
            None => {}
            Some("connect") => on.connect = true,
            Some("timeout") => on.timeout = true,
            Some("reset") => on.reset = true,
            Some("early_error") => on.early_error = true,
            Some(word) => match word.parse().ok().filter(|status| (400..=599).contains(status)) {
                Some(status) => on.statuses.push(status),
                None => item.problem(
                    "must be `connect`, `timeout`, `reset`, `early_error` or a status from 400 \
                     to 599",
                ),
            },
        }
    }
    on.statuses.sort_unstable();
    on.statuses.dedup();
    on
}

fn breaker(fields: &Fields<'_>) -> BreakerConfig {
    let mut breaker = BreakerConfig::default();
    let Some(fields) = fields.get("breaker").and_then(|item| item.fields()) else {
        return breaker;
    };
    breaker.consecutive_failures = fields.number("consecutive_failures", 1..=1_000, 5);
    if let Some(item) = fields.get("error_rate") {
        breaker.error_rate = item.fraction(&(0.01..=1.0)).unwrap_or(breaker.error_rate);
    }
    breaker.cooldown = fields.fraction_seconds("cooldown_s", 0.01..=300.0, 5.0);
    fields.finish();
    breaker
}
