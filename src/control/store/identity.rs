//! Users, their places in workspaces, admin tokens, sessions.

use serde_json::{Value as Json, json};
use uuid::Uuid;

use super::Tx;
use super::sql::{Db, Row, StoreError};
use crate::clock::rfc3339;

/// What a user may do with the platform as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PlatformRole {
    Member,
    Admin,
    Superadmin,
}

/// What a member may do in a workspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum WorkspaceRole {
    Viewer,
    Member,
    Admin,
    Owner,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UserStatus {
    Invited,
    Active,
    Disabled,
    Deleted,
}

#[derive(Debug, Clone)]
pub struct UserRow {
    pub id: Uuid,
    pub email: String,
    pub name: String,
    pub role: PlatformRole,
    pub status: UserStatus,
    /// Argon2id in its text form; empty when there is none.
    pub password_hash: String,
    pub must_change_password: bool,
    pub invite_expires_at: Option<i64>,
    pub last_login_at: Option<i64>,
    pub version: i64,
    pub created_at: i64,
    pub created_by: String,
}

#[derive(Debug, Clone)]
pub struct MemberRow {
    pub workspace: Uuid,
    pub user: Uuid,
    pub role: WorkspaceRole,
    /// `None` is all of them.
    pub environments: Option<Vec<Uuid>>,
    pub version: i64,
    pub created_at: i64,
    pub created_by: String,
}

#[derive(Debug, Clone)]
pub struct TokenRow {
    pub id: Uuid,
    pub user: Uuid,
    pub name: String,
    pub hint: String,
    /// Names of permissions; `None` is all that the user has.
    pub permissions: Option<Vec<String>>,
    pub workspaces: Option<Vec<Uuid>>,
    pub expires_at: Option<i64>,
    pub last_used_at: Option<i64>,
    pub version: i64,
    pub created_at: i64,
    pub created_by: String,
}

#[derive(Debug, Clone)]
pub struct SessionRow {
    pub user: Uuid,
    pub csrf_digest: Vec<u8>,
    pub created_at: i64,
    pub seen_at: i64,
}

macro_rules! names {
    ($name:ident { $($variant:ident: $text:literal),+ $(,)? }) => {
        impl $name {
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                }
            }

            pub fn from_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|it| it.name() == name)
            }
        }
    };
}

names!(PlatformRole { Member: "member", Admin: "admin", Superadmin: "superadmin" });
names!(WorkspaceRole { Viewer: "viewer", Member: "member", Admin: "admin", Owner: "owner" });
names!(UserStatus {
    Invited: "invited",
    Active: "active",
    Disabled: "disabled",
    Deleted: "deleted",
});

fn known<T>(value: Option<T>) -> Result<T, StoreError> {
    value.ok_or_else(|| StoreError::Corrupt("a role or status of another version".to_owned()))
}

fn list<T: serde::de::DeserializeOwned>(
    row: &Row,
    at: usize,
) -> Result<Option<Vec<T>>, StoreError> {
    let text = row.text(at)?;
    if text.is_empty() {
        return Ok(None);
    }
    let list = serde_json::from_str(text);
    list.map(Some).map_err(|_| StoreError::Corrupt("a list that is none".to_owned()))
}

fn list_text<T: serde::Serialize>(list: Option<&Vec<T>>) -> String {
    list.map(|list| serde_json::to_string(list).unwrap_or_default()).unwrap_or_default()
}

// === users ===

macro_rules! users {
    ($rest:literal) => {
        concat!(
            "SELECT id, email, name, platform_role, status, password_hash, must_change_password, \
             invite_expires_at, last_login_at, version, created_at, created_by FROM users ",
            $rest
        )
    };
}

impl UserRow {
    fn read(row: &Row) -> Result<Self, StoreError> {
        Ok(Self {
            id: row.id(0)?,
            email: row.text(1)?.to_owned(),
            name: row.text(2)?.to_owned(),
            role: known(PlatformRole::from_name(row.text(3)?))?,
            status: known(UserStatus::from_name(row.text(4)?))?,
            password_hash: row.text(5)?.to_owned(),
            must_change_password: row.int(6)? != 0,
            invite_expires_at: row.opt_int(7)?,
            last_login_at: row.opt_int(8)?,
            version: row.int(9)?,
            created_at: row.int(10)?,
            created_by: row.text(11)?.to_owned(),
        })
    }

