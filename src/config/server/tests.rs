//! Defaults, bounds and precedence, and the files that repeat them.

use super::*;

const SHIPPED: &str = include_str!("../../../conf/sluice.toml");
const DOCS: &str = include_str!("../../../docs/configuration.md");

fn parse(text: &str, env: &[(&str, &str)]) -> Result<ServerConfig, Problems> {
    let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    ServerConfig::parse("sluice.toml", text, env)
}

/// The shipped file with every commented-out key put in force.
fn uncommented() -> String {
    let is_key = |line: &str| {
        let key = line.split(" = ").next().unwrap_or_default();
        line.contains(" = ") && key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
    };
    let line = |line: &'static str| match line.strip_prefix("# ") {
        Some(rest) if is_key(rest) => rest,
        _ => line,
    };
    SHIPPED.lines().map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn shipped_file_is_the_default() {
    let shipped = format!("{:#?}", parse(SHIPPED, &[]).unwrap());
    assert_eq!(shipped, format!("{:#?}", ServerConfig::default()));
}

#[test]
fn shipped_file_names_every_field_and_its_examples_are_accepted() {
    let text = uncommented().replace("sqlite://data/usage.db", "http://u:p@a:8123,b:8123/db");
    parse(&text, &[]).unwrap();
    let root = document::parse("sluice.toml", &text).unwrap();
    let mut written = Vec::new();
    paths(&root, "", &mut written);
    let mut known: Vec<String> = env::FIELDS.iter().map(|(path, _)| (*path).to_owned()).collect();
    written.sort();
    known.sort();
    assert_eq!(written, known);
}

#[test]
fn docs_name_every_field() {
    for (path, _) in env::FIELDS {
        assert!(DOCS.contains(&format!("| `{path}` |")), "docs/configuration.md misses {path}");
    }
}

fn paths(node: &document::Node, prefix: &str, all: &mut Vec<String>) {
    let document::Value::Table(table) = &node.value else {
        all.push(prefix.to_owned());
        return;
    };
    for entry in &table.entries {
        let path =
            if prefix.is_empty() { entry.key.clone() } else { format!("{prefix}.{}", entry.key) };
        paths(&entry.node, &path, all);
    }
}

#[test]
fn env_var_wins_over_file_wins_over_default() {
    let text = "[data]\nthreads = 3\nmax_in_flight = 7\n";
    let env = [
        ("SLUICE_DATA__THREADS", "5"),
        ("SLUICE_DATA__LISTEN", "127.0.0.1:1, [::1]:2"),
        ("SLUICE_DATA__ANONYMOUS_ACCESS", "true"),
        ("SLUICE_RESOURCES", "r.yaml"),
        ("SLUICE_STATE__URL", "postgres://u:p@db/sluice"),
        ("SLUICE_DATA__TLS__CERT", "c.pem"),
        ("SLUICE_DATA__TLS__KEY", "k.pem"),
        ("SLUICE_DATA__TLS__LISTEN", "127.0.0.1:3"),
        ("SLUICE_ADMIN_TOKEN", "ignored here"),
        ("SLUICE_SERVICE_HOST", "10.0.0.1"),
        ("HOME", "/root"),
    ];
    let config = parse(text, &env).unwrap();
    assert_eq!((config.data.threads, config.data.in_flight_max), (5, 7));
    assert_eq!(config.data.listen.len(), 2);
    assert!(config.data.anonymous_access);
    assert_eq!(config.resources, Some("r.yaml".into()));
    assert!(matches!(config.state.url, StateUrl::Postgres(_)));
    assert_eq!(config.data.tls.unwrap().cert, PathBuf::from("c.pem"));
    assert_eq!(config.admin.listen.port(), 8081);
}

