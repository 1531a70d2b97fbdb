-- One row for each request, as docs/usage-rows.md describes it; never changed once written. NULL: not known, or does not apply.
--
-- The key begins with the workspace: a question about one workspace reads its rows only. What spans all workspaces comes from the roll-ups. Inside an hour, rows that
-- look alike lie together, which is what makes them small.
CREATE TABLE IF NOT EXISTS {db}.usage{local} {on_cluster}
(
    started_at                  DateTime64(6, 'UTC')                CODEC(T64, ZSTD(1)),
    request_id                  UUID                                CODEC(ZSTD(6)),
    workspace_id                UUID                                CODEC(ZSTD(1)),
    workspace                   LowCardinality(String)              CODEC(ZSTD(1)),
    environment_id              UUID                                CODEC(ZSTD(1)),
    environment                 LowCardinality(String)              CODEC(ZSTD(1)),
    key_id                      Nullable(UUID)                      CODEC(ZSTD(6)),
    key                         LowCardinality(String)              CODEC(ZSTD(1)),
    deployment_id               Nullable(UUID)                      CODEC(ZSTD(6)),
    deployment                  LowCardinality(String)              CODEC(ZSTD(1)),
    requested_model             String                              CODEC(ZSTD(3)),
    target_id                   Nullable(UUID)                      CODEC(ZSTD(6)),
    model_id                    Nullable(UUID)                      CODEC(ZSTD(6)),
    model                       LowCardinality(String)              CODEC(ZSTD(1)),
    upstream_model              LowCardinality(String)              CODEC(ZSTD(1)),
    provider                    LowCardinality(String)              CODEC(ZSTD(1)),
    connection_id               Nullable(UUID)                      CODEC(ZSTD(6)),
    connection                  LowCardinality(String)              CODEC(ZSTD(1)),
    dialect                     LowCardinality(String)              CODEC(ZSTD(1)),
    endpoint                    LowCardinality(String)              CODEC(ZSTD(1)),
    stream                      Bool                                CODEC(ZSTD(1)),
    status                      UInt16                              CODEC(ZSTD(1)),
    outcome                     LowCardinality(String)              CODEC(ZSTD(1)),
    error_class                 LowCardinality(String)              CODEC(ZSTD(1)),
    degraded                    Bool                                CODEC(ZSTD(1)),
    cache                       LowCardinality(String)              CODEC(ZSTD(1)),
    usage_source                LowCardinality(String)              CODEC(ZSTD(1)),
    input_uncached              Nullable(UInt64)                    CODEC(T64, ZSTD(1)),
    input_cache_read            Nullable(UInt64)                    CODEC(T64, ZSTD(1)),
    input_cache_write_5m        Nullable(UInt64)                    CODEC(T64, ZSTD(1)),
    input_cache_write_1h        Nullable(UInt64)                    CODEC(T64, ZSTD(1)),
    output                      Nullable(UInt64)                    CODEC(T64, ZSTD(1)),
    reasoning                   Nullable(UInt64)                    CODEC(T64, ZSTD(1)),
    audio_in                    Nullable(UInt64)                    CODEC(T64, ZSTD(1)),
    audio_out                   Nullable(UInt64)                    CODEC(T64, ZSTD(1)),
    cost_nanousd                Nullable(UInt64)                    CODEC(T64, ZSTD(1)),
    saved_nanousd               UInt64                              CODEC(T64, ZSTD(1)),
    priced                      Bool                                CODEC(ZSTD(1)),
    price_version               LowCardinality(String)              CODEC(ZSTD(1)),
    total_us                    UInt64                              CODEC(T64, ZSTD(1)),
    overhead_us                 UInt64                              CODEC(T64, ZSTD(1)),
    queue_us                    UInt64                              CODEC(T64, ZSTD(1)),
    headers_us                  Nullable(UInt64)                    CODEC(T64, ZSTD(1)),
    first_token_us              Nullable(UInt64)                    CODEC(T64, ZSTD(1)),
    request_bytes               UInt64                              CODEC(T64, ZSTD(1)),
    response_bytes              UInt64                              CODEC(T64, ZSTD(1)),
    source_ip                   IPv6                                CODEC(ZSTD(1)),
    end_user                    String                              CODEC(ZSTD(1)),
    metadata                    Map(LowCardinality(String), String) CODEC(ZSTD(3)),
    correlation_id              String                              CODEC(ZSTD(1)),
    client_request_id           String                              CODEC(ZSTD(1)),
    upstream_request_id         String                              CODEC(ZSTD(1)),
    -- The attempts in their order; the last one is the one that counted.
    `attempts.target_id`        Array(UUID)                         CODEC(ZSTD(6)),
    `attempts.connection_id`    Array(UUID)                         CODEC(ZSTD(6)),
    `attempts.connection`       Array(LowCardinality(String))       CODEC(ZSTD(1)),
    `attempts.model`            Array(LowCardinality(String))       CODEC(ZSTD(1)),
    `attempts.provider`         Array(LowCardinality(String))       CODEC(ZSTD(1)),
    `attempts.status`           Array(UInt16)                       CODEC(ZSTD(1)),
    `attempts.error_class`      Array(LowCardinality(String))       CODEC(ZSTD(1)),
    `attempts.maybe_billed`     Array(Bool)                         CODEC(ZSTD(1)),
    `attempts.started_us`       Array(UInt64)                       CODEC(T64, ZSTD(1)),
    `attempts.headers_us`       Array(Nullable(UInt64))             CODEC(T64, ZSTD(1)),
    `attempts.first_token_us`   Array(Nullable(UInt64))             CODEC(T64, ZSTD(1)),
    `attempts.total_us`         Array(UInt64)                       CODEC(T64, ZSTD(1)),
    retention_days              UInt16                              CODEC(ZSTD(1)),
    node                        LowCardinality(String)              CODEC(ZSTD(1)),
    gateway_version             LowCardinality(String)              CODEC(ZSTD(1)),
    inserted_at                 DateTime('UTC') DEFAULT now()       CODEC(Delta(4), ZSTD(1)),

    INDEX by_request_id request_id TYPE bloom_filter(0.05) GRANULARITY 1,
    INDEX by_correlation_id correlation_id TYPE bloom_filter(0.05) GRANULARITY 1,
    INDEX by_end_user end_user TYPE bloom_filter(0.05) GRANULARITY 1,
    INDEX by_metadata_key mapKeys(metadata) TYPE bloom_filter(0.05) GRANULARITY 1,
    INDEX by_metadata_value mapValues(metadata) TYPE bloom_filter(0.05) GRANULARITY 1
)
ENGINE = {engine:MergeTree}
PARTITION BY toYYYYMMDD(started_at)
PRIMARY KEY (workspace_id, toStartOfHour(started_at))
ORDER BY (workspace_id, toStartOfHour(started_at), environment_id, deployment, provider, upstream_model, outcome, key, started_at)
TTL toDateTime(started_at) + toIntervalDay(retention_days)
SETTINGS {window};

-- cluster only
CREATE TABLE IF NOT EXISTS {db}.usage {on_cluster} AS {db}.usage{local}
ENGINE = Distributed({cluster}, {db}, usage_local, cityHash64(workspace_id));
