//! The three formats give the same tree, and nothing makes a reader panic.

use proptest::prelude::*;

use super::*;

const TOML: &str = r#"
name = "a"
count = 1_000
hex = 0x1F
ratio = 2.50
on = true
when = 2027-01-01T00:00:00Z

[deep.er]
list = [
  1,
  "two",
  { three = 3 },
]

[[tables]]
slug = "x"

[[tables]]
slug = "y"
"#;

const YAML: &str = "
name: a
count: 1000
hex: 0x1F
ratio: 2.50
on: true
when: 2027-01-01T00:00:00Z

deep:
  er:
    list:
      - 1
      - 'two'
      - three: 3
nothing: ~
text: !!str 5
block: |
  line
  another
anchor: &a { slug: x }
alias: *a
";

const JSON: &str = r#"{
  "name": "a\u00e9\"\\",
  "deep": {"er": {
    "list": [1, -2.5e3, "two",
      {"three": 3}, [], {}, null, true, false
    ]
  }},
  "pair": "\ud83d\ude00"
}"#;

/// Every value with its line.
fn outline(node: &Node) -> String {
    let mut text = String::new();
    write(node, "", &mut text);
    text
}

fn write(node: &Node, path: &str, text: &mut String) {
    let line = node.line;
    match &node.value {
        Value::Null => *text += &format!("{line} {path} null\n"),
        Value::Flag(flag) => *text += &format!("{line} {path} {flag}\n"),
        Value::Number(digits) => *text += &format!("{line} {path} {digits}\n"),
        Value::Text(value) => *text += &format!("{line} {path} {value:?}\n"),
        Value::Date(date) => *text += &format!("{line} {path} date {date}\n"),
        Value::Refused => *text += &format!("{line} {path} refused\n"),
        Value::List(items) => {
            *text += &format!("{line} {path} list\n");
            for (index, item) in items.iter().enumerate() {
                write(item, &format!("{path}[{index}]"), text);
            }
        }
        Value::Table(table) => {
            *text += &format!("{line} {path} table\n");
            for entry in &table.entries {
                write(&entry.node, &format!("{path}.{}", entry.key), text);
            }
        }
    }
}

fn problems(file: &str, text: &str) -> String {
    match parse(file, text) {
        Ok(node) => panic!("accepted as {}", outline(&node)),
        Err(problems) => problems.to_string(),
    }
}

