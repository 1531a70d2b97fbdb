//! Rules tried out on a request that nobody sends.

use serde_json::{Map, Value as Json, json};

use super::call::{Call, Reply};
use super::state::name_of;
use super::{AdminError, AdminState};
use crate::clock::parse_rfc3339;
use crate::config::document::Node;
use crate::config::resources::{Kind, read_rules};
use crate::control::edit::{BODY, EditError};
use crate::control::rules::Trial;
use crate::dialect::Dialect;
use crate::json::Metadata;
use crate::rule::{Rule, TRAFFIC_WHOLE};

const FIELDS: [&str; 10] = [
    "body",
    "dialect",
    "metadata",
    "end_user",
    "key",
    "client",
    "source_ip",
    "now",
    "draw",
    "rules",
];

/// Says which rule takes the request of the body, and what each one before it did.
pub(super) fn test(state: &AdminState, call: &Call) -> Result<Reply, AdminError> {
    call.known_query(&[])?;
    let (Some(workspace), Some(environment)) = (&call.workspace, &call.environment) else {
        return Err(AdminError::NotFound);
    };
    let deployment = match call.route.kind {
        Some(Kind::Deployment) => Some(name_of(state, call, Kind::Deployment)?),
        _ => None,
    };
    let trial = trial(&call.object()?, deployment, state.usage.clock.unix_micros())?;
    let told = (state.rules_trial)((&workspace.name, &environment.name), &trial)?;
    told.map(Reply::ok).ok_or(AdminError::NotFound)
}

fn trial(
    fields: &Map<String, Json>,
    deployment: Option<String>,
    now_us: i64,
) -> Result<Trial, EditError> {
    if let Some(field) = fields.keys().find(|field| !FIELDS.contains(&field.as_str())) {
        return Err(EditError::invalid(field, "unknown field"));
    }
    let text = |field: &str| match fields.get(field) {
        None | Some(Json::Null) => Ok(None),
        Some(Json::String(text)) => Ok(Some(text.as_str())),
        Some(_) => Err(EditError::invalid(field, "must be a text")),
    };
    let body = match fields.get("body") {
        Some(body @ Json::Object(_)) => body.clone(),
        _ => return Err(EditError::invalid("body", "must be the JSON object of a request")),
    };
    let dialect = text("dialect")?.unwrap_or("chat");
    let dialect = Dialect::from_name(dialect)
        .ok_or_else(|| EditError::invalid("dialect", "must be the name of a dialect, as `chat`"))?;
    let source_ip = text("source_ip")?
        .map(|ip| ip.parse().map_err(|_| EditError::invalid("source_ip", "must be an IP address")));
    let now = text("now")?.map(|now| {
        parse_rfc3339(now).ok_or_else(|| EditError::invalid("now", "must be an RFC 3339 time"))
    });
    let owned = |field: &str| Ok::<_, EditError>(text(field)?.unwrap_or_default().to_owned());
    Ok(Trial {
        dialect,
        body,
        metadata: metadata(fields.get("metadata"))?,
        end_user: owned("end_user")?,
        key: owned("key")?,
        client: owned("client")?,
        source_ip: source_ip.transpose()?,
        unix_micros: now.transpose()?.unwrap_or(now_us),
        draw: draw(fields.get("draw"))?,
        deployment,
        rules: drafted(fields.get("rules"))?,
    })
}

fn metadata(field: Option<&Json>) -> Result<Metadata, EditError> {
    let wrong = || EditError::invalid("metadata", "must be an object of texts");
    let entries = match field {
        None | Some(Json::Null) => return Ok(Vec::new()),
        Some(Json::Object(entries)) => entries,
        Some(_) => return Err(wrong()),
    };
    let entry = |(name, value): (&String, &Json)| match value {
        Json::String(value) => Ok((Box::from(name.as_str()), Box::from(value.as_str()))),
        _ => Err(wrong()),
    };
    let mut entries: Metadata = entries.iter().map(entry).collect::<Result<_, _>>()?;
    entries.sort();
    Ok(entries)
}

/// A percentage: a rule with a larger part of the traffic takes the request.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is in bounds")]
fn draw(field: Option<&Json>) -> Result<u32, EditError> {
    let percent = match field {
        None | Some(Json::Null) => 0.0,
        Some(value) => value
            .as_f64()
            .filter(|percent| (0.0..=100.0).contains(percent))
            .ok_or_else(|| EditError::invalid("draw", "must be a number from 0 to 100"))?,
    };
    Ok((percent * f64::from(TRAFFIC_WHOLE) / 100.0) as u32)
}

/// Rules that are not saved, with the problems that saving them would find.
fn drafted(field: Option<&Json>) -> Result<Option<Vec<Rule>>, EditError> {
    let Some(rules) = field.filter(|rules| !rules.is_null()) else { return Ok(None) };
    let node = Node::from_json(&json!({ "rules": rules }));
    read_rules(BODY, &node).map(Some).map_err(|problems| EditError::Invalid(problems.0))
}
