//! Types of an expression, and with them the tree that runs.

use super::lex::Fault;
use super::node::{Function, LimitName, Loop, LoopForm, Node, Operator, Type, Variable};
use super::parse::{Expr, Form};
use super::pattern::Pattern;
use super::value::Value;

/// Loops inside of loops take the product of their lists.
const LOOPS_MAX: usize = 2;
/// Error rates are kept for an hour.
pub(super) const MINUTES_MAX: u32 = 60;

type Checked = Result<(Node, Type), Fault>;

/// What an expression asks for, and the names that its macros give.
#[derive(Debug, Default)]
pub(super) struct Checker {
    n_loops: usize,
    locals: Vec<String>,
    pub(super) variables: Vec<Variable>,
    /// Whose error rates it asks for, with the byte where it does.
    pub(super) targets: Vec<(Box<str>, usize)>,
}

impl Checker {
    pub(super) fn node(&mut self, expr: &Expr) -> Checked {
        let at = expr.at;
        match &expr.form {
            Form::Literal(literal) => Ok((Node::Literal(literal.clone()), type_of(literal))),
            Form::Name(name) => self.name(name, at),
            Form::Select(of, field) => self.select(of, field, at),
            Form::Index(of, index) => self.index((of, index), at),
            Form::Call(receiver, name, args) => self.call(receiver.as_deref(), name, (args, at)),
            Form::Not(of) => Ok((Node::Not(Box::new(self.flag(of, "`!`")?)), Type::Flag)),
            Form::Negate(of) => {
                let (node, of_type) = self.node(of)?;
                if !of_type.is_number() {
                    return Err(no_overload("-", &[of_type], at));
                }
                Ok((Node::Negate(Box::new(node)), of_type))
            }
            Form::All(parts) => Ok((Node::All(self.flags(parts, "`&&`")?), Type::Flag)),
            Form::Any(parts) => Ok((Node::Any(self.flags(parts, "`||`")?), Type::Flag)),
            Form::Binary(operator, left, right) => {
                let ((left, of_left), (right, of_right)) = (self.node(left)?, self.node(right)?);
                let Some(of_type) = result_of(*operator, of_left, of_right) else {
                    return Err(no_overload(operator.sign(), &[of_left, of_right], at));
                };
                Ok((Node::Binary(*operator, Box::new(left), Box::new(right)), of_type))
            }
            Form::If(parts) => {
                let [condition, yes, no] = &**parts;
                let condition = self.flag(condition, "`?`")?;
                let ((yes, of_yes), (no, of_no)) = (self.node(yes)?, self.node(no)?);
                if !of_yes.meets(of_no) {
                    return Err(no_overload("? :", &[of_yes, of_no], at));
                }
                Ok((Node::If(Box::new([condition, yes, no])), of_yes.or(of_no)))
            }
            Form::List(items) => {
                let nodes: Result<Vec<Node>, Fault> =
                    items.iter().map(|item| Ok(self.node(item)?.0)).collect();
                Ok((Node::List(nodes?), Type::List))
            }
        }
    }

    fn name(&mut self, name: &str, at: usize) -> Checked {
        if let Some(place) = self.locals.iter().rposition(|local| local == name) {
            return Ok((Node::Local(place), Type::Any));
        }
        match Variable::named(name) {
            Some(variable) => Ok(self.variable(variable)),
            None if name == "request" => Err(Fault::at(at, "`request` has fields; name one")),
            None => {
                let names: Vec<&str> = Variable::ALONE.into_iter().map(|(name, _)| name).collect();
                let text = format!("no variable `{name}`; there are request, {}", names.join(", "));
                Err(Fault::at(at, text))
            }
        }
    }

    fn variable(&mut self, variable: Variable) -> (Node, Type) {
        if !self.variables.contains(&variable) {
            self.variables.push(variable);
        }
        (Node::Variable(variable), variable.of_type())
    }

    fn select(&mut self, of: &Expr, field: &str, at: usize) -> Checked {
        if let Some(variable) = self.field_of_request(of, field, at)? {
            return Ok(self.variable(variable));
        }
        let (node, of_type) = self.node(of)?;
        if !of_type.meets(Type::Map) {
            return Err(Fault::at(at, format!("a {} has no fields", of_type.name())));
        }
        Ok((Node::Member(Box::new(node), field.into()), Type::Any))
    }

    /// What `request.field` is, if `of` is the request.
    fn field_of_request(
        &self,
        of: &Expr,
        field: &str,
        at: usize,
    ) -> Result<Option<Variable>, Fault> {
        let is_request = matches!(&of.form, Form::Name(name) if name == "request");
        if !is_request || self.locals.iter().any(|local| local == "request") {
            return Ok(None);
        }
        if let Some(variable) = Variable::of_request(field) {
            return Ok(Some(variable));
        }
        let names: Vec<&str> = Variable::IN_REQUEST.into_iter().map(|(name, _)| name).collect();
        Err(Fault::at(at, format!("no field `{field}`; there are {}", names.join(", "))))
    }

