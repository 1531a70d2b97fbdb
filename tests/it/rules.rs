//! Rules: which deployment a request goes to, on real requests and tried out by the admin API.

use loadtest::mock::Mock;
use serde_json::{Value, json};

use crate::client::Answer;
use crate::harness::{Builder, TestGateway, deployment, target};

const PRODUCTION: &str = "/workspaces/acme/environments/production";

/// Two deployments over two targets each, `chat` with `fields`, `large` beside it, and the rules of
/// the environment.
fn document(mock: &Mock, environment: &str, fields: &str) -> String {
    let text = deployment(&[target(mock, "sim"), target(mock, "sim")], fields);
    let large = "[[workspaces.environments.deployments]]\nname = \"large\"\n\
                 targets = [{ model = \"m1\" }]\n[[workspaces.environments.keys]]\n";
    let slug = "slug = \"production\"\n";
    text.replacen(slug, &format!("{slug}{environment}\n"), 1).replacen(
        "[[workspaces.environments.keys]]\n",
        large,
        1,
    )
}

async fn start(mock: &Mock, environment: &str, fields: &str) -> TestGateway {
    Builder::new(&document(mock, environment, fields)).start().await
}

fn chat(model: &str, text: &str, more: &Value) -> String {
    let mut body = json!({
        "model": model, "messages": [{"role": "user", "content": text}], "max_tokens": 8,
    });
    for (name, value) in more.as_object().unwrap() {
        body[name] = value.clone();
    }
    body.to_string()
}

async fn post(gateway: &TestGateway, model: &str, text: &str, more: Value) -> Answer {
    gateway.post("/v1/chat/completions", &chat(model, text, &more)).await
}

/// The deployment that answered, or the code of the error.
async fn went(gateway: &TestGateway, model: &str, text: &str, more: Value) -> String {
    let answer = post(gateway, model, text, more).await;
    if answer.status != 200 {
        return answer.json()["error"]["code"].as_str().unwrap().to_owned();
    }
    let header = |name| answer.header(name).unwrap().to_owned();
    format!("{}/{}", header("x-sluice-deployment"), header("x-sluice-model"))
}

const ENVIRONMENT: &str = r#"rules = [
  { when = "metadata.team == 'blocked'", then = { block = { message = "your team has no models" } } },
  { when = "request.input_tokens > 200", then = { deployment = "large" } },
  { when = "request.filenames.glob('*.py') || request.kind == 'fim'", then = { model = "m1" } },
  { when = "request.last_message.startsWith('hello')", then = { deployment = "chat" } },
]"#;

#[tokio::test]
async fn rules_of_the_environment_choose_for_auto() {
    let mock = Mock::start().await.unwrap();
    let gateway = start(&mock, ENVIRONMENT, "").await;
    let long = "many words ".repeat(200);
    let gap = "<|fim_prefix|>def a():<|fim_suffix|>    return b<|fim_middle|>";
    for (text, expected) in [
        ("hello", "chat/m0"),
        (&*long, "large/m1"),
        ("what is in src/a.py?", "m1/m1"),
        (gap, "m1/m1"),
        ("good day", "model_not_found"),
    ] {
        assert_eq!(went(&gateway, "auto", text, json!({})).await, expected, "{text}");
    }
    // Who names a deployment gets it, unless that says otherwise.
    assert_eq!(went(&gateway, "chat", &long, json!({})).await, "chat/m0");

    let team = json!({"sluice": {"metadata": {"team": "blocked"}}});
    let answer = post(&gateway, "auto", "hello", team).await;
    assert_eq!(answer.status, 400);
    assert_eq!(answer.json()["error"]["code"], "blocked");
    assert_eq!(answer.json()["error"]["message"], "your team has no models");
    let rows = gateway.rows().await;
    let row = rows.iter().find(|row| row["outcome"] == "blocked").unwrap();
    assert_eq!((&row["status"], &row["requested_model"]), (&json!(400), &json!("auto")));
    let row = rows.iter().find(|row| row["deployment"] == "large").unwrap();
    assert_eq!((&row["requested_model"], &row["outcome"]), (&json!("auto"), &json!("success")));
    assert_eq!(gateway.metric("sluice_rules_taken_total{action=\"block\"}"), 1.0);
    assert_eq!(gateway.metric("sluice_rules_taken_total{action=\"deployment\"}"), 2.0);
    // Five requests without the metadata that the first rule reads.
    assert_eq!(gateway.metric("sluice_rule_errors_total{reason=\"missing\"}"), 5.0);
    gateway.stop().await;
}

