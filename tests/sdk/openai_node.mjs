// The official `openai` Node SDK, unmodified but for base URL and key.

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

const OpenAI = load("openai");
const { toFile } = OpenAI;
const client = new OpenAI({ baseURL: `${URL}/v1`, apiKey: KEY });

const messages = [{ role: "user", content: "Say hello." }];
const weather = {
  type: "function",
  function: {
    name: "get_weather",
    description: "The weather at a place",
    parameters: {
      type: "object",
      properties: { location: { type: "string" } },
      required: ["location"],
    },
  },
};

function checkChatUsage(usage) {
  check(usage, "no usage");
  check(usage.prompt_tokens > 0, `prompt_tokens is ${usage.prompt_tokens}`);
  check(usage.completion_tokens > 0, `completion_tokens is ${usage.completion_tokens}`);
  checkEqual(usage.total_tokens, usage.prompt_tokens + usage.completion_tokens, "total_tokens");
}

function checkResponsesUsage(usage) {
  check(usage, "no usage");
  check(usage.input_tokens > 0, `input_tokens is ${usage.input_tokens}`);
  check(usage.output_tokens > 0, `output_tokens is ${usage.output_tokens}`);
  checkEqual(usage.total_tokens, usage.input_tokens + usage.output_tokens, "total_tokens");
}

async function collect(stream) {
  const items = [];
  for await (const item of stream) items.push(item);
  return items;
}

async function chatChunks(deployment, more) {
  const { data, response } = await client.chat.completions
    .create({ model: model(deployment), messages, stream: true, ...more })
    .withResponse();
  checkHeaders(response.headers, deployment);
  const chunks = await collect(data);
  check(chunks.length > 2, `only ${chunks.length} chunks`);
  checkEqual(new Set(chunks.map((chunk) => chunk.id)).size, 1, "ids in one stream");
  return chunks;
}

const textOf = (chunks) =>
  chunks.flatMap((chunk) => chunk.choices.map((choice) => choice.delta.content ?? "")).join("");

const finishReasons = (chunks) =>
  chunks.flatMap((chunk) => chunk.choices.map((choice) => choice.finish_reason)).filter(Boolean);

