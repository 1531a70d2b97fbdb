//! The admin token: given by the operator or made at start, kept as a digest.

use ring::digest;
use ring::rand::{SecureRandom, SystemRandom};

use crate::secret::Secret;

/// Whoever gives a token gives at least so many characters.
pub const GIVEN_CHARS_MIN: usize = 32;
/// Random characters of a token that is made: 256 bits.
const MADE_CHARS: usize = 43;
const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    #[error("the admin token needs at least {GIVEN_CHARS_MIN} characters")]
    TooShort,
    #[error("the admin token may hold visible ASCII characters only")]
    NotVisible,
    #[error("the operating system gave no random bytes")]
    NoRandomness,
}

/// The token of this process, and where it came from: one that was made must be shown once.
#[derive(Debug)]
pub enum AdminToken {
    Given(Secret),
    Made(Secret),
}

impl AdminToken {
    /// Takes the token that the operator gave, or makes one: `at_` and 43 characters.
    pub fn new(given: Option<Secret>) -> Result<Self, TokenError> {
        match given {
            None => Ok(Self::Made(make()?)),
            Some(given) if given.expose().chars().count() < GIVEN_CHARS_MIN => {
                Err(TokenError::TooShort)
            }
            // Nothing else can be sent in a header, nor be told from what was meant.
            Some(given) if !given.expose().bytes().all(|byte| byte.is_ascii_graphic()) => {
                Err(TokenError::NotVisible)
            }
            Some(given) => Ok(Self::Given(given)),
        }
    }

    pub fn digest(&self) -> TokenDigest {
        let (Self::Given(secret) | Self::Made(secret)) = self;
        TokenDigest(sha256(secret.expose().as_bytes()))
    }
}

/// The SHA-256 of a token: enough to know it again.
#[derive(Debug, Clone, Copy)]
pub struct TokenDigest(digest::Digest);

impl TokenDigest {
    /// Whether `token` is the one. Takes the same time wherever the two differ.
    pub fn matches(&self, token: &[u8]) -> bool {
        let given = sha256(token);
        let pairs = self.0.as_ref().iter().zip(given.as_ref());
        std::hint::black_box(pairs.fold(0, |all, (a, b)| all | (a ^ b))) == 0
    }
}

/// The token in the value of an `authorization` header.
pub(super) fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(b"bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}

fn sha256(bytes: &[u8]) -> digest::Digest {
    digest::digest(&digest::SHA256, bytes)
}

fn make() -> Result<Secret, TokenError> {
    random("at_", MADE_CHARS)
}

/// `prefix` and so many random characters of base 62.
pub(super) fn random(prefix: &str, chars: usize) -> Result<Secret, TokenError> {
    let random = SystemRandom::new();
    let mut text = String::with_capacity(prefix.len() + chars);
    text.push_str(prefix);
    while text.len() < prefix.len() + chars {
        let mut byte = [0];
        random.fill(&mut byte).map_err(|_unspecified| TokenError::NoRandomness)?;
        // Every character is as likely as any other: 4 × 62 values count, the rest does not.
        if let [byte @ 0..248] = byte
            && let Some(c) = BASE62.get(usize::from(byte % 62))
        {
            text.push(char::from(*c));
        }
    }
    Ok(Secret::new(text))
}

/// What may be shown of a token later.
pub(super) fn hint(token: &Secret) -> String {
    let text = token.expose();
    let end = text.len().saturating_sub(4);
    match (text.get(..7), text.get(end..)) {
        (Some(start), Some(end)) if 20 < text.len() => format!("{start}…{end}"),
        _ => "…".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_token_needs_length_and_visible_characters() {
        let given = |text: &str| AdminToken::new(Some(Secret::new(text.to_owned())));
        assert!(matches!(given(&"x".repeat(31)), Err(TokenError::TooShort)));
        assert!(matches!(given(&"x y".repeat(20)), Err(TokenError::NotVisible)));
        assert!(matches!(given(""), Err(TokenError::TooShort)));
        let token = given(&"x".repeat(32)).unwrap();
        assert!(matches!(token, AdminToken::Given(_)));
        assert!(token.digest().matches("x".repeat(32).as_bytes()));
        assert!(!token.digest().matches("x".repeat(33).as_bytes()));
        assert!(!token.digest().matches(b""));
    }

    #[test]
    fn made_token_is_new_each_time() {
        let made = || match AdminToken::new(None).unwrap() {
            AdminToken::Made(secret) => secret.expose().to_owned(),
            AdminToken::Given(_) => panic!("none was given"),
        };
        let token = made();
        let random = token.strip_prefix("at_").unwrap();
        assert_eq!(random.len(), MADE_CHARS);
        assert!(random.chars().all(|c| c.is_ascii_alphanumeric()));
        assert_ne!(token, made());
    }

    #[test]
    fn bearer_scheme_is_read_in_any_case() {
        assert_eq!(bearer(b"Bearer abc"), Some(&b"abc"[..]));
        assert_eq!(bearer(b"bearer  abc "), Some(&b"abc"[..]));
        assert_eq!(bearer(b"Basic abc"), None);
        assert_eq!(bearer(b"Bearer"), None);
    }
}
