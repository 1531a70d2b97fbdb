//! The only file that knows all parts.