const anywhere = {
  async chat() {
    const { data, response } = await client.chat.completions
      .create({ model: model("chat"), messages })
      .withResponse();
    checkHeaders(response.headers, "chat");
    checkEqual(data.object, "chat.completion", "object");
    check(data.id, "no id");
    checkEqual(data.choices.length, 1, "choices");
    checkEqual(data.choices[0].finish_reason, "stop", "finish_reason");
    check(data.choices[0].message.content, "no content");
    checkChatUsage(data.usage);
  },

  async chat_stream_with_usage() {
    const chunks = await chatChunks("chat", { stream_options: { include_usage: true } });
    check(textOf(chunks), "no content");
    checkEqual(finishReasons(chunks), ["stop"], "finish reasons");
    checkEqual(chunks.filter((chunk) => chunk.usage).length, 1, "chunks with usage");
    checkEqual(chunks.at(-1).choices, [], "choices of the usage chunk");
    checkChatUsage(chunks.at(-1).usage);
  },

  async chat_stream_without_usage() {
    const chunks = await chatChunks("chat");
    checkEqual(finishReasons(chunks), ["stop"], "finish reasons");
    checkEqual(chunks.filter((chunk) => chunk.usage), [], "usage nobody asked for");
    checkEqual(chunks.filter((chunk) => chunk.choices.length === 0), [], "chunks without a choice");
  },

  // The SDK's own accumulator agrees with the deltas.
  async chat_stream_helper() {
    const deltas = [];
    const stream = client.chat.completions.stream({ model: model("chat"), messages });
    stream.on("content", (delta) => deltas.push(delta));
    const final = await stream.finalChatCompletion();
    check(deltas.length > 0, "no deltas");
    checkEqual(final.choices[0].message.content, deltas.join(""), "accumulated content");
  },

  async tools() {
    const answer = await client.chat.completions.create({
      model: model("tools"),
      messages,
      tools: [weather],
    });
    const [choice] = answer.choices;
    checkEqual(choice.finish_reason, "tool_calls", "finish_reason");
    check(choice.message.tool_calls.length > 0, "no tool calls");
    for (const call of choice.message.tool_calls) {
      check(call.id && call.function.name, "a tool call without id or name");
      checkEqual(typeof JSON.parse(call.function.arguments), "object", "arguments");
    }
    checkChatUsage(answer.usage);
  },

  async tools_stream() {
    const chunks = await chatChunks("tools", {
      tools: [weather],
      stream_options: { include_usage: true },
    });
    const calls = [];
    for (const delta of chunks.flatMap((chunk) => chunk.choices.map((choice) => choice.delta))) {
      for (const piece of delta.tool_calls ?? []) {
        const call = (calls[piece.index] ??= { arguments: "" });
        call.id ??= piece.id;
        call.name ??= piece.function?.name;
        call.arguments += piece.function?.arguments ?? "";
      }
    }
    check(calls.length > 0, "no tool calls");
    for (const call of calls) {
      check(call.id && call.name, "a tool call without id or name");
      checkEqual(typeof JSON.parse(call.arguments), "object", "arguments");
    }
    checkEqual(finishReasons(chunks), ["tool_calls"], "finish reasons");
    checkChatUsage(chunks.at(-1).usage);
  },

  async responses() {
    const { data, response } = await client.responses
      .create({ model: model("chat"), input: "Say hello." })
      .withResponse();
    checkHeaders(response.headers, "chat");
    checkEqual([data.object, data.status], ["response", "completed"], "object and status");
    check(data.id, "no id");
    check(data.output_text, "no text");
    checkResponsesUsage(data.usage);
  },

  async responses_stream() {
    const events = await collect(
      await client.responses.create({ model: model("chat"), input: "Say hello.", stream: true }),
    );
    checkEqual(events[0].type, "response.created", "first event");
    checkEqual(events.at(-1).type, "response.completed", "last event");
    const numbers = events.map((event) => event.sequence_number);
    checkEqual(numbers, [...events.keys()], "sequence numbers");
    const text = events
      .filter((event) => event.type === "response.output_text.delta")
      .map((event) => event.delta)
      .join("");
    check(text, "no text deltas");
    const final = events.at(-1).response;
    const finalText = final.output
      .flatMap((item) => item.content ?? [])
      .map((part) => part.text ?? "")
      .join("");
    checkEqual(finalText, text, "joined deltas");
    checkResponsesUsage(final.usage);
  },

  async embeddings() {
    const embed = (more) =>
      client.embeddings.create({ model: model("embed"), input: ["one", "two"], ...more });
    const floats = await embed({ encoding_format: "float" });
    checkEqual(floats.data.map((item) => item.index), [0, 1], "indexes");
    check(floats.usage.prompt_tokens > 0, "no usage");
    const encoded = await embed({ encoding_format: "base64" });
    checkEqual(typeof encoded.data[0].embedding, "string", "what base64 answers");
    // Without a format the SDK asks for base64 and decodes it.
    const decoded = await embed({});
    checkEqual(decoded.data[0].embedding.length, floats.data[0].embedding.length, "dimensions");
    const bytes = Buffer.from(Float32Array.from(decoded.data[0].embedding).buffer);
    checkEqual(bytes.toString("base64"), encoded.data[0].embedding, "the SDK's own decoding");
  },

  async transcription() {
    const sound = Buffer.concat([Buffer.from("RIFF"), Buffer.alloc(4096, 7)]);
    const answer = await client.audio.transcriptions.create({
      model: model("whisper"),
      file: await toFile(sound, "hello.wav", { type: "audio/wav" }),
      language: "en",
    });
    check(answer.text, "no text");
  },

  async image() {
    const answer = await client.images.generate({ model: model("image"), prompt: "A gate", n: 1 });
    checkEqual(answer.data.length, 1, "images");
    check(answer.data[0].b64_json || answer.data[0].url, "an image without data");
  },

  async cancel() {
    const stream = await client.chat.completions.create({
      model: model("slow"),
      messages,
      stream: true,
    });
    let seen = 0;
    // Leaving the loop aborts the request.
    for await (const _ of stream) {
      seen += 1;
      if (seen === 3) break;
    }
    check(stream.controller.signal.aborted, "the request was not aborted");
    console.log(`saw ${seen}`);
    const next = await client.chat.completions.create({ model: model("chat"), messages });
    check(next.choices[0].message.content, "no content");
  },
};

