//! Virtual keys and their scopes.

use std::collections::{BTreeMap, HashMap};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::limit::limits;
use super::names::{Names, is_metadata_key, refer};
use super::workspace::{Scope, check_description};
use super::{Allowed, Scopes, VirtualKey};
use crate::clock::Clock;
use crate::config::fields::{Fields, Item};
use crate::dialect::Endpoint;
use crate::key::{self, KeyDigest};
use crate::secret::Secret;

const METADATA_LEN_MAX: usize = 1024;

pub(super) fn read(
    fields: Fields<'_>,
    names: &mut Names,
    scope: &Scope,
    digests: &mut HashMap<KeyDigest, String>,
) -> VirtualKey {
    let key = VirtualKey {
        name: names.declare(&fields, "name"),
        secret: fields.get("secret").and_then(|item| secret(&item, digests)),
        scopes: scopes(&fields, scope),
        expires_at_us: fields.get("expires_at").and_then(|item| expires_at(&item)),
        enabled: fields.flag("enabled", true),
        labels: labels(&fields),
        metadata_defaults: metadata_defaults(&fields),
        limits: limits(&fields),
    };
    check_description(&fields);
    fields.finish();
    key
}

fn secret(item: &Item<'_>, digests: &mut HashMap<KeyDigest, String>) -> Option<Secret> {
    let text = item.text()?;
    if let Err(fault) = key::check(text.as_bytes()) {
        item.problem(fault.to_string());
        return None;
    }
    let first = digests.insert(key::digest(text.as_bytes()), item.place().path.clone());
    if let Some(first) = first {
        item.problem(format!("is the secret of another key too: {first}"));
    }
    Some(Secret::new(text.to_owned()))
}

fn expires_at(item: &Item<'_>) -> Option<i64> {
    let Ok(time) = OffsetDateTime::parse(item.date()?, &Rfc3339) else {
        item.problem("must be a time as 2027-01-01T00:00:00Z (RFC 3339)");
        return None;
    };
    let micros = i64::try_from(time.unix_timestamp_nanos() / 1_000).ok()?;
    if micros <= Clock::default().unix_micros() {
        item.warning("is past: this key is refused");
    }
    Some(micros)
}

fn scopes(fields: &Fields<'_>, scope: &Scope) -> Scopes {
    let mut scopes = Scopes {
        endpoints: Allowed::All,
        models: Allowed::All,
        deployments: Allowed::All,
        ad_hoc: false,
        pin: false,
    };
    let Some(fields) = fields.get("scopes").and_then(|item| item.fields()) else {
        return scopes;
    };
    scopes.endpoints = match allowed(&fields, "endpoints", endpoint) {
        Allowed::All => Allowed::All,
        // Two endpoints share the name `responses`.
        Allowed::Only(names) => Allowed::Only(
            Endpoint::ALL.into_iter().filter(|it| names.contains(&it.name())).collect(),
        ),
    };
    scopes.models = allowed(&fields, "models", |item| {
        Some(refer(item, "model", &[&scope.models, &scope.granted]))
    });
    scopes.deployments = allowed(&fields, "deployments", |item| {
        // What the rules of the environment choose.
        if matches!(item.text_if_any(), Some("auto")) {
            return Some("auto".to_owned());
        }
        Some(refer(item, "deployment", &[&scope.deployments]))
    });
    scopes.ad_hoc = fields.flag("ad_hoc", false);
    scopes.pin = fields.flag("pin", false);
    fields.finish();
    scopes
}

/// `"all"`, `"none"` or a list; all when it is missing.
fn allowed<T>(
    fields: &Fields<'_>,
    name: &'static str,
    read: impl Fn(&Item<'_>) -> Option<T>,
) -> Allowed<T> {
    let Some(item) = fields.get(name) else { return Allowed::All };
    if item.is_text() {
        let is_all = item.choice(&[("all", true), ("none", false)]);
        return if is_all == Some(true) { Allowed::All } else { Allowed::Only(Vec::new()) };
    }
    let items = item.list().unwrap_or_default();
    Allowed::Only(items.iter().filter_map(read).collect())
}

fn endpoint(item: &Item<'_>) -> Option<&'static str> {
    let text = item.text()?;
    let name = Endpoint::ALL.map(Endpoint::name).into_iter().find(|name| *name == text);
    if name.is_none() {
        let shown = item.report().show(text);
        let hint = item.report().did_you_mean(text, Endpoint::ALL.iter().map(|it| it.name()));
        item.problem(format!("no endpoint called {shown}{hint}"));
    }
    name
}

fn labels(fields: &Fields<'_>) -> BTreeMap<String, String> {
    let Some(fields) = fields.get("labels").and_then(|item| item.fields()) else {
        return BTreeMap::new();
    };
    let text = |(key, item): (&str, Item<'_>)| Some((key.to_owned(), item.text()?.to_owned()));
    fields.entries().filter_map(text).collect()
}

/// What a request that says nothing else is recorded with.
fn metadata_defaults(fields: &Fields<'_>) -> BTreeMap<String, String> {
    let Some(fields) = fields.get("metadata_defaults").and_then(|item| item.fields()) else {
        return BTreeMap::new();
    };
    let mut metadata = BTreeMap::new();
    for (key, item) in fields.entries() {
        if !is_metadata_key(key) {
            item.problem("must have a key of 1 to 64 lowercase letters, digits, `-` or `_`");
        }
        if let Some(text) = item.text() {
            if text.len() > METADATA_LEN_MAX {
                item.problem(format!("must not be longer than {METADATA_LEN_MAX} bytes"));
            }
            metadata.insert(key.to_owned(), text.to_owned());
        }
    }
    metadata
}
