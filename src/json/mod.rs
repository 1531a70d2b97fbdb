//! JSON bodies without a tree.
