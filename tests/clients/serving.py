"""What tests of clients know of the server: BASE_URL is where it listens (with /v1), API_KEY and OTHER_KEY two of its keys."""

import os
import time

import httpx

BASE_URL = os.environ["BASE_URL"]
ROOT = BASE_URL.removesuffix("/v1")
KEYS = [os.environ["API_KEY"], os.environ["OTHER_KEY"]]
HEADERS = {"Authorization": f"Bearer {KEYS[0]}"}
MODEL = httpx.get(BASE_URL + "/models", headers=HEADERS).json()["data"][0]["id"]
QUESTION = [{"role": "user", "content": "Name three rivers of Europe and say where they end."}]
CITY = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 20}},
    "required": ["city"],
    "additionalProperties": False,
}


def chat(messages=QUESTION, **fields):
    """An answer by the chat route, without a client."""
    fields = {"model": MODEL, "messages": messages, "temperature": 0, "max_tokens": 40} | fields
    answer = httpx.post(BASE_URL + "/chat/completions", json=fields, headers=HEADERS, timeout=120)
    assert answer.status_code == 200, answer.text
    return answer.json()


def is_idle():
    """Whether the server stops working within a while."""
    for _ in range(200):
        if httpx.get(BASE_URL + "/lookahead/stats", headers=HEADERS).json()["running"] == 0:
            return True
        time.sleep(0.05)
    return False
