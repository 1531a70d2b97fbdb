-- What the response cache did, how long the row stays, and who wrote it.
--
-- `retention_days` is NULL where the workspace has none of its own: the configuration's counts.
ALTER TABLE request_rows ADD COLUMN cache TEXT NOT NULL DEFAULT '';
ALTER TABLE request_rows ADD COLUMN saved_nanousd INTEGER NOT NULL DEFAULT 0;
ALTER TABLE request_rows ADD COLUMN retention_days INTEGER;
ALTER TABLE request_rows ADD COLUMN node TEXT NOT NULL DEFAULT '';
ALTER TABLE request_rows ADD COLUMN gateway_version TEXT NOT NULL DEFAULT '';

CREATE INDEX request_rows_by_expiry ON request_rows (started_at + retention_days * 86400000000)
    WHERE retention_days IS NOT NULL;

DROP VIEW requests;

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
    nullif(r.cache, '') AS cache,
    r.usage_source,
    r.input_uncached, r.input_cache_read, r.input_cache_write_5m, r.input_cache_write_1h,
    r.output, r.reasoning, r.audio_in, r.audio_out,
    r.cost_nanousd, r.saved_nanousd,
    -- A request of a priced model may still have no cost: nobody said how many tokens it used.
    r.cost_nanousd IS NOT NULL OR r.price_version IS NOT NULL AS priced,
    r.price_version,
    r.total_us, r.overhead_us, r.queue_us, r.headers_us, r.first_token_us,
    r.output_tokens_per_second,
    r.request_bytes, r.response_bytes,
    r.source_ip, r.end_user,
    coalesce(r.metadata, '{}') AS metadata,
    r.correlation_id, r.client_request_id, r.upstream_request_id,
    r.retention_days, nullif(r.node, '') AS node, nullif(r.gateway_version, '') AS gateway_version,
    (
        SELECT json_group_array(json(attempt))
        FROM (
            SELECT
                json_object(
                    'target_id', at.target_id,
                    'connection_id', at.connection_id,
                    'connection', at.connection,
                    'model', at.model,
                    'provider', at.provider,
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

-- Sums by minute and by hour, kept longer than the rows. `start` is in seconds since 1970; a
-- deployment or target of 0 is none, and so is an empty error class. Money is in two parts, so that
-- no sum overflows: whole dollars of each row, and the rest. A histogram has 64 buckets for each
-- power of two: pairs of (step to the next bucket, count), seven bits a byte.
CREATE TABLE usage_minutes (
    start INTEGER NOT NULL,
    caller INTEGER NOT NULL,
    deployment INTEGER NOT NULL,
    target INTEGER NOT NULL,
    dialect TEXT NOT NULL,
    status INTEGER NOT NULL,
    outcome TEXT NOT NULL,
    error_class TEXT NOT NULL,
    requests INTEGER NOT NULL,
    failovers INTEGER NOT NULL,
    cache_hits INTEGER NOT NULL,
    unpriced INTEGER NOT NULL,
    input_uncached INTEGER NOT NULL,
    input_cache_read INTEGER NOT NULL,
    input_cache_write_5m INTEGER NOT NULL,
    input_cache_write_1h INTEGER NOT NULL,
    output INTEGER NOT NULL,
    reasoning INTEGER NOT NULL,
    audio_in INTEGER NOT NULL,
    audio_out INTEGER NOT NULL,
    cost_dollars INTEGER NOT NULL,
    cost_nanodollars INTEGER NOT NULL,
    saved_dollars INTEGER NOT NULL,
    saved_nanodollars INTEGER NOT NULL,
    total_us INTEGER NOT NULL,
    total_us_known INTEGER NOT NULL,
    first_token_us INTEGER NOT NULL,
    first_token_us_known INTEGER NOT NULL,
    overhead_us INTEGER NOT NULL,
    overhead_us_known INTEGER NOT NULL,
    speed_tokens INTEGER NOT NULL,
    speed_us INTEGER NOT NULL,
    total_us_histogram BLOB NOT NULL,
    first_token_us_histogram BLOB NOT NULL,
    overhead_us_histogram BLOB NOT NULL,
    PRIMARY KEY (start, caller, deployment, target, dialect, status, outcome, error_class)
) STRICT, WITHOUT ROWID;

CREATE TABLE usage_hours (
    start INTEGER NOT NULL,
    caller INTEGER NOT NULL,
    deployment INTEGER NOT NULL,
    target INTEGER NOT NULL,
    dialect TEXT NOT NULL,
    status INTEGER NOT NULL,
    outcome TEXT NOT NULL,
    error_class TEXT NOT NULL,
    requests INTEGER NOT NULL,
    failovers INTEGER NOT NULL,
    cache_hits INTEGER NOT NULL,
    unpriced INTEGER NOT NULL,
    input_uncached INTEGER NOT NULL,
    input_cache_read INTEGER NOT NULL,
    input_cache_write_5m INTEGER NOT NULL,
    input_cache_write_1h INTEGER NOT NULL,
    output INTEGER NOT NULL,
    reasoning INTEGER NOT NULL,
    audio_in INTEGER NOT NULL,
    audio_out INTEGER NOT NULL,
    cost_dollars INTEGER NOT NULL,
    cost_nanodollars INTEGER NOT NULL,
    saved_dollars INTEGER NOT NULL,
    saved_nanodollars INTEGER NOT NULL,
    total_us INTEGER NOT NULL,
    total_us_known INTEGER NOT NULL,
    first_token_us INTEGER NOT NULL,
    first_token_us_known INTEGER NOT NULL,
    overhead_us INTEGER NOT NULL,
    overhead_us_known INTEGER NOT NULL,
    speed_tokens INTEGER NOT NULL,
    speed_us INTEGER NOT NULL,
    total_us_histogram BLOB NOT NULL,
    first_token_us_histogram BLOB NOT NULL,
    overhead_us_histogram BLOB NOT NULL,
    PRIMARY KEY (start, caller, deployment, target, dialect, status, outcome, error_class)
) STRICT, WITHOUT ROWID;
