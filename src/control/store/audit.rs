//! The audit log: one event for each change, chained by hashes, so that a row that is changed or
//! taken out later is noticed.

use ring::digest::{Context, SHA256};
use serde_json::{Map, Value as Json, json};
use uuid::Uuid;

use super::Tx;
use super::resources::id_or_empty;
use super::sql::{Db, Row, StoreError};
use crate::control::seal::hex;

/// What stands in place of a secret.
pub const REDACTED: &str = "[REDACTED]";
/// Fields whose text is never written, wherever they stand.
const SECRET_FIELDS: [&str; 8] = [
    "credential",
    "secret",
    "password",
    "password_hash",
    "token",
    "api_key",
    "authorization",
    "private_key",
];

/// Who changes something, and from where.
#[derive(Debug, Clone, Default)]
pub struct Actor {
    /// `user`, `admin_token`, `document`, `system`.
    pub kind: &'static str,
    pub id: String,
    pub name: String,
    pub source_ip: String,
}

/// What a change is about.
#[derive(Debug, Clone, Default)]
pub struct Event<'a> {
    /// As `create`, `update`, `delete`, `rotate`.
    pub action: &'a str,
    pub kind: &'a str,
    pub id: String,
    pub name: &'a str,
    pub workspace: Option<Uuid>,
    pub environment: Option<Uuid>,
    pub before: Option<Json>,
    pub after: Option<Json>,
}

/// What a list of events is narrowed to; empty texts narrow nothing.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    pub workspace: String,
    pub action: String,
    pub resource_kind: String,
    pub resource_id: String,
    pub actor_id: String,
    pub from: i64,
    pub to: i64,
}

/// The first event that does not fit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    #[error("event {seq} ({id}) was changed, or the one before it was changed or removed")]
    Broken { seq: i64, id: String },
    #[error("event {expected} is missing: {found} follows")]
    Gap { expected: i64, found: i64 },
    #[error("the last events are missing: {expected} were written, {found} are there")]
    CutOff { expected: i64, found: i64 },
}

const COLUMNS: usize = 17;

macro_rules! events {
    ($rest:literal) => {
        concat!(
            "SELECT seq, id, revision, at, actor_kind, actor_id, actor_name, source_ip, action, \
             resource_kind, resource_id, resource_name, workspace_id, environment_id, \
             before_json, after_json, hash FROM audit_events ",
            $rest
        )
    };
}

/// Replaces every secret below `value`, in place.
pub fn redact(value: &mut Json) {
    match value {
        Json::Object(fields) => fields.iter_mut().for_each(|(name, value)| {
            if SECRET_FIELDS.contains(&name.as_str()) && !value.is_null() {
                *value = REDACTED.into();
            } else {
                redact(value);
            }
        }),
        Json::Array(items) => items.iter_mut().for_each(redact),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => {}
    }
}

/// The hash of an event: over the one before it, and every column with its length.
fn hash(previous: &str, columns: &[String]) -> String {
    let mut context = Context::new(&SHA256);
    for part in std::iter::once(previous).chain(columns.iter().map(String::as_str)) {
        context.update(&(part.len() as u64).to_le_bytes());
        context.update(part.as_bytes());
    }
    hex(context.finish().as_ref())
}

impl Tx<'_> {
    /// Writes one event about this change.
    pub fn record(&mut self, actor: &Actor, event: Event<'_>) -> Result<(), StoreError> {
        let end = self.db.first("SELECT audit_seq, audit_hash FROM state", &[])?;
        let end =
            end.ok_or_else(|| StoreError::Corrupt("the table `state` is empty".to_owned()))?;
        let (seq, previous) = (end.int(0)? + 1, end.text(1)?.to_owned());
        let text = |value: Option<Json>| {
            value.map_or_else(String::new, |mut value| {
                redact(&mut value);
                value.to_string()
            })
        };
        let texts = [
            Uuid::now_v7().to_string(),
            actor.kind.to_owned(),
            actor.id.clone(),
            actor.name.clone(),
            actor.source_ip.clone(),
            event.action.to_owned(),
            event.kind.to_owned(),
            event.id,
            event.name.to_owned(),
            id_or_empty(event.workspace),
            id_or_empty(event.environment),
            text(event.before),
            text(event.after),
        ];
        let numbers = [seq, self.revision, self.now];
        let mut columns: Vec<String> = numbers.map(|number| number.to_string()).to_vec();
        columns.extend(texts.iter().cloned());
        let hash = hash(&previous, &columns);
        let mut params: Vec<super::Value> = numbers.map(Into::into).to_vec();
        params.extend(texts.map(Into::into));
        params.push(hash.as_str().into());
        let sql = "INSERT INTO audit_events (seq, revision, at, id, actor_kind, actor_id, \
                   actor_name, source_ip, action, resource_kind, resource_id, resource_name, \
                   workspace_id, environment_id, before_json, after_json, hash) VALUES ($1, $2, \
                   $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)";
        self.db.execute(sql, &params)?;
        let sql = "UPDATE state SET audit_seq = $1, audit_hash = $2";
        self.db.execute(sql, &[seq.into(), hash.into()])?;
        self.keep();
        Ok(())
    }
}

