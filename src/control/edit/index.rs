//! The names at a place, and what a resource refers to among them.

use std::collections::HashMap;

use uuid::Uuid;

use crate::config::resources::{Allowed, Kind, Known, One};

/// Names and ids of everything but keys in one environment, or of what is global.
#[derive(Debug, Default)]
pub(super) struct Index {
    ids: HashMap<Kind, HashMap<String, Uuid>>,
}

impl Index {
    pub(super) fn new(names: Vec<(Kind, String, Uuid)>) -> Self {
        let mut index = Self::default();
        for (kind, name, id) in names {
            index.insert(kind, &name, id);
        }
        index
    }

    pub(super) fn id(&self, kind: Kind, name: &str) -> Option<Uuid> {
        self.ids.get(&kind)?.get(name).copied()
    }

    pub(super) fn insert(&mut self, kind: Kind, name: &str, id: Uuid) {
        if kind != Kind::Key {
            self.ids.entry(kind).or_default().insert(name.to_owned(), id);
        }
    }

    pub(super) fn remove(&mut self, kind: Kind, name: &str) {
        if let Some(ids) = self.ids.get_mut(&kind) {
            ids.remove(name);
        }
    }

    fn names(&self, kind: Kind) -> Vec<String> {
        self.ids.get(&kind).map(|ids| ids.keys().cloned().collect()).unwrap_or_default()
    }
}

/// What a resource between these may refer to.
pub(super) fn known(own: &Index, global: &Index) -> Known {
    Known {
        connections: own.names(Kind::Connection),
        models: own.names(Kind::Model),
        granted: own.names(Kind::ModelGrant),
        deployments: own.names(Kind::Deployment),
        global_connections: global.names(Kind::Connection),
        global_models: global.names(Kind::Model),
        ..Known::default()
    }
}

/// The ids of what `one` names: what is its environment's own comes before what is global.
pub(super) fn references(one: &One, own: &Index, global: &Index, to: &mut Vec<Uuid>) {
    let model =
        |alias: &String| own.id(Kind::Model, alias).or_else(|| own.id(Kind::ModelGrant, alias));
    let listed = |allowed: &Allowed<String>| match allowed {
        Allowed::All => Vec::new(),
        Allowed::Only(names) => names.clone(),
    };
    match one {
        One::Model(one) => to.extend(
            own.id(Kind::Connection, &one.connection)
                .or_else(|| global.id(Kind::Connection, &one.connection)),
        ),
        One::ModelGrant(one) => to.extend(global.id(Kind::Model, &one.model)),
        One::Deployment(one) => {
            to.extend(one.targets.iter().filter_map(|target| model(&target.model)));
        }
        One::Key(one) => {
            to.extend(listed(&one.scopes.models).iter().filter_map(model));
            let deployment = |name: &String| own.id(Kind::Deployment, name);
            to.extend(listed(&one.scopes.deployments).iter().filter_map(deployment));
        }
        One::Workspace(_) | One::Environment(_) | One::Connection(_) => {}
    }
}
