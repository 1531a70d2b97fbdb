-- Bodies of requests and answers, for the workspaces that log them: media replaced, secrets out, capped.
-- `request_bytes` and `response_bytes` are the sizes before. One row for each request at most.
CREATE TABLE payloads (
    request_key BLOB NOT NULL UNIQUE,
    started_at INTEGER NOT NULL,
    workspace_id TEXT NOT NULL,
    request_type TEXT NOT NULL,
    request_body TEXT NOT NULL,
    request_bytes INTEGER NOT NULL,
    response_type TEXT NOT NULL,
    response_body TEXT NOT NULL,
    response_bytes INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT;

CREATE INDEX payloads_by_expiry ON payloads (expires_at);
