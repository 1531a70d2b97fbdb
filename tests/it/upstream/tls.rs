//! Providers whose TLS is not in order: refused before a byte of the request leaves.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use pingora_rustls::{ServerConfig, TlsAcceptor, load_certs_and_key_files};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::client::within;
use crate::harness::{Builder, TestGateway, document};
use loadtest::mock::Mock;

fn certs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/upstream/certs")
}

fn acceptor(name: &str) -> TlsAcceptor {
    pingora_rustls::install_default_crypto_provider();
    let path = |file: String| certs().join(file).to_string_lossy().into_owned();
    let loaded = load_certs_and_key_files(&path(format!("{name}.pem")), &path("server.key".into()));
    let (chain, key) = loaded.unwrap().unwrap();
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key);
    TlsAcceptor::from(Arc::new(config.unwrap()))
}

/// Answers one request over TLS; what it read of HTTP is counted.
async fn serve(acceptor: TlsAcceptor, stream: TcpStream, read: Arc<AtomicUsize>) {
    const BODY: &str = r#"{"object":"chat.completion","choices":[]}"#;
    let Ok(mut stream) = acceptor.accept(stream).await else { return };
    let mut bytes = [0; 4096];
    while let Ok(n @ 1..) = stream.read(&mut bytes).await {
        read.fetch_add(n, Ordering::Relaxed);
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: ";
        let answer = format!("{head}{}\r\n\r\n{BODY}", BODY.len());
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// A provider with the certificate `name`, as its base URL and the bytes of HTTP that reach it.
async fn provider(name: &str) -> (String, Arc<AtomicUsize>, JoinHandle<()>) {
    let acceptor = acceptor(name);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/v1", listener.local_addr().unwrap());
    let read = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&read);
    let serving = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            Box::pin(serve(acceptor.clone(), stream, Arc::clone(&counted))).await;
        }
    });
    (url, read, serving)
}

async fn gateway(targets: &[(&str, &str, &str)]) -> TestGateway {
    let trusting = Builder::new(&document(targets, ""))
        .with(|config| config.upstream.ca_file = Some(certs().join("ca.pem")));
    trusting.start().await
}

async fn refuses(name: &str) {
    let (url, read, serving) = provider(name).await;
    let healthy = Mock::start().await.unwrap();
    let next = healthy.base_url();

    let alone = gateway(&[(&url, "sim", "")]).await;
    let answer = alone.chat("").await;
    assert_eq!((answer.status, answer.code().as_str()), (502, "upstream_error"), "{name}");
    assert!(!answer.text().to_lowercase().contains("cert"), "{name}: {}", answer.text());
    let row = alone.row().await;
    assert_eq!(row["error_class"], "tls", "{name}");
    assert_eq!(row["attempts"][0]["maybe_billed"], false, "{name}");
    alone.stop().await;

    let both = gateway(&[(&url, "sim", ""), (&next, "sim", "")]).await;
    let answer = both.chat("").await;
    assert_eq!((answer.status, answer.header("x-sluice-attempts")), (200, Some("2")), "{name}");
    both.stop().await;

    assert_eq!(read.load(Ordering::Relaxed), 0, "{name}: the provider saw HTTP");
    serving.abort();
}

/// The other tests of this file fail for the certificate alone.
#[tokio::test]
async fn good_certificate_is_accepted() {
    let (url, read, serving) = provider("good").await;
    let gateway = gateway(&[(&url, "sim", "")]).await;
    let answer = gateway.chat("").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(0 < read.load(Ordering::Relaxed));
    gateway.stop().await;
    serving.abort();
}

#[tokio::test]
async fn expired_certificate_is_refused() {
    refuses("expired").await;
}

#[tokio::test]
async fn certificate_of_the_future_is_refused() {
    refuses("not_yet_valid").await;
}

#[tokio::test]
async fn certificate_of_another_name_is_refused() {
    refuses("wrong_name").await;
}

#[tokio::test]
async fn certificate_of_a_stranger_is_refused() {
    refuses("wrong_ca").await;
}

#[tokio::test]
async fn self_signed_certificate_is_refused() {
    refuses("self_signed").await;
}

/// The server's half of a handshake, by hand: no library here speaks TLS 1.0 and 1.1 any more.
#[tokio::test]
async fn old_versions_of_tls_are_refused() {
    for minor in [1, 2] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}/v1", listener.local_addr().unwrap());
        let serving = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut hello = [0; 4096];
            assert!(0 < stream.read(&mut hello).await.unwrap());
            // A record with a ServerHello: version, 32 random bytes, no session, a suite of that
            // time, no compression.
            let mut record = vec![22, 3, minor, 0, 42, 2, 0, 0, 38, 3, minor];
            record.extend_from_slice(&[7; 32]);
            record.extend_from_slice(&[0, 0xc0, 0x14, 0]);
            stream.write_all(&record).await.unwrap();
            let mut rest = Vec::new();
            drop(stream.read_to_end(&mut rest).await);
            rest
        });
        let gateway = gateway(&[(&url, "sim", "")]).await;

        let answer = gateway.chat("").await;

        assert_eq!((answer.status, answer.code().as_str()), (502, "upstream_error"));
        assert_eq!(gateway.row().await["error_class"], "tls");
        let rest = within(serving).await.unwrap();
        assert!(rest.is_empty() || rest[0] == 21, "an alert or nothing, not {rest:?}");
        gateway.stop().await;
    }
}
