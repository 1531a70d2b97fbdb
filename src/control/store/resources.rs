//! Rows of everything a declarative document holds.

use serde_json::{Map, Value as Json};
use uuid::Uuid;

use super::Tx;
use super::sql::{Db, Row, StoreError};

use crate::config::resources::Kind;

/// A resource as it is stored.
#[derive(Debug, Clone)]
pub struct ResourceRow {
    pub id: Uuid,
    pub kind: Kind,
    /// Of a workspace, its own id; `None` for what is global.
    pub workspace: Option<Uuid>,
    /// The environment, or an environment's workspace.
    pub parent: Option<Uuid>,
    pub name: String,
    pub status: Status,
    pub spec: Map<String, Json>,
    pub sealed: Option<Vec<u8>>,
    pub hint: String,
    pub origin: Origin,
    pub version: i64,
    pub created_at: i64,
    pub created_by: String,
    pub updated_at: i64,
    pub updated_by: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Active,
    /// Of a workspace.
    Archived,
    /// Of a key, for ever.
    Revoked,
}

/// Who takes care of a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    Api,
    /// The document of `resources = …`, which removes what it no longer holds.
    Document,
}

/// A part of a list.
#[derive(Debug, Clone, Copy)]
pub struct Page {
    /// The last id of the part before.
    pub after: Option<Uuid>,
    pub limit: i64,
}

macro_rules! columns {
    ($rest:literal) => {
        concat!(
            "SELECT id, kind, workspace_id, parent_id, name, status, spec, sealed, hint, origin, \
             version, created_at, created_by, updated_at, updated_by FROM resources ",
            $rest
        )
    };
}

impl Status {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Archived => "archived",
            Self::Revoked => "revoked",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Active, Self::Archived, Self::Revoked].into_iter().find(|it| it.name() == name)
    }
}

impl Origin {
    const fn name(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Document => "document",
        }
    }
}

/// Ids that may be missing are stored as an empty text.
pub fn id_or_empty(id: Option<Uuid>) -> String {
    id.map(|id| id.to_string()).unwrap_or_default()
}

fn opt_id(row: &Row, at: usize) -> Result<Option<Uuid>, StoreError> {
    if row.text(at)?.is_empty() { Ok(None) } else { row.id(at).map(Some) }
}

impl ResourceRow {
    pub(super) fn read(row: &Row) -> Result<Self, StoreError> {
        let corrupt =
            |what: &str| StoreError::Corrupt(format!("a resource with an unknown {what}"));
        let spec = serde_json::from_str(row.text(6)?).map_err(|_| corrupt("spec"))?;
        Ok(Self {
            id: row.id(0)?,
            kind: Kind::from_name(row.text(1)?).ok_or_else(|| corrupt("kind"))?,
            workspace: opt_id(row, 2)?,
            parent: opt_id(row, 3)?,
            name: row.text(4)?.to_owned(),
            status: Status::from_name(row.text(5)?).ok_or_else(|| corrupt("status"))?,
            spec,
            sealed: row.opt_bytes(7)?.map(<[u8]>::to_vec),
            hint: row.text(8)?.to_owned(),
            origin: if row.text(9)? == "api" { Origin::Api } else { Origin::Document },
            version: row.int(10)?,
            created_at: row.int(11)?,
            created_by: row.text(12)?.to_owned(),
            updated_at: row.int(13)?,
            updated_by: row.text(14)?.to_owned(),
        })
    }

    /// The environment it belongs to.
    pub fn environment(&self) -> Option<Uuid> {
        match self.kind {
            Kind::Workspace => None,
            Kind::Environment => Some(self.id),
            _ => self.parent,
        }
    }
}

/// The workspace and the parent under which a resource stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Place {
    pub workspace: Option<Uuid>,
    pub parent: Option<Uuid>,
}

impl Place {
    pub fn in_workspace(workspace: Uuid) -> Self {
        Self { workspace: Some(workspace), parent: Some(workspace) }
    }

    pub fn in_environment(workspace: Uuid, environment: Uuid) -> Self {
        Self { workspace: Some(workspace), parent: Some(environment) }
    }
}

