// The Vercel AI SDK, `ai` with `@ai-sdk/openai`, unmodified but for base URL and key.

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

const {
  APICallError,
  RetryError,
  embedMany,
  experimental_transcribe: transcribe,
  generateImage,
  generateText,
  jsonSchema,
  stepCountIs,
  streamText,
  tool,
} = load("ai");
const { createOpenAI } = load("@ai-sdk/openai");

// A warning about a model name that the SDK does not know is not for the output of a test.
globalThis.AI_SDK_LOG_WARNINGS = false;

const openai = createOpenAI({ baseURL: `${URL}/v1`, apiKey: KEY });
const prompt = "Say hello.";
const tools = {
  get_weather: tool({
    description: "The weather at a place",
    inputSchema: jsonSchema({
      type: "object",
      properties: { location: { type: "string" } },
      additionalProperties: true,
    }),
  }),
};

// The SDK speaks both dialects of OpenAI: `openai.chat(name)` and `openai.responses(name)`.
const dialects = [(deployment) => openai.chat(deployment), (deployment) => openai.responses(deployment)];

function checkUsage(usage) {
  check(usage.inputTokens > 0, `inputTokens is ${usage.inputTokens}`);
  check(usage.outputTokens > 0, `outputTokens is ${usage.outputTokens}`);
}

/** Reads a whole stream; errors are parts of it. */
async function read(result) {
  const parts = [];
  for await (const part of result.fullStream) parts.push(part);
  return parts;
}

const ofType = (parts, type) => parts.filter((part) => part.type === type);
const quiet = { onError: () => {} };

const anywhere = {
  async text() {
    for (const dialect of dialects) {
      const answer = await generateText({ model: dialect(model("chat")), prompt });
      checkHeaders(new Headers(answer.response.headers), "chat");
      check(answer.text, "no text");
      checkEqual(answer.finishReason, "stop", "finishReason");
      checkUsage(answer.usage);
    }
  },

  async text_stream() {
    for (const dialect of dialects) {
      const result = streamText({ model: dialect(model("chat")), prompt, ...quiet });
      const parts = await read(result);
      checkEqual(ofType(parts, "error"), [], "errors");
      const joined = ofType(parts, "text-delta").map((part) => part.text).join("");
      check(joined, "no text");
      checkEqual(await result.text, joined, "joined deltas");
      checkEqual(await result.finishReason, "stop", "finishReason");
      checkUsage(await result.usage);
    }
  },

  async tools_stream() {
    for (const dialect of dialects) {
      const result = streamText({
        model: dialect(model("tools")),
        prompt,
        tools,
        stopWhen: stepCountIs(1),
        ...quiet,
      });
      const parts = await read(result);
      checkEqual(ofType(parts, "error"), [], "errors");
      const calls = ofType(parts, "tool-call");
      check(calls.length > 0, "no tool calls");
      for (const call of calls) {
        check(call.toolCallId && call.toolName, "a tool call without id or name");
        checkEqual(typeof call.input, "object", "input");
      }
      checkEqual(await result.finishReason, "tool-calls", "finishReason");
      checkUsage(await result.usage);
    }
  },

  async embeddings() {
    const { embeddings, usage } = await embedMany({
      model: openai.embedding(model("embed")),
      values: ["one", "two"],
    });
    checkEqual(embeddings.length, 2, "embeddings");
    check(embeddings[0].length > 1, "an embedding of no dimension");
    check(usage.tokens > 0, "no usage");
  },

  async transcription() {
    const { text } = await transcribe({
      model: openai.transcription(model("whisper")),
      audio: Buffer.concat([Buffer.from("RIFF"), Buffer.alloc(4096, 7)]),
    });
    check(text, "no text");
  },

  async image() {
    const { images } = await generateImage({ model: openai.image(model("image")), prompt, n: 1 });
    checkEqual(images.length, 1, "images");
    check(images[0].base64, "an image without data");
  },

  async cancel() {
    const abort = new AbortController();
    const result = streamText({
      model: openai.chat(model("slow")),
      prompt,
      abortSignal: abort.signal,
      ...quiet,
    });
    let seen = 0;
    const after = [];
    for await (const part of result.fullStream) {
      if (seen >= 3) after.push(part.type);
      if (part.type !== "text-delta") continue;
      seen += 1;
      if (seen === 3) abort.abort();
    }
    check(after.includes("abort"), `after the abort came ${after}`);
    console.log(`saw ${seen}`);
  },
};

/** The stream carries the error event as a part and breaks at the cut; no result comes of it. */
async function brokenStream(languageModel) {
  const result = streamText({ model: languageModel, prompt, ...quiet });
  const types = [];
  const error = await raised(APICallError, async () => {
    for await (const part of result.fullStream) types.push(part.type);
  });
  check(error.message, "no message");
  check(types.includes("text-delta"), `the content before the break is lost: ${types}`);
  check(types.includes("error"), `the error event is lost: ${types}`);
  check(!types.includes("finish"), `a broken stream was finished: ${types}`);
  await raised(APICallError, () => result.text);
}

const gateway = {
  async bad_key() {
    const stranger = createOpenAI({ baseURL: `${URL}/v1`, apiKey: BAD_KEY });
    for (const languageModel of [stranger.chat("chat"), stranger.responses("chat")]) {
      const error = await raised(APICallError, () => generateText({ model: languageModel, prompt }));
      checkEqual(error.statusCode, 401, "status");
      checkEqual(error.data.error.code, "invalid_api_key", "code");
      checkEqual(error.data.error.type, "invalid_request_error", "type");
      check(error.responseHeaders["x-request-id"], "no request id");
      checkNoKey(error.responseBody, BAD_KEY);
    }
  },

  async unknown_model() {
    for (const dialect of dialects) {
      const error = await raised(APICallError, () =>
        generateText({ model: dialect("no-such-model"), prompt }),
      );
      checkEqual(error.statusCode, 404, "status");
      checkEqual(error.data.error.code, "model_not_found", "code");
      check(error.message.includes("no-such-model"), `message: ${error.message}`);
    }
  },

  // This SDK does not know `x-should-retry`; it waits as `Retry-After` says.
  async limited() {
    let error;
    const started = performance.now();
    const sent = await requestsDuring(async () => {
      error = await raised(RetryError, () =>
        generateText({ model: openai.chat("limited"), prompt, maxRetries: 1 }),
      );
    });
    checkEqual(sent, 2, "requests of the SDK");
    check(performance.now() - started > 900, "Retry-After was not heeded");
    checkEqual(error.lastError.statusCode, 429, "status");
    check(["1", "2"].includes(error.lastError.responseHeaders["retry-after"]), "retry-after");
  },

  cut: () => brokenStream(openai.chat("cut")),
  truncated: () => brokenStream(openai.chat("truncated")),
  responses_cut: () => brokenStream(openai.responses("cut")),
  responses_truncated: () => brokenStream(openai.responses("truncated")),

  async flaky() {
    const answer = await generateText({ model: openai.chat("flaky"), prompt });
    checkHeaders(new Headers(answer.response.headers), "flaky", 2);
    check(answer.text, "no text");
  },
};

await main(anywhere, gateway);
