//! Tests of the splitter, of what events mean, of our own events and of the stripper.

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::dialect::Dialect;

/// An event that outlives its chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Owned {
    Message(String, String),
    Silent,
    Oversized,
}

fn message(name: &str, data: &str) -> Owned {
    Owned::Message(name.to_owned(), data.to_owned())
}

impl From<Event<'_>> for Owned {
    fn from(event: Event<'_>) -> Self {
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        match event {
            Event::Message { name, data } => Self::Message(text(name), text(data)),
            Event::Silent => Self::Silent,
            Event::Oversized => Self::Oversized,
        }
    }
}

fn split(splitter: &mut Splitter, chunks: &[&[u8]]) -> Vec<Owned> {
    let mut events = Vec::new();
    for chunk in chunks {
        splitter.push(chunk, |event, end| {
            assert!(end <= chunk.len());
            events.push(event.into());
        });
    }
    events
}

fn events(stream: &[u8]) -> Vec<Owned> {
    split(&mut Splitter::default(), &[stream])
}

/// The parser of the HTML standard, in its own words, over a whole stream.
fn standard(stream: &str) -> Vec<(String, String)> {
    let stream = stream.strip_prefix('\u{feff}').unwrap_or(stream);
    let lines = stream.replace("\r\n", "\n").replace('\r', "\n");
    let (mut name, mut data) = (String::new(), String::new());
    let mut events = Vec::new();
    let mut lines: Vec<_> = lines.split('\n').collect();
    lines.pop(); // What has no line end is no line.
    for line in lines {
        if line.is_empty() {
            if let Some(data) = data.strip_suffix('\n') {
                events.push((name.clone(), data.to_owned()));
            }
            name.clear();
            data.clear();
            continue;
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut name),
            "data" => data += &format!("{value}\n"),
            _ => {}
        }
    }
    events
}

fn cut<'s>(stream: &'s [u8], cuts: &[prop::sample::Index]) -> Vec<&'s [u8]> {
    let mut at: Vec<_> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
    at.extend([0, stream.len()]);
    at.sort_unstable();
    at.windows(2).map(|pair| &stream[pair[0]..pair[1]]).collect()
}

fn cuts() -> impl Strategy<Value = Vec<prop::sample::Index>> {
    prop::collection::vec(any::<prop::sample::Index>(), 0..12)
}

const ALPHABET: &str =
    "(data|event|id|:|: | |\n|\n\n|\r|\r\n|\r\n\r\n|\u{feff}|é|x|data: y\n|: c\n|)";

// === splitter ===

#[test]
fn an_event_is_borrowed_from_its_chunk() {
    let chunk = b"event: a\ndata: hello\n\n";
    let mut n = 0;
    Splitter::default().push(chunk, |event, end| {
        let Event::Message { name, data } = event else { panic!("{event:?}") };
        assert_eq!((name, data, end), (&b"a"[..], &b"hello"[..], chunk.len()));
        assert!(chunk.as_ptr_range().contains(&data.as_ptr()));
        n += 1;
    });
    assert_eq!(n, 1);
}

#[test]
fn every_line_end_and_oddity_is_understood() {
    let stream = "\u{feff}data:1\r\rdata: 2\r\n\r\n: hi\n\n\n\ndata\ndata: a\ndata:  b\n\nevent: x\n\nid: 7\nevent: y\ndata\n\nfoo\n\ndata: open";
    let expected = [
        message("", "1"),
        message("", "2"),
        Owned::Silent,
        message("", "\na\n b"),
        Owned::Silent,
        message("y", ""),
        Owned::Silent,
    ];
    assert_eq!(events(stream.as_bytes()), expected);
}

#[test]
fn boundary_is_between_events_only() {
    let mut splitter = Splitter::default();
    for (chunk, is_at_boundary) in [
        ("", true),
        ("d", false),
        ("ata: 1\n", false),
        ("\n", true),
        (": c", false),
        ("\n", false),
        ("\r", true),
        ("\n", true),
    ] {
        splitter.push(chunk.as_bytes(), |_, _| {});
        assert_eq!(splitter.is_at_boundary(), is_at_boundary, "{chunk:?}");
    }
}

