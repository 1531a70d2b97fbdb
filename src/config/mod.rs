//! What the operator writes, read once: raw text to checked types, all problems at once.
//!
//! ```text
//! document   TOML, YAML or JSON as one tree in which every value knows its line
//! fields     reads a table of that tree, field by field, collecting problems
//! problem    Problem { file, line, field, text }
//! server     `sluice.toml`      -> ServerConfig
//! resources  `resources.toml`   -> Resources
//! ```

pub mod document;
pub mod fields;
pub mod problem;
pub mod resources;
pub mod server;
