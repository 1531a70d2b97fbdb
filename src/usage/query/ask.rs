//! What a client asks, checked: a [`Query`] can be answered by either store.

use serde_json::{Map, Value};

use super::dimension::{Dimension, Filter};
use super::metric::Metric;
use super::period::{self, Granularity, Range};

/// Dimensions of one query.
const DIMENSIONS_MAX: usize = 4;
const FILTERS_MAX: usize = 20;
const VALUES_MAX: usize = 100;
pub(crate) const VALUE_BYTES_MAX: usize = 512;
/// Groups that an answer has, by default and at most.
const LIMIT_DEFAULT: usize = 100;
const LIMIT_MAX: usize = 1_000;
/// Buckets of a range: a week of minutes, more than a year of hours.
pub(crate) const BUCKETS_MAX: usize = 10_081;
const US_PER_DAY: i64 = 86_400_000_000;
/// Roll-ups are kept for 13 months.
const RANGE_DAYS_MAX: i64 = 400;

/// A field that is wrong, and what it would have to be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{field}` {text}")]
pub struct QueryError {
    /// As `filters[0].values[2]`.
    pub field: String,
    pub text: String,
}

/// A question about many requests.
#[derive(Debug, Clone)]
pub struct Query {
    pub range: Range,
    pub granularity: Granularity,
    pub metrics: Vec<Metric>,
    pub dimensions: Vec<Dimension>,
    /// `workspace` and `environment` are filters like any other.
    pub filters: Vec<Filter>,
    pub(crate) order: Order,
    /// Groups of the answer.
    pub limit: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Order {
    pub(crate) by: By,
    pub(crate) is_descending: bool,
}

/// An index of the query's metrics or dimensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    Metric(usize),
    Dimension(usize),
}

pub(crate) fn error<T>(field: impl Into<String>, text: impl Into<String>) -> Result<T, QueryError> {
    Err(QueryError { field: field.into(), text: text.into() })
}

impl Query {
    /// Reads the body of `POST /api/v1/usage/query`.
    pub fn read(body: &Value) -> Result<Self, QueryError> {
        const FIELDS: [&str; 9] = [
            "workspace",
            "environment",
            "range",
            "granularity",
            "metrics",
            "dimensions",
            "filters",
            "order",
            "limit",
        ];
        let Some(body) = body.as_object() else { return error("body", "must be a JSON object") };
        only(body, "", &FIELDS)?;
        let metrics = read_metrics(body)?;
        let dimensions = read_dimensions(body)?;
        let query = Self {
            range: read_range(body)?,
            granularity: read_granularity(body)?,
            filters: read_filters(body)?,
            order: read_order(body, &metrics, &dimensions)?,
            limit: read_limit(body)?,
            metrics,
            dimensions,
        };
        if query.granularity.buckets(query.range, BUCKETS_MAX).is_none() {
            let text =
                format!("makes more than {BUCKETS_MAX} buckets of this range; take a wider one");
            return error("granularity", text);
        }
        Ok(query)
    }

    /// Whether roll-ups can answer.
    pub(crate) fn is_rolled_up(&self, is_clickhouse: bool) -> bool {
        let mut all = self.dimensions.iter().chain(self.filters.iter().map(|f| &f.dimension));
        all.all(|dimension| dimension.is_rolled_up(is_clickhouse))
    }
}

/// No member but these.
fn only(object: &Map<String, Value>, path: &str, known: &[&str]) -> Result<(), QueryError> {
    match object.keys().find(|key| !known.contains(&key.as_str())) {
        None => Ok(()),
        Some(key) => {
            let key: String = key.chars().take(60).collect();
            error(format!("{path}{key}"), format!("is not known; known are {}", known.join(", ")))
        }
    }
}

