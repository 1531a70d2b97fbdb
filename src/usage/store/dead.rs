//! Rows that the store refuses: kept beside the spool, for somebody to look at and to try again.

use std::io;
use std::path::Path;

use super::batch::{Batch, Table};
use crate::usage::spool::{DEAD, EXTENSION, Kind, Title, write_segment};

/// The rows of one slice that the store has refused.
#[derive(Debug, Default)]
pub(super) struct Dead {
    rows: Vec<(Kind, Box<[u8]>)>,
}

impl Dead {
    pub(super) fn add(&mut self, batch: &Batch<'_>) {
        let kind = match batch.table {
            Table::Usage => Kind::Row,
            Table::RefusedKeys => Kind::Refused,
            Table::Payloads => Kind::Payload,
        };
        self.rows.extend(batch.rows().map(|row| (kind, row.into())));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub(super) fn n_rows(&self) -> u64 {
        self.rows.iter().filter(|(kind, _)| *kind == Kind::Row).count() as u64
    }

    /// Keeps them in the place of a file that held more.
    pub(super) fn bury_again(&self, path: &Path, title: Title) -> io::Result<()> {
        write_segment(path, title, self.rows.iter().map(|(kind, row)| (*kind, &**row)))?;
        Ok(())
    }

    /// Keeps them in a file that is named after their slice, so that they are there once.
    pub(super) fn bury(&self, root: &Path, token: &str, title: Title) -> io::Result<()> {
        let folder = root.join(DEAD);
        std::fs::create_dir_all(&folder)?;
        self.bury_again(&folder.join(format!("{token}.{EXTENSION}")), title)
    }
}
