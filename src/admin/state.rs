//! What the gateway is and has: the active environment, prices, providers, health of deployments.

use serde_json::{Value as Json, json};

use super::call::{Call, Reply};
use super::{AdminError, AdminState};
use crate::config::resources::Kind;
use crate::control::edit::{self, EditError};
use crate::control::store::Db;
use crate::control::store::audit::Event;
use crate::control::store::resources::{self, Place};
use crate::price::{Price, catalogue};
use crate::provider::Provider;

pub(super) fn version(_state: &AdminState, call: &Call) -> Result<Reply, AdminError> {
    call.known_query(&[])?;
    Ok(Reply::ok(json!({ "name": env!("CARGO_PKG_NAME"), "version": env!("CARGO_PKG_VERSION") })))
}

/// The name of the resource of a path, which may have named it by its id.
pub(super) fn name_of(state: &AdminState, call: &Call, kind: Kind) -> Result<String, AdminError> {
    let found = state.desk.read(|db| {
        Ok::<_, AdminError>(resources::find(db, kind, call.place(), call.param("id"))?)
    })?;
    found.map(|row| row.name).ok_or(AdminError::NotFound)
}

pub(super) fn deployment_health(state: &AdminState, call: &Call) -> Result<Reply, AdminError> {
    let (Some(workspace), Some(environment)) = (&call.workspace, &call.environment) else {
        return Err(AdminError::NotFound);
    };
    let name = name_of(state, call, Kind::Deployment)?;
    let health = (state.deployment_health)(&workspace.name, &environment.name, &name)?;
    health.map(Reply::ok).ok_or(AdminError::NotFound)
}

/// Drops the answers that are kept of an environment, or of one of its deployments.
pub(super) fn purge_cache(state: &AdminState, call: &Call) -> Result<Reply, AdminError> {
    call.known_query(&[])?;
    let (Some(workspace), Some(environment)) = (&call.workspace, &call.environment) else {
        return Err(AdminError::NotFound);
    };
    let deployment = match call.route.kind {
        Some(Kind::Deployment) => Some(name_of(state, call, Kind::Deployment)?),
        _ => None,
    };
    let place = (&*workspace.name, &*environment.name);
    let purged = (state.cache_purge)(place, deployment.as_deref())?;
    purged.map(Reply::ok).ok_or(AdminError::NotFound)
}

/// The live counters of an owner against each of its limits.
pub(super) fn limit_usage(state: &AdminState, call: &Call) -> Result<Reply, AdminError> {
    let (Some(workspace), Some(environment), Some(kind)) =
        (&call.workspace, &call.environment, call.route.kind)
    else {
        return Err(AdminError::NotFound);
    };
    let name = name_of(state, call, kind)?;
    let place = (&*workspace.name, &*environment.name, &*name);
    let usage = (state.limit_usage)(kind.list_name(), place)?;
    usage.map(Reply::ok).ok_or(AdminError::NotFound)
}

/// The active workspace and environment, by slug.
fn active_names(db: &mut Db) -> Result<Option<(String, String)>, AdminError> {
    let (Some(workspace), Some(environment)) = edit::active(db)? else { return Ok(None) };
    let workspace = resources::by_id(db, workspace)?;
    let environment = resources::by_id(db, environment)?;
    Ok(workspace
        .zip(environment)
        .map(|(workspace, environment)| (workspace.name, environment.name)))
}

pub(super) fn active(state: &AdminState, call: &Call) -> Result<Reply, AdminError> {
    call.known_query(&[])?;
    state.desk.read(|db| {
        let (workspace, environment) = active_names(db)?.unzip();
        Ok(Reply::ok(json!({ "workspace": workspace, "environment": environment })))
    })
}

