//! The state as it was last known, in a file: a node that starts while the store does not answer
//! serves from it.
//!
//! After a first line come parts, each with its length before it. Each is sealed together with its
//! place in this one copy, so that none can be read, changed, left out, or taken from another copy.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value as Json, json};
use uuid::Uuid;

use super::resources::{self, ResourceRow};
use super::secrets::{self, KeyRow};
use super::sql::{Row, Value};
use super::{Store, StoreError};
use crate::clock::rfc3339;
use crate::control::seal::{Binding, Vault, hex, unhex};

const MAGIC: &[u8; 20] = b"sluice state copy 1\n";
/// A part is sealed once it is so long.
const PART_BYTES: usize = 1 << 20;
/// A part with one very long row is still read.
const PART_BYTES_MAX: u32 = 1 << 28;

/// What a copy holds.
#[derive(Debug, Default)]
pub struct LastKnown {
    pub revision: i64,
    pub resources: Vec<ResourceRow>,
    pub keys: Vec<KeyRow>,
}

#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the copy of the state {}: {error}", path.display())]
    File { path: PathBuf, error: io::Error },
    #[error("the copy of the state is damaged, or was sealed with another master key")]
    Damaged,
    #[error("the copy of the state was last right at {at}, which is too long ago")]
    Stale { at: String },
}

/// Writes a copy of what the store holds, in place of the one before.
pub fn write(store: &Store, vault: &Vault, path: &Path) -> Result<(), CopyError> {
    let failed = |error| CopyError::File { path: path.to_owned(), error };
    let new = path.with_extension("new");
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    let mut options = OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(0o600).open(&new);
    let mut parts = Parts::begin(file.map_err(failed)?, vault).map_err(failed)?;
    let at = store.clock().unix_micros();
    store.read(|db| {
        parts.put(&json!({ "revision": super::revision(db)?, "at": at }));
        resources::each_but_keys(db, |row| {
            parts.put(&json!({ "resource": json_of(&row) }));
            Ok(())
        })?;
        secrets::each_key_row(db, |row| {
            parts.put(&json!({ "key": json_of(&row) }));
            Ok(())
        })
    })?;
    parts.put(&json!("end"));
    parts.finish().map_err(failed)?;
    std::fs::rename(&new, path).map_err(failed)
}

/// Reads a copy that is not older than `age_max` at `now`.
pub fn read(
    path: &Path,
    vault: &Vault,
    now: i64,
    age_max: Duration,
) -> Result<LastKnown, CopyError> {
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::UnexpectedEof => CopyError::Damaged,
        _ => CopyError::File { path: path.to_owned(), error },
    };
    let mut file = BufReader::new(File::open(path).map_err(failed)?);
    let (mut magic, mut id) = ([0; MAGIC.len()], [0; 16]);
    file.read_exact(&mut magic).map_err(failed)?;
    file.read_exact(&mut id).map_err(failed)?;
    if magic != *MAGIC {
        return Err(CopyError::Damaged);
    }
    let mut copy = LastKnown::default();
    for n in 0.. {
        let text = read_part(&mut file, vault, (&id, n)).map_err(failed)?;
        let text = text.ok_or(CopyError::Damaged)?;
        for line in text.lines() {
            let line: Json = serde_json::from_str(line).map_err(|_| CopyError::Damaged)?;
            if line == json!("end") {
                return Ok(copy);
            }
            copy.take(&line, now, age_max)?;
        }
    }
    Err(CopyError::Damaged)
}

impl LastKnown {
    fn take(&mut self, line: &Json, now: i64, age_max: Duration) -> Result<(), CopyError> {
        if let Some(row) = line.get("resource") {
            self.resources.push(ResourceRow::read(&row_of(row).ok_or(CopyError::Damaged)?)?);
        } else if let Some(row) = line.get("key") {
            self.keys.push(secrets::key_row(&row_of(row).ok_or(CopyError::Damaged)?)?);
        } else {
            let number = |field: &str| line[field].as_i64().ok_or(CopyError::Damaged);
            let at = number("at")?;
            let age_max = i64::try_from(age_max.as_micros()).unwrap_or(i64::MAX);
            if age_max < now.saturating_sub(at) {
                return Err(CopyError::Stale { at: rfc3339(at) });
            }
            self.revision = number("revision")?;
        }
        Ok(())
    }
}

/// A copy that is being written.
struct Parts<'a> {
    out: BufWriter<File>,
    vault: &'a Vault,
    id: [u8; 16],
    n: u64,
    lines: String,
    /// The first part that could not be written.
    failed: Option<io::Error>,
}

impl<'a> Parts<'a> {
    fn begin(file: File, vault: &'a Vault) -> io::Result<Self> {
        let id = *Uuid::now_v7().as_bytes();
        let mut out = BufWriter::new(file);
        out.write_all(MAGIC)?;
        out.write_all(&id)?;
        Ok(Self { out, vault, id, n: 0, lines: String::new(), failed: None })
    }

    fn put(&mut self, line: &Json) {
        self.lines.push_str(&line.to_string());
        self.lines.push('\n');
        if PART_BYTES <= self.lines.len() {
            self.seal();
        }
    }

