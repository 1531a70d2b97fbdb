//! Rows one by one: which of them, in which order, from where on.

use uuid::Uuid;

use super::ask::{QueryError, check_range, check_value, error, read_time};
use super::dimension::{Dimension, Filter};
use super::period::Range;
use super::sql::{Param, Source, Statement, Visible};

const PAGE_ROWS_DEFAULT: usize = 50;
const PAGE_ROWS_MAX: usize = 1_000;
/// Values of one parameter, and ids of one page.
const VALUES_MAX: usize = 100;
/// Later than any row.
const END_US: i64 = 1 << 52;

/// Which rows, newest first.
#[derive(Debug, Clone)]
pub struct RowQuery {
    range: Range,
    filters: Vec<Filter>,
    ids: Vec<Uuid>,
    pub(super) after: Option<Cursor>,
    /// Rows of a page; an export has no pages.
    pub limit: usize,
}

/// The last row of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cursor {
    pub(crate) started_at_us: i64,
    pub(crate) request_id: Uuid,
}

impl RowQuery {
    /// One request.
    pub fn of_id(id: Uuid) -> Self {
        let range = Range { from_us: 0, to_us: END_US };
        Self { range, filters: Vec::new(), ids: vec![id], after: None, limit: 1 }
    }

    /// Reads the parameters of a query string. A dimension may come several times: one of its values
    /// is enough. An empty value stands for requests without.
    pub fn read(pairs: impl Iterator<Item = (String, String)>) -> Result<Self, QueryError> {
        let mut query = Self {
            range: Range { from_us: 0, to_us: END_US },
            filters: Vec::new(),
            ids: Vec::new(),
            after: None,
            limit: PAGE_ROWS_DEFAULT,
        };
        for (name, value) in pairs {
            match name.as_str() {
                "from" => query.range.from_us = read_time(Some(&value), "from")?,
                "to" => query.range.to_us = read_time(Some(&value), "to")?,
                "limit" => query.limit = read_limit(&value)?,
                "cursor" => query.after = Some(Cursor::read(&value)?),
                "request_id" => query.ids.push(read_id(&value)?),
                _ => query.add(&name, value)?,
            }
        }
        if query.ids.len() > VALUES_MAX {
            return error("request_id", format!("may come {VALUES_MAX} times"));
        }
        check_range(query.range, "to")?;
        Ok(query)
    }

    fn add(&mut self, name: &str, value: String) -> Result<(), QueryError> {
        let Some(dimension) = Dimension::of_name(name) else {
            let name: String = name.chars().take(60).collect();
            return error(name, "is not known; docs/usage-api.md lists all parameters");
        };
        let value = (!value.is_empty()).then_some(value);
        if let Some(text) = &value {
            check_value(text, &dimension, name)?;
        }
        let known = self.filters.iter_mut().find(|filter| filter.dimension == dimension);
        match known {
            Some(filter) if filter.values.len() >= VALUES_MAX => {
                return error(name, format!("may come {VALUES_MAX} times"));
            }
            Some(filter) => filter.values.push(value),
            None => {
                self.filters.push(Filter { dimension, values: vec![value], is_negated: false });
            }
        }
        Ok(())
    }

    /// One row more than the page has, to see whether there is another page.
    pub(crate) fn page(&self, source: Source, visible: &Visible) -> Statement {
        let mut to = self.rows(source, visible);
        to.sql += " LIMIT ";
        to.bind(Param::Int(i64::try_from(self.limit + 1).unwrap_or(i64::MAX)));
        to
    }

    /// All rows that are asked for.
    pub(crate) fn rows(&self, source: Source, visible: &Visible) -> Statement {
        let mut to = Statement::new(source);
        to.select_rows();
        to.within(self.range);
        to.seen_by(visible);
        self.filters.iter().for_each(|filter| to.filter(filter));
        to.one_of(&self.ids);
        if let Some(after) = self.after {
            to.after(after.started_at_us, after.request_id);
        }
        to.newest_first();
        to
    }
}

