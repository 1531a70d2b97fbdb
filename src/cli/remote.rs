//! Commands about whole documents: apply and export, by the admin API of a running gateway, or
//! (`--local`) on its state store.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Value as Json, json};

use super::{FAILED, WRONG, operate};
use crate::config::document::{self, Node, Value};
use crate::config::fields::Report;
use crate::config::interpolate::interpolate;
use crate::config::resources::Kind;
use crate::config::url::Url;
use crate::control::apply::{self, ApplyError, Mode, Prune};
use crate::control::load::LoadError;
use crate::control::seal::Vault;
use crate::control::store::resources::{self, Place};
use crate::control::store::{Store, StoreError};
use crate::secret::Secret;

const URL: &str = "SLUICE_ADMIN_URL";
const TOKEN: &str = "SLUICE_ADMIN_TOKEN";
const URL_DEFAULT: &str = "http://127.0.0.1:8081";
/// A document with a million keys takes its time.
const ANSWER_MAX: Duration = Duration::from_mins(30);

/// The form of an exported document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Form {
    Toml,
    Json,
}

/// The admin API of a gateway.
struct Remote {
    host: String,
    path: String,
    token: Secret,
}

/// Why there is no answer; the exit code it means, and what to print.
pub(super) type Failure = (u8, String);

impl Remote {
    fn from_env() -> Result<Self, Failure> {
        let wrong = |text: String| (WRONG, text);
        let token = std::env::var(TOKEN)
            .map_err(|_| wrong(format!("set {TOKEN} to a token of the gateway's admin API")))?;
        let text = std::env::var(URL).unwrap_or_else(|_| URL_DEFAULT.to_owned());
        let url = Url::parse(&text).map_err(|fault| wrong(format!("{URL} {fault}")))?;
        let [host] = url.hosts.as_slice() else {
            return Err(wrong(format!("{URL} must name one host")));
        };
        if url.scheme != "http" {
            return Err(wrong(format!("{URL} must begin with http://, as {URL_DEFAULT}")));
        }
        let name =
            if host.name.contains(':') { format!("[{}]", host.name) } else { host.name.clone() };
        Ok(Self {
            host: format!("{name}:{}", host.port.unwrap_or(80)),
            path: url.path.trim_end_matches('/').to_owned(),
            token: Secret::new(token),
        })
    }

    /// Status and body of the answer.
    fn call(&self, method: &str, path: &str, body: &str) -> Result<(u16, Json), Failure> {
        let failed = |error: std::io::Error| {
            (FAILED, format!("the gateway at {} does not answer: {error}", self.host))
        };
        let mut stream = TcpStream::connect(&self.host).map_err(failed)?;
        stream.set_read_timeout(Some(ANSWER_MAX)).map_err(failed)?;
        let head = format!(
            "{method} {}/api/v1{path} HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            self.path,
            self.host,
            self.token.expose(),
            body.len()
        );
        stream.write_all(head.as_bytes()).map_err(failed)?;
        stream.write_all(body.as_bytes()).map_err(failed)?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).map_err(failed)?;
        parse_answer(&answer)
            .ok_or_else(|| (FAILED, format!("what answers at {} is no admin API", self.host)))
    }
}

fn parse_answer(answer: &[u8]) -> Option<(u16, Json)> {
    let end = memchr::memmem::find(answer, b"\r\n\r\n")?;
    let head = std::str::from_utf8(answer.get(..end)?).ok()?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let body = serde_json::from_slice(answer.get(end + 4..)?).ok()?;
    Some((status, body))
}

/// Where a command works.
#[derive(Debug, clap::Args)]
pub(super) struct At {
    /// Work on the state store itself, without a gateway; a running one follows within a second
    #[arg(long)]
    local: bool,
    /// With --local: the configuration that names the state store
    #[arg(long, requires = "local")]
    config: Option<PathBuf>,
}

