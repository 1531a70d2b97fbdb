//! The bytes of a usage row as columns, without copying.

use std::net::{IpAddr, Ipv6Addr};

use uuid::Uuid;

use super::NotARow;
use crate::price::Tokens;
use crate::usage::record::Timings;

/// The columns of one row. A text that does not apply is empty.
#[expect(clippy::struct_excessive_bools, reason = "each is a column of its own")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowView<'a> {
    pub started_at_us: i64,
    pub request_id: Uuid,
    pub workspace_id: Uuid,
    pub workspace: &'a str,
    pub environment_id: Uuid,
    pub environment: &'a str,
    pub key_id: Option<Uuid>,
    pub key: &'a str,
    pub deployment_id: Option<Uuid>,
    pub deployment: &'a str,
    pub requested_model: &'a str,
    pub target_id: Option<Uuid>,
    pub model_id: Option<Uuid>,
    pub model: &'a str,
    pub upstream_model: &'a str,
    pub provider: &'a str,
    pub connection_id: Option<Uuid>,
    pub connection: &'a str,
    pub dialect: &'a str,
    pub endpoint: &'a str,
    pub is_stream: bool,
    pub status: u16,
    pub outcome: &'a str,
    pub error_class: &'a str,
    pub is_degraded: bool,
    pub cache: &'a str,
    pub usage_source: &'a str,
    pub tokens: Tokens,
    pub cost_nanousd: Option<u64>,
    pub saved_nanousd: u64,
    pub is_priced: bool,
    pub price_version: &'a str,
    pub timings: Timings,
    pub request_bytes: u64,
    pub response_bytes: u64,
    pub source_ip: Option<IpAddr>,
    pub end_user: &'a str,
    pub metadata: Vec<(&'a str, &'a str)>,
    pub correlation_id: &'a str,
    pub client_request_id: &'a str,
    pub upstream_request_id: &'a str,
    pub attempts: Vec<AttemptView<'a>>,
    pub retention_days: u16,
    pub node: &'a str,
    pub gateway_version: &'a str,
    /// The bytes of the columns from `workspace_id` to `key`: equal for equal callers.
    pub caller_bytes: &'a [u8],
}

/// One attempt. A status of 0 means that no answer came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AttemptView<'a> {
    pub target_id: Uuid,
    pub connection_id: Uuid,
    pub connection: &'a str,
    pub model: &'a str,
    pub provider: &'a str,
    pub status: u16,
    pub error_class: &'a str,
    pub is_maybe_billed: bool,
    pub started_us: u64,
    pub headers_us: Option<u64>,
    pub first_token_us: Option<u64>,
    pub total_us: u64,
}

/// What of a row is not yet read.
pub(super) struct Bytes<'a>(pub(super) &'a [u8]);

