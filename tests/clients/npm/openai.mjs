import assert from 'node:assert/strict';
import OpenAI, { APIError, APIUserAbortError, BadRequestError, NotFoundError } from 'openai';
import { zodResponseFormat } from 'openai/helpers/zod';
import { z } from 'zod';
import {
  COUNT, MODEL, SUM, SUM_IS_RIGHT, SUNNY, TOO_LONG, UNKNOWN_MODEL, WEATHER, WEATHER_IN_PARIS,
  failureOf, isSum, isVector, probe,
} from './probe.mjs';

const client = ({ url }) => new OpenAI({ baseURL: url, apiKey: 'unused', maxRetries: 0 });
const says = (content) => [{ role: 'user', content }];
const GREEDY = { model: MODEL, temperature: 0, max_tokens: 400 };
const ENDLESS = { model: MODEL, temperature: 0, messages: says(COUNT) };
const TOOLS = [{ type: 'function', function: WEATHER }];

async function plain(at) {
  const answer = await client(at).chat.completions.create({ ...GREEDY, messages: says(SUM) });
  const [choice] = answer.choices;
  assert.match(choice.message.content, SUM_IS_RIGHT);
  assert.equal(choice.message.role, 'assistant');
  assert.equal(choice.finish_reason, 'stop');
  assert.match(answer.id, /^chatcmpl-\w+/);
  assert.ok(answer._request_id);
  const { prompt_tokens: read, completion_tokens: written, total_tokens: total } = answer.usage;
  assert.ok(read > 5 && written > 5);
  assert.equal(total, read + written);

  const text = await client(at).completions.create({ ...GREEDY, prompt: ['1 2', '3 4'], n: 2, max_tokens: 4 });
  assert.deepEqual(text.choices.map((c) => c.index), [0, 1, 2, 3]);
  assert.ok((await client(at).models.list()).data.some((model) => model.id === MODEL));
  assert.equal((await client(at).models.retrieve(MODEL)).id, MODEL);
  const response = await client(at).responses.create({ model: MODEL, input: SUM, temperature: 0 });
  assert.match(response.output_text, SUM_IS_RIGHT);
}

async function stream(at) {
  const asked = { ...GREEDY, messages: says(SUM), stream_options: { include_usage: true } };
  const chunks = [];
  for await (const chunk of await client(at).chat.completions.create({ ...asked, stream: true })) {
    chunks.push(chunk);
  }
  const deltas = chunks.flatMap((chunk) => chunk.choices.map((choice) => choice.delta));
  assert.equal(new Set(chunks.map((chunk) => chunk.id)).size, 1);
  assert.equal(deltas.filter((delta) => delta.role).length, 1);
  assert.ok(deltas.every((delta) => !('tool_calls' in delta)));
  assert.match(deltas.map((delta) => delta.content ?? '').join(''), SUM_IS_RIGHT);
  assert.deepEqual(chunks.at(-1).choices, []);
  assert.ok(chunks.at(-1).usage.completion_tokens > 5);

  const helped = await client(at).chat.completions.stream(asked).finalChatCompletion();
  assert.match(helped.choices[0].message.content, SUM_IS_RIGHT);
  assert.equal(helped.choices[0].message.role, 'assistant');
  assert.equal(helped.usage.completion_tokens, chunks.at(-1).usage.completion_tokens);
}

async function tools(at) {
  const asked = { ...GREEDY, messages: says(WEATHER_IN_PARIS), tools: TOOLS };
  const whole = await client(at).chat.completions.create(asked);
  const streamed = await client(at).chat.completions.stream(asked).finalChatCompletion();
  for (const [choice] of [whole.choices, streamed.choices]) {
    assert.equal(choice.finish_reason, 'tool_calls');
    const [call] = choice.message.tool_calls;
    assert.match(call.id, /\w/);
    assert.equal(call.function.name, 'get_weather');
    assert.deepEqual(JSON.parse(call.function.arguments), { city: 'Paris' });
  }

  const demanded = { ...asked, messages: says('Hello'), tool_choice: 'required' };
  const [forced] = (await client(at).chat.completions.create(demanded)).choices;
  assert.equal(forced.message.tool_calls[0].function.name, 'get_weather');

  for (const stream of [false, true]) {
    const cities = [];
    const look = ({ city }) => cities.push(city) && SUNNY;
    const runner = client(at).chat.completions.runTools({
      ...asked,
      stream,
      tools: [{ type: 'function', function: { ...WEATHER, function: look, parse: JSON.parse } }],
    });
    assert.match(await runner.finalContent(), /21 degrees and sunny/);
    assert.deepEqual(cities, ['Paris']);
  }
}

