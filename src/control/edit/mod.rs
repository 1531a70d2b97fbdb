//! Changes of resources: checked by the readers of documents, sealed, audited, all in one
//! transaction. The admin API and the declarative document both come through here.
//!
//! ```text
//! draft      a body taken apart: name, secret, the rest; defaults; how a resource is shown
//! index      the names at a place, for references
//! keys       secrets of virtual keys: made, rotated, revoked
//! lifecycle  workspaces: made, archived, recovered, deleted
//! ```

mod draft;
mod index;
mod keys;
mod lifecycle;

use std::collections::HashMap;

use serde_json::{Map, Value as Json};
use uuid::Uuid;

use crate::config::problem::Problem;
use crate::config::resources::{Kind, One};
use crate::control::edit::index::Index;
use crate::control::seal::{Binding, Vault};
use crate::control::store::audit::{Actor, Event};
use crate::control::store::resources::{self, Origin, Place, ResourceRow, Status, id_or_empty};
use crate::control::store::{StoreError, Tx};
use crate::id::ResourceId;
use crate::secret::Secret;

pub(in crate::control) use draft::draft;
pub use draft::{Draft, credential_hint, view};
pub use keys::Rotation;
pub use lifecycle::{BUILT_IN, active, ensure_default};

/// Why a change is not made. `Display` is what the caller reads.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("there is no such resource")]
    NotFound,
    #[error("{}", first(.0))]
    Invalid(Vec<Problem>),
    #[error("there is a {kind} with this name already")]
    NameTaken { kind: &'static str },
    #[error("{by} refers to it")]
    InUse { by: String },
    #[error("the resource has changed since it was read; read it again")]
    Stale,
    /// With a code of its own.
    #[error("{detail}")]
    Conflict { code: &'static str, detail: &'static str },
}

fn first(problems: &[Problem]) -> String {
    match problems {
        [] => "the body has a problem".to_owned(),
        [one] => format!("{}: {}", one.field, one.text),
        [one, rest @ ..] => format!("{}: {} (and {} more)", one.field, one.text, rest.len()),
    }
}

/// What the problems of a body are said to stand in.
pub const BODY: &str = "body";

impl EditError {
    pub fn invalid(field: &str, text: impl Into<String>) -> Self {
        let (file, field) = (BODY.to_owned(), field.to_owned());
        Self::Invalid(vec![Problem { file, line: 0, field, text: text.into() }])
    }
}

/// One change, and who makes it.
pub struct Editor<'a, 'b> {
    pub tx: &'a mut Tx<'b>,
    pub vault: &'a Vault,
    pub actor: &'a Actor,
    pub origin: Origin,
    indexes: HashMap<Option<Uuid>, Index>,
}

impl<'a, 'b> Editor<'a, 'b> {
    pub fn new(tx: &'a mut Tx<'b>, vault: &'a Vault, actor: &'a Actor) -> Self {
        Self { tx, vault, actor, origin: Origin::Api, indexes: HashMap::new() }
    }

    /// For what the document of `resources = …` holds.
    #[must_use]
    pub fn of_document(mut self) -> Self {
        self.origin = Origin::Document;
        self
    }

    pub fn find(
        &mut self,
        kind: Kind,
        place: Place,
        id_or_name: &str,
    ) -> Result<ResourceRow, EditError> {
        resources::find(self.tx.db, kind, place, id_or_name)?.ok_or(EditError::NotFound)
    }

    /// Makes a resource of what a caller sent. A key without a secret gets one.
    pub fn create(
        &mut self,
        kind: Kind,
        place: Place,
        body: &Map<String, Json>,
    ) -> Result<(ResourceRow, Option<Secret>), EditError> {
        let draft = self.check(kind, place, body, None)?;
        self.insert(kind, place, &draft)
    }

    /// Writes a checked draft as a new resource.
    pub fn insert(
        &mut self,
        kind: Kind,
        place: Place,
        draft: &Draft,
    ) -> Result<(ResourceRow, Option<Secret>), EditError> {
        if self.index(place.parent)?.id(kind, &draft.name).is_some()
            || resources::find(self.tx.db, kind, place, &draft.name)?.is_some()
        {
            return Err(EditError::NameTaken { kind: kind.name() });
        }
        let id = self.id_for(kind, place, &draft.name)?;
        let is_workspace = kind == Kind::Workspace;
        let mut row = ResourceRow {
            id,
            kind,
            workspace: if is_workspace { Some(id) } else { place.workspace },
            parent: place.parent,
            name: draft.name.clone(),
            status: draft.status.unwrap_or(Status::Active),
            spec: draft.spec.clone(),
            sealed: None,
            hint: String::new(),
            origin: self.origin,
            version: 1,
            created_at: self.tx.now,
            created_by: self.actor.name.clone(),
            updated_at: self.tx.now,
            updated_by: self.actor.name.clone(),
        };
        let secret = self.keep_secret(&mut row, draft.secret.as_ref())?;
        self.tx.insert_resource(&row)?;
        self.refer(&row, &draft.one)?;
        if let (Kind::Key, Some(secret)) = (kind, &secret) {
            self.add_secret(&row, secret)?;
        }
        self.index(place.parent)?.insert(kind, &row.name, id);
        self.record("create", &row, None, Some(view(&row)))?;
        Ok((row, secret))
    }

