//! Store -> Resources: the rows put together as the document that would hold them, and read by the
//! readers of documents.

use std::collections::HashMap;

use uuid::Uuid;

use crate::config::document::{Node, Table, Value};
use crate::config::problem::Problems;
use crate::config::resources::{Kind, Known, Resources};
use crate::control::edit::credential_of;
use crate::control::seal::Vault;
use crate::control::store::resources::{self, ResourceRow, Status, id_or_empty};
use crate::control::store::{Db, StoreError};

/// What problems are said to stand in.
const FILE: &str = "state store";
/// Stands for the credential of a connection that was imported without one and is disabled.
const ABSENT: &str = "absent";

/// Why the stored resources cannot be put in force.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the stored resources have problems: {0}")]
    Problems(#[from] Problems),
    #[error("the credential of the connection `{name}` cannot be read: {reason}")]
    Sealed { name: String, reason: super::seal::OpenError },
}

/// The ids of resources by where they stand in a document.
#[derive(Debug, Default)]
pub struct Ids(HashMap<String, Uuid>);

impl Ids {
    fn insert(&mut self, path: [&str; 4], id: Uuid) {
        self.0.insert(path.join("\0"), id);
    }

    /// Of workspace, environment, kind and name; for what has none, one that follows from the path.
    pub fn get(&self, path: [&str; 4]) -> Option<Uuid> {
        self.0.get(&path.join("\0")).copied()
    }
}

/// Everything but the keys.
#[derive(Debug)]
pub struct Loaded {
    pub resources: Resources,
    pub ids: Ids,
}

/// Reads everything but the keys.
pub fn load(db: &mut Db, vault: &Vault) -> Result<Loaded, LoadError> {
    let rows = resources::all_but_keys(db)?;
    of_rows(&rows, vault)
}

/// Everything but the keys, of these rows.
pub fn of_rows(rows: &[ResourceRow], vault: &Vault) -> Result<Loaded, LoadError> {
    let (tree, ids) = tree(rows, vault)?;
    let checked = Resources::read(FILE, tree, None, &Known::default())?;
    Ok(Loaded { resources: checked.resources, ids })
}

/// The rows of one parent and one kind, in order.
type ByParent<'a> = HashMap<(Option<Uuid>, Kind), Vec<&'a ResourceRow>>;

fn tree(rows: &[ResourceRow], vault: &Vault) -> Result<(Node, Ids), LoadError> {
    let mut by_parent = ByParent::new();
    for row in rows {
        by_parent.entry((row.parent, row.kind)).or_default().push(row);
    }
    let mut tree = Tree { by_parent, vault, ids: Ids::default() };
    let mut root = Table::default();
    for kind in [Kind::Connection, Kind::Model, Kind::Workspace] {
        let items = tree.items(kind, None, ["", ""])?;
        root.set(kind.list_name(), Value::List(items));
    }
    Ok((Node { line: 1, value: Value::Table(root) }, tree.ids))
}

struct Tree<'a> {
    by_parent: ByParent<'a>,
    vault: &'a Vault,
    ids: Ids,
}

impl Tree<'_> {
    fn items(
        &mut self,
        kind: Kind,
        parent: Option<Uuid>,
        path: [&str; 2],
    ) -> Result<Vec<Node>, LoadError> {
        let rows = self.by_parent.remove(&(parent, kind)).unwrap_or_default();
        let mut items = Vec::with_capacity(rows.len());
        for row in rows {
            let [workspace, environment] = path;
            let full = match kind {
                Kind::Workspace => ["", "", kind.name(), &row.name],
                Kind::Environment => [workspace, "", kind.name(), &row.name],
                _ => [workspace, environment, kind.name(), &row.name],
            };
            self.ids.insert(full, row.id);
            let mut table = table(row);
            self.add_credential(row, &mut table)?;
            let path = match kind {
                Kind::Workspace => [row.name.as_str(), ""],
                _ => [workspace, row.name.as_str()],
            };
            for child in kind.children().iter().filter(|child| **child != Kind::Key) {
                let items = self.items(*child, Some(row.id), path)?;
                table.set(child.list_name(), Value::List(items));
            }
            items.push(Node { line: 1, value: Value::Table(table) });
        }
        Ok(items)
    }

    fn add_credential(&self, row: &ResourceRow, table: &mut Table) -> Result<(), LoadError> {
        let is_wanted = row.spec.get("auth").is_none_or(|auth| auth == "api_key");
        if row.kind != Kind::Connection || !is_wanted {
            return Ok(());
        }
        let Some(sealed) = &row.sealed else {
            table.set_text("credential", ABSENT);
            table.set("enabled", Value::Flag(false));
            return Ok(());
        };
        let (id, workspace) = (row.id.to_string(), id_or_empty(row.workspace));
        let opened = self.vault.open(credential_of(&id, &workspace), sealed);
        let secret =
            opened.map_err(|reason| LoadError::Sealed { name: row.name.clone(), reason })?;
        table.set_text("credential", secret.expose());
        Ok(())
    }
}

/// A row as its author wrote it.
fn table(row: &ResourceRow) -> Table {
    let mut table = Table::from_json(&row.spec);
    table.set_text(row.kind.name_field(), &row.name);
    if row.status == Status::Archived {
        table.set_text("status", row.status.name());
    }
    table
}
