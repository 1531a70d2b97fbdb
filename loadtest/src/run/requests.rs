//! The bytes of requests: which one comes next is drawn, and put together from parts made once.

use std::collections::BTreeMap;
use std::io;

use super::check::Expected;
use super::keys::KeyRing;
use super::url::Url;
use crate::distribution::Distribution;
use crate::scenario::{Auth, Dialect, Mix, Scenario, Spread};

/// Every request that a run can send.
pub(super) struct Requests {
    kinds: Vec<Kind>,
    weights: f64,
    keys: KeyRing,
    spread: Spread,
    filler: Vec<u8>,
}

pub(super) struct Kind {
    weight: f64,
    stream: f64,
    body_bytes: Distribution,
    auth: AuthField,
    /// Request line and headers, up to the key.
    head: Vec<u8>,
    pub(super) path: String,
    /// Headers besides the usual ones.
    more: Vec<(String, String)>,
    whole: Variant,
    streamed: Variant,
}

/// A request that asks for a stream, or one that does not.
struct Variant {
    body_start: Vec<u8>,
    body_end: &'static [u8],
    expected: Expected,
}

/// Name of the header with the key, and what stands before it.
#[derive(Debug, Clone, Copy)]
pub(super) struct AuthField {
    pub(super) name: &'static str,
    pub(super) prefix: &'static str,
}

/// One request, drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ask {
    pub(super) kind: usize,
    pub(super) is_stream: bool,
    key: usize,
    filler_n: usize,
}

/// A request in the pieces it is sent in.
pub(super) struct Body<'a> {
    pub(super) start: &'a [u8],
    pub(super) filler: &'a [u8],
    pub(super) end: &'static [u8],
}

const FILLER: &[u8] = b"The rest is filler. ";
/// Bodies longer than this are refused by `Scenario::check` where they are fixed, and cut where
/// they are drawn.
const BODY_BYTES_MAX: f64 = crate::scenario::BODY_BYTES_MAX;

impl Requests {
    pub(super) fn new(scenario: &Scenario, url: &Url, keys: KeyRing) -> io::Result<Self> {
        let headers = &scenario.target.headers;
        let is_bad = |(name, value): &(&String, &String)| {
            name.contains(['\r', '\n', ':']) || value.contains(['\r', '\n'])
        };
        if let Some((name, _)) = headers.iter().find(is_bad) {
            let text = format!("target.headers: `{name}` is no header");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let kinds: Vec<_> = scenario
            .mix
            .iter()
            .map(|mix| Kind::new(mix, url, headers, scenario.keys.auth))
            .collect();
        let longest = scenario.mix.iter().map(|mix| mix.body_bytes.max()).fold(0.0, f64::max);
        let filler_n = to_usize(longest.min(BODY_BYTES_MAX));
        Ok(Self {
            weights: scenario.mix.iter().map(|mix| mix.weight).sum(),
            kinds,
            keys,
            spread: scenario.keys.spread,
            filler: FILLER.iter().copied().cycle().take(filler_n).collect(),
        })
    }

    pub(super) fn draw(&self, random: &mut fastrand::Rng) -> Ask {
        let kind = self.draw_kind(random);
        let (is_stream, size) = match self.kinds.get(kind) {
            Some(found) => {
                let is_stream = found.stream > 0.0 && random.f64() < found.stream;
                (is_stream, found.filler_n(is_stream, found.body_bytes.draw(random)))
            }
            None => (false, 0),
        };
        let filler_n = size.min(self.filler.len());
        Ask { kind, is_stream, key: self.draw_key(random), filler_n }
    }

    fn draw_kind(&self, random: &mut fastrand::Rng) -> usize {
        if self.kinds.len() == 1 {
            return 0;
        }
        let mut left = random.f64() * self.weights;
        for (index, kind) in self.kinds.iter().enumerate() {
            left -= kind.weight;
            if left < 0.0 {
                return index;
            }
        }
        self.kinds.iter().rposition(|kind| kind.weight > 0.0).unwrap_or(0)
    }

    fn draw_key(&self, random: &mut fastrand::Rng) -> usize {
        match (self.keys.len(), self.spread) {
            (0 | 1, _) => 0,
            (n, Spread::Uniform) => random.usize(..n),
            #[expect(clippy::cast_precision_loss, reason = "counts of keys fit")]
            (n, Spread::Zipf) => {
                // The k-th is drawn with a weight of about 1/k.
                (to_usize((n as f64 + 1.0).powf(random.f64())).max(1) - 1).min(n - 1)
            }
        }
    }

    pub(super) fn kind(&self, ask: &Ask) -> &Kind {
        self.kinds.get(ask.kind).expect("an ask is of a kind there is")
    }

    pub(super) fn expected(&self, ask: &Ask) -> &Expected {
        &self.kind(ask).variant(ask.is_stream).expected
    }

    pub(super) fn key(&self, ask: &Ask) -> Option<&str> {
        self.keys.get(ask.key)
    }

    pub(super) fn auth(&self, ask: &Ask) -> AuthField {
        self.kind(ask).auth
    }

    pub(super) fn body(&self, ask: &Ask) -> Body<'_> {
        let variant = self.kind(ask).variant(ask.is_stream);
        Body {
            start: &variant.body_start,
            filler: self.filler.get(..ask.filler_n).unwrap_or(&self.filler),
            end: variant.body_end,
        }
    }

