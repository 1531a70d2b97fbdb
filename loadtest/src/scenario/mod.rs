//! A scenario: what is asked of a target, when, how its answers are checked, and what it must keep to.
//!
//! Scenarios are TOML files; `scenarios/` has some, and the README explains every key.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::distribution::Distribution;
use crate::mock::{Behaviour, check_faults};

mod limits;
mod phase;
mod workload;

pub(crate) use limits::quantile;
pub use limits::{Limits, Percentiles, Slow};
pub use phase::{Arrivals, Phase, Ramp};
pub use workload::Workload;

/// What a scenario file says.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    pub name: String,
    #[serde(default)]
    pub description: String,
    #[serde(default)]
    pub target: Target,
    #[serde(default)]
    pub keys: Keys,
    /// Most connections at once (h2: streams), over all threads.
    #[serde(default = "default_connections")]
    pub connections: usize,
    #[serde(default = "default_threads")]
    pub threads: usize,
    /// The same seed draws the same requests.
    #[serde(default = "default_seed")]
    pub seed: u64,
    pub mix: Vec<Mix>,
    pub phases: Vec<Phase>,
    #[serde(default)]
    pub faults: Vec<Fault>,
    #[serde(default)]
    pub limits: Limits,
}

/// Where requests go.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Target {
    /// `http://` or `https://`, with a path where it is not `/v1`.
    pub url: Option<String>,
    pub protocol: Protocol,
    /// Connections that h2's streams share.
    pub h2_connections: Option<usize>,
    /// Certificates to trust besides the system's, as PEM.
    pub ca_file: Option<PathBuf>,
    pub headers: BTreeMap<String, String>,
    /// Seconds one request may take.
    pub timeout_s: Option<f64>,
    /// Where the mock behind the target takes its calls, for `faults`.
    pub mock_url: Option<String>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    #[default]
    Http1,
    /// Over TLS by ALPN, otherwise with prior knowledge.
    H2,
}

/// Where the keys come from. They are in no report.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Keys {
    /// The name of an env var with one key.
    pub env: Option<String>,
    /// A file with a key on each line.
    pub file: Option<PathBuf>,
    /// Use only the first so many.
    pub n: Option<usize>,
    pub spread: Spread,
    pub auth: Auth,
}

/// Which of many keys a request takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Spread {
    /// Each as often as any other.
    #[default]
    Uniform,
    /// The k-th in proportion to 1/k: few busy keys, many quiet ones.
    Zipf,
}

/// The header that carries the key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Auth {
    /// `x-api-key` for messages, `authorization: Bearer` for the others.
    #[default]
    Auto,
    Bearer,
    XApiKey,
    /// Azure's.
    ApiKey,
}

/// One kind of request.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mix {
    pub name: String,
    pub dialect: Dialect,
    /// The `model` that is asked for.
    pub model: String,
    #[serde(default = "default_weight")]
    pub weight: f64,
    /// Share of these requests that ask for a stream.
    #[serde(default)]
    pub stream: f64,
    /// Size of the request's body.
    #[serde(default = "default_body_bytes")]
    pub body_bytes: Distribution,
    /// The start of the prompt; filler follows up to `body_bytes`.
    pub prompt: Option<String>,
    pub max_tokens: Option<u32>,
    /// The model that the mock is asked for in the end, behaviour included.
    pub script: Option<String>,
    pub check: Option<Check>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dialect {
    Chat,
    Responses,
    Messages,
    Embeddings,
}

/// How strictly answers are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Check {
    /// Byte for byte what the mock's script makes; ids may be any.
    Exact,
    /// The text of the mock's script; how it is wrapped is free.
    Text,
    /// What any right answer of the dialect has, whatever it says.
    Shape,
}

/// What goes wrong at the mock for a while.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// Seconds after the start of the first phase.
    pub at_s: f64,
    pub for_s: f64,
    /// As in a model's name; `every=N` for each N-th request only.
    pub behaviour: String,
}

/// Why a scenario cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    #[error("{path}: {source}")]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("{path}: {source}")]
    Toml { path: PathBuf, source: Box<toml::de::Error> },
    #[error("{key}: {why}")]
    Wrong { key: String, why: String },
}

fn default_connections() -> usize {
    64
}

fn default_threads() -> usize {
    1
}

fn default_seed() -> u64 {
    1
}

fn default_weight() -> f64 {
    1.0
}

fn default_body_bytes() -> Distribution {
    Distribution::Fixed(1024.0)
}

/// Largest body that is sent.
pub(crate) const BODY_BYTES_MAX: f64 = 64.0 * 1024.0 * 1024.0;
const CONNECTIONS_MAX: usize = 100_000;
const THREADS_MAX: usize = 64;

// === impl Scenario ===

impl Scenario {
    pub fn read(path: &Path) -> Result<Self, ScenarioError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ScenarioError::Unreadable { path: path.to_owned(), source })?;
        let scenario: Self = toml::from_str(&text).map_err(|source| ScenarioError::Toml {
            path: path.to_owned(),
            source: Box::new(source),
        })?;
        scenario.check()?;
        Ok(scenario)
    }

    /// Finds what no run could make sense of.
    pub fn check(&self) -> Result<(), ScenarioError> {
        at_least("connections", self.connections, CONNECTIONS_MAX)?;
        at_least("threads", self.threads, THREADS_MAX)?;
        if self.mix.is_empty() {
            return Err(wrong("mix", "there is nothing to ask for"));
        }
        for (index, mix) in self.mix.iter().enumerate() {
            mix.check(&format!("mix[{index}]"))?;
            if self.mix.iter().take(index).any(|other| other.name == mix.name) {
                return Err(wrong(&format!("mix[{index}].name"), "another one has this name"));
            }
        }
        if self.mix.iter().map(|mix| mix.weight).sum::<f64>() <= 0.0 {
            return Err(wrong("mix", "all weights are 0"));
        }
        phase::check(&self.phases)?;
        for (index, fault) in self.faults.iter().enumerate() {
            fault.check(&format!("faults[{index}]"))?;
        }
        self.limits.check()
    }

    /// Requests arrive at their times, whatever became of those before.
    pub fn is_open(&self) -> bool {
        self.phases.iter().any(|phase| phase.rate.is_some())
    }

    /// How long one request may take.
    pub fn time_max(&self) -> Duration {
        Duration::from_secs_f64(self.target.timeout_s.unwrap_or(60.0).clamp(0.001, 86_400.0))
    }
}

