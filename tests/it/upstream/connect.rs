//! Connections that cannot be made: refused, unresolvable, never answered.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use loadtest::mock::Mock;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::timeout;

use super::{NO_BREAKER, target_health};
use crate::harness::{Builder, TestGateway, closed, document, target};

/// A listener whose backlog is full, so that further connections wait as behind a firewall that
/// drops them. Returned with the connections that fill it.
async fn full_listener() -> (SocketAddr, TcpListener, Vec<TcpStream>) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    let mut filling = Vec::new();
    while let Ok(connected) = timeout(Duration::from_millis(200), TcpStream::connect(address)).await
    {
        filling.push(connected.unwrap());
        assert!(filling.len() < 100, "the backlog has no end");
    }
    (address, listener, filling)
}

#[tokio::test]
async fn target_killed_under_load_costs_no_request() {
    let victim = Mock::start().await.unwrap();
    let healthy = Mock::start().await.unwrap();
    let targets = [target(&victim, "sim"), target(&healthy, "sim")];
    let gateway = TestGateway::start(&targets).await;
    let mut victim = Some(victim);

    for round in 0..20 {
        if round == 5 {
            victim = None;
        }
        let chats = (0..10).map(|_| gateway.chat(""));
        for answer in futures_util::future::join_all(chats).await {
            assert_eq!(answer.status, 200, "round {round}: {}", answer.text());
        }
    }

    assert!(victim.is_none());
    assert_eq!(target_health(&gateway, 0).await["state"], "open");
    gateway.stop().await;
}

#[tokio::test]
async fn refused_connection_is_passed_over_at_once() {
    let healthy = Mock::start().await.unwrap();
    let (dead, url) = (format!("http://{}/v1", closed()), healthy.base_url());
    let gateway =
        Builder::new(&document(&[(&dead, "sim", ""), (&url, "sim", "")], "")).start().await;

    let asked = Instant::now();
    let answer = gateway.chat("").await;
    let took = asked.elapsed();

    assert_eq!((answer.status, answer.header("x-sluice-attempts")), (200, Some("2")));
    assert!(took < Duration::from_millis(200), "{took:?}");
    let row = gateway.row().await;
    assert_eq!(row["attempts"][0]["error_class"], "connect");
    assert_eq!(row["attempts"][0]["maybe_billed"], false);
    gateway.stop().await;
}

#[tokio::test]
async fn refused_connection_alone_is_a_502() {
    let dead = format!("http://{}/v1", closed());
    let gateway = Builder::new(&document(&[(&dead, "sim", "")], "")).start().await;

    let answer = gateway.chat("").await;

    assert_eq!((answer.status, answer.code().as_str()), (502, "upstream_error"));
    assert_eq!(answer.header("x-should-retry"), Some("false"));
    assert!(!answer.text().contains("127.0.0.1"), "{}", answer.text());
    let row = gateway.row().await;
    assert_eq!(
        (&row["outcome"], &row["error_class"]),
        (&"upstream_error".into(), &"connect".into())
    );
    gateway.stop().await;
}

/// Serving names stale while lookups fail is tested where names are resolved.
#[tokio::test]
async fn unresolvable_name_is_passed_over_within_a_second() {
    let healthy = Mock::start().await.unwrap();
    let url = healthy.base_url();
    let targets = [("http://nx.invalid:9/v1", "sim", ""), (&*url, "sim", "")];
    let gateway = Builder::new(&document(&targets, "")).start().await;

    let asked = Instant::now();
    let answer = gateway.chat("").await;
    let took = asked.elapsed();

    assert_eq!((answer.status, answer.header("x-sluice-attempts")), (200, Some("2")));
    assert!(took < Duration::from_millis(1_300), "{took:?}");
    assert_eq!(gateway.row().await["attempts"][0]["error_class"], "dns");
    gateway.stop().await;
}

#[tokio::test]
async fn unresolvable_name_alone_is_a_502_within_a_second() {
    let targets = [("http://nx.invalid:9/v1", "sim", "")];
    let gateway = Builder::new(&document(&targets, "")).start().await;

    let asked = Instant::now();
    let answer = gateway.chat("").await;
    let took = asked.elapsed();

    assert_eq!((answer.status, answer.code().as_str()), (502, "upstream_error"));
    assert!(took < Duration::from_millis(1_300), "{took:?}");
    gateway.stop().await;
}

#[tokio::test]
async fn connection_that_is_never_answered_ends_in_time_and_then_opens_the_breaker() {
    let (address, _listener, _filling) = full_listener().await;
    let healthy = Mock::start().await.unwrap();
    let (dead, url) = (format!("http://{address}/v1"), healthy.base_url());
    let fields = "timeouts = { connect_ms = 200 }";
    let gateway =
        Builder::new(&document(&[(&dead, "sim", ""), (&url, "sim", "")], fields)).start().await;

    for n in 0..5 {
        let asked = Instant::now();
        let answer = gateway.chat("").await;
        let took = asked.elapsed();
        assert_eq!((answer.status, answer.header("x-sluice-attempts")), (200, Some("2")));
        assert!((200..700).contains(&took.as_millis()), "request {n}: {took:?}");
    }
    let asked = Instant::now();
    let answer = gateway.chat("").await;
    let took = asked.elapsed();

    assert_eq!((answer.status, answer.header("x-sluice-attempts")), (200, Some("1")));
    assert!(took < Duration::from_millis(150), "{took:?}");
    let rows = gateway.rows().await;
    assert_eq!(rows[0]["attempts"][0]["error_class"], "connect_timeout");
    assert_eq!(rows[0]["attempts"][0]["maybe_billed"], false);
    gateway.stop().await;
}

#[tokio::test]
async fn connection_that_is_never_answered_is_a_504_alone() {
    let (address, _listener, _filling) = full_listener().await;
    let dead = format!("http://{address}/v1");
    let fields = "timeouts = { connect_ms = 200 }";
    let gateway = Builder::new(&document(&[(&dead, "sim", "")], fields)).start().await;

    let answer = gateway.chat("").await;

    assert_eq!((answer.status, answer.code().as_str()), (504, "upstream_timeout"));
    assert_eq!(gateway.row().await["outcome"], "timeout");
    gateway.stop().await;
}

#[tokio::test]
async fn failover_can_leave_connecting_out() {
    let healthy = Mock::start().await.unwrap();
    let (dead, url) = (format!("http://{}/v1", closed()), healthy.base_url());
    let fields = format!("{NO_BREAKER}\nfailover = {{ on = [\"503\"] }}");
    let gateway =
        Builder::new(&document(&[(&dead, "sim", ""), (&url, "sim", "")], &fields)).start().await;

    assert_eq!(gateway.chat("").await.status, 502);
    assert!(healthy.journal().is_empty());
    gateway.stop().await;
}