    /// Headers for protocols that have them one by one.
    pub(super) fn more_fields(&self, ask: &Ask) -> &[(String, String)] {
        &self.kind(ask).more
    }

    /// Appends the request as HTTP/1.1, its body's filler left to the caller: head, start.
    pub(super) fn put_head(&self, ask: &Ask, out: &mut Vec<u8>) {
        let body = self.body(ask);
        out.extend_from_slice(&self.kind(ask).head);
        if let Some(key) = self.key(ask) {
            let AuthField { name, prefix } = self.auth(ask);
            for part in [name, ": ", prefix, key, "\r\n"] {
                out.extend_from_slice(part.as_bytes());
            }
        }
        out.extend_from_slice(b"content-length: ");
        put_decimal(out, body.len());
        out.extend_from_slice(b"\r\n\r\n");
        out.extend_from_slice(body.start);
    }
}

impl Kind {
    fn new(mix: &Mix, url: &Url, headers: &BTreeMap<String, String>, auth: Auth) -> Self {
        let path = format!("{}{}", url.base_path, mix.dialect.path());
        let mut more: Vec<_> = headers.clone().into_iter().collect();
        if mix.dialect == Dialect::Messages {
            more.push(("anthropic-version".to_owned(), "2023-06-01".to_owned()));
        }
        let mut head = format!(
            "POST {path} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\n",
            url.authority
        );
        for (name, value) in &more {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        Self {
            weight: mix.weight,
            stream: mix.stream,
            body_bytes: mix.body_bytes.clone(),
            auth: auth_field(auth, mix.dialect),
            head: head.into_bytes(),
            path,
            more,
            whole: Variant::new(mix, false),
            streamed: Variant::new(mix, true),
        }
    }

    fn variant(&self, is_stream: bool) -> &Variant {
        if is_stream { &self.streamed } else { &self.whole }
    }

    fn filler_n(&self, is_stream: bool, body_bytes: f64) -> usize {
        let variant = self.variant(is_stream);
        to_usize(body_bytes).saturating_sub(variant.body_start.len() + variant.body_end.len())
    }
}

fn auth_field(auth: Auth, dialect: Dialect) -> AuthField {
    match (auth, dialect) {
        (Auth::XApiKey, _) | (Auth::Auto, Dialect::Messages) => {
            AuthField { name: "x-api-key", prefix: "" }
        }
        (Auth::ApiKey, _) => AuthField { name: "api-key", prefix: "" },
        (Auth::Bearer | Auth::Auto, _) => AuthField { name: "authorization", prefix: "Bearer " },
    }
}

impl Variant {
    fn new(mix: &Mix, is_stream: bool) -> Self {
        let model = serde_json::Value::from(mix.model.as_str());
        let prompt = mix.prompt.as_deref().unwrap_or("Say something.");
        let prompt = serde_json::Value::from(format!("{prompt} ")).to_string();
        let prompt = prompt.strip_suffix('"').unwrap_or(&prompt);
        let max_key = match mix.dialect {
            Dialect::Responses => "max_output_tokens",
            Dialect::Chat | Dialect::Messages | Dialect::Embeddings => "max_tokens",
        };
        // Anthropic's API cannot do without.
        let max = mix.max_tokens.or((mix.dialect == Dialect::Messages).then_some(1024));
        let mut start = format!("{{\"model\":{model},");
        if is_stream {
            start.push_str("\"stream\":true,");
            if mix.dialect == Dialect::Chat {
                start.push_str("\"stream_options\":{\"include_usage\":true},");
            }
        }
        if let Some(max) = max {
            start.push_str(&format!("\"{max_key}\":{max},"));
        }
        let body_end: &[u8] = match mix.dialect {
            Dialect::Chat | Dialect::Messages => {
                start.push_str(&format!("\"messages\":[{{\"role\":\"user\",\"content\":{prompt}"));
                b"\"}]}"
            }
            Dialect::Responses | Dialect::Embeddings => {
                start.push_str(&format!("\"input\":{prompt}"));
                b"\"}"
            }
        };
        let expected = Expected::of(mix, is_stream);
        Self { body_start: start.into_bytes(), body_end, expected }
    }
}

impl Body<'_> {
    pub(super) fn len(&self) -> usize {
        self.start.len() + self.filler.len() + self.end.len()
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "bounded, not negative"
)]
fn to_usize(value: f64) -> usize {
    value as usize
}

