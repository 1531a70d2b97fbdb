// The official `@anthropic-ai/sdk` Node SDK, unmodified but for base URL and key.

import {
  BAD_KEY,
  KEY,
  URL,
  check,
  checkEqual,
  checkHeaders,
  checkNoKey,
  load,
  main,
  model,
  raised,
  requestsDuring,
} from "./scenarios.mjs";

const Anthropic = load("@anthropic-ai/sdk");
const client = new Anthropic({ baseURL: URL, apiKey: KEY });

const messages = [{ role: "user", content: "Say hello." }];
const ask = (deployment, more) => ({ model: deployment, max_tokens: 256, messages, ...more });
const weather = {
  name: "get_weather",
  description: "The weather at a place",
  input_schema: {
    type: "object",
    properties: { location: { type: "string" } },
    required: ["location"],
  },
};

function checkUsage(usage) {
  check(usage.input_tokens > 0, `input_tokens is ${usage.input_tokens}`);
  check(usage.output_tokens > 0, `output_tokens is ${usage.output_tokens}`);
}

async function collect(stream) {
  const items = [];
  for await (const item of stream) items.push(item);
  return items;
}

const anywhere = {
  async message() {
    const { data, response } = await client.messages.create(ask(model("chat"))).withResponse();
    checkHeaders(response.headers, "chat");
    checkEqual([data.type, data.role], ["message", "assistant"], "type and role");
    check(data.id, "no id");
    checkEqual(data.stop_reason, "end_turn", "stop_reason");
    check(data.content[0].text, "no text");
    checkUsage(data.usage);
  },

  async message_stream() {
    const { data, response } = await client.messages
      .create(ask(model("chat"), { stream: true }))
      .withResponse();
    checkHeaders(response.headers, "chat");
    const events = await collect(data);
    const types = events.map((event) => event.type);
    checkEqual(types[0], "message_start", "first event");
    checkEqual(types.slice(-2), ["message_delta", "message_stop"], "last events");
    check(events[0].message.usage.input_tokens > 0, "no input tokens");
    check(events.at(-2).usage.output_tokens > 0, "no output tokens");
    checkEqual(events.at(-2).delta.stop_reason, "end_turn", "stop_reason");
  },

  // The SDK's own accumulator agrees with the deltas.
  async message_stream_helper() {
    const deltas = [];
    const stream = client.messages.stream(ask(model("chat")));
    stream.on("text", (delta) => deltas.push(delta));
    const final = await stream.finalMessage();
    check(deltas.length > 0, "no deltas");
    checkEqual(final.content.map((block) => block.text).join(""), deltas.join(""), "text");
    checkUsage(final.usage);
  },

  async tools() {
    const answer = await client.messages.create(ask(model("tools"), { tools: [weather] }));
    checkEqual(answer.stop_reason, "tool_use", "stop_reason");
    const calls = answer.content.filter((block) => block.type === "tool_use");
    check(calls.length > 0, "no tool use");
    for (const call of calls) {
      check(call.id && call.name, "a tool use without id or name");
      checkEqual(typeof call.input, "object", "input");
    }
  },

  async tools_stream() {
    const pieces = [];
    const stream = client.messages.stream(ask(model("tools"), { tools: [weather] }));
    stream.on("inputJson", (piece) => pieces.push(piece));
    const final = await stream.finalMessage();
    const calls = final.content.filter((block) => block.type === "tool_use");
    check(calls.length > 0, "no tool use");
    if (calls.length === 1) {
      checkEqual(JSON.parse(pieces.join("")), calls[0].input, "accumulated input");
    }
    checkEqual(final.stop_reason, "tool_use", "stop_reason");
    checkUsage(final.usage);
  },

  async count_tokens() {
    const counted = await client.messages.countTokens({ model: model("chat"), messages });
    check(counted.input_tokens > 0, `input_tokens is ${counted.input_tokens}`);
  },

  async cancel() {
    const stream = await client.messages.create(ask(model("slow"), { stream: true }));
    let seen = 0;
    // Leaving the loop aborts the request.
    for await (const _ of stream) {
      seen += 1;
      if (seen === 3) break;
    }
    check(stream.controller.signal.aborted, "the request was not aborted");
    console.log(`saw ${seen}`);
    check((await client.messages.create(ask(model("chat")))).content[0].text, "no text");
  },
};

async function brokenStream(deployment) {
  let text = "";
  // The stream is read by hand: the accumulating helper wraps the error.
  const error = await raised(Anthropic.APIError, async () => {
    const stream = await client.messages.create(ask(deployment, { stream: true }));
    for await (const event of stream) text += event.delta?.text ?? "";
  });
  check(text, "the content before the break is lost");
  checkEqual(error.error.type, "error", "outer type");
  checkEqual(error.error.error.type, "api_error", "type");
  check(error.error.error.message, "no message");
}

const gateway = {
  async models() {
    const listed = await collect(client.models.list());
    check(
      listed.some((entry) => entry.id === "chat"),
      "`chat` is not listed",
    );
    checkEqual(new Set(listed.map((entry) => entry.type)), new Set(["model"]), "types");
    const found = await client.models.retrieve("chat");
    checkEqual([found.id, found.type], ["chat", "model"], "model");
    check(found.display_name && found.created_at, "no display name or date");
  },

  async bad_key() {
    const stranger = new Anthropic({ baseURL: URL, apiKey: BAD_KEY });
    for (const call of [
      () => stranger.messages.create(ask("chat")),
      () => stranger.messages.create(ask("chat", { stream: true })),
      () => stranger.messages.countTokens({ model: "chat", messages }),
      () => stranger.models.list(),
    ]) {
      const error = await raised(Anthropic.AuthenticationError, call);
      checkEqual(error.status, 401, "status");
      checkEqual(error.error.type, "error", "outer type");
      checkEqual(error.error.error.type, "authentication_error", "type");
      checkEqual(error.error.request_id, error.headers.get("x-request-id"), "request_id");
      check(error.error.error.message, "no message");
      checkNoKey(error.message, BAD_KEY);
    }
  },

  async unknown_model() {
    const error = await raised(Anthropic.NotFoundError, () =>
      client.messages.create(ask("no-such-model")),
    );
    checkEqual(error.status, 404, "status");
    checkEqual(error.error.error.type, "not_found_error", "type");
    check(error.message.includes("no-such-model"), `message: ${error.message}`);
  },

  // Every target answers 429: the answer is the provider's, and the SDK does not retry on top.
  async limited() {
    let error;
    const sent = await requestsDuring(async () => {
      error = await raised(Anthropic.RateLimitError, () => client.messages.create(ask("limited")));
    });
    checkEqual(error.status, 429, "status");
    checkEqual(error.headers.get("x-should-retry"), "false", "x-should-retry");
    check(["1", "2"].includes(error.headers.get("retry-after")), "retry-after");
    checkEqual(error.error.error.type, "rate_limit_error", "type");
    checkEqual(sent, 1, "requests of the SDK");
  },

  // The provider's connection breaks in mid-stream.
  cut: () => brokenStream("cut"),

  // The provider ends the stream cleanly, without `message_stop`.
  truncated: () => brokenStream("truncated"),

  // The first target answers 503: the caller does not notice.
  async flaky() {
    const { data, response } = await client.messages.create(ask("flaky")).withResponse();
    checkHeaders(response.headers, "flaky", 2);
    check(data.content[0].text, "no text");
  },
};

await main(anywhere, gateway);
