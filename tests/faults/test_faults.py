"""What a server goes through: killed under load, a full disk, clients that send nonsense.

REQUESTS is how many malformed requests each generator sends (200).
"""

import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

import httpx
import pytest

from server import PROMPTS, Server, fill, small_disk, text_of

REQUESTS = int(os.environ.get("REQUESTS", "200"))
QUESTION = "Explain how tides come about, in five sentences."


def open_namespace(server):
    """A request opens its namespace; looking at it does not. This one teaches it nothing."""
    server.chat("Hi", max_tokens=1, lookahead={"share": "read"})


def namespace_tokens(server):
    return server.client.get("/v1/lookahead/stats").json()["namespace"]["tokens"]


def test_killed_under_load_it_has_its_last_snapshot_again(tmp_path):
    flags = ["--drafts-dir", str(tmp_path), "--snapshot-interval", "1"]
    with Server(*flags) as server:
        before = server.chat(QUESTION)
        server.wait_for(lambda: namespace_tokens(server) > 0)
        saved, snapshots = namespace_tokens(server), server.metric("lookahead_snapshots_total")
        server.wait_for(lambda: server.metric("lookahead_snapshots_total") > snapshots + 1)

        ends = []

        def stream(number):
            body = {"messages": [{"role": "user", "content": PROMPTS[number]}], "max_tokens": 2000, "stream": True}
            try:
                with httpx.stream("POST", f"{server.url}/v1/chat/completions", json=body, timeout=60) as answer:
                    lines = [line for line in answer.iter_lines() if line]
                ends.append(lines[-1])
            except httpx.TransportError as error:
                ends.append(error)

        clients = [threading.Thread(target=stream, args=[number]) for number in range(8)]
        for client in clients:
            client.start()
        server.wait_for(lambda: server.metric("lookahead_running_sequences") == 8)
        server.end(signal.SIGKILL)
        for client in clients:
            client.join(30)
        # Nobody takes half an answer for a whole one.
        assert len(ends) == 8 and all(isinstance(end, httpx.TransportError) for end in ends), ends

    with Server(*flags) as server:
        open_namespace(server)
        assert namespace_tokens(server) >= saved
        after = server.chat(QUESTION)
        assert text_of(after) == text_of(before)
        assert after["usage"]["lookahead"]["accepted_by_source"].get("output", 0) > 0, after["usage"]


@pytest.mark.skipif(shutil.which("unshare") is None, reason="there is no unshare to mount a small disk with")
def test_a_full_disk_costs_snapshots_and_no_answers(tmp_path):
    flags = ["--drafts-dir", str(tmp_path), "--snapshot-interval", "1"]
    with Server(*flags, wrapper=small_disk(tmp_path)) as server:
        disk = server.path(tmp_path)
        filler = disk / "filler"
        fill(filler)
        first = server.chat(QUESTION)
        assert server.metric("lookahead_namespace_failures_total") == 1, "it cannot be opened, and is not needed"

        filler.unlink()
        assert text_of(server.chat(QUESTION)) == text_of(first)
        server.wait_for(lambda: server.metric("lookahead_snapshots_total") > 1)
        saved = namespace_tokens(server)
        fill(filler)
        for prompt in PROMPTS[:4]:
            server.chat(prompt, max_tokens=400)
        server.wait_for(lambda: server.metric("lookahead_snapshot_failures_total") > 0)
        assert "what was learned is not saved" in server.log(), server.log()[-5000:]
        assert text_of(server.chat(QUESTION)) == text_of(first)
        assert server.client.get("/health").status_code == 200

        filler.unlink()
        unsaved = namespace_tokens(server)
        server.chat(PROMPTS[5])
        snapshots = server.metric("lookahead_snapshots_total")
        server.wait_for(lambda: server.metric("lookahead_snapshots_total") > snapshots + 1)
        saved += namespace_tokens(server) - unsaved
        shutil.copytree(disk, tmp_path, dirs_exist_ok=True)
    with Server(*flags) as server:
        open_namespace(server)
        assert namespace_tokens(server) >= saved, "what came before the disk was full, and after there was room again"


