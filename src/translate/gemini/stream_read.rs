//! A stream of `streamGenerateContent` -> events of the form.

use serde_json::Value;

use super::answer_read::{Grounding, Response, WirePart, sealed, stop};
use crate::translate::form::{Event, Open, Start};
use crate::translate::openai::error;

#[derive(Debug, Default)]
pub(in crate::translate) struct Reader {
    has_started: bool,
    id: String,
    has_stopped: bool,
    open: Option<Kind>,
    n_calls: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Thinking,
}

impl Reader {
    /// False for an event that cannot be read.
    pub(in crate::translate) fn push(&mut self, data: &[u8], out: &mut Vec<Event>) -> bool {
        let Ok(mut response) = serde_json::from_slice::<Response>(data) else { return false };
        if let Some(told) = response.error {
            let value = Value::from_iter([("error".to_owned(), told)]);
            out.push(Event::Error(Box::new(error(&value))));
            return true;
        }
        if !self.has_started {
            self.has_started = true;
            self.id = response.response_id.take().unwrap_or_default();
            out.push(Event::Start(Start {
                id: self.id.clone(),
                model: response.model_version.take().unwrap_or_default(),
                created: None,
            }));
        }
        out.extend(response.usage().map(Event::Usage));
        let is_blocked = response.prompt_feedback.is_some_and(|told| told.block_reason.is_some());
        let candidate = response.candidates.and_then(|all| all.into_iter().next());
        let mut reason = is_blocked.then(|| "SAFETY".to_owned());
        if let Some(candidate) = candidate {
            for part in candidate.content.and_then(|content| content.parts).unwrap_or_default() {
                self.part(part, out);
            }
            if let Some(grounding) = candidate.grounding_metadata {
                self.ground(&grounding, out);
            }
            reason = candidate.finish_reason.or(reason);
        }
        if let Some(reason) = reason
            && !self.has_stopped
        {
            self.close(out);
            self.has_stopped = true;
            out.push(Event::Stop(stop(&reason, 0 < self.n_calls)));
        }
        true
    }

    /// The stream has no last event of its own: a reason to stop, and then nothing more.
    pub(in crate::translate) fn finish(&mut self, out: &mut Vec<Event>) {
        if self.has_stopped {
            out.push(Event::End);
        }
    }

    fn close(&mut self, out: &mut Vec<Event>) {
        if self.open.take().is_some() {
            out.push(Event::Close);
        }
    }

    fn begin(&mut self, kind: Kind, out: &mut Vec<Event>) {
        if self.open == Some(kind) {
            return;
        }
        self.close(out);
        self.open = Some(kind);
        out.push(Event::Open(match kind {
            Kind::Text => Open::Text,
            Kind::Thinking => Open::Thinking { id: None, is_redacted: false },
        }));
    }

    fn part(&mut self, part: WirePart, out: &mut Vec<Event>) {
        if let Some(text) = part.text.filter(|text| !text.is_empty()) {
            let kind = if part.thought == Some(true) { Kind::Thinking } else { Kind::Text };
            self.begin(kind, out);
            out.push(Event::Delta(text));
        }
        let Some(call) = part.function_call else { return };
        self.close(out);
        let call = call.into_form(&self.id, self.n_calls);
        self.n_calls += 1;
        if let Some(seal) = part.thought_signature.map(sealed) {
            out.push(Event::Open(Open::Thinking { id: Some(call.id.clone()), is_redacted: false }));
            out.push(Event::Seal(seal));
            out.push(Event::Close);
        }
        let open = Open::ToolCall { id: call.id, name: call.name, is_custom: false };
        out.extend([Event::Open(open), Event::Delta(call.arguments), Event::Close]);
    }

    fn ground(&mut self, grounding: &Grounding, out: &mut Vec<Event>) {
        if self.open == Some(Kind::Text) {
            let citations = grounding.citations().into_iter();
            out.extend(citations.map(|citation| Event::Citation(Box::new(citation))));
        }
        if let Some((id, query)) = grounding.search() {
            self.close(out);
            out.extend([Event::Open(Open::Search { id, query }), Event::Close]);
        }
    }
}
