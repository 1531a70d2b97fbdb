//! House rules that no lint knows. A failure names the file, the line and the rule.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::path::{Path, PathBuf};

/// Modules that decide and never act: no runtime, no sockets, no log, no clock.
const PURE: [&str; 9] =
    ["dialect", "head", "json", "limit", "price", "route", "rule", "sse", "translate"];
const IMPURE_WORDS: [&str; 5] = ["tokio::", "pingora", "tracing::", "Instant::now", "SystemTime"];

/// Words for which the vocabulary has another one, and the one it has. They may not be part of a
/// name that we give; names of other crates are theirs.
const WRONG_WORDS: [(&str, &str); 15] = [
    ("tenant", "workspace"),
    ("org", "workspace"),
    ("organization", "workspace"),
    ("vendor", "provider"),
    ("backend", "target, or upstream"),
    ("candidate", "target"),
    ("candidates", "plan"),
    ("downstream", "client"),
    ("consumer", "client"),
    ("quota", "limit, or budget"),
    ("spend", "cost"),
    ("evicted", "cooldown"),
    ("util", "what it knows"),
    ("utils", "what it knows"),
    ("misc", "what it knows"),
];

/// Methods of traits of other crates, which have their names from there.
const NAMES_OF_OTHERS: [&str; 1] = ["init_downstream_modules"];

/// Last words of a type's name that say nothing.
const EMPTY_WORDS: [&str; 9] =
    ["Manager", "Helper", "Handler", "Service", "Context", "Info", "Data", "Base", "Impl"];

/// Folders and files whose text is read by people; what is built or installed is not among them.
const TEXTS: [&str; 14] = [
    ".cargo",
    ".ci",
    ".config",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "Cargo.toml",
    "README.md",
    "bench",
    "clippy.toml",
    "conf",
    "docs",
    "loadtest",
    "src",
    "tests",
];

#[test]
fn every_rust_file_says_what_it_is_for() {
    let mut problems = Problems::default();
    for file in files(&["src", "tests", "bench", "loadtest"], &["rs"]) {
        let has_purpose = file.text.lines().next().is_some_and(|line| line.starts_with("//! "));
        if !has_purpose {
            problems.add(&file, 1, "begins without a `//!` line that says what the file is for");
        }
    }
    problems.assert_none();
}

#[test]
fn modules_use_only_what_is_declared_below_them() {
    let order = modules_in_reading_order();
    let mut problems = Problems::default();
    for file in source_without_tests() {
        let module = file.top_module();
        let Some(place) = order.iter().position(|name| *name == module) else {
            continue; // `main.rs` and `lib.rs` see everything.
        };
        let code: Vec<_> = file.code().map(|(_, line)| line).collect();
        for (n, used) in crate_paths(&code.join("\n")) {
            if order.iter().position(|name| *name == used).is_some_and(|used| used < place) {
                let rule = format!("`{module}` must not use `{used}`, which stands above it");
                problems.add(&file, n, &rule);
            }
        }
        for (n, line) in file.code() {
            if file.is_top() && line.contains("super::") {
                problems.add(&file, n, "reaches the crate's root by `super::`; write `crate::`");
            }
        }
    }
    problems.assert_none();
}

#[test]
fn pure_modules_do_not_act() {
    let mut problems = Problems::default();
    for file in source_without_tests() {
        let module = file.top_module();
        if !PURE.contains(&module.as_str()) {
            continue;
        }
        for (n, line) in file.code() {
            for word in IMPURE_WORDS.iter().filter(|word| line.contains(*word)) {
                problems.add(&file, n, &format!("`{module}` is pure, and `{word}` is not"));
            }
        }
    }
    problems.assert_none();
}

#[test]
fn names_keep_to_the_vocabulary() {
    let mut problems = Problems::default();
    for file in files(&["src", "loadtest", "bench"], &["rs"]) {
        for (n, line) in file.code() {
            let Some((keyword, name)) = declared(line) else { continue };
            if NAMES_OF_OTHERS.contains(&name) {
                continue;
            }
            let words = words_of(name);
            for (wrong, right) in WRONG_WORDS {
                if words.iter().any(|word| word == wrong) {
                    problems.add(&file, n, &format!("`{name}`: not `{wrong}` but {right}"));
                }
            }
            let is_type = ["struct", "enum", "trait", "type"].contains(&keyword);
            if is_type && let Some(word) = EMPTY_WORDS.iter().find(|word| name.ends_with(*word)) {
                problems.add(&file, n, &format!("`{name}`: `{word}` does not say what it is"));
            }
        }
    }
    problems.assert_none();
}

