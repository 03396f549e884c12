"""The package as a command."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from lookahead_drafts import build_corpus, inspect_corpus


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lookahead_drafts", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def test_files_of_replicas_are_merged_by_a_pattern_that_leaves_the_result_out(tmp_path):
    for name in ("a", "b"):
        build_corpus(tmp_path / f"{name}.trie", [[1, 2, 3]], fingerprint=9)
    out = tmp_path / "all.trie"
    assert run("merge", out, tmp_path / "missing-*.trie").returncode == 0 and not out.exists()
    for _ in range(2):
        done = run("merge", out, tmp_path / "*.trie")
        assert done.returncode == 0 and "of 2 files" in done.stdout
    assert inspect_corpus(out)["texts"] == 2
    shown = run("inspect", out)
    assert "2 texts" in shown.stdout and "0000000000000009" in shown.stdout


def test_errors_name_the_file_and_leave_the_result_alone(tmp_path):
    out = tmp_path / "all.trie"
    done = run("merge", out, tmp_path / "none.trie")
    assert done.returncode == 1 and "none.trie" in done.stderr and "Traceback" not in done.stderr
    build_corpus(tmp_path / "a.trie", [[1]], fingerprint=1)
    build_corpus(tmp_path / "b.trie", [[1]], fingerprint=2)
    done = run("merge", out, tmp_path / "a.trie", tmp_path / "b.trie")
    assert done.returncode == 1 and "another tokenizer" in done.stderr and not out.exists()


def test_texts_are_indexed_with_a_tokenizer(tmp_path):
    pytest.importorskip("transformers")
    tokenizers = pytest.importorskip("tokenizers")
    words = {"[UNK]": 0, "one": 1, "two": 2, "three": 3}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}))
    (tmp_path / "texts.jsonl").write_text('{"text": "one two three"}\n{"token_ids": [3, 3]}\n')
    out = tmp_path / "out.trie"
    done = run("build", out, tmp_path / "texts.jsonl", "--tokenizer", tmp_path)
    assert done.returncode == 0, done.stderr
    assert inspect_corpus(out)["texts"] == 2
    (tmp_path / "texts.jsonl").write_text('{"text": "one"}\n{"words": 1}\n')
    done = run("build", out, tmp_path / "texts.jsonl", "--tokenizer", tmp_path)
    assert done.returncode == 1 and "texts.jsonl:2" in done.stderr
