//! Scenarios for the command line: one kind of request, without a file.

use clap::ValueEnum;
use serde::Serialize;

use super::{Dialect, Mix};
use crate::distribution::Distribution;

/// A kind of chat request. The provider behind the target must be a mock that behaves as
/// [`Workload::behaviour_text`] says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Workload {
    /// 1 KiB in, 2 KiB out.
    Small,
    /// 100 events as fast as they come.
    Stream,
    /// 64 events, one every 20 ms.
    Paced,
    /// 128 KiB in, 2 KiB out.
    Long,
    /// 5 MiB in, 2 KiB out.
    Body5m,
}

impl Workload {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Small => "small",
            Self::Stream => "stream",
            Self::Paced => "paced",
            Self::Long => "long",
            Self::Body5m => "body5m",
        }
    }

    /// How the mock has to behave, as in a model's name.
    pub const fn behaviour_text(self) -> &'static str {
        match self {
            Self::Small | Self::Long | Self::Body5m => "bytes=2048",
            Self::Stream => "events=100",
            Self::Paced => "events=64&event_ms=20",
        }
    }

    const fn body_bytes(self) -> u32 {
        match self {
            Self::Small | Self::Stream | Self::Paced => 1024,
            Self::Long => 128 * 1024,
            Self::Body5m => 5 * 1024 * 1024,
        }
    }

    pub const fn is_stream(self) -> bool {
        matches!(self, Self::Stream | Self::Paced)
    }

    /// Requests of this kind for `model`.
    pub fn mix(self, model: String) -> Mix {
        Mix {
            name: self.name().to_owned(),
            dialect: Dialect::Chat,
            model,
            weight: 1.0,
            stream: if self.is_stream() { 1.0 } else { 0.0 },
            body_bytes: Distribution::Fixed(f64::from(self.body_bytes())),
            prompt: None,
            max_tokens: None,
            script: Some(format!("sim?{}", self.behaviour_text())),
            check: Some(super::Check::Text),
        }
    }
}
