//! Lookups by script, in paused time.

use std::sync::atomic::AtomicUsize;

use super::*;

const MINUTE: Duration = Duration::from_mins(1);

/// Answers what it was last told to.
#[derive(Clone)]
struct Script(Arc<State>);

struct State {
    /// `None` fails; an address may be `hang`.
    answer: Mutex<Option<Vec<&'static str>>>,
    n_lookups: AtomicUsize,
    n_running: AtomicUsize,
    n_running_max: AtomicUsize,
    takes: Duration,
}

#[async_trait]
impl Lookup for Script {
    async fn lookup(&self, _host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        let state = &self.0;
        state.n_lookups.fetch_add(1, Ordering::SeqCst);
        let n_running = state.n_running.fetch_add(1, Ordering::SeqCst) + 1;
        state.n_running_max.fetch_max(n_running, Ordering::SeqCst);
        sleep(state.takes).await;
        state.n_running.fetch_sub(1, Ordering::SeqCst);
        let answer = state.answer.lock().unwrap().clone();
        let ips = answer.ok_or_else(|| io::Error::other("SERVFAIL"))?;
        if ips == ["hang"] {
            pending::<()>().await;
        }
        Ok(ips.into_iter().map(|ip| SocketAddr::new(ip.parse().unwrap(), port)).collect())
    }
}

struct Test {
    script: Script,
    resolver: Arc<Resolver>,
    metrics: Arc<Metrics>,
    _shutdown: watch::Sender<bool>,
}

impl Test {
    fn start(answer: Option<Vec<&'static str>>, takes: Duration) -> Self {
        let script = Script(Arc::new(State {
            answer: Mutex::new(answer),
            n_lookups: AtomicUsize::new(0),
            n_running: AtomicUsize::new(0),
            n_running_max: AtomicUsize::new(0),
            takes,
        }));
        let allow_networks =
            vec![IpNetwork { address: "127.0.0.0".parse().unwrap(), prefix_len: 8 }];
        let config = ResolverConfig { refresh: 30 * SECOND, stale_max: STALE_MAX, allow_networks };
        let metrics = Arc::new(Metrics::default());
        let resolver = Arc::new(Resolver::new(script.clone(), config, Arc::clone(&metrics)));
        let (shutdown, signal) = watch::channel(false);
        tokio::spawn(Arc::clone(&resolver).run(signal));
        Self { script, resolver, metrics, _shutdown: shutdown }
    }

    fn answer(&self, answer: Option<Vec<&'static str>>) {
        *self.script.0.answer.lock().unwrap() = answer;
    }

    fn n_lookups(&self) -> usize {
        self.script.0.n_lookups.load(Ordering::SeqCst)
    }
}

const SECOND: Duration = Duration::from_secs(1);
const INSTANT: Duration = Duration::ZERO;

fn ips(name: &Name) -> Result<Vec<String>, NoAddress> {
    match name.addresses(now()) {
        Addresses::Known(list) => Ok(list.iter().map(ToString::to_string).collect()),
        Addresses::Unusable(why) => Err(why),
    }
}

#[tokio::test(start_paused = true)]
async fn first_users_wait_together_for_one_lookup() {
    let test = Test::start(Some(vec!["9.9.9.9", "8.8.8.8", "9.9.9.9"]), SECOND / 10);
    let name = test.resolver.handle("api.example", 443);
    assert_eq!(ips(&name), Err(NoAddress::Unresolved));
    let begin = Instant::now();
    let users = (0..100).map(|_| {
        let name = test.resolver.handle("API.example.", 443);
        tokio::spawn(async move {
            name.resolved(SECOND).await;
            ips(&name).unwrap()
        })
    });
    let users: Vec<_> = users.collect();
    for user in users {
        assert_eq!(user.await.unwrap(), ["8.8.8.8:443", "9.9.9.9:443"]);
    }
    assert!(begin.elapsed() < SECOND / 5);
    assert_eq!(test.n_lookups(), 1);
    name.resolved(SECOND).await;
    assert!(begin.elapsed() < SECOND / 5);
}

#[tokio::test(start_paused = true)]
async fn all_addresses_have_their_turn() {
    let test = Test::start(Some(vec!["1.1.1.1", "1.1.1.2", "1.1.1.3"]), INSTANT);
    let name = test.resolver.handle("api.example", 80);
    name.resolved(SECOND).await;
    let turns: Vec<_> = (0..4).map(|n| name.pick(now(), n).unwrap().ip().to_string()).collect();
    assert_eq!(turns, ["1.1.1.1", "1.1.1.2", "1.1.1.3", "1.1.1.1"]);
    assert!(name.pick(now(), usize::MAX).is_ok());
}

#[tokio::test(start_paused = true)]
async fn failing_first_lookup_lets_users_go_at_once() {
    let test = Test::start(None, INSTANT);
    let name = test.resolver.handle("api.example", 443);
    let begin = Instant::now();
    name.resolved(SECOND).await;
    assert!(begin.elapsed() < SECOND / 10);
    assert_eq!(ips(&name), Err(NoAddress::Unresolved));

    test.answer(Some(vec!["1.1.1.1"]));
    sleep(SECOND * 2).await; // Tried again long before the refresh.
    assert_eq!(ips(&name).unwrap(), ["1.1.1.1:443"]);
    assert_eq!(test.metrics.dns_lookups.get(LookupResult::Failed), 1);
    assert_eq!(test.metrics.dns_lookups.get(LookupResult::Ok), 1);
}

