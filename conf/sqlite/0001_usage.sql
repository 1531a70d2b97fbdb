-- Usage rows in the embedded store. docs/usage-rows.md tells what each column means.

CREATE TABLE requests (
    request_id TEXT NOT NULL PRIMARY KEY,
    started_at INTEGER NOT NULL,
    workspace_id TEXT NOT NULL,
    workspace TEXT NOT NULL,
    environment_id TEXT NOT NULL,
    environment TEXT NOT NULL,
    key_id TEXT,
    key TEXT,
    deployment_id TEXT,
    deployment TEXT,
    requested_model TEXT NOT NULL,
    model_id TEXT,
    model TEXT,
    upstream_model TEXT,
    provider TEXT,
    connection_id TEXT,
    connection TEXT,
    target_id TEXT,
    dialect TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    stream INTEGER NOT NULL,
    status INTEGER NOT NULL,
    outcome TEXT NOT NULL,
    error_class TEXT,
    degraded INTEGER NOT NULL,
    usage_source TEXT NOT NULL,
    input_uncached INTEGER,
    input_cache_read INTEGER,
    input_cache_write_5m INTEGER,
    input_cache_write_1h INTEGER,
    output INTEGER,
    reasoning INTEGER,
    audio_in INTEGER,
    audio_out INTEGER,
    cost_nanousd INTEGER,
    priced INTEGER NOT NULL,
    price_version TEXT,
    total_us INTEGER NOT NULL,
    overhead_us INTEGER NOT NULL,
    queue_us INTEGER NOT NULL,
    headers_us INTEGER,
    first_token_us INTEGER,
    output_tokens_per_second REAL,
    request_bytes INTEGER NOT NULL,
    response_bytes INTEGER NOT NULL,
    source_ip TEXT,
    end_user TEXT,
    metadata TEXT NOT NULL,
    correlation_id TEXT,
    client_request_id TEXT,
    upstream_request_id TEXT,
    attempts TEXT NOT NULL
) STRICT;

CREATE INDEX requests_by_time ON requests (started_at);
CREATE INDEX requests_by_workspace ON requests (workspace_id, started_at);

-- An unknown address is the empty text: NULLs would not be the same key.
CREATE TABLE refused_keys (
    minute INTEGER NOT NULL,
    source_ip TEXT NOT NULL,
    count INTEGER NOT NULL,
    PRIMARY KEY (minute, source_ip)
) STRICT, WITHOUT ROWID;
