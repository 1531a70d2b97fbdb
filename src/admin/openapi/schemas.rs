//! The schemas that the table of routes names.

use serde_json::{Map, Value as Json, json};

use super::reference;
use crate::admin::routes::routes;
use crate::usage::query::ROW_FIELDS;

/// An object of these properties, each a name and a type; `!` marks what must be there.
fn object(properties: &[(&str, &str)]) -> Json {
    let bare = |name: &str| name.trim_end_matches('!').to_owned();
    let required: Vec<String> = properties
        .iter()
        .filter(|(name, _)| name.ends_with('!'))
        .map(|(name, _)| bare(name))
        .collect();
    let properties: Map<String, Json> =
        properties.iter().map(|(name, kind)| (bare(name), property(kind))).collect();
    json!({ "type": "object", "properties": properties, "required": required })
}

fn property(kind: &str) -> Json {
    match kind {
        "any" => json!({}),
        "text?" => json!({ "type": ["string", "null"] }),
        "number?" => json!({ "type": ["integer", "null"] }),
        "texts" => json!({ "type": "array", "items": { "type": "string" } }),
        "objects" => json!({ "type": "array", "items": { "type": "object" } }),
        kind => match kind.strip_prefix('#') {
            Some(schema) => reference(schema),
            None => json!({ "type": kind }),
        },
    }
}

const STAMPS: [(&str, &str); 5] = [
    ("id", "string"),
    ("created_at", "string"),
    ("created_by", "string"),
    ("updated_at", "string"),
    ("updated_by", "string"),
];
const DESCRIBED: [(&str, &str); 4] = [
    ("description", "string"),
    ("labels", "object"),
    ("limits", "objects"),
    ("enabled", "boolean"),
];
const PLACED: [(&str, &str); 2] = [("workspace_id", "string"), ("environment_id", "string")];

type Properties = &'static [(&'static str, &'static str)];

const WORKSPACE: Properties = &[
    ("slug", "string"),
    ("name", "string"),
    ("status", "string"),
    ("default", "boolean"),
    ("settings", "object"),
    ("environments", "objects"),
];
const ENVIRONMENT: Properties = &[
    ("slug", "string"),
    ("name", "string"),
    ("instructions", "string"),
    ("rules", "objects"),
    ("priority_pools", "objects"),
];
const CONNECTION: Properties = &[
    ("name", "string"),
    ("provider", "string"),
    ("base_url", "string"),
    ("credential", "string"),
    ("credential_hint", "text?"),
    ("auth", "string"),
    ("dialects", "texts"),
    ("settings", "object"),
    ("health_check", "object"),
];
const MODEL: Properties = &[
    ("alias", "string"),
    ("connection", "string"),
    ("upstream_model", "string"),
    ("kind", "string"),
    ("capabilities", "texts"),
    ("context_window", "integer"),
    ("max_output_tokens", "integer"),
    ("price", "object"),
    ("price_source", "string"),
];
const DEPLOYMENT: Properties = &[
    ("name", "string"),
    ("strategy", "string"),
    ("hash_on", "string"),
    ("targets", "objects"),
    ("timeouts", "object"),
    ("failover", "object"),
    ("breaker", "object"),
    ("on_disconnect", "string"),
    ("heartbeat_s", "number"),
    ("cache", "object"),
    ("default_params", "object"),
    ("override_params", "object"),
    ("instructions", "string"),
    ("rules", "objects"),
    ("environment_rules", "boolean"),
    ("guards", "objects"),
];
const KEY: Properties = &[
    ("name", "string"),
    ("secret", "string"),
    ("hint", "text?"),
    ("secrets", "objects"),
    ("status", "string"),
    ("scopes", "object"),
    ("expires_at", "string"),
    ("metadata_defaults", "object"),
    ("last_used_at", "text?"),
];

/// Schemas of resources, and of a list of each.
pub(super) fn all() -> Map<String, Json> {
    let mut all = Map::new();
    let resources: [(&str, Properties, bool); 7] = [
        ("Workspace", WORKSPACE, false),
        ("Environment", ENVIRONMENT, false),
        ("Connection", CONNECTION, true),
        ("Model", MODEL, true),
        ("ModelGrant", &[("model", "string")], true),
        ("Deployment", DEPLOYMENT, true),
        ("Key", KEY, true),
    ];
    for (name, own, is_placed) in resources {
        let placed = if is_placed { &PLACED[..] } else { &[("workspace_id", "string")][..] };
        all.insert(name.to_owned(), object(&[own, &STAMPS, &DESCRIBED, placed].concat()));
    }
    for (name, own) in OTHERS {
        all.insert((*name).to_owned(), object(own));
    }
    let row = ROW_FIELDS.map(|name| (name, "any"));
    all.insert("Request".to_owned(), object(&row));
    all.insert("Any".to_owned(), json!({ "type": "object" }));
    let lists: Vec<String> = routes()
        .iter()
        .filter_map(|route| route.answer)
        .filter_map(|answer| answer.strip_suffix("List").map(str::to_owned))
        .collect();
    for item in lists {
        let schema = if all.contains_key(&item) { &item } else { "Any" };
        let mut properties = json!({
            "data": { "type": "array", "items": reference(schema) },
            "next_cursor": { "type": ["string", "null"] },
        });
        // Which catalogue the prices are of.
        if let ("Price", Json::Object(properties)) = (&*item, &mut properties) {
            properties.insert("version".to_owned(), property("string"));
        }
        let required = ["data", "next_cursor"];
        let list = json!({ "type": "object", "required": required, "properties": properties });
        all.insert(format!("{item}List"), list);
    }
    all
}

