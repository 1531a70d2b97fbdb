//! Rows of every kind, made at random from small sets, so that groups have several.

use std::net::IpAddr;
use std::sync::Arc;

use proptest::prelude::*;
use proptest::sample::select;
use sluice::dialect::{Dialect, Endpoint};
use sluice::id::{
    ConnectionId, DeploymentId, EnvironmentId, ModelId, TargetId, VirtualKeyId, WorkspaceId,
};
use sluice::usage::record::{
    AttemptRow, CacheUse, Outcome, RowCaller, RowTarget, Timings, Tokens, UsageRow, UsageSource,
};
use uuid::Uuid;

/// 2026-07-25T00:00:00Z, a Saturday.
pub(super) const BEGIN_US: i64 = 1_784_937_600_000_000;
pub(super) const HOUR_US: i64 = 3_600_000_000;
pub(super) const DAY_US: i64 = 24 * HOUR_US;
/// Rows lie in as many days, half of them in the first three hours.
pub(super) const DAYS: i64 = 40;

/// Texts that break SQL where they get into it.
pub(super) const HOSTILE: [&str; 8] = [
    "O'Brien",
    "x' OR '1'='1",
    "\\' OR 1=1 --",
    "a\tb\nc\\d",
    "{p1:String}",
    "?1",
    "[1, 2]",
    "ü😀\u{202e}",
];

const CACHE: [CacheUse; 3] = [CacheUse::Hit, CacheUse::Miss, CacheUse::Bypass];

pub(super) fn rows(n_max: usize) -> impl Strategy<Value = Vec<UsageRow>> {
    proptest::collection::vec(row(), 1..n_max).prop_map(|mut rows| {
        for (number, row) in rows.iter_mut().enumerate() {
            row.request_id = Uuid::from_u128((number as u128 + 1) << 64 | 7);
        }
        rows
    })
}

fn row() -> impl Strategy<Value = UsageRow> {
    let who = (caller(), proptest::option::of(0_u8..3), proptest::option::weighted(0.8, 0_u8..4));
    let how = (select(&Outcome::ALL[..]), select(vec![200_u16, 429, 499, 503]), any::<bool>());
    let sums = (tokens(), proptest::option::of(money()), any::<bool>());
    let client = (end_user(), source_ip(), metadata(), proptest::collection::vec(0_u8..4, 0..4));
    let timings = (timings(), any::<bool>(), proptest::option::of(Just("timeout")));
    let cache = (proptest::option::of(select(CACHE.to_vec())), prop_oneof![Just(0), money()]);
    (started_at(), who, how, sums, client, timings, cache).prop_map(
        |(started_at_us, who, how, sums, client, (timings, is_degraded, error_class), cache)| {
            UsageRow {
                request_id: Uuid::nil(),
                client_request_id: client.0.clone(),
                upstream_request_id: None,
                correlation_id: client.0.clone(),
                started_at_us,
                caller: who.0,
                endpoint: if how.2 { Endpoint::ChatCompletions } else { Endpoint::Embeddings },
                dialect: if how.2 { Dialect::Chat } else { Dialect::Embeddings },
                requested_model: "chat".into(),
                deployment: who.1.map(|n| {
                    let name = format!("d{n}");
                    (DeploymentId::of_path(&[&name]), name.into())
                }),
                target: who.2.map(target),
                is_stream: how.2,
                status: how.1,
                outcome: how.0,
                error_class,
                is_degraded,
                usage_source: UsageSource::Reported,
                tokens: sums.0,
                cost_nanousd: sums.1,
                price_version: sums.2.then(|| "catalogue".into()),
                timings,
                request_bytes: 10,
                response_bytes: 20,
                source_ip: client.1,
                end_user: client.0,
                metadata: client.2,
                cache: cache.0,
                saved_nanousd: cache.1,
                attempts: client.3.into_iter().map(attempt).collect(),
                // Without, ClickHouse has the usual number and the embedded store has none.
                // Of its own: ClickHouse has the usual number as well, and the embedded store has none.
                retention_days: Some(3_649),
            }
        },
    )
}

