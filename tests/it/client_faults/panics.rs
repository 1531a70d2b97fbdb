//! A fault of the gateway itself: it ends one request, with an answer and a row.
//!
//! The log is the place where a test can break in: a subscriber that panics at an event makes the
//! code panic that wrote it.

use std::fmt::{self, Write as _};
use std::sync::{Mutex, Once};

use loadtest::mock::Mock;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};

use crate::client::End;
use crate::harness::{Builder, TestGateway, behaviour, chat_body, deployment, target};

/// Texts at which the log panics.
static ARMED: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Bomb;

impl<S: Subscriber> Layer<S> for Bomb {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let mut text = Text(String::new());
        event.record(&mut text);
        let is_hit = ARMED.lock().unwrap().iter().any(|armed| text.0.contains(armed));
        assert!(!is_hit, "as the test has it");
    }
}

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        write!(self.0, "{field}={value:?} ").unwrap();
    }
}

/// Panics where `text` is logged. Others that run in this process log other things.
fn arm(text: String) {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let subscriber = tracing_subscriber::registry().with(Bomb);
        tracing::subscriber::set_global_default(subscriber).unwrap();
    });
    ARMED.lock().unwrap().push(text);
}

#[tokio::test]
async fn before_the_answer_is_a_500_in_the_callers_dialect_and_one_row() {
    let mock = Mock::start().await.unwrap();
    let name = format!("a{}", mock.addr().port());
    let gateway = TestGateway::start(&[target(&mock, &name)]).await;
    // A first failure tells the id that is in the log.
    mock.script(vec![behaviour("status=503")]);
    assert_eq!(gateway.chat("").await.status, 503);
    let id = gateway.row().await["attempts"][0]["target_id"].as_str().unwrap().to_owned();
    arm(id);
    for (n, path) in ["/v1/chat/completions", "/v1/messages"].into_iter().enumerate() {
        mock.script(vec![behaviour("status=503")]);
        let mut client = gateway.client().await;
        let request = gateway.request(path, &chat_body(""));
        let answer = client.call(&request).await;
        assert_eq!((answer.status, answer.end), (500, End::Whole));
        let kind = if n == 0 { "server_error" } else { "api_error" };
        assert_eq!(answer.json()["error"]["type"], kind);
        let id = answer.header("x-request-id").unwrap();
        let row = gateway.rows().await.pop().unwrap();
        assert_eq!(row["request_id"], id);
        assert_eq!((&row["outcome"], &row["status"]), (&"gateway_error".into(), &500.into()));
        assert_eq!(row["error_class"], "internal_error");
        assert_eq!(answer.header("connection"), Some("close"));
        assert!(client.is_closed().await);
        assert_eq!(gateway.metric("sluice_panics_total"), f64::from(u8::try_from(n + 1).unwrap()));
        // What the panic interrupted was let go.
        assert_eq!(gateway.chat("").await.status, 200);
    }
    gateway.idle().await;
    gateway.stop_after_panics().await;
}

#[tokio::test]
async fn requests_that_panic_leave_no_slot_and_no_reservation() {
    // Fewer than the breaker wants to see before it judges by their rate.
    const N: usize = 15;
    let mock = Mock::start().await.unwrap();
    let name = format!("b{}", mock.addr().port());
    let limits = r#"[{ metric = "concurrent", amount = 1 }, { metric = "tokens", period = "day", amount = 100000 }, { metric = "requests", period = "day", amount = 1000 }]"#;
    let fields = format!(
        "limits = {limits}\nfailover = {{ max_attempts = 1 }}\nbreaker = {{ consecutive_failures = 1000 }}\n"
    );
    let text = deployment(&[target(&mock, &name)], &fields);
    let gateway = Builder::new(&format!("{text}limits = {limits}\n")).start().await;
    mock.script(vec![behaviour("status=503")]);
    assert_eq!(gateway.chat("").await.status, 503);
    let id = gateway.row().await["attempts"][0]["target_id"].as_str().unwrap().to_owned();
    arm(id);
    mock.script(vec![behaviour("status=503"); N]);
    for _ in 0..N {
        // With one slot alone, the next is let in only when it has come back.
        assert_eq!(gateway.chat("").await.status, 500);
    }
    for owner in ["keys/app", "deployments/chat"] {
        let path = format!("/api/v1/workspaces/acme/environments/production/{owner}/usage");
        let counters = gateway.admin_get(&path).await.json()["limits"].clone();
        let [requests, slots, tokens] = [0, 1, 2].map(|n| &counters[n]);
        assert_eq!(requests["used"], N + 1, "{owner}");
        assert_eq!((&slots["used"], &slots["reserved"]), (&0.into(), &0.into()), "{owner}");
        assert_eq!((&tokens["used"], &tokens["reserved"]), (&0.into(), &0.into()), "{owner}");
    }
    gateway.idle().await;
    gateway.stop_after_panics().await;
}
