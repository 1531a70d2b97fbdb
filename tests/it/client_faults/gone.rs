//! A client that leaves, in every phase of its request.

use std::time::Duration;

use loadtest::mock::{End, Mock};
use serde_json::Value;
use tokio::net::TcpSocket;

use super::{Flood, Leave, in_flight, median, timed};
use crate::client::{Client, within};
use crate::harness::{Builder, TestGateway, chat_body, deployment, document, target};

const CHAT: &str = "/v1/chat/completions";
/// From the moment a client leaves to the moment its upstream connection is closed.
const CLOSED_MAX: Duration = Duration::from_millis(100);
const ROUNDS: usize = 5;

fn assert_closed(row: &Value) {
    assert_eq!(row["outcome"], "client_closed", "{row:#}");
    assert_eq!(
        (&row["status"], &row["error_class"]),
        (&Value::from(499), &Value::from("client_closed"))
    );
}

/// What a client has seen when it leaves.
enum Seen<'a> {
    Nothing,
    Text(&'a str),
}

/// Leaves at what `seen` says, a few times, and returns the rows.
async fn leave(behaviour: &str, path: &str, fields: &str, seen: Seen<'_>) -> Vec<Value> {
    let mock = Mock::start().await.unwrap();
    let gateway = TestGateway::start(&[target(&mock, &format!("sim?{behaviour}"))]).await;
    for leave in Leave::BOTH {
        let mut times = Vec::new();
        for _ in 0..ROUNDS {
            mock.clear_journal();
            let request = gateway.request(path, &chat_body(fields));
            let mut client = gateway.client().await;
            client.write(&request).await;
            within(mock.wait_for_started(1)).await;
            match seen {
                Seen::Nothing => {}
                Seen::Text(text) => {
                    assert_eq!(client.head().await.0, 200);
                    client.read_until(text).await;
                }
            }
            leave.go(client);
            let (entries, time) = timed(mock.wait_for(1)).await;
            assert_eq!(entries[0].end, End::ClientClosed, "{leave:?}");
            times.push(time);
            gateway.idle().await;
        }
        let median = median(times.clone());
        assert!(median <= CLOSED_MAX, "{leave:?}: {times:?}");
    }
    assert_eq!(mock.in_flight(), 0);
    assert_eq!(gateway.metric("sluice_in_flight"), 0.0);
    assert_eq!(gateway.metric("sluice_client_closed_total"), 2.0 * 5.0);
    assert_eq!(gateway.metric("sluice_attempts_total{result=\"client_closed\"}"), 2.0 * 5.0);
    let rows = gateway.rows().await;
    rows.iter().for_each(assert_closed);
    for row in &rows {
        let attempts = row["attempts"].as_array().unwrap();
        assert_eq!(attempts.len(), 1, "{row:#}");
        assert_eq!(row["usage_source"], "estimated", "{row:#}");
        assert!(0 < row["input_uncached"].as_u64().unwrap());
        assert_eq!(row["model"], "m0", "{row:#}");
    }
    gateway.stop().await;
    rows
}

#[tokio::test]
async fn before_the_body_is_complete() {
    let (gateway, mock) = TestGateway::with_mock().await;
    for leave in Leave::BOTH {
        for framing in ["content-length: 1000", "transfer-encoding: chunked"] {
            for body in ["", "5\r\n{\"mod"] {
                let head = format!(
                    "POST {CHAT} HTTP/1.1\r\nhost: gateway.test\r\nx-api-key: {}\r\n{framing}\r\n\r\n{body}",
                    gateway.key
                );
                gateway.expect_rows(1);
                let mut client = gateway.client().await;
                client.write(head.as_bytes()).await;
                in_flight(&gateway, 1).await;
                leave.go(client);
                let ((), time) = timed(gateway.idle()).await;
                assert!(time < Duration::from_secs(2), "{time:?}");
            }
        }
    }
    let rows = gateway.rows().await;
    assert_eq!(rows.len(), 8);
    for row in &rows {
        assert_closed(row);
        assert_eq!(row["usage_source"], "none", "nothing was sent to a provider");
        assert_eq!(row["attempts"].as_array().unwrap().len(), 0);
    }
    assert!(mock.journal().is_empty());
    gateway.stop().await;
}

