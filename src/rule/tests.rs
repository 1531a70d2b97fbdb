//! Tests of rules.

use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::*;
use crate::limit::Metric;

/// A request as a test needs it.
struct Request {
    body: Json,
    metadata: Vec<(Box<str>, Box<str>)>,
    text: String,
    names: Vec<Box<str>>,
}

impl Facts for Request {
    fn value(&self, variable: Variable) -> Option<Value<'_>> {
        Some(match variable {
            Variable::Dialect | Variable::Kind => Value::text("chat"),
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
            Variable::FileNames => Value::Texts(&self.names),
            Variable::Metadata => Value::Map(&self.metadata),
            Variable::EndUser => Value::text("ada"),
            Variable::Key => Value::text("app"),
            Variable::Client => Value::text("curl/8"),
            Variable::SourceIp => Value::text("10.0.0.1"),
            // 2026-11-17 12:34:56 UTC, a Tuesday.
            Variable::Now => Value::Time(1_794_918_896_000_000),
        })
    }

    fn error_rate(&self, target: &str, minutes: u32) -> Option<f64> {
        (target == "primary").then_some(f64::from(minutes) / 10.0)
    }

    fn usage_percent(&self, limit: &LimitName) -> Option<f64> {
        (limit.metric == Metric::Tokens && limit.owner.is_none()).then_some(82.5)
    }
}

fn request() -> Request {
    Request {
        body: json!({"model": "auto", "n": 2, "tools": [{"name": "a"}, {"name": "b"}], "x": null}),
        metadata: vec![("team".into(), "web".into())],
        text: "be kind Fix the bug in src/main.rs and lib.py".to_owned(),
        names: vec!["src/main.rs".into(), "lib.py".into()],
    }
}

fn run(expression: &Expression, facts: &Request) -> Result<bool, Stopped> {
    expression.run(facts, &mut ALL_STEPS_MAX.clone())
}

