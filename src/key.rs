//! Virtual keys: format and digest.
