//! Rules as requests meet them: the environment's, then those of the deployment that came out.
//!
//! ```text
//! facts    what the rules of a request can read, found when they do
//! explain  the same walk for a person: which rule, and why
//! ```

mod explain;
mod facts;

use std::sync::Arc;

pub use self::explain::{Trial, TrialError, explain};
pub use self::facts::{Asked, FactsOf};

use crate::control::snapshot::{Deployment, Environment};
use crate::rule::{ALL_STEPS_MAX, Rule, Step, Then, first};

/// Whose rules they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    Environment,
    Deployment,
}

/// Where a request begins its way.
#[derive(Debug)]
pub struct Way<'a> {
    pub environment: &'a Environment,
    /// What it named; `None` leaves the choice to the rules of the environment.
    pub named: Option<&'a Arc<Deployment>>,
    pub environment_rules: Option<&'a [Rule]>,
    /// In place of those of the deployment that is come to.
    pub deployment_rules: Option<&'a [Rule]>,
}

/// Where rules have sent a request.
#[derive(Debug, Default)]
pub struct Sent {
    /// `None` when it named none and no rule took it, or one blocks it.
    pub deployment: Option<Arc<Deployment>>,
    pub target: Option<Box<str>>,
    pub blocked: Option<Box<str>>,
}

/// Asks the rules. `heard` is told what each one did.
pub fn walk<'a>(
    way: &Way<'a>,
    facts: &FactsOf<'a>,
    mut draw: impl FnMut() -> u32,
    mut heard: impl FnMut(Whose, &Rule, Step),
) -> Sent {
    let mut steps = ALL_STEPS_MAX;
    let mut sent = Sent { deployment: way.named.map(Arc::clone), ..Sent::default() };
    facts.set_deployment(way.named.map(|named| &**named));
    if let Some(rules) = way.environment_rules {
        let is_there = |then: &Then| is_there(then, way.environment, None);
        let tell = |index, step| tell(&mut heard, (Whose::Environment, rules), index, step);
        let then = first(rules, (facts, &mut steps), &mut draw, is_there, tell);
        sent.follow(then, way.environment);
    }
    let Some(deployment) = sent.deployment.as_ref().map(Arc::clone) else { return sent };
    if sent.blocked.is_some() {
        return sent;
    }
    let Some(rules) = way.deployment_rules.or(deployment.rules.as_deref()) else { return sent };
    facts.set_deployment(way.environment.deployments.get(&*deployment.name).map(|it| &**it));
    let is_there = |then: &Then| is_there(then, way.environment, Some(&deployment));
    let tell = |index, step| tell(&mut heard, (Whose::Deployment, rules), index, step);
    let then = first(rules, (facts, &mut steps), &mut draw, is_there, tell);
    sent.follow(then, way.environment);
    sent
}

fn tell(
    heard: &mut impl FnMut(Whose, &Rule, Step),
    (whose, rules): (Whose, &[Rule]),
    index: usize,
    step: Step,
) {
    if let Some(rule) = rules.get(index) {
        heard(whose, rule, step);
    }
}

fn is_there(then: &Then, environment: &Environment, deployment: Option<&Deployment>) -> bool {
    match then {
        Then::Deployment(name) => environment.deployments.contains_key(name),
        Then::Model(name) => environment.models.contains_key(name),
        Then::Target(name) => deployment.is_some_and(|it| it.target(name).is_some()),
        Then::Block { .. } => true,
    }
}

impl Sent {
    fn follow(&mut self, then: Option<&Then>, environment: &Environment) {
        match then {
            None => {}
            Some(Then::Deployment(name)) => {
                self.deployment = environment.deployments.get(name).map(Arc::clone);
            }
            Some(Then::Model(name)) => {
                self.deployment = environment.models.get(name).map(Arc::clone);
            }
            Some(Then::Target(name)) => self.target = Some(name.clone()),
            Some(Then::Block { message }) => {
                self.blocked = Some(message.clone());
                self.deployment = None;
            }
        }
    }
}