    pub fn view(&self) -> Json {
        json!({
            "id": self.id,
            "email": self.email,
            "name": self.name,
            "platform_role": self.role.name(),
            "status": self.status.name(),
            "must_change_password": self.must_change_password,
            "last_login_at": self.last_login_at.map(rfc3339),
            "created_at": rfc3339(self.created_at),
            "created_by": self.created_by,
        })
    }
}

pub fn user(db: &mut Db, id: Uuid) -> Result<Option<UserRow>, StoreError> {
    db.first(users!("WHERE id = $1"), &[id.into()])?.as_ref().map(UserRow::read).transpose()
}

pub fn user_by_email(db: &mut Db, email: &str) -> Result<Option<UserRow>, StoreError> {
    let row = db.first(users!("WHERE email = $1"), &[email.into()])?;
    row.as_ref().map(UserRow::read).transpose()
}

/// The user whom an identity provider names so.
pub fn user_by_subject(
    db: &mut Db,
    issuer: &str,
    subject: &str,
) -> Result<Option<UserRow>, StoreError> {
    let sql =
        users!("WHERE id = (SELECT user_id FROM user_subjects WHERE issuer = $1 AND subject = $2)");
    let row = db.first(sql, &[issuer.into(), subject.into()])?;
    row.as_ref().map(UserRow::read).transpose()
}

pub fn user_by_invite(db: &mut Db, digest: &[u8]) -> Result<Option<UserRow>, StoreError> {
    let row = db.first(users!("WHERE invite_digest = $1"), &[digest.into()])?;
    row.as_ref().map(UserRow::read).transpose()
}

pub fn users(db: &mut Db, after: &str, limit: i64) -> Result<Vec<UserRow>, StoreError> {
    let sql = users!("WHERE id > $1 AND status <> 'deleted' ORDER BY id LIMIT $2");
    db.query(sql, &[after.into(), limit.into()])?.iter().map(UserRow::read).collect()
}

/// Who answers for what no user made.
pub fn first_superadmin(db: &mut Db) -> Result<Option<Uuid>, StoreError> {
    let sql =
        users!("WHERE platform_role = 'superadmin' AND status = 'active' ORDER BY id LIMIT 1");
    let row = db.first(sql, &[])?;
    Ok(row.as_ref().map(UserRow::read).transpose()?.map(|user| user.id))
}

/// Workspaces that nobody owns.
pub fn without_owner(db: &mut Db) -> Result<Vec<Uuid>, StoreError> {
    let sql = "SELECT id FROM resources WHERE kind = 'workspace' AND NOT EXISTS \
               (SELECT 1 FROM members WHERE workspace_id = resources.id AND role = 'owner')";
    let rows = db.query(sql, &[])?;
    rows.iter().map(|row| row.id(0)).collect()
}

/// Whether anybody was ever made.
pub fn has_users(db: &mut Db) -> Result<bool, StoreError> {
    db.exists("SELECT 1 FROM users LIMIT 1", &[])
}

/// The superadmins who can log in, except one.
pub fn has_other_superadmin(db: &mut Db, id: Uuid) -> Result<bool, StoreError> {
    let sql = "SELECT 1 FROM users WHERE platform_role = 'superadmin' AND status = 'active' \
               AND id <> $1 LIMIT 1";
    db.exists(sql, &[id.into()])
}

