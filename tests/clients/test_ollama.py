"""Ollama's own client for Python, unmodified, against a server of ours.

BASE_URL is where it listens (with /v1), API_KEY one of its keys.
"""

import asyncio
import json
import os

import ollama
import openai
import pytest
from pydantic import BaseModel

BASE_URL = os.environ["BASE_URL"]
HOST = BASE_URL.removesuffix("/v1")
HEADERS = {"Authorization": f"Bearer {os.environ['API_KEY']}"}
CLIENT = ollama.Client(host=HOST, headers=HEADERS)
OPENAI = openai.OpenAI(base_url=BASE_URL, api_key=os.environ["API_KEY"], max_retries=0)
MODEL = CLIENT.list().models[0].model
QUESTION = [{"role": "user", "content": "Name three rivers of Europe and say where they end."}]
GREEDY = {"temperature": 0, "num_predict": 40}


def get_weather(city: str) -> str:
    """The weather in a city.

    Args:
        city: The city's name
    """
    return f"It rains in {city}."


def chat(**fields):
    return CLIENT.chat(**{"model": MODEL, "messages": QUESTION, "options": GREEDY} | fields)


def test_a_chat_is_answered_as_openais_client_has_it():
    answer = chat()
    expected = OPENAI.chat.completions.create(model=MODEL, messages=QUESTION, temperature=0, max_tokens=40)
    assert answer.message.content == expected.choices[0].message.content
    assert answer.done and answer.done_reason == expected.choices[0].finish_reason
    assert answer.prompt_eval_count == expected.usage.prompt_tokens
    assert answer.eval_count == expected.usage.completion_tokens
    assert answer.total_duration >= answer.eval_duration > 0


def test_a_stream_says_the_same():
    parts = list(chat(stream=True))
    assert "".join(part.message.content for part in parts) == chat().message.content
    assert [part.done for part in parts] == [False] * (len(parts) - 1) + [True]
    assert parts[-1].eval_count > 0


def test_several_clients_at_once():
    async def ask():
        client = ollama.AsyncClient(host=HOST, headers=HEADERS)
        answers = await asyncio.gather(*(client.chat(model=MODEL, messages=QUESTION, options=GREEDY) for _ in range(4)))
        return {answer.message.content for answer in answers}

    assert asyncio.run(ask()) == {chat().message.content}


def test_a_stream_that_is_left_leaves_the_server_well():
    for part in chat(stream=True, options={"temperature": 0, "num_predict": 400}):
        if part.message.content:
            break
    assert chat().message.content


def test_a_text_is_answered():
    answer = CLIENT.generate(model=MODEL, prompt=QUESTION[0]["content"], options=GREEDY)
    assert answer.response == chat().message.content
    raw = CLIENT.generate(model=MODEL, prompt="The capital of France is", raw=True, options=GREEDY)
    expected = OPENAI.completions.create(model=MODEL, prompt="The capital of France is", temperature=0, max_tokens=40)
    assert raw.response == expected.choices[0].text
    streamed = CLIENT.generate(model=MODEL, prompt="The capital of France is", raw=True, options=GREEDY, stream=True)
    assert "".join(part.response for part in streamed) == raw.response
    assert CLIENT.generate(model=MODEL, prompt="").done_reason == "load"


def test_an_answer_follows_a_schema():
    class River(BaseModel):
        name: str
        length_km: int

    schema = River.model_json_schema() | {"additionalProperties": False}
    schema["properties"]["name"]["maxLength"] = 20
    schema["properties"]["length_km"] |= {"minimum": 0, "maximum": 9999}
    answer = chat(format=schema, options={"temperature": 0, "num_predict": 80})
    River.model_validate_json(answer.message.content)
    answer = chat(format="json", options={"temperature": 0, "num_predict": 400})
    assert answer.done_reason == "length" or isinstance(json.loads(answer.message.content), dict)


def test_a_tool_loop():
    messages = [{"role": "user", "content": "What is the weather in Paris?"}]
    first = chat(messages=messages, tools=[get_weather])
    for call in first.message.tool_calls or []:
        assert call.function.name == "get_weather" and set(call.function.arguments) == {"city"}
    # A small model may not call; the conversation goes on as if it had.
    call = {"function": {"name": "get_weather", "arguments": {"city": "Paris"}}}
    for city in ("Paris", "Rome"):
        messages += [
            {"role": "assistant", "content": "", "tool_calls": [call]},
            {"role": "tool", "tool_name": "get_weather", "content": get_weather(city)},
            {"role": "user", "content": "And elsewhere?"},
        ]
        answer = chat(messages=messages, tools=[get_weather])
        assert answer.message.content or answer.message.tool_calls


def test_models_are_described():
    shown = CLIENT.show(MODEL)
    assert "completion" in shown.capabilities and shown.modelinfo["lookahead.context_length"] > 0
    assert CLIENT.show(f"{MODEL}:latest").template == shown.template
    assert [model.model for model in CLIENT.ps().models] == [model.model for model in CLIENT.list().models]


@pytest.mark.parametrize(
    ("ask", "status", "message"),
    [
        (lambda: CLIENT.chat(model="nothing", messages=QUESTION), 404, "not served here"),
        (lambda: chat(options={"poem": 1}), 400, "options.poem"),
        (lambda: list(chat(options={"top_p": 7}, stream=True)), 400, "top_p"),
        (lambda: CLIENT.embed(model=MODEL, input="x"), 501, "embeddings"),
        (lambda: CLIENT.pull("llama3"), 501, "/api/pull"),
        (lambda: CLIENT.delete("llama3"), 501, "/api/delete"),
        (lambda: CLIENT.copy("a", "b"), 501, "/api/copy"),
        (lambda: ollama.Client(host=HOST, headers={"Authorization": "Bearer wrong"}).list(), 401, "key"),
    ],
)
def test_an_error_has_its_status_and_says_why(ask, status, message):
    with pytest.raises(ollama.ResponseError) as caught:
        ask()
    assert caught.value.status_code == status and message in caught.value.error