impl At {
    fn opened(&self) -> Result<Option<(Store, Vault)>, Failure> {
        if self.local { operate::open(self.config.as_deref()).map(Some) } else { Ok(None) }
    }
}

pub(super) fn report(ended: Result<ExitCode, Failure>) -> ExitCode {
    ended.unwrap_or_else(|(code, text)| {
        eprintln!("{text}");
        ExitCode::from(code)
    })
}

/// `sluice apply`
pub(super) fn apply(file: &Path, dry_run: bool, at: &At) -> ExitCode {
    report(try_apply(file, dry_run, at))
}

fn try_apply(path: &Path, dry_run: bool, at: &At) -> Result<ExitCode, Failure> {
    let file = path.to_string_lossy();
    let text = std::fs::read_to_string(path)
        .map_err(|error| (WRONG, format!("cannot read {file}: {error}")))?;
    let tree = read(&file, &text)?;
    if let Some(opened) = at.opened()? {
        print_plan(&apply_here(&opened, (&file, &tree), dry_run)?, dry_run);
        return Ok(ExitCode::SUCCESS);
    }
    let remote = Remote::from_env()?;
    let query = if dry_run { "/apply?dry_run=true" } else { "/apply" };
    let (status, answer) = remote.call("POST", query, &tree.to_json().to_string())?;
    if status != 200 {
        return Err(refused(&file, &tree, status, &answer));
    }
    print_plan(&answer, dry_run);
    Ok(ExitCode::SUCCESS)
}

/// What the admin API does with a document.
fn apply_here(
    (store, vault): &(Store, Vault),
    document: (&str, &Node),
    dry_run: bool,
) -> Result<Json, Failure> {
    let actor = operate::actor("sluice apply");
    let mode = Mode { prune: Prune::Named, dry_run, owner: None };
    let plan = apply::apply(store, vault, &actor, document, mode).map_err(|error| {
        let is_wrong = !matches!(
            error,
            ApplyError::Store(_) | ApplyError::Load(LoadError::Store(_) | LoadError::Sealed { .. })
        );
        (if is_wrong { WRONG } else { FAILED }, error.to_string())
    })?;
    Ok(plan.to_json(dry_run))
}

/// The document with the env vars of this process in their places.
fn read(file: &str, text: &str) -> Result<Node, Failure> {
    let mut tree = document::parse(file, text).map_err(|problems| (WRONG, problems.to_string()))?;
    let mut report = Report::new(file);
    interpolate(&mut tree, &|name| std::env::var(name).ok(), &mut report);
    report.finish().map_err(|problems| (WRONG, problems.to_string()))?;
    Ok(tree)
}

/// The problems that the gateway found, with the lines of the file.
fn refused(file: &str, tree: &Node, status: u16, answer: &Json) -> Failure {
    let detail = answer["detail"].as_str().unwrap_or("the gateway refused");
    let problems: Vec<String> = answer["errors"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|problem| {
            let field = problem["field"].as_str().unwrap_or_default();
            let text = problem["detail"].as_str().unwrap_or_default();
            format!("{file}:{}: {field}: {text}", line_of(tree, field))
        })
        .collect();
    let text = if problems.is_empty() { detail.to_owned() } else { problems.join("\n") };
    (if status == 422 { WRONG } else { FAILED }, text)
}

/// The line of `workspaces[0].environments[1].slug`, or of what is nearest around it.
fn line_of(tree: &Node, field: &str) -> u32 {
    let mut node = tree;
    for part in field.split(['.', '[']).filter(|part| !part.is_empty()) {
        let next = match &node.value {
            Value::Table(table) => table.get(part).map(|entry| &entry.node),
            Value::List(items) => {
                part.trim_end_matches(']').parse().ok().and_then(|at: usize| items.get(at))
            }
            _ => None,
        };
        let Some(next) = next else { break };
        node = next;
    }
    node.line
}

