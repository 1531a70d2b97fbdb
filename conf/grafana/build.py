#!/usr/bin/env python3
"""Writes dashboards/*.json, or into the folder given: one place for what the panels share. A test holds that the files are what this writes.

Ranges. What spans all workspaces reads `usage_minute` up to 3 days and `usage_hour` beyond. What is about workspaces reads the rows of `usage` up to a day,
`usage_workspace_hour` up to a week and `usage_workspace_day` beyond. Money by key reads `usage_key_day`; `usage_day` is read where a key meets a model or a deployment. Quantiles over
more than a week read the digests of whole days. In a UNION ALL the branch whose condition is constant and false reads nothing.

Variables. The data source puts a variable's values into the query as they are, so a value with a quote or a backslash would break out of its literal. Here each goes
through Grafana's format `queryparam`, which percent-encodes both, and is decoded by ClickHouse.
"""
import json, pathlib, sys

DATASOURCE = {"type": "grafana-clickhouse-datasource", "uid": "${datasource}"}
RANGE_S = "dateDiff('second', $__fromTime, $__toTime)"
DAY_S, MINUTES_S, WEEK_S = 86_400, 3 * 86_400, 7 * 86_400
LEVELS = "0.5, 0.9, 0.95, 0.99"

NO_ERRORS = "('success', 'cache_hit', 'client_closed')"
# As the roll-ups compute them, for the rows of a short range.
OF_ROWS = {
    "requests": "count()",
    "errors": f"countIf(u.outcome NOT IN {NO_ERRORS})",
    "failovers": "countIf(length(arrayDistinct(u.`attempts.target_id`)) > 1)",
    "attempts": "sum(length(u.`attempts.target_id`))",
    "cache_hits": "countIf(u.cache = 'hit')",
    "cache_lookups": "countIf(u.cache IN ('hit', 'miss'))",
    "cost_nanousd": "sum(ifNull(u.cost_nanousd, 0))",
    "saved_nanousd": "sum(u.saved_nanousd)",
    "speed_tokens": "sumIf(ifNull(u.output, 0) + ifNull(u.reasoning, 0), u.stream AND u.first_token_us IS NOT NULL AND u.output IS NOT NULL "
                    "AND u.total_us > assumeNotNull(u.first_token_us))",
    "speed_us": "sumIf(u.total_us - assumeNotNull(u.first_token_us), u.stream AND u.first_token_us IS NOT NULL AND u.output IS NOT NULL "
                "AND u.total_us > assumeNotNull(u.first_token_us))",
    "latency_digest": f"quantilesTDigestState({LEVELS})(u.total_us)",
    "first_token_digest": f"quantilesTDigestState({LEVELS})(u.first_token_us)",
    "overhead_digest": f"quantilesTDigestState({LEVELS})(u.overhead_us)",
}
OF_ROWS |= {name: f"sum(ifNull(u.{name}, 0))" for name in (
    "input_uncached", "input_cache_read", "input_cache_write_5m", "input_cache_write_1h", "output", "reasoning", "audio_in", "audio_out")}

DIGESTS = ["latency_digest", "first_token_digest", "overhead_digest"]

# What hours have outcomes for.
OF_HOURS = {"errors": f"if(outcome IN {NO_ERRORS}, 0, requests)"}

ERRORS = f"sumIf(requests, outcome NOT IN {NO_ERRORS})"
INPUT = "sum(input_uncached + input_cache_read + input_cache_write_5m + input_cache_write_1h)"
OUTPUT = "sum(output + reasoning)"
INPUT_COLUMNS = ["input_uncached", "input_cache_read", "input_cache_write_5m", "input_cache_write_1h"]
OUTPUT_COLUMNS = ["output", "reasoning"]
COST = "sum(cost_nanousd) / 1e9"
# A sum that stands beside ERRORS has another name than its column, or it would be taken for it.


def chosen(variable, column=None):
    """The rows of the variable's values, whatever letters they are made of."""
    values = "arrayMap(pair -> decodeURLFormComponent(splitByChar('=', pair)[2]), splitByChar('&', '${" + variable + ":queryparam}'))"
    return f"$__conditionalAll(has({values}, toString({column or variable})), ${variable})"


def are_all(variable):
    """A constant."""
    return f"$__conditionalAll(1=0, ${variable})"


