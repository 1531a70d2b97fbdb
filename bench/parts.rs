//! What the pure parts of a request's path cost, each by itself.
//!
//! ```text
//! parts                 nanoseconds of each part, the best of several rounds
//! parts NAME TIMES      runs one part so often: for a counter of instructions, which takes the
//!                       difference of two numbers of times
//! ```
#![expect(clippy::print_stdout, reason = "this is what a person reads")]

use std::cell::OnceCell;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use sluice::cache::key::{Place, key};
use sluice::cache::replay::{Form, Wanted, replay};
use sluice::cache::{Cache, Entry, Joined};
use sluice::clock::Millis;
use sluice::control::limits::{Limits, Owner, Registry, Sharing, Subject, reserve};
use sluice::dialect::{Dialect, Endpoint};
use sluice::id::{EnvironmentId, TargetId};
use sluice::json::{Scan, Splice, scan};
use sluice::limit::{Amounts, Level, Limit, Metric, Mode, Now, OnError, Period, text_bytes};
use sluice::route::plan::{Choice, TargetView, plan};
use sluice::route::swrr::Swrr;
use sluice::rule::{
    ALL_STEPS_MAX, Expression, Facts, LimitName, Rule, Said, TRAFFIC_WHOLE, Then, Value, Variable,
    file_names, first, said,
};
use sluice::usage::record::Tokens;
use sluice::usage::row::{Stamp, encode};
use sluice::usage::tap::{Tap, TapMode};

mod sample;
mod sample_row;

const ROUNDS: usize = 7;
const ROUND: Duration = Duration::from_millis(60);

/// A part, ready to be run as often as is asked.
struct Part {
    name: &'static str,
    what: &'static str,
    run: Box<dyn FnMut()>,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [] => all(),
        [name, times] => one(name, times.parse().expect("TIMES is a number")),
        _ => println!("parts | parts NAME TIMES"),
    }
}

fn all() {
    println!("{:<16}{:>10}  what", "part", "ns");
    for Part { name, what, mut run } in parts() {
        let times = times_for(ROUND, &mut run);
        let best = (0..ROUNDS).map(|_| nanoseconds(times, &mut run)).min().unwrap_or_default();
        println!("{name:<16}{best:>10}  {what}");
    }
}

fn one(name: &str, times: u64) {
    let part = parts().into_iter().find(|part| part.name == name);
    let Some(mut part) = part else {
        let names: Vec<_> = parts().iter().map(|part| part.name).collect();
        println!("parts: {}", names.join(", "));
        return;
    };
    for _ in 0..times {
        (part.run)();
    }
}

/// How often `run` has to run to fill `round`.
fn times_for(round: Duration, run: &mut dyn FnMut()) -> u64 {
    let mut times = 1;
    loop {
        let began = Instant::now();
        for _ in 0..times {
            run();
        }
        if round <= began.elapsed() {
            return times;
        }
        times *= 2;
    }
}

fn nanoseconds(times: u64, run: &mut dyn FnMut()) -> u128 {
    let began = Instant::now();
    for _ in 0..times {
        run();
    }
    began.elapsed().as_nanos() / u128::from(times)
}

fn parts() -> Vec<Part> {
    let part = |name, what, run| Part { name, what, run };
    vec![
        part("admit", "the form of a key, and its SHA-256", admit()),
        part("scan", "a chat of 1 KB", scanning(sample::chat(1_024))),
        part("scan-128k", "a chat of 128 KB", scanning(sample::chat(128 * 1_024))),
        part("splice", "the model of it and `stream_options`", splice()),
        part("plan", "three targets by weight, in two tiers", planning()),
        part("tap-json", "an answer of 2 KB", tap_json()),
        part("tap-stream", "100 events", tap_stream()),
        part("estimate", "the text of a chat of 1 KB", estimate()),
        part("limits", "four limits of a key: reserved and settled", limits()),
        part("cache-hit", "the key of a chat of 1 KB, and its answer of 2 KB found", cached()),
        part("rules-100", "a hundred rules over a chat of 2 KB, the last one takes it", rules()),
        part("row", "a row with one attempt, encoded", row()),
    ]
}

