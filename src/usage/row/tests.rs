//! What is encoded is found again, column by column; rows for the tests of others.

use std::net::IpAddr;
use std::sync::Arc;

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::dialect::{Dialect, Endpoint};
use crate::id::{
    ConnectionId, DeploymentId, EnvironmentId, ModelId, TargetId, VirtualKeyId, WorkspaceId,
};
use crate::usage::record::{
    AttemptRow, CacheUse, Outcome, RefusedRow, RowCaller, RowTarget, Timings, Tokens, UsageRow,
    UsageSource,
};

pub(crate) const STARTED_AT_US: i64 = 1_785_000_000_123_456;

pub(crate) fn stamp() -> Stamp {
    Stamp::new("node-1", 90)
}

pub(crate) fn encoded(row: &UsageRow) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(row, &stamp(), &mut bytes);
    bytes
}

/// The row of a request that got no further than its key.
pub(crate) fn bare(number: u64) -> UsageRow {
    UsageRow {
        request_id: Uuid::from_u128(u128::from(number)),
        client_request_id: None,
        upstream_request_id: None,
        correlation_id: None,
        started_at_us: STARTED_AT_US,
        caller: Arc::new(RowCaller {
            workspace: WorkspaceId(Uuid::from_u128(0xa1)),
            workspace_slug: "acme".into(),
            environment: EnvironmentId(Uuid::from_u128(0xa2)),
            environment_slug: "production".into(),
            key: None,
            key_name: None,
        }),
        endpoint: Endpoint::ChatCompletions,
        dialect: Dialect::Chat,
        requested_model: "".into(),
        deployment: None,
        target: None,
        is_stream: false,
        status: 401,
        outcome: Outcome::Unauthorized,
        error_class: None,
        is_degraded: false,
        cache: None,
        usage_source: UsageSource::None,
        tokens: Tokens::default(),
        cost_nanousd: None,
        saved_nanousd: 0,
        price_version: None,
        timings: Timings::default(),
        request_bytes: 0,
        response_bytes: 0,
        source_ip: None,
        end_user: None,
        metadata: Vec::new(),
        attempts: Vec::new(),
        retention_days: None,
    }
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[ -~]{0,12}", "\\PC{0,200}", Just(String::new())]
}

fn id() -> impl Strategy<Value = Uuid> {
    any::<u128>().prop_map(Uuid::from_u128)
}

fn target() -> impl Strategy<Value = Arc<RowTarget>> {
    (id(), id(), text(), text(), id(), text()).prop_map(
        |(target, model, alias, upstream_model, connection, name)| {
            Arc::new(RowTarget {
                target: TargetId(target),
                model: ModelId(model),
                model_alias: alias.into(),
                upstream_model: upstream_model.into(),
                connection: ConnectionId(connection),
                connection_name: name.into(),
                provider: "anthropic",
            })
        },
    )
}

fn attempt() -> impl Strategy<Value = AttemptRow> {
    let times = (any::<u64>(), any::<Option<u64>>(), any::<Option<u64>>(), any::<u64>());
    let status = proptest::option::of(1..=u16::MAX);
    (target(), status, any::<[bool; 2]>(), times).prop_map(
        |(target, status, [has_class, is_maybe_billed], times)| AttemptRow {
            target,
            status,
            error_class: has_class.then_some("reset"),
            is_maybe_billed,
            started_us: times.0,
            headers_us: times.1,
            first_token_us: times.2,
            total_us: times.3,
        },
    )
}

fn caller() -> impl Strategy<Value = Arc<RowCaller>> {
    (id(), text(), id(), text(), proptest::option::of((id(), "[a-z]{1,9}"))).prop_map(
        |(workspace, slug, environment, environment_slug, key)| {
            Arc::new(RowCaller {
                workspace: WorkspaceId(workspace),
                workspace_slug: slug.into(),
                environment: EnvironmentId(environment),
                environment_slug: environment_slug.into(),
                key: key.as_ref().map(|(id, _)| VirtualKeyId(*id)),
                key_name: key.map(|(_, name)| name.into()),
            })
        },
    )
}

