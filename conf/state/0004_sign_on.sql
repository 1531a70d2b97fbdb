-- Who users are at the identity provider: its issuer, and its name for them.
CREATE TABLE user_subjects (
    issuer TEXT NOT NULL,
    subject TEXT NOT NULL,
    user_id TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (issuer, subject)
);
CREATE INDEX user_subjects_by_user ON user_subjects (user_id);
