//! An answer of `generateContent` -> the form.

use serde::Deserialize;
use serde_json::Value;

use crate::dialect::Dialect;
use crate::translate::form::{
    Answer, Citation, Part, Piece, Seal, Stop, Thinking, ToolCall, Usage, WireError,
};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::struct_field_names, reason = "the names of the wire")]
pub(super) struct Response {
    pub(super) candidates: Option<Vec<Alternative>>,
    usage_metadata: Option<WireUsage>,
    pub(super) model_version: Option<String>,
    pub(super) response_id: Option<String>,
    pub(super) prompt_feedback: Option<Feedback>,
    pub(super) error: Option<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Feedback {
    pub(super) block_reason: Option<String>,
}

/// One of the answers, which are never more than one.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Alternative {
    pub(super) content: Option<Content>,
    pub(super) finish_reason: Option<String>,
    pub(super) grounding_metadata: Option<Grounding>,
}

#[derive(Deserialize)]
pub(super) struct Content {
    pub(super) parts: Option<Vec<WirePart>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WirePart {
    pub(super) text: Option<String>,
    pub(super) thought: Option<bool>,
    pub(super) thought_signature: Option<String>,
    pub(super) function_call: Option<FunctionCall>,
}

#[derive(Deserialize)]
pub(super) struct FunctionCall {
    id: Option<String>,
    name: String,
    args: Option<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::struct_field_names, reason = "the names of the wire")]
pub(super) struct Grounding {
    web_search_queries: Option<Vec<String>>,
    grounding_chunks: Option<Vec<Chunk>>,
    grounding_supports: Option<Vec<Support>>,
}

#[derive(Deserialize)]
struct Chunk {
    web: Option<Web>,
}

