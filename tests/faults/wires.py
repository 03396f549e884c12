"""One conversation by each wire: a request of the chat route as the others write it, and what an answer says, whatever it came by.

`Chat` can say all that a request asks for; the others give None for what they have no words for.
"""

import json


def without(body, *names):
    return {name: value for name, value in body.items() if name not in names}


def tool_calls(calls, is_cut):
    """Names and arguments; of an answer that is cut off names alone, as wires tell unfinished arguments each in their way."""
    return [(name, None if is_cut else read(arguments)) for name, arguments in calls]


def read(arguments):
    return json.loads(arguments) if isinstance(arguments, str) else arguments


def of(functions):
    return [(function["name"], function["arguments"]) for function in functions]


class Chat:
    path = "/v1/chat/completions"

    @staticmethod
    def request(body):
        return body

    @staticmethod
    def said(answer):
        answer = answer.json()
        return Chat.said_of(answer["choices"], answer["usage"]["completion_tokens"])

    @staticmethod
    def said_of(choices, tokens):
        """The text, the calls, whether it is cut off, and how many tokens it has; None if there are several answers."""
        if len(choices) > 1:
            return None
        [choice] = choices
        message = choice["message"]
        is_cut = choice["finish_reason"] == "length"
        calls = tool_calls(of(call["function"] for call in message.get("tool_calls", [])), is_cut)
        return message["content"] or "", calls, is_cut, tokens


class Responses:
    path = "/v1/responses"

    @staticmethod
    def request(body):
        if body.keys() & {"n", "logprobs", "prediction", "stop"}:
            return None
        changed = without(body, "messages", "max_tokens", "response_format", "tools")
        changed |= {"input": body["messages"], "max_output_tokens": body["max_tokens"]}
        if format := body.get("response_format"):
            changed["text"] = {"format": {"type": format["type"]} | format.get("json_schema", {})}
        if tools := body.get("tools"):
            changed["tools"] = [{"type": "function"} | tool["function"] for tool in tools]
        return changed

    @staticmethod
    def said(answer):
        answer = answer.json()
        messages = [item for item in answer["output"] if item["type"] == "message"]
        text = "".join(part["text"] for item in messages for part in item["content"])
        is_cut = answer["status"] == "incomplete"
        calls = tool_calls(of(item for item in answer["output"] if item["type"] == "function_call"), is_cut)
        return text, calls, is_cut, answer["usage"]["output_tokens"]


class Messages:
    path = "/v1/messages"

    @staticmethod
    def request(body):
        format = body.get("response_format", {})
        if body.keys() & {"n", "logprobs", "prediction"} or format.get("type") == "json_object":
            return None
        [system], messages = body["messages"][:1], body["messages"][1:]
        changed = without(body, "messages", "response_format", "stop", "tools", "tool_choice")
        changed |= {"system": system["content"], "messages": messages}
        if format:
            changed["output_config"] = {"format": {"type": "json_schema", "schema": format["json_schema"]["schema"]}}
        if stop := body.get("stop"):
            changed["stop_sequences"] = stop
        if tools := body.get("tools"):
            functions = [tool["function"] for tool in tools]
            changed["tools"] = [without(f, "parameters") | {"input_schema": f["parameters"]} for f in functions]
            changed["tool_choice"] = {"type": {"required": "any"}[body["tool_choice"]]}
        return changed

    @staticmethod
    def said(answer):
        answer = answer.json()
        text = "".join(block["text"] for block in answer["content"] if block["type"] == "text")
        is_cut = answer["stop_reason"] == "max_tokens"
        uses = [(block["name"], block["input"]) for block in answer["content"] if block["type"] == "tool_use"]
        return text, tool_calls(uses, is_cut), is_cut, answer["usage"]["output_tokens"]


class Ollama:
    """Streamed, as its clients have it."""

    path = "/api/chat"

    @staticmethod
    def request(body):
        if body.keys() & {"n", "logprobs", "prediction", "tool_choice"}:
            return None
        whole = {"model", "messages", "lookahead", "response_format", "max_tokens"}
        changed = {name: body[name] for name in whole & {"model", "messages", "lookahead"} & body.keys()}
        changed["options"] = without(body, *whole) | {"num_predict": body["max_tokens"]}
        if format := body.get("response_format"):
            changed["format"] = format["json_schema"]["schema"] if "json_schema" in format else "json"
        return changed

    @staticmethod
    def said(answer):
        lines = [json.loads(line) for line in answer.text.splitlines()]
        assert [line["done"] for line in lines] == [False] * (len(lines) - 1) + [True]
        messages = [line["message"] for line in lines]
        functions = [call["function"] for message in messages for call in message.get("tool_calls", [])]
        is_cut = lines[-1]["done_reason"] == "length"
        text = "".join(message["content"] for message in messages)
        return text, tool_calls(of(functions), is_cut), is_cut, lines[-1]["eval_count"]


WIRES = [Chat, Responses, Messages, Ollama]


def ask(server, wire, body):
    """What is said by that wire, or None where it has no words for the request."""
    if (body := wire.request(body)) is None:
        return None
    answer = server.client.post(wire.path, json={"model": server.model} | body)
    assert answer.status_code == 200, f"{wire.path} {body}: {answer.text}"
    return wire.said(answer)
