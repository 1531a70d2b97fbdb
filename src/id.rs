//! Typed ids. A workspace's id cannot be passed where an environment's is wanted.

use std::fmt;

use uuid::Uuid;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.as_hyphenated().fmt(out)
            }
        }

        impl $name {
            /// The id of the resource that a declarative document names by `path`, the same at
            /// every reading of the document.
            pub fn of_path(path: &[&str]) -> Self {
                Self(uuid_of_path(stringify!($name), path))
            }
        }
    )*};
}

ids! {
    /// Any resource, where it does not matter which kind it is.
    ResourceId
    WorkspaceId
    EnvironmentId
    ConnectionId
    ModelId
    DeploymentId
    VirtualKeyId
    /// One target of one deployment: breaker and counters hang on it.
    TargetId
}

/// A UUID of version 8 (RFC 9562) from the SHA-256 of the kind and the path.
fn uuid_of_path(kind: &str, path: &[&str]) -> Uuid {
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    for part in std::iter::once(&kind).chain(path) {
        context.update(part.as_bytes());
        context.update(&[0]); // No name holds a NUL, so no two paths run together.
    }
    let digest = context.finish();
    let mut bytes = [0; 16];
    for (to, from) in bytes.iter_mut().zip(digest.as_ref()) {
        *to = *from;
    }
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

/// A new id for a request: ordered by time, unique over nodes.
pub fn new_request_id() -> Uuid {
    Uuid::now_v7()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_gives_the_same_id_every_time_and_kinds_differ() {
        let id = DeploymentId::of_path(&["acme", "production", "chat"]);
        assert_eq!(id, DeploymentId::of_path(&["acme", "production", "chat"]));
        assert_ne!(id, DeploymentId::of_path(&["acme", "productionchat", ""]));
        assert_ne!(id.0, ModelId::of_path(&["acme", "production", "chat"]).0);
        assert_eq!(id.0.get_version_num(), 8);
    }
}
