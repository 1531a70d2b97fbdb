//! Types of an expression, and with them the tree that runs.

use cel::common::ast::{CallExpr, ComprehensionExpr, Expr, IdedExpr, LiteralValue, SelectExpr};

use super::node::{Function, Loop, Node, Operator, Type, Variable};
use super::pattern::Pattern;
use super::value::Value;

/// How deep a tree may be; it is walked by calls.
const DEPTH_MAX: usize = 64;
/// Loops inside of loops take the product of their lists.
const LOOPS_MAX: usize = 2;

/// What is wrong with the part `id` of an expression.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) id: u64,
    pub(super) text: String,
}

type Checked = Result<(Node, Type), Fault>;

#[derive(Debug, Default)]
pub(super) struct Checker {
    depth: usize,
    n_loops: usize,
    /// Names that macros give.
    locals: Vec<(String, Type)>,
}

impl Checker {
    pub(super) fn node(&mut self, expr: &IdedExpr) -> Checked {
        if DEPTH_MAX <= self.depth {
            return fault(expr.id, "is nested too deeply");
        }
        self.depth += 1;
        let checked = match &expr.expr {
            Expr::Literal(literal) => literal_node(literal, expr.id),
            Expr::Ident(name) => self.name(name, expr.id),
            Expr::Select(select) => self.select(select, expr.id),
            Expr::Call(call) => self.call(call, expr.id),
            Expr::Comprehension(comprehension) => self.comprehension(comprehension, expr.id),
            Expr::List(list) if list.optional_indices.is_empty() => {
                let nodes: Result<Vec<_>, Fault> =
                    list.elements.iter().map(|element| Ok(self.node(element)?.0)).collect();
                nodes.map(|nodes| (Node::List(nodes), Type::List))
            }
            Expr::List(_) | Expr::Map(_) | Expr::Struct(_) | Expr::Unspecified => {
                fault(expr.id, "rules know no maps, messages and optional elements")
            }
        };
        self.depth -= 1;
        checked
    }

    fn name(&self, name: &str, id: u64) -> Checked {
        if let Some(place) = self.locals.iter().rposition(|(local, _)| local == name) {
            let of_type = self.locals.get(place).map_or(Type::Any, |(_, of_type)| *of_type);
            return Ok((Node::Local(place), of_type));
        }
        match Variable::named(name) {
            Some(variable) => Ok((Node::Variable(variable), variable.of_type())),
            None if name == "request" => fault(id, "`request` has fields; name one"),
            None => {
                let names: Vec<&str> = Variable::ALONE.into_iter().map(|(name, _)| name).collect();
                fault(id, format!("no variable `{name}`; there are request, {}", names.join(", ")))
            }
        }
    }

    fn select(&mut self, select: &SelectExpr, id: u64) -> Checked {
        let is_local = |name: &str| self.locals.iter().any(|(local, _)| local == name);
        if let Expr::Ident(name) = &select.operand.expr
            && name == "request"
            && !is_local(name)
        {
            let Some(variable) = Variable::of_request(&select.field) else {
                let names = Variable::IN_REQUEST.into_iter().map(|(name, _)| name);
                let names: Vec<&str> = names.collect();
                let field = &select.field;
                return fault(id, format!("no field `{field}`; there are {}", names.join(", ")));
            };
            if select.test {
                return Ok((Node::Literal(Value::Flag(true)), Type::Flag));
            }
            return Ok((Node::Variable(variable), variable.of_type()));
        }
        let (operand, of_type) = self.node(&select.operand)?;
        if !of_type.meets(Type::Map) {
            return fault(id, format!("a {} has no fields", of_type.name()));
        }
        let field = select.field.as_str().into();
        if select.test {
            return Ok((Node::Has(Box::new(operand), field), Type::Flag));
        }
        Ok((Node::Member(Box::new(operand), field), Type::Any))
    }

    fn call(&mut self, call: &CallExpr, id: u64) -> Checked {
        let receiver = call.target.iter().map(|target| &**target);
        let args: Vec<&IdedExpr> = receiver.chain(&call.args).collect();
        if let ("matches" | "glob", [text, pattern]) = (call.func_name.as_str(), args.as_slice()) {
            return self.pattern(&call.func_name, (text, pattern), id);
        }
        let mut nodes = Vec::with_capacity(args.len());
        let mut types = Vec::with_capacity(args.len());
        for arg in args {
            let (node, of_type) = self.node(arg)?;
            nodes.push(node);
            types.push(of_type);
        }
        if let Some((function, wanted, result)) = Function::named(&call.func_name) {
            let fits = wanted.len() == types.len()
                && wanted.iter().zip(&types).all(|(wanted, of_type)| of_type.meets(*wanted))
                && (function != Function::Size || types.iter().all(|of_type| has_size(*of_type)));
            if !fits {
                return no_overload(&call.func_name, &types, id);
            }
            return Ok((Node::Call(function, nodes), result));
        }
        operator(&call.func_name, nodes, &types, id)
    }

    /// `matches` and `glob`, whose pattern is compiled now.
    fn pattern(&mut self, name: &str, (text, pattern): (&IdedExpr, &IdedExpr), id: u64) -> Checked {
        let Expr::Literal(LiteralValue::String(literal)) = &pattern.expr else {
            return fault(pattern.id, format!("the pattern of `{name}` must be a text in quotes"));
        };
        let built = match name {
            "glob" => Pattern::glob(literal.inner()),
            _ => Pattern::regex(literal.inner()),
        };
        let built = built.map_err(|text| Fault { id: pattern.id, text })?;
        let (node, of_type) = self.node(text)?;
        if !of_type.meets(Type::Text) && of_type != Type::List {
            return no_overload(name, &[of_type, Type::Text], id);
        }
        Ok((Node::Matches(Box::new(node), built), Type::Flag))
    }

