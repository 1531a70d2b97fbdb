//! What many rows share, kept once in the store and named by number.

use std::collections::HashMap;

use rusqlite::{Transaction, params};
use uuid::Uuid;

use crate::usage::row::{AttemptView, RowView};

/// Numbers that are remembered; after a great many the memory begins anew.
const REMEMBERED_MAX: usize = 20_000;

const CALLER: &str = "INSERT INTO callers
    (identity, workspace_id, workspace, environment_id, environment, key_id, key)
    VALUES (?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (identity) DO UPDATE SET identity = identity RETURNING id";

const DEPLOYMENT: &str = "INSERT INTO deployments (identity, deployment_id, deployment)
    VALUES (?, ?, ?)
    ON CONFLICT (identity) DO UPDATE SET identity = identity RETURNING id";

const TARGET: &str = "INSERT INTO targets
    (identity, target_id, model_id, model, upstream_model, provider, connection_id, connection)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (identity) DO UPDATE SET identity = identity RETURNING id";

/// The numbers of one row.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    pub(super) caller: i64,
    pub(super) deployment: Option<i64>,
    pub(super) target: Option<i64>,
    /// Of the target of each attempt.
    pub(super) attempts: Vec<i64>,
}

/// Numbers that have been looked up, by the bytes that are the same for the same thing.
#[derive(Debug, Default)]
pub(super) struct Shared {
    callers: HashMap<Box<[u8]>, i64>,
    deployments: HashMap<Box<[u8]>, i64>,
    targets: HashMap<Box<[u8]>, i64>,
    scratch: Vec<u8>,
}

/// What the table `targets` holds. Of an attempt before the last, its model's id and its provider's
/// name for it are not in the row; both are empty then.
#[derive(Debug, Clone, Copy, Default)]
struct Target<'a> {
    id: Uuid,
    model_id: Option<Uuid>,
    model: &'a str,
    upstream_model: &'a str,
    provider: &'a str,
    connection_id: Uuid,
    connection: &'a str,
}

impl Shared {
    /// What is not committed is not there: after a transaction that failed nothing is remembered.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }

    /// The numbers of `row`, made where they are not there yet.
    pub(super) fn numbers(
        &mut self,
        transaction: &Transaction<'_>,
        row: &RowView<'_>,
        numbers: &mut Numbers,
    ) -> rusqlite::Result<()> {
        if REMEMBERED_MAX < self.callers.len() + self.targets.len() + self.deployments.len() {
            self.forget();
        }
        numbers.caller = self.caller(transaction, row)?;
        numbers.deployment = match row.deployment_id {
            Some(id) => Some(self.deployment(transaction, id, row.deployment)?),
            None => None,
        };
        let last = Target::of(row);
        numbers.target = match &last {
            Some(target) => Some(self.target(transaction, target)?),
            None => None,
        };
        numbers.attempts.clear();
        for attempt in &row.attempts {
            let target = match (&last, numbers.target) {
                (Some(last), Some(number)) if last.id == attempt.target_id => number,
                _ => self.target(transaction, &Target::of_attempt(attempt))?,
            };
            numbers.attempts.push(target);
        }
        Ok(())
    }

    fn caller(&mut self, to: &Transaction<'_>, row: &RowView<'_>) -> rusqlite::Result<i64> {
        if let Some(number) = self.callers.get(row.caller_bytes) {
            return Ok(*number);
        }
        let workspace_id = row.workspace_id.to_string();
        let environment_id = row.environment_id.to_string();
        let key_id = row.key_id.map(|key| key.to_string());
        let key = row.key_id.map(|_| row.key);
        let identity = serde_json::json!([
            workspace_id,
            row.workspace,
            environment_id,
            row.environment,
            key_id,
            key,
        ]);
        let columns = params![
            identity.to_string(),
            workspace_id,
            row.workspace,
            environment_id,
            row.environment,
            key_id,
            key,
        ];
        let number = to.prepare_cached(CALLER)?.query_row(columns, |row| row.get(0))?;
        self.callers.insert(row.caller_bytes.into(), number);
        Ok(number)
    }

    fn deployment(&mut self, to: &Transaction<'_>, id: Uuid, name: &str) -> rusqlite::Result<i64> {
        self.scratch.clear();
        self.scratch.extend_from_slice(id.as_bytes());
        self.scratch.extend_from_slice(name.as_bytes());
        if let Some(number) = self.deployments.get(&*self.scratch) {
            return Ok(*number);
        }
        let identity = serde_json::json!([id.to_string(), name]).to_string();
        let columns = params![identity, id.to_string(), name];
        let number = to.prepare_cached(DEPLOYMENT)?.query_row(columns, |row| row.get(0))?;
        self.deployments.insert(self.scratch.as_slice().into(), number);
        Ok(number)
    }

    fn target(&mut self, to: &Transaction<'_>, target: &Target<'_>) -> rusqlite::Result<i64> {
        target.write_key(&mut self.scratch);
        if let Some(number) = self.targets.get(&*self.scratch) {
            return Ok(*number);
        }
        let target_id = target.id.to_string();
        let model_id = target.model_id.map(|id| id.to_string()).unwrap_or_default();
        let connection_id = target.connection_id.to_string();
        let identity = serde_json::json!([
            target_id,
            model_id,
            target.model,
            target.upstream_model,
            target.provider,
            connection_id,
            target.connection,
        ]);
        let columns = params![
            identity.to_string(),
            target_id,
            model_id,
            target.model,
            target.upstream_model,
            target.provider,
            connection_id,
            target.connection,
        ];
        let number = to.prepare_cached(TARGET)?.query_row(columns, |row| row.get(0))?;
        self.targets.insert(self.scratch.as_slice().into(), number);
        Ok(number)
    }
}

impl<'a> Target<'a> {
    fn of(row: &RowView<'a>) -> Option<Self> {
        Some(Self {
            id: row.target_id?,
            model_id: row.model_id,
            model: row.model,
            upstream_model: row.upstream_model,
            provider: row.provider,
            connection_id: row.connection_id.unwrap_or_default(),
            connection: row.connection,
        })
    }

    fn of_attempt(attempt: &AttemptView<'a>) -> Self {
        Self {
            id: attempt.target_id,
            model: attempt.model,
            provider: attempt.provider,
            connection_id: attempt.connection_id,
            connection: attempt.connection,
            ..Self::default()
        }
    }

    fn write_key(&self, to: &mut Vec<u8>) {
        to.clear();
        to.extend_from_slice(self.id.as_bytes());
        to.extend_from_slice(self.connection_id.as_bytes());
        to.extend_from_slice(self.model_id.unwrap_or_default().as_bytes());
        for text in [self.model, self.upstream_model, self.provider, self.connection] {
            to.extend_from_slice(text.as_bytes());
            to.push(0xff); // No text holds it, so no two keys run together.
        }
    }
}
