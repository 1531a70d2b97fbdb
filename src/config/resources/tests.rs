//! Documents: what is accepted, and every mistake with its place.

use proptest::prelude::{prop, prop_assert, prop_assert_eq, proptest};

use super::*;
use crate::key;

const EXAMPLE: &str = include_str!("../../../conf/resources.example.toml");

/// The smallest document with a deployment and a key.
const SMALL: &str = r#"
[[workspaces]]
slug = "acme"
[[workspaces.environments]]
slug = "production"
[[workspaces.environments.connections]]
name = "sim"
provider = "simulated"
[[workspaces.environments.models]]
alias = "m"
connection = "sim"
[[workspaces.environments.deployments]]
name = "chat"
targets = [{ model = "m" }]
[[workspaces.environments.keys]]
name = "app"
"#;

/// A document with every field there is.
const EVERY_FIELD: &str = r#"
[[connections]]
name = "shared"
provider = "openai"
credential = "sk-shared"
[[models]]
alias = "global"
connection = "shared"
[[workspaces]]
slug = "acme"
name = "Acme"
description = "d"
labels = { a = "b" }
settings = { cache = { enabled = false, ttl_s = 300 }, instructions = "be kind", retention_days = 30, payload_logging = "off" }
[[workspaces.environments]]
slug = "production"
model_grants = [{ model = "global", enabled = false }]
rules = [{ when = "true", traffic_percent = 50, then = { deployment = "chat" } }]
priority_pools = [{}]
[[workspaces.environments.connections]]
name = "main"
provider = "openai_compatible"
base_url = "https://api.example.com/v1/"
credential = "sk-1"
auth = "api_key"
dialects = ["responses"]
settings = { organization = "x" }
health_check = { path = "/health", interval_s = 0.5, timeout_ms = 100, unhealthy_after = 1, healthy_after = 1 }
enabled = false
[[workspaces.environments.models]]
alias = "gpt-4o"
connection = "main"
upstream_model = "gpt-4o-2024"
kind = "chat"
capabilities = ["tools"]
context_window = 128000
max_output_tokens = 16384
price = { input = "2.50", output = 10, cache_read = 1.25, cache_write_1h = "0.000000001" }
price_source = "user"
[[workspaces.environments.models]]
alias = "eu"
connection = "shared"
[[workspaces.environments.deployments]]
name = "chat"
strategy = "hash"
hash_on = "metadata.tenant"
targets = [
  { model = "gpt-4o", weight = 3, params = { temperature = 0 } },
  { name = "b", model = "gpt-4o", tier = 1, enabled = false, timeouts = { idle_ms = 7 } },
  { model = "global", weight = 0 },
]
timeouts = { connect_ms = 1, headers_ms = 2, first_token_ms = 3, idle_ms = 4, total_ms = 5 }
failover = { max_attempts = 10, retries = 2, on = ["reset", "503", 429, 429] }
breaker = { consecutive_failures = 1, error_rate = 1.0, cooldown_s = 0.25 }
on_disconnect = "drain"
heartbeat_s = 0
default_params = { temperature = 1 }
override_params = {}
instructions = "x"
guards = [{ kind = "pii", stage = "both", on_error = "deny" }]
cache = { enabled = true }
[[workspaces.environments.keys]]
name = "app"
scopes = { endpoints = ["responses", "models"], models = ["gpt-4o", "global"], deployments = "none", ad_hoc = true, pin = true }
limits = [ { metric = "requests", period = "minute", amount = 600 }, { metric = "cost_usd", period = "month", amount = "50.00", dimension = "metadata.k", mode = "shared" }, { metric = "concurrent", amount = 5 } ]
expires_at = 2000-01-01T00:00:00Z
labels = { a = "b" }
metadata_defaults = { team = "web" }
"#;

