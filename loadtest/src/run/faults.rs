//! Faults of the mock, set and taken back as the scenario has them.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::url::Url;
use crate::mock::Behaviour;
use crate::scenario::Fault;

/// What to tell the mock, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) at: Duration,
    /// JSON for the mock's call.
    body: String,
    pub(super) text: String,
}

/// The steps of a scenario, in order.
pub(super) fn steps(faults: &[Fault]) -> Vec<Step> {
    let mut steps: Vec<Step> = faults
        .iter()
        .flat_map(|fault| {
            let members = Behaviour::members(&fault.behaviour).unwrap_or_default();
            let at = |seconds: f64| Duration::from_secs_f64(seconds.max(0.0));
            [
                Step {
                    at: at(fault.at_s),
                    body: serde_json::Value::from(members).to_string(),
                    text: format!("the mock: {}", fault.behaviour),
                },
                Step {
                    at: at(fault.at_s + fault.for_s),
                    body: "null".to_owned(),
                    text: "the mock: no faults".to_owned(),
                },
            ]
        })
        .collect();
    steps.sort_by_key(|step| step.at);
    steps
}

/// Tells the mock.
pub(super) async fn take(mock: &Url, step: &Step) -> io::Result<()> {
    let mut stream = TcpStream::connect(mock.addresses.as_slice()).await?;
    let request = format!(
        "POST /_mock/faults HTTP/1.1\r\nhost: {}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{}",
        mock.authority,
        step.body.len(),
        step.body
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    if answer.starts_with(b"HTTP/1.1 200") {
        Ok(())
    } else {
        let text = format!("the mock refuses a fault: {}", String::from_utf8_lossy(&answer));
        Err(io::Error::other(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_begin_and_end() {
        let fault = |at_s, text: &str| Fault { at_s, for_s: 2.0, behaviour: text.to_owned() };
        let steps = steps(&[fault(5.0, "status=503&error_rate=0.5"), fault(1.0, "headers_ms=9")]);
        let told: Vec<_> = steps
            .iter()
            .map(|step| {
                (step.at.as_secs(), serde_json::from_str::<serde_json::Value>(&step.body).unwrap())
            })
            .collect();
        let wanted = [
            (1, serde_json::json!({"headers_ms": 9})),
            (3, serde_json::Value::Null),
            (5, serde_json::json!({"error_rate": 0.5, "status": 503})),
            (7, serde_json::Value::Null),
        ];
        assert_eq!(told, wanted);
    }
}
