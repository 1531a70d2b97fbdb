//! Rules of an environment or a deployment, compiled.

use super::names::Names;
use crate::config::document::Node;
use crate::config::fields::{Fields, Item, Report};
use crate::config::problem::Problems;
use crate::rule::{COMPARATORS, Expression, Rule, Simple, TRAFFIC_WHOLE, Then};

const RULES_MAX: usize = 256;
const MESSAGE_BYTES_MAX: usize = 1_000;
const FORMS_MAX: usize = 64;
const KINDS: [(&str, &str); 2] = [("chat", "chat"), ("fim", "fim")];

/// Whose rules they are, and so what they can name.
#[derive(Clone, Copy)]
pub(super) enum Whose<'a> {
    /// With the deployments and the models that stand beside the rules.
    Environment(&'a [&'a Names], &'a [&'a Names]),
    /// With its targets; deployments may stand after it.
    Deployment(&'a Names, &'a [&'a Names]),
    /// Of either, to be tried out.
    Draft,
}

/// The list `rules`.
pub(super) fn rules(fields: &Fields<'_>, whose: Whose<'_>) -> Vec<Rule> {
    let Some(item) = fields.get("rules") else { return Vec::new() };
    let items = item.list().unwrap_or_default();
    if RULES_MAX < items.len() {
        item.problem(format!("must not hold more than {RULES_MAX} rules"));
    }
    items.iter().filter_map(Item::fields).filter_map(|fields| rule(fields, whose)).collect()
}

/// Reads rules that stand by themselves: `{"rules": […]}`.
pub fn read_rules(file: &str, node: &Node) -> Result<Vec<Rule>, Problems> {
    let report = Report::new(file);
    let rules = Fields::root(&report, node).map(|fields| rules(&fields, Whose::Draft));
    report.finish()?;
    Ok(rules.unwrap_or_default())
}

fn rule(fields: Fields<'_>, whose: Whose<'_>) -> Option<Rule> {
    let when = condition(&fields);
    let written = ["when", "all", "any"].into_iter().find_map(|name| fields.get(name));
    if let (Some(expression), Some(item)) = (&when, written) {
        check_targets(&item, expression, whose);
    }
    let percent = fields.get("traffic_percent").and_then(|item| item.fraction(&(0.0..=100.0)));
    let then = fields.require("then").and_then(|item| then(&item, whose));
    fields.finish();
    Some(Rule { when, traffic: percent.map_or(TRAFFIC_WHOLE, parts), then: then? })
}

/// A percentage, from 0 to 100, in parts of [`TRAFFIC_WHOLE`].
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is in bounds")]
fn parts(percent: f64) -> u32 {
    (percent * f64::from(TRAFFIC_WHOLE) / 100.0).round() as u32
}

/// `when`, or the forms of `all` and `any`; `None` is always true.
fn condition(fields: &Fields<'_>) -> Option<Expression> {
    let when = fields.get("when");
    let lists = [("all", " && "), ("any", " || ")];
    let mut written = Vec::new();
    for (name, joint) in lists {
        let Some(item) = fields.get(name) else { continue };
        if when.is_some() {
            item.problem("stands beside `when`; use one of them");
            continue;
        }
        let forms = item.list().unwrap_or_default();
        if forms.is_empty() || FORMS_MAX < forms.len() {
            item.problem(format!("must hold 1 to {FORMS_MAX} conditions"));
            continue;
        }
        let conditions: Option<Vec<String>> = forms.iter().map(form).collect();
        if let Some(conditions) = conditions {
            written.push((format!("({})", conditions.join(joint)), item));
        }
    }
    if let Some(item) = when {
        return compiled(&item, item.text()?, |mistake| mistake);
    }
    let text: Vec<&str> = written.iter().map(|(text, _)| text.as_str()).collect();
    let text = text.join(" && ");
    let (_, item) = written.first()?;
    compiled(item, &text, |mistake| format!("as an expression, `{text}`: {mistake}"))
}

fn compiled(item: &Item<'_>, text: &str, say: impl FnOnce(String) -> String) -> Option<Expression> {
    match Expression::compile(text) {
        Ok(expression) => Some(expression),
        Err(mistake) => {
            item.problem(say(mistake.to_string()));
            None
        }
    }
}

/// One simple condition, in brackets.
fn form(item: &Item<'_>) -> Option<String> {
    let fields = item.fields()?;
    let by = || fields.require("is").and_then(|item| item.choice(&COMPARATORS));
    let value = || fields.require("value").and_then(|item| item.json());
    let text = |name: &'static str| fields.text(name).map(str::to_owned);
    let simple = if fields.get("field").is_some() {
        let value = fields.get("value").and_then(|item| item.json());
        text("field").zip(by()).map(|(field, by)| Simple::Field { field, by, value })
    } else if let Some(item) = fields.get("has_tools") {
        item.flag().map(Simple::HasTools)
    } else if fields.get("filename").is_some() {
        let kind = fields.get("kind").and_then(|item| item.choice(&KINDS)).map(str::to_owned);
        text("filename").map(|glob| Simple::FileName { glob, kind })
    } else if let Some(item) = fields.get("kind") {
        item.choice(&KINDS).map(|kind| Simple::Kind(kind.to_owned()))
    } else if fields.get("error_rate").is_some() {
        let minutes = fields.number("minutes", 1..=60, 5);
        let asked = text("error_rate").zip(by()).zip(value());
        asked.map(|((target, by), value)| Simple::ErrorRate { target, minutes, by, value })
    } else if fields.get("usage_percent").is_some() {
        let asked = text("usage_percent").zip(by()).zip(value());
        asked.map(|((limit, by), value)| Simple::UsagePercent { limit, by, value })
    } else {
        item.problem(
            "must have one of `field`, `has_tools`, `filename`, `kind`, `error_rate` and \
             `usage_percent`",
        );
        return None;
    };
    fields.finish();
    match simple?.expression() {
        Ok(text) => Some(format!("({text})")),
        Err(problem) => {
            item.problem(problem);
            None
        }
    }
}

fn then(item: &Item<'_>, whose: Whose<'_>) -> Option<Then> {
    let fields = item.fields()?;
    let ways = ["deployment", "model", "target", "block"];
    let named: Vec<(&str, Item<'_>)> =
        ways.into_iter().filter_map(|way| Some((way, fields.get(way)?))).collect();
    let then = if let [(way, item)] = named.as_slice() {
        destination(way, item, whose)
    } else {
        item.problem("must have one of `deployment`, `model`, `target` and `block`");
        None
    };
    fields.finish();
    then
}

fn destination(way: &str, item: &Item<'_>, whose: Whose<'_>) -> Option<Then> {
    if way == "block" {
        let fields = item.fields()?;
        let message = fields.require("message").and_then(|item| item.text());
        fields.finish();
        let message = message.filter(|text| (1..=MESSAGE_BYTES_MAX).contains(&text.len()));
        if message.is_none() {
            item.problem(format!("needs a `message` of 1 to {MESSAGE_BYTES_MAX} bytes"));
        }
        return message.map(|message| Then::Block { message: message.into() });
    }
    let name = item.text()?;
    match (way, whose) {
        ("target", Whose::Environment(..)) => {
            item.problem("is for rules of a deployment; name a deployment or a model");
        }
        ("target", Whose::Deployment(targets, _)) if !targets.contains(name) => {
            let shown = item.report().show(name);
            item.problem(format!("the deployment has no target called {shown}"));
        }
        ("deployment", Whose::Environment(names, _))
        | ("model", Whose::Environment(_, names) | Whose::Deployment(_, names))
            if !names.iter().any(|names| names.contains(name)) =>
        {
            // It may be made later; until then the rule takes nothing.
            let shown = item.report().show(name);
            item.warning(format!("there is no {way} called {shown}: the rule takes nothing"));
        }
        _ => {}
    }
    Some(match way {
        "deployment" => Then::Deployment(name.into()),
        "model" => Then::Model(name.into()),
        _ => Then::Target(name.into()),
    })
}

/// A target of the deployment itself must be there; another's is looked for when a request comes.
fn check_targets(item: &Item<'_>, expression: &Expression, whose: Whose<'_>) {
    let Whose::Deployment(targets, _) = whose else { return };
    let missing = expression.targets().find(|name| !targets.contains(name) && !name.contains('/'));
    let text = "the deployment has no such target; of another, write `deployment/target`";
    if let Some(mistake) = missing.and_then(|name| expression.mistaken_target(name, text)) {
        item.problem(mistake.to_string());
    }
}
