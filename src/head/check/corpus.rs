//! Heads that are malformed or can be read in two ways, and what each is refused for.

/// The start of the head that every case deviates from in one thing.
const LINE: &str = "POST /v1/chat/completions HTTP/1.1\r\n";
const HOST: &str = "Host: gateway.test\r\n";

pub(super) struct Case {
    pub(super) head: Vec<u8>,
    /// The label of the expected refusal.
    pub(super) reason: &'static str,
}

/// The whole corpus.
pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    cases.extend(request_lines());
    cases.extend(line_ends());
    cases.extend(headers());
    cases.extend(lengths_and_encodings());
    cases.extend(hosts());
    cases.extend(connections());
    cases.extend(sizes());
    cases.extend(each_byte());
    cases
}

fn case(head: impl Into<Vec<u8>>, reason: &'static str) -> Case {
    Case { head: head.into(), reason }
}

fn with_line(line: &str, reason: &'static str) -> Case {
    case(format!("{line}\r\n{HOST}\r\n"), reason)
}

fn with_header(header: &str, reason: &'static str) -> Case {
    case(format!("{LINE}{HOST}{header}\r\n\r\n"), reason)
}

const REQUEST_LINES: &[(&str, &str)] = &[
    ("", "request_line"),
    (" ", "request_line"),
    ("GET", "request_line"),
    ("GET /", "request_line"),
    ("GET  / HTTP/1.1", "request_line"),
    ("GET /  HTTP/1.1", "request_line"),
    (" GET / HTTP/1.1", "request_line"),
    ("GET / HTTP/1.1 ", "request_line"),
    ("GET / HTTP/1.1 x", "request_line"),
    ("GET /a b HTTP/1.1", "request_line"),
    ("GET HTTP/1.1", "request_line"),
    ("GET\t/\tHTTP/1.1", "request_line"),
    ("GET /\tHTTP/1.1", "request_line"),
    ("GET\t/ HTTP/1.1", "request_line"),
    ("GET /\u{b}x HTTP/1.1", "target"),
    ("/ GET HTTP/1.1", "method"),
    ("GET: / HTTP/1.1", "method"),
    ("G(E)T / HTTP/1.1", "method"),
    ("\"GET\" / HTTP/1.1", "method"),
    ("GÉT / HTTP/1.1", "method"),
    ("\u{feff}GET / HTTP/1.1", "method"),
    ("CONNECT gateway.test:443 HTTP/1.1", "method_refused"),
    ("CONNECT / HTTP/1.1", "method_refused"),
    ("TRACE / HTTP/1.1", "method_refused"),
    ("trace / HTTP/1.1", "method_refused"),
    ("Connect / HTTP/1.1", "method_refused"),
    ("GET / http/1.1", "version"),
    ("GET / Http/1.1", "version"),
    ("GET / HTTP/1", "version"),
    ("GET / HTTP/1.", "version"),
    ("GET / HTTP/.1", "version"),
    ("GET / HTTP/1.2", "version"),
    ("GET / HTTP/1.9", "version"),
    ("GET / HTTP/1.10", "version"),
    ("GET / HTTP/01.1", "version"),
    ("GET / HTTP/1.01", "version"),
    ("GET / HTTP/11", "version"),
    ("GET / HTTP/1,1", "version"),
    ("GET / HTTP/-1.1", "version"),
    ("GET / HTTP/+1.1", "version"),
    ("GET / HTTP /1.1", "request_line"),
    ("GET / HTTPS/1.1", "version"),
    ("GET / HTTP//1.1", "version"),
    ("GET / ICY/1.1", "version"),
    ("GET / HTTP/x.y", "version"),
    ("GET / HTTP/0.9", "version_refused"),
    ("GET / HTTP/2.0", "version_refused"),
    ("GET / HTTP/3.0", "version_refused"),
    ("PRI * HTTP/2.0", "version_refused"),
    ("GET / HTTP/2", "version"),
    ("GET x HTTP/1.1", "target"),
    ("GET ?x HTTP/1.1", "target"),
    ("GET * HTTP/1.1", "target"),
    ("OPTIONS *x HTTP/1.1", "target"),
    ("GET gateway.test/ HTTP/1.1", "target"),
    ("GET gateway.test:80 HTTP/1.1", "target"),
    ("GET /a#b HTTP/1.1", "target"),
    ("GET /# HTTP/1.1", "target"),
    ("GET /é HTTP/1.1", "target"),
    ("GET /a\\b HTTP/1.1", "target"),
    ("GET \\a HTTP/1.1", "target"),
    ("GET /<a> HTTP/1.1", "target"),
    ("GET /\"a\" HTTP/1.1", "target"),
    ("GET /?a={b} HTTP/1.1", "target"),
    ("GET /a|b HTTP/1.1", "target"),
    ("GET /a^b HTTP/1.1", "target"),
    ("GET /`a` HTTP/1.1", "target"),
    ("GET ftp://gateway.test/ HTTP/1.1", "target"),
    ("GET file:///etc/passwd HTTP/1.1", "target"),
    ("GET http:/gateway.test/ HTTP/1.1", "target"),
    ("GET http:gateway.test/ HTTP/1.1", "target"),
    ("GET http:// HTTP/1.1", "target"),
    ("GET http:/// HTTP/1.1", "target"),
    ("GET http://gateway.test?x HTTP/1.1", "target"),
    ("GET http://user@gateway.test/ HTTP/1.1", "target"),
    ("GET http://gateway.test:x/ HTTP/1.1", "target"),
    ("GET http://[::1/ HTTP/1.1", "target"),
    ("GET ://gateway.test/ HTTP/1.1", "target"),
    ("GET http://other.test/ HTTP/1.1", "host_differs"),
    ("GET https://other.test HTTP/1.1", "host_differs"),
    ("GET http://gateway.test:80/ HTTP/1.1", "host_differs"),
    ("GET http://gateway.test./ HTTP/1.1", "host_differs"),
    ("GET http://gateway.test.other.test/ HTTP/1.1", "host_differs"),
    ("GET http://127.0.0.1/ HTTP/1.1", "host_differs"),
];

