//! The checked tree of an expression.

use super::pattern::Pattern;
use super::value::Value;
use crate::limit::{Level, Metric, Period};

/// What an expression can read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Variable {
    Dialect,
    Model,
    Stream,
    MessagesCount,
    ToolsCount,
    FirstMessage,
    LastMessage,
    Text,
    Body,
    InputTokens,
    FileNames,
    Kind,
    Metadata,
    EndUser,
    Key,
    Client,
    SourceIp,
    Now,
}

/// A type, as far as it is known before an expression runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Type {
    /// Only the request can tell.
    Any,
    Null,
    Flag,
    Int,
    Double,
    Text,
    List,
    Map,
    Time,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
    In,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Function {
    Size,
    Contains,
    StartsWith,
    EndsWith,
    LowerAscii,
    UpperAscii,
    ToText,
    ToInt,
    ToDouble,
    Year,
    Month,
    DayOfMonth,
    DayOfWeek,
    Hours,
    Minutes,
}

#[derive(Debug, Clone)]
pub(super) enum Node {
    Literal(Value<'static>),
    Variable(Variable),
    /// A name that a macro gives, by its place among those that are in sight.
    Local(usize),
    Member(Box<Self>, Box<str>),
    Has(Box<Self>, Box<str>),
    Index(Box<Self>, Box<Self>),
    Not(Box<Self>),
    Negate(Box<Self>),
    All(Vec<Self>),
    Any(Vec<Self>),
    If(Box<[Self; 3]>),
    Binary(Operator, Box<Self>, Box<Self>),
    List(Vec<Self>),
    Call(Function, Vec<Self>),
    /// Whether a text, or one of a list of texts, matches.
    Matches(Box<Self>, Pattern),
    ErrorRate(Box<str>, u32),
    UsagePercent(LimitName),
    Loop(Box<Loop>),
}

/// A macro: for each element of `range`, which is the next local, `body`.
#[derive(Debug, Clone)]
pub(super) struct Loop {
    pub(super) form: LoopForm,
    pub(super) range: Node,
    /// Only elements that it holds for.
    pub(super) only: Option<Node>,
    pub(super) body: Node,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LoopForm {
    All,
    Exists,
    ExistsOne,
    Filter,
    Map,
}

/// A limit as `usage_percent` names it: `key.tokens.minute`, `connection/NAME.concurrent`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitName {
    pub level: Level,
    /// `None` for the owner that the request has anyway.
    pub owner: Option<Box<str>>,
    pub metric: Metric,
    pub period: Period,
}

impl LimitName {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (owner, metric, period) = if let Some(owner) = text.strip_suffix(".concurrent") {
            (owner, Metric::Concurrent, Period::Lifetime)
        } else {
            let (rest, period) = text.rsplit_once('.')?;
            let (owner, metric) = rest.rsplit_once('.')?;
            (owner, Metric::from_name(metric)?, Period::from_name(period)?)
        };
        let (level, owner) = match owner.split_once('/') {
            Some((level, owner)) => (level, Some(Box::from(owner))),
            None => (owner, None),
        };
        let level = match (level, owner.is_some()) {
            ("key", false) => Level::Key,
            ("environment", false) => Level::Environment,
            ("workspace", false) => Level::Workspace,
            ("deployment", _) => Level::Deployment,
            ("model", true) => Level::Model,
            ("connection", true) => Level::Connection,
            _ => return None,
        };
        Some(Self { level, owner, metric, period })
    }
}

impl Variable {
    /// A field of `request`.
    pub(super) fn of_request(name: &str) -> Option<Self> {
        Self::IN_REQUEST.into_iter().find(|(known, _)| *known == name).map(|(_, found)| found)
    }

