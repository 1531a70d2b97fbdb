//! Tests of the scan, the splice and the form.
#![expect(clippy::string_slice, reason = "a test may panic")]

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn spliced(body: &str, edit: impl FnOnce(&mut Splice<'_>)) -> String {
    let bytes = Bytes::copy_from_slice(body.as_bytes());
    let scan = scan(&bytes).unwrap();
    let mut splice = Splice::new(&scan);
    edit(&mut splice);
    text(&splice.apply(&bytes))
}

fn text(spliced: &Spliced) -> String {
    let joined = spliced.parts().concat();
    assert_eq!(joined.len(), spliced.len());
    String::from_utf8(joined).unwrap()
}

fn refused(body: &str) -> ScanError {
    scan(body.as_bytes()).unwrap_err()
}

// === scan ===

#[test]
fn what_the_gateway_needs_is_found() {
    let body = r#" { "model" : "gpt\u002d4o", "stream":true, "max_tokens": 10,
        "messages":[{"role":"user","content":"model \"stream\": é"}], "max_completion_tokens":20,
        "user":"ada","metadata":{"user_id":"bob"},"previous_response_id":"resp_1",
        "stream_options":{"include_usage":false} } "#;
    let scan = scan(body.as_bytes()).unwrap();
    let model = scan.model.unwrap();
    assert_eq!(&*model.name, "gpt-4o");
    assert_eq!(&body[model.range], r#""gpt\u002d4o""#);
    assert!(scan.is_stream);
    assert_eq!(scan.stream_options, StreamOptions::Usage(false));
    assert_eq!(scan.max_tokens, Some(20));
    assert_eq!(scan.end_user.as_deref(), Some("ada"));
    assert_eq!(scan.previous_response_id.as_deref(), Some("resp_1"));
    assert_eq!(scan.sluice, None);
}

#[test]
fn end_user_is_the_most_specific_one() {
    let end_user = |body: &str| scan(body.as_bytes()).unwrap().end_user;
    assert_eq!(end_user(r#"{"metadata":{"user_id":"c"}}"#).as_deref(), Some("c"));
    assert_eq!(end_user(r#"{"metadata":{"user_id":null},"user":7}"#), None);
    assert_eq!(end_user(r#"{"user":"b","safety_identifier":"a"}"#).as_deref(), Some("a"));
}

#[test]
fn keys_match_byte_for_byte() {
    let scan = scan(br#"{"Model":"a","MODEL":"b","model ":"c","STREAM":true}"#).unwrap();
    assert_eq!(scan.model, None);
    assert!(!scan.is_stream);
}

#[test]
fn a_nested_model_is_not_the_model() {
    let body = br#"{"a":{"model":"x","model":"y"},"model":"z"}"#;
    assert_eq!(&*scan(body).unwrap().model.unwrap().name, "z");
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table")]
fn every_refusal_as_the_client_sees_it() {
    let deep = format!(r#"{{"a":{}"#, "[".repeat(128));
    let mut table = String::new();
    for body in [
        "",
        " \n",
        "[1]",
        "\"model\"",
        "nonsense",
        "\u{feff}{}",
        "{",
        r#"{"a":1,}"#,
        r#"{"a" 1}"#,
        r#"{"a":01}"#,
        r#"{"a":"x"#,
        "{\"a\":\"\n\"}",
        r#"{"a":"\x"}"#,
        r#"{"a":"\u12g4"}"#,
        r#"{"a":tru}"#,
        "{} {}",
        &deep,
        r#"{"model":"a","model":"b"}"#,
        r#"{"m\u006fdel":"a"}"#,
        r#"{"model":"a","m\u006fdel":"b"}"#,
        r#"{"model":7}"#,
        r#"{"model":"\ud800"}"#,
        r#"{"model":[}"#,
        r#"{"stream":"yes"}"#,
        r#"{"stream_options":[]}"#,
        r#"{"stream_options":{"include_usage":1}}"#,
        r#"{"stream_options":{"include_usage":true,"include_usage":false}}"#,
        r#"{"stream_options":{"include_us\u0061ge":true}}"#,
        r#"{"metadata":{"user_id":"a","user_id":"b"}}"#,
        r#"{"sluice":1}"#,
        r#"{"sluice":{"timeout":1}}"#,
        r#"{"sluice":{"timeout_ms":-1}}"#,
        r#"{"sluice":{"timeout_ms":1,"timeout_ms":2}}"#,
        r#"{"sluice":{"target":{}}}"#,
        r#"{"sluice":{"metadata":{"a":1}}}"#,
        r#"{"sluice":{"metadata":{"a":"1","b":"2","a":"3"}}}"#,
    ] {
        let error = refused(body);
        table += &format!("{}: {error}\n", error.field().unwrap_or("-"));
    }
    insta::assert_snapshot!(table, @r#"
    -: the request body is empty; send a JSON object
    -: the request body is empty; send a JSON object
    -: the request body is not a JSON object; send one
    -: the request body is not a JSON object; send one
    -: the request body is not a JSON object; send one
    -: the request body is not valid JSON: expected `{` at byte 0
    -: the request body is not valid JSON: expected a key in double quotes at byte 1
    -: the request body is not valid JSON: expected a key in double quotes at byte 7
    -: the request body is not valid JSON: expected `:` at byte 5
    -: the request body is not valid JSON: expected `,` or `}` at byte 6
    -: the request body is not valid JSON: expected the end of a string at byte 7
    -: the request body is not valid JSON: expected an escape for a control character at byte 6
    -: the request body is not valid JSON: expected an escape that JSON knows at byte 7
    -: the request body is not valid JSON: expected four hexadecimal digits at byte 10
    -: the request body is not valid JSON: expected a value at byte 5
    -: the request body goes on after the end of the JSON object at byte 3; send one
    -: the request body is nested too deeply; at most 128 levels are read
    model: the request body has two `model` fields; send one
    model: the field `model` is written with escapes in its name; write it plainly
    model: the field `model` is written with escapes in its name; write it plainly
    model: `model` must be a string
    model: `model` must be a string
    -: the request body is not valid JSON: expected a value at byte 10
    stream: `stream` must be true or false
    stream_options: `stream_options` must be an object
    stream_options.include_usage: `stream_options.include_usage` must be true or false
    stream_options.include_usage: the request body has two `stream_options.include_usage` fields; send one
    stream_options.include_usage: the field `stream_options.include_usage` is written with escapes in its name; write it plainly
    metadata.user_id: the request body has two `metadata.user_id` fields; send one
    sluice: `sluice` must be an object
    sluice: `sluice` has a field that the gateway does not know; it knows `correlation_id`, `metadata`, `end_user`, `timeout_ms` and `target`
    sluice.timeout_ms: `sluice.timeout_ms` must be a whole number, not negative
    sluice.timeout_ms: the request body has two `sluice.timeout_ms` fields; send one
    sluice.target: `sluice.target` must be a string
    sluice.metadata: `sluice.metadata` must be an object of strings
    sluice.metadata: the request body has two `sluice.metadata` fields; send one
    "#);
    assert_eq!(scan(b"{\"a\":\"\xff\"}"), Err(ScanError::NotUtf8 { at: 6 }));
}

#[test]
fn depth_128_is_read_and_129_is_not() {
    let nested = |n: usize| format!(r#"{{"a":{}{}}}"#, "[".repeat(n), "]".repeat(n));
    assert!(scan(nested(127).as_bytes()).is_ok());
    assert_eq!(refused(&nested(128)), ScanError::TooDeep);
    let objects = format!("{}1{}", r#"{"a":"#.repeat(100_000), "}".repeat(100_000));
    assert_eq!(refused(&objects), ScanError::TooDeep);
}

#[test]
fn null_means_absent_where_that_makes_sense() {
    let body = br#"{"stream":null,"stream_options":null,"sluice":null,"max_tokens":null,
        "previous_response_id":null,"user":null}"#;
    let scan = scan(body).unwrap();
    assert!(!scan.is_stream && scan.sluice.is_none() && scan.max_tokens.is_none());
    assert!(matches!(scan.stream_options, StreamOptions::Null { .. }));
}

#[test]
fn sluice_field_is_read() {
    let body = br#"{"sluice":{"correlation_id":"c-1","metadata":{"team":"x","area":"\u00e9"},
        "end_user":"ada","timeout_ms":1500,"target":"fast"}}"#;
    let sluice = *scan(body).unwrap().sluice.unwrap();
    let pair = |key: &str, value: &str| (Box::from(key), Box::from(value));
    assert_eq!(
        sluice,
        Sluice {
            correlation_id: Some("c-1".into()),
            metadata: vec![pair("area", "é"), pair("team", "x")],
            end_user: Some("ada".into()),
            timeout_ms: Some(1500),
            target: Some("fast".into()),
        }
    );
}

// === splice ===

#[test]
fn no_edit_is_the_very_same_body() {
    let body = Bytes::from_static(br#"{"model":"a","stream_options":{"include_usage":false}}"#);
    let scan = scan(&body).unwrap();
    let mut splice = Splice::new(&scan);
    splice.replace_model("a");
    assert!(!splice.insert_include_usage());
    splice.cut_sluice();
    let spliced = splice.apply(&body);
    assert_eq!(spliced.parts().len(), 1);
    assert_eq!(spliced.parts()[0].as_ptr(), body.as_ptr());
    assert_eq!(spliced.len(), body.len());
}

#[test]
fn model_is_replaced_as_json() {
    let body = r#"{ "a":[1.0e5] , "model" : "old","z":"é" }"#;
    let spliced = spliced(body, |splice| splice.replace_model("a\"b\\c\né"));
    assert_eq!(spliced, r#"{ "a":[1.0e5] , "model" : "a\"b\\c\né","z":"é" }"#);
}

#[test]
fn include_usage_is_put_where_it_belongs() {
    for (body, expected) in [
        ("{}", r#"{"stream_options":{"include_usage":true}}"#),
        (r#"{"a":1}"#, r#"{"stream_options":{"include_usage":true},"a":1}"#),
        (r#"{ "a":1}"#, r#"{"stream_options":{"include_usage":true}, "a":1}"#),
        (r#"{"stream_options": null}"#, r#"{"stream_options": {"include_usage":true}}"#),
        (r#"{"stream_options":{ }}"#, r#"{"stream_options":{"include_usage":true }}"#),
        (r#"{"stream_options":{"b":1}}"#, r#"{"stream_options":{"include_usage":true,"b":1}}"#),
        (
            r#"{"stream_options":{"include_usage":null}}"#,
            r#"{"stream_options":{"include_usage":true}}"#,
        ),
        (
            r#"{"stream_options":{"include_usage":true}}"#,
            r#"{"stream_options":{"include_usage":true}}"#,
        ),
    ] {
        let spliced = spliced(body, |splice| {
            splice.insert_include_usage();
        });
        assert_eq!(spliced, expected, "{body}");
    }
}

#[test]
#[expect(clippy::redundant_closure_for_method_calls, reason = "the lifetimes need it")]
fn sluice_is_cut_out_with_its_comma() {
    for (body, expected) in [
        (r#"{"sluice":{}}"#, "{}"),
        (r#"{ "sluice" : {} , "a":1 }"#, r#"{ "a":1 }"#),
        (r#"{"a":1, "sluice":{"target":"x"} }"#, r#"{"a":1 }"#),
        (r#"{"a":1,"sluice":null,"b":2}"#, r#"{"a":1,"b":2}"#),
    ] {
        assert_eq!(spliced(body, |splice| splice.cut_sluice()), expected);
    }
    let both = |body: &str| {
        spliced(body, |splice| {
            splice.cut_sluice();
            splice.insert_include_usage();
            splice.replace_model("new");
        })
    };
    assert_eq!(both(r#"{"sluice":{}}"#), r#"{"stream_options":{"include_usage":true}}"#);
    assert_eq!(
        both(r#"{"sluice":{},"model":"m"}"#),
        r#"{"stream_options":{"include_usage":true},"model":"new"}"#
    );
    assert_eq!(
        both(r#"{"model":"m","stream_options":null,"sluice":{}}"#),
        r#"{"model":"new","stream_options":{"include_usage":true}}"#
    );
}

// === properties ===

fn white_space() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["", "", "", " ", "\n", "\t \r\n"])
}

/// A string as it may be written: plain, escaped in several ways, long.
fn string() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        8 => "[a-zA-Z0-9 {}\\[\\]:,é漢🦀]{0,12}",
        1 => prop::sample::select(vec![
            r#"\""#, r"\\", r"\/", r"\b", r"\f", r"\n", r"\r", r"\t", r"\u0041", r"\ud83e\udd80",
            r"\u00e9", "model", "sluice", "\u{2028}", "\u{7f}",
        ])
        .prop_map(str::to_owned),
        1 => "[a-z]{30,80}",
    ];
    prop::collection::vec(piece, 0..5).prop_map(|pieces| format!("\"{}\"", pieces.concat()))
}

fn number() -> impl Strategy<Value = String> {
    let fixed = vec!["0", "-0", "1e5", "-1.5E-3", "123456789012345678901234567890", "0.10", "2E+2"];
    prop_oneof![
        any::<i64>().prop_map(|n| n.to_string()),
        prop::sample::select(fixed).prop_map(str::to_owned)
    ]
}

fn join(open: char, parts: &[String], close: char) -> String {
    format!("{open}{}{close}", parts.join(","))
}

fn value() -> impl Strategy<Value = String> {
    let literal = prop::sample::select(vec!["true", "false", "null"]).prop_map(str::to_owned);
    let leaf = prop_oneof![string(), number(), literal];
    leaf.prop_recursive(4, 24, 5, |inner| {
        let element = (white_space(), inner.clone(), white_space())
            .prop_map(|(before, value, after)| format!("{before}{value}{after}"))
            .boxed();
        let member = (white_space(), string(), white_space(), element.clone())
            .prop_map(|(before, key, after, value)| format!("{before}{key}{after}:{value}"));
        prop_oneof![
            prop::collection::vec(element, 0..5).prop_map(|parts| join('[', &parts, ']')),
            prop::collection::vec(member, 0..5).prop_map(|parts| join('{', &parts, '}')),
        ]
    })
}

/// A request body: members of no interest, with those of interest somewhere between.
fn body() -> impl Strategy<Value = String> {
    let other = (string(), value()).prop_map(|(key, value)| format!("\"x{}:{value}", &key[1..]));
    let ours = prop::sample::subsequence(
        vec![
            "\"model\":\"gp\\u0074\"",
            "\"stream\" : true",
            "\"sluice\":{\"target\":\"a\"}",
            "\"messages\":[{\"content\":\"hi\"}]",
        ],
        0..=4,
    );
    let options = prop::option::of(prop::sample::select(vec![
        "\"stream_options\":null",
        "\"stream_options\" : { }",
        "\"stream_options\":{\"include_obfuscation\":false}",
        "\"stream_options\":{\"include_usage\": null}",
        "\"stream_options\":{\"include_usage\":true}",
        "\"stream_options\":{\"include_usage\":false}",
    ]));
    (prop::collection::vec(other, 0..5), ours, options, white_space(), white_space())
        .prop_flat_map(|(mut members, ours, options, before, after)| {
            members.extend(ours.into_iter().map(str::to_owned));
            members.extend(options.map(str::to_owned));
            let spaced: Vec<_> =
                members.into_iter().map(|member| format!("{before}{member}{after}")).collect();
            Just(spaced).prop_shuffle()
        })
        .prop_map(|members: Vec<String>| join('{', &members, '}'))
}

fn parse(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// Whether `needle`'s bytes are all in `haystack`, in order.
fn is_subsequence(needle: &[u8], haystack: &[u8]) -> bool {
    let mut haystack = haystack.iter();
    needle.iter().all(|byte| haystack.any(|other| other == byte))
}

proptest! {
    #[test]
    fn a_splice_changes_what_it_names_and_nothing_else(
        body in body(),
        model in "\\PC{0,12}",
        edits in 0_u8..8,
    ) {
        let bytes = Bytes::from(body.clone());
        let scan = scan(&bytes).unwrap();
        let mut splice = Splice::new(&scan);
        let mut expected = parse(&body);
        if edits & 1 != 0 {
            splice.replace_model(&model);
            if scan.model.is_some() {
                expected["model"] = json!(model);
            }
        }
        if edits & 2 != 0 {
            let is_said = expected["stream_options"]["include_usage"].is_boolean();
            prop_assert_eq!(splice.insert_include_usage(), !is_said);
            if !is_said {
                if expected["stream_options"].is_null() {
                    expected["stream_options"] = json!({});
                }
                expected["stream_options"]["include_usage"] = json!(true);
            }
        }
        if edits & 4 != 0 {
            splice.cut_sluice();
            expected.as_object_mut().unwrap().remove("sluice");
        }

        let spliced = text(&splice.apply(&bytes));

        prop_assert_eq!(parse(&spliced), expected);
        if edits == 2 {
            prop_assert!(is_subsequence(body.replace("null", "").as_bytes(), spliced.as_bytes()));
        }
        if edits == 4 {
            prop_assert!(is_subsequence(spliced.as_bytes(), body.as_bytes()));
        }
        if edits == 1 && scan.model.is_some() {
            let range = scan.model.unwrap().range;
            prop_assert!(spliced.starts_with(&body[..range.start]));
            prop_assert!(spliced.ends_with(&body[range.end..]));
        }
    }

    #[test]
    fn the_scan_accepts_what_serde_json_accepts(body in body(), at: prop::sample::Index, byte in prop::sample::select(br#"{}[]",:\u0tfn1-.e "#.to_vec())) {
        let mut mutated = body.into_bytes();
        check_against_serde(&mutated)?;
        let index = at.index(mutated.len());
        mutated[index] = byte;
        check_against_serde(&mutated)?;
        mutated.insert(index, byte);
        check_against_serde(&mutated)?;
        mutated.remove(at.index(mutated.len()));
        check_against_serde(&mutated)?;
        mutated.truncate(index);
        check_against_serde(&mutated)?;
    }

    #[test]
    fn the_scan_survives_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        check_against_serde(&bytes)?;
    }
}

fn check_against_serde(bytes: &[u8]) -> Result<(), TestCaseError> {
    let is_json = serde_json::from_slice::<serde::de::IgnoredAny>(bytes).is_ok()
        && std::str::from_utf8(bytes).is_ok();
    match scan(bytes) {
        Ok(_) => {
            let is_object = bytes.trim_ascii_start().first() == Some(&0x7B);
            prop_assert!(is_json && is_object);
        }
        // Valid JSON, but not what we accept.
        Err(
            ScanError::DuplicateKey { .. }
            | ScanError::EscapedKey { .. }
            | ScanError::WrongType { .. }
            | ScanError::UnknownSluiceField
            | ScanError::NotAnObject,
        ) => {}
        Err(_) => prop_assert!(!is_json),
    }
    Ok(())
}

// === multipart ===

const FORM: &str = "multipart/form-data; boundary=XyZ";

fn form_body(parts: &[(&str, &str)]) -> String {
    let parts: String = parts
        .iter()
        .map(|(header, value)| {
            format!("--XyZ\r\nContent-Disposition: form-data; {header}\r\n\r\n{value}\r\n")
        })
        .collect();
    format!("{parts}--XyZ--\r\n")
}

#[test]
fn form_fields_are_found_between_files() {
    let body = form_body(&[
        (
            "name=\"file\"; filename=\"a.wav\"\r\nContent-Type: audio/wav",
            "\r\n--Xy\r\nname=\"model\"",
        ),
        ("name=\"model\"", "whisper-1"),
        ("name=stream", "true"),
        ("name=\"user\"", "ada"),
    ]);
    let scan = scan_multipart(FORM, body.as_bytes()).unwrap();
    let model = scan.model.clone().unwrap();
    assert_eq!(&*model.name, "whisper-1");
    assert_eq!(&body[model.range], "whisper-1");
    assert!(scan.is_stream);
    assert_eq!(scan.end_user.as_deref(), Some("ada"));

    let bytes = Bytes::from(body.clone());
    let other = text(&splice_form_model(&bytes, &scan, "whisper\r\n--XyZ\r\n2"));
    assert_eq!(other, body.replace("whisper-1", "whisper--XyZ2"));
    let same = splice_form_model(&bytes, &scan, "whisper-1");
    assert_eq!(same.parts()[0].as_ptr(), bytes.as_ptr());
}

#[test]
fn quoted_boundary_and_leading_line_break_are_fine() {
    let body = "\r\n--a b:c\r\ncontent-disposition:form-data;name=model\r\n\r\nm\r\n--a b:c--";
    let content_type = "Multipart/Form-Data; charset=utf-8; BOUNDARY=\"a b:c\"";
    let scan = scan_multipart(content_type, body.as_bytes()).unwrap();
    assert_eq!(&*scan.model.unwrap().name, "m");
}

#[test]
fn every_refused_form_as_the_client_sees_it() {
    let refusal = |content_type: &str, body: &str| {
        let error = scan_multipart(content_type, body.as_bytes()).unwrap_err();
        format!("{}: {error}\n", error.field().unwrap_or("-"))
    };
    let mut table = String::new();
    for content_type in [
        "application/json",
        "multipart/form-data",
        "multipart/form-data; boundary=",
        "multipart/form-data; boundary=a; boundary=b",
        "multipart/form-data; boundary=\"a\\",
        "multipart/form-data; boundary=\"\r\n\"",
    ] {
        table += &refusal(content_type, "--a--");
    }
    for body in [
        "",
        "preamble\r\n--XyZ--",
        "--XyZ",
        "--XyZ--\r\n--XyZ",
        "--XyZab\r\n\r\n\r\n--XyZ--",
        "--XyZ\r\nContent-Disposition: form-data; name=model\r\n\r\nopen",
        "--XyZ\r\n\r\nno header\r\n--XyZ--",
        "--XyZ\r\nContent-Disposition: form-data; name=model\r\n--XyZ--",
        "--XyZ\r\nContent-Disposition: form-data; name=a\nx: y\r\n\r\n\r\n--XyZ--",
        "--XyZ\r\nContent-Disposition : form-data; name=model\r\n\r\n\r\n--XyZ--",
        &form_body(&[("x=y", "")]),
        &form_body(&[("name=a; name=model", "")]),
        &form_body(&[("name*=utf-8''model", "")]),
        &form_body(&[("name=a\r\nContent-Disposition: form-data; name=model", "")]),
        &form_body(&[("name=\"mo\\del\"", "x")]),
        &form_body(&[("name=model; filename=x", "x")]),
        &form_body(&[("name=model\r\nContent-Transfer-Encoding: base64", "eA==")]),
        &form_body(&[("name=model", "a"), ("name=model", "b")]),
        &form_body(&[("name=stream", "maybe")]),
    ] {
        table += &refusal(FORM, body);
    }
    insta::assert_snapshot!(table, @r#"
    -: the multipart form is malformed: the content type is not multipart/form-data
    -: the multipart form is malformed: the content type has no boundary
    -: the multipart form is malformed: the boundary must be 1 to 70 printable ASCII characters
    -: the multipart form is malformed: the content type has two boundaries
    -: the multipart form is malformed: a parameter of a header is malformed
    -: the multipart form is malformed: the boundary must be 1 to 70 printable ASCII characters
    -: the multipart form is malformed: it does not begin with its boundary
    -: the multipart form is malformed: it does not begin with its boundary
    -: the multipart form is malformed: a boundary line has something after the boundary
    -: the multipart form is malformed: something follows its end
    -: the multipart form is malformed: a boundary line has something after the boundary
    -: the multipart form is malformed: it has no end
    -: the multipart form is malformed: a line of a part's header has no colon
    -: the multipart form is malformed: a part has no header, or a very long one
    -: the multipart form is malformed: a part's header is folded or has control characters
    -: the multipart form is malformed: a name in a part's header has spaces or other odd characters
    -: the multipart form is malformed: a part has no name
    -: the multipart form is malformed: a part has two names
    -: the multipart form is malformed: a part's name is encoded
    -: the multipart form is malformed: a part has two `content-disposition` lines
    model: the field `model` is written with escapes in its name; write it plainly
    model: `model` must be plain text
    model: `model` must be plain text
    model: the request body has two `model` fields; send one
    stream: `stream` must be true or false
    "#);
}

proptest! {
    #[test]
    fn a_form_finds_its_model_behind_any_file(
        file in prop::collection::vec(any::<u8>(), 0..200),
        name in "[a-z0-9/:-]{1,20}",
    ) {
        let head = form_body(&[("name=f; filename=f", "FILE"), ("name=\"model\"", &name)]);
        let (before, after) = head.split_once("FILE").unwrap();
        let body = [before.as_bytes(), &file, after.as_bytes()].concat();
        let scan = scan_multipart(FORM, &body).unwrap();
        prop_assert_eq!(&*scan.model.unwrap().name, &*name);
    }

    #[test]
    fn any_bytes_make_a_form_or_an_error(bytes in "(--XyZ|\r\n|--|name=model|; |\"|\\\\|content-disposition:|form-data|x){0,24}") {
        let _either = scan_multipart(FORM, bytes.as_bytes());
    }
}