fn admit() -> Box<dyn FnMut()> {
    let key = sluice::key::generate();
    Box::new(move || {
        let text = black_box(key.expose().as_bytes());
        sluice::key::check(text).expect("a key");
        black_box(sluice::key::digest(text));
    })
}

fn scanned(body: &[u8]) -> Scan {
    scan(body).expect("a body of a chat")
}

fn scanning(body: String) -> Box<dyn FnMut()> {
    Box::new(move || drop(black_box(scanned(black_box(body.as_bytes())))))
}

fn splice() -> Box<dyn FnMut()> {
    let body = Bytes::from(sample::chat(1_024));
    let scan = scanned(&body);
    Box::new(move || {
        let mut splice = Splice::new(black_box(&scan));
        splice.replace_model("gpt-5.2-2026-01-15");
        splice.insert_include_usage();
        drop(black_box(splice.apply(&body)));
    })
}

fn planning() -> Box<dyn FnMut()> {
    let weights = [5, 1, 1];
    let mut swrr = Swrr::new(&weights);
    Box::new(move || {
        let view = |index: usize| {
            let weight = weights.get(index).copied()?;
            let tier = u16::from(index == 2);
            Some(TargetView { identity: 7 + index as u64, weight, tier, ..TargetView::default() })
        };
        let planned = plan(3, 3, Choice::WeightedRoundRobin(&mut swrr), black_box(view));
        black_box(planned.expect("a target"));
    })
}

fn tap_json() -> Box<dyn FnMut()> {
    let answer = Bytes::from(sample::answer(2_048));
    Box::new(move || {
        let mut tap = Tap::new(Dialect::Chat, TapMode::Json).framed();
        tap.push(black_box(&answer));
        drop(black_box(tap.finish()));
    })
}

fn tap_stream() -> Box<dyn FnMut()> {
    let events: Vec<Bytes> = sample::events(100).into_iter().map(Bytes::from).collect();
    Box::new(move || {
        let mut tap = Tap::new(Dialect::Chat, TapMode::Events);
        for event in &events {
            tap.push(black_box(event));
        }
        drop(black_box(tap.finish()));
    })
}

fn estimate() -> Box<dyn FnMut()> {
    let body = sample::chat(1_024);
    Box::new(move || {
        black_box(text_bytes(black_box(body.as_bytes())));
    })
}

fn limited() -> Arc<Limits> {
    let limit = |metric, period| Limit {
        metric,
        period,
        dimension: None,
        amount: u64::MAX / 4,
        mode: Mode::Local,
        on_error: OnError::AllowLocal,
    };
    let all = [
        limit(Metric::Requests, Period::Minute),
        limit(Metric::Tokens, Period::Minute),
        limit(Metric::Concurrent, Period::Lifetime),
        limit(Metric::Cost, Period::Month),
    ];
    let id = uuid::Uuid::from_u128(1);
    let owner = Owner { level: Level::Key, id, together: id };
    Registry::new(1_000).limits(owner, &"application".into(), &all).expect("limits")
}

fn limits() -> Box<dyn FnMut()> {
    let limits = limited();
    let ask =
        Amounts { requests: 1, input_tokens: 812, output_tokens: 400, cost_nanousd: 4_000_000 };
    let used = Amounts { output_tokens: 97, cost_nanousd: 3_891_000, ..ask };
    let now = Now { steady: Millis(1_000), unix_ms: 1_795_000_000_000 };
    Box::new(move || {
        let owners = std::iter::once(black_box(&*limits));
        let held = reserve(owners, &ask, &Subject::default(), (Sharing::Alone, now));
        let held = held.expect("room");
        black_box(held.standing(now));
        held.settle(&used, now);
    })
}