impl<'a> RowView<'a> {
    /// Reads one row, which must be all of `bytes`.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, NotARow> {
        let mut from = Bytes(bytes);
        let from = &mut from;
        let (started_at_us, request_id) = (from.u64()?.cast_signed(), from.uuid()?);
        let before_caller = from.0;
        let mut row = Self {
            workspace_id: from.uuid()?,
            workspace: from.text()?,
            environment_id: from.uuid()?,
            environment: from.text()?,
            key_id: from.optional_uuid()?,
            key: from.text()?,
            ..Self::empty()
        };
        row.caller_bytes = before(before_caller, from.0);
        (row.started_at_us, row.request_id) = (started_at_us, request_id);
        row.deployment_id = from.optional_uuid()?;
        row.deployment = from.text()?;
        row.requested_model = from.text()?;
        row.read_target(from)?;
        row.read_outcome(from)?;
        row.read_usage(from)?;
        row.read_measures(from)?;
        row.read_client(from)?;
        row.read_attempts(from)?;
        row.retention_days = from.u16()?;
        row.node = from.text()?;
        row.gateway_version = from.text()?;
        from.end()?;
        Ok(row)
    }

    /// Output tokens per second between the first token and the end.
    #[expect(clippy::cast_precision_loss, reason = "a rate for people to read")]
    pub fn tokens_per_second(&self) -> Option<f64> {
        let counts = [self.tokens.output, self.tokens.reasoning].map(|count| count.unwrap_or(0));
        let output = counts.into_iter().fold(0, u64::saturating_add);
        let spent_us = self.timings.total_us.checked_sub(self.timings.first_token_us?)?;
        (output > 0 && spent_us > 0).then(|| output as f64 * 1e6 / spent_us as f64)
    }

    fn read_target(&mut self, from: &mut Bytes<'a>) -> Result<(), NotARow> {
        self.target_id = from.optional_uuid()?;
        self.model_id = from.optional_uuid()?;
        self.model = from.text()?;
        self.upstream_model = from.text()?;
        self.provider = from.text()?;
        self.connection_id = from.optional_uuid()?;
        self.connection = from.text()?;
        Ok(())
    }

    fn read_outcome(&mut self, from: &mut Bytes<'a>) -> Result<(), NotARow> {
        self.dialect = from.text()?;
        self.endpoint = from.text()?;
        self.is_stream = from.flag()?;
        self.status = from.u16()?;
        self.outcome = from.text()?;
        self.error_class = from.text()?;
        self.is_degraded = from.flag()?;
        self.cache = from.text()?;
        Ok(())
    }

    fn read_usage(&mut self, from: &mut Bytes<'a>) -> Result<(), NotARow> {
        self.usage_source = from.text()?;
        self.tokens = Tokens {
            input_uncached: from.optional_u64()?,
            input_cache_read: from.optional_u64()?,
            input_cache_write_5m: from.optional_u64()?,
            input_cache_write_1h: from.optional_u64()?,
            output: from.optional_u64()?,
            reasoning: from.optional_u64()?,
            audio_in: from.optional_u64()?,
            audio_out: from.optional_u64()?,
        };
        self.cost_nanousd = from.optional_u64()?;
        self.saved_nanousd = from.u64()?;
        self.is_priced = from.flag()?;
        self.price_version = from.text()?;
        Ok(())
    }

    fn read_measures(&mut self, from: &mut Bytes<'a>) -> Result<(), NotARow> {
        self.timings = Timings {
            total_us: from.u64()?,
            overhead_us: from.u64()?,
            queue_us: from.u64()?,
            headers_us: from.optional_u64()?,
            first_token_us: from.optional_u64()?,
        };
        self.request_bytes = from.u64()?;
        self.response_bytes = from.u64()?;
        Ok(())
    }

    fn read_client(&mut self, from: &mut Bytes<'a>) -> Result<(), NotARow> {
        self.source_ip = from.ip()?;
        self.end_user = from.text()?;
        for _ in 0..from.length()? {
            self.metadata.push((from.text()?, from.text()?));
        }
        self.correlation_id = from.text()?;
        self.client_request_id = from.text()?;
        self.upstream_request_id = from.text()?;
        Ok(())
    }

    fn read_attempts(&mut self, from: &mut Bytes<'a>) -> Result<(), NotARow> {
        for _ in 0..from.length()? {
            let target_id = from.uuid()?;
            self.attempts.push(AttemptView { target_id, ..AttemptView::default() });
        }
        let attempts = &mut *self.attempts;
        from.each(attempts, |from, to| from.uuid().map(|id| to.connection_id = id))?;
        from.each(attempts, |from, to| from.text().map(|text| to.connection = text))?;
        from.each(attempts, |from, to| from.text().map(|text| to.model = text))?;
        from.each(attempts, |from, to| from.text().map(|text| to.provider = text))?;
        from.each(attempts, |from, to| from.u16().map(|status| to.status = status))?;
        from.each(attempts, |from, to| from.text().map(|text| to.error_class = text))?;
        from.each(attempts, |from, to| from.flag().map(|flag| to.is_maybe_billed = flag))?;
        from.each(attempts, |from, to| from.u64().map(|us| to.started_us = us))?;
        from.each(attempts, |from, to| from.optional_u64().map(|us| to.headers_us = us))?;
        from.each(attempts, |from, to| from.optional_u64().map(|us| to.first_token_us = us))?;
        from.each(attempts, |from, to| from.u64().map(|us| to.total_us = us))
    }

    fn empty() -> Self {
        Self {
            started_at_us: 0,
            request_id: Uuid::nil(),
            workspace_id: Uuid::nil(),
            workspace: "",
            environment_id: Uuid::nil(),
            environment: "",
            key_id: None,
            key: "",
            deployment_id: None,
            deployment: "",
            requested_model: "",
            target_id: None,
            model_id: None,
            model: "",
            upstream_model: "",
            provider: "",
            connection_id: None,
            connection: "",
            dialect: "",
            endpoint: "",
            is_stream: false,
            status: 0,
            outcome: "",
            error_class: "",
            is_degraded: false,
            cache: "",
            usage_source: "",
            tokens: Tokens::default(),
            cost_nanousd: None,
            saved_nanousd: 0,
            is_priced: false,
            price_version: "",
            timings: Timings::default(),
            request_bytes: 0,
            response_bytes: 0,
            source_ip: None,
            end_user: "",
            metadata: Vec::new(),
            correlation_id: "",
            client_request_id: "",
            upstream_request_id: "",
            attempts: Vec::new(),
            retention_days: 0,
            node: "",
            gateway_version: "",
            caller_bytes: &[],
        }
    }
}

