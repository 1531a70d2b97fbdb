//! What may stand in a line, and that the log waits for nobody.

use std::sync::mpsc;

use serde_json::Value;
use tracing::{error, info, warn};
use tracing_log::log;

use super::*;

/// A stderr that keeps what it got.
#[derive(Debug, Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Runs `events` with a log of its own; the text that came out, and each line of it, parsed.
fn logged(filter: &str, events: impl FnOnce(&LogHandle)) -> (String, Vec<Value>) {
    let out = Kept::default();
    let (subscriber, handle) = subscriber(filter, out.clone(), 100_000).unwrap();
    tracing::subscriber::with_default(subscriber, || events(&handle));
    assert!(handle.flush(Duration::from_secs(20)));
    assert_eq!(handle.lines_dropped(), 0);
    let text = String::from_utf8(out.0.lock().unwrap().clone()).unwrap();
    let lines = text.split_terminator('\n').map(|line| serde_json::from_str(line).unwrap());
    let lines = lines.collect();
    (text, lines)
}

#[test]
fn line_has_time_level_target_message_and_fields() {
    let (_, lines) = logged("info", |_| {
        warn!(rows = 3, ok = true, ratio = 0.5, level = "mine", "usage insert failed");
    });
    let line = &lines[0];
    assert!(line["time"].as_str().unwrap().ends_with('Z'));
    assert_eq!(line["level"], "warn");
    assert_eq!(line["target"], "sluice::telemetry::log::tests");
    assert_eq!(line["message"], "usage insert failed");
    assert_eq!((&line["rows"], &line["ok"]), (&3.into(), &true.into()));
    assert_eq!((&line["ratio"], &line["field.level"]), (&0.5.into(), &"mine".into()));
}

#[test]
fn filter_changes_while_running() {
    let (_, lines) = logged("warn", |handle| {
        info!("unseen");
        handle.set_filter("info").unwrap();
        info!("seen");
        assert!(handle.set_filter("sluice=loud").is_err());
        info!("still seen");
    });
    assert_eq!(lines.len(), 2);
}

#[test]
fn nine_kinds_of_canary_are_in_no_line() {
    let canaries = [
        "vk_CANARYab12cd34ef56gh78ij90kl12mn34op56qr78st90uv",
        "at_CANARYab12cd34ef56gh78ij90kl12mn34op56qr78s",
        "sk-CANARYab12cd34ef56",
        "sk-ant-api03-CANARYab12cd34",
        "AIzaSyCANARYab12cd34ef56gh78",
        "gsk_CANARYab12cd34ef56",
        "xai-CANARYab12cd34ef56",
        "AKIACANARYAB12CD34EF",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJDQU5BUlki.CANARY",
        "Bearer CANARY",
        "/v1/models?key=CANARY",
        "x-api-key: CANARY",
    ];
    let (text, lines) = logged("trace", |_| {
        for canary in canaries {
            let source = io::Error::other(canary);
            error!(error = &source as &dyn Error, "{canary}");
            info!(value = canary, debug = ?Some(canary), display = %canary, "known");
            info!(authorization = "CANARY", "named");
        }
    });
    assert_eq!(lines.len(), 3 * canaries.len());
    assert!(!text.contains("CANARY"), "{text}");
}

#[test]
fn hostile_text_neither_splits_nor_breaks_a_line() {
    let huge = "\u{1b}]0;\"\\".repeat(2 << 20);
    let hostile = [
        "a\r\n{\"level\":\"error\"}\n",
        "\u{1b}[2J\u{9b}31m\u{7}\u{8}\u{7f}",
        "nul \0 in the middle",
        "\u{2028}\u{2029}\u{202e}abc\u{feff}\u{e0041}",
        "\u{10ffff}é\"\\",
        &huge,
    ];
    let (text, lines) = logged("info", |_| {
        for value in hostile {
            info!(value, debug = ?value, "{value}");
        }
    });
    assert_eq!(lines.len(), hostile.len());
    assert!(text.lines().all(|line| line.len() < LINE_BYTES_MAX * 3));
    assert!(!text.chars().any(|c| c != '\n' && is_harmful(c)));
    assert_eq!(lines[2]["value"], "nul \0 in the middle");
}

