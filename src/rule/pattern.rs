//! Globs and regular expressions, made into a machine when a rule is saved. A pattern that would
//! make a large machine is refused then; one that is taken looks at each byte of a text once.

use regex_automata::dfa::dense::{self, DFA};
use regex_automata::dfa::{Automaton as _, StartKind};
use regex_automata::util::syntax;
use regex_automata::{Input, nfa::thompson};

const PATTERN_BYTES_MAX: usize = 1024;
/// Of the machine of one pattern.
const MACHINE_BYTES_MAX: usize = 512 * 1024;
/// On the way to it.
const BUILD_BYTES_MAX: usize = 2 * 1024 * 1024;

#[derive(Clone)]
pub(super) struct Pattern(std::sync::Arc<DFA<Vec<u32>>>);

impl std::fmt::Debug for Pattern {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Pattern")
    }
}

impl Pattern {
    /// Classes as `\w` and ignoring case are about ASCII, unless the pattern says `(?u)`.
    pub(super) fn regex(text: &str) -> Result<Self, String> {
        if PATTERN_BYTES_MAX < text.len() {
            return Err(format!("the pattern is longer than {PATTERN_BYTES_MAX} bytes"));
        }
        let machine = dense::Builder::new()
            .configure(
                dense::Config::new()
                    .start_kind(StartKind::Unanchored)
                    .dfa_size_limit(Some(MACHINE_BYTES_MAX))
                    .determinize_size_limit(Some(BUILD_BYTES_MAX)),
            )
            .thompson(thompson::Config::new().nfa_size_limit(Some(BUILD_BYTES_MAX)))
            .syntax(syntax::Config::new().unicode(false).utf8(false).nest_limit(48))
            .build(text);
        machine.map(|machine| Self(machine.into())).map_err(|error| reason(&error))
    }

    /// `*` and `?` stay within a part of a path, `**` does not. A glob without `/` is about the last
    /// part.
    pub(super) fn glob(text: &str) -> Result<Self, String> {
        let mut regex = String::from(if text.contains('/') { "^" } else { "(?:^|/)" });
        let mut rest = text;
        let mut n_open = 0_usize;
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
                '?' => regex.push_str("(?:[^/\\x80-\\xff]|[\\xc0-\\xff][\\x80-\\xbf]*)"),
                '{' => {
                    n_open += 1;
                    regex.push_str("(?:");
                }
                '}' if 0 < n_open => {
                    n_open -= 1;
                    regex.push(')');
                }
                ',' if 0 < n_open => regex.push('|'),
                char if char.is_ascii_punctuation() => regex.extend(['\\', char]),
                char => regex.push(char),
            }
            rest = rest.get(char.len_utf8()..).unwrap_or_default();
        }
        if 0 < n_open {
            return Err("the glob opens a `{` and does not close it".to_owned());
        }
        regex.push('$');
        Self::regex(&format!("(?s){regex}")).map_err(|_| "the glob is too long".to_owned())
    }

    pub(super) fn matches(&self, text: &str) -> bool {
        // A machine that quits at some byte is not built; that it does counts as no match.
        self.0.try_search_fwd(&Input::new(text).earliest(true)).is_ok_and(|found| found.is_some())
    }
}

/// What is wrong with a pattern, in one line.
fn reason(error: &dense::BuildError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = error.to_string();
        cause = error.source();
    }
    if ["limit", "exceed"].iter().any(|word| text.contains(word)) {
        return "the pattern is too complex; shorten it, or repeat less in it".to_owned();
    }
    let last = text.lines().last().unwrap_or_default();
    format!("not a regular expression: {}", last.trim_start_matches("error: "))
}