impl Mix {
    /// What the mock does when it is asked for the script's model.
    pub fn behaviour(&self) -> Option<Behaviour> {
        let script = self.script.as_deref()?;
        Some(Behaviour::of_model(script).ok().flatten().unwrap_or_default())
    }

    pub fn check_level(&self) -> Check {
        match (self.check, &self.script) {
            (Some(check), _) => check,
            (None, Some(_)) => Check::Exact,
            (None, None) => Check::Shape,
        }
    }

    fn check(&self, key: &str) -> Result<(), ScenarioError> {
        let wrong_at = |member: &str, why: &str| Err(wrong(&format!("{key}.{member}"), why));
        if !(0.0..=1e9).contains(&self.weight) {
            return wrong_at("weight", "a weight is 0 or more");
        }
        if !(0.0..=1.0).contains(&self.stream) {
            return wrong_at("stream", "a share is from 0 to 1");
        }
        if self.dialect == Dialect::Embeddings && self.stream > 0.0 {
            return wrong_at("stream", "embeddings never stream");
        }
        if self.body_bytes.max() > BODY_BYTES_MAX && self.body_bytes.fixed().is_some() {
            return wrong_at("body_bytes", "a body has 64 MiB at most");
        }
        if let Some(Err(error)) = self.script.as_deref().map(Behaviour::of_model) {
            return wrong_at("script", &error.to_string());
        }
        if self.script.is_none() && matches!(self.check, Some(Check::Exact | Check::Text)) {
            return wrong_at("check", "exact and text compare with a `script`, and there is none");
        }
        if self.dialect == Dialect::Embeddings && self.check == Some(Check::Text) {
            return wrong_at("check", "embeddings have no text: exact or shape");
        }
        Ok(())
    }
}

impl Fault {
    fn check(&self, key: &str) -> Result<(), ScenarioError> {
        for (member, value) in [("at_s", self.at_s), ("for_s", self.for_s)] {
            if !(0.0..=1e9).contains(&value) {
                return Err(wrong(&format!("{key}.{member}"), "seconds are 0 or more"));
            }
        }
        match Behaviour::members(&self.behaviour).and_then(|members| check_faults(&members)) {
            Ok(()) => Ok(()),
            Err(error) => Err(wrong(&format!("{key}.behaviour"), &error.to_string())),
        }
    }
}

impl Dialect {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Responses => "responses",
            Self::Messages => "messages",
            Self::Embeddings => "embeddings",
        }
    }

    /// The path below the version's.
    pub const fn path(self) -> &'static str {
        match self {
            Self::Chat => "/chat/completions",
            Self::Responses => "/responses",
            Self::Messages => "/messages",
            Self::Embeddings => "/embeddings",
        }
    }
}

pub(crate) fn wrong(key: &str, why: &str) -> ScenarioError {
    ScenarioError::Wrong { key: key.to_owned(), why: why.to_owned() }
}

fn at_least(key: &str, value: usize, max: usize) -> Result<(), ScenarioError> {
    if (1..=max).contains(&value) {
        Ok(())
    } else {
        Err(wrong(key, &format!("must be from 1 to {max}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str = r#"
        name = "small"
        [[mix]]
        name = "chat"
        dialect = "chat"
        model = "sim?events=2"
        script = "sim?events=2"
        [[phases]]
        name = "steady"
        seconds = 1
        rate = 10
    "#;

    fn error(text: &str) -> String {
        match toml::from_str::<Scenario>(text) {
            Ok(scenario) => scenario.check().unwrap_err().to_string(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn what_is_left_out_has_its_default() {
        let scenario: Scenario = toml::from_str(SMALL).unwrap();
        scenario.check().unwrap();
        assert!(scenario.is_open());
        assert_eq!(scenario.mix[0].check_level(), Check::Exact);
        assert_eq!(scenario.time_max(), Duration::from_mins(1));
        assert_eq!(scenario.limits.wrong_max, 0);
    }

    #[test]
    fn mistakes_name_their_key() {
        for (from, to, part) in [
            ("rate = 10", "rates = 10", "`rates`"),
            ("rate = 10", "", "phases[0]"),
            ("rate = 10", "rate = 10\nconcurrency = 2", "phases[0]"),
            ("\"chat\"\n        model", "\"chats\"\n        model", "chats"),
            ("script = \"sim?events=2\"", "script = \"sim?evnts=2\"", "mix[0].script"),
            ("script = \"sim?events=2\"", "check = \"text\"", "mix[0].check"),
            ("name = \"small\"", "name = \"small\"\nthreads = 0", "threads"),
            ("seconds = 1", "", "phases[0]"),
            ("rate = 10", "rate = 10\n[limits.latency_ms]\nq99 = 1", "limits.latency_ms"),
        ] {
            assert!(SMALL.contains(from), "{from}");
            let error = error(&SMALL.replacen(from, to, 1));
            assert!(error.contains(part), "{to}: {error}");
        }
    }
}
