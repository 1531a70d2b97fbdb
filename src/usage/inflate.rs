//! Compressed answers, decompressed for the tap only, within bounds.
//!
//! The client gets the compressed bytes, so giving up costs a report of usage and nothing else.

use std::io::{self, Write};

use flate2::write::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};

/// The most that is decompressed of one answer.
const PLAIN_BYTES_MAX: u64 = 20 * 1024 * 1024;
/// The most that one compressed byte may become, beyond `PLAIN_BYTES_FREE`.
const RATIO_MAX: u64 = 100;
/// Short answers may be as repetitive as they like.
const PLAIN_BYTES_FREE: u64 = 64 * 1024;
/// Compressed bytes taken at once, which bounds what waits to be read.
const STEP_BYTES: usize = 4 * 1024;
/// Bytes of a decoder's own buffer.
const BUFFER_BYTES: usize = 4 * 1024;
/// The largest window of a Zstandard stream, as a power of two: 8 MiB, what RFC 9659 allows.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// A `content-encoding` that we read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    Identity,
    Gzip,
    Deflate,
    Brotli,
    Zstd,
}

/// The rest of the answer is not decompressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the compressed answer is malformed or becomes too large")]
pub struct GaveUp;

/// A bounded decoder of one answer.
pub struct Inflater {
    decoder: Decoder,
}

enum Decoder {
    Gzip(MultiGzDecoder<Plain>),
    Zlib(ZlibDecoder<Plain>),
    Deflate(DeflateDecoder<Plain>),
    /// `deflate` is zlib by the standard and bare by custom; the first byte tells.
    ZlibOrDeflate,
    Brotli(Box<brotli::DecompressorWriter<Plain>>),
    Zstd(zstd::stream::write::Decoder<'static, Plain>),
    GaveUp,
}

/// What came out of a decoder and is not read yet.
#[derive(Default)]
struct Plain {
    bytes: Vec<u8>,
    compressed_total: u64,
    total: u64,
}

impl Encoding {
    /// The encoding called `value`. `None` for others, and for several at once.
    pub fn from_header(value: &str) -> Option<Self> {
        let value = value.trim();
        let is = |name: &str| value.eq_ignore_ascii_case(name);
        match value {
            _ if value.is_empty() || is("identity") => Some(Self::Identity),
            _ if is("gzip") || is("x-gzip") => Some(Self::Gzip),
            _ if is("deflate") => Some(Self::Deflate),
            _ if is("br") => Some(Self::Brotli),
            _ if is("zstd") => Some(Self::Zstd),
            _ => None,
        }
    }
}

impl Inflater {
    /// `None` if `encoding` needs no decoder, or there is no memory for one.
    pub fn new(encoding: Encoding) -> Option<Self> {
        let plain = Plain::default();
        let decoder = match encoding {
            Encoding::Identity => return None,
            Encoding::Gzip => Decoder::Gzip(MultiGzDecoder::new(plain)),
            Encoding::Deflate => Decoder::ZlibOrDeflate,
            Encoding::Brotli => {
                Decoder::Brotli(Box::new(brotli::DecompressorWriter::new(plain, BUFFER_BYTES)))
            }
            Encoding::Zstd => {
                let mut decoder = zstd::stream::write::Decoder::new(plain).ok()?;
                decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).ok()?;
                Decoder::Zstd(decoder)
            }
        };
        Some(Self { decoder })
    }

    /// Takes the next compressed bytes. `ototal` gets what they become, in order.
    pub fn push(&mut self, compressed: &[u8], mut ototal: impl FnMut(&[u8])) -> Result<(), GaveUp> {
        for step in compressed.chunks(STEP_BYTES) {
            if let (Decoder::ZlibOrDeflate, Some(first)) = (&self.decoder, step.first()) {
                self.decoder = match first & 0x0F {
                    8 => Decoder::Zlib(ZlibDecoder::new(Plain::default())),
                    _ => Decoder::Deflate(DeflateDecoder::new(Plain::default())),
                };
            }
            let written = self.decoder.write(step);
            self.hand_over(written, &mut ototal)?;
        }
        Ok(())
    }

    /// The answer has ended: hands over what a decoder still has, and says whether it was whole.
    pub fn finish(&mut self, mut ototal: impl FnMut(&[u8])) -> Result<(), GaveUp> {
        let finished = self.decoder.finish();
        self.hand_over(finished, &mut ototal)
    }

