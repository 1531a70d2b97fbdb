-- Roll-ups: what is read beyond a day. Views fill them from each batch; with its token, a batch that comes again adds nothing here either.
--
-- The digests hold microseconds; all are written and merged with the same list of quantiles. `first_tokens` counts the rows that know `first_token_us`, `priced` those
-- with a price in force; `speed_tokens` / `speed_us` is the speed of the streams that know both.

-- By minute, over all workspaces: bounded by the models that are in use, whatever the traffic.
CREATE TABLE IF NOT EXISTS {db}.usage_minute{local} {on_cluster}
(
    minute                DateTime('UTC')                      CODEC(Delta(4), ZSTD(1)),
    environment           LowCardinality(String)               CODEC(ZSTD(1)),
    provider              LowCardinality(String)               CODEC(ZSTD(1)),
    upstream_model        LowCardinality(String)               CODEC(ZSTD(1)),
    dialect               LowCardinality(String)               CODEC(ZSTD(1)),
    outcome               LowCardinality(String)               CODEC(ZSTD(1)),
    error_class           LowCardinality(String)               CODEC(ZSTD(1)),
    requests              SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    failovers             SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    attempts              SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    cache_hits            SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    cache_lookups         SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    priced                SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    input_uncached        SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    input_cache_read      SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    input_cache_write_5m  SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    input_cache_write_1h  SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    output                SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    reasoning             SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    audio_in              SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    audio_out             SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    cost_nanousd          SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    saved_nanousd         SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    total_us              SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    overhead_us           SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    queue_us              SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    first_tokens          SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    first_token_us        SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    speed_tokens          SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    speed_us              SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    latency_digest        AggregateFunction(quantilesTDigest(0.5, 0.9, 0.95, 0.99), UInt64) CODEC(ZSTD(1)),
    first_token_digest    AggregateFunction(quantilesTDigest(0.5, 0.9, 0.95, 0.99), Nullable(UInt64)) CODEC(ZSTD(1)),
    overhead_digest       AggregateFunction(quantilesTDigest(0.5, 0.9, 0.95, 0.99), UInt64) CODEC(ZSTD(1))
)
ENGINE = {engine:AggregatingMergeTree}
PARTITION BY toYYYYMM(minute)
ORDER BY (minute, environment, provider, upstream_model, dialect, outcome, error_class)
TTL minute + toIntervalMonth(13)
SETTINGS {window};

CREATE MATERIALIZED VIEW IF NOT EXISTS {db}.usage_minute_view {on_cluster} TO {db}.usage_minute{local} AS
SELECT
    toStartOfMinute(toDateTime(u.started_at)) AS minute,
    u.environment AS environment,
    u.provider AS provider,
    u.upstream_model AS upstream_model,
    u.dialect AS dialect,
    u.outcome AS outcome,
    u.error_class AS error_class,
    count() AS requests,
    countIf(length(arrayDistinct(u.`attempts.target_id`)) > 1) AS failovers,
    sum(length(u.`attempts.target_id`)) AS attempts,
    countIf(u.cache = 'hit') AS cache_hits,
    countIf(u.cache IN ('hit', 'miss')) AS cache_lookups,
    countIf(u.priced) AS priced,
    sum(ifNull(u.input_uncached, 0)) AS input_uncached,
    sum(ifNull(u.input_cache_read, 0)) AS input_cache_read,
    sum(ifNull(u.input_cache_write_5m, 0)) AS input_cache_write_5m,
    sum(ifNull(u.input_cache_write_1h, 0)) AS input_cache_write_1h,
    sum(ifNull(u.output, 0)) AS output,
    sum(ifNull(u.reasoning, 0)) AS reasoning,
    sum(ifNull(u.audio_in, 0)) AS audio_in,
    sum(ifNull(u.audio_out, 0)) AS audio_out,
    sum(ifNull(u.cost_nanousd, 0)) AS cost_nanousd,
    sum(u.saved_nanousd) AS saved_nanousd,
    sum(u.total_us) AS total_us,
    sum(u.overhead_us) AS overhead_us,
    sum(u.queue_us) AS queue_us,
    count(u.first_token_us) AS first_tokens,
    sum(ifNull(u.first_token_us, 0)) AS first_token_us,
    sumIf(ifNull(u.output, 0) + ifNull(u.reasoning, 0), u.stream AND u.first_token_us IS NOT NULL AND u.output IS NOT NULL AND u.total_us > assumeNotNull(u.first_token_us)) AS speed_tokens,
    sumIf(u.total_us - assumeNotNull(u.first_token_us), u.stream AND u.first_token_us IS NOT NULL AND u.output IS NOT NULL AND u.total_us > assumeNotNull(u.first_token_us)) AS speed_us,
    quantilesTDigestState(0.5, 0.9, 0.95, 0.99)(u.total_us) AS latency_digest,
    quantilesTDigestState(0.5, 0.9, 0.95, 0.99)(u.first_token_us) AS first_token_digest,
    quantilesTDigestState(0.5, 0.9, 0.95, 0.99)(u.overhead_us) AS overhead_digest
