//! Integration tests: the gateway, its clients and its providers on real sockets.
//!
//! The harness checks after every test that there is exactly one usage row for each request, and that
//! nothing is left in flight.
#![expect(
    clippy::float_cmp,
    clippy::indexing_slicing,
    clippy::large_futures,
    clippy::panic,
    clippy::print_stdout,
    clippy::string_slice,
    clippy::unwrap_used,
    reason = "a test may panic, print and wait at length, and compares whole numbers"
)]

mod clickhouse_rows;
mod clickhouse_server;
mod client;
mod harness;
mod postgres_server;

mod additions;
mod admin_commands;
mod admin_connections;
mod admin_docs;
mod admin_document;
mod admin_openapi;
mod admin_postgres;
mod admin_resources;
mod admin_roles;
mod admin_schemathesis;
mod admin_users;
mod admin_uses;
mod alerts;
mod answers;
mod bad_input;
mod basics;
mod bedrock;
mod binary;
mod cache;
mod canaries;
mod clickhouse_dashboards;
mod clickhouse_faults;
mod clickhouse_schema;
mod client_faults;
mod command_line;
mod disk_full;
mod documents;
mod fidelity;
mod framing;
mod fronts;
mod key_changes;
mod keys;
mod kills;
mod leaks;
mod limits;
mod models;
mod oidc;
mod options;
mod payloads;
mod provider_errors;
mod providers;
mod redis_server;
mod reload;
mod routes;
mod routing;
mod rules;
mod sdk;
mod shared_limits;
mod signals;
mod stored;
mod tls;
mod translate;
mod upstream;
mod usage_clickhouse;
mod usage_query;
mod usage_rows;
mod wire;
