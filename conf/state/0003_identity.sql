-- Who may do what.
CREATE TABLE users (
    id TEXT PRIMARY KEY,
    email TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    platform_role TEXT NOT NULL,
    -- invited, active, disabled, deleted
    status TEXT NOT NULL,
    -- Argon2id in its usual text form; empty when there is none.
    password_hash TEXT NOT NULL,
    must_change_password BIGINT NOT NULL,
    -- The SHA-256 of the token of an invitation, and its end.
    invite_digest BYTEA,
    invite_expires_at BIGINT,
    last_login_at BIGINT,
    version BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    created_by TEXT NOT NULL,
    updated_at BIGINT NOT NULL,
    updated_by TEXT NOT NULL
);

-- `environments` is a JSON list of ids, or empty for all.
CREATE TABLE members (
    workspace_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    role TEXT NOT NULL,
    environments TEXT NOT NULL,
    version BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    created_by TEXT NOT NULL,
    updated_at BIGINT NOT NULL,
    updated_by TEXT NOT NULL,
    PRIMARY KEY (workspace_id, user_id)
);
CREATE INDEX members_by_user ON members (user_id);

-- `permissions` and `workspaces` are JSON lists, or empty for all that the user has.
CREATE TABLE admin_tokens (
    id TEXT PRIMARY KEY,
    user_id TEXT NOT NULL,
    name TEXT NOT NULL,
    digest BYTEA NOT NULL UNIQUE,
    hint TEXT NOT NULL,
    permissions TEXT NOT NULL,
    workspaces TEXT NOT NULL,
    expires_at BIGINT,
    last_used_at BIGINT,
    version BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    created_by TEXT NOT NULL
);
CREATE INDEX admin_tokens_by_user ON admin_tokens (user_id);

CREATE TABLE sessions (
    digest BYTEA PRIMARY KEY,
    user_id TEXT NOT NULL,
    csrf_digest BYTEA NOT NULL,
    created_at BIGINT NOT NULL,
    seen_at BIGINT NOT NULL
);
CREATE INDEX sessions_by_user ON sessions (user_id);

-- Failed logins, by account and by address.
CREATE TABLE login_failures (
    subject TEXT PRIMARY KEY,
    n BIGINT NOT NULL,
    since BIGINT NOT NULL
);
