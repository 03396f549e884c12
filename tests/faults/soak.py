"""Full load for as long as is asked for: what the server takes in memory must stay the same.

    python tests/faults/soak.py [MINUTES]

Eight clients send what clients send: chats, streams that are read or left, structured answers, several answers to a prompt;
random and ever new, in namespaces that are full after the first minutes. Prints a line a minute; fails if memory in the last
third is more than 5 % above that in the second, or if anything fails that should not.
"""

import json
import random
import sys
import tempfile
import threading
import time

import httpx

from server import PROMPTS, Server

CLIENTS = 8
SCHEMA = {
    "type": "object",
    "properties": {"title": {"type": "string", "maxLength": 40}, "stars": {"type": "integer", "maximum": 5}},
    "required": ["title", "stars"],
    "additionalProperties": False,
}


class Client(threading.Thread):
    def __init__(self, server, number, stopped):
        super().__init__(daemon=True)
        self.server, self.number, self.stopped = server, number, stopped
        self.random = random.Random(number)
        self.requests, self.failures = 0, []

    def run(self):
        with httpx.Client(base_url=self.server.url, timeout=120) as client:
            while not self.stopped.is_set():
                try:
                    self.ask(client)
                except (AssertionError, httpx.HTTPError, json.JSONDecodeError) as problem:
                    self.failures.append(repr(problem))
                self.requests += 1

    def ask(self, client):
        chance = self.random
        prompt = f"{chance.choice(['Please.', 'Hello!', 'In short:', 'Well,'])} {chance.choice(PROMPTS)}"
        body = {
            "messages": [{"role": "user", "content": prompt}],
            "temperature": chance.choice([0, 0.7, 1.2]),
            "seed": chance.getrandbits(31),
            "max_tokens": chance.randint(8, 160),
            "lookahead": {"namespace": f"n{self.number % 4}"},
        }
        kind = chance.choice(["chat", "stream", "left", "schema", "several"])
        if kind == "schema":
            body["response_format"] = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}
        if kind == "several":
            body |= {"n": 3, "logprobs": True, "top_logprobs": 2}
        if kind in ("stream", "left"):
            lines, most = 0, 5 if kind == "left" else 10_000
            with client.stream("POST", "/v1/chat/completions", json=body | {"stream": True}) as answer:
                assert answer.status_code == 200
                for line in answer.iter_lines():
                    lines += 1
                    if lines >= most:
                        return
            assert line == "" or line == "data: [DONE]", line
        else:
            answer = client.post("/v1/chat/completions", json=body)
            assert answer.status_code == 200, answer.text
            assert len(answer.json()["choices"]) == body.get("n", 1)


def soak(minutes, interval=60.0):
    """Loads a server and returns its memory at the end of each interval, in bytes."""
    flags = ["--kv-memory", "32MiB", "--namespace-memory", "1MiB", "--snapshot-interval", "60", "--drafts-dir"]
    with tempfile.TemporaryDirectory() as drafts, Server(*flags, drafts) as server:
        stopped = threading.Event()
        clients = [Client(server, number, stopped) for number in range(CLIENTS)]
        for client in clients:
            client.start()
        memory, tokens, began = [], 0, time.monotonic()
        while time.monotonic() - began < minutes * 60:
            time.sleep(interval)
            memory.append(server.anonymous_bytes())
            before, tokens = tokens, server.metric("lookahead_generated_tokens_total")
            print(
                f"{(time.monotonic() - began) / 60:5.1f} min  {memory[-1] / 2**20:7.1f} MiB  "
                f"{(tokens - before) / interval:6.1f} tokens/s  {sum(client.requests for client in clients)} requests  "
                f"{server.metric('lookahead_preemptions_total'):.0f} preemptions  "
                f"{sum(len(client.failures) for client in clients)} failures",
                flush=True,
            )
        stopped.set()
        for client in clients:
            client.join(120)
        failures = [failure for client in clients for failure in client.failures]
        assert not failures, failures[:10]
        assert server.metric("lookahead_snapshot_failures_total") == 0
    return memory


if __name__ == "__main__":
    memory = soak(float(sys.argv[1]) if len(sys.argv) > 1 else 60)
    third = len(memory) // 3
    middle, end = max(memory[third:-third]), max(memory[-third:])
    print(f"most memory in the second third {middle / 2**20:.1f} MiB, in the last {end / 2**20:.1f} MiB")
    sys.exit(0 if end <= middle * 1.05 else "memory has grown")
