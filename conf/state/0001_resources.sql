-- The state of the control plane, for SQLite and PostgreSQL alike.
-- Times are microseconds since 1970 UTC; ids are UUIDs as text; flags are 0 or 1.

-- One row. Every change takes the next revision; the last two columns are the end of the audit chain.
CREATE TABLE state (
    one BIGINT PRIMARY KEY CHECK (one = 1),
    revision BIGINT NOT NULL,
    master_key_id TEXT NOT NULL,
    active_workspace TEXT NOT NULL,
    active_environment TEXT NOT NULL,
    audit_seq BIGINT NOT NULL,
    audit_hash TEXT NOT NULL
);
INSERT INTO state VALUES (1, 0, '', '', '', 0, '');

-- Everything that a declarative document holds. `parent_id` is the environment's id, for an
-- environment its workspace's, and empty for workspaces and what is global. `spec` is the
-- resource's table of the document as JSON, without its name and its secret.
CREATE TABLE resources (
    id TEXT PRIMARY KEY,
    kind TEXT NOT NULL,
    workspace_id TEXT NOT NULL,
    parent_id TEXT NOT NULL,
    name TEXT NOT NULL,
    status TEXT NOT NULL,
    spec TEXT NOT NULL,
    -- The credential, encrypted, and what may be shown of it.
    sealed BYTEA,
    hint TEXT NOT NULL,
    -- 'api', or 'document' for what the document of `resources = …` holds.
    origin TEXT NOT NULL,
    -- Counts the changes of this row: its ETag.
    version BIGINT NOT NULL,
    -- The revision of the last change.
    revision BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    created_by TEXT NOT NULL,
    updated_at BIGINT NOT NULL,
    updated_by TEXT NOT NULL,
    UNIQUE (kind, parent_id, name)
);
CREATE INDEX resources_by_parent ON resources (parent_id, kind, id);
CREATE INDEX resources_by_workspace ON resources (workspace_id, kind);
CREATE INDEX resources_by_revision ON resources (revision);

-- Which resource names which other, so that nothing in use is removed or renamed.
CREATE TABLE resource_references (
    from_id TEXT NOT NULL,
    workspace_id TEXT NOT NULL,
    to_id TEXT NOT NULL,
    PRIMARY KEY (from_id, to_id)
);
CREATE INDEX resource_references_by_target ON resource_references (to_id);

-- The SHA-256 of the secrets that open a virtual key: one, or two during a rotation.
CREATE TABLE key_secrets (
    digest BYTEA PRIMARY KEY,
    key_id TEXT NOT NULL,
    workspace_id TEXT NOT NULL,
    hint TEXT NOT NULL,
    not_after BIGINT,
    created_at BIGINT NOT NULL
);
CREATE INDEX key_secrets_by_key ON key_secrets (key_id);

-- When a virtual key was last used, to the minute.
CREATE TABLE key_uses (
    key_id TEXT PRIMARY KEY,
    workspace_id TEXT NOT NULL,
    last_used_at BIGINT NOT NULL
);

-- What nodes must forget: the digests of removed secrets, and `snapshot` when something else was
-- removed.
CREATE TABLE removals (
    revision BIGINT NOT NULL,
    kind TEXT NOT NULL,
    digest BYTEA
);
CREATE INDEX removals_by_revision ON removals (revision);