FROM {db}.usage{local} AS u
GROUP BY minute, environment, provider, upstream_model, dialect, outcome, error_class;

-- cluster only
CREATE TABLE IF NOT EXISTS {db}.usage_minute {on_cluster} AS {db}.usage_minute_local
ENGINE = Distributed({cluster}, {db}, usage_minute_local, cityHash64(minute));

-- By hour, over all workspaces, made from the minutes.
CREATE TABLE IF NOT EXISTS {db}.usage_hour{local} {on_cluster}
(
    hour                  DateTime('UTC')                      CODEC(Delta(4), ZSTD(1)),
    environment           LowCardinality(String)               CODEC(ZSTD(1)),
    provider              LowCardinality(String)               CODEC(ZSTD(1)),
    upstream_model        LowCardinality(String)               CODEC(ZSTD(1)),
    dialect               LowCardinality(String)               CODEC(ZSTD(1)),
    outcome               LowCardinality(String)               CODEC(ZSTD(1)),
    error_class           LowCardinality(String)               CODEC(ZSTD(1)),
    requests              SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    failovers             SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    attempts              SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    cache_hits            SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    cache_lookups         SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    priced                SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    input_uncached        SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    input_cache_read      SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    input_cache_write_5m  SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    input_cache_write_1h  SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    output                SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    reasoning             SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    audio_in              SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    audio_out             SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    cost_nanousd          SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    saved_nanousd         SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    total_us              SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    overhead_us           SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    queue_us              SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    first_tokens          SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    first_token_us        SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    speed_tokens          SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    speed_us              SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    latency_digest        AggregateFunction(quantilesTDigest(0.5, 0.9, 0.95, 0.99), UInt64) CODEC(ZSTD(1)),
    first_token_digest    AggregateFunction(quantilesTDigest(0.5, 0.9, 0.95, 0.99), Nullable(UInt64)) CODEC(ZSTD(1)),
    overhead_digest       AggregateFunction(quantilesTDigest(0.5, 0.9, 0.95, 0.99), UInt64) CODEC(ZSTD(1))
)
ENGINE = {engine:AggregatingMergeTree}
PARTITION BY toYYYYMM(hour)
ORDER BY (hour, environment, provider, upstream_model, dialect, outcome, error_class)
TTL hour + toIntervalMonth(13)
SETTINGS {window};

CREATE MATERIALIZED VIEW IF NOT EXISTS {db}.usage_hour_view {on_cluster} TO {db}.usage_hour{local} AS
SELECT
    toStartOfHour(m.minute) AS hour,
    m.environment AS environment,
    m.provider AS provider,
    m.upstream_model AS upstream_model,
    m.dialect AS dialect,
    m.outcome AS outcome,
    m.error_class AS error_class,
    sum(m.requests) AS requests,
    sum(m.failovers) AS failovers,
    sum(m.attempts) AS attempts,
    sum(m.cache_hits) AS cache_hits,
    sum(m.cache_lookups) AS cache_lookups,
    sum(m.priced) AS priced,
    sum(m.input_uncached) AS input_uncached,
    sum(m.input_cache_read) AS input_cache_read,
    sum(m.input_cache_write_5m) AS input_cache_write_5m,
    sum(m.input_cache_write_1h) AS input_cache_write_1h,
    sum(m.output) AS output,
    sum(m.reasoning) AS reasoning,
    sum(m.audio_in) AS audio_in,
    sum(m.audio_out) AS audio_out,
    sum(m.cost_nanousd) AS cost_nanousd,
    sum(m.saved_nanousd) AS saved_nanousd,
    sum(m.total_us) AS total_us,
    sum(m.overhead_us) AS overhead_us,
    sum(m.queue_us) AS queue_us,
    sum(m.first_tokens) AS first_tokens,
    sum(m.first_token_us) AS first_token_us,
    sum(m.speed_tokens) AS speed_tokens,
    sum(m.speed_us) AS speed_us,
    quantilesTDigestMergeState(0.5, 0.9, 0.95, 0.99)(m.latency_digest) AS latency_digest,
    quantilesTDigestMergeState(0.5, 0.9, 0.95, 0.99)(m.first_token_digest) AS first_token_digest,
    quantilesTDigestMergeState(0.5, 0.9, 0.95, 0.99)(m.overhead_digest) AS overhead_digest
