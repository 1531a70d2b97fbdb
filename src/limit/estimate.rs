//! How many tokens a request will have, before a provider has counted them.
//!
//! Bytes of text divided by what a token of this family of models has been: 4 to begin with, then a
//! moving average of what providers report. Of a JSON body the texts count, field names included:
//! the frame around a message costs tokens too. Encoded files do not count by their length.

/// Bytes per token before anything is known, in thousandths.
const BYTES_PER_TOKEN: u32 = 4_000;
/// No text has been seen outside of these.
const BYTES_PER_TOKEN_RANGE: (u32, u32) = (500, 16_000);
/// Output tokens of a request that sets no bound, before anything is known.
const OUTPUT_TOKENS: u32 = 500;
/// The weight of one report is one part in so many.
const INERTIA: i64 = 16;
/// Shorter texts say more about the frame than about the language.
const SAMPLE_BYTES_MIN: u64 = 64;
/// Tokens of an encoded file, whatever its size: what providers count for a picture of usual size.
const FILE_TOKENS: u64 = 1_000;
/// An unbroken text of this length without blanks is taken for an encoded file.
const FILE_BYTES_MIN: usize = 1_024;

/// What is known of a family of models. Two numbers, so that it fits in one atomic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Learned {
    /// In thousandths.
    bytes_per_token: u32,
    /// The average answer.
    output_tokens: u32,
}

impl Default for Learned {
    fn default() -> Self {
        Self { bytes_per_token: BYTES_PER_TOKEN, output_tokens: OUTPUT_TOKENS }
    }
}

/// What stands in a body, as far as it makes tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TextBytes {
    pub text: u64,
    /// Encoded files, which are counted by the piece.
    pub files: u64,
}

impl Learned {
    pub const fn to_bits(self) -> u64 {
        (self.bytes_per_token as u64) << 32 | self.output_tokens as u64
    }

    #[expect(clippy::cast_possible_truncation, reason = "the lower half is meant")]
    pub const fn from_bits(bits: u64) -> Self {
        Self { bytes_per_token: (bits >> 32) as u32, output_tokens: bits as u32 }
    }

    pub fn input_tokens(self, bytes: TextBytes) -> u64 {
        let text = bytes.text.saturating_mul(1_000).div_ceil(u64::from(self.bytes_per_token));
        text.saturating_add(bytes.files.saturating_mul(FILE_TOKENS))
    }

    /// What an answer without a bound is expected to have.
    pub const fn output_tokens(self) -> u64 {
        self.output_tokens as u64
    }

    /// Takes in what a provider has counted of a request.
    #[must_use]
    pub fn observed(self, bytes: TextBytes, input_tokens: u64, output_tokens: u64) -> Self {
        let mut learned = self;
        let is_sample = bytes.files == 0 && SAMPLE_BYTES_MIN <= bytes.text && 0 < input_tokens;
        if is_sample {
            let (min, max) = BYTES_PER_TOKEN_RANGE;
            let sample = bytes.text.saturating_mul(1_000) / input_tokens;
            let sample = u32::try_from(sample).unwrap_or(max).clamp(min, max);
            learned.bytes_per_token = towards(self.bytes_per_token, sample);
        }
        if 0 < output_tokens {
            let sample = u32::try_from(output_tokens).unwrap_or(u32::MAX / 2);
            learned.output_tokens = towards(self.output_tokens, sample).max(1);
        }
        learned
    }
}

/// One step from `average` to `sample`, of at least 1 while they differ.
fn towards(average: u32, sample: u32) -> u32 {
    let gap = i64::from(sample) - i64::from(average);
    let step = gap / INERTIA;
    let step = if step == 0 { gap.signum() } else { step };
    u32::try_from(i64::from(average) + step).unwrap_or(average)
}

/// The models that share a tokenizer, near enough: `gpt-4o` of `openai/gpt-4o-mini-2024-07-18`.
pub fn family(upstream_model: &str) -> &str {
    let name = upstream_model.rsplit('/').next().unwrap_or(upstream_model);
    let second_dash = name.match_indices(['-', ':', '?']).nth(1).map(|(at, _)| at);
    second_dash.and_then(|at| name.get(..at)).unwrap_or(name)
}