#[tokio::test]
async fn deployment_says_whether_rules_of_the_environment_count() {
    let mock = Mock::start().await.unwrap();
    let fields = "environment_rules = true\n\
                  rules = [{ when = \"request.stream\", then = { target = \"m1\" } }]";
    let gateway = start(&mock, ENVIRONMENT, fields).await;
    let long = "many words ".repeat(200);
    assert_eq!(went(&gateway, "chat", &long, json!({})).await, "large/m1");
    assert_eq!(went(&gateway, "chat", "good day", json!({})).await, "chat/m0");
    // Its own rules come after those of the environment.
    let stream = json!({"stream": true});
    assert_eq!(went(&gateway, "chat", "good day", stream.clone()).await, "chat/m1");
    assert_eq!(went(&gateway, "auto", "hello", stream).await, "chat/m1");
    gateway.stop().await;
}

#[tokio::test]
async fn key_without_auto_in_its_scope_gets_no_choice() {
    let mock = Mock::start().await.unwrap();
    for (scope, expected) in [("[\"chat\"]", "model_not_found"), ("[\"auto\"]", "chat/m0")] {
        let document = document(&mock, ENVIRONMENT, "")
            .replace("deployments = \"all\"", &format!("deployments = {scope}"));
        let gateway = Builder::new(&document).start().await;
        assert_eq!(went(&gateway, "auto", "hello", json!({})).await, expected);
        gateway.stop().await;
    }
}

#[tokio::test]
async fn traffic_goes_by_its_part_and_on_to_the_next_rule() {
    let mock = Mock::start().await.unwrap();
    let fields = r#"rules = [
      { traffic_percent = 0, then = { block = { message = "never" } } },
      { traffic_percent = 50, then = { deployment = "large" } },
      { then = { target = "m1" } },
    ]"#;
    let gateway = start(&mock, "", fields).await;
    let mut n_large = 0;
    for _ in 0..200 {
        match &*went(&gateway, "chat", "hi", json!({})).await {
            "large/m1" => n_large += 1,
            other => assert_eq!(other, "chat/m1"),
        }
    }
    // Six standard deviations.
    assert!((58..=142).contains(&n_large), "{n_large}");
    gateway.stop().await;
}

#[tokio::test]
async fn error_rate_and_use_of_a_limit_count() {
    let mock = Mock::start().await.unwrap();
    let fields = r#"limits = [{ metric = "requests", period = "hour", amount = 100 }]
failover = { max_attempts = 1 }
rules = [
  { all = [{ error_rate = "m0", minutes = 10, is = "greater_or_equal", value = 0.5 }], then = { target = "m1" } },
  { any = [{ usage_percent = "key.requests.hour", is = "greater_or_equal", value = 50 }], then = { deployment = "large" } },
]"#;
    let text = deployment(&[target(&mock, "sim?status=500"), target(&mock, "sim")], fields)
        .replace(
            "name = \"app\"\n",
            "name = \"app\"\nlimits = [{ metric = \"requests\", period = \"hour\", amount = 6 }]\n",
        );
    let gateway = Builder::new(&text).start().await;
    assert_eq!(post(&gateway, "chat", "hi", json!({})).await.status, 500);
    assert_eq!(went(&gateway, "chat", "hi", json!({})).await, "chat/m1");
    gateway.stop().await;

    let text = document(&mock, "", &fields.replace("\"m0\"", "\"large/m1\"")).replace(
        "name = \"app\"\n",
        "name = \"app\"\nlimits = [{ metric = \"requests\", period = \"hour\", amount = 6 }]\n",
    );
    let gateway = Builder::new(&text).start().await;
    for expected in ["chat/m0", "chat/m0", "chat/m0", "large/m1", "large/m1"] {
        assert_eq!(went(&gateway, "chat", "hi", json!({})).await, expected);
    }
    gateway.stop().await;
}