FROM {db}.usage_minute{local} AS m
GROUP BY hour, environment, provider, upstream_model, dialect, outcome, error_class;

-- cluster only
CREATE TABLE IF NOT EXISTS {db}.usage_hour {on_cluster} AS {db}.usage_hour_local
ENGINE = Distributed({cluster}, {db}, usage_hour_local, cityHash64(hour));

-- By hour and workspace.
CREATE TABLE IF NOT EXISTS {db}.usage_workspace_hour{local} {on_cluster}
(
    hour                  DateTime('UTC')                      CODEC(Delta(4), ZSTD(1)),
    workspace_id          UUID                                 CODEC(ZSTD(1)),
    workspace             LowCardinality(String)               CODEC(ZSTD(1)),
    environment_id        UUID                                 CODEC(ZSTD(1)),
    environment           LowCardinality(String)               CODEC(ZSTD(1)),
    deployment            LowCardinality(String)               CODEC(ZSTD(1)),
    model                 LowCardinality(String)               CODEC(ZSTD(1)),
    upstream_model        LowCardinality(String)               CODEC(ZSTD(1)),
    provider              LowCardinality(String)               CODEC(ZSTD(1)),
    connection            LowCardinality(String)               CODEC(ZSTD(1)),
    dialect               LowCardinality(String)               CODEC(ZSTD(1)),
    status                UInt16                               CODEC(ZSTD(1)),
    outcome               LowCardinality(String)               CODEC(ZSTD(1)),
    error_class           LowCardinality(String)               CODEC(ZSTD(1)),
    requests              SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    failovers             SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    attempts              SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    cache_hits            SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    cache_lookups         SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    priced                SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    input_uncached        SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    input_cache_read      SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    input_cache_write_5m  SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    input_cache_write_1h  SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    output                SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    reasoning             SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    audio_in              SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    audio_out             SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    cost_nanousd          SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    saved_nanousd         SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    total_us              SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    overhead_us           SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    queue_us              SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    first_tokens          SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    first_token_us        SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    speed_tokens          SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    speed_us              SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    latency_digest        AggregateFunction(quantilesTDigest(0.5, 0.9, 0.95, 0.99), UInt64) CODEC(ZSTD(1)),
    first_token_digest    AggregateFunction(quantilesTDigest(0.5, 0.9, 0.95, 0.99), Nullable(UInt64)) CODEC(ZSTD(1)),
    overhead_digest       AggregateFunction(quantilesTDigest(0.5, 0.9, 0.95, 0.99), UInt64) CODEC(ZSTD(1))
)
ENGINE = {engine:AggregatingMergeTree}
PARTITION BY toYYYYMM(hour)
PRIMARY KEY (workspace_id, hour)
ORDER BY (workspace_id, hour, workspace, environment_id, environment, deployment, model, upstream_model, provider, connection, dialect, status, outcome, error_class)
TTL hour + toIntervalMonth(13)
SETTINGS {window};

