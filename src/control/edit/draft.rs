//! A body taken apart, and a resource put together to be shown.

use serde_json::{Map, Value as Json, json};

use super::{BODY, EditError, Editor, index};
use crate::clock::rfc3339;
use crate::config::document::{Node, Table, Value};
use crate::config::resources::{Auth, Kind, ModelKind, One, read_one};
use crate::control::store::resources::{Place, ResourceRow, Status};
use crate::secret::Secret;

/// A larger table is refused.
const SPEC_BYTES_MAX: usize = 256 * 1024;
/// Stands for a credential that is stored and was not sent again.
const STORED: &str = "stored";

/// A body that was checked.
pub struct Draft {
    pub name: String,
    pub secret: Option<Secret>,
    pub status: Option<Status>,
    /// Without name, secret and status; with the defaults.
    pub spec: Map<String, Json>,
    pub one: One,
}

impl Editor<'_, '_> {
    /// Checks a body as the readers of documents do. `stored` is what it is to replace.
    pub fn check(
        &mut self,
        kind: Kind,
        place: Place,
        body: &Map<String, Json>,
        stored: Option<&ResourceRow>,
    ) -> Result<Draft, EditError> {
        self.index(None)?;
        self.index(place.parent)?;
        let known = match (self.indexes.get(&place.parent), self.indexes.get(&None)) {
            (Some(own), Some(global)) => index::known(own, global),
            _ => return Err(EditError::NotFound),
        };
        for child in kind.children().iter().map(|child| child.list_name()) {
            if body.contains_key(child) {
                return Err(EditError::invalid(child, "has a route of its own"));
            }
        }
        let mut node = Node { line: 1, value: Value::Table(Table::from_json(body)) };
        let is_kept = stored.is_some_and(|row| row.sealed.is_some());
        if let (Value::Table(table), Some(row), true) = (&mut node.value, stored, is_kept) {
            let is_given = body.get("credential").is_some_and(|it| !it.is_null());
            if !is_given && body.get("auth").is_none_or(|auth| auth == "api_key") {
                check_address(row, body)?;
                table.set_text("credential", STORED);
            }
        }
        let (one, _) = read_one(BODY, kind, &node, &known)
            .map_err(|problems| EditError::Invalid(problems.0))?;
        draft(kind, body, one)
    }
}

/// A stored credential goes only where it was meant for.
fn check_address(row: &ResourceRow, body: &Map<String, Json>) -> Result<(), EditError> {
    let is_same = |field| {
        row.spec.get(field).filter(|it| !it.is_null()) == body.get(field).filter(|it| !it.is_null())
    };
    if is_same("base_url") && is_same("provider") && is_same("settings") {
        return Ok(());
    }
    Err(EditError::invalid(
        "credential",
        "must be given again when `base_url`, `provider` or `settings` change: a stored credential \
         is sent nowhere else",
    ))
}

/// Takes a body apart that was read as `one`.
pub(in crate::control) fn draft(
    kind: Kind,
    body: &Map<String, Json>,
    one: One,
) -> Result<Draft, EditError> {
    let mut spec: Map<String, Json> = body
        .iter()
        .filter(|(_, value)| !value.is_null())
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect();
    let text = |value: Option<Json>| value.and_then(|value| value.as_str().map(str::to_owned));
    let name = text(spec.remove(kind.name_field())).unwrap_or_default();
    let secret = kind.secret_field().and_then(|field| text(spec.remove(field))).map(Secret::new);
    let status = match kind {
        Kind::Workspace => text(spec.remove("status")).and_then(|name| Status::from_name(&name)),
        _ => None,
    };
    for child in kind.children() {
        spec.remove(child.list_name());
    }
    defaults(&one, &name, &mut spec);
    if serde_json::to_string(&spec).is_ok_and(|text| SPEC_BYTES_MAX < text.len()) {
        return Err(EditError::invalid("", "is larger than 256 KiB"));
    }
    Ok(Draft { name, secret, status, spec, one })
}

