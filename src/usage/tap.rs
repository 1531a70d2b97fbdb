//! Tokens read from an answer in passing.
