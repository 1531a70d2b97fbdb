//! Request bodies without a document tree: what the gateway needs is found in one walk, and what
//! it changes is spliced into the bytes that came.

mod additions;
pub(crate) mod cursor;
mod multipart;
mod scan;
mod splice;

pub use additions::{Additions, GOOGLE, OLLAMA, Place, Taken, is_fim};
pub(crate) use cursor::top_level_strings;
pub use multipart::{MultipartScan, scan_multipart};
pub use scan::{Metadata, Model, Scan, ScanError, Sluice, StreamOptions, scan};
pub use splice::{Splice, Spliced, splice_form_model};

#[cfg(test)]
mod tests;
