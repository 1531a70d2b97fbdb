//! The ClickHouse server of the tests: each fault does what it says, and no more.

use serde_json::json;

use crate::clickhouse_server::{ClickHouse, Seat};
use crate::client::{Answer, Client, request};

#[tokio::test]
async fn each_fault_leaves_behind_what_it_says() {
    let server = ClickHouse::start().await;
    server.database("d").await;
    server.execute("CREATE TABLE d.t (x UInt64) ENGINE = MergeTree ORDER BY x").await;
    // (the fault, rows stored, whether the client gets an answer)
    let cases = [
        (json!({ "kind": "delay", "ms": 20 }), 1, true),
        (json!({ "kind": "http_error", "status": 503, "code": 202 }), 0, true),
        (json!({ "kind": "reset" }), 0, false),
        (json!({ "kind": "lost_ack" }), 1, false),
        (json!({ "kind": "kill" }), 0, false),
        (json!({ "kind": "kill_after" }), 1, false),
    ];

    for (fault, stored, is_answered) in cases {
        let kind = fault["kind"].as_str().unwrap().to_owned();
        server.execute("TRUNCATE TABLE d.t").await;
        server.faults(json!([fault])).await;

        let answer = insert(&server).await;
        assert_eq!(answer.is_some(), is_answered, "{kind}: {answer:?}");
        if let Some(answer) = answer {
            assert_eq!(answer.status, if kind == "http_error" { 503 } else { 200 });
        }
        if kind.starts_with("kill") {
            // It is on its way back; another kill waits until it is.
            server.kill(0).await;
        }
        assert_eq!(server.value("SELECT count() FROM d.t").await, stored, "{kind}");
        assert_eq!(server.fired(&kind).await, 1, "{kind}");
        // A fault strikes once.
        assert_eq!(insert(&server).await.map(|answer| answer.status), Some(200), "{kind}");
    }
}

#[tokio::test]
async fn refusing_server_has_no_listener_until_the_faults_end() {
    let server = ClickHouse::start().await;
    let front = front(&server);

    server.faults(json!([{ "kind": "refuse" }])).await;
    let refused = tokio::net::TcpStream::connect(front).await.unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    assert_eq!(server.value("SELECT 1").await, 1, "the engine itself is up");

    server.faults(json!([])).await;
    assert_eq!(
        Client::connect(front).await.call(&request("GET", "/ping", &[], b"")).await.text(),
        "Ok.\n"
    );
}

#[tokio::test]
async fn servers_of_a_cluster_know_each_other() {
    let servers = ClickHouse::cluster(2).await;
    assert_eq!(servers.value("SELECT count() FROM cluster('test', system.one)").await, 2);
    let second = Seat { server: 1, user: "default", password: "" };
    assert_eq!(
        servers.rows_at(second, "SELECT getMacro('shard') AS shard").await,
        [json!({ "shard": "1" })]
    );
}

#[tokio::test]
async fn users_come_from_a_file() {
    let xml = "<clickhouse><users><eve><password>p</password><networks><ip>127.0.0.1</ip></networks>\
               <profile>default</profile><quota>default</quota>\
               <grants><query>GRANT SELECT ON system.one</query></grants></eve></users></clickhouse>";
    let server = ClickHouse::with_users(xml).await;
    let eve = Seat { server: 0, user: "eve", password: "p" };

    assert_eq!(
        server.rows_at(eve, "SELECT currentUser() AS user").await,
        [json!({ "user": "eve" })]
    );
    let impostor = Seat { password: "q", ..eve };
    assert!(server.ask(impostor, "SELECT 1").await.text().contains("AUTHENTICATION_FAILED"));
    assert!(server.ask(eve, "CREATE DATABASE d").await.text().contains("ACCESS_DENIED"));
}

/// One row, as the writer sends it. `None` when the connection ends without an answer.
async fn insert(server: &ClickHouse) -> Option<Answer> {
    let path = "/?query=INSERT%20INTO%20d.t%20FORMAT%20RowBinary";
    let mut client = Client::connect(front(server)).await;
    client.write(&request("POST", path, &[], &7_u64.to_le_bytes())).await;
    client.next_answer().await
}

fn front(server: &ClickHouse) -> std::net::SocketAddr {
    let url = server.url("d");
    url.strip_prefix("http://default:@").unwrap().strip_suffix("/d").unwrap().parse().unwrap()
}
