//! Virtual keys: how they look, and what of them is kept.
//!
//! ```text
//! vk_  40 characters of base 62   6 characters of base 62
//!      from the system's          the CRC-32 of everything before, so that a typo
//!      random numbers             or a cut key is refused without a lookup
//! ```
//!
//! The CRC is CRC-32/ISO-HDLC (the one of zlib and PNG) over the 43 ASCII bytes `vk_…`. It is
//! written in base 62 with the alphabet `0-9A-Za-z`, most significant digit first, padded with `0`
//! on the left to 6 characters.
//!
//! Only the SHA-256 of a key is kept: [`digest`].

use std::fmt;

use ring::rand::{SecureRandom, SystemRandom};

use crate::secret::Secret;

pub const PREFIX: &[u8] = b"vk_";
const RANDOM_LEN: usize = 40;
const CRC_LEN: usize = 6;
/// The length of every key.
pub const KEY_LEN: usize = 3 + RANDOM_LEN + CRC_LEN;

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// The SHA-256 of a key: what the gateway stores and looks up.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyDigest(pub [u8; 32]);

/// Why a text cannot be a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyFormatError {
    #[error("a virtual key begins with `vk_`")]
    Prefix,
    #[error("a virtual key has {KEY_LEN} characters")]
    Length,
    #[error("a virtual key holds only letters and digits after `vk_`")]
    Alphabet,
    #[error("the checksum of this virtual key is wrong: it is cut, mistyped or made up")]
    Checksum,
}

/// Makes a key of 238 random bits.
pub fn generate() -> Secret {
    let mut text = String::with_capacity(KEY_LEN);
    text.push_str("vk_");
    let random = SystemRandom::new();
    while text.len() < PREFIX.len() + RANDOM_LEN {
        let mut bytes = [0; 2 * RANDOM_LEN];
        random.fill(&mut bytes).expect("the operating system gives random bytes");
        let missing = PREFIX.len() + RANDOM_LEN - text.len();
        text.extend(bytes.into_iter().filter_map(random_digit).take(missing));
    }
    let crc = crc_digits(text.as_bytes());
    text.extend(crc.map(char::from));
    Secret::new(text)
}

/// Checks the format, without a lookup and without an allocation.
pub fn check(text: &[u8]) -> Result<(), KeyFormatError> {
    if !text.starts_with(PREFIX) {
        return Err(KeyFormatError::Prefix);
    }
    let (payload, crc) = text.split_last_chunk::<CRC_LEN>().ok_or(KeyFormatError::Length)?;
    if text.len() != KEY_LEN {
        return Err(KeyFormatError::Length);
    }
    if !text.iter().skip(PREFIX.len()).all(u8::is_ascii_alphanumeric) {
        return Err(KeyFormatError::Alphabet);
    }
    if crc_digits(payload) != *crc {
        return Err(KeyFormatError::Checksum);
    }
    Ok(())
}

pub fn digest(text: &[u8]) -> KeyDigest {
    let digest = ring::digest::digest(&ring::digest::SHA256, text);
    KeyDigest(digest.as_ref().try_into().expect("SHA-256 has 32 bytes"))
}

/// What may be shown of a key later: `vk_ab12…wxyz`.
pub fn hint(text: &str) -> String {
    let end = text.len().saturating_sub(4);
    match (text.get(..7), text.get(end..)) {
        (Some(start), Some(end)) if text.len() == KEY_LEN => format!("{start}…{end}"),
        _ => "vk_…".to_owned(),
    }
}

/// A random byte as a digit; none for the 8 values that would make some digits more likely.
fn random_digit(byte: u8) -> Option<char> {
    const UNBIASED: u8 = 248; // The largest multiple of 62 in a byte.
    if byte < UNBIASED { Some(char::from(digit((byte % 62).into()))) } else { None }
}

