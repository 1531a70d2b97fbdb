//! The process and its signals: reload, drain, end.

use std::net::SocketAddr;
use std::time::Duration;

use loadtest::mock::Mock;
use serde_json::Value;
use sluice::usage::store::Reader;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::binary::{Process, configure};
use crate::client::{Answer, Client, request, within};
use crate::harness::{chat_body, document};

/// A gateway process before one mock.
struct Running {
    process: Process,
    data: SocketAddr,
    admin: SocketAddr,
    mock: Mock,
    dir: TempDir,
    key: String,
}

impl Running {
    /// With `upstream_model` as the script of the mock, and more keys of `sluice.toml`.
    async fn start(upstream_model: &str, more: &str) -> Self {
        let mock = Mock::start().await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        configure(dir.path(), &document(&[(&mock.base_url(), upstream_model, "")], ""), more);
        let key = sluice::key::generate().expose().to_owned();
        let mut process = Process::serve(dir.path(), &key);
        let data = process.address("data plane:").await;
        let admin = process.address("admin plane:").await;
        Self { process, data, admin, mock, dir, key }
    }

    fn request(&self, body: &str) -> Vec<u8> {
        let authorization = format!("Bearer {}", self.key);
        let headers = [("authorization", authorization.as_str())];
        request("POST", "/v1/chat/completions", &headers, body.as_bytes())
    }

    async fn chat(&self, body: &str) -> Answer {
        Client::connect(self.data).await.call(&self.request(body)).await
    }

