/**
 * What every probe of a client does: it asks a running service through the client and prints a JSON
 * line for each path that the client was pointed at and each thing that was tried there, as
 * `tests/clients/probing.py` has it. "absent" is what the client itself cannot do.
 *
 *     node probes/openai.mjs http://127.0.0.1:11436 /v1 /openai/v1
 *
 * What is asked is what the demo model knows.
 */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

export const COLUMNS = [
  'plain', 'stream', 'tools', 'structured', 'reasoning', 'embeddings', 'errors', 'abort',
];

export const MODEL = 'demo:latest';
export const UNKNOWN_MODEL = 'nobody/has-this:1b';
export const SUM = 'What is 17 plus 25?'; // thought about, and answered with 42
export const SUM_IS_RIGHT = /\b42\b/;
export const COUNT = 'Count from 1 to 999.'; // asked greedily it goes on until the context is full
export const WEATHER_IN_PARIS = 'What is the weather in Paris?';
export const WEATHER = {
  name: 'get_weather',
  description: 'Get the weather in a city.',
  parameters: {
    type: 'object',
    properties: { city: { type: 'string' } },
    required: ['city'],
    additionalProperties: false,
  },
};
export const SUNNY = '21 degrees and sunny'; // what the function returns, and the model then tells
export const TOO_LONG = 'many words '.repeat(5000);
export const SUM_SCHEMA = {
  type: 'object',
  properties: { sum: { type: 'integer' }, sure: { type: 'boolean' } },
  required: ['sum', 'sure'],
  additionalProperties: false,
};

const COLUMN_MS = 60_000;
const WAIT_MS = 20_000;

/** A column that the client has nothing for; `isSo(at)` holds as long as that is true. */
export function absent(why, isSo) {
  return { why, isSo };
}

/**
 * Runs the probes of `columns` with the package `client` at every path that the arguments name after
 * the service's address, and ends the process. A probe gets `{ url, service }`: where the client is
 * pointed, and the service itself.
 */
export async function probe(client, columns) {
  // Standard output is for the lines alone; a client may talk.
  console.log = console.error;
  assert.deepEqual(Object.keys(columns), COLUMNS);
  const [address, ...mounts] = process.argv.slice(2);
  const service = new Service(address);
  for (const mount of mounts) {
    const at = { url: address + mount.replace(/\/$/, ''), service };
    for (const [column, run] of Object.entries(columns)) {
      const [result, why] = await outcomeOf(run, at);
      const line = { client: `${client} (npm)`, version: versionOf(client), mount, column, result, why };
      process.stdout.write(`${JSON.stringify(line)}\n`);
    }
  }
  process.exit();
}

async function outcomeOf(run, at) {
  try {
    if (typeof run === 'function') {
      await inTime(run(at), COLUMN_MS);
      return ['ok', ''];
    }
    assert.ok(await run.isSo(at), `no longer true: ${run.why}`);
    return ['absent', run.why];
  } catch (error) {
    console.error(error);
    return ['failed', `${error.name}: ${error.message}`.replace(/\s+/g, ' ').slice(0, 600)];
  }
}

async function inTime(promise, ms) {
  const late = sleep(ms, undefined, { ref: false }).then(() => {
    throw new Error(`no end within ${ms / 1000} s`);
  });
  return Promise.race([promise, late]);
}

function versionOf(client) {
  const path = new URL(`../node_modules/${client}/package.json`, import.meta.url);
  return JSON.parse(readFileSync(path, 'utf8')).version;
}

/** The service past any client: its metrics, and the end of a request on demand. */
class Service {
  constructor(address) {
    this.address = address;
  }

  /** The sum of the samples of `name` whose labels have `part` in them. */
  async metric(name, part = '') {
    const text = await (await fetch(`${this.address}/metrics`)).text();
    return text
      .split('\n')
      .filter((line) => line.startsWith(`${name}{`) || line.startsWith(`${name} `))
      .filter((line) => line.includes(part))
      .reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' ') + 1)), 0);
  }

  cancelled() {
    return this.metric('llm_requests_finished_total', 'finish_reason="cancelled"');
  }

  async generates() {
    await until('a request runs', async () => (await this.metric('llm_engine_slots_busy')) > 0);
  }

  /** What `leave` begins and abandons is counted as one that was cancelled, and its slot is free. */
  async isFreeAfter(leave) {
    const before = await this.cancelled();
    await leave();
    await until('it is counted', async () => (await this.cancelled()) === before + 1);
    await until('a slot is free', async () => (await this.metric('llm_engine_slots_busy')) === 0);
    await until('no request is left', async () => (await this.metric('llm_active_requests')) === 0);
  }

  /**
   * What `read` says of a stream that fails after it began: it asks with the request id that it gets,
   * and the request is ended from outside when it calls the function that it gets.
   */
  async endedMidway(read) {
    const id = `doomed-${randomUUID()}`;
    const end = () => fetch(`${this.address}/api/cancel/${id}`, { method: 'POST' });
    let said;
    await this.isFreeAfter(async () => {
      said = await read(id, end);
    });
    return said;
  }
}

async function until(what, holds) {
  const deadline = Date.now() + WAIT_MS;
  while (!(await holds())) {
    assert.ok(Date.now() < deadline, `waited in vain until ${what}`);
    await sleep(10);
  }
}

/** The error that `attempt` ends in. */
export async function failureOf(attempt) {
  try {
    await attempt();
  } catch (error) {
    return error;
  }
  throw new assert.AssertionError({ message: 'nothing was thrown' });
}

export function isVector(vector) {
  assert.ok(vector.length > 16, `a vector of ${vector.length}`);
  const length = Math.hypot(...vector);
  assert.ok(Math.abs(length - 1) < 1e-3, `a vector as long as ${length}`);
}

export function isSum(answer) {
  assert.deepEqual(Object.keys(answer), ['sum', 'sure']);
  assert.ok(Number.isInteger(answer.sum));
  assert.equal(typeof answer.sure, 'boolean');
}
