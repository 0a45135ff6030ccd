"""OpenAI's own client against vLLM's paths: what vLLM's users have."""

from __future__ import annotations

import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam

from service.errors import Overloaded
from service.events import ReasoningDelta, TextDelta
from tests.dialects.fakes import FakeRuntime, Script, end, says
from tests.dialects.serving import serving

HI: list[ChatCompletionMessageParam] = [{"role": "user", "content": "hi"}]


def test_a_chat_with_vllms_own_parameters() -> None:
    script: Script = [[ReasoningDelta(0, "hm"), TextDelta(0, "a"), end(stop=7)]]
    runtime = FakeRuntime(script=script)
    extra = {"top_k": 5, "min_p": 0.1, "stop_token_ids": [7], "guided_choice": ["a", "b"]}
    with serving(runtime) as url:
        client = openai.OpenAI(base_url=f"{url}/vllm/v1", api_key="x", max_retries=0)
        answer = client.chat.completions.create(model="demo", messages=HI, extra_body=extra)
        client.close()

    choice = answer.choices[0]
    assert choice.message.model_extra == {"reasoning": "hm"}
    assert choice.model_extra is not None
    assert choice.model_extra["stop_reason"] == 7
    sampling = runtime.requests[0].sampling
    assert (sampling.top_k, sampling.min_p, sampling.stop_token_ids) == (5, 0.1, (7,))
    assert runtime.requests[0].response_format.kind == "choice"


def test_a_stream_and_a_completion() -> None:
    with serving(FakeRuntime(script=says("Hel", "lo"))) as url:
        client = openai.OpenAI(base_url=f"{url}/vllm/v1", api_key="x", max_retries=0)
        with client.chat.completions.stream(model="demo", messages=HI) as stream:
            final = stream.get_final_completion()
        text = client.completions.create(model="demo", prompt=["a", "b"], n=1)
        models = client.models.list().data
        client.close()

    assert final.choices[0].message.content == "Hello"
    assert final.choices[0].message.role == "assistant"
    assert [choice.text for choice in text.choices] == ["Hello", "Hello"]
    assert models[0].owned_by == "vllm"


def test_a_full_queue_is_what_its_clients_try_again_after() -> None:
    with serving(FakeRuntime(script=Overloaded("full"))) as url:
        client = openai.OpenAI(base_url=f"{url}/vllm/v1", api_key="x", max_retries=0)
        with pytest.raises(openai.InternalServerError) as caught:
            client.chat.completions.create(model="demo", messages=HI)
        client.close()

    assert caught.value.status_code == 503
    assert caught.value.response.headers["retry-after"]
