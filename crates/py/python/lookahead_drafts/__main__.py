"""Files of drafts from the command line, where the `lookahead` program is not at hand.

    python -m lookahead_drafts build OUT --tokenizer MODEL FILE.jsonl…    index texts
    python -m lookahead_drafts merge OUT FILE…                            one file of several, with their journals
    python -m lookahead_drafts inspect FILE…                              what is in them, and whether they are whole

A line of FILE.jsonl has `text`, or token ids in `token_ids`. Patterns with `*` may be quoted: OUT is never merged into itself by one.
OUT is replaced in one step when it is whole.
"""

from __future__ import annotations

import argparse
import glob
import json
import os
import sys
from collections.abc import Iterator
from typing import Any

from lookahead_drafts import DraftError, build_corpus, inspect_corpus, merge_corpora
from lookahead_drafts.settings import SettingsError, fingerprint_of


def texts_of(files: list[str], tokenizer: Any) -> Iterator[list[int]]:
    """The texts of files of JSON lines, as token ids."""
    for file in files:
        with open(file, encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                try:
                    row = json.loads(line)
                    yield row["token_ids"] if "token_ids" in row else tokenizer.encode(row["text"], add_special_tokens=False)
                except (ValueError, KeyError, TypeError) as error:
                    message = f"{file}:{number}: a line with `text` or `token_ids` is needed: {error!r}"
                    raise SettingsError(message) from error


def build(arguments: argparse.Namespace) -> None:
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(arguments.tokenizer)
    tokens = build_corpus(arguments.out, texts_of(arguments.files, tokenizer), fingerprint=fingerprint_of(tokenizer))
    print(f"{arguments.out}: {tokens} tokens")


def merge(arguments: argparse.Namespace) -> None:
    files = []
    for pattern in arguments.files:
        found = sorted(path for path in glob.glob(pattern) if os.path.abspath(path) != os.path.abspath(arguments.out))
        files += found if glob.has_magic(pattern) else [pattern]
    if not files:
        print(f"{arguments.out}: nothing to merge yet", file=sys.stderr)
        return
    tokens = merge_corpora(arguments.out, files)
    print(f"{arguments.out}: {tokens} tokens of {len(files)} files")


def inspect(arguments: argparse.Namespace) -> None:
    for file in arguments.files:
        contents = inspect_corpus(file)
        print(
            f"{file}: {contents['tokens']} tokens in {contents['texts']} texts, {contents['journaled']} more in its journal; "
            f"{contents['bytes']} bytes, tokenizer {contents['fingerprint']:016x}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="lookahead_drafts", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("build", help="index texts")
    command.add_argument("out")
    command.add_argument("files", nargs="+")
    command.add_argument("--tokenizer", required=True, help="a model's folder, or its name on the hub")
    command.set_defaults(run=build)
    command = commands.add_parser("merge", help="one file of several")
    command.add_argument("out")
    command.add_argument("files", nargs="+")
    command.set_defaults(run=merge)
    command = commands.add_parser("inspect", help="what is in files")
    command.add_argument("files", nargs="+")
    command.set_defaults(run=inspect)
    arguments = parser.parse_args()
    try:
        arguments.run(arguments)
    except (DraftError, OSError, ValueError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
