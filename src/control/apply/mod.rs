//! A whole document made the state: what it holds is made or changed, what it leaves out is removed,
//! all or nothing.
//!
//! What a document leaves out is removed where it speaks at all: in the workspaces that it names,
//! and among what is global if it has such a list. Workspaces that it does not name stay. The
//! document of `resources = …` removes less: what an earlier one made, and nothing that came by the
//! API; a workspace that it no longer names is archived.

mod export;
mod placeholder;

use std::collections::HashMap;

use serde_json::{Value as Json, json};
use uuid::Uuid;

use crate::config::document::{Node, Table, Value};
use crate::config::problem::Problems;
use crate::config::resources::{Kind, Known, One, Resources, read_one};
use crate::control::edit::{Draft, EditError, Editor, Rotation, credential_of, draft};
use crate::control::load::{self, LoadError};
use crate::control::seal::Vault;
use crate::control::store::audit::Actor;
use crate::control::store::resources::{self, Origin, Place, ResourceRow, Status, id_or_empty};
use crate::control::store::{Store, secrets};
use crate::key;
use crate::secret::Secret;

pub use export::export;

/// Why a document is not applied. Nothing of it is, then.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    #[error(transparent)]
    Problems(#[from] Problems),
    #[error("{path}: {error}")]
    Edit { path: String, error: EditError },
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error(transparent)]
    Store(#[from] crate::control::store::StoreError),
}

impl From<EditError> for ApplyError {
    fn from(error: EditError) -> Self {
        Self::Edit { path: "document".to_owned(), error }
    }
}

/// What is removed of what the document leaves out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prune {
    /// Everything in the workspaces that it names.
    Named,
    /// What an earlier document of `resources = …` made.
    Managed,
    /// Nothing; and every workspace must be new.
    Nothing,
}

/// How a document is applied.
#[derive(Debug, Clone, Copy)]
pub struct Mode {
    pub prune: Prune,
    /// Only say what would be done.
    pub dry_run: bool,
    /// Who owns the workspaces that are made; else the first superadmin does.
    pub owner: Option<Uuid>,
}

/// What was done, or would be.
#[derive(Debug, Default)]
pub struct Plan {
    pub steps: Vec<Step>,
    /// Secrets that were made for keys without one, by path.
    pub secrets: Vec<(String, Secret)>,
}

#[derive(Debug)]
pub struct Step {
    pub action: &'static str,
    pub kind: Kind,
    /// As `acme/production/chat`.
    pub path: String,
    /// The fields that change.
    pub fields: Vec<String>,
}

impl Plan {
    pub fn to_json(&self, is_dry_run: bool) -> Json {
        let step = |step: &Step| {
            json!({
                "action": step.action,
                "kind": step.kind.name(),
                "path": step.path,
                "fields": step.fields,
            })
        };
        let secret =
            |(path, secret): &(String, Secret)| json!({ "key": path, "secret": secret.expose() });
        // What a trial made opens nothing.
        let secrets = if is_dry_run { &[][..] } else { &self.secrets };
        json!({
            "dry_run": is_dry_run,
            "changes": self.steps.iter().map(step).collect::<Vec<_>>(),
            "secrets": secrets.iter().map(secret).collect::<Vec<_>>(),
        })
    }
}

/// Makes the state what the document `tree` says. Env vars are in their places already.
pub fn apply(
    store: &Store,
    vault: &Vault,
    actor: &Actor,
    (file, tree): (&str, &Node),
    mode: Mode,
) -> Result<Plan, ApplyError> {
    store.write(|tx| {
        let known = known(tx.db, tree)?;
        Resources::read(file, tree.clone(), None, &known)?;
        let mut editor = Editor::new(tx, vault, actor);
        if mode.prune == Prune::Managed {
            editor = editor.of_document();
        }
        let mut applying = Applying { editor, mode, plan: Plan::default(), left_out: Vec::new() };
        applying.document(tree)?;
        applying.remove_left_out()?;
        let plan = applying.plan;
        // The parts were checked one by one; this is the whole.
        if !plan.steps.is_empty() {
            load::load(tx.db, vault)?;
        }
        if mode.dry_run {
            tx.only_try();
        }
        Ok(plan)
    })
}

/// The global names that a document may refer to without holding them.
fn known(db: &mut crate::control::store::Db, tree: &Node) -> Result<Known, ApplyError> {
    let mut known = Known::default();
    let has = |name: &str| matches!(&tree.value, Value::Table(table) if table.get(name).is_some());
    for (kind, name, _) in resources::names_at(db, None)? {
        match kind {
            Kind::Connection if !has("connections") => known.global_connections.push(name),
            Kind::Model if !has("models") => known.global_models.push(name),
            _ => {}
        }
    }
    Ok(known)
}

struct Applying<'a, 'b> {
    editor: Editor<'a, 'b>,
    mode: Mode,
    plan: Plan,
    /// What is to be removed once nothing refers to it any more, with its path.
    left_out: Vec<(String, ResourceRow)>,
}

