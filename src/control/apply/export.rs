//! The state as a document: everything but secrets, in whose places env vars are named.

use serde_json::{Map, Value as Json, json};

use super::placeholder;
use crate::config::resources::Kind;
use crate::control::store::resources::{self, Place, ResourceRow, Status};
use crate::control::store::{Db, StoreError};

/// The document of everything, or of one workspace.
pub fn export(db: &mut Db, workspace: Option<&ResourceRow>) -> Result<Json, StoreError> {
    let mut root = Map::new();
    let workspaces = if let Some(row) = workspace {
        vec![row.clone()]
    } else {
        for kind in [Kind::Connection, Kind::Model] {
            let list = list(db, kind, Place::default(), "")?;
            root.insert(kind.list_name().to_owned(), list);
        }
        resources::all_at(db, Kind::Workspace, Place::default())?
    };
    let mut list = Vec::new();
    for row in workspaces {
        let mut fields = fields(&row, "");
        let place = Place::in_workspace(row.id);
        fields.insert(
            "environments".to_owned(),
            self::list(db, Kind::Environment, place, &row.name)?,
        );
        list.push(Json::Object(fields));
    }
    root.insert("workspaces".to_owned(), Json::Array(list));
    Ok(Json::Object(root))
}

fn list(db: &mut Db, kind: Kind, place: Place, path: &str) -> Result<Json, StoreError> {
    let mut list = Vec::new();
    for row in resources::all_at(db, kind, place)? {
        // A key that is revoked for ever is of no use elsewhere.
        if row.status == Status::Revoked {
            continue;
        }
        let mut fields = fields(&row, path);
        let below = Place { parent: Some(row.id), ..place };
        let path = format!("{path}/{}", row.name);
        for child in kind.children() {
            let items = self::list(db, *child, below, &path)?;
            if items.as_array().is_some_and(|items| !items.is_empty()) {
                fields.insert(child.list_name().to_owned(), items);
            }
        }
        list.push(Json::Object(fields));
    }
    Ok(Json::Array(list))
}

/// A resource as its author would write it: what says nothing is left out.
fn fields(row: &ResourceRow, path: &str) -> Map<String, Json> {
    let mut fields = Map::new();
    fields.insert(row.kind.name_field().to_owned(), json!(row.name));
    if row.status == Status::Archived {
        fields.insert("status".to_owned(), json!(row.status.name()));
    }
    for (field, value) in &row.spec {
        if !says_nothing(field, value) {
            fields.insert(field.clone(), value.clone());
        }
    }
    if row.kind == Kind::Connection && row.spec.get("auth").is_some_and(|auth| auth == "api_key") {
        fields.insert("credential".to_owned(), json!(placeholder::of(path, &row.name)));
    }
    fields
}

fn says_nothing(field: &str, value: &Json) -> bool {
    let is_empty = match value {
        Json::String(text) => text.is_empty(),
        Json::Array(items) => items.is_empty(),
        Json::Object(fields) => fields.is_empty(),
        _ => false,
    };
    let is_default = ["description", "labels", "limits", "metadata_defaults"].contains(&field);
    is_empty && is_default
        || field == "enabled" && *value == Json::Bool(true)
        || field == "price_source"
}
