//! One stream on its way from a provider's dialect to the client's.

use super::form::{Event, Open, Start, Stop, Usage, WireError};
use super::frames::{Frame, FrameDecoder};
use super::json_tool::Unwrapper;
use super::{
    Echo, Framing, Translation, base64, chat, cohere, converse, gemini, messages, ollama, openai,
    responses,
};
use crate::dialect::Dialect;
use crate::sse::{self, Splitter};

/// Some writers keep what they have written until the end; a stream may not grow without bound.
const STREAM_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What a stream has come to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum StreamEnd {
    #[default]
    Open,
    Proper,
    Error(Box<WireError>),
    /// The provider sent what is none of its dialect's events.
    Broken,
}

/// What has been seen of a stream.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    /// Something that a client could show or act on.
    pub has_content: bool,
    pub end: StreamEnd,
    pub usage: Option<Usage>,
    pub text_bytes: u64,
    pub n_events: u64,
    /// Those that are no comments.
    pub n_messages: u64,
}

/// Bytes of the provider's events in, bytes of the client's events out, wherever either are split.
#[derive(Debug)]
pub struct StreamTranslator {
    split: Split,
    core: Core,
}

/// How a provider says where an event ends.
#[derive(Debug)]
enum Split {
    Events(Splitter),
    Frames(FrameDecoder),
}

/// The state machine: event by event.
#[derive(Debug)]
struct Core {
    reader: Reader,
    writer: Writer,
    unwrapper: Option<Unwrapper>,
    request_id: String,
    has_started: bool,
    has_stopped: bool,
    progress: Progress,
    events: Vec<Event>,
    bytes: usize,
}

#[derive(Debug)]
enum Reader {
    Chat(chat::stream_read::Reader),
    Responses(responses::stream_read::Reader),
    Messages(messages::stream_read::Reader),
    Gemini(gemini::stream_read::Reader),
    Converse(converse::stream_read::Reader),
    Cohere(cohere::stream_read::Reader),
}

#[derive(Debug)]
enum Writer {
    Chat(Box<chat::stream_write::Writer>),
    Responses(Box<responses::stream_write::Writer>),
    Messages(Box<messages::stream_write::Writer>),
    Gemini(Box<gemini::stream_write::Writer>),
    Ollama(Box<ollama::stream_write::Writer>),
}

impl StreamTranslator {
    pub(super) fn new(translation: &Translation) -> Self {
        let echo: &Echo = &translation.echo;
        let reader = match translation.upstream {
            Dialect::Responses => Reader::Responses(responses::stream_read::Reader::default()),
            Dialect::Messages => Reader::Messages(messages::stream_read::Reader::default()),
            Dialect::Gemini => Reader::Gemini(gemini::stream_read::Reader::default()),
            Dialect::Converse => Reader::Converse(converse::stream_read::Reader::default()),
            Dialect::Cohere => Reader::Cohere(cohere::stream_read::Reader::default()),
            _ => Reader::Chat(chat::stream_read::Reader::default()),
        };
        let writer = match translation.client {
            Dialect::Responses => {
                Writer::Responses(Box::new(responses::stream_write::Writer::new(echo)))
            }
            Dialect::Messages => {
                Writer::Messages(Box::new(messages::stream_write::Writer::new(echo)))
            }
            Dialect::Gemini => Writer::Gemini(Box::default()),
            Dialect::Ollama => Writer::Ollama(Box::new(ollama::stream_write::Writer::new(echo))),
            _ => Writer::Chat(Box::new(chat::stream_write::Writer::new(echo))),
        };
        let core = Core {
            reader,
            writer,
            unwrapper: translation.json_tool.clone().map(Unwrapper::new),
            request_id: echo.request_id.clone(),
            has_started: false,
            has_stopped: false,
            progress: Progress::default(),
            events: Vec::new(),
            bytes: 0,
        };
        let split = match translation.framing {
            Framing::Events => Split::Events(Splitter::default()),
            Framing::Aws => Split::Frames(FrameDecoder::default()),
        };
        Self { split, core }
    }

    /// Takes the next bytes; appends whole events to `out`.
    pub fn push(&mut self, chunk: &[u8], out: &mut String) {
        let Self { split, core } = self;
        core.bytes = core.bytes.saturating_add(chunk.len());
        if STREAM_BYTES_MAX < core.bytes {
            core.progress.end = StreamEnd::Broken;
        }
        match split {
            Split::Events(splitter) => splitter.push(chunk, |event, _| core.event(&event, out)),
            Split::Frames(frames) => frames.push(chunk, |frame| core.frame(&frame, out)),
        }
    }

    /// The provider has no more. An event that lacks only its blank line is one to most clients.
    pub fn finish(&mut self, out: &mut String) {
        let Self { split, core } = self;
        match split {
            Split::Events(splitter) => splitter.finish(|event| core.event(&event, out)),
            Split::Frames(frames) if frames.is_cut() => core.broke(),
            Split::Frames(_) => {}
        }
        core.finish(out);
    }

    pub fn progress(&self) -> &Progress {
        &self.core.progress
    }

    /// Events that were written so far, for the number of an event of our own.
    pub fn n_written(&self) -> u64 {
        match &self.core.writer {
            Writer::Responses(writer) => writer.n_events(),
            Writer::Chat(_) | Writer::Messages(_) | Writer::Gemini(_) | Writer::Ollama(_) => {
                self.core.progress.n_events
            }
        }
    }
}

impl Core {
    fn event(&mut self, event: &sse::Event<'_>, out: &mut String) {
        self.progress.n_events += 1;
        if self.progress.end != StreamEnd::Open {
            return;
        }
        let (name, data) = match *event {
            sse::Event::Silent => return,
            sse::Event::Oversized => {
                self.progress.end = StreamEnd::Broken;
                return;
            }
            sse::Event::Message { name, data } => (name, data),
        };
        self.message(name, data, out);
    }

