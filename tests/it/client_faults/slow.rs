//! Clients that send or read slowly, or not at all.

use std::time::Duration;

use loadtest::mock::Mock;

use super::{Flood, chat_event, timed};
use crate::client::{Client, request, within};
use crate::harness::{Builder, TestGateway, chat_body, deployment, target};

const CHAT: &str = "/v1/chat/completions";

/// A gateway whose clients have little time.
async fn hasty(script: &str) -> (TestGateway, Mock) {
    let mock = Mock::start().await.unwrap();
    let gateway = Builder::new(&deployment(&[target(&mock, script)], ""))
        .with(|config| {
            config.data.header_timeout = Duration::from_millis(500);
            config.data.stall_timeout = Duration::from_millis(500);
            config.data.keepalive_timeout = Duration::from_secs(1);
        })
        .start()
        .await;
    (gateway, mock)
}

#[tokio::test]
async fn head_that_trickles_is_cut_off_at_its_deadline() {
    let (gateway, _mock) = hasty("sim").await;
    for line in ["POST /v1/chat/completions HTTP/1.1\r\n", "POST /v1/messages HTTP/1.1\r\n"] {
        let mut client = gateway.client().await;
        client.write(line.as_bytes()).await;
        // Each byte comes in time; the whole head never does.
        let (answer, time) = timed(async {
            loop {
                if client.try_write(b"x").await.is_err() {
                    break client.answer().await;
                }
                let waited =
                    tokio::time::timeout(Duration::from_millis(50), client.next_answer()).await;
                if let Ok(answer) = waited {
                    break answer.expect("an answer before the end");
                }
            }
        })
        .await;
        assert_eq!((answer.status, answer.code().as_str()), (408, "request_timeout"));
        assert_eq!(answer.header("connection"), Some("close"));
        assert!((400..3_000).contains(&time.as_millis()), "{time:?}");
    }
    assert_eq!(gateway.metric("sluice_malformed_requests_total{reason=\"head_timeout\"}"), 2.0);
    gateway.stop().await;
}

#[tokio::test]
async fn connection_that_says_nothing_is_closed() {
    let (gateway, _mock) = hasty("sim").await;
    let mut client = gateway.client().await;
    let (is_closed, time) = timed(client.is_closed()).await;
    assert!(is_closed);
    assert!((400..3_000).contains(&time.as_millis()), "{time:?}");
    gateway.stop().await;
}

#[tokio::test]
async fn idle_connection_is_closed_and_a_busy_one_is_kept() {
    let (gateway, _mock) = hasty("sim").await;
    let mut client = gateway.client().await;
    for _ in 0..3 {
        let request = gateway.request(CHAT, &chat_body(""));
        assert_eq!(client.call(&request).await.status, 200);
    }
    let (is_closed, time) = timed(client.is_closed()).await;
    assert!(is_closed);
    assert!((900..4_000).contains(&time.as_millis()), "{time:?}");
    gateway.stop().await;
}

#[tokio::test]
async fn body_that_stalls_is_cut_off() {
    let (gateway, mock) = hasty("sim").await;
    for path in [CHAT, "/v1/messages"] {
        for (framing, start) in [
            ("content-length: 1000", ""),
            ("content-length: 1000", "{\"model\":"),
            ("transfer-encoding: chunked", "5\r\n{\"mod"),
        ] {
            let head = format!(
                "POST {path} HTTP/1.1\r\nhost: gateway.test\r\nx-api-key: {}\r\n{framing}\r\n\r\n{start}",
                gateway.key
            );
            gateway.expect_rows(1);
            let mut client = gateway.client().await;
            let (answer, time) = timed(client.call(head.as_bytes())).await;
            assert_eq!(answer.status, 408, "{}", answer.text());
            assert_eq!(answer.json()["type"] == "error", path != CHAT);
            assert!((400..3_000).contains(&time.as_millis()), "{time:?}");
            let (is_closed, _) = timed(client.is_closed()).await;
            assert!(is_closed);
        }
    }
    gateway.idle().await;
    for row in gateway.rows().await {
        assert_eq!(row["status"], 408);
        assert_eq!(
            (&row["outcome"], &row["error_class"]),
            (&"client_error".into(), &"request_timeout".into())
        );
    }
    assert_eq!(gateway.metric("sluice_malformed_requests_total{reason=\"body_timeout\"}"), 6.0);
    assert!(mock.journal().is_empty());
    gateway.stop().await;
}