#[test]
fn texts_name_nothing_outside_the_repository() {
    // Put together here, so that this file does not contain them.
    let workspace = concat!("/wo", "rk");
    let shared = concat!("../sha", "red");
    let registries = [concat!("artif", "actory"), concat!("index.crates", ".io")];
    let mut problems = Problems::default();
    for file in texts() {
        for (n, line) in file.lines() {
            if line.match_indices(workspace).any(|(at, _)| ends_word(line, at + workspace.len())) {
                problems.add(&file, n, "names a folder of somebody's machine");
            }
            // The audit may look for the advisories there.
            if line.contains(shared) && file.path != Path::new(".ci/run") {
                problems.add(&file, n, "names a folder outside the repository");
            }
            if registries.iter().any(|host| line.contains(host)) {
                problems.add(&file, n, "names the host of a package registry");
            }
            let may_name_tickets = file.path == Path::new("tests/tidy.rs");
            if file.has_extension(&["rs", "md"]) && !may_name_tickets && names_ticket(line) {
                problems.add(&file, n, "names a ticket; say what the reader needs to know");
            }
        }
    }
    problems.assert_none();
}

#[test]
fn lock_file_of_node_names_no_host() {
    for path in [
        "tests/oidc/package-lock.json",
        "tests/sdk/package-lock.json",
        "tests/clickhouse/package-lock.json",
    ] {
        let lock = fs::read_to_string(path).unwrap();
        assert!(!lock.contains("\"resolved\""), "made without omit-lockfile-registry-resolved");
    }
}

#[test]
fn links_of_documents_lead_somewhere() {
    let mut problems = Problems::default();
    for file in texts().into_iter().filter(|file| file.has_extension(&["md"])) {
        let folder = file.path.parent().unwrap();
        for (n, line) in file.lines() {
            for target in link_targets(line) {
                let path = target.split('#').next().unwrap();
                let is_elsewhere = target.contains("://") || target.starts_with("mailto:");
                if !is_elsewhere && !path.is_empty() && !folder.join(path).exists() {
                    problems.add(&file, n, &format!("links to `{target}`, which is not there"));
                }
            }
        }
    }
    problems.assert_none();
}

/// What the rules themselves understand, shown on small examples.
#[test]
fn rules_see_what_they_shall_see() {
    assert_eq!(crate_paths("\nuse crate::route::plan;"), [(2, "route")]);
    assert_eq!(crate_paths("use crate::{\n id::{A, B},\n clock};"), [(1, "id"), (1, "clock")]);
    assert_eq!(crate_paths("fn f(x: crate::key::Key) -> crate::id::Id {").len(), 2);
    assert_eq!(declared("    pub(crate) async fn plan(x: u8) {"), Some(("fn", "plan")));
    assert_eq!(declared("pub struct TargetId(u64);"), Some(("struct", "TargetId")));
    assert_eq!(declared("let backend = upstream.backend();"), None);
    assert_eq!(words_of("upstreamModel_name2"), ["upstream", "model", "name2"]);
    assert!(names_ticket("see #12."));
    assert!(names_ticket("fixed by issue 7"));
    assert!(!names_ticket("&#39; and #fff and r#\"x\"# and a#1b"));
    assert_eq!(link_targets("a [b](c.md) and ![d](e.svg \"t\")"), ["c.md", "e.svg"]);
    let code =
        "/// `tokio::x`\nuse a; // pingora\nlet url = \"http://b\";\n#[cfg(test)]\nmod tests {";
    let file = File { path: "src/a.rs".into(), text: without_tests(code).to_owned() };
    let lines: Vec<_> = file.code().collect();
    assert_eq!(lines, [(1, ""), (2, "use a;"), (3, "let url = \"http://b\";")]);
}

struct File {
    path: PathBuf,
    text: String,
}

/// What is wrong, a line each.
#[derive(Default)]
struct Problems(String);

// === impl File ===

impl File {
    /// Lines with their numbers.
    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(index, line)| (index + 1, line))
    }

    /// Lines with their numbers, comments left out.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.lines().map(|(n, line)| {
            let code = if line.trim_start().starts_with("//") { "" } else { line };
            (n, code.split(" //").next().unwrap())
        })
    }

    /// `src/route/plan.rs` belongs to `route`, `src/rejection.rs` to `rejection`.
    fn top_module(&self) -> String {
        let below_src = self.path.strip_prefix("src").unwrap().with_extension("");
        below_src.iter().next().unwrap().to_string_lossy().into_owned()
    }

    /// Is this file itself a module of the crate's root?
    fn is_top(&self) -> bool {
        let depth = self.path.iter().count();
        depth == 2 || (depth == 3 && self.path.ends_with("mod.rs"))
    }

    fn has_extension(&self, wanted: &[&str]) -> bool {
        self.path.extension().is_some_and(|is| wanted.iter().any(|extension| is == *extension))
    }
}

// === impl Problems ===

impl Problems {
    fn add(&mut self, file: &File, line: usize, rule: &str) {
        self.0 += &format!("{}:{line}: {rule}\n", file.path.display());
    }

    fn assert_none(self) {
        assert!(self.0.is_empty(), "\n{}", self.0);
    }
}

/// The `pub mod` lines of `src/lib.rs`.
fn modules_in_reading_order() -> Vec<String> {
    let text = fs::read_to_string("src/lib.rs").unwrap();
    let names = text
        .lines()
        .filter_map(|line| line.trim_start_matches("pub ").strip_prefix("mod ")?.strip_suffix(';'));
    names.map(str::to_owned).collect()
}