fn put_decimal(out: &mut Vec<u8>, number: usize) {
    let mut digits = [0_u8; 20];
    let mut left = number;
    let mut n = 0;
    for place in digits.iter_mut().rev() {
        *place = b'0' + u8::try_from(left % 10).unwrap_or(0);
        n += 1;
        left /= 10;
        if left == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(20 - n..).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Workload;

    fn requests(text: &str, keys: &[&str]) -> Requests {
        let scenario: Scenario = toml::from_str(text).unwrap();
        scenario.check().unwrap();
        let url = Url::parse("http://127.0.0.1:9/v1").unwrap();
        Requests::new(&scenario, &url, KeyRing::of(keys)).unwrap()
    }

    const MIX: &str = r#"
        name = "t"
        mix = [
            { name = "a", dialect = "chat", model = "m\"", stream = 0.5, body_bytes = 700, weight = 3 },
            { name = "b", dialect = "messages", model = "m", prompt = "Say\n" },
            { name = "c", dialect = "responses", model = "m", body_bytes = "uniform:200:900" },
            { name = "d", dialect = "embeddings", model = "m", weight = 0 },
        ]
        phases = [{ name = "p", seconds = 1, rate = 1 }]
    "#;

    #[test]
    fn requests_are_whole_and_of_the_size_asked_for() {
        let requests = requests(MIX, &["k1", "k2"]);
        let mut random = fastrand::Rng::with_seed(1);
        let mut counts = [0; 4];
        let mut streams = 0;
        for _ in 0..2_000 {
            let ask = requests.draw(&mut random);
            counts[ask.kind] += 1;
            streams += usize::from(ask.is_stream);
            let mut bytes = Vec::new();
            requests.put_head(&ask, &mut bytes);
            let body = requests.body(&ask);
            bytes.extend_from_slice(body.filler);
            bytes.extend_from_slice(body.end);
            let text = String::from_utf8(bytes).unwrap();
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            let parsed: serde_json::Value = serde_json::from_str(body).unwrap();
            assert_eq!(parsed.get("stream").is_some(), ask.is_stream);
            assert!(head.contains(&format!("content-length: {}", body.len())), "{head}");
            match ask.kind {
                0 => assert!(body.len() == 700 && head.contains("authorization: Bearer k")),
                1 => assert!(body.len() == 1024 && head.contains("x-api-key: k")),
                _ => assert!((199..=900).contains(&body.len()), "{}", body.len()),
            }
        }
        assert!((1_100..1_300).contains(&counts[0]) && counts[3] == 0, "{counts:?}");
        assert!((500..700).contains(&streams), "{streams}");
    }

    #[test]
    fn first_keys_are_busier_when_the_spread_is_zipf() {
        let names: Vec<String> = (0..1_000).map(|n| format!("k{n}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let text = format!("keys = {{ spread = \"zipf\" }}\n{MIX}");
        let requests = requests(&text, &names);
        let mut random = fastrand::Rng::with_seed(1);
        let drawn: Vec<usize> = (0..10_000).map(|_| requests.draw(&mut random).key).collect();
        let share = |n| drawn.iter().filter(|key| **key < n).count();
        assert!((900..1_100).contains(&share(1)), "{}", share(1));
        // ln 10 / ln 1000 = 1/3, and a little for the rounding.
        assert!((3_200..3_700).contains(&share(10)), "{}", share(10));
        assert!(drawn.iter().any(|key| *key > 900));
    }

    #[test]
    fn workloads_have_the_sizes_they_promise() {
        for (workload, bytes) in [(Workload::Small, 1024), (Workload::Body5m, 5 * 1024 * 1024)] {
            let mix = workload.mix("m".to_owned());
            let url = Url::parse("http://127.0.0.1:9").unwrap();
            let text =
                MIX.replacen("body_bytes = 700", &format!("body_bytes = {}", mix.body_bytes), 1);
            let scenario = Scenario { mix: vec![mix], ..toml::from_str(&text).unwrap() };
            let requests = Requests::new(&scenario, &url, KeyRing::of(&[])).unwrap();
            let ask = requests.draw(&mut fastrand::Rng::with_seed(1));
            assert_eq!(requests.body(&ask).len(), bytes);
        }
    }
}