/// By id, or by name.
pub fn find(
    db: &mut Db,
    kind: Kind,
    place: Place,
    id_or_name: &str,
) -> Result<Option<ResourceRow>, StoreError> {
    let parent = id_or_empty(place.parent);
    if let Ok(id) = id_or_name.parse::<Uuid>() {
        let sql = columns!("WHERE id = $1 AND kind = $2 AND parent_id = $3");
        let params = [id.into(), kind.name().into(), parent.as_str().into()];
        if let Some(row) = db.first(sql, &params)? {
            return ResourceRow::read(&row).map(Some);
        }
    }
    let sql = columns!("WHERE kind = $1 AND parent_id = $2 AND name = $3");
    let params = [kind.name().into(), parent.into(), id_or_name.into()];
    db.first(sql, &params)?.as_ref().map(ResourceRow::read).transpose()
}

/// Whichever it is.
pub fn by_id(db: &mut Db, id: Uuid) -> Result<Option<ResourceRow>, StoreError> {
    db.first(columns!("WHERE id = $1"), &[id.into()])?.as_ref().map(ResourceRow::read).transpose()
}

/// A part of what stands at a place, in the order of creation.
pub fn list(
    db: &mut Db,
    kind: Kind,
    place: Place,
    page: Page,
) -> Result<Vec<ResourceRow>, StoreError> {
    let sql = columns!("WHERE parent_id = $1 AND kind = $2 AND id > $3 ORDER BY id LIMIT $4");
    let params = [
        id_or_empty(place.parent).into(),
        kind.name().into(),
        id_or_empty(page.after).into(),
        page.limit.into(),
    ];
    db.query(sql, &params)?.iter().map(ResourceRow::read).collect()
}

/// Everything but the keys, workspaces first, each kind in the order of creation.
pub fn all_but_keys(db: &mut Db) -> Result<Vec<ResourceRow>, StoreError> {
    let sql = columns!("WHERE kind <> 'key' ORDER BY id");
    db.query(sql, &[])?.iter().map(ResourceRow::read).collect()
}

/// The rows of everything but keys, as they are stored.
pub(super) fn each_but_keys(
    db: &mut Db,
    take: impl FnMut(Row) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    db.each(columns!("WHERE kind <> 'key' ORDER BY id"), &[], take)
}

/// Everything of one kind at a place.
pub fn all_at(db: &mut Db, kind: Kind, place: Place) -> Result<Vec<ResourceRow>, StoreError> {
    list(db, kind, place, Page { after: None, limit: i64::MAX })
}

/// The names of everything but keys at a place, with their kinds and ids.
pub fn names_at(
    db: &mut Db,
    parent: Option<Uuid>,
) -> Result<Vec<(Kind, String, Uuid)>, StoreError> {
    let sql = "SELECT kind, name, id FROM resources WHERE parent_id = $1 AND kind <> 'key'";
    let mut names = Vec::new();
    db.each(sql, &[id_or_empty(parent).into()], |row| {
        let kind = Kind::from_name(row.text(0)?);
        names.extend(kind.map(|kind| Ok((kind, row.text(1)?.to_owned(), row.id(2)?))).transpose()?);
        Ok(())
    })?;
    Ok(names)
}

/// Whether something other than keys has changed after `revision`.
pub fn is_changed_after(db: &mut Db, revision: i64) -> Result<bool, StoreError> {
    let changed = "SELECT 1 FROM resources WHERE revision > $1 AND kind <> 'key' LIMIT 1";
    let removed = "SELECT 1 FROM removals WHERE revision > $1 AND kind = 'snapshot' LIMIT 1";
    Ok(db.exists(changed, &[revision.into()])? || db.exists(removed, &[revision.into()])?)
}

/// Whether something in a workspace, or in one of its environments, came by the API.
pub fn has_others(
    db: &mut Db,
    workspace: Uuid,
    environment: Option<Uuid>,
) -> Result<bool, StoreError> {
    let sql = "SELECT 1 FROM resources WHERE workspace_id = $1 AND origin = 'api' \
               AND ($2 = '' OR parent_id = $2) LIMIT 1";
    db.exists(sql, &[workspace.into(), id_or_empty(environment).into()])
}

