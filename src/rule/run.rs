//! An expression over the facts of a request, for a bounded number of steps.

use std::cmp::Ordering;

use super::node::{Function, Loop, Node, Operator, Variable};
use super::value::Value;

/// Nodes that are visited, and pieces of texts and lists that are looked at, for one expression.
const STEPS_MAX: usize = 20_000;

/// What a request is, as far as rules can read it.
pub trait Facts {
    /// `None` where it cannot be told: a body that is too large to be read for rules.
    fn value(&self, variable: Variable) -> Option<Value<'_>>;
}

/// Why an expression has no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Stopped {
    #[error("it takes too many steps")]
    Budget,
    #[error("a value is of another type than the expression takes")]
    Type,
    #[error("a field or an element is missing")]
    Missing,
    #[error("a number is out of bounds, or divided by zero")]
    Arithmetic,
    #[error("the body is too large to be read for rules")]
    Unread,
}

pub(super) fn run<'a>(node: &'a Node, facts: &'a dyn Facts) -> Result<Value<'a>, Stopped> {
    Run { facts, steps: 0, locals: Vec::new() }.value(node)
}

struct Run<'a> {
    facts: &'a dyn Facts,
    steps: usize,
    locals: Vec<Value<'a>>,
}

type Outcome<'a> = Result<Value<'a>, Stopped>;

impl<'a> Run<'a> {
    fn take(&mut self, steps: usize) -> Result<(), Stopped> {
        self.steps = self.steps.saturating_add(steps);
        if STEPS_MAX < self.steps { Err(Stopped::Budget) } else { Ok(()) }
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
            Node::Member(of, name) => {
                self.value(of)?.member(name).ok_or(Stopped::Type)?.ok_or(Stopped::Missing)
            }
            Node::Has(of, name) => {
                let found = self.value(of)?.member(name).ok_or(Stopped::Type)?;
                Ok(Value::Flag(found.is_some_and(|found| found != Value::Null)))
            }
            Node::Index(of, at) => self.index(of, at),
            Node::Not(of) => Ok(Value::Flag(!self.flag(of)?)),
            Node::Negate(of) => match self.value(of)? {
                Value::Int(int) => int.checked_neg().map(Value::Int).ok_or(Stopped::Arithmetic),
                Value::Double(double) => Ok(Value::Double(-double)),
                _ => Err(Stopped::Type),
            },
            Node::And(left, right) => self.both(left, right, false),
            Node::Or(left, right) => self.both(left, right, true),
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
                    Value::List(items) => Ok(Value::Flag(items.iter().any(|item| match item {
                        Value::Text(text) => pattern.matches(text),
                        _ => false,
                    }))),
                    _ => Err(Stopped::Type),
                }
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

    /// `&&` and `||`: what one side says alone decides, even if the other has no result.
    fn both(&mut self, left: &'a Node, right: &'a Node, decides: bool) -> Outcome<'a> {
        match self.flag(left) {
            Ok(flag) if flag == decides => Ok(Value::Flag(decides)),
            Ok(_) => self.flag(right).map(Value::Flag),
            Err(Stopped::Budget) => Err(Stopped::Budget),
            Err(stopped) => match self.flag(right)? {
                flag if flag == decides => Ok(Value::Flag(decides)),
                _ => Err(stopped),
            },
        }
    }

    fn index(&mut self, of: &'a Node, at: &'a Node) -> Outcome<'a> {
        let (of, at) = (self.value(of)?, self.value(at)?);
        match at {
            Value::Int(at) => of.element(at).ok_or(Stopped::Missing),
            Value::Text(name) => of.member(&name).ok_or(Stopped::Type)?.ok_or(Stopped::Missing),
            _ => Err(Stopped::Type),
        }
    }

    fn go_over(&mut self, parts: &'a Loop) -> Outcome<'a> {
        let range = self.value(&parts.range)?;
        self.take(range.weight())?;
        let items = range.items().ok_or(Stopped::Type)?;
        let place = self.locals.len();
        let begin = self.value(&parts.begin)?;
        self.locals.push(begin);
        let gone = self.steps_of_loop(parts, place, items);
        let result = gone.and_then(|()| self.value(&parts.result));
        self.locals.truncate(place);
        result
    }

    fn steps_of_loop(
        &mut self,
        parts: &'a Loop,
        place: usize,
        items: Vec<Value<'a>>,
    ) -> Result<(), Stopped> {
        for item in items {
            self.locals.push(item);
            let goes_on = self.flag(&parts.goes_on)?;
            let step = if goes_on { Some(self.value(&parts.step)?) } else { None };
            self.locals.truncate(place + 1);
            let Some(step) = step else { break };
            if let Some(gathered) = self.locals.get_mut(place) {
                *gathered = step;
            }
        }
        Ok(())
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
            (Function::ToDouble, [value]) => {
                value.double().map(Value::Double).ok_or(Stopped::Type)
            }
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
                Ok(Value::Flag(right.member(name).is_some_and(|found| found.is_some())))
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
        (
            left @ (Value::Int(_) | Value::Double(_)),
            right @ (Value::Int(_) | Value::Double(_)),
        ) => {
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