def test_told_to_stop_with_a_long_queue_it_ends_in_time_and_keeps_what_it_learned(tmp_path):
    waiting, running, timeout = 500, 2, 3
    flags = ["--drafts-dir", str(tmp_path), "--snapshot-interval", "3600", "--parallel", str(running)]
    flags += ["--max-queue", str(waiting + running), "--shutdown-timeout", str(timeout)]
    with Server(*flags) as server:
        before = server.chat(QUESTION)
        server.wait_for(lambda: namespace_tokens(server) > 0)
        learned = namespace_tokens(server)
        clients = [send_chat(server, f"Write {number} long stories.", 4000) for number in range(waiting + running)]
        server.wait_for(lambda: server.metric("lookahead_queue_depth") >= waiting)
        began = time.monotonic()
        assert server.end(signal.SIGTERM) == 0
        took = time.monotonic() - began
        statuses = [received(client)[:12] for client in clients]
        print(f"stopped {took:.1f} s later, statuses {sorted(set(statuses))}")
        assert took <= timeout + 2
        assert statuses.count(b"HTTP/1.1 503") >= waiting
        assert set(statuses) <= {b"HTTP/1.1 503", b"HTTP/1.1 200"}, "nobody is left without an answer"

    with Server(*flags) as server:
        after = server.chat(QUESTION)
        assert namespace_tokens(server) >= learned
        assert text_of(after) == text_of(before)
        assert after["usage"]["lookahead"]["accepted_by_source"].get("output", 0) > 0, after["usage"]


def send_chat(server, prompt, max_tokens):
    """Sends a request; the connection that its answer will come over."""
    fields = {"messages": [{"role": "user", "content": prompt}], "max_tokens": max_tokens, "ignore_eos": True}
    body = json.dumps(fields).encode()
    host, port = server.url.removeprefix("http://").split(":")
    connection = socket.create_connection((host, port), timeout=60)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    connection.sendall(head.encode() + body)
    return connection


def received(connection):
    """All that comes over a connection until its other end closes it."""
    parts = []
    with connection, contextlib.suppress(ConnectionError):
        while part := connection.recv(65536):
            parts.append(part)
    return b"".join(parts)


def mutated(chance, value):
    """`value`, with something in it replaced, removed, repeated or put elsewhere."""
    strange = [
        None, True, -1, 0, 1e308, 2**64, -0.5, "", "\0", "\ud83d", "x" * 5000, [], {}, [[]], {"": {}}, [None] * 50,
        {"type": "function"}, {"type": "json_schema", "json_schema": {"schema": {"$ref": "#"}}},
        {"include_usage": 3}, ["<|im_end|>"], "{{ 7 * 7 }}", {"1": "x"}, {"99999999": 1},
    ]  # fmt: skip
    if isinstance(value, dict) and value and chance.random() < 0.8:
        key = chance.choice(list(value))
        changed = dict(value)
        kind = chance.random()
        if kind < 0.1:
            del changed[key]
        elif kind < 0.2:
            changed[chance.choice(["surprise", "", "messages", "n", "tools"])] = chance.choice(strange)
        else:
            changed[key] = mutated(chance, value[key])
        return changed
    if isinstance(value, list) and value and chance.random() < 0.8:
        at = chance.randrange(len(value))
        return [*value[:at], mutated(chance, value[at]), *value[at + chance.randrange(2) :]]
    return chance.choice(strange)