GLOBAL = " AND ".join([chosen("environment"), chosen("provider"), chosen("model", "upstream_model")])
WORKSPACE = " AND ".join([chosen("workspace"), chosen("environment"), chosen("deployment")])
# The key of `usage` begins with the id.
WORKSPACE_ID = f"workspace_id IN (SELECT workspace_id FROM usage_key_day WHERE $__dateFilter(day) AND {chosen('workspace')})"


def of_all(*columns):
    """Roll-ups over all workspaces: minutes of a short range, hours of a long one; digests of days beyond a week."""
    names = ", ".join(columns)
    hours_max, days = days_of(columns, "usage_day_digest", GLOBAL)
    return (f"(SELECT minute AS t, {names} FROM usage_minute WHERE {RANGE_S} <= {MINUTES_S} AND $__timeFilter(minute) AND {GLOBAL} "
            f"UNION ALL SELECT hour AS t, {names} FROM usage_hour WHERE {RANGE_S} > {MINUTES_S}{hours_max} AND $__timeFilter(hour) AND {GLOBAL}{days})")


def days_of(columns, table, filters):
    """Where hours end and days begin, for columns of which one is a digest; the table of days has nothing else that sums."""
    if not has_digest(columns):
        return "", ""
    return (f" AND {RANGE_S} <= {WEEK_S}",
            f" UNION ALL SELECT toDateTime(day, 'UTC') AS t, {', '.join(columns)} FROM {table} WHERE {RANGE_S} > {WEEK_S} AND $__dateFilter(day) AND {filters}")


def has_digest(columns):
    return any(name in DIGESTS for name in columns)


def of_workspaces(*columns, where="1"):
    """Rows of a short range, hours of a long one, days beyond a week. All with the same columns."""
    names = ", ".join(columns)
    dimensions = [name for name in columns if name not in OF_ROWS]
    rows = ", ".join(f"{OF_ROWS[name]} AS {name}" if name in OF_ROWS else f"u.{name} AS {name}" for name in columns)
    hours = ", ".join(f"{OF_HOURS[name]} AS {name}" if name in OF_HOURS else name for name in columns)
    group = ", ".join(["t", *dimensions])
    days = "".join(f"UNION ALL SELECT toDateTime(day, 'UTC') AS t, {names} FROM {table} WHERE {RANGE_S} > {WEEK_S} AND $__dateFilter(day) AND {filters} AND {where} "
                   for table, filters in tables_of_days(columns))
    return (f"(SELECT toStartOfMinute(toDateTime(u.started_at)) AS t, {rows} FROM usage AS u WHERE {RANGE_S} <= {DAY_S} AND $__timeFilter(u.started_at) "
            f"AND {WORKSPACE_ID} AND {WORKSPACE} AND {where} GROUP BY {group} "
            f"UNION ALL SELECT hour AS t, {hours} FROM usage_workspace_hour WHERE {RANGE_S} > {DAY_S} AND {RANGE_S} <= {WEEK_S} AND $__timeFilter(hour) "
            f"AND {WORKSPACE} AND {where} {days})")


def tables_of_days(columns):
    """The tables of days that know the columns, each with its filters, of which one holds. Digests are read at the level that has the fewest."""
    if not has_digest(columns):
        return [("usage_workspace_day", WORKSPACE)]
    if "deployment" in columns:
        return [("usage_workspace_day_digest", f"level = 'deployment' AND {WORKSPACE}")]
    environments, deployments = are_all("environment"), are_all("deployment")
    levels = {"workspace": f"{deployments} AND {environments}", "environment": f"{deployments} AND NOT ({environments})", "deployment": f"NOT ({deployments})"}
    return [("usage_workspace_day_digest", f"{holds} AND level = '{level}' AND {WORKSPACE}") for level, holds in levels.items()]


def step(short_s, by_day=False):
    """Seconds of a point: no less than what the source can tell apart."""
    long = f"if({RANGE_S} <= {WEEK_S}, 3600, {DAY_S})" if by_day else "3600"
    return f"greatest($__interval_s, if({RANGE_S} <= {short_s}, 60, {long}))"


def quantile(digest, level):
    return f"quantilesTDigestMerge({LEVELS})({digest})[{[0.5, 0.9, 0.95, 0.99].index(level) + 1}] / 1e6"