impl Tx<'_> {
    pub fn insert_resource(&mut self, row: &ResourceRow) -> Result<(), StoreError> {
        let sql = "INSERT INTO resources (id, kind, workspace_id, parent_id, name, status, spec, \
                   sealed, hint, origin, version, revision, created_at, created_by, updated_at, \
                   updated_by) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)";
        let params = [
            row.id.into(),
            row.kind.name().into(),
            id_or_empty(row.workspace).into(),
            id_or_empty(row.parent).into(),
            row.name.as_str().into(),
            row.status.name().into(),
            spec_text(&row.spec).into(),
            row.sealed.clone().into(),
            row.hint.as_str().into(),
            row.origin.name().into(),
            row.version.into(),
            self.revision.into(),
            row.created_at.into(),
            row.created_by.as_str().into(),
            row.updated_at.into(),
            row.updated_by.as_str().into(),
        ];
        self.db.execute(sql, &params)?;
        self.keep();
        Ok(())
    }

    /// Writes what may change of a resource, as its next version.
    pub fn update_resource(&mut self, row: &mut ResourceRow, by: &str) -> Result<(), StoreError> {
        row.version += 1;
        row.updated_at = self.now;
        by.clone_into(&mut row.updated_by);
        let sql = "UPDATE resources SET name = $2, status = $3, spec = $4, sealed = $5, hint = $6, \
                   origin = $7, version = $8, revision = $9, updated_at = $10, updated_by = $11 \
                   WHERE id = $1 AND workspace_id = $12";
        let params = [
            row.id.into(),
            row.name.as_str().into(),
            row.status.name().into(),
            spec_text(&row.spec).into(),
            row.sealed.clone().into(),
            row.hint.as_str().into(),
            row.origin.name().into(),
            row.version.into(),
            self.revision.into(),
            row.updated_at.into(),
            row.updated_by.as_str().into(),
            id_or_empty(row.workspace).into(),
        ];
        self.db.execute(sql, &params)?;
        self.keep();
        Ok(())
    }

    /// Removes one resource, whatever stood below it being removed already.
    pub fn delete_resource(&mut self, row: &ResourceRow) -> Result<(), StoreError> {
        let params = [row.id.into(), id_or_empty(row.workspace).into()];
        self.db.execute("DELETE FROM resources WHERE id = $1 AND workspace_id = $2", &params)?;
        self.db.execute("DELETE FROM resource_references WHERE from_id = $1", &[row.id.into()])?;
        self.db.execute("DELETE FROM key_uses WHERE key_id = $1", &[row.id.into()])?;
        if row.kind != Kind::Key {
            let sql = "INSERT INTO removals (revision, kind, digest) VALUES ($1, 'snapshot', NULL)";
            self.db.execute(sql, &[self.revision.into()])?;
        }
        self.keep();
        Ok(())
    }

    /// Says what `from` refers to.
    pub fn set_references(&mut self, from: &ResourceRow, to: &[Uuid]) -> Result<(), StoreError> {
        let from_id = from.id;
        self.db.execute("DELETE FROM resource_references WHERE from_id = $1", &[from_id.into()])?;
        let sql = "INSERT INTO resource_references (from_id, workspace_id, to_id) \
                   VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
        for to in to {
            let workspace = id_or_empty(from.workspace);
            self.db.execute(sql, &[from_id.into(), workspace.into(), (*to).into()])?;
        }
        Ok(())
    }

    /// Something that refers to `id`: its kind, its name, and its workspace.
    pub fn referrer(&mut self, id: Uuid) -> Result<Option<(String, String, String)>, StoreError> {
        let sql = "SELECT r.kind, r.name, r.workspace_id FROM resource_references x \
                   JOIN resources r ON r.id = x.from_id WHERE x.to_id = $1 LIMIT 1";
        let row = self.db.first(sql, &[id.into()])?;
        let read = |row: Row| {
            Ok((row.text(0)?.to_owned(), row.text(1)?.to_owned(), row.text(2)?.to_owned()))
        };
        row.map(read).transpose()
    }
}

fn spec_text(spec: &Map<String, Json>) -> String {
    serde_json::to_string(spec).expect("a JSON object can be written")
}
