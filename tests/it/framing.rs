//! Requests that can be read in two ways: refused on the wire, and never read as two requests.

use loadtest::mock::Mock;
use sluice::key;

use crate::client::{Answer, Client, request};
use crate::harness::{Builder, TestGateway, chat_body, deployment, target};

/// A head that deviates from a good one in one thing, and what becomes of it.
struct Case {
    name: &'static str,
    bytes: Vec<u8>,
    status: u16,
    code: &'static str,
}

const PATH: &str = "/v1/chat/completions";

/// A request with `line`, the headers every request has but for the framing, `headers`, and `body`.
fn raw(key: &str, line: &str, headers: &str, body: &str) -> Vec<u8> {
    format!(
        "{line}\r\nhost: gateway.test\r\nauthorization: Bearer {key}\r\n\
         content-type: application/json\r\n{headers}\r\n{body}"
    )
    .into_bytes()
}

fn bad(name: &'static str, bytes: Vec<u8>) -> Case {
    Case { name, bytes, status: 400, code: "invalid_request" }
}

fn chunked(body: &str) -> String {
    format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len())
}

/// What the common servers disagree about, and what Pingora's own parser would take.
#[expect(clippy::too_many_lines, reason = "one table")]
fn cases(key: &str) -> Vec<Case> {
    let body = chat_body("");
    let n = body.len();
    let line = format!("POST {PATH} HTTP/1.1");
    let with = |headers: &str, body: &str| raw(key, &line, headers, body);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let plain = text(with(&format!("content-length: {n}\r\n"), &body));
    let headers = |n: usize| "x-filler: y\r\n".repeat(n);
    let large = |name, headers: String| Case {
        name,
        bytes: with(&format!("{headers}content-length: {n}\r\n"), &body),
        status: 431,
        code: "headers_too_large",
    };
    vec![
        bad(
            "length and encoding",
            with(
                &format!("content-length: {n}\r\ntransfer-encoding: chunked\r\n"),
                &chunked(&body),
            ),
        ),
        bad(
            "the same length twice",
            with(&format!("content-length: {n}\r\ncontent-length: {n}\r\n"), &body),
        ),
        bad("two lengths", with(&format!("content-length: {n}\r\ncontent-length: 1\r\n"), &body)),
        bad("bare line feeds", plain.replace("\r\n", "\n").into_bytes()),
        bad("a folded header", with(&format!("x-a: b\r\n c\r\ncontent-length: {n}\r\n"), &body)),
        bad("no host", plain.replace("host: gateway.test\r\n", "").into_bytes()),
        bad("two hosts", with(&format!("host: other.test\r\ncontent-length: {n}\r\n"), &body)),
        bad(
            "an encoding in HTTP/1.0",
            raw(
                key,
                &format!("POST {PATH} HTTP/1.0"),
                "transfer-encoding: chunked\r\n",
                &chunked(&body),
            ),
        ),
        bad(
            "a line feed in a chunk's extension",
            with("transfer-encoding: chunked\r\n", &format!("{n:x};a\nb\r\n{body}\r\n0\r\n\r\n")),
        ),
        bad("a NUL in a value", with(&format!("x-a: b\0c\r\ncontent-length: {n}\r\n"), &body)),
        bad(
            "an absolute URL of another host",
            raw(
                key,
                &format!("POST http://other.test{PATH} HTTP/1.1"),
                &format!("content-length: {n}\r\n"),
                &body,
            ),
        ),
        large("300 headers", headers(300)),
        large("101 headers", headers(101)),
        large("a header of 500 KB", format!("x-filler: {}\r\n", "y".repeat(500_000))),
        large("a header of 64 KiB", format!("x-filler: {}\r\n", "y".repeat(64 * 1024))),
        Case {
            name: "a URL of 9 KiB",
            bytes: raw(
                key,
                &format!("POST {PATH}?{} HTTP/1.1", "y".repeat(9 * 1024)),
                &format!("content-length: {n}\r\n"),
                &body,
            ),
            status: 414,
            code: "request_too_large",
        },
        bad("a signed length", with(&format!("content-length: +{n}\r\n"), &body)),
        bad("a negative length", with("content-length: -1\r\n", &body)),
        bad("a hexadecimal length", with(&format!("content-length: 0x{n:x}\r\n"), &body)),
        bad("an unknown encoding", with("transfer-encoding: xchunked\r\n", &chunked(&body))),
        bad("a space before the colon", with("transfer-encoding : chunked\r\n", &chunked(&body))),
        bad(
            "the encoding twice",
            with("transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n", &chunked(&body)),
        ),
        bad("a negative chunk", with("transfer-encoding: chunked\r\n", "-1\r\n")),
        bad(
            "a chunk whose size overflows",
            with("transfer-encoding: chunked\r\n", "fffffffffffffffff\r\n"),
        ),
        bad(
            "a chunk that ends wrongly",
            with("transfer-encoding: chunked\r\n", &format!("{n:x}\r\n{body}xx0\r\n\r\n")),
        ),
        bad(
            "an underscore for a hyphen",
            with(&format!("content_length: 0\r\ncontent-length: {n}\r\n"), &body),
        ),
        bad(
            "an upgrade",
            with(
                &format!("connection: upgrade\r\nupgrade: websocket\r\ncontent-length: {n}\r\n"),
                &body,
            ),
        ),
        bad(
            "a connection header that drops the key",
            with(&format!("connection: authorization\r\ncontent-length: {n}\r\n"), &body),
        ),
        Case {
            name: "CONNECT",
            bytes: raw(key, "CONNECT gateway.test:443 HTTP/1.1", "", ""),
            status: 405,
            code: "invalid_request",
        },
        Case {
            name: "a version that is not served",
            bytes: raw(key, &format!("POST {PATH} HTTP/3.0"), "content-length: 0\r\n", ""),
            status: 505,
            code: "invalid_request",
        },
    ]
}

