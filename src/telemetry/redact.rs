//! The one redactor: what text loses before it may stand in a log line.
//!
//! Pure. [`redact`] takes keys, credentials, header values and query strings out of any text;
//! [`without_quotes_of_peers`] cuts what other crates' messages quote of a request or an answer.

const MASK: &str = "[REDACTED]";

/// What a key or credential looks like: a prefix, then at least `len_min` characters of its alphabet.
struct Form {
    prefix: &'static str,
    len_min: usize,
    /// The prefix is short or an English syllable: it counts only where a word begins.
    begins_word: bool,
}

const fn form(prefix: &'static str, len_min: usize) -> Form {
    Form { prefix, len_min, begins_word: false }
}

const fn word(prefix: &'static str, len_min: usize) -> Form {
    Form { prefix, len_min, begins_word: true }
}

static FORMS: [Form; 15] = [
    form("vk_", 8),
    word("at_", 20),
    word("sk-", 12),
    word("sk_", 12),
    form("AIza", 16),
    form("gsk_", 12),
    word("xai-", 12),
    form("AKIA", 12),
    form("ASIA", 12),
    form(JWT, 12),
    word("hf_", 16),
    word("csk-", 12),
    form("nvapi-", 12),
    word("pplx-", 12),
    word("fw_", 16),
];

/// What every JSON Web Token begins with: `{"` in base64.
const JWT: &str = "eyJ";

/// Schemes of `authorization`: what follows them is a credential, whatever it looks like.
static SCHEMES: [&str; 2] = ["bearer", "basic"];

/// Names whose values are secret, in headers, maps and parameters. The value goes to the end of the
/// line: a value may hold any quote or separator.
static SECRET_NAMES: [&str; 12] = [
    "proxy-authorization",
    "authorization",
    "x-api-key",
    "x-goog-api-key",
    "x-amz-security-token",
    "api-key",
    "api_key",
    "apikey",
    "set-cookie",
    "cookie",
    "password",
    "passwd",
];

/// Whether a field of this name must not show its value.
pub(crate) fn is_secret_name(name: &str) -> bool {
    SECRET_NAMES.iter().any(|secret| secret.eq_ignore_ascii_case(name))
}

/// `text` without secrets, at most `bytes_max` bytes of it, and a mark where it was cut.
pub(crate) fn redact(text: &str, bytes_max: usize) -> String {
    let mut out = String::with_capacity(text.len().min(bytes_max));
    let mut rest = text;
    while out.len() <= bytes_max {
        if let Some((kept, after)) = secret_at(rest, &out) {
            out.push_str(kept);
            out.push_str(MASK);
            rest = after;
            continue;
        }
        let mut chars = rest.chars();
        let Some(next) = chars.next() else { return out };
        out.push(next);
        rest = chars.as_str();
    }
    // Cut after redacting, so that no half of a secret is too short to be known as one.
    out.truncate(out.floor_char_boundary(bytes_max));
    out.push('…');
    out
}

/// `text` without keys and credentials, wherever they stand. What is only named as one stays: a text
/// of people may speak of passwords.
pub(crate) fn redact_keys(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    loop {
        let begins_word = ends_outside_word(&out);
        let is_letter = rest.starts_with(|c: char| c.is_ascii_alphabetic());
        let key = is_letter.then(|| {
            let forms = FORMS.iter().filter(|form| begins_word || !form.begins_word);
            let key = forms.into_iter().find_map(|form| key_at(rest, form));
            key.or_else(|| begins_word.then(|| scheme_at(rest)).flatten())
        });
        if let Some((kept, after)) = key.flatten() {
            out.push_str(kept);
            out.push_str(MASK);
            rest = after;
            continue;
        }
        let mut chars = rest.chars();
        let Some(next) = chars.next() else { return out };
        out.push(next);
        rest = chars.as_str();
    }
}

/// The beginning of `text`, up to where it quotes what a client or a provider sent.
///
/// Pingora describes a head it could not parse with up to 2 KiB of its raw bytes, and adds a summary
/// of the request to many messages; other crates quote in the same manner.
pub(crate) fn without_quotes_of_peers(text: &str) -> String {
    const MARKS: [&str; 8] = [
        "\"",
        "`",
        "buf: ",
        ", Host:",
        "header value",
        "authority from host",
        "accept-encoding",
        "\r\n",
    ];
    let context = text.contains("InvalidHTTPHeader").then_some(" context:");
    let cut = MARKS.into_iter().chain(context).filter_map(|mark| text.find(mark)).min();
    match cut.and_then(|cut| text.get(..cut)) {
        Some(kept) => format!("{kept}…"),
        None => text.to_owned(),
    }
}

