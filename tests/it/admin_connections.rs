//! Connections tried out through the admin API, and where none of them may lead.

use std::sync::Arc;
use std::time::Duration;

use loadtest::mock::Mock;
use serde_json::{Value, json};
use sluice::config::server::IpNetwork;
use sluice::config::url::base_url;
use sluice::net::resolve::{Addresses, Resolver, ResolverConfig, STALE_MAX, SystemLookup};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::harness::{Builder, TestGateway, closed};

const CONNECTIONS: &str = "/workspaces/default/environments/production/connections";

async fn made(gateway: &TestGateway, at: &str, body: &Value) {
    let answer = gateway.admin("POST", at, Some(body)).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
}

async fn verdict(gateway: &TestGateway, at: &str, body: Value) -> Value {
    let answer = gateway.admin("POST", &format!("{at}/test"), Some(&body)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

#[tokio::test]
async fn connection_is_tested_and_its_models_are_listed() {
    let mock = Mock::start().await.unwrap();
    let gateway = Builder::new("").start().await;
    for at in ["/connections", CONNECTIONS] {
        let body = json!({ "name": "c", "provider": "simulated", "base_url": mock.base_url(),
            "credential": "sk-provider-credential-0" });
        made(&gateway, at, &body).await;
        let one = format!("{at}/c");
        for ask in [json!({}), json!({ "model": "sim" })] {
            let verdict = verdict(&gateway, &one, ask).await;
            assert_eq!((&verdict["ok"], &verdict["status"]), (&json!(true), &json!(200)));
            assert!(verdict["latency_ms"].is_u64() && verdict["error"].is_null(), "{verdict}");
        }
        let models = gateway.admin("GET", &format!("{one}/models"), None).await;
        assert_eq!(models.status, 200, "{}", models.text());
        assert_eq!(models.json()["data"][0]["id"], json!("sim"));
        // It can be tried out before it is enabled.
        let off = gateway.admin("PATCH", &one, Some(&json!({ "enabled": false }))).await;
        assert_eq!(off.status, 200, "{}", off.text());
        let verdict = verdict(&gateway, &one, json!({ "model": "sim" })).await;
        assert_eq!(verdict["ok"], json!(true), "{verdict}");
    }
    let unknown = json!({ "prompt": "x" });
    let answer = gateway.admin("POST", &format!("{CONNECTIONS}/c/test"), Some(&unknown)).await;
    assert_eq!(answer.status, 422);
    assert_eq!(gateway.admin("GET", &format!("{CONNECTIONS}/d/models"), None).await.status, 404);
    gateway.stop().await;
}

/// Refuses every request with an error that quotes its whole head.
async fn echo() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = [0; 4096];
            let n = stream.read(&mut head).await.unwrap();
            let text = String::from_utf8_lossy(&head[..n]).into_owned();
            let body = json!({ "error": { "message": text } }).to_string();
            let head = format!("HTTP/1.1 401 No\r\ncontent-length: {}\r\n\r\n", body.len());
            stream.write_all((head + &body).as_bytes()).await.unwrap();
        }
    });
    url
}

#[tokio::test]
async fn error_of_a_provider_is_shown_without_the_credential() {
    let gateway = Builder::new("").start().await;
    let (echo, gone) = (echo().await, format!("http://{}/v1", closed()));
    for (name, url) in [("echo", &echo), ("gone", &gone)] {
        let body = json!({ "name": name, "provider": "vllm", "base_url": url,
            "credential": "odd/credential+that=looks~like-nothing" });
        made(&gateway, CONNECTIONS, &body).await;
    }
    let at = format!("{CONNECTIONS}/echo");
    let shown = verdict(&gateway, &at, json!({})).await;
    assert_eq!((&shown["ok"], &shown["status"]), (&json!(false), &json!(401)), "{shown}");
    assert_eq!(shown["error"]["class"], json!("provider_error"));
    let message = shown["error"]["message"].as_str().unwrap();
    assert!(message.contains("GET /v1/models") && message.contains("[REDACTED]"), "{message}");
    let models = gateway.admin("GET", &format!("{at}/models"), None).await;
    assert_eq!(models.status, 502, "{}", models.text());
    assert_eq!(models.json()["code"], json!("provider_error"));
    for text in [shown.to_string(), models.text()] {
        assert!(!text.contains("odd/credential"), "{text}");
    }
    let shown = verdict(&gateway, &format!("{CONNECTIONS}/gone"), json!({})).await;
    assert_eq!(shown["error"]["class"], json!("connect"), "{shown}");
    assert_eq!(shown["status"], Value::Null);
    gateway.stop().await;
}