#[tokio::test]
async fn ambiguous_requests_are_refused_and_the_connection_is_closed() {
    let (gateway, mock) = TestGateway::with_mock().await;
    let cases = cases(&gateway.key);
    let n_cases = cases.len();
    let mut running = tokio::task::JoinSet::new();
    for Case { name, bytes, status, code } in cases {
        let mut client = gateway.client().await;
        running.spawn(async move {
            // A gateway that has seen enough may close before it has been told everything.
            drop(client.try_write(&bytes).await);
            let answer = client.answer().await;
            assert_eq!((answer.status, answer.code().as_str()), (status, code), "{name}");
            assert_eq!(answer.header("connection"), Some("close"), "{name}");
            let rest = client.rest().await;
            assert!(rest.is_empty(), "{name}: {}", String::from_utf8_lossy(&rest));
        });
    }
    while let Some(ended) = running.join_next().await {
        ended.unwrap();
    }
    assert_eq!(mock.journal().len(), 0, "none of them was a request");
    let counted = gateway.metric("sluice_malformed_requests_total");
    assert_eq!(counted, f64::from(u32::try_from(n_cases).unwrap()));
    gateway.stop().await;
}

#[tokio::test]
async fn refused_heads_are_answered_in_the_shape_of_their_path() {
    let (gateway, _mock) = TestGateway::with_mock().await;
    let bytes = b"POST /v1/messages HTTP/1.1\r\nx-api-key: a\r\ncontent-length: 0\r\n\r\n";
    let answer = gateway.client().await.call(bytes).await;
    assert_eq!(answer.status, 400);
    assert_eq!(answer.json()["type"], "error");
    assert_eq!(answer.json()["error"]["type"], "invalid_request_error");
    gateway.stop().await;
}

#[tokio::test]
async fn bad_chunk_that_comes_late_is_refused_with_a_row() {
    let (gateway, mock) = TestGateway::with_mock().await;
    for late in ["5;a\nb\r\nhello\r\n0\r\n\r\n", "zz\r\n", "5\r\nhelloxx", "0\r\nx y: z\r\n\r\n"] {
        let mut client = gateway.client().await;
        let head = raw(
            &gateway.key,
            &format!("POST {PATH} HTTP/1.1"),
            "transfer-encoding: chunked\r\n",
            "2\r\n{ \r\n",
        );
        client.write(&head).await;
        gateway.expect_rows(1);
        started(&gateway).await;
        drop(client.try_write(late.as_bytes()).await);
        let answer = client.answer().await;
        assert_eq!((answer.status, answer.code().as_str()), (400, "invalid_request"), "{late:?}");
        assert!(client.rest().await.is_empty(), "{late:?}");
        gateway.idle().await;
    }
    for row in gateway.rows().await {
        assert_eq!(row["error_class"], "invalid_request");
    }
    assert!(mock.journal().is_empty());
    gateway.stop().await;
}

