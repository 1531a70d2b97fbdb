//! The digests that open a virtual key, and what nodes must forget.

use uuid::Uuid;

use super::Tx;
use super::sql::{Db, Row, StoreError, Value};
use crate::key::KeyDigest;

/// A key with one of its secrets, as the data plane needs it.
#[derive(Debug)]
pub struct KeyRow {
    pub digest: KeyDigest,
    /// Microseconds since 1970 UTC: the end of a secret that was rotated out.
    pub not_after: Option<i64>,
    pub id: Uuid,
    pub workspace: Uuid,
    pub environment: Uuid,
    pub name: String,
    /// As JSON.
    pub spec: String,
}

/// What may be shown of a secret.
#[derive(Debug, Clone)]
pub struct SecretRow {
    pub hint: String,
    pub not_after: Option<i64>,
    pub created_at: i64,
}

/// What changed among the keys since a revision.
#[derive(Debug, Default)]
pub struct KeyChanges {
    pub changed: Vec<KeyRow>,
    pub removed: Vec<KeyDigest>,
}

fn digest(row: &Row, at: usize) -> Result<KeyDigest, StoreError> {
    let bytes = row.bytes(at)?.try_into();
    bytes.map(KeyDigest).map_err(|_| StoreError::Corrupt("a digest of a wrong length".to_owned()))
}

macro_rules! keys {
    ($rest:literal) => {
        concat!(
            "SELECT s.digest, s.not_after, r.id, r.workspace_id, r.parent_id, r.name, r.spec \
             FROM key_secrets s JOIN resources r ON r.id = s.key_id ",
            $rest
        )
    };
}

pub(super) fn key_row(row: &Row) -> Result<KeyRow, StoreError> {
    Ok(KeyRow {
        digest: digest(row, 0)?,
        not_after: row.opt_int(1)?,
        id: row.id(2)?,
        workspace: row.id(3)?,
        environment: row.id(4)?,
        name: row.text(5)?.to_owned(),
        spec: row.text(6)?.to_owned(),
    })
}

/// Every key with each of its secrets, one at a time: there may be a million.
pub fn each_key(
    db: &mut Db,
    mut take: impl FnMut(KeyRow) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    db.each(keys!(""), &[], |row| take(key_row(&row)?))
}

/// As [`each_key`], as they are stored.
pub(super) fn each_key_row(
    db: &mut Db,
    take: impl FnMut(Row) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    db.each(keys!(""), &[], take)
}

/// The keys that changed after `revision`, and the digests that went.
pub fn changes_after(db: &mut Db, revision: i64) -> Result<KeyChanges, StoreError> {
    let mut changes = KeyChanges::default();
    let sql = "SELECT digest FROM removals WHERE revision > $1 AND kind = 'secret'";
    db.each(sql, &[revision.into()], |row| {
        changes.removed.push(digest(&row, 0)?);
        Ok(())
    })?;
    db.each(keys!("WHERE r.revision > $1"), &[revision.into()], |row| {
        changes.changed.push(key_row(&row)?);
        Ok(())
    })?;
    Ok(changes)
}

/// The secrets of a key, the newest first.
pub fn of_key(db: &mut Db, key: Uuid) -> Result<Vec<SecretRow>, StoreError> {
    let sql = "SELECT hint, not_after, created_at FROM key_secrets WHERE key_id = $1 \
               ORDER BY not_after IS NOT NULL, created_at DESC";
    let rows = db.query(sql, &[key.into()])?;
    let read = |row: &Row| {
        Ok(SecretRow {
            hint: row.text(0)?.to_owned(),
            not_after: row.opt_int(1)?,
            created_at: row.int(2)?,
        })
    };
    rows.iter().map(read).collect()
}

/// The key that a secret opens.
pub fn owner(db: &mut Db, digest: &KeyDigest) -> Result<Option<Uuid>, StoreError> {
    let sql = "SELECT key_id FROM key_secrets WHERE digest = $1";
    let row = db.first(sql, &[digest.0.as_slice().into()])?;
    row.map(|row| row.id(0)).transpose()
}

/// When a key was last used, to the minute.
pub fn last_used(db: &mut Db, key: Uuid) -> Result<Option<i64>, StoreError> {
    let row = db.first("SELECT last_used_at FROM key_uses WHERE key_id = $1", &[key.into()])?;
    row.map(|row| row.int(0)).transpose()
}

