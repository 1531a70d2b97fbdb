//! Tests of the tap: recorded shapes of each dialect, and what providers get wrong.
#![expect(clippy::string_slice, reason = "a test may panic")]

use std::io::Write;

use proptest::prelude::*;

use super::*;

const CHAT: &str = r#"data: {"id":"c-1","model":"gpt-4o-2024","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}],"usage":null}

data: {"id":"c-1","model":"gpt-4o-2024","choices":[{"index":0,"delta":{"content":"Hello"},"finish_reason":null}],"usage":null}

data: {"id":"c-1","model":"gpt-4o-2024","choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":null}

data: {"id":"c-1","model":"gpt-4o-2024","choices":[],"usage":{"prompt_tokens":100,"completion_tokens":30,"total_tokens":130,"prompt_tokens_details":{"cached_tokens":60,"audio_tokens":5},"completion_tokens_details":{"reasoning_tokens":20,"audio_tokens":0,"accepted_prediction_tokens":0}}}

data: [DONE]

"#;

const RESPONSES: &str = r#"event: response.created
data: {"type":"response.created","response":{"id":"resp_1","model":"gpt-5","usage":null}}

event: response.output_text.delta
data: {"type":"response.output_text.delta","delta":"Hi","sequence_number":4}

event: response.completed
data: {"type":"response.completed","response":{"id":"resp_1","model":"gpt-5","usage":{"input_tokens":37,"input_tokens_details":{"cached_tokens":0},"output_tokens":11,"output_tokens_details":{"reasoning_tokens":4},"total_tokens":48}}}

"#;

const MESSAGES: &str = r#"event: message_start
data: {"type":"message_start","message":{"id":"msg_1","model":"claude","usage":{"input_tokens":25,"cache_creation_input_tokens":7,"cache_read_input_tokens":9,"cache_creation":{"ephemeral_5m_input_tokens":3,"ephemeral_1h_input_tokens":4},"output_tokens":1}}}

event: ping
data: {"type":"ping"}

event: content_block_start
data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}

event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hello there, world"}}

event: message_delta
data: {"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":15}}

event: message_stop
data: {"type":"message_stop"}

"#;

fn observe(dialect: Dialect, mode: TapMode, bytes: &[u8]) -> Observed {
    let mut tap = Tap::new(dialect, mode);
    tap.push(&Bytes::copy_from_slice(bytes));
    tap.finish()
}

fn stream(dialect: Dialect, events: &str) -> Observed {
    observe(dialect, TapMode::Events, events.as_bytes())
}

fn answer(dialect: Dialect, body: &str) -> Observed {
    observe(dialect, TapMode::Json, body.as_bytes())
}

