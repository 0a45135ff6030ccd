/** The columns of the AI SDK, which are the same whoever provides its models. */
import assert from 'node:assert/strict';
import {
  APICallError, Output, embedMany, generateText, isStepCount, jsonSchema, streamText, tool,
} from 'ai';
import {
  COUNT, SUM, SUM_IS_RIGHT, SUM_SCHEMA, SUNNY, UNKNOWN_MODEL, WEATHER, WEATHER_IN_PARIS,
  failureOf, isSum, isVector,
} from './probe.mjs';

/**
 * What a client of the SDK can do. `provider(at)` has the models, by `name`. `greedy` is how this
 * provider is asked for the likeliest tokens. `looksAt(parts)` and `wasEnded(failure, finishReason)` are
 * what is particular about its streams, and about how they fail.
 */
export function columnsOf({ provider, name, greedy, wasEnded, looksAt = () => {} }) {
  const asks = (at, given) => ({ model: provider(at)(name), maxRetries: 0, ...greedy, ...given });

  async function plain(at) {
    const answer = await generateText(asks(at, { prompt: SUM }));
    assert.match(answer.text, SUM_IS_RIGHT);
    assert.equal(answer.finishReason, 'stop');
    const { inputTokens, outputTokens, totalTokens } = answer.usage;
    assert.ok(inputTokens > 5 && outputTokens > 5);
    assert.equal(totalTokens, inputTokens + outputTokens);
    assert.equal(answer.response.modelId, name);
  }

  async function stream(at) {
    const parts = await partsOf(streamText(asks(at, { prompt: SUM, includeRawChunks: true })));
    assert.match(joined(parts, 'text-delta'), SUM_IS_RIGHT);
    assert.ok(parts.filter((part) => part.type === 'text-delta').length > 3);
    const end = parts.at(-1);
    assert.deepEqual([end.type, end.finishReason], ['finish', 'stop']);
    assert.ok(end.totalUsage.inputTokens > 5 && end.totalUsage.outputTokens > 5);
    looksAt(parts);
  }

  async function tools(at) {
    const cities = [];
    const get_weather = tool({
      description: WEATHER.description,
      inputSchema: jsonSchema(WEATHER.parameters),
      execute: ({ city }) => cities.push(city) && SUNNY,
    });
    const asked = { prompt: WEATHER_IN_PARIS, tools: { get_weather } };
    const parts = await partsOf(streamText(asks(at, { ...asked, includeRawChunks: true })));
    const [call] = parts.filter((part) => part.type === 'tool-call');
    assert.deepEqual([call.toolName, call.input], ['get_weather', { city: 'Paris' }]);
    assert.ok(call.toolCallId);
    assert.equal(parts.at(-1).finishReason, 'tool-calls');
    looksAt(parts);

    const told = await generateText(asks(at, { ...asked, stopWhen: isStepCount(3) }));
    assert.match(told.text, /21 degrees and sunny/);
    assert.equal(told.steps.length, 2);
    assert.deepEqual(cities, ['Paris', 'Paris']);
  }

  async function structured(at) {
    const output = Output.object({ schema: jsonSchema(SUM_SCHEMA) });
    isSum((await generateText(asks(at, { prompt: SUM, output }))).output);
    const streamed = streamText(asks(at, { prompt: SUM, output }));
    await partsOf(streamed);
    isSum(await streamed.output);
  }

  async function reasoning(at) {
    const thought = await generateText(asks(at, { prompt: SUM, reasoning: 'high' }));
    assert.match(thought.reasoningText, /write 2 carry 1/);
    assert.match(thought.text, SUM_IS_RIGHT);
    assert.doesNotMatch(thought.text, /think/);
    const parts = await partsOf(streamText(asks(at, { prompt: SUM, reasoning: 'high' })));
    assert.equal(joined(parts, 'reasoning-delta'), thought.reasoningText);
    assert.equal(joined(parts, 'text-delta'), thought.text);
    const without = await generateText(asks(at, { prompt: SUM, reasoning: 'none' }));
    assert.equal(without.reasoningText, undefined);
  }

  async function embeddings(at) {
    const model = provider(at).embeddingModel(name);
    const answer = await embedMany({ model, values: ['seven', 'eight nine'], maxRetries: 0 });
    assert.equal(answer.embeddings.length, 2);
    answer.embeddings.forEach(isVector);
    assert.ok(answer.usage.tokens > 1);
  }

  async function errors(at) {
    const model = provider(at)(UNKNOWN_MODEL);
    const unknown = await failureOf(() => generateText(asks(at, { model, prompt: SUM })));
    const unbegun = await failureOf(() => partsOf(streamText(asks(at, { model, prompt: SUM, onError() {} }))));
    for (const error of [unknown, unbegun]) {
      assert.ok(APICallError.isInstance(error), error.name);
      assert.deepEqual([error.statusCode, error.isRetryable], [404, false]);
      assert.match(error.responseBody, /nobody\/has-this/);
    }
    const { failure, finishReason } = await at.service.endedMidway(async (id, end) => {
      const headers = { 'X-Request-Id': id };
      const parts = streamText(asks(at, { prompt: COUNT, headers, onError() {} })).stream;
      let failure, finishReason;
      for await (const part of parts) {
        if (part.type === 'text-delta') await end();
        if (part.type === 'error') failure = part.error;
        if (part.type === 'finish') finishReason = part.finishReason;
      }
      return { failure, finishReason };
    });
    wasEnded(failure, finishReason);
  }

  async function abort(at) {
    await at.service.isFreeAfter(async () => {
      const leaving = new AbortController();
      const parts = streamText(asks(at, { prompt: COUNT, abortSignal: leaving.signal })).stream;
      const seen = [];
      for await (const part of parts) {
        seen.push(part.type);
        if (part.type === 'text-delta') leaving.abort();
      }
      assert.ok(seen.includes('abort'));
    });
    await at.service.isFreeAfter(async () => {
      const leaving = new AbortController();
      const answer = generateText(asks(at, { prompt: COUNT, abortSignal: leaving.signal }));
      at.service.generates().then(() => leaving.abort());
      assert.equal((await failureOf(() => answer)).name, 'AbortError');
    });
  }

  return { plain, stream, tools, structured, reasoning, embeddings, errors, abort };
}

/** All parts of a stream. Throws what is told as an error among them. */
async function partsOf(result) {
  const parts = [];
  for await (const part of result.stream) {
    if (part.type === 'error') throw part.error;
    parts.push(part);
  }
  return parts;
}

function joined(parts, type) {
  return parts.filter((part) => part.type === type).map((part) => part.text).join('');
}
