//! The words of an expression.

use super::Mistake;

/// Signs of two letters stand before those of one.
const SIGNS: [&str; 24] = [
    "&&", "||", "==", "!=", "<=", ">=", "<", ">", "+", "-", "*", "/", "%", "!", "?", ":", ".", ",",
    "(", ")", "[", "]", "{", "}",
];
/// Words that the language keeps for itself.
const RESERVED: [&str; 17] = [
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "namespace",
    "package",
    "return",
    "var",
    "void",
    "while",
];

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    /// Without its sign.
    Int(u64),
    Double(f64),
    Text(String),
    Name(String),
    Sign(&'static str),
    End,
}

/// A token and the byte that it begins at.
pub(super) type Placed = (Token, usize);

/// Where an expression is wrong, in bytes.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) at: usize,
    pub(super) text: String,
}

impl Fault {
    pub(super) fn at(at: usize, text: impl Into<String>) -> Self {
        Self { at, text: text.into() }
    }

    /// As its author counts: lines and characters.
    pub(super) fn in_text(self, text: &str) -> Mistake {
        let before = text.get(..self.at).unwrap_or(text);
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|char| *char != '\n').count() + 1;
        Mistake { line, column, text: self.text }
    }
}

pub(super) fn tokens(text: &str) -> Result<Vec<Placed>, Fault> {
    let mut lexer = Lexer { text, at: 0 };
    let mut tokens = Vec::new();
    loop {
        lexer.skip_blank();
        let at = lexer.at;
        let token = lexer.token()?;
        let is_end = token == Token::End;
        tokens.push((token, at));
        if is_end {
            return Ok(tokens);
        }
    }
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let char = self.peek()?;
        self.at += char.len_utf8();
        Some(char)
    }

    /// Goes over the letters that `is_part` knows, and returns them.
    fn run(&mut self, is_part: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let end = rest.find(|char| !is_part(char)).unwrap_or(rest.len());
        self.at += end;
        rest.get(..end).unwrap_or_default()
    }

    fn skip_blank(&mut self) {
        loop {
            self.run(|char| matches!(char, ' ' | '\t' | '\n' | '\r' | '\u{c}'));
            if !self.rest().starts_with("//") {
                return;
            }
            self.run(|char| char != '\n');
        }
    }

    fn token(&mut self) -> Result<Token, Fault> {
        let Some(char) = self.peek() else { return Ok(Token::End) };
        let rest = self.rest();
        if char.is_ascii_digit() || (char == '.' && has_digit(rest, 1)) {
            return self.number();
        }
        if let Some(prefix) = prefix_of_text(rest) {
            return self.text(prefix);
        }
        if char.is_ascii_alphabetic() || char == '_' {
            let at = self.at;
            let name = self.run(|char| char.is_ascii_alphanumeric() || char == '_');
            if RESERVED.contains(&name) {
                return Err(Fault::at(at, format!("`{name}` is a reserved word")));
            }
            return Ok(match name {
                "in" => Token::Sign("in"),
                name => Token::Name(name.to_owned()),
            });
        }
        if let Some(sign) = SIGNS.into_iter().find(|sign| rest.starts_with(sign)) {
            self.at += sign.len();
            return Ok(Token::Sign(sign));
        }
        let hint = match char {
            '=' => "; to compare, write `==`",
            '&' => "; write `&&`",
            '|' => "; write `||`",
            _ => "",
        };
        let shown = char.escape_debug();
        Err(Fault::at(self.at, format!("`{shown}` has no meaning here{hint}")))
    }

    fn number(&mut self) -> Result<Token, Fault> {
        let at = self.at;
        let wrong = |what: &str| Fault::at(at, what);
        if let Some(digits) = self.rest().get(..2).filter(|prefix| matches!(*prefix, "0x" | "0X")) {
            self.at += digits.len();
            let digits = self.run(|char| char.is_ascii_hexdigit());
            let int = u64::from_str_radix(digits, 16).map_err(|_| wrong("not a number"))?;
            self.unsigned();
            return Ok(Token::Int(int));
        }
        self.run(|char| char.is_ascii_digit());
        let mut is_double = false;
        if self.rest().starts_with('.') && has_digit(self.rest(), 1) {
            is_double = true;
            self.at += 1;
            self.run(|char| char.is_ascii_digit());
        }
        if self.rest().starts_with(['e', 'E']) {
            let sign = usize::from(has_at(self.rest(), 1, |char| matches!(char, '+' | '-')));
            if has_digit(self.rest(), 1 + sign) {
                is_double = true;
                self.at += 1 + sign;
                self.run(|char| char.is_ascii_digit());
            }
        }
        let digits = self.text.get(at..self.at).unwrap_or_default();
        let token = if is_double {
            Token::Double(digits.parse().map_err(|_| wrong("not a number"))?)
        } else {
            let int = digits.parse().map_err(|_| wrong("the number is too large"))?;
            self.unsigned();
            Token::Int(int)
        };
        if self.peek().is_some_and(|char| char.is_ascii_alphanumeric() || char == '_') {
            return Err(wrong("a number ends in letters"));
        }
        Ok(token)
    }

    /// An unsigned number is a number here.
    fn unsigned(&mut self) {
        if self.rest().starts_with(['u', 'U']) {
            self.at += 1;
        }
    }

    fn text(&mut self, prefix: &str) -> Result<Token, Fault> {
        let at = self.at;
        let is_raw = prefix.contains(['r', 'R']);
        self.at += prefix.len();
        let quote = self.next().unwrap_or('"');
        let three: String = [quote; 3].iter().collect();
        let end = if self.rest().starts_with(three.get(1..).unwrap_or_default()) {
            self.at += 2;
            three
        } else {
            quote.to_string()
        };
        if prefix.contains(['b', 'B']) {
            return Err(Fault::at(at, "rules know no bytes; write a text without `b`"));
        }
        let mut value = String::new();
        loop {
            if self.rest().starts_with(&end) {
                self.at += end.len();
                return Ok(Token::Text(value));
            }
            match self.next() {
                None => return Err(Fault::at(at, "the text has no end; close its quotes")),
                Some('\n' | '\r') if end.len() == 1 => {
                    return Err(Fault::at(at, "the text does not end in its line"));
                }
                Some('\\') if !is_raw => value.push(self.escape()?),
                Some(char) => value.push(char),
            }
        }
    }

    /// What follows a backslash.
    fn escape(&mut self) -> Result<char, Fault> {
        let at = self.at - 1;
        let wrong = || Fault::at(at, "the language knows no such escape");
        let mut code = |from: usize, len: usize, radix: u32| {
            let digits = self.text.get(self.at + from..self.at + from + len);
            let is_all = |digits: &&str| digits.chars().all(|char| char.is_digit(radix));
            let code = u32::from_str_radix(digits.filter(is_all).ok_or_else(wrong)?, radix);
            self.at += from + len;
            code.ok().and_then(char::from_u32).ok_or_else(wrong)
        };
        match self.text.get(at + 1..).and_then(|rest| rest.chars().next()) {
            Some('x' | 'X') => code(1, 2, 16),
            Some('u') => code(1, 4, 16),
            Some('U') => code(1, 8, 16),
            Some('0'..='3') => code(0, 3, 8),
            _ => self.simple_escape().ok_or_else(wrong),
        }
    }

    fn simple_escape(&mut self) -> Option<char> {
        Some(match self.next()? {
            'a' => '\u{7}',
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'v' => '\u{b}',
            char @ ('\\' | '?' | '"' | '\'' | '`') => char,
            _ => return None,
        })
    }
}

fn has_at(text: &str, index: usize, fits: impl Fn(char) -> bool) -> bool {
    text.chars().nth(index).is_some_and(fits)
}

fn has_digit(text: &str, index: usize) -> bool {
    has_at(text, index, |char| char.is_ascii_digit())
}

/// What stands before the quotes, if a text begins here.
fn prefix_of_text(rest: &str) -> Option<&str> {
    let is_quote = |char| matches!(char, '"' | '\'');
    let end = rest.chars().take(3).position(is_quote)?;
    let prefix = rest.get(..end)?;
    let is_prefix = matches!(prefix.to_ascii_lowercase().as_str(), "" | "r" | "b" | "rb" | "br");
    is_prefix.then_some(prefix)
}