const OTHERS: &[(&str, Properties)] = &[
    (
        "Problem",
        &[
            ("type", "string"),
            ("title", "string"),
            ("status", "integer"),
            ("code", "string"),
            ("detail", "string"),
            ("errors", "objects"),
        ],
    ),
    ("Document", &[("connections", "objects"), ("models", "objects"), ("workspaces", "objects")]),
    ("Plan", &[("dry_run", "boolean"), ("changes", "objects"), ("secrets", "objects")]),
    ("Rotation", &[("grace_s", "integer")]),
    ("ConnectionTest", &[("model", "text?")]),
    (
        "ConnectionVerdict",
        &[("ok!", "boolean"), ("status", "number?"), ("latency_ms", "number?"), ("error", "any")],
    ),
    ("UpstreamModel", &[("id!", "string"), ("name", "text?")]),
    ("Active", &[("workspace", "text?"), ("environment", "text?")]),
    ("Verdict", &[("intact", "boolean"), ("events", "number?"), ("problem", "text?")]),
    ("Version", &[("name", "string"), ("version", "string")]),
    ("Purge", &[("purged", "number?")]),
    (
        "RulesTrial",
        &[
            ("body", "object"),
            ("dialect", "string"),
            ("metadata", "object"),
            ("end_user", "string"),
            ("key", "string"),
            ("client", "string"),
            ("source_ip", "string"),
            ("now", "string"),
            ("draw", "number"),
            ("rules", "objects"),
        ],
    ),
    (
        "RulesVerdict",
        &[
            ("deployment", "text?"),
            ("model", "text?"),
            ("target", "text?"),
            ("blocked", "text?"),
            ("rules", "objects"),
        ],
    ),
    ("LimitUsage", &[("name", "string"), ("limits", "objects")]),
    ("DeploymentHealth", &[("id", "text?"), ("name", "string"), ("targets", "objects")]),
    (
        "AuditEvent",
        &[
            ("seq", "integer"),
            ("id", "string"),
            ("revision", "integer"),
            ("at", "string"),
            ("actor", "object"),
            ("source_ip", "text?"),
            ("action", "string"),
            ("resource", "object"),
            ("workspace_id", "text?"),
            ("environment_id", "text?"),
            ("before", "any"),
            ("after", "any"),
            ("hash", "string"),
        ],
    ),
    (
        "User",
        &[
            ("id", "string"),
            ("email", "string"),
            ("name", "string"),
            ("platform_role", "string"),
            ("status", "string"),
            ("password", "string"),
            ("must_change_password", "boolean"),
            ("last_login_at", "text?"),
            ("invite_token", "string"),
            ("invite_expires_at", "string"),
            ("created_at", "string"),
            ("created_by", "string"),
        ],
    ),
    (
        "Member",
        &[
            ("user_id", "string"),
            ("email", "text?"),
            ("name", "text?"),
            ("role", "string"),
            ("environments", "any"),
            ("created_at", "string"),
            ("created_by", "string"),
        ],
    ),
    (
        "AdminToken",
        &[
            ("id", "string"),
            ("user_id", "string"),
            ("name", "string"),
            ("token", "string"),
            ("hint", "string"),
            ("permissions", "any"),
            ("workspaces", "any"),
            ("expires_at", "text?"),
            ("last_used_at", "text?"),
            ("created_at", "string"),
            ("created_by", "string"),
        ],
    ),
    ("Login", &[("email!", "string"), ("password!", "string")]),
    ("Session", &[("user", "#User"), ("csrf_token", "string")]),
    ("PasswordChange", &[("current!", "string"), ("password!", "string")]),
    ("Acceptance", &[("token!", "string"), ("password!", "string"), ("name", "string")]),
    (
        "Me",
        &[
            ("kind", "string"),
            ("user", "any"),
            ("platform_role", "string"),
            ("permissions", "texts"),
            ("memberships", "objects"),
        ],
    ),
    (
        "UsageQuery",
        &[
            ("workspace", "string"),
            ("environment", "string"),
            ("range!", "object"),
            ("granularity", "string"),
            ("metrics!", "texts"),
            ("dimensions", "texts"),
            ("filters", "objects"),
            ("order", "object"),
            ("limit", "integer"),
        ],
    ),
    (
        "UsageAnswer",
        &[
            ("range", "object"),
            ("granularity", "string"),
            ("source", "string"),
            ("groups", "integer"),
            ("is_truncated", "boolean"),
            ("data", "objects"),
        ],
    ),
    (
        "Price",
        &[("provider", "string"), ("model", "string"), ("source", "string"), ("price", "object")],
    ),
    (
        "Provider",
        &[("name", "string"), ("base_url", "text?"), ("dialects", "texts"), ("settings", "object")],
    ),
];
