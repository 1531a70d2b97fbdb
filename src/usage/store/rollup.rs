//! Sums by minute and hour, made in the transaction that inserts the rows.
//!
//! Only rows that were not there yet are added, so that a batch that comes again changes nothing.

use std::collections::HashMap;

use rusqlite::{Transaction, params_from_iter};

use super::columns::int;
use crate::price::Tokens;
use crate::usage::query::sketch::Histogram;
use crate::usage::record::Timings;

/// Roll-ups are kept for 13 months.
const KEPT_DAYS: i64 = 400;
const US_PER_S: i64 = 1_000_000;
const S_PER_DAY: i64 = 86_400;
const NANO: u64 = 1_000_000_000;

/// Rows of each table that one call of [`prune`] deletes.
const PRUNE_ROWS_MAX: u32 = 1_000;

/// The tables, and the seconds that a row of each stands for.
const TABLES: [(&str, i64); 2] = [("usage_minutes", 60), ("usage_hours", 3_600)];

/// The columns behind those of the key, in the order of [`Sums::numbers`].
const SUMS: [&str; 24] = [
    "requests",
    "failovers",
    "cache_hits",
    "unpriced",
    "input_uncached",
    "input_cache_read",
    "input_cache_write_5m",
    "input_cache_write_1h",
    "output",
    "reasoning",
    "audio_in",
    "audio_out",
    "cost_dollars",
    "cost_nanodollars",
    "saved_dollars",
    "saved_nanodollars",
    "total_us",
    "total_us_known",
    "first_token_us",
    "first_token_us_known",
    "overhead_us",
    "overhead_us_known",
    "speed_tokens",
    "speed_us",
];

const HISTOGRAMS: [&str; 3] =
    ["total_us_histogram", "first_token_us_histogram", "overhead_us_histogram"];

/// What of a row is summed, and what it is told apart by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Summed<'a> {
    pub(super) started_at_us: i64,
    /// Numbers of what the row shares with others.
    pub(super) shared: (i64, Option<i64>, Option<i64>),
    pub(super) dialect: &'a str,
    pub(super) status: u16,
    pub(super) outcome: &'a str,
    /// Empty for none.
    pub(super) error_class: &'a str,
    pub(super) tokens: Tokens,
    pub(super) timings: Timings,
    pub(super) cost_nanousd: Option<u64>,
    pub(super) saved_nanousd: u64,
    pub(super) flags: Flags,
}

#[derive(Debug, Clone, Copy, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is counted by itself")]
pub(super) struct Flags {
    pub(super) is_failover: bool,
    pub(super) is_cache_hit: bool,
    pub(super) is_unpriced: bool,
    pub(super) is_stream: bool,
}

/// The sums of one batch.
#[derive(Debug, Default)]
pub(super) struct RollUps([HashMap<Key, Sums>; TABLES.len()]);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    start: i64,
    shared: (i64, i64, i64),
    dialect: Box<str>,
    status: u16,
    outcome: Box<str>,
    error_class: Box<str>,
}

#[derive(Debug, Default)]
struct Sums {
    numbers: [u64; SUMS.len()],
    histograms: [Histogram; HISTOGRAMS.len()],
}

impl RollUps {
    pub(super) fn clear(&mut self) {
        self.0.iter_mut().for_each(HashMap::clear);
    }

    /// Adds a row that the store did not have.
    pub(super) fn add(&mut self, row: &Summed<'_>) {
        let second = row.started_at_us.div_euclid(US_PER_S);
        for (sums, (_, width)) in self.0.iter_mut().zip(TABLES) {
            let start = second.div_euclid(width) * width;
            sums.entry(Key::of(row, start)).or_default().add(row);
        }
    }

    /// Adds all of it to the tables.
    pub(super) fn write(&mut self, to: &Transaction<'_>) -> rusqlite::Result<()> {
        for (sums, (table, _)) in self.0.iter_mut().zip(TABLES) {
            if sums.is_empty() {
                continue;
            }
            let mut upsert = to.prepare_cached(&upsert(table))?;
            for (key, sums) in sums.drain() {
                key.bind(&mut upsert)?;
                for (index, number) in (9..).zip(sums.numbers) {
                    upsert.raw_bind_parameter(index, int(number))?;
                }
                for (index, histogram) in (9 + SUMS.len()..).zip(&sums.histograms) {
                    upsert.raw_bind_parameter(index, histogram.encode())?;
                }
                upsert.raw_execute()?;
            }
        }
        Ok(())
    }
}