def over_time(source, short_s, *values, by=None, by_day=False):
    """A line for each value, or for each value of `by`."""
    dimension = f", toString({by}) AS {by}_name" if by else ""
    group = f", {by}_name" if by else ""
    return (f"SELECT toStartOfInterval(t, toIntervalSecond({step(short_s, by_day)})) AS time{dimension}, {', '.join(values)} "
            f"FROM {source} GROUP BY time{group} ORDER BY time{group}")


def all_over_time(columns, *values, by=None):
    return over_time(of_all(*columns), MINUTES_S, *values, by=by, by_day=has_digest(columns))


def workspaces_over_time(columns, *values, by=None, where="1"):
    return over_time(of_workspaces(*columns, where=where), DAY_S, *values, by=by, by_day=True)


def with_times(keys, most, sums, sums_from, times, times_from):
    """A row for each of the busiest `keys`: sums, and quantiles of digests, which stand in tables that know no outcomes."""
    group = ", ".join(keys)
    return (f"SELECT * FROM (SELECT {group}, {sums} FROM {sums_from} GROUP BY {group} ORDER BY all_requests DESC, {group} LIMIT {most}) AS sums "
            f"LEFT JOIN (SELECT {group}, {times} FROM {times_from} GROUP BY {group}) AS times USING ({group}) ORDER BY all_requests DESC, {group}")


class Board:
    """One dashboard: panels in rows of 24 columns, placed in their order."""

    def __init__(self, uid, title, description, variables, since):
        self.panels, self.x, self.y, self.height = [], 0, 0, 0
        self.head = {"uid": uid, "title": title, "description": description, "time": {"from": since, "to": "now"}}
        self.variables = variables

    def panel(self, kind, title, query, unit="short", width=12, height=8, description="", stack=False, units=None):
        if self.x + width > 24:
            self.x, self.y, self.height = 0, self.y + self.height, 0
        is_series = kind == "timeseries"
        custom = {"drawStyle": "line", "lineWidth": 1, "fillOpacity": 10, "showPoints": "auto", "spanNulls": False} if is_series else {}
        if stack:
            custom |= {"stacking": {"mode": "normal", "group": "A"}, "fillOpacity": 40}
        overrides = [{"matcher": {"id": "byName", "options": name}, "properties": [{"id": "unit", "value": unit_}]} for name, unit_ in (units or {}).items()]
        self.panels.append({
            "id": len(self.panels) + 1, "type": kind, "title": title, "description": description, "datasource": DATASOURCE, "interval": "1m" if is_series else None,
            "gridPos": {"x": self.x, "y": self.y, "w": width, "h": height},
            "fieldConfig": {"defaults": {"unit": unit, "color": {"mode": "palette-classic"}, "custom": custom}, "overrides": overrides},
            "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi", "sort": "desc"}} if is_series else
                       {"reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False}} if kind == "stat" else {},
            "targets": [{"refId": "A", "datasource": DATASOURCE, "editorType": "sql", "queryType": "timeseries" if is_series else "table",
                         "format": 0 if is_series else 1, "rawSql": query}],
        })
        self.x, self.height = self.x + width, max(self.height, height)

    def stat(self, title, source, value, unit="short", description=""):
        self.panel("stat", title, f"SELECT {value} AS value FROM {source}", unit, width=4, height=4, description=description)

    def json(self):
        shared = {"id": None, "schemaVersion": 39, "version": 1, "editable": True, "graphTooltip": 1, "refresh": "1m", "timezone": "browser", "tags": ["sluice"],
                  "links": [{"type": "dashboards", "tags": ["sluice"], "title": "Sluice", "asDropdown": True, "includeVars": False, "keepTime": True}],
                  "annotations": {"list": []}}
        return {**self.head, **shared, "templating": {"list": [DATASOURCE_VARIABLE, *self.variables]}, "panels": self.panels}


DATASOURCE_VARIABLE = {"type": "datasource", "name": "datasource", "label": "Data source", "query": "grafana-clickhouse-datasource", "current": {}, "hide": 0,
                       "options": [], "refresh": 1, "regex": "", "multi": False, "includeAll": False, "skipUrlSync": False}