fn source_without_tests() -> Vec<File> {
    let mut found = files(&["src"], &["rs"]);
    found.retain(|file| !file.path.ends_with("tests.rs"));
    for file in &mut found {
        file.text = without_tests(&file.text).to_owned();
    }
    found
}

fn without_tests(text: &str) -> &str {
    text.split("#[cfg(test)]\nmod tests").next().unwrap()
}

fn texts() -> Vec<File> {
    files(&TEXTS, &["", "css", "html", "js", "md", "mjs", "py", "rs", "sql", "toml", "yaml", "yml"])
}

/// The files below `roots` that have one of these extensions, sorted. A root that is not there has
/// none.
fn files(roots: &[&str], extensions: &[&str]) -> Vec<File> {
    let mut paths = Vec::new();
    for root in roots {
        collect(Path::new(root), &mut paths);
    }
    paths.sort();
    let has_extension = |path: &PathBuf| {
        let extension = path.extension().unwrap_or_default().to_string_lossy();
        extensions.contains(&extension.as_ref())
    };
    paths.retain(has_extension);
    paths.into_iter().map(|path| File { text: fs::read_to_string(&path).unwrap(), path }).collect()
}

fn collect(path: &Path, into: &mut Vec<PathBuf>) {
    const NOT_OURS: [&str; 4] = ["target", "node_modules", "__pycache__", "out"];
    if path.is_file() {
        into.push(path.to_owned());
    } else if let Ok(entries) = fs::read_dir(path) {
        for entry in entries {
            let entry = entry.unwrap().path();
            if !NOT_OURS.iter().any(|name| entry.ends_with(name)) {
                collect(&entry, into);
            }
        }
    }
}

/// `use crate::{id::Id, clock};` names `id` and `clock`; with the number of the line.
fn crate_paths(code: &str) -> Vec<(usize, &str)> {
    let mut names = Vec::new();
    let mut line = 1;
    let mut pieces = code.split("crate::");
    line += pieces.next().unwrap().matches('\n').count();
    for after in pieces {
        match after.strip_prefix('{') {
            None => names.push((line, identifier_at(after))),
            Some(list) => names.extend(items(list).map(|item| (line, identifier_at(item)))),
        }
        line += after.matches('\n').count();
    }
    names
}

/// The items of a list up to its closing brace.
fn items(list: &str) -> impl Iterator<Item = &str> {
    let mut depth = 1;
    let end = list.find(|char| {
        match char {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        depth == 0
    });
    let mut depth = 0;
    let items = list.get(..end.unwrap_or(list.len())).unwrap().split(move |char| {
        match char {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        char == ',' && depth == 0
    });
    items.map(str::trim_start).filter(|item| !item.is_empty())
}

fn identifier_at(text: &str) -> &str {
    text.split(|char: char| !char.is_alphanumeric() && char != '_').next().unwrap()
}

/// The keyword and the name, when the line declares something.
fn declared(line: &str) -> Option<(&str, &str)> {
    const KEYWORDS: [&str; 8] = ["fn", "struct", "enum", "trait", "type", "mod", "const", "static"];
    let mut words = line.split_whitespace().peekable();
    while words
        .peek()
        .is_some_and(|word| word.starts_with("pub") || ["async", "unsafe"].contains(word))
    {
        words.next();
    }
    let keyword = words.next().filter(|word| KEYWORDS.contains(word))?;
    // `const fn f`
    let mut name = words.next()?;
    if name == "fn" {
        name = words.next()?;
    }
    Some((keyword, identifier_at(name)))
}

/// `TargetId` and `target_id` are `target` and `id`.
fn words_of(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    for char in name.chars() {
        if char == '_' || (char.is_uppercase() && !words.last().unwrap().is_empty()) {
            words.push(String::new());
        }
        if char != '_' {
            words.last_mut().unwrap().extend(char.to_lowercase());
        }
    }
    words
}

/// `#12`, `issue 12`, `ticket 12`, `PR 12`.
fn names_ticket(line: &str) -> bool {
    let is_number = |after: &str| {
        let digits = after.chars().take_while(char::is_ascii_digit).count();
        (1..=5).contains(&digits) && ends_word(after, digits)
    };
    let hash = line.match_indices('#').any(|(at, _)| {
        let before = line.get(..at).unwrap().chars().next_back();
        before.is_none_or(|char| char.is_whitespace() || char == '(')
            && is_number(line.get(at + 1..).unwrap())
    });
    let word = ["issue ", "Issue ", "ticket ", "PR "]
        .iter()
        .any(|word| line.split(word).skip(1).any(is_number));
    hash || word
}

/// Does no letter, digit or underscore follow here?
fn ends_word(line: &str, at: usize) -> bool {
    let after = line.get(at..).unwrap().chars().next();
    after.is_none_or(|char| !char.is_alphanumeric() && char != '_')
}

/// The targets of the Markdown links of a line.
fn link_targets(line: &str) -> Vec<&str> {
    let after = line.split("](").skip(1);
    after.filter_map(|rest| rest.split([')', ' ']).next()).collect()
}