    /// A name of its own.
    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALONE.into_iter().find(|(known, _)| *known == name).map(|(_, found)| found)
    }

    pub(super) const IN_REQUEST: [(&'static str, Self); 12] = [
        ("dialect", Self::Dialect),
        ("model", Self::Model),
        ("stream", Self::Stream),
        ("messages_count", Self::MessagesCount),
        ("tools_count", Self::ToolsCount),
        ("first_message", Self::FirstMessage),
        ("last_message", Self::LastMessage),
        ("text", Self::Text),
        ("body", Self::Body),
        ("input_tokens", Self::InputTokens),
        ("filenames", Self::FileNames),
        ("kind", Self::Kind),
    ];

    pub(super) const ALONE: [(&'static str, Self); 6] = [
        ("metadata", Self::Metadata),
        ("end_user", Self::EndUser),
        ("key", Self::Key),
        ("client", Self::Client),
        ("source_ip", Self::SourceIp),
        ("now", Self::Now),
    ];

    /// As it is written.
    pub fn name(self) -> String {
        let named = |(name, variable): &(&'static str, Self)| (*variable == self).then_some(*name);
        match Self::ALONE.iter().find_map(named) {
            Some(name) => name.to_owned(),
            None => {
                format!("request.{}", Self::IN_REQUEST.iter().find_map(named).unwrap_or_default())
            }
        }
    }

    pub(super) const fn of_type(self) -> Type {
        match self {
            Self::Dialect
            | Self::Model
            | Self::FirstMessage
            | Self::LastMessage
            | Self::Text
            | Self::Kind
            | Self::EndUser
            | Self::Key
            | Self::Client
            | Self::SourceIp => Type::Text,
            Self::Stream => Type::Flag,
            Self::MessagesCount | Self::ToolsCount | Self::InputTokens => Type::Int,
            Self::FileNames => Type::List,
            Self::Body | Self::Metadata => Type::Map,
            Self::Now => Type::Time,
        }
    }
}

impl Type {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Any => "any type",
            Self::Null => "null",
            Self::Flag => "bool",
            Self::Int => "int",
            Self::Double => "double",
            Self::Text => "string",
            Self::List => "list",
            Self::Map => "map",
            Self::Time => "timestamp",
        }
    }

    pub(super) fn is_number(self) -> bool {
        matches!(self, Self::Any | Self::Int | Self::Double)
    }

    /// Whether a value may be of both.
    pub(super) fn meets(self, other: Self) -> bool {
        self == other
            || self == Self::Any
            || other == Self::Any
            || self.is_number() && other.is_number()
    }

    /// What is known of a value that is of one or the other.
    #[must_use]
    pub(super) fn or(self, other: Self) -> Self {
        if self == other { self } else { Self::Any }
    }
}

impl Operator {
    pub(super) fn signed(sign: &str) -> Option<Self> {
        const ALL: [Operator; 12] = [
            Operator::Equal,
            Operator::NotEqual,
            Operator::Less,
            Operator::LessOrEqual,
            Operator::Greater,
            Operator::GreaterOrEqual,
            Operator::Add,
            Operator::Subtract,
            Operator::Multiply,
            Operator::Divide,
            Operator::Remainder,
            Operator::In,
        ];
        ALL.into_iter().find(|operator| operator.sign() == sign)
    }

    pub(super) const fn sign(self) -> &'static str {
        match self {
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
            Self::Divide => "/",
            Self::Remainder => "%",
            Self::In => "in",
        }
    }
}

impl Function {
    /// What `name` is with the types of its arguments, the receiver first, and its result.
    pub(super) fn named(name: &str) -> Option<(Self, &'static [Type], Type)> {
        const TEXT: &[Type] = &[Type::Text];
        const TEXTS: &[Type] = &[Type::Text, Type::Text];
        const TIME: &[Type] = &[Type::Time];
        const ANY: &[Type] = &[Type::Any];
        Some(match name {
            "size" => (Self::Size, ANY, Type::Int),
            "contains" => (Self::Contains, TEXTS, Type::Flag),
            "startsWith" => (Self::StartsWith, TEXTS, Type::Flag),
            "endsWith" => (Self::EndsWith, TEXTS, Type::Flag),
            "lowerAscii" => (Self::LowerAscii, TEXT, Type::Text),
            "upperAscii" => (Self::UpperAscii, TEXT, Type::Text),
            "string" => (Self::ToText, ANY, Type::Text),
            "int" => (Self::ToInt, ANY, Type::Int),
            "double" => (Self::ToDouble, ANY, Type::Double),
            "getFullYear" => (Self::Year, TIME, Type::Int),
            "getMonth" => (Self::Month, TIME, Type::Int),
            "getDate" => (Self::DayOfMonth, TIME, Type::Int),
            "getDayOfWeek" => (Self::DayOfWeek, TIME, Type::Int),
            "getHours" => (Self::Hours, TIME, Type::Int),
            "getMinutes" => (Self::Minutes, TIME, Type::Int),
            _ => return None,
        })
    }
}
