"""OpenAI's own client for Python, unmodified: responses."""

import json

import openai
import pytest
from pydantic import BaseModel, Field

from serving import BASE_URL, CITY, KEYS, MODEL, QUESTION, chat, is_idle

CLIENT = openai.OpenAI(base_url=BASE_URL, api_key=KEYS[0], max_retries=0)
WEATHER = {"type": "function", "name": "get_weather", "description": "The weather in a city", "parameters": CITY, "strict": True}


def respond(input=QUESTION, client=CLIENT, **fields):
    fields = {"model": MODEL, "temperature": 0, "max_output_tokens": 40} | fields
    return client.responses.create(input=input, **fields)


def test_a_response_is_what_the_chat_says():
    response = respond()
    answer = chat()
    assert response.object == "response" and response.model == MODEL
    assert response.output_text == answer["choices"][0]["message"]["content"]
    assert response.usage.input_tokens == answer["usage"]["prompt_tokens"]
    assert response.usage.output_tokens == answer["usage"]["completion_tokens"]
    assert response.status == "incomplete" and response.incomplete_details.reason == "max_output_tokens"


def test_a_stream_says_the_same():
    deltas = []
    with CLIENT.responses.stream(model=MODEL, input=QUESTION, temperature=0, max_output_tokens=200) as stream:
        for number, event in enumerate(stream):
            assert event.sequence_number == number
            if event.type == "response.output_text.delta":
                deltas.append(event.delta)
                assert event.snapshot == "".join(deltas)
        final = stream.get_final_response() if event.type == "response.completed" else event.response
    assert "".join(deltas) == final.output_text == respond(max_output_tokens=200).output_text


def test_lookahead_changes_no_text():
    plain = respond(temperature=0.9, extra_body={"seed": 7, "lookahead": {"enabled": False}})
    for _ in range(2):
        ahead = respond(temperature=0.9, extra_body={"seed": 7})
    assert plain.output_text == ahead.output_text
    assert ahead.usage.model_extra["lookahead"]["accepted"] > 0


def test_what_coding_agents_send_is_answered():
    stream = respond(
        [
            {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "Work in /tmp."}]},
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Say hello."}]},
        ],
        instructions="You are a coding agent.",
        tools=[WEATHER | {"strict": False}, {"type": "web_search"}],
        tool_choice="auto",
        parallel_tool_calls=False,
        reasoning={"summary": "auto"},
        store=False,
        include=["reasoning.encrypted_content"],
        prompt_cache_key="k",
        stream=True,
        extra_body={"client_metadata": {"a": "b"}},
    )
    events = list(stream)
    assert events[0].type == "response.created"
    assert events[-1].type in ("response.completed", "response.incomplete")


def test_an_answer_follows_a_schema():
    class River(BaseModel):
        name: str = Field(max_length=20)
        kilometres: int = Field(ge=0, le=9999)

    fields = {"model": MODEL, "input": QUESTION, "temperature": 0, "max_output_tokens": 100}
    parsed = CLIENT.responses.parse(text_format=River, **fields)
    assert isinstance(parsed.output_parsed, River)
    with CLIENT.responses.stream(text_format=River, **fields) as stream:
        assert stream.get_final_response().output_parsed == parsed.output_parsed


@pytest.mark.parametrize("is_kept", [True, False])
def test_tools_are_called_three_times_and_then_there_is_an_answer(is_kept):
    said, previous = [{"role": "user", "content": "Compare the weather in three cities."}], None
    sent = said
    for _ in range(3):
        with CLIENT.responses.stream(
            model=MODEL,
            input=sent,
            tools=[WEATHER],
            tool_choice="required",
            parallel_tool_calls=False,
            temperature=0,
            max_output_tokens=100,
            store=is_kept,
            previous_response_id=previous,
        ) as stream:
            response = stream.get_final_response()
        [call] = response.output
        assert call.type == "function_call" and set(json.loads(call.arguments)) == {"city"}
        result = {"type": "function_call_output", "call_id": call.call_id, "output": '{"celsius": 21}'}
        said = [*said, call.model_dump(exclude_none=True, exclude={"parsed_arguments"}), result]
        sent, previous = ([result], response.id) if is_kept else (said, None)
    last = respond(sent, tools=[WEATHER], tool_choice="none", previous_response_id=previous)
    assert last.output[0].type == "message"
    whole = respond(said, tools=[WEATHER], tool_choice="none")
    assert last.output_text == whole.output_text and last.usage.input_tokens == whole.usage.input_tokens


def test_responses_are_kept_until_they_are_deleted():
    first = respond("My name is Ada.")
    assert CLIENT.responses.retrieve(first.id).output_text == first.output_text
    with pytest.raises(openai.NotFoundError):
        CLIENT.with_options(api_key=KEYS[1]).responses.retrieve(first.id)
    CLIENT.responses.delete(first.id)
    with pytest.raises(openai.NotFoundError):
        CLIENT.responses.retrieve(first.id)
    with pytest.raises(openai.BadRequestError) as caught:
        respond("What is it?", previous_response_id=first.id)
    assert caught.value.param == "previous_response_id"


@pytest.mark.parametrize(
    ("fields", "error", "param"),
    [
        ({"temperature": -1}, openai.BadRequestError, "temperature"),
        ({"model": "gpt-none"}, openai.NotFoundError, "model"),
        ({"background": True}, openai.BadRequestError, "background"),
        ({"input": [{"type": "web_search_call"}]}, openai.BadRequestError, "input[0]"),
        ({"tools": [{"type": "web_search"}], "tool_choice": "required"}, openai.BadRequestError, "tools[0]"),
    ],
)
def test_errors_are_the_clients_own(fields, error, param):
    with pytest.raises(error) as caught:
        respond(**fields)
    assert caught.value.param == param


def test_a_stream_that_is_closed_frees_the_server():
    stream = respond(stream=True, max_output_tokens=5000, extra_body={"lookahead": {"enabled": False}})
    next(iter(stream))
    stream.close()
    assert is_idle(), "the answer goes on"
