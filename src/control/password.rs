//! Passwords: Argon2id, and nothing else of them is kept.

use argon2::Argon2;
use argon2::password_hash::{PasswordHash, PasswordHasher as _, PasswordVerifier as _, SaltString};
use ring::rand::{SecureRandom as _, SystemRandom};

use crate::secret::Secret;

pub const CHARS_MIN: usize = 12;
/// Longer ones only cost time.
pub const CHARS_MAX: usize = 512;

/// What RFC 9106 recommends.
const SALT_LEN: usize = 16;

/// The hash of a password in its text form, with its salt and its cost.
pub fn hash(password: &Secret) -> String {
    let mut salt = [0; SALT_LEN];
    SystemRandom::new().fill(&mut salt).expect("the operating system gives random bytes");
    let salt = SaltString::encode_b64(&salt).expect("the salt has a length that is allowed");
    let hash = Argon2::default().hash_password(password.expose().as_bytes(), &salt);
    hash.expect("the default parameters are valid").to_string()
}

/// Whether `password` is the one. Takes the time of a hash even when there is none to compare with.
pub fn matches(password: &Secret, hash: &str) -> bool {
    let Ok(parsed) = PasswordHash::new(hash) else {
        let burnt = self::hash(password);
        return burnt.is_empty();
    };
    Argon2::default().verify_password(password.expose().as_bytes(), &parsed).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_password_itself_matches() {
        let password = Secret::new("correct horse battery".to_owned());
        let hash = hash(&password);
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        assert!(matches(&password, &hash));
        assert!(!matches(&Secret::new("correct horse".to_owned()), &hash));
        assert!(!matches(&password, ""));
    }
}