def variable(name, label, column, table, time):
    filter_ = "$__dateFilter(day)" if time == "day" else f"$__timeFilter({time})"
    query = f"SELECT DISTINCT toString({column}) AS {name} FROM {table} WHERE {filter_} AND {column} != '' ORDER BY {name} LIMIT 1000"
    return {"type": "query", "name": name, "label": label, "datasource": DATASOURCE, "query": {"editorType": "sql", "rawSql": query}, "definition": query, "refresh": 2,
            "sort": 1, "multi": True, "includeAll": True, "current": {"text": ["All"], "value": ["$__all"]}, "hide": 0, "options": [], "regex": "", "skipUrlSync": False}


def of_all_variables():
    return [variable("environment", "Environment", "environment", "usage_hour", "hour"), variable("provider", "Provider", "provider", "usage_hour", "hour"),
            variable("model", "Model", "upstream_model", "usage_hour", "hour")]


def of_workspace_variables(*more):
    return [variable("workspace", "Workspace", "workspace", "usage_key_day", "day"), variable("environment", "Environment", "environment", "usage_key_day", "day"), *more]


def overview():
    board = Board("sluice-overview", "Sluice: overview", "All workspaces together", of_all_variables(), "now-6h")
    board.stat("Requests per second", of_all("requests"), f"sum(requests) / greatest(1, {RANGE_S})", "reqps")
    board.stat("Errors", of_all("requests", "outcome"), f"{ERRORS} / greatest(1, sum(requests))", "percentunit",
               "All outcomes but success, cache_hit and client_closed")
    board.stat("Latency p95", of_all("latency_digest"), quantile("latency_digest", 0.95), "s")
    board.stat("Overhead p99", of_all("overhead_digest"), quantile("overhead_digest", 0.99), "s", "The gateway's own part of a request")
    board.stat("Cost", of_all("cost_nanousd"), COST, "currencyUSD")
    board.stat("Cache hits", of_all("cache_hits", "cache_lookups"), "sum(cache_hits) / greatest(1, sum(cache_lookups))", "percentunit")
    per_second = f"/ {step(MINUTES_S)}"
    board.panel("timeseries", "Requests by outcome", all_over_time(["requests", "outcome"], f"sum(requests) {per_second} AS requests", by="outcome"), "reqps", stack=True)
    board.panel("timeseries", "Latency", all_over_time(["latency_digest"], *(
        f"{quantile('latency_digest', level)} AS p{level * 100:.0f}" for level in (0.5, 0.9, 0.95, 0.99))), "s")
    board.panel("timeseries", "Tokens per second", all_over_time([*INPUT_COLUMNS, *OUTPUT_COLUMNS],
                f"{INPUT} {per_second} AS input_tokens", f"{OUTPUT} {per_second} AS output_tokens"), stack=True)
    board.panel("timeseries", "Cost per hour", all_over_time(["provider", "cost_nanousd"], f"{COST} * 3600 {per_second} AS cost", by="provider"), "currencyUSD", stack=True)
    board.panel("timeseries", "Time to first token", all_over_time(["first_token_digest"], *(
        f"{quantile('first_token_digest', level)} AS p{level * 100:.0f}" for level in (0.5, 0.95, 0.99))), "s")
    board.panel("timeseries", "Gateway overhead", all_over_time(["overhead_digest"], *(
        f"{quantile('overhead_digest', level)} AS p{level * 100:.0f}" for level in (0.5, 0.95, 0.99))), "s")
    board.panel("table", "Busiest workspaces", f"SELECT workspace, sum(requests) AS requests, {COST} AS cost, {INPUT} AS input_tokens, {OUTPUT} AS output_tokens "
                "FROM usage_key_day WHERE $__dateFilter(day) GROUP BY workspace ORDER BY requests DESC LIMIT 20", width=24, units={"cost": "currencyUSD"},
                description="Whole days in UTC")
    return board


