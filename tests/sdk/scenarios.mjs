// Runs the scenarios of one script and says which passed; the twin of `scenarios.py`.
//
// A script prints `ok NAME` for each scenario that passed, and stops with status 1 at the first that
// did not.

import { createRequire } from "node:module";
import { isDeepStrictEqual } from "node:util";

export const URL = process.env.SLUICE_URL.replace(/\/+$/, "");
export const KEY = process.env.SLUICE_KEY;
export const BAD_KEY = process.env.SLUICE_BAD_KEY;

// Set when the scripts talk to the simulated provider itself, without a gateway: deployment name ->
// model name. What only a gateway does is skipped then.
const modelMap = JSON.parse(process.env.SLUICE_MODEL_MAP ?? "null");

// No scenario takes a fifth of this.
const SECONDS_MAX = 30;

/** Loads an SDK from where `install` has put it. */
export const load = createRequire(`${process.env.SLUICE_NODE_DIR}/package.json`);

/** The name to send in `model`. */
export const model = (deployment) => modelMap?.[deployment] ?? deployment;

export function check(condition, text) {
  if (!condition) throw new Error(text);
}

export function checkEqual(actual, expected, what) {
  const show = (value) => JSON.stringify(value);
  check(
    isDeepStrictEqual(actual, expected),
    `${what}: expected ${show(expected)}, got ${show(actual)}`,
  );
}

/** What the gateway says about a request. `headers` is a `Headers`. */
export function checkHeaders(headers, deployment, attempts = 1) {
  if (modelMap !== null) return;
  const requestId = headers.get("x-request-id");
  check(/^.{8}-.{4}-7.{3}-.{4}-.{12}$/.test(requestId), `x-request-id is no UUIDv7: ${requestId}`);
  checkEqual(headers.get("x-sluice-deployment"), deployment, "x-sluice-deployment");
  checkEqual(headers.get("x-sluice-attempts"), String(attempts), "x-sluice-attempts");
}

export function checkNoKey(text, key) {
  check(!text.includes(key), "the answer repeats the key");
}

/** The error that `ask` ends with, which must be exactly of this class. */
export async function raised(errorClass, ask) {
  try {
    await ask();
  } catch (error) {
    check(
      error.constructor === errorClass,
      `expected ${errorClass.name}, got ${error.constructor.name}: ${error}`,
    );
    return error;
  }
  throw new Error(`expected ${errorClass.name}, and nothing was thrown`);
}

let requests = 0;
const fetchAlone = globalThis.fetch;
globalThis.fetch = (...request) => {
  requests += 1;
  return fetchAlone(...request);
};

/** How many requests the SDK sends while `ask` runs. */
export async function requestsDuring(ask) {
  const before = requests;
  await ask();
  return requests - before;
}

/**
 * Runs what the command line names. `anywhere` holds with and without a gateway, `gateway` is about
 * what the gateway itself does.
 */
export async function main(anywhere, gateway) {
  const all = { ...anywhere, ...gateway };
  const wanted = process.argv[2];
  if (wanted !== "all" && !(wanted in all)) {
    console.error(`no scenario \`${wanted}\`; there are: all ${Object.keys(all).join(" ")}`);
    process.exit(2);
  }
  for (const [name, run] of Object.entries(all)) {
    if (wanted !== "all" && wanted !== name) continue;
    if (modelMap !== null && name in gateway) {
      console.log(`skip ${name}`);
      continue;
    }
    const watchdog = setTimeout(() => {
      console.error(`FAILED ${name}: not done after ${SECONDS_MAX} s`);
      process.exit(1);
    }, SECONDS_MAX * 1000);
    try {
      await run();
    } catch (error) {
      console.error(error);
      console.error(`FAILED ${name}`);
      process.exit(1);
    }
    clearTimeout(watchdog);
    console.log(`ok ${name}`);
  }
  // Idle connections would keep the process.
  process.exit(0);
}