fn print_plan(plan: &Json, dry_run: bool) {
    let changes: Vec<&Json> = plan["changes"].as_array().into_iter().flatten().collect();
    for change in &changes {
        let text = |field: &str| change[field].as_str().unwrap_or_default();
        let sign = match text("action") {
            "create" => '+',
            "delete" | "archive" => '-',
            _ => '~',
        };
        let fields: Vec<&str> =
            change["fields"].as_array().into_iter().flatten().filter_map(Json::as_str).collect();
        let fields =
            if fields.is_empty() { String::new() } else { format!("  ({})", fields.join(", ")) };
        println!("{sign} {} {} {}{fields}", text("action"), text("kind"), text("path"));
    }
    let n = changes.len();
    println!("{n} change(s){}", if dry_run { ", none made: this was a dry run" } else { "" });
    for secret in plan["secrets"].as_array().into_iter().flatten() {
        let text = |field: &str| secret[field].as_str().unwrap_or_default();
        println!("secret of {}: {}  (shown once)", text("key"), text("secret"));
    }
}

/// `sluice export`
pub(super) fn export(workspace: Option<&str>, form: Form, at: &At) -> ExitCode {
    report(try_export(workspace, form, at))
}

fn try_export(workspace: Option<&str>, form: Form, at: &At) -> Result<ExitCode, Failure> {
    let document = match at.opened()? {
        Some((store, _)) => export_here(&store, workspace)?,
        None => export_there(workspace)?,
    };
    match form {
        Form::Json => println!("{document:#}"),
        Form::Toml => {
            let text = toml::to_string(&without_empty(document))
                .map_err(|error| (FAILED, format!("cannot be written as TOML: {error}")))?;
            print!("{text}");
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn export_here(store: &Store, workspace: Option<&str>) -> Result<Json, Failure> {
    let read = store.read(|db| {
        let Some(name) = workspace else { return apply::export(db, None).map(Some) };
        let found = resources::find(db, Kind::Workspace, Place::default(), name)?;
        found.map(|row| apply::export(db, Some(&row))).transpose()
    });
    let found = read.map_err(|error: StoreError| (FAILED, error.to_string()))?;
    found.ok_or_else(|| (FAILED, "there is no such workspace".to_owned()))
}

fn export_there(workspace: Option<&str>) -> Result<Json, Failure> {
    let remote = Remote::from_env()?;
    let is_plain =
        |name: &str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    let path = match workspace {
        None => "/export".to_owned(),
        Some(name) if is_plain(name) => format!("/export?workspace={name}"),
        Some(_) => return Err((WRONG, "a workspace is named by its slug or its id".to_owned())),
    };
    let (status, answer) = remote.call("GET", &path, "")?;
    if status != 200 {
        let detail = answer.get("detail").and_then(Json::as_str);
        let detail = detail.unwrap_or("the gateway refused");
        return Err((FAILED, detail.to_owned()));
    }
    Ok(answer)
}

/// An empty list at the top would say that everything there is to be removed.
fn without_empty(mut document: Json) -> Json {
    if let Json::Object(fields) = &mut document {
        fields.retain(|_, value| *value != json!([]));
    }
    document
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problem_of_the_gateway_finds_its_line() {
        let text = "[[workspaces]]\nslug = \"a\"\n[[workspaces.environments]]\nslug = \"b\"\n\
                    [[workspaces.environments.keys]]\nname = \"k\"\n";
        let tree = document::parse("a.toml", text).unwrap();
        assert_eq!(line_of(&tree, "workspaces[0].environments[0].keys[0].name"), 6);
        assert_eq!(line_of(&tree, "workspaces[0].environments[0].keys[0].nonsense"), 5);
        assert_eq!(line_of(&tree, ""), 1);
    }

    #[test]
    fn answer_is_status_and_body() {
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
        assert_eq!(parse_answer(answer), Some((200, json!({}))));
        assert_eq!(parse_answer(b"SSH-2.0-OpenSSH"), None);
    }
}
