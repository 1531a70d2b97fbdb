//! One walk over a request body that finds what the gateway needs and checks the rest.
//!
//! Keys match byte for byte. A field that the gateway acts on must be there once and be spelled
//! plainly: a second `model`, or one written `"m\u006fdel"`, could be read differently by the
//! provider, and what is checked here is what is sent.

use std::ops::Range;

use super::cursor::{Broken, Cursor, Member};

/// Why a request body is refused. `Display` is for the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ScanError {
    #[error("the request body is empty; send a JSON object")]
    Empty,
    #[error("the request body is not a JSON object; send one")]
    NotAnObject,
    #[error("the request body is not valid JSON: expected {expected} at byte {at}")]
    Syntax { at: usize, expected: &'static str },
    #[error("the request body goes on after the end of the JSON object at byte {at}; send one")]
    Trailing { at: usize },
    #[error("the request body is not valid UTF-8 at byte {at}")]
    NotUtf8 { at: usize },
    #[error("the request body is nested too deeply; at most 128 levels are read")]
    TooDeep,
    #[error("the request body has two `{key}` fields; send one")]
    DuplicateKey { key: &'static str },
    #[error("the field `{key}` is written with escapes in its name; write it plainly")]
    EscapedKey { key: &'static str },
    #[error("`{field}` must be {expected}")]
    WrongType { field: &'static str, expected: &'static str },
    #[error(
        "`sluice` has a field that the gateway does not know; it knows `correlation_id`, \
         `metadata`, `end_user`, `timeout_ms` and `target`"
    )]
    UnknownSluiceField,
    #[error("the multipart form is malformed: {reason}")]
    Form { reason: &'static str },
}

impl ScanError {
    /// The field to blame, for the `param` of an error.
    pub fn field(&self) -> Option<&'static str> {
        match *self {
            Self::DuplicateKey { key } | Self::EscapedKey { key } => Some(key),
            Self::WrongType { field, .. } => Some(field),
            Self::UnknownSluiceField => Some("sluice"),
            Self::Empty
            | Self::NotAnObject
            | Self::Syntax { .. }
            | Self::Trailing { .. }
            | Self::NotUtf8 { .. }
            | Self::TooDeep
            | Self::Form { .. } => None,
        }
    }
}

impl From<Broken> for ScanError {
    fn from(broken: Broken) -> Self {
        match broken {
            Broken::Syntax { at, expected } => Self::Syntax { at, expected },
            Broken::TooDeep => Self::TooDeep,
        }
    }
}

/// What the gateway reads of a request body.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Scan {
    pub model: Option<Model>,
    pub is_stream: bool,
    /// `stream` is there and false.
    pub is_stream_refused: bool,
    pub stream_options: StreamOptions,
    /// The largest of `max_tokens`, `max_completion_tokens` and `max_output_tokens`.
    pub max_tokens: Option<u64>,
    /// Whom the client acts for: `safety_identifier`, else `user`, else `metadata.user_id`.
    pub end_user: Option<Box<str>>,
    pub previous_response_id: Option<Box<str>>,
    pub sluice: Option<Box<Sluice>>,
    pub(super) n_members: usize,
    /// Just after the object's `{`.
    pub(super) members_start: usize,
    /// The `sluice` member with the comma that goes with it.
    pub(super) sluice_cut: Option<Range<usize>>,
}

/// The `model` of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Model {
    /// Decoded.
    pub name: Box<str>,
    /// The value in the body; in JSON with its quotes.
    pub range: Range<usize>,
}

/// What `stream_options` says about usage, and where to say it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum StreamOptions {
    #[default]
    Absent,
    Null {
        range: Range<usize>,
    },
    /// An object that does not name `include_usage`; a member can be put at `members_start`.
    Unsaid {
        members_start: usize,
        is_empty: bool,
    },
    /// `include_usage` is null.
    UsageNull {
        range: Range<usize>,
    },
    Usage(bool),
}

/// Keys and values that a client puts on its own usage.
pub type Metadata = Vec<(Box<str>, Box<str>)>;

/// The `sluice` field: what the `x-sluice-*` headers also say.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sluice {
    pub correlation_id: Option<Box<str>>,
    /// Sorted by key; no key is there twice.
    pub metadata: Metadata,
    pub end_user: Option<Box<str>>,
    pub timeout_ms: Option<u64>,
    pub target: Option<Box<str>>,
}

/// The top-level fields that must be there at most once, and be spelled plainly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Model,
    Stream,
    StreamOptions,
    Messages,
    Input,
    MaxTokens,
    MaxCompletionTokens,
    MaxOutputTokens,
    User,
    SafetyIdentifier,
    Metadata,
    PreviousResponseId,
    Sluice,
}

