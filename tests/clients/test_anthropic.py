"""Anthropic's own client for Python, unmodified, against a server of ours."""

import json

import anthropic
import pytest

from serving import CITY, KEYS, MODEL, QUESTION, ROOT, chat, is_idle

CLIENT = anthropic.Anthropic(base_url=ROOT, api_key=KEYS[0], max_retries=0)
WEATHER = {"name": "get_weather", "description": "The weather in a city", "input_schema": CITY}


def ask(messages=QUESTION, client=CLIENT, **fields):
    fields = {"model": MODEL, "temperature": 0, "max_tokens": 40} | fields
    temperature = fields.pop("temperature")
    return client.messages.create(messages=messages, extra_body={"temperature": temperature} | fields.pop("extra_body", {}), **fields)


def text_of(message):
    return "".join(block.text for block in message.content if block.type == "text")


def test_a_message_is_what_the_chat_says():
    message, answer = ask(), chat()
    assert message.type == "message" and message.model == MODEL and message.stop_reason == "max_tokens"
    assert text_of(message) == answer["choices"][0]["message"]["content"]
    usage = message.usage
    assert usage.input_tokens + usage.cache_read_input_tokens == answer["usage"]["prompt_tokens"]
    assert usage.output_tokens == answer["usage"]["completion_tokens"]


def test_a_stream_says_the_same():
    with CLIENT.messages.stream(
        model=MODEL, messages=QUESTION, max_tokens=40, extra_body={"temperature": 0}
    ) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    whole = ask()
    assert text == text_of(final) == text_of(whole)
    assert final.stop_reason == whole.stop_reason and final.usage.output_tokens == whole.usage.output_tokens


def test_lookahead_changes_no_text():
    sampled = {"temperature": 0.9, "extra_body": {"seed": 7}}
    plain = ask(temperature=0.9, extra_body={"seed": 7, "lookahead": {"enabled": False}})
    for _ in range(2):
        ahead = ask(**{**sampled, "extra_body": dict(sampled["extra_body"])})
    assert text_of(plain) == text_of(ahead)
    assert ahead.usage.model_extra["lookahead"]["accepted"] > 0


def test_what_coding_agents_send_is_answered():
    fields = {
        "model": MODEL,
        "max_tokens": 32000,
        "system": [
            {"type": "text", "text": "You are a coding agent."},
            {"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}},
        ],
        "messages": [{"role": "user", "content": [{"type": "text", "text": "<note></note>"}, {"type": "text", "text": "Hi"}]}],
        "tools": [WEATHER],
        "metadata": {"user_id": "x"},
        "thinking": {"type": "adaptive"},
        "output_config": {"effort": "medium"},
        "stop_sequences": ["."],
        "extra_body": {"context_management": {"edits": [{"type": "clear_thinking_20251015"}]}, "temperature": 0},
    }
    with CLIENT.beta.messages.stream(**fields) as stream:
        streamed = stream.get_final_message()
    whole = CLIENT.with_options(timeout=600).beta.messages.create(**fields)
    assert [block.type for block in streamed.content] == [block.type for block in whole.content]
    assert text_of(streamed) == text_of(whole) and streamed.stop_sequence == whole.stop_sequence


def test_stop_sequences_end_an_answer():
    whole = text_of(ask())
    stop = whole[10:14]
    message = ask(stop_sequences=[stop])
    assert text_of(message) == whole[: whole.index(stop)]
    assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", stop)


def test_an_answer_follows_a_schema():
    format = {"type": "json_schema", "schema": CITY}
    message = ask(output_config={"format": format}, max_tokens=100)
    assert set(json.loads(text_of(message))) == {"city"}


def test_tools_are_used_three_times_and_then_there_is_an_answer():
    said = [{"role": "user", "content": "Compare the weather in three cities."}]
    in_chat = list(said)
    for _ in range(3):
        with CLIENT.messages.stream(
            model=MODEL,
            messages=said,
            tools=[WEATHER],
            tool_choice={"type": "any", "disable_parallel_tool_use": True},
            max_tokens=100,
            extra_body={"temperature": 0},
        ) as stream:
            message = stream.get_final_message()
        assert message.stop_reason == "tool_use"
        [call] = message.content
        assert call.name == "get_weather" and set(call.input) == {"city"}
        result = {"type": "tool_result", "tool_use_id": call.id, "content": [{"type": "text", "text": '{"celsius": 21}'}]}
        said += [message.to_param(), {"role": "user", "content": [result]}]
        function = {"name": call.name, "arguments": json.dumps(call.input)}
        in_chat += [
            {"role": "assistant", "content": None, "tool_calls": [{"id": call.id, "type": "function", "function": function}]},
            {"role": "tool", "tool_call_id": call.id, "content": '{"celsius": 21}'},
        ]
    last = ask(said, tools=[WEATHER], tool_choice={"type": "none"})
    answer = chat(in_chat)
    assert text_of(last) == answer["choices"][0]["message"]["content"]
    assert last.usage.input_tokens + last.usage.cache_read_input_tokens == answer["usage"]["prompt_tokens"]


def test_tokens_are_counted():
    fields = {"system": "Be brief.", "tools": [WEATHER]}
    count = CLIENT.messages.count_tokens(model=MODEL, messages=QUESTION, **fields).input_tokens
    usage = ask(max_tokens=1, **fields).usage
    assert count == usage.input_tokens + usage.cache_read_input_tokens


@pytest.mark.parametrize(
    ("fields", "error", "kind"),
    [
        ({"temperature": -1}, anthropic.BadRequestError, "invalid_request_error"),
        ({"model": "claude-none"}, anthropic.NotFoundError, "not_found_error"),
        ({"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "url", "url": "x"}}]}]},
         anthropic.BadRequestError, "invalid_request_error"),
        ({"client": CLIENT.with_options(api_key="wrong")}, anthropic.AuthenticationError, "authentication_error"),
    ],
)
def test_errors_are_the_clients_own(fields, error, kind):
    with pytest.raises(error) as caught:
        ask(**fields)
    assert caught.value.body["error"]["type"] == kind and caught.value.body["error"]["message"]


def test_a_key_may_be_a_token():
    client = anthropic.Anthropic(base_url=ROOT, auth_token=KEYS[0], max_retries=0)
    assert text_of(ask(client=client)) == text_of(ask())


def test_a_stream_that_is_closed_frees_the_server():
    stream = ask(stream=True, max_tokens=5000, extra_body={"lookahead": {"enabled": False}})
    next(iter(stream))
    stream.close()
    assert is_idle(), "the answer goes on"
