"""OpenAI's own client for Python, unmodified, against a server of ours.

BASE_URL is where it listens (with /v1), API_KEY and OTHER_KEY two of its keys.
"""

import asyncio
import json
import math
import os
import uuid

import httpx
import openai
import pytest
from pydantic import BaseModel

BASE_URL = os.environ["BASE_URL"]
KEYS = [os.environ["API_KEY"], os.environ["OTHER_KEY"]]
CLIENT = openai.OpenAI(base_url=BASE_URL, api_key=KEYS[0], max_retries=0)
MODEL = CLIENT.models.list().data[0].id
QUESTION = [{"role": "user", "content": "Name three rivers of Europe and say where they end."}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 20}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}


def chat(messages=QUESTION, client=CLIENT, **fields):
    fields = {"model": MODEL, "temperature": 0, "max_tokens": 40} | fields
    return client.chat.completions.create(messages=messages, **fields)


def text_of(answer):
    return answer.choices[0].message.content


def lookahead_of(answer):
    return answer.usage.model_extra["lookahead"]


def test_a_chat_is_answered():
    answer = chat()
    assert answer.object == "chat.completion" and answer.model == MODEL
    assert answer.choices[0].finish_reason in ("stop", "length") and text_of(answer).strip()
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_a_stream_says_the_same():
    chunks = list(chat(stream=True, stream_options={"include_usage": True}))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == text_of(chat())
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens > 0
    assert chunks[-2].choices[0].finish_reason in ("stop", "length")


@pytest.mark.parametrize("fields", [{}, {"temperature": 0.9, "seed": 7, "top_p": 0.9}])
def test_lookahead_changes_no_text(fields):
    plain = chat(**fields, extra_body={"lookahead": {"enabled": False}})
    chat(**fields)
    ahead = chat(**fields)
    assert text_of(plain) == text_of(ahead)
    assert lookahead_of(plain)["edl"] <= 1
    assert lookahead_of(ahead)["edl"] > 1.5, "the answer was given before"
    assert lookahead_of(ahead)["accepted_by_source"]["output"] > 0


def test_a_stream_tells_where_tokens_came_from():
    chunks = list(chat(stream=True, extra_body={"lookahead": {"trace": True}}))
    traces = [chunk.model_extra["lookahead"] for chunk in chunks if "lookahead" in chunk.model_extra]
    sources = {token["source"] for trace in traces for token in trace["tokens"]}
    assert "model" in sources and len(sources) > 1, sources


def test_seeds_repeat_and_answers_to_one_prompt_differ():
    several = [chat(temperature=1, seed=3, n=3) for _ in range(2)]
    texts = [[choice.message.content for choice in answer.choices] for answer in several]
    assert texts[0] == texts[1] and len(set(texts[0])) == 3


def test_stop_strings_and_limits_end_an_answer():
    whole = text_of(chat())
    stop = whole[10:14]
    stopped = chat(stop=[stop])
    assert text_of(stopped) == whole[: whole.index(stop)] and stopped.choices[0].finish_reason == "stop"
    short = chat(max_tokens=openai.NOT_GIVEN, max_completion_tokens=3)
    assert short.usage.completion_tokens == 3 and short.choices[0].finish_reason == "length"


def test_log_probabilities_are_those_of_the_chosen_tokens():
    for entry in chat(logprobs=True, top_logprobs=5).choices[0].logprobs.content:
        assert len(entry.top_logprobs) == 5
        assert entry.top_logprobs[0].token == entry.token and entry.top_logprobs[0].logprob == entry.logprob
        assert sum(math.exp(top.logprob) for top in entry.top_logprobs) <= 1.0001


def test_a_bias_decides():
    token = httpx.post(
        BASE_URL.removesuffix("/v1") + "/tokenize",
        json={"content": " banana"},
        headers={"Authorization": f"Bearer {KEYS[0]}"},
    ).json()["tokens"][0]
    logprobs = chat(logit_bias={str(token): 100}, max_tokens=1, logprobs=True).choices[0].logprobs
    assert " banana".startswith(logprobs.content[0].token)


