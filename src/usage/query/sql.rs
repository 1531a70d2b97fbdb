//! A checked question as SQL.
//!
//! The text is put together from words that stand in this file alone; whatever a client wrote is a
//! bound parameter.

use std::net::IpAddr;

use uuid::Uuid;

use super::ask::Query;
use super::dimension::{Column, Dimension, Filter, Kind};
use super::metric::{Measure, Money, Timing};
use super::period::{Granularity, Range};

/// Whose SQL, and where the rows are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// Rows of `SQLite`.
    Rows,
    /// The same with every column, for rows one by one.
    View,
    /// Roll-ups of `SQLite`.
    Minutes,
    Hours,
    /// Rows of `ClickHouse`.
    ClickHouse,
    /// Roll-ups of `ClickHouse`.
    ClickHouseHours,
}

/// A value that is bound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Param {
    Text(String),
    Int(i64),
    Id(Uuid),
    Ip(IpAddr),
    /// The id of a request, as the store has it.
    Request(Uuid),
}

/// What the asker may see; `None` is everything.
pub type Visible = Option<Vec<Extent>>;

/// The rows of a workspace, or of some of its environments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extent {
    pub workspace: Uuid,
    /// `None` is all of them.
    pub environments: Option<Vec<Uuid>>,
}

impl Extent {
    pub const fn whole(workspace: Uuid) -> Self {
        Self { workspace, environments: None }
    }

    pub fn covers(&self, workspace: Uuid, environment: Uuid) -> bool {
        let has = |list: &Vec<Uuid>| list.contains(&environment);
        self.workspace == workspace && self.environments.as_ref().is_none_or(has)
    }
}

/// SQL on its way.
#[derive(Debug, Clone)]
pub(crate) struct Statement {
    pub(crate) sql: String,
    pub(crate) params: Vec<Param>,
    source: Source,
}

/// What ended without an answer of its own or with an error of it; a client that left is neither.
const IS_ERROR: &str = "r.outcome NOT IN ('success', 'cache_hit', 'client_closed')";
/// Only streams have a first token that is worth a speed.
const HAS_SPEED: &str = "r.stream AND r.first_token_us IS NOT NULL AND r.output IS NOT NULL \
    AND r.total_us > r.first_token_us";
const SQLITE_JOINS: &str = " AS r JOIN callers AS c ON c.id = r.caller \
    LEFT JOIN deployments AS d ON d.id = r.deployment LEFT JOIN targets AS t ON t.id = r.target";

impl Source {
    const fn is_clickhouse(self) -> bool {
        matches!(self, Self::ClickHouse | Self::ClickHouseHours)
    }

    const fn is_roll_up(self) -> bool {
        matches!(self, Self::Minutes | Self::Hours | Self::ClickHouseHours)
    }

    pub(crate) const fn unit_s(self) -> Option<i64> {
        match self {
            Self::Minutes => Some(60),
            Self::Hours | Self::ClickHouseHours => Some(3_600),
            Self::Rows | Self::View | Self::ClickHouse => None,
        }
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Minutes => "minutes",
            Self::Hours | Self::ClickHouseHours => "hours",
            Self::Rows | Self::View | Self::ClickHouse => "rows",
        }
    }

    const fn table(self) -> &'static str {
        match self {
            Self::Rows => "request_rows",
            Self::View => "requests",
            Self::Minutes => "usage_minutes",
            Self::Hours => "usage_hours",
            Self::ClickHouse => "usage",
            Self::ClickHouseHours => "usage_workspace_hour",
        }
    }

    /// Seconds since 1970.
    const fn second(self) -> &'static str {
        match self {
            Self::Rows | Self::View => "r.started_at / 1000000",
            Self::Minutes | Self::Hours => "r.start",
            Self::ClickHouse => "intDiv(toUnixTimestamp64Micro(r.started_at), 1000000)",
            Self::ClickHouseHours => "toInt64(toUnixTimestamp(r.hour))",
        }
    }

    /// When a row began, or the hours or minutes that it stands for.
    const fn time(self) -> &'static str {
        match self {
            Self::Rows | Self::View | Self::ClickHouse => "r.started_at",
            Self::Minutes | Self::Hours => "r.start",
            Self::ClickHouseHours => "r.hour",
        }
    }
}

