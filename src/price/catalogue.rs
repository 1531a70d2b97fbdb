//! The price catalogue that ships in the binary.
//!
//! A sorted text, searched where it lies: nothing is parsed or allocated before it is asked for.
//! `docs/prices.md` tells where it comes from and how it is refreshed.

use std::cmp::Ordering;

use super::Price;

/// One line per model, sorted by provider and model id. Tabs part the columns; those at the end of
/// a line may be missing. The lines at the top begin with `#`, which sorts before every provider.
static TABLE: &str = include_str!("../../conf/prices.tsv");

/// What the catalogue knows of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    pub price: Price,
    pub kind: Kind,
    pub capabilities: Capabilities,
    /// Tokens that fit in, as the provider states it.
    pub context_window: Option<u64>,
    pub max_output_tokens: Option<u64>,
}

/// What a model is for. There are no image models: their prices are not per token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Chat,
    Embedding,
    Audio,
    Rerank,
    Moderation,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Capability {
    Vision,
    Tools,
    Reasoning,
    JsonSchema,
}

/// A set of capabilities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Capabilities(u8);

/// The catalogue's name, which changes whenever a price does: the `price_version` of a row.
pub fn version() -> &'static str {
    TABLE.lines().next().and_then(|line| line.strip_prefix("# ")).unwrap_or("catalogue")
}

/// The entry of `model`, the provider's own id, at `provider`, a name as in configuration.
///
/// Only what the table lists: a dated id does not stand in for an undated one, nor the reverse.
pub fn lookup(provider: &str, model: &str) -> Option<Entry> {
    Entry::parse(find(TABLE, (provider, model))?)
}

/// Every provider and model id of the catalogue, sorted.
pub fn models() -> impl Iterator<Item = (&'static str, &'static str)> {
    TABLE.lines().filter(|line| !line.starts_with('#')).map(key)
}

/// The line of `wanted`, by bisection: a place in the middle of a line means that line.
fn find<'a>(table: &'a str, wanted: (&str, &str)) -> Option<&'a str> {
    let (mut low, mut high) = (0, table.len());
    while low < high {
        let middle = low + (high - low) / 2;
        let before = table.as_bytes().get(low..middle)?;
        let after = table.as_bytes().get(middle..high)?;
        let start = memchr::memrchr(b'\n', before).map_or(low, |at| low + at + 1);
        let end = memchr::memchr(b'\n', after).map_or(high, |at| middle + at);
        let line = table.get(start..end)?;
        match key(line).cmp(&wanted) {
            Ordering::Equal => return Some(line),
            Ordering::Less => low = end + 1,
            Ordering::Greater => high = start,
        }
    }
    None
}

fn key(line: &str) -> (&str, &str) {
    let mut columns = line.split('\t');
    (columns.next().unwrap_or(""), columns.next().unwrap_or(""))
}

// === impl Entry ===

impl Entry {
    /// `None` for a line that breaks the format; a test holds that there is none.
    fn parse(line: &str) -> Option<Self> {
        let mut columns = line.split('\t').skip(2);
        let kind = Kind::from_name(columns.next()?)?;
        let capabilities = Capabilities::parse(columns.next()?)?;
        let mut number = || match columns.next() {
            None | Some("") => Some(None),
            Some(digits) => digits.parse::<u64>().ok().map(Some),
        };
        Some(Self {
            kind,
            capabilities,
            context_window: number()?,
            max_output_tokens: number()?,
            price: Price {
                input: number()??,
                output: number()??,
                cache_read: number()?,
                cache_write_5m: number()?,
                cache_write_1h: number()?,
                reasoning: number()?,
                audio_in: number()?,
                audio_out: number()?,
            },
        })
    }
}

// === impl Kind ===

impl Kind {
    pub const ALL: [Self; 5] =
        [Self::Chat, Self::Embedding, Self::Audio, Self::Rerank, Self::Moderation];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Embedding => "embedding",
            Self::Audio => "audio",
            Self::Rerank => "rerank",
            Self::Moderation => "moderation",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

// === impl Capability ===

impl Capability {
    pub const ALL: [Self; 4] = [Self::Vision, Self::Tools, Self::Reasoning, Self::JsonSchema];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Vision => "vision",
            Self::Tools => "tools",
            Self::Reasoning => "reasoning",
            Self::JsonSchema => "json_schema",
        }
    }

    /// The letter in the table.
    const fn letter(self) -> char {
        match self {
            Self::Vision => 'v',
            Self::Tools => 't',
            Self::Reasoning => 'r',
            Self::JsonSchema => 'j',
        }
    }
}

// === impl Capabilities ===

impl Capabilities {
    fn parse(letters: &str) -> Option<Self> {
        letters.chars().try_fold(Self(0), |set, letter| {
            let capability = Capability::ALL.into_iter().find(|one| one.letter() == letter)?;
            Some(Self(set.0 | 1 << capability as u8))
        })
    }

    pub const fn contains(self, capability: Capability) -> bool {
        self.0 & (1 << capability as u8) != 0
    }