#[tokio::test(start_paused = true)]
async fn hanging_lookup_holds_a_user_for_its_limit_only() {
    let test = Test::start(Some(vec!["hang"]), INSTANT);
    let name = test.resolver.handle("api.example", 443);
    let begin = Instant::now();
    name.resolved(SECOND).await;
    assert!((SECOND..SECOND * 2).contains(&begin.elapsed()));
    assert_eq!(ips(&name), Err(NoAddress::Unresolved));
    test.answer(Some(vec!["1.1.1.1"]));
    sleep(LOOKUP_MAX + 2 * SECOND).await;
    assert_eq!(ips(&name).unwrap(), ["1.1.1.1:443"]);
}

#[tokio::test(start_paused = true)]
async fn answer_is_refreshed_and_served_stale_for_an_hour() {
    let test = Test::start(Some(vec!["1.1.1.1"]), INSTANT);
    let name = test.resolver.handle("api.example", 443);
    name.resolved(SECOND).await;
    test.answer(Some(vec!["2.2.2.2"]));
    sleep(34 * SECOND).await;
    assert_eq!(ips(&name).unwrap(), ["2.2.2.2:443"]);

    test.answer(None);
    sleep(MINUTE * 58).await;
    assert_eq!(ips(&name).unwrap(), ["2.2.2.2:443"]);
    sleep(MINUTE * 3).await;
    assert_eq!(ips(&name), Err(NoAddress::Unresolved));

    test.answer(Some(vec!["3.3.3.3"]));
    sleep(34 * SECOND).await;
    assert_eq!(ips(&name).unwrap(), ["3.3.3.3:443"]);
}

#[tokio::test(start_paused = true)]
async fn rebinding_name_never_shows_a_forbidden_address() {
    let test = Test::start(Some(vec!["1.1.1.1"]), INSTANT);
    let name = test.resolver.handle("api.example", 443);
    name.resolved(SECOND).await;
    for _ in 0..1000 {
        for (answer, expected) in [
            (vec!["10.0.0.1"], Err(NoAddress::Forbidden)),
            (vec!["::1", "1.1.1.1", "::ffff:10.0.0.1"], Ok(vec!["1.1.1.1:443".to_owned()])),
            (vec!["169.254.169.254", "fd00:ec2::254"], Err(NoAddress::Forbidden)),
            (vec!["127.0.0.1"], Ok(vec!["127.0.0.1:443".to_owned()])),
        ] {
            test.answer(Some(answer));
            sleep(34 * SECOND).await;
            assert_eq!(ips(&name), expected);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn addresses_and_impossible_names_are_never_looked_up() {
    let test = Test::start(Some(vec!["1.1.1.1"]), INSTANT);
    for (host, expected) in [
        ("8.8.8.8", Ok(vec!["8.8.8.8:443".to_owned()])),
        ("2606:4700::1111", Ok(vec!["[2606:4700::1111]:443".to_owned()])),
        ("127.0.0.1", Ok(vec!["127.0.0.1:443".to_owned()])),
        ("10.0.0.1", Err(NoAddress::Forbidden)),
        ("::1", Err(NoAddress::Forbidden)),
        ("2130706433", Err(NoAddress::Unresolved)),
        ("0x7f.1", Err(NoAddress::Unresolved)),
    ] {
        let name = test.resolver.handle(host, 443);
        name.resolved(SECOND).await;
        assert_eq!(ips(&name), expected, "{host}");
    }
    sleep(MINUTE).await;
    assert_eq!(test.n_lookups(), 0);
}

#[tokio::test(start_paused = true)]
async fn unused_name_is_forgotten() {
    let test = Test::start(Some(vec!["1.1.1.1"]), INSTANT);
    let name = test.resolver.handle("api.example", 443);
    name.resolved(SECOND).await;
    drop(name);
    sleep(MINUTE * 5).await;
    assert_eq!(test.n_lookups(), 1);
    assert!(test.resolver.names.lock().unwrap().by_host.is_empty());
    let name = test.resolver.handle("api.example", 443);
    name.resolved(SECOND).await;
    assert_eq!(ips(&name).unwrap(), ["1.1.1.1:443"]);
}

#[tokio::test(start_paused = true)]
async fn many_names_are_looked_up_a_few_at_a_time() {
    let test = Test::start(Some(vec!["1.1.1.1"]), SECOND / 10);
    let names: Vec<_> = (0..200).map(|n| test.resolver.handle(&format!("host-{n}"), 443)).collect();
    for name in &names {
        name.resolved(MINUTE).await;
        assert!(ips(name).is_ok());
    }
    assert_eq!(test.n_lookups(), 200);
    assert_eq!(test.script.0.n_running_max.load(Ordering::SeqCst), LOOKUPS_MAX);
}

#[tokio::test]
async fn system_knows_localhost() {
    let found = SystemLookup.lookup("localhost", 80).await.unwrap();
    assert!(found.iter().all(|address| address.ip().is_loopback()));
}