def test_an_answer_is_a_json_object():
    answer = chat(response_format={"type": "json_object"}, max_tokens=200, temperature=1, seed=1)
    if answer.choices[0].finish_reason == "stop":
        assert isinstance(json.loads(text_of(answer)), dict)
    else:
        assert text_of(answer).startswith("{")


def test_an_answer_follows_a_schema():
    class River(BaseModel):
        name: str
        kilometres: int
        is_navigable: bool

    schema = River.model_json_schema() | {"additionalProperties": False}
    schema["properties"]["name"]["maxLength"] = 20
    schema["properties"]["kilometres"] |= {"minimum": 0, "maximum": 9999}
    named = {"name": "river", "schema": schema, "strict": True}
    plain = {"lookahead": {"enabled": False}}
    answers = [
        chat(response_format={"type": "json_schema", "json_schema": named}, max_tokens=100, extra_body=extra)
        for extra in (plain, {})
    ]
    assert text_of(answers[0]) == text_of(answers[1])
    River.model_validate_json(text_of(answers[0]))
    assert lookahead_of(answers[1])["accepted_by_source"]["grammar"] > 0


def test_tools_are_called_as_they_were_described():
    for choice in ("required", {"type": "function", "function": {"name": "get_weather"}}):
        question = [{"role": "user", "content": "What is the weather in Paris?"}]
        answer = chat(question, tools=[WEATHER], tool_choice=choice, parallel_tool_calls=False, max_tokens=100)
        assert answer.choices[0].finish_reason == "tool_calls"
        [call] = answer.choices[0].message.tool_calls
        assert call.function.name == "get_weather"
        assert set(json.loads(call.function.arguments)) == {"city"}
    result = {"role": "tool", "tool_call_id": call.id, "content": '{"sky": "clear", "celsius": 21}'}
    message = answer.choices[0].message.model_dump(exclude_none=True)
    assert chat([*question, message, result], tools=[WEATHER], tool_choice="none").choices


def test_calls_of_tools_are_streamed():
    chunks = chat(tools=[WEATHER], tool_choice="required", parallel_tool_calls=False, max_tokens=100, stream=True)
    deltas = [chunk.choices[0] for chunk in chunks]
    calls = [call for delta in deltas for call in delta.delta.tool_calls or []]
    assert [call.function.name for call in calls if call.function.name] == ["get_weather"]
    assert calls[0].id and {call.index for call in calls} == {0}
    arguments = json.loads("".join(call.function.arguments or "" for call in calls))
    assert isinstance(arguments["city"], str)
    assert deltas[-1].finish_reason == "tool_calls"


def test_a_prediction_is_drafted_and_counted():
    expected = text_of(chat(extra_body={"lookahead": {"enabled": False}}))
    fields = {"prediction": {"type": "content", "content": expected}, "extra_body": {"lookahead": {"share": "off"}}}
    answer = chat(**fields)
    details = answer.usage.completion_tokens_details
    assert text_of(answer) == expected
    assert details.accepted_prediction_tokens > 10, details
    wrong = chat(**(fields | {"prediction": {"type": "content", "content": "Bread is made of flour and water."}}))
    assert text_of(wrong) == expected
    assert wrong.usage.completion_tokens_details.rejected_prediction_tokens > 0


def test_texts_are_continued():
    create = CLIENT.completions.create
    fields = {"model": MODEL, "max_tokens": 12, "temperature": 0}
    one = create(prompt="The capital of France is", logprobs=2, **fields)
    assert len(one.choices[0].logprobs.tokens) == one.usage.completion_tokens
    both = create(prompt=["The capital of France is", "Two and two make"], n=2, echo=True, **fields)
    assert [choice.text.startswith("The capital") for choice in both.choices] == [True, True, False, False]
    assert both.choices[0].text == "The capital of France is" + one.choices[0].text
    streamed = create(prompt="The capital of France is", stream=True, **fields)
    assert "".join(chunk.choices[0].text for chunk in streamed) == one.choices[0].text


