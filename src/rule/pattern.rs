//! Globs and regular expressions, compiled when a rule is saved. Matching takes time linear in the
//! text, whatever the pattern.

use regex::{Regex, RegexBuilder};

const PROGRAM_BYTES_MAX: usize = 256 * 1024;
const PATTERN_BYTES_MAX: usize = 1024;

#[derive(Debug, Clone)]
pub(super) struct Pattern(Regex);

impl Pattern {
    pub(super) fn regex(text: &str) -> Result<Self, String> {
        if PATTERN_BYTES_MAX < text.len() {
            return Err(format!("the pattern is longer than {PATTERN_BYTES_MAX} bytes"));
        }
        let built = RegexBuilder::new(text).size_limit(PROGRAM_BYTES_MAX).build();
        built.map(Self).map_err(|error| {
            // The parser draws the pattern over several lines; its last line says what is wrong.
            let text = error.to_string();
            let last = text.lines().last().unwrap_or_default();
            format!("not a regular expression: {}", last.trim_start_matches("error: "))
        })
    }

    /// `*` and `?` stay within a part of a path, `**` does not. A glob without `/` is about the last
    /// part.
    pub(super) fn glob(text: &str) -> Result<Self, String> {
        let mut regex = String::from(if text.contains('/') { "^" } else { "(?:^|/)" });
        let mut rest = text;
        while let Some(char) = rest.chars().next() {
            if let Some(after) = rest.strip_prefix("**/") {
                regex.push_str("(?:.*/)?");
                rest = after;
                continue;
            }
            if let Some(after) = rest.strip_prefix("**") {
                regex.push_str(".*");
                rest = after;
                continue;
            }
            match char {
                '*' => regex.push_str("[^/]*"),
                '?' => regex.push_str("[^/]"),
                '{' => regex.push_str("(?:"),
                '}' => regex.push(')'),
                ',' if is_inside(text, rest) => regex.push('|'),
                _ => regex.push_str(&regex::escape(char.encode_utf8(&mut [0; 4]))),
            }
            rest = rest.get(char.len_utf8()..).unwrap_or_default();
        }
        regex.push('$');
        Self::regex(&format!("(?s){regex}")).map_err(|_| "not a glob".to_owned())
    }

    pub(super) fn matches(&self, text: &str) -> bool {
        self.0.is_match(text)
    }
}

/// Whether `rest`, the end of `text`, begins between braces.
fn is_inside(text: &str, rest: &str) -> bool {
    let before = text.get(..text.len() - rest.len()).unwrap_or_default();
    before.matches('{').count() > before.matches('}').count()
}
