//! Streams that break: whole events as they came, the dialect's error event, and then a cut.

use loadtest::mock::{End as MockEnd, Mock};

use super::{
    NO_BREAKER, STREAMS, data, normalized, reference, split_error, two_mocks, without_breaker,
};
use crate::client::{Answer, End};
use crate::harness::{TestGateway, behaviour, target};

/// What a client must see of a stream that broke: the beginning of `whole` in whole events, an error
/// event with `code`, and no clean end. Or an answer that says that nothing came.
fn check_broken(answer: &Answer, (path, whole): (&str, &str), code: &str, why: &str) {
    if answer.status != 200 {
        assert_eq!(answer.status, 502, "{why}: {}", answer.text());
        assert_eq!(answer.header("x-should-retry"), Some("false"), "{why}");
        assert!(answer.json()["error"].is_object(), "{why}: {}", answer.text());
        return;
    }
    assert_eq!(answer.end, End::Cut, "{why}: it ends cleanly: {}", answer.text());
    let text = normalized(answer);
    let (before, event) = split_error(&text);
    assert!(whole.starts_with(before), "{why}: {before:?} is not the beginning of {whole:?}");
    assert!(before.is_empty() || before.ends_with("\n\n"), "{why}: {before:?}");
    let data = data(event);
    match path {
        "/v1/chat/completions" => assert_eq!(data["error"]["code"], code, "{why}: {event}"),
        "/v1/messages" => {
            assert_eq!(data["type"], "error", "{why}: {event}");
            assert_eq!(data["error"]["type"], "api_error", "{why}: {event}");
        }
        _ => {
            assert_eq!(data["type"], "error", "{why}: {event}");
            assert_eq!(data["code"], code, "{why}: {event}");
        }
    }
}

/// Cuts at random bytes, by reset and by close in turn: 100 of each dialect.
async fn cuts(dialect: usize) {
    const CUTS: usize = 100;

    let mock = Mock::start().await.unwrap();
    let gateway = without_breaker(&[target(&mock, "sim")], "").await;
    let (path, body) = STREAMS[dialect];
    let whole = reference(&gateway, path, body).await;
    let sent = mock.wait_for(1).await[0].sent_bytes;
    let mut n_broken_in_the_middle = 0;

    for n in 0..CUTS {
        let at = rand::random_range(1..sent);
        let script = if n % 2 == 0 { format!("cut_at={at}") } else { format!("reset_at={at}") };
        mock.script(vec![behaviour(&script)]);
        let answer = gateway.post(path, body).await;
        check_broken(&answer, (path, &whole), "upstream_error", &format!("{path} {script}"));
        n_broken_in_the_middle += usize::from(answer.status == 200);
    }

    assert!(CUTS / 4 < n_broken_in_the_middle, "only {n_broken_in_the_middle} in the middle");
    for row in gateway.rows().await.iter().skip(1) {
        if row["status"] == 200 {
            assert_eq!(row["outcome"], "stream_broken", "{row:#}");
            assert_eq!(row["attempts"][0]["error_class"], "reset");
        } else {
            assert_eq!(row["outcome"], "upstream_error", "{row:#}");
            assert_eq!(row["attempts"][0]["maybe_billed"], true, "{row:#}");
        }
    }
    gateway.stop().await;
}

#[tokio::test]
async fn chat_stream_cut_anywhere_never_ends_cleanly() {
    cuts(0).await;
}

#[tokio::test]
async fn messages_stream_cut_anywhere_never_ends_cleanly() {
    cuts(1).await;
}

#[tokio::test]
async fn responses_stream_cut_anywhere_never_ends_cleanly() {
    cuts(2).await;
}

