//! Seals where Google has them: in `thoughtSignature`, which clients take for base64.

use crate::dialect::Dialect;
use crate::translate::base64;
use crate::translate::form::{SEAL_MARK, Seal, Thinking};

/// Stands for the id of a thought that is kept secret.
pub(super) const REDACTED: &str = "redacted";
/// How base64 of the mark of a carried seal begins.
pub(in crate::translate) const MARK: &str = "c2x1aWNlLXNlYWw6";

/// A seal with the id of what it seals: Google's own, or a carried one of another.
pub(super) fn read(text: &str) -> (Seal, Option<String>) {
    let carried = || {
        let text = text.strip_prefix(MARK).map(|_| base64::decode(text))??;
        let text = String::from_utf8(text).ok()?;
        Some(Seal::read(&text, Dialect::Gemini))
    };
    let own = || (Seal { origin: Dialect::Gemini, value: text.to_owned() }, None);
    carried().unwrap_or_else(own)
}

/// What seals a thought, for a client of Google's dialect.
pub(super) fn written(thinking: &Thinking) -> Option<String> {
    let text = thinking.sealed_text(Dialect::Gemini)?;
    Some(if text.starts_with(SEAL_MARK) { base64::encode(text.as_bytes()) } else { text })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seal_of_another_comes_back() {
        let seal = Seal { origin: Dialect::Messages, value: "SIG+/=".to_owned() };
        for (id, is_redacted) in [(None, false), (Some("a".to_owned()), false), (None, true)] {
            let seal = Some(seal.clone());
            let text =
                written(&Thinking { id: id.clone(), text: String::new(), seal, is_redacted });
            let text = text.unwrap();
            assert!(text.starts_with(MARK), "{text}");
            // Some write it back with the other two characters.
            for text in [text.clone(), text.replace('+', "-").replace('/', "_")] {
                let (seal, told) = read(&text);
                assert_eq!((seal.origin, seal.value.as_str()), (Dialect::Messages, "SIG+/="));
                let expected = if is_redacted { Some(REDACTED.to_owned()) } else { id.clone() };
                assert_eq!(told, expected);
            }
        }
    }
}