    /// A new id. What a document makes has the same one on every node that reads it, so that nodes
    /// with stores of their own count and report it as one.
    fn id_for(&mut self, kind: Kind, place: Place, name: &str) -> Result<Uuid, EditError> {
        let built_in = ResourceId::of_path(&[Kind::Workspace.name(), "", BUILT_IN]).0;
        let is_built_in = match kind {
            Kind::Workspace => name == BUILT_IN,
            Kind::Environment => place.parent == Some(built_in),
            _ => false,
        };
        if !is_built_in && self.origin == Origin::Api {
            return Ok(Uuid::now_v7());
        }
        let id = ResourceId::of_path(&[kind.name(), &id_or_empty(place.parent), name]).0;
        let is_taken = resources::by_id(self.tx.db, id)?.is_some();
        Ok(if is_taken { Uuid::now_v7() } else { id })
    }

    /// Changes a resource to `body`, which is whole but for a secret that stays as it is.
    pub fn replace(
        &mut self,
        row: &mut ResourceRow,
        body: &Map<String, Json>,
    ) -> Result<(), EditError> {
        let place = Place { workspace: row.workspace, parent: row.parent };
        let draft = self.check(row.kind, place, body, Some(row))?;
        self.update(row, &draft)
    }

    /// Writes a checked draft over an existing resource. Whether anything changed.
    pub fn update(&mut self, row: &mut ResourceRow, draft: &Draft) -> Result<(), EditError> {
        let before = view(row);
        if draft.name != row.name {
            self.rename(row, &draft.name)?;
        }
        row.spec.clone_from(&draft.spec);
        row.status = draft.status.unwrap_or(row.status);
        row.origin = self.origin;
        if row.kind == Kind::Connection {
            self.keep_secret(row, draft.secret.as_ref())?;
        }
        self.tx.update_resource(row, &self.actor.name)?;
        self.refer(row, &draft.one)?;
        let (after, action) = (view(row), "update");
        self.record(action, row, Some(before), Some(after))
    }

    fn rename(&mut self, row: &mut ResourceRow, name: &str) -> Result<(), EditError> {
        if matches!(row.kind, Kind::Workspace | Kind::Environment | Kind::ModelGrant) {
            return Err(EditError::invalid(row.kind.name_field(), "cannot be changed"));
        }
        self.check_unused(row)?;
        let place = Place { workspace: row.workspace, parent: row.parent };
        if resources::find(self.tx.db, row.kind, place, name)?.is_some() {
            return Err(EditError::NameTaken { kind: row.kind.name() });
        }
        let index = self.index(row.parent)?;
        index.remove(row.kind, &row.name);
        index.insert(row.kind, name, row.id);
        name.clone_into(&mut row.name);
        Ok(())
    }

    /// Removes a resource that nothing refers to. Workspaces have a way of their own.
    pub fn remove(&mut self, row: &ResourceRow) -> Result<(), EditError> {
        match (row.kind, row.workspace) {
            (Kind::Environment, Some(workspace)) => self.remove_environment(row, workspace)?,
            _ => self.check_unused(row)?,
        }
        if row.kind == Kind::Key {
            self.tx.remove_secrets(row.id, None)?;
        }
        self.tx.delete_resource(row)?;
        self.index(row.parent)?.remove(row.kind, &row.name);
        self.record("delete", row, Some(view(row)), None)
    }

    fn check_unused(&mut self, row: &ResourceRow) -> Result<(), EditError> {
        let Some((kind, name, workspace)) = self.tx.referrer(row.id)? else { return Ok(()) };
        // What is global must not show the names of a workspace.
        let is_own = workspace == id_or_empty(row.workspace);
        let by = if is_own { format!("the {kind} `{name}`") } else { format!("a {kind}") };
        Err(EditError::InUse { by })
    }

    /// Seals a credential, or makes the secret of a new key.
    fn keep_secret(
        &mut self,
        row: &mut ResourceRow,
        given: Option<&Secret>,
    ) -> Result<Option<Secret>, EditError> {
        match (row.kind, given) {
            (Kind::Connection, Some(secret)) => {
                row.sealed = Some(self.vault.seal(
                    credential_of(&row.id.to_string(), &id_or_empty(row.workspace)),
                    secret.expose(),
                ));
                row.hint = credential_hint(secret.expose());
                Ok(None)
            }
            // Nobody would see what is made for a document that is read at the start.
            (Kind::Key, None) if self.origin == Origin::Document => Ok(None),
            (Kind::Key, given) => self.secret_of_key(given).map(Some),
            _ => Ok(None),
        }
    }

    /// Notes what a resource refers to.
    fn refer(&mut self, row: &ResourceRow, one: &One) -> Result<(), EditError> {
        let parent = row.parent;
        let mut to = Vec::new();
        self.index(None)?;
        self.index(parent)?;
        let global = self.indexes.get(&None);
        let own = self.indexes.get(&parent);
        if let (Some(own), Some(global)) = (own, global) {
            index::references(one, own, global, &mut to);
        }
        Ok(self.tx.set_references(row, &to)?)
    }

    /// The names at a place; read once.
    fn index(&mut self, parent: Option<Uuid>) -> Result<&mut Index, StoreError> {
        if !self.indexes.contains_key(&parent) {
            let names = resources::names_at(self.tx.db, parent)?;
            self.indexes.insert(parent, Index::new(names));
        }
        Ok(self.indexes.get_mut(&parent).expect("it was put in a moment ago"))
    }

    pub fn record(
        &mut self,
        action: &str,
        row: &ResourceRow,
        before: Option<Json>,
        after: Option<Json>,
    ) -> Result<(), EditError> {
        let event = Event {
            action,
            kind: row.kind.name(),
            id: row.id.to_string(),
            name: &row.name,
            workspace: row.workspace,
            environment: row.environment(),
            before,
            after,
        };
        Ok(self.tx.record(self.actor, event)?)
    }
}

/// What the credential of a connection is bound to.
pub fn credential_of<'a>(row: &'a str, workspace: &'a str) -> Binding<'a> {
    Binding { table: "resources", workspace, row, column: "credential" }
}