impl Tx<'_> {
    /// Notes who a user is at an identity provider.
    pub fn link_subject(
        &mut self,
        issuer: &str,
        subject: &str,
        user: Uuid,
    ) -> Result<(), StoreError> {
        let sql = "INSERT INTO user_subjects (issuer, subject, user_id, created_at) \
                   VALUES ($1, $2, $3, $4)";
        self.db.execute(sql, &[issuer.into(), subject.into(), user.into(), self.now.into()])?;
        self.keep();
        Ok(())
    }

    pub fn insert_user(&mut self, user: &UserRow) -> Result<(), StoreError> {
        let sql = "INSERT INTO users (id, email, name, platform_role, status, password_hash, \
                   must_change_password, version, created_at, created_by, updated_at, updated_by) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $9, $10)";
        let params = [
            user.id.into(),
            user.email.as_str().into(),
            user.name.as_str().into(),
            user.role.name().into(),
            user.status.name().into(),
            user.password_hash.as_str().into(),
            user.must_change_password.into(),
            user.version.into(),
            user.created_at.into(),
            user.created_by.as_str().into(),
        ];
        self.db.execute(sql, &params)?;
        self.keep();
        Ok(())
    }

    /// Writes what may change of a user. Whoever may no longer log in loses their sessions.
    pub fn update_user(&mut self, user: &mut UserRow, by: &str) -> Result<(), StoreError> {
        user.version += 1;
        let sql = "UPDATE users SET name = $2, platform_role = $3, status = $4, \
                   password_hash = $5, must_change_password = $6, last_login_at = $7, \
                   version = $8, updated_at = $9, updated_by = $10, email = $11 WHERE id = $1";
        let params = [
            user.id.into(),
            user.name.as_str().into(),
            user.role.name().into(),
            user.status.name().into(),
            user.password_hash.as_str().into(),
            user.must_change_password.into(),
            user.last_login_at.into(),
            user.version.into(),
            self.now.into(),
            by.into(),
            user.email.as_str().into(),
        ];
        self.db.execute(sql, &params)?;
        if user.status != UserStatus::Active {
            self.end_sessions(user.id, None)?;
        }
        self.keep();
        Ok(())
    }

    /// Takes a user out of every workspace, and their tokens with them.
    pub fn forget_user(&mut self, user: Uuid) -> Result<(), StoreError> {
        self.db.execute("DELETE FROM members WHERE user_id = $1", &[user.into()])?;
        self.db.execute("DELETE FROM admin_tokens WHERE user_id = $1", &[user.into()])?;
        self.set_invite(user, None, None)
    }

    pub fn set_invite(
        &mut self,
        user: Uuid,
        digest: Option<&[u8]>,
        expires_at: Option<i64>,
    ) -> Result<(), StoreError> {
        let sql = "UPDATE users SET invite_digest = $2, invite_expires_at = $3 WHERE id = $1";
        self.db.execute(sql, &[user.into(), digest.into(), expires_at.into()])?;
        self.keep();
        Ok(())
    }
}

// === members ===

macro_rules! members {
    ($rest:literal) => {
        concat!(
            "SELECT workspace_id, user_id, role, environments, version, created_at, created_by \
             FROM members ",
            $rest
        )
    };
}

impl MemberRow {
    fn read(row: &Row) -> Result<Self, StoreError> {
        Ok(Self {
            workspace: row.id(0)?,
            user: row.id(1)?,
            role: known(WorkspaceRole::from_name(row.text(2)?))?,
            environments: list(row, 3)?,
            version: row.int(4)?,
            created_at: row.int(5)?,
            created_by: row.text(6)?.to_owned(),
        })
    }
}

pub fn memberships(db: &mut Db, user: Uuid) -> Result<Vec<MemberRow>, StoreError> {
    let rows = db.query(members!("WHERE user_id = $1"), &[user.into()])?;
    rows.iter().map(MemberRow::read).collect()
}

pub fn members(db: &mut Db, workspace: Uuid) -> Result<Vec<MemberRow>, StoreError> {
    let rows =
        db.query(members!("WHERE workspace_id = $1 ORDER BY user_id"), &[workspace.into()])?;
    rows.iter().map(MemberRow::read).collect()
}

pub fn member(db: &mut Db, workspace: Uuid, user: Uuid) -> Result<Option<MemberRow>, StoreError> {
    let sql = members!("WHERE workspace_id = $1 AND user_id = $2");
    let row = db.first(sql, &[workspace.into(), user.into()])?;
    row.as_ref().map(MemberRow::read).transpose()
}

impl Tx<'_> {
    pub fn put_member(&mut self, member: &MemberRow, by: &str) -> Result<(), StoreError> {
        let sql = "INSERT INTO members (workspace_id, user_id, role, environments, version, \
                   created_at, created_by, updated_at, updated_by) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $6, $7) \
                   ON CONFLICT (workspace_id, user_id) DO UPDATE SET role = excluded.role, \
                   environments = excluded.environments, version = members.version + 1, \
                   updated_at = excluded.updated_at, updated_by = excluded.updated_by";
        let params = [
            member.workspace.into(),
            member.user.into(),
            member.role.name().into(),
            list_text(member.environments.as_ref()).into(),
            member.version.into(),
            self.now.into(),
            by.into(),
        ];
        self.db.execute(sql, &params)?;
        self.keep();
        Ok(())
    }

    pub fn remove_member(&mut self, workspace: Uuid, user: Uuid) -> Result<(), StoreError> {
        let sql = "DELETE FROM members WHERE workspace_id = $1 AND user_id = $2";
        self.db.execute(sql, &[workspace.into(), user.into()])?;
        self.keep();
        Ok(())
    }
}

// === admin tokens ===

macro_rules! tokens {
    ($rest:literal) => {
        concat!(
            "SELECT id, user_id, name, hint, permissions, workspaces, expires_at, last_used_at, \
             version, created_at, created_by FROM admin_tokens ",
            $rest
        )
    };
}

