-- Bodies of requests and responses, for the workspaces that log them: media replaced, capped, guards applied before. `request_bytes` and `response_bytes` are the
-- sizes before the cap. One row for each request at most; `usage` has the rest. Ask with the workspace and the hour, which the request's id carries.
CREATE TABLE IF NOT EXISTS {db}.payloads{local} {on_cluster}
(
    started_at      DateTime64(6, 'UTC')           CODEC(Delta(8), ZSTD(1)),
    request_id      UUID                           CODEC(ZSTD(1)),
    workspace_id    UUID                           CODEC(ZSTD(1)),
    request_type    LowCardinality(String)         CODEC(ZSTD(1)),
    request_body    String                         CODEC(ZSTD(3)),
    request_bytes   UInt64                         CODEC(T64, ZSTD(1)),
    response_type   LowCardinality(String)         CODEC(ZSTD(1)),
    response_body   String                         CODEC(ZSTD(3)),
    response_bytes  UInt64                         CODEC(T64, ZSTD(1)),
    retention_days  UInt16                         CODEC(ZSTD(1)),
    inserted_at     DateTime('UTC') DEFAULT now()  CODEC(Delta(4), ZSTD(1)),

    INDEX by_request_id request_id TYPE bloom_filter(0.01) GRANULARITY 1
)
ENGINE = {engine:MergeTree}
PARTITION BY toYYYYMMDD(started_at)
PRIMARY KEY (workspace_id, toStartOfHour(started_at))
ORDER BY (workspace_id, toStartOfHour(started_at), request_id)
TTL toDateTime(started_at) + toIntervalDay(retention_days)
SETTINGS {window};

-- cluster only
CREATE TABLE IF NOT EXISTS {db}.payloads {on_cluster} AS {db}.payloads_local
ENGINE = Distributed({cluster}, {db}, payloads_local, cityHash64(workspace_id));
