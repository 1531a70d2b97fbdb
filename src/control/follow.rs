//! Keeps what requests read equal to the store: after each change made here, and when another node
//! made one.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use crate::config::document::{Node, Table, Value};
use crate::config::resources::{Kind, Known, One, Scopes, VirtualKey, read_one};
use crate::control::State;
use crate::control::build::{self, Around};
use crate::control::limits::Registry;
use crate::control::live::{Live, lock};
use crate::control::load::{self, LoadError};
use crate::control::seal::Vault;
use crate::control::snapshot::{KeyRecord, Snapshot};
use crate::control::store::copy::LastKnown;
use crate::control::store::secrets::{self, KeyChanges, KeyRow};
use crate::control::store::{self, Store, StoreError};
use crate::id::{EnvironmentId, VirtualKeyId};

/// The store, and the state that follows it.
#[derive(Debug)]
pub struct Follower {
    pub store: Store,
    pub vault: Vault,
    pub state: Arc<State>,
    /// One follows at a time, so that no older state can overtake a newer one.
    followed: Mutex<Followed>,
}

#[derive(Debug)]
struct Followed {
    live: Live,
    /// Of the state in force; none before the first.
    revision: Option<i64>,
}

/// What one look at the store found.
struct Found {
    revision: i64,
    loaded: Option<load::Loaded>,
    keys: KeyChanges,
}

impl Follower {
    pub fn new((store, vault): (Store, Vault), state: Arc<State>, counters: Arc<Registry>) -> Self {
        let followed = Followed { live: Live::new(counters), revision: None };
        Self { store, vault, state, followed: Mutex::new(followed) }
    }

    /// The revision in force.
    pub fn revision(&self) -> Option<i64> {
        lock(&self.followed).revision
    }

    /// Writes down when keys were last used. What cannot be written now is written the next time.
    pub fn keep_uses(&self) -> Result<(), StoreError> {
        const AT_ONCE: usize = 1_000;
        let used = self.state.keys.take_used();
        for (n, part) in used.chunks(AT_ONCE).enumerate() {
            let kept = self.store.write(|tx| {
                for (key, minute) in part {
                    let at = i64::from(*minute) * 60_000_000;
                    tx.set_last_used((key.id.0, key.caller.workspace.0), at)?;
                }
                tx.keep();
                Ok::<_, StoreError>(())
            });
            if let Err(error) = kept {
                for (key, minute) in used.iter().skip(n * AT_ONCE) {
                    key.used_min.fetch_max(*minute, Ordering::Relaxed);
                }
                return Err(error);
            }
        }
        Ok(())
    }

    /// Whether a limit is to be counted over all nodes.
    pub fn has_shared_limits(&self) -> bool {
        lock(&self.followed).live.limits.has_shared()
    }

    /// Puts in force what the store holds. Whether anything was new.
    pub fn follow(&self, around: &dyn Around) -> Result<bool, LoadError> {
        let mut followed = lock(&self.followed);
        let Some(since) = followed.revision else {
            self.begin(&mut followed, around)?;
            return Ok(true);
        };
        let Some(found) = self.look(since)? else { return Ok(false) };
        if let Some(loaded) = &found.loaded {
            self.put_snapshot(&mut followed, loaded, around);
        }
        self.put_keys(found.keys, &followed.live.limits);
        followed.revision = Some(found.revision);
        Ok(true)
    }

    /// Reads everything. The keys go into the map as they come.
    fn begin(&self, followed: &mut Followed, around: &dyn Around) -> Result<(), LoadError> {
        self.store.read(|db| {
            let revision = store::revision(db)?;
            let loaded = load::load(db, &self.vault)?;
            self.put_snapshot(followed, &loaded, around);
            let snapshot = self.state.snapshot.load();
            let mut templates = Templates::new(&followed.live.limits);
            secrets::each_key(db, |row| {
                self.put_key(row, &mut templates, &snapshot);
                Ok(())
            })?;
            followed.revision = Some(revision);
            Ok(())
        })
    }

