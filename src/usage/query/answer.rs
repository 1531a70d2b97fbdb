//! What the store measured, as the answer to the question.

use std::cmp::Ordering;
use std::collections::HashMap;

use serde_json::{Map, Value, json};

use super::ask::{BUCKETS_MAX, By, Order, Query, QueryError, error};
use super::dimension::Dimension;
use super::metric::Measure;
use super::period::{self, Granularity, Range};
use super::sql::{self, Groups, Source, Statement, Visible};

/// Rows of one answer.
const ANSWER_ROWS_MAX: usize = 100_000;

/// A question on its way to a store: what it measures, and where.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) query: Query,
    source: Source,
    visible: Visible,
    measures: Vec<Measure>,
}

/// The groups of the answer, the first by order first.
#[derive(Debug)]
pub(crate) struct Ranked {
    groups: Vec<Group>,
    n_found: usize,
}

#[derive(Debug)]
struct Group {
    /// The cells of the dimensions as the store wrote them.
    cells: Vec<String>,
    shown: Vec<Value>,
    measured: Vec<Value>,
}

/// One row of a store: as many cells as the statement has columns.
pub(crate) type Cells = Vec<Value>;

impl Plan {
    pub(crate) fn new(mut query: Query, source: Source, visible: Visible) -> Self {
        if let Some(unit_s) = source.unit_s() {
            query.range = query.range.widened(unit_s);
        }
        let mut measures: Vec<Measure> =
            query.metrics.iter().flat_map(|metric| metric.measures()).collect();
        measures.sort_unstable();
        measures.dedup();
        Self { query, source, visible, measures }
    }

    /// Measures each group over the whole range.
    pub(crate) fn totals(&self) -> Statement {
        let at = (self.source, Granularity::Total);
        sql::groups(&self.query, &self.measures, at, &self.visible, None)
    }

    /// Measures each of the ranked groups in each bucket; `None` when there is but one bucket.
    pub(crate) fn buckets(&self, ranked: &Ranked) -> Result<Option<Statement>, QueryError> {
        let query = &self.query;
        if query.granularity == Granularity::Total {
            return Ok(None);
        }
        let n_rows = self.bucket_starts().len() * ranked.groups.len();
        if n_rows > ANSWER_ROWS_MAX {
            let text = format!(
                "lets the answer have {n_rows} rows, and {ANSWER_ROWS_MAX} is the most; take a \
                 lower limit or a wider granularity"
            );
            return error("limit", text);
        }
        let is_cut = ranked.groups.len() < ranked.n_found;
        let only = is_cut.then(|| Groups {
            dimensions: &query.dimensions,
            cells: ranked.groups.iter().map(|group| group.cells.clone()).collect(),
        });
        let at = (self.source, query.granularity);
        Ok(Some(sql::groups(query, &self.measures, at, &self.visible, only.as_ref())))
    }

    pub(crate) fn rank(&self, totals: Vec<Cells>) -> Ranked {
        let query = &self.query;
        let n_found = totals.len();
        let mut groups: Vec<(Value, Group)> = totals
            .into_iter()
            .map(|cells| self.group(cells))
            .map(|group| (self.order_key(&group), group))
            .collect();
        let Order { is_descending, .. } = query.order;
        groups.sort_by(|(left_key, left), (right_key, right)| {
            // What is not known comes last either way.
            let order = match (left_key.is_null(), right_key.is_null()) {
                (false, false) if is_descending => compare(right_key, left_key),
                (false, false) => compare(left_key, right_key),
                (left, right) => left.cmp(&right),
            };
            order.then_with(|| left.cells.cmp(&right.cells))
        });
        groups.truncate(query.limit);
        Ranked { groups: groups.into_iter().map(|(_, group)| group).collect(), n_found }
    }

