//! The table as a whole, for a person to read, and what must hold for any row of it.

use proptest::prelude::*;

use super::*;

const WAIT: Option<Duration> = Some(Duration::from_secs(7));

fn kinds() -> Vec<Failure> {
    vec![
        Failure::Dns,
        Failure::Connect,
        Failure::ConnectTimeout,
        Failure::Tls,
        Failure::Unsent,
        Failure::Reset,
        Failure::MalformedHead,
        Failure::HeadersTimeout,
        Failure::FirstTokenTimeout,
        Failure::IdleTimeout,
        Failure::TotalTimeout,
        Failure::Shutdown,
        Failure::BadBody,
        Failure::EventTooLarge,
    ]
}

fn statuses() -> Vec<Failure> {
    let statuses = [
        101, 304, 307, 400, 401, 402, 403, 404, 408, 409, 413, 422, 429, 499, 500, 501, 502, 503,
        504, 520, 529, 600,
    ];
    statuses.map(|status| Failure::Status { status, reason: None, retry_after: None }).to_vec()
}

fn early_errors() -> Vec<Failure> {
    let statuses = [None, Some(400), Some(401), Some(429), Some(500), Some(529)];
    statuses.map(|status| Failure::EarlyError { status, reason: None, retry_after: None }).to_vec()
}

fn line(failure: &Failure, stage: Stage, on: &FailoverOn) -> String {
    let name = match failure {
        Failure::Status { status, .. } => status.to_string(),
        Failure::EarlyError { status: Some(status), .. } => format!("early {status}"),
        Failure::EarlyError { status: None, .. } => "early ?".to_owned(),
        other => format!("{other:?}"),
    };
    let verdict = judge(failure, stage, Credential::Connections, on);
    let blame = match verdict.blame {
        Blame::Target { .. } => "target",
        Blame::Limit { .. } => "limit",
        Blame::Connection => "connection",
        Blame::Caller => "caller",
        Blame::Nobody => "nobody",
    };
    let billed = if verdict.is_maybe_billed { "maybe billed" } else { "" };
    let next = if verdict.fails_over { "next" } else { "stop" };
    let answer = format!("{:?}", verdict.answer);
    let line = format!("{name:<18} {:<20}{next}  {blame:<11}{answer:<11}{billed}", verdict.class);
    line.trim_end().to_owned() + "\n"
}