/// What a resource says when its author does not.
fn defaults(one: &One, name: &str, spec: &mut Map<String, Json>) {
    let mut put = |field: &str, value: Json| {
        spec.entry(field).or_insert(value);
    };
    put("limits", json!([]));
    if !matches!(one, One::ModelGrant(_)) {
        put("description", json!(""));
        put("labels", json!({}));
    }
    if !matches!(one, One::Workspace(_) | One::Environment(_)) {
        put("enabled", json!(true));
    }
    match one {
        One::Workspace(_) | One::Environment(_) => put("name", json!(name)),
        One::Connection(one) => put(
            "auth",
            json!(match one.auth {
                Auth::ApiKey => "api_key",
                Auth::Passthrough => "passthrough",
                Auth::None => "none",
            }),
        ),
        One::Model(one) => {
            put("upstream_model", json!(one.upstream_model));
            put("kind", json!(model_kind(one.kind)));
            put("price_source", json!(if one.price.is_some() { "user" } else { "catalogue" }));
        }
        One::Deployment(_) => put("strategy", json!("weighted_round_robin")),
        One::Key(_) => {
            put("scopes", json!({}));
            put("metadata_defaults", json!({}));
            if let Some(Json::Object(scopes)) = spec.get_mut("scopes") {
                for field in ["endpoints", "models", "deployments"] {
                    scopes.entry(field).or_insert_with(|| json!("all"));
                }
            }
        }
        One::ModelGrant(_) => {}
    }
}

const fn model_kind(kind: ModelKind) -> &'static str {
    match kind {
        ModelKind::Chat => "chat",
        ModelKind::Embedding => "embedding",
        ModelKind::Image => "image",
        ModelKind::Audio => "audio",
        ModelKind::Rerank => "rerank",
        ModelKind::Moderation => "moderation",
    }
}

/// A resource as the API shows it: what its author wrote and who, when; never a secret.
pub fn view(row: &ResourceRow) -> Json {
    let mut shown = Map::new();
    shown.insert("id".to_owned(), json!(row.id));
    shown.insert(row.kind.name_field().to_owned(), json!(row.name));
    if row.kind == Kind::Workspace {
        shown.insert("status".to_owned(), json!(row.status.name()));
        shown.insert("default".to_owned(), json!(row.name == super::BUILT_IN));
        shown.insert("settings".to_owned(), json!({}));
    } else if let Some(workspace) = row.workspace {
        shown.insert("workspace_id".to_owned(), json!(workspace));
    }
    if let (Some(environment), false) = (row.environment(), row.kind == Kind::Environment) {
        shown.insert("environment_id".to_owned(), json!(environment));
    }
    if row.kind == Kind::Key {
        shown.insert("status".to_owned(), json!(row.status.name()));
    }
    if row.kind == Kind::Connection {
        let hint = if row.hint.is_empty() { Json::Null } else { json!(row.hint) };
        shown.insert("credential_hint".to_owned(), hint);
    }
    shown.extend(row.spec.iter().map(|(field, value)| (field.clone(), value.clone())));
    for (field, value) in [
        ("created_at", json!(rfc3339(row.created_at))),
        ("created_by", json!(row.created_by)),
        ("updated_at", json!(rfc3339(row.updated_at))),
        ("updated_by", json!(row.updated_by)),
    ] {
        shown.insert(field.to_owned(), value);
    }
    Json::Object(shown)
}

/// What may be shown of a credential: its last four characters, if that leaves most of it unseen.
pub fn credential_hint(credential: &str) -> String {
    let length = credential.chars().count();
    if length < 16 {
        return "…".to_owned();
    }
    let end: String = credential.chars().skip(length - 4).collect();
    format!("…{end}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hint_shows_little() {
        assert_eq!(credential_hint("sk-live-0123456789"), "…6789");
        assert_eq!(credential_hint("short"), "…");
    }
}