/// Waits until the gateway has a request in hand.
async fn started(gateway: &TestGateway) {
    crate::client::within(async {
        while gateway.app().in_flight() == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn pipelined_request_is_answered_or_dropped_but_never_run_twice() {
    let (gateway, mock) = TestGateway::with_mock().await;
    let mut pair = Vec::new();
    for fields in ["", r#""user":"second""#] {
        let body = chat_body(fields);
        let framing = format!("content-length: {}\r\n", body.len());
        pair.extend(raw(&gateway.key, &format!("POST {PATH} HTTP/1.1"), &framing, &body));
    }
    let mut client = gateway.client().await;

    let first = client.call(&pair).await;

    assert_eq!(first.status, 200);
    let rest = client.rest().await;
    let answered = 1 + usize::from(rest.starts_with(b"HTTP/1.1 200"));
    assert!(rest.is_empty() || answered == 2, "{}", String::from_utf8_lossy(&rest));
    gateway.idle().await;
    assert_eq!(mock.journal().len(), answered);
    assert_eq!(gateway.rows().await.len(), answered);
    if answered == 1 {
        // Whoever pipelines learns that the connection is over, and sends again.
        assert_eq!(first.header("connection"), Some("close"), "{:?}", first.headers);
    }
    gateway.expect_rows(answered as u64);
    gateway.stop().await;
}

/// A request that must not become one: it is the body of another.
fn smuggled(key: &str) -> String {
    String::from_utf8(raw(key, &format!("POST {PATH} HTTP/1.1"), "content-length: 64\r\n", ""))
        .unwrap()
        + &chat_body(r#""user":"smuggled""#)
}

/// Sends `outer` in two writes, cut at `cut`, then asks for something else on the same connection.
async fn attack(gateway: &TestGateway, outer: &[u8], cut: usize) -> Answer {
    let mut client = gateway.client().await;
    let (first, second) = outer.split_at(cut);
    let mut is_written = client.try_write(first).await.is_ok();
    // Gives the gateway a chance to see the cut.
    for _ in 0..cut % 5 {
        tokio::task::yield_now().await;
    }
    is_written = is_written && client.try_write(second).await.is_ok();
    let answer = client.answer().await;
    let next = b"GET /healthz HTTP/1.1\r\nhost: gateway.test\r\n\r\n";
    if is_written && client.try_write(next).await.is_ok() {
        let rest = client.next_answer().await;
        assert!(
            rest.as_ref().is_none_or(|next| next.status == 200 && next.text().contains("ok")),
            "the answer to the next request belongs to another: {rest:?}"
        );
    }
    answer
}

#[tokio::test]
async fn request_in_the_body_of_a_refused_one_is_never_read_as_a_request() {
    let mock = Mock::start().await.unwrap();
    let text = deployment(&[target(&mock, "sim")], "");
    let gateway =
        Builder::new(&text).with(|config| config.data.body_bytes_max = 1024).start().await;
    let smuggled = smuggled(&gateway.key);
    let large = format!("{smuggled}{}", " ".repeat(1024));
    let unknown_key = key::generate().expose().to_owned();
    let known = gateway.key.clone();
    let with_length = |key: &str, path: &str, body: &str| {
        let line = format!("POST {path} HTTP/1.1");
        raw(key, &line, &format!("content-length: {}\r\n", body.len()), body)
    };
    let with_chunks = |key: &str, path: &str, body: &str| {
        let line = format!("POST {path} HTTP/1.1");
        raw(key, &line, "transfer-encoding: chunked\r\n", &chunked(body))
    };
    // Status, the request, and whether it leaves a row.
    let outers = [
        (401, with_length(&unknown_key, PATH, &smuggled), false),
        (401, with_chunks(&unknown_key, PATH, &smuggled), false),
        (401, with_length("x", "/v1/messages", &smuggled), false),
        (404, with_length(&known, "/v1/nowhere", &smuggled), false),
        (404, with_chunks(&known, "/admin/keys", &smuggled), false),
        (404, with_length(&known, "/v1/models/none", ""), false),
        (413, with_length(&known, PATH, &large), true),
        (413, with_chunks(&known, PATH, &large), true),
        (400, with_length(&known, PATH, &smuggled), true),
        (400, with_chunks(&known, PATH, &smuggled), true),
        (403, with_length(&known, "/v1/completion/a/b/chat/completions", &smuggled), true),
    ];
    for (status, outer, leaves_row) in &outers {
        for n in 0..60 {
            let cut = (n * 7919 + 1) % outer.len();
            let answer = attack(&gateway, outer, cut).await;
            assert_eq!(answer.status, *status, "{}", String::from_utf8_lossy(outer));
            gateway.expect_rows(u64::from(*leaves_row));
        }
    }
    assert!(mock.journal().is_empty(), "a smuggled request was run");
    gateway.stop().await;
}

#[tokio::test]
async fn request_in_the_body_of_a_get_is_not_read_as_a_request() {
    let (gateway, mock) = TestGateway::with_mock().await;
    let smuggled = smuggled(&gateway.key);
    let framing = format!("content-length: {}\r\n", smuggled.len());
    for path in ["/v1/models", "/healthz", "/readyz"] {
        for n in 0..60 {
            let outer = raw(&gateway.key, &format!("GET {path} HTTP/1.1"), &framing, &smuggled);
            let answer = attack(&gateway, &outer, (n * 7919 + 1) % outer.len()).await;
            assert_eq!(answer.status, 200, "{path}");
            gateway.expect_rows(u64::from(path == "/v1/models"));
        }
    }
    assert!(mock.journal().is_empty(), "a smuggled request was run");
    gateway.stop().await;
}

#[tokio::test]
async fn paths_that_others_would_normalise_are_not_served() {
    let (gateway, mock) = TestGateway::with_mock().await;
    for path in [
        "//v1/chat/completions",
        "/v1//chat/completions",
        "/v1/chat/completions/",
        "/v1/chat%2fcompletions",
        "/v1/%63hat/completions",
        "/V1/chat/completions",
        "/v1/embeddings/../chat/completions",
        "/v1/./chat/completions",
        "/v1/chat/completions;a=b",
        "/v1/chat/completions%00",
        "/v1/completion/acme/production//chat/completions",
        "/v1/completion/acme%2fproduction/chat/completions",
    ] {
        let headers = [("authorization", gateway.authorization())];
        let headers: Vec<(&str, &str)> = headers.iter().map(|(n, v)| (*n, v.as_str())).collect();
        let bytes = request("POST", path, &headers, chat_body("").as_bytes());
        let answer = gateway.client().await.call(&bytes).await;
        assert_eq!((answer.status, answer.code().as_str()), (404, "not_found"), "{path}");
    }
    assert!(mock.journal().is_empty());
    gateway.stop().await;
}

#[tokio::test]
async fn what_is_authorised_is_what_is_run() {
    let mock = Mock::start().await.unwrap();
    let text = deployment(&[target(&mock, "sim")], "")
        .replace(r#"endpoints = "all""#, r#"endpoints = ["embeddings"]"#);
    let gateway = Builder::new(&text).start().await;
    let key = gateway.key.clone();
    let body = chat_body("");
    let framing = format!("content-length: {}\r\n", body.len());
    for (target, host) in [
        (PATH.to_owned(), "gateway.test"),
        (format!("http://gateway.test{PATH}"), "gateway.test"),
        (format!("{PATH}?x=/v1/embeddings"), "gateway.test"),
        (PATH.to_owned(), "embeddings"),
        (PATH.to_owned(), "127.0.0.1:8081"),
        ("/v1/completion/acme/production/chat/completions".to_owned(), "gateway.test"),
    ] {
        let bytes = raw(&key, &format!("POST {target} HTTP/1.1"), &framing, &body);
        let text =
            String::from_utf8(bytes).unwrap().replace("gateway.test\r", &format!("{host}\r"));
        gateway.expect_rows(1);
        let answer = gateway.client().await.call(text.as_bytes()).await;
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (403, "endpoint_not_allowed"),
            "{target} at {host}"
        );
    }
    assert!(mock.journal().is_empty());
    gateway.stop().await;
}

#[tokio::test]
async fn absolute_url_of_the_same_host_is_served() {
    let (gateway, mock) = TestGateway::with_mock().await;
    let body = chat_body("");
    let line = format!("POST http://gateway.test{PATH} HTTP/1.1");
    let bytes = raw(&gateway.key, &line, &format!("content-length: {}\r\n", body.len()), &body);
    gateway.expect_rows(1);
    let answer = Client::connect(gateway.address).await.call(&bytes).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(mock.wait_for(1).await[0].path, PATH);
    gateway.stop().await;
}