def workspace():
    board = Board("sluice-workspace", "Sluice: workspace", "One workspace or some; up to a day by minute, up to a week by hour, beyond by day",
                  of_workspace_variables(variable("deployment", "Deployment", "deployment", "usage_workspace_day", "day")), "now-12h")
    board.stat("Requests", of_workspaces("requests"), "sum(requests)")
    board.stat("Errors", of_workspaces("requests", "outcome"), f"{ERRORS} / greatest(1, sum(requests))", "percentunit")
    board.stat("Latency p95", of_workspaces("latency_digest"), quantile("latency_digest", 0.95), "s")
    board.stat("First token p95", of_workspaces("first_token_digest"), quantile("first_token_digest", 0.95), "s")
    board.stat("Cost", of_workspaces("cost_nanousd"), COST, "currencyUSD")
    board.stat("Saved by the cache", of_workspaces("saved_nanousd"), "sum(saved_nanousd) / 1e9", "currencyUSD")
    per_second = f"/ {step(DAY_S, by_day=True)}"
    board.panel("timeseries", "Requests by outcome", workspaces_over_time(["requests", "outcome"], f"sum(requests) {per_second} AS requests", by="outcome"), "reqps", stack=True)
    board.panel("timeseries", "Requests by deployment", workspaces_over_time(["requests", "deployment"], f"sum(requests) {per_second} AS requests", by="deployment"), "reqps",
                stack=True)
    board.panel("timeseries", "Latency", workspaces_over_time(["latency_digest"], *(
        f"{quantile('latency_digest', level)} AS p{level * 100:.0f}" for level in (0.5, 0.95, 0.99))), "s")
    board.panel("timeseries", "Time to first token", workspaces_over_time(["first_token_digest"], *(
        f"{quantile('first_token_digest', level)} AS p{level * 100:.0f}" for level in (0.5, 0.95, 0.99))), "s")
    board.panel("timeseries", "Tokens per second", workspaces_over_time([*INPUT_COLUMNS, *OUTPUT_COLUMNS],
                f"{INPUT} {per_second} AS input_tokens", f"{OUTPUT} {per_second} AS output_tokens"), stack=True)
    board.panel("timeseries", "Cost per hour by model", workspaces_over_time(["upstream_model", "cost_nanousd"], f"{COST} * 3600 {per_second} AS cost", by="upstream_model"),
                "currencyUSD", stack=True)
    keys, most = ["workspace", "deployment"], 50
    group = ", ".join(keys)
    # Of the others no digest is read.
    busiest = f"SELECT {group} FROM {of_workspaces(*keys, 'requests', 'latency_digest')} GROUP BY {group} ORDER BY sum(requests) DESC, {group} LIMIT {most}"
    sums = of_workspaces(*keys, "requests", "errors", "cost_nanousd", "latency_digest", where=f"({group}) IN ({busiest})")
    board.panel("table", "Deployments", f"SELECT {group}, sum(requests) AS all_requests, sum(errors) / all_requests AS error_rate, {COST} AS cost, "
                f"{quantile('latency_digest', 0.95)} AS latency_p95 FROM {sums} GROUP BY {group} ORDER BY all_requests DESC, {group}",
                description=f"The {most} busiest", units={"error_rate": "percentunit", "latency_p95": "s", "cost": "currencyUSD"})
    board.panel("table", "Latest errors", "SELECT started_at, toString(request_id) AS request_id, workspace, deployment, provider, upstream_model, status, outcome, error_class, "
                f"total_us / 1e6 AS seconds FROM usage WHERE started_at > greatest($__fromTime, $__toTime - {DAY_S}) AND started_at <= $__toTime AND {WORKSPACE_ID} "
                f"AND {WORKSPACE} AND outcome NOT IN ('success', 'cache_hit', 'client_closed') ORDER BY started_at DESC LIMIT 100",
                units={"seconds": "s"}, description="Of the last day of the range")
    return board


