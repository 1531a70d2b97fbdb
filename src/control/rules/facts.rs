//! What the rules of one request can read. Each is found when the first rule reads it.

use std::cell::{Cell, OnceCell};
use std::net::IpAddr;

use serde_json::Value as Json;

use crate::control::limits::{Limits, Subject, percent_used};
use crate::control::snapshot::{Deployment, Environment};
use crate::dialect::Dialect;
use crate::limit::{Learned, Level, Now, TextBytes, text_bytes};
use crate::rule::{Facts, LimitName, Said, Value, Variable, file_names, said};

/// `request.body` of a longer body is not read: its tree is several times as large.
const BODY_BYTES_MAX: usize = 1024 * 1024;

/// A request, as far as rules go.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    pub dialect: Dialect,
    pub model: &'a str,
    pub is_stream: bool,
    pub body: &'a [u8],
    /// With the defaults of the key.
    pub metadata: &'a [(Box<str>, Box<str>)],
    pub end_user: &'a str,
    pub key: &'a str,
    pub key_limits: Option<&'a Limits>,
    /// As it calls itself.
    pub client: &'a str,
    pub source_ip: Option<IpAddr>,
    pub unix_micros: i64,
    pub now: Now,
}

/// The facts of a request in an environment.
#[derive(Debug)]
pub struct FactsOf<'a> {
    asked: Asked<'a>,
    environment: &'a Environment,
    /// What the request has come to.
    deployment: Cell<Option<&'a Deployment>>,
    said: OnceCell<Said>,
    body: OnceCell<Option<Json>>,
    file_names: OnceCell<Vec<Box<str>>>,
    source_ip: OnceCell<String>,
    text_bytes: OnceCell<TextBytes>,
}

impl<'a> FactsOf<'a> {
    pub fn new(asked: Asked<'a>, environment: &'a Environment) -> Self {
        Self {
            asked,
            environment,
            deployment: Cell::new(None),
            said: OnceCell::new(),
            body: OnceCell::new(),
            file_names: OnceCell::new(),
            source_ip: OnceCell::new(),
            text_bytes: OnceCell::new(),
        }
    }

    pub fn set_deployment(&self, deployment: Option<&'a Deployment>) {
        self.deployment.set(deployment);
    }

    fn said(&self) -> &Said {
        self.said.get_or_init(|| said(self.asked.body))
    }

    /// `None` for a body that is too large, or is none.
    fn body(&self) -> Option<&Json> {
        let read = || {
            let body = Some(self.asked.body).filter(|body| body.len() <= BODY_BYTES_MAX)?;
            serde_json::from_slice(body).ok()
        };
        self.body.get_or_init(read).as_ref()
    }

    /// By what the family of the first target has been, as far as there is one.
    fn input_tokens(&self) -> i64 {
        let bytes = *self.text_bytes.get_or_init(|| text_bytes(self.asked.body));
        let target = self.deployment.get().and_then(|deployment| deployment.targets.first());
        let learned = target.map_or_else(Learned::default, |target| target.family.learned());
        i64::try_from(learned.input_tokens(bytes)).unwrap_or(i64::MAX)
    }

    fn file_names(&self) -> &[Box<str>] {
        self.file_names.get_or_init(|| file_names(&self.said().text))
    }

    fn source_ip(&self) -> &str {
        let text =
            || self.asked.source_ip.map_or_else(String::new, |ip| ip.to_canonical().to_string());
        self.source_ip.get_or_init(text)
    }

    fn subject(&self) -> Subject<'_> {
        Subject {
            source_ip: self.asked.source_ip,
            end_user: Some(self.asked.end_user).filter(|user| !user.is_empty()),
            metadata: self.asked.metadata,
        }
    }

    /// The limits of an owner; a model has those of its grant, too.
    fn limits(&self, limit: &LimitName) -> [Option<&Limits>; 2] {
        let environment = self.environment;
        let one = match (limit.level, limit.owner.as_deref()) {
            (Level::Key, _) => self.asked.key_limits,
            (Level::Environment, _) => environment.limits.as_deref(),
            (Level::Workspace, _) => environment.workspace_limits.as_deref(),
            (Level::Deployment, None) => {
                self.deployment.get().and_then(|deployment| deployment.limits.as_deref())
            }
            (Level::Deployment, Some(name)) => {
                environment.deployments.get(name).and_then(|it| it.limits.as_deref())
            }
            (Level::Model | Level::ModelGrant, name) => {
                let model = name.and_then(|name| environment.models.get(name));
                let target = model.and_then(|model| model.targets.first());
                let [own, grant] = target.map_or([&None, &None], |it| it.model_limits.each_ref());
                return [own.as_deref(), grant.as_deref()];
            }
            (Level::Connection, name) => {
                let mut targets = environment.reachable.values();
                let target = targets
                    .find(|target| name.is_some_and(|name| *target.connection.name == *name));
                target.and_then(|target| target.connection.limits.as_deref())
            }
        };
        [one, None]
    }
}

fn count(n: usize) -> Value<'static> {
    Value::Int(i64::try_from(n).unwrap_or(i64::MAX))
}

impl Facts for FactsOf<'_> {
    fn value(&self, variable: Variable) -> Option<Value<'_>> {
        let asked = &self.asked;
        Some(match variable {
            Variable::Dialect => Value::text(asked.dialect.name()),
            Variable::Model => Value::text(asked.model),
            Variable::Stream => Value::Flag(asked.is_stream),
            Variable::MessagesCount => count(self.said().messages_count),
            Variable::ToolsCount => count(self.said().tools_count),
            Variable::FirstMessage => Value::text(&self.said().first_message),
            Variable::LastMessage => Value::text(&self.said().last_message),
            Variable::Text => Value::text(&self.said().text),
            Variable::Body => Value::of_json(self.body()?),
            Variable::InputTokens => Value::Int(self.input_tokens()),
            Variable::FileNames => Value::Texts(self.file_names()),
            Variable::Kind => Value::text(if self.said().is_fim { "fim" } else { "chat" }),
            Variable::Metadata => Value::Map(asked.metadata),
            Variable::EndUser => Value::text(asked.end_user),
            Variable::Key => Value::text(asked.key),
            Variable::Client => Value::text(asked.client),
            Variable::SourceIp => Value::text(self.source_ip()),
            Variable::Now => Value::Time(asked.unix_micros),
        })
    }

    fn error_rate(&self, target: &str, minutes: u32) -> Option<f64> {
        let target = self.environment.target(self.deployment.get(), target)?;
        Some(target.live.error_rate(minutes))
    }

    fn usage_percent(&self, limit: &LimitName) -> Option<f64> {
        let limits = self.limits(limit).into_iter().flatten();
        let kind = (limit.metric, limit.period);
        let now = self.asked.now;
        limits
            .filter_map(|limits| percent_used(limits, kind, &self.subject(), now))
            .reduce(f64::max)
    }
}
