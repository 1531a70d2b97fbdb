//! Rows on their way to the store.
