"""The snippets of docs/clients.md in Python run as written, against a server of ours: BASE_URL (with /v1), API_KEY."""

import os
import pathlib
import re
import subprocess
import sys

import openai
import pytest

BASE_URL, KEY = os.environ["BASE_URL"], os.environ["API_KEY"]
MODEL = openai.OpenAI(base_url=BASE_URL, api_key=KEY).models.list().data[0].id
GUIDE = pathlib.Path(__file__).parents[2] / "docs" / "clients.md"
SNIPPETS = re.findall(r"^```python\n(.*?)^```$", GUIDE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def test_the_guide_has_snippets():
    assert SNIPPETS


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_a_snippet_answers(snippet):
    snippet = (
        snippet.replace("http://127.0.0.1:8080", BASE_URL.removesuffix("/v1"))
        .replace('"local"', repr(MODEL))
        .replace("/local", f"/{MODEL}")
        .replace('"none"', repr(KEY))
    )
    quiet = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LANGSMITH_TRACING": "false"}
    command = [sys.executable, "-c", snippet]
    done = subprocess.run(command, env=os.environ | quiet, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