/// Addresses inside, in every spelling that some library takes for one.
const SPELLINGS: &[&str] = &[
    // As they should be written.
    "http://127.0.0.1/",
    "http://127.0.0.1:80/v1",
    "https://127.255.255.254/",
    "http://0.0.0.0/",
    "http://10.0.0.1/",
    "http://172.16.0.1/",
    "http://172.31.255.255/",
    "http://192.168.0.1/",
    "http://100.64.0.1/",
    "http://169.254.169.254/latest/meta-data",
    "http://100.100.100.200/",
    "http://168.63.129.16/",
    "http://192.0.0.192/",
    "http://198.18.0.1/",
    "http://224.0.0.1/",
    "http://255.255.255.255/",
    "HTTP://127.0.0.1/",
    // Decimal, octal, hexadecimal, short, and mixed.
    "http://2130706433/",
    "http://2852039166/",
    "http://017700000001/",
    "http://025177524776/",
    "http://0x7f000001/",
    "http://0X7F000001/",
    "http://0xa9fea9fe/",
    "http://0177.0.0.1/",
    "http://0251.0376.0251.0376/",
    "http://0x7f.0.0.1/",
    "http://0x7f.0x0.0x0.0x1/",
    "http://0xa9.0xfe.0xa9.0xfe/",
    "http://127.1/",
    "http://127.0.1/",
    "http://10.1/",
    "http://169.254.43518/",
    "http://169.16689662/",
    "http://0x7f.1/",
    "http://0177.1/",
    "http://127.0.0.0x1/",
    "http://127.0.0.01/",
    "http://00127.0.0.1/",
    "http://127.000.000.001/",
    "http://0/",
    "http://0x0/",
    "http://00000000/",
    "http://4294967295/",
    "http://4294967296/",
    "http://256.0.0.1/",
    "http://127.0.0.1.5/",
    // A dot at the end, or too many.
    "http://127.0.0.1./",
    "http://127.0.0.1../",
    "http://2130706433./",
    "http://0x7f000001./",
    "http://169.254.169.254./",
    "http://127..0.0.1/",
    // IPv6, and IPv4 inside it.
    "http://[::1]/",
    "http://[::]/",
    "http://[0:0:0:0:0:0:0:1]/",
    "http://[0000:0000:0000:0000:0000:0000:0000:0001]/",
    "http://[::ffff:127.0.0.1]/",
    "http://[::ffff:7f00:1]/",
    "http://[0:0:0:0:0:ffff:169.254.169.254]/",
    "http://[::ffff:a9fe:a9fe]/",
    "http://[::127.0.0.1]/",
    "http://[::ffff:0:127.0.0.1]/",
    "http://[64:ff9b::127.0.0.1]/",
    "http://[64:ff9b::a9fe:a9fe]/",
    "http://[64:ff9b:1::7f00:1]/",
    "http://[2002:7f00:1::]/",
    "http://[2001:0:7f00:1::]/",
    "http://[fe80::1]/",
    "http://[fe80::1%25eth0]/",
    "http://[fc00::1]/",
    "http://[fd00:ec2::254]/",
    "http://[fec0::1]/",
    "http://[ff02::1]/",
    "http://[::1/",
    "http://::1/",
    "http://[127.0.0.1]/",
    // Who is who: user, fragment, query, backslash, space, tab.
    "http://api.openai.com@127.0.0.1/",
    "http://api.openai.com:80@169.254.169.254/",
    "http://127.0.0.1@api.openai.com/",
    "http://127.0.0.1#@api.openai.com/",
    "http://127.0.0.1?@api.openai.com/",
    "http://127.0.0.1\\@api.openai.com/",
    "http://api.openai.com\\.127.0.0.1/",
    "http://127.0.0.1 .api.openai.com/",
    "http://\t127.0.0.1/",
    "http://127.0.0.1%2f.api.openai.com/",
    "http://%31%32%37.0.0.1/",
    "http://127.0.0.1:80:80/",
    "http:127.0.0.1/",
    "http:/127.0.0.1/",
    "//127.0.0.1/",
    "http://127.0.0.1,api.openai.com/",
    // Digits and dots of other scripts.
    "http://①②⑦.⓪.⓪.①/",
    "http://１２７.０.０.１/",
    "http://127。0。0。1/",
    "http://127．0．0．1/",
    "http://१२७.०.०.१/",
    "http://ⓛⓞⓒⓐⓛⓗⓞⓢⓣ/",
    // Other schemes.
    "file:///etc/passwd",
    "gopher://127.0.0.1/",
    "ftp://127.0.0.1/",
];