impl Field {
    fn named(key: &str) -> Option<Self> {
        Some(match key {
            "model" => Self::Model,
            "stream" => Self::Stream,
            "stream_options" => Self::StreamOptions,
            "messages" => Self::Messages,
            "input" => Self::Input,
            "max_tokens" => Self::MaxTokens,
            "max_completion_tokens" => Self::MaxCompletionTokens,
            "max_output_tokens" => Self::MaxOutputTokens,
            "user" => Self::User,
            "safety_identifier" => Self::SafetyIdentifier,
            "metadata" => Self::Metadata,
            "previous_response_id" => Self::PreviousResponseId,
            "sluice" => Self::Sluice,
            _ => return None,
        })
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Stream => "stream",
            Self::StreamOptions => "stream_options",
            Self::Messages => "messages",
            Self::Input => "input",
            Self::MaxTokens => "max_tokens",
            Self::MaxCompletionTokens => "max_completion_tokens",
            Self::MaxOutputTokens => "max_output_tokens",
            Self::User => "user",
            Self::SafetyIdentifier => "safety_identifier",
            Self::Metadata => "metadata",
            Self::PreviousResponseId => "previous_response_id",
            Self::Sluice => "sluice",
        }
    }
}

/// Walks over `body`, which must be one JSON object.
pub fn scan(body: &[u8]) -> Result<Scan, ScanError> {
    // Once over everything, since the check has a fast path for ASCII.
    let text = std::str::from_utf8(body)
        .map_err(|error| ScanError::NotUtf8 { at: error.valid_up_to() })?;
    let mut scanner = Scanner { cursor: Cursor::new(text), seen: 0, scan: Scan::default() };
    scanner.object()?;
    match scanner.cursor.peek_token() {
        None => Ok(scanner.scan),
        Some(_) => Err(ScanError::Trailing { at: scanner.cursor.at() }),
    }
}

struct Scanner<'a> {
    cursor: Cursor<'a>,
    /// One bit for each [`Field`].
    seen: u16,
    scan: Scan,
}

/// Who the end user is, by source; the first that is there counts.
#[derive(Default)]
struct EndUser {
    safety_identifier: Option<Box<str>>,
    user: Option<Box<str>>,
    metadata: Option<Box<str>>,
}

