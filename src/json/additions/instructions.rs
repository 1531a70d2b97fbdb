//! Where instructions go: before the client's own, in the place that a dialect has for them.
//!
//! Models take one system prompt better than two, so the text goes into the one that is there. Where
//! a reader could take another text for it (a message with two contents) it gets a message of its
//! own: nothing that a client writes takes the place of its operator's instructions.

use super::super::scan::ScanError;
use super::super::splice::Edit;
use super::Walk;

/// What stands between two instructions, escaped.
const BETWEEN: &str = "\\n\\n";

/// The place of instructions in a dialect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The first of `messages`, if it is a system or developer message, else one before it.
    Messages,
    /// The text `instructions`.
    Instructions,
    /// The text or the blocks of `system`.
    System,
}

/// Where more text can be put before text that is there.
#[derive(Debug, Clone, Copy)]
enum Spot {
    Text { at: usize, is_empty: bool },
    Blocks { at: usize, is_empty: bool },
}

/// What matters of one of `messages`.
#[derive(Debug, Default)]
struct Message {
    role: Role,
    content: Option<Spot>,
    /// `role` or `content` is there twice.
    is_ambiguous: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Role {
    System,
    Developer,
    #[default]
    Other,
}

impl Place {
    /// The member of the body that holds it.
    pub(super) const fn member(self) -> &'static str {
        match self {
            Self::Messages => "messages",
            Self::Instructions => "instructions",
            Self::System => "system",
        }
    }

    /// The member for a body that has none; a chat without messages is the provider's to refuse.
    pub(super) fn whole(self, instructions: &str) -> Option<String> {
        match self {
            Self::Messages => None,
            Self::Instructions | Self::System => {
                Some(format!("\"{}\":\"{instructions}\"", self.member()))
            }
        }
    }
}

impl Spot {
    fn edit(self, instructions: &str) -> Edit {
        let (at, text) = match self {
            Self::Text { at, is_empty } => {
                (at, [instructions, if is_empty { "" } else { BETWEEN }].concat())
            }
            Self::Blocks { at, is_empty } => {
                let comma = if is_empty { "" } else { "," };
                (at, format!("{{\"type\":\"text\",\"text\":\"{instructions}\"}}{comma}"))
            }
        };
        Edit::new(at..at, text)
    }
}

impl Walk<'_> {
    /// At the value of the member that is `place`.
    pub(super) fn place_instructions(&mut self, place: Place) -> Result<(), ScanError> {
        if self.is_placed {
            return Err(ScanError::DuplicateKey { key: place.member() });
        }
        self.is_placed = true;
        match place {
            Place::Messages => self.messages(),
            Place::Instructions | Place::System => self.member_text(place),
        }
    }

    fn member_text(&mut self, place: Place) -> Result<(), ScanError> {
        if self.cursor.peek_token() == Some(b'n') {
            let start = self.cursor.at();
            self.cursor.skip_value(1)?;
            let text = format!("\"{}\"", self.instructions);
            self.edits.push(Edit::new(start..self.cursor.at(), text));
            return Ok(());
        }
        let spot = self.spot(1)?;
        let (spot, expected) = match place {
            Place::System => (spot, "a string or an array of blocks"),
            _ => (spot.filter(|spot| matches!(spot, Spot::Text { .. })), "a string"),
        };
        let spot = spot.ok_or(ScanError::WrongType { field: place.member(), expected })?;
        self.edits.push(spot.edit(self.instructions));
        Ok(())
    }

    fn messages(&mut self) -> Result<(), ScanError> {
        if self.cursor.peek_token() != Some(b'[') {
            return Err(ScanError::WrongType { field: "messages", expected: "an array" });
        }
        self.cursor.enter_array(1)?;
        let start = self.cursor.at();
        let mut first = None;
        let mut has_developer = false;
        while self.cursor.element(first.is_none())? {
            let message = self.message()?;
            has_developer |= message.role == Role::Developer;
            first.get_or_insert(message);
        }
        let is_system = |message: &&Message| message.role != Role::Other && !message.is_ambiguous;
        let spot = first.as_ref().filter(is_system).and_then(|message| message.content);
        if let Some(spot) = spot {
            self.edits.push(spot.edit(self.instructions));
            return Ok(());
        }
        let role = if has_developer { "developer" } else { "system" };
        let comma = if first.is_some() { "," } else { "" };
        let content = self.instructions;
        let message = format!("{{\"role\":\"{role}\",\"content\":\"{content}\"}}{comma}");
        self.edits.push(Edit::new(start..start, message));
        Ok(())
    }

    /// One of `messages`.
    fn message(&mut self) -> Result<Message, ScanError> {
        let mut message = Message::default();
        if self.cursor.peek_token() != Some(b'{') {
            self.cursor.skip_value(2)?;
            return Ok(message);
        }
        self.cursor.enter_object(2)?;
        let (mut n_roles, mut n_contents, mut is_first) = (0_u32, 0_u32, true);
        while let Some(member) = self.cursor.member(is_first)? {
            is_first = false;
            match self.cursor.decode(&member.key).as_deref() {
                Some("role") => {
                    n_roles += 1;
                    message.role = self.role()?;
                }
                Some("content") => {
                    n_contents += 1;
                    message.content = self.spot(3)?;
                }
                _ => self.cursor.skip_value(3)?,
            }
        }
        message.is_ambiguous = 1 < n_roles || 1 < n_contents;
        Ok(message)
    }

    fn role(&mut self) -> Result<Role, ScanError> {
        if self.cursor.peek_token() != Some(b'"') {
            self.cursor.skip_value(3)?;
            return Ok(Role::Other);
        }
        let text = self.cursor.string()?;
        Ok(match self.cursor.decode(&text).as_deref() {
            Some("system") => Role::System,
            Some("developer") => Role::Developer,
            _ => Role::Other,
        })
    }

    /// Walks over the value that begins here. `None` if it is neither a text nor an array.
    fn spot(&mut self, depth: u32) -> Result<Option<Spot>, ScanError> {
        let first = self.cursor.peek_token();
        let start = self.cursor.at();
        let mut inside = self.cursor.clone();
        self.cursor.skip_value(depth)?;
        Ok(match first {
            Some(b'"') => {
                let is_empty = self.cursor.at() == start + 2;
                Some(Spot::Text { at: start + 1, is_empty })
            }
            Some(b'[') => {
                inside.enter_array(depth)?;
                let at = inside.at();
                Some(Spot::Blocks { at, is_empty: inside.peek_token() == Some(b']') })
            }
            _ => None,
        })
    }
}