    fn comprehension(&mut self, from: &ComprehensionExpr, id: u64) -> Checked {
        if LOOPS_MAX <= self.n_loops {
            return fault(id, format!("more than {LOOPS_MAX} loops inside of each other"));
        }
        let (range, of_range) = self.node(&from.iter_range)?;
        if !of_range.meets(Type::List) && !of_range.meets(Type::Map) {
            let name = of_range.name();
            return fault(from.iter_range.id, format!("a {name} has no elements to go over"));
        }
        if from.iter_var2.is_some() {
            return fault(id, "macros with two names are not known");
        }
        let (begin, of_begin) = self.node(&from.accu_init)?;
        self.n_loops += 1;
        self.locals.push((from.accu_var.clone(), of_begin));
        self.locals.push((from.iter_var.clone(), Type::Any));
        let goes_on = self.flag(&from.loop_cond);
        let step = self.node(&from.loop_step);
        self.locals.pop();
        let result = self.node(&from.result);
        self.locals.pop();
        self.n_loops -= 1;
        let ((step, _), (result, of_result)) = (step?, result?);
        let all = Loop { range, begin, goes_on: goes_on?, step, result };
        Ok((Node::Loop(Box::new(all)), of_result))
    }

    fn flag(&mut self, expr: &IdedExpr) -> Result<Node, Fault> {
        let (node, of_type) = self.node(expr)?;
        if of_type.meets(Type::Flag) {
            return Ok(node);
        }
        Err(Fault { id: expr.id, text: format!("must be a bool, not a {}", of_type.name()) })
    }
}

fn fault<T>(id: u64, text: impl Into<String>) -> Result<T, Fault> {
    Err(Fault { id, text: text.into() })
}

fn no_overload<T>(name: &str, types: &[Type], id: u64) -> Result<T, Fault> {
    let names: Vec<&str> = types.iter().map(|of_type| of_type.name()).collect();
    let name = match Operator::named(name) {
        Some(operator) => operator.sign(),
        None => name,
    };
    fault(id, format!("`{name}` does not take ({})", names.join(", ")))
}

fn has_size(of_type: Type) -> bool {
    matches!(of_type, Type::Any | Type::Text | Type::List | Type::Map)
}

fn literal_node(literal: &LiteralValue, id: u64) -> Checked {
    Ok(match literal {
        LiteralValue::Boolean(flag) => (Node::Literal(Value::Flag(*flag.inner())), Type::Flag),
        LiteralValue::Int(int) => (Node::Literal(Value::Int(*int.inner())), Type::Int),
        LiteralValue::UInt(int) => match i64::try_from(*int.inner()) {
            Ok(int) => (Node::Literal(Value::Int(int)), Type::Int),
            Err(_) => return fault(id, "the number is too large"),
        },
        LiteralValue::Double(double) => {
            (Node::Literal(Value::Double(*double.inner())), Type::Double)
        }
        LiteralValue::String(text) => {
            let text = text.inner().to_owned();
            (Node::Literal(Value::Text(text.into())), Type::Text)
        }
        LiteralValue::Null => (Node::Literal(Value::Null), Type::Null),
        LiteralValue::Bytes(_) => return fault(id, "rules know no bytes"),
    })
}

fn operator(name: &str, nodes: Vec<Node>, types: &[Type], id: u64) -> Checked {
    let mut nodes = nodes.into_iter().map(Box::new);
    let mut next = || nodes.next().unwrap_or_else(|| Box::new(Node::Literal(Value::Null)));
    let are_flags = types.iter().all(|of_type| of_type.meets(Type::Flag));
    let (node, of_type) = match (name, types) {
        ("!_" | "@not_strictly_false", [_]) if are_flags => match name {
            "!_" => (Node::Not(next()), Type::Flag),
            _ => return Ok((*next(), Type::Flag)),
        },
        ("-_", [of_type]) if of_type.is_number() => (Node::Negate(next()), *of_type),
        ("_&&_", [_, _]) if are_flags => (Node::And(next(), next()), Type::Flag),
        ("_||_", [_, _]) if are_flags => (Node::Or(next(), next()), Type::Flag),
        ("_?_:_", [condition, yes, no]) if condition.meets(Type::Flag) => {
            (Node::If(Box::new([*next(), *next(), *next()])), yes.or(*no))
        }
        ("_[_]", [of, at]) => {
            let is_list = of.meets(Type::List) && at.meets(Type::Int);
            let is_map = of.meets(Type::Map) && at.meets(Type::Text);
            if !is_list && !is_map {
                return no_overload("[]", types, id);
            }
            (Node::Index(next(), next()), Type::Any)
        }
        (_, [left, right]) => {
            let Some(operator) = Operator::named(name) else { return unknown(name, id) };
            let Some(result) = result_of(operator, *left, *right) else {
                return no_overload(name, types, id);
            };
            (Node::Binary(operator, next(), next()), result)
        }
        ("!_" | "-_" | "_?_:_", _) => return no_overload(name, types, id),
        _ => return unknown(name, id),
    };
    Ok((node, of_type))
}

fn unknown<T>(name: &str, id: u64) -> Result<T, Fault> {
    match name {
        "_&&_" | "_||_" => fault(id, "`&&` and `||` take bools"),
        _ => fault(id, format!("no function `{name}`")),
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
        Operator::Less
        | Operator::LessOrEqual
        | Operator::Greater
        | Operator::GreaterOrEqual => {
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
