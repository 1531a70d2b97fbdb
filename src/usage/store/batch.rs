//! What a store is given: encoded rows of one table, and the token under which it keeps them once.

use std::borrow::Cow;

use crate::usage::spool::Rows;

/// Where rows go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Table {
    /// Rows as [`crate::usage::row::RowView`] reads them, of one UTC day.
    Usage,
    /// Counts as [`crate::usage::row::RefusedView`] reads them.
    RefusedKeys,
    /// Bodies as [`crate::usage::row::PayloadRow`] reads them, of one UTC day.
    Payloads,
}

/// Rows that are kept together, or not at all.
#[derive(Debug, Clone)]
pub struct Batch<'a> {
    pub table: Table,
    /// The same for the same rows, whenever and by whomever they are sent.
    pub token: Cow<'a, str>,
    bytes: &'a [u8],
    /// Where each row ends, counted from the beginning of the slice.
    ends: &'a [usize],
    /// Where `bytes` begin, counted likewise.
    begin: usize,
}

impl<'a> Batch<'a> {
    pub fn new(table: Table, token: &'a str, rows: &'a Rows) -> Self {
        Self { table, token: Cow::Borrowed(token), bytes: &rows.bytes, ends: &rows.ends, begin: 0 }
    }

    /// The rows, one after the other.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    pub fn rows(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let (bytes, base) = (self.bytes, self.begin);
        let mut begin = base;
        self.ends.iter().map(move |end| {
            let row = bytes.get(begin - base..end - base).unwrap_or_default();
            begin = *end;
            row
        })
    }

    /// Two halves with tokens of their own, which are the same each time.
    pub fn halves(&self) -> Option<[Batch<'a>; 2]> {
        if self.len() < 2 {
            return None;
        }
        let (first, second) = self.ends.split_at(self.len() / 2);
        let middle = first.last().copied()?;
        let (before, after) = self.bytes.split_at_checked(middle - self.begin)?;
        let part = |name, bytes, ends, begin| Batch {
            table: self.table,
            token: Cow::Owned(format!("{}{name}", self.token)),
            bytes,
            ends,
            begin,
        };
        Some([part("a", before, first, self.begin), part("b", after, second, middle)])
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn halves_hold_the_same_rows(lengths in proptest::collection::vec(0_usize..9, 2..40)) {
            let mut rows = Rows::default();
            for (n, length) in lengths.iter().enumerate() {
                rows.bytes.extend(std::iter::repeat_n(u8::try_from(n).unwrap(), *length));
                rows.ends.push(rows.bytes.len());
            }
            let whole = Batch::new(Table::Usage, "t", &rows);
            let [one, other] = whole.halves().unwrap();
            let parts = match one.halves() {
                Some([first, second]) => vec![first, second, other],
                None => vec![one, other],
            };
            let all: Vec<_> = whole.rows().collect();
            prop_assert_eq!(&all, &parts.iter().flat_map(Batch::rows).collect::<Vec<_>>());
            let bytes: Vec<_> = parts.iter().map(Batch::bytes).collect();
            prop_assert_eq!(whole.bytes(), &bytes.concat()[..]);
        }
    }
}
