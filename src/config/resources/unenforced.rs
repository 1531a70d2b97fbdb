//! Policies that a document may hold and that this version does not act on.
//!
//! Their shape is checked, so that a document stays good, and each place gets one warning, so that
//! nobody relies on a policy that is not there.

use crate::config::fields::{Fields, Item};

const WARNING: &str = "is read but not enforced by this version";

/// What an environment can hold besides its resources.
pub(super) fn environment_policies(fields: &Fields<'_>) {
    free_tables(fields, "priority_pools");
}

/// What a deployment can hold besides its targets.
pub(super) fn deployment_policies(fields: &Fields<'_>) {
    let Some(item) = fields.get("guards") else { return };
    item.warning(WARNING);
    for fields in item.list().unwrap_or_default().iter().filter_map(Item::fields) {
        // Each guard has settings of its own besides these.
        choice(&fields, "stage", &["request", "response", "both"]);
        choice(&fields, "on_error", &["allow", "deny"]);
    }
}

/// A table whose content is its user's.
pub(super) fn free_table(fields: &Fields<'_>, name: &'static str) {
    if let Some(item) = fields.get(name) {
        item.warning(WARNING);
        item.fields();
    }
}

fn free_tables(fields: &Fields<'_>, name: &'static str) {
    if let Some(item) = fields.get(name) {
        item.warning(WARNING);
        item.list().unwrap_or_default().iter().for_each(|item| {
            item.fields();
        });
    }
}

fn choice(fields: &Fields<'_>, name: &'static str, words: &[&'static str]) {
    if let Some(item) = fields.get(name) {
        one_of(&item, words);
    }
}

fn one_of(item: &Item<'_>, words: &[&'static str]) -> Option<&'static str> {
    let choices: Vec<(&str, &'static str)> = words.iter().map(|word| (*word, *word)).collect();
    item.choice(&choices)
}
