//! What a Claude model takes, told from its name.

/// The generation of a model: `claude-sonnet-4-5-20250929` is 4.5.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::translate) struct Generation(u16, u16);

/// A name that says nothing is taken for a model of the present.
const PRESENT: Generation = Generation(u16::MAX, 0);
/// Decides by itself how much it thinks; before, it is told a budget.
const ADAPTIVE: Generation = Generation(4, 6);
const XHIGH: Generation = Generation(4, 7);
/// Takes a schema for its answer.
const SCHEMAS: Generation = Generation(4, 5);

impl Generation {
    pub(in crate::translate) fn of(model: &str) -> Self {
        let Some((_, name)) = model.rsplit_once("claude") else { return PRESENT };
        let mut numbers = name
            .split(|char: char| !char.is_ascii_alphanumeric())
            .filter(|word| word.len() <= 2)
            .filter_map(|word| word.parse::<u16>().ok());
        match (numbers.next(), numbers.next()) {
            (Some(major), minor) => Self(major, minor.unwrap_or(0)),
            (None, _) => PRESENT,
        }
    }

    pub(in crate::translate) fn is_adaptive(self) -> bool {
        ADAPTIVE <= self
    }

    pub(in crate::translate) fn takes_xhigh(self) -> bool {
        XHIGH <= self
    }

    pub(in crate::translate) fn takes_schema(self) -> bool {
        SCHEMAS <= self
    }

    /// What is asked for when the client does not say how long an answer may be.
    pub(in crate::translate) const fn max_tokens(self) -> u64 {
        match self {
            Self(0..=2, _) | Self(3, 0..=4) => 4_096,
            Self(3, 5..=6) => 8_192,
            _ => 32_000,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generation_is_read_from_every_way_of_writing_it() {
        for (name, generation) in [
            ("claude-3-5-sonnet-20241022", Generation(3, 5)),
            ("claude-3-haiku-20240307", Generation(3, 0)),
            ("claude-opus-4-20250514", Generation(4, 0)),
            ("claude-sonnet-4-5", Generation(4, 5)),
            ("us.anthropic.claude-opus-4-6-v1:0", Generation(4, 6)),
            ("anthropic/claude-opus-4.7", Generation(4, 7)),
            ("claude-sonnet-5", Generation(5, 0)),
            ("claude-sonnet-4@20250514", Generation(4, 0)),
            ("sim", PRESENT),
        ] {
            assert_eq!(Generation::of(name), generation, "{name}");
        }
    }
}
