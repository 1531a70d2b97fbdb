"""The result as text, as Markdown, and as pictures."""

import html

from .workloads import WORKLOADS, verdicts

NAMES = {
    "nginx": "nginx",
    "haproxy": "HAProxy",
    "envoy": "Envoy",
    "bare_pingora": "bare Pingora",
    "sluice_off": "Sluice, governance off",
    "sluice": "Sluice, governance on",
    "sluice_keys": "Sluice, many keys",
    "sluice_deployments": "Sluice, many deployments",
    "litellm": "LiteLLM",
    "portkey": "Portkey",
}
COLOURS = {"sluice": "#1b7f4b", "sluice_off": "#4cc38a", "sluice_keys": "#4cc38a", "sluice_deployments": "#4cc38a"}


def number(value, digits=1):
    return "–" if value is None else f"{value:,.{digits}f}"


def ratio(rows, name, to):
    if to not in rows:
        return None
    pairs = zip(rows[name]["rounds"], rows[to]["rounds"])
    factors = sorted(a["cpu_us"] / b["cpu_us"] for a, b in pairs)
    return factors[len(factors) // 2]


def cpu_table(result):
    table = [("workload", "contestant", "CPU µs/request", "× nginx", "× bare", "p50 µs", "p99 µs", "MiB loaded")]
    for workload, rows in result["workloads"].items():
        for name, row in rows.items():
            table.append((
                workload,
                NAMES[name],
                number(row["cpu_us"]),
                number(ratio(rows, name, "nginx"), 2),
                number(ratio(rows, name, "bare_pingora"), 2),
                number(row["p50_us"], 0),
                number(row["p99_us"], 0),
                number(row["rss_kib"] / 1024),
            ))
    return table


def machine_table(result):
    head = ("contestant", "version", "added p50 µs", "added p99 µs", "at most, requests/s", "MiB idle", "MiB after", "KiB a held stream")
    table = [head]
    for name, version in result["versions"].items():
        added = result["added_latency_us"].get(name, {})
        table.append((
            NAMES[name],
            version,
            number(added.get("p50"), 0),
            number(added.get("p99"), 0),
            number(result["throughput"].get(name), 0),
            number(result["rss_idle_kib"][name] / 1024),
            number(result["rss_after_kib"][name] / 1024),
            number(result["held_kib"].get(name)),
        ))
    return table


def stream_table(result):
    table = [("contestant", "first event p50", "first event p99", "gap p50", "gap p99")]
    for name, row in result["workloads"].get("paced", {}).items():
        keys = [f"added_{of}_{p}_us" for of in ("first_event", "gap") for p in ("p50", "p99")]
        table.append((NAMES[name], *(number(row[key], 0) for key in keys)))
    return table


def target_table(result):
    table = [("", "figure", "must", "stretch", "target")]
    for target, figure, is_met in verdicts(result):
        sign = "≥" if target.is_least else "≤"
        stretch = "" if target.stretch is None else f"{sign} {target.stretch:g}"
        table.append(("met" if is_met else "MISSED", number(figure, 2), f"{sign} {target.must:g}", stretch, target.text))
    return table


def as_text(rows):
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    # Names on the left of their column, numbers on the right.
    is_name = [cell[:1].isalpha() for cell in rows[-1]]
    lines = []
    for row in rows:
        cells = zip(row, widths, is_name)
        lines.append("  ".join(cell.ljust(width) if left else cell.rjust(width) for cell, width, left in cells).rstrip())
    return "\n".join(lines)


def as_markdown(rows):
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    lines.insert(1, "|" + "---|" * len(rows[0]))
    return "\n".join(lines)


def notes(result):
    """What a reader must know to compare."""
    lines = [
        f"{result['machine']}; {result['at']}; commit {result['commit']}, {result['profile']} build; "
        f"median of {result['rounds']} rounds.",
        f"Governance on: a key with scopes, limits on requests and tokens and a budget, a deployment of two targets, rows to {result['store']}, metrics. "
        "Governance off: a key without limits and one target; rows cannot be switched off and go to a file.",
        "LiteLLM and Portkey have keys, limits and rows switched off. nginx, HAProxy, Envoy and bare Pingora have none of that.",
    ]
    if result["many_keys"]:
        lines.append(f"Many keys: {result['many_keys']:,} keys, each request with another; the document is read and served in {number(result['many_keys_start_s'])} s.")
    for name in result["left_out"]:
        lines.append(f"Left out, because it could not be had here: {NAMES[name]}.")
    return lines


def render(result, is_markdown):
    form = as_markdown if is_markdown else as_text
    parts = ["\n\n".join(notes(result))]
    for title, table in (
        ("CPU, by the operating system over a fixed number of requests", cpu_table(result)),
        ("Latency added at concurrency 1, throughput at concurrency 64, memory", machine_table(result)),
        ("Paced stream: added to the provider's own, µs", stream_table(result)),
        ("Targets", target_table(result)),
    ):
        if len(table) > 1:
            heading = f"### {title}" if is_markdown else title
            parts.append(f"{heading}\n\n{form(table)}")
    return "\n\n".join(parts) + "\n"


# --- pictures ------------------------------------------------------------------------------------


def bars(title, unit, values):
    """Horizontal bars; a value that is far from the others is cut and says so."""
    width, row_height, left = 760, 26, 190
    shown = sorted(value for value in values.values() if value is not None)
    # One contestant a hundred times above the others would leave them no bar at all.
    most = min(shown[-1], 4 * shown[len(shown) // 2])
    height = 40 + row_height * len(values)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="system-ui, sans-serif" font-size="13">',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
        f'<text x="8" y="22" font-weight="600">{html.escape(title)}, {html.escape(unit)}</text>',
    ]
    for index, (name, value) in enumerate(values.items()):
        if value is None:
            continue
        top = 36 + index * row_height
        is_cut = value > most
        length = max(1, (width - left - 110) * min(value, most) / most)
        fill = COLOURS.get(name, "#8a93a0")
        label = number(value, 1 if value < 1000 else 0) + (" →" if is_cut else "")
        lines.append(f'<text x="{left - 8}" y="{top + 14}" text-anchor="end">{html.escape(NAMES[name])}</text>')
        lines.append(f'<rect x="{left}" y="{top}" width="{length:.1f}" height="18" rx="2" fill="{fill}"/>')
        lines.append(f'<text x="{left + length + 6:.1f}" y="{top + 14}">{label}</text>')
    lines.append("</svg>")
    return "\n".join(lines) + "\n"


def pictures(result):
    """Name and text of each picture."""
    for workload, rows in result["workloads"].items():
        title = f"CPU of a request: {WORKLOADS[workload].what}"
        yield f"cpu-{workload}", bars(title, "µs", {name: row["cpu_us"] for name, row in rows.items()})
    if result["added_latency_us"]:
        added = {name: max(0.0, row["p99"]) for name, row in result["added_latency_us"].items()}
        yield "latency", bars("Latency added at concurrency 1, p99", "µs", added)
    idle = {name: kib / 1024 for name, kib in result["rss_idle_kib"].items()}
    yield "memory", bars("Memory idle", "MiB", idle)
    if result["held_kib"]:
        yield "held", bars("Memory of a held stream", "KiB", result["held_kib"])
