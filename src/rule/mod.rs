//! Rules: which requests go elsewhere, or nowhere.
//!
//! A rule's condition is an expression of the Common Expression Language. It is compiled and its
//! types are checked when the rule is saved, so that each mistake is found then, with its position;
//! and it is run for a bounded number of steps.
//!
//! ```text
//! lex       text -> its words
//! parse     words -> a tree of bounded height
//! check     the types of operators and functions   -> node | Mistake
//! node      the checked tree
//! run       the tree over the facts of a request   -> bool | Stopped
//! value     what expressions calculate with
//! pattern   globs and regular expressions
//! files     names of files in a text
//! said      what the messages of a body say
//! simple    forms without an expression, written as one
//! ```

mod check;
mod files;
mod lex;
mod node;
mod parse;
mod pattern;
mod run;
mod said;
mod simple;
mod value;

pub use self::files::file_names;
pub use self::node::{LimitName, Variable};
pub use self::run::{ALL_STEPS_MAX, Facts, Stopped};
pub use self::said::{Said, said};
pub use self::simple::{COMPARATORS, Comparison, Simple};
pub use self::value::Value;

use self::check::Checker;
use self::node::Node;

/// `traffic_percent` in parts of this: three decimals of a percent.
pub const TRAFFIC_WHOLE: u32 = 100_000;

/// A condition, ready to run.
#[derive(Debug, Clone)]
pub struct Expression {
    text: Box<str>,
    node: Node,
    variables: Vec<Variable>,
    targets: Vec<(Box<str>, usize)>,
}

/// Why an expression is refused, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {text}")]
pub struct Mistake {
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    pub text: String,
}

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
    Block {
        message: Box<str>,
    },
}

/// What a rule did with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Taken,
    /// Its condition is false.
    Unfit,
    /// Its condition is true, but this request is not in its part of the traffic.
    LeftByDraw,
    /// What it sends to is not there.
    Nowhere,
    /// Its condition could not be told, which counts as false.
    Stopped(Stopped),
}

impl Expression {
    /// Compiles an expression that says yes or no.
    pub fn compile(text: &str) -> Result<Self, Mistake> {
        let mut checker = Checker::default();
        let node = parse::parse(text)
            .and_then(|expr| checker.flag(&expr, "a condition"))
            .map_err(|fault| fault.in_text(text))?;
        let Checker { variables, targets, .. } = checker;
        Ok(Self { text: text.into(), node, variables, targets })
    }

    /// Whether the condition holds, or why that cannot be told; it takes what it needs of `steps`.
    pub fn run(&self, facts: &dyn Facts, steps: &mut usize) -> Result<bool, Stopped> {
        match run::run(&self.node, facts, steps)? {
            Value::Flag(flag) => Ok(flag),
            _ => Err(Stopped::Type),
        }
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    /// What it reads.
    pub fn variables(&self) -> &[Variable] {
        &self.variables
    }

    /// Whose error rates it asks for.
    pub fn targets(&self) -> impl Iterator<Item = &str> {
        self.targets.iter().map(|(name, _)| &**name)
    }

    /// The mistake of asking for the error rate of `target`.
    pub fn mistaken_target(&self, target: &str, text: &str) -> Option<Mistake> {
        let (_, at) = self.targets.iter().find(|(name, _)| **name == *target)?;
        Some(lex::Fault::at(*at, text).in_text(&self.text))
    }
}

/// The first of `rules` that takes the request. `draw` gives a number below [`TRAFFIC_WHOLE`] for
/// each rule that needs one; `is_there` says whether a destination is; `heard` is told what each rule
/// did.
pub fn first<'r>(
    rules: &'r [Rule],
    (facts, steps): (&dyn Facts, &mut usize),
    mut draw: impl FnMut() -> u32,
    is_there: impl Fn(&Then) -> bool,
    mut heard: impl FnMut(usize, Step),
) -> Option<&'r Then> {
    for (index, rule) in rules.iter().enumerate() {
        let step = match rule.when.as_ref().map_or(Ok(true), |when| when.run(facts, steps)) {
            Err(stopped) => Step::Stopped(stopped),
            Ok(false) => Step::Unfit,
            Ok(true) if rule.traffic < TRAFFIC_WHOLE && rule.traffic <= draw() => Step::LeftByDraw,
            Ok(true) if !is_there(&rule.then) => Step::Nowhere,
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
