//! Tests of rules.

use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::*;

/// A request as a test needs it.
struct Request {
    body: Json,
    metadata: Vec<(Box<str>, Box<str>)>,
    text: String,
}

impl Facts for Request {
    fn value(&self, variable: Variable) -> Option<Value<'_>> {
        Some(match variable {
            Variable::Dialect => Value::text("chat"),
            Variable::Model => Value::text("auto"),
            Variable::Stream => Value::Flag(true),
            Variable::MessagesCount => Value::Int(2),
            Variable::ToolsCount => Value::Int(0),
            Variable::FirstMessage => Value::text("be kind"),
            Variable::LastMessage => Value::text("Fix the bug in src/main.rs"),
            Variable::Text => Value::text(&self.text),
            Variable::Body if self.body.is_null() => return None,
            Variable::Body => Value::of_json(&self.body),
            Variable::InputTokens => Value::Int(1_200),
            Variable::FileNames => {
                Value::List(file_names(&self.text).into_iter().map(Value::text).collect())
            }
            Variable::Kind => Value::text("chat"),
            Variable::Metadata => Value::Map(&self.metadata),
            Variable::EndUser => Value::text("ada"),
            Variable::Key => Value::text("app"),
            Variable::Client => Value::text("curl/8"),
            Variable::SourceIp => Value::text("10.0.0.1"),
            // 2026-11-17 12:34:56 UTC, a Tuesday.
            Variable::Now => Value::Time(1_794_918_896_000_000),
        })
    }
}

fn request() -> Request {
    Request {
        body: json!({"model": "auto", "n": 2, "tools": [{"name": "a"}, {"name": "b"}], "x": null}),
        metadata: vec![("team".into(), "web".into())],
        text: "be kind Fix the bug in src/main.rs and lib.py".to_owned(),
    }
}

fn outcome(text: &str) -> String {
    match Expression::compile(text) {
        Err(mistake) => format!("refused: {mistake}"),
        Ok(expression) => match expression.run(&request()) {
            Ok(holds) => holds.to_string(),
            Err(stopped) => format!("stopped: {stopped}"),
        },
    }
}

#[test]
fn conditions_hold() {
    for text in [
        "true",
        "request.input_tokens > 1000 && request.stream",
        "request.input_tokens / 7 == 171 && request.input_tokens % 7 == 3",
        "request.input_tokens * 1.5 >= 1800",
        "request.model == 'auto' && request.model != \"x\"",
        "request.text.contains('bug') || request.body.nothing == 1",
        "request.body.nothing == 1 || request.text.contains('bug')",
        "request.last_message.startsWith('Fix') && request.last_message.endsWith('.rs')",
        "request.last_message.lowerAscii().matches('^fix\\\\b')",
        "matches(request.text, '(?i)FIX')",
        "'src/main.rs' in request.filenames && size(request.filenames) == 2",
        "request.filenames.exists(f, f.glob('*.py')) && !request.filenames.all(f, f.glob('*.py'))",
        "request.filenames.glob('src/**') && glob(request.filenames, '*.{rs,ts}')",
        "request.filenames.filter(f, f.endsWith('.py')) == ['lib.py']",
        "request.filenames.map(f, size(f)) == [11, 6]",
        "request.filenames.exists_one(f, f == 'lib.py')",
        "has(metadata.team) && metadata.team == 'web' && metadata['team'] in ['web', 'app']",
        "'team' in metadata && !('x' in metadata) && !has(metadata.x)",
        "has(request.body.n) && !has(request.body.x) && !has(request.body.y)",
        "request.body.tools.exists(t, t.name == 'b') && request.body.tools[0].name == 'a'",
        "size(request.body.tools) == 2 && request.body.n == 2.0",
        "request.body.x == null",
        "end_user == 'ada' ? key == 'app' : false",
        "now.getDayOfWeek() == 2 && now.getHours() == 12 && now.getMinutes() == 34",
        "now.getFullYear() == 2026 && now.getMonth() == 10 && now.getDate() == 17",
        "int('7') == 7 && string(7) == '7' && double('0.5') < 1 && -request.input_tokens < 0",
        "source_ip.startsWith('10.') && client.contains('curl') && request.kind == 'chat'",
    ] {
        assert_eq!(outcome(text), "true", "{text}");
    }
}

