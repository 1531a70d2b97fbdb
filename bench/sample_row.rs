//! A usage row, as benches record it.

use std::sync::Arc;

use sluice::clock::Clock;
use sluice::dialect::{Dialect, Endpoint};
use sluice::id::{
    ConnectionId, DeploymentId, EnvironmentId, ModelId, TargetId, VirtualKeyId, WorkspaceId,
};
use sluice::usage::record::{
    AttemptRow, Outcome, RowCaller, RowTarget, Timings, Tokens, UsageRow, UsageSource,
};

/// A row as of a chat with one attempt.
pub(crate) fn row() -> UsageRow {
    let name = |n| uuid::Uuid::from_u128(n);
    let target = Arc::new(RowTarget {
        target: TargetId(name(1)),
        model: ModelId(name(2)),
        model_alias: "sonnet".into(),
        upstream_model: "claude-sonnet-4-5".into(),
        connection: ConnectionId(name(3)),
        connection_name: "anthropic-main".into(),
        provider: "anthropic",
    });
    UsageRow {
        request_id: sluice::id::new_request_id(),
        client_request_id: None,
        upstream_request_id: Some("req_011CSHoEeqs5C35K2UUqR7Fy".into()),
        correlation_id: None,
        started_at_us: Clock::default().unix_micros(),
        caller: Arc::new(RowCaller {
            workspace: WorkspaceId(name(4)),
            workspace_slug: "acme".into(),
            environment: EnvironmentId(name(5)),
            environment_slug: "production".into(),
            key: Some(VirtualKeyId(name(6))),
            key_name: Some("application".into()),
        }),
        endpoint: Endpoint::ChatCompletions,
        dialect: Dialect::Chat,
        requested_model: "chat".into(),
        deployment: Some((DeploymentId(name(7)), "chat".into())),
        target: Some(Arc::clone(&target)),
        is_stream: false,
        status: 200,
        outcome: Outcome::Success,
        error_class: None,
        is_degraded: false,
        cache: None,
        usage_source: UsageSource::Reported,
        tokens: Tokens { input_uncached: Some(812), output: Some(97), ..Tokens::default() },
        cost_nanousd: Some(3_891_000),
        saved_nanousd: 0,
        price_version: Some("2026-10-01".into()),
        timings: Timings { total_us: 812_331, overhead_us: 61, ..Timings::default() },
        request_bytes: 1_024,
        response_bytes: 2_048,
        source_ip: Some(std::net::IpAddr::from([10, 1, 2, 3])),
        end_user: Some("user-1931".into()),
        metadata: vec![("feature".into(), "search".into())],
        retention_days: None,
        attempts: vec![AttemptRow {
            target,
            status: Some(200),
            error_class: None,
            is_maybe_billed: false,
            started_us: 61,
            headers_us: Some(811_000),
            first_token_us: Some(811_002),
            total_us: 812_000,
        }],
    }
}