def models():
    board = Board("sluice-models", "Sluice: models and providers", "How the providers do", of_all_variables(), "now-24h")
    per_second = f"/ {step(MINUTES_S)}"
    by_provider = "AND provider != ''"
    used = lambda *columns: of_all(*columns).replace(GLOBAL, GLOBAL + " " + by_provider)
    board.panel("timeseries", "Requests by provider", over_time(used("provider", "requests"), MINUTES_S, f"sum(requests) {per_second} AS requests", by="provider"), "reqps",
                stack=True)
    board.panel("timeseries", "Errors by provider", over_time(used("provider", "requests", "outcome"), MINUTES_S, f"{ERRORS} / sum(requests) AS errors", by="provider"),
                "percentunit")
    board.panel("timeseries", "Latency p95 by model", over_time(used("upstream_model", "latency_digest"), MINUTES_S, f"{quantile('latency_digest', 0.95)} AS p95",
                by="upstream_model", by_day=True), "s")
    board.panel("timeseries", "Time to first token p95 by model", over_time(used("upstream_model", "first_token_digest"), MINUTES_S,
                f"{quantile('first_token_digest', 0.95)} AS p95", by="upstream_model", by_day=True), "s")
    board.panel("timeseries", "Output tokens per second of a stream, by model", over_time(used("upstream_model", "speed_tokens", "speed_us"), MINUTES_S,
                "sum(speed_tokens) * 1e6 / greatest(1, sum(speed_us)) AS speed", by="upstream_model"), description="Between the first token and the end")
    board.panel("timeseries", "Tokens per second by model", over_time(used("upstream_model", *INPUT_COLUMNS, *OUTPUT_COLUMNS), MINUTES_S,
                f"({INPUT} + {OUTPUT}) {per_second} AS tokens", by="upstream_model"), stack=True)
    table = with_times(["provider", "upstream_model"], 200,
                       f"sum(requests) AS all_requests, {ERRORS} / sum(requests) AS errors, sum(speed_tokens) * 1e6 / greatest(1, sum(speed_us)) AS speed, "
                       f"{INPUT} AS input_tokens, {OUTPUT} AS output_tokens, {COST} AS cost",
                       used("provider", "upstream_model", "outcome", "requests", "speed_tokens", "speed_us", "cost_nanousd", *INPUT_COLUMNS, *OUTPUT_COLUMNS),
                       f"{quantile('latency_digest', 0.5)} AS latency_p50, {quantile('latency_digest', 0.95)} AS latency_p95, "
                       f"{quantile('first_token_digest', 0.95)} AS first_token_p95",
                       used("provider", "upstream_model", "latency_digest", "first_token_digest"))
    board.panel("table", "Models", table, width=24,
                units={"errors": "percentunit", "latency_p50": "s", "latency_p95": "s", "first_token_p95": "s", "cost": "currencyUSD"})
    return board


def without_keys(where, *columns):
    """Days without keys, unless some are chosen: then the days of those."""
    names = ", ".join(["day", *columns])
    return (f"(SELECT {names} FROM usage_workspace_day WHERE {where} AND {are_all('key')} "
            f"UNION ALL SELECT {names} FROM usage_day WHERE {where} AND NOT ({are_all('key')}) AND {chosen('key')})")


def cost():
    board = Board("sluice-cost", "Sluice: keys and cost", "The bill, by whole days in UTC", of_workspace_variables(variable("key", "Key", "key", "usage_key_day", "day")), "now-30d")
    where = f"$__dateFilter(day) AND {chosen('workspace')} AND {chosen('environment')}"
    days = f"usage_key_day WHERE {where} AND {chosen('key')}"
    board.stat("Cost", days, COST, "currencyUSD")
    board.stat("Saved by the cache", days, "sum(saved_nanousd) / 1e9", "currencyUSD")
    board.stat("Requests", days, "sum(requests)")
    board.stat("Input tokens", days, INPUT)
    board.stat("Output tokens", days, OUTPUT)
    board.stat("Without a price", days, "sum(requests) - sum(priced)", description="Requests whose model has no price: their cost is not known, and not in the sums")
    by_day = lambda source, by: (f"SELECT toDateTime(day) AS time, toString({by}) AS {by}_name, {COST} AS cost FROM {source} GROUP BY time, {by}_name ORDER BY time, {by}_name")
    board.panel("timeseries", "Cost per day by workspace", by_day(days, "workspace"), "currencyUSD", stack=True)
    board.panel("timeseries", "Cost per day by model", by_day(without_keys(where, "upstream_model", "cost_nanousd"), "upstream_model"), "currencyUSD", stack=True)
    board.panel("timeseries", "Tokens per day", f"SELECT toDateTime(day) AS time, sum(input_uncached) AS input_uncached, sum(input_cache_read) AS input_cache_read, "
                f"sum(input_cache_write_5m + input_cache_write_1h) AS input_cache_write, sum(output) AS output, sum(reasoning) AS reasoning FROM {days} "
                "GROUP BY time ORDER BY time", stack=True)
    board.panel("timeseries", "Cache hits by workspace", "SELECT toDateTime(day) AS time, toString(workspace) AS workspace_name, sum(cache_hits) / sum(cache_lookups) AS hits "
                f"FROM {days} GROUP BY time, workspace_name HAVING sum(cache_lookups) > 0 ORDER BY time, workspace_name", "percentunit")
    columns = lambda errors: (f"sum(requests) AS all_requests, {errors} / all_requests AS error_rate, {INPUT} AS input_tokens, {OUTPUT} AS output_tokens, {COST} AS cost, "
                              "sum(saved_nanousd) / 1e9 AS saved")
    units = {"error_rate": "percentunit", "cost": "currencyUSD", "saved": "currencyUSD"}
    board.panel("table", "Keys", f"SELECT workspace, environment, key, {columns('sum(errors)')} FROM {days} GROUP BY workspace, environment, key, key_id ORDER BY cost DESC LIMIT 500", units=units)
    models = without_keys(where, "workspace", "deployment", "upstream_model", "outcome", "requests", *INPUT_COLUMNS, *OUTPUT_COLUMNS, "cost_nanousd", "saved_nanousd")
    board.panel("table", "Deployments and models", f"SELECT workspace, deployment, upstream_model, {columns(ERRORS)} FROM {models} "
                "GROUP BY workspace, deployment, upstream_model ORDER BY cost DESC LIMIT 500", units=units)
    return board