impl TokenRow {
    fn read(row: &Row) -> Result<Self, StoreError> {
        Ok(Self {
            id: row.id(0)?,
            user: row.id(1)?,
            name: row.text(2)?.to_owned(),
            hint: row.text(3)?.to_owned(),
            permissions: list(row, 4)?,
            workspaces: list(row, 5)?,
            expires_at: row.opt_int(6)?,
            last_used_at: row.opt_int(7)?,
            version: row.int(8)?,
            created_at: row.int(9)?,
            created_by: row.text(10)?.to_owned(),
        })
    }

    pub fn view(&self) -> Json {
        json!({
            "id": self.id,
            "user_id": self.user,
            "name": self.name,
            "hint": self.hint,
            "permissions": self.permissions,
            "workspaces": self.workspaces,
            "expires_at": self.expires_at.map(rfc3339),
            "last_used_at": self.last_used_at.map(rfc3339),
            "created_at": rfc3339(self.created_at),
            "created_by": self.created_by,
        })
    }
}

pub fn token_by_digest(db: &mut Db, digest: &[u8]) -> Result<Option<TokenRow>, StoreError> {
    let row = db.first(tokens!("WHERE digest = $1"), &[digest.into()])?;
    row.as_ref().map(TokenRow::read).transpose()
}

pub fn token(db: &mut Db, id: Uuid) -> Result<Option<TokenRow>, StoreError> {
    db.first(tokens!("WHERE id = $1"), &[id.into()])?.as_ref().map(TokenRow::read).transpose()
}

/// The tokens of a user, or of everybody.
pub fn tokens(
    db: &mut Db,
    user: Option<Uuid>,
    after: &str,
    limit: i64,
) -> Result<Vec<TokenRow>, StoreError> {
    let user = super::resources::id_or_empty(user);
    let sql = tokens!("WHERE id > $1 AND ($2 = '' OR user_id = $2) ORDER BY id LIMIT $3");
    let rows = db.query(sql, &[after.into(), user.into(), limit.into()])?;
    rows.iter().map(TokenRow::read).collect()
}

impl Tx<'_> {
    /// Keeps when a token was last used. It is no change of the token.
    pub fn set_token_used(&mut self, token: Uuid, at: i64) -> Result<(), StoreError> {
        let sql = "UPDATE admin_tokens SET last_used_at = $2 \
                   WHERE id = $1 AND (last_used_at IS NULL OR last_used_at < $2)";
        self.db.execute(sql, &[token.into(), at.into()])?;
        self.keep();
        Ok(())
    }

    pub fn insert_token(&mut self, token: &TokenRow, digest: &[u8]) -> Result<(), StoreError> {
        let sql = "INSERT INTO admin_tokens (id, user_id, name, digest, hint, permissions, \
                   workspaces, expires_at, version, created_at, created_by) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";
        let params = [
            token.id.into(),
            token.user.into(),
            token.name.as_str().into(),
            digest.into(),
            token.hint.as_str().into(),
            list_text(token.permissions.as_ref()).into(),
            list_text(token.workspaces.as_ref()).into(),
            token.expires_at.into(),
            token.version.into(),
            token.created_at.into(),
            token.created_by.as_str().into(),
        ];
        self.db.execute(sql, &params)?;
        self.keep();
        Ok(())
    }

    pub fn remove_token(&mut self, id: Uuid) -> Result<(), StoreError> {
        self.db.execute("DELETE FROM admin_tokens WHERE id = $1", &[id.into()])?;
        self.keep();
        Ok(())
    }
}

// === sessions and failed logins ===

/// How long a session lasts however much it is used.
pub const SESSION_MICROS_MAX: i64 = 12 * 3_600 * 1_000_000;

pub fn session(db: &mut Db, digest: &[u8]) -> Result<Option<SessionRow>, StoreError> {
    let sql = "SELECT user_id, csrf_digest, created_at, seen_at FROM sessions WHERE digest = $1";
    let row = db.first(sql, &[digest.into()])?;
    let read = |row: Row| {
        Ok(SessionRow {
            user: row.id(0)?,
            csrf_digest: row.bytes(1)?.to_vec(),
            created_at: row.int(2)?,
            seen_at: row.int(3)?,
        })
    };
    row.map(read).transpose()
}