#[tokio::test]
async fn tokens_of_a_broken_stream_are_estimated() {
    let mock = Mock::start().await.unwrap();
    let script = "sim?events=40&bytes=4000&cut_at_event=20";
    let gateway = without_breaker(&[target(&mock, script)], "").await;

    let answer = gateway.chat(r#""stream":true"#).await;

    assert_eq!((answer.status, answer.end), (200, End::Cut));
    assert_eq!(mock.wait_for(1).await[0].end, MockEnd::Cut);
    let row = gateway.row().await;
    assert_eq!(row["usage_source"], "estimated");
    let output = row["output"].as_u64().unwrap();
    assert!((250..1_000).contains(&output), "half of 4,000 bytes are not {output} tokens");
    assert!(0 < row["cost_nanousd"].as_u64().unwrap());
    gateway.stop().await;
}

/// What Anthropic says of the input at the beginning stands; the output is estimated.
#[tokio::test]
async fn input_reported_before_the_break_is_kept() {
    let mock = Mock::start().await.unwrap();
    let script = "sim?events=40&bytes=4000&cut_at_event=20&input_tokens=777";
    let gateway = without_breaker(&[target(&mock, script)], "").await;

    gateway.post(STREAMS[1].0, STREAMS[1].1).await;

    let row = gateway.row().await;
    assert_eq!((&row["input_uncached"], &row["usage_source"]), (&777.into(), &"estimated".into()));
    assert!(250 < row["output"].as_u64().unwrap(), "{row:#}");
    gateway.stop().await;
}

/// A clean end is what the SDKs take for success.
#[tokio::test]
async fn clean_end_without_the_last_event_is_no_clean_end() {
    for (path, body) in STREAMS {
        for script in ["no_terminal", "clean_end_at_event=3", "clean_end_at_event=0"] {
            let mock = Mock::start().await.unwrap();
            let gateway = without_breaker(&[target(&mock, "sim")], "").await;
            let whole = reference(&gateway, path, body).await;
            mock.set_default(behaviour(script));

            let answer = gateway.post(path, body).await;

            check_broken(&answer, (path, &whole), "upstream_error", &format!("{path} {script}"));
            let row = &gateway.rows().await[1];
            let is_broken = row["outcome"] == "stream_broken" || row["outcome"] == "upstream_error";
            assert!(is_broken, "{path} {script}: {row:#}");
            gateway.stop().await;
        }
    }
}

#[tokio::test]
async fn end_of_the_connection_without_the_last_event_is_no_clean_end() {
    for (path, body) in STREAMS {
        let mock = Mock::start().await.unwrap();
        let gateway = without_breaker(&[target(&mock, "sim")], "").await;
        let whole = reference(&gateway, path, body).await;
        mock.set_default(behaviour("close_delimited&cut_at_event=3"));

        let answer = gateway.post(path, body).await;

        assert_eq!(answer.status, 200);
        check_broken(&answer, (path, &whole), "upstream_error", path);
        gateway.stop().await;
    }
}

#[tokio::test]
async fn end_of_the_connection_after_the_last_event_is_a_clean_end() {
    for (path, body) in STREAMS {
        for script in ["close_delimited", "http10"] {
            let mock = Mock::start().await.unwrap();
            let gateway = without_breaker(&[target(&mock, "sim")], "").await;
            let whole = reference(&gateway, path, body).await;
            mock.set_default(behaviour(script));

            let answer = gateway.post(path, body).await;

            assert_eq!((answer.status, answer.end), (200, End::Whole), "{path} {script}");
            assert_eq!(normalized(&answer), whole);
            assert_eq!(gateway.rows().await[1]["outcome"], "success");
            gateway.stop().await;
        }
    }
}

/// The provider has said all that it had to say.
#[tokio::test]
async fn break_after_the_last_event_is_a_success() {
    for (path, body) in STREAMS {
        let mock = Mock::start().await.unwrap();
        let gateway = without_breaker(&[target(&mock, "sim")], "").await;
        let whole = reference(&gateway, path, body).await;
        let sent = mock.wait_for(1).await[0].sent_bytes;
        mock.set_default(behaviour(&format!("cut_at={sent}")));

        let answer = gateway.post(path, body).await;

        assert_eq!((answer.status, answer.end), (200, End::Whole), "{path}: {}", answer.text());
        assert_eq!(normalized(&answer), whole);
        assert_eq!(gateway.rows().await[1]["outcome"], "success");
        gateway.stop().await;
    }
}

#[tokio::test]
async fn break_before_any_content_fails_over() {
    for (path, body) in STREAMS {
        for fault in ["cut_at_event=0", "reset_at_event=0", "clean_end_at_event=0", "cut_at=10"] {
            let (broken, healthy) = two_mocks().await;
            let script = format!("sim?{fault}");
            let targets = [target(&broken, &script), target(&healthy, "sim")];
            let gateway = without_breaker(&targets, "").await;

            let answer = gateway.post(path, body).await;

            assert_eq!((answer.status, answer.end), (200, End::Whole), "{path} {fault}");
            assert_eq!(answer.header("x-sluice-attempts"), Some("2"));
            assert_eq!(answer.header("x-sluice-model"), Some("m1"));
            assert!(!answer.text().contains("m0"));
            assert_eq!((broken.journal().len(), healthy.journal().len()), (1, 1));
            gateway.stop().await;
        }
    }
}

#[tokio::test]
async fn break_after_content_is_never_tried_again() {
    for (path, body) in STREAMS {
        let (broken, healthy) = two_mocks().await;
        let targets = [target(&broken, "sim?reset_at_event=2"), target(&healthy, "sim")];
        let fields = format!("{NO_BREAKER}\nfailover = {{ retries = 2 }}");
        let text = crate::harness::deployment(&targets, &fields);
        let gateway = crate::harness::Builder::new(&text).start().await;

        let answer = gateway.post(path, body).await;

        assert_eq!((answer.status, answer.end), (200, End::Cut), "{path}");
        assert_eq!((broken.journal().len(), healthy.journal().len()), (1, 0), "{path}");
        gateway.stop().await;
    }
}

/// The provider's own error event is the client's; there is no second one.
#[tokio::test]
async fn error_event_after_content_is_passed_on() {
    for (path, body) in STREAMS {
        let mock = Mock::start().await.unwrap();
        let gateway = TestGateway::start(&[target(&mock, "sim?error_at_event=3")]).await;

        let answer = gateway.post(path, body).await;

        assert_eq!(answer.status, 200);
        let is_error =
            |data: &String| data.starts_with("{\"error\"") || data.contains("\"type\":\"error\"");
        let errors = answer.events().into_iter().filter(is_error).count();
        assert_eq!(errors, 1, "{path}: {}", answer.text());
        let row = gateway.row().await;
        assert_eq!(
            (&row["outcome"], &row["error_class"]),
            (&"upstream_error".into(), &"stream_error".into())
        );
        gateway.stop().await;
    }
}
