#!/usr/bin/env python3
"""agent_session.py URL [--model NAME]: a coding agent's session on a Lookahead server, with drafts and without.

The agent reads a file, edits it, runs its tests and edits it again: four steps, each a call of a tool that the model has to make, over
Anthropic's messages and OpenAI's responses. What the tools give back is written here, so that every run asks the same. Prints the time
and the tokens a forward pass of each step, decoded plainly and with drafts, and fails if one token differs. Needs nothing but Python.
"""

import argparse
import json
import time
import urllib.request

SOURCE = '''"""A shopping cart."""

from dataclasses import dataclass, field


@dataclass
class Item:
    name: str
    price_cents: int
    quantity: int = 1

    def total_cents(self) -> int:
        return self.price_cents * self.quantity


@dataclass
class Cart:
    items: list[Item] = field(default_factory=list)
    discount_percent: int = 0

    def add(self, name: str, price_cents: int, quantity: int = 1) -> None:
        self.items.append(Item(name, price_cents, quantity))

    def remove(self, name: str) -> None:
        self.items = [item for item in self.items if item.name != name]

    def total_cents(self) -> int:
        total = sum(item.total_cents() for item in self.items)
        return total - total * self.discount_percent / 100
'''

FAILURE = """FAILED test_cart.py::test_discount - assert 89.1 == 89
  def test_discount():
      cart = Cart(discount_percent=10)
      cart.add("pen", 99)
>     assert cart.total_cents() == 89
E     assert 89.1 == 89
1 failed, 3 passed in 0.02s"""

SYSTEM = "You are a coding agent. Work in small steps and call one tool at a time. Write whole files."
TASK = "Add a method count() to Cart in cart.py that gives the number of pieces in it, then run the tests and mend what fails."

TOOLS = {
    "read_file": ("Gives the text of a file.", {"path": {"type": "string"}}),
    "write_file": ("Replaces a file by a text.", {"path": {"type": "string"}, "text": {"type": "string"}}),
    "run_tests": ("Runs the tests.", {"path": {"type": "string"}}),
}

# The tool of each step, and what it gives back.
STEPS = [("read_file", SOURCE), ("write_file", "written"), ("run_tests", FAILURE), ("write_file", "written")]


def schema(properties):
    required = list(properties)
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


class Messages:
    """Anthropic's form."""

    path = "/v1/messages"

    def __init__(self):
        self.turns = [{"role": "user", "content": TASK}]

    def request(self, tool):
        tools = [
            {"name": name, "description": text, "input_schema": schema(properties)}
            for name, (text, properties) in TOOLS.items()
        ]
        return {
            "system": SYSTEM, "messages": self.turns, "tools": tools, "max_tokens": 900,
            "tool_choice": {"type": "tool", "name": tool},
        }

    def take(self, answer, result):
        call = next(block for block in answer["content"] if block["type"] == "tool_use")
        block = {"type": "tool_result", "tool_use_id": call["id"], "content": result}
        self.turns += [{"role": "assistant", "content": answer["content"]}, {"role": "user", "content": [block]}]
        return call["input"], answer["usage"]["output_tokens"]


class Responses:
    """OpenAI's form."""

    path = "/v1/responses"

    def __init__(self):
        self.items = [{"type": "message", "role": "user", "content": TASK}]

    def request(self, tool):
        tools = [
            {"type": "function", "name": name, "description": text, "parameters": schema(properties)}
            for name, (text, properties) in TOOLS.items()
        ]
        return {
            "instructions": SYSTEM, "input": self.items, "tools": tools, "max_output_tokens": 900, "store": False,
            "tool_choice": {"type": "function", "name": tool},
        }

    def take(self, answer, result):
        call = next(item for item in answer["output"] if item["type"] == "function_call")
        self.items += [call, {"type": "function_call_output", "call_id": call["call_id"], "output": result}]
        return json.loads(call["arguments"]), answer["usage"]["output_tokens"]


def post(url, body):
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=1200) as answer:
        return json.load(answer)


def session(url, model, wire, is_plain, namespace):
    """The calls of a session, and of each step its seconds, tokens and passes."""
    calls, steps = [], []
    for tool, result in STEPS:
        more = {"temperature": 0, "lookahead": {"enabled": not is_plain, "namespace": namespace}}
        if model:
            more["model"] = model
        began = time.monotonic()
        answer = post(url + wire.path, wire.request(tool) | more)
        seconds = time.monotonic() - began
        call, tokens = wire.take(answer, result)
        calls.append(call)
        steps.append((seconds, tokens, answer["usage"]["lookahead"]["steps"]))
    return calls, steps


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("url", help="of the server, such as http://127.0.0.1:8080")
    arguments.add_argument("--model", help="its name, where there are several")
    arguments = arguments.parse_args()
    print("| wire | step | tokens | plain s | drafts s | faster | tokens a pass |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: |")
    for form in (Messages, Responses):
        run = f"{form.__name__}-{time.time():.0f}"
        plain_calls, plain = session(arguments.url, arguments.model, form(), True, run + "-plain")
        calls, drafted = session(arguments.url, arguments.model, form(), False, run)
        assert calls == plain_calls, f"{form.path}: {calls} with drafts, {plain_calls} without"
        rows = list(zip([tool for tool, _ in STEPS], plain, drafted))
        rows.append(("all", *(tuple(map(sum, zip(*steps))) for steps in (plain, drafted))))
        for tool, (plain_s, _, _), (drafts_s, tokens, passes) in rows:
            ratio, per_pass = plain_s / drafts_s, tokens / max(passes, 1)
            print(
                f"| {form.path} | {tool} | {tokens} | {plain_s:.2f} | {drafts_s:.2f} | {ratio:.2f}x | {per_pass:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
