//! More connections or requests than the gateway is to take.

use std::time::Duration;

use loadtest::mock::Mock;

use super::{in_flight, timed};
use crate::client::{Client, request, within};
use crate::harness::{Builder, behaviour, chat_body, deployment, target};

const CHAT: &str = "/v1/chat/completions";

#[tokio::test]
async fn connections_over_the_limit_are_refused_and_counted() {
    let mock = Mock::start().await.unwrap();
    let text = deployment(&[target(&mock, "sim")], "");
    for (is_per_ip, reason) in [(false, "limit"), (true, "address_limit")] {
        let gateway = Builder::new(&text)
            .with(|config| {
                if is_per_ip {
                    config.data.connections_per_ip_max = 3;
                } else {
                    config.data.connections_max = 3;
                }
            })
            .start()
            .await;
        let mut kept = Vec::new();
        for _ in 0..3 {
            let mut client = gateway.client().await;
            let request = gateway.request(CHAT, &chat_body(""));
            assert_eq!(client.call(&request).await.status, 200);
            kept.push(client);
        }
        for _ in 0..5 {
            assert!(Client::connect(gateway.address).await.is_closed().await);
        }
        let refused = format!("sluice_connections_refused_total{{reason=\"{reason}\"}}");
        assert_eq!(gateway.metric(&refused), 5.0);
        // Those that are there are served on.
        for client in &mut kept {
            let request = gateway.request(CHAT, &chat_body(""));
            assert_eq!(client.call(&request).await.status, 200);
        }
        // One that leaves makes room.
        drop(kept.pop());
        within(async {
            while 2.0 < gateway.metric("sluice_connections") {
                tokio::task::yield_now().await;
            }
        })
        .await;
        assert_eq!(gateway.chat("").await.status, 200);
        gateway.stop().await;
    }
}

#[tokio::test]
async fn requests_over_the_limit_are_refused_at_once_in_the_callers_shape() {
    let mock = Mock::start().await.unwrap();
    let text = deployment(&[target(&mock, "sim")], "");
    mock.script(vec![behaviour("stall_at_event=1"), behaviour("stall_at_event=1")]);
    let gateway = Builder::new(&text).with(|config| config.data.in_flight_max = 2).start().await;
    let mut held = Vec::new();
    for _ in 0..2 {
        let request = gateway.request(CHAT, &chat_body(r#""stream":true"#));
        let mut client = gateway.client().await;
        client.write(&request).await;
        assert_eq!(client.head().await.0, 200);
        held.push(client);
    }
    in_flight(&gateway, 2).await;
    let authorization = gateway.authorization();
    let headers = [("authorization", authorization.as_str())];
    let mut times = Vec::new();
    for path in [CHAT, "/v1/messages"] {
        let bytes = request("POST", path, &headers, chat_body("").as_bytes());
        for _ in 0..10 {
            let mut client = gateway.client().await;
            let (answer, time) = timed(client.call(&bytes)).await;
            assert_eq!(answer.status, 503, "{}", answer.text());
            assert_eq!(answer.header("retry-after"), Some("1"));
            assert_eq!(answer.header("x-should-retry"), Some("true"));
            if path == CHAT {
                assert_eq!(answer.code(), "overloaded");
            } else {
                assert_eq!(answer.json()["error"]["type"], "overloaded_error");
            }
            times.push(time);
        }
    }
    assert!(super::median(times.clone()) < Duration::from_millis(50), "{times:?}");
    // Whoever watches the process still gets an answer: it is alive.
    let health = request("GET", "/healthz", &[], b"");
    assert_eq!(gateway.client().await.call(&health).await.status, 200);
    assert_eq!(within(mock.wait_for_started(2)).await.len(), 2);
    drop(held);
    gateway.idle().await;
    assert_eq!(gateway.chat("").await.status, 200);
    gateway.stop().await;
}

#[tokio::test]
async fn flood_of_connections_is_outlived() {
    const N: usize = 400;
    let mock = Mock::start().await.unwrap();
    let text = deployment(&[target(&mock, "sim")], "");
    let gateway = Builder::new(&text).with(|config| config.data.connections_max = 50).start().await;
    let mut clients = Vec::new();
    for _ in 0..N {
        clients.push(Client::connect(gateway.address).await);
    }
    within(async {
        while gateway.metric("sluice_connections_refused_total") < 350.0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    drop(clients);
    within(async {
        while 0.0 < gateway.metric("sluice_connections") {
            tokio::task::yield_now().await;
        }
    })
    .await;
    for _ in 0..20 {
        assert_eq!(gateway.chat("").await.status, 200);
    }
    gateway.stop().await;
}
