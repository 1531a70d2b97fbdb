//! An expression over the facts of a request, for a bounded number of steps.

use std::cmp::Ordering;

use super::node::{Function, LimitName, Loop, LoopForm, Node, Operator, Variable};
use super::value::Value;

/// Nodes that are visited, and pieces of texts and lists that are looked at, for one expression.
const STEPS_MAX: usize = 20_000;
/// The same for all expressions that one request meets.
pub const ALL_STEPS_MAX: usize = 200_000;

/// What a request is, as far as rules can read it.
pub trait Facts {
    /// `None` where it cannot be told: a body that is too large to be read for rules.
    fn value(&self, variable: Variable) -> Option<Value<'_>>;

    /// The part, from 0 to 1, of a target's attempts that failed within the last minutes.
    fn error_rate(&self, target: &str, minutes: u32) -> Option<f64>;

    /// How much of a limit is used.
    fn usage_percent(&self, limit: &LimitName) -> Option<f64>;
}

/// Why an expression has no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Stopped {
    #[error("it takes too many steps")]
    Budget,
    #[error("a value is of another type than the expression takes")]
    Type,
    #[error("a field, an element, a target or a limit is missing")]
    Missing,
    #[error("a number is out of bounds, or divided by zero")]
    Arithmetic,
    #[error("the body is too large to be read for rules")]
    Unread,
}

/// Takes what it needs from `steps`.
pub(super) fn run<'a>(
    node: &'a Node,
    facts: &'a dyn Facts,
    steps: &mut usize,
) -> Result<Value<'a>, Stopped> {
    let steps_max = STEPS_MAX.min(*steps);
    let mut run = Run { facts, steps: 0, steps_max, locals: Vec::new() };
    let value = run.value(node);
    *steps -= run.steps.min(*steps);
    value
}

struct Run<'a> {
    facts: &'a dyn Facts,
    steps: usize,
    steps_max: usize,
    locals: Vec<Value<'a>>,
}

type Outcome<'a> = Result<Value<'a>, Stopped>;

impl<'a> Run<'a> {
    fn take(&mut self, steps: usize) -> Result<(), Stopped> {
        self.steps = self.steps.saturating_add(steps);
        if self.steps_max < self.steps { Err(Stopped::Budget) } else { Ok(()) }
    }

    fn value(&mut self, node: &'a Node) -> Outcome<'a> {
        self.take(1)?;
        match node {
            Node::Literal(literal) => Ok(borrowed(literal)),
            Node::Variable(variable) => self.facts.value(*variable).ok_or(Stopped::Unread),
            Node::Local(place) => {
                let local = self.locals.get(*place).ok_or(Stopped::Missing)?;
                let weight = local.weight();
                let local = local.clone();
                self.take(weight)?;
                Ok(local)
            }
            Node::Member(of, name) => self.value(of)?.member(name)?.ok_or(Stopped::Missing),
            Node::Has(of, name) => {
                let found = self.value(of)?.member(name)?;
                Ok(Value::Flag(found.is_some_and(|found| found != Value::Null)))
            }
            Node::Index(of, at) => self.index(of, at),
            Node::Not(of) => Ok(Value::Flag(!self.flag(of)?)),
            Node::Negate(of) => match self.value(of)? {
                Value::Int(int) => int.checked_neg().map(Value::Int).ok_or(Stopped::Arithmetic),
                Value::Double(double) => Ok(Value::Double(-double)),
                _ => Err(Stopped::Type),
            },
            Node::All(parts) => self.each(parts, false),
            Node::Any(parts) => self.each(parts, true),
            Node::If(parts) => {
                let [condition, yes, no] = &**parts;
                if self.flag(condition)? { self.value(yes) } else { self.value(no) }
            }
            Node::Binary(operator, left, right) => {
                let (left, right) = (self.value(left)?, self.value(right)?);
                self.take(left.weight().saturating_add(right.weight()))?;
                binary(*operator, left, right)
            }
            Node::List(nodes) => {
                let items: Result<Vec<_>, Stopped> =
                    nodes.iter().map(|node| self.value(node)).collect();
                items.map(Value::List)
            }
            Node::Call(function, args) => self.call(*function, args),
            Node::Matches(of, pattern) => {
                let value = self.value(of)?;
                self.take(value.weight())?;
                match value {
                    Value::Text(text) => Ok(Value::Flag(pattern.matches(&text))),
                    list => {
                        let items = list.items().ok_or(Stopped::Type)?;
                        self.take(items.iter().map(Value::weight).sum())?;
                        let matches = |item: &Value<'_>| match item {
                            Value::Text(text) => pattern.matches(text),
                            _ => false,
                        };
                        Ok(Value::Flag(items.iter().any(matches)))
                    }
                }
            }
            Node::ErrorRate(target, minutes) => {
                let rate = self.facts.error_rate(target, *minutes);
                rate.map(Value::Double).ok_or(Stopped::Missing)
            }
            Node::UsagePercent(limit) => {
                self.facts.usage_percent(limit).map(Value::Double).ok_or(Stopped::Missing)
            }
            Node::Loop(parts) => self.go_over(parts),
        }
    }