fn cached() -> Box<dyn FnMut()> {
    let body = sample::chat(1_024);
    let environment = EnvironmentId(uuid::Uuid::from_u128(1));
    let key = move || {
        let place = Place {
            environment,
            deployment: "chat",
            targets: b"targets of the deployment",
            target: None,
            endpoint: Endpoint::ChatCompletions,
            query: None,
        };
        let headers = [("openai-organization", "acme")].into_iter();
        key(black_box(&place), headers, black_box(body.as_bytes())).expect("a key")
    };
    let cache = Cache::new(1 << 20);
    let Joined::Lead(flight) = cache.join(key().key) else { unreachable!("nobody asks") };
    flight.store(Entry {
        environment,
        deployment: "chat".into(),
        target: TargetId(uuid::Uuid::from_u128(2)),
        stored_us: 0,
        expires_us: i64::MAX,
        form: Form::Json,
        body: Bytes::from(sample::answer(2_048)),
        tokens: Tokens::default(),
        cost_nanousd: 1,
    });
    let wanted = Wanted { is_stream: false, has_usage: false };
    Box::new(move || {
        let keyed = key();
        let entry = cache.get(&keyed.key, black_box(1)).expect("it is kept");
        let kept = (entry.form, &entry.body);
        drop(black_box(replay(Dialect::Chat, kept, &entry.tokens, wanted).expect("an answer")));
    })
}

/// A request as rules read it, of which nothing is known before the first of them asks.
struct Asked<'a> {
    body: &'a [u8],
    metadata: &'a [(Box<str>, Box<str>)],
    said: OnceCell<Said>,
    file_names: OnceCell<Vec<Box<str>>>,
}

impl Facts for Asked<'_> {
    fn value(&self, variable: Variable) -> Option<Value<'_>> {
        let said = || self.said.get_or_init(|| said(self.body));
        Some(match variable {
            Variable::Metadata => Value::Map(self.metadata),
            Variable::InputTokens => {
                Value::Int(i64::try_from(text_bytes(self.body).text / 4).unwrap_or(i64::MAX))
            }
            Variable::LastMessage => Value::text(&said().last_message),
            Variable::Text => Value::text(&said().text),
            Variable::FileNames => {
                Value::Texts(self.file_names.get_or_init(|| file_names(&said().text)))
            }
            Variable::EndUser => Value::text("ada"),
            _ => Value::Flag(true),
        })
    }

    fn error_rate(&self, _target: &str, _minutes: u32) -> Option<f64> {
        Some(0.1)
    }

    fn usage_percent(&self, _limit: &LimitName) -> Option<f64> {
        Some(10.0)
    }
}

fn rules() -> Box<dyn FnMut()> {
    let mut rules: Vec<Rule> = (0..99)
        .map(|n| match n % 8 {
            0 => "request.input_tokens > 100000 && request.stream".to_owned(),
            1 => format!("has(metadata.team) && metadata.team == 'team-{n}'"),
            2 => format!("request.last_message.contains('nothing like it {n}')"),
            3 => "request.filenames.glob('*.{sql,tf}')".to_owned(),
            4 => format!("end_user in ['bob', 'eve', 'user-{n}']"),
            5 => "error_rate('primary', 5) > 0.5 || usage_percent('key.tokens.minute') >= 80"
                .to_owned(),
            6 => format!("end_user.startsWith('team-{n}') && request.tools_count == 0"),
            _ => format!("request.last_message.matches('^team {n}: [a-z]+$')"),
        })
        .map(|text| Rule {
            when: Some(Expression::compile(&text).expect("an expression")),
            traffic: TRAFFIC_WHOLE,
            then: Then::Deployment("other".into()),
        })
        .collect();
    rules.push(Rule { when: None, ..rules.first().expect("a rule").clone() });
    let body = sample::chat(2 * 1_024);
    let metadata: Vec<(Box<str>, Box<str>)> = vec![("team".into(), "search".into())];
    Box::new(move || {
        let (said, file_names) = (OnceCell::new(), OnceCell::new());
        let asked =
            Asked { body: black_box(body.as_bytes()), metadata: &metadata, said, file_names };
        let mut steps = ALL_STEPS_MAX;
        let taken = first(&rules, (&asked, &mut steps), || 0, |_| true, |_, _| {});
        black_box(taken.expect("the last one takes it"));
    })
}

fn row() -> Box<dyn FnMut()> {
    let row = sample_row::row();
    let stamp = Stamp::new("node-1", 90);
    let mut bytes = Vec::with_capacity(1_024);
    Box::new(move || {
        bytes.clear();
        encode(black_box(&row), &stamp, &mut bytes);
        black_box(&bytes);
    })
}