    /// Puts in force what a copy holds. The store is followed from there once it answers.
    pub fn begin_with(&self, copy: LastKnown, around: &dyn Around) -> Result<(), LoadError> {
        let mut followed = lock(&self.followed);
        let loaded = load::of_rows(&copy.resources, &self.vault)?;
        self.put_snapshot(&mut followed, &loaded, around);
        let changes = KeyChanges { changed: copy.keys, removed: Vec::new() };
        self.put_keys(changes, &followed.live.limits);
        followed.revision = Some(copy.revision);
        Ok(())
    }

    fn put_snapshot(&self, followed: &mut Followed, loaded: &load::Loaded, around: &dyn Around) {
        let built = build::build(&loaded.resources, &loaded.ids, &followed.live, around);
        self.state.snapshot.store(Arc::new(built.snapshot));
        followed.live = built.live;
    }

    fn look(&self, since: i64) -> Result<Option<Found>, LoadError> {
        self.store.read(|db| {
            let revision = store::revision(db)?;
            if revision == since {
                return Ok(None);
            }
            let is_changed = store::resources::is_changed_after(db, since)?;
            let loaded = is_changed.then(|| load::load(db, &self.vault)).transpose()?;
            let changes = secrets::changes_after(db, since)?;
            Ok(Some(Found { revision, loaded, keys: changes }))
        })
    }

    fn put_keys(&self, changes: KeyChanges, counters: &Registry) {
        let snapshot = self.state.snapshot.load();
        let mut templates = Templates::new(counters);
        for digest in &changes.removed {
            self.state.keys.remove(digest);
        }
        for row in changes.changed {
            self.put_key(row, &mut templates, &snapshot);
        }
    }

    fn put_key(&self, row: KeyRow, templates: &mut Templates<'_>, snapshot: &Snapshot) {
        let digest = row.digest;
        match templates.record(row, snapshot) {
            Some(record) => self.state.keys.insert(digest, Arc::new(record)),
            None => self.state.keys.remove(&digest),
        }
    }
}

/// What a key may do.
struct Template {
    key: VirtualKey,
    scopes: Arc<Scopes>,
}

/// Keys that differ in their names alone share what they may do.
struct Templates<'a> {
    by_spec: HashMap<String, Option<Template>>,
    counters: &'a Registry,
}

impl<'a> Templates<'a> {
    fn new(counters: &'a Registry) -> Self {
        Self { by_spec: HashMap::new(), counters }
    }

    /// The record of a key; none if it cannot be read or its environment is gone.
    fn record(&mut self, row: KeyRow, snapshot: &Snapshot) -> Option<KeyRecord> {
        let environment = snapshot.environments.get(&EnvironmentId(row.environment))?;
        let template = self.by_spec.entry(row.spec).or_insert_with_key(|spec| {
            let key = read(spec);
            if key.is_none() {
                tracing::error!(key = %row.id, "a stored key cannot be read, and is not let in");
            }
            key.map(|key| {
                let scopes = Arc::new(key.scopes.clone());
                Template { key, scopes }
            })
        });
        let Template { key, scopes } = template.as_ref()?;
        let named = build::NamedKey {
            id: VirtualKeyId(row.id),
            name: &row.name,
            scopes: Arc::clone(scopes),
            not_after: row.not_after,
        };
        Some(build::key_record(key, named, &environment.caller, self.counters))
    }
}

fn read(spec: &str) -> Option<VirtualKey> {
    let fields = serde_json::from_str(spec).ok()?;
    let mut table = Table::from_json(&fields);
    table.set_text(Kind::Key.name_field(), "key");
    let node = Node { line: 1, value: Value::Table(table) };
    match read_one("state store", Kind::Key, &node, &Known::any()) {
        Ok((One::Key(key), _)) => Some(key),
        _ => None,
    }
}