fn crc_digits(payload: &[u8]) -> [u8; CRC_LEN] {
    let mut rest = crc32fast::hash(payload);
    let mut digits = [b'0'; CRC_LEN];
    for place in digits.iter_mut().rev() {
        *place = digit(rest % 62);
        rest /= 62;
    }
    digits
}

fn digit(value: u32) -> u8 {
    ALPHABET.get(value as usize).copied().expect("a digit of base 62 is below 62")
}

impl fmt::Debug for KeyDigest {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Enough to tell two apart in a failed test.
        self.0.iter().take(4).try_for_each(|byte| write!(out, "{byte:02x}"))?;
        out.write_str("…")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Computed apart from this code: zlib's CRC-32 of the first 43 characters is 0xfdb41a61.
    const EXAMPLE: &str = "vk_0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcd4e3aC1";

    #[test]
    fn example_key_is_accepted() {
        assert_eq!(check(EXAMPLE.as_bytes()), Ok(()));
    }

    #[test]
    fn small_checksum_is_padded() {
        assert_eq!(crc_digits(b""), *b"000000");
        // The check value that names CRC-32/ISO-HDLC: 0xcbf43926 = 3421780262.
        assert_eq!(crc_digits(b"123456789"), *b"3jZRME");
    }

    #[test]
    fn each_fault_has_its_name() {
        let key = EXAMPLE;
        let bad_letter = key.replace("0123", "01-3");
        let typo = key.replace("0123", "0132");
        let cut = key.get(..KEY_LEN - 1).unwrap();
        let long = format!("{key}0");
        assert_eq!(check(b""), Err(KeyFormatError::Prefix));
        assert_eq!(check(b"sk-live"), Err(KeyFormatError::Prefix));
        assert_eq!(check(b"vk_"), Err(KeyFormatError::Length));
        assert_eq!(check(b"vk_abc"), Err(KeyFormatError::Length));
        assert_eq!(check(cut.as_bytes()), Err(KeyFormatError::Length));
        assert_eq!(check(long.as_bytes()), Err(KeyFormatError::Length));
        assert_eq!(check(bad_letter.as_bytes()), Err(KeyFormatError::Alphabet));
        assert_eq!(check(typo.as_bytes()), Err(KeyFormatError::Checksum));
    }

    #[test]
    fn generated_keys_are_valid_and_differ() {
        let one = generate();
        let two = generate();
        assert_eq!(check(one.expose().as_bytes()), Ok(()));
        assert_eq!(check(two.expose().as_bytes()), Ok(()));
        assert!(one != two, "two generated keys are equal");
    }

    #[test]
    fn all_characters_are_as_likely() {
        let mut counts = [0_u32; 256];
        for byte in 0..=255 {
            if let Some(digit) = random_digit(byte) {
                counts[digit as usize] += 1;
            }
        }
        assert!(ALPHABET.iter().all(|&digit| counts[usize::from(digit)] == 4));
    }

    #[test]
    fn hint_shows_the_ends_of_a_key_and_nothing_else() {
        assert_eq!(hint(EXAMPLE), "vk_0123…3aC1");
        assert_eq!(hint("vk_short"), "vk_…");
        assert_eq!(hint("ü"), "vk_…");
    }

    #[test]
    fn digest_is_sha_256() {
        assert_eq!(format!("{:?}", digest(b"abc")), "ba7816bf…");
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            prop_assert!(check(&bytes).is_err());
            prop_assert!(check(&[b"vk_", bytes.as_slice()].concat()).is_err());
        }

        #[test]
        fn one_changed_byte_is_noticed(at in 0..KEY_LEN, byte: u8) {
            let mut key = EXAMPLE.as_bytes().to_vec();
            let is_changed = key[at] != byte;
            key[at] = byte;
            prop_assert_eq!(check(&key).is_err(), is_changed);
        }

        #[test]
        fn hint_never_panics_and_is_short(text: String) {
            prop_assert!(hint(&text).chars().count() <= 12);
        }
    }
}
