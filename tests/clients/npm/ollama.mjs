import assert from 'node:assert/strict';
import { Ollama } from 'ollama';
import {
  COUNT, MODEL, SUM, SUM_IS_RIGHT, SUM_SCHEMA, SUNNY, TOO_LONG, UNKNOWN_MODEL, WEATHER,
  WEATHER_IN_PARIS, failureOf, isSum, isVector, probe,
} from './probe.mjs';

const client = ({ url }, headers) => new Ollama({ host: url, headers });
const says = (content) => [{ role: 'user', content }];
const GREEDY = { model: MODEL, options: { temperature: 0, num_predict: 400 } };
const TOOLS = [{ type: 'function', function: WEATHER }];
const ENDLESS = { model: MODEL, messages: says(COUNT), stream: true, options: { temperature: 0 } };

async function collected(stream) {
  const parts = [];
  for await (const part of stream) parts.push(part);
  return parts;
}

async function plain(at) {
  const answer = await client(at).chat({ ...GREEDY, messages: says(SUM), think: false });
  assert.equal(answer.message.role, 'assistant');
  assert.match(answer.message.content, SUM_IS_RIGHT);
  assert.deepEqual([answer.model, answer.done, answer.done_reason], [MODEL, true, 'stop']);
  assert.ok(answer.prompt_eval_count > 5 && answer.eval_count > 5);
  assert.ok(answer.total_duration > 1e6 && answer.total_duration > answer.eval_duration); // ns
  assert.ok(Math.abs(new Date(answer.created_at) - Date.now()) < 60_000);

  const text = await client(at).generate({ ...GREEDY, prompt: SUM, think: false });
  assert.match(text.response, SUM_IS_RIGHT);
  assert.ok(text.context.length > 5);
  await knowsTheModel(at);
}

async function knowsTheModel(at) {
  const [listed] = (await client(at).list()).models.filter((model) => model.name === MODEL);
  assert.equal(listed.digest.length, 64);
  const shown = await client(at).show({ model: MODEL });
  const architecture = shown.model_info['general.architecture'];
  assert.ok(shown.model_info[`${architecture}.context_length`] > 0);
  assert.ok(['completion', 'tools', 'thinking'].every((one) => shown.capabilities.includes(one)));
  assert.ok((await client(at).ps()).models.some((model) => model.name === MODEL));
  assert.match((await client(at).version()).version, /^\d+\.\d+\.\d+/);
}

async function stream(at) {
  const asked = { ...GREEDY, messages: says(SUM), think: false, stream: true };
  const parts = await collected(await client(at).chat(asked)); // throws unless the last is `done`
  assert.ok(parts.length > 3);
  assert.ok(parts.every((part) => part.message.role === 'assistant'));
  assert.match(parts.map((part) => part.message.content).join(''), SUM_IS_RIGHT);
  assert.deepEqual(parts.map((part) => part.done).indexOf(true), parts.length - 1);
  assert.ok(parts.at(-1).eval_count > 5 && parts.at(-1).prompt_eval_count > 5);

  const texts = await collected(await client(at).generate({ ...GREEDY, prompt: SUM, think: false, stream: true }));
  assert.match(texts.map((part) => part.response).join(''), SUM_IS_RIGHT);
}

async function tools(at) {
  const asked = { ...GREEDY, messages: says(WEATHER_IN_PARIS), tools: TOOLS };
  const whole = (await client(at).chat(asked)).message;
  const parts = await collected(await client(at).chat({ ...asked, stream: true }));
  for (const calls of [whole.tool_calls, parts.flatMap((part) => part.message.tool_calls ?? [])]) {
    const called = calls.map((call) => [call.function.name, call.function.arguments]);
    assert.deepEqual(called, [['get_weather', { city: 'Paris' }]]);
  }
  const result = { role: 'tool', tool_name: 'get_weather', content: SUNNY };
  const told = await client(at).chat({ ...asked, messages: [...asked.messages, whole, result] });
  assert.match(told.message.content, /21 degrees and sunny/);
}

async function structured(at) {
  const asked = { ...GREEDY, messages: says(SUM), format: SUM_SCHEMA };
  isSum(JSON.parse((await client(at).chat(asked)).message.content));
  const parts = await collected(await client(at).chat({ ...asked, stream: true }));
  isSum(JSON.parse(parts.map((part) => part.message.content).join('')));
  const free = await client(at).generate({ ...GREEDY, prompt: SUM, format: 'json', think: false });
  assert.equal(typeof JSON.parse(free.response), 'object');
}

async function reasoning(at) {
  const asked = { ...GREEDY, messages: says(SUM), think: true };
  const { message } = await client(at).chat(asked);
  assert.match(message.thinking, /write 2 carry 1/);
  assert.match(message.content, SUM_IS_RIGHT);
  assert.doesNotMatch(message.content, /<think>/);
  const parts = await collected(await client(at).chat({ ...asked, stream: true }));
  assert.equal(parts.map((part) => part.message.thinking ?? '').join(''), message.thinking);
  assert.equal(parts.map((part) => part.message.content).join(''), message.content);
}

async function embeddings(at) {
  const two = await client(at).embed({ model: MODEL, input: ['seven', 'eight nine'] });
  assert.equal(two.embeddings.length, 2);
  two.embeddings.forEach(isVector);
  assert.ok(two.prompt_eval_count > 1 && two.total_duration > 0);
  const one = await client(at).embeddings({ model: MODEL, prompt: 'seven' }); // the older call
  assert.equal(one.embedding.length, two.embeddings[0].length);
}

async function errors(at) {
  const unknown = await failureOf(() => client(at).show({ model: UNKNOWN_MODEL }));
  assert.deepEqual([unknown.name, unknown.status_code], ['ResponseError', 404]);
  assert.match(unknown.error, /not found/);

  // A stream that cannot begin has a status, and the client reads the message where it is JSON.
  const chat = { ...GREEDY, messages: says(SUM), stream: true };
  const unbegun = await failureOf(() => client(at).chat({ ...chat, model: UNKNOWN_MODEL }));
  assert.deepEqual([unbegun.name, unbegun.status_code], ['ResponseError', 404]);
  assert.match(unbegun.error, new RegExp(`'${UNKNOWN_MODEL}' not found`));

  const bad = await failureOf(() => client(at).chat({ ...chat, options: { temperature: 'hot' } }));
  assert.equal(bad.status_code, 400);
  assert.match(bad.error, /temperature/);
  const tooLong = { ...chat, messages: says(TOO_LONG), truncate: false };
  const cut = await failureOf(() => client(at).chat(tooLong));
  assert.deepEqual([cut.status_code, cut.error], [400, 'the input length exceeds the context length']);

  const midway = await at.service.endedMidway((id, end) => failureOf(async () => {
    for await (const _ of await client(at, { 'X-Request-Id': id }).chat(ENDLESS)) await end();
  }));
  assert.equal(midway.message, 'request canceled');
}

async function abort(at) {
  for (const part of ['all', 'one']) {
    await at.service.isFreeAfter(async () => {
      const ollama = client(at);
      const stream = await ollama.chat(ENDLESS);
      const left = await failureOf(async () => {
        for await (const _ of stream) (part === 'all' ? ollama : stream).abort();
      });
      assert.equal(left.name, 'AbortError');
    });
  }
}

await probe('ollama', {
  plain, stream, tools, structured, reasoning, embeddings, errors, abort,
});