fn outcome(text: &str) -> String {
    match Expression::compile(text) {
        Err(mistake) => format!("refused: {mistake}"),
        Ok(expression) => match run(&expression, &request()) {
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
        "error_rate('primary', 5) > 0.4 && usage_percent('key.tokens.minute') > 80",
        "error_rate('gone', 5) > 0.4 || usage_percent(\"connection/a.concurrent\") > 1 || true",
        "request.filenames.map(f, f.endsWith('.py'), size(f)) == [6] // a remark",
        r#"'\x41\u00e9\101' == "A\351A" || r'\' == "\\" && '''a'b''' == "a'b""#,
        "0x10 == 16u && 1e3 == 1000 && -2 == 1 - 3 && 7 - 2 - 1 == 4 && .5 < 1 && !!true",
        "source_ip.startsWith('10.') && client.contains('curl') && request.kind == 'chat'",
    ] {
        assert_eq!(outcome(text), "true", "{text}");
    }
}

#[test]
fn what_cannot_be_told_has_a_reason() {
    for (text, reason) in [
        ("request.body.nothing == 1", "a field, an element, a target or a limit is missing"),
        ("metadata.nothing == 'x'", "a field, an element, a target or a limit is missing"),
        (
            "request.body.tools[7].name == 'x'",
            "a field, an element, a target or a limit is missing",
        ),
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
    assert_eq!(run(&expression, &large), Err(Stopped::Unread));
}

#[test]
fn mistakes_are_refused_with_their_place() {
    for (text, mistake) in [
        ("", "line 1, column 1: expected a value, found the end"),
        ("request.", "line 1, column 9: expected a name, found the end"),
        ("request.stream &&\n  ", "line 2, column 3: expected a value, found the end"),
        (
            "request.strem",
            "line 1, column 9: no field `strem`; there are dialect, model, stream, messages_count, tools_count, first_message, last_message, text, body, input_tokens, filenames, kind",
        ),
        (
            "modle == 'x'",
            "line 1, column 1: no variable `modle`; there are request, metadata, end_user, key, client, source_ip, now",
        ),
        ("request == 1", "line 1, column 1: `request` has fields; name one"),
        ("request.input_tokens", "line 1, column 9: a condition takes a bool, not int"),
        ("request.input_tokens == 'x'", "line 1, column 22: `==` does not take (int, string)"),
        (
            "request.stream &&\n  request.model > 1",
            "line 2, column 17: `>` does not take (string, int)",
        ),
        ("request.model.contain('x')", "line 1, column 15: no function `contain`"),
        ("request.model.contains(1)", "line 1, column 15: `contains` does not take (string, int)"),
        (
            "request.text.matches('(')",
            "line 1, column 22: not a regular expression: unclosed group",
        ),
        (
            "request.text.matches(request.model)",
            "line 1, column 30: the pattern of `matches` must be a text in quotes",
        ),
        (
            "request.text.matches('(a{1000}){1000}')",
            "line 1, column 22: the pattern is too complex; shorten it, or repeat less in it",
        ),
        ("size(1) == 1", "line 1, column 1: `size` does not take (int)"),
        (
            "[1, 2].exists(x, x.y > z)",
            "line 1, column 24: no variable `z`; there are request, metadata, end_user, key, client, source_ip, now",
        ),
        ("request.model.exists(x, true)", "line 1, column 15: a string has no elements to go over"),
        ("{'a': 1}.a == 1", "line 1, column 1: rules know no maps"),
        ("!request.model", "line 1, column 10: `!` takes a bool, not string"),
        ("request.stream ? 1 : 2", "line 1, column 16: a condition takes a bool, not int"),
        ("now > 1", "line 1, column 5: `>` does not take (timestamp, int)"),
        ("'x", "line 1, column 1: the text has no end; close its quotes"),
    ] {
        assert_eq!(outcome(text), format!("refused: {mistake}"), "{text}");
    }
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
    // A copy costs as much as all that is in it.
    let nested = "[1,1,1,1,1,1,1,1,1,1].map(a, [a,a,a,a,a,a,a,a,a,a])";
    let copied = format!("[{nested}].map(n, [{}n]).exists(c, size(c) == 1)", "n,".repeat(1_000));
    assert_eq!(outcome(&copied), "stopped: it takes too many steps");
    let grows = format!("{list}.map(a, {list}).map(a, a + a).exists(a, size(a) == 1)");
    assert_eq!(outcome(&grows), "stopped: it takes too many steps");
}

/// What would take a backtracking matcher longer than anyone waits.
#[test]
fn patterns_take_time_linear_in_the_text() {
    let facts = Request { text: "a".repeat(200_000), ..request() };
    for text in ["request.text.matches('^(a+)+$')", "!request.text.matches('(a*)*b')"] {
        assert_eq!(run(&Expression::compile(text).unwrap(), &facts), Ok(true), "{text}");
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
    let names = file_names(text);
    let names: Vec<&str> = names.iter().map(|name| &**name).collect();
    assert_eq!(names, ["src/app/main.rs", "lib/x.weird", "a-b.py", "\\x\\y.ts"]);
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

fn taken<'r>(rules: &'r [Rule], draw: u32, told: &mut Vec<Step>) -> Option<&'r Then> {
    let mut steps = ALL_STEPS_MAX;
    let is_there = |then: &Then| *then != Then::Target("gone".into());
    first(rules, (&request(), &mut steps), || draw, is_there, |_, step| told.push(step))
}

#[test]
fn first_rule_that_fits_takes_the_request() {
    let rules = [
        rule(Some("request.body.nothing"), 100, "a"),
        rule(Some("request.model == 'x'"), 100, "b"),
        rule(Some("true"), 100, "gone"),
        rule(Some("request.stream"), 25, "c"),
        rule(None, 100, "d"),
        rule(None, 100, "e"),
    ];
    for (draw, target, fourth) in
        [(0, "c", Step::Taken), (24_999, "c", Step::Taken), (25_000, "d", Step::LeftByDraw)]
    {
        let mut told = Vec::new();
        let then = taken(&rules, draw, &mut told);
        assert_eq!(then, Some(&Then::Target(target.into())));
        let known =
            [Step::Stopped(Stopped::Missing), Step::Unfit, Step::Nowhere, fourth, Step::Taken];
        assert_eq!(told, known.into_iter().take(told.len()).collect::<Vec<_>>());
    }
    let mut told = Vec::new();
    assert_eq!(taken(&rules[..3], 0, &mut told), None);
    assert_eq!(told.len(), 3);
}

/// All rules of a request share one budget: many hostile ones cost no more than a few.
#[test]
fn many_hostile_rules_are_bounded_together() {
    let list = format!("[{}0]", "0,".repeat(500));
    let square = format!("{list}.all(a, {list}.all(b, a == b))");
    let rules = vec![rule(Some(&square), 100, "a"); 100];
    let (mut steps, mut told) = (ALL_STEPS_MAX, Vec::new());
    let facts = request();
    first(&rules, (&facts, &mut steps), || 0, |_| true, |_, step| told.push(step));
    assert_eq!(steps, 0);
    assert_eq!(told, vec![Step::Stopped(Stopped::Budget); 100]);
}

fn written(field: &str, by: &str, value: Json) -> String {
    let (_, by) = COMPARATORS.into_iter().find(|(name, _)| *name == by).unwrap();
    let value = (!value.is_null()).then_some(value);
    match (Simple::Field { field: field.to_owned(), by, value }).expression() {
        Ok(text) => format!("{}: {text}", outcome(&text)),
        Err(problem) => problem,
    }
}

#[test]
fn simple_forms_are_expressions() {
    for (field, by, value) in [
        ("model", "equal", json!("auto")),
        ("model", "not_equal", json!("x")),
        ("text", "contains", json!("the \"bug\"".replace('"', ""))),
        ("text", "not_contains", json!("nothing")),
        ("last_message", "starts_with", json!("Fix")),
        ("last_message", "ends_with", json!(".rs")),
        ("text", "matches", json!(r"\bbug\b")),
        ("metadata.team", "in", json!(["app", "web"])),
        ("metadata.team", "not_in", json!(["app"])),
        ("metadata.nothing", "not_in", json!(["app"])),
        ("metadata.nothing", "not_equal", json!("app")),
        ("body.nothing.deep", "not_contains", json!("app")),
        ("input_tokens", "less", json!(1201)),
        ("input_tokens", "less_or_equal", json!(1200)),
        ("input_tokens", "greater", json!(1199.5)),
        ("body.n", "greater_or_equal", json!(2)),
        ("metadata.team", "exists", Json::Null),
        ("end_user", "exists", Json::Null),
        ("stream", "equal", json!(true)),
        ("filenames", "ends_with", json!(".py")),
        ("filenames", "not_contains", json!("test")),
        ("filenames", "in", json!(["lib.py"])),
    ] {
        let written = written(field, by, value);
        assert!(written.starts_with("true: "), "{field} {by}: {written}");
    }
    for (field, by, value) in [
        ("model", "equal", json!("x")),
        ("metadata.nothing", "equal", json!("x")),
        ("metadata.nothing", "exists", Json::Null),
        ("body.nothing.deep", "contains", json!("x")),
        ("filenames", "equal", json!("x")),
        ("model", "equal", json!("\" || true || \"")),
    ] {
        let written = written(field, by, value);
        assert!(written.starts_with("false: "), "{field} {by}: {written}");
    }
    for (field, by, value) in [
        ("modle", "equal", json!("x")),
        ("body.a-b", "equal", json!("x")),
        ("model", "in", json!("x")),
        ("model", "contains", json!(1)),
        ("model", "exists", json!(1)),
        ("filenames", "less", json!(1)),
        ("model", "equal", Json::Null),
    ] {
        let written = written(field, by, value);
        assert!(!written.contains("true") || written.contains("needs"), "{written}");
    }
}

#[test]
fn other_simple_forms() {
    let rate = Simple::ErrorRate {
        target: "primary".into(),
        minutes: 5,
        by: Comparison::Greater,
        value: json!(0.4),
    };
    let usage = Simple::UsagePercent {
        limit: "key.tokens.minute".into(),
        by: Comparison::LessOrEqual,
        value: json!(82.5),
    };
    let file = |kind: Option<&str>| Simple::FileName {
        glob: "*.py".into(),
        kind: kind.map(str::to_owned),
    };
    for (form, holds) in [
        (rate, "true"),
        (usage, "true"),
        (Simple::HasTools(false), "true"),
        (Simple::HasTools(true), "false"),
        (Simple::Kind("fim".into()), "false"),
        (file(None), "true"),
        (file(Some("chat")), "true"),
        (file(Some("fim")), "false"),
    ] {
        let text = form.expression().unwrap();
        assert_eq!(outcome(&text), holds, "{text}");
    }
}

#[test]
fn bodies_say_what_their_dialect_has() {
    let parts = json!([{"type": "text", "text": "two"}, {"type": "image_url", "image_url": {}}]);
    let chat = json!({"model": "m", "tools": [{}, {}], "messages": [
        {"role": "system", "content": "zero"},
        {"role": "user", "content": "one"},
        {"content": parts, "role": "user"},
        {"role": "assistant", "content": "three", "tool_calls": []},
        {"role": "tool", "content": "four"},
    ]});
    let got = said(chat.to_string().as_bytes());
    assert_eq!(got.text, "zero\none\ntwo\nthree\nfour");
    assert_eq!((&*got.first_message, &*got.last_message), ("one", "two"));
    assert_eq!((got.messages_count, got.tools_count, got.is_fim), (5, 2, false));

    let result = json!([{"type": "tool_result", "content": [{"type": "text", "text": "x"}]}]);
    let messages = json!({"system": [{"type": "text", "text": "zero"}], "messages": [
        {"role": "user", "content": "one \u{e9}\n"}, {"role": "user", "content": result},
    ]});
    let got = said(messages.to_string().as_bytes());
    assert_eq!((&*got.text, &*got.last_message), ("zero\none \u{e9}\n", "one \u{e9}\n"));

    let responses = json!({"instructions": "zero", "input": "one"});
    let got = said(responses.to_string().as_bytes());
    assert_eq!((&*got.text, &*got.last_message, got.messages_count), ("zero\none", "one", 1));
    let items = json!({"input": [
        {"role": "user", "content": [{"type": "input_text", "text": "one"}]},
        {"type": "function_call_output", "output": "two"},
    ]});
    let got = said(items.to_string().as_bytes());
    assert_eq!((&*got.text, &*got.last_message, got.messages_count), ("one\ntwo", "one", 2));

    let gap = json!({"prompt": "fn a() {", "suffix": "}"});
    assert!(said(gap.to_string().as_bytes()).is_fim);
    let marks = "<|fim_prefix|>a<|fim_suffix|>b<|fim_middle|>";
    let gap = json!({"messages": [{"role": "user", "content": marks}]});
    assert!(said(gap.to_string().as_bytes()).is_fim);
    assert_eq!(said(b"[]"), Said::default());
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
            prop_assert_ne!(run(&expression, &request()), Err(Stopped::Unread));
        }
    }

    /// Whatever a body is, it can be read.
    #[test]
    fn any_body_says_something(
        pieces in prop::collection::vec(
            prop::sample::select(vec![
                "{", "}", "[", "]", ",", ":", "\"messages\"", "\"role\"", "\"user\"",
                "\"content\"", "\"text\"", "\"input\"", "1", "null", "\"\\ud800\"", "\u{e9}", " ",
            ]),
            0..40,
        ),
    ) {
        drop(said(pieces.concat().as_bytes()));
    }

    /// Every text of the messages is in what is said, in their order.
    #[test]
    fn all_messages_are_said(texts in prop::collection::vec("[a-z\\\\\"\n]{1,12}", 1..8)) {
        let messages: Vec<Json> =
            texts.iter().map(|text| json!({"role": "user", "content": text})).collect();
        let got = said(json!({ "messages": messages }).to_string().as_bytes());
        prop_assert_eq!(got.text, texts.join("\n"));
        prop_assert_eq!(Some(&got.first_message), texts.first());
        prop_assert_eq!(Some(&got.last_message), texts.last());
        prop_assert_eq!(got.messages_count, texts.len());
    }

    /// What a form is given stays a value, whatever it holds.
    #[test]
    fn simple_forms_hold_any_text(text in ".{0,40}", name in ".{1,20}") {
        for by in ["equal", "contains", "starts_with", "ends_with"] {
            let (_, by) = COMPARATORS.into_iter().find(|(known, _)| *known == by).unwrap();
            let value = Some(Json::from(text.as_str()));
            let form = Simple::Field { field: "text".to_owned(), by, value: value.clone() };
            let text = form.expression().unwrap();
            prop_assert!(Expression::compile(&text).is_ok(), "{text}");
            let form = Simple::Field { field: format!("metadata.{name}"), by, value };
            prop_assert_eq!(outcome(&form.expression().unwrap()), "false");
        }
    }

    /// A rule takes as much of the traffic as it says.
    #[test]
    fn traffic_is_shared_as_written(percent in 0_u32..=100) {
        let rules = [rule(None, percent, "a"), rule(None, 100, "b")];
        let mut told = Vec::new();
        let n_taken = (0..100).map(|n| n * 1_000).filter(|draw| {
            taken(&rules, *draw, &mut told) == Some(&Then::Target("a".into()))
        }).count();
        prop_assert_eq!(n_taken, percent as usize);
    }
}
