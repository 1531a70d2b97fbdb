"""The official `openai` Python SDK, unmodified but for base URL and key."""

import asyncio
import base64
import json
import struct
import time

import openai
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

client = openai.OpenAI(base_url=f"{URL}/v1", api_key=KEY)

HELLO = [{"role": "user", "content": "Say hello."}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather at a place",
        "parameters": {
            "type": "object",
            "properties": {"location": {"type": "string"}},
            "required": ["location"],
        },
    },
}


def check_chat_usage(usage):
    check(usage is not None, "no usage")
    check(usage.prompt_tokens > 0, f"prompt_tokens is {usage.prompt_tokens}")
    check(usage.completion_tokens > 0, f"completion_tokens is {usage.completion_tokens}")
    check_equal(usage.total_tokens, usage.prompt_tokens + usage.completion_tokens, "total_tokens")


def check_responses_usage(usage):
    check(usage is not None, "no usage")
    check(usage.input_tokens > 0, f"input_tokens is {usage.input_tokens}")
    check(usage.output_tokens > 0, f"output_tokens is {usage.output_tokens}")
    check_equal(usage.total_tokens, usage.input_tokens + usage.output_tokens, "total_tokens")


@scenario
def chat():
    raw = client.chat.completions.with_raw_response.create(model=model("chat"), messages=HELLO)
    check_equal(raw.status_code, 200, "status")
    check_equal(raw.retries_taken, 0, "retries of the SDK")
    check_headers(raw.headers, "chat")
    answer = raw.parse()
    check_equal(answer.object, "chat.completion", "object")
    check(answer.id, "no id")
    check_equal(len(answer.choices), 1, "choices")
    check_equal(answer.choices[0].finish_reason, "stop", "finish_reason")
    check_equal(answer.choices[0].message.role, "assistant", "role")
    check(answer.choices[0].message.content, "no content")
    check_chat_usage(answer.usage)


def chat_chunks(deployment, **arguments):
    stream = client.chat.completions.create(
        model=model(deployment), messages=HELLO, stream=True, **arguments
    )
    check_headers(stream.response.headers, deployment)
    check(
        stream.response.headers["content-type"].startswith("text/event-stream"),
        f"content-type is {stream.response.headers['content-type']}",
    )
    chunks = list(stream)
    check(len(chunks) > 2, f"only {len(chunks)} chunks")
    check_equal(len({chunk.id for chunk in chunks}), 1, "ids in one stream")
    return chunks


def finish_reasons(chunks):
    choices = [choice for chunk in chunks for choice in chunk.choices]
    return [choice.finish_reason for choice in choices if choice.finish_reason]


@scenario
def chat_stream_with_usage():
    chunks = chat_chunks("chat", stream_options={"include_usage": True})
    text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    check(text, "no content")
    check_equal(finish_reasons(chunks), ["stop"], "finish reasons")
    with_usage = [chunk for chunk in chunks if chunk.usage is not None]
    check_equal(len(with_usage), 1, "chunks with usage")
    check(with_usage[0] is chunks[-1], "usage is not in the last chunk")
    check_equal(chunks[-1].choices, [], "choices of the usage chunk")
    check_chat_usage(chunks[-1].usage)


@scenario
def chat_stream_without_usage():
    chunks = chat_chunks("chat")
    check_equal(finish_reasons(chunks), ["stop"], "finish reasons")
    check_equal([chunk.usage for chunk in chunks if chunk.usage], [], "usage nobody asked for")
    empty = [chunk for chunk in chunks if not chunk.choices]
    check_equal(empty, [], "chunks without a choice")


@scenario
def chat_stream_helper():
    """The SDK's own accumulator agrees with the deltas."""
    deltas = []
    with client.chat.completions.stream(model=model("chat"), messages=HELLO) as stream:
        for event in stream:
            if event.type == "content.delta":
                deltas.append(event.delta)
        final = stream.get_final_completion()
    check(deltas, "no deltas")
    check_equal(final.choices[0].message.content, "".join(deltas), "accumulated content")


@scenario
def tools():
    answer = client.chat.completions.create(model=model("tools"), messages=HELLO, tools=[WEATHER])
    choice = answer.choices[0]
    check_equal(choice.finish_reason, "tool_calls", "finish_reason")
    check(choice.message.tool_calls, "no tool calls")
    for call in choice.message.tool_calls:
        check(call.id, "a tool call without id")
        check(call.function.name, "a tool call without name")
        check(isinstance(json.loads(call.function.arguments), dict), "arguments are no object")
    check_chat_usage(answer.usage)