/// The bodies of one request, whose row the asker may see: it says whose it is.
pub(crate) fn payload_of(source: Source, of: Cursor, workspace: Uuid) -> Statement {
    let mut to = Statement::new(source);
    to.sql += "SELECT request_type, request_body, request_bytes, response_type, response_body, \
        response_bytes FROM payloads AS r WHERE r.workspace_id = ";
    to.bind(Param::Id(workspace));
    to.sql += " AND r.started_at = ";
    to.bind_time(of.started_at_us);
    to.one_of(&[of.request_id]);
    to.sql += " LIMIT 1";
    to
}

impl RowQuery {
    /// The rows behind `after`, at most `limit` of them.
    #[must_use]
    pub(crate) fn behind(&self, after: Option<Cursor>, limit: usize) -> Self {
        Self { after, limit, ..self.clone() }
    }

    /// The last part of the range, so long; `None` when that is all of it.
    pub(crate) fn last_part(&self, len_us: i64, now_us: i64) -> Option<Self> {
        let end_us = self.after.map_or(i64::MAX, |cursor| cursor.started_at_us + 1);
        let end_us = end_us.min(self.range.to_us).min(now_us);
        let from_us = end_us.saturating_sub(len_us);
        (from_us > self.range.from_us).then(|| {
            let range = Range { from_us, to_us: self.range.to_us };
            Self { range, ..self.clone() }
        })
    }
}

impl Cursor {
    /// Microseconds and id: whoever changes it gets other rows of those they may see.
    pub(crate) fn show(self) -> String {
        format!("{:x}-{}", self.started_at_us, self.request_id.as_simple())
    }

    fn read(text: &str) -> Result<Self, QueryError> {
        let parts = text.split_once('-').and_then(|(time, id)| {
            let started_at_us = i64::from_str_radix(time, 16).ok()?;
            Some(Self { started_at_us, request_id: Uuid::parse_str(id).ok()? })
        });
        match parts.filter(|cursor| (0..END_US).contains(&cursor.started_at_us)) {
            Some(cursor) => Ok(cursor),
            None => error("cursor", "must be the `next_cursor` of an answer"),
        }
    }
}

fn read_limit(text: &str) -> Result<usize, QueryError> {
    match text.parse().ok().filter(|limit| (1..=PAGE_ROWS_MAX).contains(limit)) {
        Some(limit) => Ok(limit),
        None => error("limit", format!("must be a number from 1 to {PAGE_ROWS_MAX}")),
    }
}

fn read_id(text: &str) -> Result<Uuid, QueryError> {
    Uuid::parse_str(text).or_else(|_| error("request_id", "must be the id of a request"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<RowQuery, QueryError> {
        let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
        RowQuery::read(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())))
    }

    #[test]
    fn parameters_are_read() {
        let id = "01890000-0000-7000-8000-000000000000";
        let query = read(&format!(
            "from=2026-07-25T00:00:00Z&model=a&model=b&key=&status=429&request_id={id}&limit=7"
        ))
        .unwrap();
        assert_eq!(query.filters.len(), 3);
        assert_eq!(query.filters[0].values.len(), 2);
        assert_eq!(query.filters[1].values, [None]);
        assert_eq!((query.limit, query.ids.len()), (7, 1));
    }

    #[test]
    fn wrong_parameter_is_named() {
        for (text, field) in [
            ("from=today", "from"),
            ("from=2026-07-25T00:00:00Z&to=2026-07-25T00:00:00Z", "to"),
            ("limit=0", "limit"),
            ("limit=ten", "limit"),
            ("limits=10", "limits"),
            ("cursor=x", "cursor"),
            ("cursor=-1-00000000000000000000000000000000", "cursor"),
            ("request_id=7", "request_id"),
            ("status=2xx", "status"),
            ("source_ip=x", "source_ip"),
            ("metadata.A=x", "metadata.A"),
        ] {
            assert_eq!(read(text).unwrap_err().field, field, "{text}");
        }
    }

    #[test]
    fn cursor_goes_through_its_text() {
        let cursor = Cursor { started_at_us: 1_785_000_000_123_456, request_id: Uuid::max() };
        assert_eq!(Cursor::read(&cursor.show()).unwrap(), cursor);
    }
}
