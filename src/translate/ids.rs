//! Ids in the shape that a dialect's clients expect.

const PREFIXES: [&str; 3] = ["chatcmpl-", "resp_", "msg_"];

fn bare(id: &str) -> &str {
    PREFIXES.iter().find_map(|prefix| id.strip_prefix(prefix)).unwrap_or(id)
}

pub(super) fn completion(id: &str) -> String {
    format!("chatcmpl-{}", bare(id))
}

pub(super) fn message(id: &str) -> String {
    format!("msg_{}", bare(id))
}

pub(super) fn response(id: &str) -> String {
    format!("resp_{}", bare(id))
}

/// The id of an item of a response.
pub(super) fn item(prefix: &str, response: &str, index: usize) -> String {
    let response = bare(response).bytes().map(|byte| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' => char::from(byte),
        _ => '_',
    });
    format!("{prefix}_{}_{index}", response.collect::<String>())
}
