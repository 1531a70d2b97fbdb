//! A usage row to bytes.

use std::net::IpAddr;

use uuid::Uuid;

use crate::usage::record::{AttemptRow, RowTarget, UsageRow};

/// A row beyond this is encoded again with its texts cut: what a client sends does not decide
/// whether its request is recorded.
const ROW_BYTES_MAX: usize = 256 * 1024;

/// What is left of each text of a client in a row that was too large.
const CUT_TEXT_BYTES: usize = 256;

/// What every row of the process ends with, encoded once.
#[derive(Debug, Clone)]
pub struct Stamp {
    node: Box<str>,
    retention_days: u16,
    tail: Box<[u8]>,
}

impl Stamp {
    pub fn new(node: &str, retention_days: u16) -> Self {
        let mut tail = Vec::new();
        put_text(&mut tail, node);
        put_text(&mut tail, env!("CARGO_PKG_VERSION"));
        Self { node: node.into(), retention_days, tail: tail.into() }
    }

    pub fn node(&self) -> &str {
        &self.node
    }

    /// Of workspaces that do not say.
    pub fn retention_days(&self) -> u16 {
        self.retention_days
    }
}

/// Appends the bytes of `row` to `to`.
pub fn encode(row: &UsageRow, stamp: &Stamp, to: &mut Vec<u8>) {
    let start = to.len();
    encode_within(row, stamp, to, usize::MAX);
    if to.len() - start > ROW_BYTES_MAX {
        to.truncate(start);
        encode_within(row, stamp, to, CUT_TEXT_BYTES);
    }
}

fn encode_within(row: &UsageRow, stamp: &Stamp, to: &mut Vec<u8>, text_max: usize) {
    let is_cut = text_max != usize::MAX;
    to.reserve(768);
    put_i64(to, row.started_at_us);
    put_uuid(to, row.request_id);
    put_caller(to, row);
    put_client_text(to, &row.requested_model, text_max);
    put_target(to, row.target.as_deref());
    put_text(to, row.dialect.name());
    put_text(to, row.endpoint.name());
    put_flag(to, row.is_stream);
    put_u16(to, row.status);
    put_text(to, row.outcome.name());
    put_text(to, row.error_class.unwrap_or_default());
    put_flag(to, row.is_degraded || is_cut);
    put_text(to, row.cache.map_or("", |cache| cache.name()));
    put_usage(to, row);
    put_measures(to, row);
    put_ip(to, row.source_ip);
    put_client_text(to, row.end_user.as_deref().unwrap_or_default(), text_max);
    let metadata = if is_cut { &[] } else { &*row.metadata };
    put_length(to, metadata.len());
    for (key, value) in metadata {
        put_text(to, key);
        put_text(to, value);
    }
    put_client_text(to, row.correlation_id.as_deref().unwrap_or_default(), text_max);
    put_client_text(to, row.client_request_id.as_deref().unwrap_or_default(), text_max);
    put_client_text(to, row.upstream_request_id.as_deref().unwrap_or_default(), text_max);
    put_attempts(to, &row.attempts);
    put_u16(to, row.retention_days.unwrap_or(stamp.retention_days));
    to.extend_from_slice(&stamp.tail);
}

fn put_caller(to: &mut Vec<u8>, row: &UsageRow) {
    let caller = &*row.caller;
    put_uuid(to, caller.workspace.0);
    put_text(to, &caller.workspace_slug);
    put_uuid(to, caller.environment.0);
    put_text(to, &caller.environment_slug);
    put_optional_uuid(to, caller.key.map(|key| key.0));
    put_text(to, caller.key_name.as_deref().unwrap_or_default());
    let deployment = row.deployment.as_ref();
    put_optional_uuid(to, deployment.map(|(id, _)| id.0));
    put_text(to, deployment.map_or("", |(_, name)| name));
}

fn put_target(to: &mut Vec<u8>, target: Option<&RowTarget>) {
    put_optional_uuid(to, target.map(|target| target.target.0));
    put_optional_uuid(to, target.map(|target| target.model.0));
    put_text(to, target.map_or("", |target| &target.model_alias));
    put_text(to, target.map_or("", |target| &target.upstream_model));
    put_text(to, target.map_or("", |target| target.provider));
    put_optional_uuid(to, target.map(|target| target.connection.0));
    put_text(to, target.map_or("", |target| &target.connection_name));
}

fn put_usage(to: &mut Vec<u8>, row: &UsageRow) {
    let tokens = &row.tokens;
    put_text(to, row.usage_source.name());
    for count in [
        tokens.input_uncached,
        tokens.input_cache_read,
        tokens.input_cache_write_5m,
        tokens.input_cache_write_1h,
        tokens.output,
        tokens.reasoning,
        tokens.audio_in,
        tokens.audio_out,
        row.cost_nanousd,
    ] {
        put_optional_u64(to, count);
    }
    put_u64(to, row.saved_nanousd);
    // A request of a priced model may still have no cost: nobody said how many tokens it used.
    put_flag(to, row.cost_nanousd.is_some() || row.price_version.is_some());
    put_text(to, row.price_version.as_deref().unwrap_or_default());
}

