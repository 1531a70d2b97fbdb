//! The columns of a usage row, in the order of their bytes.

/// Name and type, as `ClickHouse` writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    pub name: &'static str,
    pub kind: &'static str,
}

const ID: &str = "UUID";
const OPTIONAL_ID: &str = "Nullable(UUID)";
const WORD: &str = "LowCardinality(String)";
const TEXT: &str = "String";
const FLAG: &str = "Bool";
const COUNT: &str = "UInt64";
const OPTIONAL_COUNT: &str = "Nullable(UInt64)";
const SHORT: &str = "UInt16";

const fn column(name: &'static str, kind: &'static str) -> Column {
    Column { name, kind }
}

/// Every column that is sent. A change here is a migration of each store, and a new fingerprint.
pub const COLUMNS: [Column; 67] = [
    column("started_at", "DateTime64(6, 'UTC')"),
    column("request_id", ID),
    column("workspace_id", ID),
    column("workspace", WORD),
    column("environment_id", ID),
    column("environment", WORD),
    column("key_id", OPTIONAL_ID),
    column("key", WORD),
    column("deployment_id", OPTIONAL_ID),
    column("deployment", WORD),
    column("requested_model", TEXT),
    column("target_id", OPTIONAL_ID),
    column("model_id", OPTIONAL_ID),
    column("model", WORD),
    column("upstream_model", WORD),
    column("provider", WORD),
    column("connection_id", OPTIONAL_ID),
    column("connection", WORD),
    column("dialect", WORD),
    column("endpoint", WORD),
    column("stream", FLAG),
    column("status", SHORT),
    column("outcome", WORD),
    column("error_class", WORD),
    column("degraded", FLAG),
    column("cache", WORD),
    column("usage_source", WORD),
    column("input_uncached", OPTIONAL_COUNT),
    column("input_cache_read", OPTIONAL_COUNT),
    column("input_cache_write_5m", OPTIONAL_COUNT),
    column("input_cache_write_1h", OPTIONAL_COUNT),
    column("output", OPTIONAL_COUNT),
    column("reasoning", OPTIONAL_COUNT),
    column("audio_in", OPTIONAL_COUNT),
    column("audio_out", OPTIONAL_COUNT),
    column("cost_nanousd", OPTIONAL_COUNT),
    column("saved_nanousd", COUNT),
    column("priced", FLAG),
    column("price_version", WORD),
    column("total_us", COUNT),
    column("overhead_us", COUNT),
    column("queue_us", COUNT),
    column("headers_us", OPTIONAL_COUNT),
    column("first_token_us", OPTIONAL_COUNT),
    column("request_bytes", COUNT),
    column("response_bytes", COUNT),
    column("source_ip", "IPv6"),
    column("end_user", TEXT),
    column("metadata", "Map(LowCardinality(String), String)"),
    column("correlation_id", TEXT),
    column("client_request_id", TEXT),
    column("upstream_request_id", TEXT),
    column("attempts.target_id", "Array(UUID)"),
    column("attempts.connection_id", "Array(UUID)"),
    column("attempts.connection", "Array(LowCardinality(String))"),
    column("attempts.model", "Array(LowCardinality(String))"),
    column("attempts.provider", "Array(LowCardinality(String))"),
    column("attempts.status", "Array(UInt16)"),
    column("attempts.error_class", "Array(LowCardinality(String))"),
    column("attempts.maybe_billed", "Array(Bool)"),
    column("attempts.started_us", "Array(UInt64)"),
    column("attempts.headers_us", "Array(Nullable(UInt64))"),
    column("attempts.first_token_us", "Array(Nullable(UInt64))"),
    column("attempts.total_us", "Array(UInt64)"),
    column("retention_days", SHORT),
    column("node", WORD),
    column("gateway_version", WORD),
];

/// Differs when a name, a type or the order differs (FNV-1a, 64 bits).
pub const fn fingerprint() -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325;
    let mut n = 0;
    while n < COLUMNS.len() {
        #[expect(clippy::indexing_slicing, reason = "bounded by the loop")]
        let Column { name, kind } = COLUMNS[n];
        hash = mixed(mixed(hash, name.as_bytes()), kind.as_bytes());
        n += 1;
    }
    hash
}

const fn mixed(mut hash: u64, mut bytes: &[u8]) -> u64 {
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    while let [first, rest @ ..] = bytes {
        hash = (hash ^ *first as u64).wrapping_mul(PRIME);
        bytes = rest;
    }
    (hash ^ 0xff).wrapping_mul(PRIME)
}