#[tokio::test]
async fn while_the_gateway_connects() {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    // What the kernel still completes is taken up here.
    let mut held = Vec::new();
    while let Ok(Ok(stream)) =
        tokio::time::timeout(Duration::from_millis(300), tokio::net::TcpStream::connect(address))
            .await
    {
        held.push(stream);
        assert!(held.len() < 16, "the backlog has no end");
    }
    let text = document(&[(&format!("http://{address}/v1"), "sim", "")], "");
    let gateway = Builder::new(&text).start().await;
    for leave in Leave::BOTH {
        let request = gateway.request(CHAT, &chat_body(""));
        let mut client = gateway.client().await;
        client.write(&request).await;
        in_flight(&gateway, 1).await;
        leave.go(client);
        let ((), time) = timed(gateway.idle()).await;
        assert!(time < Duration::from_secs(2), "{leave:?}: {time:?}");
    }
    for row in gateway.rows().await {
        assert_closed(&row);
        assert_eq!(row["usage_source"], "none", "nothing was sent to a provider");
    }
    drop((listener, held));
    gateway.stop().await;
}

#[tokio::test]
async fn before_the_head_of_the_answer() {
    let rows = leave("stall_before_headers", CHAT, "", Seen::Nothing).await;
    for row in rows {
        assert_eq!(row["attempts"][0]["maybe_billed"], true, "{row:#}");
        assert_eq!(row["attempts"][0]["error_class"], "client_closed");
        assert_eq!(row["output"], 0);
    }
}