fn put_measures(to: &mut Vec<u8>, row: &UsageRow) {
    let timings = &row.timings;
    put_u64(to, timings.total_us);
    put_u64(to, timings.overhead_us);
    put_u64(to, timings.queue_us);
    put_optional_u64(to, timings.headers_us);
    put_optional_u64(to, timings.first_token_us);
    put_u64(to, row.request_bytes);
    put_u64(to, row.response_bytes);
}

/// One array after the other, each as long as there are attempts.
fn put_attempts(to: &mut Vec<u8>, attempts: &[AttemptRow]) {
    fn each(to: &mut Vec<u8>, all: &[AttemptRow], put: impl Fn(&mut Vec<u8>, &AttemptRow)) {
        put_length(to, all.len());
        for attempt in all {
            put(to, attempt);
        }
    }
    each(to, attempts, |to, attempt| put_uuid(to, attempt.target.target.0));
    each(to, attempts, |to, attempt| put_uuid(to, attempt.target.connection.0));
    each(to, attempts, |to, attempt| put_text(to, &attempt.target.connection_name));
    each(to, attempts, |to, attempt| put_text(to, &attempt.target.model_alias));
    each(to, attempts, |to, attempt| put_text(to, attempt.target.provider));
    each(to, attempts, |to, attempt| put_u16(to, attempt.status.unwrap_or(0)));
    each(to, attempts, |to, attempt| put_text(to, attempt.error_class.unwrap_or_default()));
    each(to, attempts, |to, attempt| put_flag(to, attempt.is_maybe_billed));
    each(to, attempts, |to, attempt| put_u64(to, attempt.started_us));
    each(to, attempts, |to, attempt| put_optional_u64(to, attempt.headers_us));
    each(to, attempts, |to, attempt| put_optional_u64(to, attempt.first_token_us));
    each(to, attempts, |to, attempt| put_u64(to, attempt.total_us));
}

// === the types of RowBinary ===

fn put_flag(to: &mut Vec<u8>, flag: bool) {
    to.push(u8::from(flag));
}

pub(super) fn put_u16(to: &mut Vec<u8>, number: u16) {
    to.extend_from_slice(&number.to_le_bytes());
}

pub(super) fn put_u64(to: &mut Vec<u8>, number: u64) {
    to.extend_from_slice(&number.to_le_bytes());
}

pub(super) fn put_i64(to: &mut Vec<u8>, number: i64) {
    to.extend_from_slice(&number.to_le_bytes());
}

fn put_optional_u64(to: &mut Vec<u8>, number: Option<u64>) {
    match number {
        None => to.push(1),
        Some(number) => {
            to.push(0);
            put_u64(to, number);
        }
    }
}

/// Two halves, each with its lowest byte first.
pub(super) fn put_uuid(to: &mut Vec<u8>, id: Uuid) {
    let (high, low) = id.as_u64_pair();
    put_u64(to, high);
    put_u64(to, low);
}

fn put_optional_uuid(to: &mut Vec<u8>, id: Option<Uuid>) {
    match id {
        None => to.push(1),
        Some(id) => {
            to.push(0);
            put_uuid(to, id);
        }
    }
}

pub(super) fn put_text(to: &mut Vec<u8>, text: &str) {
    put_length(to, text.len());
    to.extend_from_slice(text.as_bytes());
}

fn put_client_text(to: &mut Vec<u8>, text: &str, bytes_max: usize) {
    let end = text.floor_char_boundary(bytes_max);
    put_text(to, text.get(..end).unwrap_or_default());
}

/// Seven bits a byte, the lowest first; all but the last byte have the highest bit set.
fn put_length(to: &mut Vec<u8>, length: usize) {
    let mut rest = length;
    while rest >= 0x80 {
        to.push(low_bits(rest) | 0x80);
        rest >>= 7;
    }
    to.push(low_bits(rest));
}

fn low_bits(number: usize) -> u8 {
    let [lowest, ..] = number.to_le_bytes();
    lowest & 0x7f
}

/// As IPv6; an unknown address is `::`.
pub(super) fn put_ip(to: &mut Vec<u8>, ip: Option<IpAddr>) {
    let octets = match ip {
        None => [0; 16],
        Some(IpAddr::V4(ip)) => ip.to_ipv6_mapped().octets(),
        Some(IpAddr::V6(ip)) => ip.octets(),
    };
    to.extend_from_slice(&octets);
}