    /// A stream whose first content has come.
    async fn stream(&self) -> Client {
        let mut client = Client::connect(self.data).await;
        client.write(&self.request(&chat_body(r#""stream":true"#))).await;
        assert_eq!(client.head().await.0, 200);
        client.read_until("\"content\"").await;
        client
    }

    fn write_resources(&self, text: &str) {
        std::fs::write(self.dir.path().join("resources.toml"), text).unwrap();
    }

    /// What the store holds once the process has ended.
    fn rows(&self) -> Vec<Value> {
        Reader::open(&self.dir.path().join("usage.db")).unwrap().rows(1_000).unwrap()
    }
}

async fn get(address: SocketAddr, path: &str) -> Answer {
    Client::connect(address).await.call(&request("GET", path, &[], b"")).await
}

#[tokio::test]
async fn hangup_reloads_and_keeps_what_is_in_force_when_the_document_is_wrong() {
    let mut gateway = Running::start("sim", "drain.delay_s = 0").await;
    let renamed = chat_body("").replace("\"chat\"", "\"renamed\"");
    let before = document(&[(&gateway.mock.base_url(), "sim", "")], "");
    assert_eq!(gateway.chat(&chat_body("")).await.status, 200);
    assert_eq!(gateway.chat(&renamed).await.status, 404);
    let mut open = Client::connect(gateway.data).await;
    assert_eq!(open.call(&gateway.request(&chat_body(""))).await.status, 200);

    gateway.write_resources(&before.replace("name = \"chat\"", "name = \"renamed\""));
    gateway.process.signal("HUP");
    gateway.process.stderr().next_with("resources reloaded").await;
    assert_eq!(gateway.chat(&renamed).await.status, 200);
    assert_eq!(gateway.chat(&chat_body("")).await.status, 404);
    let answer = open.call(&gateway.request(&renamed)).await;
    assert_eq!(answer.status, 200, "a connection from before the reload goes on");

    gateway.write_resources("[[workspaces]]\nslug = 1\n");
    gateway.process.signal("HUP");
    let line = gateway.process.stderr().next_with("reload refused").await;
    assert!(line.contains("resources.toml:2"), "{line}");
    assert_eq!(gateway.chat(&renamed).await.status, 200);

    gateway.process.signal("TERM");
    assert_eq!(gateway.process.exit().await.code(), Some(0));
    assert_eq!(gateway.rows().len(), 7);
}

#[tokio::test]
async fn idle_process_ends_at_once() {
    let mut gateway = Running::start("sim", "drain.delay_s = 0").await;
    // Idle connections of both listeners, and a row whose batch is still open.
    let _admin = TcpStream::connect(gateway.admin).await.unwrap();
    let mut client = Client::connect(gateway.data).await;
    assert_eq!(client.call(&gateway.request(&chat_body(""))).await.status, 200);
    let mut scrape = Client::connect(gateway.admin).await;
    assert_eq!(scrape.call(&request("GET", "/metrics", &[], b"")).await.status, 200);

    let began = Instant::now();
    gateway.process.signal("TERM");
    let status = gateway.process.exit().await;

    assert!(began.elapsed() < Duration::from_millis(500), "{:?}", began.elapsed());
    assert_eq!(status.code(), Some(0));
    assert_eq!(gateway.rows().len(), 1);
    assert!(client.is_closed().await && scrape.is_closed().await);
}

#[tokio::test]
async fn stream_in_flight_is_finished_and_ends_the_process() {
    let mut gateway = Running::start("sim?event_ms=50&events=20", "drain.delay_s = 0").await;
    let mut client = gateway.stream().await;

    gateway.process.signal("TERM");
    gateway.process.stderr().next_with("draining").await;
    within(async { while TcpStream::connect(gateway.data).await.is_ok() {} }).await;
    client.read_until("[DONE]").await;
    assert_eq!(client.chunk().await.as_deref(), Some(&[][..]), "the stream ends as it should");
    let began = Instant::now();
    let status = gateway.process.exit().await;

    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!(status.code(), Some(0));
    let rows = gateway.rows();
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0]["outcome"], "success");
}

#[tokio::test]
async fn readiness_goes_before_the_listener_does() {
    let mut gateway = Running::start("sim", "drain.delay_s = 1").await;
    assert_eq!(get(gateway.data, "/readyz").await.status, 200);
    assert_eq!(get(gateway.admin, "/readyz").await.status, 200);

    gateway.process.signal("TERM");
    gateway.process.stderr().next_with("draining").await;
    for address in [gateway.data, gateway.admin] {
        let ready = get(address, "/readyz").await;
        assert_eq!(ready.status, 503);
        assert!(ready.text().contains("draining"), "{}", ready.text());
        assert_eq!(get(address, "/healthz").await.status, 200);
    }
    assert_eq!(gateway.chat(&chat_body("")).await.status, 200, "still accepting");

    assert_eq!(gateway.process.exit().await.code(), Some(0));
    assert_eq!(gateway.rows().len(), 1);
}

#[tokio::test]
async fn stream_beyond_the_drain_time_is_cut_and_leaves_its_row() {
    let mut gateway =
        Running::start("sim?stall_at_event=2", "drain.delay_s = 0\ndrain.max_s = 1").await;
    let mut client = gateway.stream().await;

    gateway.process.signal("TERM");
    let status = gateway.process.exit().await;

    assert_eq!(status.code(), Some(1), "something was cut");
    let rest = String::from_utf8(client.rest().await).unwrap();
    assert!(!rest.contains("[DONE]") && !rest.ends_with("0\r\n\r\n"), "no clean end: {rest}");
    let rows = gateway.rows();
    assert_eq!(rows.len(), 1);
    assert_ne!(rows[0]["outcome"], "success", "{:#}", rows[0]);
}

#[tokio::test]
async fn stream_that_is_cut_says_why_in_its_own_dialect() {
    let mut gateway =
        Running::start("sim?event_ms=20&events=10000", "drain.delay_s = 0\ndrain.max_s = 1").await;
    let mut client = gateway.stream().await;

    gateway.process.signal("TERM");
    let rest = client.read_until("gateway_shutdown").await;
    assert!(rest.ends_with("\n\n"), "{rest}");
    assert_eq!(client.rest().await, b"", "a cut, and no clean end");

    assert_eq!(gateway.process.exit().await.code(), Some(1), "something was cut");
    let rows = gateway.rows();
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0]["error_class"], "gateway_shutdown", "{:#}", rows[0]);
    assert_eq!(rows[0]["usage_source"], "estimated");
}

#[tokio::test]
async fn interrupt_does_not_wait_for_streams() {
    let mut gateway = Running::start("sim?stall_at_event=2", "").await;
    let mut client = gateway.stream().await;

    let began = Instant::now();
    gateway.process.signal("INT");
    let status = gateway.process.exit().await;

    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!(status.code(), Some(0));
    assert!(!String::from_utf8(client.rest().await).unwrap().ends_with("0\r\n\r\n"));
    assert_eq!(gateway.rows().len(), 1);
}
