//! What requests read.
