//! The form between all dialects: it can say whatever one of them can say.
//!
//! What several dialects know has a field here. What only one knows stays as it came, marked with
//! that dialect: its own writer puts it back, and every other writer drops it where that is harmless
//! or refuses it by name.

mod answer;
mod event;
mod part;
mod request;
mod usage;

pub use answer::{Answer, Stop, WireError};
pub use event::{Event, Open, Start};
pub use part::{
    Cache, Citation, Media, MediaKind, Part, Piece, SEAL_MARK, Seal, Source, Thinking, ToolCall,
    ToolResult,
};
pub use request::{
    Effort, Format, Function, Reasoning, Request, Role, Sampling, Tool, ToolChoice, Turn, WebSearch,
};
pub use usage::Usage;