    fn index(&mut self, (of, index): (&Expr, &Expr), at: usize) -> Checked {
        let ((of, of_type), (index, of_index)) = (self.node(of)?, self.node(index)?);
        let is_list = of_type.meets(Type::List) && of_index.meets(Type::Int);
        let is_map = of_type.meets(Type::Map) && of_index.meets(Type::Text);
        if !is_list && !is_map {
            return Err(no_overload("[]", &[of_type, of_index], at));
        }
        Ok((Node::Index(Box::new(of), Box::new(index)), Type::Any))
    }

    fn call(
        &mut self,
        receiver: Option<&Expr>,
        name: &str,
        (args, at): (&[Expr], usize),
    ) -> Checked {
        if let Some(range) = receiver
            && let Some(form) = loop_form(name)
        {
            return self.go_over(range, form, (args, at));
        }
        let all: Vec<&Expr> = receiver.into_iter().chain(args).collect();
        match (name, all.as_slice()) {
            ("has", [of]) if receiver.is_none() => return self.has(of),
            ("matches" | "glob", [text, pattern]) => {
                return self.pattern(name, (text, pattern), at);
            }
            ("error_rate", [target, minutes]) if receiver.is_none() => {
                return self.error_rate(target, minutes);
            }
            ("usage_percent", [limit]) if receiver.is_none() => return usage_percent(limit),
            _ => {}
        }
        let mut nodes = Vec::with_capacity(all.len());
        let mut types = Vec::with_capacity(all.len());
        for arg in all {
            let (node, of_type) = self.node(arg)?;
            nodes.push(node);
            types.push(of_type);
        }
        let Some((function, wanted, result)) = Function::named(name) else {
            return Err(Fault::at(at, format!("no function `{name}`")));
        };
        let fits = wanted.len() == types.len()
            && wanted.iter().zip(&types).all(|(wanted, of_type)| of_type.meets(*wanted))
            && (function != Function::Size || types.iter().all(|of_type| has_size(*of_type)));
        if !fits {
            return Err(no_overload(name, &types, at));
        }
        Ok((Node::Call(function, nodes), result))
    }

    /// `has(of.field)`: fields of the request are always there.
    fn has(&mut self, of: &Expr) -> Checked {
        let Form::Select(from, field) = &of.form else {
            return Err(Fault::at(of.at, "`has` takes a field, as `has(metadata.team)`"));
        };
        if let Some(variable) = self.field_of_request(from, field, of.at)? {
            self.variable(variable);
            return Ok((Node::Literal(Value::Flag(true)), Type::Flag));
        }
        let (node, of_type) = self.node(from)?;
        if !of_type.meets(Type::Map) {
            return Err(Fault::at(of.at, format!("a {} has no fields", of_type.name())));
        }
        Ok((Node::Has(Box::new(node), field.as_str().into()), Type::Flag))
    }

    /// `matches` and `glob`, whose pattern is compiled now.
    fn pattern(&mut self, name: &str, (of, pattern): (&Expr, &Expr), at: usize) -> Checked {
        let literal = text_of(pattern).ok_or_else(|| {
            Fault::at(pattern.at, format!("the pattern of `{name}` must be a text in quotes"))
        })?;
        let built = match name {
            "glob" => Pattern::glob(literal),
            _ => Pattern::regex(literal),
        };
        let built = built.map_err(|text| Fault::at(pattern.at, text))?;
        let (node, of_type) = self.node(of)?;
        if !of_type.meets(Type::Text) && of_type != Type::List {
            return Err(no_overload(name, &[of_type, Type::Text], at));
        }
        Ok((Node::Matches(Box::new(node), built), Type::Flag))
    }

    fn error_rate(&mut self, target: &Expr, minutes: &Expr) -> Checked {
        let name = text_of(target).ok_or_else(|| {
            Fault::at(target.at, "`error_rate` takes the name of a target in quotes, and minutes")
        })?;
        let Form::Literal(Value::Int(int)) = &minutes.form else {
            return Err(Fault::at(minutes.at, "the minutes of `error_rate` must be a number"));
        };
        let in_bounds = u32::try_from(*int).ok().filter(|int| (1..=MINUTES_MAX).contains(int));
        let minutes = in_bounds.ok_or_else(|| {
            Fault::at(minutes.at, format!("the minutes must be from 1 to {MINUTES_MAX}"))
        })?;
        self.targets.push((name.into(), target.at));
        Ok((Node::ErrorRate(name.into(), minutes), Type::Double))
    }