/// One row of the answer for each group and bucket: the bucket (seconds) if `granularity` has any,
/// the columns of the dimensions, the measures.
pub(crate) fn groups(
    query: &Query,
    measures: &[Measure],
    (source, granularity): (Source, Granularity),
    visible: &Visible,
    only: Option<&Groups<'_>>,
) -> Statement {
    let mut to = Statement::new(source);
    to.sql += "SELECT ";
    let mut n_keys = 0;
    if granularity != Granularity::Total {
        to.sql += &bucket(source, granularity);
        n_keys += 1;
    }
    for column in query.dimensions.iter().flat_map(Dimension::columns) {
        to.comma(n_keys);
        to.column(column);
        n_keys += 1;
    }
    for (index, measure) in measures.iter().enumerate() {
        to.comma(n_keys + index);
        to.sql += &expression(source, *measure);
    }
    to.from();
    to.within(query.range);
    to.seen_by(visible);
    query.filters.iter().for_each(|filter| to.filter(filter));
    if let Some(only) = only {
        to.only(only);
    }
    if n_keys > 0 {
        let keys: Vec<String> = (1..=n_keys).map(|key| key.to_string()).collect();
        to.sql += &format!(" GROUP BY {}", keys.join(", "));
    }
    to
}

/// Groups by the texts of their columns as the store wrote them.
pub(crate) struct Groups<'a> {
    pub(crate) dimensions: &'a [Dimension],
    pub(crate) cells: Vec<Vec<String>>,
}

fn bucket(source: Source, granularity: Granularity) -> String {
    let second = source.second();
    let floor = |origin: i64, width: i64| {
        let (open, close) = if source.is_clickhouse() { ("intDiv(", ", ") } else { ("((", ") / ") };
        format!("{open}{second} - {origin}{close}{width}) * {width} + {origin}")
    };
    match granularity {
        Granularity::Fixed(width) => floor(0, width),
        Granularity::Week => floor(345_600, 604_800),
        Granularity::Month if source.is_clickhouse() => {
            format!("toUnixTimestamp(toDateTime(toStartOfMonth({}), 'UTC'))", source.time())
        }
        Granularity::Month => format!("unixepoch({second}, 'unixepoch', 'start of month')"),
        Granularity::Total => "0".to_owned(),
    }
}

/// What a measure is in SQL; NULL only for percentiles of nothing.
fn expression(source: Source, measure: Measure) -> String {
    if let Measure::Quantiles(timing) = measure {
        return quantiles(source, timing);
    }
    let term = match source {
        Source::ClickHouseHours => clickhouse_hour(measure),
        _ if source.is_roll_up() => rolled_up(measure),
        _ => of_row(source, measure),
    };
    format!("coalesce(sum({term}), 0)")
}

fn quantiles(source: Source, timing: Timing) -> String {
    let levels = "(0.5, 0.9, 0.95, 0.99)";
    let column = timing.column();
    let rounded =
        |digests: &str| format!("arrayMap(x -> if(isFinite(x), toUInt64(round(x)), 0), {digests})");
    match source {
        Source::Rows | Source::View => format!("quantiles(r.{column})"),
        Source::Minutes | Source::Hours => format!("histogram_quantiles(r.{column}_histogram)"),
        Source::ClickHouse => format!("quantilesExact{levels}(r.{column})"),
        Source::ClickHouseHours => {
            let digest = match timing {
                Timing::Latency => "latency_digest",
                Timing::Ttft => "first_token_digest",
                Timing::Overhead => "overhead_digest",
            };
            rounded(&format!("quantilesTDigestMerge{levels}(r.{digest})"))
        }
    }
}

