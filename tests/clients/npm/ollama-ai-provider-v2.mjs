import assert from 'node:assert/strict';
import { createOllama } from 'ollama-ai-provider-v2';
import { columnsOf } from './ai_sdk.mjs';
import { MODEL, probe } from './probe.mjs';

const provider = ({ url }) => createOllama({ baseURL: url });

/** It knows no line with an error: it passes over what is not an answer, and tells that there was no end. */
function wasEnded(failure, finishReason) {
  assert.deepEqual([failure, finishReason], [undefined, 'other']);
}

await probe('ollama-ai-provider-v2', columnsOf({
  provider, name: MODEL, greedy: { providerOptions: { ollama: { options: { temperature: 0 } } } }, wasEnded,
}));
