import assert from 'node:assert/strict';
import { InferenceClient, InferenceClientProviderApiError } from '@huggingface/inference';
import {
  COUNT, SUM, SUM_IS_RIGHT, SUM_SCHEMA, TOO_LONG, UNKNOWN_MODEL, WEATHER,
  WEATHER_IN_PARIS, absent, failureOf, isSum, probe,
} from './probe.mjs';

/** Of an endpoint: no model is named, so the client sends the endpoint's address in its place. */
const client = ({ url }) => new InferenceClient('', { endpointUrl: url });
const says = (content) => [{ role: 'user', content }];
const CHAT = { temperature: 0.01, max_tokens: 400 };
const TOOLS = [{ type: 'function', function: WEATHER }];

async function collected(stream) {
  const parts = [];
  for await (const part of stream) parts.push(part);
  return parts;
}

async function plain(at) {
  const answer = await client(at).chatCompletion({ ...CHAT, messages: says(SUM) });
  assert.match(answer.choices[0].message.content, SUM_IS_RIGHT);
  assert.equal(answer.choices[0].finish_reason, 'stop');
  assert.ok(answer.usage.completion_tokens > 5);

  const text = await client(at).textGeneration({ inputs: '1 2 3', parameters: { max_new_tokens: 8 } });
  assert.match(text.generated_text, /\d/);
  // TGI's own calls: to the address itself, which wants an array, and by their names.
  const given = { inputs: '1 2 3', parameters: { max_new_tokens: 8, details: true } };
  const [first] = await client(at).request(given);
  const second = await client(at).request({ ...given, endpointUrl: `${at.url}/generate` });
  for (const answer of [first, second]) {
    assert.match(answer.generated_text, /\d/);
    assert.equal(answer.details.generated_tokens, 8);
  }
}

async function stream(at) {
  const parts = await collected(client(at).chatCompletionStream({ ...CHAT, messages: says(SUM) }));
  assert.match(parts.map((part) => part.choices[0]?.delta.content ?? '').join(''), SUM_IS_RIGHT);
  assert.ok(parts.some((part) => part.choices[0]?.finish_reason));

  const given = { inputs: '1 2 3', parameters: { max_new_tokens: 8, details: true } };
  for (const path of ['', '/generate_stream']) {
    const tokens = await collected(client(at).streamingRequest({ ...given, endpointUrl: at.url + path }));
    assert.equal(tokens.length, 8);
    const said = tokens.map((part) => part.token.text).join('');
    assert.deepEqual(tokens.map((part) => part.generated_text).filter(Boolean), [said]);
    assert.equal(tokens.at(-1).details.generated_tokens, 8);
  }
}

async function tools(at) {
  const asked = { ...CHAT, messages: says(WEATHER_IN_PARIS), tools: TOOLS };
  const whole = (await client(at).chatCompletion(asked)).choices[0].message.tool_calls;
  const parts = await collected(client(at).chatCompletionStream(asked));
  const deltas = parts.flatMap((part) => part.choices[0]?.delta.tool_calls ?? []);
  const streamed = {
    id: deltas[0].id,
    function: {
      name: deltas[0].function.name,
      arguments: deltas.map((delta) => delta.function.arguments ?? '').join(''),
    },
  };
  for (const call of [...whole, streamed]) {
    assert.ok(call.id);
    assert.equal(call.function.name, 'get_weather');
    assert.deepEqual(JSON.parse(call.function.arguments), { city: 'Paris' });
  }
}

async function structured(at) {
  const response_format = { type: 'json_schema', json_schema: { name: 'sum', schema: SUM_SCHEMA } };
  const answer = await client(at).chatCompletion({ ...CHAT, messages: says(SUM), response_format });
  isSum(JSON.parse(answer.choices[0].message.content));
  const grammar = { type: 'json', value: SUM_SCHEMA };
  const [text] = await client(at).request({ inputs: SUM, parameters: { grammar, max_new_tokens: 100 } });
  isSum(JSON.parse(text.generated_text));
}

async function reasoning(at) {
  const asked = { ...CHAT, messages: says(SUM) };
  const { message } = (await client(at).chatCompletion(asked)).choices[0];
  assert.match(message.reasoning_content, /write 2 carry 1/);
  assert.doesNotMatch(message.content, /<think>/);
  const parts = await collected(client(at).chatCompletionStream(asked));
  const streamed = parts.map((part) => part.choices[0]?.delta.reasoning_content ?? '').join('');
  assert.match(streamed, /write 2 carry 1/);
}

const embeddings = absent(
  'its `featureExtraction` is for Text Embeddings Inference, a server other than TGI',
  async (at) => {
    const refused = await failureOf(() => client(at).featureExtraction({ inputs: ['seven', 'eight nine'] }));
    return refused.httpResponse.status === 422;
  },
);

async function errors(at) {
  const given = { inputs: '1 2 3', parameters: { temperature: 0 } };
  const bad = await failureOf(() => client(at).request(given));
  assert.ok(bad instanceof InferenceClientProviderApiError);
  assert.equal(bad.httpResponse.status, 422);
  assert.equal(bad.httpResponse.body.error_type, 'validation');
  assert.match(bad.message, /strictly positive/);

  const chat = (given) => failureOf(() => client(at).chatCompletion({ ...CHAT, messages: says(SUM), ...given }));
  for (const [given, statuses] of [
    [{ messages: says(TOO_LONG) }, [400, 422]],
    [{ model: UNKNOWN_MODEL }, [404]],
  ]) {
    const refused = await chat(given);
    assert.ok(refused instanceof InferenceClientProviderApiError);
    assert.ok(statuses.includes(refused.httpResponse.status));
    assert.ok(refused.httpResponse.requestId);
  }

  const streams = [
    (to, options) => to.chatCompletionStream({ ...CHAT, messages: says(COUNT), max_tokens: 1900 }, options),
    (to, options) => to.streamingRequest({ inputs: '1 2 3', parameters: { max_new_tokens: 1900 } }, options),
  ];
  for (const begin of streams) {
    const midway = await at.service.endedMidway((id, end) => failureOf(async () => {
      const named = (url, { headers, ...info }) => fetch(url, { ...info, headers: { ...headers, 'X-Request-Id': id } });
      for await (const _ of begin(client(at), { fetch: named })) await end();
    }));
    assert.ok(midway instanceof InferenceClientProviderApiError);
    assert.match(midway.message, /cancel/);
  }
}

async function abort(at) {
  await at.service.isFreeAfter(async () => {
    const leaving = new AbortController();
    const asked = { ...CHAT, messages: says(COUNT), max_tokens: 1900 };
    const stream = client(at).chatCompletionStream(asked, { signal: leaving.signal });
    const left = await failureOf(async () => {
      for await (const _ of stream) leaving.abort();
    });
    assert.equal(left.name, 'AbortError');
  });
}

await probe('@huggingface/inference', {
  plain, stream, tools, structured, reasoning, embeddings, errors, abort,
});