/// Sums of `usage_workspace_hour`, which has names of its own.
fn clickhouse_hour(measure: Measure) -> String {
    let counted = |column: &str| format!("r.{column}");
    match measure {
        Measure::Dollars(money) => format!("intDiv(r.{}, 1000000000)", money.column()),
        Measure::NanoDollars(money) => format!("r.{} % 1000000000", money.column()),
        Measure::Timed(Timing::Ttft) => counted("first_tokens"),
        Measure::Timed(_) => counted("requests"),
        Measure::Unpriced => {
            "CASE WHEN r.model != '' THEN r.requests - r.priced ELSE 0 END".to_owned()
        }
        _ => rolled_up(measure),
    }
}

fn of_row(source: Source, measure: Measure) -> String {
    let divided = |money: Money| {
        let column = money.column();
        match source {
            Source::ClickHouse => format!("intDiv(r.{column}, 1000000000)"),
            _ => format!("r.{column} / 1000000000"),
        }
    };
    match measure {
        Measure::Requests => "1".to_owned(),
        Measure::Errors => IS_ERROR.to_owned(),
        Measure::Failovers if source.is_clickhouse() => {
            "length(arrayDistinct(r.`attempts.target_id`)) > 1".to_owned()
        }
        Measure::Failovers => "(SELECT count(DISTINCT a.value ->> 0) > 1 \
            FROM json_each(coalesce(r.attempts, '[]')) AS a)"
            .to_owned(),
        Measure::CacheHits => "r.cache = 'hit'".to_owned(),
        Measure::Unpriced if source.is_clickhouse() => {
            "r.target_id IS NOT NULL AND NOT r.priced".to_owned()
        }
        Measure::Unpriced => "r.target IS NOT NULL AND r.cost_nanousd IS NULL \
            AND r.price_version IS NULL"
            .to_owned(),
        Measure::Tokens(kind) => format!("r.{}", kind.column()),
        Measure::Dollars(money) => divided(money),
        Measure::NanoDollars(money) => format!("r.{} % 1000000000", money.column()),
        Measure::Micros(timing) => format!("r.{}", timing.column()),
        Measure::Timed(timing) => format!("r.{} IS NOT NULL", timing.column()),
        Measure::SpeedTokens => speed("r.output + coalesce(r.reasoning, 0)"),
        Measure::SpeedMicros => speed("r.total_us - r.first_token_us"),
        Measure::Quantiles(_) => String::new(),
    }
}

fn speed(term: &str) -> String {
    format!("CASE WHEN {HAS_SPEED} THEN {term} ELSE 0 END")
}

/// The same of a row of a roll-up, which stands for many.
fn rolled_up(measure: Measure) -> String {
    let sum: &str = match measure {
        Measure::Errors => return format!("CASE WHEN {IS_ERROR} THEN r.requests ELSE 0 END"),
        Measure::Requests => "requests",
        Measure::Failovers => "failovers",
        Measure::CacheHits => "cache_hits",
        Measure::Unpriced => "unpriced",
        Measure::Tokens(kind) => kind.column(),
        Measure::Dollars(Money::Cost) => "cost_dollars",
        Measure::NanoDollars(Money::Cost) => "cost_nanodollars",
        Measure::Dollars(Money::Saved) => "saved_dollars",
        Measure::NanoDollars(Money::Saved) => "saved_nanodollars",
        Measure::Micros(timing) => timing.column(),
        Measure::Timed(timing) => return format!("r.{}_known", timing.column()),
        Measure::SpeedTokens => "speed_tokens",
        Measure::SpeedMicros => "speed_us",
        Measure::Quantiles(_) => "",
    };
    format!("r.{sum}")
}

// === impl Statement ===

impl Statement {
    pub(crate) fn new(source: Source) -> Self {
        Self { sql: String::with_capacity(1_024), params: Vec::new(), source }
    }

    fn comma(&mut self, n_before: usize) {
        if n_before > 0 {
            self.sql += ", ";
        }
    }