    fn go_over(&mut self, range: &Expr, form: LoopForm, (args, at): (&[Expr], usize)) -> Checked {
        if LOOPS_MAX <= self.n_loops {
            return Err(Fault::at(at, format!("more than {LOOPS_MAX} loops inside of each other")));
        }
        let range = {
            let (node, of_type) = self.node(range)?;
            if !of_type.meets(Type::List) && !of_type.meets(Type::Map) {
                let text = format!("a {} has no elements to go over", of_type.name());
                return Err(Fault::at(at, text));
            }
            node
        };
        let (name, only, body) = match (form, args) {
            (LoopForm::Map, [name, only, body]) => (name, Some(only), body),
            (_, [name, body]) => (name, None, body),
            _ => return Err(Fault::at(at, "takes a name and what to do with each element")),
        };
        let Form::Name(local) = &name.form else {
            return Err(Fault::at(name.at, "the first argument must be a name for the element"));
        };
        self.n_loops += 1;
        self.locals.push(local.clone());
        let only = only.map(|only| self.flag(only, "the condition")).transpose();
        let body = if form == LoopForm::Map {
            self.node(body).map(|(node, _)| node)
        } else {
            self.flag(body, "the condition")
        };
        self.locals.pop();
        self.n_loops -= 1;
        let of_type = match form {
            LoopForm::Filter | LoopForm::Map => Type::List,
            LoopForm::All | LoopForm::Exists | LoopForm::ExistsOne => Type::Flag,
        };
        let parts = Loop { form, range, only: only?, body: body? };
        Ok((Node::Loop(Box::new(parts)), of_type))
    }

    fn flags(&mut self, parts: &[Expr], taker: &str) -> Result<Vec<Node>, Fault> {
        parts.iter().map(|part| self.flag(part, taker)).collect()
    }

    pub(super) fn flag(&mut self, expr: &Expr, taker: &str) -> Result<Node, Fault> {
        let (node, of_type) = self.node(expr)?;
        if of_type.meets(Type::Flag) {
            return Ok(node);
        }
        Err(Fault::at(expr.at, format!("{taker} takes a bool, not {}", of_type.name())))
    }
}

fn usage_percent(limit: &Expr) -> Checked {
    let name = text_of(limit).and_then(LimitName::parse).ok_or_else(|| {
        Fault::at(
            limit.at,
            "`usage_percent` takes a limit in quotes, as `'key.tokens.minute'`, \
             `'environment.concurrent'` or `'connection/NAME.requests.minute'`",
        )
    })?;
    Ok((Node::UsagePercent(name), Type::Double))
}

fn loop_form(name: &str) -> Option<LoopForm> {
    Some(match name {
        "all" => LoopForm::All,
        "exists" => LoopForm::Exists,
        "exists_one" => LoopForm::ExistsOne,
        "filter" => LoopForm::Filter,
        "map" => LoopForm::Map,
        _ => return None,
    })
}

fn text_of(expr: &Expr) -> Option<&str> {
    match &expr.form {
        Form::Literal(Value::Text(text)) => Some(text),
        _ => None,
    }
}

fn no_overload(name: &str, types: &[Type], at: usize) -> Fault {
    let names: Vec<&str> = types.iter().map(|of_type| of_type.name()).collect();
    Fault::at(at, format!("`{name}` does not take ({})", names.join(", ")))
}

const fn has_size(of_type: Type) -> bool {
    matches!(of_type, Type::Any | Type::Text | Type::List | Type::Map)
}

const fn type_of(literal: &Value<'_>) -> Type {
    match literal {
        Value::Null => Type::Null,
        Value::Flag(_) => Type::Flag,
        Value::Int(_) => Type::Int,
        Value::Double(_) => Type::Double,
        Value::Text(_) => Type::Text,
        Value::List(_) | Value::Texts(_) => Type::List,
        Value::Json(_) | Value::Map(_) => Type::Map,
        Value::Time(_) => Type::Time,
    }
}

fn result_of(operator: Operator, left: Type, right: Type) -> Option<Type> {
    let are_numbers = left.is_number() && right.is_number();
    let are = |of_type: Type| left.meets(of_type) && right.meets(of_type);
    let is_ordered = |of_type: Type| !matches!(of_type, Type::Null | Type::List | Type::Map);
    match operator {
        Operator::Equal | Operator::NotEqual => {
            let may = left.meets(right) || left == Type::Null || right == Type::Null;
            may.then_some(Type::Flag)
        }
        Operator::Less | Operator::LessOrEqual | Operator::Greater | Operator::GreaterOrEqual => {
            (left.meets(right) && is_ordered(left) && is_ordered(right)).then_some(Type::Flag)
        }
        Operator::Add => (are_numbers || are(Type::Text) || are(Type::List))
            .then_some(if left == right { left } else { Type::Any }),
        Operator::Subtract | Operator::Multiply | Operator::Divide | Operator::Remainder => {
            are_numbers.then_some(if left == right { left } else { Type::Any })
        }
        Operator::In => (right.meets(Type::List) || right.meets(Type::Map)).then_some(Type::Flag),
    }
}