    fn hand_over(
        &mut self,
        result: io::Result<()>,
        ototal: &mut impl FnMut(&[u8]),
    ) -> Result<(), GaveUp> {
        if let Some(plain) = self.decoder.plain() {
            ototal(&plain.bytes);
            plain.bytes.clear();
        }
        result.map_err(|_malformed_or_too_large| {
            self.decoder = Decoder::GaveUp;
            GaveUp
        })
    }
}

impl std::fmt::Debug for Inflater {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inflater").finish_non_exhaustive()
    }
}

impl Decoder {
    fn plain(&mut self) -> Option<&mut Plain> {
        Some(match self {
            Self::Gzip(decoder) => decoder.get_mut(),
            Self::Zlib(decoder) => decoder.get_mut(),
            Self::Deflate(decoder) => decoder.get_mut(),
            Self::Brotli(decoder) => decoder.get_mut(),
            Self::Zstd(decoder) => decoder.get_mut(),
            Self::ZlibOrDeflate | Self::GaveUp => return None,
        })
    }

    fn write(&mut self, compressed: &[u8]) -> io::Result<()> {
        if let Some(plain) = self.plain() {
            plain.compressed_total += compressed.len() as u64;
        }
        match self {
            Self::Gzip(decoder) => decoder.write_all(compressed).and_then(|()| decoder.flush()),
            Self::Zlib(decoder) => decoder.write_all(compressed).and_then(|()| decoder.flush()),
            Self::Deflate(decoder) => decoder.write_all(compressed).and_then(|()| decoder.flush()),
            Self::Brotli(decoder) => decoder.write_all(compressed),
            Self::Zstd(decoder) => decoder.write_all(compressed).and_then(|()| decoder.flush()),
            Self::ZlibOrDeflate | Self::GaveUp => Ok(()),
        }
    }

    fn finish(&mut self) -> io::Result<()> {
        match self {
            Self::Gzip(decoder) => decoder.try_finish(),
            Self::Zlib(decoder) => decoder.try_finish().map(drop),
            Self::Deflate(decoder) => decoder.try_finish().map(drop),
            Self::Brotli(decoder) => decoder.close(),
            Self::Zstd(decoder) => decoder.flush(),
            Self::ZlibOrDeflate | Self::GaveUp => Ok(()),
        }
    }
}

impl Write for Plain {
    fn write(&mut self, plain: &[u8]) -> io::Result<usize> {
        self.total += plain.len() as u64;
        let ratio_bytes_max = PLAIN_BYTES_FREE + RATIO_MAX * self.compressed_total;
        if self.total > PLAIN_BYTES_MAX.min(ratio_bytes_max) {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(plain);
        Ok(plain.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gzip(plain: &[u8], level: u32) -> Vec<u8> {
        let level = flate2::Compression::new(level);
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    }

    /// What comes out of `compressed`, and the most of it that came at once.
    fn inflate(compressed: &[u8]) -> (Result<(), GaveUp>, usize, usize) {
        let mut inflater = Inflater::new(Encoding::Gzip).unwrap();
        let (mut total, mut at_once) = (0, 0);
        let result = inflater.push(compressed, |plain| {
            total += plain.len();
            at_once = at_once.max(plain.len());
        });
        (result, total, at_once)
    }

    #[test]
    fn ratio_is_bounded() {
        let bomb = gzip(&vec![0; 8 * 1024 * 1024], 9);
        let (result, total, at_once) = inflate(&bomb);
        assert_eq!(result, Err(GaveUp));
        assert!(total as u64 <= PLAIN_BYTES_FREE + RATIO_MAX * bomb.len() as u64);
        assert!(at_once as u64 <= PLAIN_BYTES_FREE + RATIO_MAX * STEP_BYTES as u64);
    }

    #[test]
    fn size_is_bounded() {
        let long = gzip(&vec![0; 21 * 1024 * 1024], 0);
        let (result, total, _at_once) = inflate(&long);
        assert_eq!(result, Err(GaveUp));
        assert!(total as u64 <= PLAIN_BYTES_MAX);
    }

    #[test]
    fn nothing_is_read_after_giving_up() {
        let mut inflater = Inflater::new(Encoding::Zstd).unwrap();
        assert_eq!(inflater.push(b"not zstd", |_| {}), Err(GaveUp));
        assert_eq!(inflater.push(b"more", |_| panic!("there is nothing to read")), Ok(()));
    }
}