#[test]
fn toml_keeps_lines_and_order() {
    insta::assert_snapshot!(outline(&parse("a.toml", TOML).unwrap()), @r#"
    1  table
    2 .name "a"
    3 .count 1000
    4 .hex 31
    5 .ratio 2.50
    6 .on true
    7 .when date 2027-01-01T00:00:00Z
    9 .deep table
    9 .deep.er table
    10 .deep.er.list list
    11 .deep.er.list[0] 1
    12 .deep.er.list[1] "two"
    13 .deep.er.list[2] table
    13 .deep.er.list[2].three 3
    16 .tables list
    16 .tables[0] table
    17 .tables[0].slug "x"
    19 .tables[1] table
    20 .tables[1].slug "y"
    "#);
}

#[test]
fn yaml_keeps_lines_and_digits() {
    insta::assert_snapshot!(outline(&parse("a.yaml", YAML).unwrap()), @r#"
    2  table
    2 .name "a"
    3 .count 1000
    4 .hex 31
    5 .ratio 2.50
    6 .on true
    7 .when "2027-01-01T00:00:00Z"
    10 .deep table
    11 .deep.er table
    12 .deep.er.list list
    12 .deep.er.list[0] 1
    13 .deep.er.list[1] "two"
    14 .deep.er.list[2] table
    14 .deep.er.list[2].three 3
    15 .nothing null
    16 .text "5"
    18 .block "line\nanother\n"
    20 .anchor table
    20 .anchor.slug "x"
    20 .alias table
    20 .alias.slug "x"
    "#);
}

#[test]
fn json_keeps_lines_and_digits() {
    insta::assert_snapshot!(outline(&parse("a.json", JSON).unwrap()), @r#"
    1  table
    2 .name "aé\"\\"
    3 .deep table
    3 .deep.er table
    4 .deep.er.list list
    4 .deep.er.list[0] 1
    4 .deep.er.list[1] -2.5e3
    4 .deep.er.list[2] "two"
    5 .deep.er.list[3] table
    5 .deep.er.list[3].three 3
    5 .deep.er.list[4] list
    5 .deep.er.list[5] table
    5 .deep.er.list[6] null
    5 .deep.er.list[7] true
    5 .deep.er.list[8] false
    8 .pair "😀"
    "#);
}

#[test]
fn faults_name_line_and_key_but_show_no_values() {
    let mut table = String::new();
    for (file, text) in [
        ("a.toml", "a = 1\na = 2"),
        ("a.toml", "[a]\nb = 1\n[a]\nc = 1"),
        ("a.toml", "a = sk-live-hunter2"),
        ("a.toml", "a = \"sk-live"),
        ("a.yaml", "a: 1\nb: 2\na: 3"),
        ("a.yaml", "a: 1\n b: 2"),
        ("a.yaml", "a: *b"),
        ("a.yaml", "a: !secret x"),
        ("a.yaml", "? [a]\n: b"),
        ("a.yaml", "a: 1\n---\na: 2"),
        ("a.yaml", "- a"),
        ("a.yaml", "a: \"sk-live"),
        ("a.json", "{\"a\": 1,\n \"a\": 2,\n \"a\": 3}"),
        ("a.json", "{\"a\": 1,}"),
        ("a.json", "{\"a\": sk-live}"),
        ("a.json", ""),
        ("a.json", "[]"),
        ("a.ini", "a = 1"),
        ("a", "a = 1"),
    ] {
        let problems = problems(file, text);
        assert!(!problems.contains("sk-live"), "{problems}");
        table += &format!("{problems}\n");
    }
    insta::assert_snapshot!(table, @r#"
    a.toml:2: not valid TOML: duplicate key
    a.toml:3: not valid TOML: duplicate key
    a.toml:1: not valid TOML: string values must be quoted, expected literal string
    a.toml:1: not valid TOML: invalid basic string, expected `"`
    a.yaml:3: a: is given twice in the same table, first in line 1
    a.yaml:2: not valid YAML: mapping values are not allowed in this context
    a.yaml:1: not valid YAML: while parsing node, found unknown anchor
    a.yaml:1: tags other than those of YAML's core are not known
    a.yaml:1: a key must be a text
    a.yaml:2: a second document begins: a file holds one
    a.yaml:1: the document must be a table of fields
    a.yaml:1: not valid YAML: while scanning a quoted scalar, found unexpected end of stream
    a.json:2: a: is given twice in the same table, first in line 1
    a.json:3: a: is given twice in the same table, first in line 2
    a.json:1: not valid JSON: trailing comma at line 1 column 9
    a.json:1: not valid JSON: expected value at line 1 column 7
    a.json:1: not valid JSON: EOF while parsing a value at line 1 column 0
    a.json:1: the document must be a table of fields
    a.ini: the file's name must end in .toml, .yaml, .yml or .json
    a: the file's name must end in .toml, .yaml, .yml or .json
    "#);
}

#[test]
fn empty_toml_and_yaml_are_empty_tables() {
    assert_eq!(outline(&parse("a.toml", "").unwrap()), "1  table\n");
    assert_eq!(outline(&parse("a.yaml", "# nothing\n").unwrap()), "1  table\n");
    assert_eq!(outline(&parse("a.TOML", "\u{feff}a = 1").unwrap()), "1  table\n1 .a 1\n");
}

#[test]
fn deep_nesting_is_refused() {
    for n in [100, 10_000] {
        let json = format!("{{\"a\":{}{}}}", "[".repeat(n), "]".repeat(n));
        problems("a.json", &json);
        problems("a.yaml", &json);
        problems("a.yaml", &"- ".repeat(n));
        problems("a.toml", &format!("a = {}{}", "[".repeat(n), "]".repeat(n)));
    }
    let json = format!("{{\"a\":{}{}}}", "[".repeat(63), "]".repeat(63));
    assert!(parse("a.json", &json).is_ok());
    assert!(parse("a.yaml", &json).is_ok());
}

#[test]
fn aliases_cannot_blow_up() {
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..9 {
        let alias = format!("*a{}", level - 1);
        bomb += &format!("a{level}: &a{level} [{}]\n", [alias.as_str(); 9].join(", "));
    }
    assert!(problems("a.yaml", &bomb).contains("aliases make this document too large"));
    problems("a.yaml", "a: &a [*a]");
}

proptest! {
    #[test]
    fn json_reads_as_serde_reads_it(text in "[\\[\\]{}:,\"a0-9.e\\\\ \n-]{0,30}") {
        let text = format!("{{\"k\": {text} }}");
        let is_json = serde_json::from_str::<serde_json::Value>(&text).is_ok();
        // A key that stands twice is JSON for serde, and refused here.
        if let Err(problems) = parse("a.json", &text) {
            let is_twice = problems.to_string().contains("is given twice");
            prop_assert_eq!(is_json, is_twice, "{}", problems);
        } else {
            prop_assert!(is_json);
        }
    }

    #[test]
    fn no_bytes_panic(text in "[\\[\\]{}:,\"'a0-9.\\\\ \n\t#&*!|>%@?=~<$-]{0,60}") {
        for file in ["a.toml", "a.yaml", "a.json"] {
            drop(parse(file, &text));
        }
    }

    #[test]
    fn changed_documents_never_panic(at in 0..400_usize, len in 0..4_usize, new in "[ -~\n]{0,3}") {
        for (file, text) in [("a.toml", TOML), ("a.yaml", YAML), ("a.json", JSON)] {
            let mut text: Vec<char> = text.chars().collect();
            let at = at % text.len();
            let end = (at + len).min(text.len());
            text.splice(at..end, new.chars());
            drop(parse(file, &text.into_iter().collect::<String>()));
        }
    }
}
