//! The stores, read.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::sync::Semaphore;
use uuid::Uuid;

use super::answer::{Cells, Plan};
use super::ask::{Query, QueryError};
use super::clickhouse::Servers;
use super::export::Format;
use super::requests::{self, Cursor, RowQuery};
use super::row::{self, Shown};
use super::sql::{Extent, Source, Statement, Visible};
use crate::usage::store::{Cancel, Reader, StoreError};

/// Reads at once; more wait for their turn.
const READS_MAX: usize = 8;
/// Groups that a store may find for one question.
const GROUPS_MAX: usize = 200_000;
/// Percentiles of longer ranges come from roll-ups. An hour on top for those who ask for "a day" of
/// whole hours.
const EXACT_RANGE_US: i64 = 25 * 3_600 * 1_000_000;

/// The store that `usage.url` names, for reading.
#[derive(Debug, Clone)]
pub enum Reading {
    Sqlite(SqliteReading),
    ClickHouse(ClickHouseReading),
}

#[derive(Debug, Clone)]
pub struct ClickHouseReading {
    servers: Servers,
    rows_kept: RowsKept,
    places: Arc<Semaphore>,
}

#[derive(Debug, Clone)]
pub struct SqliteReading {
    path: PathBuf,
    rows_kept: RowsKept,
    places: Arc<Semaphore>,
}

/// How long the rows of workspaces that are visible are there, each and every one; what is older is
/// in the roll-ups alone. `None` is for good.
#[derive(Clone)]
pub struct RowsKept(Arc<KeptOf>);

type KeptOf = dyn Fn(&Visible) -> Option<Duration> + Send + Sync;

impl RowsKept {
    pub fn new(kept: impl Fn(&Visible) -> Option<Duration> + Send + Sync + 'static) -> Self {
        Self(Arc::new(kept))
    }

    pub fn forever() -> Self {
        Self::new(|_| None)
    }
}

impl std::fmt::Debug for RowsKept {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("RowsKept")
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error(transparent)]
    Query(#[from] QueryError),
    #[error("the usage store is unavailable: {0}")]
    Unavailable(String),
}

impl From<StoreError> for ReadError {
    fn from(error: StoreError) -> Self {
        let error: &dyn std::error::Error = &error;
        let source = error.source().map_or_else(String::new, |source| format!(": {source}"));
        Self::Unavailable(format!("{error}{source}"))
    }
}

/// One page of rows.
#[derive(Debug)]
pub struct Page {
    pub rows: Vec<Value>,
    pub next_cursor: Option<String>,
}

impl Reading {
    pub fn sqlite(path: PathBuf, rows_kept: RowsKept) -> Self {
        Self::Sqlite(SqliteReading { path, rows_kept, places: Arc::new(Semaphore::new(READS_MAX)) })
    }

    pub fn clickhouse(servers: Servers, rows_kept: RowsKept) -> Self {
        let places = Arc::new(Semaphore::new(READS_MAX));
        Self::ClickHouse(ClickHouseReading { servers, rows_kept, places })
    }

    /// The answer to `query` over what is `visible`.
    pub async fn usage(
        &self,
        query: Query,
        visible: Visible,
        now_us: i64,
    ) -> Result<Value, ReadError> {
        let source = self.source(&query, &visible, now_us);
        let plan = Plan::new(query, source, visible);
        let totals = self.cells(plan.totals(), GROUPS_MAX).await?;
        let ranked = plan.rank(totals);
        let buckets = match plan.buckets(&ranked)? {
            None => None,
            Some(statement) => Some(self.cells(statement, usize::MAX).await?),
        };
        Ok(plan.answer(&ranked, buckets))
    }