    fn seal(&mut self) {
        let sealed = self.vault.seal(place(&name(&self.id, self.n)), &self.lines);
        self.lines.clear();
        self.n += 1;
        let len = u32::try_from(sealed.len()).map_err(io::Error::other);
        let written = len.and_then(|len| {
            self.out.write_all(&len.to_le_bytes())?;
            self.out.write_all(&sealed)
        });
        if let (Err(error), None) = (written, &self.failed) {
            self.failed = Some(error);
        }
    }

    fn finish(mut self) -> io::Result<()> {
        self.seal();
        if let Some(error) = self.failed {
            return Err(error);
        }
        self.out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
    }
}

/// `None` for what is not the part of this place.
fn read_part(
    file: &mut BufReader<File>,
    vault: &Vault,
    (id, n): (&[u8; 16], u64),
) -> io::Result<Option<String>> {
    let mut len = [0; 4];
    file.read_exact(&mut len)?;
    let len = u32::from_le_bytes(len);
    if PART_BYTES_MAX < len {
        return Ok(None);
    }
    let mut sealed = Vec::new();
    file.take(len.into()).read_to_end(&mut sealed)?;
    let opened = vault.open(place(&name(id, n)), &sealed);
    Ok(opened.ok().map(|text| text.expose().to_owned()))
}

fn name(id: &[u8; 16], n: u64) -> String {
    format!("{}/{n}", hex(id))
}

fn place(name: &str) -> Binding<'_> {
    Binding { table: "state copy", workspace: "", row: name, column: "part" }
}

fn json_of(row: &Row) -> Json {
    let value = |value: &Value| match value {
        Value::Null => Json::Null,
        Value::Int(number) => json!(number),
        Value::Text(text) => json!(text),
        Value::Bytes(bytes) => json!({ "bytes": hex(bytes) }),
    };
    row.0.iter().map(value).collect()
}

fn row_of(row: &Json) -> Option<Row> {
    let value = |value: &Json| match value {
        Json::Null => Some(Value::Null),
        Json::Number(number) => number.as_i64().map(Value::Int),
        Json::String(text) => Some(Value::Text(text.clone())),
        Json::Object(fields) => unhex(fields.get("bytes")?.as_str()?).map(Value::Bytes),
        Json::Bool(_) | Json::Array(_) => None,
    };
    row.as_array()?.iter().map(value).collect::<Option<_>>().map(Row)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::config::resources::Kind;
    use crate::config::server::StateUrl;
    use crate::control::edit::Editor;
    use crate::control::store::audit::Actor;

    const HOUR: Duration = Duration::from_hours(1);

    /// A copy of a store with one workspace, `acme`.
    fn copied() -> (tempfile::TempDir, PathBuf, Vault) {
        let dir = tempfile::tempdir().unwrap();
        let url = StateUrl::Sqlite(dir.path().join("state.db"));
        let store = Store::open(&url, Clock::fixed(1_000_000)).unwrap();
        let vault = Vault::new([1; 32]);
        let actor = Actor::default();
        let body = serde_json::Map::from_iter([("slug".to_owned(), json!("acme"))]);
        store
            .write(|tx| Editor::new(tx, &vault, &actor).create_workspace(&body).map(|_| ()))
            .unwrap();
        let path = dir.path().join("copy");
        write(&store, &vault, &path).unwrap();
        (dir, path, vault)
    }

    #[test]
    fn copy_holds_what_the_store_held_and_shows_nothing_of_it() {
        let (_dir, path, vault) = copied();
        let copy = read(&path, &vault, 1_000_000, HOUR).unwrap();
        let kinds: Vec<Kind> = copy.resources.iter().map(|row| row.kind).collect();
        assert_eq!((copy.revision, kinds), (1, vec![Kind::Workspace, Kind::Environment]));
        assert_eq!(copy.resources[0].name, "acme");
        assert_eq!(copy.resources[1].parent, Some(copy.resources[0].id));
        let bytes = std::fs::read(&path).unwrap();
        assert!(!bytes.windows(4).any(|part| part == b"acme"));
    }

    #[test]
    fn changed_cut_foreign_or_old_copy_is_refused() {
        let (_dir, path, vault) = copied();
        let bytes = std::fs::read(&path).unwrap();
        let is_damaged = || {
            let refused = read(&path, &vault, 1_000_000, HOUR);
            assert!(matches!(refused, Err(CopyError::Damaged)), "{refused:?}");
        };
        for at in [0, 25, 40, bytes.len() / 2, bytes.len() - 1] {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            std::fs::write(&path, changed).unwrap();
            is_damaged();
        }
        for len in [0, 10, 36, 40, bytes.len() - 1] {
            std::fs::write(&path, &bytes[..len]).unwrap();
            is_damaged();
        }
        std::fs::write(&path, &bytes).unwrap();
        let foreign = read(&path, &Vault::new([2; 32]), 1_000_000, HOUR);
        assert!(matches!(foreign, Err(CopyError::Damaged)));
        let late = 1_000_000 + 3_600_000_000;
        assert!(read(&path, &vault, late, HOUR).is_ok());
        let stale = read(&path, &vault, late + 1, HOUR).unwrap_err();
        assert!(stale.to_string().contains("1970-01-01T00:00:01"), "{stale}");
    }
}
