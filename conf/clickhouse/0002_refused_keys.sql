-- Requests with keys that nobody knows, counted by minute and address: a flood of bad keys must not flood the store. `::` is an unknown address.
CREATE TABLE IF NOT EXISTS {db}.refused_keys{local} {on_cluster}
(
    minute     DateTime('UTC')                       CODEC(Delta(4), ZSTD(1)),
    source_ip  IPv6                                  CODEC(ZSTD(1)),
    node       LowCardinality(String)                CODEC(ZSTD(1)),
    count      UInt64                                CODEC(T64, ZSTD(1))
)
ENGINE = {engine:SummingMergeTree}
PARTITION BY toYYYYMM(minute)
ORDER BY (minute, source_ip, node)
TTL minute + toIntervalMonth(13)
SETTINGS {window};

-- cluster only
CREATE TABLE IF NOT EXISTS {db}.refused_keys {on_cluster} AS {db}.refused_keys_local
ENGINE = Distributed({cluster}, {db}, refused_keys_local, cityHash64(source_ip));