fn usage(dialect: Dialect, usage: &str) -> Observed {
    answer(dialect, &format!(r#"{{"usage":{usage}}}"#))
}

#[test]
fn chat_stream_is_read() {
    let observed = stream(Dialect::Chat, CHAT);
    assert_eq!(
        observed.tokens,
        Tokens {
            input_uncached: Some(35),
            input_cache_read: Some(60),
            output: Some(10),
            reasoning: Some(20),
            audio_in: Some(5),
            audio_out: Some(0),
            ..Tokens::default()
        }
    );
    assert_eq!(observed.source, UsageSource::Reported);
    assert_eq!((observed.response_id, observed.end), (None, End::Proper));
    assert_eq!((observed.text_bytes, observed.n_events), (5, 5));
    assert!(observed.is_final && !observed.is_degraded);
}

#[test]
fn responses_stream_is_read() {
    let observed = stream(Dialect::Responses, RESPONSES);
    assert_eq!(
        observed.tokens,
        Tokens {
            input_uncached: Some(37),
            input_cache_read: Some(0),
            output: Some(7),
            reasoning: Some(4),
            ..Tokens::default()
        }
    );
    assert_eq!(observed.response_id.as_deref(), Some("resp_1"));
    assert_eq!(observed.end, End::Proper);
    assert!(observed.is_final && !observed.is_degraded);
}

#[test]
fn messages_stream_is_read() {
    let observed = stream(Dialect::Messages, MESSAGES);
    assert_eq!(
        observed.tokens,
        Tokens {
            input_uncached: Some(25),
            input_cache_read: Some(9),
            input_cache_write_5m: Some(3),
            input_cache_write_1h: Some(4),
            output: Some(15),
            ..Tokens::default()
        }
    );
    assert_eq!(observed.end, End::Proper);
    assert!(observed.is_final && !observed.is_degraded);
}

#[test]
fn whole_answers_are_read() {
    let chat = usage(Dialect::Chat, r#"{"prompt_tokens":9,"completion_tokens":12}"#);
    assert_eq!((chat.tokens.input_uncached, chat.tokens.output), (Some(9), Some(12)));
    assert_eq!((chat.tokens.input_cache_read, chat.tokens.reasoning), (None, None));

    let body = r#"{"id":"resp_2","model":"m","usage":{"input_tokens":3,"output_tokens":0}}"#;
    let responses = answer(Dialect::Responses, body);
    assert_eq!(responses.response_id.as_deref(), Some("resp_2"));
    assert_eq!(responses.tokens.output, Some(0));

    let messages = usage(
        Dialect::Messages,
        r#"{"input_tokens":3,"cache_creation_input_tokens":8,"output_tokens":5}"#,
    );
    assert_eq!(messages.tokens.input_cache_write_5m, Some(8));
    assert_eq!(messages.tokens.input_cache_write_1h, None);

    let embeddings = usage(Dialect::Embeddings, r#"{"prompt_tokens":8,"total_tokens":8}"#);
    assert_eq!((embeddings.tokens.input_uncached, embeddings.tokens.output), (Some(8), None));

    let rerank = usage(Dialect::Rerank, r#"{"total_tokens":15}"#);
    assert_eq!(rerank.tokens.input_uncached, Some(15));

    let audio = usage(
        Dialect::Audio,
        r#"{"type":"tokens","input_tokens":14,"input_token_details":{"audio_tokens":10},"output_tokens":3}"#,
    );
    assert_eq!((audio.tokens.input_uncached, audio.tokens.audio_in), (Some(4), Some(10)));

    let nothing = answer(Dialect::Moderations, r#"{"results":[]}"#);
    assert_eq!((nothing.source, nothing.tokens), (UsageSource::None, Tokens::default()));
    assert!(!nothing.is_degraded);
}

#[test]
fn reasoning_beside_the_output_is_not_taken_out_of_it() {
    let beside = r#"{"prompt_tokens":10,"completion_tokens":5,"total_tokens":315,
        "completion_tokens_details":{"reasoning_tokens":300}}"#;
    let observed = usage(Dialect::Chat, beside);
    assert_eq!((observed.tokens.output, observed.tokens.reasoning), (Some(5), Some(300)));
    assert!(!observed.is_degraded);
}

#[test]
fn absurd_numbers_count_as_not_reported() {
    for (prompt, details, expected) in [
        ("-1", "null", None),
        ("1.5", "null", None),
        ("1000000000001", "null", None),
        ("\"7\"", "null", None),
        ("[7]", "null", None),
        ("{\"a\":7}", "null", None),
        ("true", "null", None),
        ("10", r#"{"cached_tokens":11}"#, Some(10)),
        ("10", r#"{"cached_tokens":-3}"#, Some(10)),
    ] {
        let observed = usage(
            Dialect::Chat,
            &format!(
                r#"{{"prompt_tokens":{prompt},"completion_tokens":2,"prompt_tokens_details":{details}}}"#
            ),
        );
        assert_eq!(observed.tokens.input_uncached, expected, "{prompt} {details}");
        assert_eq!(observed.tokens.input_cache_read, None);
        assert_eq!(observed.tokens.output, Some(2));
        assert!(observed.is_degraded, "{prompt} {details}");
    }
    let not_a_usage = usage(Dialect::Chat, "\"plenty\"");
    assert!(not_a_usage.is_degraded);
    assert_eq!(not_a_usage.source, UsageSource::None);
}

#[test]
fn a_broken_stream_is_estimated() {
    let (begun, _rest) =
        CHAT.split_once(r#"data: {"id":"c-1","model":"gpt-4o-2024","choices":[],"#).unwrap();
    let observed = stream(Dialect::Chat, begun);
    assert_eq!((observed.source, &observed.end), (UsageSource::None, &End::Open));
    let estimated = observed.estimated(401);
    assert_eq!(estimated.source, UsageSource::Estimated);
    assert_eq!((estimated.tokens.input_uncached, estimated.tokens.output), (Some(101), Some(2)));

    let (begun, _rest) = MESSAGES.split_once("event: message_delta").unwrap();
    let observed = stream(Dialect::Messages, begun);
    assert_eq!((observed.source, observed.is_final), (UsageSource::Reported, false));
    let estimated = observed.estimated(4000);
    assert_eq!(estimated.source, UsageSource::Estimated);
    assert_eq!(estimated.tokens.input_uncached, Some(25));
    assert_eq!(estimated.tokens.output, Some(5));
}

#[test]
fn a_final_report_is_not_estimated_over() {
    let reported = stream(Dialect::Chat, CHAT);
    let estimated = reported.clone().estimated(1_000_000);
    assert_eq!((estimated.tokens, estimated.source), (reported.tokens, UsageSource::Reported));
}

#[test]
fn an_answer_without_usage_is_estimated_from_its_text() {
    let body = r#"{"choices":[{"message":{"content":"eight by"}}]}"#;
    let estimated = answer(Dialect::Chat, body).estimated(8);
    assert_eq!((estimated.tokens.input_uncached, estimated.tokens.output), (Some(2), Some(2)));
    let embeddings = answer(Dialect::Embeddings, r#"{"data":[]}"#).estimated(8);
    assert_eq!((embeddings.tokens.input_uncached, embeddings.tokens.output), (Some(2), None));
}

#[test]
fn what_comes_first_decides_how_a_stream_opens() {
    let error = "data: {\"error\":{\"message\":\"m\",\"code\":503}}\n\n";
    let role = "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\"}}]}\n\n";
    let text = "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n";
    let opening = |events: &[&str]| {
        let mut tap = Tap::new(Dialect::Chat, TapMode::Events);
        tap.push(&Bytes::from(events.concat()));
        (tap.opening(), matches!(tap.end(), End::Error(_)))
    };
    assert_eq!(opening(&[": ping\n\n", role]), (Opening::Preamble, false));
    assert_eq!(opening(&[role, error]), (Opening::Error, true));
    assert_eq!(opening(&[role, text]), (Opening::Content, false));
    assert_eq!(opening(&[text, error]), (Opening::Content, true));
    assert_eq!(opening(&["data: [DONE]\n\n"]), (Opening::Content, false));
}

#[test]
fn malformed_answers_are_degraded() {
    for events in ["data: {\"choices\"\n\n", "data: nonsense\n\n", "data: {\"choices\":}\n\n"] {
        assert!(stream(Dialect::Chat, events).is_degraded, "{events}");
    }
    let cut_off = answer(Dialect::Chat, r#"{"choices":[{"message":{"content":"ab"#);
    assert!(cut_off.is_degraded);
    assert_eq!(cut_off.end, End::Open);
}

#[test]
fn usage_of_a_long_answer_is_found_at_its_end() {
    let vectors = "0.123456789,".repeat(200_000);
    let body = format!(
        r#"{{"object":"list","model":"e-1","data":[{{"embedding":[{vectors}0]}}],"usage":{{"prompt_tokens":77,"total_tokens":77}}}}"#
    );
    let mut tap = Tap::new(Dialect::Embeddings, TapMode::Json);
    for chunk in body.as_bytes().chunks(16_000) {
        tap.push(&Bytes::copy_from_slice(chunk));
        let Input::Body { bytes, .. } = &tap.reader.input else { unreachable!() };
        assert!(bytes.len() <= 2 * TAIL_BYTES + 16_000);
    }
    let observed = tap.finish();
    assert_eq!(observed.tokens.input_uncached, Some(77));
    assert_eq!((observed.end, observed.is_degraded), (End::Proper, false));

    let cut_off = observe(Dialect::Embeddings, TapMode::Json, &body.as_bytes()[..2_000_000]);
    assert_eq!((cut_off.end, cut_off.source), (End::Open, UsageSource::None));
    assert!(cut_off.is_degraded);
}

#[test]
fn id_of_a_long_response_is_found_at_its_beginning() {
    let text = "a ".repeat(1_000_000);
    let body = format!(
        r#"{{"id":"resp_9","object":"response","output":[{{"text":"{text}"}}],"usage":{{"input_tokens":1,"output_tokens":2}},"user":null}}"#
    );
    let observed = answer(Dialect::Responses, &body);
    assert_eq!(observed.response_id.as_deref(), Some("resp_9"));
    assert_eq!(observed.tokens.output, Some(2));
}

#[test]
fn text_that_looks_like_usage_is_text() {
    let body = r#"{"choices":[{"message":{"content":"\"usage\":{\"prompt_tokens\":1}"}}]}"#;
    assert_eq!(answer(Dialect::Chat, body).source, UsageSource::None);
    let event = format!("data: {body}\n\n");
    assert_eq!(stream(Dialect::Chat, &event).source, UsageSource::None);
}

// === compressed ===

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

fn compressed(encoding: &str, plain: &[u8]) -> Vec<u8> {
    let level = flate2::Compression::best();
    match encoding {
        "gzip" => gzip(plain),
        "deflate" => {
            let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), level);
            encoder.write_all(plain).unwrap();
            encoder.finish().unwrap()
        }
        "Deflate" => {
            let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), level);
            encoder.write_all(plain).unwrap();
            encoder.finish().unwrap()
        }
        "br" => {
            let mut bytes = Vec::new();
            let mut encoder = brotli::CompressorWriter::new(&mut bytes, 4096, 4, 22);
            encoder.write_all(plain).unwrap();
            drop(encoder);
            bytes
        }
        _ => zstd::encode_all(plain, 3).unwrap(),
    }
}

fn observe_compressed(encoding: &str, compressed: &[u8], chunk_bytes: usize) -> Observed {
    let mut tap = Tap::encoded(Dialect::Chat, TapMode::Json, encoding).unwrap();
    for chunk in compressed.chunks(chunk_bytes) {
        tap.push(&Bytes::copy_from_slice(chunk));
    }
    tap.finish()
}

const ENCODINGS: [&str; 5] = ["gzip", "deflate", "Deflate", "br", "zstd"];

#[test]
fn compressed_answers_are_read() {
    let filler: String = (0..3_000).map(|n| format!("{} ", n * 7_919)).collect();
    let body = format!(
        r#"{{"choices":[{{"message":{{"content":"{filler}"}}}}],"usage":{{"prompt_tokens":4,"completion_tokens":2}}}}"#
    );
    for encoding in ENCODINGS {
        let compressed = compressed(encoding, body.as_bytes());
        for chunk_bytes in [1, 1_000, 1_000_000] {
            let observed = observe_compressed(encoding, &compressed, chunk_bytes);
            assert_eq!(observed.tokens.output, Some(2), "{encoding}");
            assert!(!observed.is_degraded, "{encoding}");
        }
        let cut_off = observe_compressed(encoding, &compressed[..compressed.len() / 2], 1_000);
        assert!(cut_off.is_degraded, "{encoding}");
        assert_eq!(cut_off.end, End::Open);
    }
}

#[test]
fn a_bomb_is_given_up() {
    let bomb = vec![b' '; 24 * 1024 * 1024];
    for encoding in ENCODINGS {
        let observed = observe_compressed(encoding, &compressed(encoding, &bomb), 16_000);
        assert!(observed.is_degraded, "{encoding}");
        assert_eq!(observed.source, UsageSource::None);
    }
}

#[test]
fn an_encoding_nobody_knows_has_no_tap() {
    assert!(Tap::encoded(Dialect::Chat, TapMode::Json, "gzip, br").is_none());
    assert!(Tap::encoded(Dialect::Chat, TapMode::Json, "compress").is_none());
    assert!(Tap::encoded(Dialect::Chat, TapMode::Json, "identity").is_some());
    assert!(observe_compressed("gzip", b"not gzip at all", 4).is_degraded);
}

proptest! {
    #[test]
    fn any_split_gives_the_same_usage(
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
        which in 0_usize..3,
    ) {
        let (dialect, events) =
            [(Dialect::Chat, CHAT), (Dialect::Responses, RESPONSES), (Dialect::Messages, MESSAGES)][which];
        let mut at: Vec<_> = cuts.iter().map(|cut| cut.index(events.len())).collect();
        at.extend([0, events.len()]);
        at.sort_unstable();
        let mut tap = Tap::new(dialect, TapMode::Events);
        for pair in at.windows(2) {
            tap.push(&Bytes::copy_from_slice(&events.as_bytes()[pair[0]..pair[1]]));
        }
        prop_assert!(tap.is_at_boundary());
        let (split_up, whole) = (tap.finish(), stream(dialect, events));
        prop_assert_eq!(format!("{split_up:?}"), format!("{whole:?}"));
    }

    #[test]
    fn any_cut_of_a_whole_answer_is_noticed(cut in 1_usize..80) {
        let body = r#"{"id":"a","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}"#;
        prop_assume!(cut < body.len());
        let observed = answer(Dialect::Chat, &body[..cut]);
        prop_assert!(observed.is_degraded);
        prop_assert_eq!(observed.end, End::Open);
    }

    #[test]
    fn any_bytes_are_tapped(bytes in prop::collection::vec(any::<u8>(), 0..100), which in 0_usize..9) {
        let dialect = Dialect::ALL[which];
        observe(dialect, TapMode::Events, &bytes);
        observe(dialect, TapMode::Json, &bytes);
        for encoding in ENCODINGS {
            observe_compressed(encoding, &bytes, 7);
        }
    }
}

/// JSON objects in which `usage` is said at any depth, and in texts.
fn documents() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        (0_u32..9).prop_map(Value::from),
        "[a\\\\\"]{0,6}".prop_map(Value::from),
        Just(Value::from("\"usage\":{\"prompt_tokens\":1}}")),
        Just(Value::from("usage")),
        Just(serde_json::json!({"prompt_tokens": 3, "completion_tokens": 4})),
    ];
    let key = || prop_oneof![Just("usage".to_owned()), Just("id".to_owned()), "[ab\"]{0,2}"];
    leaf.prop_recursive(3, 24, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((key(), inner), 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn both_ends_of_an_answer_say_what_all_of_it_says(document in documents()) {
        let body = document.to_string();
        let whole = whole_report(body.as_bytes());
        if let Some(report) = closing_report(Dialect::Chat, body.as_bytes()) {
            prop_assert_eq!(format!("{:?}", Some(report.usage)), format!("{:?}", whole.map(|whole| whole.usage)));
        }
    }
}
