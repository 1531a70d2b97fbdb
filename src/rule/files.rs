//! Names of files in a text: coding tools say which file they work on, each in its own way.

/// More names say no more.
const NAMES_MAX: usize = 64;
/// Of a longer text the beginning is read.
const TEXT_BYTES_MAX: usize = 256 * 1024;
const ENDING_BYTES_MAX: usize = 10;

/// Endings by which a word alone is taken for a file; with a `/` before it any ending will do.
const ENDINGS: [&str; 66] = [
    "adoc", "bash", "bat", "c", "cc", "cfg", "clj", "conf", "cpp", "cs", "css", "csv", "cxx",
    "dart", "env", "erl", "ex", "exs", "fs", "go", "gradle", "graphql", "h", "hcl", "hpp", "hs",
    "html", "ini", "ipynb", "java", "js", "json", "jsx", "kt", "kts", "less", "lock", "lua", "m",
    "md", "mjs", "ml", "nix", "php", "pl", "proto", "ps1", "py", "pyi", "r", "rb", "rs", "rst",
    "scala", "scss", "sh", "sql", "svelte", "swift", "tf", "toml", "ts", "tsx", "vue", "yaml",
    "yml",
];

/// The names of files in `text`, each once, in their order.
pub fn file_names(text: &str) -> Vec<Box<str>> {
    let mut end = text.len().min(TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let text = text.get(..end).unwrap_or_default();
    let mut names: Vec<Box<str>> = Vec::new();
    let mut from = 0;
    // Every name has a dot, and most text has few.
    while let Some(found) = text.get(from..).and_then(|rest| memchr::memchr(b'.', rest.as_bytes()))
    {
        let dot = from + found;
        let (before, after) = text.split_at(dot);
        let unread = before.get(from..).unwrap_or_default();
        let start = from + unread.trim_end_matches(is_part).len();
        let len = after.find(|char| !is_part(char)).unwrap_or(after.len());
        let word = text.get(start..dot + len).unwrap_or_default();
        from = dot + len;
        let name = word.trim_end_matches(['.', '-']);
        let is_address = before.get(..start).is_some_and(|before| before.ends_with(':'));
        if is_file(name, is_address) && !names.iter().any(|known| **known == *name) {
            names.push(name.into());
            if NAMES_MAX <= names.len() {
                break;
            }
        }
    }
    names
}

/// What can stand in a path.
fn is_part(char: char) -> bool {
    char.is_alphanumeric() || matches!(char, '_' | '.' | '-' | '/' | '\\' | '@' | '+')
}

/// `is_address` for what follows a colon: the rest of `https://…`, or of a drive.
fn is_file(name: &str, is_address: bool) -> bool {
    let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let Some((stem, ending)) = last.rsplit_once('.') else { return false };
    let is_ending = (1..=ENDING_BYTES_MAX).contains(&ending.len())
        && ending.bytes().all(|byte| byte.is_ascii_alphanumeric())
        && ending.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic());
    if !is_ending || (is_address && name.starts_with("//")) {
        return false;
    }
    let is_path = name.contains(['/', '\\']);
    let is_known = ENDINGS.contains(&ending.to_ascii_lowercase().as_str());
    is_known || (is_path && !stem.is_empty())
}
