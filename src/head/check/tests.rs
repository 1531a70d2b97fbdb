//! The corpus of refused heads, heads that pass, and random ones.

use proptest::prelude::*;

use super::corpus::cases;
use super::*;

/// What becomes of bytes that arrive on a connection.
fn verdict(bytes: &[u8]) -> Result<Head<'_>, HeadError> {
    match find_end(bytes, 0) {
        Some(end) => check(&bytes[..end]),
        None => panic!("waits for ever: {:?}", bytes.escape_ascii().to_string()),
    }
}

#[test]
fn corpus_is_refused_for_the_right_reason() {
    let cases = cases();
    assert!(300 <= cases.len(), "only {} cases", cases.len());
    let mut wrong = String::new();
    for case in &cases {
        let reason = match verdict(&case.head) {
            Ok(_) => "passes",
            Err(error) => error.reason,
        };
        if reason != case.reason {
            let head: Vec<u8> = case.head.iter().copied().take(200).collect();
            wrong += &format!("{}: {reason}, not {}\n", head.escape_ascii(), case.reason);
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[test]
fn every_refusal_is_in_the_corpus_and_has_its_own_label() {
    let mut reasons: Vec<&str> = HeadError::ALL.iter().map(|error| error.reason).collect();
    reasons.sort_unstable();
    let n_refusals = reasons.len();
    reasons.dedup();
    assert_eq!(reasons.len(), n_refusals);
    let mut covered: Vec<&str> = cases().iter().map(|case| case.reason).collect();
    covered.push("incomplete");
    covered.sort_unstable();
    covered.dedup();
    assert_eq!(covered, reasons);
}

#[test]
fn head_of_an_sdk_is_read() {
    let head = "POST /v1/chat/completions?x=%20a&b[]=~ HTTP/1.1\r\n\
        Host: gateway.test:8080\r\n\
        Authorization: Bearer vk_x\r\n\
        Content-Type: application/json\r\n\
        X-Stainless-Lang: python\r\n\
        x-sluice-metadata-team: M\u{fc}nchen\r\n\
        TE: trailers\r\n\
        Connection: keep-alive, TE\r\n\
        Expect: 100-Continue\r\n\
        Content-Length: \t 1234 \r\n\r\n";
    let expected = Head {
        method: "POST",
        target: "/v1/chat/completions?x=%20a&b[]=~",
        version: Version::Http11,
        host: Some("gateway.test:8080"),
        framing: Framing::Length(1234),
        is_expect_continue: true,
        wants_close: false,
    };
    assert_eq!(verdict(head.as_bytes()), Ok(expected));
}

#[test]
fn allowed_variants_pass() {
    let heads = [
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", "/", Framing::None, false),
        ("GET / HTTP/1.0\r\n\r\n", "/", Framing::None, true),
        ("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", "/", Framing::None, false),
        ("GET / HTTP/1.0\r\nExpect: 100-continue\r\n\r\n", "/", Framing::None, true),
        ("GET / HTTP/1.1\r\nHost: a\r\nConnection: Close\r\n\r\n", "/", Framing::None, true),
        ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "*", Framing::None, false),
        ("GET HTTP://A/b?c HTTP/1.1\r\nhost: a\r\n\r\n", "/b?c", Framing::None, false),
        ("GET https://a HTTP/1.1\r\nHost: a\r\n\r\n", "/", Framing::None, false),
        ("GET http://a:1/ HTTP/1.0\r\n\r\n", "/", Framing::None, true),
        ("GET //a HTTP/1.1\r\nHost: a\r\n\r\n", "//a", Framing::None, false),
        ("GET / HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n", "/", Framing::None, false),
        ("GET / HTTP/1.1\r\nHost: [::ffff:1.2.3.4]\r\n\r\n", "/", Framing::None, false),
        ("GET / HTTP/1.1\r\nHost: the_gateway:0\r\n\r\n", "/", Framing::None, false),
        ("GET / HTTP/1.1\r\nHost: 10.0.0.1:65535\r\n\r\n", "/", Framing::None, false),
        ("POST / HTTP/1.1\r\nHost:a\r\nContent-Length:0\r\n\r\n", "/", Framing::Length(0), false),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTRANSFER-ENCODING: chunked\r\n\r\n",
            "/",
            Framing::Chunked,
            false,
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9999999999999999999\r\n\r\n",
            "/",
            Framing::Length(9_999_999_999_999_999_999),
            false,
        ),
        ("GET / HTTP/1.1\r\nHost: a\r\nx:\r\ny: \r\nz:\t\r\n\r\n", "/", Framing::None, false),
    ];
    for (bytes, target, framing, wants_close) in heads {
        let head = verdict(bytes.as_bytes()).unwrap_or_else(|error| panic!("{bytes:?}: {error}"));
        assert_eq!((head.target, head.framing), (target, framing), "{bytes:?}");
        assert_eq!(head.wants_close, wants_close, "{bytes:?}");
        assert!(!head.is_expect_continue);
    }
}

#[test]
fn limits_are_inclusive() {
    let target = "x".repeat(TARGET_BYTES_MAX - 1);
    let head = format!("GET /{target} HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(verdict(head.as_bytes()).is_ok());
    let head = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "a: b\r\n".repeat(99));
    assert!(verdict(head.as_bytes()).is_ok());
    let start = "GET / HTTP/1.1\r\nHost: a\r\na: ";
    let value = "x".repeat(HEAD_BYTES_MAX - start.len() - 4);
    let head = format!("{start}{value}\r\n\r\n");
    assert_eq!(head.len(), HEAD_BYTES_MAX);
    assert!(verdict(head.as_bytes()).is_ok());
}

#[test]
fn head_without_an_end_is_waited_for_and_refused_by_size() {
    let start = b"GET / HTTP/1.1\r\nHost: a\r\n";
    assert_eq!(find_end(start, 0), None);
    assert_eq!(find_end(start, start.len() + 1), None);
    assert_eq!(check(start), Err(HeadError::INCOMPLETE));
    assert_eq!(oversized(&start.repeat(2_000)), HeadError::TOO_LARGE);
    assert_eq!(oversized(&b"x".repeat(40_000)), HeadError::TARGET_TOO_LONG);
    let two = b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n";
    assert_eq!(check(two), Err(HeadError::INCOMPLETE));
}

#[test]
fn messages_say_what_is_wrong_and_repeat_nothing() {
    for case in cases() {
        let error = verdict(&case.head).unwrap_err();
        let message = error.to_string();
        assert!(message.len() > 20 && !message.ends_with('.'), "{message}");
        assert!((400..=505).contains(&error.status), "{message}");
    }
    let head = b"GET / HTTP/1.1\r\nHost: a\r\nvk_secret: vk_secret\x00\r\n\r\n";
    assert!(!verdict(head).unwrap_err().to_string().contains("vk_"));
}

proptest! {
    #[test]
    fn any_bytes_are_survived(bytes: Vec<u8>, from: usize) {
        let end = find_end(&bytes, from);
        prop_assert!(end.is_none_or(|end| end <= bytes.len()));
        prop_assert!(check(&bytes).is_err());
    }

    #[test]
    fn almost_heads_are_survived(head in almost_head()) {
        let head = find_end(head.as_bytes(), 0).and_then(|end| head.get(..end)).unwrap_or_default();
        if let Ok(read) = check(head.as_bytes()) {
            // What passes has one end, one host and one length.
            let n_lines = head.matches("\r\n").count();
            prop_assert!(head.ends_with("\r\n\r\n"));
            prop_assert_eq!(head.matches('\n').count(), n_lines);
            prop_assert_eq!(head.matches('\r').count(), n_lines);
            prop_assert!(read.host.is_some() || read.version == Version::Http10);
            let lower = head.to_ascii_lowercase();
            let n_framings = lower.matches("\ncontent-length:").count()
                + lower.matches("\ntransfer-encoding:").count();
            prop_assert_eq!(n_framings, usize::from(read.framing != Framing::None));
        }
    }

    #[test]
    fn well_formed_heads_pass(
        method in "[A-Z]{3,7}",
        target in "/[a-zA-Z0-9/._~?&=%!-]{0,60}",
        host in "[a-z0-9.-]{1,20}(:[1-9][0-9]{0,3})?",
        fields in prop::collection::vec(("x-[a-zA-Z0-9-]{1,20}", "[ -~\u{e4}\u{20ac}\t]{0,40}"), 0..90),
        length: Option<u32>,
    ) {
        let mut head = format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n");
        for (name, value) in &fields {
            head += &format!("{name}:{value}\r\n");
        }
        if let Some(length) = length {
            head += &format!("Content-Length: {length}\r\n");
        }
        head += "\r\n";
        let refused = ["CONNECT", "TRACE"].contains(&method.as_str());
        match check(head.as_bytes()) {
            Ok(read) => {
                prop_assert_eq!((read.method, read.target), (method.as_str(), target.as_str()));
                prop_assert_eq!(read.host, Some(host.as_str()));
                let framing = length.map_or(Framing::None, |length| Framing::Length(length.into()));
                prop_assert_eq!(read.framing, framing);
            }
            Err(error) => prop_assert!(refused, "{head:?}: {error}"),
        }
    }

    #[test]
    fn end_is_found_however_the_bytes_arrive(
        head in almost_head(),
        cuts in prop::collection::vec(1_usize..20, 0..40),
    ) {
        let whole = find_end(head.as_bytes(), 0);
        let (mut arrived, mut found) = (0_usize, None);
        for cut in cuts.into_iter().chain([usize::MAX]) {
            let searched = arrived;
            arrived = head.len().min(arrived.saturating_add(cut));
            found = find_end(&head.as_bytes()[..arrived], searched);
            if found.is_some() {
                break;
            }
        }
        prop_assert_eq!(found, whole);
    }
}

/// Lines that are mostly right, with ends that are mostly CRLF.
fn almost_head() -> impl Strategy<Value = String> {
    let line = prop_oneof![
        3 => Just("Host: a".to_owned()),
        2 => Just("Content-Length: 5".to_owned()),
        1 => Just("Transfer-Encoding: chunked".to_owned()),
        1 => Just("Connection: close".to_owned()),
        1 => Just(String::new()),
        1 => "[a-z]{0,3} ?: ?[ -~\r]{0,5}",
    ];
    let end = prop_oneof![30 => Just("\r\n"), 1 => Just("\n"), 1 => Just("\r"), 1 => Just("\r\n ")];
    let start = prop_oneof![
        6 => Just("GET / HTTP/1.1".to_owned()),
        1 => Just("GET / HTTP/1.0".to_owned()),
        1 => "(GET|TRACE)? ?/?[a-z#]{0,2} (HTTP/1\\.[0-9])?",
    ];
    let lines = prop::collection::vec((line, end.clone()), 0..8);
    (start, end, lines).prop_map(|(start, end, lines)| {
        let lines: String = lines.into_iter().map(|(line, end)| line + end).collect();
        format!("{start}{end}{lines}\r\n")
    })
}