/** The error that ends a chat stream, and the content before it. */
async function brokenStream(deployment) {
  let text = "";
  const error = await raised(OpenAI.APIError, async () => {
    const stream = await client.chat.completions.create({
      model: deployment,
      messages,
      stream: true,
    });
    for await (const chunk of stream) text += textOf([chunk]);
  });
  check(text, "the content before the break is lost");
  checkEqual(error.code, "upstream_error", "code");
  check(error.message, "no message");
}

/** The SDK passes an `error` event on and throws at the cut, or throws at once. */
async function brokenResponsesStream(deployment) {
  const types = [];
  let hasThrown = false;
  try {
    const stream = await client.responses.create({
      model: deployment,
      input: "Say hello.",
      stream: true,
    });
    for await (const event of stream) types.push(event.type);
  } catch {
    hasThrown = true;
  }
  check(hasThrown, `a broken stream ended like a whole one, after ${types}`);
  check(!types.includes("response.completed"), "a broken stream was completed");
  check(types.includes("response.output_text.delta"), "the content before the break is lost");
}

const gateway = {
  async models() {
    const names = (await collect(client.models.list())).map((listed) => listed.id);
    for (const name of ["chat", "tools", "slow", "embed", "whisper", "image"]) {
      check(names.includes(name), `\`${name}\` is not listed in ${names}`);
    }
    const found = await client.models.retrieve("chat");
    checkEqual([found.id, found.object], ["chat", "model"], "model");
    const missing = await raised(OpenAI.NotFoundError, () => client.models.retrieve("no-such"));
    checkEqual(missing.code, "model_not_found", "code");
  },

  async bad_key() {
    const stranger = new OpenAI({ baseURL: `${URL}/v1`, apiKey: BAD_KEY });
    for (const ask of [
      () => stranger.chat.completions.create({ model: "chat", messages }),
      () => stranger.chat.completions.create({ model: "chat", messages, stream: true }),
      () => stranger.responses.create({ model: "chat", input: "Say hello." }),
      () => stranger.models.list(),
    ]) {
      const error = await raised(OpenAI.AuthenticationError, ask);
      checkEqual(error.status, 401, "status");
      checkEqual(error.code, "invalid_api_key", "code");
      checkEqual(error.type, "invalid_request_error", "type");
      check(error.requestID, "no request id");
      check(error.error.message, "no message");
      checkNoKey(error.message, BAD_KEY);
    }
  },

  async unknown_model() {
    const error = await raised(OpenAI.NotFoundError, () =>
      client.chat.completions.create({ model: "no-such-model", messages }),
    );
    checkEqual(error.status, 404, "status");
    checkEqual(error.code, "model_not_found", "code");
    check(error.message.includes("no-such-model"), `message: ${error.message}`);
  },

  // Every target answers 429: the answer is the provider's, and the SDK does not retry on top.
  async limited() {
    let error;
    const sent = await requestsDuring(async () => {
      error = await raised(OpenAI.RateLimitError, () =>
        client.chat.completions.create({ model: "limited", messages }),
      );
    });
    checkEqual(error.status, 429, "status");
    checkEqual(error.headers.get("x-should-retry"), "false", "x-should-retry");
    check(["1", "2"].includes(error.headers.get("retry-after")), "retry-after");
    check(error.error.message, "no message");
    checkEqual(sent, 1, "requests of the SDK");
  },

  // The provider's connection breaks in mid-stream.
  cut: () => brokenStream("cut"),

  // The provider ends the stream cleanly, without `[DONE]`: the SDK alone would call it success.
  truncated: () => brokenStream("truncated"),

  responses_cut: () => brokenResponsesStream("cut"),
  responses_truncated: () => brokenResponsesStream("truncated"),

  // The first target answers 503: the caller does not notice.
  async flaky() {
    let answer;
    const sent = await requestsDuring(async () => {
      answer = await client.chat.completions.create({ model: "flaky", messages }).withResponse();
    });
    checkHeaders(answer.response.headers, "flaky", 2);
    check(answer.data.choices[0].message.content, "no content");
    checkEqual(sent, 1, "requests of the SDK");
  },
};

await main(anywhere, gateway);
