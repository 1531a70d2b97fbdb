//! Percent-encoding, as URLs and forms have it. Pure.

use std::fmt::Write as _;

/// `@` as `%40`; what stays are the unreserved characters and those of `plain`.
pub fn encoded(text: &str, plain: &str) -> String {
    let mut encoded = String::with_capacity(text.len() + 16);
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte));
            }
            _ if plain.as_bytes().contains(&byte) => encoded.push(char::from(byte)),
            // Writing into a text cannot fail.
            _ => drop(write!(encoded, "%{byte:02X}")),
        }
    }
    encoded
}

/// `%40` as `@`; an error says what the text must be.
pub fn decoded(text: &str) -> Result<String, &'static str> {
    const WRONG: &str = "must have two hexadecimal digits after each `%`";
    let mut bytes = Vec::with_capacity(text.len());
    let mut parts = text.split('%');
    bytes.extend_from_slice(parts.next().unwrap_or_default().as_bytes());
    for part in parts {
        let (digits, rest) = part.split_at_checked(2).ok_or(WRONG)?;
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(WRONG);
        }
        bytes.push(u8::from_str_radix(digits, 16).map_err(|_| WRONG)?);
        bytes.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8(bytes).map_err(|_| "must be UTF-8 once decoded")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn unreserved_and_named_characters_stay() {
        assert_eq!(encoded("a-Z_0.~ /@:é", "@:"), "a-Z_0.~%20%2F@:%C3%A9");
    }

    #[test]
    fn what_is_no_encoding_is_refused() {
        assert_eq!(decoded("p%40s%3a%25%2F"), Ok("p@s:%/".to_owned()));
        for wrong in ["%", "%4", "%4g", "%zz", "%+1", "%é", "a%é0", "%ff"] {
            assert!(decoded(wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn decoding_undoes_encoding(text in any::<String>()) {
            prop_assert_eq!(decoded(&encoded(&text, "/")), Ok(text));
        }
    }
}