    /// A placeholder for `param`.
    pub(crate) fn bind(&mut self, param: Param) {
        let number = self.params.len() + 1;
        if self.source.is_clickhouse() {
            let kind = match &param {
                Param::Text(_) => "String",
                Param::Int(_) => "Int64",
                Param::Id(_) | Param::Request(_) => "UUID",
                Param::Ip(_) => "IPv6",
            };
            self.sql += &format!("{{p{number}:{kind}}}");
        } else {
            self.sql += &format!("?{number}");
        }
        self.params.push(param);
    }

    fn bind_all(&mut self, params: impl IntoIterator<Item = Param>) {
        for (index, param) in params.into_iter().enumerate() {
            self.comma(index);
            self.bind(param);
        }
    }

    pub(crate) fn from(&mut self) {
        self.sql += " FROM ";
        self.sql += self.source.table();
        self.sql += match self.source {
            Source::Rows | Source::Minutes | Source::Hours => SQLITE_JOINS,
            _ => " AS r",
        };
    }

    /// The column as the store has it.
    fn column(&mut self, column: Column<'_>) {
        let Column { name, kind } = column;
        match (kind, self.source.is_clickhouse()) {
            (Kind::Metadata, true) => {
                self.sql += "r.metadata[";
                self.bind(Param::Text(name.to_owned()));
                self.sql += "]";
            }
            (Kind::Metadata, false) => {
                self.sql += "coalesce(r.metadata ->> ";
                self.bind(Param::Text(format!("$.\"{name}\"")));
                self.sql += ", '')";
            }
            (_, true) => self.sql += &format!("r.{name}"),
            (_, false) if self.source == Source::View => self.sql += &format!("r.{name}"),
            (_, false) => {
                let table = match name.trim_end_matches("_id") {
                    "workspace" | "environment" | "key" => "c",
                    "deployment" => "d",
                    "target" | "model" | "provider" | "connection" => "t",
                    _ => "r",
                };
                self.sql += &format!("{table}.{name}");
            }
        }
    }

    /// The column as a text, never NULL.
    fn text_of(&mut self, column: Column<'_>) {
        let (open, close) = if self.source.is_clickhouse() {
            ("ifNull(toString(", "), '')")
        } else {
            ("coalesce(CAST(", " AS TEXT), '')")
        };
        self.sql += open;
        self.column(column);
        self.sql += close;
    }

    pub(crate) fn within(&mut self, range: Range) {
        let column = self.source.time();
        let unit = if column == "r.start" { 1_000_000 } else { 1 };
        self.sql += &format!(" WHERE {column} >= ");
        self.bind_time(range.from_us / unit);
        self.sql += &format!(" AND {column} < ");
        self.bind_time(range.to_us / unit);
    }

    pub(crate) fn bind_time(&mut self, time: i64) {
        if self.source.is_clickhouse() {
            self.sql += "fromUnixTimestamp64Micro(";
            self.bind(Param::Int(time));
            self.sql += ", 'UTC')";
        } else {
            self.bind(Param::Int(time));
        }
    }

    pub(crate) fn seen_by(&mut self, visible: &Visible) {
        let Some(extents) = visible else { return };
        let is_narrow = |it: &&Extent| it.environments.is_some();
        let whole: Vec<Uuid> =
            extents.iter().filter(|it| !is_narrow(it)).map(|it| it.workspace).collect();
        self.sql += " AND (";
        self.one_of_ids("workspace_id", &whole);
        for extent in extents.iter().filter(is_narrow) {
            self.sql += " OR (";
            self.one_of_ids("workspace_id", &[extent.workspace]);
            self.sql += " AND ";
            self.one_of_ids("environment_id", extent.environments.as_deref().unwrap_or_default());
            self.sql += ")";
        }
        self.sql += ")";
    }

    fn one_of_ids(&mut self, name: &str, ids: &[Uuid]) {
        if ids.is_empty() {
            self.sql += "1 = 0";
            return;
        }
        self.column(Column { name, kind: Kind::Id });
        self.sql += " IN (";
        self.bind_all(ids.iter().copied().map(Param::Id));
        self.sql += ")";
    }