CREATE MATERIALIZED VIEW IF NOT EXISTS {db}.usage_workspace_hour_view {on_cluster} TO {db}.usage_workspace_hour{local} AS
SELECT
    toStartOfHour(toDateTime(u.started_at)) AS hour,
    u.workspace_id AS workspace_id,
    u.workspace AS workspace,
    u.environment_id AS environment_id,
    u.environment AS environment,
    u.deployment AS deployment,
    u.model AS model,
    u.upstream_model AS upstream_model,
    u.provider AS provider,
    u.connection AS connection,
    u.dialect AS dialect,
    u.status AS status,
    u.outcome AS outcome,
    u.error_class AS error_class,
    count() AS requests,
    countIf(length(arrayDistinct(u.`attempts.target_id`)) > 1) AS failovers,
    sum(length(u.`attempts.target_id`)) AS attempts,
    countIf(u.cache = 'hit') AS cache_hits,
    countIf(u.cache IN ('hit', 'miss')) AS cache_lookups,
    countIf(u.priced) AS priced,
    sum(ifNull(u.input_uncached, 0)) AS input_uncached,
    sum(ifNull(u.input_cache_read, 0)) AS input_cache_read,
    sum(ifNull(u.input_cache_write_5m, 0)) AS input_cache_write_5m,
    sum(ifNull(u.input_cache_write_1h, 0)) AS input_cache_write_1h,
    sum(ifNull(u.output, 0)) AS output,
    sum(ifNull(u.reasoning, 0)) AS reasoning,
    sum(ifNull(u.audio_in, 0)) AS audio_in,
    sum(ifNull(u.audio_out, 0)) AS audio_out,
    sum(ifNull(u.cost_nanousd, 0)) AS cost_nanousd,
    sum(u.saved_nanousd) AS saved_nanousd,
    sum(u.total_us) AS total_us,
    sum(u.overhead_us) AS overhead_us,
    sum(u.queue_us) AS queue_us,
    count(u.first_token_us) AS first_tokens,
    sum(ifNull(u.first_token_us, 0)) AS first_token_us,
    sumIf(ifNull(u.output, 0) + ifNull(u.reasoning, 0), u.stream AND u.first_token_us IS NOT NULL AND u.output IS NOT NULL AND u.total_us > assumeNotNull(u.first_token_us)) AS speed_tokens,
    sumIf(u.total_us - assumeNotNull(u.first_token_us), u.stream AND u.first_token_us IS NOT NULL AND u.output IS NOT NULL AND u.total_us > assumeNotNull(u.first_token_us)) AS speed_us,
    quantilesTDigestState(0.5, 0.9, 0.95, 0.99)(u.total_us) AS latency_digest,
    quantilesTDigestState(0.5, 0.9, 0.95, 0.99)(u.first_token_us) AS first_token_digest,
    quantilesTDigestState(0.5, 0.9, 0.95, 0.99)(u.overhead_us) AS overhead_digest
FROM {db}.usage{local} AS u
GROUP BY hour, workspace_id, workspace, environment_id, environment, deployment, model, upstream_model, provider, connection, dialect, status, outcome, error_class;

-- cluster only
CREATE TABLE IF NOT EXISTS {db}.usage_workspace_hour {on_cluster} AS {db}.usage_workspace_hour_local
ENGINE = Distributed({cluster}, {db}, usage_workspace_hour_local, cityHash64(workspace_id));

-- By day and key: the bill. Kept for good; no key is the id of zeros.
CREATE TABLE IF NOT EXISTS {db}.usage_day{local} {on_cluster}
(
    day                   Date                                 CODEC(Delta(2), ZSTD(1)),
    workspace_id          UUID                                 CODEC(ZSTD(1)),
    workspace             LowCardinality(String)               CODEC(ZSTD(1)),
    environment_id        UUID                                 CODEC(ZSTD(1)),
    environment           LowCardinality(String)               CODEC(ZSTD(1)),
    key_id                UUID                                 CODEC(ZSTD(1)),
    key                   LowCardinality(String)               CODEC(ZSTD(1)),
    deployment            LowCardinality(String)               CODEC(ZSTD(1)),
    model                 LowCardinality(String)               CODEC(ZSTD(1)),
    upstream_model        LowCardinality(String)               CODEC(ZSTD(1)),
    provider              LowCardinality(String)               CODEC(ZSTD(1)),
    outcome               LowCardinality(String)               CODEC(ZSTD(1)),
    requests              SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    failovers             SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    attempts              SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    cache_hits            SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    cache_lookups         SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    priced                SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    input_uncached        SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    input_cache_read      SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    input_cache_write_5m  SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    input_cache_write_1h  SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    output                SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    reasoning             SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    audio_in              SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    audio_out             SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    cost_nanousd          SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    saved_nanousd         SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    total_us              SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    overhead_us           SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    queue_us              SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    first_tokens          SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    first_token_us        SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    speed_tokens          SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    speed_us              SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1))
)
ENGINE = {engine:AggregatingMergeTree}
PARTITION BY toYYYYMM(day)
PRIMARY KEY (workspace_id, day)
ORDER BY (workspace_id, day, workspace, environment_id, environment, key_id, key, deployment, model, upstream_model, provider, outcome)
SETTINGS {window};