    pub fn iter(self) -> impl Iterator<Item = Capability> {
        Capability::ALL.into_iter().filter(move |capability| self.contains(*capability))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn price_of(provider: &str, model: &str) -> Price {
        lookup(provider, model).unwrap_or_else(|| panic!("{provider}/{model} is missing")).price
    }

    #[test]
    fn known_models_have_their_prices() {
        let gpt_4o = Price {
            input: 2_500_000_000,
            output: 10_000_000_000,
            cache_read: Some(1_250_000_000),
            ..Price::default()
        };
        assert_eq!(price_of("openai", "gpt-4o"), gpt_4o);
        assert_eq!(price_of("openai", "gpt-4o-2024-08-06"), gpt_4o);
        let sonnet = Price {
            input: 3_000_000_000,
            output: 15_000_000_000,
            cache_read: Some(300_000_000),
            cache_write_5m: Some(3_750_000_000),
            cache_write_1h: Some(6_000_000_000),
            ..Price::default()
        };
        assert_eq!(price_of("anthropic", "claude-sonnet-4-5"), sonnet);
        assert_eq!(price_of("openai", "text-embedding-3-small").input, 20_000_000);
        assert_eq!(price_of("groq", "openai/gpt-oss-120b").output, 600_000_000);
        assert_eq!(price_of("openai", "gpt-4o-audio-preview").audio_out, Some(80_000_000_000));
    }

    #[test]
    fn entry_tells_what_a_model_can_do() {
        let entry = lookup("anthropic", "claude-sonnet-4-5").unwrap();
        assert_eq!(entry.kind, Kind::Chat);
        assert_eq!(entry.context_window, Some(200_000));
        assert_eq!(entry.max_output_tokens, Some(64_000));
        let names: Vec<_> = entry.capabilities.iter().map(Capability::name).collect();
        assert_eq!(names, ["vision", "tools", "reasoning", "json_schema"]);
        let entry = lookup("openai", "text-embedding-3-small").unwrap();
        assert_eq!((entry.kind, entry.capabilities), (Kind::Embedding, Capabilities::default()));
    }

    #[test]
    fn what_the_table_does_not_list_has_no_entry() {
        let header = key(TABLE.lines().nth(2).unwrap());
        let unknown = [
            ("openai", "gpt-4"), // Is listed, to show that the others fail for their own reasons.
            ("openai", "gpt-4o-1999-01-01"),
            ("openai", "gpt-4o\tchat"),
            ("openai", ""),
            ("", ""),
            ("zzz", "zzz"),
            ("anthropic", "gpt-4o"),
            ("simulated", "gpt-4o"),
            header,
        ];
        let found: Vec<_> = unknown.into_iter().filter(|(p, m)| lookup(p, m).is_some()).collect();
        assert_eq!(found, [("openai", "gpt-4")]);
    }

    #[test]
    fn every_line_parses_and_is_found() {
        let mut n_models = 0;
        for (provider, model) in models() {
            let entry = lookup(provider, model);
            assert!(entry.is_some(), "{provider}/{model}");
            n_models += 1;
        }
        assert!(n_models > 1_000, "{n_models}");
    }

    #[test]
    fn lines_are_sorted_and_unique() {
        assert!(models().is_sorted_by(|one, next| one < next));
        assert!(models().all(|(provider, _)| provider > "#"));
        assert!(TABLE.lines().take(3).all(|line| line.starts_with('#')), "the head comes first");
    }

    #[test]
    fn nothing_is_free_but_by_name() {
        for (provider, model) in models() {
            let entry = lookup(provider, model).unwrap();
            let is_free = entry.price.input == 0 && entry.price.output == 0;
            let may_be = entry.kind == Kind::Moderation || model.to_lowercase().ends_with("free");
            assert!(!is_free || may_be, "{provider}/{model}");
            let has_output = !matches!(entry.kind, Kind::Embedding | Kind::Rerank);
            assert!(is_free || !has_output || entry.price.output > 0, "{provider}/{model}");
        }
    }

    #[test]
    fn no_price_is_absurd() {
        for (provider, model) in models() {
            let price = price_of(provider, model);
            // A thousand dollars per million tokens: beyond it, somebody mixed up the units.
            assert!(price.input.max(price.output) <= 1_000_000_000_000, "{provider}/{model}");
            assert!(price.cache_read.is_none_or(|read| read <= price.input), "{provider}/{model}");
        }
    }

    #[test]
    fn version_is_a_date_and_a_digest() {
        let parts: Vec<_> = version().split('-').map(str::len).collect();
        assert_eq!(parts, ["catalogue".len(), 4, 2, 2, 8], "{}", version());
    }

    #[test]
    fn bisection_finds_every_line_of_a_small_table() {
        let table = "# head\na\tx\na\tx-1\nab\tb\nb\t1\n";
        for wanted in [("a", "x"), ("a", "x-1"), ("ab", "b"), ("b", "1")] {
            assert_eq!(find(table, wanted).map(key), Some(wanted));
        }
        for wanted in [("a", ""), ("a", "x-"), ("aa", "b"), ("c", ""), ("", "")] {
            assert_eq!(find(table, wanted), None);
        }
        assert_eq!(find("", ("a", "x")), None);
    }
}