WHOLE_CHAT = {
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
        {"role": "assistant", "content": None, "tool_calls": [
            {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "1", "content": "3"},
    ],
    "max_tokens": 1, "temperature": 0.5, "top_p": 0.9, "top_k": 5, "min_p": 0.1, "n": 1, "seed": 3, "stop": ["x"],
    "logprobs": True, "top_logprobs": 2, "logit_bias": {"5": 1}, "stream": False, "stream_options": {},
    "presence_penalty": 0.1, "frequency_penalty": 0.1, "response_format": {"type": "json_object"},
    "prediction": {"type": "content", "content": "Hi there"}, "tool_choice": "none",
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
    "lookahead": {"enabled": True, "namespace": "a", "share": "read", "draft_length": 3, "trace": True},
}  # fmt: skip
WHOLE = {
    "/v1/chat/completions": WHOLE_CHAT,
    "/v1/completions": {"prompt": ["a", "b"], "max_tokens": 1, "echo": True, "best_of": 1, "logprobs": None},
    "/tokenize": {"content": "text", "add_special": True, "parse_special": False},
    "/detokenize": {"tokens": [1, 2, 3]},
    "/v1/lookahead/corpora?name=c": {"text": "some text"},
}


def random_request(chance):
    path = chance.choice(list(WHOLE))
    body = WHOLE[path]
    for _ in range(chance.randint(1, 3)):
        body = mutated(chance, body)
    data = bytearray(json.dumps(body).encode())
    kind = chance.random()
    if kind < 0.15 and data:
        del data[chance.randrange(len(data)) :]
    elif kind < 0.3 and data:
        for _ in range(chance.randint(1, 8)):
            data[chance.randrange(len(data))] = chance.randrange(256)
    return path, bytes(data)


def check_answer(status, text, what):
    """Right or refused, in the form that clients know."""
    assert status < 500, (status, text, what)
    if status >= 400:
        error = json.loads(text)["error"]
        assert error["message"] and error["type"] and "param" in error and "code" in error, (text, what)


def test_malformed_requests_are_refused_and_cost_nothing():
    chance = random.Random(7)
    statuses, memory = {}, []
    with Server("--max-completion-tokens", "4", "--namespace-memory", "4MiB", "--kv-memory", "48MiB") as server:
        for number in range(REQUESTS):
            path, body = random_request(chance)
            answer = server.client.post(path, content=body, headers={"Content-Type": "application/json"})
            check_answer(answer.status_code, answer.text, (path, body))
            statuses[answer.status_code] = statuses.get(answer.status_code, 0) + 1
            if number % max(1, REQUESTS // 10) == 0:
                memory.append(server.anonymous_bytes())
        memory.append(server.anonymous_bytes())
        print(statuses, [f"{bytes_ / 2**20:.0f} MiB" for bytes_ in memory])
        assert statuses.get(400, 0) > REQUESTS / 4
        if REQUESTS >= 5000:
            assert memory[-1] <= 1.05 * max(memory[1:6]), memory
        assert server.chat("Hi")["choices"]


def test_what_is_no_http_is_refused():
    with Server("--client-timeout", "3") as server:
        address = server.url.removeprefix("http://").split(":")
        chance = random.Random(9)
        for number in range(max(20, REQUESTS // 20)):
            with socket.create_connection(address, timeout=20) as connection:
                head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello"
                raw = bytearray(head if number % 2 else chance.randbytes(200))
                for _ in range(chance.randint(1, 5)):
                    raw[chance.randrange(len(raw))] = chance.randrange(256)
                with contextlib.suppress(ConnectionError):
                    connection.sendall(raw)
                    connection.shutdown(socket.SHUT_WR)
                    answer = connection.recv(4096)
                    assert not answer or answer.startswith(b"HTTP/1.1 4"), (raw, answer)
        assert server.chat("Hi")["choices"]


def test_requests_out_of_the_api_document_are_answered_as_it_says():
    checks = "status_code_conformance,content_type_conformance,response_schema_conformance"
    with Server("--max-completion-tokens", "4", "--kv-memory", "48MiB") as server:
        command = [sys.executable, "-m", "schemathesis.cli", "run", f"{server.url}/openapi.json", "--checks", checks]
        # JSON lines are nothing that it can write; the other generator sends some.
        options = ["--exclude-operation-id", "add_corpus", "--phases", "coverage,fuzzing"]
        options += ["--max-examples", str(max(5, REQUESTS // 10)), "--seed", "1", "--generation-database", "none"]
        result = subprocess.run([*command, *options, "--no-color"], capture_output=True, text=True, check=False)
        print(result.stdout[-2000:])
        assert result.returncode == 0, result.stdout
        assert server.chat("Hi")["choices"]
