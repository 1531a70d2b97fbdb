"""The official `ollama` Python client against providers that speak other dialects."""

import json

import ollama
from scenarios import BAD_KEY, KEY, URL, check, check_equal, main, raised, scenario

client = ollama.Client(host=URL, headers={"authorization": f"Bearer {KEY}"})

HELLO = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Say hello."}]
MODELS = ("gpt", "claude", "compatible")
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather",
        "parameters": {
            "type": "object",
            "properties": {"location": {"type": "string"}},
            "required": ["location"],
        },
    },
}
PIXEL = b"\x89PNG\r\n\x1a\n"


@scenario
def chat():
    for model in MODELS:
        answer = client.chat(model=model, messages=HELLO, options={"temperature": 0.5})
        check(answer.message.content, "no content")
        check_equal((answer.done, answer.done_reason), (True, "stop"), "end")
        check(answer.prompt_eval_count > 0 and answer.eval_count > 0, "no usage")


@scenario
def chat_stream():
    for model in MODELS:
        parts = list(client.chat(model=model, messages=HELLO, stream=True))
        check(len([part for part in parts if part.message.content]) > 1, "not streamed")
        check(parts[-1].done and parts[-1].eval_count > 0, "no end")


@scenario
def generate():
    for is_stream in (False, True):
        answer = client.generate(
            model="claude", prompt="Say hello.", system="Be brief.", stream=is_stream
        )
        parts = list(answer) if is_stream else [answer]
        check("".join(part.response for part in parts), "no response")
        check(parts[-1].done, "no end")


@scenario
def tool_turns():
    for model in ("gpt-tools", "claude-tools", "compatible-tools"):
        messages = [{"role": "user", "content": "The weather?"}]
        for is_stream in (False, True):
            answer = client.chat(
                model=model, messages=messages, tools=[WEATHER], stream=is_stream, think=True
            )
            parts = list(answer) if is_stream else [answer]
            calls = [call for part in parts for call in (part.message.tool_calls or [])]
            check_equal(len(calls), 2, f"calls of {model}, streamed: {is_stream}")
            thinking = "".join(part.message.thinking or "" for part in parts)
            check(thinking, f"no thought of {model}")
            content = "".join(part.message.content or "" for part in parts)
            messages.append(
                {
                    "role": "assistant",
                    "content": content,
                    "thinking": thinking,
                    "tool_calls": [call.model_dump() for call in calls],
                }
            )
            for call in calls:
                result = {"role": "tool", "tool_name": call.function.name, "content": "sunny"}
                messages.append(result)
        last = client.chat(model=model.removesuffix("-tools"), messages=messages, tools=[WEATHER])
        check(last.message.content, "no content")


@scenario
def image():
    message = {"role": "user", "content": "What is it?", "images": [PIXEL]}
    check(client.chat(model="claude", messages=[message]).message.content, "no content")


@scenario
def structured_by_tool():
    schema = WEATHER["function"]["parameters"]
    answer = client.chat(model="claude-old-tools", messages=HELLO, format=schema)
    check(isinstance(json.loads(answer.message.content), dict), answer.message.content)


@scenario
def models_are_listed():
    names = [model.model for model in client.list().models]
    check("gpt" in names, names)


@scenario
def errors_are_ollamas():
    def ask(model, of=client):
        return lambda: of.chat(model=model, messages=HELLO)

    for model, status in [("gpt-400", 400), ("claude-429", 429), ("nothing", 404)]:
        error = raised(ollama.ResponseError, ask(model))
        check_equal(error.status_code, status, model)
        check(error.error, "no message")
    bad = ollama.Client(host=URL, headers={"authorization": f"Bearer {BAD_KEY}"})
    check_equal(raised(ollama.ResponseError, ask("gpt", bad)).status_code, 401, "bad key")


@scenario
def cut_stream_raises():
    for model in ("gpt-cut", "claude-cut"):

        def read(model=model):
            return list(client.chat(model=model, messages=HELLO, stream=True))

        raised(ollama.ResponseError, read)


main()
