//! Names: their form, that none stands twice, and that a reference leads somewhere.

use std::collections::HashMap;

use crate::config::fields::{Fields, Item};

const NAME_LEN_MAX: usize = 128;

/// The names of one kind in one scope, with the lines they stand in.
#[derive(Default)]
pub(super) struct Names {
    lines: HashMap<String, u32>,
    /// Every name counts as standing here.
    is_open: bool,
}

impl Names {
    /// The name in the field `field`, which must not stand here yet.
    pub(super) fn declare(&mut self, fields: &Fields<'_>, field: &'static str) -> String {
        let Some(item) = fields.require(field) else { return String::new() };
        let Some(name) = item.text() else { return String::new() };
        check_form(&item, name);
        self.insert(&item, name);
        name.to_owned()
    }

    /// Names that stand elsewhere.
    pub(super) fn of(names: &[String]) -> Self {
        let lines = names.iter().map(|name| (name.clone(), 0)).collect();
        Self { lines, is_open: false }
    }

    /// What refers to these was checked before.
    pub(super) fn any() -> Self {
        Self { lines: HashMap::new(), is_open: true }
    }

    pub(super) fn add_missing(&mut self, names: &[String]) {
        for name in names {
            self.lines.entry(name.clone()).or_insert(0);
        }
    }

    /// Adds `name`, which `item` holds or implies.
    pub(super) fn insert(&mut self, item: &Item<'_>, name: &str) {
        let line = item.place().line;
        if let Some(first) = self.lines.insert(name.to_owned(), line) {
            let shown = item.report().show(name);
            item.problem(format!("{shown} stands twice, first in line {first}"));
        }
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        self.is_open || self.lines.contains_key(name)
    }

    fn iter(&self) -> impl Iterator<Item = &str> {
        self.lines.keys().map(String::as_str)
    }
}

/// The name in `item`, which must stand in one of `scopes`.
pub(super) fn refer(item: &Item<'_>, kind: &str, scopes: &[&Names]) -> String {
    let Some(name) = item.text() else { return String::new() };
    if !scopes.iter().any(|names| names.contains(name)) {
        let shown = item.report().show(name);
        let names = scopes.iter().flat_map(|names| names.iter());
        let hint = item.report().did_you_mean(name, names);
        item.problem(format!("no {kind} called {shown}{hint}"));
    }
    name.to_owned()
}

/// Names travel in headers, so they are printable ASCII.
pub(super) fn check_form(item: &Item<'_>, name: &str) {
    let is_printable = name.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
    if name.is_empty() || name.len() > NAME_LEN_MAX || !is_printable || name.trim() != name {
        item.problem(format!(
            "must be 1 to {NAME_LEN_MAX} printable ASCII characters without spaces at the ends"
        ));
    }
}

/// `^[a-z0-9][a-z0-9-]{0,62}$`
pub(super) fn is_slug(text: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    (1..=63).contains(&text.len())
        && text.bytes().next().is_some_and(is_letter)
        && text.bytes().all(|byte| is_letter(byte) || byte == b'-')
}

/// What can stand in a header's name after `x-sluice-metadata-`.
pub(super) fn is_metadata_key(text: &str) -> bool {
    let is_letter = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_'
    };
    (1..=64).contains(&text.len()) && text.bytes().all(is_letter)
}
