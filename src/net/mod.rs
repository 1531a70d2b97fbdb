//! Names, addresses and what may be reached.