/// A secret at the beginning of `rest`: what of it may be shown, and the text behind it.
fn secret_at<'a>(rest: &'a str, before: &str) -> Option<(&'a str, &'a str)> {
    let first = rest.chars().next()?;
    if first == '?' {
        return query_at(rest, before);
    }
    if first == ':' {
        return user_at(rest);
    }
    if !first.is_ascii_alphabetic() {
        return None;
    }
    let begins_word = ends_outside_word(before);
    let key = FORMS
        .iter()
        .filter(|form| begins_word || !form.begins_word)
        .find_map(|form| key_at(rest, form));
    match key {
        None if begins_word => scheme_at(rest).or_else(|| named_at(rest)),
        key => key,
    }
}

fn key_at<'a>(rest: &'a str, form: &Form) -> Option<(&'a str, &'a str)> {
    let body = rest.strip_prefix(form.prefix)?;
    let is_key_char = |c: char| {
        c.is_ascii_alphanumeric() || c == '_' || c == '-' || (form.prefix == JWT && c == '.')
    };
    let after = body.trim_start_matches(is_key_char);
    (body.len() - after.len() >= form.len_min).then_some((form.prefix, after))
}

/// `Bearer …`, also where the space between was encoded for a URL.
fn scheme_at(rest: &str) -> Option<(&str, &str)> {
    SCHEMES.iter().find_map(|scheme| {
        let (name, after) = split_ignoring_case(rest, scheme)?;
        let credential = match after.strip_prefix("%20").or_else(|| after.strip_prefix('+')) {
            Some(credential) => credential,
            None => after.strip_prefix(char::is_whitespace)?.trim_start(),
        };
        let behind = credential.trim_start_matches(|c: char| !c.is_whitespace() && c != '"');
        (behind.len() < credential.len()).then_some((name, behind))
    })
}

/// `x-api-key: …`, `"authorization": "…"`, `password=…`: to the end of the line.
fn named_at(rest: &str) -> Option<(&str, &str)> {
    SECRET_NAMES.iter().find_map(|secret| {
        let (name, after) = split_ignoring_case(rest, secret)?;
        // Quoted in JSON or `Debug`, perhaps inside another string.
        let unquoted = after.trim_start_matches(['\\', '"', '\'']);
        let is_quoted = unquoted.len() < after.len();
        let is_separator = |c| matches!(c, ':' | '=') || is_quoted && c == ',';
        let value = unquoted.trim_start_matches(' ').strip_prefix(is_separator)?;
        let behind = value.trim_start_matches(|c| c != '\r' && c != '\n');
        (behind.len() < value.len()).then_some((name, behind))
    })
}

/// A query string: what follows a `?` that follows something without a space.
fn query_at<'a>(rest: &'a str, before: &str) -> Option<(&'a str, &'a str)> {
    let follows_path = before.chars().next_back().is_some_and(|c| !c.is_whitespace());
    let query = rest.strip_prefix('?')?;
    let behind = query.trim_start_matches(|c: char| !c.is_whitespace());
    (follows_path && behind.len() < query.len()).then_some(("?", behind))
}

/// The user and password of a URL.
fn user_at(rest: &str) -> Option<(&str, &str)> {
    let authority = rest.strip_prefix("://")?;
    let len = authority
        .find(|c: char| c.is_whitespace() || matches!(c, '/' | '?' | '#' | '"' | '\''))
        .unwrap_or(authority.len());
    let at = authority.get(..len)?.rfind('@')?;
    Some(("://", authority.get(at..)?))
}

fn split_ignoring_case<'a>(text: &'a str, prefix: &str) -> Option<(&'a str, &'a str)> {
    let (start, rest) = text.split_at_checked(prefix.len())?;
    start.eq_ignore_ascii_case(prefix).then_some((start, rest))
}