fn read_range(body: &Map<String, Value>) -> Result<Range, QueryError> {
    let Some(range) = body.get("range").and_then(Value::as_object) else {
        return error("range", "must be {\"from\": …, \"to\": …}");
    };
    only(range, "range.", &["from", "to"])?;
    let time =
        |name: &str| read_time(range.get(name).and_then(Value::as_str), &format!("range.{name}"));
    let range = Range { from_us: time("from")?, to_us: time("to")? };
    check_range(range, "range")?;
    if range.len_us() > RANGE_DAYS_MAX * US_PER_DAY {
        return error("range", format!("must not be longer than {RANGE_DAYS_MAX} days"));
    }
    Ok(range)
}

pub(crate) fn check_range(range: Range, field: &str) -> Result<(), QueryError> {
    if range.from_us >= range.to_us {
        return error(field, "must end after it begins");
    }
    Ok(())
}

pub(crate) fn read_time(text: Option<&str>, field: &str) -> Result<i64, QueryError> {
    let time = text.and_then(period::parse).filter(|us| (0..1 << 52).contains(us));
    match time {
        Some(us) => Ok(us),
        None => error(field, "must be a time after 1970 as 2026-07-25T17:20:00Z"),
    }
}

fn read_granularity(body: &Map<String, Value>) -> Result<Granularity, QueryError> {
    let Some(written) = body.get("granularity") else { return Ok(Granularity::Total) };
    match written.as_str().and_then(Granularity::of_name) {
        Some(granularity) => Ok(granularity),
        None => error("granularity", format!("must be one of {}", names(&Granularity::NAMES))),
    }
}

fn names<T>(all: &[(&str, T)]) -> String {
    all.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}

fn read_metrics(body: &Map<String, Value>) -> Result<Vec<Metric>, QueryError> {
    let metrics = read_names(body, "metrics", Metric::of_name)?;
    if metrics.is_empty() {
        return error("metrics", format!("must name at least one of {}", names(&Metric::ALL)));
    }
    Ok(metrics)
}

fn read_dimensions(body: &Map<String, Value>) -> Result<Vec<Dimension>, QueryError> {
    let dimensions = read_names(body, "dimensions", Dimension::of_name)?;
    if dimensions.len() > DIMENSIONS_MAX {
        return error("dimensions", format!("must be at most {DIMENSIONS_MAX}"));
    }
    Ok(dimensions)
}

fn read_names<T: PartialEq>(
    body: &Map<String, Value>,
    field: &str,
    of_name: fn(&str) -> Option<T>,
) -> Result<Vec<T>, QueryError> {
    let mut found = Vec::new();
    for (index, written) in read_list(body.get(field), field)?.iter().enumerate() {
        let path = format!("{field}[{index}]");
        let Some(item) = written.as_str().and_then(of_name) else {
            return error(path, "is not known; docs/usage-api.md lists all");
        };
        if found.contains(&item) {
            return error(path, "is there twice");
        }
        found.push(item);
    }
    Ok(found)
}

fn read_list<'a>(written: Option<&'a Value>, field: &str) -> Result<&'a [Value], QueryError> {
    match written {
        None | Some(Value::Null) => Ok(&[]),
        Some(Value::Array(list)) => Ok(list),
        Some(_) => error(field, "must be a list"),
    }
}

fn read_filters(body: &Map<String, Value>) -> Result<Vec<Filter>, QueryError> {
    let mut filters = Vec::new();
    for (name, dimension) in
        [("workspace", Dimension::Workspace), ("environment", Dimension::Environment)]
    {
        match body.get(name) {
            None | Some(Value::Null) => {}
            Some(written) => filters.push(Filter {
                values: vec![Some(read_value(written, &dimension, name)?)],
                dimension,
                is_negated: false,
            }),
        }
    }
    let written = read_list(body.get("filters"), "filters")?;
    if written.len() > FILTERS_MAX {
        return error("filters", format!("must be at most {FILTERS_MAX}"));
    }
    for (index, filter) in written.iter().enumerate() {
        filters.push(read_filter(filter, &format!("filters[{index}]"))?);
    }
    Ok(filters)
}

