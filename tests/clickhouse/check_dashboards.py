#!/usr/bin/env python3
"""Holds the dashboards of conf/grafana without Grafana: check_dashboards.py [--repeat N] URL DATABASE TO SECONDS...

Expands variables as Grafana does and macros as the plugin grafana-clickhouse-datasource does (4.x), runs every query read-only over each range that ends at the Unix
time TO, and checks what comes back: the first column of a series is `time`, in order, with a number to draw; no type that Grafana cannot show; rows, unless the
variables have values that are nowhere; no rows of `usage` older than a day. Values with quotes, backslashes and the like must neither break a query nor widen it.

With --repeat it measures instead, and prints Markdown: the best of N answers of each query as the server counts its time, and the least of its CPU time (from
`system.query_log`), with all values chosen; and the slowest of the queries with one value of one variable. --most MS fails when a query's best takes longer.
"""
import argparse, json, pathlib, re, sys, time, urllib.error, urllib.parse, urllib.request, uuid

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("url")
parser.add_argument("database")
parser.add_argument("to", type=int)
parser.add_argument("seconds", type=int, nargs="+")
parser.add_argument("--repeat", type=int, metavar="N", help="measure: each query so many times")
parser.add_argument("--most", type=float, metavar="MS", default=1e12)
OPTIONS = parser.parse_args()
URL, DATABASE, TO, RANGES = OPTIONS.url, OPTIONS.database, OPTIONS.to, OPTIONS.seconds
# What Grafana rounds an interval to, for panels about 1000 points wide.
INTERVALS = [1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 600, 900, 1200, 1800, 3600, 7200, 10800, 21600, 43200, 86400]
NASTY = ["o'brien", "ends in \\", "\\' OR 1=1 --", "a,b", "a=b&c", "100% + 1", "${model}", "ünïcode", "') OR (1=1"]


def encoded(text):
    """Grafana's encodeURIComponentStrict."""
    return urllib.parse.quote(text, safe="-_.~")


def interpolated(sql, values):
    """$name, ${name}, ${name:format}. Without a format the data source quotes and joins, and escapes nothing."""
    def one(match):
        name, form = match[1] or match[3], match[2]
        if name not in values:
            return match[0]
        chosen = values[name]
        if form == "queryparam":
            return "&".join(f"var-{name}={encoded(value)}" for value in chosen)
        assert not form, f"a format that is not known here: {form}"
        return ",".join(f"'{value}'" for value in chosen)
    return re.sub(r"\$\{(\w+)(?::(\w+))?\}|\$(?!__)(\w+)", one, sql)


def arguments(sql, at):
    """What stands between the parenthesis at `at` and its partner, split at the commas of its level; and where it ends. As the plugin, quotes are not looked at."""
    depth, found, begin = 0, [], at + 1
    for k in range(at, len(sql)):
        if sql[k] == "(":
            depth += 1
        elif sql[k] == ")":
            depth -= 1
            if depth == 0:
                return found + [sql[begin:k]], k + 1
        elif sql[k] == "," and depth == 1:
            found.append(sql[begin:k])
            begin = k + 1
    raise AssertionError("a macro without its end: " + sql[at - 20:at + 40])


def expanded(sql, values, begin, interval):
    """First the conditions, then the variables, then the macros."""
    opening = "$__conditionalAll("
    while (at := sql.rfind(opening)) >= 0:
        found, end = arguments(sql, at + len(opening) - 1)
        assert len(found) == 2, f"$__conditionalAll has {len(found)} arguments"
        name = found[1].strip()
        assert name.startswith("$"), "the second argument is a variable"
        is_all = values[name[1:]] in ([], ["$__all"])
        sql = sql[:at] + ("1=1" if is_all else found[0]) + sql[end:]
    sql = interpolated(sql, values)
    day = lambda unix: time.strftime("%Y-%m-%d", time.gmtime(unix))
    known = {
        "timeFilter": lambda column: f"{column} >= toDateTime({begin}) AND {column} <= toDateTime({TO})",
        "dateFilter": lambda column: f"{column} >= toDate('{day(begin)}') AND {column} <= toDate('{day(TO)}')",
    }
    for name, expand in known.items():
        while match := re.search(r"\$__" + name + r"\(", sql):
            found, end = arguments(sql, match.end() - 1)
            sql = sql[:match.start()] + expand(found[0].strip()) + sql[end:]
    for name, text in {"fromTime": f"toDateTime({begin})", "toTime": f"toDateTime({TO})", "interval_s": str(interval)}.items():
        sql = re.sub(r"\$__" + name + r"\b", lambda _: text, sql)
    left = re.search(r"\$__\w+", sql)
    assert not left, "a macro that is not known: " + (left[0] if left else "")
    return sql


