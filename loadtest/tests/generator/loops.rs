//! Open and closed loops, protocols, keys, workloads without a file.

use std::time::Duration;

use loadtest::mock::Mock;
use loadtest::run::{Options, Outcome, Progress, Report, run};
use loadtest::scenario::{Scenario, Workload};

use crate::program::loadtest;

/// Runs a scenario's text against `mock`.
async fn report(mock: &Mock, text: &str) -> Report {
    let mut scenario: Scenario = toml::from_str(text).unwrap();
    scenario.target.url = Some(mock.base_url());
    scenario.check().unwrap();
    let options = Options { scenario, pids: vec![std::process::id()], progress: Progress::Silent };
    tokio::task::spawn_blocking(move || run(&options)).await.unwrap().unwrap()
}

const ONE: &str = "name = \"t\"\n[[mix]]\nname = \"small\"\ndialect = \"chat\"\n\
                   model = \"sim?MORE\"\nscript = \"sim?MORE\"\n";

fn one(more: &str, phases: &str) -> String {
    format!("{}{phases}", ONE.replace("MORE", more))
}

#[test]
fn every_workload_is_answered_as_it_expects() {
    for workload in ["small", "stream", "paced", "long", "body5m"] {
        let name = <Workload as clap::ValueEnum>::from_str(workload, false).unwrap();
        let model = format!("sim?{}", name.behaviour_text());
        let run = ["run", "--with-mock", "-q", "--workload", workload, "--model", &model];
        let done = loadtest(&[&run[..], &["-n", "6", "-c", "3", "--warmup", "2"]].concat());
        assert_eq!(done.code, 0, "{workload}: {} {}", done.stdout, done.stderr);
        assert_eq!(done.report["requests"].as_u64(), Some(6));
        assert_eq!(done.report["uncounted_requests"].as_u64(), Some(2));
        assert_eq!(done.report["first_event_us"].is_object(), name.is_stream());
        assert_eq!(done.report["gap_added_us"].is_object(), name == Workload::Paced);
        let script = loadtest(&[&run[..], &["-n", "6", "--script", &model]].concat());
        assert_eq!(script.code, 0, "{workload}: {}", script.stdout);
    }
}

/// Twenty requests are due while a server takes a whole second for the only connection there is: a
/// closed loop would call that one slow request, those who wait know better.
#[tokio::test]
async fn time_spent_waiting_counts() {
    let mock = Mock::start().await.unwrap();
    let slow = "headers_ms=1000";
    mock.script(vec![slow.parse().unwrap()]);
    let text = "connections = 1\n".to_owned()
        + &one("", "[[phases]]\nname = \"p\"\nseconds = 1\nrate = 20\n").replace("sim?", "sim");
    let report = report(&mock, &text).await;
    assert_eq!((report.total.requests, report.total.errors), (20, 0));
    let latency = report.total.latency_us.unwrap();
    // Due evenly over the second that was blocked: the median waited half of it.
    assert!(latency.p50 > 400_000.0, "{report}");
    assert!(report.generator.waiting_most >= 15, "{report}");
    assert_eq!(report.generator.clients, 1);
}

#[tokio::test]
async fn open_loop_takes_more_clients_when_answers_are_slow() {
    let mock = Mock::start().await.unwrap();
    let phases = "[[phases]]\nname = \"p\"\nrequests = 40\nrate = 80\n";
    let report = report(&mock, &one("headers_ms=250", phases)).await;
    assert_eq!((report.total.requests, report.outcome), (40, Outcome::Passed), "{report}");
    assert!(report.generator.clients >= 10, "{report}");
    assert!(report.total.latency_us.unwrap().p50 >= 250_000.0);
    assert!(report.elapsed_s >= 0.7, "{report}");
    assert!(report.server.is_some_and(|server| server.rss_kib_max > 100));
}

#[tokio::test]
async fn clients_of_a_closed_loop_pause_to_think() {
    let mock = Mock::start().await.unwrap();
    let phases =
        "[[phases]]\nname = \"p\"\nrequests = 6\nconcurrency = 2\nthink_ms = \"uniform:100:120\"\n";
    let report = report(&mock, &one("", phases)).await;
    assert_eq!(report.total.requests, 6);
    assert!(report.elapsed_s >= 0.2, "{report}");
}