/// What of `all` stands before its end `rest`.
fn before<'a>(all: &'a [u8], rest: &[u8]) -> &'a [u8] {
    all.get(..all.len() - rest.len()).unwrap_or_default()
}

impl<'a> Bytes<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8], NotARow> {
        let (taken, rest) = self.0.split_at_checked(n).ok_or(NotARow)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], NotARow> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or(NotARow)?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(super) fn end(&self) -> Result<(), NotARow> {
        if self.0.is_empty() { Ok(()) } else { Err(NotARow) }
    }

    fn flag(&mut self) -> Result<bool, NotARow> {
        match self.array()? {
            [0] => Ok(false),
            [1] => Ok(true),
            _ => Err(NotARow),
        }
    }

    pub(super) fn u16(&mut self) -> Result<u16, NotARow> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, NotARow> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, NotARow> {
        self.array().map(u64::from_le_bytes)
    }

    fn optional_u64(&mut self) -> Result<Option<u64>, NotARow> {
        if self.flag()? { Ok(None) } else { self.u64().map(Some) }
    }

    pub(super) fn uuid(&mut self) -> Result<Uuid, NotARow> {
        Ok(Uuid::from_u64_pair(self.u64()?, self.u64()?))
    }

    fn optional_uuid(&mut self) -> Result<Option<Uuid>, NotARow> {
        if self.flag()? { Ok(None) } else { self.uuid().map(Some) }
    }

    fn length(&mut self) -> Result<usize, NotARow> {
        let mut length = 0;
        for n in 0..5 {
            let [byte] = self.array()?;
            length |= usize::from(byte & 0x7f) << (7 * n);
            if byte & 0x80 == 0 {
                // Each item takes a byte at least, so that a length costs no memory by itself.
                return if length <= self.0.len() { Ok(length) } else { Err(NotARow) };
            }
        }
        Err(NotARow)
    }

    pub(super) fn text(&mut self) -> Result<&'a str, NotARow> {
        let length = self.length()?;
        str::from_utf8(self.take(length)?).map_err(|_| NotARow)
    }

    pub(super) fn ip(&mut self) -> Result<Option<IpAddr>, NotARow> {
        let ip = Ipv6Addr::from(self.array::<16>()?);
        Ok((!ip.is_unspecified()).then(|| ip.to_canonical()))
    }

    /// One array, as long as `to`.
    fn each(
        &mut self,
        to: &mut [AttemptView<'a>],
        read: impl Fn(&mut Self, &mut AttemptView<'a>) -> Result<(), NotARow>,
    ) -> Result<(), NotARow> {
        if self.length()? != to.len() {
            return Err(NotARow);
        }
        to.iter_mut().try_for_each(|attempt| read(self, attempt))
    }
}
