//! Whether answers are kept, and for how long.

use std::time::Duration;

use crate::config::fields::Fields;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheConfig {
    pub enabled: bool,
    pub ttl: Duration,
    /// A longer answer is not kept.
    pub entry_bytes_max: usize,
    /// Only requests whose answers would be the same anyway.
    pub only_deterministic: bool,
}

/// The table `cache`.
pub(super) fn cache(fields: &Fields<'_>) -> Option<CacheConfig> {
    let fields = fields.get("cache")?.fields()?;
    let config = CacheConfig {
        enabled: fields.flag("enabled", false),
        ttl: fields.seconds("ttl_s", 1..=31_536_000, 300),
        entry_bytes_max: fields.number("max_entry_bytes", 1..=64 << 20, 1 << 20),
        only_deterministic: fields.flag("only_deterministic", false),
    };
    if let Some(item) = fields.get("max_bytes") {
        item.warning("is a setting of the process: `cache.max_bytes` of its configuration");
    }
    fields.finish();
    Some(config)
}
