//! Requests about a response that a provider keeps go to the connection that made it.

use loadtest::mock::Mock;

use crate::client::{Answer, Client, request, within};
use crate::harness::{Builder, TestGateway, deployment, document, target};

async fn call(gateway: &TestGateway, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
    let authorization = gateway.authorization();
    let mut all = vec![("authorization", authorization.as_str())];
    all.extend_from_slice(headers);
    gateway.expect_rows(1);
    gateway.client().await.call(&request(method, path, &all, b"")).await
}

/// The row of the last request: its answer may be read before Pingora says that it is over.
async fn last_row(gateway: &TestGateway) -> serde_json::Value {
    gateway.idle().await;
    gateway.rows().await.pop().unwrap()
}

/// Makes a response with `model` and returns its id.
async fn make(gateway: &TestGateway, model: &str, stream: &str) -> String {
    let body = format!(r#"{{"model":"{model}","input":"hello"{stream}}}"#);
    let answer = gateway.post("/v1/responses", &body).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let text = answer.text();
    let start = text.find("resp_").unwrap();
    text[start..].chars().take_while(|char| char.is_alphanumeric() || *char == '_').collect()
}

#[tokio::test]
async fn each_request_goes_to_the_connection_that_made_the_response() {
    let one = Mock::start().await.unwrap();
    let two = Mock::start().await.unwrap();
    let gateway = TestGateway::start(&[target(&one, "sim"), target(&two, "sim")]).await;
    // The second mock's ids shall differ from the first's.
    make(&gateway, "m1", "").await;
    for stream in ["", r#","stream":true"#] {
        for (model, mock, credential) in [
            ("m0", &one, "Bearer sk-provider-credential-0"),
            ("m1", &two, "Bearer sk-provider-credential-1"),
        ] {
            let id = make(&gateway, model, stream).await;
            for (method, below) in
                [("GET", ""), ("GET", "/input_items"), ("POST", "/cancel"), ("DELETE", "")]
            {
                mock.clear_journal();
                let path = format!("/v1/responses/{id}{below}");
                let headers = [
                    ("cookie", "a=b"),
                    ("openai-beta", "x"),
                    ("x-sluice-end-user", "u"),
                    ("x-forwarded-for", "1.2.3.4"),
                ];
                let answer = call(&gateway, method, &path, &headers).await;
                assert_eq!(answer.status, 200, "{method} {below}: {}", answer.text());
                assert!(
                    answer.text().contains(&id) || below == "/input_items",
                    "{}",
                    answer.text()
                );
                assert_eq!(answer.header("x-sluice-provider"), Some("simulated"));
                assert!(answer.header("x-upstream-request-id").is_some());
                let entry = within(mock.wait_for(1)).await.remove(0);
                assert_eq!((entry.method.as_str(), entry.path.as_str()), (method, path.as_str()));
                assert_eq!(entry.header("authorization"), Some(credential));
                assert_eq!(entry.header("openai-beta"), Some("x"));
                assert_eq!(entry.header("host"), Some(&*mock.addr().to_string()));
                let leaked: Vec<_> = entry
                    .headers
                    .iter()
                    .map(|(name, _)| name.as_str())
                    .filter(|name| name.starts_with("x-") || *name == "cookie")
                    .collect();
                assert!(leaked.is_empty(), "{leaked:?}");
                let row = last_row(&gateway).await;
                assert_eq!(row["request_id"], answer.header("x-request-id").unwrap());
                assert_eq!(
                    (&row["endpoint"], &row["outcome"]),
                    (&"responses".into(), &"success".into())
                );
                assert_eq!(row["connection"], if model == "m0" { "c0" } else { "c1" });
                assert_eq!(row["response_bytes"], answer.body.len());
                assert!(row["cost_nanousd"].is_null() && row["usage_source"] == "none");
            }
            // Deleted: the provider's own answer.
            let answer = call(&gateway, "GET", &format!("/v1/responses/{id}"), &[]).await;
            assert_eq!(answer.status, 404);
            assert_eq!(last_row(&gateway).await["outcome"], "client_error");
        }
    }
    gateway.stop().await;
}

#[tokio::test]
async fn nothing_is_kept_of_the_gateways_own_for_requests_in_a_row() {
    let mock = Mock::start().await.unwrap();
    let gateway = TestGateway::start(&[target(&mock, "sim")]).await;
    let id = make(&gateway, "m0", "").await;
    let authorization = gateway.authorization();
    let headers = [("authorization", authorization.as_str())];
    let mut client = gateway.client().await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        gateway.expect_rows(2);
        let stored =
            client.call(&request("GET", &format!("/v1/responses/{id}"), &headers, b"")).await;
        assert_eq!(stored.status, 200);
        ids.push(stored.header("x-request-id").unwrap().to_owned());
        let body = br#"{"model":"chat","input":"x"}"#;
        let made = client.call(&request("POST", "/v1/responses", &headers, body)).await;
        assert_eq!(made.status, 200);
        ids.push(made.header("x-request-id").unwrap().to_owned());
    }
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 10);
    gateway.stop().await;
}

