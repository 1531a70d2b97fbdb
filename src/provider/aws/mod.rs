//! Signatures of requests to Amazon (Signature Version 4), from static keys.
//!
//! Pure: the time is an argument.

use std::fmt::Write as _;

use bytes::{BufMut as _, Bytes, BytesMut};
use ring::{digest, hmac};
use time::OffsetDateTime;

use crate::percent::encoded;
use crate::secret::Secret;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const SERVICE: &str = "bedrock";

/// What the credential of a connection to Bedrock is.
pub enum AwsCredential {
    /// An API key, shown as it is.
    ApiKey,
    /// `ACCESS_KEY_ID:SECRET_ACCESS_KEY`, with `:SESSION_TOKEN` for temporary ones.
    Keys(Keys),
}

/// Static keys.
pub struct Keys {
    id: Box<str>,
    secret: Secret,
    session_token: Option<Secret>,
}

/// The credential has neither form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAwsKeys;

/// Signs the requests of one connection.
pub struct Signer {
    keys: Keys,
    region: Box<str>,
    /// As in the `host` header.
    host: Box<str>,
}

/// What of a request is signed.
#[derive(Debug, Clone, Copy)]
pub struct Signed<'a> {
    pub method: &'a str,
    /// As it is sent, without a query.
    pub path: &'a str,
    pub body: &'a [Bytes],
    pub unix_s: i64,
}

impl AwsCredential {
    pub fn read(text: &str) -> Result<Self, NotAwsKeys> {
        let parts: Vec<&str> = text.split(':').collect();
        let (id, secret, token) = match parts[..] {
            [_] => return Ok(Self::ApiKey),
            [id, secret] => (id, secret, None),
            [id, secret, token] => (id, secret, Some(token)),
            _ => return Err(NotAwsKeys),
        };
        if id.is_empty() || secret.is_empty() || token.is_some_and(str::is_empty) {
            return Err(NotAwsKeys);
        }
        Ok(Self::Keys(Keys {
            id: id.into(),
            secret: Secret::new(secret.to_owned()),
            session_token: token.map(|token| Secret::new(token.to_owned())),
        }))
    }
}

impl Signer {
    pub fn new(keys: Keys, region: &str, host: &str) -> Self {
        Self { keys, region: region.into(), host: host.into() }
    }

    /// The header lines that sign a request.
    pub fn lines(&self, signed: &Signed<'_>, out: &mut BytesMut) {
        let stamp = Stamp::of(signed.unix_s);
        let token = self.keys.session_token.as_ref().map(Secret::expose);
        let mut headers = format!("host:{}\nx-amz-date:{}\n", self.host, stamp.time);
        let mut names = "host;x-amz-date".to_owned();
        if let Some(token) = token {
            headers += &format!("x-amz-security-token:{token}\n");
            names += ";x-amz-security-token";
        }
        let canonical = format!(
            "{}\n{}\n\n{headers}\n{names}\n{}",
            signed.method,
            // Every service but S3 signs a path that is encoded once more than it is sent.
            encoded(signed.path, "/"),
            hex(body_digest(signed.body).as_ref()),
        );
        let scope = format!("{}/{}/{SERVICE}/aws4_request", stamp.date, self.region);
        let digest = digest::digest(&digest::SHA256, canonical.as_bytes());
        let text = format!("{ALGORITHM}\n{}\n{scope}\n{}", stamp.time, hex(digest.as_ref()));
        let signature = hex(self.key(&stamp.date, text.as_bytes()).as_ref());
        let id = &self.keys.id;
        out.put_slice(format!("x-amz-date: {}\r\n", stamp.time).as_bytes());
        if let Some(token) = token {
            out.put_slice(b"x-amz-security-token: ");
            out.put_slice(token.as_bytes());
            out.put_slice(b"\r\n");
        }
        let line = format!(
            "authorization: {ALGORITHM} Credential={id}/{scope}, SignedHeaders={names}, Signature={signature}\r\n"
        );
        out.put_slice(line.as_bytes());
    }

    /// `text` signed with the key of a day, region and service.
    fn key(&self, date: &str, text: &[u8]) -> hmac::Tag {
        let secret = format!("AWS4{}", self.keys.secret.expose());
        let mut tag = sign(secret.as_bytes(), date.as_bytes());
        for part in [self.region.as_bytes(), SERVICE.as_bytes(), b"aws4_request", text] {
            tag = sign(tag.as_ref(), part);
        }
        tag
    }
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Signer").field("region", &self.region).finish_non_exhaustive()
    }
}

fn sign(key: &[u8], text: &[u8]) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text)
}

fn body_digest(parts: &[Bytes]) -> digest::Digest {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(part);
    }
    context.finish()
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing into a text cannot fail.
        let _infallible = write!(text, "{byte:02x}");
    }
    text
}

struct Stamp {
    date: String,
    time: String,
}

impl Stamp {
    fn of(unix_s: i64) -> Self {
        let at = OffsetDateTime::from_unix_timestamp(unix_s).unwrap_or(OffsetDateTime::UNIX_EPOCH);
        let date = format!("{:04}{:02}{:02}", at.year(), u8::from(at.month()), at.day());
        let time = format!("{date}T{:02}{:02}{:02}Z", at.hour(), at.minute(), at.second());
        Self { date, time }
    }
}

#[cfg(test)]
mod tests;