CREATE MATERIALIZED VIEW IF NOT EXISTS {db}.usage_day_view {on_cluster} TO {db}.usage_day{local} AS
SELECT
    toDate(u.started_at) AS day,
    u.workspace_id AS workspace_id,
    u.workspace AS workspace,
    u.environment_id AS environment_id,
    u.environment AS environment,
    ifNull(u.key_id, toUUID('00000000-0000-0000-0000-000000000000')) AS key_id,
    u.key AS key,
    u.deployment AS deployment,
    u.model AS model,
    u.upstream_model AS upstream_model,
    u.provider AS provider,
    u.outcome AS outcome,
    count() AS requests,
    countIf(length(arrayDistinct(u.`attempts.target_id`)) > 1) AS failovers,
    sum(length(u.`attempts.target_id`)) AS attempts,
    countIf(u.cache = 'hit') AS cache_hits,
    countIf(u.cache IN ('hit', 'miss')) AS cache_lookups,
    countIf(u.priced) AS priced,
    sum(ifNull(u.input_uncached, 0)) AS input_uncached,
    sum(ifNull(u.input_cache_read, 0)) AS input_cache_read,
    sum(ifNull(u.input_cache_write_5m, 0)) AS input_cache_write_5m,
    sum(ifNull(u.input_cache_write_1h, 0)) AS input_cache_write_1h,
    sum(ifNull(u.output, 0)) AS output,
    sum(ifNull(u.reasoning, 0)) AS reasoning,
    sum(ifNull(u.audio_in, 0)) AS audio_in,
    sum(ifNull(u.audio_out, 0)) AS audio_out,
    sum(ifNull(u.cost_nanousd, 0)) AS cost_nanousd,
    sum(u.saved_nanousd) AS saved_nanousd,
    sum(u.total_us) AS total_us,
    sum(u.overhead_us) AS overhead_us,
    sum(u.queue_us) AS queue_us,
    count(u.first_token_us) AS first_tokens,
    sum(ifNull(u.first_token_us, 0)) AS first_token_us,
    sumIf(ifNull(u.output, 0) + ifNull(u.reasoning, 0), u.stream AND u.first_token_us IS NOT NULL AND u.output IS NOT NULL AND u.total_us > assumeNotNull(u.first_token_us)) AS speed_tokens,
    sumIf(u.total_us - assumeNotNull(u.first_token_us), u.stream AND u.first_token_us IS NOT NULL AND u.output IS NOT NULL AND u.total_us > assumeNotNull(u.first_token_us)) AS speed_us
FROM {db}.usage{local} AS u
GROUP BY day, workspace_id, workspace, environment_id, environment, key_id, key, deployment, model, upstream_model, provider, outcome;

-- cluster only
CREATE TABLE IF NOT EXISTS {db}.usage_day {on_cluster} AS {db}.usage_day_local
ENGINE = Distributed({cluster}, {db}, usage_day_local, cityHash64(workspace_id));

-- Digests by day, over all workspaces: what quantiles over more than a week are read from. A digest costs by its centroids, and grows by far less than what it
-- stands for: those of a day are a twelfth of those of its hours.
CREATE TABLE IF NOT EXISTS {db}.usage_day_digest{local} {on_cluster}
(
    day                   Date                                 CODEC(Delta(2), ZSTD(1)),
    environment           LowCardinality(String)               CODEC(ZSTD(1)),
    provider              LowCardinality(String)               CODEC(ZSTD(1)),
    upstream_model        LowCardinality(String)               CODEC(ZSTD(1)),
    dialect               LowCardinality(String)               CODEC(ZSTD(1)),
    latency_digest        AggregateFunction(quantilesTDigest(0.5, 0.9, 0.95, 0.99), UInt64) CODEC(ZSTD(1)),
    first_token_digest    AggregateFunction(quantilesTDigest(0.5, 0.9, 0.95, 0.99), Nullable(UInt64)) CODEC(ZSTD(1)),
    overhead_digest       AggregateFunction(quantilesTDigest(0.5, 0.9, 0.95, 0.99), UInt64) CODEC(ZSTD(1))
)
ENGINE = {engine:AggregatingMergeTree}
PARTITION BY toYYYYMM(day)
ORDER BY (day, environment, provider, upstream_model, dialect)
TTL day + toIntervalMonth(13)
SETTINGS {window};

