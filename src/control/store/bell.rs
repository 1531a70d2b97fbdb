//! What a node that has changed the state rings on all others.

use std::time::Duration;

use postgres::fallible_iterator::FallibleIterator as _;

use super::sql::{Client, Db, StoreError, postgres_error};

const LISTEN: &str = "LISTEN sluice_state";

/// A connection on which PostgreSQL says that something has changed.
pub struct Bell(Client);

impl Bell {
    /// `None` for a store that has no bell.
    pub(super) fn hang(mut db: Db) -> Result<Option<Self>, StoreError> {
        db.batch(LISTEN)?;
        match db {
            Db::Postgres { client, .. } => Ok(Some(Self(client))),
            Db::Sqlite(_) => Ok(None),
        }
    }

    /// Waits until somebody rings, or for so long.
    pub fn wait(&mut self, time_max: Duration) -> Result<(), StoreError> {
        if self.0.is_closed() {
            return Err(StoreError::Unavailable("the connection is closed".to_owned()));
        }
        let mut notifications = self.0.get()?.notifications();
        notifications.timeout_iter(time_max).next().map_err(postgres_error)?;
        // Several changes at once are one look.
        while notifications.iter().next().map_err(postgres_error)?.is_some() {}
        Ok(())
    }
}

impl std::fmt::Debug for Bell {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Bell").finish_non_exhaustive()
    }
}