def run(sql, **settings):
    query = urllib.parse.urlencode({"database": DATABASE, "readonly": 2, "default_format": "JSONCompact", "use_query_cache": 0, **settings})
    try:
        with urllib.request.urlopen(urllib.request.Request(f"{URL}/?{query}", sql.encode()), timeout=120) as answer:
            text = answer.read()
    except urllib.error.HTTPError as error:
        raise AssertionError(error.read().decode()[:400]) from None
    return json.loads(text)


def shape(board):
    """What Grafana would refuse or show wrongly."""
    assert re.fullmatch(r"[\w-]{1,40}", board["uid"]) and board["title"] and board["id"] is None and board["schemaVersion"] >= 36
    taken = set()
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    for panel in board["panels"]:
        place = panel["gridPos"]
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
        assert place["x"] + place["w"] <= 24 and not cells & taken, "overlaps: " + panel["title"]
        taken |= cells
        for target in panel["targets"]:
            assert target["editorType"] == "sql" and target["datasource"]["uid"] == "${datasource}", panel["title"]


def answer_is_drawable(target, answer):
    names, types = [column["name"] for column in answer["meta"]], [column["type"] for column in answer["meta"]]
    assert not any(type_.startswith(("AggregateFunction", "Array", "Tuple", "Map")) for type_ in types), f"types that Grafana cannot show: {types}"
    if target["format"] == 0:
        assert names[0] == "time" and types[0].startswith("DateTime"), f"the first column is not `time`: {names[0]} {types[0]}"
        assert any(re.match(r"(Nullable\()?(U?Int|Float|Decimal)", type_) for type_ in types[1:]), "no number to draw"
        times = [row[0] for row in answer["data"]]
        assert times == sorted(times), "rows not in the order of time"


def has_number(answer):
    """Something is drawn: a number that is not null."""
    types = [column["type"] for column in answer["meta"]]
    numbers = [i for i, type_ in enumerate(types) if re.match(r"(Nullable\()?(U?Int|Float|Decimal)", type_)]
    return any(row[i] is not None for row in answer["data"] for i in numbers)


def cases(found):
    """(label, value of each variable, whether rows must come)."""
    every = {name: ["$__all"] for name in found}
    yield "all", every, True
    for name, values in found.items():
        yield f"one {name}", {**every, name: values[:1]}, False
        yield f"two of {name}", {**every, name: values[:2]}, False
    for at in range(0, len(NASTY), 3):
        chosen = NASTY[at:at + 3]
        yield f"values {chosen}", {name: chosen for name in found}, None


def check(path, seconds):
    board, failed, n_ran = json.loads(path.read_text()), 0, 0
    shape(board)
    begin, interval = bounds(seconds)
    found = {variable["name"]: values_of(variable, begin, interval) for variable in variables(board)}
    for label, values, must_draw in cases(found):
        for panel in board["panels"]:
            for target in panel["targets"]:
                n_ran += 1
                try:
                    answer = run(expanded(target["rawSql"], values, begin, interval))
                    answer_is_drawable(target, answer)
                    if must_draw:
                        assert has_number(answer), "draws nothing"
                    if must_draw is None and panel["title"] not in UNFILTERED and target["format"] == 0:
                        assert not answer["data"], f"{answer['rows']} rows for values that are nowhere"
                except AssertionError as error:
                    failed += 1
                    print(f"  FAILED {path.name}, {seconds} s: {panel['title']} [{label}]: {error}")
    print(f"  {path.name}, {seconds} s at {interval} s: {n_ran} queries, {failed} failed")
    return failed


