//! Whether a request is a fill-in-the-middle completion: code before and after a gap, between the
//! marks that a model of code was trained on.
//!
//! Coding tools send them as chats, too. A system prompt would only be taken for code.

use memchr::memmem::find;

/// The marks before and after what is known, without the brackets around them: encoders of JSON
/// write those as they like.
const MARKS: [(&str, &str); 7] = [
    ("fim_prefix", "fim_suffix"),
    ("fim-prefix", "fim-suffix"),
    ("fim\u{2581}begin", "fim\u{2581}hole"),
    (r"fim\u2581begin", r"fim\u2581hole"),
    ("code_prefix|", "code_suffix|"),
    ("<PRE>", "<SUF>"),
    ("[PREFIX]", "[SUFFIX]"),
];

/// The brackets of the marks that have them left out above.
const OPENERS: [&str; 6] = ["<|", "<", r"\u003c|", r"\u003c", "<\u{ff5c}", r"<\uff5c"];

/// Whether the JSON `text` of a request holds both marks of one kind.
pub fn is_fim(text: &str) -> bool {
    MARKS.iter().any(|(before, after)| has_mark(text, before) && has_mark(text, after))
}

fn has_mark(text: &str, mark: &str) -> bool {
    let mut from = 0;
    while let Some(rest) = text.get(from..)
        && let Some(at) = find(rest.as_bytes(), mark.as_bytes())
    {
        let before = rest.get(..at).unwrap_or_default();
        let is_whole = mark.starts_with(['<', '[']);
        if is_whole || OPENERS.iter().any(|opener| before.ends_with(opener)) {
            return true;
        }
        from += at + mark.len();
    }
    false
}
