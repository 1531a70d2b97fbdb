//! The document, its workspaces and their environments.

use std::collections::HashMap;

use super::additions::instructions;
use super::cache::cache;
use super::limit::limits;
use super::names::{Names, is_slug, refer};
use super::rules::{Whose, rules};
use super::{
    Connection, Environment, Known, Model, ModelGrant, PayloadLogging, Resources, Workspace,
    WorkspaceSettings,
};
use super::{connection, deployment, model, unenforced, virtual_key};
use crate::config::fields::{Fields, Item};
use crate::key::KeyDigest;

/// The built-in workspace: a document may fill it.
const BUILT_IN_SLUG: &str = "default";
const RESERVED_SLUGS: [&str; 2] = ["active", "archived"];

/// What the readers of a document must know of its other parts.
#[derive(Default)]
pub(super) struct Globals {
    pub(super) connections: Names,
    pub(super) models: Names,
    /// Every key's digest, and the field it stands in.
    pub(super) keys: HashMap<KeyDigest, String>,
}

/// What stands in one environment, for the references inside it.
#[derive(Default)]
pub(super) struct Scope {
    pub(super) connections: Names,
    pub(super) models: Names,
    /// Global models with a grant.
    pub(super) granted: Names,
    pub(super) deployments: Names,
}

pub(super) fn resources(root: Fields<'_>, known: &Known) -> Resources {
    let mut globals = Globals::default();
    let connections = connections(&root, &mut globals.connections);
    let elsewhere = Names::of(&known.global_connections);
    let models = models(&root, &mut globals.models, &[&globals.connections, &elsewhere]);
    globals.connections.add_missing(&known.global_connections);
    globals.models.add_missing(&known.global_models);
    let mut slugs = Names::default();
    let workspaces = root.tables("workspaces");
    let workspaces =
        workspaces.into_iter().map(|fields| workspace(fields, &mut slugs, &mut globals));
    let resources = Resources { connections, models, workspaces: workspaces.collect() };
    root.finish();
    resources
}

fn connections(fields: &Fields<'_>, names: &mut Names) -> Vec<Connection> {
    let tables = fields.tables("connections");
    tables.into_iter().map(|fields| connection::read(fields, names)).collect()
}

fn models(fields: &Fields<'_>, names: &mut Names, connections: &[&Names]) -> Vec<Model> {
    let tables = fields.tables("models");
    tables.into_iter().map(|fields| model::read(fields, names, connections)).collect()
}

pub(super) fn workspace(fields: Fields<'_>, slugs: &mut Names, globals: &mut Globals) -> Workspace {
    let slug_item = fields.require("slug");
    let slug = slug_item.as_ref().and_then(|item| slug(item, slugs)).unwrap_or_default();
    if let Some(item) = slug_item.filter(|_| RESERVED_SLUGS.contains(&slug.as_str())) {
        item.problem(format!("`{slug}` is reserved"));
    }
    let status = fields.get("status");
    let words = [("active", false), ("archived", true)];
    let is_archived = status.as_ref().and_then(|item| item.choice(&words)).unwrap_or(false);
    if let Some(item) = status.filter(|_| is_archived && slug == BUILT_IN_SLUG) {
        item.problem("the built-in workspace cannot be archived");
    }
    let settings = settings(&fields);
    let mut environment_slugs = Names::default();
    let environments = fields.tables("environments").into_iter();
    let workspace = Workspace {
        name: title(&fields, &slug),
        slug,
        description: fields.text("description").unwrap_or_default().to_owned(),
        is_archived,
        limits: limits(&fields),
        settings,
        environments: environments
            .map(|fields| environment(fields, &mut environment_slugs, globals))
            .collect(),
    };
    check_labels(&fields);
    fields.finish();
    workspace
}

const PAYLOAD_LOGGING: [(&str, PayloadLogging); 3] = [
    ("off", PayloadLogging::Off),
    ("metadata", PayloadLogging::Metadata),
    ("full", PayloadLogging::Full),
];

fn settings(fields: &Fields<'_>) -> WorkspaceSettings {
    let Some(fields) = fields.get("settings").and_then(|item| item.fields()) else {
        return WorkspaceSettings::default();
    };
    let retention_days = fields.get("retention_days");
    let settings = WorkspaceSettings {
        retention_days: retention_days.and_then(|item| item.number(&(1..=3_650))),
        payload_logging: fields.choice("payload_logging", &PAYLOAD_LOGGING, PayloadLogging::Off),
        instructions: instructions(&fields),
        cache: cache(&fields),
    };
    fields.finish();
    settings
}

pub(super) fn environment(
    fields: Fields<'_>,
    slugs: &mut Names,
    globals: &mut Globals,
) -> Environment {
    let slug = fields.require("slug").and_then(|item| slug(&item, slugs)).unwrap_or_default();
    let mut scope = Scope::default();
    let connections = connections(&fields, &mut scope.connections);
    let models = models(&fields, &mut scope.models, &[&scope.connections, &globals.connections]);
    let model_grants = fields.tables("model_grants").into_iter();
    let model_grants =
        model_grants.map(|fields| grant(fields, &mut scope.granted, &globals.models)).collect();
    let mut deployment_names = Names::default();
    let deployments = fields.tables("deployments").into_iter();
    let deployments = deployments
        .map(|fields| deployment::read(fields, &mut deployment_names, &scope, &globals.models))
        .collect();
    scope.deployments = deployment_names;
    let mut key_names = Names::default();
    let keys = fields.tables("keys").into_iter();
    let keys = keys
        .map(|fields| virtual_key::read(fields, &mut key_names, &scope, &mut globals.keys))
        .collect();
    unenforced::environment_policies(&fields);
    let environment = Environment {
        name: title(&fields, &slug),
        slug,
        instructions: instructions(&fields),
        rules: rules(
            &fields,
            Whose::Environment(&[&scope.deployments], &[&scope.models, &scope.granted]),
        ),
        limits: limits(&fields),
        connections,
        models,
        model_grants,
        deployments,
        keys,
    };
    check_description(&fields);
    check_labels(&fields);
    fields.finish();
    environment
}

pub(super) fn grant(fields: Fields<'_>, granted: &mut Names, global_models: &Names) -> ModelGrant {
    let item = fields.require("model");
    let model = item.as_ref().map(|item| refer(item, "global model", &[global_models]));
    if let (Some(item), Some(model)) = (&item, &model) {
        granted.insert(item, model);
    }
    let grant = ModelGrant {
        model: model.unwrap_or_default(),
        limits: limits(&fields),
        enabled: fields.flag("enabled", true),
    };
    fields.finish();
    grant
}

fn slug(item: &Item<'_>, slugs: &mut Names) -> Option<String> {
    let slug = item.text()?;
    if !is_slug(slug) {
        item.problem("must be 1 to 63 lowercase letters, digits or `-`, and not begin with `-`");
    }
    slugs.insert(item, slug);
    Some(slug.to_owned())
}

/// The name for people, which is the slug unless given.
fn title(fields: &Fields<'_>, slug: &str) -> String {
    fields.text("name").unwrap_or(slug).to_owned()
}

/// Every resource may be described.
pub(super) fn check_description(fields: &Fields<'_>) {
    // Only its type can be wrong.
    let _: Option<&str> = fields.text("description");
}

/// Every resource may carry labels.
pub(super) fn check_labels(fields: &Fields<'_>) {
    if let Some(labels) = fields.get("labels").and_then(|item| item.fields()) {
        for (_, item) in labels.entries() {
            let _: Option<&str> = item.text();
        }
    }
}