/// What cannot be told counts as no match, and the request goes on.
#[tokio::test]
async fn rule_that_fails_is_passed_over() {
    let mock = Mock::start().await.unwrap();
    let list = format!("[{}0]", "0,".repeat(1_000));
    let fields = format!(
        r#"rules = [
      {{ when = "{list}.all(a, {list}.all(b, a == b))", then = {{ target = "m1" }} }},
      {{ when = "request.body.nothing > 1", then = {{ target = "m1" }} }},
      {{ when = "request.body.model > 1", then = {{ target = "m1" }} }},
      {{ when = "true", then = {{ deployment = "no such" }} }},
      {{ when = "1 / (request.messages_count - 1) == 1", then = {{ target = "m1" }} }},
    ]"#
    );
    let gateway = start(&mock, "", &fields).await;
    assert_eq!(went(&gateway, "chat", "hi", json!({})).await, "chat/m0");
    for reason in ["budget", "missing", "type", "no_destination", "arithmetic"] {
        let metric = format!("sluice_rule_errors_total{{reason=\"{reason}\"}}");
        assert_eq!(gateway.metric(&metric), 1.0, "{reason}");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn rules_are_checked_when_they_are_saved() {
    let mock = Mock::start().await.unwrap();
    let gateway = start(&mock, "", "").await;
    let path = format!("{PRODUCTION}/deployments/chat");
    for (rule, problem) in [
        (
            json!({"when": "request.stream &&\n  request.modle == 'x'", "then": {"target": "m1"}}),
            "line 2, column 11: no field `modle`",
        ),
        (
            json!({"when": "request.input_tokens > 'x'", "then": {"target": "m1"}}),
            "line 1, column 22: `>` does not take (int, string)",
        ),
        (json!({"then": {"target": "m7"}}), "no target called `m7`"),
        (json!({"then": {"target": "m1", "model": "m1"}}), "must have one of"),
        (json!({"when": "true", "all": [{"kind": "fim"}], "then": {"target": "m1"}}), "beside"),
        (
            json!({"all": [{"field": "stream", "is": "less", "value": "x"}], "then": {"target": "m1"}}),
            "as an expression, `((request.stream < \"x\"))`",
        ),
        (json!({"when": "error_rate('m7', 5) > 0.5", "then": {"target": "m1"}}), "no such target"),
        (json!({"traffic_percent": 101, "then": {"target": "m1"}}), "from 0 to 100"),
        (json!({"when": "true"}), "is missing"),
    ] {
        let answer = gateway.admin("PATCH", &path, Some(&json!({ "rules": [rule] }))).await;
        assert_eq!(answer.status, 422, "{rule}: {}", answer.text());
        assert!(answer.text().replace("\\\"", "\"").contains(problem), "{rule}: {}", answer.text());
    }
    let rule = json!({"when": "request.stream", "traffic_percent": 12.5, "then": {"target": "m1"}});
    let answer = gateway.admin("PATCH", &path, Some(&json!({ "rules": [rule] }))).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(gateway.admin("GET", &path, None).await.json()["rules"], json!([rule]));
    let exported = gateway.admin("GET", "/workspaces/acme/export", None).await.json();
    let environment = &exported["workspaces"][0]["environments"][0];
    let mut deployments = environment["deployments"].as_array().unwrap().iter();
    let chat = deployments.find(|deployment| deployment["name"] == "chat").unwrap();
    assert_eq!(chat["rules"], json!([rule]), "{exported}");
    gateway.stop().await;
}

#[tokio::test]
async fn rules_can_be_tried_out() {
    let mock = Mock::start().await.unwrap();
    let fields = "rules = [{ when = \"request.stream\", traffic_percent = 25, \
                  then = { target = \"m1\" } }]";
    let gateway = start(&mock, ENVIRONMENT, fields).await;
    let body: Value = serde_json::from_str(&chat("auto", "hello a.rs", &json!({}))).unwrap();
    let path = format!("{PRODUCTION}/rules/test");
    let trial = json!({ "body": body, "metadata": {"team": "web"}, "key": "app" });
    let answer = gateway.admin("POST", &path, Some(&trial)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let told = answer.json();
    assert_eq!((&told["deployment"], &told["model"]), (&json!("chat"), &Value::Null));
    let results: Vec<&Value> =
        told["rules"].as_array().unwrap().iter().map(|rule| &rule["result"]).collect();
    assert_eq!(results, ["not_met", "not_met", "not_met", "taken", "not_met"]);
    assert_eq!(told["rules"][0]["reads"], json!({"metadata": {"team": "web"}}));
    assert_eq!(told["rules"][2]["reads"]["request.filenames"], json!(["a.rs"]));
    assert_eq!(told["rules"][3]["reads"], json!({"request.last_message": "hello a.rs"}));
    assert_eq!(told["rules"][4]["of"], "deployment");

    // Rules that are not saved, and a draw.
    let path = format!("{PRODUCTION}/deployments/chat/rules/test");
    let draft = json!([
        {"when": "metadata.team == 'web'", "then": {"target": "m1"}},
        {"traffic_percent": 25, "then": {"model": "m1"}},
        {"traffic_percent": 26, "then": {"block": {"message": "no"}}},
    ]);
    let trial = json!({ "body": body, "rules": draft, "draw": 25 });
    let told = gateway.admin("POST", &path, Some(&trial)).await.json();
    assert_eq!(told["blocked"], "no");
    let results: Vec<&Value> =
        told["rules"].as_array().unwrap().iter().map(|rule| &rule["result"]).collect();
    assert_eq!(results, ["error", "left_by_traffic", "taken"]);
    assert!(told["rules"][0]["why"].as_str().unwrap().contains("is missing"));

    let wrong = json!({ "body": body, "rules": [{"when": "1 +", "then": {"target": "m1"}}] });
    let answer = gateway.admin("POST", &path, Some(&wrong)).await;
    assert_eq!(answer.status, 422);
    assert!(answer.text().contains("line 1, column 4: expected a value"), "{}", answer.text());
    let gone = json!({ "body": {"model": "no such"} });
    let answer = gateway.admin("POST", &format!("{PRODUCTION}/rules/test"), Some(&gone)).await;
    assert_eq!(answer.status, 422, "{}", answer.text());
    // Nothing was sent anywhere.
    assert_eq!(mock.journal().len(), 0);
    gateway.stop().await;
}
