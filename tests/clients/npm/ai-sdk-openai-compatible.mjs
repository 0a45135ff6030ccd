import assert from 'node:assert/strict';
import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { columnsOf } from './ai_sdk.mjs';
import { MODEL, probe } from './probe.mjs';

const provider = ({ url }) =>
  createOpenAICompatible({
    name: 'ours',
    baseURL: url,
    includeUsage: true,
    supportsStructuredOutputs: true,
  });

/** It throws unless a call opens with its id and name, and an empty list of calls ends a thought. */
function looksAt(parts) {
  const deltas = parts
    .filter((part) => part.type === 'raw')
    .flatMap((part) => part.rawValue.choices.map((choice) => choice.delta));
  assert.ok(deltas.every((delta) => delta.tool_calls?.length !== 0));
  const opened = new Set();
  for (const call of deltas.flatMap((delta) => delta.tool_calls ?? [])) {
    assert.ok(opened.has(call.index) || (call.id && call.function.name));
    opened.add(call.index);
  }
}

function wasEnded(failure, finishReason) {
  assert.match(JSON.stringify(failure), /cancelled/);
  assert.equal(finishReason, 'error');
}

await probe('@ai-sdk/openai-compatible', columnsOf({
  provider, name: MODEL, greedy: { temperature: 0 }, wasEnded, looksAt,
}));
