//! Faults that are planted in an otherwise healthy server: each must be found, and turn the exit
//! code.

use crate::program::{Done, scenario};

const WRONG_ANSWERS: i32 = 4;
const LIMIT_BROKEN: i32 = 3;

/// So many streams of each dialect, while the server has `fault`.
fn streams(requests: u32, fault: &str, limits: &str) -> Done {
    let mix = |dialect: &str| {
        format!(
            "[[mix]]\nname = \"{dialect}\"\ndialect = \"{dialect}\"\nstream = 1\n\
             model = \"sim?events=6\"\nscript = \"sim?events=6\"\n"
        )
    };
    run(&["chat", "responses", "messages"].map(mix).concat(), requests, fault, limits)
}

fn run(mix: &str, requests: u32, fault: &str, limits: &str) -> Done {
    let fault = match fault {
        "" => String::new(),
        fault => format!("[[faults]]\nat_s = 0\nfor_s = 1000\nbehaviour = \"{fault}\"\n"),
    };
    // The first requests may be there before the fault is.
    let text = format!(
        "name = \"planted\"\n{mix}\n{fault}\n\
         [[phases]]\nname = \"before\"\nseconds = 0.5\nconcurrency = 1\ncounted = false\n\
         [[phases]]\nname = \"all\"\nrequests = {requests}\nconcurrency = 8\n\
         [limits]\n{limits}"
    );
    scenario(&text, &["--quiet"])
}

#[test]
fn healthy_server_passes() {
    let done = streams(600, "", "");
    assert_eq!((done.code, done.outcome()), (0, "passed"), "{}", done.stdout);
    assert_eq!(done.report["requests"].as_u64(), Some(600));
    assert_eq!(done.report["streams"].as_u64(), Some(600));
}

#[test]
fn one_truncated_stream_in_many_is_found() {
    for (fault, part) in [
        ("cut_at_event=3&every=1000", "truncated: the connection ended"),
        ("reset_at_event=3&every=1000", "truncated: the connection broke"),
        ("clean_end_at_event=6&every=1000", "truncated: a proper end, but too early"),
        ("no_terminal&every=1000", "truncated: a proper end, but too early"),
    ] {
        let done = streams(3_000, fault, "");
        assert_eq!((done.code, done.outcome()), (WRONG_ANSWERS, "wrong_answers"), "{fault}");
        assert!((2..=3).contains(&done.failures(part)), "{fault}: {}", done.stdout);
        assert!(!done.limit("truncated_max").1);
        assert!(done.limit("wrong_max").1);
    }
}

#[test]
fn events_out_of_order_twice_missing_or_changed_are_found() {
    for (fault, part) in [
        ("swap_at_event=2&every=100", "wrong: events are out of order"),
        ("repeat_event=2&every=100", "wrong: an event came twice"),
        ("drop_event=2&every=100", "wrong: an event is missing"),
        ("change_event=2&every=100", "wrong: an event is not the provider's"),
        ("malformed_event=2&every=100", "wrong: an event is not the provider's"),
    ] {
        let done = streams(600, fault, "");
        assert_eq!((done.code, done.outcome()), (WRONG_ANSWERS, "wrong_answers"), "{fault}");
        assert!((5..=6).contains(&done.failures(part)), "{fault}: {}", done.stdout);
        assert_eq!(done.report["wrong"], done.report["errors"], "{fault}");
    }
}

#[test]
fn changed_byte_of_a_whole_answer_is_found() {
    let mix = "[[mix]]\nname = \"whole\"\ndialect = \"chat\"\nmodel = \"sim?bytes=2048\"\n\
               script = \"sim?bytes=2048\"\n";
    let done = run(mix, 600, "change_event=0&every=100", "");
    assert_eq!(done.code, WRONG_ANSWERS, "{}", done.stdout);
    assert!((5..=6).contains(&done.failures("wrong: the body is not the provider's")));
}

#[test]
fn fifty_milliseconds_for_one_in_a_thousand_are_found() {
    let mix = "[[mix]]\nname = \"small\"\ndialect = \"chat\"\nmodel = \"sim\"\nscript = \"sim\"\n";
    let limits = "slow = { over_ms = 45, share_max = 0.0005 }\nlatency_ms = { \"p99.95\" = 45 }";
    let done = run(mix, 4_000, "headers_ms=50&every=1000", limits);
    assert_eq!((done.code, done.outcome()), (LIMIT_BROKEN, "limit_broken"), "{}", done.stdout);
    for name in ["slow.share_max", "latency_ms.p99.95"] {
        assert!(!done.limit(name).1, "{}", done.stdout);
    }
    assert_eq!(done.report["errors"].as_u64(), Some(0));
}

#[test]
fn events_held_together_are_found() {
    let mix = "[[mix]]\nname = \"paced\"\ndialect = \"chat\"\nstream = 1\n\
               model = \"sim?events=8&event_ms=20\"\nscript = \"sim?events=8&event_ms=20\"\n";
    let limits = "coalesced_rate_max = 0.5";
    let healthy = run(mix, 40, "", limits);
    assert_eq!(healthy.code, 0, "{}", healthy.stdout);
    let done = run(mix, 40, "merge_events=4", limits);
    assert_eq!((done.code, done.outcome()), (WRONG_ANSWERS, "wrong_answers"), "{}", done.stdout);
    let (rate, is_met) = done.limit("coalesced_rate_max");
    assert!(rate.unwrap() > 0.7 && !is_met);
}

#[test]
fn errors_are_told_apart_from_wrong_answers() {
    for (fault, part) in [
        ("error_mix=503:0.1", "status 503"),
        ("error_mix=close:0.1", "connection broke before the answer"),
        ("error_mix=cut:0.1", "truncated: the connection ended"),
        ("error_at_event=2&every=10", "an error event in the stream"),
        ("rate_limit=1", "status 429"),
    ] {
        let done = streams(200, fault, "");
        let code = if fault.contains("cut") { WRONG_ANSWERS } else { LIMIT_BROKEN };
        assert_eq!(done.code, code, "{fault}: {}", done.stdout);
        assert!(done.failures(part) >= 19, "{fault}: {}", done.stdout);
        assert_eq!(done.report["errors"].as_u64(), Some(done.failures(part)), "{}", done.stdout);
    }
}