    fn frame(&mut self, frame: &Frame<'_>, out: &mut String) {
        self.progress.n_events += 1;
        if self.progress.end != StreamEnd::Open {
            return;
        }
        match *frame {
            // What `invoke` streams are the events of the model's own dialect.
            Frame::Event { kind: "chunk", payload } => match unwrapped(payload) {
                Some(data) => self.message(b"", &data, out),
                None => self.broke(),
            },
            Frame::Event { kind, payload } => self.message(kind.as_bytes(), payload, out),
            Frame::Exception { kind, message, payload } => {
                let error = exception(kind, message, payload);
                self.take(Event::Error(Box::new(error)), out);
            }
            Frame::Broken => self.broke(),
        }
    }

    fn broke(&mut self) {
        if self.progress.end == StreamEnd::Open {
            self.progress.end = StreamEnd::Broken;
        }
    }

    fn message(&mut self, name: &[u8], data: &[u8], out: &mut String) {
        self.progress.n_messages += 1;
        let mut events = std::mem::take(&mut self.events);
        let is_read = match &mut self.reader {
            Reader::Chat(reader) => reader.push(name, data, &mut events),
            Reader::Responses(reader) => reader.push(name, data, &mut events),
            Reader::Messages(reader) => reader.push(name, data, &mut events),
            Reader::Gemini(reader) => reader.push(data, &mut events),
            Reader::Converse(reader) => reader.push(name, data, &mut events),
            Reader::Cohere(reader) => reader.push(name, data, &mut events),
        };
        for event in events.drain(..) {
            self.take(event, out);
        }
        self.events = events;
        if !is_read {
            self.broke();
        }
    }

    /// Some dialects end a stream by saying nothing more.
    fn finish(&mut self, out: &mut String) {
        let mut events = Vec::new();
        match &mut self.reader {
            Reader::Gemini(reader) => reader.finish(&mut events),
            Reader::Converse(reader) => reader.finish(&mut events),
            Reader::Chat(_) | Reader::Responses(_) | Reader::Messages(_) | Reader::Cohere(_) => {}
        }
        for event in events {
            self.take(event, out);
        }
    }

    /// Keeps the order that every writer relies on: a start, then parts, one stop, the end.
    fn take(&mut self, mut event: Event, out: &mut String) {
        if self.progress.end != StreamEnd::Open {
            return;
        }
        if let Some(unwrapper) = &mut self.unwrapper {
            unwrapper.push(&mut event);
        }
        if let Event::Stop(Stop::Failed(error)) = event {
            event = Event::Error(error);
        }
        match &mut event {
            Event::Start(_) if self.has_started => return,
            Event::Start(start) => {
                self.has_started = true;
                if start.id.is_empty() {
                    start.id.clone_from(&self.request_id);
                }
            }
            Event::Ping | Event::Error(_) => {}
            _ if !self.has_started => {
                self.has_started = true;
                let id = self.request_id.clone();
                self.write(Event::Start(Start { id, ..Start::default() }), out);
            }
            _ => {}
        }
        match &event {
            Event::Stop(_) if self.has_stopped => return,
            Event::Stop(_) => self.has_stopped = true,
            Event::End if !self.has_stopped => {
                self.has_stopped = true;
                self.write(Event::Stop(Stop::End), out);
            }
            Event::Ping if !self.has_started => return,
            _ => {}
        }
        self.note(&event);
        self.write(event, out);
    }

    fn note(&mut self, event: &Event) {
        let progress = &mut self.progress;
        match event {
            Event::Open(Open::Text | Open::Refusal)
            | Event::Start(_)
            | Event::Close
            | Event::Ping => {}
            Event::Delta(text) => {
                progress.has_content = true;
                progress.text_bytes += text.len() as u64;
            }
            Event::Open(_) | Event::Seal(_) | Event::Citation(_) | Event::Stop(_) => {
                progress.has_content = true;
            }
            Event::Usage(usage) => {
                progress.usage = Some(progress.usage.unwrap_or_default().updated(*usage));
            }
            Event::Error(error) => progress.end = StreamEnd::Error(error.clone()),
            Event::End => {
                progress.has_content = true;
                progress.end = StreamEnd::Proper;
            }
        }
    }

    fn write(&mut self, event: Event, out: &mut String) {
        match &mut self.writer {
            Writer::Chat(writer) => writer.push(event, out),
            Writer::Responses(writer) => writer.push(event, out),
            Writer::Messages(writer) => writer.push(event, out),
            Writer::Gemini(writer) => writer.push(event, out),
            Writer::Ollama(writer) => writer.push(event, out),
        }
    }
}

/// What a frame of `invoke` carries: `{"bytes": "…"}`, in base64.
fn unwrapped(payload: &[u8]) -> Option<Vec<u8>> {
    let value: serde_json::Value = serde_json::from_slice(payload).ok()?;
    base64::decode(value.get("bytes")?.as_str()?)
}

/// An error that comes as a frame.
fn exception(kind: &str, message: &str, payload: &[u8]) -> WireError {
    let status = match kind {
        "throttlingException" => 429,
        "validationException" => 400,
        "modelTimeoutException" => 504,
        "serviceUnavailableException" => 503,
        _ => 500,
    };
    let value = serde_json::from_slice(payload).unwrap_or_default();
    let mut error = openai::error(&value);
    if !message.is_empty() {
        message.clone_into(&mut error.message);
    }
    WireError { status: Some(status), code: Some(kind.to_owned()), ..error }
}
