//! What the documents show works as they show it.

use std::path::{Path, PathBuf};

use crate::program::loadtest;

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The fenced blocks of the README with this language.
fn blocks(language: &str) -> Vec<String> {
    let text = std::fs::read_to_string(here("README.md")).unwrap();
    let fence = format!("```{language}\n");
    text.split(&fence).skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
}

#[test]
fn scenarios_of_files_and_of_the_readme_are_read() {
    let folder = std::fs::read_dir(here("scenarios")).unwrap();
    let mut files: Vec<_> = folder.map(|entry| entry.unwrap().path()).collect();
    assert!(files.len() >= 7, "{files:?}");
    let kept = tempfile::tempdir().unwrap();
    let examples = blocks("toml");
    assert!(!examples.is_empty());
    for (index, text) in examples.iter().enumerate() {
        let path = kept.path().join(format!("{index}.toml"));
        std::fs::write(&path, text).unwrap();
        files.push(path);
    }
    let names: Vec<_> = files.iter().map(|path| path.to_str().unwrap()).collect();
    let done = loadtest(&[&["check"], names.as_slice()].concat());
    assert_eq!((done.code, done.stdout.lines().count()), (0, files.len()), "{}", done.stderr);
}

#[test]
fn commands_of_the_readme_that_need_nothing_else_pass() {
    let mut ran = 0;
    for block in blocks("sh") {
        for line in block.replace("\\\n", " ").lines() {
            let Some(rest) = line.strip_prefix("loadtest run ") else { continue };
            if !rest.contains("--with-mock") {
                continue;
            }
            let command = rest.split('#').next().unwrap().replace('\'', "");
            let folder = tempfile::tempdir().unwrap();
            let page = folder.path().join("report.html");
            let mut arguments = vec!["run"];
            arguments.extend(
                command
                    .split_whitespace()
                    .map(|word| if word == "report.html" { page.to_str().unwrap() } else { word }),
            );
            // A scenario's file is shortened.
            if command.contains(".toml") {
                arguments.extend(["--scale", "0.2"]);
            }
            let done = loadtest(&arguments);
            assert_eq!(done.code, 0, "{line}: {}{}", done.stdout, done.stderr);
            assert!(done.stdout.contains("passed"));
            if command.contains("--html") {
                let html = std::fs::read_to_string(&page).unwrap();
                assert!(
                    html.contains("\"outcome\":\"passed\"")
                        && html.contains("<svg") | html.contains("svg(")
                );
                assert!(
                    !html.contains("src=") && !html.contains("href="),
                    "something from elsewhere"
                );
            }
            ran += 1;
        }
    }
    assert!(ran >= 2, "{ran}");
}

#[test]
fn mistakes_have_exit_codes_of_their_own() {
    for (arguments, code, part) in [
        (&["run"][..], 2, "give a scenario file"),
        (&["run", "no-such-file.toml", "--with-mock"], 2, "no-such-file.toml"),
        (&["run", "--nonsense"], 2, "--nonsense"),
        (&["run", "--workload", "small", "--model", "m"], 2, "--url"),
        (&["run", "--workload", "small", "--model", "m", "--url", "127.0.0.1:1"], 2, "http://"),
        (
            &[
                "run",
                "--workload",
                "small",
                "--model",
                "m",
                "--url",
                "http://127.0.0.1:9",
                "--key-env",
                "NO_SUCH_VAR_HERE",
            ],
            2,
            "NO_SUCH_VAR_HERE",
        ),
        (
            &[
                "run",
                "loadtest/scenarios/faults.toml",
                "--url",
                "http://127.0.0.1:9",
                "--mock-url",
                "http://127.0.0.1:9",
            ],
            1,
            "refused",
        ),
    ] {
        let done = loadtest(arguments);
        assert_eq!(done.code, code, "{arguments:?}: {}", done.stderr);
        assert!(done.stderr.contains(part), "{arguments:?}: {}", done.stderr);
    }
    let done = loadtest(&[
        "run",
        "-q",
        "--workload",
        "small",
        "--model",
        "m",
        "-n",
        "3",
        "--url",
        "http://127.0.0.1:9",
    ]);
    assert_eq!((done.code, done.outcome()), (3, "limit_broken"), "{}", done.stdout);
    assert_eq!(done.failures("no connection"), 3);
}