impl Key {
    fn of(row: &Summed<'_>, start: i64) -> Self {
        let (caller, deployment, target) = row.shared;
        Self {
            start,
            shared: (caller, deployment.unwrap_or(0), target.unwrap_or(0)),
            dialect: row.dialect.into(),
            status: row.status,
            outcome: row.outcome.into(),
            error_class: row.error_class.into(),
        }
    }

    fn bind(&self, to: &mut rusqlite::Statement<'_>) -> rusqlite::Result<()> {
        let (caller, deployment, target) = self.shared;
        let numbers = [self.start, caller, deployment, target];
        for (index, number) in (1..).zip(numbers) {
            to.raw_bind_parameter(index, number)?;
        }
        to.raw_bind_parameter(5, &*self.dialect)?;
        to.raw_bind_parameter(6, self.status)?;
        to.raw_bind_parameter(7, &*self.outcome)?;
        to.raw_bind_parameter(8, &*self.error_class)
    }
}

impl Sums {
    fn add(&mut self, row: &Summed<'_>) {
        let Summed { tokens, timings, flags, .. } = row;
        let output =
            tokens.output.map(|output| output.saturating_add(tokens.reasoning.unwrap_or(0)));
        let spent_us = timings.first_token_us.and_then(|first| timings.total_us.checked_sub(first));
        let speed = spent_us.zip(output).filter(|(us, _)| flags.is_stream && *us > 0);
        let (spent_us, output) = speed.unwrap_or_default();
        let (cost, first_token) = (row.cost_nanousd.unwrap_or(0), timings.first_token_us);
        let numbers = [
            1,
            flags.is_failover.into(),
            flags.is_cache_hit.into(),
            flags.is_unpriced.into(),
            tokens.input_uncached.unwrap_or(0),
            tokens.input_cache_read.unwrap_or(0),
            tokens.input_cache_write_5m.unwrap_or(0),
            tokens.input_cache_write_1h.unwrap_or(0),
            tokens.output.unwrap_or(0),
            tokens.reasoning.unwrap_or(0),
            tokens.audio_in.unwrap_or(0),
            tokens.audio_out.unwrap_or(0),
            cost / NANO,
            cost % NANO,
            row.saved_nanousd / NANO,
            row.saved_nanousd % NANO,
            timings.total_us,
            1,
            first_token.unwrap_or(0),
            first_token.is_some().into(),
            timings.overhead_us,
            1,
            output,
            spent_us,
        ];
        for (sum, number) in self.numbers.iter_mut().zip(numbers) {
            *sum = sum.saturating_add(number);
        }
        let times = [Some(timings.total_us), first_token, Some(timings.overhead_us)];
        for (histogram, time) in self.histograms.iter_mut().zip(times) {
            if let Some(time) = time {
                histogram.add(time);
            }
        }
    }
}

/// The sum of what is there and what comes; no sum may leave the numbers of `SQLite`.
fn upsert(table: &str) -> String {
    let placeholders = vec!["?"; 8 + SUMS.len() + HISTOGRAMS.len()].join(", ");
    let sums = SUMS
        .iter()
        .map(|name| format!("{name} = CAST(min({name} + excluded.{name}, 9e18) AS INTEGER)"));
    let histograms = HISTOGRAMS
        .iter()
        .map(|name| format!("{name} = histogram_merge({table}.{name}, excluded.{name})"));
    let set: Vec<String> = sums.chain(histograms).collect();
    format!(
        "INSERT INTO {table} VALUES ({placeholders}) ON CONFLICT DO UPDATE SET {}",
        set.join(", ")
    )
}

/// Deletes some of what is too old; says whether there may be more.
pub(super) fn prune(to: &Transaction<'_>, now_us: i64) -> rusqlite::Result<bool> {
    let before = now_us.div_euclid(US_PER_S) - KEPT_DAYS * S_PER_DAY;
    let mut has_more = false;
    for (table, _) in TABLES {
        let mut delete = to.prepare_cached(&format!(
            "DELETE FROM {table} WHERE
                (start, caller, deployment, target, dialect, status, outcome, error_class) IN
                (SELECT start, caller, deployment, target, dialect, status, outcome, error_class
                 FROM {table} WHERE start < ? LIMIT ?)"
        ))?;
        let n_deleted = delete.execute(params_from_iter([before, PRUNE_ROWS_MAX.into()]))?;
        has_more |= n_deleted >= PRUNE_ROWS_MAX as usize;
    }
    Ok(has_more)
}