/// How often a login has failed since when, by account or address.
pub fn login_failures(db: &mut Db, subject: &str) -> Result<(i64, i64), StoreError> {
    let sql = "SELECT n, since FROM login_failures WHERE subject = $1";
    let row = db.first(sql, &[subject.into()])?;
    row.map_or(Ok((0, 0)), |row| Ok((row.int(0)?, row.int(1)?)))
}

impl Tx<'_> {
    pub fn insert_session(
        &mut self,
        user: Uuid,
        digest: &[u8],
        csrf_digest: &[u8],
    ) -> Result<(), StoreError> {
        let too_old = self.now - SESSION_MICROS_MAX;
        self.db.execute("DELETE FROM sessions WHERE created_at < $1", &[too_old.into()])?;
        let sql = "INSERT INTO sessions (digest, user_id, csrf_digest, created_at, seen_at) \
                   VALUES ($1, $2, $3, $4, $4)";
        let params = [digest.into(), user.into(), csrf_digest.into(), self.now.into()];
        self.db.execute(sql, &params)?;
        self.keep();
        Ok(())
    }

    pub fn touch_session(&mut self, digest: &[u8]) -> Result<(), StoreError> {
        let sql = "UPDATE sessions SET seen_at = $2 WHERE digest = $1";
        self.db.execute(sql, &[digest.into(), self.now.into()])?;
        self.keep();
        Ok(())
    }

    /// Ends the sessions of a user, all but one if that is given.
    pub fn end_sessions(&mut self, user: Uuid, but: Option<&[u8]>) -> Result<(), StoreError> {
        let but = but.unwrap_or_default();
        let sql = "DELETE FROM sessions WHERE user_id = $1 AND digest <> $2";
        self.db.execute(sql, &[user.into(), but.into()])?;
        self.keep();
        Ok(())
    }

    pub fn end_session(&mut self, digest: &[u8]) -> Result<(), StoreError> {
        self.db.execute("DELETE FROM sessions WHERE digest = $1", &[digest.into()])?;
        self.keep();
        Ok(())
    }

    /// Counts a failed login; the count begins anew after `window`.
    pub fn count_login_failure(&mut self, subject: &str, window: i64) -> Result<(), StoreError> {
        let too_old = self.now - window;
        self.db.execute("DELETE FROM login_failures WHERE since < $1", &[too_old.into()])?;
        let (n, since) = login_failures(self.db, subject)?;
        let (n, since) = if self.now - since < window { (n + 1, since) } else { (1, self.now) };
        let sql = "INSERT INTO login_failures (subject, n, since) VALUES ($1, $2, $3) \
                   ON CONFLICT (subject) DO UPDATE SET n = excluded.n, since = excluded.since";
        self.db.execute(sql, &[subject.into(), n.into(), since.into()])?;
        self.keep();
        Ok(())
    }

    pub fn forget_login_failures(&mut self, subject: &str) -> Result<(), StoreError> {
        self.db.execute("DELETE FROM login_failures WHERE subject = $1", &[subject.into()])?;
        self.keep();
        Ok(())
    }
}

// === kept answers ===

/// What an earlier call with the same `Idempotency-Key` was, and what it was answered.
#[derive(Debug)]
pub struct KeptAnswer {
    pub status: i64,
    pub sealed: Vec<u8>,
}

impl Tx<'_> {
    /// The answer kept for a key of an actor, if it is not older than `since`.
    pub fn kept_answer(
        &mut self,
        actor: &str,
        key: &str,
        since: i64,
    ) -> Result<Option<KeptAnswer>, StoreError> {
        self.db.execute("DELETE FROM idempotency_keys WHERE created_at < $1", &[since.into()])?;
        let sql = "SELECT status, sealed FROM idempotency_keys \
                   WHERE actor_id = $1 AND idempotency_key = $2";
        let row = self.db.first(sql, &[actor.into(), key.into()])?;
        let read =
            |row: Row| Ok(KeptAnswer { status: row.int(0)?, sealed: row.bytes(1)?.to_vec() });
        row.map(read).transpose()
    }

    pub fn keep_answer(
        &mut self,
        (actor, key): (&str, &str),
        answer: &KeptAnswer,
    ) -> Result<(), StoreError> {
        let sql = "INSERT INTO idempotency_keys (actor_id, idempotency_key, fingerprint, status, \
                   sealed, created_at) VALUES ($1, $2, $3, $4, $5, $6)";
        let params = [
            actor.into(),
            key.into(),
            "".into(), // Sealed with the answer.
            answer.status.into(),
            answer.sealed.as_slice().into(),
            self.now.into(),
        ];
        self.db.execute(sql, &params)?;
        Ok(())
    }
}
