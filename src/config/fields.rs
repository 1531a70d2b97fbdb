//! A table read field by field: types, bounds and defaults, collecting every problem.
//!
//! A reader asks for the fields it knows and calls [`Fields::finish`], which reports the others. A
//! value with a problem counts as its default, so that reading goes on; the result of a document
//! with problems is thrown away by [`Report::finish`].

use std::cell::RefCell;
use std::collections::HashSet;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::document::{Node, Table, Value};
use super::problem::{Problem, Problems};
use super::suggest::nearest;

/// How much of a text a message shows.
const LETTERS_MAX: usize = 80;

/// The problems and warnings of one document.
pub struct Report {
    file: String,
    /// Texts that came out of env vars.
    hidden: HashSet<String>,
    problems: RefCell<Vec<Problem>>,
    warnings: RefCell<Vec<Problem>>,
}

/// Where a value stands.
#[derive(Clone)]
pub struct Place {
    pub line: u32,
    pub path: String,
}

/// One value and where it stands.
#[derive(Clone)]
pub struct Item<'a> {
    report: &'a Report,
    place: Place,
    node: &'a Node,
}

/// A table that is being read.
pub struct Fields<'a> {
    report: &'a Report,
    place: Place,
    table: &'a Table,
    known: RefCell<Vec<&'static str>>,
}

// === impl Report ===

impl Report {
    pub fn new(file: &str) -> Self {
        Self {
            file: file.to_owned(),
            hidden: HashSet::new(),
            problems: RefCell::default(),
            warnings: RefCell::default(),
        }
    }

    /// Never show `text`: an env var gave it.
    pub fn hide(&mut self, text: &str) {
        self.hidden.insert(text.to_owned());
    }

    pub fn problem(&self, place: &Place, text: impl Into<String>) {
        self.problems.borrow_mut().push(self.at(place, text.into()));
    }

    pub fn warning(&self, place: &Place, text: impl Into<String>) {
        self.warnings.borrow_mut().push(self.at(place, text.into()));
    }

    /// `text` in backquotes, cut to a length that fits a message.
    pub fn show(&self, text: &str) -> String {
        if self.hidden.contains(text) {
            return "(the text of an env var)".to_owned();
        }
        let mut shown: String =
            text.chars().take(LETTERS_MAX).flat_map(char::escape_debug).collect();
        if text.chars().nth(LETTERS_MAX).is_some() {
            shown.push('…');
        }
        format!("`{shown}`")
    }

    /// `, did you mean …?` when one of `names` is near `wanted`, else nothing.
    pub fn did_you_mean<'n>(&self, wanted: &str, names: impl Iterator<Item = &'n str>) -> String {
        if self.hidden.contains(wanted) {
            return String::new();
        }
        match nearest(wanted, names.filter(|name| !self.hidden.contains(*name))) {
            Some(name) => format!(", did you mean {}?", self.show(name)),
            None => String::new(),
        }
    }

    /// The warnings, if there is no problem.
    pub fn finish(self) -> Result<Vec<Problem>, Problems> {
        let mut problems = self.problems.into_inner();
        let mut warnings = self.warnings.into_inner();
        // Stable: what stands in one line stays in the order of reading.
        problems.sort_by_key(|problem| problem.line);
        warnings.sort_by_key(|warning| warning.line);
        if problems.is_empty() { Ok(warnings) } else { Err(Problems(problems)) }
    }

    fn at(&self, place: &Place, text: String) -> Problem {
        let Place { line, path } = place;
        if *line == 0 {
            let (file, field) = ("environment".to_owned(), env_var(path));
            return Problem { file, line: 0, field, text };
        }
        Problem { file: self.file.clone(), line: *line, field: path.clone(), text }
    }
}

/// The env var that sets the field `path` of the server's configuration.
pub fn env_var(path: &str) -> String {
    let path = path.split('[').next().unwrap_or_default();
    format!("SLUICE_{}", path.replace('.', "__").to_ascii_uppercase())
}

// === impl Place ===

impl Place {
    pub fn root() -> Self {
        Self { line: 1, path: String::new() }
    }

    #[must_use]
    pub fn key(&self, key: &str, line: u32) -> Self {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
        let key = if !key.is_empty() && key.bytes().all(is_plain) {
            key.to_owned()
        } else {
            format!("{key:?}")
        };
        let path = if self.path.is_empty() { key } else { format!("{}.{key}", self.path) };
        Self { line, path }
    }

