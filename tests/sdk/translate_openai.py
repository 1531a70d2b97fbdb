"""The official `openai` Python SDK against providers that speak Anthropic's dialect."""

import json

import openai
from pydantic import BaseModel
from scenarios import KEY, URL, check, check_equal, main, raised, scenario

client = openai.OpenAI(base_url=f"{URL}/v1", api_key=KEY, max_retries=0)

HELLO = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Say hello."}]
SCHEMA = {
    "type": "object",
    "properties": {"location": {"type": "string"}},
    "required": ["location"],
    "additionalProperties": False,
}
WEATHER = {
    "type": "function",
    "function": {"name": "get_weather", "description": "The weather", "parameters": SCHEMA},
}
PIXEL = "data:image/png;base64,iVBORw0KGgo="


class Place(BaseModel):
    location: str


@scenario
def chat():
    answer = client.chat.completions.create(model="claude", messages=HELLO, temperature=0.5)
    check(answer.id.startswith("chatcmpl-"), answer.id)
    check_equal(answer.choices[0].finish_reason, "stop", "finish_reason")
    check(answer.choices[0].message.content, "no content")
    check(answer.usage.prompt_tokens > 0 and answer.usage.completion_tokens > 0, "no usage")


@scenario
def chat_stream_helper():
    deltas = []
    arguments = {"stream_options": {"include_usage": True}}
    with client.chat.completions.stream(model="claude", messages=HELLO, **arguments) as stream:
        for event in stream:
            if event.type == "content.delta":
                deltas.append(event.delta)
        final = stream.get_final_completion()
    check(len(deltas) > 1, "not streamed")
    check_equal(final.choices[0].message.content, "".join(deltas), "accumulated content")
    check(final.usage.completion_tokens > 0, "no usage")


@scenario
def tool_turns():
    """Parallel calls, streamed and not, and their results sent back with the thoughts."""
    messages = [{"role": "user", "content": "The weather?"}]
    for is_stream in (False, True):
        if is_stream:
            with client.chat.completions.stream(
                model="claude-tools", messages=messages, tools=[WEATHER]
            ) as stream:
                for _ in stream:
                    pass
                message = stream.get_final_completion().choices[0].message
        else:
            answer = client.chat.completions.create(
                model="claude-tools", messages=messages, tools=[WEATHER]
            )
            check_equal(answer.choices[0].finish_reason, "tool_calls", "finish_reason")
            message = answer.choices[0].message
        check_equal(len(message.tool_calls), 2, "calls")
        sent = message.model_dump(exclude_none=True)
        check(sent["reasoning_details"][0]["signature"], "no seal of the thought")
        messages.append(sent)
        for call in message.tool_calls:
            check(isinstance(json.loads(call.function.arguments), dict), "arguments")
            messages.append({"role": "tool", "tool_call_id": call.id, "content": "sunny"})
    last = client.chat.completions.create(model="claude", messages=messages, tools=[WEATHER])
    check(last.choices[0].message.content, "no content")


@scenario
def image_and_document():
    parts = [
        {"type": "text", "text": "What is it?"},
        {"type": "image_url", "image_url": {"url": PIXEL}},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,AAAA"}},
    ]
    answer = client.chat.completions.create(
        model="claude", messages=[{"role": "user", "content": parts}]
    )
    check(answer.choices[0].message.content, "no content")


@scenario
def structured_by_tool():
    """An older model gets a tool for the schema; the SDK sees the parsed answer."""
    answer = client.chat.completions.create(
        model="claude-old-tools",
        messages=HELLO,
        response_format={"type": "json_schema", "json_schema": {"name": "get_weather", "schema": SCHEMA}},
        tools=[],
    )
    check_equal(answer.choices[0].finish_reason, "stop", "finish_reason")
    check_equal(answer.choices[0].message.tool_calls, None, "calls")
    check(isinstance(json.loads(answer.choices[0].message.content), dict), "no JSON")


@scenario
def responses():
    answer = client.responses.create(model="claude", input="Say hello.", instructions="Be brief.")
    check_equal(answer.status, "completed", "status")
    check(answer.output_text, "no text")
    check_equal(answer.instructions, "Be brief.", "instructions")
    check(answer.usage.input_tokens > 0, "no usage")


@scenario
def responses_stream():
    deltas = []
    with client.responses.stream(model="claude", input="Say hello.") as stream:
        for event in stream:
            if event.type == "response.output_text.delta":
                deltas.append(event.delta)
        final = stream.get_final_response()
    check(len(deltas) > 1, "not streamed")
    check_equal(final.output_text, "".join(deltas), "accumulated text")


@scenario
def responses_tool_turns():
    tool = {"type": "function", "name": "get_weather", "parameters": SCHEMA, "strict": True}
    items = [{"role": "user", "content": "The weather?"}]
    for is_stream in (False, True):
        arguments = {"model": "claude-tools", "input": items, "tools": [tool], "store": False}
        if is_stream:
            with client.responses.stream(**arguments) as stream:
                for _ in stream:
                    pass
                answer = stream.get_final_response()
        else:
            answer = client.responses.create(**arguments)
        calls = [item for item in answer.output if item.type == "function_call"]
        thoughts = [item for item in answer.output if item.type == "reasoning"]
        check_equal((len(calls), len(thoughts)), (2, 1), "calls and thoughts")
        check(thoughts[0].encrypted_content, "no seal of the thought")
        items += [item.model_dump(exclude_none=True) for item in answer.output]
        for call in calls:
            output = {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}
            items.append(output)
    check(client.responses.create(model="claude", input=items, tools=[tool]).output_text, "no text")


@scenario
def errors():
    """The provider's errors are raised as the SDK's own."""
    error = raised(
        openai.BadRequestError,
        lambda: client.chat.completions.create(model="claude-400", messages=HELLO),
    )
    check_equal(error.code, "context_length_exceeded", "code")
    raised(
        openai.RateLimitError,
        lambda: client.chat.completions.create(model="claude-429", messages=HELLO),
    )
    error = raised(
        openai.BadRequestError,
        lambda: client.chat.completions.create(model="claude", messages=HELLO, seed=7),
    )
    check_equal((error.code, error.param), ("unsupported_parameter", "seed"), "code and param")


@scenario
def broken_stream():
    def read():
        with client.chat.completions.stream(model="claude-cut", messages=HELLO) as stream:
            for _ in stream:
                pass

    raised(openai.APIError, read)


main()