#[tokio::test]
async fn unknown_id_goes_to_the_only_connection_and_to_none_of_several() {
    let one = Mock::start().await.unwrap();
    let two = Mock::start().await.unwrap();
    let gateway = TestGateway::start(&[target(&one, "sim")]).await;
    assert_eq!(call(&gateway, "GET", "/v1/responses/resp_none", &[]).await.status, 404);
    assert_eq!(within(one.wait_for(1)).await.len(), 1);
    gateway.stop().await;

    let gateway = TestGateway::start(&[target(&one, "sim"), target(&two, "sim")]).await;
    one.clear_journal();
    let answer = call(&gateway, "GET", "/v1/responses/resp_none", &[]).await;
    assert_eq!((answer.status, answer.code()), (404, "not_found".to_owned()));
    assert!(one.journal().is_empty() && two.journal().is_empty());
    gateway.stop().await;
}

#[tokio::test]
async fn response_of_another_environment_is_not_found() {
    let mock = Mock::start().await.unwrap();
    let theirs = sluice::key::generate();
    let (base, url) = (deployment(&[target(&mock, "sim")], ""), mock.base_url());
    let other = document(&[(&url, "sim", ""), (&url, "sim", "")], "")
        .replace("acme", "other")
        .replace("${KEY}", "${THEIRS}");
    let gateway =
        Builder::new(&format!("{base}{other}")).env("THEIRS", theirs.expose()).start().await;
    let id = make(&gateway, "m0", "").await;
    mock.clear_journal();
    let headers = [("x-api-key", theirs.expose())];
    gateway.expect_rows(1);
    let request = request("GET", &format!("/v1/responses/{id}"), &headers, b"");
    let answer = gateway.client().await.call(&request).await;
    assert_eq!((answer.status, answer.code()), (404, "not_found".to_owned()));
    assert!(mock.journal().is_empty());
    gateway.stop().await;
}

#[tokio::test]
async fn provider_that_is_away_is_an_upstream_error() {
    let mock = Mock::start().await.unwrap();
    let gateway = TestGateway::start(&[target(&mock, "sim")]).await;
    let id = make(&gateway, "m0", "").await;
    drop(mock);
    let answer = call(&gateway, "GET", &format!("/v1/responses/{id}"), &[]).await;
    assert_eq!((answer.status, answer.code()), (502, "upstream_error".to_owned()));
    let row = last_row(&gateway).await;
    assert_eq!((&row["status"], &row["outcome"]), (&502.into(), &"upstream_error".into()));
    gateway.stop().await;
}

#[tokio::test]
async fn stored_requests_need_the_scope() {
    let mock = Mock::start().await.unwrap();
    let text = deployment(&[target(&mock, "sim")], "")
        .replace("endpoints = \"all\"", "endpoints = [\"chat/completions\"]");
    let gateway = Builder::new(&text).start().await;
    let answer = call(&gateway, "GET", "/v1/responses/resp_1", &[]).await;
    assert_eq!((answer.status, answer.code()), (403, "endpoint_not_allowed".to_owned()));
    assert!(mock.journal().is_empty());
    let mut client: Client = gateway.client().await;
    let answer = client.call(&request("GET", "/v1/responses/resp_1", &[], b"")).await;
    assert_eq!((answer.status, answer.code()), (401, "invalid_api_key".to_owned()));
    gateway.stop().await;
}

#[tokio::test]
async fn query_goes_on_by_list_and_azure_gets_its_version() {
    let mock = Mock::start().await.unwrap();
    let openai = document(&[(&mock.base_url(), "sim", "")], "");
    let azure = openai.replace("provider = \"simulated\"", "provider = \"azure_openai\"").replace(
        "credential = ",
        "settings = { api_version = \"2025-03-01-preview\" }\ncredential = ",
    );
    assert_ne!(openai, azure);
    for (resources, version) in [(openai, None), (azure, Some("api-version=2025-03-01-preview"))] {
        let gateway = Builder::new(&resources).start().await;
        let id = make(&gateway, "m0", "").await;
        for (asked, passed) in [
            ("", ""),
            ("?", ""),
            ("?limit=5&order=asc", "limit=5&order=asc"),
            ("?include[]=a&key=vk_secret&api-version=1&after=x", "include[]=a&after=x"),
            ("?stream=true&starting_after=7", "stream=true&starting_after=7"),
        ] {
            mock.clear_journal();
            let path = format!("/v1/responses/{id}/input_items");
            call(&gateway, "GET", &format!("{path}{asked}"), &[]).await;
            let entry = within(mock.wait_for(1)).await.remove(0);
            let query: Vec<&str> =
                [passed].into_iter().chain(version).filter(|it| !it.is_empty()).collect();
            let expected = match query.join("&") {
                query if query.is_empty() => path,
                query => format!("{path}?{query}"),
            };
            assert_eq!(entry.path, expected, "{asked}");
        }
        gateway.stop().await;
    }
}
