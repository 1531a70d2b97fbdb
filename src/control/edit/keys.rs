//! The secrets of virtual keys: made, rotated, revoked.

use serde_json::{Value as Json, json};

use super::{EditError, Editor, view};
use crate::config::resources::Kind;
use crate::control::store::resources::{ResourceRow, Status};
use crate::control::store::secrets;
use crate::key;
use crate::secret::Secret;

const MICROS: i64 = 1_000_000;

/// What a rotation is to do.
#[derive(Debug, Default)]
pub struct Rotation {
    /// Seconds for which the old secret goes on.
    pub grace_s: i64,
    /// A secret made elsewhere; without it one is made.
    pub secret: Option<Secret>,
}

impl Editor<'_, '_> {
    /// The secret that a new key is to have: the one given, if no other key has it.
    pub(super) fn secret_of_key(&mut self, given: Option<&Secret>) -> Result<Secret, EditError> {
        let Some(secret) = given else { return Ok(key::generate()) };
        let digest = key::digest(secret.expose().as_bytes());
        match secrets::owner(self.tx.db, &digest)? {
            None => Ok(secret.clone()),
            Some(_) => Err(EditError::Conflict {
                code: "secret_taken",
                detail: "this secret cannot be used; let one be made",
            }),
        }
    }

    pub(super) fn add_secret(
        &mut self,
        row: &ResourceRow,
        secret: &Secret,
    ) -> Result<(), EditError> {
        let workspace = row.workspace.ok_or(EditError::NotFound)?;
        let digest = key::digest(secret.expose().as_bytes());
        let hint = key::hint(secret.expose());
        Ok(self.tx.insert_secret((row.id, workspace), &digest, &hint)?)
    }

    /// Gives a key a new secret. The old one ends, at once or after the grace.
    pub fn rotate(
        &mut self,
        row: &mut ResourceRow,
        rotation: &Rotation,
    ) -> Result<Secret, EditError> {
        if row.kind != Kind::Key {
            return Err(EditError::NotFound);
        }
        if row.status == Status::Revoked {
            return Err(REVOKED);
        }
        let secret = self.secret_of_key(rotation.secret.as_ref())?;
        // Two secrets at most: what an earlier rotation left ends now.
        self.tx.remove_secrets(row.id, Some(i64::MAX - 1))?;
        if rotation.grace_s == 0 {
            self.tx.remove_secrets(row.id, None)?;
        } else {
            let not_after = self.tx.now.saturating_add(rotation.grace_s.saturating_mul(MICROS));
            self.tx.end_secrets(row.id, not_after)?;
        }
        self.add_secret(row, &secret)?;
        self.tx.update_resource(row, &self.actor.name)?;
        self.record("rotate", row, None, Some(json!({ "grace_s": rotation.grace_s })))?;
        Ok(secret)
    }

    /// Ends a key for ever.
    pub fn revoke(&mut self, row: &mut ResourceRow) -> Result<(), EditError> {
        if row.status == Status::Revoked {
            return Err(REVOKED);
        }
        let before = view(row);
        row.status = Status::Revoked;
        row.spec.insert("enabled".to_owned(), Json::Bool(false));
        self.tx.remove_secrets(row.id, None)?;
        self.tx.update_resource(row, &self.actor.name)?;
        self.record("revoke", row, Some(before), Some(view(row)))
    }
}

const REVOKED: EditError = EditError::Conflict {
    code: "key_revoked",
    detail: "the key is revoked for ever; make another",
};