#[test]
fn what_cannot_be_told_has_a_reason() {
    for (text, reason) in [
        ("request.body.nothing == 1", "a field or an element is missing"),
        ("metadata.nothing == 'x'", "a field or an element is missing"),
        ("request.body.tools[7].name == 'x'", "a field or an element is missing"),
        ("request.body.n.name == 'x'", "a value is of another type than the expression takes"),
        ("request.body.n", "a value is of another type than the expression takes"),
        ("request.body.n.contains('x')", "a value is of another type than the expression takes"),
        ("1 / (request.input_tokens - 1200) == 1", "a number is out of bounds, or divided by zero"),
        (
            "9223372036854775807 + request.input_tokens > 0",
            "a number is out of bounds, or divided by zero",
        ),
    ] {
        assert_eq!(outcome(text), format!("stopped: {reason}"), "{text}");
    }
    let large = Request { body: Json::Null, ..request() };
    let expression = Expression::compile("request.body.n == 2").unwrap();
    assert_eq!(expression.run(&large), Err(Stopped::Unread));
}

#[test]
fn mistakes_are_refused_with_their_place() {
    let mut table = String::new();
    for text in [
        "",
        "request.",
        "request.stream &&\n  ",
        "request.strem",
        "modle == 'x'",
        "request == 1",
        "request.input_tokens",
        "request.input_tokens == 'x'",
        "request.stream &&\n  request.model > 1",
        "request.model.contain('x')",
        "request.model.contains(1)",
        "request.text.matches('(')",
        "request.text.matches(request.model)",
        "request.text.matches('(a{1000}){1000}')",
        "size(1) == 1",
        "[1, 2].exists(x, x.y > z)",
        "request.model.exists(x, true)",
        "{'a': 1}.a == 1",
        "!request.model",
        "request.stream ? 1 : 2",
        "now > 1",
        "'x",
    ] {
        table += &format!("{text}\n    {}\n", outcome(text));
    }
    insta::assert_snapshot!(table, @r"");
}

#[test]
fn hostile_expressions_are_bounded() {
    let many = |text: &str, n: usize| text.repeat(n);
    for text in [
        format!("{}true{}", many("(", 2_000), many(")", 2_000)),
        format!("{}true", many("!", 4_000)),
        format!("{}1 == 1", many("-", 4_000)),
        format!("{}true", many("true ? true : ", 250)),
        format!("request.body{} == 1", many(".a", 2_000)),
        format!("request.body{} == 1", many("[0]", 1_000)),
        format!("{}true", many("true && ", 2_000)),
        format!("1{} == 1", many("+1", 2_000)),
        many("(", 4_000),
        many("[", 4_000),
        many("'", 4_000),
        many("a.b(", 1_000),
        "[1].all(a, [1].all(b, [1].all(c, true)))".to_owned(),
        "x".repeat(5_000),
    ] {
        let outcome = outcome(&text);
        assert!(outcome.starts_with("refused: ") || outcome == "true", "{outcome}");
    }
    let list = format!("[{}0]", many("0,", 500));
    let square = format!("{list}.all(a, {list}.all(b, a == b))");
    assert_eq!(outcome(&square), "stopped: it takes too many steps");
    let grows = format!("{list}.map(a, {list}).map(a, a + a).exists(a, size(a) == 1)");
    assert_eq!(outcome(&grows), "stopped: it takes too many steps");
}

/// What would take a backtracking matcher longer than anyone waits.
#[test]
fn patterns_take_time_linear_in_the_text() {
    let facts = Request { text: "a".repeat(200_000), ..request() };
    for text in ["request.text.matches('^(a+)+$')", "!request.text.matches('(a*)*b')"] {
        assert_eq!(Expression::compile(text).unwrap().run(&facts), Ok(true), "{text}");
    }
}