#[test]
fn an_oversized_event_is_reported_once_and_not_kept() {
    let mut splitter = Splitter::new(100);
    let chunks: [&[u8]; 6] =
        [b"data: ", &[b'x'; 90], &[b'x'; 90], &[b'x'; 90], b"\ndata: y\n", b"\ndata: 2\n\n"];
    assert_eq!(split(&mut splitter, &chunks), [Owned::Oversized, message("", "2")]);
    assert!(splitter.is_at_boundary());
}

#[test]
fn the_last_event_needs_no_blank_line_at_the_end() {
    for stream in ["data: [DONE]", "data: [DONE]\n"] {
        let mut splitter = Splitter::default();
        assert_eq!(split(&mut splitter, &[stream.as_bytes()]), []);
        let mut last = Vec::new();
        splitter.finish(|event| last.push(Owned::from(event)));
        assert_eq!(last, [message("", "[DONE]")]);
    }
}

proptest! {
    #[test]
    fn any_split_gives_the_events_of_the_standard(
        pieces in prop::collection::vec(ALPHABET, 0..40),
        cuts in cuts(),
    ) {
        let stream = pieces.concat();
        let chunks = cut(stream.as_bytes(), &cuts);
        let mut splitter = Splitter::default();
        let split_up = split(&mut splitter, &chunks);
        prop_assert_eq!(&split_up, &events(stream.as_bytes()));
        let messages: Vec<_> = split_up
            .into_iter()
            .filter_map(|event| match event {
                Owned::Message(name, data) => Some((name, data)),
                Owned::Silent | Owned::Oversized => None,
            })
            .collect();
        prop_assert_eq!(messages, standard(&stream));
    }

    #[test]
    fn any_split_finds_the_same_oversized_events(
        pieces in prop::collection::vec(ALPHABET, 0..40),
        cuts in cuts(),
        bytes_max in 1_usize..20,
    ) {
        let stream = pieces.concat();
        let whole = split(&mut Splitter::new(bytes_max), &[stream.as_bytes()]);
        let chunks = cut(stream.as_bytes(), &cuts);
        prop_assert_eq!(split(&mut Splitter::new(bytes_max), &chunks), whole);
    }

    #[test]
    fn any_bytes_are_split(bytes in prop::collection::vec(any::<u8>(), 0..200), cuts in cuts()) {
        let chunks = cut(&bytes, &cuts);
        prop_assert_eq!(split(&mut Splitter::default(), &chunks), events(&bytes));
    }
}

// === what events mean ===

fn class(dialect: Dialect, name: &str, data: &str) -> Class {
    let event = Event::Message { name: name.as_bytes(), data: data.as_bytes() };
    let class = classify(dialect, &event);
    assert!(class != Class::Terminal || is_stream_end(dialect, &event), "{data}");
    class
}