#[tokio::test]
async fn no_spelling_of_an_inner_address_is_taken_as_a_base_url() {
    assert!(SPELLINGS.len() >= 80);
    let outside_only = |config: &mut sluice::config::server::ServerConfig| {
        config.upstream.allow_networks = Vec::new();
    };
    let gateway = Builder::new("").with(outside_only).start().await;
    let ok = json!({ "name": "c", "provider": "openai", "credential": "sk-0123456789abcdef" });
    made(&gateway, CONNECTIONS, &ok).await;
    for url in SPELLINGS {
        let mut body = ok.clone();
        body["base_url"] = json!(url);
        let change = gateway.admin("PATCH", &format!("{CONNECTIONS}/c"), Some(&body)).await;
        body["name"] = json!("d");
        for at in [CONNECTIONS, "/connections"] {
            let answer = gateway.admin("POST", at, Some(&body)).await;
            for answer in [&answer, &change] {
                assert_eq!(answer.status, 422, "{url}: {}", answer.text());
                assert_eq!(answer.json()["errors"][0]["field"], json!("base_url"), "{url}");
            }
        }
    }
    gateway.stop().await;
}

#[tokio::test]
async fn no_spelling_of_an_inner_address_is_connected_to() {
    let config = ResolverConfig {
        refresh: Duration::from_secs(30),
        stale_max: STALE_MAX,
        allow_networks: Vec::new(),
    };
    let resolver = Arc::new(Resolver::new(SystemLookup, config, Arc::default()));
    let (_shutdown, signal) = tokio::sync::watch::channel(false);
    tokio::spawn(Arc::clone(&resolver).run(signal));
    let mut n = 0;
    for url in SPELLINGS {
        // What the reader takes, and what stands where a host could be, as if it had been taken.
        let read = base_url(url).map(|url| url.host);
        let raw = url.split("//").last().unwrap_or_default();
        let raw = raw.split('/').next().unwrap_or_default();
        for host in read.into_iter().chain([raw.to_owned()]) {
            let name = resolver.handle(&host, 80);
            name.resolved(Duration::from_secs(20)).await;
            let found = name.addresses(std::time::Instant::now().into());
            assert!(matches!(found, Addresses::Unusable(_)), "{url}: {host}: {found:?}");
            n += 1;
        }
    }
    for host in ["localhost", "LOCALHOST", "localhost."] {
        let name = resolver.handle(host, 80);
        name.resolved(Duration::from_secs(20)).await;
        let found = name.addresses(std::time::Instant::now().into());
        assert!(matches!(found, Addresses::Unusable(_)), "{host}: {found:?}");
    }
    assert!(n > 80);
}

#[tokio::test]
async fn name_that_leads_inside_is_refused_when_it_is_used() {
    let mock = Mock::start().await.unwrap();
    // Of IPv4 and IPv6 loopback, an address that nobody has.
    let elsewhere = |config: &mut sluice::config::server::ServerConfig| {
        let address = "127.9.9.9".parse().unwrap();
        config.upstream.allow_networks = vec![IpNetwork { address, prefix_len: 32 }];
    };
    let gateway = Builder::new("").with(elsewhere).start().await;
    let url = format!("http://localhost:{}/v1", mock.addr().port());
    let body = json!({ "name": "c", "provider": "openai", "base_url": url, "credential": "sk-x" });
    made(&gateway, CONNECTIONS, &body).await;
    let verdict = verdict(&gateway, &format!("{CONNECTIONS}/c"), json!({})).await;
    assert_eq!(verdict["error"]["class"], json!("forbidden_network"), "{verdict}");
    assert!(mock.journal().is_empty() && mock.open_connections() == 0);
    gateway.stop().await;
}