#[test]
fn globs_are_about_paths() {
    for (glob, name, matches) in [
        ("*.py", "src/a.py", true),
        ("*.py", "a.pyc", false),
        ("src/*.py", "src/a.py", true),
        ("src/*.py", "src/b/a.py", false),
        ("src/**/*.py", "src/a.py", true),
        ("src/**/*.py", "src/b/c/a.py", true),
        ("**", "src/a.py", true),
        ("?.{py,rs}", "x/a.rs", true),
        ("a+b.(py)", "a+b.(py)", true),
        ("*.py", "a\n.py", true),
    ] {
        let compiled = pattern::Pattern::glob(glob).unwrap();
        assert_eq!(compiled.matches(name), matches, "{glob} {name}");
    }
    assert!(pattern::Pattern::glob("{").is_err());
}

#[test]
fn names_of_files_are_found() {
    let text = "// Path: src/app/main.rs\n<file_sep>lib/x.weird\n```py title=\"a-b.py\"\nSee \
                https://example.com/a.html, e.g. example.com and v1.2; C:\\x\\y.ts Makefile a-b.py";
    assert_eq!(
        file_names(text),
        ["src/app/main.rs", "lib/x.weird", "a-b.py", "\\x\\y.ts"]
    );
    let many: String = (0..100).map(|n| format!("f{n}.py ")).collect();
    assert_eq!(file_names(&many).len(), 64);
}

fn rule(when: Option<&str>, percent: u32, target: &str) -> Rule {
    Rule {
        when: when.map(|text| Expression::compile(text).unwrap()),
        traffic: percent * 1_000,
        then: Then::Target(target.into()),
    }
}

fn taken<'r>(rules: &'r [Rule], draw: u32, steps: &mut Vec<Step>) -> Option<&'r Then> {
    first(rules, &request(), || draw, |_, step| steps.push(step))
}

#[test]
fn first_rule_that_fits_takes_the_request() {
    let rules = [
        rule(Some("request.body.nothing"), 100, "a"),
        rule(Some("request.model == 'x'"), 100, "b"),
        rule(Some("request.stream"), 25, "c"),
        rule(None, 100, "d"),
        rule(None, 100, "e"),
    ];
    for (draw, target, third) in
        [(0, "c", Step::Taken), (24_999, "c", Step::Taken), (25_000, "d", Step::LeftByDraw)]
    {
        let mut steps = Vec::new();
        let then = taken(&rules, draw, &mut steps);
        assert_eq!(then, Some(&Then::Target(target.into())));
        let known = [Step::Stopped(Stopped::Missing), Step::Unfit, third, Step::Taken];
        assert_eq!(steps, known.into_iter().take(steps.len()).collect::<Vec<_>>());
    }
    let mut steps = Vec::new();
    assert_eq!(taken(&rules[..2], 0, &mut steps), None);
    assert_eq!(steps.len(), 2);
}

proptest! {
    /// Whatever is written, it is refused or runs; nothing panics.
    #[test]
    fn any_text_is_refused_or_runs(
        pieces in prop::collection::vec(
            prop::sample::select(vec![
                "request", ".", "text", "body", "(", ")", "[", "]", "'a'", "1", "==", "&&", "||",
                "!", "-", "in", "exists", "x", ",", "size", "?", ":", "{", "}", "null", " ", "\n",
                "\u{e9}", "0u", "b'x'", "r'\\\\'", "has", "map", "matches", "metadata",
            ]),
            0..24,
        ),
    ) {
        let text = pieces.concat();
        if let Ok(expression) = Expression::compile(&text) {
            let _: Result<bool, Stopped> = expression.run(&request());
        }
    }

    /// A rule takes as much of the traffic as it says.
    #[test]
    fn traffic_is_shared_as_written(percent in 0_u32..=100) {
        let rules = [rule(None, percent, "a"), rule(None, 100, "b")];
        let mut steps = Vec::new();
        let n_taken = (0..1_000).map(|n| n * 100).filter(|draw| {
            taken(&rules, *draw, &mut steps) == Some(&Then::Target("a".into()))
        }).count();
        prop_assert_eq!(n_taken, percent as usize * 10);
    }
}
