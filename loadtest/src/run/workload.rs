//! What the generator sends, and what must come back.

use std::time::Duration;

use clap::ValueEnum;
use memchr::memmem::Finder;

use super::Plan;
use super::url::Url;
use crate::mock::{Behaviour, text_pieces};

/// A kind of request. The provider behind the gateway must be a mock that behaves as
/// [`Workload::behaviour_text`] says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
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

/// Time between the events of a paced stream.
pub(super) const PACE: Duration = Duration::from_millis(20);

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

    const fn body_bytes(self) -> usize {
        match self {
            Self::Small | Self::Stream | Self::Paced => 1024,
            Self::Long => 128 * 1024,
            Self::Body5m => 5 * 1024 * 1024,
        }
    }

    const fn is_stream(self) -> bool {
        matches!(self, Self::Stream | Self::Paced)
    }
}

/// The bytes of every request.
pub(super) fn request(plan: &Plan, url: &Url) -> Vec<u8> {
    let stream = if plan.workload.is_stream() { r#""stream":true,"# } else { "" };
    let model = serde_json::Value::from(plan.model.as_str());
    let start = format!(
        r#"{{"model":{model},{stream}"messages":[{{"role":"user","content":"Say something. "#
    );
    let end = r#""}]}"#;
    let padding = plan.workload.body_bytes().saturating_sub(start.len() + end.len());
    let filler: String = "The rest is filler. ".chars().cycle().take(padding).collect();
    let body = format!("{start}{filler}{end}");

    let mut head = format!(
        "POST {}/chat/completions HTTP/1.1\r\nhost: {}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n",
        url.base_path,
        url.authority,
        body.len()
    );
    if let Some(key) = &plan.key {
        head.push_str(&format!("authorization: Bearer {key}\r\n"));
    }
    for (name, value) in &plan.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    [head.into_bytes(), body.into_bytes()].concat()
}

/// What a right answer contains.
#[derive(Debug)]
pub(super) enum Expected {
    /// This text, in a JSON object.
    Whole(Box<Finder<'static>>),
    /// These texts, one an event, in this order.
    Events(Vec<String>),
}

impl Expected {
    pub(super) fn of(workload: Workload) -> Self {
        let behaviour: Behaviour =
            workload.behaviour_text().parse().expect("the texts above are behaviours");
        let pieces = text_pieces(&behaviour);
        if workload.is_stream() {
            Self::Events(pieces)
        } else {
            Self::Whole(Box::new(Finder::new(&pieces.concat()).into_owned()))
        }
    }
}
