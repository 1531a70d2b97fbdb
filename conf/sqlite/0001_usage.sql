-- Usage rows in the embedded store. docs/usage-rows.md tells what each column of `requests` means.
--
-- What many rows share is kept once and named by number: a row is a few hundred bytes and one
-- insert into one tree and one index. `requests` puts it together again, in the SQL of SQLite 3.38,
-- so that the file can be read with the tools that are on a machine.

-- Who called: a key in its environment. `identity` is all the other columns, as one text.
CREATE TABLE callers (
    id INTEGER PRIMARY KEY,
    identity TEXT NOT NULL UNIQUE,
    workspace_id TEXT NOT NULL,
    workspace TEXT NOT NULL,
    environment_id TEXT NOT NULL,
    environment TEXT NOT NULL,
    key_id TEXT,
    key TEXT
) STRICT;

CREATE TABLE deployments (
    id INTEGER PRIMARY KEY,
    identity TEXT NOT NULL UNIQUE,
    deployment_id TEXT NOT NULL,
    deployment TEXT NOT NULL
) STRICT;

CREATE TABLE targets (
    id INTEGER PRIMARY KEY,
    identity TEXT NOT NULL UNIQUE,
    target_id TEXT NOT NULL,
    model_id TEXT NOT NULL,
    model TEXT NOT NULL,
    upstream_model TEXT NOT NULL,
    provider TEXT NOT NULL,
    connection_id TEXT NOT NULL,
    connection TEXT NOT NULL
) STRICT;

-- `request_key` is the request's id as 16 bytes; ids grow with time, so new rows go to the end.
-- `attempts` is a list of [target, status, error_class, maybe_billed, started_us, headers_us,
-- first_token_us, total_us].
CREATE TABLE request_rows (
    request_key BLOB NOT NULL PRIMARY KEY,
    started_at INTEGER NOT NULL,
    caller INTEGER NOT NULL,
    deployment INTEGER,
    target INTEGER,
    requested_model TEXT NOT NULL,
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
    metadata TEXT,
    correlation_id TEXT,
    client_request_id TEXT,
    upstream_request_id TEXT,
    attempts TEXT
) STRICT, WITHOUT ROWID;

CREATE INDEX request_rows_by_time ON request_rows (started_at);

CREATE VIEW requests AS
SELECT
    lower(substr(hex(r.request_key), 1, 8) || '-' || substr(hex(r.request_key), 9, 4) || '-'
        || substr(hex(r.request_key), 13, 4) || '-' || substr(hex(r.request_key), 17, 4) || '-'
        || substr(hex(r.request_key), 21)) AS request_id,
    r.request_key,
    r.started_at,
    c.workspace_id, c.workspace, c.environment_id, c.environment, c.key_id, c.key,
    d.deployment_id, d.deployment,
    r.requested_model,
    t.model_id, t.model, t.upstream_model, t.provider, t.connection_id, t.connection, t.target_id,
    r.dialect, r.endpoint, r.stream, r.status, r.outcome, r.error_class, r.degraded,
    r.usage_source,
    r.input_uncached, r.input_cache_read, r.input_cache_write_5m, r.input_cache_write_1h,
    r.output, r.reasoning, r.audio_in, r.audio_out,
    r.cost_nanousd,
    -- A request of a priced model may still have no cost: nobody said how many tokens it used.
    r.cost_nanousd IS NOT NULL OR r.price_version IS NOT NULL AS priced,
    r.price_version,
    r.total_us, r.overhead_us, r.queue_us, r.headers_us, r.first_token_us,
    r.output_tokens_per_second,
    r.request_bytes, r.response_bytes,
    r.source_ip, r.end_user,
    coalesce(r.metadata, '{}') AS metadata,
    r.correlation_id, r.client_request_id, r.upstream_request_id,
    (
        SELECT json_group_array(json(attempt))
        FROM (
            SELECT
                json_object(
                    'target_id', at.target_id,
                    'connection_id', at.connection_id,
                    'connection', at.connection,
                    'model', at.model,
                    'status', a.value ->> 1,
                    'error_class', a.value ->> 2,
                    'maybe_billed', json(iif(a.value ->> 3, 'true', 'false')),
                    'started_us', a.value ->> 4,
                    'headers_us', a.value ->> 5,
                    'first_token_us', a.value ->> 6,
                    'total_us', a.value ->> 7
                ) AS attempt
            FROM json_each(coalesce(r.attempts, '[]')) AS a
            JOIN targets AS at ON at.id = a.value ->> 0
            ORDER BY a.key
        )
    ) AS attempts
FROM request_rows AS r
JOIN callers AS c ON c.id = r.caller
LEFT JOIN deployments AS d ON d.id = r.deployment
LEFT JOIN targets AS t ON t.id = r.target;

-- An unknown address is the empty text: NULLs would not be the same key.
CREATE TABLE refused_keys (
    minute INTEGER NOT NULL,
    source_ip TEXT NOT NULL,
    count INTEGER NOT NULL,
    PRIMARY KEY (minute, source_ip)
) STRICT, WITHOUT ROWID;