/// The text in a JSON body: everything in quotes, escapes as the letters they stand for.
pub fn text_bytes(body: &[u8]) -> TextBytes {
    let mut found = TextBytes::default();
    let mut rest = body;
    while let Some(open) = memchr::memchr(b'"', rest) {
        rest = rest.get(open + 1..).unwrap_or_default();
        let mut text = 0;
        let mut is_plain = true;
        let mut at = 0;
        // A text ends at the first quote that is not escaped.
        while let Some(next) = rest.get(at..).and_then(|rest| memchr::memchr2(b'"', b'\\', rest)) {
            text += next;
            at += next;
            if rest.get(at) == Some(&b'"') {
                break;
            }
            let is_code_point = rest.get(at + 1) == Some(&b'u');
            text += 1 + usize::from(is_code_point);
            at += if is_code_point { 6 } else { 2 };
            is_plain = false;
        }
        let inside = rest.get(..at).unwrap_or(rest);
        if is_plain && FILE_BYTES_MIN <= text && is_encoded(inside) {
            found.files += 1;
        } else {
            found.text += text as u64;
        }
        rest = rest.get(at + 1..).unwrap_or_default();
    }
    found
}

/// Whether a long text looks like base64: no blank in its beginning, and every byte of its alphabet
/// or of a data URL's head.
fn is_encoded(text: &[u8]) -> bool {
    let head = text.get(..FILE_BYTES_MIN).unwrap_or(text);
    head.iter().all(|byte| byte.is_ascii_alphanumeric() || b"+/=-_:;,.".contains(byte))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(text: u64) -> TextBytes {
        TextBytes { text, files: 0 }
    }

    #[test]
    fn text_of_a_body_is_what_stands_in_quotes() {
        let body =
            br#"{"model":"m","n":12,"messages":[{"role":"user","content":"a\nb \u00e9\""}]}"#;
        // model m n messages role user content, then `a b é"` with é as two bytes.
        let names = 5 + 1 + 1 + 8 + 4 + 4 + 7;
        assert_eq!(text_bytes(body), text(names + 7));
        assert_eq!(text_bytes(b""), text(0));
        assert_eq!(text_bytes(br#"{"open"#), text(0));
    }

    #[test]
    fn encoded_file_counts_by_the_piece() {
        let picture = "iVBORw0KGgo".repeat(200);
        let body = format!(r#"{{"url":"data:image/png;base64,{picture}","text":"hi"}}"#);
        assert_eq!(text_bytes(body.as_bytes()), TextBytes { text: 9, files: 1 });
        let prose = "a long text with blanks in it ".repeat(100);
        let body = format!(r#"{{"text":"{prose}"}}"#);
        assert_eq!(text_bytes(body.as_bytes()).files, 0);
    }

    #[test]
    fn estimate_comes_to_what_is_reported() {
        let mut learned = Learned::default();
        assert_eq!(learned.input_tokens(text(4_000)), 1_000);
        for _ in 0..100 {
            learned = learned.observed(text(3_000), 1_000, 80);
        }
        assert!((1_000..=1_010).contains(&learned.input_tokens(text(3_000))), "{learned:?}");
        assert!((79..=81).contains(&learned.output_tokens()), "{learned:?}");
    }

    #[test]
    fn families() {
        let families = [
            ("gpt-4o", "gpt-4o"),
            ("gpt-4o-mini-2024-07-18", "gpt-4o"),
            ("openai/gpt-4o", "gpt-4o"),
            ("claude-sonnet-4-5", "claude-sonnet"),
            ("o3", "o3"),
            ("sim?tokens=5&output=2", "sim?tokens=5&output=2"),
        ];
        for (model, expected) in families {
            assert_eq!(family(model), expected);
        }
    }

    proptest! {
        #[test]
        fn any_body_can_be_estimated(body in prop::collection::vec(any::<u8>(), 0..400)) {
            let found = text_bytes(&body);
            prop_assert!(found.text <= body.len() as u64);
        }

        #[test]
        fn learning_stays_in_bounds(
            reports in prop::collection::vec((any::<u64>(), any::<u64>(), any::<u64>()), 0..50),
        ) {
            let mut learned = Learned::default();
            for (bytes, input, output) in reports {
                learned = learned.observed(text(bytes), input, output);
                let (min, max) = BYTES_PER_TOKEN_RANGE;
                prop_assert!((min..=max).contains(&learned.bytes_per_token));
                prop_assert!(1 <= learned.output_tokens);
                prop_assert_eq!(Learned::from_bits(learned.to_bits()), learned);
            }
        }
    }
}
