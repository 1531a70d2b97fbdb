//! `docs/dialects.md` ends with what the golden files say, so that it cannot say anything else.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::golden::{by_dialect, check, inputs, read};
use super::{UPSTREAMS, written};

const DOCUMENT: &str = "docs/dialects.md";
const MARK: &str =
    "<!-- made from tests/golden by the tests; SLUICE_GOLDEN=update writes it anew -->\n";

#[test]
fn document_says_what_the_golden_files_say() {
    let text = fs::read_to_string(DOCUMENT).unwrap();
    let (prose, _) = text.split_once(MARK).expect("the document has the mark");
    let mut table = String::from("\n| what a request asks for |");
    for upstream in UPSTREAMS {
        table += &format!(" to `{}` |", upstream.name());
    }
    table += &format!("\n|---|{}\n", "---|".repeat(UPSTREAMS.len()));
    for path in inputs("requests", "json") {
        let map = read(&path);
        let title = map["title"].as_str().unwrap();
        let model = map.get("upstream").and_then(Value::as_str).unwrap_or("claude-sonnet-5");
        table += &format!("| {title} |");
        for upstream in UPSTREAMS {
            let cells: Vec<String> = by_dialect(&map)
                .into_iter()
                .filter(|(client, _)| *client != upstream)
                .map(|(client, body)| match written(client, body, (upstream, model)) {
                    Ok(_) => format!("`{}` yes", client.name()),
                    Err(refused) => {
                        let field = refused.split('`').nth(1).unwrap_or_default();
                        format!("`{}` 400 `{field}`", client.name())
                    }
                })
                .collect();
            table +=
                &format!(" {} |", if cells.is_empty() { "–".to_owned() } else { cells.join("; ") });
        }
        table += "\n";
    }
    check(Path::new(DOCUMENT), &format!("{prose}{MARK}{table}"));
}