#[test]
fn table_with_the_default_set() {
    let on = FailoverOn::default();
    let failures = [kinds(), statuses(), early_errors()].concat();
    let table: String = failures.iter().map(|failure| line(failure, Stage::Held, &on)).collect();
    insta::assert_snapshot!(table, @r"
    Dns                dns                 next  target     Own(502)
    Connect            connect             next  target     Own(502)
    ConnectTimeout     connect_timeout     next  target     Own(504)
    Tls                tls                 next  target     Own(502)
    Unsent             unsent              next  target     Own(502)
    Reset              reset               next  target     Own(502)   maybe billed
    MalformedHead      malformed_head      next  target     Own(502)   maybe billed
    HeadersTimeout     headers_timeout     next  target     Own(504)   maybe billed
    FirstTokenTimeout  first_token_timeout next  target     Own(504)   maybe billed
    IdleTimeout        idle_timeout        next  target     Own(504)   maybe billed
    TotalTimeout       total_timeout       stop  nobody     Own(504)   maybe billed
    Shutdown           gateway_shutdown    stop  nobody     Own(503)   maybe billed
    BadBody            bad_body            stop  target     Own(502)   maybe billed
    EventTooLarge      event_too_large     stop  nobody     Own(502)   maybe billed
    101                unexpected_status   stop  target     Own(502)
    304                redirect            stop  target     Own(502)
    307                redirect            stop  target     Own(502)
    400                client_error        stop  caller     Upstreams
    401                upstream_auth       next  connection Own(502)
    402                upstream_billing    next  connection Own(502)
    403                upstream_auth       next  connection Own(502)
    404                client_error        stop  caller     Upstreams
    408                upstream_timeout    next  target     Upstreams
    409                client_error        stop  caller     Upstreams
    413                client_error        stop  caller     Upstreams
    422                client_error        stop  caller     Upstreams
    429                rate_limited        next  limit      Upstreams
    499                client_error        stop  caller     Upstreams
    500                server_error        next  target     Upstreams
    501                not_implemented     stop  caller     Upstreams
    502                server_error        next  target     Upstreams
    503                server_error        next  target     Upstreams
    504                upstream_timeout    next  target     Upstreams
    520                server_error        stop  target     Upstreams
    529                overloaded          next  limit      Upstreams
    600                unexpected_status   stop  target     Own(502)
    early ?            early_error         next  target     Upstreams
    early 400          early_error         stop  caller     Upstreams
    early 401          early_error         next  connection Own(502)
    early 429          early_error         next  limit      Upstreams
    early 500          early_error         next  target     Upstreams
    early 529          early_error         next  limit      Upstreams
    ");
}

#[test]
fn table_when_nothing_may_fail_over() {
    let on = FailoverOn::new(&[], &[]);
    let failures = [kinds(), statuses(), early_errors()].concat();
    let table: String = failures.iter().map(|failure| line(failure, Stage::Held, &on)).collect();
    insta::assert_snapshot!(table, @r"
    Dns                dns                 stop  target     Own(502)
    Connect            connect             stop  target     Own(502)
    ConnectTimeout     connect_timeout     stop  target     Own(504)
    Tls                tls                 stop  target     Own(502)
    Unsent             unsent              stop  target     Own(502)
    Reset              reset               stop  target     Own(502)   maybe billed
    MalformedHead      malformed_head      stop  target     Own(502)   maybe billed
    HeadersTimeout     headers_timeout     stop  target     Own(504)   maybe billed
    FirstTokenTimeout  first_token_timeout stop  target     Own(504)   maybe billed
    IdleTimeout        idle_timeout        stop  target     Own(504)   maybe billed
    TotalTimeout       total_timeout       stop  nobody     Own(504)   maybe billed
    Shutdown           gateway_shutdown    stop  nobody     Own(503)   maybe billed
    BadBody            bad_body            stop  target     Own(502)   maybe billed
    EventTooLarge      event_too_large     stop  nobody     Own(502)   maybe billed
    101                unexpected_status   stop  target     Own(502)
    304                redirect            stop  target     Own(502)
    307                redirect            stop  target     Own(502)
    400                client_error        stop  caller     Upstreams
    401                upstream_auth       next  connection Own(502)
    402                upstream_billing    next  connection Own(502)
    403                upstream_auth       next  connection Own(502)
    404                client_error        stop  caller     Upstreams
    408                upstream_timeout    stop  target     Upstreams
    409                client_error        stop  caller     Upstreams
    413                client_error        stop  caller     Upstreams
    422                client_error        stop  caller     Upstreams
    429                rate_limited        stop  limit      Upstreams
    499                client_error        stop  caller     Upstreams
    500                server_error        stop  target     Upstreams
    501                not_implemented     stop  caller     Upstreams
    502                server_error        stop  target     Upstreams
    503                server_error        stop  target     Upstreams
    504                upstream_timeout    stop  target     Upstreams
    520                server_error        stop  target     Upstreams
    529                overloaded          stop  limit      Upstreams
    600                unexpected_status   stop  target     Own(502)
    early ?            early_error         stop  target     Upstreams
    early 400          early_error         stop  caller     Upstreams
    early 401          early_error         next  connection Own(502)
    early 429          early_error         stop  limit      Upstreams
    early 500          early_error         stop  target     Upstreams
    early 529          early_error         stop  limit      Upstreams
    ");
}

#[test]
fn retry_after_reaches_the_breaker() {
    let on = FailoverOn::default();
    for (status, expected) in [
        (429, Outcome::Limited { retry_after: WAIT }),
        (529, Outcome::Limited { retry_after: WAIT }),
        (503, Outcome::Failure { retry_after: WAIT }),
        (500, Outcome::Failure { retry_after: WAIT }),
        (307, Outcome::Failure { retry_after: None }),
        (400, Outcome::Uncounted),
        (401, Outcome::Uncounted),
    ] {
        let failure = Failure::Status { status, reason: None, retry_after: WAIT };
        assert_eq!(
            judge(&failure, Stage::Held, Credential::Connections, &on).outcome(),
            expected,
            "{status}"
        );
    }
}

#[test]
fn other_statuses_fail_over_when_the_deployment_says_so() {
    let on = FailoverOn::new(&[], &[404, 400]);
    for (status, fails_over) in [(400, true), (404, true), (500, false)] {
        let failure = Failure::Status { status, reason: None, retry_after: None };
        assert_eq!(
            judge(&failure, Stage::Held, Credential::Connections, &on).fails_over,
            fails_over,
            "{status}"
        );
    }
}

#[test]
fn nothing_is_tried_again_after_content_and_blame_stays() {
    let on = FailoverOn::default();
    for failure in [kinds(), statuses(), early_errors()].concat() {
        let held = judge(&failure, Stage::Held, Credential::Connections, &on);
        let committed = judge(&failure, Stage::Committed, Credential::Connections, &on);
        let expected =
            Verdict { fails_over: false, answer: Answer::Cut, is_maybe_billed: false, ..held };
        assert_eq!(committed, expected, "{failure:?}");
    }
}

#[test]
fn refusal_of_the_callers_own_credential_is_the_callers() {
    let on = FailoverOn::default();
    for status in [401, 402, 403] {
        let failure = Failure::Status { status, reason: None, retry_after: None };
        let verdict = judge(&failure, Stage::Held, Credential::Callers, &on);
        assert_eq!((verdict.fails_over, verdict.answer), (false, Answer::Upstreams));
        assert_eq!((verdict.blame, verdict.class), (Blame::Caller, "client_error"));
        let failure = Failure::EarlyError { status: Some(status), reason: None, retry_after: None };
        let verdict = judge(&failure, Stage::Held, Credential::Callers, &on);
        assert_eq!((verdict.blame, verdict.answer), (Blame::Caller, Answer::Upstreams));
    }
}

/// A body that says more than its status is judged by what it says.
#[test]
fn reason_counts_more_than_the_status() {
    let on = FailoverOn::default();
    let mut table = String::new();
    for reason in Reason::ALL {
        let failure = Failure::Status { status: 400, reason: Some(reason), retry_after: None };
        table += &format!("{:<15}", reason.name());
        table += &line(&failure, Stage::Held, &on);
        let early = Failure::EarlyError { status: None, reason: Some(reason), retry_after: None };
        let held = judge(&failure, Stage::Held, Credential::Connections, &on);
        let event = judge(&early, Stage::Held, Credential::Connections, &on);
        assert_eq!((event.blame, event.answer), (held.blame, held.answer), "{reason:?}");
    }
    insta::assert_snapshot!(table, @r"
    credential     400                upstream_auth       next  connection Own(502)
    billing        400                upstream_billing    next  connection Own(502)
    rate limit     400                rate_limited        next  limit      Upstreams
    overload       400                overloaded          next  limit      Upstreams
    fault          400                server_error        next  target     Upstreams
    context length 400                context_length      stop  caller     Upstreams
    content filter 400                content_filter      stop  caller     Upstreams
    ");
}

#[test]
fn reason_about_the_callers_own_account_is_the_callers() {
    for reason in [Reason::Credential, Reason::Billing] {
        let failure = Failure::Status { status: 429, reason: Some(reason), retry_after: None };
        let verdict = judge(&failure, Stage::Held, Credential::Callers, &FailoverOn::default());
        assert_eq!((verdict.blame, verdict.class), (Blame::Caller, "client_error"));
        assert_eq!(verdict.answer, Answer::Upstreams);
    }
}

proptest! {
    #[test]
    fn any_status_has_a_meaning(status: u16, causes in 0_u8..16, listed: Vec<u16>) {
        let on = FailoverOn { causes, ..FailoverOn::new(&[], &listed) };
        let failure = Failure::Status { status, reason: None, retry_after: None };
        let verdict = judge(&failure, Stage::Held, Credential::Connections, &on);
        // A redirect is never followed or passed on, and a provider's refusal of our credential never
        // reaches the client.
        let is_ours = !(400..600).contains(&status) || (401..=403).contains(&status);
        let expected = if is_ours { Answer::Own(502) } else { Answer::Upstreams };
        prop_assert_eq!(verdict.answer, expected);
        prop_assert!(verdict.fails_over || !on.has_status(status));
    }
}
