//! JSON logs on stderr: one line an event, through one redactor, never in the way.
//!
//! ```text
//! event -> fields, redacted and capped -> one line -> bounded queue -> writer thread -> stderr
//! ```
//!
//! A line that finds the queue full is dropped and counted, so a reader of stderr that stands still
//! stops no request. What other crates log is cut before anything that they quote of a peer.

use std::error::Error;
use std::fmt::{self, Write as _};
use std::io::{self, Write};
use std::panic::{self, PanicHookInfo};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_log::{LogTracer, NormalizeEvent as _, log::LevelFilter};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::{EnvFilter, Registry, filter, reload};

use crate::clock::{Clock, rfc3339};
use crate::telemetry::redact;

/// Lines that wait for the writer.
pub const QUEUE_LINES_MAX: usize = 8192;
/// Bytes that wait for the writer.
const QUEUE_BYTES_MAX: usize = 4 << 20;
/// The longest string of a line, after redacting.
const STRING_BYTES_MAX: usize = 2048;
/// No field is added to a line that is longer than this.
const LINE_BYTES_MAX: usize = 16 << 10;
/// How much of a value is formatted at all.
const VALUE_BYTES_MAX: usize = 64 << 10;
/// What is thrown away at the end of a value that was not formatted to its end: it could hold a
/// piece of a secret too short to be known as one.
const UNCERTAIN_BYTES: usize = 512;
/// What the writer joins into one write.
const WRITE_BYTES_MAX: usize = 64 << 10;
/// How long the last lines may take when the process ends.
const FLUSH_MAX: Duration = Duration::from_secs(1);

#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("invalid log filter: {0}")]
    Filter(#[from] filter::ParseError),
    #[error("logging is already set up")]
    AlreadySet,
    #[error("cannot start the thread that writes the log")]
    Thread(#[from] io::Error),
}

/// The process's log. Dropping it writes what still waits, for at most a second.
#[derive(Debug)]
pub struct LogHandle {
    filter: reload::Handle<EnvFilter, Registry>,
    queue: Queue,
}

/// Sends every event of the process, and every message through the `log` crate from `warn` upwards,
/// to stderr. `filter` is written as for `EnvFilter`: `info`, `info,sluice::proxy=debug`.
pub fn init(filter: &str) -> Result<LogHandle, LogError> {
    let (subscriber, handle) = subscriber(filter, io::stderr(), QUEUE_LINES_MAX)?;
    tracing::subscriber::set_global_default(subscriber).map_err(|_set| LogError::AlreadySet)?;
    // Pingora's messages below `warn` cost one comparison and nothing else.
    let bridge = LogTracer::builder().with_max_level(LevelFilter::Warn);
    bridge.init().map_err(|_set| LogError::AlreadySet)?;
    panic::set_hook(Box::new(log_panic));
    Ok(handle)
}

/// A panic is a line like any other. Its message may quote what it failed on, so that is cut.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let location = panic.location().map(ToString::to_string).unwrap_or_default();
    let text = panic.payload_as_str().unwrap_or("a panic without a message");
    let text = redact::without_quotes_of_peers(text);
    tracing::error!(target: "sluice::panic", location, "{text}");
}

fn subscriber(
    filter: &str,
    out: impl Write + Send + 'static,
    lines_max: usize,
) -> Result<(impl Subscriber + Send + Sync, LogHandle), LogError> {
    let queue = Queue::start(out, lines_max)?;
    let (filter, reload) = reload::Layer::new(EnvFilter::builder().parse(filter)?);
    let json = JsonLines { queue: queue.clone(), clock: Clock::default() };
    Ok((Registry::default().with(filter).with(json), LogHandle { filter: reload, queue }))
}

// === impl LogHandle ===

impl LogHandle {
    /// Changes what is logged. A filter that cannot be read changes nothing.
    pub fn set_filter(&self, filter: &str) -> Result<(), LogError> {
        let filter = EnvFilter::builder().parse(filter)?;
        // Fails only when the subscriber is gone, and nothing is logged any more.
        self.filter.reload(filter).map_err(|_gone| LogError::AlreadySet)
    }