/// A document with a mistake in nearly every line.
const MISTAKES: &str = r#"
workspace = []
[[connections]]
name = "global/conn"
provider = "opena1"
[[models]]
alias = "global"
connection = "global/conn"
[[workspaces]]
slug = "Acme"
[[workspaces]]
slug = "active"
[[workspaces]]
slug = "default"
status = "archived"
[[workspaces.environments]]
slug = "production"
model_grants = [{ model = "globall" }]
[[workspaces.environments.connections]]
name = "main"
provider = "openai"
base_url = "https://user:hunter2@api.openai.com/v1"
[[workspaces.environments.connections]]
name = "main"
provider = "azure_openai"
credential = "hunter2 "
auth = "key"
[[workspaces.environments.models]]
alias = "gpt-4o"
conection = "main"
kind = "chatty"
price = { input = "2.5000000001", output = "-1", cached = "1" }
[[workspaces.environments.deployments]]
name = "chat"
strategy = "round_robin"
hash_on = "user"
targets = [
  { model = "gpt-4", weight = 0 },
  { model = "gpt-4o", weight = 0 },
  { model = "gpt-4o", weight = 1, enabled = false },
  { model = "global", tier = -1 },
]
timeouts = { connect_ms = 0, total = 5 }
failover = { max_attempts = 11, on = ["conect", 200] }
breaker = { error_rate = 50 }
[[workspaces.environments.keys]]
name = "app"
secret = "vk_hunter2"
scopes = { endpoints = ["chat"], models = ["gpt"], deployments = "some" }
expires_at = "tomorrow"
limits = [{ metric = "request", period = "minute", amount = -5 }]
metadata_defaults = { "Bad Key" = 5 }
[[workspaces.environments.keys]]
name = ""
secret = "${MISSING}"
"#;

fn parse(text: &str) -> Result<Checked, Problems> {
    Resources::parse("r.toml", text, &|_| None)
}

/// The only environment of a document.
fn environment(text: &str) -> Environment {
    parse(text).unwrap().resources.workspaces[0].environments[0].clone()
}

fn problems(text: &str) -> String {
    parse(text).unwrap_err().to_string()
}

/// The problems of [`SMALL`] with `from` replaced by `to`.
fn problems_with(from: &str, to: &str) -> String {
    assert!(SMALL.contains(from));
    problems(&SMALL.replace(from, to))
}

#[test]
fn example_is_accepted_without_warnings() {
    let [web, indexer] = [key::generate(), key::generate()];
    let env = |name: &str| match name {
        "OPENAI_API_KEY" | "ANTHROPIC_API_KEY" => Some("sk-test".to_owned()),
        "WEB_APP_KEY" => Some(web.expose().to_owned()),
        "INDEXER_KEY" => Some(indexer.expose().to_owned()),
        _ => None,
    };
    let checked = Resources::parse("conf/resources.example.toml", EXAMPLE, &env).unwrap();
    assert_eq!(checked.warnings, []);
    let environment = &checked.resources.workspaces[0].environments[0];
    assert_eq!(environment.connections.len(), 3);
    assert_eq!(environment.keys[1].secret, Some(indexer));
}

#[test]
fn example_without_its_env_vars_names_each() {
    let problems = problems(EXAMPLE);
    for name in ["OPENAI_API_KEY", "ANTHROPIC_API_KEY", "WEB_APP_KEY", "INDEXER_KEY"] {
        assert!(problems.contains(&format!("the env var {name} is not set")), "{problems}");
    }
    assert_eq!(problems.lines().count(), 4, "{problems}");
}

#[test]
fn defaults_are_those_of_the_specification() {
    let environment = environment(SMALL);
    let deployment = &environment.deployments[0];
    assert_eq!(deployment.strategy, Strategy::WeightedRoundRobin);
    assert_eq!(deployment.heartbeat, Some(Duration::from_secs(15)));
    assert_eq!(deployment.on_disconnect, OnDisconnect::Cancel);
    assert_eq!(deployment.timeouts.total, Duration::from_mins(10));
    assert_eq!(deployment.failover.max_attempts, 3);
    assert_eq!(deployment.failover.retries, 0);
    assert_eq!(deployment.failover.on.statuses, [408, 429, 500, 502, 503, 504, 529]);
    assert!(deployment.failover.on.early_error);
    assert_eq!(deployment.breaker.consecutive_failures, 5);
    let target = &deployment.targets[0];
    assert_eq!((target.name.as_str(), target.weight, target.tier), ("m", 1, 0));
    assert_eq!(target.timeouts, deployment.timeouts);
    let model = &environment.models[0];
    assert_eq!((model.upstream_model.as_str(), model.kind), ("m", ModelKind::Chat));
    assert_eq!(environment.connections[0].auth, Auth::None);
    let key = &environment.keys[0];
    assert!(key.enabled && key.secret.is_none() && key.expires_at_us.is_none());
    assert_eq!(key.scopes.endpoints, Allowed::All);
    assert!(!key.scopes.ad_hoc && !key.scopes.pin);
}