    fn flag(&mut self, node: &'a Node) -> Result<bool, Stopped> {
        match self.value(node)? {
            Value::Flag(flag) => Ok(flag),
            _ => Err(Stopped::Type),
        }
    }

    /// `&&` and `||`: what one part says alone decides, even if another has no result.
    fn each(&mut self, parts: &'a [Node], decides: bool) -> Outcome<'a> {
        let mut stopped = None;
        for part in parts {
            match self.flag(part) {
                Ok(flag) if flag == decides => return Ok(Value::Flag(decides)),
                Ok(_) => {}
                Err(Stopped::Budget) => return Err(Stopped::Budget),
                Err(why) => stopped = Some(stopped.unwrap_or(why)),
            }
        }
        stopped.map_or(Ok(Value::Flag(!decides)), Err)
    }

    fn index(&mut self, of: &'a Node, at: &'a Node) -> Outcome<'a> {
        let (of, at) = (self.value(of)?, self.value(at)?);
        match at {
            Value::Int(at) => of.element(at).ok_or(Stopped::Missing),
            Value::Text(name) => of.member(&name)?.ok_or(Stopped::Missing),
            _ => Err(Stopped::Type),
        }
    }

    fn go_over(&mut self, parts: &'a Loop) -> Outcome<'a> {
        let range = self.value(&parts.range)?;
        self.take(range.weight())?;
        let items = range.items().ok_or(Stopped::Type)?;
        let place = self.locals.len();
        let gone = self.gathered(parts, (place, items));
        self.locals.truncate(place);
        gone
    }

    fn gathered(
        &mut self,
        parts: &'a Loop,
        (place, items): (usize, Vec<Value<'a>>),
    ) -> Outcome<'a> {
        let (mut list, mut n_hits, mut stopped) = (Vec::new(), 0, None);
        for item in items {
            self.locals.truncate(place);
            self.take(item.weight())?;
            self.locals.push(item);
            if let Some(only) = &parts.only
                && !self.flag(only)?
            {
                continue;
            }
            if parts.form == LoopForm::Map {
                list.push(self.value(&parts.body)?);
                continue;
            }
            // As with `&&` and `||`: one element can decide, whatever another has for a result.
            let flag = match (self.flag(&parts.body), parts.form) {
                (Ok(flag), _) => flag,
                (Err(Stopped::Budget), _) => return Err(Stopped::Budget),
                (Err(why), LoopForm::All | LoopForm::Exists) => {
                    stopped = Some(stopped.unwrap_or(why));
                    continue;
                }
                (Err(why), _) => return Err(why),
            };
            match (parts.form, flag) {
                (LoopForm::All, false) | (LoopForm::Exists, true) => return Ok(Value::Flag(flag)),
                (LoopForm::ExistsOne, true) => n_hits += 1,
                (LoopForm::Filter, true) => list.extend(self.locals.last().cloned()),
                _ => {}
            }
        }
        if let Some(stopped) = stopped {
            return Err(stopped);
        }
        Ok(match parts.form {
            LoopForm::All => Value::Flag(true),
            LoopForm::Exists => Value::Flag(false),
            LoopForm::ExistsOne => Value::Flag(n_hits == 1),
            LoopForm::Filter | LoopForm::Map => Value::List(list),
        })
    }

    fn call(&mut self, function: Function, args: &'a [Node]) -> Outcome<'a> {
        let mut values = Vec::with_capacity(args.len());
        for arg in args {
            let value = self.value(arg)?;
            self.take(value.weight())?;
            values.push(value);
        }
        match (function, values.as_slice()) {
            (Function::Size, [value]) => {
                let size = value.size().ok_or(Stopped::Type)?;
                Ok(Value::Int(i64::try_from(size).unwrap_or(i64::MAX)))
            }
            (Function::Contains, [Value::Text(text), Value::Text(part)]) => {
                Ok(Value::Flag(memchr::memmem::find(text.as_bytes(), part.as_bytes()).is_some()))
            }
            (Function::StartsWith, [Value::Text(text), Value::Text(part)]) => {
                Ok(Value::Flag(text.starts_with(&**part)))
            }
            (Function::EndsWith, [Value::Text(text), Value::Text(part)]) => {
                Ok(Value::Flag(text.ends_with(&**part)))
            }
            (Function::LowerAscii, [Value::Text(text)]) => {
                Ok(Value::Text(text.to_ascii_lowercase().into()))
            }
            (Function::UpperAscii, [Value::Text(text)]) => {
                Ok(Value::Text(text.to_ascii_uppercase().into()))
            }
            (Function::ToText, [value]) => as_text(value),
            (Function::ToInt, [value]) => as_int(value),
            (Function::ToDouble, [value]) => value.double().map(Value::Double).ok_or(Stopped::Type),
            (_, [Value::Time(micros)]) => part_of_time(function, *micros),
            _ => Err(Stopped::Type),
        }
    }
}

/// A literal without a copy of its text.
fn borrowed<'a>(literal: &'a Value<'static>) -> Value<'a> {
    match literal {
        Value::Text(text) => Value::text(text),
        other => other.clone(),
    }
}

fn binary<'a>(operator: Operator, left: Value<'a>, right: Value<'a>) -> Outcome<'a> {
    let ordered = |fits: fn(Ordering) -> bool| {
        left.order(&right).map(|order| Value::Flag(fits(order))).ok_or(Stopped::Type)
    };
    match operator {
        Operator::Equal => Ok(Value::Flag(left.equals(&right))),
        Operator::NotEqual => Ok(Value::Flag(!left.equals(&right))),
        Operator::Less => ordered(Ordering::is_lt),
        Operator::LessOrEqual => ordered(Ordering::is_le),
        Operator::Greater => ordered(Ordering::is_gt),
        Operator::GreaterOrEqual => ordered(Ordering::is_ge),
        Operator::In => match right {
            Value::Map(_) | Value::Json(serde_json::Value::Object(_)) => {
                let Value::Text(name) = &left else { return Ok(Value::Flag(false)) };
                Ok(Value::Flag(right.member(name)?.is_some()))
            }
            right => {
                let items = right.items().ok_or(Stopped::Type)?;
                Ok(Value::Flag(items.iter().any(|item| item.equals(&left))))
            }
        },
        Operator::Add
        | Operator::Subtract
        | Operator::Multiply
        | Operator::Divide
        | Operator::Remainder => arithmetic(operator, left, right),
    }
}

fn arithmetic<'a>(operator: Operator, left: Value<'a>, right: Value<'a>) -> Outcome<'a> {
    match (left, right) {
        (Value::Int(left), Value::Int(right)) => {
            let result = match operator {
                Operator::Add => left.checked_add(right),
                Operator::Subtract => left.checked_sub(right),
                Operator::Multiply => left.checked_mul(right),
                Operator::Divide => left.checked_div(right),
                _ => left.checked_rem(right),
            };
            result.map(Value::Int).ok_or(Stopped::Arithmetic)
        }
        (Value::Text(left), Value::Text(right)) if operator == Operator::Add => {
            Ok(Value::Text([&*left, &*right].concat().into()))
        }
        (Value::List(mut left), Value::List(right)) if operator == Operator::Add => {
            left.extend(right);
            Ok(Value::List(left))
        }
        (left @ (Value::Int(_) | Value::Double(_)), right @ (Value::Int(_) | Value::Double(_))) => {
            let (left, right) = left.double().zip(right.double()).ok_or(Stopped::Type)?;
            Ok(Value::Double(match operator {
                Operator::Add => left + right,
                Operator::Subtract => left - right,
                Operator::Multiply => left * right,
                Operator::Divide => left / right,
                _ => left % right,
            }))
        }
        _ => Err(Stopped::Type),
    }
}

fn as_text<'a>(value: &Value<'a>) -> Outcome<'a> {
    Ok(Value::Text(match value {
        Value::Text(text) => text.clone(),
        Value::Int(int) => int.to_string().into(),
        Value::Double(double) => double.to_string().into(),
        Value::Flag(flag) => flag.to_string().into(),
        _ => return Err(Stopped::Type),
    }))
}

