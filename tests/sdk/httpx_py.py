"""`httpx`, an HTTP client that is no SDK: HTTP/1.1 and HTTP/2, and the places for a key.

HTTP/2 is tried without TLS, by prior knowledge, which the gateway's configuration must switch on
(`data.h2c = true`).
"""

import json

import httpx
from scenarios import KEY, URL, check, check_equal, check_headers, gateway_scenario, main, model, scenario

BODY = {"model": model("chat"), "messages": [{"role": "user", "content": "Say hello."}]}
BEARER = {"authorization": f"Bearer {KEY}"}


def data_lines(client, body, headers):
    """The `data:` of every event of a streamed answer."""
    with client.stream("POST", f"{URL}/v1/chat/completions", json=body, headers=headers) as answer:
        check_equal(answer.status_code, 200, "status")
        lines = list(answer.iter_lines())
    return [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]


def ask_and_stream(client):
    answer = client.post(f"{URL}/v1/chat/completions", json=BODY, headers=BEARER)
    check_equal(answer.status_code, 200, f"status of {answer.text}")
    check_headers(answer.headers, "chat")
    check(answer.json()["choices"][0]["message"]["content"], "no content")
    data = data_lines(client, {**BODY, "stream": True}, BEARER)
    check_equal(data[-1], "[DONE]", "last event")
    for line in data[:-1]:
        check_equal(json.loads(line)["object"], "chat.completion.chunk", "object")
    return answer.http_version


@scenario
def http1():
    with httpx.Client(trust_env=False) as client:
        check_equal(ask_and_stream(client), "HTTP/1.1", "version")


@gateway_scenario
def http2():
    with httpx.Client(http1=False, http2=True, trust_env=False) as client:
        check_equal(ask_and_stream(client), "HTTP/2", "version")


@gateway_scenario
def key_places():
    with httpx.Client(trust_env=False) as client:
        for name in ("x-api-key", "api-key", "x-goog-api-key"):
            answer = client.post(f"{URL}/v1/chat/completions", json=BODY, headers={name: KEY})
            check_equal(answer.status_code, 200, f"status with {name}")
        answer = client.post(f"{URL}/v1/chat/completions?key={KEY}", json=BODY)
        check_equal(answer.status_code, 401, "status with a key in the URL")
        check_equal(answer.json()["error"]["code"], "invalid_api_key", "code")


main()
