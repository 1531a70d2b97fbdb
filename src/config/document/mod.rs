//! TOML, YAML and JSON as one tree with lines.
