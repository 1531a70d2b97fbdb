//! Every metric: name, kind, labels and meaning. `docs/metrics.md` says the same to operators.

/// A family of time series.
#[derive(Debug)]
pub struct Metric {
    pub name: &'static str,
    pub kind: Kind,
    pub labels: &'static [&'static str],
    pub help: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

macro_rules! metrics {
    ($($name:ident: $kind:ident $text:literal $labels:tt $help:literal;)+) => {
        $(pub(super) static $name: Metric =
            Metric { name: $text, kind: Kind::$kind, labels: &$labels, help: $help };)+

        /// Every metric there is.
        pub static ALL: &[&Metric] = &[$(&$name,)+];
    };
}

metrics! {
    REQUESTS: Counter "sluice_requests_total" ["dialect", "outcome"]
        "Requests that ended.";
    REQUEST_DURATION: Histogram "sluice_request_duration_seconds" ["dialect"]
        "Time from the head of a request to the end of its answer.";
    OVERHEAD: Histogram "sluice_overhead_seconds" []
        "The gateway's own part of a request: without waiting for client or provider.";
    TIME_TO_FIRST_TOKEN: Histogram "sluice_time_to_first_token_seconds" []
        "Time from the head of a request to the first content of its answer.";
    IN_FLIGHT: Gauge "sluice_in_flight" []
        "Requests being served.";
    CONNECTIONS: Gauge "sluice_connections" []
        "Open connections of clients.";
    CONNECTIONS_REFUSED: Counter "sluice_connections_refused_total" ["reason"]
        "Connections of clients that were not served.";
    MALFORMED_REQUESTS: Counter "sluice_malformed_requests_total" ["reason"]
        "Requests that were not HTTP, too large or too slow.";
    REFUSED_KEYS: Counter "sluice_refused_keys_total" ["reason"]
        "Requests refused for their virtual key.";
    CLIENT_CLOSED: Counter "sluice_client_closed_total" []
        "Requests whose client left before the answer ended.";
    PANICS: Counter "sluice_panics_total" []
        "Requests that ended in a fault of the gateway itself.";
    ATTEMPTS: Counter "sluice_attempts_total" ["provider", "result"]
        "Attempts, by how they ended.";
    FAILOVERS: Counter "sluice_failovers_total" []
        "Attempts on the next target after a failure.";
    RETRIES: Counter "sluice_retries_total" []
        "Attempts on the same target after a failure.";
    RETRY_BUDGET_EXHAUSTED: Counter "sluice_retry_budget_exhausted_total" []
        "Failures that were passed on because the retry budget was spent.";
    CONNECTION_BENCHED: Counter "sluice_connection_benched_total" ["provider"]
        "Times a connection was taken out because its provider refused the credential.";
    BREAKER_STATE: Gauge "sluice_breaker_state" ["workspace", "environment", "deployment", "target"]
        "The breaker of a target: 0 closed, 1 half open, 2 open.";
    LIMIT_REFUSALS: Counter "sluice_limit_refusals_total" ["level", "metric"]
        "Requests refused by a limit.";
    LIMIT_VALUES_SHARED: Counter "sluice_limit_values_shared_total" []
        "Requests counted together with others because a limit has too many values of its dimension.";
    RULES_TAKEN: Counter "sluice_rules_taken_total" ["action"]
        "Requests that a rule took, by what it did with them.";
    RULE_ERRORS: Counter "sluice_rule_errors_total" ["reason"]
        "Rules that could not be told, which counts as no match.";
    CACHE_REQUESTS: Counter "sluice_cache_requests_total" ["result"]
        "Requests to deployments with a response cache, by what it did.";
    CACHE_ENTRIES: Gauge "sluice_cache_entries" []
        "Answers that this process keeps.";
    CACHE_STORE_UP: Gauge "sluice_cache_store_up" []
        "1 while answers are kept in the shared store.";
    CACHE_BYTES: Gauge "sluice_cache_bytes" []
        "Memory that they take.";
    SHARED_RESERVATIONS: Counter "sluice_shared_reservations_total" ["result"]
        "Requests with shared limits, by what the shared store said.";
    SHARED_UP: Gauge "sluice_shared_up" []
        "1 while shared limits are counted in the shared store.";
    SHARED_SETTLEMENTS_LOST: Counter "sluice_shared_settlements_lost_total" []
        "Requests whose reservation in the shared store was not settled.";
    TOKENS: Counter "sluice_tokens_total" ["kind"]
        "Tokens reported or estimated.";
    USAGE_ROWS: Counter "sluice_usage_rows_total" ["result"]
        "Usage rows by what became of them.";
    USAGE_QUEUE_ROWS: Gauge "sluice_usage_queue_rows" []
        "Usage rows in the spool that are not in the store.";
    USAGE_INSERTS: Counter "sluice_usage_inserts_total" ["result"]
        "Batches sent to the usage store, by its answer.";
    USAGE_INSERT_RETRIES: Counter "sluice_usage_insert_retries_total" []
        "Waits before a batch was sent again.";
    USAGE_SPOOL_BYTES: Gauge "sluice_usage_spool_bytes" []
        "Bytes of the disk that the spool takes.";
    USAGE_OLDEST_AGE: Gauge "sluice_usage_oldest_row_age_seconds" []
        "Age of the oldest usage row that is being sent; 0 when none is.";
    USAGE_SPOOL_FULL: Gauge "sluice_usage_spool_full" []
        "1 when the disk has no room for more usage rows.";
    PAYLOADS: Counter "sluice_payloads_total" ["result"]
        "Requests whose bodies are logged, by what became of the bodies.";
    USAGE_SHED: Counter "sluice_usage_shed_total" []
        "Requests refused because the disk has no room for usage rows.";
    USAGE_CRASHED: Counter "sluice_usage_crashed_requests_total" []
        "Requests that were in flight when an earlier process ended.";
    USAGE_SPOOL_DAMAGED: Counter "sluice_usage_spool_damaged_total" []
        "Stretches of the spool that could not be read.";
    USAGE_SPOOL_DAMAGED_ROWS: Counter "sluice_usage_spool_damaged_rows_total" []
        "Usage rows known to have been in them.";
    USAGE_SEGMENTS_MISSING: Counter "sluice_usage_spool_segments_missing_total" []
        "Segments of the spool that were not there or could not be opened.";
    LOG_LINES_DROPPED: Counter "sluice_log_lines_dropped_total" []
        "Log lines lost to a full queue or a broken stderr.";
    RELOADS: Counter "sluice_reloads_total" ["result"]
        "Reloads of the declarative document.";
    DNS_LOOKUPS: Counter "sluice_dns_lookups_total" ["result"]
        "Lookups of upstream names.";
    STATE_STORE_UP: Gauge "sluice_state_store_up" []
        "1 while the state store can be read; requests are served from memory meanwhile.";
    READY: Gauge "sluice_ready" []
        "1 when the process accepts requests, as /readyz says.";
    BUILD_INFO: Gauge "sluice_build_info" ["version"]
        "Always 1; the label says what runs.";
    PROCESS_CPU: Counter "process_cpu_seconds_total" []
        "User and system time of the process.";
    PROCESS_RESIDENT: Gauge "process_resident_memory_bytes" []
        "Memory of the process that is in RAM.";
    PROCESS_THREADS: Gauge "process_threads" []
        "Threads of the process.";
    PROCESS_FDS: Gauge "process_open_fds" []
        "Open file descriptors.";
    PROCESS_FDS_MAX: Gauge "process_max_fds" []
        "File descriptors that the process may open.";
}