    /// Rows while they are there and percentiles can be exact, else roll-ups, if they can answer: the
    /// sums of both are the same.
    fn source(&self, query: &Query, visible: &Visible, now_us: i64) -> Source {
        let (rows_kept, is_clickhouse) = match self {
            Self::Sqlite(sqlite) => (&sqlite.rows_kept, false),
            Self::ClickHouse(clickhouse) => (&clickhouse.rows_kept, true),
        };
        let kept_us = rows_kept.0(visible)
            .map_or(i64::MAX, |kept| i64::try_from(kept.as_micros()).unwrap_or(i64::MAX));
        let is_kept = query.range.from_us >= now_us.saturating_sub(kept_us);
        let is_short = query.range.len_us() <= EXACT_RANGE_US;
        let is_fine = query.granularity.is_fine();
        let reads_rows = !query.is_rolled_up(is_clickhouse) || (is_short && is_kept);
        let has_percentiles = query.metrics.iter().any(|metric| metric.is_percentile());
        match is_clickhouse {
            // Workspaces have no minutes there. Its digests are for when the rows are gone: over few
            // rows a digest is too far off.
            true if reads_rows || is_fine || (is_kept && has_percentiles) => Source::ClickHouse,
            true => Source::ClickHouseHours,
            false if reads_rows => Source::Rows,
            false if is_fine => Source::Minutes,
            false => Source::Hours,
        }
    }

    const fn row_source(&self) -> Source {
        match self {
            Self::Sqlite(_) => Source::View,
            Self::ClickHouse(_) => Source::ClickHouse,
        }
    }

    pub async fn requests(&self, query: RowQuery, visible: Visible) -> Result<Page, ReadError> {
        let statement = query.page(self.row_source(), &visible);
        let mut rows = self.rows(statement).await?;
        let has_more = rows.len() > query.limit;
        rows.truncate(query.limit);
        let last = rows.last().filter(|_| has_more).and_then(|shown| shown.cursor);
        Ok(Page {
            next_cursor: last.map(Cursor::show),
            rows: rows.into_iter().map(|shown| Value::Object(shown.row)).collect(),
        })
    }

    /// One request, with its bodies if they are kept and `payloads` covers it.
    pub async fn request(
        &self,
        id: Uuid,
        visible: Visible,
        payloads: &Visible,
    ) -> Result<Option<Value>, ReadError> {
        let statement = RowQuery::of_id(id).page(self.row_source(), &visible);
        let Some(mut shown) = self.rows(statement).await?.into_iter().next() else {
            return Ok(None);
        };
        let id = |field: &str| {
            let text = shown.row.get(field).and_then(Value::as_str);
            text.and_then(|id| Uuid::parse_str(id).ok())
        };
        let place = id("workspace_id").zip(id("environment_id"));
        let may = |(workspace, environment): &(Uuid, Uuid)| {
            let covers = |extent: &Extent| extent.covers(*workspace, *environment);
            payloads.as_ref().is_none_or(|extents| extents.iter().any(covers))
        };
        if let Some(((workspace, _), at)) = place.filter(may).zip(shown.cursor) {
            let statement = requests::payload_of(self.row_source(), at, workspace);
            let found = self.objects(statement).await?.into_iter().next();
            shown.row.insert("payload".to_owned(), found.map(row::payload).unwrap_or_default());
        }
        Ok(Some(Value::Object(shown.row)))
    }

    async fn rows(&self, statement: Statement) -> Result<Vec<Shown>, ReadError> {
        Ok(self.objects(statement).await?.into_iter().map(row::shown).collect())
    }

    async fn objects(&self, statement: Statement) -> Result<Vec<Map<String, Value>>, ReadError> {
        let sqlite = match self {
            Self::Sqlite(sqlite) => sqlite,
            Self::ClickHouse(clickhouse) => {
                let _place = clickhouse.places.acquire().await.map_err(|_| closed())?;
                return clickhouse.servers.objects(&statement).await;
            }
        };
        let look = move |reader: &Reader, cancel: &Cancel| {
            let mut rows = Vec::new();
            reader.objects(&statement, cancel, &mut |cells: Map<String, Value>| {
                rows.push(cells);
                true
            })?;
            Ok(rows)
        };
        sqlite.read(look).await
    }

    async fn cells(&self, statement: Statement, rows_max: usize) -> Result<Vec<Cells>, ReadError> {
        let rows = match self {
            Self::Sqlite(sqlite) => sqlite.cells(statement, rows_max).await?,
            Self::ClickHouse(clickhouse) => {
                let _place = clickhouse.places.acquire().await.map_err(|_| closed())?;
                clickhouse.servers.cells(&statement, rows_max).await?
            }
        };
        if rows.len() > rows_max {
            let text = format!("find more than {rows_max} groups; filter, or take fewer");
            return Err(QueryError { field: "dimensions".to_owned(), text }.into());
        }
        Ok(rows)
    }
}

