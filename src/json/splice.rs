//! The few changes to a request body, as slices of the body around small inserted pieces.

use std::ops::Range;

use bytes::Bytes;

use super::multipart::MultipartScan;
use super::scan::{Scan, StreamOptions};

const STREAM_OPTIONS: &str = "\"stream_options\":{\"include_usage\":true}";
const STREAM_OPTIONS_COMMA: &str = "\"stream_options\":{\"include_usage\":true},";
const STREAM_OPTIONS_VALUE: &str = "{\"include_usage\":true}";
const INCLUDE_USAGE: &str = "\"include_usage\":true";
const INCLUDE_USAGE_COMMA: &str = "\"include_usage\":true,";

/// Changes to a JSON body that [`scan`](super::scan()) has walked over.
#[derive(Debug, Clone)]
pub struct Splice<'a> {
    scan: &'a Scan,
    model: Option<Bytes>,
    has_usage: bool,
    has_cut: bool,
}

/// A body that may have been changed. Without a change it is the very same [`Bytes`].
#[derive(Debug, Clone)]
pub struct Spliced {
    body: Body,
    len: usize,
}

#[derive(Debug, Clone)]
enum Body {
    Same(Bytes),
    Parts(Vec<Bytes>),
}

/// `replacement` instead of `range`; an empty range is an insertion.
#[derive(Debug)]
pub(super) struct Edit {
    range: Range<usize>,
    replacement: Bytes,
}

impl Edit {
    pub(super) fn new(range: Range<usize>, replacement: String) -> Self {
        Self { range, replacement: replacement.into() }
    }
}

/// `body` with all of `edits`, which do not overlap, in one piece: it is scanned again.
pub(super) fn spliced(body: &Bytes, mut edits: Vec<Edit>) -> Bytes {
    edits.sort_by_key(|edit| edit.range.start);
    let added: usize = edits.iter().map(|edit| edit.replacement.len()).sum();
    let mut whole = Vec::with_capacity(body.len() + added);
    let mut at = 0;
    for Edit { range, replacement } in edits {
        whole.extend_from_slice(body.get(at..range.start).unwrap_or_default());
        whole.extend_from_slice(&replacement);
        at = range.end;
    }
    whole.extend_from_slice(body.get(at..).unwrap_or_default());
    whole.into()
}

impl<'a> Splice<'a> {
    pub fn new(scan: &'a Scan) -> Self {
        Self { scan, model: None, has_usage: false, has_cut: false }
    }

    /// Puts `model` where the client's model was, unless it is the same name.
    pub fn replace_model(&mut self, model: &str) {
        let is_other = self.scan.model.as_ref().is_some_and(|old| *old.name != *model);
        self.model = is_other.then(|| json_string(model));
    }

    /// Asks for usage at the end of the stream, unless the client has said whether it wants that.
    /// Returns whether the answer will have a usage chunk that the client did not ask for.
    pub fn insert_include_usage(&mut self) -> bool {
        self.has_usage = match self.scan.stream_options {
            StreamOptions::Absent
            | StreamOptions::Null { .. }
            | StreamOptions::Unsaid { .. }
            | StreamOptions::UsageNull { .. } => true,
            StreamOptions::Usage(_) => false,
        };
        self.has_usage
    }

    /// Takes the `sluice` field out, if there is one.
    pub fn cut_sluice(&mut self) {
        self.has_cut = self.scan.sluice_cut.is_some();
    }

    /// The changed body. `body` must be the one that was scanned.
    pub fn apply(&self, body: &Bytes) -> Spliced {
        if self.model.is_none() && !self.has_usage && !self.has_cut {
            return Spliced::same(body);
        }
        let model = self
            .scan
            .model
            .as_ref()
            .zip(self.model.as_ref())
            .map(|(old, new)| Edit { range: old.range.clone(), replacement: new.clone() });
        let usage = if self.has_usage { self.usage_edit() } else { None };
        let cut = self.scan.sluice_cut.clone().filter(|_| self.has_cut);
        let cut = cut.map(|range| Edit { range, replacement: Bytes::new() });
        Spliced::new(body, [model, usage, cut])
    }

    fn usage_edit(&self) -> Option<Edit> {
        let (range, text) = match &self.scan.stream_options {
            StreamOptions::Absent => {
                let at = self.scan.members_start;
                let is_alone = self.scan.n_members == usize::from(self.has_cut);
                (at..at, if is_alone { STREAM_OPTIONS } else { STREAM_OPTIONS_COMMA })
            }
            StreamOptions::Null { range } => (range.clone(), STREAM_OPTIONS_VALUE),
            &StreamOptions::Unsaid { members_start: at, is_empty } => {
                (at..at, if is_empty { INCLUDE_USAGE } else { INCLUDE_USAGE_COMMA })
            }
            StreamOptions::UsageNull { range } => (range.clone(), "true"),
            StreamOptions::Usage(_) => return None,
        };
        Some(Edit { range, replacement: Bytes::from_static(text.as_bytes()) })
    }
}

/// Puts `model` where the form's model was, unless it is the same name.
///
/// Control characters are left out: a form has no escapes, and a line break could end the part.
pub fn splice_form_model(body: &Bytes, scan: &MultipartScan, model: &str) -> Spliced {
    match &scan.model {
        Some(old) if *old.name != *model => {
            let replacement: String = model.chars().filter(|char| !char.is_control()).collect();
            let edit = Edit { range: old.range.clone(), replacement: replacement.into() };
            Spliced::new(body, [Some(edit)])
        }
        _ => Spliced::same(body),
    }
}

impl Spliced {
    /// `body` without a change.
    pub fn same(body: &Bytes) -> Self {
        Self { body: Body::Same(body.clone()), len: body.len() }
    }

    fn new<const N: usize>(body: &Bytes, mut edits: [Option<Edit>; N]) -> Self {
        edits.sort_by_key(|edit| edit.as_ref().map(|edit| edit.range.start));
        let mut parts = Vec::with_capacity(2 * N + 1);
        let mut len = 0;
        let mut push = |part: Bytes| {
            len += part.len();
            if !part.is_empty() {
                parts.push(part);
            }
        };
        let mut at = 0;
        for Edit { range, replacement } in edits.into_iter().flatten() {
            push(body.slice(at..range.start));
            push(replacement);
            at = range.end;
        }
        push(body.slice(at..));
        Self { body: Body::Parts(parts), len }
    }

    /// What to send, in order. Nothing of the original body is copied.
    pub fn parts(&self) -> &[Bytes] {
        match &self.body {
            Body::Same(body) => std::slice::from_ref(body),
            Body::Parts(parts) => parts,
        }
    }

    /// The length of all parts together.
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

fn json_string(text: &str) -> Bytes {
    let is_plain = text.bytes().all(|byte| byte >= 0x20 && byte != b'"' && byte != b'\\');
    if is_plain {
        return ["\"", text, "\""].concat().into();
    }
    serde_json::Value::from(text).to_string().into()
}