@pytest.mark.parametrize(
    ("fields", "error", "param"),
    [
        ({"temperature": 3e38}, None, None),
        ({"temperature": -1}, openai.BadRequestError, "temperature"),
        ({"model": "gpt-none"}, openai.NotFoundError, "model"),
        ({"top_logprobs": 3}, openai.BadRequestError, "top_logprobs"),
        ({"extra_body": {"tempreature": 1}}, openai.BadRequestError, "tempreature"),
        ({"messages": [{"role": "user", "content": "word " * 20000}]}, openai.BadRequestError, "messages"),
    ],
)
def test_errors_are_the_clients_own(fields, error, param):
    if error is None:
        chat(**fields)
        return
    with pytest.raises(error) as caught:
        chat(**fields)
    assert caught.value.param == param and caught.value.type == "invalid_request_error"


def test_a_key_is_wanted_and_embeddings_are_refused():
    with pytest.raises(openai.AuthenticationError):
        chat(client=CLIENT.with_options(api_key="wrong"))
    with pytest.raises(openai.APIStatusError) as caught:
        CLIENT.embeddings.create(model=MODEL, input="x")
    assert caught.value.status_code == 501


def test_keys_share_no_drafts():
    # Asked by nobody before, whatever ran against this server.
    question = [{"role": "user", "content": f"Say something about glass, and about {uuid.uuid4()}."}]
    chat(question)
    assert "output" in lookahead_of(chat(question))["accepted_by_source"]
    other = chat(question, client=CLIENT.with_options(api_key=KEYS[1]))
    assert "output" not in lookahead_of(other)["accepted_by_source"]
    assert other.usage.prompt_tokens_details.cached_tokens == 0


def test_corpora_come_are_used_and_go():
    url, headers = BASE_URL + "/lookahead/corpora", {"Authorization": f"Bearer {KEYS[1]}"}
    client = CLIENT.with_options(api_key=KEYS[1])
    question = [{"role": "user", "content": "Write one sentence about maps."}]
    read = {"lookahead": {"share": "read"}}
    answer = text_of(chat(question, client=client, extra_body=read))
    added = httpx.post(url, params={"name": "maps"}, json={"text": answer}, headers=headers)
    assert added.status_code == 200, added.text
    assert httpx.get(url, headers=headers).json()["data"][0]["name"] == "maps"
    assert lookahead_of(chat(question, client=client, extra_body=read))["accepted_by_source"]["corpus"] > 3
    assert httpx.delete(url + "/maps", headers=headers).json() == {"name": "maps", "deleted": True}


def test_answers_at_once_are_those_given_alone():
    async def all_at_once(questions):
        client = openai.AsyncOpenAI(base_url=BASE_URL, api_key=KEYS[0])
        async with client:
            return await asyncio.gather(*(chat(question, client=client) for question in questions))

    topics = ["rivers", "stars", "bread", "glass", "maps", "ships", "wool", "clocks"]
    questions = [[{"role": "user", "content": f"Tell me about {topic}."}] for topic in topics]
    together = asyncio.run(all_at_once(questions))
    assert [text_of(answer) for answer in together] == [text_of(chat(question)) for question in questions]


def test_a_stream_that_is_closed_frees_the_server():
    stream = chat(stream=True, max_tokens=5000, extra_body={"lookahead": {"enabled": False}})
    next(iter(stream))
    stream.close()
    headers = {"Authorization": f"Bearer {KEYS[0]}"}
    for _ in range(200):
        if httpx.get(BASE_URL + "/lookahead/stats", headers=headers).json()["running"] == 0:
            return
        asyncio.run(asyncio.sleep(0.05))
    pytest.fail("the answer goes on")
