"""The official `google-genai` Python SDK against providers that speak other dialects."""

import json

from google import genai
from google.genai import errors, types
from pydantic import BaseModel
from scenarios import BAD_KEY, KEY, URL, check, check_equal, main, raised, scenario

OPTIONS = types.HttpOptions(base_url=URL, retry_options=types.HttpRetryOptions(attempts=1))
client = genai.Client(api_key=KEY, http_options=OPTIONS)

WEATHER = types.Tool(
    function_declarations=[
        types.FunctionDeclaration(
            name="get_weather",
            description="The weather",
            parameters=types.Schema(
                type="OBJECT",
                properties={"location": types.Schema(type="STRING")},
                required=["location"],
            ),
        )
    ]
)
BY_HAND = types.AutomaticFunctionCallingConfig(disable=True)
PIXEL = types.Part.from_bytes(data=b"\x89PNG\r\n\x1a\n", mime_type="image/png")


class Place(BaseModel):
    location: str


@scenario
def generate():
    config = types.GenerateContentConfig(
        system_instruction="Be brief.", temperature=0.5, max_output_tokens=100
    )
    for model in ("gpt", "claude", "compatible"):
        answer = client.models.generate_content(model=model, contents="Say hello.", config=config)
        check(answer.text, "no text")
        check_equal(answer.candidates[0].finish_reason.value, "STOP", "finish_reason")
        check(answer.usage_metadata.prompt_token_count > 0, "no input")
        check(answer.usage_metadata.candidates_token_count > 0, "no output")


@scenario
def stream():
    for model in ("gpt", "claude", "compatible"):
        chunks = list(client.models.generate_content_stream(model=model, contents="Say hello."))
        texts = [chunk.text for chunk in chunks if chunk.text]
        check(len(texts) > 1, "not streamed")
        check_equal(chunks[-1].candidates[0].finish_reason.value, "STOP", "finish_reason")
        check(chunks[-1].usage_metadata.total_token_count > 0, "no usage")


@scenario
def tool_turns():
    """Parallel calls, streamed and not, and their results sent back with the thoughts."""
    config = types.GenerateContentConfig(tools=[WEATHER], automatic_function_calling=BY_HAND)
    for model in ("gpt-tools", "claude-tools", "compatible-tools"):
        contents = [types.Content(role="user", parts=[types.Part(text="The weather?")])]
        for is_stream in (False, True):
            if is_stream:
                chunks = client.models.generate_content_stream(
                    model=model, contents=contents, config=config
                )
                parts = [
                    part
                    for chunk in chunks
                    for part in (chunk.candidates[0].content.parts or [])
                ]
            else:
                answer = client.models.generate_content(
                    model=model, contents=contents, config=config
                )
                parts = answer.candidates[0].content.parts
            calls = [part.function_call for part in parts if part.function_call]
            check_equal(len(calls), 2, f"calls of {model}, streamed: {is_stream}")
            check(all(isinstance(call.args, dict) for call in calls), "arguments")
            check(any(part.thought for part in parts), f"no thought of {model}")
            if model == "claude-tools":
                check(any(part.thought_signature for part in parts), "no seal of the thought")
            contents.append(types.Content(role="model", parts=parts))
            results = [
                types.Part(
                    function_response=types.FunctionResponse(
                        id=call.id, name=call.name, response={"result": "sunny"}
                    )
                )
                for call in calls
            ]
            contents.append(types.Content(role="user", parts=results))
        last = client.models.generate_content(
            model=model.removesuffix("-tools"), contents=contents, config=config
        )
        check(last.text, "no text")


@scenario
def chat_session():
    chat = client.chats.create(model="gpt")
    for _ in range(3):
        check(chat.send_message("Go on.").text, "no text")
    check_equal(len(chat.get_history()), 6, "turns")


@scenario
def image():
    answer = client.models.generate_content(model="claude", contents=["What is it?", PIXEL])
    check(answer.text, "no text")


@scenario
def structured_by_tool():
    """An older model gets a tool for the schema; the SDK sees the parsed answer."""
    config = types.GenerateContentConfig(
        response_mime_type="application/json", response_schema=Place
    )
    answer = client.models.generate_content(
        model="claude-old-tools", contents="Where?", config=config
    )
    check(isinstance(json.loads(answer.text), dict), answer.text)


@scenario
def models_are_listed():
    names = [model.name for model in client.models.list()]
    check("models/gpt" in names, names)
    check_equal(client.models.get(model="gpt").name, "models/gpt", "name")


@scenario
def errors_are_google_s():
    def ask(model, of=client):
        return lambda: of.models.generate_content(model=model, contents="hello")

    for model, code, status in [
        ("gpt-400", 400, "INVALID_ARGUMENT"),
        ("claude-429", 429, "RESOURCE_EXHAUSTED"),
        ("nothing", 404, "NOT_FOUND"),
    ]:
        error = raised(errors.ClientError, ask(model))
        check_equal((error.code, error.status), (code, status), model)
    bad = genai.Client(api_key=BAD_KEY, http_options=OPTIONS)
    error = raised(errors.ClientError, ask("gpt", bad))
    check_equal((error.code, error.status), (401, "UNAUTHENTICATED"), "bad key")


@scenario
def cut_stream_raises():
    for model in ("gpt-cut", "claude-cut"):

        try:
            list(client.models.generate_content_stream(model=model, contents="hello"))
        except Exception:
            continue
        raise AssertionError(f"the cut stream of {model} was taken for a whole one")


main()