    /// `coalesce`, because a comparison with NULL is neither true nor false in `SQLite`.
    pub(crate) fn filter(&mut self, filter: &Filter) {
        self.sql += if filter.is_negated { " AND coalesce((1 = 0" } else { " AND (1 = 0" };
        for column in filter.dimension.columns() {
            self.filter_column(column, &filter.values);
        }
        self.sql += if filter.is_negated { "), 0) = 0" } else { ")" };
    }

    fn filter_column(&mut self, column: Column<'_>, values: &[Option<String>]) {
        let param = |text: &String| match column.kind {
            Kind::Text | Kind::Metadata => Some(Param::Text(text.clone())),
            Kind::Id => Uuid::parse_str(text).ok().map(Param::Id),
            Kind::Number => text.parse().ok().map(Param::Int),
            Kind::Ip => text.parse().ok().map(Param::Ip),
        };
        let params: Vec<Param> = values.iter().flatten().filter_map(param).collect();
        if !params.is_empty() {
            self.sql += " OR ";
            self.column(column);
            self.sql += " IN (";
            self.bind_all(params);
            self.sql += ")";
        }
        if values.contains(&None) {
            let (open, close) = match (column.kind, self.source.is_clickhouse()) {
                (Kind::Ip, true) => ("", " = toIPv6('::')"),
                (Kind::Text, true) => ("", " = ''"),
                (Kind::Text | Kind::Metadata, _) => ("coalesce(", ", '') = ''"),
                _ => ("", " IS NULL"),
            };
            self.sql += " OR ";
            self.sql += open;
            self.column(column);
            self.sql += close;
        }
    }

    fn only(&mut self, groups: &Groups<'_>) {
        let columns: Vec<_> = groups.dimensions.iter().flat_map(Dimension::columns).collect();
        self.sql += " AND (";
        for (index, column) in columns.iter().enumerate() {
            self.comma(index);
            self.text_of(*column);
        }
        self.sql += if self.source.is_clickhouse() { ") IN (" } else { ") IN (VALUES " };
        let is_tuple = columns.len() > 1 || !self.source.is_clickhouse();
        for (index, cells) in groups.cells.iter().enumerate() {
            self.comma(index);
            self.sql += if is_tuple { "(" } else { "" };
            self.bind_all(cells.iter().cloned().map(Param::Text));
            self.sql += if is_tuple { ")" } else { "" };
        }
        self.sql += ")";
    }
}

// === rows one by one ===

impl Statement {
    /// Every column; of ClickHouse, times as numbers on top.
    pub(crate) fn select_rows(&mut self) {
        self.sql += if self.source.is_clickhouse() {
            "SELECT *, toUnixTimestamp64Micro(r.started_at) AS started_at_us"
        } else {
            "SELECT *"
        };
        self.from();
    }

    /// The text by which requests of one microsecond are ordered.
    const fn request_id(&self) -> &'static str {
        if self.source.is_clickhouse() { "toString(r.request_id)" } else { "r.request_id" }
    }

    pub(crate) fn one_of(&mut self, ids: &[Uuid]) {
        if ids.is_empty() {
            return;
        }
        let column = if self.source.is_clickhouse() { "request_id" } else { "request_key" };
        self.sql += &format!(" AND r.{column} IN (");
        self.bind_all(ids.iter().copied().map(Param::Request));
        self.sql += ")";
    }

    /// Rows that come after the last of a page.
    pub(crate) fn after(&mut self, started_at_us: i64, request_id: Uuid) {
        self.sql += " AND r.started_at <= ";
        self.bind_time(started_at_us);
        self.sql += " AND (r.started_at < ";
        self.bind_time(started_at_us);
        self.sql += &format!(" OR {} < ", self.request_id());
        self.bind(Param::Text(request_id.to_string()));
        self.sql += ")";
    }

    pub(crate) fn newest_first(&mut self) {
        let by = if self.source.is_clickhouse() { self.request_id() } else { "r.request_key" };
        self.sql += &format!(" ORDER BY r.started_at DESC, {by} DESC");
    }
}