CREATE MATERIALIZED VIEW IF NOT EXISTS {db}.usage_day_digest_view {on_cluster} TO {db}.usage_day_digest{local} AS
SELECT
    toDate(h.hour) AS day,
    h.environment AS environment,
    h.provider AS provider,
    h.upstream_model AS upstream_model,
    h.dialect AS dialect,
    quantilesTDigestMergeState(0.5, 0.9, 0.95, 0.99)(h.latency_digest) AS latency_digest,
    quantilesTDigestMergeState(0.5, 0.9, 0.95, 0.99)(h.first_token_digest) AS first_token_digest,
    quantilesTDigestMergeState(0.5, 0.9, 0.95, 0.99)(h.overhead_digest) AS overhead_digest
FROM {db}.usage_hour{local} AS h
GROUP BY day, environment, provider, upstream_model, dialect;

-- cluster only
CREATE TABLE IF NOT EXISTS {db}.usage_day_digest {on_cluster} AS {db}.usage_day_digest_local
ENGINE = Distributed({cluster}, {db}, usage_day_digest_local, cityHash64(day));

-- The same by workspace, in three levels: of all its requests, by environment, by deployment. A question must name one level, or it counts each request three times.
-- `errors` are all outcomes but `success`, `cache_hit` and `client_closed`.
CREATE TABLE IF NOT EXISTS {db}.usage_workspace_day_digest{local} {on_cluster}
(
    day                   Date                                 CODEC(Delta(2), ZSTD(1)),
    level                 Enum8('workspace' = 1, 'environment' = 2, 'deployment' = 3),
    workspace_id          UUID                                 CODEC(ZSTD(1)),
    workspace             LowCardinality(String)               CODEC(ZSTD(1)),
    environment           LowCardinality(String)               CODEC(ZSTD(1)),
    deployment            LowCardinality(String)               CODEC(ZSTD(1)),
    requests              SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    errors                SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    cost_nanousd          SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    latency_digest        AggregateFunction(quantilesTDigest(0.5, 0.9, 0.95, 0.99), UInt64) CODEC(ZSTD(1)),
    first_token_digest    AggregateFunction(quantilesTDigest(0.5, 0.9, 0.95, 0.99), Nullable(UInt64)) CODEC(ZSTD(1))
)
ENGINE = {engine:AggregatingMergeTree}
PARTITION BY toYYYYMM(day)
-- What is asked for together lies together, in small granules: a digest is large, and one that is not asked for should not be read.
ORDER BY (level, environment, deployment, workspace_id, workspace, day)
TTL day + toIntervalMonth(13)
SETTINGS index_granularity = 64, {window};

CREATE MATERIALIZED VIEW IF NOT EXISTS {db}.usage_workspace_day_digest_view {on_cluster} TO {db}.usage_workspace_day_digest{local} AS
SELECT
    day,
    multiIf(grouping(environment) = 1, 'workspace', grouping(deployment) = 1, 'environment', 'deployment') AS level,
    workspace_id,
    workspace,
    environment,
    deployment,
    sum(of_deployment.requests) AS requests,
    sum(of_deployment.errors) AS errors,
    sum(of_deployment.cost_nanousd) AS cost_nanousd,
    quantilesTDigestMergeState(0.5, 0.9, 0.95, 0.99)(of_deployment.latency_digest) AS latency_digest,
    quantilesTDigestMergeState(0.5, 0.9, 0.95, 0.99)(of_deployment.first_token_digest) AS first_token_digest
FROM
(
    SELECT
        toDate(h.hour) AS day,
        h.workspace_id AS workspace_id,
        h.workspace AS workspace,
        h.environment AS environment,
        h.deployment AS deployment,
        sum(h.requests) AS requests,
        sumIf(h.requests, h.outcome NOT IN ('success', 'cache_hit', 'client_closed')) AS errors,
        sum(h.cost_nanousd) AS cost_nanousd,
        quantilesTDigestMergeState(0.5, 0.9, 0.95, 0.99)(h.latency_digest) AS latency_digest,
        quantilesTDigestMergeState(0.5, 0.9, 0.95, 0.99)(h.first_token_digest) AS first_token_digest
    FROM {db}.usage_workspace_hour{local} AS h
    GROUP BY day, workspace_id, workspace, environment, deployment
) AS of_deployment
GROUP BY GROUPING SETS ((day, workspace_id, workspace), (day, workspace_id, workspace, environment), (day, workspace_id, workspace, environment, deployment));

-- cluster only
CREATE TABLE IF NOT EXISTS {db}.usage_workspace_day_digest {on_cluster} AS {db}.usage_workspace_day_digest_local
ENGINE = Distributed({cluster}, {db}, usage_workspace_day_digest_local, cityHash64(workspace_id));
