// An independent mock of many providers (`@copilotkit/aimock`) on a free port: prints its address, and
// serves until its input ends.

import { createRequire } from "node:module";

const load = createRequire(`${process.env.SLUICE_NODE_DIR}/package.json`);
const { LLMock } = load("@copilotkit/aimock");

const mock = new LLMock({ port: 0 });
mock.onMessage(/weather/, {
  toolCalls: [
    { name: "get_weather", arguments: { city: "Paris" } },
    { name: "get_weather", arguments: { city: "Rome" } },
  ],
});
mock.onMessage(/hello/, { content: "Hello from somebody else's mock." });
await mock.start();
console.log(mock.url);
process.stdin.resume();
process.stdin.on("end", () => mock.stop().then(() => process.exit(0)));
