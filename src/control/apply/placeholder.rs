//! What stands in an export where a credential was.

use serde_json::json;

use crate::control::edit::Draft;

/// The env var that stands for the credential of a connection, as `${SLUICE_ACME_PRODUCTION_MAIN}`.
pub(super) fn of(path: &str, name: &str) -> String {
    let mut letters = String::from("SLUICE");
    for part in path.split('/').chain([name]).filter(|part| !part.is_empty()) {
        letters.push('_');
        letters.extend(
            part.chars().map(
                |c| {
                    if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }
                },
            ),
        );
    }
    format!("${{{letters}}}")
}

/// A connection whose credential is a placeholder is made without one, and disabled.
pub(super) fn leave_out(draft: &mut Draft) {
    let is_placeholder = draft.secret.as_ref().is_some_and(|secret| is_one(secret.expose()));
    if is_placeholder {
        draft.secret = None;
        draft.spec.insert("enabled".to_owned(), json!(false));
    }
}

fn is_one(text: &str) -> bool {
    let name = text.strip_prefix("${").and_then(|rest| rest.strip_suffix('}'));
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    name.is_some_and(|name| !name.is_empty() && name.bytes().all(is_letter))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholder_is_known_again() {
        let made = of("acme/eu-west", "open ai");
        assert_eq!(made, "${SLUICE_ACME_EU_WEST_OPEN_AI}");
        assert!(is_one(&made));
        assert!(!is_one("sk-live") && !is_one("${a b}") && !is_one("${}"));
    }
}