#[test]
fn every_field_is_read() {
    let checked = parse(EVERY_FIELD).unwrap();
    let environment = &checked.resources.workspaces[0].environments[0];
    let connection = &environment.connections[0];
    let url = connection.base_url.as_ref().unwrap();
    assert_eq!((url.host.as_str(), url.port, url.path.as_str()), ("api.example.com", 443, "/v1"));
    assert!(connection.dialects.contains(crate::dialect::Dialect::Responses));
    assert!(!connection.dialects.contains(crate::dialect::Dialect::Messages));
    let price = environment.models[0].price.unwrap();
    assert_eq!((price.input, price.output), (2_500_000_000, 10_000_000_000));
    assert_eq!((price.cache_read, price.cache_write_1h), (Some(1_250_000_000), Some(1)));
    let deployment = &environment.deployments[0];
    assert_eq!(deployment.strategy, Strategy::Hash(HashOn::Metadata("tenant".to_owned())));
    assert_eq!(deployment.failover.on.statuses, [429, 503]);
    assert!(deployment.failover.on.reset && !deployment.failover.on.connect);
    assert_eq!(deployment.breaker.cooldown, Duration::from_millis(250));
    assert_eq!(deployment.heartbeat, None);
    assert_eq!(deployment.default_params, [("temperature".to_owned(), "1".to_owned())]);
    assert_eq!(deployment.override_params, []);
    assert_eq!(deployment.instructions.as_deref(), Some("x"));
    assert_eq!(checked.resources.workspaces[0].settings.instructions.as_deref(), Some("be kind"));
    let idle: Vec<u128> =
        deployment.targets.iter().map(|target| target.timeouts.idle.as_millis()).collect();
    assert_eq!(idle, [4, 7, 4]);
    let key = &environment.keys[0];
    let endpoints = vec![Endpoint::Responses, Endpoint::StoredResponse, Endpoint::Models];
    assert_eq!(key.scopes.endpoints, Allowed::Only(endpoints));
    assert_eq!(key.scopes.deployments, Allowed::Only(Vec::new()));
    assert_eq!(key.expires_at_us, Some(946_684_800_000_000));
    insta::assert_snapshot!(Problems(checked.warnings), @r"
    r.toml:19: workspaces[0].environments[0].priority_pools: is read but not enforced by this version
    r.toml:27: workspaces[0].environments[0].connections[0].settings: is read but not enforced by this version
    r.toml:48: workspaces[0].environments[0].deployments[0].targets[0].params: is read but not enforced by this version
    r.toml:60: workspaces[0].environments[0].deployments[0].guards: is read but not enforced by this version
    r.toml:66: workspaces[0].environments[0].keys[0].expires_at: is past: this key is refused
    ");
}

#[test]
fn parameters_that_cannot_be_added_are_refused() {
    let many: String = (0..65).map(|n| format!("p{n} = 1, ")).collect();
    let deep = format!("{}1{}", "[".repeat(33), "]".repeat(33));
    let text = format!(
        r#"
[[workspaces]]
slug = "a"
settings = {{ instructions = 7 }}
[[workspaces.environments]]
slug = "e"
[[workspaces.environments.connections]]
name = "c"
provider = "simulated"
[[workspaces.environments.models]]
alias = "m"
connection = "c"
[[workspaces.environments.deployments]]
name = "d"
targets = [{{ model = "m" }}]
override_params = {{ model = "x", stream = true, system = "x", ok = {{ a = [1.5] }} }}
[workspaces.environments.deployments.default_params]
date = 2000-01-01
digits = 0.1234567890123456789
not_a_number = [1, {{ x = nan }}]
deep = {deep}
[[workspaces.environments.deployments]]
name = "many"
targets = [{{ model = "m" }}]
default_params = {{ {many} }}
"#
    );
    insta::assert_snapshot!(problems(&text), @r"
    r.toml:4: workspaces[0].settings.instructions: must be a text, not a number
    r.toml:16: workspaces[0].environments[0].deployments[0].override_params.model: belongs to the request and cannot be set here
    r.toml:16: workspaces[0].environments[0].deployments[0].override_params.stream: belongs to the request and cannot be set here
    r.toml:16: workspaces[0].environments[0].deployments[0].override_params.system: is set by `instructions` of the deployment
    r.toml:18: workspaces[0].environments[0].deployments[0].default_params.date: holds a date that JSON cannot keep exactly
    r.toml:19: workspaces[0].environments[0].deployments[0].default_params.digits: holds a number that JSON cannot keep exactly
    r.toml:20: workspaces[0].environments[0].deployments[0].default_params.not_a_number: holds a number that JSON cannot keep exactly
    r.toml:21: workspaces[0].environments[0].deployments[0].default_params.deep: is nested deeper than 32 levels
    r.toml:25: workspaces[0].environments[0].deployments[1].default_params: must not hold more than 64 parameters
    ");
}

#[test]
fn all_mistakes_are_reported_at_once() {
    let problems = problems(MISTAKES);
    assert!(!problems.contains("hunter2"), "{problems}");
    insta::assert_snapshot!(problems, @r#"
    r.toml:2: workspace: unknown field, did you mean `workspaces`?
    r.toml:4: connections[0].name: must not hold `/`
    r.toml:5: connections[0].provider: no provider called `opena1`, did you mean `openai`?
    r.toml:10: workspaces[0].slug: must be 1 to 63 lowercase letters, digits or `-`, and not begin with `-`
    r.toml:12: workspaces[1].slug: `active` is reserved
    r.toml:15: workspaces[2].status: the built-in workspace cannot be archived
    r.toml:18: workspaces[2].environments[0].model_grants[0].model: no global model called `globall`, did you mean `global`?
    r.toml:19: workspaces[2].environments[0].connections[0].credential: is missing (or say `auth = "none"` or `auth = "passthrough"`)
    r.toml:22: workspaces[2].environments[0].connections[0].base_url: must not hold a user or a password: use `credential`
    r.toml:23: workspaces[2].environments[0].connections[1].base_url: is missing: `azure_openai` has no address of its own
    r.toml:24: workspaces[2].environments[0].connections[1].name: `main` stands twice, first in line 20
    r.toml:26: workspaces[2].environments[0].connections[1].credential: holds a character that no credential has: a space, or a line break at its end
    r.toml:27: workspaces[2].environments[0].connections[1].auth: must be one of `api_key`, `passthrough`, `none`, not `key`
    r.toml:28: workspaces[2].environments[0].models[0].connection: is missing
    r.toml:30: workspaces[2].environments[0].models[0].conection: unknown field, did you mean `connection`?
    r.toml:31: workspaces[2].environments[0].models[0].kind: must be one of `chat`, `embedding`, `image`, `audio`, `rerank`, `moderation`, not `chatty`, did you mean `chat`?
    r.toml:32: workspaces[2].environments[0].models[0].price.input: must not have more than 9 decimals
    r.toml:32: workspaces[2].environments[0].models[0].price.output: must be dollars per million tokens as a decimal, as "2.50"
    r.toml:32: workspaces[2].environments[0].models[0].price.cached: unknown field
    r.toml:35: workspaces[2].environments[0].deployments[0].strategy: must be one of `weighted_round_robin`, `least_latency`, `least_busy`, `cheapest`, `hash`, not `round_robin`
    r.toml:36: workspaces[2].environments[0].deployments[0].hash_on: is only for `strategy = "hash"`
    r.toml:38: workspaces[2].environments[0].deployments[0].targets[0].model: no model called `gpt-4`, did you mean `gpt-4o`?
    r.toml:40: workspaces[2].environments[0].deployments[0].targets[2].model: a second target with this model needs a `name`
    r.toml:41: workspaces[2].environments[0].deployments[0].targets[3].model: `global` is a global model: list it in `model_grants` first
    r.toml:41: workspaces[2].environments[0].deployments[0].targets[3].tier: must be a whole number from 0 to 1000
    r.toml:43: workspaces[2].environments[0].deployments[0].timeouts.connect_ms: must be a whole number from 1 to 60000
    r.toml:43: workspaces[2].environments[0].deployments[0].timeouts.total: unknown field
    r.toml:44: workspaces[2].environments[0].deployments[0].failover.max_attempts: must be a whole number from 1 to 10
    r.toml:44: workspaces[2].environments[0].deployments[0].failover.on[0]: must be `connect`, `timeout`, `reset`, `early_error` or a status from 400 to 599
    r.toml:44: workspaces[2].environments[0].deployments[0].failover.on[1]: must be `connect`, `timeout`, `reset`, `early_error` or a status from 400 to 599
    r.toml:45: workspaces[2].environments[0].deployments[0].breaker.error_rate: must be a number from 0.01 to 1
    r.toml:48: workspaces[2].environments[0].keys[0].secret: a virtual key has 49 characters
    r.toml:49: workspaces[2].environments[0].keys[0].scopes.endpoints[0]: no endpoint called `chat`
    r.toml:49: workspaces[2].environments[0].keys[0].scopes.models[0]: no model called `gpt`
    r.toml:49: workspaces[2].environments[0].keys[0].scopes.deployments: must be one of `all`, `none`, not `some`
    r.toml:50: workspaces[2].environments[0].keys[0].expires_at: must be a time as 2027-01-01T00:00:00Z (RFC 3339)
    r.toml:51: workspaces[2].environments[0].keys[0].limits[0].metric: must be one of `requests`, `concurrent`, `tokens`, `input_tokens`, `output_tokens`, `cost_usd`, not `request`, did you mean `requests`?
    r.toml:51: workspaces[2].environments[0].keys[0].limits[0].amount: must be a whole number, or dollars as a decimal for `cost_usd`
    r.toml:52: workspaces[2].environments[0].keys[0].metadata_defaults."Bad Key": must have a key of 1 to 64 lowercase letters, digits, `-` or `_`
    r.toml:52: workspaces[2].environments[0].keys[0].metadata_defaults."Bad Key": must be a text, not a number
    r.toml:54: workspaces[2].environments[0].keys[1].name: must be 1 to 128 printable ASCII characters without spaces at the ends
    r.toml:55: workspaces[2].environments[0].keys[1].secret: the env var MISSING is not set
    "#);
}

#[test]
fn one_secret_cannot_be_two_keys() {
    let key = key::generate();
    let env = |_: &str| Some(key.expose().to_owned());
    let text = format!(
        "{SMALL}secret = \"${{A}}\"\n[[workspaces.environments.keys]]\nname = \"b\"\n\
         secret = \"${{B}}\""
    );
    let problems = Resources::parse("r.toml", &text, &env).unwrap_err().to_string();
    assert!(!problems.contains(key.expose()));
    insta::assert_snapshot!(problems, @r"
    r.toml:20: workspaces[0].environments[0].keys[1].secret: is the secret of another key too: workspaces[0].environments[0].keys[0].secret
    ");
}

#[test]
fn text_of_an_env_var_is_never_shown() {
    let text = SMALL
        .replace("\"sim\"\n[[", "\"${SECRET}\"\n[[")
        .replace("\"m\" }", "\"${SECRET}\" }")
        .replace("\"simulated\"", "\"${SECRET}\"")
        .replace("\"acme\"", "\"${SECRET}\"");
    let env = |_: &str| Some("hunter2".to_owned());
    let problems = Resources::parse("r.toml", &text, &env).unwrap_err().to_string();
    assert!(!problems.contains("hunter2"), "{problems}");
    assert!(problems.contains("(the text of an env var)"), "{problems}");
}

#[test]
fn credentials_are_not_in_debug() {
    let text = SMALL.replace("\"simulated\"", "\"openai\"\ncredential = \"hunter2\"");
    assert!(!format!("{:?}", parse(&text).unwrap()).contains("hunter2"));
}

#[test]
fn server_at_home_needs_no_credential_and_a_provider_does() {
    for (provider, is_accepted) in [
        ("\"vllm\"", true),
        ("\"ollama\"", true),
        ("\"groq\"", false),
        ("\"openai\"", false),
        ("\"openai_compatible\"\nbase_url = \"http://gpu:8000\"", true),
        ("\"openai_compatible\"\nbase_url = \"https://gpu:8000\"", false),
        ("\"openai_compatible\"\nauth = \"none\"", false),
        ("\"vllm\"\nauth = \"api_key\"", false),
        ("\"openai\"\nauth = \"none\"", true),
        ("\"openai\"\nauth = \"passthrough\"", true),
    ] {
        let text = SMALL.replace("\"simulated\"", provider);
        assert_eq!(parse(&text).is_ok(), is_accepted, "{provider}");
    }
}

#[test]
fn names_count_in_their_scope_only() {
    let second = SMALL.split_once("slug = \"acme\"").unwrap().1.replace("production", "staging");
    assert!(parse(&format!("{SMALL}{second}")).is_ok());
    let twice = problems_with("[{ model = \"m\" }]", "[{ model = \"m\" }, { model = \"m\" }]");
    assert!(twice.contains("a second target with this model needs a `name`"), "{twice}");
    let other = problems(&format!(
        "{SMALL}[[workspaces.environments]]\nslug = \"staging\"\n\
         models = [{{ alias = \"n\", connection = \"sim\" }}]"
    ));
    assert!(other.contains("no connection called `sim`"), "{other}");
}

#[test]
fn deployment_needs_a_target_that_takes_requests() {
    for targets in ["[]", "[{ model = \"m\", weight = 0 }]", "[{ model = \"m\", enabled = false }]"]
    {
        let problem = problems_with("[{ model = \"m\" }]", targets);
        assert_eq!(
            problem,
            "r.toml:14: workspaces[0].environments[0].deployments[0].targets: \
             at least one target must be enabled and have a positive weight"
        );
    }
    let missing = problems_with("targets = [{ model = \"m\" }]", "");
    assert!(missing.ends_with("deployments[0].targets: is missing"), "{missing}");
}

#[test]
fn global_model_needs_a_grant() {
    let globals = "[[connections]]\nname = \"g\"\nprovider = \"simulated\"\n\
                   [[models]]\nalias = \"big\"\nconnection = \"g\"\n";
    let text = format!("{globals}{}", SMALL.replace("model = \"m\"", "model = \"big\""));
    let problem = problems(&text);
    assert!(problem.contains("`big` is a global model: list it in `model_grants`"), "{problem}");
    let grant = "slug = \"production\"\nmodel_grants = [{ model = \"big\" }]";
    parse(&text.replace("slug = \"production\"", grant)).unwrap();
}

#[test]
fn large_document_is_read_in_time_and_its_dangling_names_too() {
    let keys: String = (0..20_000)
        .map(|index| {
            format!(
                "[[workspaces.environments.keys]]\nname = \"k{index}\"\n\
                     scopes = {{ deployments = [\"d{index}\"] }}\n"
            )
        })
        .collect();
    let problems = parse(&format!("{SMALL}{keys}")).unwrap_err();
    assert_eq!(problems.0.len(), 20_000);
}

#[test]
fn decimals_become_nano_dollars() {
    use model::parse_decimal;
    assert_eq!(parse_decimal("2.50"), Ok(2_500_000_000));
    assert_eq!(parse_decimal("0"), Ok(0));
    assert_eq!(parse_decimal("0.000000001"), Ok(1));
    assert_eq!(parse_decimal("1000000"), Ok(1_000_000_000_000_000));
    assert_eq!(parse_decimal("2.5000000000000"), Ok(2_500_000_000));
    let bad = [
        "",
        ".",
        "1.",
        ".5",
        "1e3",
        "-1",
        "+1",
        "1,5",
        " 1",
        "1_0",
        "NaN",
        "1.0000000001",
        "1000000.1",
        "99999999999999999999",
    ];
    for text in bad {
        assert!(parse_decimal(text).is_err(), "{text}");
    }
}

proptest! {
    #[test]
    fn decimals_are_exact(nano in 0..=1_000_000_000_000_000_u64) {
        let text = format!("{}.{:09}", nano / 1_000_000_000, nano % 1_000_000_000);
        prop_assert_eq!(model::parse_decimal(&text), Ok(nano));
    }

    /// Lines are removed, doubled, swapped; letters are changed.
    #[test]
    fn changed_documents_never_panic(
        lines in prop::collection::vec((0..3_u8, 0..200_usize, 0..200_usize), 0..6),
        at in 0..6_000_usize,
        new in "[ -~\n]{0,4}",
    ) {
        let mut text: Vec<&str> = EXAMPLE.lines().collect();
        for (what, a, b) in lines {
            let (a, b) = (a % text.len(), b % text.len());
            match what {
                0 => drop(text.remove(a)),
                1 => text.insert(a, text[b]),
                _ => text.swap(a, b),
            }
        }
        let mut text = text.join("\n");
        let at = at % text.len();
        if text.is_char_boundary(at) {
            text.insert_str(at, &new);
        }
        let env = |_: &str| Some("x".to_owned());
        match Resources::parse("r.toml", &text, &env) {
            Ok(_) => {}
            Err(problems) => prop_assert!(!problems.0.is_empty()),
        }
    }
}
