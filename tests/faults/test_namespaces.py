"""What one key, or a web page, can do to others: fill namespaces and disks, damage files, speak in a browser's name."""

import json
import shutil
import socket

import pytest

from server import PROMPTS, Server, fill, small_disk

KEYS = ["--api-key", "alice:a", "--api-key", "bob:b"]
CORPORA = "/v1/lookahead/corpora"
LINES = {"Content-Type": "application/x-ndjson"}


def ask(server, key, namespace=None):
    body = {"messages": [{"role": "user", "content": PROMPTS[0]}], "temperature": 0, "max_tokens": 32}
    headers = {"Authorization": f"Bearer {key}"}
    answer = server.client.post(
        "/v1/chat/completions", json=body | {"lookahead": {"namespace": namespace}}, headers=headers
    )
    assert answer.status_code == 200, answer.text
    return answer.json()["usage"]["lookahead"]["accepted_by_source"].get("output", 0)


def test_a_hundred_namespaces_of_one_key_cost_another_key_nothing(tmp_path):
    with Server(*KEYS, "--drafts-dir", str(tmp_path), "--max-namespaces", "4", "--max-kept-namespaces", "8") as server:
        ask(server, "b")
        for number in range(100):
            ask(server, "a", f"n{number}")
        assert ask(server, "b") > 0, "what Bob's namespace has learned is still there"
        assert server.metric("lookahead_namespaces") <= 5
        assert len(list(tmp_path.glob("alice*.journal"))) <= 8
        assert server.metric("lookahead_namespace_failures_total") == 0


def test_a_damaged_corpus_stops_nothing_and_can_be_removed(tmp_path):
    folder = tmp_path / "default.corpora"
    folder.mkdir()
    (folder / "bad.drafts").write_bytes(b"LKDRAFTS" + bytes(1000))
    with Server("--drafts-dir", str(tmp_path)) as server:
        server.chat(PROMPTS[0])
        assert server.metric("lookahead_namespace_failures_total") == 0
        assert server.metric("lookahead_corpus_failures_total") == 1
        assert "a corpus is passed over" in server.log()
        [corpus] = server.client.get(CORPORA).json()["data"]
        assert corpus["name"] == "bad" and "bad.drafts" in corpus["problem"], corpus
        assert server.client.delete(f"{CORPORA}/bad").status_code == 200
        assert server.client.get(CORPORA).json()["data"] == []


@pytest.mark.skipif(shutil.which("unshare") is None, reason="there is no unshare to mount a small disk with")
def test_a_corpus_that_the_disk_has_no_room_for_leaves_nothing(tmp_path):
    corpus = "\n".join(json.dumps({"text": prompt}) for prompt in PROMPTS)
    with Server("--drafts-dir", str(tmp_path), wrapper=small_disk(tmp_path)) as server:
        disk = server.path(tmp_path)
        fill(disk / "filler")
        answer = server.client.post(CORPORA, params={"name": "c"}, content=corpus, headers=LINES)
        assert answer.status_code == 500 and '"c"' in answer.json()["error"]["message"], answer.text
        (disk / "filler").unlink()
        assert list(disk.iterdir()) == []
        answer = server.client.post(CORPORA, params={"name": "c"}, content=corpus, headers=LINES)
        assert answer.status_code == 200, answer.text
        assert server.chat(PROMPTS[0])["choices"]


def raw(server, head, body=b""):
    """The status of the answer to a request as it stands here."""
    address = server.url.removeprefix("http://").split(":")
    with socket.create_connection(address, timeout=20) as connection:
        connection.sendall(head.encode() + f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body)
        return int(connection.makefile("rb").readline().split()[1])


def test_web_pages_of_others_get_nothing():
    chat = json.dumps({"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1}).encode()
    json_type = "Content-Type: application/json\r\n"
    with Server() as server:
        own = server.url.removeprefix("http://")
        post = "POST /v1/chat/completions HTTP/1.1\r\n"
        for head, status in [
            (f"{post}Host: {own}\r\nContent-Type: text/plain\r\n", 415),
            (f"{post}Host: {own}\r\nContent-Type: text/plain\r\nOrigin: https://evil.example\r\n", 403),
            (f"{post}Host: {own}\r\n{json_type}Origin: null\r\n", 403),
            (f"{post}Host: {own}\r\nSec-Fetch-Site: same-origin\r\n", 415),
            (f"{post}Host: evil.example\r\n{json_type}Origin: http://evil.example\r\n", 403),
            (f"{post}Host: evil.example\r\n{json_type}", 403),
            (f"{post.replace('/v1', 'http://evil.example/v1')}Host: {own}\r\n{json_type}", 403),
            (f"{post}Host: {own}\r\n{json_type}Origin: {server.url}\r\nSec-Fetch-Site: same-origin\r\n", 200),
            (f"{post}Host: {own}\r\n{json_type}", 200),
        ]:
            assert raw(server, head, chat) == status, head
        for path in ["/v1/models", "/v1/lookahead/stats", CORPORA]:
            assert raw(server, f"GET {path} HTTP/1.1\r\nHost: evil.example\r\n") == 403, path
            assert raw(server, f"GET {path} HTTP/1.1\r\nHost: {own}\r\nSec-Fetch-Site: cross-site\r\n") == 403, path
        for path in ["/health", "/metrics"]:
            assert raw(server, f"GET {path} HTTP/1.1\r\nHost: 10.1.2.3:8080\r\n") == 200, path
