//! Compressed answers, asked for or not.

use std::io::{Read as _, Write as _};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use loadtest::mock::Mock;

use super::{Provider, STREAMS, normalized, reference, resident_bytes, without_breaker};
use crate::client::{Answer, End, request};
use crate::harness::{Builder, TestGateway, behaviour, chat_body, document, target};

async fn accepting(gateway: &TestGateway, encoding: &str) -> Answer {
    gateway.expect_rows(1);
    let authorization = gateway.authorization();
    let headers = [
        ("authorization", authorization.as_str()),
        ("content-type", "application/json"),
        ("accept-encoding", encoding),
    ];
    let asked = request("POST", "/v1/chat/completions", &headers, chat_body("").as_bytes());
    gateway.client().await.call(&asked).await
}

#[tokio::test]
async fn stream_that_is_compressed_unasked_is_plain_for_the_client() {
    for (path, body) in STREAMS {
        let mock = Mock::start().await.unwrap();
        let gateway = without_breaker(&[target(&mock, "sim")], "").await;
        let whole = reference(&gateway, path, body).await;
        mock.set_default(behaviour("gzip_stream"));

        let answer = gateway.post(path, body).await;

        assert_eq!((answer.status, answer.end), (200, End::Whole), "{path}");
        assert_eq!(answer.header("content-encoding"), None);
        assert_eq!(normalized(&answer), whole, "{path}");
        assert_eq!(mock.journal()[1].header("accept-encoding"), Some("identity"));
        assert_eq!(gateway.rows().await[1]["usage_source"], "reported");
        gateway.stop().await;
    }
}

#[tokio::test]
async fn compressed_stream_that_breaks_gets_an_error_event_all_the_same() {
    for (path, body) in STREAMS {
        let mock = Mock::start().await.unwrap();
        let gateway = without_breaker(&[target(&mock, "sim?gzip_stream&cut_at_event=4")], "").await;

        let answer = gateway.post(path, body).await;

        assert_eq!((answer.status, answer.end), (200, End::Cut), "{path}");
        assert!(answer.text().contains("broke off"), "{path}: {}", answer.text());
        gateway.stop().await;
    }
}

#[tokio::test]
async fn compressed_answer_passes_as_it_is_where_it_is_accepted() {
    let mock = Mock::start().await.unwrap();
    let gateway = without_breaker(&[target(&mock, "sim?gzip")], "").await;

    let answer = accepting(&gateway, "gzip, br").await;

    assert_eq!((answer.status, answer.header("content-encoding")), (200, Some("gzip")));
    let mut plain = String::new();
    GzDecoder::new(&*answer.body).read_to_string(&mut plain).unwrap();
    assert!(plain.contains("chat.completion"), "{plain}");
    let row = gateway.row().await;
    assert_eq!((&row["usage_source"], &row["output"]), (&"reported".into(), &8.into()));
    gateway.stop().await;
}

#[tokio::test]
async fn compressed_answer_is_plain_where_it_is_not_accepted() {
    let mock = Mock::start().await.unwrap();
    let gateway = without_breaker(&[target(&mock, "sim?gzip")], "").await;

    for encoding in ["identity", "gzip;q=0", "br"] {
        let answer = accepting(&gateway, encoding).await;
        assert_eq!((answer.status, answer.header("content-encoding")), (200, None), "{encoding}");
        assert_eq!(answer.json()["object"], "chat.completion", "{encoding}");
    }

    for row in gateway.rows().await {
        assert_eq!((&row["usage_source"], &row["output"]), (&"reported".into(), &8.into()));
    }
    gateway.stop().await;
}

/// The connection's end is the body's end, so that only the compression tells that half is missing.
#[tokio::test]
async fn half_a_compressed_answer_is_never_a_200() {
    let mock = Mock::start().await.unwrap();
    let gateway = without_breaker(&[target(&mock, "sim")], "").await;
    for at in [5, 50, 150] {
        for encoding in ["gzip", "identity"] {
            mock.script(vec![behaviour(&format!("gzip&close_delimited&cut_at={at}"))]);
            let answer = accepting(&gateway, encoding).await;
            assert_eq!(answer.status, 502, "{at} {encoding}");
        }
    }
    gateway.stop().await;
}

/// 64 MiB of nothing in 64 KiB: it is given up, and costs no memory.
#[tokio::test]
async fn compression_bomb_is_given_up() {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    for _ in 0..64 {
        encoder.write_all(&vec![b' '; 1024 * 1024]).unwrap();
    }
    let bomb = encoder.finish().unwrap();
    let provider = Provider::start(move |mut exchange| {
        let bomb = bomb.clone();
        async move {
            while exchange.request().await.is_some() {
                let head = format!(
                    "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-encoding: gzip\r\n\
                     content-length: {}\r\n\r\n",
                    bomb.len()
                );
                exchange.write(head.as_bytes()).await;
                exchange.write(&bomb).await;
            }
        }
    })
    .await;
    let url = provider.base_url();
    let text = document(&[(&url, "sim", "")], super::NO_BREAKER);
    let gateway = Builder::new(&text).start().await;
    accepting(&gateway, "gzip").await;

    let before = resident_bytes();
    for _ in 0..5 {
        let answer = accepting(&gateway, "identity").await;
        assert!(answer.status == 502 || answer.end == End::Cut, "{}", answer.status);
        assert!(answer.body.len() < 32 * 1024 * 1024, "{} bytes", answer.body.len());
    }
    let growth = resident_bytes().saturating_sub(before);

    assert!(growth < 16 * 1024 * 1024, "{growth} bytes more");
    gateway.stop().await;
}
