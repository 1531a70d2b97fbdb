-- The files that have been applied, one row each. This file itself is applied again and again, and has no row.
CREATE TABLE IF NOT EXISTS {db}.schema_migrations {on_cluster}
(
    version     UInt32,
    name        String,
    checksum    String,
    applied_by  String,
    applied_at  DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = {everywhere:ReplacingMergeTree}
ORDER BY version;
