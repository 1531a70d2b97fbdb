//! Looks at every answer as it comes, and says what is wrong with it.

use std::time::{Duration, Instant};

use memchr::memmem::Finder;

use super::failure::Failure;
use crate::mock::{Script, text_pieces};
use crate::scenario::{Check as Level, Dialect, Mix};

mod events;
mod exact;
mod shape;
mod text;

use exact::Exact;
use shape::Shape;
use text::Text;

/// Most bytes of an answer that are kept, where some must be.
const KEPT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// What a right answer to one kind of request is.
#[derive(Debug)]
pub(super) struct Expected {
    how: How,
    dialect: Dialect,
    is_stream: bool,
    /// Time between content events that the mock's script has.
    pub(super) pause: Option<Duration>,
}

#[derive(Debug)]
enum How {
    Exact(Script),
    Text { pieces: Vec<String>, all: Box<Finder<'static>> },
    Shape,
}

/// When the content events of an answer came.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) first: Option<Instant>,
    last: Option<Instant>,
    pub(super) gaps: Vec<Duration>,
    /// Bytes of the body.
    pub(super) bytes: u64,
}

/// Follows one answer.
pub(super) enum Checker<'a> {
    Exact(Exact<'a>),
    Text(Text<'a>),
    Shape(Shape),
}

// === impl Expected ===

impl Expected {
    pub(super) fn of(mix: &Mix, is_stream: bool) -> Self {
        let behaviour = mix.behaviour();
        let how = match (mix.check_level(), mix.script.as_deref(), &behaviour) {
            (Level::Exact, Some(model), _) => {
                script(mix.dialect, model, is_stream).map_or(How::Shape, How::Exact)
            }
            (Level::Text, _, Some(behaviour)) => {
                let pieces = text_pieces(behaviour);
                let all = Box::new(Finder::new(&pieces.concat()).into_owned());
                How::Text { pieces, all }
            }
            _ => How::Shape,
        };
        // A pause that varies cannot be told from a delay.
        let pause = behaviour
            .filter(|behaviour| behaviour.event_ms > 0 && mix.check_level() != Level::Shape)
            .map(|behaviour| Duration::from_millis(behaviour.event_ms));
        Self { how, dialect: mix.dialect, is_stream, pause }
    }

    pub(super) fn checker(&self) -> Checker<'_> {
        match &self.how {
            How::Exact(script) => Checker::Exact(Exact::new(script)),
            How::Text { pieces, all } => {
                Checker::Text(Text::new(pieces, all, self.dialect, self.is_stream))
            }
            How::Shape => Checker::Shape(Shape::new(self.dialect, self.is_stream)),
        }
    }
}

/// What the mock answers; `None` where that depends on more.
fn script(dialect: Dialect, model: &str, is_stream: bool) -> Option<Script> {
    let make = if is_stream { Script::stream } else { Script::whole };
    make(dialect.path(), model).ok().flatten()
}

// === impl Checker ===

impl Checker<'_> {
    /// Takes what has come of the body, at this time.
    pub(super) fn feed(
        &mut self,
        bytes: &[u8],
        now: Instant,
        seen: &mut Seen,
    ) -> Result<(), Failure> {
        seen.bytes += bytes.len() as u64;
        match self {
            Self::Exact(exact) => {
                exact.feed(bytes, now, seen);
                Ok(())
            }
            Self::Text(text) => text.feed(bytes, now, seen),
            Self::Shape(shape) => shape.feed(bytes, now, seen),
        }
    }

    /// The body has ended as it should.
    pub(super) fn end(self) -> Result<(), Failure> {
        match self {
            Self::Exact(exact) => exact.end(),
            Self::Text(text) => text.end(),
            Self::Shape(shape) => shape.end(),
        }
    }

    /// The body has ended too early. What was wrong before then comes first.
    pub(super) fn cut(self, failure: Failure) -> Failure {
        match self {
            Self::Exact(exact) => exact.cut(failure),
            Self::Text(_) | Self::Shape(_) => failure,
        }
    }
}

// === impl Seen ===

impl Seen {
    fn event(&mut self, now: Instant) {
        if let Some(last) = self.last.replace(now) {
            self.gaps.push(now - last);
        } else {
            self.first = Some(now);
        }
    }

    pub(super) fn clear(&mut self) {
        self.first = None;
        self.last = None;
        self.gaps.clear();
        self.bytes = 0;
    }
}
