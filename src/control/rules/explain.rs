//! Which rule a request would meet, and why: for a person who writes rules.

use std::sync::Arc;

use serde_json::{Map, Value as Json, json};

use super::{Asked, FactsOf, Way, Whose, walk};
use crate::control::limits::Limits;
use crate::control::snapshot::{AUTO, Deployment, Environment};
use crate::dialect::Dialect;
use crate::limit::Now;
use crate::rule::{Expression, Facts as _, Rule, Step, TRAFFIC_WHOLE, Then};

/// Of a text that is shown.
const LETTERS_MAX: usize = 200;

/// A request to be tried out.
#[derive(Debug)]
pub struct Trial {
    pub dialect: Dialect,
    pub body: Json,
    pub metadata: Vec<(Box<str>, Box<str>)>,
    pub end_user: String,
    pub key: String,
    pub client: String,
    pub source_ip: Option<std::net::IpAddr>,
    pub unix_micros: i64,
    /// What every draw gives.
    pub draw: u32,
    /// The deployment whose rules are tried; else the body's `model` decides.
    pub deployment: Option<String>,
    /// In place of the rules that are tried.
    pub rules: Option<Vec<Rule>>,
}

/// Why there is nothing to try.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrialError {
    #[error("there is no deployment or model called `{0}`, and no rules for `auto`")]
    NoSuchModel(String),
}

/// What each rule would do with the request, and where it would go.
pub fn explain(
    environment: &Environment,
    trial: &Trial,
    (key_limits, now): (Option<&Limits>, Now),
) -> Result<Json, TrialError> {
    let body = trial.body.to_string();
    let model = trial.body.get("model").and_then(Json::as_str).unwrap_or(AUTO);
    let asked = Asked {
        dialect: trial.dialect,
        model,
        is_stream: trial.body.get("stream").and_then(Json::as_bool).unwrap_or(false),
        body: body.as_bytes(),
        metadata: &trial.metadata,
        end_user: &trial.end_user,
        key: &trial.key,
        key_limits,
        client: &trial.client,
        source_ip: trial.source_ip,
        unix_micros: trial.unix_micros,
        now,
    };
    let facts = FactsOf::new(asked, environment);
    let way = way(environment, trial, model)?;
    let mut told = Vec::new();
    let mut places = [0_usize; 2];
    let sent = walk(
        &way,
        &facts,
        || trial.draw,
        |whose, rule, step| {
            let place = places.get_mut(whose as usize);
            let index = place.map_or(0, |place| std::mem::replace(place, *place + 1));
            told.push(told_of((whose, index), rule, step, &facts));
        },
    );
    let named = sent.deployment.as_ref().map(|deployment| &*deployment.name);
    let is_model = sent.deployment.as_ref().is_some_and(|deployment| deployment.id.is_none());
    Ok(json!({
        "deployment": named.filter(|_| !is_model),
        "model": named.filter(|_| is_model),
        "target": sent.target,
        "blocked": sent.blocked,
        "rules": told,
    }))
}

fn way<'a>(
    environment: &'a Environment,
    trial: &'a Trial,
    model: &str,
) -> Result<Way<'a>, TrialError> {
    let missing = |name: &str| TrialError::NoSuchModel(name.to_owned());
    let drafted = trial.rules.as_deref();
    let own = environment.rules.as_deref();
    if let Some(name) = &trial.deployment {
        let named = environment.deployments.get(name.as_str()).ok_or_else(|| missing(name))?;
        let environment_rules = own.filter(|_| named.has_environment_rules);
        return Ok(Way {
            environment,
            named: Some(named),
            environment_rules,
            deployment_rules: drafted,
        });
    }
    let rules = drafted.or(own);
    let named: Option<&Arc<Deployment>> =
        environment.deployments.get(model).or_else(|| environment.models.get(model));
    let is_auto = model == AUTO && rules.is_some();
    if named.is_none() && !is_auto {
        return Err(missing(model));
    }
    // A draft is tried by every deployment that could say that it wants it.
    let asks =
        is_auto || named.is_some_and(|named| named.has_environment_rules || drafted.is_some());
    Ok(Way {
        environment,
        named,
        environment_rules: rules.filter(|_| asks),
        deployment_rules: None,
    })
}

fn told_of((whose, index): (Whose, usize), rule: &Rule, step: Step, facts: &FactsOf<'_>) -> Json {
    let (result, why) = match step {
        Step::Taken => ("taken", None),
        Step::Unfit => ("not_met", None),
        Step::LeftByDraw => ("left_by_traffic", Some("the draw is not in its part".to_owned())),
        Step::Nowhere => ("no_destination", Some("what it sends to is not there".to_owned())),
        Step::Stopped(why) => ("error", Some(why.to_string())),
    };
    let mut reads = Map::new();
    for variable in rule.when.iter().flat_map(Expression::variables) {
        let value = facts.value(*variable).map_or(Json::Null, |value| short(value.to_json()));
        reads.insert(variable.name(), value);
    }
    json!({
        "of": match whose {
            Whose::Environment => "environment",
            Whose::Deployment => "deployment",
        },
        "index": index,
        "when": rule.when.as_ref().map(Expression::text),
        "traffic_percent": f64::from(rule.traffic) * 100.0 / f64::from(TRAFFIC_WHOLE),
        "then": destination(&rule.then),
        "result": result,
        "why": why,
        "reads": reads,
    })
}

fn destination(then: &Then) -> Json {
    match then {
        Then::Deployment(name) => json!({ "deployment": name }),
        Then::Model(name) => json!({ "model": name }),
        Then::Target(name) => json!({ "target": name }),
        Then::Block { message } => json!({ "block": { "message": message } }),
    }
}

/// What is too long to be looked at is cut.
fn short(value: Json) -> Json {
    match value {
        Json::String(text) if text.chars().nth(LETTERS_MAX).is_some() => {
            let start: String = text.chars().take(LETTERS_MAX).collect();
            Json::from(format!("{start}…"))
        }
        Json::Object(members) => {
            let text = Json::Object(members).to_string();
            if text.len() <= LETTERS_MAX {
                return serde_json::from_str(&text).unwrap_or_default();
            }
            short(Json::from(text))
        }
        value => value,
    }
}