fn read_filter(written: &Value, path: &str) -> Result<Filter, QueryError> {
    let Some(object) = written.as_object() else {
        return error(path, "must be {\"dimension\": …, \"op\": \"in\", \"values\": […]}");
    };
    only(object, &format!("{path}."), &["dimension", "op", "values"])?;
    let dimension = object.get("dimension").and_then(Value::as_str).and_then(Dimension::of_name);
    let Some(dimension) = dimension else {
        return error(format!("{path}.dimension"), "must be the name of a dimension");
    };
    let is_negated = match object.get("op").map(Value::as_str) {
        None | Some(Some("in")) => false,
        Some(Some("not_in")) => true,
        Some(_) => return error(format!("{path}.op"), "must be `in` or `not_in`"),
    };
    let field = format!("{path}.values");
    let written = read_list(object.get("values"), &field)?;
    if written.is_empty() || written.len() > VALUES_MAX {
        return error(field, format!("must hold 1 to {VALUES_MAX} values"));
    }
    let mut values = Vec::with_capacity(written.len());
    for (index, value) in written.iter().enumerate() {
        values.push(match value {
            Value::Null => None,
            value => Some(read_value(value, &dimension, &format!("{field}[{index}]"))?),
        });
    }
    Ok(Filter { dimension, values, is_negated })
}

fn read_value(written: &Value, dimension: &Dimension, path: &str) -> Result<String, QueryError> {
    let text = match written {
        Value::String(text) => text.clone(),
        Value::Number(number) if *dimension == Dimension::Status => number.to_string(),
        _ => return error(path, "must be a text"),
    };
    check_value(&text, dimension, path)?;
    Ok(text)
}

pub(crate) fn check_value(text: &str, dimension: &Dimension, path: &str) -> Result<(), QueryError> {
    if text.len() > VALUE_BYTES_MAX {
        return error(path, format!("must not be longer than {VALUE_BYTES_MAX} bytes"));
    }
    if text.contains('\0') {
        return error(path, "must not hold a NUL");
    }
    dimension.check(text).or_else(|text| error(path, text))
}

fn read_order(
    body: &Map<String, Value>,
    metrics: &[Metric],
    dimensions: &[Dimension],
) -> Result<Order, QueryError> {
    let default = Order { by: By::Metric(0), is_descending: true };
    let Some(written) = body.get("order").filter(|written| !written.is_null()) else {
        return Ok(default);
    };
    let Some(object) = written.as_object() else {
        return error("order", "must be {\"by\": …, \"direction\": \"desc\"}");
    };
    only(object, "order.", &["by", "direction"])?;
    let name = object.get("by").and_then(Value::as_str).unwrap_or_default();
    let metric = metrics.iter().position(|metric| metric.name() == name).map(By::Metric);
    let dimension = || dimensions.iter().position(|dimension| dimension.name() == name);
    let Some(by) = metric.or_else(|| dimension().map(By::Dimension)) else {
        return error("order.by", "must be one of the query's metrics or dimensions");
    };
    let is_descending = match object.get("direction").map(Value::as_str) {
        None => matches!(by, By::Metric(_)),
        Some(Some("desc")) => true,
        Some(Some("asc")) => false,
        Some(_) => return error("order.direction", "must be `asc` or `desc`"),
    };
    Ok(Order { by, is_descending })
}