    #[must_use]
    pub fn index(&self, index: usize, line: u32) -> Self {
        Self { line, path: format!("{}[{index}]", self.path) }
    }
}

// === impl Item ===

impl<'a> Item<'a> {
    pub fn place(&self) -> &Place {
        &self.place
    }

    pub fn report(&self) -> &'a Report {
        self.report
    }

    pub fn problem(&self, text: impl Into<String>) {
        self.report.problem(&self.place, text);
    }

    pub fn warning(&self, text: impl Into<String>) {
        self.report.warning(&self.place, text);
    }

    /// Every reader below answers `None` after it has reported why.
    pub fn text(&self) -> Option<&'a str> {
        match &self.node.value {
            Value::Text(text) => Some(text),
            _ => self.expected("a text"),
        }
    }

    /// A text, or a date of TOML.
    pub fn date(&self) -> Option<&'a str> {
        match &self.node.value {
            Value::Text(text) | Value::Date(text) => Some(text),
            _ => self.expected("a time in quotes"),
        }
    }

    /// A number, or a text that holds one: exact, as written.
    pub fn decimal(&self) -> Option<&'a str> {
        match &self.node.value {
            Value::Text(text) | Value::Number(text) => Some(text),
            _ => self.expected("a number"),
        }
    }

    pub fn flag(&self) -> Option<bool> {
        match &self.node.value {
            Value::Flag(flag) => Some(*flag),
            _ => self.expected("true or false"),
        }
    }

    pub fn number<T>(&self, bounds: &RangeInclusive<T>) -> Option<T>
    where
        T: TryFrom<i128> + PartialOrd + Display,
    {
        let Value::Number(digits) = &self.node.value else {
            return self.expected("a whole number");
        };
        let number = digits.parse::<i128>().ok().and_then(|number| T::try_from(number).ok());
        let number = number.filter(|number| bounds.contains(number));
        if number.is_none() {
            let (min, max) = (bounds.start(), bounds.end());
            self.problem(format!("must be a whole number from {min} to {max}"));
        }
        number
    }

    /// A number with or without a fraction.
    pub fn fraction(&self, bounds: &RangeInclusive<f64>) -> Option<f64> {
        let Value::Number(digits) = &self.node.value else { return self.expected("a number") };
        let number = digits.parse().ok().filter(|number| bounds.contains(number));
        if number.is_none() {
            self.problem(format!("must be a number from {} to {}", bounds.start(), bounds.end()));
        }
        number
    }

    pub fn list(&self) -> Option<Vec<Item<'a>>> {
        let Value::List(nodes) = &self.node.value else { return self.expected("a list") };
        let item = |(index, node): (usize, &'a Node)| Item {
            report: self.report,
            place: self.place.index(index, node.line),
            node,
        };
        Some(nodes.iter().enumerate().map(item).collect())
    }

    pub fn fields(&self) -> Option<Fields<'a>> {
        let Value::Table(table) = &self.node.value else { return self.expected("a table") };
        Some(Fields::new(self.report, self.place.clone(), table))
    }

    /// Any value that JSON holds exactly.
    pub fn json(&self) -> Option<serde_json::Value> {
        if let Some(unlike) = self.node.unlike_json() {
            let line = Place { line: unlike.line, path: self.place.path.clone() };
            let what = unlike.value.kind();
            self.report.problem(&line, format!("holds {what} that JSON cannot keep exactly"));
            return None;
        }
        Some(self.node.to_json())
    }

    /// One of a set of words.
    pub fn choice<T: Copy>(&self, choices: &[(&str, T)]) -> Option<T> {
        let text = self.text()?;
        let choice = choices.iter().find(|(name, _)| *name == text).map(|(_, value)| *value);
        if choice.is_none() {
            let names: Vec<String> = choices.iter().map(|(name, _)| format!("`{name}`")).collect();
            let hint = self.report.did_you_mean(text, choices.iter().map(|(name, _)| *name));
            let shown = self.report.show(text);
            self.problem(format!("must be one of {}, not {shown}{hint}", names.join(", ")));
        }
        choice
    }

    /// The text, for values that have two forms.
    pub fn text_if_any(&self) -> Option<&'a str> {
        match &self.node.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Whether this is written as a text, for values that have two forms.
    pub fn is_text(&self) -> bool {
        matches!(self.node.value, Value::Text(_))
    }

    /// Whether this is written as a number, for values that have two forms.
    pub fn is_number(&self) -> bool {
        matches!(self.node.value, Value::Number(_))
    }

    /// Reports the wrong type, unless the value has its problem already.
    pub fn expected<T>(&self, what: &str) -> Option<T> {
        if !matches!(self.node.value, Value::Refused) {
            self.problem(format!("must be {what}, not {}", self.node.value.kind()));
        }
        None
    }
}