async function structured(at) {
  const shape = z.object({ sum: z.int(), sure: z.boolean() });
  const asked = { ...GREEDY, messages: says(SUM), response_format: zodResponseFormat(shape, 'sum') };
  isSum((await client(at).chat.completions.parse(asked)).choices[0].message.parsed);
  const streamed = await client(at).chat.completions.stream(asked).finalChatCompletion();
  isSum(streamed.choices[0].message.parsed);
}

async function reasoning(at) {
  const asked = { ...GREEDY, messages: says(SUM) };
  const thought = await client(at).chat.completions.create({ ...asked, reasoning_effort: 'high' });
  const { message } = thought.choices[0];
  assert.match(message.reasoning_content, /write 2 carry 1/);
  assert.equal(message.reasoning, message.reasoning_content);
  assert.doesNotMatch(message.content, /<think>/);
  assert.ok(thought.usage.completion_tokens_details.reasoning_tokens > 1);

  const chunks = await client(at).chat.completions.create({ ...asked, stream: true });
  let streamed = '';
  for await (const chunk of chunks) streamed += chunk.choices[0].delta.reasoning_content ?? '';
  assert.equal(streamed, message.reasoning_content);

  const without = await client(at).chat.completions.create({ ...asked, reasoning_effort: 'none' });
  assert.equal(without.choices[0].message.reasoning_content, undefined);
}

async function embeddings(at) {
  const asked = { model: MODEL, input: ['seven', 'eight nine'] };
  const inBase64 = await client(at).embeddings.create(asked); // what the client asks for unasked
  const inNumbers = await client(at).embeddings.create({ ...asked, encoding_format: 'float' });
  assert.deepEqual(inBase64.data.map((one) => one.index), [0, 1]);
  for (const [i, { embedding }] of inBase64.data.entries()) {
    isVector(embedding);
    const other = inNumbers.data[i].embedding;
    assert.equal(embedding.length, other.length);
    assert.ok(embedding.every((x, k) => Math.abs(x - other[k]) < 1e-5));
  }
  assert.ok(inBase64.usage.prompt_tokens > 1);
}

async function errors(at) {
  const chat = (given) => () => client(at).chat.completions.create({ ...GREEDY, messages: says(SUM), ...given });
  const unknown = await failureOf(chat({ model: UNKNOWN_MODEL }));
  assert.ok(unknown instanceof NotFoundError);
  assert.deepEqual([unknown.status, unknown.code], [404, 'model_not_found']);
  assert.ok(unknown.requestID);

  const bad = await failureOf(chat({ temperature: -1 }));
  assert.ok(bad instanceof BadRequestError);
  assert.deepEqual([bad.status, bad.param, bad.type], [400, 'temperature', 'invalid_request_error']);

  const tooLong = await failureOf(chat({ messages: says(TOO_LONG), stream: true }));
  assert.ok(tooLong instanceof BadRequestError);
  assert.equal(tooLong.code, 'context_length_exceeded');

  const midway = await at.service.endedMidway((id, end) => failureOf(async () => {
    const given = { headers: { 'X-Request-Id': id } };
    const stream = client(at).chat.completions.create({ ...ENDLESS, stream: true }, given);
    for await (const _ of await stream) await end();
  }));
  assert.ok(midway instanceof APIError);
  assert.match(midway.message, /cancel/);
}

async function abort(at) {
  await at.service.isFreeAfter(async () => {
    const stream = await client(at).chat.completions.create({ ...ENDLESS, stream: true });
    for await (const _ of stream) stream.controller.abort();
  });
  await at.service.isFreeAfter(async () => {
    for await (const _ of await client(at).chat.completions.create({ ...ENDLESS, stream: true })) break;
  });
  await at.service.isFreeAfter(async () => {
    const leaving = new AbortController();
    const answer = client(at).chat.completions.create(ENDLESS, { signal: leaving.signal });
    at.service.generates().then(() => leaving.abort());
    assert.ok((await failureOf(() => answer)) instanceof APIUserAbortError);
  });
}

await probe('openai', {
  plain, stream, tools, structured, reasoning, embeddings, errors, abort,
});
