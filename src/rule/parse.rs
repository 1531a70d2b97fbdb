//! The grammar of the Common Expression Language, as far as rules need it.
//!
//! Written here, and not taken from a library, for two bounds: how deep a text may nest, so that no
//! text can need more stack than there is, and how high its tree may grow, so that nothing that
//! walks the tree can either.

use super::lex::{Fault, Placed, Token, tokens};
use super::node::Operator;
use super::value::Value;

/// A longer text is refused.
pub(super) const TEXT_BYTES_MAX: usize = 8 * 1024;
/// How high a tree may be, and how many brackets may be open at once.
const DEPTH_MAX: usize = 48;

/// A part of an expression.
#[derive(Debug)]
pub(super) struct Expr {
    /// The byte of the text that it is about.
    pub(super) at: usize,
    pub(super) form: Form,
    height: usize,
}

#[derive(Debug)]
pub(super) enum Form {
    Literal(Value<'static>),
    Name(String),
    Select(Box<Expr>, String),
    Index(Box<Expr>, Box<Expr>),
    /// The receiver of a method, the function's name, the arguments.
    Call(Option<Box<Expr>>, String, Vec<Expr>),
    Not(Box<Expr>),
    Negate(Box<Expr>),
    /// Two or more.
    All(Vec<Expr>),
    Any(Vec<Expr>),
    Binary(Operator, Box<Expr>, Box<Expr>),
    If(Box<[Expr; 3]>),
    List(Vec<Expr>),
}

type Parsed = Result<Expr, Fault>;

/// Reads a whole text.
pub(super) fn parse(text: &str) -> Parsed {
    if TEXT_BYTES_MAX < text.len() {
        return Err(Fault::at(0, format!("is longer than {TEXT_BYTES_MAX} bytes")));
    }
    let mut parser = Parser { tokens: tokens(text)?, at: 0, depth: 0 };
    let expr = parser.expr()?;
    match parser.peek() {
        Token::End => Ok(expr),
        _ => Err(parser.unexpected("an operator or the end")),
    }
}

struct Parser {
    /// The last one is the end.
    tokens: Vec<Placed>,
    at: usize,
    depth: usize,
}

/// How strongly an operator binds.
fn strength(sign: &str) -> Option<u8> {
    Some(match sign {
        "||" => 1,
        "&&" => 2,
        "==" | "!=" | "<" | "<=" | ">" | ">=" | "in" => 3,
        "+" | "-" => 4,
        "*" | "/" | "%" => 5,
        _ => return None,
    })
}

impl Parser {
    fn peek(&self) -> &Token {
        self.tokens.get(self.at).map_or(&Token::End, |(token, _)| token)
    }

    fn place(&self) -> usize {
        self.tokens.get(self.at).or(self.tokens.last()).map_or(0, |(_, place)| *place)
    }

    fn eat(&mut self, sign: &str) -> bool {
        let is_it = matches!(self.peek(), Token::Sign(found) if *found == sign);
        self.at += usize::from(is_it);
        is_it
    }

    fn expect(&mut self, sign: &str) -> Result<(), Fault> {
        if self.eat(sign) { Ok(()) } else { Err(self.unexpected(&format!("`{sign}`"))) }
    }

    fn unexpected(&self, wanted: &str) -> Fault {
        let found = match self.peek() {
            Token::Int(_) | Token::Double(_) => "a number".to_owned(),
            Token::Text(_) => "a text".to_owned(),
            Token::Name(name) => format!("`{name}`"),
            Token::Sign(sign) => format!("`{sign}`"),
            Token::End => "the end".to_owned(),
        };
        Fault::at(self.place(), format!("expected {wanted}, found {found}"))
    }

    fn name(&mut self) -> Result<String, Fault> {
        let Token::Name(name) = self.peek() else { return Err(self.unexpected("a name")) };
        let name = name.clone();
        self.at += 1;
        Ok(name)
    }

    /// What brackets and `?` can hold: anything.
    fn expr(&mut self) -> Parsed {
        if DEPTH_MAX <= self.depth {
            return Err(too_deep(self.place()));
        }
        self.depth += 1;
        let condition = self.operators(1)?;
        let at = self.place();
        let expr = if self.eat("?") {
            let yes = self.operators(1)?;
            self.expect(":")?;
            let no = self.expr()?;
            node(at, Form::If(Box::new([condition, yes, no])))
        } else {
            Ok(condition)
        };
        self.depth -= 1;
        expr
    }

    /// Operators that bind at least as strongly as `least`.
    fn operators(&mut self, least: u8) -> Parsed {
        let mut left = self.unary()?;
        loop {
            let Token::Sign(sign) = self.peek() else { return Ok(left) };
            let sign = *sign;
            let Some(strength) = strength(sign).filter(|strength| least <= *strength) else {
                return Ok(left);
            };
            let at = self.place();
            self.at += 1;
            let right = self.operators(strength + 1)?;
            left = node(at, joined(sign, left, right))?;
        }
    }