    /// Lines that were lost to a full queue or a broken stderr.
    pub fn lines_dropped(&self) -> u64 {
        self.queue.account.dropped.load(Relaxed)
    }

    /// Waits until every line so far is written; gives up after `limit`, and says so.
    pub fn flush(&self, limit: Duration) -> bool {
        self.queue.flush(limit)
    }
}

impl Drop for LogHandle {
    fn drop(&mut self) {
        self.queue.flush(FLUSH_MAX);
    }
}

// === the queue ===

/// The sending end of the bounded queue, and the account of its lines.
#[derive(Debug, Clone)]
struct Queue {
    lines: SyncSender<String>,
    account: Arc<Account>,
}

/// Every line ends in `settled` (written, or lost to an error of stderr) or was never queued.
#[derive(Debug, Default)]
struct Account {
    queued: AtomicU64,
    queued_bytes: AtomicUsize,
    dropped: AtomicU64,
    settled: Mutex<u64>,
    settled_more: Condvar,
}

impl Queue {
    fn start(out: impl Write + Send + 'static, lines_max: usize) -> io::Result<Self> {
        let (sender, receiver) = sync_channel(lines_max);
        let account = Arc::new(Account::default());
        let theirs = Arc::clone(&account);
        thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || write_lines(&receiver, out, &theirs))?;
        Ok(Self { lines: sender, account })
    }

    /// Queues `line`, or counts it as dropped. Never waits.
    fn push(&self, line: String) {
        let account = &self.account;
        let bytes = line.len();
        let waiting = account.queued_bytes.fetch_add(bytes, Relaxed);
        if waiting + bytes <= QUEUE_BYTES_MAX && self.lines.try_send(line).is_ok() {
            account.queued.fetch_add(1, Relaxed);
        } else {
            account.queued_bytes.fetch_sub(bytes, Relaxed);
            account.dropped.fetch_add(1, Relaxed);
        }
    }

    fn flush(&self, limit: Duration) -> bool {
        let until = Instant::now() + limit;
        let queued = self.account.queued.load(Relaxed);
        let mut settled = self.account.settled.lock().unwrap_or_else(PoisonError::into_inner);
        while *settled < queued {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let woken = self.account.settled_more.wait_timeout(settled, left);
            settled = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}

/// The writer thread: ends when the last sender is gone.
fn write_lines(lines: &Receiver<String>, mut out: impl Write, account: &Account) {
    let mut buffer = Vec::with_capacity(WRITE_BYTES_MAX);
    while let Ok(first) = lines.recv() {
        let mut n_lines = 1;
        buffer.clear();
        buffer.extend_from_slice(first.as_bytes());
        while buffer.len() < WRITE_BYTES_MAX
            && let Ok(next) = lines.try_recv()
        {
            buffer.extend_from_slice(next.as_bytes());
            n_lines += 1;
        }
        if write_all(&mut out, &buffer).is_err() {
            account.dropped.fetch_add(n_lines, Relaxed);
        }
        account.queued_bytes.fetch_sub(buffer.len(), Relaxed);
        *account.settled.lock().unwrap_or_else(PoisonError::into_inner) += n_lines;
        account.settled_more.notify_all();
    }
}

/// As `Write::write_all`, but waits for a stderr that somebody made non-blocking.
fn write_all(out: &mut impl Write, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match out.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => bytes = bytes.get(n..).unwrap_or_default(),
            Err(error) => match error.kind() {
                io::ErrorKind::Interrupted => {}
                io::ErrorKind::WouldBlock => thread::park_timeout(Duration::from_millis(5)),
                _ => return Err(error),
            },
        }
    }
    out.flush()
}

// === events as lines ===

struct JsonLines {
    queue: Queue,
    clock: Clock,
}

impl<S: Subscriber> Layer<S> for JsonLines {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        // What came through `log` carries its own metadata in fields.
        let bridged = event.normalized_metadata();
        let metadata = bridged.as_ref().unwrap_or_else(|| event.metadata());
        let is_own = metadata.target().split("::").next() == Some(env!("CARGO_CRATE_NAME"));
        let mut fields = Fields { is_own, ..Fields::default() };
        event.record(&mut fields);
        self.queue.push(fields.into_line(metadata, self.clock.unix_micros()));
    }
}

