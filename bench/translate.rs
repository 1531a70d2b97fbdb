//! What translation costs: nanoseconds of CPU for a small request with its answer, and for an event of
//! a stream, for each pair of dialects. Other work on the machine does not count.
//!
//! `cargo run --profile dist --example translate`
#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a program that prints")]

use std::hint::black_box;

use sluice::dialect::Dialect;
use sluice::translate::{Asked, Host, Quirks, Upstream};

const N_REQUESTS: u64 = 20_000;
const N_STREAMS: u64 = 200;
const N_EVENTS: u64 = 500;

const DIALECTS: [Dialect; 3] = [Dialect::Chat, Dialect::Responses, Dialect::Messages];

fn main() {
    println!("client     provider   ns/request  ns/event");
    for client in DIALECTS {
        for upstream in DIALECTS.into_iter().filter(|upstream| *upstream != client) {
            let request = per_request(client, upstream);
            let event = per_event(client, upstream);
            println!("{:10} {:10} {request:10} {event:9}", client.name(), upstream.name());
        }
    }
}

/// Nanoseconds that this thread has been on a processor.
fn cpu_ns() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split_whitespace().next().unwrap().parse().unwrap()
}

fn per_request(client: Dialect, upstream: Dialect) -> u64 {
    let (request, answer) = (request(client), answer(upstream));
    let began = cpu_ns();
    for _ in 0..N_REQUESTS {
        let asked = Asked::read(client, black_box(request.as_bytes()), (0, "id")).unwrap();
        let written = asked.written(&to(upstream)).unwrap();
        black_box(written.answer.whole(black_box(answer.as_bytes())).unwrap());
    }
    (cpu_ns() - began) / N_REQUESTS
}

fn per_event(client: Dialect, upstream: Dialect) -> u64 {
    let asked = Asked::read(client, request(client).as_bytes(), (0, "id")).unwrap();
    let answer = asked.written(&to(upstream)).unwrap().answer;
    let (opening, event) = events(upstream);
    let began = cpu_ns();
    for _ in 0..N_STREAMS {
        let mut stream = answer.events();
        let mut out = String::new();
        stream.push(opening.as_bytes(), &mut out);
        for _ in 0..N_EVENTS {
            out.clear();
            stream.push(black_box(event.as_bytes()), &mut out);
            black_box(&out);
        }
    }
    (cpu_ns() - began) / (N_STREAMS * N_EVENTS)
}

fn to(dialect: Dialect) -> Upstream<'static> {
    Upstream { dialect, model: "some-model", quirks: &Quirks::OPENAI, host: Host::Own }
}

fn request(client: Dialect) -> String {
    let text = "Say hello to everybody who is in the room, and to those who are not.";
    match client {
        Dialect::Responses => format!(
            r#"{{"model":"m","instructions":"Be brief.","input":[{{"role":"user","content":"{text}"}}],"max_output_tokens":256}}"#
        ),
        Dialect::Messages => format!(
            r#"{{"model":"m","max_tokens":256,"system":"Be brief.","messages":[{{"role":"user","content":"{text}"}}]}}"#
        ),
        _ => format!(
            r#"{{"model":"m","messages":[{{"role":"system","content":"Be brief."}},{{"role":"user","content":"{text}"}}],"max_tokens":256}}"#
        ),
    }
}

fn answer(upstream: Dialect) -> String {
    let text = "Hello to everybody who is in the room, and to those who are not.";
    match upstream {
        Dialect::Responses => format!(
            r#"{{"id":"resp_1","object":"response","created_at":1,"status":"completed","model":"m","output":[{{"id":"msg_1","type":"message","status":"completed","role":"assistant","content":[{{"type":"output_text","text":"{text}","annotations":[]}}]}}],"usage":{{"input_tokens":20,"output_tokens":16,"total_tokens":36}}}}"#
        ),
        Dialect::Messages => format!(
            r#"{{"id":"msg_1","type":"message","role":"assistant","model":"m","content":[{{"type":"text","text":"{text}"}}],"stop_reason":"end_turn","stop_sequence":null,"usage":{{"input_tokens":20,"output_tokens":16}}}}"#
        ),
        _ => format!(
            r#"{{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"m","choices":[{{"index":0,"message":{{"role":"assistant","content":"{text}"}},"finish_reason":"stop"}}],"usage":{{"prompt_tokens":20,"completion_tokens":16,"total_tokens":36}}}}"#
        ),
    }
}

/// What a stream begins with, and one event with a few words.
fn events(upstream: Dialect) -> (&'static str, &'static str) {
    match upstream {
        Dialect::Responses => (
            "event: response.created\ndata: {\"type\":\"response.created\",\"sequence_number\":0,\"response\":{\"id\":\"resp_1\",\"model\":\"m\",\"status\":\"in_progress\",\"output\":[]}}\n\n",
            "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"sequence_number\":4,\"item_id\":\"msg_1\",\"output_index\":0,\"content_index\":0,\"delta\":\" to everybody\"}\n\n",
        ),
        Dialect::Messages => (
            "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_1\",\"model\":\"m\",\"usage\":{\"input_tokens\":20,\"output_tokens\":1}}}\n\nevent: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n",
            "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\" to everybody\"}}\n\n",
        ),
        _ => (
            "",
            "data: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"system_fingerprint\":\"fp\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\" to everybody\"},\"logprobs\":null,\"finish_reason\":null}],\"usage\":null}\n\n",
        ),
    }
}