pub(super) fn set_active(state: &AdminState, call: &Call) -> Result<Reply, AdminError> {
    let body = call.object()?;
    if let Some(field) = body.keys().find(|it| !["workspace", "environment"].contains(&it.as_str()))
    {
        return Err(EditError::invalid(field, "unknown field").into());
    }
    let text = |field: &str| match body.get(field) {
        Some(Json::String(text)) => Ok(text.clone()),
        _ => Err(EditError::invalid(field, "must be a slug or an id")),
    };
    let (workspace, environment) = (text("workspace")?, text("environment")?);
    state.desk.change(call, |editor| {
        let missing = |field| EditError::invalid(field, "there is no such resource");
        let workspace = editor
            .find(Kind::Workspace, Place::default(), &workspace)
            .map_err(|_| missing("workspace"))?;
        let environment = editor
            .find(Kind::Environment, Place::in_workspace(workspace.id), &environment)
            .map_err(|_| missing("environment"))?;
        if workspace.status != resources::Status::Active {
            return Err(EditError::Conflict {
                code: "workspace_archived",
                detail: "the workspace is archived; recover it first",
            }
            .into());
        }
        let now = edit::active(editor.tx.db)?;
        if now == (Some(workspace.id), Some(environment.id)) {
            return Err(EditError::Conflict {
                code: "already_active",
                detail: "this workspace and environment are active already",
            }
            .into());
        }
        let sql = "UPDATE state SET active_workspace = $1, active_environment = $2";
        editor.tx.db.execute(sql, &[workspace.id.into(), environment.id.into()])?;
        let event = Event {
            action: "activate",
            kind: Kind::Environment.name(),
            id: environment.id.to_string(),
            name: &environment.name,
            workspace: Some(workspace.id),
            environment: Some(environment.id),
            before: Some(json!({ "workspace": now.0, "environment": now.1 })),
            after: Some(json!({ "workspace": workspace.id, "environment": environment.id })),
        };
        editor.tx.record(editor.actor, event)?;
        Ok(Reply::ok(json!({ "workspace": workspace.name, "environment": environment.name })))
    })
}

pub(super) fn prices(_state: &AdminState, call: &Call) -> Result<Reply, AdminError> {
    call.known_query(&[])?;
    let prices: Vec<Json> = catalogue::models()
        .filter_map(|(provider, model)| {
            let price = price(catalogue::lookup(provider, model)?.price);
            let named = json!({ "provider": provider, "model": model, "source": "catalogue" });
            let (Json::Object(mut fields), Json::Object(price)) = (named, price) else {
                return None;
            };
            fields.insert("price".to_owned(), Json::Object(price));
            Some(Json::Object(fields))
        })
        .collect();
    Ok(Reply::ok(json!({ "data": prices, "version": catalogue::version(), "next_cursor": null })))
}

/// Dollars per million tokens, as a document writes them.
fn price(price: Price) -> Json {
    let dollars = |nano: u64| {
        let fraction = format!("{:09}", nano % 1_000_000_000);
        let fraction = fraction.trim_end_matches('0');
        format!("{}.{}", nano / 1_000_000_000, if fraction.is_empty() { "0" } else { fraction })
    };
    let mut fields = serde_json::Map::new();
    let parts = [
        ("input", Some(price.input)),
        ("output", Some(price.output)),
        ("cache_read", price.cache_read),
        ("cache_write", price.cache_write_5m),
        ("cache_write_1h", price.cache_write_1h),
        ("reasoning", price.reasoning),
        ("audio_in", price.audio_in),
        ("audio_out", price.audio_out),
    ];
    for (name, nano) in parts {
        fields.extend(nano.map(|nano| (name.to_owned(), json!(dollars(nano)))));
    }
    Json::Object(fields)
}

/// A JSON schema of the `settings` of a connection.
fn settings(provider: Provider) -> Json {
    let known = provider.settings();
    if known.is_empty() {
        return json!({ "type": "object" });
    }
    let of = |(name, description): &(&str, &str)| {
        let word = json!({
            "type": "string", "pattern": "^[A-Za-z0-9-]+$", "description": description,
        });
        ((*name).to_owned(), word)
    };
    let properties: serde_json::Map<String, Json> = known.iter().map(of).collect();
    json!({ "type": "object", "properties": properties, "additionalProperties": false })
}

pub(super) fn providers(_state: &AdminState, call: &Call) -> Result<Reply, AdminError> {
    call.known_query(&[])?;
    let provider = |name: &'static str| {
        let provider = Provider::from_name(name)?;
        let dialects: Vec<&str> =
            provider.dialects().iter().map(crate::dialect::Dialect::name).collect();
        Some(json!({
            "name": name,
            "base_url": provider.base_url(),
            "dialects": dialects,
            "settings": settings(provider),
        }))
    };
    let providers: Vec<Json> = Provider::names().filter_map(provider).collect();
    Ok(Reply::ok(json!({ "data": providers, "next_cursor": null })))
}
