"""The official `anthropic` Python SDK against providers that speak OpenAI's dialects."""

import anthropic
from scenarios import KEY, URL, check, check_equal, main, raised, scenario

client = anthropic.Anthropic(base_url=URL, api_key=KEY, max_retries=0)

# One that speaks `responses` and `chat`, one that speaks `chat` alone.
MODELS = ["gpt", "compatible"]
ASK = {"max_tokens": 256, "system": "Be brief.", "messages": [{"role": "user", "content": "Say hello."}]}
SCHEMA = {
    "type": "object",
    "properties": {"location": {"type": "string"}},
    "required": ["location"],
    "additionalProperties": False,
}
WEATHER = {"name": "get_weather", "description": "The weather", "input_schema": SCHEMA}


@scenario
def message():
    for model in MODELS:
        answer = client.messages.create(model=model, **ASK)
        check(answer.id.startswith("msg_"), answer.id)
        check_equal(answer.stop_reason, "end_turn", "stop_reason")
        check(answer.content[0].text, "no text")
        check(answer.usage.input_tokens > 0 and answer.usage.output_tokens > 0, "no usage")


@scenario
def message_stream_helper():
    for model in MODELS:
        with client.messages.stream(model=model, **ASK) as stream:
            texts = list(stream.text_stream)
            final = stream.get_final_message()
        check(len(texts) > 1, "not streamed")
        check_equal(final.content[0].text, "".join(texts), "accumulated text")
        check(final.usage.input_tokens > 0 and final.usage.output_tokens > 0, "no usage")


@scenario
def tool_turns():
    """Parallel calls with thoughts, streamed and not, and everything sent back."""
    for model in MODELS:
        messages = [{"role": "user", "content": "The weather?"}]
        arguments = {
            "model": f"{model}-tools",
            "max_tokens": 2048,
            "tools": [WEATHER],
            "thinking": {"type": "enabled", "budget_tokens": 1024},
            "messages": messages,
        }
        for is_stream in (False, True):
            if is_stream:
                with client.messages.stream(**arguments) as stream:
                    for _ in stream:
                        pass
                    answer = stream.get_final_message()
            else:
                answer = client.messages.create(**arguments)
            check_equal(answer.stop_reason, "tool_use", "stop_reason")
            kinds = [block.type for block in answer.content]
            check_equal(kinds, ["thinking", "tool_use", "tool_use"], "blocks")
            check(answer.content[0].signature, "no seal of the thought")
            results = []
            for block in answer.content[1:]:
                check(isinstance(block.input, dict), "input is no object")
                results.append(
                    {
                        "type": "tool_result",
                        "tool_use_id": block.id,
                        "content": [{"type": "text", "text": "sunny"}],
                    }
                )
            messages.append({"role": "assistant", "content": answer.content})
            messages.append({"role": "user", "content": results})
        last = client.messages.create(model=model, max_tokens=256, messages=messages, tools=[WEATHER])
        check(last.content[0].text, "no text")


@scenario
def image_and_document():
    source = {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}
    document = {"type": "base64", "media_type": "application/pdf", "data": "AAAA"}
    content = [
        {"type": "text", "text": "What is it?", "cache_control": {"type": "ephemeral"}},
        {"type": "image", "source": source},
        {"type": "document", "source": document, "title": "a.pdf"},
    ]
    for model in MODELS:
        answer = client.messages.create(
            model=model, max_tokens=256, messages=[{"role": "user", "content": content}]
        )
        check(answer.content[0].text, "no text")


@scenario
def structured():
    for model in MODELS:
        answer = client.messages.create(
            model=model,
            **ASK,
            extra_body={"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}},
        )
        check(answer.content[0].text, "no text")


@scenario
def errors():
    error = raised(
        anthropic.BadRequestError, lambda: client.messages.create(model="gpt-400", **ASK)
    )
    check_equal(error.body["error"]["message"], "prompt is too long", "message")
    raised(anthropic.RateLimitError, lambda: client.messages.create(model="gpt-429", **ASK))
    error = raised(
        anthropic.BadRequestError,
        lambda: client.messages.create(model="gpt", extra_body={"container": "c"}, **ASK),
    )
    check("container" in error.body["error"]["message"], "the field is not named")


@scenario
def broken_stream():
    def read():
        with client.messages.stream(model="gpt-cut", **ASK) as stream:
            for _ in stream:
                pass

    try:
        read()
    except anthropic.APIError:
        return
    except Exception as error:  # The connection is cut after the error event.
        check("closed" in str(error) or "incomplete" in str(error), f"{type(error)}: {error}")
        return
    raise AssertionError("nothing was raised")


main()