/// Whether a word can begin behind `before`: behind no letter or digit, or behind an encoded byte.
fn ends_outside_word(before: &str) -> bool {
    match before.as_bytes() {
        [.., b'%', high, low] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => true,
        [.., last] => !last.is_ascii_alphanumeric(),
        [] => true,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn redacted(text: &str) -> String {
        redact(text, 2048)
    }

    #[test]
    fn text_of_people_loses_its_keys_alone() {
        let text = r#"{"messages":[{"content":"password: tell me? vk_CANARYab12cd34 and Bearer abc.def, sk-live-CANARY123456"}]}"#;
        let kept = r#"{"messages":[{"content":"password: tell me? vk_[REDACTED] and Bearer[REDACTED] sk-[REDACTED]"}]}"#;
        assert_eq!(redact_keys(text), kept);
    }

    #[test]
    fn every_kind_of_secret_goes_wherever_it_stands() {
        let secrets = [
            "vk_CANARYab12cd34ef56gh78ij90kl12mn34op56qr78st90uv",
            "at_CANARYab12cd34ef56gh78ij90kl12mn34op56qr78s",
            "sk-proj-CANARYab12cd34",
            "sk-ant-api03-CANARYab12_cd34",
            "AIzaSyCANARYab12cd34ef56gh78",
            "gsk_CANARYab12cd34ef56",
            "xai-CANARYab12cd34ef56",
            "AKIACANARYAB12CD34EF",
            "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJDQU5BUlki.CANARYsig_n",
            "Bearer CANARY",
            "Basic CANARY==",
        ];
        let frames = [
            "{}",
            "key {} refused",
            "\"{}\"",
            "/v1/{}/x",
            "token={}",
            "a\n{}\nb",
            "x%20{}",
            "({})",
            "\u{2028}{}",
        ];
        for secret in secrets {
            for frame in frames {
                let text = redacted(&frame.replace("{}", secret));
                assert!(
                    !text.contains("CANARY") && text.contains(MASK),
                    "{frame} {secret}: {text}"
                );
            }
        }
    }

    #[test]
    fn headers_queries_and_users_of_urls_go() {
        for (text, expected) in [
            ("GET /v1/models?key=CANARY HTTP/1.1", "GET /v1/models?[REDACTED] HTTP/1.1"),
            ("X-Api-Key: CANARY b\"c\r\nhost: a", "X-Api-Key[REDACTED]\r\nhost: a"),
            ("{\"authorization\": \"CANARY\", \"a\": 1}", "{\"authorization[REDACTED]"),
            ("\"{\\\"cookie\\\": \\\"CANARY\\\"}\"", "\"{\\\"cookie[REDACTED]"),
            ("(\"x-api-key\", \"CANARY\")", "(\"x-api-key[REDACTED]"),
            ("no authorization, no cookie", "no authorization, no cookie"),
            ("postgres://me:CANARY@host/db", "postgres://[REDACTED]@host/db"),
            ("password=CANARY and more", "password[REDACTED]"),
            ("is it? yes. why?", "is it? yes. why?"),
            ("at_least_one", "at_least_one"),
            ("vk_ab12…wxyz", "vk_ab12…wxyz"),
            (
                "task-oriented and disk-space-is-exhausted",
                "task-oriented and disk-space-is-exhausted",
            ),
        ] {
            assert_eq!(redacted(text), expected);
        }
    }

    #[test]
    fn text_is_cut_at_a_character_and_says_so() {
        assert_eq!(redact("ééé", 3), "é…");
        assert_eq!(redact("abc", 3), "abc");
        let long = format!("{}vk_{}", "x".repeat(2040), "s".repeat(10_000_000));
        assert_eq!(redact(&long, 2048).len(), 2048 + '…'.len_utf8());
    }

    #[test]
    fn raw_heads_in_other_crates_messages_are_cut() {
        for (message, kept) in [
            (
                "Fail to proxy: Upstream InvalidHTTPHeader context: buf: HTTP/1.1 CANARY",
                "Fail to proxy: Upstream InvalidHTTPHeader…",
            ),
            (
                "fails: Downstream WriteError, GET /, Host: CANARY",
                "fails: Downstream WriteError, GET /…",
            ),
            ("failed to parse accept-encoding CANARY", "failed to parse …"),
            ("invalid Content-Length header value: CANARY", "invalid Content-Length …"),
            ("bad name `CANARY`", "bad name …"),
        ] {
            assert_eq!(without_quotes_of_peers(message), kept);
        }
        assert_eq!(without_quotes_of_peers("H2 ping timeout"), "H2 ping timeout");
    }

    proptest! {
        #[test]
        fn any_surroundings_never_show_the_secret(before in "\\PC{0,40}", after in "\\PC{0,40}") {
            let text = redacted(&format!("{before} vk_CANARYab12cd34ef56 {after}"));
            prop_assert!(!text.contains("CANARY"));
        }

        #[test]
        fn redacting_never_fails_and_is_bounded(text in "[ -~\\?:@=%éb\"vk_sj-]{0,300}", max in 0_usize..200) {
            prop_assert!(redact(&text, max).len() <= max + '…'.len_utf8());
        }
    }
}
