//! JSON text that is written piece by piece.

use serde::Serialize;

/// Bytes that go into a text, which JSON always is.
struct Text<'a>(&'a mut String);

impl std::io::Write for Text<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let text = std::str::from_utf8(bytes).map_err(std::io::Error::other)?;
        self.0.push_str(text);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A JSON string.
pub(super) fn put_string(text: &str, out: &mut String) {
    let is_plain = text.bytes().all(|byte| 0x20 <= byte && byte != b'"' && byte != b'\\');
    if is_plain {
        out.push('"');
        out.push_str(text);
        out.push('"');
    } else {
        put_value(text, out);
    }
}

/// Any JSON value.
pub(super) fn put_value<T: Serialize + ?Sized>(value: &T, out: &mut String) {
    // Our own values serialize, and a text takes whatever is written.
    drop(serde_json::to_writer(Text(out), value));
}