@scenario
def tools_stream():
    chunks = chat_chunks("tools", tools=[WEATHER], stream_options={"include_usage": True})
    arguments, names, ids = {}, {}, {}
    for chunk in chunks:
        for choice in chunk.choices:
            for call in choice.delta.tool_calls or []:
                arguments.setdefault(call.index, []).append(call.function.arguments or "")
                names[call.index] = names.get(call.index) or call.function.name
                ids[call.index] = ids.get(call.index) or call.id
    check(arguments, "no tool calls")
    for index, pieces in arguments.items():
        check(names[index], f"tool call {index} has no name")
        check(ids[index], f"tool call {index} has no id")
        check(isinstance(json.loads("".join(pieces)), dict), f"arguments {pieces} are no object")
    check_equal(finish_reasons(chunks), ["tool_calls"], "finish reasons")
    check_chat_usage(chunks[-1].usage)


@scenario
def responses():
    raw = client.responses.with_raw_response.create(model=model("chat"), input="Say hello.")
    check_headers(raw.headers, "chat")
    answer = raw.parse()
    check_equal(answer.object, "response", "object")
    check_equal(answer.status, "completed", "status")
    check(answer.id, "no id")
    check(answer.output_text, "no text")
    check_responses_usage(answer.usage)


@scenario
def responses_stream():
    stream = client.responses.create(model=model("chat"), input="Say hello.", stream=True)
    check_headers(stream.response.headers, "chat")
    events = list(stream)
    types = [event.type for event in events]
    check_equal(types[0], "response.created", "first event")
    check_equal(types[-1], "response.completed", "last event")
    numbers = [event.sequence_number for event in events]
    check_equal(numbers, list(range(len(events))), "sequence numbers")
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    check(deltas, "no text deltas")
    final = events[-1].response
    check_equal("".join(deltas), final.output_text, "joined deltas")
    check_equal(final.id, events[0].response.id, "id at the end")
    check_responses_usage(final.usage)


@scenario
def responses_tools_stream():
    tool = {"type": "function", "strict": False, **WEATHER["function"]}
    deltas, calls = {}, {}
    for event in client.responses.create(
        model=model("tools"), input="The weather?", tools=[tool], stream=True
    ):
        if event.type == "response.function_call_arguments.delta":
            deltas.setdefault(event.output_index, []).append(event.delta)
        if event.type == "response.output_item.done" and event.item.type == "function_call":
            calls[event.output_index] = event.item
    check(calls, "no function calls")
    for index, call in calls.items():
        check_equal("".join(deltas[index]), call.arguments, f"arguments of call {index}")
        check(isinstance(json.loads(call.arguments), dict), "arguments are no object")
        check(call.name and call.call_id, "a function call without name or id")


@scenario
def embeddings():
    def embed(**arguments):
        return client.embeddings.create(model=model("embed"), input=["one", "two"], **arguments)

    floats = embed(encoding_format="float")
    check_equal([item.index for item in floats.data], [0, 1], "indexes")
    check(len(floats.data[0].embedding) > 1, "an embedding of no dimension")
    check(floats.usage.prompt_tokens > 0, "no usage")
    encoded = embed(encoding_format="base64")
    check(isinstance(encoded.data[0].embedding, str), "base64 was asked for")
    raw = base64.b64decode(encoded.data[0].embedding)
    check_equal(len(raw) % 4, 0, "bytes beyond whole floats")
    decoded = struct.unpack(f"<{len(raw) // 4}f", raw)
    check_equal(len(decoded), len(floats.data[0].embedding), "dimensions")
    # Without a format the SDK asks for base64 and decodes it.
    default = embed()
    check_equal(tuple(default.data[0].embedding), decoded, "the SDK's own decoding")


@scenario
def transcription():
    sound = b"RIFF" + bytes(range(256)) * 16
    raw = client.audio.transcriptions.with_raw_response.create(
        model=model("whisper"), file=("hello.wav", sound, "audio/wav"), language="en"
    )
    check_headers(raw.headers, "whisper")
    check(raw.parse().text, "no text")


@scenario
def image():
    answer = client.images.generate(model=model("image"), prompt="A sluice gate", n=1)
    check_equal(len(answer.data), 1, "images")
    check(answer.data[0].b64_json or answer.data[0].url, "an image without data")


@gateway_scenario
def models():
    names = [listed.id for listed in client.models.list()]
    for name in ("chat", "tools", "slow", "embed", "whisper", "image"):
        check(name in names, f"`{name}` is not listed in {names}")
    check_equal(len(names), len(set(names)), "names listed once")
    found = client.models.retrieve("chat")
    check_equal((found.id, found.object), ("chat", "model"), "model")
    missing = raised(openai.NotFoundError, lambda: client.models.retrieve("no-such-model"))
    check_equal(missing.code, "model_not_found", "code")


