//! Which deployment a request goes to, where rules have a say.
//!
//! A request of an environment and a deployment without rules looks at two pointers here.

use http::header;

use crate::control::rules::{Asked, FactsOf, Way, walk};
use crate::control::snapshot::Deployment;
use crate::head::fields::Fields;
use crate::proxy::admit::Known;
use crate::proxy::call::Call;
use crate::proxy::limits::{Counting, now};
use crate::proxy::record::Recorder;
use crate::proxy::select::{self, Routed};
use crate::rejection::Rejection;
use crate::rule::{Rule, Step, Stopped, TRAFFIC_WHOLE, Then};
use crate::telemetry::metrics::{Metrics, RuleAction, RuleError};

/// What `model` means for this key, and what rules make of it.
pub(super) fn resolve(
    call: &Call,
    known: &Known,
    (headers, recorder): (&Fields, &Recorder),
    counting: Counting<'_>,
) -> Result<Routed, Rejection> {
    let (key, environment) = (&*known.key, &*known.environment);
    let is_auto = environment.is_auto(&call.model, &key.scopes);
    let named = match select::resolve(call, key, environment) {
        Err(_) if is_auto => None,
        named => Some(named?),
    };
    let has_rules = is_auto || named.as_ref().is_some_and(|named| has_rules(named));
    match named {
        Some(deployment) if !has_rules => return Ok(Routed { deployment, target: None }),
        _ => {}
    }
    let row = recorder.row();
    let asked = Asked {
        dialect: call.endpoint.dialect(),
        model: &call.model,
        is_stream: call.is_stream,
        body: call.json().unwrap_or_default(),
        metadata: row.map_or(&[], |row| &row.metadata),
        end_user: call.end_user.as_deref().unwrap_or_default(),
        key: key.caller.key_name.as_deref().unwrap_or_default(),
        key_limits: key.limits.as_deref(),
        client: text(headers),
        source_ip: row.and_then(|row| row.source_ip),
        unix_micros: counting.clock.unix_micros(),
        now: now(counting.clock),
    };
    let facts = FactsOf::new(asked, environment);
    let asks_environment =
        is_auto || named.as_ref().is_some_and(|named| named.has_environment_rules);
    let way = Way {
        environment,
        named: named.as_ref(),
        environment_rules: environment.rules.as_deref().filter(|_| asks_environment),
        deployment_rules: None,
    };
    let draw = || rand::random_range(0..TRAFFIC_WHOLE);
    let sent = walk(&way, &facts, draw, |_, rule, step| count(counting.metrics, rule, step));
    if let Some(message) = sent.blocked {
        return Err(Rejection::Blocked { message });
    }
    let missing = || Rejection::ModelNotFound { model: call.model.to_string() };
    Ok(Routed { deployment: sent.deployment.ok_or_else(missing)?, target: sent.target })
}

fn has_rules(deployment: &Deployment) -> bool {
    deployment.rules.is_some() || deployment.has_environment_rules
}

/// What a client calls itself.
fn text(headers: &Fields) -> &str {
    headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default()
}

fn count(metrics: &Metrics, rule: &Rule, step: Step) {
    let error = match step {
        Step::Unfit | Step::LeftByDraw => return,
        Step::Taken => {
            return metrics.rules_taken.inc(match rule.then {
                Then::Deployment(_) => RuleAction::Deployment,
                Then::Model(_) => RuleAction::Model,
                Then::Target(_) => RuleAction::Target,
                Then::Block { .. } => RuleAction::Block,
            });
        }
        Step::Nowhere => RuleError::Nowhere,
        Step::Stopped(why) => match why {
            Stopped::Budget => RuleError::Budget,
            Stopped::Type => RuleError::Type,
            Stopped::Missing => RuleError::Missing,
            Stopped::Arithmetic => RuleError::Arithmetic,
            Stopped::Unread => RuleError::Unread,
        },
    };
    metrics.rule_errors.inc(error);
}