/// The fields of one event as JSON, redacted.
#[derive(Default)]
struct Fields {
    is_own: bool,
    message: String,
    /// Each begins with a comma.
    rest: String,
}

impl Fields {
    fn into_line(self, metadata: &Metadata<'_>, unix_micros: i64) -> String {
        let mut line = String::with_capacity(128 + self.message.len() + self.rest.len());
        line.push_str("{\"time\":");
        push_json_string(&mut line, &rfc3339(unix_micros));
        line.push_str(",\"level\":");
        line.push_str(level_json(*metadata.level()));
        line.push_str(",\"target\":");
        push_json_string(&mut line, &redact::redact(metadata.target(), STRING_BYTES_MAX));
        line.push_str(",\"message\":");
        push_json_string(&mut line, &self.message);
        line.push_str(&self.rest);
        line.push_str("}\n");
        line
    }

    fn push_text(&mut self, field: &Field, text: &str) {
        let text = if self.is_own { text } else { &redact::without_quotes_of_peers(text) };
        let text = if redact::is_secret_name(field.name()) {
            "[REDACTED]".to_owned()
        } else {
            redact::redact(text, STRING_BYTES_MAX)
        };
        if field.name() == "message" {
            self.message = text;
        } else if self.push_name(field.name()) {
            push_json_string(&mut self.rest, &text);
        }
    }

    fn push_number(&mut self, field: &Field, number: impl fmt::Display) {
        if self.push_name(field.name()) {
            self.rest.push_str(&number.to_string());
        }
    }

    /// Begins a field; false when it has no place in the line.
    fn push_name(&mut self, name: &str) -> bool {
        if self.rest.len() > LINE_BYTES_MAX || name.starts_with("log.") {
            return false;
        }
        self.rest.push(',');
        // A line has these already.
        let is_taken = matches!(name, "time" | "level" | "target");
        let name = if is_taken { &format!("field.{name}") } else { name };
        push_json_string(&mut self.rest, name);
        self.rest.push(':');
        true
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.push_text(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.push_number(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.push_number(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.push_number(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        if value.is_finite() {
            self.push_number(field, value);
        } else {
            self.push_text(field, &value.to_string());
        }
    }

    fn record_error(&mut self, field: &Field, error: &(dyn Error + 'static)) {
        let mut text = bounded(format_args!("{error}"));
        let mut source = error.source();
        while let Some(error) = source
            && text.len() < VALUE_BYTES_MAX
        {
            text.push_str(": ");
            text.push_str(&bounded(format_args!("{error}")));
            source = error.source();
        }
        self.push_text(field, &text);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.push_text(field, &bounded(format_args!("{value:?}")));
    }
}

/// Formats at most [`VALUE_BYTES_MAX`] bytes.
fn bounded(value: fmt::Arguments<'_>) -> String {
    struct Bounded(String);

    impl fmt::Write for Bounded {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            let room = VALUE_BYTES_MAX.saturating_sub(self.0.len());
            let len = text.floor_char_boundary(room);
            self.0.push_str(text.get(..len).unwrap_or_default());
            if len < text.len() { Err(fmt::Error) } else { Ok(()) }
        }
    }

    let mut out = Bounded(String::new());
    if out.write_fmt(value).is_err() {
        let certain = out.0.len().saturating_sub(UNCERTAIN_BYTES);
        out.0.truncate(out.0.floor_char_boundary(certain));
        out.0.push('…');
    }
    out.0
}

fn level_json(level: Level) -> &'static str {
    match level {
        Level::ERROR => "\"error\"",
        Level::WARN => "\"warn\"",
        Level::INFO => "\"info\"",
        Level::DEBUG => "\"debug\"",
        Level::TRACE => "\"trace\"",
    }
}

/// `text` as a JSON string in which nothing can move a cursor, break a line or turn the text around.
fn push_json_string(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if is_harmful(c) => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    out.push_str(&format!("\\u{unit:04x}"));
                }
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

/// Control characters, line and paragraph separators, marks that change the direction of text.
fn is_harmful(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
        || matches!(c, '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests;
