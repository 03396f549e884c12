"""What a hostile key costs another one: the time of its requests, and the server's memory.

A key asks one request after the other, first beside one ordinary client, then beside a flood of another key: predictions and prompts
of megabytes, thousands of answers at once, grammars, bodies that never end. No request of it may fail.
"""

import contextlib
import random
import socket
import statistics
import threading
import time

import httpx

from server import PROMPTS, Server

ROUNDS = 7
FLOODERS = 24
BODIES = 500

WORDS = "so it is and so it was, as far as anyone knows. "


def ask(server, key, prompt, **fields):
    body = {"messages": [{"role": "user", "content": prompt}], "temperature": 0, "max_tokens": 32} | fields
    return send(server, key, "/v1/chat/completions", body)


def send(server, key, path, body):
    headers = {"Authorization": f"Bearer {key}"}
    return httpx.post(f"{server.url}{path}", json=body, headers=headers, timeout=120)


def hostile_requests():
    chat = {"max_tokens": 4000, "n": 64}
    question = [{"role": "user", "content": "Say something long."}]
    prediction = {"type": "content", "content": WORDS * 20_000}
    schema = {"type": "object", "properties": {f"f{number}": {"type": "string"} for number in range(500)}}
    return [
        ("/v1/chat/completions", {"messages": question, "prediction": prediction}),
        ("/v1/chat/completions", {"messages": question, "prediction": {"type": "content", "content": WORDS * 2000}}),
        ("/v1/chat/completions", {"messages": question, **chat}),
        ("/v1/completions", {"prompt": PROMPTS[:1] * 64, "n": 64, "max_tokens": 4000}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": WORDS * 50_000}]}),
        ("/v1/chat/completions", {"messages": question, "json_schema": schema, "max_tokens": 2000}),
        ("/tokenize", {"content": WORDS * 100_000}),
    ]


def unfinished_body(server):
    host, port = server.url.removeprefix("http://").split(":")
    connection = socket.create_connection((host, port), timeout=60)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}:{port}\r\nAuthorization: Bearer m\r\n"
    head += "Content-Type: application/json\r\nContent-Length: 1000000\r\n\r\n{"
    connection.sendall(head.encode())
    return connection


@contextlib.contextmanager
def until_left(count, work):
    """Does `work(number)` again and again on so many threads."""
    stopped = threading.Event()

    def repeat(number):
        turn = number
        while not stopped.is_set():
            work(turn)
            turn += 1

    threads = [threading.Thread(target=repeat, args=[number]) for number in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stopped.set()
        for thread in threads:
            thread.join(180)


def times_of_another(server):
    """The seconds of each of the key's requests."""
    seconds = []
    for number in range(ROUNDS):
        began = time.monotonic()
        answer = ask(server, "a", PROMPTS[number])
        seconds.append(time.monotonic() - began)
        assert answer.status_code == 200, answer.text
    return seconds


def test_a_hostile_key_neither_starves_another_nor_fills_the_memory(tmp_path):
    keys = tmp_path / "keys"
    keys.write_text("alice:a\nbob:b\nmallory:m\n")
    flags = ["--api-key-file", str(keys), "--parallel", "4", "--max-body-memory", "64MiB", "--kv-memory", "256MiB"]
    with Server(*flags) as server:
        with until_left(1, lambda turn: ask(server, "b", PROMPTS[turn % len(PROMPTS)], max_tokens=128)):
            beside_one = times_of_another(server)
        before = server.anonymous_bytes()
        hostile, statuses = hostile_requests(), []

        def attack(turn):
            path, body = hostile[turn % len(hostile)]
            with contextlib.suppress(httpx.TransportError):
                statuses.append(send(server, "m", path, body).status_code)
            time.sleep(random.random() / 10)

        bodies = [unfinished_body(server) for _ in range(BODIES)]
        with until_left(FLOODERS, attack):
            server.wait_for(lambda: len(statuses) > len(hostile))
            beside_flood = times_of_another(server)
            grown = server.anonymous_bytes() - before
        for connection in bodies:
            connection.close()
        slower = statistics.median(beside_flood) / statistics.median(beside_one)
        print(f"{slower:.2f} times as long, {grown / 2**20:.0f} MiB more, statuses {sorted(set(statuses))}")
        assert slower <= 2
        assert grown < 1 << 30
        for gauge in ["answers_in_hand", "body_bytes", "queued_tokens", "preparations"]:
            server.wait_for(lambda gauge=gauge: server.metric(f"lookahead_{gauge}") == 0)