impl Applying<'_, '_> {
    fn document(&mut self, tree: &Node) -> Result<(), ApplyError> {
        let Value::Table(root) = &tree.value else { return Ok(()) };
        for kind in [Kind::Connection, Kind::Model, Kind::Workspace] {
            if let Some(items) = items(root, kind) {
                self.level(kind, Place::default(), items, "")?;
            }
        }
        // A document that is about to be emptied is still a document.
        if self.mode.prune == Prune::Managed && root.get("workspaces").is_none() {
            self.level(Kind::Workspace, Place::default(), &[], "")?;
        }
        Ok(())
    }

    /// One list of the document against what stands at its place.
    fn level(
        &mut self,
        kind: Kind,
        place: Place,
        items: &[Node],
        path: &str,
    ) -> Result<(), ApplyError> {
        let rows = resources::all_at(self.editor.tx.db, kind, place)?;
        let mut existing: HashMap<String, ResourceRow> =
            rows.into_iter().map(|row| (row.name.clone(), row)).collect();
        for node in items {
            let Value::Table(table) = &node.value else { continue };
            let draft = self.draft(kind, table)?;
            let here =
                if path.is_empty() { draft.name.clone() } else { format!("{path}/{}", draft.name) };
            let found = existing.remove(&draft.name);
            let one = self.one(kind, place, (draft, found), &here);
            let row = one.map_err(|error| ApplyError::Edit { path: here.clone(), error })?;
            let below = match kind {
                Kind::Workspace => Place::in_workspace(row.id),
                _ => Place { parent: Some(row.id), ..place },
            };
            for child in kind.children() {
                let items = self::items(table, *child).unwrap_or_default();
                self.level(*child, below, items, &here)?;
            }
        }
        let mut left: Vec<ResourceRow> = existing.into_values().collect();
        left.sort_by(|a, b| a.name.cmp(&b.name));
        for row in left {
            self.leave_out(row, place, path)?;
        }
        Ok(())
    }

    /// Notes what the document does not hold, if it is to go.
    fn leave_out(&mut self, row: ResourceRow, place: Place, path: &str) -> Result<(), ApplyError> {
        let is_out = match self.mode.prune {
            Prune::Nothing => false,
            Prune::Named => row.kind != Kind::Workspace,
            Prune::Managed => row.origin == Origin::Document,
        };
        if !is_out {
            return Ok(());
        }
        let here = if path.is_empty() { row.name.clone() } else { format!("{path}/{}", row.name) };
        // What holds something that came by the API stays for it.
        if self.mode.prune == Prune::Managed && self.holds_others(&row)? {
            let below = match row.kind {
                Kind::Workspace => Place::in_workspace(row.id),
                _ => Place { parent: Some(row.id), ..place },
            };
            for child in row.kind.children() {
                self.level(*child, below, &[], &here)?;
            }
            if row.kind != Kind::Workspace {
                return Ok(());
            }
        }
        self.left_out.push((here, row));
        Ok(())
    }

    fn holds_others(&mut self, row: &ResourceRow) -> Result<bool, ApplyError> {
        let (Some(workspace), false) = (row.workspace, row.kind.children().is_empty()) else {
            return Ok(false);
        };
        let environment = (row.kind == Kind::Environment).then_some(row.id);
        Ok(resources::has_others(self.editor.tx.db, workspace, environment)?)
    }

    fn draft(&self, kind: Kind, table: &Table) -> Result<Draft, ApplyError> {
        let mut table = table.clone();
        let is_child = |key: &str| kind.children().iter().any(|child| child.list_name() == key);
        table.entries.retain(|entry| !is_child(&entry.key));
        let body = table.to_json();
        let node = Node { line: 1, value: Value::Table(table) };
        let (one, _) = read_one("document", kind, &node, &Known::any())?;
        let mut draft = draft(kind, &body, one)?;
        if kind == Kind::Workspace {
            draft.status = draft.status.or(Some(Status::Active));
        }
        if self.mode.prune == Prune::Nothing {
            placeholder::leave_out(&mut draft);
        }
        Ok(draft)
    }

