//! What the messages of a request say, read from its body in one walk.
//!
//! ```text
//! chat         messages[].content, a text or parts with `text`
//! messages     the same, and `system`
//! responses    `input`, a text or items with `content`, and `instructions`
//! completions  `prompt`, and `suffix` for a gap to be filled
//! embeddings   `input`, texts
//! ```

use std::borrow::Cow;

use crate::json::cursor::{Broken, Cursor, Member};
use crate::json::is_fim;

/// The texts of a request.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Said {
    /// Everything that the model reads, a line between its parts.
    pub text: String,
    /// Of the first and of the last message of the user that has a text.
    pub first_message: String,
    pub last_message: String,
    pub messages_count: usize,
    pub tools_count: usize,
    /// Code before and after a gap, to be filled.
    pub is_fim: bool,
}

/// Reads a JSON body; what is not one says nothing.
pub fn said(body: &[u8]) -> Said {
    let mut said = Said::default();
    let Ok(text) = std::str::from_utf8(body) else { return said };
    let mut reader = Reader { cursor: Cursor::new(text), said: &mut said };
    // Where the syntax breaks, what was read before counts.
    reader.body().unwrap_or_default();
    said.is_fim = said.is_fim || is_fim(text);
    said
}

struct Reader<'a, 's> {
    cursor: Cursor<'a>,
    said: &'s mut Said,
}

impl<'a> Reader<'a, '_> {
    fn body(&mut self) -> Result<(), Broken> {
        self.cursor.enter_object(0)?;
        let mut is_first = true;
        while let Some(member) = self.cursor.member(is_first)? {
            is_first = false;
            match &*self.key(&member) {
                "messages" => self.messages()?,
                "input" | "prompt" => self.input()?,
                "system" | "instructions" => {
                    let mut text = String::new();
                    self.content(&mut text, 1)?;
                    self.add(&text);
                }
                "suffix" => self.suffix()?,
                "tools" => self.said.tools_count = self.count()?,
                _ => self.cursor.skip_value(1)?,
            }
        }
        Ok(())
    }

    fn key(&self, member: &Member) -> Cow<'a, str> {
        self.cursor.decode(&member.key).unwrap_or_default()
    }

    fn count(&mut self) -> Result<usize, Broken> {
        if self.cursor.peek_token() != Some(b'[') {
            self.cursor.skip_value(1)?;
            return Ok(0);
        }
        let mut n = 0;
        self.cursor.enter_array(1)?;
        while self.cursor.element(n == 0)? {
            self.cursor.skip_value(2)?;
            n += 1;
        }
        Ok(n)
    }

    fn suffix(&mut self) -> Result<(), Broken> {
        if let Some(text) = self.string(1)? {
            self.said.is_fim |= !text.is_empty();
            self.add(&text);
        }
        Ok(())
    }

    /// The string that begins here; anything else is walked over.
    fn string(&mut self, depth: u32) -> Result<Option<Cow<'a, str>>, Broken> {
        if self.cursor.peek_token() != Some(b'"') {
            self.cursor.skip_value(depth)?;
            return Ok(None);
        }
        let text = self.cursor.string()?;
        Ok(self.cursor.decode(&text))
    }

    fn messages(&mut self) -> Result<(), Broken> {
        if self.cursor.peek_token() != Some(b'[') {
            return self.cursor.skip_value(1);
        }
        self.cursor.enter_array(1)?;
        let mut is_first = true;
        while self.cursor.element(is_first)? {
            is_first = false;
            self.said.messages_count += 1;
            self.message()?;
        }
        Ok(())
    }

    /// A text, a list of texts, or a list of items.
    fn input(&mut self) -> Result<(), Broken> {
        match self.cursor.peek_token() {
            Some(b'"') => {
                let text = self.string(1)?.unwrap_or_default();
                self.said.messages_count += 1;
                self.user(&text);
                self.add(&text);
                Ok(())
            }
            Some(b'[') => {
                self.cursor.enter_array(1)?;
                let mut is_first = true;
                while self.cursor.element(is_first)? {
                    is_first = false;
                    self.said.messages_count += 1;
                    self.message()?;
                }
                Ok(())
            }
            _ => self.cursor.skip_value(1),
        }
    }

    /// One message, or a text that stands for one of the user.
    fn message(&mut self) -> Result<(), Broken> {
        if self.cursor.peek_token() != Some(b'{') {
            if let Some(text) = self.string(2)? {
                self.user(&text);
                self.add(&text);
            }
            return Ok(());
        }
        self.cursor.enter_object(2)?;
        let (mut is_user, mut text, mut is_first) = (false, String::new(), true);
        while let Some(member) = self.cursor.member(is_first)? {
            is_first = false;
            match &*self.key(&member) {
                "role" => is_user = self.string(3)?.is_some_and(|role| role == "user"),
                "content" | "output" => self.content(&mut text, 3)?,
                _ => self.cursor.skip_value(3)?,
            }
        }
        if is_user {
            self.user(&text);
        }
        self.add(&text);
        Ok(())
    }

    /// A text, or a list of parts with a `text`. What tools have answered is not among them.
    fn content(&mut self, into: &mut String, depth: u32) -> Result<(), Broken> {
        match self.cursor.peek_token() {
            Some(b'"') => {
                let text = self.string(depth)?.unwrap_or_default();
                push(into, &text);
                Ok(())
            }
            Some(b'[') => {
                self.cursor.enter_array(depth)?;
                let mut is_first = true;
                while self.cursor.element(is_first)? {
                    is_first = false;
                    self.part(into, depth + 1)?;
                }
                Ok(())
            }
            _ => self.cursor.skip_value(depth),
        }
    }

    fn part(&mut self, into: &mut String, depth: u32) -> Result<(), Broken> {
        if self.cursor.peek_token() != Some(b'{') {
            return self.cursor.skip_value(depth);
        }
        self.cursor.enter_object(depth)?;
        let mut is_first = true;
        while let Some(member) = self.cursor.member(is_first)? {
            is_first = false;
            match &*self.key(&member) {
                "text" => {
                    let text = self.string(depth + 1)?.unwrap_or_default();
                    push(into, &text);
                }
                _ => self.cursor.skip_value(depth + 1)?,
            }
        }
        Ok(())
    }

    fn user(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        if self.said.first_message.is_empty() {
            text.clone_into(&mut self.said.first_message);
        }
        text.clone_into(&mut self.said.last_message);
    }

    fn add(&mut self, text: &str) {
        push(&mut self.said.text, text);
    }
}

/// Puts `text` on a line of its own.
fn push(into: &mut String, text: &str) {
    if text.is_empty() {
        return;
    }
    if !into.is_empty() {
        into.push('\n');
    }
    into.push_str(text);
}