#[test]
fn preamble_is_what_says_nothing() {
    for (dialect, name, data) in [
        (
            Dialect::Chat,
            "",
            r#"{"choices":[{"delta":{"role":"assistant","content":""},"finish_reason":null}]}"#,
        ),
        (
            Dialect::Chat,
            "",
            r#"{"choices":[{"delta":{"role":"assistant","content":null,"refusal":null,"tool_calls":[]}}]}"#,
        ),
        (Dialect::Chat, "", r#"{"choices":[],"prompt_filter_results":[{}]}"#),
        (Dialect::Completions, "", r#"{"choices":[{"text":"","finish_reason":null}]}"#),
        (Dialect::Responses, "response.created", r#"{"type":"response.created"}"#),
        (Dialect::Responses, "", r#"{"sequence_number":1,"type":"response.in_progress"}"#),
        (Dialect::Responses, "response.queued", "{}"),
        (
            Dialect::Responses,
            "response.output_item.added",
            r#"{"item":{"type":"message","content":[]}}"#,
        ),
        (
            Dialect::Responses,
            "response.content_part.added",
            r#"{"part":{"type":"output_text","text":""}}"#,
        ),
        (Dialect::Messages, "message_start", r#"{"type":"message_start","message":{}}"#),
        (Dialect::Messages, "ping", r#"{"type":"ping"}"#),
        (
            Dialect::Messages,
            "content_block_start",
            r#"{"content_block":{"type":"text","text":""}}"#,
        ),
    ] {
        assert_eq!(class(dialect, name, data), Class::Preamble, "{data}");
    }
    assert_eq!(classify(Dialect::Chat, &Event::Silent), Class::Preamble);
}

#[test]
fn content_is_what_a_client_can_use_or_nobody_knows() {
    for (dialect, name, data) in [
        (Dialect::Chat, "", r#"{"choices":[{"delta":{"content":"a"}}]}"#),
        (Dialect::Chat, "", r#"{"choices":[{"delta":{"content":null,"reasoning_content":"h"}}]}"#),
        (Dialect::Chat, "", r#"{"choices":[{"delta":{"refusal":"no"}}]}"#),
        (
            Dialect::Chat,
            "",
            r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"name":"f","arguments":""}}]}}]}"#,
        ),
        (Dialect::Chat, "", r#"{"choices":[{"delta":{},"finish_reason":"stop"}]}"#),
        (Dialect::Chat, "", r#"{"choices":[{"delta":{"content":"error"}}],"error":null}"#),
        (Dialect::Chat, "", r#"{"broken"#),
        (Dialect::Chat, "", r#"{"something":"else"}"#),
        (Dialect::Completions, "", r#"{"choices":[{"text":"a"}]}"#),
        (Dialect::Responses, "response.output_text.delta", r#"{"delta":"a"}"#),
        (Dialect::Responses, "response.reasoning_summary_text.delta", r#"{"delta":"a"}"#),
        (
            Dialect::Responses,
            "response.output_item.added",
            r#"{"item":{"type":"function_call","name":"f"}}"#,
        ),
        (
            Dialect::Responses,
            "response.output_item.added",
            r#"{"item":{"type":"reasoning","summary":[]}}"#,
        ),
        (
            Dialect::Messages,
            "content_block_start",
            r#"{"content_block":{"type":"tool_use","name":"f"}}"#,
        ),
        (
            Dialect::Messages,
            "content_block_start",
            r#"{"content_block":{"type":"thinking","thinking":""}}"#,
        ),
        (Dialect::Messages, "content_block_delta", r#"{"delta":{"type":"text_delta","text":"a"}}"#),
        (Dialect::Messages, "message_delta", r#"{"delta":{"stop_reason":"end_turn"}}"#),
        (Dialect::Images, "image_generation.partial_image", "{}"),
        (Dialect::Audio, "", r#"{"type":"transcript.text.delta","delta":"a"}"#),
    ] {
        assert_eq!(class(dialect, name, data), Class::Content, "{data}");
    }
    assert_eq!(classify(Dialect::Messages, &Event::Oversized), Class::Content);
}

#[test]
fn the_end_is_known_in_every_dialect() {
    for (dialect, name, data) in [
        (Dialect::Chat, "", "[DONE]"),
        (Dialect::Completions, "", "[DONE] "),
        (Dialect::Responses, "response.completed", "{}"),
        (Dialect::Responses, "", r#"{"response":{"id":"a"},"type":"response.incomplete"}"#),
        (Dialect::Messages, "message_stop", r#"{"type":"message_stop"}"#),
        (Dialect::Images, "image_edit.completed", "{}"),
        (Dialect::Audio, "", r#"{"type":"speech.audio.done"}"#),
        (Dialect::Audio, "", "[DONE]"),
    ] {
        assert_eq!(class(dialect, name, data), Class::Terminal, "{data}");
    }
    let failed = Event::Message { name: b"response.failed", data: b"{}" };
    assert!(is_stream_end(Dialect::Responses, &failed));
    assert!(!is_stream_end(Dialect::Chat, &Event::Silent));
}

#[test]
fn errors_are_read_in_every_shape() {
    let mut table = String::new();
    for (dialect, name, data) in [
        (
            Dialect::Chat,
            "",
            r#"{"error":{"message":"slow down","type":"rate_limit_error","code":"rate_limit_exceeded"}}"#,
        ),
        (Dialect::Chat, "", r#"{"error":{"message":"m","type":"x","code":503}}"#),
        (
            Dialect::Chat,
            "",
            r#"{"object":"error","message":"bad","type":"BadRequestError","code":400}"#,
        ),
        (Dialect::Chat, "", r#"{"error":"overloaded","error_type":"overloaded"}"#),
        (Dialect::Chat, "error", "out of memory"),
        (
            Dialect::Chat,
            "",
            r#"{"id":"x","choices":[{"delta":{"content":""}}],"error":{"code":502,"message":"m"}}"#,
        ),
        (
            Dialect::Responses,
            "error",
            r#"{"type":"error","code":"server_error","message":"m","param":null}"#,
        ),
        (
            Dialect::Responses,
            "",
            r#"{"type":"error","error":{"type":"invalid_request_error","code":null,"message":"m"}}"#,
        ),
        (
            Dialect::Responses,
            "response.failed",
            r#"{"type":"response.failed","response":{"error":{"code":"rate_limit_exceeded","message":"m"}}}"#,
        ),
        (
            Dialect::Messages,
            "error",
            r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#,
        ),
        (Dialect::Messages, "", r#"{"error":{"type":"odd","message":"m"}}"#),
        (
            Dialect::Images,
            "error",
            r#"{"type":"error","error":{"type":"server_error","message":"m"}}"#,
        ),
    ] {
        let Class::Error(error) = class(dialect, name, data) else { panic!("{data}") };
        let StreamError { status, kind, code, message } = *error;
        table += &format!("{status:?} {kind:?} {code:?} {message:?}\n");
    }
    insta::assert_snapshot!(table, @r#"
    Some(429) Some("rate_limit_error") Some("rate_limit_exceeded") Some("slow down")
    Some(503) Some("x") Some("503") Some("m")
    Some(400) Some("BadRequestError") Some("400") Some("bad")
    Some(529) Some("overloaded") None Some("overloaded")
    None None None Some("out of memory")
    Some(502) None Some("502") Some("m")
    Some(500) None Some("server_error") Some("m")
    Some(400) Some("invalid_request_error") None Some("m")
    Some(429) None Some("rate_limit_exceeded") Some("m")
    Some(529) Some("overloaded_error") None Some("Overloaded")
    None Some("odd") None Some("m")
    Some(500) Some("server_error") None Some("m")
    "#);
}

#[test]
fn text_is_counted_without_parsing() {
    let event = |dialect, data: &str| event_text_bytes(dialect, data.as_bytes());
    assert_eq!(event(Dialect::Chat, r#"{"choices":[{"delta":{"content": "ab\"c"}}]}"#), 5);
    assert_eq!(
        event(Dialect::Chat, r#"{"choices":[{"delta":{"content":null,"reasoning":"abc"}}]}"#),
        3
    );
    assert_eq!(event(Dialect::Messages, r#"{"delta":{"partial_json":"{\"a\""}}"#), 6);
    assert_eq!(event(Dialect::Responses, r#"{"delta":"open"#), 4);
    assert_eq!(event(Dialect::Responses, r#"{"delta":"open\"#), 5);
    assert_eq!(event(Dialect::Embeddings, r#"{"content":"a"}"#), 0);
    let answer = br#"{"choices":[{"message":{"content":"abc"}},{"message":{"content":"de"}}]}"#;
    assert_eq!(answer_text_bytes(Dialect::Chat, answer), 5);
}

// === own events ===

fn own_error(dialect: Dialect, message: &str) -> String {
    let error = OwnError {
        kind: "upstream_error",
        code: "stream_stalled",
        message,
        request_id: "req-1",
        sequence_number: 7,
    };
    String::from_utf8(error_event(dialect, &error)).unwrap()
}

#[test]
fn own_errors_have_the_form_of_the_dialect() {
    insta::assert_snapshot!(own_error(Dialect::Chat, "the \"é\"\n"), @r#"data: {"error":{"message":"the \"\u00e9\"\n","type":"upstream_error","param":null,"code":"stream_stalled"}}"#);
    insta::assert_snapshot!(own_error(Dialect::Responses, "stalled"), @r#"
    event: error
    data: {"type":"error","code":"stream_stalled","message":"stalled","param":null,"sequence_number":7}
    "#);
    insta::assert_snapshot!(own_error(Dialect::Messages, "stalled"), @r#"
    event: error
    data: {"type":"error","error":{"type":"upstream_error","message":"stalled"},"request_id":"req-1"}
    "#);
}

proptest! {
    #[test]
    fn no_text_breaks_out_of_an_own_event(
        message in "(data|event|:|\n|\r|\u{2028}|\u{2029}|\u{85}|\u{feff}|🦀|\"|\\\\|\0|x){0,20}",
    ) {
        let line = own_error(Dialect::Ollama, &message);
        prop_assert_eq!(line.matches('\n').count(), 1);
        let body: Value = serde_json::from_str(&line).unwrap();
        prop_assert_eq!(&body["error"], &*message);
        for dialect in Dialect::ALL.into_iter().filter(|dialect| *dialect != Dialect::Ollama) {
            let event = own_error(dialect, &message);
            prop_assert!(event.is_ascii());
            let events = standard(&event);
            prop_assert_eq!(events.len(), 1);
            let body: Value = serde_json::from_str(&events[0].1).unwrap();
            let said = if body["error"].is_object() { &body["error"]["message"] } else { &body["message"] };
            prop_assert_eq!(said, &*message);
            let class = class(dialect, &events[0].0, &events[0].1);
            prop_assert!(matches!(class, Class::Error(_)), "{:?}", class);
        }
    }
}

// === stripper ===

const USAGE: &str = r#"data: {"id":"c","object":"chat.completion.chunk","choices":[],"usage":{"prompt_tokens":1,"details":{"a":[1,"}"]}}}"#;
const DELTA: &str =
    r#"data: {"id":"c","choices":[{"index":0,"delta":{"content":"a"}}],"usage":null}"#;

fn strip_pieces(chunks: &[&[u8]]) -> Vec<Bytes> {
    let mut stripper = UsageStripper::new();
    let mut pieces = Vec::new();
    for chunk in chunks {
        stripper.push(&Bytes::copy_from_slice(chunk), |piece| pieces.push(piece));
    }
    pieces.extend(stripper.finish());
    pieces
}

fn strip(stream: &str) -> String {
    String::from_utf8(strip_pieces(&[stream.as_bytes()]).concat()).unwrap()
}

#[test]
fn the_usage_chunk_is_taken_out_and_nothing_else() {
    for end in ["\n", "\r\n", "\r"] {
        let stream = |usage: &str| format!("{DELTA}{end}{end}{usage}data: [DONE]{end}{end}");
        assert_eq!(strip(&stream(&format!("{USAGE}{end}{end}"))), stream(""));
        let named = format!("event: x{end}id: 1{end}{USAGE}{end}{end}");
        assert_eq!(strip(&stream(&named)), stream(""));
        let after_comment = format!(": hi{end}{USAGE}{end}{end}");
        assert_eq!(strip(&stream(&after_comment)), stream(&format!(": hi{end}")));
    }
}

#[test]
fn what_is_like_the_usage_chunk_passes() {
    for event in [
        r#"data: {"choices":[],"usage":null}"#,
        r#"data: {"choices":[],"prompt_filter_results":[]}"#,
        r#"data: {"choices":[{}],"usage":{}}"#,
        r#"data: {"usage":{},"choices":[0]}"#,
        r#"data: {"usage":{"choices":[]}}"#,
        r#"data: {"a":{"choices":[],"usage":{}}}"#,
        r#"data: {"a":"\"choices\":[],\"usage\":{}"}"#,
        r#"data: {"ch\u006fices":[],"usage":{}}"#,
        r#"data: {"choices":[],"usage":{}"#,
        r#"data: {"choices":[],"usage":{}}}"#,
        r#"data: {"choices":[],"usage":7}"#,
        r#"dat: {"choices":[],"usage":{}}"#,
        r#"data : {"choices":[],"usage":{}}"#,
        "data: [DONE]",
        "data",
        ": comment",
    ] {
        let stream = format!("{event}\n\n");
        assert_eq!(strip(&stream), stream);
    }
    let long =
        format!("data: {{\"a\":\"{}\",\"choices\":[],\"usage\":{{}}}}\n\n", "x".repeat(20_000));
    assert_eq!(strip(&long), long);
}

#[test]
fn order_of_members_does_not_matter() {
    assert_eq!(strip("data:{ \"usage\" : { } , \"choices\" : [ ] }\n\n"), "");
    assert_eq!(strip("data: {\"choices\":[],\ndata: \"usage\":{}}\n\n"), "");
}

#[test]
fn a_delta_is_passed_as_soon_as_it_is_known_to_be_one() {
    let mut stripper = UsageStripper::new();
    let mut push = |chunk: &'static str| {
        let mut passed = Vec::new();
        stripper.push(&Bytes::from_static(chunk.as_bytes()), |piece| passed.push(piece));
        String::from_utf8(passed.concat()).unwrap()
    };
    assert_eq!(push(": ping"), ": ping");
    assert_eq!(push("\n\ndata: {\"id\":\"c\",\"choi"), "\n\n");
    assert_eq!(push("ces\":["), "");
    assert_eq!(push("{"), "data: {\"id\":\"c\",\"choices\":[{");
    assert_eq!(push("\"delta\":{}}]}"), "\"delta\":{}}]}");
    assert_eq!(push("\n\n"), "\n\n");
    assert_eq!(push("data: [D"), "data: [D");
}

#[test]
fn an_untouched_chunk_is_passed_without_a_copy() {
    let chunk = Bytes::from(format!("{DELTA}\n\n{DELTA}\n\n"));
    let mut pieces = Vec::new();
    UsageStripper::new().push(&chunk, |piece| pieces.push(piece));
    assert_eq!(pieces.len(), 1);
    assert_eq!(pieces[0].as_ptr(), chunk.as_ptr());
    assert_eq!(pieces[0], chunk);
}

proptest! {
    #[test]
    fn any_split_strips_the_same(
        events in prop::collection::vec(
            (prop::sample::select(vec![USAGE, DELTA, ": c", "data: [DONE]", "", "event: a", "data: {\"choices\":[]"]),
             prop::sample::select(vec!["\n", "\r", "\r\n", "\n\n", "\r\r", "\r\n\r\n"])),
            0..12,
        ),
        cuts in cuts(),
    ) {
        let stream: String = events.iter().map(|(event, end)| format!("{event}{end}")).collect();
        let chunks = cut(stream.as_bytes(), &cuts);
        let split_up = strip_pieces(&chunks).concat();
        prop_assert_eq!(String::from_utf8(split_up).unwrap(), strip(&stream));
    }

    #[test]
    fn what_is_taken_out_is_what_a_parser_would_take_out(
        members in prop::sample::subsequence(
            vec![("id", r#""c""#), ("choices", ""), ("usage", ""), ("x", r#"{"choices":[1],"usage":null}"#), ("y", r#"["]}"]"#)],
            0..=5,
        ).prop_shuffle(),
        choices in prop::sample::select(vec!["[]", "[ ]", "[{}]", "[[]]", "[\"]\"]", "null", "{}"]),
        usage in prop::sample::select(vec!["{}", "{ }", "null", r#"{"a":[1,{"b":"}"}]}"#, "7", "[]"]),
        space in prop::sample::select(vec!["", " ", "\ndata:"]),
        cuts in cuts(),
    ) {
        let value = |key: &str, other: &str| match key {
            "choices" => choices.to_owned(),
            "usage" => usage.to_owned(),
            _ => other.to_owned(),
        };
        let members: Vec<_> = members
            .into_iter()
            .map(|(key, other)| format!("{space}\"{key}\"{space}:{space}{}{space}", value(key, other)))
            .collect();
        let event = format!("data: {{{}}}\n\n", members.join(","));
        let stream = format!("{event}{DELTA}\n\n");
        let body: Value = serde_json::from_str(&standard(&event)[0].1).unwrap();
        let is_usage = body["choices"] == serde_json::json!([]) && body["usage"].is_object();
        let expected = if is_usage { format!("{DELTA}\n\n") } else { stream.clone() };
        prop_assert_eq!(strip(&stream), expected.clone());
        let split_up = strip_pieces(&cut(stream.as_bytes(), &cuts)).concat();
        prop_assert_eq!(String::from_utf8(split_up).unwrap(), expected);
    }

    #[test]
    fn every_byte_apart_strips_the_same(seed in prop::collection::vec(any::<bool>(), 0..4)) {
        let stream: String =
            seed.iter().map(|is_usage| format!("{}\r\n\r\n", if *is_usage { USAGE } else { DELTA })).collect();
        let bytes: Vec<&[u8]> = stream.as_bytes().chunks(1).collect();
        let expected: String = seed.iter().filter(|is_usage| !**is_usage).map(|_| format!("{DELTA}\r\n\r\n")).collect();
        prop_assert_eq!(String::from_utf8(strip_pieces(&bytes).concat()).unwrap(), expected);
    }

    #[test]
    fn what_has_no_usage_passes_as_it_is(bytes in prop::collection::vec(any::<u8>(), 0..200), cuts in cuts()) {
        let chunks = cut(&bytes, &cuts);
        prop_assert_eq!(strip_pieces(&chunks).concat(), bytes);
    }
}