    /// Makes or changes one resource, unless it is as it should be.
    fn one(
        &mut self,
        kind: Kind,
        place: Place,
        (draft, found): (Draft, Option<ResourceRow>),
        path: &str,
    ) -> Result<ResourceRow, EditError> {
        let Some(mut row) = found else {
            self.free_secret(place, &draft)?;
            let is_given = draft.secret.is_some();
            let (row, secret) = self.editor.insert(kind, place, &draft)?;
            if kind == Kind::Workspace {
                self.editor.own(row.id, self.mode.owner)?;
            }
            self.step("create", &row, path, Vec::new());
            if let (Kind::Key, Some(secret), false) = (kind, secret, is_given) {
                self.plan.secrets.push((path.to_owned(), secret));
            }
            return Ok(row);
        };
        if self.mode.prune == Prune::Nothing {
            return Err(EditError::NameTaken { kind: kind.name() });
        }
        let fields = self.changed_fields(&row, &draft)?;
        if fields.is_empty() && row.origin == self.editor.origin {
            return Ok(row);
        }
        if fields.is_empty() && self.mode.prune != Prune::Managed {
            return Ok(row);
        }
        if draft.status == Some(Status::Archived) && row.status == Status::Active {
            self.editor.check_may_end(&row)?;
        }
        let is_new_secret = fields.iter().any(|field| field == "secret");
        self.editor.update(&mut row, &draft)?;
        if is_new_secret && kind == Kind::Key {
            self.free_secret(place, &draft)?;
            let rotation = Rotation { grace_s: 0, secret: draft.secret };
            self.editor.rotate(&mut row, &rotation)?;
        }
        if !fields.is_empty() {
            self.step("update", &row, path, fields);
        }
        Ok(row)
    }

    /// The fields in which a resource differs from what it should be.
    fn changed_fields(
        &mut self,
        row: &ResourceRow,
        draft: &Draft,
    ) -> Result<Vec<String>, EditError> {
        let all = row.spec.keys().chain(draft.spec.keys());
        let mut fields: Vec<String> =
            all.filter(|field| row.spec.get(*field) != draft.spec.get(*field)).cloned().collect();
        if draft.status.is_some_and(|status| status != row.status) {
            fields.push("status".to_owned());
        }
        if let Some(secret) = &draft.secret
            && !self.has_secret(row, secret)?
        {
            fields.extend(row.kind.secret_field().map(str::to_owned));
        }
        fields.sort_unstable();
        fields.dedup();
        Ok(fields)
    }

    /// A secret may go from one key of a workspace to another: the document is the whole of it.
    fn free_secret(&mut self, place: Place, draft: &Draft) -> Result<(), EditError> {
        let (One::Key(_), Some(secret)) = (&draft.one, &draft.secret) else { return Ok(()) };
        let tx = &mut *self.editor.tx;
        let digest = key::digest(secret.expose().as_bytes());
        let Some(owner) = secrets::owner(tx.db, &digest)? else { return Ok(()) };
        let owner = resources::by_id(tx.db, owner)?;
        if self.mode.prune != Prune::Nothing
            && let Some(owner) = owner.filter(|owner| owner.workspace == place.workspace)
        {
            tx.remove_secrets(owner.id, None)?;
        }
        Ok(())
    }

    fn has_secret(&mut self, row: &ResourceRow, secret: &Secret) -> Result<bool, EditError> {
        if row.kind == Kind::Key {
            let digest = key::digest(secret.expose().as_bytes());
            return Ok(secrets::owner(self.editor.tx.db, &digest)? == Some(row.id));
        }
        let (id, workspace): (String, String) = (row.id.to_string(), id_or_empty(row.workspace));
        let opened = row
            .sealed
            .as_ref()
            .and_then(|sealed| self.editor.vault.open(credential_of(&id, &workspace), sealed).ok());
        Ok(opened.is_some_and(|opened| opened == *secret))
    }

    /// Removes what is left out, users before what they use.
    fn remove_left_out(&mut self) -> Result<(), ApplyError> {
        let mut left_out = std::mem::take(&mut self.left_out);
        left_out.sort_by_key(|(_, row)| std::cmp::Reverse(row.kind));
        for (path, mut row) in left_out {
            let removed = if row.kind == Kind::Workspace {
                self.archive(&mut row, &path)
            } else {
                self.editor.remove(&row).map(|()| self.step("delete", &row, &path, Vec::new()))
            };
            removed.map_err(|error| ApplyError::Edit { path, error })?;
        }
        Ok(())
    }

    /// A workspace that the document no longer names: kept, archived, if something in it came by the
    /// API.
    fn archive(&mut self, row: &mut ResourceRow, path: &str) -> Result<(), EditError> {
        let holds_others = resources::has_others(self.editor.tx.db, row.id, None)?;
        let is_archived = row.status == Status::Archived;
        if row.name == crate::control::edit::BUILT_IN || is_archived && holds_others {
            return Ok(());
        }
        if !is_archived {
            self.editor.archive(row)?;
        }
        let action = if holds_others { "archive" } else { "delete" };
        if !holds_others {
            self.editor.delete_workspace(row)?;
        }
        self.step(action, row, path, Vec::new());
        Ok(())
    }

    fn step(&mut self, action: &'static str, row: &ResourceRow, path: &str, fields: Vec<String>) {
        self.plan.steps.push(Step { action, kind: row.kind, path: path.to_owned(), fields });
    }
}

fn items(table: &Table, kind: Kind) -> Option<&[Node]> {
    match &table.get(kind.list_name())?.node.value {
        Value::List(items) => Some(items),
        _ => None,
    }
}
