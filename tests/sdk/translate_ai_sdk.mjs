// The Vercel AI SDK with OpenAI's two dialects against providers that speak Anthropic's: loops of
// tools, images, structured output, thoughts.

import { KEY, URL, check, checkEqual, load, main, raised } from "./scenarios.mjs";

const { APICallError, generateText, jsonSchema, stepCountIs, streamText, tool } = load("ai");
const { createOpenAI } = load("@ai-sdk/openai");

globalThis.AI_SDK_LOG_WARNINGS = false;

const openai = createOpenAI({ baseURL: `${URL}/v1`, apiKey: KEY });
const dialects = [(name) => openai.chat(name), (name) => openai.responses(name)];
const prompt = "The weather?";
// What one provider made is not kept for another: items are sent again, not referred to.
const providerOptions = { openai: { store: false } };
const quiet = { onError: () => {}, maxRetries: 0, providerOptions };

function weather() {
  const asked = [];
  const get_weather = tool({
    description: "The weather at a place",
    inputSchema: jsonSchema({
      type: "object",
      properties: { location: { type: "string" } },
      additionalProperties: true,
    }),
    execute: async (input) => {
      asked.push(input);
      return { sky: "sunny" };
    },
  });
  return { asked, tools: { get_weather } };
}

const scenarios = {
  async text_and_stream() {
    for (const dialect of dialects) {
      const answer = await generateText({ model: dialect("claude"), prompt, ...quiet });
      check(answer.text, "no text");
      checkEqual(answer.finishReason, "stop", "finishReason");
      check(answer.usage.inputTokens > 0 && answer.usage.outputTokens > 0, "no usage");
      const result = streamText({ model: dialect("claude"), prompt, ...quiet });
      let joined = "";
      for await (const part of result.textStream) joined += part;
      check(joined, "no text");
      checkEqual(await result.finishReason, "stop", "finishReason");
    }
  },

  // Two steps: the calls, their results sent back, and calls again.
  async tool_loop() {
    for (const dialect of dialects) {
      const { asked, tools } = weather();
      const answer = await generateText({
        model: dialect("claude-tools"),
        prompt,
        tools,
        stopWhen: stepCountIs(2),
        ...quiet,
      });
      checkEqual(answer.steps.length, 2, "steps");
      checkEqual(asked.length, 4, "calls");
    }
  },

  async tool_loop_streamed() {
    for (const dialect of dialects) {
      const { asked, tools } = weather();
      const result = streamText({
        model: dialect("claude-tools"),
        prompt,
        tools,
        stopWhen: stepCountIs(2),
        ...quiet,
      });
      const kinds = [];
      for await (const part of result.fullStream) kinds.push(part.type);
      check(!kinds.includes("error"), `an error among ${kinds}`);
      checkEqual((await result.steps).length, 2, "steps");
      checkEqual(asked.length, 4, "calls");
    }
  },

  async image() {
    for (const dialect of dialects) {
      const image = new Uint8Array([137, 80, 78, 71, 13, 10, 26, 10]);
      const content = [{ type: "text", text: "What is it?" }, { type: "image", image }];
      const answer = await generateText({
        model: dialect("claude"),
        messages: [{ role: "user", content }],
        ...quiet,
      });
      check(answer.text, "no text");
    }
  },

  async errors() {
    for (const dialect of dialects) {
      const error = await raised(APICallError, () =>
        generateText({ model: dialect("claude-400"), prompt, ...quiet }),
      );
      checkEqual(error.statusCode, 400, "statusCode");
      check(error.message.includes("prompt is too long"), error.message);
    }
  },
};

await main(scenarios, {});