#[tokio::test]
async fn while_the_beginning_of_a_stream_is_held_back() {
    leave("stall_at_event=0", CHAT, r#""stream":true"#, Seen::Nothing).await;
}

#[tokio::test]
async fn while_a_short_answer_is_held_back() {
    leave("first_ms=60000", CHAT, "", Seen::Nothing).await;
}

#[tokio::test]
async fn in_the_middle_of_a_chat_stream() {
    let rows = leave("stall_at_event=3", CHAT, r#""stream":true"#, Seen::Text("\"content\"")).await;
    for row in rows {
        assert!(0 < row["output"].as_u64().unwrap(), "what came so far is estimated: {row:#}");
        assert!(row["cost_nanousd"].is_u64());
        assert_eq!(row["attempts"][0]["status"], 200);
    }
}

#[tokio::test]
async fn in_the_middle_of_a_messages_stream() {
    let fields = r#""stream":true,"max_tokens":9"#;
    let rows = leave("stall_at_event=3", "/v1/messages", fields, Seen::Text("text_delta")).await;
    for row in rows {
        assert_eq!(row["input_uncached"], 20, "the provider has reported its input already");
    }
}

#[tokio::test]
async fn in_the_middle_of_a_responses_stream() {
    leave("stall_at_event=3", "/v1/responses", r#""stream":true"#, Seen::Text("output_text.delta"))
        .await;
}

#[tokio::test]
async fn between_paced_events() {
    let script = "events=2000&event_ms=5";
    leave(script, CHAT, r#""stream":true"#, Seen::Text("\"content\"")).await;
}

#[tokio::test]
async fn in_the_middle_of_a_long_answer() {
    let piece = "x".repeat(64 * 1024);
    let mut flood = Flood::start("application/json", r#"{"id":"a","object":""#, piece).await;
    let gateway = Builder::new(&flood.document()).start().await;
    for leave in Leave::BOTH {
        let mut times = Vec::new();
        for _ in 0..ROUNDS {
            let request = gateway.request(CHAT, &chat_body(""));
            let mut client = gateway.client().await;
            client.write(&request).await;
            assert_eq!(client.head().await.0, 200);
            leave.go(client);
            times.push(timed(flood.closed()).await.1);
            gateway.idle().await;
        }
        assert!(median(times.clone()) <= CLOSED_MAX, "{leave:?}: {times:?}");
    }
    for row in gateway.rows().await {
        assert_closed(&row);
        assert_eq!(row["usage_source"], "estimated");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn of_a_stored_response() {
    let (gateway, mock) = TestGateway::with_mock().await;
    let made = gateway.post("/v1/responses", r#"{"model":"m0","input":"a"}"#).await;
    let id = made.json()["id"].as_str().unwrap().to_owned();
    for leave in Leave::BOTH {
        mock.clear_journal();
        mock.script(vec!["stall_before_headers".parse().unwrap()]);
        let head = format!(
            "GET /v1/responses/{id} HTTP/1.1\r\nhost: gateway.test\r\nx-api-key: {}\r\n\r\n",
            gateway.key
        );
        gateway.expect_rows(1);
        let mut client = gateway.client().await;
        client.write(head.as_bytes()).await;
        within(mock.wait_for_started(1)).await;
        leave.go(client);
        let (entries, time) = timed(mock.wait_for(1)).await;
        assert_eq!(entries[0].end, End::ClientClosed);
        assert!(time < Duration::from_secs(1), "{time:?}");
        gateway.idle().await;
        assert_closed(gateway.rows().await.last().unwrap());
    }
    gateway.stop().await;
}

#[tokio::test]
async fn of_many_at_random_moments() {
    const N: usize = 1_000;
    let mock = Mock::start().await.unwrap();
    let script = "sim?events=20&event_ms=3&headers_ms=10&first_ms=10";
    let gateway = std::sync::Arc::new(TestGateway::start(&[target(&mock, script)]).await);
    let mut running = tokio::task::JoinSet::new();
    for n in 0..N {
        if 64 <= running.len() {
            running.join_next().await.unwrap().unwrap();
        }
        let gateway = std::sync::Arc::clone(&gateway);
        running.spawn(async move {
            let fields = if n % 3 == 0 { "" } else { r#""stream":true"# };
            let request = gateway.request(CHAT, &chat_body(fields));
            let mut client = gateway.client().await;
            // At most one request per connection: what was not sent whole leaves no row.
            client.write(&request).await;
            in_flight_at_least_once(&gateway).await;
            let patience = Duration::from_millis((n * 7919 % 100) as u64);
            let answered = tokio::time::timeout(patience, client.answer()).await;
            if answered.is_err() {
                Leave::BOTH[n % 2].go(client);
            }
            answered.is_ok()
        });
    }
    while let Some(ended) = running.join_next().await {
        ended.unwrap();
    }
    let gateway = std::sync::Arc::into_inner(gateway).unwrap();
    gateway.idle().await;
    assert_eq!(gateway.metric("sluice_in_flight"), 0.0);
    within(async {
        while mock.in_flight() != 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let rows = gateway.rows().await;
    let n_closed = rows.iter().filter(|row| row["outcome"] == "client_closed").count();
    assert!(100 < n_closed && n_closed < N, "{n_closed} of {N} left early");
    gateway.stop().await;
}

/// Waits until the gateway has something in hand.
async fn in_flight_at_least_once(gateway: &TestGateway) {
    within(async {
        while gateway.app().in_flight() == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn usage_is_collected_when_the_deployment_asks_for_it() {
    let mock = Mock::start().await.unwrap();
    let text =
        deployment(&[target(&mock, "sim?events=20&event_ms=10")], "on_disconnect = \"drain\"");
    let gateway = Builder::new(&text).start().await;
    for leave in Leave::BOTH {
        let request = gateway.request(CHAT, &chat_body(r#""stream":true"#));
        let mut client = gateway.client().await;
        client.write(&request).await;
        assert_eq!(client.head().await.0, 200);
        client.read_until("\"content\"").await;
        leave.go(client);
        gateway.idle().await;
    }
    for entry in within(mock.wait_for(2)).await {
        assert_eq!(entry.end, End::Complete, "the provider was read to its end");
    }
    for row in gateway.rows().await {
        assert_closed(&row);
        assert_eq!(
            (&row["usage_source"], &row["output"]),
            (&Value::from("reported"), &Value::from(20))
        );
    }
    gateway.stop().await;
}

#[tokio::test]
async fn before_it_has_sent_anything() {
    let (gateway, _mock) = TestGateway::with_mock().await;
    for leave in Leave::BOTH {
        leave.go(Client::connect(gateway.address).await);
    }
    assert_eq!(gateway.chat("").await.status, 200);
    gateway.stop().await;
}