impl Tx<'_> {
    pub fn insert_secret(
        &mut self,
        (key, workspace): (Uuid, Uuid),
        digest: &KeyDigest,
        hint: &str,
    ) -> Result<(), StoreError> {
        let sql = "INSERT INTO key_secrets (digest, key_id, workspace_id, hint, created_at) \
                   VALUES ($1, $2, $3, $4, $5)";
        let digest = digest.0.as_slice().into();
        let params = [digest, key.into(), workspace.into(), hint.into(), self.now.into()];
        self.db.execute(sql, &params)?;
        self.keep();
        Ok(())
    }

    /// Lets the secrets of a key end at `not_after`, if they do not end before.
    pub fn end_secrets(&mut self, key: Uuid, not_after: i64) -> Result<(), StoreError> {
        let sql = "UPDATE key_secrets SET not_after = $2 \
                   WHERE key_id = $1 AND (not_after IS NULL OR not_after > $2)";
        self.db.execute(sql, &[key.into(), not_after.into()])?;
        self.keep();
        Ok(())
    }

    /// Removes secrets of a key: all, or those that ended before `ended_before`.
    pub fn remove_secrets(
        &mut self,
        key: Uuid,
        ended_before: Option<i64>,
    ) -> Result<(), StoreError> {
        // Without an end, a secret ends after everything.
        let until = ended_before.unwrap_or(i64::MAX);
        let sql = "INSERT INTO removals (revision, kind, digest) \
                   SELECT CAST($1 AS BIGINT), 'secret', digest FROM key_secrets \
                   WHERE key_id = $2 AND COALESCE(not_after, 9223372036854775807) <= $3";
        self.db.execute(sql, &[self.revision.into(), key.into(), until.into()])?;
        let sql = "DELETE FROM key_secrets \
                   WHERE key_id = $1 AND COALESCE(not_after, 9223372036854775807) <= $2";
        self.db.execute(sql, &[key.into(), until.into()])?;
        self.keep();
        Ok(())
    }

    /// Removes everything of a workspace, or of one environment in it.
    pub fn remove_all(
        &mut self,
        workspace: Uuid,
        environment: Option<Uuid>,
    ) -> Result<(), StoreError> {
        let one = environment.map(|id| id.to_string()).unwrap_or_default();
        let below: [Value; 2] = [workspace.into(), one.into()];
        let forget = "INSERT INTO removals (revision, kind, digest) \
                      SELECT CAST($3 AS BIGINT), 'secret', s.digest FROM key_secrets s \
                      JOIN resources r ON r.id = s.key_id \
                      WHERE s.workspace_id = $1 AND ($2 = '' OR r.parent_id = $2)";
        let [in_workspace, in_environment] = below.clone();
        self.db.execute(forget, &[in_workspace, in_environment, self.revision.into()])?;
        for sql in [
            "DELETE FROM key_secrets WHERE workspace_id = $1 AND ($2 = '' OR key_id IN \
             (SELECT id FROM resources WHERE workspace_id = $1 AND parent_id = $2))",
            "DELETE FROM key_uses WHERE workspace_id = $1 AND ($2 = '' OR key_id IN \
             (SELECT id FROM resources WHERE workspace_id = $1 AND parent_id = $2))",
            "DELETE FROM resource_references WHERE workspace_id = $1 AND ($2 = '' OR from_id IN \
             (SELECT id FROM resources WHERE workspace_id = $1 AND parent_id = $2))",
            "DELETE FROM resources WHERE workspace_id = $1 AND kind <> 'workspace' AND ($2 = '' \
             OR parent_id = $2)",
        ] {
            self.db.execute(sql, &below)?;
        }
        self.db.execute(
            "INSERT INTO removals (revision, kind, digest) VALUES ($1, 'snapshot', NULL)",
            &[self.revision.into()],
        )?;
        self.keep();
        Ok(())
    }

    /// Keeps when a key was last used.
    pub fn set_last_used(
        &mut self,
        (key, workspace): (Uuid, Uuid),
        at: i64,
    ) -> Result<(), StoreError> {
        let sql = "INSERT INTO key_uses (key_id, workspace_id, last_used_at) VALUES ($1, $2, $3) \
                   ON CONFLICT (key_id) DO UPDATE SET last_used_at = excluded.last_used_at \
                   WHERE key_uses.last_used_at < excluded.last_used_at";
        self.db.execute(sql, &[key.into(), workspace.into(), at.into()])?;
        Ok(())
    }
}