fn tokens() -> impl Strategy<Value = Tokens> {
    any::<[Option<u64>; 8]>().prop_map(|[a, b, c, d, e, f, g, h]| Tokens {
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

/// Any row there can be.
pub(crate) fn rows() -> impl Strategy<Value = UsageRow> {
    let who = (id(), any::<i64>(), caller(), any::<Option<IpAddr>>());
    let asked = (0..Endpoint::ALL.len(), text(), proptest::option::of((id(), "[a-z]{1,9}")));
    let went = (proptest::option::of(target()), proptest::collection::vec(attempt(), 0..4));
    let ended = (any::<u16>(), 0..Outcome::ALL.len(), any::<[bool; 3]>(), 0..4_usize);
    let used =
        (tokens(), any::<Option<u64>>(), any::<u64>(), any::<[u64; 5]>(), any::<Option<u16>>());
    let texts = any::<[Option<bool>; 4]>().prop_flat_map(|_| {
        (
            proptest::collection::vec(proptest::option::of("[ -~]{1,20}"), 4),
            proptest::collection::vec((text(), text()), 0..4),
        )
    });
    (who, asked, went, ended, used, texts).prop_map(
        |(who, asked, went, ended, used, (texts, metadata))| {
            let some = |n: usize| texts[n].clone().map(String::into_boxed_str);
            let endpoint = Endpoint::ALL[asked.0];
            UsageRow {
                request_id: who.0,
                started_at_us: who.1,
                caller: who.2,
                source_ip: who.3.map(|ip| ip.to_canonical()).filter(|ip| !ip.is_unspecified()),
                client_request_id: some(0),
                upstream_request_id: some(1),
                correlation_id: some(2),
                end_user: some(3),
                endpoint,
                dialect: endpoint.dialect(),
                requested_model: asked.1.into(),
                deployment: asked.2.map(|(id, name)| (DeploymentId(id), name.into())),
                target: went.0,
                attempts: went.1,
                status: ended.0,
                outcome: Outcome::ALL[ended.1],
                error_class: ended.2[0].then_some("timeout"),
                is_degraded: ended.2[1],
                is_stream: ended.2[2],
                cache: [None, Some(CacheUse::Hit), Some(CacheUse::Miss), Some(CacheUse::Bypass)]
                    [ended.3],
                usage_source: UsageSource::Estimated,
                tokens: used.0,
                cost_nanousd: used.1,
                saved_nanousd: used.2,
                price_version: used.1.map(|_| "catalogue-1".into()),
                timings: Timings {
                    total_us: used.3[0],
                    overhead_us: used.3[1],
                    queue_us: used.3[2],
                    headers_us: used.1,
                    first_token_us: used.1,
                },
                request_bytes: used.3[3],
                response_bytes: used.3[4],
                retention_days: used.4,
                metadata: metadata.into_iter().map(|(k, v)| (k.into(), v.into())).collect(),
            }
        },
    )
}

/// What `row` must look like when it is read.
fn expected(row: &UsageRow) -> RowView<'_> {
    let target = row.target.as_deref();
    RowView {
        started_at_us: row.started_at_us,
        request_id: row.request_id,
        workspace_id: row.caller.workspace.0,
        workspace: &row.caller.workspace_slug,
        environment_id: row.caller.environment.0,
        environment: &row.caller.environment_slug,
        key_id: row.caller.key.map(|key| key.0),
        key: row.caller.key_name.as_deref().unwrap_or_default(),
        deployment_id: row.deployment.as_ref().map(|(id, _)| id.0),
        deployment: row.deployment.as_ref().map_or("", |(_, name)| name),
        requested_model: &row.requested_model,
        target_id: target.map(|target| target.target.0),
        model_id: target.map(|target| target.model.0),
        model: target.map_or("", |target| &target.model_alias),
        upstream_model: target.map_or("", |target| &target.upstream_model),
        provider: target.map_or("", |target| target.provider),
        connection_id: target.map(|target| target.connection.0),
        connection: target.map_or("", |target| &target.connection_name),
        dialect: row.dialect.name(),
        endpoint: row.endpoint.name(),
        is_stream: row.is_stream,
        status: row.status,
        outcome: row.outcome.name(),
        error_class: row.error_class.unwrap_or_default(),
        is_degraded: row.is_degraded,
        cache: row.cache.map_or("", |cache| cache.name()),
        usage_source: row.usage_source.name(),
        tokens: row.tokens,
        cost_nanousd: row.cost_nanousd,
        saved_nanousd: row.saved_nanousd,
        is_priced: row.cost_nanousd.is_some() || row.price_version.is_some(),
        price_version: row.price_version.as_deref().unwrap_or_default(),
        timings: row.timings,
        request_bytes: row.request_bytes,
        response_bytes: row.response_bytes,
        source_ip: row.source_ip,
        end_user: row.end_user.as_deref().unwrap_or_default(),
        metadata: row.metadata.iter().map(|(key, value)| (&**key, &**value)).collect(),
        correlation_id: row.correlation_id.as_deref().unwrap_or_default(),
        client_request_id: row.client_request_id.as_deref().unwrap_or_default(),
        upstream_request_id: row.upstream_request_id.as_deref().unwrap_or_default(),
        attempts: row.attempts.iter().map(expected_attempt).collect(),
        retention_days: row.retention_days.unwrap_or(90),
        node: "node-1",
        gateway_version: env!("CARGO_PKG_VERSION"),
        caller_bytes: &[],
    }
}

fn expected_attempt(attempt: &AttemptRow) -> AttemptView<'_> {
    AttemptView {
        target_id: attempt.target.target.0,
        connection_id: attempt.target.connection.0,
        connection: &attempt.target.connection_name,
        model: &attempt.target.model_alias,
        provider: attempt.target.provider,
        status: attempt.status.unwrap_or(0),
        error_class: attempt.error_class.unwrap_or_default(),
        is_maybe_billed: attempt.is_maybe_billed,
        started_us: attempt.started_us,
        headers_us: attempt.headers_us,
        first_token_us: attempt.first_token_us,
        total_us: attempt.total_us,
    }
}

proptest! {
    #[test]
    fn encoded_row_is_found_again(row in rows()) {
        let bytes = encoded(&row);
        let view = RowView::decode(&bytes).unwrap();
        prop_assert_eq!(RowView { caller_bytes: &[], ..view }, expected(&row));
        prop_assert_eq!(request_key(&bytes).map(|key| {
            let (high, low) = key.split_at(8);
            Uuid::from_u64_pair(
                u64::from_le_bytes(high.try_into().unwrap()),
                u64::from_le_bytes(low.try_into().unwrap()),
            )
        }), Some(row.request_id));
        prop_assert_eq!(started_at_us(&bytes), Some(row.started_at_us));
    }

    #[test]
    fn damaged_row_is_an_error_or_another_row(row in rows(), at: prop::sample::Index, to: u8) {
        let mut bytes = encoded(&row);
        let at = at.index(bytes.len());
        bytes[at] = to;
        // Whatever it says, it does not panic, and takes no memory that the bytes do not.
        drop(RowView::decode(&bytes));
        prop_assert!(RowView::decode(&bytes[..at]).is_err());
    }

    #[test]
    fn callers_with_the_same_bytes_are_the_same(one in rows(), other in rows()) {
        let same = UsageRow { caller: Arc::clone(&one.caller), ..other.clone() };
        let bytes = [&one, &same, &other].map(encoded);
        let [one_view, same, other_view] =
            [&bytes[0], &bytes[1], &bytes[2]].map(|bytes| RowView::decode(bytes).unwrap());
        prop_assert_eq!(one_view.caller_bytes, same.caller_bytes);
        let is_same = one.caller == other.caller;
        prop_assert_eq!(one_view.caller_bytes == other_view.caller_bytes, is_same);
    }

    #[test]
    fn refused_keys_are_found_again(
        unix_minute in 0..70_000_000_i64, ip in any::<Option<IpAddr>>(), count: u64,
    ) {
        let source_ip = ip.map(|ip| ip.to_canonical()).filter(|ip| !ip.is_unspecified());
        let row = RefusedRow { unix_minute, source_ip, count };
        let mut bytes = Vec::new();
        encode_refused(&row, &stamp(), &mut bytes);
        let view = RefusedView { unix_minute, source_ip, node: "node-1", count };
        prop_assert_eq!(RefusedView::decode(&bytes), Ok(view));
    }
}

#[test]
fn row_that_is_too_large_is_cut_and_says_so() {
    let mut row = bare(1);
    row.requested_model = "é".repeat(200_000).into();
    row.metadata = vec![("k".into(), "v".repeat(100_000).into())];
    let bytes = encoded(&row);
    assert!(bytes.len() < 4_096, "{}", bytes.len());
    let view = RowView::decode(&bytes).unwrap();
    assert_eq!((view.requested_model, view.is_degraded), (&*"é".repeat(128), true));
    assert_eq!(view.request_id, row.request_id);
}

#[test]
fn bytes_are_those_of_the_format() {
    let mut row = bare(0x0102_0304);
    row.source_ip = Some(IpAddr::from([10, 0, 0, 1]));
    let bytes = encoded(&row);
    // DateTime64 first, then the UUID as two halves with their lowest byte first.
    assert_eq!(bytes[..8], STARTED_AT_US.to_le_bytes());
    assert_eq!(bytes[8..24], [0, 0, 0, 0, 0, 0, 0, 0, 4, 3, 2, 1, 0, 0, 0, 0]);
    let mapped = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 1];
    assert!(bytes.windows(16).any(|window| window == mapped));
}

#[test]
fn fingerprint_changes_only_on_purpose() {
    assert_eq!(COLUMNS.len(), 67);
    insta::assert_snapshot!(format!("{:016x}", fingerprint()), @"a324707caa1b0c5e");
}
