//! One resource by itself, as the admin API and the state store have it: read by the same readers
//! as a whole document.

use super::names::Names;
use super::workspace::{self, Globals, Scope};
use super::{
    Connection, Deployment, Environment, Model, ModelGrant, VirtualKey, Workspace, connection,
    deployment, model, virtual_key,
};
use crate::config::document::Node;
use crate::config::fields::{Fields, Report};
use crate::config::problem::{Problem, Problems};

/// What a declarative document is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Workspace,
    Environment,
    Connection,
    Model,
    ModelGrant,
    Deployment,
    Key,
}

/// A resource that was read.
#[derive(Debug)]
pub enum One {
    Workspace(Workspace),
    Environment(Environment),
    Connection(Connection),
    Model(Model),
    ModelGrant(ModelGrant),
    Deployment(Deployment),
    Key(VirtualKey),
}

/// The names that a resource may refer to.
#[derive(Debug, Clone, Default)]
pub struct Known {
    pub connections: Vec<String>,
    pub models: Vec<String>,
    pub granted: Vec<String>,
    pub deployments: Vec<String>,
    pub global_connections: Vec<String>,
    pub global_models: Vec<String>,
    /// Every name counts as known.
    pub is_open: bool,
}

impl Kind {
    /// In the order in which they may be made: each refers only to those before it.
    pub const ALL: [Self; 7] = [
        Self::Workspace,
        Self::Environment,
        Self::Connection,
        Self::Model,
        Self::ModelGrant,
        Self::Deployment,
        Self::Key,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Workspace => "workspace",
            Self::Environment => "environment",
            Self::Connection => "connection",
            Self::Model => "model",
            Self::ModelGrant => "model_grant",
            Self::Deployment => "deployment",
            Self::Key => "key",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// The list of a document that holds them.
    pub const fn list_name(self) -> &'static str {
        match self {
            Self::Workspace => "workspaces",
            Self::Environment => "environments",
            Self::Connection => "connections",
            Self::Model => "models",
            Self::ModelGrant => "model_grants",
            Self::Deployment => "deployments",
            Self::Key => "keys",
        }
    }

    /// The field that names one among its siblings.
    pub const fn name_field(self) -> &'static str {
        match self {
            Self::Workspace | Self::Environment => "slug",
            Self::Model => "alias",
            Self::ModelGrant => "model",
            Self::Connection | Self::Deployment | Self::Key => "name",
        }
    }

    /// The field that holds a secret and is never shown.
    pub const fn secret_field(self) -> Option<&'static str> {
        match self {
            Self::Connection => Some("credential"),
            Self::Key => Some("secret"),
            _ => None,
        }
    }

    /// The lists that stand in this one's table.
    pub const fn children(self) -> &'static [Self] {
        match self {
            Self::Workspace => &[Self::Environment],
            Self::Environment => {
                &[Self::Connection, Self::Model, Self::ModelGrant, Self::Deployment, Self::Key]
            }
            _ => &[],
        }
    }
}

impl Known {
    /// For what was checked before: it may refer to everything.
    pub fn any() -> Self {
        Self { is_open: true, ..Self::default() }
    }

    fn globals(&self) -> Globals {
        Globals {
            connections: Names::of(&self.global_connections),
            models: Names::of(&self.global_models),
            ..Globals::default()
        }
    }

    fn scope(&self) -> Scope {
        if self.is_open {
            return Scope {
                connections: Names::any(),
                models: Names::any(),
                granted: Names::any(),
                deployments: Names::any(),
            };
        }
        Scope {
            connections: Names::of(&self.connections),
            models: Names::of(&self.models),
            granted: Names::of(&self.granted),
            deployments: Names::of(&self.deployments),
        }
    }
}

/// Reads one resource; `file` is what problems are said to stand in.
pub fn read_one(
    file: &str,
    kind: Kind,
    node: &Node,
    known: &Known,
) -> Result<(One, Vec<Problem>), Problems> {
    let report = Report::new(file);
    let one = Fields::root(&report, node).map(|fields| read(kind, fields, known));
    let warnings = report.finish()?;
    Ok((one.expect("without a problem, the root is a table"), warnings))
}

fn read(kind: Kind, fields: Fields<'_>, known: &Known) -> One {
    let mut names = Names::default();
    let mut globals = known.globals();
    let scope = known.scope();
    match kind {
        Kind::Workspace => One::Workspace(workspace::workspace(fields, &mut names, &mut globals)),
        Kind::Environment => {
            One::Environment(workspace::environment(fields, &mut names, &mut globals))
        }
        Kind::Connection => One::Connection(connection::read(fields, &mut names)),
        Kind::Model => {
            One::Model(model::read(fields, &mut names, &[&scope.connections, &globals.connections]))
        }
        Kind::ModelGrant => One::ModelGrant(workspace::grant(fields, &mut names, &globals.models)),
        Kind::Deployment => {
            One::Deployment(deployment::read(fields, &mut names, &scope, &globals.models))
        }
        Kind::Key => One::Key(virtual_key::read(fields, &mut names, &scope, &mut globals.keys)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn problems(kind: Kind, body: &serde_json::Value) -> String {
        let known = Known {
            models: vec!["gpt".to_owned()],
            global_models: vec!["claude".to_owned()],
            ..Known::default()
        };
        match read_one("body", kind, &Node::from_json(body), &known) {
            Ok(_) => "ok".to_owned(),
            Err(problems) => problems.to_string(),
        }
    }

    #[test]
    fn references_are_looked_for_among_the_known_names() {
        let deployment = |model: &str| json!({ "name": "chat", "targets": [{ "model": model }] });
        assert_eq!(problems(Kind::Deployment, &deployment("gpt")), "ok");
        assert!(problems(Kind::Deployment, &deployment("gpt-5")).contains("no model called"));
        assert!(problems(Kind::Deployment, &deployment("claude")).contains("model_grants"));
        assert_eq!(problems(Kind::ModelGrant, &json!({ "model": "claude" })), "ok");
    }

    #[test]
    fn unknown_fields_are_refused_for_every_kind() {
        for kind in Kind::ALL {
            let found = problems(kind, &json!({ "nonsense": 1 }));
            assert!(found.contains("nonsense: unknown field"), "{kind:?}: {found}");
            assert_eq!(Kind::from_name(kind.name()), Some(kind));
        }
    }
}
