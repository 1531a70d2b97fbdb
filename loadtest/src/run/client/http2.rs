//! HTTP/2: clients that share connections, each with one stream at a time.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::SendRequest;
use http::{Method, Request};

use super::super::check::Seen;
use super::super::failure::Failure;
use super::super::requests::{Ask, Requests};
use super::connect::Connector;

/// Windows large enough that no answer waits for an update.
const WINDOW_BYTES: u32 = 8 * 1024 * 1024;

/// A connection that several clients send on.
pub(in crate::run) struct Shared {
    connector: Arc<Connector>,
    sender: Mutex<Option<SendRequest<Bytes>>>,
}

pub(in crate::run) struct Client {
    shared: Arc<Shared>,
}

impl Shared {
    pub(in crate::run) fn new(connector: Arc<Connector>) -> Self {
        Self { connector, sender: Mutex::new(None) }
    }

    fn kept(&self) -> Option<SendRequest<Bytes>> {
        self.sender.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn keep(&self, sender: Option<SendRequest<Bytes>>) {
        *self.sender.lock().unwrap_or_else(PoisonError::into_inner) = sender;
    }

    async fn sender(&self) -> Result<SendRequest<Bytes>, Failure> {
        if let Some(sender) = self.kept()
            && let Ok(ready) = sender.ready().await
        {
            return Ok(ready);
        }
        let socket = self.connector.connect().await;
        let socket = socket.map_err(|error| Failure::Connect(error.kind()))?;
        let (sender, connection) = h2::client::Builder::new()
            .initial_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            .handshake(socket)
            .await
            .map_err(|error| broken(&error))?;
        // Its failure is told to the streams that are on it.
        tokio::spawn(async move { drop(connection.await) });
        let sender = sender.ready().await.map_err(|error| broken(&error))?;
        self.keep(Some(sender.clone()));
        Ok(sender)
    }
}

impl Client {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    pub(super) async fn exchange(
        &mut self,
        requests: &Requests,
        ask: &Ask,
        time_max: Duration,
        seen: &mut Seen,
    ) -> Result<(), Failure> {
        let exchanged =
            tokio::time::timeout(time_max, self.try_exchange(requests, ask, seen)).await;
        let result = exchanged.unwrap_or(Err(Failure::Late));
        if matches!(result, Err(Failure::Broken(_))) {
            self.shared.keep(None);
        }
        result
    }

    async fn try_exchange(
        &mut self,
        requests: &Requests,
        ask: &Ask,
        seen: &mut Seen,
    ) -> Result<(), Failure> {
        let mut sender = self.shared.sender().await?;
        let body = requests.body(ask);
        let whole = Bytes::from([body.start, body.filler, body.end].concat());
        let head = self.head(requests, ask)?;
        let (response, mut sending) =
            sender.send_request(head, false).map_err(|error| broken(&error))?;
        sending.send_data(whole, true).map_err(|error| broken(&error))?;
        let response = response.await.map_err(|error| broken(&error))?;
        if response.status() != 200 {
            return Err(Failure::Status(response.status().as_u16()));
        }
        let mut checker = requests.expected(ask).checker();
        let mut incoming = response.into_body();
        while let Some(data) = incoming.data().await {
            let Ok(data) = data else {
                return Err(checker.cut(Failure::Truncated("the stream was reset in the body")));
            };
            checker.feed(&data, Instant::now(), seen)?;
            // The stream may be gone already; its end says so.
            drop(incoming.flow_control().release_capacity(data.len()));
        }
        checker.end()
    }

    fn head(&self, requests: &Requests, ask: &Ask) -> Result<Request<()>, Failure> {
        let url = self.shared.connector.url();
        let scheme = if url.is_tls { "https" } else { "http" };
        let kind = requests.kind(ask);
        let mut head = Request::builder()
            .method(Method::POST)
            .uri(format!("{scheme}://{}{}", url.authority, kind.path))
            .header("content-type", "application/json");
        for (name, value) in requests.more_fields(ask) {
            head = head.header(name, value);
        }
        if let Some(key) = requests.key(ask) {
            let auth = requests.auth(ask);
            head = head.header(auth.name, format!("{}{key}", auth.prefix));
        }
        head.body(()).map_err(|_| Failure::Malformed("our own request"))
    }
}

fn broken(error: &h2::Error) -> Failure {
    Failure::Broken(
        error.get_io().map_or(std::io::ErrorKind::ConnectionReset, std::io::Error::kind),
    )
}
