//! `SLUICE_DATA__LISTEN=…`: env vars over the file.

use crate::config::document::{Entry, Node, Table, Value};
use crate::config::fields::{Place, Report, env_var};
use crate::config::suggest::nearest;

/// How the text of an env var is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Shape {
    Text,
    /// A whole number, or `true` or `false`.
    Literal,
    /// Texts with commas between them.
    List,
}

/// Every field there is.
pub(super) const FIELDS: [(&str, Shape); 62] = [
    ("resources", Shape::Text),
    ("data.listen", Shape::List),
    ("data.threads", Shape::Literal),
    ("data.max_body_bytes", Shape::Literal),
    ("data.anonymous_access", Shape::Literal),
    ("data.h2c", Shape::Literal),
    ("data.tls.listen", Shape::List),
    ("data.tls.cert", Shape::Text),
    ("data.tls.key", Shape::Text),
    ("data.header_timeout_ms", Shape::Literal),
    ("data.stall_timeout_ms", Shape::Literal),
    ("data.keepalive_timeout_s", Shape::Literal),
    ("data.max_connections", Shape::Literal),
    ("data.max_connections_per_ip", Shape::Literal),
    ("data.max_in_flight", Shape::Literal),
    ("data.server_timing", Shape::Literal),
    ("admin.listen", Shape::Text),
    ("state.url", Shape::Text),
    ("state.copy_file", Shape::Text),
    ("state.max_staleness_s", Shape::Literal),
    ("usage.url", Shape::Text),
    ("usage.cluster", Shape::Text),
    ("usage.spool_dir", Shape::Text),
    ("usage.spool_max_bytes", Shape::Literal),
    ("usage.spool_segment_bytes", Shape::Literal),
    ("usage.fsync", Shape::Text),
    ("usage.on_full", Shape::Text),
    ("usage.node", Shape::Text),
    ("usage.batch_rows", Shape::Literal),
    ("usage.batch_bytes", Shape::Literal),
    ("usage.batch_interval_ms", Shape::Literal),
    ("usage.retention_days", Shape::Literal),
    ("usage.payload_max_bytes", Shape::Literal),
    ("limits.file", Shape::Text),
    ("limits.interval_ms", Shape::Literal),
    ("limits.max_dimension_values", Shape::Literal),
    ("shared.redis", Shape::Text),
    ("shared.timeout_ms", Shape::Literal),
    ("cache.max_bytes", Shape::Literal),
    ("cache.store", Shape::Text),
    ("cache.timeout_ms", Shape::Literal),
    ("shared.lease_ms", Shape::Literal),
    ("secrets.master_key_file", Shape::Text),
    ("upstream.allow_networks", Shape::List),
    ("upstream.keepalive_pool", Shape::Literal),
    ("upstream.ca_file", Shape::Text),
    ("upstream.dns_refresh_s", Shape::Literal),
    ("oidc.issuer", Shape::Text),
    ("oidc.client_id", Shape::Text),
    ("oidc.client_secret", Shape::Text),
    ("oidc.redirect_url", Shape::Text),
    ("oidc.scopes", Shape::List),
    ("oidc.role_claim", Shape::Text),
    ("oidc.superadmins", Shape::List),
    ("oidc.admins", Shape::List),
    ("oidc.members", Shape::List),
    ("oidc.default_role", Shape::Text),
    ("oidc.trust_email", Shape::Literal),
    ("telemetry.log", Shape::Text),
    ("telemetry.otlp", Shape::Text),
    ("drain.delay_s", Shape::Literal),
    ("drain.max_s", Shape::Literal),
];

/// Puts what the env vars say in place of what `root` says.
///
/// A name with `__` that is no field is a problem. One without is not: an orchestrator sets some
/// for every service (`SLUICE_SERVICE_HOST`), and the command line has its own
/// (`SLUICE_ADMIN_TOKEN`).
pub(super) fn overlay(
    root: &mut Node,
    env: impl Iterator<Item = (String, String)>,
    report: &Report,
) {
    let mut known: Vec<(String, (&str, Shape))> =
        FIELDS.into_iter().map(|field| (env_var(field.0), field)).collect();
    known.sort();
    for (name, text) in env.filter(|(name, _)| name.starts_with("SLUICE_")) {
        let found = known.iter().find(|(known, _)| *known == name);
        if let Some((_, (path, shape))) = found {
            set(root, path, value(&text, *shape));
        } else if name.contains("__") {
            let names = known.iter().map(|(name, _)| name.as_str());
            let hint = nearest(&name, names)
                .map_or_else(String::new, |name| format!(", did you mean `{name}`?"));
            let path = name.strip_prefix("SLUICE_").unwrap_or(&name);
            let place = Place { line: 0, path: path.to_owned() };
            report.problem(&place, format!("no such field in the configuration{hint}"));
        }
    }
}

fn value(text: &str, shape: Shape) -> Value {
    let text = text.trim();
    match shape {
        Shape::Text => Value::Text(text.to_owned()),
        Shape::List => {
            let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
            let node = |part: &str| Node { line: 0, value: Value::Text(part.to_owned()) };
            Value::List(parts.map(node).collect())
        }
        Shape::Literal => match text {
            "true" => Value::Flag(true),
            "false" => Value::Flag(false),
            _ if text.parse::<i128>().is_ok() => Value::Number(text.to_owned()),
            _ => Value::Text(text.to_owned()),
        },
    }
}

/// Sets the field `path` below `root`. Where the file has no table, its own problem is enough.
fn set(root: &mut Node, path: &str, value: Value) {
    let (key, rest) = match path.split_once('.') {
        Some((key, rest)) => (key, Some(rest)),
        None => (path, None),
    };
    let Value::Table(table) = &mut root.value else { return };
    if table.get(key).is_none() {
        let value = Value::Table(Table::default());
        table.entries.push(Entry { key: key.to_owned(), line: 0, node: Node { line: 0, value } });
    }
    let Some(entry) = table.get_mut(key) else { return };
    match rest {
        Some(rest) => {
            if matches!(entry.node.value, Value::Null) {
                entry.node.value = Value::Table(Table::default());
            }
            set(&mut entry.node, rest, value);
        }
        None => entry.node = Node { line: 0, value },
    }
}