    fn group(&self, mut cells: Cells) -> Group {
        let n_keys = self.query.dimensions.iter().map(|each| each.columns().len()).sum();
        let measured = cells.split_off(cells.len().min(n_keys));
        let kinds = self.query.dimensions.iter().flat_map(Dimension::columns);
        let shown = kinds.zip(&cells).map(|(column, cell)| column.kind.shown(cell)).collect();
        Group { cells: cells.iter().map(text_of).collect(), shown, measured }
    }

    fn order_key(&self, group: &Group) -> Value {
        match self.query.order.by {
            By::Metric(index) => {
                let metric = self.query.metrics.get(index);
                metric.map_or(Value::Null, |metric| metric.value(&self.finder(&group.measured)))
            }
            By::Dimension(index) => {
                // The name, which stands behind its id.
                let until = self.query.dimensions.iter().take(index + 1);
                let n_cells: usize = until.map(|each| each.columns().len()).sum();
                group.shown.get(n_cells.saturating_sub(1)).cloned().unwrap_or_default()
            }
        }
    }

    fn finder<'a>(&'a self, measured: &'a [Value]) -> impl Fn(Measure) -> Value + 'a {
        move |wanted| {
            let index = self.measures.iter().position(|measure| *measure == wanted);
            index.and_then(|index| measured.get(index)).cloned().unwrap_or_default()
        }
    }

    fn bucket_starts(&self) -> Vec<i64> {
        let Query { range, granularity, .. } = self.query;
        // Widening may have added one.
        granularity.buckets(range, BUCKETS_MAX + 1).unwrap_or_default()
    }

    /// The answer; `buckets` are the store's rows for the statement of [`Self::buckets`].
    pub(crate) fn answer(&self, ranked: &Ranked, buckets: Option<Vec<Cells>>) -> Value {
        let data: Vec<Value> = match buckets {
            None => ranked
                .groups
                .iter()
                .map(|group| Value::Object(self.row(None, group, &group.measured)))
                .collect(),
            Some(rows) => self.bucket_rows(ranked, rows),
        };
        let Range { from_us, to_us } = self.query.range;
        json!({
            "range": { "from": period::show(from_us), "to": period::show(to_us) },
            "granularity": self.query.granularity.name(),
            "source": self.source.name(),
            "groups": ranked.n_found,
            "is_truncated": ranked.groups.len() < ranked.n_found,
            "data": data,
        })
    }

    fn bucket_rows(&self, ranked: &Ranked, rows: Vec<Cells>) -> Vec<Value> {
        let mut found: HashMap<(i64, Vec<String>), Cells> = HashMap::with_capacity(rows.len());
        for mut cells in rows {
            let rest = cells.split_off(cells.len().min(1));
            let second = cells.first().and_then(Value::as_i64).unwrap_or_default();
            let group = self.group(rest);
            found.insert((second, group.cells), group.measured);
        }
        let starts = self.bucket_starts();
        let rows = ranked.groups.iter().flat_map(|group| {
            let found = &found;
            starts.iter().map(move |second| {
                let measured = found.get(&(*second, group.cells.clone()));
                let measured = measured.map_or(&[][..], Vec::as_slice);
                Value::Object(self.row(Some(*second), group, measured))
            })
        });
        rows.collect()
    }

    fn row(&self, second: Option<i64>, group: &Group, measured: &[Value]) -> Map<String, Value> {
        let mut row = Map::new();
        if let Some(second) = second {
            row.insert("time".to_owned(), period::show_second(second).into());
        }
        let fields = self.query.dimensions.iter().flat_map(Dimension::fields);
        row.extend(fields.zip(group.shown.iter().cloned()));
        let find = self.finder(measured);
        let metrics = self.query.metrics.iter();
        row.extend(metrics.map(|metric| (metric.name().to_owned(), metric.value(&find))));
        row
    }
}

/// As `CAST … AS TEXT` and `toString` write it.
fn text_of(cell: &Value) -> String {
    match cell {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn compare(left: &Value, right: &Value) -> Ordering {
    match (left.as_f64(), right.as_f64()) {
        (Some(left), Some(right)) => left.total_cmp(&right),
        _ => text_of(left).cmp(&text_of(right)),
    }
}
