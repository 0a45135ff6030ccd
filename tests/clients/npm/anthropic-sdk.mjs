import assert from 'node:assert/strict';
import Anthropic, { APIError, APIUserAbortError, BadRequestError, NotFoundError } from '@anthropic-ai/sdk';
import { betaZodTool } from '@anthropic-ai/sdk/helpers/beta/zod';
import { zodOutputFormat } from '@anthropic-ai/sdk/helpers/zod';
import { z } from 'zod';
import {
  COUNT, MODEL, SUM, SUM_IS_RIGHT, SUNNY, TOO_LONG, UNKNOWN_MODEL, WEATHER, WEATHER_IN_PARIS,
  absent, failureOf, isSum, probe,
} from './probe.mjs';

const client = ({ url }) => new Anthropic({ baseURL: url, apiKey: 'unused', maxRetries: 0 });
const says = (content) => [{ role: 'user', content }];
const GREEDY = { model: MODEL, temperature: 0, max_tokens: 400 };
const ENDLESS = { ...GREEDY, messages: says(COUNT), max_tokens: 1900 };
const TOOL = { name: WEATHER.name, description: WEATHER.description, input_schema: WEATHER.parameters };

const blocks = (message) => message.content.map((block) => block.type);
const textOf = (message) => message.content.find((block) => block.type === 'text').text;

async function plain(at) {
  const asked = { ...GREEDY, messages: says(SUM), system: 'You are terse.' };
  const answer = await client(at).messages.create(asked);
  assert.match(textOf(answer), SUM_IS_RIGHT);
  assert.match(answer.id, /^msg_\w+/);
  assert.ok(answer._request_id);
  assert.deepEqual([answer.type, answer.role, answer.model], ['message', 'assistant', MODEL]);
  assert.equal(answer.stop_reason, 'end_turn');
  assert.ok(answer.usage.output_tokens > 5);

  const { model, messages, system } = asked;
  const counted = await client(at).messages.countTokens({ model, messages, system });
  const { input_tokens: fresh, cache_read_input_tokens: cached } = answer.usage;
  assert.equal(counted.input_tokens, fresh + cached);
  const cut = await client(at).messages.create({ ...asked, max_tokens: 3 });
  assert.deepEqual([cut.stop_reason, cut.usage.output_tokens], ['max_tokens', 3]);
}

async function stream(at) {
  const asked = { ...GREEDY, messages: says(SUM) };
  const texts = [];
  const stream = client(at).messages.stream(asked).on('text', (text) => texts.push(text));
  const final = await stream.finalMessage();
  assert.ok(texts.length > 3);
  assert.match(texts.join(''), SUM_IS_RIGHT);
  assert.equal(textOf(final), texts.join(''));
  assert.equal(final.stop_reason, 'end_turn');
  assert.ok(final.usage.input_tokens + final.usage.cache_read_input_tokens > 5);
  assert.ok(final.usage.output_tokens > 5);

  const names = [];
  for await (const event of await client(at).messages.create({ ...asked, stream: true })) {
    names.push(event.type);
  }
  assert.deepEqual([names[0], names.at(-2), names.at(-1)], ['message_start', 'message_delta', 'message_stop']);
}

async function tools(at) {
  const asked = { ...GREEDY, messages: says(WEATHER_IN_PARIS), tools: [TOOL] };
  const whole = await client(at).messages.create(asked);
  const streamed = await client(at).messages.stream(asked).finalMessage();
  for (const answer of [whole, streamed]) {
    assert.equal(answer.stop_reason, 'tool_use');
    const [call] = answer.content.filter((block) => block.type === 'tool_use');
    assert.match(call.id, /\w/);
    assert.deepEqual([call.name, call.input], ['get_weather', { city: 'Paris' }]);
  }
  const demanded = { ...asked, messages: says('Hello'), tool_choice: { type: 'any' } };
  assert.ok(blocks(await client(at).messages.create(demanded)).includes('tool_use'));

  const cities = [];
  const tool = betaZodTool({
    name: WEATHER.name,
    description: WEATHER.description,
    inputSchema: z.object({ city: z.string() }),
    run: ({ city }) => cities.push(city) && SUNNY,
  });
  const told = await client(at).beta.messages.toolRunner({ ...asked, tools: [tool] });
  assert.match(textOf(told), /21 degrees and sunny/);
  assert.deepEqual(cities, ['Paris']);
}

async function structured(at) {
  const format = zodOutputFormat(z.object({ sum: z.int(), sure: z.boolean() }));
  const asked = { ...GREEDY, messages: says(SUM), output_config: { format } };
  isSum((await client(at).messages.parse(asked)).parsed_output);
  isSum(JSON.parse(textOf(await client(at).messages.stream(asked).finalMessage())));
}

async function reasoning(at) {
  const asked = {
    ...GREEDY,
    messages: says(SUM),
    max_tokens: 1500,
    thinking: { type: 'enabled', budget_tokens: 1024 },
  };
  const whole = await client(at).messages.create(asked);
  const thoughts = [];
  const stream = client(at).messages.stream(asked).on('thinking', (part) => thoughts.push(part));
  const streamed = await stream.finalMessage();
  for (const answer of [whole, streamed]) {
    assert.deepEqual(blocks(answer), ['thinking', 'text']);
    assert.match(answer.content[0].thinking, /write 2 carry 1/);
    assert.match(textOf(answer), SUM_IS_RIGHT);
  }
  assert.equal(thoughts.join(''), whole.content[0].thinking);
  const without = await client(at).messages.create({ ...asked, thinking: { type: 'disabled' } });
  assert.deepEqual(blocks(without), ['text']);
}

const embeddings = absent(
  "Anthropic's API has no embeddings",
  () => !('embeddings' in new Anthropic({ apiKey: 'unused' })),
);

async function errors(at) {
  const ask = (given) => failureOf(() => client(at).messages.create({ ...GREEDY, messages: says(SUM), ...given }));
  const unknown = await ask({ model: UNKNOWN_MODEL });
  assert.ok(unknown instanceof NotFoundError);
  assert.deepEqual([unknown.status, unknown.type], [404, 'not_found_error']);
  assert.ok(unknown.requestID);
  for (const given of [{ max_tokens: 0 }, { messages: says(TOO_LONG), stream: true }]) {
    const bad = await ask(given);
    assert.ok(bad instanceof BadRequestError);
    assert.deepEqual([bad.status, bad.type], [400, 'invalid_request_error']);
  }

  const midway = await at.service.endedMidway((id, end) => failureOf(async () => {
    const given = { headers: { 'X-Request-Id': id } };
    const stream = client(at).messages.create({ ...ENDLESS, stream: true }, given);
    for await (const event of await stream) if (event.type === 'content_block_delta') await end();
  }));
  assert.ok(midway instanceof APIError);
  assert.match(midway.message, /cancel/);
}

async function abort(at) {
  await at.service.isFreeAfter(async () => {
    const stream = client(at).messages.stream(ENDLESS);
    stream.on('text', () => stream.abort());
    assert.ok((await failureOf(() => stream.finalMessage())) instanceof APIUserAbortError);
  });
  await at.service.isFreeAfter(async () => {
    const leaving = new AbortController();
    const answer = client(at).messages.create(ENDLESS, { signal: leaving.signal });
    at.service.generates().then(() => leaving.abort());
    assert.ok((await failureOf(() => answer)) instanceof APIUserAbortError);
  });
}

await probe('@anthropic-ai/sdk', {
  plain, stream, tools, structured, reasoning, embeddings, errors, abort,
});
