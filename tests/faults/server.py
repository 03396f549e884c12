"""A server as a process of its own, to be loaded, starved and killed.

LOOKAHEAD is the program (target/release/lookahead), MODEL what it serves (the default model).
"""

import contextlib
import functools
import json
import os
import pathlib
import re
import signal
import subprocess
import tempfile
import time

import httpx

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = os.environ.get("LOOKAHEAD", str(ROOT / "target/release/lookahead"))
MODEL = os.environ.get("MODEL")
PROMPTS = [json.loads(line)["prompt"] for line in (ROOT / "examples/prompts.jsonl").open()]


class Server:
    """Serves until the `with` block ends. `wrapper` is a command that runs the program, as `unshare` does."""

    def __init__(self, *flags, wrapper=()):
        self.flags = [*(["--model", MODEL] if MODEL else []), *flags]
        self.wrapper = wrapper
        self.process = None

    def __enter__(self):
        self.log_file = tempfile.NamedTemporaryFile("w+", prefix="lookahead-", suffix=".log")
        self.process = subprocess.Popen(
            [*self.wrapper, PROGRAM, "serve", "--port", "0", *self.flags], stderr=self.log_file
        )
        address = self.wait_for(lambda: re.search(r"^Serving .* on (http://\S+)$", self.log(), re.MULTILINE))
        self.url = address.group(1)
        self.client = httpx.Client(base_url=self.url, timeout=120)
        return self

    def __exit__(self, *_):
        self.end(signal.SIGTERM)
        self.client.close()
        assert "panicked" not in self.log(), self.log()

    def end(self, how):
        """Ends it by a signal; its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        return self.process.wait(60)

    def log(self):
        return pathlib.Path(self.log_file.name).read_text()

    def wait_for(self, what, seconds=60):
        """The first true value of `what()`."""
        deadline = time.monotonic() + seconds
        while not (value := what()):
            assert self.process.poll() is None, self.log()[-5000:]
            assert time.monotonic() < deadline, f"not within {seconds} s\n{self.log()[-5000:]}"
            time.sleep(0.1)
        return value

    @functools.cached_property
    def model(self):
        """The name of what it serves."""
        return self.client.get("/v1/models").json()["data"][0]["id"]

    def chat(self, prompt, **fields):
        """An answer, of which nothing is random unless `fields` say so."""
        body = {"messages": [{"role": "user", "content": prompt}], "temperature": 0, "max_tokens": 48} | fields
        answer = self.client.post("/v1/chat/completions", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def metric(self, name):
        """The value of a metric, or the sum over its labels."""
        lines = self.client.get("/metrics").text.splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if re.match(rf"{name}[ {{]", line))

    def path(self, path):
        """What the process sees at `path`, whatever is mounted for it."""
        return pathlib.Path(f"/proc/{self.process.pid}/root{path}")

    def anonymous_bytes(self):
        """Memory that the process has for itself: what is mapped of the model's file is not in it."""
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"RssAnon:\s+(\d+) kB", status).group(1)) * 1024


def text_of(answer):
    return answer["choices"][0]["message"]["content"]


def small_disk(path):
    """A command that runs another with a disk of 1 MiB at `path`."""
    mount = f'mount -t tmpfs -o size=1m none "{path}" && exec "$0" "$@"'
    return ["unshare", "--mount", "--map-root-user", "sh", "-c", mount]


def fill(path):
    """Writes until the disk is full."""
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass
