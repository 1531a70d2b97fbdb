//! Encryption at rest: what the store holds of secrets is of no use without the master key.
//!
//! ```text
//! master key   256 bits, from SLUICE_MASTER_KEY or a file of mode 0600
//! its id       the first 8 bytes of a hash: says which key a text was sealed with
//! data key     HKDF-SHA-256 of the master key, one for each workspace
//! sealed       1 | key id (8) | nonce (12) | AES-256-GCM with its tag
//! bound to     table, workspace, row, column, version of the format
//! ```
//!
//! A sealed text that is copied to another row, or to another workspace, does not open.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, Salt};
use ring::rand::{SecureRandom as _, SystemRandom};
use zeroize::Zeroizing;

use crate::control::store::StoreError;
use crate::secret::Secret;

const FORMAT: u8 = 1;
const KEY_ID_LEN: usize = 8;
const KEY_LEN: usize = 32;
const HEAD_LEN: usize = 1 + KEY_ID_LEN + NONCE_LEN;

/// The master key.
pub struct Vault {
    key: Zeroizing<[u8; KEY_LEN]>,
    id: [u8; KEY_ID_LEN],
}

/// What a sealed text belongs to.
#[derive(Debug, Clone, Copy)]
pub struct Binding<'a> {
    pub table: &'a str,
    /// Empty for what is global.
    pub workspace: &'a str,
    pub row: &'a str,
    pub column: &'a str,
}

/// Why a text cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    #[error("it was sealed with another master key")]
    OtherKey,
    #[error("it was changed, or belongs to another record")]
    NotAuthentic,
}

impl Vault {
    /// The key given as base64, else the one in `file`, which is made when it is missing.
    pub fn load(given: Option<&Secret>, file: &Path) -> Result<Self, StoreError> {
        if let Some(text) = given {
            return Self::decode(text.expose(), "SLUICE_MASTER_KEY");
        }
        let name = file.display();
        match fs::read_to_string(file) {
            Ok(text) => Self::decode(&Zeroizing::new(text), &name.to_string()),
            Err(error) if error.kind() == ErrorKind::NotFound => Self::make(file)
                .map_err(|error| StoreError::MasterKey(format!("cannot write {name}: {error}"))),
            Err(error) => Err(StoreError::MasterKey(format!("cannot read {name}: {error}"))),
        }
    }

    fn decode(text: &str, source: &str) -> Result<Self, StoreError> {
        let bytes = BASE64.decode(text.trim()).ok().map(Zeroizing::new);
        let key = bytes.and_then(|bytes| <[u8; KEY_LEN]>::try_from(bytes.as_slice()).ok());
        let key = key.ok_or_else(|| {
            StoreError::MasterKey(format!(
                "{source} must hold 256 bits in base64, as `sluice generate master-key` prints them"
            ))
        })?;
        Ok(Self::new(key))
    }

    fn make(file: &Path) -> std::io::Result<Self> {
        let text = generate().map_err(|_| std::io::Error::other("no random bytes"))?;
        if let Some(folder) = file.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            fs::create_dir_all(folder)?;
        }
        let mut out = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file)?;
        out.write_all(text.expose().as_bytes())?;
        out.write_all(b"\n")?;
        out.sync_all()?;
        Self::decode(text.expose(), "").map_err(std::io::Error::other)
    }

    pub fn new(key: [u8; KEY_LEN]) -> Self {
        let digest = ring::digest::digest(
            &ring::digest::SHA256,
            &[b"sluice key id".as_slice(), &key].concat(),
        );
        let mut id = [0; KEY_ID_LEN];
        for (to, from) in id.iter_mut().zip(digest.as_ref()) {
            *to = *from;
        }
        Self { key: Zeroizing::new(key), id }
    }

    /// Says which master key this is, and nothing else about it.
    pub fn id(&self) -> String {
        hex(&self.id)
    }

    pub fn seal(&self, binding: Binding<'_>, text: &str) -> Vec<u8> {
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).expect("the operating system gives random bytes");
        let mut body = text.as_bytes().to_vec();
        let key = self.data_key(binding.workspace);
        key.seal_in_place_append_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(binding.bytes()),
            &mut body,
        )
        .expect("a text of this length can be sealed");
        [&[FORMAT][..], &self.id, &nonce, &body].concat()
    }

    pub fn open(&self, binding: Binding<'_>, sealed: &[u8]) -> Result<Secret, OpenError> {
        let (head, body) = sealed.split_at_checked(HEAD_LEN).ok_or(OpenError::NotAuthentic)?;
        let (id, nonce) = head
            .strip_prefix(&[FORMAT])
            .and_then(|head| head.split_at_checked(KEY_ID_LEN))
            .ok_or(OpenError::NotAuthentic)?;
        if id != self.id {
            return Err(OpenError::OtherKey);
        }
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| OpenError::NotAuthentic)?;
        let mut body = Zeroizing::new(body.to_vec());
        let text = self
            .data_key(binding.workspace)
            .open_in_place(nonce, Aad::from(binding.bytes()), &mut body)
            .map_err(|_| OpenError::NotAuthentic)?;
        let text = String::from_utf8(text.to_vec()).map_err(|_| OpenError::NotAuthentic)?;
        Ok(Secret::new(text))
    }

    fn data_key(&self, workspace: &str) -> LessSafeKey {
        let salt = Salt::new(HKDF_SHA256, b"sluice data key");
        let prk = salt.extract(&*self.key);
        let info = [workspace.as_bytes()];
        let okm = prk.expand(&info, &AES_256_GCM).expect("32 bytes are not too many for HKDF");
        LessSafeKey::new(UnboundKey::from(okm))
    }
}

impl Binding<'_> {
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for part in [self.table, self.workspace, self.row, self.column, "1"] {
            bytes.extend_from_slice(part.as_bytes());
            bytes.push(0); // No part holds a NUL, so no two bindings run together.
        }
        bytes
    }
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Vault({})", self.id())
    }
}

/// A new master key: 256 bits in base64.
pub fn generate() -> Result<Secret, ring::error::Unspecified> {
    let mut bytes = Zeroizing::new([0; KEY_LEN]);
    SystemRandom::new().fill(&mut *bytes)?;
    Ok(Secret::new(BASE64.encode(*bytes)))
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes of a text that [`hex`] wrote.
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        return None;
    }
    let pair = |at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok();
    (0..text.len()).step_by(2).map(pair).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use proptest::prelude::*;

    use super::*;

    const BINDING: Binding<'_> =
        Binding { table: "resources", workspace: "w", row: "r", column: "credential" };

    fn vault() -> Vault {
        Vault::new([7; KEY_LEN])
    }

    #[test]
    fn sealed_text_opens_only_where_it_belongs() {
        let sealed = vault().seal(BINDING, "sk-live");
        assert_eq!(vault().open(BINDING, &sealed).unwrap().expose(), "sk-live");
        for elsewhere in [
            Binding { table: "users", ..BINDING },
            Binding { workspace: "x", ..BINDING },
            Binding { row: "s", ..BINDING },
            Binding { column: "other", ..BINDING },
            Binding { workspace: "", row: "wr", ..BINDING },
        ] {
            assert_eq!(vault().open(elsewhere, &sealed).unwrap_err(), OpenError::NotAuthentic);
        }
        let other = Vault::new([8; KEY_LEN]);
        assert_eq!(other.open(BINDING, &sealed).unwrap_err(), OpenError::OtherKey);
    }

    #[test]
    fn two_seals_of_a_text_differ() {
        assert_ne!(vault().seal(BINDING, "same"), vault().seal(BINDING, "same"));
    }

    #[test]
    fn key_file_is_made_for_its_owner_alone_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("data/master.key");
        let made = Vault::load(None, &file).unwrap();
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(Vault::load(None, &file).unwrap().id(), made.id());
        let given = generate().unwrap();
        assert_ne!(Vault::load(Some(&given), &file).unwrap().id(), made.id());
    }

    #[test]
    fn bad_key_is_refused_without_being_shown() {
        let bad = Secret::new("c2hvcnQtc2VjcmV0".to_owned());
        let error = Vault::load(Some(&bad), Path::new("none")).unwrap_err().to_string();
        assert!(error.contains("256 bits") && !error.contains("c2hv"), "{error}");
    }

    proptest! {
        #[test]
        fn one_changed_byte_is_noticed(text: String, at: prop::sample::Index, by in 1_u8..) {
            let mut sealed = vault().seal(BINDING, &text);
            let at = at.index(sealed.len());
            sealed[at] ^= by;
            prop_assert!(vault().open(BINDING, &sealed).is_err());
        }

        #[test]
        fn hex_comes_back(bytes: Vec<u8>) {
            prop_assert_eq!(unhex(&hex(&bytes)), Some(bytes));
        }
    }
}
