//! Functions of SQL that `SQLite` does not have.

use rusqlite::Connection;
use rusqlite::functions::{Aggregate, Context, FunctionFlags};
use rusqlite::types::ValueRef;

use crate::usage::query::sketch::{Histogram, Sketch};

const FLAGS: FunctionFlags = FunctionFlags::SQLITE_UTF8.union(FunctionFlags::SQLITE_DETERMINISTIC);

/// `quantiles(number)` and `histogram_quantiles(blob)`: aggregates that answer with a JSON list, or
/// NULL of nothing.
pub(super) fn add_reading(connection: &Connection) -> rusqlite::Result<()> {
    connection.create_aggregate_function("quantiles", 1, FLAGS, Quantiles)?;
    connection.create_aggregate_function("histogram_quantiles", 1, FLAGS, Merged)
}

/// `histogram_merge(blob, blob)`
pub(super) fn add_writing(connection: &Connection) -> rusqlite::Result<()> {
    connection.create_scalar_function("histogram_merge", 2, FLAGS, |context| {
        let mut merged = histogram(context, 0)?;
        merged.merge(&histogram(context, 1)?);
        Ok(merged.encode())
    })
}

fn histogram(context: &Context<'_>, index: usize) -> rusqlite::Result<Histogram> {
    match context.get_raw(index) {
        ValueRef::Null => Ok(Histogram::default()),
        value => Ok(Histogram::decode(value.as_blob()?)),
    }
}

fn list(quantiles: Option<[u64; 4]>) -> Option<String> {
    quantiles.map(|quantiles| format!("{quantiles:?}"))
}

struct Quantiles;

impl Aggregate<Sketch, Option<String>> for Quantiles {
    fn init(&self, _: &mut Context<'_>) -> rusqlite::Result<Sketch> {
        Ok(Sketch::default())
    }

    fn step(&self, context: &mut Context<'_>, sketch: &mut Sketch) -> rusqlite::Result<()> {
        if let ValueRef::Integer(number) = context.get_raw(0) {
            sketch.add(number.max(0).unsigned_abs());
        }
        Ok(())
    }

    fn finalize(
        &self,
        _: &mut Context<'_>,
        sketch: Option<Sketch>,
    ) -> rusqlite::Result<Option<String>> {
        Ok(list(sketch.and_then(Sketch::quantiles)))
    }
}

struct Merged;

impl Aggregate<Histogram, Option<String>> for Merged {
    fn init(&self, _: &mut Context<'_>) -> rusqlite::Result<Histogram> {
        Ok(Histogram::default())
    }

    fn step(&self, context: &mut Context<'_>, merged: &mut Histogram) -> rusqlite::Result<()> {
        merged.merge(&histogram(context, 0)?);
        Ok(())
    }

    fn finalize(
        &self,
        _: &mut Context<'_>,
        merged: Option<Histogram>,
    ) -> rusqlite::Result<Option<String>> {
        Ok(list(merged.and_then(|merged| merged.quantiles())))
    }
}