#[test]
fn all_problems_are_reported_at_once() {
    let text = r#"
resource = "x"
[data]
listen = ["localhost:8080", "0.0.0.0:8080"]
threads = -1
max_body_bytes = 10
anonymous_access = true
h2c = "yes"
tls = { listen = [], cert = "", keys = "k" }
max_conections = 5
header_timeout_ms = 1.5
[admin]
listen = "0.0.0.0:8080"
[state]
url = "mysql://root:hunter2@db/sluice"
[usage]
url = "https://user:hunter2@"
cluster = "a b"
batch_rows = 0
[shared]
redis = "127.0.0.1"
[upstream]
allow_networks = ["10.0.0.0/33", "here"]
dns_refresh_s = 0
[telemetry]
log = "sluice=loud"
otlp = 5
[drain]
max_s = 100000
[tracing]
on = true
"#;
    let env = [("SLUICE_DATA__THREDS", "4"), ("SLUICE_DRAIN__DELAY_S", "soon")];
    let problems = parse(text, &env).unwrap_err().to_string();
    assert!(!problems.contains("hunter2"), "{problems}");
    insta::assert_snapshot!(problems, @r"
    environment: SLUICE_DATA__THREDS: no such field in the configuration, did you mean `SLUICE_DATA__THREADS`?
    environment: SLUICE_DRAIN__DELAY_S: must be a whole number, not a text
    sluice.toml:1: two listeners have the address 0.0.0.0:8080
    sluice.toml:2: resource: unknown field, did you mean `resources`?
    sluice.toml:4: data.listen[0]: must be an IP address and a port, as 127.0.0.1:8080 or [::1]:8080
    sluice.toml:5: data.threads: must be a whole number from 0 to 1024
    sluice.toml:6: data.max_body_bytes: must be a whole number from 1024 to 1073741824
    sluice.toml:7: data.anonymous_access: requests without a key are only let in where every data listener is a loopback address, as 127.0.0.1
    sluice.toml:8: data.h2c: must be true or false, not a text
    sluice.toml:9: data.tls.cert: must not be empty
    sluice.toml:9: data.tls.key: is missing
    sluice.toml:9: data.tls.listen: must name at least one address
    sluice.toml:9: data.tls.keys: unknown field, did you mean `key`?
    sluice.toml:10: data.max_conections: unknown field, did you mean `max_connections`?
    sluice.toml:11: data.header_timeout_ms: must be a whole number from 100 to 600000
    sluice.toml:15: state.url: must be an address as sqlite://path or postgres://user:password@host/database
    sluice.toml:17: usage.url: must have a host: letters, digits, `-`, `_` and dots (an address as sqlite://path or http(s)://user:password@host:8123/database)
    sluice.toml:18: usage.cluster: must be 1 to 64 letters, digits, `_`, `-` or dots
    sluice.toml:18: usage.cluster: needs a ClickHouse address in `usage.url`
    sluice.toml:19: usage.batch_rows: must be a whole number from 1 to 1000000
    sluice.toml:21: shared.redis: must be a URL with `://` (an address as redis://host:6379)
    sluice.toml:23: upstream.allow_networks[0]: must be a network, as 10.0.0.0/8 or fd00::/8, or one address
    sluice.toml:23: upstream.allow_networks[1]: must be a network, as 10.0.0.0/8 or fd00::/8, or one address
    sluice.toml:24: upstream.dns_refresh_s: must be a whole number from 1 to 3600
    sluice.toml:26: telemetry.log: must be a log filter, as `info` or `warn,sluice=debug`
    sluice.toml:27: telemetry.otlp: must be a text, not a number
    sluice.toml:29: drain.max_s: must be a whole number from 0 to 86400
    sluice.toml:30: tracing: unknown field
    ");
}

#[test]
fn anonymous_access_needs_loopback_listeners() {
    for (listen, is_accepted) in [
        (r#"["127.0.0.1:1", "[::1]:1"]"#, true),
        (r#"["127.0.0.1:1", "10.0.0.1:1"]"#, false),
        (r#"["[::]:1"]"#, false),
    ] {
        let text = format!("[data]\nanonymous_access = true\nlisten = {listen}");
        assert_eq!(parse(&text, &[]).is_ok(), is_accepted, "{listen}");
    }
    let tls = "[data]\nanonymous_access = true\n\
               tls = { listen = ['0.0.0.0:1'], cert = 'c', key = 'k' }";
    assert!(parse(tls, &[]).is_err());
}

#[test]
fn yaml_and_json_are_read_alike() {
    let yaml = ServerConfig::parse("s.yml", "drain: {max_s: 9}\n", std::iter::empty()).unwrap();
    let json =
        ServerConfig::parse("s.json", r#"{"drain":{"max_s":9}}"#, std::iter::empty()).unwrap();
    assert_eq!(yaml.drain.time_max, Duration::from_secs(9));
    assert_eq!(json.drain.time_max, Duration::from_secs(9));
}

#[test]
fn passwords_do_not_show_in_debug() {
    let env = [
        ("SLUICE_STATE__URL", "postgres://u:hunter2@db/x"),
        ("SLUICE_USAGE__URL", "http://u:hunter2@db/x"),
        ("SLUICE_SHARED__REDIS", "redis://:hunter2@db"),
    ];
    assert!(!format!("{:?}", parse("", &env).unwrap()).contains("hunter2"));
}

#[test]
fn network_contains_its_addresses() {
    let config = parse(
        "[upstream]\nallow_networks = ['10.0.0.0/8', '::1', 'fd00::/8', '0.0.0.0/0', '::/0']",
        &[],
    );
    let networks = config.unwrap().upstream.allow_networks;
    let held_by = |address: &str| -> Vec<bool> {
        let address = address.parse().unwrap();
        networks.iter().map(|network| network.contains(address)).collect()
    };
    assert_eq!(held_by("10.255.0.1"), [true, false, false, true, false]);
    assert_eq!(held_by("11.0.0.1"), [false, false, false, true, false]);
    assert_eq!(held_by("::1"), [false, true, false, false, true]);
    assert_eq!(held_by("fd12::1"), [false, false, true, false, true]);
}
