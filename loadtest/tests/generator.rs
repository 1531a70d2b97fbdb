//! The generator against the mock: right answers count, wrong ones are errors.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::time::Duration;

use loadtest::mock::Mock;
use loadtest::run::{Plan, Report, Workload, run};

/// Runs a workload on a mock that has this behaviour.
async fn report(workload: Workload, behaviour: &str, rate: Option<f64>) -> Report {
    let mock = Mock::start().await.unwrap();
    let plan = Plan {
        url: format!("http://{}", mock.addr()),
        key: Some("vk_test".to_owned()),
        workload,
        model: format!("sim?{behaviour}"),
        concurrency: 3,
        requests: 10,
        warmup: 2,
        threads: 2,
        headers: vec![("x-name".to_owned(), "value".to_owned())],
        rate,
        time_max: Duration::from_secs(5),
    };
    let report = tokio::task::spawn_blocking(move || run(&plan)).await.unwrap().unwrap();
    for entry in mock.journal() {
        assert_eq!(entry.header("authorization"), Some("Bearer vk_test"));
        assert_eq!(entry.header("x-name"), Some("value"));
    }
    report
}

#[tokio::test]
async fn every_workload_is_answered_as_it_expects() {
    let workloads =
        [Workload::Small, Workload::Stream, Workload::Paced, Workload::Long, Workload::Body5m];
    for workload in workloads {
        let behaviour = workload.behaviour_text().replace("event_ms=20", "event_ms=1");
        let report = report(workload, &behaviour, None).await;
        assert_eq!((report.requests, report.errors), (10, 0), "{report}");
        assert!(report.latency_us.is_some());
        let is_stream = matches!(workload, Workload::Stream | Workload::Paced);
        assert_eq!(report.first_event_us.is_some(), is_stream);
        assert_eq!(report.gap_us.is_some(), is_stream);
        assert_eq!(report.gap_added_us.is_some(), workload == Workload::Paced);
    }
}

#[tokio::test]
async fn open_loop_sends_all_it_should() {
    let report = report(Workload::Small, "bytes=2048", Some(200.0)).await;
    assert_eq!((report.requests, report.errors), (10, 0), "{report}");
    assert!(report.elapsed_s >= 0.045, "{report}");
}

#[tokio::test]
async fn wrong_answers_are_errors() {
    let cases = [
        (Workload::Small, "bytes=2047", "wrong content: the text is not there"),
        (Workload::Small, "bytes=2048&cut_at=100", "truncated"),
        (Workload::Small, "status=503", "status 503"),
        (Workload::Small, "close_before_headers", "truncated"),
        (Workload::Stream, "events=99", "wrong content: events are missing"),
        (Workload::Stream, "events=100&cut_at_event=50", "truncated"),
        (Workload::Stream, "events=100&clean_end_at_event=100", "wrong content: no [DONE]"),
        (Workload::Stream, "events=100&bytes=5000", "wrong content: an event is not the one"),
    ];
    for (workload, behaviour, failure) in cases {
        let report = report(workload, behaviour, None).await;
        assert_eq!((report.requests, report.errors), (10, 10), "{behaviour}: {report}");
        assert!(report.failures.keys().all(|kind| kind.starts_with(failure)), "{report}");
    }
}