#[tokio::test]
async fn body_that_trickles_is_cut_off_by_its_rate() {
    let (gateway, mock) = TestGateway::with_mock().await;
    let head = format!(
        "POST {CHAT} HTTP/1.1\r\nhost: gateway.test\r\nx-api-key: {}\r\ncontent-length: 100000\r\n\r\n",
        gateway.key
    );
    gateway.expect_rows(1);
    let mut client = gateway.client().await;
    client.write(head.as_bytes()).await;
    let (answer, time) = timed(async {
        loop {
            drop(client.try_write(b" ").await);
            let waited =
                tokio::time::timeout(Duration::from_millis(200), client.next_answer()).await;
            if let Ok(answer) = waited {
                break answer.expect("an answer before the end");
            }
        }
    })
    .await;
    assert_eq!(answer.status, 408);
    assert!((9..15).contains(&time.as_secs()), "{time:?}");
    assert!(mock.journal().is_empty());
    gateway.stop().await;
}

/// Resident memory of this process in bytes.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

#[tokio::test]
async fn reader_that_stalls_is_cut_off_and_costs_little() {
    const N: usize = 160;
    let mut flood = Flood::start("text/event-stream", ": begin\n\n", chat_event(16 * 1024)).await;
    let gateway = Builder::new(&flood.document())
        .with(|config| config.data.stall_timeout = Duration::from_millis(1_500))
        .start()
        .await;
    let before = resident();
    let mut readers = Vec::new();
    for _ in 0..N {
        let request = gateway.request(CHAT, &chat_body(r#""stream":true"#));
        let mut client = gateway.client().await;
        client.write(&request).await;
        assert_eq!(client.head().await.0, 200);
        readers.push(client);
    }
    for _ in 0..N {
        flood.closed().await;
    }
    gateway.idle().await;
    // What is in the sockets is the kernel's. The first requests warm the process up.
    let grown = resident().saturating_sub(before) >> 10;
    assert!(grown <= 4 * 1024 + 256 * N as u64, "{grown} KiB for {N} readers");
    for row in gateway.rows().await {
        assert_eq!((&row["outcome"], &row["status"]), (&"client_closed".into(), &499.into()));
        assert_eq!(row["error_class"], "client_stalled");
        assert_eq!(row["usage_source"], "estimated");
    }
    let rest = readers.pop().unwrap().rest().await;
    assert!(!rest.ends_with(b"0\r\n\r\n"), "a cut answer must not look whole");
    gateway.stop().await;
}

#[tokio::test]
async fn two_hundred_slow_clients_do_not_disturb_the_others() {
    const SLOW: usize = 200;
    let (gateway, _mock) = hasty("sim").await;
    let mut slow = Vec::new();
    for n in 0..SLOW {
        let mut client = Client::connect(gateway.address).await;
        let start = match n % 3 {
            0 => "POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\n".to_owned(),
            1 => String::new(),
            _ => format!(
                "POST {CHAT} HTTP/1.1\r\nhost: gateway.test\r\nx-api-key: {}\r\n\
                 content-length: 1000\r\n\r\n{{",
                gateway.key
            ),
        };
        gateway.expect_rows(u64::from(n % 3 == 2));
        client.write(start.as_bytes()).await;
        slow.push(client);
    }
    let mut slowest = Duration::ZERO;
    for _ in 0..100 {
        let (answer, time) = timed(gateway.chat("")).await;
        assert_eq!(answer.status, 200);
        slowest = slowest.max(time);
    }
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    for mut client in slow {
        let ((), _) = timed(async { drop(client.rest().await) }).await;
    }
    within(async {
        while 0.0 < gateway.metric("sluice_connections") {
            tokio::task::yield_now().await;
        }
    })
    .await;
    gateway.stop().await;
}

#[tokio::test]
async fn client_that_asks_to_close_is_closed_after_its_answer() {
    let (gateway, _mock) = TestGateway::with_mock().await;
    let authorization = gateway.authorization();
    let headers = [("authorization", authorization.as_str()), ("connection", "close")];
    gateway.expect_rows(1);
    let mut client = gateway.client().await;
    let answer = client.call(&request("POST", CHAT, &headers, chat_body("").as_bytes())).await;
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    assert!(client.is_closed().await);
    gateway.stop().await;
}
