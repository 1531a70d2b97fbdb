//! `GET /v1/models`: exactly what a key may call.

use loadtest::mock::Mock;
use serde_json::json;

use crate::client::{Answer, request};
use crate::harness::{Builder, TestGateway, chat_body, deployment, target};

async fn get(gateway: &TestGateway, key: &str, path: &str, is_anthropic: bool) -> Answer {
    let mut headers = vec![("x-api-key", key)];
    if is_anthropic {
        headers.push(("anthropic-version", "2023-06-01"));
    }
    gateway.expect_rows(1);
    gateway.client().await.call(&request("GET", path, &headers, b"")).await
}

fn ids(answer: &Answer) -> Vec<String> {
    let page = answer.json();
    let data = page["data"].as_array().unwrap();
    data.iter().map(|entry| entry["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn list_is_what_the_key_may_call_in_both_shapes() {
    let mock = Mock::start().await.unwrap();
    let narrow = sluice::key::generate();
    let none = sluice::key::generate();
    let more = "[[workspaces.environments.models]]\nalias = \"off\"\nconnection = \"c0\"\nenabled = false\n\
         [[workspaces.environments.deployments]]\nname = \"hidden\"\ntargets = [{ model = \"m1\" }]\n\
         [[workspaces.environments.keys]]\nname = \"narrow\"\nsecret = \"${NARROW}\"\n\
         scopes = { models = [\"m1\"], deployments = [\"chat\"], endpoints = [\"chat/completions\"] }\n\
         [[workspaces.environments.keys]]\nname = \"none\"\nsecret = \"${NONE}\"\n\
         scopes = { models = \"none\", deployments = \"none\" }\n\
         [[workspaces]]\nslug = \"other\"\n[[workspaces.environments]]\nslug = \"production\"\n\
         [[workspaces.environments.connections]]\nname = \"c\"\nprovider = \"ollama\"\nbase_url = \"http://127.0.0.1:1/v1\"\n\
         [[workspaces.environments.models]]\nalias = \"foreign\"\nconnection = \"c\"\n";
    let text = deployment(&[target(&mock, "sim"), target(&mock, "sim")], "");
    let gateway = Builder::new(&format!("{text}{more}"))
        .env("NARROW", narrow.expose())
        .env("NONE", none.expose())
        .start()
        .await;
    let all = gateway.key.clone();
    for (key, names) in [
        (all.as_str(), &["chat", "hidden", "m0", "m1"][..]),
        (narrow.expose(), &["chat", "m1"]),
        (none.expose(), &[]),
    ] {
        for is_anthropic in [false, true] {
            let answer = get(&gateway, key, "/v1/models", is_anthropic).await;
            assert_eq!(
                (answer.status, ids(&answer)),
                (200, names.iter().map(|&name| name.to_owned()).collect())
            );
            let page = answer.json();
            if is_anthropic {
                assert_eq!(page["has_more"], false);
                assert_eq!(page["first_id"], json!(names.first()));
                assert_eq!(page["last_id"], json!(names.last()));
            } else {
                assert_eq!(page["object"], "list");
            }
        }
        // What is listed can be retrieved and called, what is not cannot.
        for name in ["chat", "hidden", "m0", "m1", "off", "foreign", "nothing"] {
            let status = if names.contains(&name) { 200 } else { 404 };
            let answer = get(&gateway, key, &format!("/v1/models/{name}"), false).await;
            assert_eq!(answer.status, status, "{name}");
            let called = chat_body("").replacen("\"chat\"", &format!("\"{name}\""), 1);
            gateway.expect_rows(1);
            let headers = [("x-api-key", key)];
            let request = request("POST", "/v1/chat/completions", &headers, called.as_bytes());
            assert_eq!(gateway.client().await.call(&request).await.status, status, "{name}");
        }
    }
    gateway.stop().await;
}

#[tokio::test]
async fn one_model_comes_in_both_shapes() {
    let mock = Mock::start().await.unwrap();
    let text = deployment(&[target(&mock, "sim")], "").replace("\"m0\"", "\"meta/Llama-3\"");
    let gateway = Builder::new(&text).start().await;
    let key = gateway.key.clone();
    let answer = get(&gateway, &key, "/v1/models/meta/Llama-3", false).await;
    assert_eq!(answer.json()["object"], "model");
    assert_eq!(answer.json()["id"], "meta/Llama-3");
    let answer = get(&gateway, &key, "/v1/models/meta/Llama-3", true).await;
    assert_eq!(answer.json()["type"], "model");
    assert_eq!(answer.json()["display_name"], "meta/Llama-3");
    let answer = get(&gateway, &key, "/v1/models/gone", false).await;
    assert_eq!((answer.status, answer.code()), (404, "model_not_found".to_owned()));
    let answer = get(&gateway, &key, "/v1/models/gone", true).await;
    assert_eq!((answer.status, &answer.json()["error"]["type"]), (404, &json!("not_found_error")));
    let rows = gateway.rows().await;
    assert!(rows.iter().all(|row| row["endpoint"] == "models" && row["cost_nanousd"].is_null()));
    gateway.stop().await;
}