#[expect(clippy::cast_possible_truncation, reason = "bounds are checked before")]
fn as_int<'a>(value: &Value<'a>) -> Outcome<'a> {
    const BOUND: f64 = 9.0e18;
    match value {
        Value::Int(int) => Ok(Value::Int(*int)),
        Value::Double(double) if double.abs() < BOUND => Ok(Value::Int(*double as i64)),
        Value::Double(_) => Err(Stopped::Arithmetic),
        Value::Text(text) => text.parse().map(Value::Int).map_err(|_| Stopped::Type),
        Value::Time(micros) => Ok(Value::Int(micros.div_euclid(1_000_000))),
        _ => Err(Stopped::Type),
    }
}

/// In UTC; months and days of the week begin with 0, as CEL has them.
fn part_of_time<'a>(function: Function, micros: i64) -> Outcome<'a> {
    let seconds = micros.div_euclid(1_000_000);
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Howard Hinnant's `civil_from_days`: years begin in March.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = (from_march + 2) % 12;
    let year = year_of_era + era * 400 + i64::from(month < 2);
    Ok(Value::Int(match function {
        Function::Year => year,
        Function::Month => month,
        Function::DayOfMonth => day,
        Function::DayOfWeek => (days + 4).rem_euclid(7),
        Function::Hours => second / 3_600,
        Function::Minutes => second / 60 % 60,
        _ => return Err(Stopped::Type),
    }))
}
