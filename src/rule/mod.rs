//! Rules: which requests go elsewhere, or nowhere.
//!
//! A rule's condition is an expression of the Common Expression Language. Its grammar is read by the
//! `cel` crate; types are checked and the tree is run here, so that each mistake is found when a rule
//! is saved, with its position, and so that no expression can run for long.
//!
//! ```text
//! compile   text -> a checked tree                -> Expression | Mistake
//! check     the types of operators and functions
//! node      the tree
//! run       the tree over the facts of a request  -> bool | Stopped
//! value     what expressions calculate with
//! pattern   globs and regular expressions
//! files     names of files in a text
//! ```

mod check;
mod compile;
mod files;
mod node;
mod pattern;
mod run;
mod value;

pub use self::compile::{Expression, Mistake};
pub use self::files::file_names;
pub use self::node::Variable;
pub use self::run::{Facts, Stopped};
pub use self::value::Value;

/// `traffic_percent` in parts of this: three decimals of a percent.
pub const TRAFFIC_WHOLE: u32 = 100_000;

/// One rule.
#[derive(Debug, Clone)]
pub struct Rule {
    /// `None` is always true.
    pub when: Option<Expression>,
    /// How many of [`TRAFFIC_WHOLE`] requests that it fits it takes; others go on to the next rule.
    pub traffic: u32,
    pub then: Then,
}

/// What becomes of a request that a rule takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Then {
    Deployment(Box<str>),
    Model(Box<str>),
    /// Of the deployment whose rule it is.
    Target(Box<str>),
    Block { message: Box<str> },
}

/// What a rule did with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Taken,
    /// Its condition is false.
    Unfit,
    /// Its condition is true, but this request is not in its part of the traffic.
    LeftByDraw,
    /// Its condition could not be told, which counts as false.
    Stopped(Stopped),
}

/// The first of `rules` that takes the request. `draw` gives a number below [`TRAFFIC_WHOLE`] for
/// each rule that needs one; `heard` is told what each rule did.
pub fn first<'r>(
    rules: &'r [Rule],
    facts: &dyn Facts,
    mut draw: impl FnMut() -> u32,
    mut heard: impl FnMut(usize, Step),
) -> Option<&'r Then> {
    for (index, rule) in rules.iter().enumerate() {
        let step = match rule.when.as_ref().map_or(Ok(true), |when| when.run(facts)) {
            Err(stopped) => Step::Stopped(stopped),
            Ok(false) => Step::Unfit,
            Ok(true) if rule.traffic < TRAFFIC_WHOLE && rule.traffic <= draw() => Step::LeftByDraw,
            Ok(true) => Step::Taken,
        };
        heard(index, step);
        if step == Step::Taken {
            return Some(&rule.then);
        }
    }
    None
}

#[cfg(test)]
mod tests;
