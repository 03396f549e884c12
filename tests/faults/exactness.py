"""Whether a loaded server says what it would say alone: every answer, to the last byte.

    python tests/faults/exactness.py [REQUESTS]

The requests go to a server with little memory, shuffled, 24 at once, so that prefixes are shared and sequences put back; then
one after the other to a fresh server that decodes plainly and shares nothing. Each request goes to the loaded server a second time by another
wire, which must say the same. 500 requests if nothing else is said.
"""

import random
import sys
from concurrent.futures import ThreadPoolExecutor

from server import PROMPTS, Server
from soak import SCHEMA
from wires import WIRES, Chat
from wires import ask as ask_by

CLIENTS = 24
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string", "maxLength": 20}}, "required": ["city"]},
    },
}
EXTRAS = [
    {}, {}, {"n": 2}, {"logprobs": True, "top_logprobs": 3}, {"stop": [".", "\n\n"]},
    {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}},
    {"response_format": {"type": "json_object"}}, {"tools": [WEATHER], "tool_choice": "required"},
    {"prediction": {"type": "content", "content": "The tide rises and falls twice a day. It is the moon."}},
]  # fmt: skip
SAMPLING = [
    {"temperature": 0}, {"temperature": 0.8}, {"temperature": 1.3, "top_k": 40, "min_p": 0.02},
    {"temperature": 1, "top_p": 0.9, "frequency_penalty": 0.5}, {"temperature": 0, "repeat_penalty": 1.2},
]  # fmt: skip


def requests(count):
    chance = random.Random(11)
    for number in range(count):
        prompt = chance.choice(PROMPTS)
        yield {
            "messages": [
                {"role": "system", "content": "You are a patient teacher who answers in plain words, and briefly."},
                {"role": "user", "content": prompt if chance.random() < 0.5 else prompt[: len(prompt) // 2]},
            ],
            "max_tokens": chance.randint(8, 96),
            "seed": number,
        } | chance.choice(SAMPLING) | chance.choice(EXTRAS)


def said(answer):
    """What must not differ: all but names and times, and what it cost."""
    choices = answer["choices"]
    for choice in choices:
        for call in choice["message"].get("tool_calls", []):
            del call["id"]
    return choices, answer["usage"]["completion_tokens"]


def ask(server, body, **fields):
    return said(server.chat("", **body, **fields))


def ask_twice(server, index, body):
    """By the chat route and by another wire, which has None to say where it has no words for the request."""
    return ask(server, body), ask_by(server, WIRES[1 + index % (len(WIRES) - 1)], body)


def is_same(loaded, alone):
    by_chat, by_wire = loaded
    return by_chat == alone and by_wire in (None, Chat.said_of(*alone))


def main(count):
    bodies = list(requests(count))
    shuffled = random.Random(5).sample(range(count), count)
    with Server("--kv-memory", "24MiB", "--max-queue", "1000") as server:
        with ThreadPoolExecutor(CLIENTS) as clients:
            loaded = dict(zip(shuffled, clients.map(lambda at: ask_twice(server, at, bodies[at]), shuffled), strict=True))
        counts = {
            "preemptions": server.metric("lookahead_preemptions_total"),
            "tokens from the prefix cache": server.metric("lookahead_prefix_cache_tokens_total"),
            "accepted drafts": server.metric("lookahead_accepted_tokens_total"),
            "tokens": server.metric("lookahead_generated_tokens_total"),
        }
    with Server("--decoding", "plain") as server:
        alone = [ask(server, body, lookahead={"namespace": f"n{index}"}) for index, body in enumerate(bodies)]
    differ = [index for index in range(count) if not is_same(loaded[index], alone[index])]
    by_wires = sum(by_wire is not None for _, by_wire in loaded.values())
    print(f"{count} requests, {by_wires} by another wire too, {len(differ)} differ;", ", ".join(f"{value:.0f} {name}" for name, value in counts.items()))
    for index in differ[:5]:
        print(bodies[index], loaded[index], alone[index], sep="\n  ")
    return not differ and by_wires > 0 and all(counts.values())


if __name__ == "__main__":
    sys.exit(0 if main(int(sys.argv[1]) if len(sys.argv) > 1 else 500) else 1)
