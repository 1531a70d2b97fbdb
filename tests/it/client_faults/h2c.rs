//! HTTP/2 without TLS, where it is switched on.

use std::time::Duration;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{Reason, RecvStream};
use loadtest::mock::{End, Mock};
use tokio::net::TcpStream;

use super::timed;
use crate::client::within;
use crate::harness::{Builder, TestGateway, chat_body, deployment, target};

const CHAT: &str = "/v1/chat/completions";

async fn gateway(script: &str) -> (TestGateway, Mock) {
    let mock = Mock::start().await.unwrap();
    let text = deployment(&[target(&mock, script)], "");
    let gateway = Builder::new(&text).with(|config| config.data.h2c = true).start().await;
    (gateway, mock)
}

/// A connection, with what drives it.
async fn connect(gateway: &TestGateway) -> (SendRequest<Bytes>, tokio::task::JoinHandle<()>) {
    let stream = within(TcpStream::connect(gateway.address)).await.unwrap();
    let (client, connection) = within(h2::client::handshake(stream)).await.unwrap();
    let driver = tokio::spawn(async move { drop(connection.await) });
    (client, driver)
}

/// Sends a request; its stream is cut short when what is returned is dropped.
async fn send(
    client: &mut SendRequest<Bytes>,
    gateway: &TestGateway,
    (path, key): (&str, &str),
    body: &str,
) -> (ResponseFuture, h2::SendStream<Bytes>) {
    let request = http::Request::post(format!("http://{}{path}", gateway.address))
        .header("authorization", format!("Bearer {key}"))
        .header("content-type", "application/json")
        .body(())
        .unwrap();
    let mut ready = within(client.clone().ready()).await.unwrap();
    let (response, mut stream) = ready.send_request(request, false).unwrap();
    stream.send_data(Bytes::copy_from_slice(body.as_bytes()), true).unwrap();
    (response, stream)
}

async fn read_all(body: &mut RecvStream) -> String {
    let mut text = Vec::new();
    while let Some(data) = within(body.data()).await {
        let data = data.unwrap();
        body.flow_control().release_capacity(data.len()).unwrap();
        text.extend_from_slice(&data);
    }
    String::from_utf8(text).unwrap()
}

#[tokio::test]
async fn chat_and_stream_are_answered_side_by_side() {
    let (gateway, mock) = gateway("sim").await;
    let (mut client, _driver) = connect(&gateway).await;
    gateway.expect_rows(2);
    let (whole, _keep) = send(&mut client, &gateway, (CHAT, &gateway.key), &chat_body("")).await;
    let fields = r#""stream":true"#;
    let (stream, _keep) =
        send(&mut client, &gateway, (CHAT, &gateway.key), &chat_body(fields)).await;

    let mut whole = within(whole).await.unwrap();
    let mut stream = within(stream).await.unwrap();

    assert_eq!((whole.status().as_u16(), stream.status().as_u16()), (200, 200));
    assert!(stream.headers().get("transfer-encoding").is_none());
    assert!(read_all(whole.body_mut()).await.contains("chat.completion"));
    assert!(read_all(stream.body_mut()).await.ends_with("data: [DONE]\n\n"));
    assert_eq!(mock.wait_for(2).await.len(), 2);
    for row in gateway.rows().await {
        assert_eq!((&row["outcome"], &row["output"]), (&"success".into(), &8.into()));
    }
    gateway.stop().await;
}

#[tokio::test]
async fn refusals_have_the_callers_shape() {
    let (gateway, mock) = gateway("sim").await;
    let (mut client, _driver) = connect(&gateway).await;
    let unknown = sluice::key::generate().expose().to_owned();
    for (path, key, body, status, needle) in [
        (CHAT, unknown.as_str(), "{}", 401, "invalid_api_key"),
        ("/v1/messages", unknown.as_str(), "{}", 401, "authentication_error"),
        ("/v1/nowhere", gateway.key.as_str(), "{}", 404, "not_found"),
        (CHAT, gateway.key.as_str(), "[]", 400, "invalid_json"),
        (CHAT, gateway.key.as_str(), r#"{"model":"no"}"#, 404, "model_not_found"),
    ] {
        let (response, _keep) = send(&mut client, &gateway, (path, key), body).await;
        let mut response = within(response).await.unwrap();
        assert_eq!(response.status().as_u16(), status, "{path} {body}");
        assert!(read_all(response.body_mut()).await.contains(needle));
    }
    gateway.expect_rows(2);
    assert!(mock.journal().is_empty());
    gateway.stop().await;
}

#[tokio::test]
async fn stream_that_the_client_resets_closes_its_upstream_alone() {
    let (gateway, mock) = gateway("sim?events=2000&event_ms=5").await;
    let (mut client, _driver) = connect(&gateway).await;
    let fields = r#""stream":true"#;
    let mut times = Vec::new();
    for _ in 0..5 {
        mock.clear_journal();
        gateway.expect_rows(1);
        let (response, mut sending) =
            send(&mut client, &gateway, (CHAT, &gateway.key), &chat_body(fields)).await;
        let mut response = within(response).await.unwrap();
        assert!(within(response.body_mut().data()).await.is_some());
        sending.send_reset(Reason::CANCEL);
        drop(response);
        let (entries, time) = timed(mock.wait_for(1)).await;
        assert_eq!(entries[0].end, End::ClientClosed);
        times.push(time);
        gateway.idle().await;
    }
    assert!(super::median(times.clone()) <= Duration::from_millis(100), "{times:?}");
    for row in gateway.rows().await {
        assert_eq!((&row["outcome"], &row["status"]), (&"client_closed".into(), &499.into()));
        assert_eq!(row["usage_source"], "estimated");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn connection_that_ends_in_mid_stream_closes_its_upstreams() {
    let (gateway, mock) = gateway("sim?events=2000&event_ms=5").await;
    let (mut client, driver) = connect(&gateway).await;
    let fields = r#""stream":true"#;
    let mut open = Vec::new();
    for _ in 0..5 {
        gateway.expect_rows(1);
        let (response, sending) =
            send(&mut client, &gateway, (CHAT, &gateway.key), &chat_body(fields)).await;
        let mut response = within(response).await.unwrap();
        assert!(within(response.body_mut().data()).await.is_some());
        open.push((response, sending));
    }
    driver.abort();
    for entry in within(mock.wait_for(5)).await {
        assert_eq!(entry.end, End::ClientClosed);
    }
    gateway.idle().await;
    for row in gateway.rows().await {
        assert_eq!((&row["outcome"], &row["status"]), (&"client_closed".into(), &499.into()));
    }
    gateway.stop().await;
}

#[tokio::test]
async fn http_1_is_served_on_the_same_listener() {
    let (gateway, _mock) = gateway("sim").await;
    assert_eq!(gateway.chat("").await.status, 200);
    gateway.stop().await;
}

#[tokio::test]
async fn preface_is_refused_where_h2c_is_off() {
    let (gateway, _mock) = TestGateway::with_mock().await;
    let answer = gateway.client().await.call(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    assert_eq!(answer.status, 505);
    gateway.stop().await;
}
