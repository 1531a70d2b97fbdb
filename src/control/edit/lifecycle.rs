//! Workspaces and environments: made, archived, recovered, deleted.

use serde_json::{Map, Value as Json, json};
use uuid::Uuid;

use super::{EditError, Editor, view};
use crate::config::resources::Kind;
use crate::control::store::identity::{self, MemberRow, WorkspaceRole};
use crate::control::store::resources::{self, Place, ResourceRow, Status};

/// The workspace that is there from the first start and stays.
pub const BUILT_IN: &str = "default";
/// The environment of a workspace whose maker names none.
const FIRST_ENVIRONMENT: &str = "production";

impl Editor<'_, '_> {
    /// Makes a workspace with the environments that the body names.
    pub fn create_workspace(
        &mut self,
        body: &Map<String, Json>,
    ) -> Result<(ResourceRow, Vec<ResourceRow>), EditError> {
        let mut body = body.clone();
        if body.contains_key("status") {
            return Err(EditError::invalid("status", "a new workspace is active"));
        }
        let environments = match body.remove("environments") {
            None | Some(Json::Null) => vec![json!({ "slug": FIRST_ENVIRONMENT })],
            Some(Json::Array(list)) if list.is_empty() => {
                vec![json!({ "slug": FIRST_ENVIRONMENT })]
            }
            Some(Json::Array(list)) => list,
            Some(_) => return Err(EditError::invalid("environments", "must be a list")),
        };
        let (workspace, _) = self.create(Kind::Workspace, Place::default(), &body)?;
        let place = Place::in_workspace(workspace.id);
        let mut made = Vec::new();
        for (n, environment) in environments.iter().enumerate() {
            let Json::Object(fields) = environment else {
                return Err(EditError::invalid(&format!("environments[{n}]"), "must be a table"));
            };
            let created = self.create(Kind::Environment, place, fields);
            made.push(created.map_err(|error| within(&format!("environments[{n}]"), error))?.0);
        }
        Ok((workspace, made))
    }

    /// Gives a new workspace its owner: its maker, or the first superadmin if no user made it.
    pub fn own(&mut self, workspace: Uuid, maker: Option<Uuid>) -> Result<(), EditError> {
        let owner = match maker {
            Some(user) => Some(user),
            None => identity::first_superadmin(self.tx.db)?,
        };
        // There is nobody yet when a document comes before the first start.
        let Some(user) = owner else { return Ok(()) };
        let by = self.actor.name.clone();
        let member = MemberRow {
            workspace,
            user,
            role: WorkspaceRole::Owner,
            environments: None,
            version: 1,
            created_at: self.tx.now,
            created_by: by.clone(),
        };
        Ok(self.tx.put_member(&member, &by)?)
    }

    /// A workspace always has an owner.
    fn own_ownerless(&mut self) -> Result<(), EditError> {
        for workspace in identity::without_owner(self.tx.db)? {
            self.own(workspace, None)?;
        }
        Ok(())
    }

    /// Stops the keys of a workspace, and keeps everything.
    pub fn archive(&mut self, row: &mut ResourceRow) -> Result<(), EditError> {
        self.check_may_end(row)?;
        if row.status == Status::Archived {
            return Err(EditError::Conflict {
                code: "already_archived",
                detail: "the workspace is archived already",
            });
        }
        self.set_status(row, Status::Archived, "archive")
    }

    pub fn recover(&mut self, row: &mut ResourceRow) -> Result<(), EditError> {
        if row.status != Status::Archived {
            return Err(EditError::Conflict {
                code: "not_archived",
                detail: "the workspace is not archived",
            });
        }
        self.set_status(row, Status::Active, "recover")
    }

    fn set_status(
        &mut self,
        row: &mut ResourceRow,
        status: Status,
        action: &str,
    ) -> Result<(), EditError> {
        let before = view(row);
        row.status = status;
        self.tx.update_resource(row, &self.actor.name)?;
        self.record(action, row, Some(before), Some(view(row)))
    }

    /// Removes an archived workspace and everything in it. Its usage goes by retention.
    pub fn delete_workspace(&mut self, row: &ResourceRow) -> Result<(), EditError> {
        self.check_may_end(row)?;
        if row.status != Status::Archived {
            return Err(EditError::Conflict {
                code: "not_archived",
                detail: "archive the workspace before it is deleted",
            });
        }
        self.tx.remove_all(row.id, None)?;
        self.tx.db.execute("DELETE FROM members WHERE workspace_id = $1", &[row.id.into()])?;
        self.tx.delete_resource(row)?;
        self.indexes.clear();
        self.record("delete", row, Some(view(row)), None)
    }

    /// The built-in workspace and the active one stay.
    pub fn check_may_end(&mut self, row: &ResourceRow) -> Result<(), EditError> {
        if row.name == BUILT_IN {
            return Err(EditError::Conflict {
                code: "workspace_built_in",
                detail: "the built-in workspace can be neither archived nor deleted",
            });
        }
        if active(self.tx.db)?.0 == Some(row.id) {
            return Err(EditError::Conflict {
                code: "workspace_active",
                detail: "the active workspace can be neither archived nor deleted; make another \
                         one active first",
            });
        }
        Ok(())
    }

    /// Removes what stands in an environment.
    pub(super) fn remove_environment(
        &mut self,
        row: &ResourceRow,
        workspace: Uuid,
    ) -> Result<(), EditError> {
        if active(self.tx.db)?.1 == Some(row.id) {
            return Err(EditError::Conflict {
                code: "environment_active",
                detail: "the active environment cannot be deleted; make another one active first",
            });
        }
        self.tx.remove_all(workspace, Some(row.id))?;
        self.indexes.remove(&Some(row.id));
        Ok(())
    }
}

fn within(path: &str, error: EditError) -> EditError {
    let EditError::Invalid(mut problems) = error else { return error };
    for problem in &mut problems {
        problem.field = format!("{path}.{}", problem.field);
    }
    EditError::Invalid(problems)
}

/// The active workspace and environment, for requests without a key.
pub fn active(
    db: &mut crate::control::store::Db,
) -> Result<(Option<Uuid>, Option<Uuid>), EditError> {
    let row = db.first("SELECT active_workspace, active_environment FROM state", &[])?;
    let Some(row) = row else { return Ok((None, None)) };
    Ok((row.text(0)?.parse().ok(), row.text(1)?.parse().ok()))
}

/// Makes the built-in workspace if it is not there, and sees to it that each has an owner.
pub fn ensure_default(editor: &mut Editor<'_, '_>) -> Result<(), EditError> {
    let place = Place::default();
    if resources::find(editor.tx.db, Kind::Workspace, place, BUILT_IN)?.is_none() {
        let body = Map::from_iter([
            ("slug".to_owned(), json!(BUILT_IN)),
            ("name".to_owned(), json!("Default")),
        ]);
        editor.create_workspace(&body)?;
    }
    editor.own_ownerless()
}