#[tokio::test]
async fn h2_with_prior_knowledge_is_spoken_and_checked() {
    let (address, _server) = h2_server().await;
    let mut scenario: Scenario = toml::from_str(
        "name = \"t\"\n[target]\nprotocol = \"h2\"\nh2_connections = 2\n\
         [[mix]]\nname = \"s\"\ndialect = \"chat\"\nmodel = \"sim\"\nscript = \"sim?events=3\"\nstream = 1\n\
         [[phases]]\nname = \"p\"\nrequests = 40\nconcurrency = 4\n",
    )
    .unwrap();
    scenario.target.url = Some(format!("http://{address}"));
    scenario.check().unwrap();
    let options = Options { scenario, pids: Vec::new(), progress: Progress::Silent };
    let report = tokio::task::spawn_blocking(move || run(&options)).await.unwrap().unwrap();
    // Each fourth stream ends in its middle.
    assert_eq!((report.total.requests, report.total.truncated, report.total.errors), (40, 10, 10));
    assert_eq!(report.outcome, Outcome::WrongAnswers);
}

/// A server that answers with the mock's script, and ends each fourth stream in its middle.
async fn h2_server() -> (std::net::SocketAddr, tokio::task::JoinSet<()>) {
    use loadtest::mock::Script;
    let script = Script::stream("/chat/completions", "sim?events=3").unwrap().unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let number = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move {
        let mut connections = tokio::task::JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let (bytes, number) = (script.bytes.clone(), std::sync::Arc::clone(&number));
            connections.spawn(async move {
                let mut connection = h2::server::handshake(stream).await.unwrap();
                let mut answers = tokio::task::JoinSet::new();
                while let Some(Ok((request, respond))) = connection.accept().await {
                    let n = number.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    answers.spawn(h2_answer(
                        request.into_body(),
                        respond,
                        bytes.clone(),
                        n % 4 == 3,
                    ));
                }
            });
        }
    });
    (address, tasks)
}

async fn h2_answer(
    mut request: h2::RecvStream,
    mut respond: h2::server::SendResponse<bytes::Bytes>,
    bytes: Vec<u8>,
    is_short: bool,
) {
    use bytes::Bytes;
    while request.data().await.is_some() {}
    let mut body = respond.send_response(http::Response::new(()), false).unwrap();
    let half = bytes.len() / 2;
    body.send_data(Bytes::copy_from_slice(&bytes[..half]), false).unwrap();
    let rest = if is_short { &[][..] } else { &bytes[half..] };
    body.send_data(Bytes::copy_from_slice(rest), true).unwrap();
}

#[tokio::test]
async fn every_key_is_used_and_none_is_told() {
    let mock = Mock::start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.txt");
    std::fs::write(&file, "secret-a\nsecret-b\nsecret-c\n").unwrap();
    let url = mock.base_url();
    let file = file.to_str().unwrap().to_owned();
    let done = tokio::task::spawn_blocking(move || {
        loadtest(&[
            "run",
            "--url",
            &url,
            "--key-file",
            &file,
            "--workload",
            "small",
            "--model",
            "sim?bytes=2048",
            "-n",
            "60",
            "--header",
            "x-name: value",
        ])
    });
    let done = tokio::time::timeout(Duration::from_mins(1), done).await.unwrap().unwrap();
    assert_eq!(done.code, 0, "{}", done.stdout);
    let entries = mock.journal();
    for key in ["secret-a", "secret-b", "secret-c"] {
        let bearer = format!("Bearer {key}");
        assert!(entries.iter().any(|entry| entry.header("authorization") == Some(&bearer)));
    }
    assert!(entries.iter().all(|entry| entry.header("x-name") == Some("value")));
    let told = format!("{}{}{}", done.stdout, done.stderr, done.report);
    assert!(!told.contains("secret"), "{told}");
}