#[test]
fn line_with_many_long_fields_is_bounded() {
    let long = "x".repeat(5000);
    let (text, _) = logged("info", |_| {
        let l = long.as_str();
        info!(a = l, b = l, c = l, d = l, e = l, f = l, g = l, h = l, i = l, j = l, k = l, "long");
    });
    assert!(text.len() < LINE_BYTES_MAX + 2 * STRING_BYTES_MAX, "{}", text.len());
}

#[test]
fn pingoras_messages_come_from_warn_upwards_without_heads_and_summaries() {
    let bridge = LogTracer::builder().with_max_level(LevelFilter::Warn).init();
    drop(bridge); // Set already, when another test of this process was first.
    let (text, lines) = logged("info", |_| {
        let target = "pingora_proxy::proxy_h1";
        log::info!(target: "pingora_core::server", "below warn");
        log::warn!(target: target, "bad InvalidHTTPHeader context: buf: x-a: CANARY\\r\\n");
        log::error!(target: target, "fails: {}, GET /v1/x?k=CANARY, Host: CANARY", "ReadError");
        log::error!(target: target, "accept-encoding {:?}", "CANARY");
    });
    assert_eq!(lines.len(), 3);
    assert_eq!(lines[0]["target"], "pingora_proxy::proxy_h1");
    assert_eq!(lines[0]["message"], "bad InvalidHTTPHeader…");
    assert_eq!(lines[1]["message"], "fails: ReadError, GET /v1/x?[REDACTED]");
    assert!(!text.contains("CANARY") && !text.contains("log."), "{text}");
}

/// A stderr whose reader stands still until the test lets it go.
struct Stuck(Receiver<()>, Kept);

impl Write for Stuck {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.recv().unwrap_or_default();
        self.1.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn stuck_stderr_stops_nobody_and_every_line_is_accounted_for() {
    let (release, gate) = mpsc::channel();
    let out = Kept::default();
    let (subscriber, handle) = subscriber("info", Stuck(gate, out.clone()), 10).unwrap();
    tracing::subscriber::with_default(subscriber, || {
        for n in 0..1000 {
            info!(n, "line");
        }
    });
    assert!(!handle.flush(Duration::ZERO));
    let dropped = handle.lines_dropped();
    assert!((900..1000).contains(&dropped), "{dropped}");

    drop(release);
    assert!(handle.flush(Duration::from_secs(20)));
    let text = String::from_utf8(out.0.lock().unwrap().clone()).unwrap();
    let written = text.lines().count() as u64;
    assert_eq!(written + handle.lines_dropped(), 1000);
}

#[test]
fn queue_is_bounded_in_bytes_too() {
    let (release, gate) = mpsc::channel();
    let queue = Queue::start(Stuck(gate, Kept::default()), 1 << 20).unwrap();
    for _ in 0..10 {
        queue.push("x".repeat(1 << 20));
    }
    assert!(queue.account.queued_bytes.load(Relaxed) <= QUEUE_BYTES_MAX);
    assert_eq!(queue.account.dropped.load(Relaxed), 6);
    drop(release);
    assert!(queue.flush(Duration::from_secs(20)));
    assert_eq!(queue.account.queued_bytes.load(Relaxed), 0);
}

#[test]
fn broken_stderr_counts_its_lines_as_dropped() {
    struct Broken;
    impl Write for Broken {
        fn write(&mut self, _bytes: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let (subscriber, handle) = subscriber("info", Broken, 10).unwrap();
    tracing::subscriber::with_default(subscriber, || info!("lost"));
    assert!(handle.flush(Duration::from_secs(20)));
    assert_eq!(handle.lines_dropped(), 1);
}
