//! The files of `tests/golden`: inputs by hand, outputs by the code and read by people.
//!
//! `SLUICE_GOLDEN=update` writes the outputs anew.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::{FRONTS, UPSTREAMS, translation, written};
use crate::dialect::Dialect;
use crate::translate::Whole;

pub(super) const FOLDER: &str = "tests/golden";

/// Compares, or writes when told to.
pub(super) fn check(path: &Path, text: &str) {
    if std::env::var_os("SLUICE_GOLDEN").is_some_and(|mode| mode == "update") {
        fs::write(path, text).unwrap();
        return;
    }
    let known = fs::read_to_string(path).unwrap_or_default();
    assert_eq!(known, text, "{} (SLUICE_GOLDEN=update writes it anew)", path.display());
}

/// The inputs of a folder, sorted, without the outputs.
pub(super) fn inputs(folder: &str, extension: &str) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = fs::read_dir(Path::new(FOLDER).join(folder))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|is| is == extension))
        .filter(|path| !path.to_string_lossy().contains(".out."))
        .collect();
    paths.sort();
    assert!(!paths.is_empty());
    paths
}

pub(super) fn read(path: &Path) -> Map<String, Value> {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// What of `map` is said in a dialect.
pub(super) fn by_dialect(map: &Map<String, Value>) -> Vec<(Dialect, &Value)> {
    let said = map.iter().filter_map(|(name, value)| Some((Dialect::from_name(name)?, value)));
    said.collect()
}

fn pretty(map: &Map<String, Value>) -> String {
    serde_json::to_string_pretty(map).unwrap() + "\n"
}

#[test]
fn requests_are_written_as_before() {
    for path in inputs("requests", "json") {
        let map = read(&path);
        let model = map.get("upstream").and_then(Value::as_str).unwrap_or("claude-sonnet-5");
        let mut out = Map::new();
        for (client, body) in by_dialect(&map) {
            for upstream in UPSTREAMS.into_iter().filter(|upstream| *upstream != client) {
                let result = match written(client, body, (upstream, model)) {
                    Ok(body) => body,
                    Err(refused) => serde_json::json!({"refused": refused}),
                };
                out.insert(format!("{} to {}", client.name(), upstream.name()), result);
            }
        }
        check(&path.with_extension("out.json"), &pretty(&out));
    }
}

#[test]
fn answers_are_written_as_before() {
    for path in inputs("answers", "json") {
        let map = read(&path);
        let mut out = Map::new();
        for (upstream, body) in by_dialect(&map) {
            for client in FRONTS.into_iter().filter(|client| *client != upstream) {
                let whole = translation(client, upstream).whole(body.to_string().as_bytes());
                let result = match whole.unwrap() {
                    Whole::Answer { body, .. } => serde_json::from_slice(&body).unwrap(),
                    Whole::Failed { status, body, .. } => {
                        let body: Value = serde_json::from_slice(&body).unwrap();
                        serde_json::json!({"status": status, "body": body})
                    }
                };
                out.insert(format!("{} to {}", upstream.name(), client.name()), result);
            }
        }
        check(&path.with_extension("out.json"), &pretty(&out));
    }
}

#[test]
fn streams_are_written_as_before() {
    for path in inputs("streams", "sse") {
        let stem = path.file_stem().unwrap().to_string_lossy().into_owned();
        let upstream = Dialect::from_name(stem.rsplit_once('.').unwrap().1).unwrap();
        let bytes = fs::read(&path).unwrap();
        for client in FRONTS.into_iter().filter(|client| *client != upstream) {
            let mut events = translation(client, upstream).events();
            let mut out = String::new();
            events.push(&bytes, &mut out);
            events.finish(&mut out);
            let name = format!("{stem}.out.{}.sse", client.name());
            check(&path.with_file_name(name), &out);
        }
    }
}
