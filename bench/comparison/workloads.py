"""What is sent, and what must come out."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Workload:
    name: str
    what: str
    # Of the generator: what a request is like, and what a right answer to it.
    generator: str
    # What the provider is asked for.
    model: str
    # In a round, of contestants that are as fast as a proxy; others have fewer.
    requests: int
    concurrency: int = 8
    # Streams: first events and gaps are compared with those of the provider itself.
    is_paced: bool = False


WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload("small", "1 KB in, 2 KB out", "small", "sim?bytes=2048", 10_000),
        Workload("stream", "100 events as fast as they come", "stream", "sim?events=100", 1_000),
        Workload("paced", "64 events, 20 ms apart, 32 at once", "paced", "sim?events=64&event_ms=20", 64, 32, True),
        Workload("long", "128 KB in, 2 KB out", "long", "sim?bytes=2048&input_tokens=32000", 1_000),
        Workload("body5m", "5 MB in, 2 KB out", "body5m", "sim?bytes=2048&input_tokens=1200000", 48, 4),
        Workload("failover", "small, every tenth answer of the provider is a 503", "small", "sim?bytes=2048&error_rate=0.1", 4_000),
        Workload("keys", "small, each request with another of many keys", "small", "sim?bytes=2048&output_tokens=512", 10_000),
        Workload("held", "6 events, a second apart", "paced", "sim?events=6&event_ms=1000", 1_000, 1_000, True),
        Workload("deployments", "small, one of 10,000 deployments", "small", "sim?bytes=2048&output_tokens=511", 10_000),
    )
}

# Held streams are measured once, before the rounds.
IN_ROUNDS = [name for name in WORKLOADS if name != "held"]
# Events of a paced stream whose gap counts.
PACED_EVENTS = 64


@dataclasses.dataclass(frozen=True)
class Target:
    text: str
    # Finds the figure in a result, or None where it was not measured.
    figure: object
    must: float
    stretch: float | None = None
    # Most figures are upper bounds; how many times cheaper Sluice is, is a lower one.
    is_least: bool = False


def ratio(workload, to, name="sluice", of="cpu_us"):
    """The median of the ratios within each round."""

    def figure(result):
        rows = result["workloads"].get(workload, {})
        pairs = zip(rows.get(name, {}).get("rounds", []), rows.get(to, {}).get("rounds", []))
        factors = sorted(a[of] / b[of] for a, b in pairs if b.get(of))
        return factors[len(factors) // 2] if factors else None

    return figure


def times_less(workload, other):
    return ratio(workload, "sluice", name=other)


def row(workload, key, name="sluice"):
    return lambda result: result["workloads"].get(workload, {}).get(name, {}).get(key)


def of(table, key=None, name="sluice"):
    def figure(result):
        found = result.get(table, {}).get(name)
        return found.get(key) if found and key else found

    return figure


def idle_mib(result):
    kib = result["rss_idle_kib"].get("sluice")
    return kib and kib / 1024


# The table of what must come out, governance on.
TARGETS = (
    Target("CPU of a small request, × nginx", ratio("small", "nginx"), 1.5, 1.2),
    Target("CPU of a small request, × bare Pingora", ratio("small", "bare_pingora"), 0.7),
    Target("CPU of governance, × without", ratio("small", "sluice_off"), 1.15, 1.08),
    Target("added latency at concurrency 1, p50, µs", of("added_latency_us", "p50"), 80),
    Target("added latency at concurrency 1, p99, µs", of("added_latency_us", "p99"), 150),
    Target("paced stream, added time to first event, p99, µs", row("paced", "added_first_event_p99_us"), 300),
    Target("paced stream, CPU of an event, × nginx", ratio("paced", "nginx"), 1.4, 1.1),
    Target("stream at once, CPU, × nginx", ratio("stream", "nginx"), 1.1, 1.0),
    Target("held streams, KiB each", of("held_kib"), 48, 24),
    Target("memory idle, MiB", idle_mib, 30),
    Target("memory of a key, bytes", of("key_bytes"), 300, 150),
    Target("CPU with many keys, × with one", ratio("keys", "sluice", name="sluice_keys"), 1.1),
    Target("CPU with 10,000 deployments, × with few", ratio("deployments", "sluice", name="sluice_deployments"), 1.1),
    Target("5 MB body, CPU, × nginx", ratio("body5m", "nginx"), 2.0, 1.3),
    Target("CPU of LiteLLM for a small request, × Sluice", times_less("small", "litellm"), 150, is_least=True),
    Target("CPU of Portkey for a small request, × Sluice", times_less("small", "portkey"), 30, is_least=True),
)


def verdicts(result):
    """Target, its figure, and whether the figure keeps to it, for what was measured."""
    for target in TARGETS:
        figure = target.figure(result)
        if figure is not None:
            is_met = figure >= target.must if target.is_least else figure <= target.must
            yield target, figure, is_met