fn request_lines() -> impl Iterator<Item = Case> {
    REQUEST_LINES.iter().map(|(line, reason)| with_line(line, reason))
}

fn line_ends() -> impl Iterator<Item = Case> {
    let heads = [
        ("\n", "bare_lf"),
        ("\r\n\r\n", "request_line"),
        ("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "request_line"),
        ("\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "bare_lf"),
        ("GET / HTTP/1.1\n\n", "bare_lf"),
        ("GET / HTTP/1.1\nHost: a\n\n", "bare_lf"),
        ("GET / HTTP/1.1\r\nHost: a\n\n", "bare_lf"),
        ("GET / HTTP/1.1\r\nHost: a\n\r\n", "bare_lf"),
        ("GET / HTTP/1.1\r\nHost: a\r\n\n", "bare_lf"),
        ("GET / HTTP/1.1\nHost: a\r\n\r\n", "bare_lf"),
        ("GET / HTTP/1.1\r\nHost: a\r\nx: a\nb: c\r\n\r\n", "bare_lf"),
        ("GET / HTTP/1.1\r\nHost: a\r\nx: a\r\rb: c\r\n\r\n", "bare_cr"),
        ("GET / HTTP/1.1\r\nHost: a\r\nx: a\rb: c\r\n\r\n", "bare_cr"),
        ("GET / HTTP/1.1\r\nHost: a\r\nx: a\r\r\n\r\n", "bare_cr"),
        ("GET / HTTP/1.1\r\r\nHost: a\r\n\r\n", "bare_cr"),
        ("GET / HTTP/1.1\rHost: a\r\n\r\n", "bare_cr"),
        ("GET /\r HTTP/1.1\r\nHost: a\r\n\r\n", "bare_cr"),
        ("GET\r / HTTP/1.1\r\nHost: a\r\n\r\n", "bare_cr"),
        ("GET / HTTP/1.1\r\nHost: a\r\n\rx: y\r\n\r\n", "bare_cr"),
        ("GET / HTTP/1.1\r\nHost: a\r\nx\r: y\r\n\r\n", "bare_cr"),
        ("GET / HTTP/1.1\r\nHost: a\r\nx:\ry\r\n\r\n", "bare_cr"),
        ("GET / HTTP/1.1\r\nHost: a\r\n x: y\r\n\r\n", "folded"),
        ("GET / HTTP/1.1\r\nHost: a\r\n\tx: y\r\n\r\n", "folded"),
        ("GET / HTTP/1.1\r\nHost: a\r\n \r\n\r\n", "folded"),
        ("GET / HTTP/1.1\r\n Host: a\r\n\r\n", "folded"),
        ("GET / HTTP/1.1\r\n\tHost: a\r\n\r\n", "folded"),
        ("GET / HTTP/1.1\r\nHost: a\r\nx: y\r\n  z\r\n\r\n", "folded"),
        ("GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n chunked\r\n\r\n", "encoding"),
        ("GET / HTTP/1.1\r\nHost:\r\n a\r\n\r\n", "host"),
    ];
    heads.into_iter().map(|(head, reason)| case(head, reason))
}

fn headers() -> impl Iterator<Item = Case> {
    let headers = [
        (": x", "header_name"),
        (":", "header_name"),
        ("x", "header_name"),
        ("x y", "header_name"),
        ("x y: z", "header_name"),
        ("x : y", "header_name_space"),
        ("x\t: y", "header_name_space"),
        ("Content-Length : 5", "header_name_space"),
        ("Transfer-Encoding : chunked", "header_name_space"),
        ("Transfer-Encoding\t: chunked", "header_name_space"),
        ("Content_Length: 5", "header_name_underscore"),
        ("transfer_encoding: chunked", "header_name_underscore"),
        ("x_forwarded_for: 127.0.0.1", "header_name_underscore"),
        ("_: x", "header_name_underscore"),
        ("(x): y", "header_name"),
        ("x@y: z", "header_name"),
        ("\"x\": y", "header_name"),
        ("Content-Length\0: 5", "header_name"),
        ("Transfer-Encoding\u{b}: chunked", "header_name"),
        ("Tränsfer: x", "header_name"),
        ("x: a\0b", "header_value"),
        ("x: \0", "header_value"),
        ("x: a\u{7f}", "header_value"),
        ("x: \u{1b}[31m", "header_value"),
        ("x: \u{b}", "header_value"),
        ("x: \u{c}", "header_value"),
        ("Transfer-Encoding: \u{b}chunked", "header_value"),
        ("Transfer-Encoding: chunked\0", "header_value"),
        ("Content-Length: 5\0", "header_value"),
        ("Expect: 200-ok", "expectation"),
        ("Expect:", "expectation"),
        ("Expect: 100-continue, x", "expectation"),
        ("Expect: 100 continue", "expectation"),
        ("Upgrade: websocket", "upgrade"),
        ("Upgrade: h2c", "upgrade"),
        ("upgrade:", "upgrade"),
        ("Connection: Upgrade\r\nUpgrade: websocket", "upgrade"),
    ];
    headers.into_iter().map(|(header, reason)| with_header(header, reason))
}

const LENGTHS: &[&str] = &[
    "",
    "+5",
    "-1",
    "-0",
    "0x5",
    "5x",
    "x5",
    "5 5",
    "5,5",
    "5, 5",
    "5,",
    ",5",
    "5;",
    "5.0",
    "5.",
    ".5",
    "5e1",
    "05",
    "00",
    "0005",
    "1_000",
    "1 000",
    "\"5\"",
    "5\t5",
    "٥",
    "five",
    "99999999999999999999",
    "18446744073709551616",
    "00000000000000000005",
];

const ENCODINGS: &[&str] = &[
    "",
    "Chunked",
    "CHUNKED",
    "xchunked",
    "chunkedx",
    "chunked,",
    ",chunked",
    "chunked,chunked",
    "chunked, chunked",
    "gzip",
    "gzip, chunked",
    "chunked, gzip",
    "identity",
    "identity, chunked",
    "chunked;q=1",
    "chunked; x=y",
    "\"chunked\"",
    "'chunked'",
    "chunk",
    "chunked\tx",
    "cow",
    "x chunked",
    "chunked chunked",
    "deflate",
    "compress, chunked",
    "trailers",
    "chun ked",
    "çhunked",
    "chunked\u{a0}",
];

const PAIRS: &[(&str, &str)] = &[
    ("Content-Length: 5\r\nContent-Length: 5", "length_twice"),
    ("Content-Length: 5\r\nContent-Length: 6", "length_twice"),
    ("Content-Length: 0\r\nContent-Length: 5", "length_twice"),
    ("Content-Length: 5\r\nx: y\r\ncontent-length: 5", "length_twice"),
    ("Content-Length: 5\r\nContent-Length:", "length"),
    ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", "encoding_twice"),
    ("Transfer-Encoding: chunked\r\ntransfer-encoding: chunked", "encoding_twice"),
    ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", "encoding"),
    ("Transfer-Encoding: identity\r\nTransfer-Encoding: chunked", "encoding"),
    ("Content-Length: 5\r\nTransfer-Encoding: chunked", "length_and_encoding"),
    ("Transfer-Encoding: chunked\r\nContent-Length: 5", "length_and_encoding"),
    ("Transfer-Encoding: chunked\r\nContent-Length: 0", "length_and_encoding"),
    ("content-length: 0\r\ntransfer-encoding: chunked", "length_and_encoding"),
    ("Content-Length: 5\r\nTransfer-Encoding: xchunked", "encoding"),
    ("Content-Length: 5\r\nTransfer-Encoding : chunked", "header_name_space"),
    ("Content-Length: 5\r\n Transfer-Encoding: chunked", "folded"),
    ("Content-Length: 5\r\nTransfer_Encoding: chunked", "header_name_underscore"),
];

fn lengths_and_encodings() -> impl Iterator<Item = Case> {
    let old =
        ["", "Content-Length: 5\r\n"].into_iter().zip(["encoding_old", "length_and_encoding"]);
    let lengths =
        LENGTHS.iter().map(|value| with_header(&format!("Content-Length: {value}"), "length"));
    let encodings = ENCODINGS
        .iter()
        .map(|value| with_header(&format!("Transfer-Encoding: {value}"), "encoding"));
    let old = old.map(|(length, reason)| {
        case(format!("POST / HTTP/1.0\r\n{HOST}{length}Transfer-Encoding: chunked\r\n\r\n"), reason)
    });
    let pairs = PAIRS.iter().map(|(header, reason)| with_header(header, reason));
    lengths.chain(encodings).chain(pairs).chain(old)
}

fn hosts() -> impl Iterator<Item = Case> {
    let hosts = [
        "",
        " ",
        ":80",
        "a:",
        "a:x",
        "a:80x",
        "a:+80",
        "a:-1",
        "a:80:80",
        "a:65536",
        "a:000080",
        "a b",
        "a,b",
        "a, b",
        "a/b",
        "a/",
        "/",
        "http://a",
        "a?b",
        "a#b",
        "a@b",
        "user@a",
        "a\\b",
        "a;b",
        "a=b",
        "a%20b",
        "a%00",
        "(a)",
        "<a>",
        "\"a\"",
        "{a}",
        "a|b",
        "a!b",
        "a$b",
        "a&b",
        "a'b",
        "a*b",
        "*",
        "é",
        "[",
        "]",
        "[]",
        "[:",
        "[::1",
        "::1",
        "[::1]x",
        "[::1]:",
        "[::1]:x",
        "[::1]80",
        "[::g]",
        "[[::1]]",
        "[a]b",
        "[fe80::1%25eth0]",
        "a\tb",
    ];
    let heads = [
        (LINE.to_owned(), "host_missing"),
        (format!("{LINE}x: y\r\n"), "host_missing"),
        (format!("{LINE}Host: a\r\nHost: a\r\n"), "host_twice"),
        (format!("{LINE}Host: a\r\nHost: b\r\n"), "host_twice"),
        (format!("{LINE}Host: a\r\nx: y\r\nhOST: a\r\n"), "host_twice"),
        (format!("{LINE}Host: a\r\nHost:\r\n"), "host"),
        ("GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n".to_owned(), "host_twice"),
        ("GET http://gateway.test/ HTTP/1.1\r\n".to_owned(), "host_missing"),
        ("GET http://a/ HTTP/1.0\r\nHost: b\r\n".to_owned(), "host_differs"),
    ];
    let hosts = hosts.map(|value| case(format!("{LINE}Host: {value}\r\n\r\n"), "host"));
    let heads = heads.map(|(head, reason)| case(format!("{head}\r\n"), reason));
    hosts.into_iter().chain(heads)
}

fn connections() -> impl Iterator<Item = Case> {
    let values = [
        "",
        ",",
        "close,",
        ",close",
        "close,,keep-alive",
        "close keep-alive",
        "close;x",
        "\"close\"",
        "content-length",
        "Content-Length",
        "close, content-length",
        "content-length, close",
        "transfer-encoding",
        "close,Transfer-Encoding",
        "TE, transfer-encoding",
        "host",
        "close, Host",
        "authorization",
        "x-api-key",
        "keep-alive, Authorization",
        "connection",
        "content-type",
        "expect",
        "cookie",
    ];
    values.into_iter().map(|value| with_header(&format!("Connection: {value}"), "connection"))
}

fn sizes() -> impl Iterator<Item = Case> {
    let many = "a: b\r\n".repeat(100);
    let large = format!("a: {}\r\n", "x".repeat(32 * 1024));
    let several = format!("a: {}\r\n", "x".repeat(1_000)).repeat(33);
    let long = "x".repeat(8 * 1024);
    [
        case(format!("{LINE}{HOST}{many}\r\n"), "too_many"),
        case(format!("{LINE}{HOST}{large}\r\n"), "too_large"),
        case(format!("{LINE}{HOST}{several}\r\n"), "too_large"),
        case(format!("GET /{long} HTTP/1.1\r\n{HOST}\r\n"), "target_too_long"),
        case(format!("GET /?{long} HTTP/1.1\r\n{HOST}\r\n"), "target_too_long"),
        case(format!("GET /{} HTTP/1.1\r\n{HOST}\r\n", long.repeat(8)), "target_too_long"),
        case(format!("GET http://gateway.test/{long} HTTP/1.1\r\n{HOST}\r\n"), "target_too_long"),
    ]
    .into_iter()
}

/// Every byte at the places where few may stand.
fn each_byte() -> impl Iterator<Item = Case> {
    (0..=u8::MAX).flat_map(|byte| {
        let at = |before: &str, after: &str, reason| {
            let reason = match byte {
                b'\n' => "bare_lf",
                b'\r' => "bare_cr",
                _ => reason,
            };
            case([before.as_bytes(), &[byte], after.as_bytes()].concat(), reason)
        };
        let is_token = byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        let is_control = byte.is_ascii_control() && byte != b'\t';
        let rest = format!(" / HTTP/1.1\r\n{HOST}\r\n");
        let in_method = (!is_token && byte != b' ').then(|| at("GE", &rest, "method"));
        let line = format!("{LINE}{HOST}na");
        let in_name =
            (!is_token && byte != b':').then(|| at(&line, "me: x\r\n\r\n", "header_name"));
        let line = format!("{LINE}{HOST}name: a");
        let in_value = is_control.then(|| at(&line, "b\r\n\r\n", "header_value"));
        let in_target = (is_control || !byte.is_ascii())
            .then(|| at("GET /a", &format!("b HTTP/1.1\r\n{HOST}\r\n"), "target"));
        [in_method, in_name, in_value, in_target].into_iter().flatten()
    })
}
