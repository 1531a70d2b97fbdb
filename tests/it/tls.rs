//! TLS, both ways: listeners for clients, and upstreams.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use loadtest::mock::Mock;
use sluice::config::server::TlsConfig;
use tempfile::TempDir;

use crate::binary::Process;
use crate::client::within;
use crate::harness::{Builder, TestGateway, chat_body, deployment, document, target};

/// Certificates for `localhost`, signed by an authority of their own.
struct Authority(TempDir);

impl Authority {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        openssl(
            dir.path(),
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 \
             -subj /CN=test-authority -keyout ca.key -out ca.pem",
        );
        Self(dir)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes `{name}.pem` and `{name}.key` for 127.0.0.1 and `localhost`.
    fn issue(&self, name: &str) {
        self.issue_for(name, "DNS:localhost, IP:127.0.0.1");
    }

    fn issue_for(&self, name: &str, hosts: &str) {
        let extensions = format!("subjectAltName = {hosts}\nbasicConstraints = CA:FALSE\n");
        std::fs::write(self.path("names.cnf"), extensions).unwrap();
        openssl(
            self.0.path(),
            &format!(
                "req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN={name} \
                 -keyout {name}.key -out {name}.csr"
            ),
        );
        openssl(
            self.0.path(),
            &format!(
                "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 \
                 -extfile names.cnf -out {name}.pem"
            ),
        );
    }
}

