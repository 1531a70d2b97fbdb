//! Names of files in a text: coding tools say which file they work on, each in its own way.

use std::sync::LazyLock;

use regex::Regex;

/// More names say no more.
const NAMES_MAX: usize = 64;
/// Of a longer text the beginning is read.
const TEXT_BYTES_MAX: usize = 256 * 1024;

/// Endings by which a word alone is taken for a file; with a `/` before it any ending will do.
const ENDINGS: [&str; 66] = [
    "adoc", "bash", "bat", "c", "cc", "cfg", "clj", "conf", "cpp", "cs", "css", "csv", "cxx", "dart",
    "env", "erl", "ex", "exs", "fs", "go", "gradle", "graphql", "h", "hcl", "hpp", "hs", "html",
    "ini", "ipynb", "java", "js", "json", "jsx", "kt", "kts", "less", "lock", "lua", "m", "md", "mjs",
    "ml", "nix", "php", "pl", "proto", "ps1", "py", "pyi", "r", "rb", "rs", "rst", "scala", "scss",
    "sh", "sql", "svelte", "swift", "tf", "toml", "ts", "tsx", "vue", "yaml", "yml",
];

static NAME: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?:[\w.@+-]*[/\\])*[\w@+.-]*[\w@+-]\.([A-Za-z][A-Za-z0-9]{0,9})\b")
        .expect("the expression is fixed and right")
});

/// The names of files in `text`, each once, in their order.
pub fn file_names(text: &str) -> Vec<&str> {
    let mut end = text.len().min(TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let mut names = Vec::new();
    for found in NAME.captures_iter(text.get(..end).unwrap_or_default()) {
        let (Some(name), Some(ending)) = (found.get(0), found.get(1)) else { continue };
        let is_path = name.as_str().contains(['/', '\\']) && !is_address(text, name.start());
        let is_known = ENDINGS.contains(&ending.as_str().to_ascii_lowercase().as_str());
        if (is_path || is_known) && !names.contains(&name.as_str()) {
            names.push(name.as_str());
            if NAMES_MAX <= names.len() {
                break;
            }
        }
    }
    names
}

/// Whether what begins at `start` is the rest of `https://…`.
fn is_address(text: &str, start: usize) -> bool {
    text.get(..start).is_some_and(|before| before.ends_with(':'))
}
