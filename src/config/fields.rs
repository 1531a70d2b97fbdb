//! A table read field by field.