fn openssl(dir: &Path, arguments: &str) {
    let output = std::process::Command::new("openssl")
        .current_dir(dir)
        .args(arguments.split_whitespace())
        .output()
        .expect("openssl is needed");
    assert!(output.status.success(), "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A gateway with a TLS listener whose certificate is `server` of the authority.
async fn with_tls(authority: &Authority, mock: &Mock, upstream_model: &str) -> TestGateway {
    authority.issue("server");
    let tls = TlsConfig {
        listen: vec!["127.0.0.1:0".parse().unwrap()],
        cert: authority.path("server.pem"),
        key: authority.path("server.key"),
    };
    Builder::new(&deployment(&[target(mock, upstream_model)], ""))
        .with(|config| config.data.tls = Some(tls))
        .start()
        .await
}

fn tls_address(gateway: &TestGateway) -> SocketAddr {
    gateway.app().listening.tls[0]
}

/// `curl` that trusts the authority; the text after the body says version and status.
fn curl(gateway: &TestGateway, authority: &Authority, arguments: &[&str]) -> std::process::Command {
    gateway.expect_rows(1);
    let mut command = std::process::Command::new("curl");
    command
        .args(["--silent", "--show-error", "--no-buffer", "--noproxy", "*", "--max-time", "20"])
        .arg("--cacert")
        .arg(authority.path("ca.pem"))
        .args(["--header", &format!("authorization: Bearer {}", gateway.key)])
        .args(["--header", "content-type: application/json"])
        .args(["--write-out", "\\n%{http_version} %{http_code}"])
        .args(arguments)
        .arg(format!("https://{}/v1/chat/completions", tls_address(gateway)));
    command
}

async fn output(mut command: std::process::Command) -> String {
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn listener_speaks_the_version_that_the_client_offers() {
    let authority = Authority::new();
    let mock = Mock::start().await.unwrap();
    let gateway = with_tls(&authority, &mock, "sim").await;
    for (flag, version) in [("--http1.1", "1.1"), ("--http2", "2")] {
        for (fields, end) in [("", "}"), (r#""stream":true"#, "data: [DONE]\n\n")] {
            let body = chat_body(fields);
            let text = output(curl(&gateway, &authority, &[flag, "--data", &body])).await;
            let (body, said) = text.rsplit_once('\n').unwrap();
            assert_eq!(said, format!("{version} 200"), "{text}");
            assert!(body.ends_with(end), "{text}");
        }
    }
    gateway.stop().await;
}

/// Ends a stream in the middle, and says so; then asks for something else on the same connection.
const HTTP2_CLIENT: &str = r#"
const http2 = require("node:http2");
const [url, authority, key, body] = process.argv.slice(1);
const ca = require("node:fs").readFileSync(authority);
const session = http2.connect(url, { ca });
const headers = { authorization: `Bearer ${key}`, "content-type": "application/json" };
const stream = session.request({ ":method": "POST", ":path": "/v1/chat/completions", ...headers });
stream.end(body);
stream.on("data", (data) => {
  if (!data.includes('"content"')) return;
  stream.close(http2.constants.NGHTTP2_CANCEL);
});
stream.on("close", () => {
  console.log("reset");
  process.stdin.once("data", () => {
    const next = session.request({ ":path": "/v1/models", ...headers });
    next.on("response", (head) => { console.log(head[":status"]); session.close(); process.exit(); });
    next.end();
  });
});
"#;

#[tokio::test]
async fn client_that_resets_its_http2_stream_ends_the_upstreams() {
    let authority = Authority::new();
    let mock = Mock::start().await.unwrap();
    let gateway = with_tls(&authority, &mock, "sim?stall_at_event=2").await;
    let mut command = std::process::Command::new("node");
    command
        .args(["-e", HTTP2_CLIENT, &format!("https://{}", tls_address(&gateway))])
        .arg(authority.path("ca.pem"))
        .args([&gateway.key, &chat_body(r#""stream":true"#)]);
    gateway.expect_rows(2);
    let mut client = Process::start(command);
    client.stdout().next_with("reset").await;

    // The mock sees the end only if the gateway closes its connection.
    assert_eq!(within(mock.wait_for(1)).await.len(), 1);
    gateway.idle().await;
    assert_eq!(gateway.row().await["outcome"], "client_closed");
    client.write_line("go on");
    client.stdout().next_with("200").await;
    gateway.stop().await;
}

#[tokio::test]
async fn reload_takes_a_new_certificate_and_keeps_old_connections() {
    let authority = Authority::new();
    let mock = Mock::start().await.unwrap();
    let gateway = with_tls(&authority, &mock, "sim").await;
    let mut old = TlsClient::connect(&gateway, &authority).await;
    assert_eq!(old.certificate, "server");
    assert_eq!(old.chat(&gateway).await, 200);

    authority.issue("renewed");
    std::fs::copy(authority.path("renewed.pem"), authority.path("server.pem")).unwrap();
    gateway.app().reload(None).expect_err("the key is still the old one's");
    assert_eq!(TlsClient::connect(&gateway, &authority).await.certificate, "server");
    std::fs::copy(authority.path("renewed.key"), authority.path("server.key")).unwrap();
    gateway.app().reload(None).unwrap();

    assert_eq!(TlsClient::connect(&gateway, &authority).await.certificate, "renewed");
    assert_eq!(old.chat(&gateway).await, 200, "the connection from before goes on");
    drop(old);
    gateway.stop().await;
}

/// A connection that Python's `ssl` makes, driven line by line.
struct TlsClient {
    process: Process,
    certificate: String,
}

const TLS_CLIENT: &str = r#"
import http.client, json, ssl, sys
host, port, authority, key = sys.argv[1:]
context = ssl.create_default_context(cafile=authority)
connection = http.client.HTTPSConnection(host, int(port), context=context, timeout=20)
connection.connect()
subject = dict(pair[0] for pair in connection.sock.getpeercert()["subject"])
print(subject["commonName"], flush=True)
headers = {"authorization": "Bearer " + key, "content-type": "application/json"}
connection.auto_open = 0
for line in sys.stdin:
    connection.request("POST", "/v1/chat/completions", line, headers)
    answer = connection.getresponse()
    answer.read()
    print(answer.status, flush=True)
"#;

impl TlsClient {
    async fn connect(gateway: &TestGateway, authority: &Authority) -> Self {
        let address = tls_address(gateway);
        let mut command = std::process::Command::new("python3");
        command
            .args(["-c", TLS_CLIENT, &address.ip().to_string(), &address.port().to_string()])
            .arg(authority.path("ca.pem"))
            .arg(&gateway.key);
        let mut process = Process::start(command);
        let certificate = process.stdout().next_with("").await;
        Self { process, certificate }
    }

    async fn chat(&mut self, gateway: &TestGateway) -> u16 {
        gateway.expect_rows(1);
        self.process.write_line(&chat_body(""));
        self.process.stdout().next_with("").await.parse().unwrap()
    }
}

/// A server that takes TLS off what comes, and passes it on to `mock`. Its certificate is `upstream`.
async fn tls_before(mock: &Mock, authority: &Authority) -> (Process, SocketAddr) {
    let mut command = std::process::Command::new("python3");
    command
        .args(["-c", TLS_SERVER])
        .arg(authority.path("upstream.pem"))
        .arg(authority.path("upstream.key"))
        .arg(mock.addr().port().to_string());
    let mut process = Process::start(command);
    let port = process.stdout().next_with("").await;
    (process, SocketAddr::from(([127, 0, 0, 1], port.parse().unwrap())))
}

const TLS_SERVER: &str = r#"
import asyncio, ssl, sys
async def copy(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    writer.close()
async def serve(reader, writer):
    to_reader, to_writer = await asyncio.open_connection("127.0.0.1", int(sys.argv[3]))
    await asyncio.gather(copy(reader, to_writer), copy(to_reader, writer))
async def main():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[1], sys.argv[2])
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()
asyncio.run(main())
"#;

#[tokio::test]
async fn upstream_is_trusted_by_the_authority_of_the_configuration_alone() {
    let authority = Authority::new();
    let mock = Mock::start().await.unwrap();
    authority.issue("upstream");
    let (_server, address) = tls_before(&mock, &authority).await;
    let ca_file = authority.path("ca.pem");
    for host in ["localhost", "127.0.0.1"] {
        let url = format!("https://{host}:{}/v1", address.port());
        let text = document(&[(&url, "sim", "")], "");

        let gateway = Builder::new(&text)
            .with(|config| config.upstream.ca_file = Some(ca_file.clone()))
            .start()
            .await;
        let answer = gateway.chat("").await;
        assert_eq!(answer.status, 200, "{host}: {}", answer.text());
        assert!(gateway.chat(r#""stream":true"#).await.text().contains("[DONE]"));
        gateway.stop().await;
        let seen = mock.wait_for(2).await.len();

        let gateway = Builder::new(&text).start().await;
        let answer = gateway.chat("").await;
        assert_eq!((answer.status, answer.code()), (502, "upstream_error".to_owned()));
        let row = gateway.row().await;
        assert_eq!(row["attempts"][0]["error_class"], "tls", "{row:#}");
        assert_eq!(mock.journal().len(), seen, "nothing is said before the certificate is good");
        gateway.stop().await;
        mock.clear_journal();
    }
}

#[tokio::test]
async fn certificate_of_another_name_is_refused() {
    let authority = Authority::new();
    let mock = Mock::start().await.unwrap();
    authority.issue_for("upstream", "DNS:other.test");
    let (_server, address) = tls_before(&mock, &authority).await;
    let url = format!("https://localhost:{}/v1", address.port());
    let gateway = Builder::new(&document(&[(&url, "sim", "")], ""))
        .with(|config| config.upstream.ca_file = Some(authority.path("ca.pem")))
        .start()
        .await;
    let answer = gateway.chat("").await;
    assert_eq!(answer.status, 502);
    assert!(!answer.text().contains("other.test"), "{}", answer.text());
    assert_eq!(gateway.row().await["attempts"][0]["error_class"], "tls");
    assert!(mock.journal().is_empty());
    gateway.stop().await;
}