fn read_limit(body: &Map<String, Value>) -> Result<usize, QueryError> {
    let Some(written) = body.get("limit").filter(|written| !written.is_null()) else {
        return Ok(LIMIT_DEFAULT);
    };
    let limit = written.as_u64().and_then(|limit| usize::try_from(limit).ok());
    match limit.filter(|limit| (1..=LIMIT_MAX).contains(limit)) {
        Some(limit) => Ok(limit),
        None => error("limit", format!("must be a whole number from 1 to {LIMIT_MAX}")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn body(change: impl FnOnce(&mut Value)) -> Value {
        let mut body = json!({
            "range": { "from": "2026-07-25T00:00:00Z", "to": "2026-07-26T00:00:00Z" },
            "metrics": ["requests"],
        });
        change(&mut body);
        body
    }

    fn field_of(change: impl FnOnce(&mut Value)) -> String {
        Query::read(&body(change)).unwrap_err().field
    }

    #[test]
    fn least_query_is_a_total_of_the_first_metric() {
        let query = Query::read(&body(|_| {})).unwrap();
        assert_eq!((query.granularity, query.limit), (Granularity::Total, 100));
        assert_eq!(query.order, Order { by: By::Metric(0), is_descending: true });
        assert!(query.dimensions.is_empty() && query.filters.is_empty());
    }

    #[test]
    fn whole_query_is_read() {
        let query = Query::read(&body(|body| {
            body["workspace"] = json!("acme");
            body["granularity"] = json!("5m");
            body["metrics"] = json!(["cost_usd", "latency_p95"]);
            body["dimensions"] = json!(["model", "metadata.team"]);
            body["filters"] = json!([
                { "dimension": "status", "op": "not_in", "values": [200, "404"] },
                { "dimension": "end_user", "values": [null, "x' OR 1=1 --"] },
            ]);
            body["order"] = json!({ "by": "latency_p95", "direction": "asc" });
            body["limit"] = json!(7);
        }))
        .unwrap();
        assert_eq!(query.order, Order { by: By::Metric(1), is_descending: false });
        assert_eq!(query.filters.len(), 3);
        assert_eq!(query.filters[1].values, [Some("200".to_owned()), Some("404".to_owned())]);
        assert_eq!(query.filters[2].values[0], None);
        assert!(!query.is_rolled_up(false));
    }

    #[test]
    fn wrong_field_is_named() {
        for (path, value, field) in [
            ("/sql", json!("x"), "sql"),
            ("/range", json!("today"), "range"),
            ("/range/from", json!(5), "range.from"),
            ("/range/to", json!("2026-07-26"), "range.to"),
            ("/range/to", json!("2026-07-25T00:00:00Z"), "range"),
            ("/range/to", json!("2027-12-25T00:00:00Z"), "range"),
            ("/range/until", json!("2026-07-26"), "range.until"),
            ("/granularity", json!("second"), "granularity"),
            ("/metrics", json!([]), "metrics"),
            ("/metrics", json!(["requests", "requests"]), "metrics[1]"),
            ("/metrics", json!(["count(*)"]), "metrics[0]"),
            ("/metrics", json!("requests"), "metrics"),
            ("/dimensions", json!(["model", 5]), "dimensions[1]"),
            ("/dimensions", json!(["model", "key", "status", "dialect", "target"]), "dimensions"),
            ("/filters", json!([{}]), "filters[0].dimension"),
            ("/filters", json!([{ "dimension": "model" }]), "filters[0].values"),
            ("/filters", json!([{ "dimension": "model", "values": [""] }]), "filters[0].values[0]"),
            (
                "/filters",
                json!([{ "dimension": "status", "values": ["x"] }]),
                "filters[0].values[0]",
            ),
            (
                "/filters",
                json!([{ "dimension": "model", "values": ["a\0"] }]),
                "filters[0].values[0]",
            ),
            (
                "/filters",
                json!([{ "dimension": "model", "values": ["a"], "op": "=" }]),
                "filters[0].op",
            ),
            ("/order", json!("requests"), "order"),
            ("/order", json!({ "by": "errors" }), "order.by"),
            ("/order", json!({ "by": "requests", "direction": "up" }), "order.direction"),
            ("/limit", json!(0), "limit"),
            ("/limit", json!(1001), "limit"),
            ("/workspace", json!(7), "workspace"),
        ] {
            let set = |body: &mut Value| {
                let (parent, name) = path.rsplit_once('/').unwrap();
                body.pointer_mut(parent).unwrap()[name] = value.clone();
            };
            assert_eq!(field_of(set), field, "{path} {value}");
        }
        assert_eq!(Query::read(&json!([])).unwrap_err().field, "body");
    }

    #[test]
    fn too_many_buckets_are_refused() {
        let long = |body: &mut Value| {
            body["granularity"] = json!("minute");
            body["range"]["to"] = json!("2026-08-25T00:00:00Z");
        };
        assert_eq!(field_of(long), "granularity");
    }
}