// === impl Fields ===

impl<'a> Fields<'a> {
    pub fn new(report: &'a Report, place: Place, table: &'a Table) -> Self {
        Self { report, place, table, known: RefCell::default() }
    }

    /// The root of a document.
    pub fn root(report: &'a Report, root: &'a Node) -> Option<Self> {
        Item { report, place: Place { line: root.line, path: String::new() }, node: root }.fields()
    }

    pub fn place(&self) -> &Place {
        &self.place
    }

    pub fn report(&self) -> &'a Report {
        self.report
    }

    pub fn problem(&self, text: impl Into<String>) {
        self.report.problem(&self.place, text);
    }

    /// The field `name`, unless it is missing or null.
    pub fn get(&self, name: &'static str) -> Option<Item<'a>> {
        self.known.borrow_mut().push(name);
        let entry = self.table.get(name)?;
        let place = self.place.key(name, entry.node.line);
        match entry.node.value {
            Value::Null => None,
            _ => Some(Item { report: self.report, place, node: &entry.node }),
        }
    }

    /// The field `name`, whose absence is a problem.
    pub fn require(&self, name: &'static str) -> Option<Item<'a>> {
        let item = self.get(name);
        if item.is_none() {
            self.report.problem(&self.place.key(name, self.place.line), "is missing");
        }
        item
    }

    pub fn text(&self, name: &'static str) -> Option<&'a str> {
        self.get(name)?.text()
    }

    pub fn flag(&self, name: &'static str, default: bool) -> bool {
        self.get(name).and_then(|item| item.flag()).unwrap_or(default)
    }

    pub fn number<T>(&self, name: &'static str, bounds: RangeInclusive<T>, default: T) -> T
    where
        T: TryFrom<i128> + PartialOrd + Display,
    {
        self.get(name).and_then(|item| item.number(&bounds)).unwrap_or(default)
    }

    pub fn millis(
        &self,
        name: &'static str,
        bounds: RangeInclusive<u64>,
        default: u64,
    ) -> Duration {
        Duration::from_millis(self.number(name, bounds, default))
    }

    pub fn seconds(
        &self,
        name: &'static str,
        bounds: RangeInclusive<u64>,
        default: u64,
    ) -> Duration {
        Duration::from_secs(self.number(name, bounds, default))
    }

    /// Seconds that may have a fraction, to the millisecond.
    pub fn fraction_seconds(
        &self,
        name: &'static str,
        bounds: RangeInclusive<f64>,
        default: f64,
    ) -> Duration {
        let seconds = self.get(name).and_then(|item| item.fraction(&bounds)).unwrap_or(default);
        // Bounds are small and not negative, so no conversion can fail.
        let exact = Duration::try_from_secs_f64(seconds).unwrap_or_default();
        Duration::from_millis(u64::try_from(exact.as_millis()).unwrap_or(u64::MAX))
    }

    pub fn choice<T: Copy>(&self, name: &'static str, choices: &[(&str, T)], default: T) -> T {
        self.get(name).and_then(|item| item.choice(choices)).unwrap_or(default)
    }

    /// The items of the list `name`; none when it is missing.
    pub fn items(&self, name: &'static str) -> Vec<Item<'a>> {
        self.get(name).and_then(|item| item.list()).unwrap_or_default()
    }

    /// The tables of the list `name`; none when it is missing.
    pub fn tables(&self, name: &'static str) -> Vec<Fields<'a>> {
        self.items(name).iter().filter_map(Item::fields).collect()
    }

    /// Every field, for a table whose keys are the user's.
    pub fn entries(&self) -> impl Iterator<Item = (&'a str, Item<'a>)> {
        self.table.entries.iter().map(|entry| {
            let place = self.place.key(&entry.key, entry.node.line);
            (entry.key.as_str(), Item { report: self.report, place, node: &entry.node })
        })
    }

    /// Reports the fields that nobody asked for.
    pub fn finish(self) {
        let known = self.known.into_inner();
        for entry in &self.table.entries {
            if !known.contains(&entry.key.as_str()) {
                let hint = self.report.did_you_mean(&entry.key, known.iter().copied());
                let place = self.place.key(&entry.key, entry.line);
                self.report.problem(&place, format!("unknown field{hint}"));
            }
        }
    }
}