@gateway_scenario
def bad_key():
    stranger = openai.OpenAI(base_url=f"{URL}/v1", api_key=BAD_KEY)
    for ask in (
        lambda: stranger.chat.completions.create(model="chat", messages=HELLO),
        lambda: stranger.chat.completions.create(model="chat", messages=HELLO, stream=True),
        lambda: stranger.responses.create(model="chat", input="Say hello."),
        lambda: stranger.embeddings.create(model="embed", input="one"),
        lambda: list(stranger.models.list()),
    ):
        error = raised(openai.AuthenticationError, ask)
        check_equal(error.status_code, 401, "status")
        check_equal(error.code, "invalid_api_key", "code")
        check_equal(error.type, "invalid_request_error", "type")
        check(error.body["message"], "no message")
        check(error.request_id, "no request id")
        check_no_key(str(error), BAD_KEY)


@gateway_scenario
def unknown_model():
    for ask in (
        lambda: client.chat.completions.create(model="no-such-model", messages=HELLO),
        lambda: client.responses.create(model="no-such-model", input="Say hello."),
        lambda: client.embeddings.create(model="no-such-model", input="one"),
    ):
        error = raised(openai.NotFoundError, ask)
        check_equal(error.status_code, 404, "status")
        check_equal(error.code, "model_not_found", "code")
        check("no-such-model" in error.body["message"], f"message: {error.body['message']}")


@gateway_scenario
def limited():
    """Every target answers 429: the answer is the provider's, and the SDK does not retry on top."""
    started = time.monotonic()
    with Retries("openai") as retries:
        error = raised(
            openai.RateLimitError,
            lambda: client.chat.completions.create(model="limited", messages=HELLO),
        )
    check_equal(error.status_code, 429, "status")
    check_equal(error.response.headers.get("x-should-retry"), "false", "x-should-retry")
    check(error.response.headers.get("retry-after") in ("1", "2"), "retry-after")
    check(error.body and error.body["message"], "no message")
    check_equal(retries.count, 0, "retries of the SDK")
    check(time.monotonic() - started < 1.5, "the SDK has waited for a retry")


def broken_stream(deployment):
    """The error that ends a stream, and the content before it."""
    text = []

    def read():
        for chunk in client.chat.completions.create(
            model=deployment, messages=HELLO, stream=True
        ):
            text.extend(choice.delta.content or "" for choice in chunk.choices)

    error = raised(openai.APIError, read)
    check("".join(text), "the content before the break is lost")
    check_equal(error.code, "upstream_error", "code")
    check(error.message, "no message")


@gateway_scenario
def cut():
    """The provider's connection breaks in mid-stream."""
    broken_stream("cut")


@gateway_scenario
def truncated():
    """The provider ends the stream cleanly, without `[DONE]`: the SDK alone would call it success."""
    broken_stream("truncated")


def broken_responses_stream(deployment):
    """The SDK passes an `error` event on and raises at the cut, or raises at once."""
    types = []

    def read():
        for event in client.responses.create(model=deployment, input="Say hello.", stream=True):
            types.append(event.type)

    try:
        read()
    except openai.APIError:
        check("response.completed" not in types, "a broken stream was completed")
        check("response.output_text.delta" in types, "the content before the break is lost")
        return
    raise AssertionError(f"a broken stream ended like a whole one, after {types}")


@gateway_scenario
def responses_cut():
    broken_responses_stream("cut")


@gateway_scenario
def responses_truncated():
    broken_responses_stream("truncated")


@gateway_scenario
def flaky():
    """The first target answers 503: the caller does not notice."""
    raw = client.chat.completions.with_raw_response.create(model="flaky", messages=HELLO)
    check_equal(raw.retries_taken, 0, "retries of the SDK")
    check_headers(raw.headers, "flaky", attempts=2)
    check(raw.parse().choices[0].message.content, "no content")


@scenario
def cancel():
    stream = client.chat.completions.create(model=model("slow"), messages=HELLO, stream=True)
    seen = 0
    for _ in stream:
        seen += 1
        if seen == 3:
            break
    started = time.monotonic()
    stream.close()
    check(time.monotonic() - started < 1, "closing took long")
    print(f"saw {seen}")
    # The client is still good for the next call.
    check(client.chat.completions.create(model=model("chat"), messages=HELLO).choices, "no answer")


@scenario
def many_at_once():
    """Sixteen streams at once on the asynchronous client, each whole."""

    async def one(asked):
        text = []
        stream = await asked.chat.completions.create(
            model=model("chat"), messages=HELLO, stream=True
        )
        async for chunk in stream:
            text.extend(choice.delta.content or "" for choice in chunk.choices)
        return "".join(text)

    async def many():
        async with openai.AsyncOpenAI(base_url=f"{URL}/v1", api_key=KEY) as asked:
            return await asyncio.gather(*(one(asked) for _ in range(16)))

    texts = asyncio.run(many())
    check(all(texts), "a stream without content")


main()