impl Scanner<'_> {
    fn object(&mut self) -> Result<(), ScanError> {
        match self.cursor.peek_token() {
            Some(b'{') => {}
            Some(b'[' | b'"' | b'-' | b'0'..=b'9' | b't' | b'f' | b'n') => {
                return Err(ScanError::NotAnObject);
            }
            Some(_) => return Err(self.cursor.broken("`{`").into()),
            None => return Err(ScanError::Empty),
        }
        self.cursor.enter_object(0)?;
        self.scan.members_start = self.cursor.at();

        let mut end_user = EndUser::default();
        let mut sluice: Option<(Member, usize)> = None;
        while let Some(member) = self.cursor.member(self.scan.n_members == 0)? {
            self.scan.n_members += 1;
            if let Some((before, _end)) = sluice.take() {
                self.scan.sluice_cut = Some(before.key.range.start..member.key.range.start);
            }
            match self.field(&member)? {
                Some(field) => self.value(field, &mut end_user)?,
                None => self.cursor.skip_value(1)?,
            }
            if self.has_seen(Field::Sluice) && self.scan.sluice_cut.is_none() {
                sluice = Some((member, self.cursor.at()));
            }
        }
        if let Some((last, end)) = sluice {
            self.scan.sluice_cut = Some(last.comma.unwrap_or(last.key.range.start)..end);
        }
        self.scan.end_user = end_user.safety_identifier.or(end_user.user).or(end_user.metadata);
        Ok(())
    }

    /// Which field that we act on `member` is, if it is one.
    fn field(&mut self, member: &Member) -> Result<Option<Field>, ScanError> {
        let Some(key) = self.cursor.decode(&member.key) else {
            return Ok(None);
        };
        let Some(field) = Field::named(&key) else {
            return Ok(None);
        };
        if member.key.has_escapes {
            return Err(ScanError::EscapedKey { key: field.name() });
        }
        if self.has_seen(field) {
            return Err(ScanError::DuplicateKey { key: field.name() });
        }
        self.seen |= 1 << field as u16;
        Ok(Some(field))
    }

    fn has_seen(&self, field: Field) -> bool {
        self.seen & (1 << field as u16) != 0
    }

    fn value(&mut self, field: Field, end_user: &mut EndUser) -> Result<(), ScanError> {
        match field {
            Field::Model => self.scan.model = Some(self.model()?),
            Field::Stream => {
                let told = self.boolean("stream")?;
                self.scan.is_stream = told == Some(true);
                self.scan.is_stream_refused = told == Some(false);
            }
            Field::StreamOptions => self.scan.stream_options = self.stream_options()?,
            Field::Messages | Field::Input => self.cursor.skip_value(1)?,
            Field::MaxTokens | Field::MaxCompletionTokens | Field::MaxOutputTokens => {
                let tokens = self.integer(1)?;
                self.scan.max_tokens = self.scan.max_tokens.max(tokens);
            }
            Field::User => end_user.user = self.string_if_any(1)?,
            Field::SafetyIdentifier => end_user.safety_identifier = self.string_if_any(1)?,
            Field::Metadata => end_user.metadata = self.metadata_user_id()?,
            Field::PreviousResponseId => {
                self.scan.previous_response_id = self.string_if_any(1)?;
            }
            Field::Sluice => self.scan.sluice = self.sluice()?.map(Box::new),
        }
        Ok(())
    }

    fn model(&mut self) -> Result<Model, ScanError> {
        let wrong_type = ScanError::WrongType { field: "model", expected: "a string" };
        if self.cursor.peek_token() != Some(b'"') {
            return Err(self.misplaced(1, wrong_type));
        }
        let text = self.cursor.string()?;
        let name = self.cursor.decode(&text).ok_or(wrong_type)?;
        Ok(Model { name: name.into(), range: text.range })
    }

    /// `None` for null.
    fn boolean(&mut self, field: &'static str) -> Result<Option<bool>, ScanError> {
        let depth = if field == "stream" { 1 } else { 2 };
        let value = match self.cursor.peek_token() {
            Some(b't') => Some(true),
            Some(b'f') => Some(false),
            Some(b'n') => None,
            _ => {
                let wrong_type = ScanError::WrongType { field, expected: "true or false" };
                return Err(self.misplaced(depth, wrong_type));
            }
        };
        self.cursor.skip_value(depth)?;
        Ok(value)
    }

    /// `error` for a value that is there and has the wrong type; else what is wrong with its syntax.
    fn misplaced(&mut self, depth: u32, error: ScanError) -> ScanError {
        self.cursor.skip_value(depth).map_or_else(ScanError::from, |()| error)
    }

    fn stream_options(&mut self) -> Result<StreamOptions, ScanError> {
        match self.cursor.peek_token() {
            Some(b'{') => {}
            Some(b'n') => {
                let start = self.cursor.at();
                self.cursor.skip_value(1)?;
                return Ok(StreamOptions::Null { range: start..self.cursor.at() });
            }
            _ => {
                let wrong_type =
                    ScanError::WrongType { field: "stream_options", expected: "an object" };
                return Err(self.misplaced(1, wrong_type));
            }
        }
        self.cursor.enter_object(1)?;
        let members_start = self.cursor.at();
        let mut is_empty = true;
        let mut said = None;
        while let Some(member) = self.cursor.member(is_empty)? {
            is_empty = false;
            if !self.is_key(&member, "include_usage", "stream_options.include_usage")? {
                self.cursor.skip_value(2)?;
                continue;
            }
            if said.is_some() {
                return Err(ScanError::DuplicateKey { key: "stream_options.include_usage" });
            }
            self.cursor.peek_token();
            let start = self.cursor.at();
            said = Some(match self.boolean("stream_options.include_usage")? {
                Some(value) => StreamOptions::Usage(value),
                None => StreamOptions::UsageNull { range: start..self.cursor.at() },
            });
        }
        Ok(said.unwrap_or(StreamOptions::Unsaid { members_start, is_empty }))
    }

    /// Whether `member` is called `name`; an escaped spelling of it is refused as `key`.
    fn is_key(&self, member: &Member, name: &str, key: &'static str) -> Result<bool, ScanError> {
        let is_it = self.cursor.decode(&member.key).is_some_and(|decoded| decoded == name);
        if is_it && member.key.has_escapes {
            return Err(ScanError::EscapedKey { key });
        }
        Ok(is_it)
    }

    /// A plain integer; any other value is the provider's to judge.
    fn integer(&mut self, depth: u32) -> Result<Option<u64>, ScanError> {
        self.cursor.peek_token();
        let start = self.cursor.at();
        self.cursor.skip_value(depth)?;
        Ok(self.cursor.slice(start..self.cursor.at()).parse().ok())
    }

    /// A string; any other value is the provider's to judge.
    fn string_if_any(&mut self, depth: u32) -> Result<Option<Box<str>>, ScanError> {
        if self.cursor.peek_token() != Some(b'"') {
            self.cursor.skip_value(depth)?;
            return Ok(None);
        }
        let text = self.cursor.string()?;
        Ok(self.cursor.decode(&text).map(Box::from))
    }

    fn metadata_user_id(&mut self) -> Result<Option<Box<str>>, ScanError> {
        if self.cursor.peek_token() != Some(b'{') {
            self.cursor.skip_value(1)?;
            return Ok(None);
        }
        self.cursor.enter_object(1)?;
        let mut user_id = None;
        let (mut is_first, mut is_seen) = (true, false);
        while let Some(member) = self.cursor.member(is_first)? {
            is_first = false;
            if !self.is_key(&member, "user_id", "metadata.user_id")? {
                self.cursor.skip_value(2)?;
                continue;
            }
            if is_seen {
                return Err(ScanError::DuplicateKey { key: "metadata.user_id" });
            }
            is_seen = true;
            user_id = self.string_if_any(2)?;
        }
        Ok(user_id)
    }

    /// `None` for null.
    fn sluice(&mut self) -> Result<Option<Sluice>, ScanError> {
        if !self.is_object(1, "sluice")? {
            return Ok(None);
        }
        self.cursor.enter_object(1)?;
        let mut sluice = Sluice::default();
        let mut seen = Vec::new();
        while let Some(member) = self.cursor.member(seen.is_empty())? {
            let key = self.cursor.decode(&member.key).unwrap_or_default();
            let field = match &*key {
                "correlation_id" => "sluice.correlation_id",
                "metadata" => "sluice.metadata",
                "end_user" => "sluice.end_user",
                "timeout_ms" => "sluice.timeout_ms",
                "target" => "sluice.target",
                _ => return Err(ScanError::UnknownSluiceField),
            };
            if seen.contains(&field) {
                return Err(ScanError::DuplicateKey { key: field });
            }
            seen.push(field);
            match field {
                "sluice.correlation_id" => sluice.correlation_id = self.own_string(field)?,
                "sluice.metadata" => sluice.metadata = self.own_metadata()?,
                "sluice.end_user" => sluice.end_user = self.own_string(field)?,
                "sluice.timeout_ms" => sluice.timeout_ms = self.own_integer(field)?,
                _ => sluice.target = self.own_string(field)?,
            }
        }
        Ok(Some(sluice))
    }

    /// Whether an object begins here. Null is walked over; anything else is refused.
    fn is_object(&mut self, depth: u32, field: &'static str) -> Result<bool, ScanError> {
        match self.cursor.peek_token() {
            Some(b'{') => Ok(true),
            Some(b'n') => {
                self.cursor.skip_value(depth)?;
                Ok(false)
            }
            _ => {
                let wrong_type = ScanError::WrongType { field, expected: "an object" };
                Err(self.misplaced(depth, wrong_type))
            }
        }
    }

    fn own_string(&mut self, field: &'static str) -> Result<Option<Box<str>>, ScanError> {
        let is_null = self.cursor.peek_token() == Some(b'n');
        let value = self.string_if_any(2)?;
        if value.is_none() && !is_null {
            return Err(ScanError::WrongType { field, expected: "a string" });
        }
        Ok(value)
    }

    fn own_integer(&mut self, field: &'static str) -> Result<Option<u64>, ScanError> {
        let is_null = self.cursor.peek_token() == Some(b'n');
        let value = self.integer(2)?;
        if value.is_none() && !is_null {
            return Err(ScanError::WrongType { field, expected: "a whole number, not negative" });
        }
        Ok(value)
    }

    fn own_metadata(&mut self) -> Result<Metadata, ScanError> {
        let field = "sluice.metadata";
        let mut metadata = Metadata::new();
        if !self.is_object(2, field)? {
            return Ok(metadata);
        }
        self.cursor.enter_object(2)?;
        while let Some(member) = self.cursor.member(metadata.is_empty())? {
            let key = self.cursor.decode(&member.key);
            let value = self.string_if_any(3)?;
            let (Some(key), Some(value)) = (key, value) else {
                return Err(ScanError::WrongType { field, expected: "an object of strings" });
            };
            metadata.push((Box::from(key), value));
        }
        metadata.sort();
        if metadata.array_windows().any(|[(before, _), (after, _)]| before == after) {
            return Err(ScanError::DuplicateKey { key: field });
        }
        Ok(metadata)
    }
}
