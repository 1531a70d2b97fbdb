//! How often a request is tried at most, and how many attempts all requests make together.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use loadtest::mock::Mock;
use tokio::time::interval;

use super::{NO_BREAKER, two_mocks, without_breaker};
use crate::harness::{Builder, TargetSpec, TestGateway, behaviour, deployment, target};

async fn three_mocks() -> [Mock; 3] {
    [Mock::start().await.unwrap(), Mock::start().await.unwrap(), Mock::start().await.unwrap()]
}

/// Targets that share the requests.
fn sharing<'a>(mocks: &'a [Mock], models: &[&'a str]) -> Vec<TargetSpec<'a>> {
    let specs = mocks.iter().zip(models);
    specs.map(|(mock, model)| TargetSpec { fields: "weight = 1", ..target(mock, model) }).collect()
}

fn calls(mocks: &[Mock]) -> usize {
    mocks.iter().map(|mock| mock.journal().len()).sum()
}

/// One fifth of the requests, ten a second, and ten to begin with.
fn calls_max(requests: usize, took: Duration) -> usize {
    let seconds = usize::try_from(took.as_millis().div_ceil(1000)).unwrap();
    requests + requests / 5 + 10 * seconds + 10
}

/// 500 requests, and every target fails: without breakers only the budget stands in the way.
#[tokio::test]
async fn retries_of_a_total_outage_stay_within_the_budget() {
    let mocks = three_mocks().await;
    let targets = sharing(&mocks, &["sim?status=503"; 3]);
    let gateway = without_breaker(&targets, "").await;

    let began = Instant::now();
    for _ in 0..50 {
        for answer in join_all((0..10).map(|_| gateway.chat(""))).await {
            assert_eq!(answer.status, 503);
            assert_eq!(answer.header("x-should-retry"), Some("false"));
        }
    }
    let most = calls_max(500, began.elapsed());

    let calls = calls(&mocks);
    assert!((550..=most).contains(&calls), "{calls} calls for 500 requests, {most} at most");
    assert!(0.0 < gateway.metric("sluice_retry_budget_exhausted_total"));
    gateway.stop().await;
}

/// The same with breakers as they are by default.
#[tokio::test]
async fn breakers_spare_providers_in_a_total_outage() {
    let mocks = three_mocks().await;
    let targets = sharing(&mocks, &["sim?status=503"; 3]);
    let gateway = TestGateway::start(&targets).await;

    for _ in 0..50 {
        for answer in join_all((0..10).map(|_| gateway.chat(""))).await {
            assert_eq!(answer.status, 503);
        }
    }

    // Five failures each, the requests in flight meanwhile, and a probe now and then.
    let calls = calls(&mocks);
    assert!(calls <= 60, "{calls} calls");
    gateway.stop().await;
}

/// Three in ten requests fail at two of three targets: 1,000 requests at 200 a second.
#[tokio::test]
async fn failing_share_of_two_targets_is_not_seen() {
    let mocks = three_mocks().await;
    let gateway = TestGateway::start(&sharing(&mocks, &["sim", "sim", "sim"])).await;
    for mock in mocks.iter().take(2) {
        mock.set_default(behaviour("error_rate=0.3"));
    }
    let mut pace = interval(Duration::from_millis(50));
    let mut failed = 0;

    let began = Instant::now();
    for _ in 0..100 {
        pace.tick().await;
        let answers = join_all((0..10).map(|_| gateway.chat(""))).await;
        failed += answers.iter().filter(|answer| answer.status != 200).count();
    }
    let most = calls_max(1_000, began.elapsed());

    assert!(failed <= 1, "{failed} of 1,000 failed");
    let calls = calls(&mocks);
    assert!((1_100..=most).contains(&calls), "{calls} calls for 1,000 requests, {most} at most");
    gateway.stop().await;
}

#[tokio::test]
async fn target_is_tried_again_where_the_deployment_says_so() {
    let (flaky, next) = two_mocks().await;
    let targets = [target(&flaky, "sim"), target(&next, "sim")];
    let gateway = without_breaker(&targets, "failover = { retries = 2 }").await;
    flaky.script(vec![behaviour("status=503"), behaviour("status=500")]);

    let answer = gateway.chat("").await;

    assert_eq!((answer.status, answer.header("x-sluice-attempts")), (200, Some("3")));
    assert_eq!(answer.header("x-sluice-model"), Some("m0"));
    assert_eq!((flaky.journal().len(), next.journal().len()), (3, 0));
    assert_eq!(gateway.metric("sluice_retries_total"), 2.0);
    assert_eq!(gateway.metric("sluice_failovers_total"), 0.0);
    let row = gateway.row().await;
    assert_eq!(row["attempts"].as_array().unwrap().len(), 3);
    gateway.stop().await;
}

/// To retry after 10 s what can be asked elsewhere now makes no sense.
#[tokio::test]
async fn target_that_says_when_to_come_back_is_not_tried_again_at_once() {
    let (limited, next) = two_mocks().await;
    let targets = [target(&limited, "sim?status=429&retry_after=10"), target(&next, "sim")];
    let gateway = without_breaker(&targets, "failover = { retries = 2 }").await;

    let answer = gateway.chat("").await;

    assert_eq!((answer.status, answer.header("x-sluice-attempts")), (200, Some("2")));
    assert_eq!((limited.journal().len(), next.journal().len()), (1, 1));
    gateway.stop().await;
}

/// The waits are random, up to 50, 100, 200, … ms: of 20 requests with 4 retries some take long, and
/// none takes longer than all its waits together.
#[tokio::test]
async fn retries_back_off() {
    let mock = Mock::start().await.unwrap();
    let fields = format!("{NO_BREAKER}\nfailover = {{ retries = 4, max_attempts = 5 }}");
    let targets = [target(&mock, "sim?status=503")];
    let gateway = Builder::new(&deployment(&targets, &fields)).start().await;
    // Two requests in a row fit into the budget that there is at the beginning.
    let mut waited = Duration::ZERO;
    for _ in 0..2 {
        let asked = Instant::now();
        let answer = gateway.chat("").await;
        let took = asked.elapsed();
        assert_eq!((answer.status, answer.header("x-sluice-attempts")), (503, Some("5")));
        assert!(took < Duration::from_millis(50 + 100 + 200 + 400 + 500), "{took:?}");
        waited += took;
    }

    assert!(Duration::from_millis(60) < waited, "no waiting at all: {waited:?}");
    gateway.stop().await;
}

#[tokio::test]
async fn no_request_makes_more_than_max_attempts() {
    let mocks = three_mocks().await;
    let targets: Vec<_> = mocks.iter().map(|mock| target(mock, "sim?status=503")).collect();
    for (max_attempts, expected) in [(1, [1, 0, 0]), (2, [1, 1, 0]), (9, [1, 1, 1])] {
        let fields = format!("failover = {{ max_attempts = {max_attempts} }}");
        let gateway = without_breaker(&targets, &fields).await;

        let answer = gateway.chat("").await;

        assert_eq!(answer.status, 503);
        let seen: Vec<_> = mocks.iter().map(|mock| mock.journal().len()).collect();
        assert_eq!(seen, expected, "max_attempts = {max_attempts}");
        for mock in &mocks {
            mock.clear_journal();
        }
        gateway.stop().await;
    }
}

#[tokio::test]
async fn three_attempts_are_made_by_default() {
    let mocks = [
        Mock::start().await.unwrap(),
        Mock::start().await.unwrap(),
        Mock::start().await.unwrap(),
        Mock::start().await.unwrap(),
    ];
    let targets: Vec<_> = mocks.iter().map(|mock| target(mock, "sim?status=503")).collect();
    let gateway = without_breaker(&targets, "").await;

    let answer = gateway.chat("").await;

    assert_eq!((answer.status, answer.header("x-sluice-attempts")), (503, Some("3")));
    assert_eq!((calls(&mocks), mocks[3].journal().len()), (3, 0));
    gateway.stop().await;
}