#[derive(Deserialize)]
struct Web {
    uri: Option<String>,
    title: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Support {
    segment: Option<Segment>,
    grounding_chunk_indices: Option<Vec<usize>>,
}

#[derive(Deserialize)]
struct Segment {
    text: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireUsage {
    prompt_token_count: Option<u64>,
    cached_content_token_count: Option<u64>,
    candidates_token_count: Option<u64>,
    thoughts_token_count: Option<u64>,
    tool_use_prompt_token_count: Option<u64>,
    prompt_tokens_details: Option<Vec<ModalityTokens>>,
    candidates_tokens_details: Option<Vec<ModalityTokens>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ModalityTokens {
    modality: Option<String>,
    token_count: Option<u64>,
}

/// `None` for what is no answer.
pub(in crate::translate) fn read(body: &[u8]) -> Option<Answer> {
    let mut response: Response = serde_json::from_slice(body).ok()?;
    if response.candidates.is_none() && response.prompt_feedback.is_none() {
        return None;
    }
    let id = response.response_id.take().unwrap_or_default();
    let mut pieces: Vec<Piece> = Vec::new();
    let blocked = response.prompt_feedback.as_ref().and_then(|f| f.block_reason.as_ref());
    let mut reason = blocked.map(|_| "SAFETY".to_owned());
    let candidate = response.candidates.take().and_then(|all| all.into_iter().next());
    if let Some(candidate) = candidate {
        let parts = candidate.content.and_then(|content| content.parts).unwrap_or_default();
        for part in parts {
            add(part, &id, &mut pieces);
        }
        if let Some(grounding) = candidate.grounding_metadata {
            cite(&grounding, &mut pieces);
        }
        reason = candidate.finish_reason.or(reason);
    }
    let has_calls = pieces.iter().any(|piece| matches!(piece.part, Part::ToolCall(_)));
    Some(Answer {
        stop: stop(reason.as_deref().unwrap_or("STOP"), has_calls),
        usage: response.usage(),
        id,
        model: response.model_version.unwrap_or_default(),
        created: None,
        pieces,
    })
}

/// Texts that follow each other are one.
fn add(part: WirePart, response: &str, pieces: &mut Vec<Piece>) {
    let is_thought = part.thought == Some(true);
    if let Some(text) = part.text.filter(|text| !text.is_empty()) {
        match pieces.last_mut().map(|piece| &mut piece.part) {
            Some(Part::Text { text: all, .. }) if !is_thought => all.push_str(&text),
            Some(Part::Thinking(all)) if is_thought => all.text.push_str(&text),
            _ if is_thought => {
                pieces.push(Part::Thinking(Thinking { text, ..Thinking::default() }).into());
            }
            _ => pieces.push(Part::text(text).into()),
        }
    }
    if let Some(call) = part.function_call {
        let n_calls = pieces.iter().filter(|p| matches!(p.part, Part::ToolCall(_))).count();
        let call = call.into_form(response, n_calls);
        if let Some(seal) = part.thought_signature.map(sealed) {
            let id = Some(call.id.clone());
            let thinking = Thinking { id, seal: Some(seal), ..Thinking::default() };
            pieces.push(Part::Thinking(thinking).into());
        }
        pieces.push(Part::ToolCall(call).into());
    }
}

/// The seal of a call. It travels as a thought of its own before the call.
pub(super) fn sealed(value: String) -> Seal {
    Seal { origin: Dialect::Gemini, value }
}

fn cite(grounding: &Grounding, pieces: &mut Vec<Piece>) {
    let found = grounding.citations();
    for Piece { part, .. } in pieces.iter_mut() {
        if let Part::Text { citations, .. } = part {
            *citations = found;
            break;
        }
    }
    if let Some((id, query)) = grounding.search() {
        pieces.insert(0, Part::Search { id, query }.into());
    }
}

pub(super) fn stop(reason: &str, has_calls: bool) -> Stop {
    match reason {
        "MAX_TOKENS" => Stop::MaxTokens,
        "SAFETY" | "RECITATION" | "BLOCKLIST" | "PROHIBITED_CONTENT" | "SPII" | "IMAGE_SAFETY"
        | "LANGUAGE" => Stop::Filter,
        "MALFORMED_FUNCTION_CALL" | "UNEXPECTED_TOOL_CALL" | "TOO_MANY_TOOL_CALLS" => {
            Stop::Failed(Box::new(WireError {
                status: Some(502),
                code: Some(reason.to_lowercase()),
                message: "the model made a call that cannot be read".to_owned(),
                ..WireError::default()
            }))
        }
        _ if has_calls => Stop::ToolUse,
        _ => Stop::End,
    }
}

impl Response {
    pub(super) fn usage(&mut self) -> Option<Usage> {
        let usage = self.usage_metadata.take()?;
        let sum = |parts: [Option<u64>; 2]| {
            let known = parts.iter().any(Option::is_some);
            known.then(|| parts.iter().flatten().fold(0_u64, |all, part| all.saturating_add(*part)))
        };
        Some(Usage {
            input: sum([usage.prompt_token_count, usage.tool_use_prompt_token_count]),
            cache_read: usage.cached_content_token_count,
            output: sum([usage.candidates_token_count, usage.thoughts_token_count]),
            reasoning: usage.thoughts_token_count,
            audio_in: audio(usage.prompt_tokens_details.as_deref()),
            audio_out: audio(usage.candidates_tokens_details.as_deref()),
            ..Usage::default()
        })
    }
}

/// Of tokens counted by what they stand for, those of sound.
fn audio(details: Option<&[ModalityTokens]>) -> Option<u64> {
    let sound = details?.iter().find(|part| part.modality.as_deref() == Some("AUDIO"))?;
    sound.token_count
}

impl FunctionCall {
    /// Some calls have no id here, and everywhere else they must.
    pub(super) fn into_form(self, response: &str, index: usize) -> ToolCall {
        ToolCall {
            id: self
                .id
                .filter(|id| !id.is_empty())
                .unwrap_or_else(|| format!("call_{response}_{index}")),
            name: self.name,
            arguments: self.args.map_or_else(|| "{}".to_owned(), |args| args.to_string()),
            is_custom: false,
            seal: None,
        }
    }
}

impl Grounding {
    pub(super) fn search(&self) -> Option<(String, String)> {
        let query = self.web_search_queries.as_ref()?.first()?;
        Some(("ws_0".to_owned(), query.clone()))
    }

    pub(super) fn citations(&self) -> Vec<Citation> {
        let chunks = self.grounding_chunks.as_deref().unwrap_or_default();
        let mut found = Vec::new();
        for support in self.grounding_supports.iter().flatten() {
            for index in support.grounding_chunk_indices.iter().flatten() {
                let Some(web) = chunks.get(*index).and_then(|chunk| chunk.web.as_ref()) else {
                    continue;
                };
                found.push(Citation {
                    url: web.uri.clone(),
                    title: web.title.clone(),
                    cited_text: support.segment.as_ref().and_then(|segment| segment.text.clone()),
                    ..Citation::default()
                });
            }
        }
        found
    }
}
