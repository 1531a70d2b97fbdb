//! Which bytes may stand where.

/// A set of bytes, looked up in one load.
pub(super) struct Bytes([bool; 256]);

impl Bytes {
    pub(super) const fn has(&self, byte: u8) -> bool {
        #[expect(clippy::indexing_slicing, reason = "256 entries, one for each byte")]
        self.0[byte as usize]
    }

    pub(super) fn has_all(&self, bytes: &[u8]) -> bool {
        self.span(bytes) == bytes.len()
    }

    /// How many bytes there are before the first that is not in the set.
    pub(super) fn span(&self, bytes: &[u8]) -> usize {
        // Four lookups between two branches.
        let (groups, _) = bytes.as_chunks();
        let is_within =
            |&[a, b, c, d]: &[u8; 4]| self.has(a) & self.has(b) & self.has(c) & self.has(d);
        let whole = 4 * groups.iter().take_while(|group| is_within(group)).count();
        let rest = bytes.get(whole..).unwrap_or_default();
        whole + rest.iter().take_while(|&&byte| self.has(byte)).count()
    }

    #[expect(clippy::indexing_slicing, reason = "256 entries, one for each byte")]
    const fn of(members: &[u8]) -> Self {
        let mut set = [false; 256];
        let mut rest = members;
        while let [first, others @ ..] = rest {
            set[*first as usize] = true;
            rest = others;
        }
        Self(set)
    }

    #[expect(clippy::indexing_slicing, reason = "256 entries, one for each byte")]
    const fn with_range(mut self, first: u8, last: u8) -> Self {
        let mut byte = first as usize;
        while byte <= last as usize {
            self.0[byte] = true;
            byte += 1;
        }
        self
    }

    const fn with_alphanumerics(self) -> Self {
        self.with_range(b'0', b'9').with_range(b'A', b'Z').with_range(b'a', b'z')
    }
}

/// RFC 9110 `token`.
pub(super) static TOKEN: Bytes = Bytes::of(b"!#$%&'*+-.^_`|~").with_alphanumerics();

/// A token without `_`, which some servers read as `-`.
pub(super) static NAME: Bytes = Bytes::of(b"!#$%&'*+-.^`|~").with_alphanumerics();

/// What a header's value is made of: visible bytes, space, tab and everything beyond ASCII.
pub(super) static VALUE: Bytes = Bytes::of(b"\t").with_range(b' ', b'~').with_range(0x80, 0xff);

/// [`Bytes::span`] of [`VALUE`], eight bytes at a time where there is no tab.
pub(super) fn value_span(bytes: &[u8]) -> usize {
    let (words, _) = bytes.as_chunks();
    let plain = 8 * words.iter().take_while(|word| is_plain(**word)).count();
    plain + VALUE.span(bytes.get(plain..).unwrap_or_default())
}

/// Whether no byte of the word is a control character. Subtracting from every byte at once borrows
/// into its top bit where the byte is smaller; bytes that have that bit themselves are left out.
const fn is_plain(word: [u8; 8]) -> bool {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const TOPS: u64 = u64::from_ne_bytes([0x80; 8]);
    let word = u64::from_ne_bytes(word);
    let is_below_space = word.wrapping_sub(ONES * 0x20) & !word;
    let delete = word ^ (ONES * 0x7f);
    let is_delete = delete.wrapping_sub(ONES) & !delete;
    (is_below_space | is_delete) & TOPS == 0
}

/// Path and query of RFC 3986, without checking the digits after `%`. No fragment.
pub(super) static TARGET: Bytes = Bytes::of(b"-._~:/?[]@!$&'()*+,;=%").with_alphanumerics();

/// A host name or an IPv4 address. `_` is in the names of containers.
pub(super) static HOST_NAME: Bytes = Bytes::of(b"-._~").with_alphanumerics();

/// What stands between the brackets of an IPv6 address.
pub(super) static IPV6: Bytes =
    Bytes::of(b":.").with_range(b'0', b'9').with_range(b'A', b'F').with_range(b'a', b'f');

/// A chunk's extensions: visible ASCII, space and tab.
pub(super) static EXTENSION: Bytes = Bytes::of(b"\t").with_range(b' ', b'~');

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sets_have_the_bytes_that_they_should() {
        for byte in 0..=u8::MAX {
            let is_name = byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^`|~".contains(&byte);
            assert_eq!(NAME.has(byte), is_name, "{byte}");
            assert_eq!(TOKEN.has(byte), is_name || byte == b'_', "{byte}");
            assert_eq!(VALUE.has(byte), byte == b'\t' || !byte.is_ascii_control(), "{byte}");
            let is_control = byte.is_ascii_control();
            for place in 0..8 {
                let mut word = [b'x'; 8];
                word[place] = byte;
                assert_eq!(is_plain(word), !is_control, "{word:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn value_ends_where_the_table_says(
            mut bytes in prop::collection::vec(0x20_u8..0x7f, 0..80),
            odd in prop::collection::vec((0_usize..80, any::<u8>()), 0..4),
        ) {
            for (place, byte) in odd {
                if let Some(slot) = bytes.get_mut(place) {
                    *slot = byte;
                }
            }
            prop_assert_eq!(value_span(&bytes), VALUE.span(&bytes));
        }

        #[test]
        fn word_is_plain_when_no_byte_is_a_control(word: [u8; 8]) {
            prop_assert_eq!(is_plain(word), !word.iter().any(u8::is_ascii_control));
        }
    }
}