fn closed() -> ReadError {
    ReadError::Unavailable("it is closed".to_owned())
}

impl SqliteReading {
    async fn cells(&self, statement: Statement, rows_max: usize) -> Result<Vec<Cells>, ReadError> {
        self.read(move |reader, cancel| {
            let mut rows = Vec::new();
            reader.cells(&statement, cancel, &mut |cells| {
                rows.push(cells);
                rows.len() <= rows_max
            })?;
            Ok(rows)
        })
        .await
    }

    /// Calls `look` where it may block. Whoever no longer waits for the answer ends the statement.
    async fn read<T, F>(&self, look: F) -> Result<T, ReadError>
    where
        T: Send + 'static,
        F: FnOnce(&Reader, &Cancel) -> Result<T, StoreError> + Send + 'static,
    {
        let place = Arc::clone(&self.places).acquire_owned().await.map_err(|_| closed())?;
        let path = self.path.clone();
        let cancel = Cancel::default();
        let guard = cancel.clone().on_drop();
        let looked = tokio::task::spawn_blocking(move || {
            let _place = place; // Kept until it is over, even when nobody waits any more.
            let reader = Reader::open(&path)?;
            look(&reader, &cancel)
        });
        let looked = looked.await.map_err(|_panicked| closed())?;
        guard.defuse();
        Ok(looked?)
    }
}

impl Page {
    pub fn json(self) -> Value {
        json!({ "data": self.rows, "next_cursor": self.next_cursor })
    }
}

/// Rows of one piece of an export.
const EXPORT_ROWS: usize = 1_000;
/// ClickHouse sorts what it reads: it is asked for so much time at once, and for more when there is
/// little in it.
const EXPORT_PART_US: i64 = 3_600 * 1_000_000;

/// All rows that are asked for, piece by piece: no more than one is ever in memory.
#[derive(Debug)]
pub struct Export {
    reading: Reading,
    query: RowQuery,
    visible: Visible,
    format: Format,
    after: Option<Cursor>,
    part_us: i64,
    now_us: i64,
    is_begun: bool,
    is_done: bool,
}

impl Export {
    pub fn new(
        reading: Reading,
        query: RowQuery,
        visible: Visible,
        format: Format,
        now_us: i64,
    ) -> Self {
        let after = query.after;
        let part_us = EXPORT_PART_US;
        Self {
            reading,
            query,
            visible,
            format,
            after,
            part_us,
            now_us,
            is_begun: false,
            is_done: false,
        }
    }

    /// The next piece of the file; `None` at its end.
    pub async fn next(&mut self) -> Result<Option<String>, ReadError> {
        if self.is_done {
            return Ok(None);
        }
        let mut text = if self.is_begun { String::new() } else { self.format.head() };
        self.is_begun = true;
        for shown in self.rows().await? {
            self.after = shown.cursor.or(self.after);
            text += &self.format.line(shown.row);
        }
        Ok(Some(text))
    }

    async fn rows(&mut self) -> Result<Vec<Shown>, ReadError> {
        loop {
            let behind = self.query.behind(self.after, EXPORT_ROWS);
            let part = match &self.reading {
                Reading::Sqlite(_) => None,
                Reading::ClickHouse(_) => behind.last_part(self.part_us, self.now_us),
            };
            let is_all = part.is_none();
            let statement =
                part.as_ref().unwrap_or(&behind).page(self.reading.row_source(), &self.visible);
            let mut rows = self.reading.rows(statement).await?;
            let is_full = rows.len() > EXPORT_ROWS;
            rows.truncate(EXPORT_ROWS);
            if is_full || is_all {
                self.is_done = !is_full;
                return Ok(rows);
            }
            // What is in this part comes again with the next, which is longer.
            self.part_us = self.part_us.saturating_mul(4);
        }
    }
}