/// The events that match, the newest first, before `before` where that is given.
pub fn list(
    db: &mut Db,
    filter: &Filter,
    before: Option<i64>,
    limit: i64,
) -> Result<Vec<Json>, StoreError> {
    let sql = events!(
        "WHERE seq < $1 AND ($2 = '' OR workspace_id = $2) AND ($3 = '' OR action = $3) \
         AND ($4 = '' OR resource_kind = $4) AND ($5 = '' OR resource_id = $5) \
         AND ($6 = '' OR actor_id = $6) AND at >= $7 AND at < $8 ORDER BY seq DESC LIMIT $9"
    );
    let params = [
        before.unwrap_or(i64::MAX).into(),
        filter.workspace.as_str().into(),
        filter.action.as_str().into(),
        filter.resource_kind.as_str().into(),
        filter.resource_id.as_str().into(),
        filter.actor_id.as_str().into(),
        filter.from.into(),
        if filter.to == 0 { i64::MAX } else { filter.to }.into(),
        limit.into(),
    ];
    db.query(sql, &params)?.iter().map(event).collect()
}

/// One event, as the API shows it.
fn event(row: &Row) -> Result<Json, StoreError> {
    let part = |at| -> Result<Json, StoreError> {
        let text = row.text(at)?;
        Ok(if text.is_empty() { Json::Null } else { text.into() })
    };
    let object = |at| -> Result<Json, StoreError> {
        let text = row.text(at)?;
        Ok(serde_json::from_str(text).unwrap_or(Json::Null))
    };
    let event = json!({
        "seq": row.int(0)?,
        "id": part(1)?,
        "revision": row.int(2)?,
        "at": crate::clock::rfc3339(row.int(3)?),
        "actor": { "kind": part(4)?, "id": part(5)?, "name": part(6)? },
        "source_ip": part(7)?,
        "action": part(8)?,
        "resource": { "kind": part(9)?, "id": part(10)?, "name": part(11)? },
        "workspace_id": part(12)?,
        "environment_id": part(13)?,
        "before": object(14)?,
        "after": object(15)?,
        "hash": part(16)?,
    });
    Ok(event)
}

/// Goes along the whole chain: the number of events, or the first that does not fit.
pub fn verify(db: &mut Db) -> Result<Result<i64, ChainError>, StoreError> {
    let end = db.first("SELECT audit_seq FROM state", &[])?;
    let expected = end.map_or(Ok(0), |row| row.int(0))?;
    let mut previous = String::new();
    let mut last = 0;
    let mut wrong = None;
    db.each(events!("ORDER BY seq"), &[], |row| {
        if wrong.is_some() {
            return Ok(());
        }
        let seq = row.int(0)?;
        if seq != last + 1 {
            wrong = Some(ChainError::Gap { expected: last + 1, found: seq });
            return Ok(());
        }
        // As they were hashed: the numbers first.
        let mut columns: Vec<String> = Vec::with_capacity(COLUMNS);
        for at in [0, 2, 3] {
            columns.push(row.int(at)?.to_string());
        }
        columns.push(row.text(1)?.to_owned());
        for at in 4..16 {
            columns.push(row.text(at)?.to_owned());
        }
        let computed = hash(&previous, &columns);
        if computed != row.text(16)? {
            wrong = Some(ChainError::Broken { seq, id: row.text(1)?.to_owned() });
        }
        previous = computed;
        last = seq;
        Ok(())
    })?;
    Ok(match wrong {
        Some(wrong) => Err(wrong),
        None if last != expected => Err(ChainError::CutOff { expected, found: last }),
        None => Ok(last),
    })
}

/// An object without the fields that are null.
pub fn object(fields: &[(&str, Json)]) -> Json {
    let fields = fields.iter().filter(|(_, value)| !value.is_null());
    Json::Object(
        fields.map(|(name, value)| ((*name).to_owned(), value.clone())).collect::<Map<_, _>>(),
    )
}