fn started_at() -> impl Strategy<Value = i64> {
    let exact = (0..DAYS * 24).prop_map(|hour| hour * HOUR_US);
    prop_oneof![4 => 0..3 * HOUR_US, 3 => 0..DAYS * DAY_US, 1 => exact].prop_map(|us| BEGIN_US + us)
}

fn caller() -> impl Strategy<Value = Arc<RowCaller>> {
    (0_u8..2, 0_u8..2, 0_u8..3).prop_map(|(workspace, environment, key)| {
        let (workspace, environment) = (format!("w{workspace}"), format!("e{environment}"));
        let key = (key > 0).then(|| format!("k{key}"));
        Arc::new(RowCaller {
            workspace: WorkspaceId::of_path(&[&workspace]),
            environment: EnvironmentId::of_path(&[&workspace, &environment]),
            key: key.as_ref().map(|key| VirtualKeyId::of_path(&[&workspace, &environment, key])),
            key_name: key.map(Into::into),
            workspace_slug: workspace.into(),
            environment_slug: environment.into(),
        })
    })
}

fn target(n: u8) -> Arc<RowTarget> {
    let (model, connection) = (format!("m{n}"), format!("c{}", n % 2));
    Arc::new(RowTarget {
        target: TargetId::of_path(&[&model]),
        model: ModelId::of_path(&[&model]),
        upstream_model: format!("upstream-{model}").into(),
        model_alias: model.into(),
        connection: ConnectionId::of_path(&[&connection]),
        connection_name: connection.into(),
        provider: if n < 2 { "openai" } else { "anthropic" },
    })
}

fn attempt(n: u8) -> AttemptRow {
    AttemptRow {
        target: target(n),
        status: (n > 0).then_some(503),
        error_class: (n > 1).then_some("server_error"),
        is_maybe_billed: n == 0,
        started_us: 5,
        headers_us: (n > 0).then_some(7),
        first_token_us: None,
        total_us: 9,
    }
}

fn tokens() -> impl Strategy<Value = Tokens> {
    let count = || proptest::option::of(prop_oneof![0_u64..5_000, 0_u64..1_000_000_000_000]);
    proptest::array::uniform8(count()).prop_map(|[a, b, c, d, e, f, g, h]| Tokens {
        input_uncached: a,
        input_cache_read: b,
        input_cache_write_5m: c,
        input_cache_write_1h: d,
        output: e,
        reasoning: f,
        audio_in: g,
        audio_out: h,
    })
}

fn money() -> impl Strategy<Value = u64> {
    prop_oneof![0_u64..5_000_000, 0_u64..10_000_000_000_000]
}

fn timings() -> impl Strategy<Value = Timings> {
    let time = || prop_oneof![0_u64..64, 0_u64..100_000, 0_u64..600_000_000];
    (time(), time(), proptest::option::of(time())).prop_map(|(total, overhead, first)| Timings {
        total_us: total,
        overhead_us: overhead,
        queue_us: 0,
        headers_us: first,
        first_token_us: first,
    })
}

fn end_user() -> impl Strategy<Value = Option<Box<str>>> {
    proptest::option::of(select(HOSTILE.to_vec())).prop_map(|user| user.map(Into::into))
}

fn source_ip() -> impl Strategy<Value = Option<IpAddr>> {
    let known = ["10.0.0.1", "10.0.0.2", "2001:db8::1"].map(|ip| ip.parse().unwrap());
    proptest::option::of(select(known.to_vec()))
}

fn metadata() -> impl Strategy<Value = Vec<(Box<str>, Box<str>)>> {
    proptest::option::of(select(HOSTILE.to_vec()))
        .prop_map(|team| team.into_iter().map(|team| ("team".into(), team.into())).collect())
}
