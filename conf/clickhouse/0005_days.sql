-- Days of workspaces, made from the bill: what dashboards read beyond a week. The bill has a row for each key, deployment and model, which together are many; here are keys
-- without the rest, and the rest without keys.

-- By deployment, model and outcome.
CREATE TABLE IF NOT EXISTS {db}.usage_workspace_day{local} {on_cluster}
(
    day                   Date                                 CODEC(Delta(2), ZSTD(1)),
    workspace_id          UUID                                 CODEC(ZSTD(1)),
    workspace             LowCardinality(String)               CODEC(ZSTD(1)),
    environment           LowCardinality(String)               CODEC(ZSTD(1)),
    deployment            LowCardinality(String)               CODEC(ZSTD(1)),
    upstream_model        LowCardinality(String)               CODEC(ZSTD(1)),
    outcome               LowCardinality(String)               CODEC(ZSTD(1)),
    requests              SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    priced                SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    input_uncached        SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    input_cache_read      SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    input_cache_write_5m  SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    input_cache_write_1h  SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    output                SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    reasoning             SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    cost_nanousd          SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    saved_nanousd         SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1))
)
ENGINE = {engine:AggregatingMergeTree}
PARTITION BY toYYYYMM(day)
PRIMARY KEY (workspace_id, day)
ORDER BY (workspace_id, day, workspace, environment, deployment, upstream_model, outcome)
SETTINGS {window};

CREATE MATERIALIZED VIEW IF NOT EXISTS {db}.usage_workspace_day_view {on_cluster} TO {db}.usage_workspace_day{local} AS
SELECT
    d.day AS day,
    d.workspace_id AS workspace_id,
    d.workspace AS workspace,
    d.environment AS environment,
    d.deployment AS deployment,
    d.upstream_model AS upstream_model,
    d.outcome AS outcome,
    sum(d.requests) AS requests,
    sum(d.priced) AS priced,
    sum(d.input_uncached) AS input_uncached,
    sum(d.input_cache_read) AS input_cache_read,
    sum(d.input_cache_write_5m) AS input_cache_write_5m,
    sum(d.input_cache_write_1h) AS input_cache_write_1h,
    sum(d.output) AS output,
    sum(d.reasoning) AS reasoning,
    sum(d.cost_nanousd) AS cost_nanousd,
    sum(d.saved_nanousd) AS saved_nanousd
FROM {db}.usage_day{local} AS d
GROUP BY day, workspace_id, workspace, environment, deployment, upstream_model, outcome;

-- cluster only
CREATE TABLE IF NOT EXISTS {db}.usage_workspace_day {on_cluster} AS {db}.usage_workspace_day_local
ENGINE = Distributed({cluster}, {db}, usage_workspace_day_local, cityHash64(workspace_id));

-- By key. No outcomes: `errors` are all but `success`, `cache_hit` and `client_closed`.
CREATE TABLE IF NOT EXISTS {db}.usage_key_day{local} {on_cluster}
(
    day                   Date                                 CODEC(Delta(2), ZSTD(1)),
    workspace_id          UUID                                 CODEC(ZSTD(1)),
    workspace             LowCardinality(String)               CODEC(ZSTD(1)),
    environment           LowCardinality(String)               CODEC(ZSTD(1)),
    key_id                UUID                                 CODEC(ZSTD(1)),
    key                   LowCardinality(String)               CODEC(ZSTD(1)),
    requests              SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    errors                SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    cache_hits            SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    cache_lookups         SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    priced                SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    input_uncached        SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    input_cache_read      SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    input_cache_write_5m  SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    input_cache_write_1h  SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    output                SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    reasoning             SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    cost_nanousd          SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    saved_nanousd         SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1))
)
ENGINE = {engine:AggregatingMergeTree}
PARTITION BY toYYYYMM(day)
PRIMARY KEY (workspace_id, day)
ORDER BY (workspace_id, day, workspace, environment, key_id, key)
SETTINGS {window};

CREATE MATERIALIZED VIEW IF NOT EXISTS {db}.usage_key_day_view {on_cluster} TO {db}.usage_key_day{local} AS
SELECT
    d.day AS day,
    d.workspace_id AS workspace_id,
    d.workspace AS workspace,
    d.environment AS environment,
    d.key_id AS key_id,
    d.key AS key,
    sum(d.requests) AS requests,
    sumIf(d.requests, d.outcome NOT IN ('success', 'cache_hit', 'client_closed')) AS errors,
    sum(d.cache_hits) AS cache_hits,
    sum(d.cache_lookups) AS cache_lookups,
    sum(d.priced) AS priced,
    sum(d.input_uncached) AS input_uncached,
    sum(d.input_cache_read) AS input_cache_read,
    sum(d.input_cache_write_5m) AS input_cache_write_5m,
    sum(d.input_cache_write_1h) AS input_cache_write_1h,
    sum(d.output) AS output,
    sum(d.reasoning) AS reasoning,
    sum(d.cost_nanousd) AS cost_nanousd,
    sum(d.saved_nanousd) AS saved_nanousd
FROM {db}.usage_day{local} AS d
GROUP BY day, workspace_id, workspace, environment, key_id, key;

-- cluster only
CREATE TABLE IF NOT EXISTS {db}.usage_key_day {on_cluster} AS {db}.usage_key_day_local
ENGINE = Distributed({cluster}, {db}, usage_key_day_local, cityHash64(workspace_id));