    fn unary(&mut self) -> Parsed {
        let at = self.place();
        let mut n = 0_usize;
        while self.eat("!") {
            n += 1;
        }
        if 0 < n {
            // Two of them are as good as none, but for the type that they ask for.
            let mut expr = self.member()?;
            for _ in 0..2 - n % 2 {
                expr = node(at, Form::Not(Box::new(expr)))?;
            }
            return Ok(expr);
        }
        while self.eat("-") {
            n += 1;
        }
        if n == 1
            && let Token::Int(int) = self.peek()
        {
            let int = 0_i64.checked_sub_unsigned(*int);
            let int = int.ok_or_else(|| Fault::at(at, "the number is too small"))?;
            self.at += 1;
            let literal = node(at, Form::Literal(Value::Int(int)))?;
            return self.members_of(literal);
        }
        let mut expr = self.member()?;
        for _ in 0..(if n == 0 { 0 } else { 2 - n % 2 }) {
            expr = node(at, Form::Negate(Box::new(expr)))?;
        }
        Ok(expr)
    }

    fn member(&mut self) -> Parsed {
        let primary = self.primary()?;
        self.members_of(primary)
    }

    /// `.name`, `.name(…)` and `[…]` after `of`.
    fn members_of(&mut self, mut of: Expr) -> Parsed {
        loop {
            let at = self.place();
            if self.eat(".") {
                let at = self.place();
                let name = self.name()?;
                of = node(
                    at,
                    if self.eat("(") {
                        Form::Call(Some(Box::new(of)), name, self.list(")")?)
                    } else {
                        Form::Select(Box::new(of), name)
                    },
                )?;
            } else if self.eat("[") {
                let index = self.expr()?;
                self.expect("]")?;
                of = node(at, Form::Index(Box::new(of), Box::new(index)))?;
            } else {
                return Ok(of);
            }
        }
    }

    fn primary(&mut self) -> Parsed {
        let at = self.place();
        let literal = match self.peek().clone() {
            Token::Int(int) => match i64::try_from(int) {
                Ok(int) => Value::Int(int),
                Err(_) => return Err(Fault::at(at, "the number is too large")),
            },
            Token::Double(double) => Value::Double(double),
            Token::Text(text) => Value::Text(text.into()),
            Token::Name(name) => match name.as_str() {
                "true" => Value::Flag(true),
                "false" => Value::Flag(false),
                "null" => Value::Null,
                _ => return self.named(),
            },
            Token::Sign("(") => {
                self.at += 1;
                let expr = self.expr()?;
                self.expect(")")?;
                return Ok(expr);
            }
            Token::Sign("[") => {
                self.at += 1;
                let items = self.list("]")?;
                return node(at, Form::List(items));
            }
            Token::Sign(".") => {
                self.at += 1;
                return self.named();
            }
            Token::Sign("{") => return Err(Fault::at(at, "rules know no maps")),
            Token::Sign(_) | Token::End => return Err(self.unexpected("a value")),
        };
        self.at += 1;
        node(at, Form::Literal(literal))
    }

    /// A name, or the call of a function.
    fn named(&mut self) -> Parsed {
        let at = self.place();
        let name = self.name()?;
        if self.eat("(") {
            let args = self.list(")")?;
            return node(at, Form::Call(None, name, args));
        }
        if self.eat("{") {
            return Err(Fault::at(at, "rules know no messages"));
        }
        node(at, Form::Name(name))
    }

    /// What stands between commas, up to `end`; a comma may stand before it.
    fn list(&mut self, end: &str) -> Result<Vec<Expr>, Fault> {
        let mut items = Vec::new();
        while !self.eat(end) {
            items.push(self.expr()?);
            if !self.eat(",") {
                self.expect(end)?;
                break;
            }
        }
        Ok(items)
    }
}

/// A chain of `&&` or of `||` is one node, so that a long one is not high.
fn joined(sign: &str, left: Expr, right: Expr) -> Form {
    let chain = |left: Expr, right: Expr| vec![left, right];
    match (sign, left) {
        ("&&", Expr { form: Form::All(mut all), .. }) => {
            all.push(right);
            Form::All(all)
        }
        ("||", Expr { form: Form::Any(mut any), .. }) => {
            any.push(right);
            Form::Any(any)
        }
        ("&&", left) => Form::All(chain(left, right)),
        ("||", left) => Form::Any(chain(left, right)),
        (sign, left) => {
            let operator = Operator::signed(sign).unwrap_or(Operator::Equal);
            Form::Binary(operator, Box::new(left), Box::new(right))
        }
    }
}

fn node(at: usize, form: Form) -> Parsed {
    let height = 1 + match &form {
        Form::Literal(_) | Form::Name(_) => 0,
        Form::Select(of, _) | Form::Not(of) | Form::Negate(of) => of.height,
        Form::Index(of, with) | Form::Binary(_, of, with) => of.height.max(with.height),
        Form::All(parts) | Form::Any(parts) | Form::List(parts) => highest(parts),
        Form::If(parts) => highest(parts.as_slice()),
        Form::Call(of, _, args) => of.as_ref().map_or(0, |of| of.height).max(highest(args)),
    };
    if DEPTH_MAX < height {
        return Err(too_deep(at));
    }
    Ok(Expr { at, form, height })
}

fn highest(parts: &[Expr]) -> usize {
    parts.iter().map(|part| part.height).max().unwrap_or(0)
}

fn too_deep(at: usize) -> Fault {
    Fault::at(at, format!("is nested deeper than {DEPTH_MAX} levels"))
}
