//! Who calls, what for, and may they?
//!
//! Cheapest check first: a malformed key is refused before it is hashed, and nothing is read of the
//! body of a caller we do not know.

use std::sync::Arc;

use crate::control::State;
use crate::control::snapshot::{Environment, KeyRecord, Snapshot};
use crate::dialect::Endpoint;
use crate::head::fields::Fields;
use crate::key;
use crate::proxy::headers::presented_keys;
use crate::proxy::routes::PathScope;
use crate::rejection::Rejection;
use crate::secret::Secret;
use crate::telemetry::metrics::RefusedKey;

/// A caller whose key is known. It may still not be let in.
#[derive(Debug)]
pub struct Known {
    pub key: Arc<KeyRecord>,
    pub environment: Arc<Environment>,
    /// The caller's own key at a provider.
    pub passthrough: Option<Secret>,
}

/// Why a key is not known, for the counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unknown {
    Missing,
    Malformed,
    NoSuchKey,
}

impl Unknown {
    pub const fn label(self) -> RefusedKey {
        match self {
            Self::Missing => RefusedKey::Missing,
            Self::Malformed => RefusedKey::Malformed,
            Self::NoSuchKey => RefusedKey::Unknown,
        }
    }

    pub const fn rejection(self) -> Rejection {
        match self {
            Self::Missing => Rejection::KeyMissing,
            Self::Malformed | Self::NoSuchKey => Rejection::KeyRefused,
        }
    }
}

/// Finds the key that a request presents.
pub fn identify(headers: &Fields, state: &State, snapshot: &Snapshot) -> Result<Known, Unknown> {
    let presented = presented_keys(headers);
    let text = presented.virtual_key.ok_or(Unknown::Missing)?;
    key::check(text).map_err(|_| Unknown::Malformed)?;
    let key = state.keys.get(&key::digest(text)).ok_or(Unknown::NoSuchKey)?;
    let environment = snapshot.environments.get(&key.environment).ok_or(Unknown::NoSuchKey)?;
    let passthrough = presented
        .passthrough
        .and_then(|own| std::str::from_utf8(own).ok())
        .map(|own| Secret::new(own.to_owned()));
    Ok(Known { key, environment: Arc::clone(environment), passthrough })
}

/// Lets a known caller in, or says why not.
pub fn admit(
    known: &Known,
    endpoint: Endpoint,
    scope: Option<PathScope<'_>>,
    unix_micros: i64,
) -> Result<(), Rejection> {
    let is_usable =
        known.key.enabled && !known.environment.is_archived && !known.key.is_expired(unix_micros);
    if !is_usable {
        return Err(Rejection::KeyRefused);
    }
    known.key.mark_used(unix_micros);
    // Before the endpoint: the answer must be the same whether or not the named place exists.
    if let Some(scope) = scope
        && !known.environment.is_named(scope.workspace, scope.environment)
    {
        return Err(Rejection::EnvironmentMismatch);
    }
    if known.key.allows_endpoint(endpoint) {
        Ok(())
    } else {
        Err(Rejection::EndpointForbidden { endpoint: endpoint.name() })
    }
}
