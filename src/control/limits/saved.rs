//! What was used of limits by the hour and longer, in a file: a restart forgets nothing, a kill at
//! most what came after the last writing.
//!
//! The file is written beside itself and renamed, so that it is always whole. A file that cannot be
//! read is put aside, and said so.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use uuid::Uuid;

use super::registry::{CounterKey, Registry, Seen};
use crate::limit::{Dimension, LimitKey, Metric, Now, Period};

/// The first line; a file of another form is not read.
const FORM: &str = "sluice limits 1";

#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    #[error("cannot read {}: {error}", path.display())]
    Read { path: PathBuf, error: std::io::Error },
    #[error("cannot write {}: {error}", path.display())]
    Write { path: PathBuf, error: std::io::Error },
}

/// The file, and what is in it.
#[derive(Debug)]
pub struct Saved {
    path: PathBuf,
    registry: Arc<Registry>,
    written: Vec<Seen>,
}

impl Saved {
    /// Reads the file at `path`, if there is one, into `registry`.
    pub fn open(path: &Path, registry: Arc<Registry>, now: Now) -> Result<Self, SaveError> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(SaveError::Read { path: path.to_owned(), error }),
        };
        match parse(&text) {
            Some(seen) => registry.restore(seen, now),
            None if text.is_empty() => {}
            None => {
                let aside = path.with_extension("unreadable");
                let kept = std::fs::rename(path, &aside);
                tracing::error!(
                    path = %path.display(), aside = %aside.display(), is_kept = kept.is_ok(),
                    "the file with the use of limits cannot be understood; counting from zero"
                );
            }
        }
        let written = registry.lasting();
        Ok(Self { path: path.to_owned(), registry, written })
    }

    /// Writes the file, if something has changed. Blocks.
    pub fn write(&mut self) -> Result<(), SaveError> {
        let seen = self.registry.lasting();
        if seen == self.written {
            return Ok(());
        }
        let refused = |error| SaveError::Write { path: self.path.clone(), error };
        replace(&self.path, &render(&seen)).map_err(refused)?;
        self.written = seen;
        Ok(())
    }
}

fn replace(path: &Path, text: &str) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let beside = path.with_extension("new");
    let mut file = std::fs::File::create(&beside)?;
    file.write_all(text.as_bytes())?;
    file.sync_data()?;
    std::fs::rename(&beside, path)
}

/// A line per counter, its columns parted by tabs; the value of a dimension comes last, in hex, for
/// it may hold anything. The last line says how many there are.
fn render(seen: &[Seen]) -> String {
    let mut text = format!("{FORM}\n");
    for Seen { key: CounterKey { owner, limit }, value, index, used } in seen {
        let (metric, period) = (limit.metric.name(), limit.period.name());
        let written = write!(text, "{owner}\t{metric}\t{period}\t{index}\t{used}");
        written.expect("a string takes everything");
        if let Some(dimension) = &limit.dimension {
            let dimension = write!(text, "\t{dimension}");
            dimension.expect("a string takes everything");
        }
        if let Some(value) = value {
            text.push('\t');
            for byte in value.bytes() {
                write!(text, "{byte:02x}").expect("a string takes everything");
            }
        }
        text.push('\n');
    }
    text.push_str(&format!("end {}\n", seen.len()));
    text
}

/// `None` for what is not a whole file.
fn parse(text: &str) -> Option<Vec<Seen>> {
    let lines = text.strip_prefix(FORM)?.strip_prefix('\n')?;
    let (lines, last) =
        lines.strip_suffix('\n')?.rsplit_once('\n').unwrap_or(("", lines.trim_end()));
    let seen: Option<Vec<Seen>> =
        lines.lines().filter(|line| !line.is_empty()).map(parse_line).collect();
    let seen = seen?;
    (last.strip_prefix("end ")?.parse() == Ok(seen.len())).then_some(seen)
}

fn parse_line(line: &str) -> Option<Seen> {
    let mut columns = line.split('\t');
    let owner = Uuid::parse_str(columns.next()?).ok()?;
    let metric = Metric::from_name(columns.next()?)?;
    let period = Period::from_name(columns.next()?)?;
    let index = columns.next()?.parse().ok()?;
    let used = columns.next()?.parse().ok()?;
    let dimension = match columns.next() {
        None => None,
        Some(name) => Some(Dimension::from_name(name)?),
    };
    let value = match columns.next() {
        None => None,
        Some(hex) => Some(from_hex(hex)?),
    };
    let key = CounterKey { owner, limit: LimitKey { metric, period, dimension } };
    Some(Seen { key, value, index, used })
}

fn from_hex(hex: &str) -> Option<Box<str>> {
    let pairs = hex.as_bytes().chunks(2);
    let byte = |pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    let bytes: Option<Vec<u8>> = pairs.map(byte).collect();
    String::from_utf8(bytes?).ok().map(String::into_boxed_str)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seen() -> impl Strategy<Value = Seen> {
        let dimension = prop_oneof![
            Just(None),
            Just(Some(Dimension::SourceIp)),
            Just(Some(Dimension::EndUser)),
            "[a-z0-9_-]{1,64}".prop_map(|key| Some(Dimension::Metadata(key.into()))),
        ];
        let metric = prop::sample::select(&Metric::ALL[..]);
        let period = prop::sample::select(&Period::ALL[..]);
        (any::<u128>(), metric, period, dimension, any::<String>(), any::<u64>(), any::<u64>())
            .prop_map(|(owner, metric, period, dimension, value, index, used)| {
                let value = dimension.is_some().then(|| value.into_boxed_str());
                let limit = LimitKey { metric, period, dimension };
                let key = CounterKey { owner: Uuid::from_u128(owner), limit };
                Seen { key, value, index, used }
            })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_and_a_part_is_not(all in prop::collection::vec(seen(), 0..9)) {
            let text = render(&all);
            prop_assert_eq!(parse(&text), Some(all));
            for end in 0..text.len() {
                prop_assert_eq!(text.get(..end).and_then(parse), None);
            }
        }
    }
}
