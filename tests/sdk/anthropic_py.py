"""The official `anthropic` Python SDK, unmodified but for base URL and key."""

import asyncio
import json
import time

import anthropic
from scenarios import (
    BAD_KEY,
    KEY,
    URL,
    Retries,
    check,
    check_equal,
    check_headers,
    check_no_key,
    gateway_scenario,
    main,
    model,
    raised,
    scenario,
)

client = anthropic.Anthropic(base_url=URL, api_key=KEY)

ASK = {"max_tokens": 256, "messages": [{"role": "user", "content": "Say hello."}]}
WEATHER = {
    "name": "get_weather",
    "description": "The weather at a place",
    "input_schema": {
        "type": "object",
        "properties": {"location": {"type": "string"}},
        "required": ["location"],
    },
}


def check_usage(usage):
    check(usage.input_tokens > 0, f"input_tokens is {usage.input_tokens}")
    check(usage.output_tokens > 0, f"output_tokens is {usage.output_tokens}")


@scenario
def message():
    raw = client.messages.with_raw_response.create(model=model("chat"), **ASK)
    check_headers(raw.headers, "chat")
    check_equal(raw.retries_taken, 0, "retries of the SDK")
    answer = raw.parse()
    check_equal((answer.type, answer.role), ("message", "assistant"), "type and role")
    check(answer.id, "no id")
    check_equal(answer.stop_reason, "end_turn", "stop_reason")
    check(answer.content[0].text, "no text")
    check_usage(answer.usage)


@scenario
def bearer():
    """The same SDK with `auth_token`, which sends `Authorization: Bearer`."""
    other = anthropic.Anthropic(base_url=URL, auth_token=KEY)
    check(other.messages.create(model=model("chat"), **ASK).content[0].text, "no text")


@scenario
def message_stream():
    stream = client.messages.create(model=model("chat"), stream=True, **ASK)
    check_headers(stream.response.headers, "chat")
    events = list(stream)
    types = [event.type for event in events]
    check_equal(types[0], "message_start", "first event")
    check_equal(types[-2:], ["message_delta", "message_stop"], "last events")
    check_equal(types.count("content_block_start"), types.count("content_block_stop"), "blocks")
    check(events[0].message.usage.input_tokens > 0, "no input tokens")
    check(events[-2].usage.output_tokens > 0, "no output tokens")
    check_equal(events[-2].delta.stop_reason, "end_turn", "stop_reason")


@scenario
def message_stream_helper():
    """The SDK's own accumulator agrees with the deltas."""
    with client.messages.stream(model=model("chat"), **ASK) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    check(text, "no text")
    check_equal("".join(block.text for block in final.content), text, "accumulated text")
    check_usage(final.usage)


@scenario
def tools():
    answer = client.messages.create(model=model("tools"), tools=[WEATHER], **ASK)
    check_equal(answer.stop_reason, "tool_use", "stop_reason")
    calls = [block for block in answer.content if block.type == "tool_use"]
    check(calls, "no tool use")
    for call in calls:
        check(call.id and call.name, "a tool use without id or name")
        check(isinstance(call.input, dict), "input is no object")


@scenario
def tools_stream():
    pieces = []
    with client.messages.stream(model=model("tools"), tools=[WEATHER], **ASK) as stream:
        for event in stream:
            if event.type == "content_block_delta" and event.delta.type == "input_json_delta":
                pieces.append(event.delta.partial_json)
        final = stream.get_final_message()
    calls = [block for block in final.content if block.type == "tool_use"]
    check(calls, "no tool use")
    if len(calls) == 1:
        check_equal(json.loads("".join(pieces)), calls[0].input, "accumulated input")
    check_equal(final.stop_reason, "tool_use", "stop_reason")
    check_usage(final.usage)


@scenario
def count_tokens():
    counted = client.messages.count_tokens(model=model("chat"), messages=ASK["messages"])
    check(counted.input_tokens > 0, f"input_tokens is {counted.input_tokens}")


