//! What many rows share, kept once in the store and named by number.
//!
//! A row points to its caller and its targets with `Arc`s that come from one snapshot, so that the
//! number is mostly found by the pointer alone.

use std::collections::HashMap;
use std::sync::Arc;

use rusqlite::{Transaction, params};

use crate::id::DeploymentId;
use crate::usage::record::{RowCaller, RowTarget, UsageRow};

/// Pointers that are remembered; after a great many the memory begins anew.
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

/// Numbers that have been looked up. What is remembered is held, so that no pointer comes to mean
/// something else.
#[derive(Debug, Default)]
pub(super) struct Shared {
    callers: HashMap<usize, (Arc<RowCaller>, i64)>,
    deployments: HashMap<DeploymentId, (Arc<str>, i64)>,
    targets: HashMap<usize, (Arc<RowTarget>, i64)>,
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
        row: &UsageRow,
        numbers: &mut Numbers,
    ) -> rusqlite::Result<()> {
        if REMEMBERED_MAX < self.callers.len() + self.targets.len() + self.deployments.len() {
            self.forget();
        }
        numbers.caller = self.caller(transaction, &row.caller)?;
        numbers.deployment = match &row.deployment {
            Some((id, name)) => Some(self.deployment(transaction, *id, name)?),
            None => None,
        };
        numbers.target = match &row.target {
            Some(target) => Some(self.target(transaction, target)?),
            None => None,
        };
        numbers.attempts.clear();
        for attempt in &row.attempts {
            numbers.attempts.push(self.target(transaction, &attempt.target)?);
        }
        Ok(())
    }

    fn caller(&mut self, to: &Transaction<'_>, caller: &Arc<RowCaller>) -> rusqlite::Result<i64> {
        let address = Arc::as_ptr(caller).addr();
        if let Some((_, number)) = self.callers.get(&address) {
            return Ok(*number);
        }
        let workspace_id = caller.workspace.to_string();
        let environment_id = caller.environment.to_string();
        let key_id = caller.key.map(|key| key.to_string());
        let key = caller.key_name.as_deref();
        let identity = serde_json::json!([
            workspace_id,
            &*caller.workspace_slug,
            environment_id,
            &*caller.environment_slug,
            key_id,
            key,
        ]);
        let columns = params![
            identity.to_string(),
            workspace_id,
            &*caller.workspace_slug,
            environment_id,
            &*caller.environment_slug,
            key_id,
            key,
        ];
        let number = to.prepare_cached(CALLER)?.query_row(columns, |row| row.get(0))?;
        self.callers.insert(address, (Arc::clone(caller), number));
        Ok(number)
    }

    fn deployment(
        &mut self,
        to: &Transaction<'_>,
        id: DeploymentId,
        name: &Arc<str>,
    ) -> rusqlite::Result<i64> {
        if let Some((known, number)) = self.deployments.get(&id)
            && **known == **name
        {
            return Ok(*number);
        }
        let identity = serde_json::json!([id.to_string(), &**name]).to_string();
        let columns = params![identity, id.to_string(), &**name];
        let number = to.prepare_cached(DEPLOYMENT)?.query_row(columns, |row| row.get(0))?;
        self.deployments.insert(id, (Arc::clone(name), number));
        Ok(number)
    }

    fn target(&mut self, to: &Transaction<'_>, target: &Arc<RowTarget>) -> rusqlite::Result<i64> {
        let address = Arc::as_ptr(target).addr();
        if let Some((_, number)) = self.targets.get(&address) {
            return Ok(*number);
        }
        let target_id = target.target.to_string();
        let model_id = target.model.to_string();
        let connection_id = target.connection.to_string();
        let identity = serde_json::json!([
            target_id,
            model_id,
            &*target.model_alias,
            &*target.upstream_model,
            target.provider,
            connection_id,
            &*target.connection_name,
        ]);
        let columns = params![
            identity.to_string(),
            target_id,
            model_id,
            &*target.model_alias,
            &*target.upstream_model,
            target.provider,
            connection_id,
            &*target.connection_name,
        ];
        let number = to.prepare_cached(TARGET)?.query_row(columns, |row| row.get(0))?;
        self.targets.insert(address, (Arc::clone(target), number));
        Ok(number)
    }
}