def bounds(seconds):
    """Where the range begins, and the interval of its points."""
    return TO - seconds, next(interval for interval in INTERVALS if interval >= min(seconds / 1000, 86_400))


def variables(board):
    return [variable for variable in board["templating"]["list"] if variable["type"] == "query"]


def values_of(variable, begin, interval):
    values = [row[0] for row in run(expanded(variable["query"]["rawSql"], {}, begin, interval))["data"]]
    assert values, "no values of " + variable["name"]
    return values


def measure(path, seconds):
    board, n_slow = json.loads(path.read_text()), 0
    begin, interval = bounds(seconds)
    found = {variable["name"]: values_of(variable, begin, interval) for variable in variables(board)}
    every = {name: ["$__all"] for name in found}
    queries = [(f"(values of {variable['name']})", variable["query"]["rawSql"]) for variable in variables(board)]
    queries += [(panel["title"], target["rawSql"]) for panel in board["panels"] for target in panel["targets"]]
    for title, sql in queries:
        best = timed(expanded(sql, every, begin, interval))
        ones = [(timed(expanded(sql, {**every, name: values[:1]}, begin, interval))["ms"], name) for name, values in found.items()]
        slowest_one, name = max(ones)
        n_slow += max(best["ms"], slowest_one) > OPTIONS.most
        print(f"| {board['title'].removeprefix('Sluice: ')} | {title} | {best['ms']:.0f} | {best['cpu_ms']:.0f} | {best['rows_read']} | {slowest_one:.0f} ({name}) |", flush=True)
    return n_slow


def timed(sql):
    """The best of its runs. All its time on processors is in the log, its threads' included."""
    ids = [str(uuid.uuid4()) for _ in range(OPTIONS.repeat)]
    answers = [run(sql, query_id=query_id, log_queries=1) for query_id in ids]
    run("SYSTEM FLUSH LOGS query_log", readonly=0)
    cpu = run(f"SELECT min(ProfileEvents['OSCPUVirtualTimeMicroseconds']), count() FROM system.query_log WHERE type = 'QueryFinish' AND query_id IN ({str(ids)[1:-1]})")["data"][0]
    assert int(cpu[1]) == OPTIONS.repeat, "not every run is in the log"
    return {"ms": min(answer["statistics"]["elapsed"] for answer in answers) * 1e3, "cpu_ms": int(cpu[0]) / 1e3, "rows_read": answers[0]["statistics"]["rows_read"]}


# Panels that the variables do not filter.
UNFILTERED = {"Busiest workspaces", "Refused keys by address"}


def raw_rows_are_young():
    """Beyond a day nothing reads `usage`: a stored row of the past is not seen."""
    for path in BOARDS:
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel["targets"]:
                sql = target["rawSql"]
                for part in re.split(r"UNION ALL", sql):
                    if re.search(r"FROM usage\b(?!_)", part):
                        guards = ["<= 86400 AND $__timeFilter(u.started_at)", "greatest($__fromTime, $__toTime - 86400)"]
                        assert any(guard in part for guard in guards), f"{path.name}: {panel['title']} reads rows of more than a day"


BOARDS = sorted(pathlib.Path(__file__).parents[2].glob("conf/grafana/dashboards/*.json"))

if __name__ == "__main__":
    assert len(BOARDS) == 5, "five dashboards"
    raw_rows_are_young()
    if OPTIONS.repeat:
        print(f"| dashboard | panel | answer, ms | CPU, ms | rows read | slowest with one value, ms |\n|---|---|---|---|---|---|")
    hold = measure if OPTIONS.repeat else check
    sys.exit(1 if sum(hold(path, seconds) for seconds in RANGES for path in BOARDS) else 0)