@gateway_scenario
def models():
    listed = list(client.models.list())
    names = [entry.id for entry in listed]
    check("chat" in names, f"`chat` is not listed in {names}")
    check_equal({entry.type for entry in listed}, {"model"}, "types")
    found = client.models.retrieve("chat")
    check_equal((found.id, found.type), ("chat", "model"), "model")
    check(found.display_name and found.created_at, "no display name or date")
    missing = raised(anthropic.NotFoundError, lambda: client.models.retrieve("no-such-model"))
    check_equal(missing.body["error"]["type"], "not_found_error", "type")


@gateway_scenario
def bad_key():
    stranger = anthropic.Anthropic(base_url=URL, api_key=BAD_KEY)
    for ask in (
        lambda: stranger.messages.create(model="chat", **ASK),
        lambda: stranger.messages.create(model="chat", stream=True, **ASK),
        lambda: stranger.messages.count_tokens(model="chat", messages=ASK["messages"]),
        lambda: list(stranger.models.list()),
    ):
        error = raised(anthropic.AuthenticationError, ask)
        check_equal(error.status_code, 401, "status")
        check_equal(error.body["type"], "error", "outer type")
        check_equal(error.body["error"]["type"], "authentication_error", "type")
        check(error.body["error"]["message"], "no message")
        check_equal(
            error.body["request_id"], error.response.headers.get("x-request-id"), "request_id"
        )
        check_no_key(str(error), BAD_KEY)


@gateway_scenario
def unknown_model():
    error = raised(
        anthropic.NotFoundError, lambda: client.messages.create(model="no-such-model", **ASK)
    )
    check_equal(error.status_code, 404, "status")
    check_equal(error.body["error"]["type"], "not_found_error", "type")
    check("no-such-model" in error.body["error"]["message"], f"message: {error.body}")


@gateway_scenario
def limited():
    """Every target answers 429: the answer is the provider's, and the SDK does not retry on top."""
    started = time.monotonic()
    with Retries("anthropic") as retries:
        error = raised(
            anthropic.RateLimitError, lambda: client.messages.create(model="limited", **ASK)
        )
    check_equal(error.status_code, 429, "status")
    check_equal(error.response.headers.get("x-should-retry"), "false", "x-should-retry")
    check(error.response.headers.get("retry-after") in ("1", "2"), "retry-after")
    check_equal(error.body["error"]["type"], "rate_limit_error", "type")
    check_equal(retries.count, 0, "retries of the SDK")
    check(time.monotonic() - started < 1.5, "the SDK has waited for a retry")


def broken_stream(deployment):
    text = []

    def read():
        with client.messages.stream(model=deployment, **ASK) as stream:
            text.extend(stream.text_stream)

    # The SDK makes an error of the answer's own status, which was 200.
    error = raised(anthropic.APIStatusError, read)
    check("".join(text), "the content before the break is lost")
    check_equal(error.body["type"], "error", "outer type")
    check_equal(error.body["error"]["type"], "api_error", "type")
    check(error.body["error"]["message"], "no message")


@gateway_scenario
def cut():
    """The provider's connection breaks in mid-stream."""
    broken_stream("cut")


@gateway_scenario
def truncated():
    """The provider ends the stream cleanly, without `message_stop`."""
    broken_stream("truncated")


@gateway_scenario
def flaky():
    """The first target answers 503: the caller does not notice."""
    raw = client.messages.with_raw_response.create(model="flaky", **ASK)
    check_equal(raw.retries_taken, 0, "retries of the SDK")
    check_headers(raw.headers, "flaky", attempts=2)
    check(raw.parse().content[0].text, "no text")


@scenario
def cancel():
    stream = client.messages.create(model=model("slow"), stream=True, **ASK)
    seen = 0
    for _ in stream:
        seen += 1
        if seen == 3:
            break
    started = time.monotonic()
    stream.close()
    check(time.monotonic() - started < 1, "closing took long")
    print(f"saw {seen}")
    check(client.messages.create(model=model("chat"), **ASK).content, "no answer")


@scenario
def many_at_once():
    """Sixteen streams at once on the asynchronous client, each whole."""

    async def one(asked):
        async with asked.messages.stream(model=model("chat"), **ASK) as stream:
            return await stream.get_final_text()

    async def many():
        async with anthropic.AsyncAnthropic(base_url=URL, api_key=KEY) as asked:
            return await asyncio.gather(*(one(asked) for _ in range(16)))

    check(all(asyncio.run(many())), "a stream without text")


main()
