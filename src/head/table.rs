//! Which bytes may stand where.

/// A set of bytes, looked up in one load.
pub(super) struct Bytes([bool; 256]);

impl Bytes {
    pub(super) const fn has(&self, byte: u8) -> bool {
        #[expect(clippy::indexing_slicing, reason = "256 entries, one for each byte")]
        self.0[byte as usize]
    }

    pub(super) fn has_all(&self, bytes: &[u8]) -> bool {
        // Without an early end, which lets the compiler look at several bytes at a time.
        bytes.iter().fold(true, |all, &byte| all & self.has(byte))
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

/// Path and query of RFC 3986, without checking the digits after `%`. No fragment.
pub(super) static TARGET: Bytes = Bytes::of(b"-._~:/?[]@!$&'()*+,;=%").with_alphanumerics();

/// A host name or an IPv4 address. `_` is in the names of containers.
pub(super) static HOST_NAME: Bytes = Bytes::of(b"-._~").with_alphanumerics();

/// What stands between the brackets of an IPv6 address.
pub(super) static IPV6: Bytes =
    Bytes::of(b":.").with_range(b'0', b'9').with_range(b'A', b'F').with_range(b'a', b'f');

/// A chunk's extensions: visible ASCII, space and tab.
pub(super) static EXTENSION: Bytes = Bytes::of(b"\t").with_range(b' ', b'~');