def reliability():
    board = Board("sluice-reliability", "Sluice: reliability", "What failed, and what the gateway did about it", of_all_variables(), "now-24h")
    board.stat("Success", of_all("requests", "outcome"), f"1 - {ERRORS} / greatest(1, sum(requests))", "percentunit")
    board.stat("Failed over", of_all("requests", "failovers"), "sum(failovers) / greatest(1, sum(requests))", "percentunit", "Requests with attempts on more than one target")
    board.stat("Attempts per request", of_all("attempts", "requests"), "sum(attempts) / greatest(1, sumIf(requests, attempts > 0))")
    board.stat("Timeouts", of_all("requests", "outcome"), "sumIf(requests, outcome = 'timeout')")
    board.stat("Broken streams", of_all("requests", "outcome"), "sumIf(requests, outcome = 'stream_broken')")
    board.stat("Faults of the gateway", of_all("requests", "outcome"), "sumIf(requests, outcome IN ('gateway_error', 'gateway_crashed'))")
    per_minute = f"* 60 / {step(MINUTES_S)}"
    board.panel("timeseries", "Errors per minute by class", over_time(of_all("error_class", "requests").replace(GLOBAL, GLOBAL + " AND error_class != ''"), MINUTES_S,
                f"sum(requests) {per_minute} AS errors", by="error_class"), stack=True)
    board.panel("timeseries", "Success by provider", over_time(of_all("provider", "requests", "outcome").replace(GLOBAL, GLOBAL + " AND provider != ''"), MINUTES_S,
                f"1 - {ERRORS} / sum(requests) AS success", by="provider"), "percentunit")
    board.panel("timeseries", "Failovers by provider that answered", over_time(of_all("provider", "requests", "failovers").replace(GLOBAL, GLOBAL + " AND provider != ''"), MINUTES_S,
                "sum(failovers) / sum(requests) AS failovers", by="provider"), "percentunit")
    board.panel("timeseries", "Gateway overhead p99 by dialect", all_over_time(["dialect", "overhead_digest"], f"{quantile('overhead_digest', 0.99)} AS p99", by="dialect"), "s")
    last_day = f"started_at > greatest($__fromTime, $__toTime - {DAY_S}) AND started_at <= $__toTime"
    board.panel("table", "Failovers: from, to and why", "SELECT attempts.provider[1] AS from_provider, attempts.provider[-1] AS to_provider, attempts.error_class[1] AS reason, "
                f"outcome, count() AS requests FROM usage WHERE {last_day} AND length(arrayDistinct(attempts.target_id)) > 1 AND {GLOBAL} "
                "GROUP BY from_provider, to_provider, reason, outcome ORDER BY requests DESC LIMIT 100", description="Of the last day of the range")
    board.panel("table", "Refused keys by address", "SELECT toString(source_ip) AS address, sum(count) AS requests, max(minute) AS latest FROM refused_keys "
                "WHERE $__timeFilter(minute) GROUP BY source_ip ORDER BY requests DESC LIMIT 50", description="Requests with a virtual key that nobody knows")
    return board


def main():
    folder = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else pathlib.Path(__file__).parent / "dashboards"
    for board in (overview(), workspace(), models(), cost(), reliability()):
        text = json.dumps(board.json(), indent=1, ensure_ascii=False) + "\n"
        (folder / (board.head["uid"] + ".json")).write_text(text)


if __name__ == "__main__":
    main()
