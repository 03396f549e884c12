"""The draft engine from Python: what it drafts, what it refuses, files, threads."""

from __future__ import annotations

import gc
import json
import os
import random
import subprocess
import threading
from pathlib import Path

import numpy as np
import pytest

from lookahead_drafts import (
    DraftError,
    DraftRows,
    DraftTrie,
    build_corpus,
    inspect_corpus,
    merge_corpora,
    vocabulary_fingerprint,
)

MIB = 1 << 20
REPOSITORY = Path(__file__).parents[3]


class Chance:
    """The generator of the Rust crate's example `trace`."""

    def __init__(self, state: int) -> None:
        self.state = state

    def below(self, end: int) -> int:
        self.state = (self.state * 1_664_525 + 1_013_904_223) % 2**32
        return (self.state >> 16) % end

    def text(self, length: int) -> list[int]:
        text: list[int] = []
        while len(text) < length:
            if len(text) > 8 and self.below(3) == 0:
                start = self.below(len(text) - 6)
                text += text[start : start + 6]
            else:
                text.append(self.below(60))
        return text


def test_drafts_are_those_of_the_rust_crate_bit_for_bit():
    command = ["cargo", "run", "--quiet", "--locked", "-p", "lookahead-trie", "--example", "trace"]
    lines = subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True, text=True).stdout.splitlines()
    expected = iter([json.loads(line) for line in lines])
    chance, trie, drafts = Chance(1), DraftTrie(8 * MIB), 0
    trie.warm_up(chance.text(400))
    for number in range(40):
        reference, prompt = chance.text(30), chance.text(20 + number)
        answer = chance.text(90)
        share = ("readwrite", "readwrite", "read", "off")[number % 4]
        shape = ("hierarchical", "parallel", "single")[number % 3]
        references = [reference] if number % 3 == 0 else None
        with trie.start(prompt, share=share, references=references) as request:
            for start in range(0, len(answer), 3):
                tree = request.draft_tree(12, shape=shape)
                batch = trie.draft_trees([request], 12, shape=shape)
                wanted = next(expected)
                for draft in (tree, batch):
                    assert draft.tokens.tolist() == wanted["tokens"]
                    assert draft.parents.tolist() == wanted["parents"]
                    assert draft.probabilities.view(np.uint32).tolist() == wanted["probability_bits"]
                drafts += 1
                request.append(answer[start : start + 3])
    assert drafts > 1000 and next(expected, None) is None


def test_a_draft_is_arrays_of_one_entry_a_node():
    trie = DraftTrie()
    request = trie.start([1, 2, 3, 4, 1, 2, 5, 6, 1, 2])
    tree = request.draft_tree(4)
    assert len(tree) == 5 and tree.tokens[0] == 2
    assert [array.dtype for array in (tree.tokens, tree.parents, tree.probabilities)] == ["int64", "int64", "float32"]
    assert tree.probabilities[0] == 1 and (np.diff(tree.probabilities) <= 0).all()
    for node in range(1, len(tree)):
        parent = tree.parents[node]
        assert parent < node and tree.depths[node] == tree.depths[parent] + 1
        expected = tree.mask[parent].copy()
        expected[node] = True
        assert (tree.mask[node] == expected).all()
    assert tree.mask[0].tolist() == [True, False, False, False, False]
    chain = tree.best_chain()
    assert len(chain) == tree.depths.max() and chain[0] in (3, 5)
    assert len(trie.start([]).draft_tree()) == 0
    assert "tokens=[2" in repr(tree)


def test_token_ids_come_as_lists_and_arrays_of_any_integer_type():
    trie = DraftTrie()
    ids = [1, 2, 3, 4, 5, 1, 2]
    expected = trie.start(ids).draft_tree(3).tokens.tolist()
    forms = [tuple(ids), iter(ids), range(1, 8), np.array(ids + ids)[7:], np.array([ids, ids]).T.copy()[:, 1]]
    forms += [np.array(ids, dtype=dtype) for dtype in ("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", ">i4")]
    for form in forms:
        drafted = trie.start(form).draft_tree(3).tokens.tolist()
        assert drafted == expected or isinstance(form, range), form
    assert len(trie.start(np.array([])).draft_tree()) == 0


@pytest.mark.parametrize(
    ("ids", "error", "message"),
    [
        ([1, -1], ValueError, r"prompt_ids\[1\] is -1"),
        (np.array([1, -1]), ValueError, r"prompt_ids\[1\] is -1"),
        (np.array([-3], dtype=np.int8), ValueError, r"prompt_ids\[0\] is -3"),
        ([2**32 - 1], ValueError, r"prompt_ids\[0\] is 4294967295"),
        ([2**70], ValueError, r"prompt_ids\[0\] is 1180591620717411303424"),
        (np.array([2**64 - 1], dtype=np.uint64), ValueError, r"prompt_ids\[0\] is 18446744073709551615"),
        (np.array([[1, 2]]), ValueError, r"the shape \[1, 2\]"),
        (np.array(3), ValueError, r"the shape \[\]"),
        (np.array([1.5]), TypeError, "array of float64"),
        (np.array([True]), TypeError, "array of bool"),
        (np.array(["a"], dtype=object), TypeError, "array of object"),
        ([1, True], TypeError, r"prompt_ids\[1\] is of type bool"),
        ([1, "2"], TypeError, r"prompt_ids\[1\] is of type str"),
        ([1, None], TypeError, r"prompt_ids\[1\] is of type NoneType"),
        ([[1, 2]], TypeError, r"prompt_ids\[0\] is of type list"),
        ("text", TypeError, "encode it with the model's tokenizer"),
        (7, TypeError, "of type int"),
        (None, TypeError, "of type NoneType"),
    ],
)
def test_what_is_no_row_of_token_ids_is_refused_by_name(ids, error, message):
    with pytest.raises(error, match=message):
        DraftTrie().start(ids)


def test_wrong_arguments_are_refused_by_name():
    trie = DraftTrie()
    request = trie.start([1, 2, 3])
    with pytest.raises(ValueError, match="at least 1048576 bytes"):
        DraftTrie(max_bytes=1000)
    with pytest.raises(ValueError, match="max_bytes is -1"):
        DraftTrie(max_bytes=-1)
    with pytest.raises(ValueError, match="share is 'all'"):
        trie.start([1], share="all")
    with pytest.raises(ValueError, match="budget is -1; 0 to 16384"):
        request.draft_tree(-1)
    with pytest.raises(ValueError, match="depth is -2"):
        request.draft_tree(4, depth=-2)
    with pytest.raises(ValueError, match="min_probability is 1.5"):
        request.draft_tree(4, min_probability=1.5)
    with pytest.raises(ValueError, match="min_probability is NaN"):
        request.draft_chain(4, min_probability=float("nan"))
    with pytest.raises(ValueError, match="shape is 'tree'"):
        request.draft_tree(4, shape="tree")
    with pytest.raises(ValueError, match="source is 'answers'"):
        request.draft_tree(4, source="answers")
    with pytest.raises(ValueError, match=r"requests\[1\] is in the batch twice"):
        trie.draft_trees([request, request])
    with pytest.raises(ValueError, match="1 requests and 2 rows"):
        trie.append_all([request], [[1], [2]])
    with pytest.raises(ValueError, match=r"token_ids\[0\]\[1\] is -4"):
        trie.append_all([request], [[1, -4]])
    with pytest.raises(KeyError, match="there is no namespace 'other'"):
        trie.remove_corpus("name", namespace="other")


def test_no_argument_whatever_makes_it_panic():
    """Calls with arguments at random: each returns, or raises one of the exceptions that it is meant to. A panic would be a
    `PanicException`, which is no `Exception`."""
    chance = random.Random(11)
    trie = DraftTrie(2 * MIB)
    odd = [None, True, -1, 0, 1, 3, 40, 2**14 + 1, 2**31, 2**63, 2**70, -(2**63), 0.5, float("nan"), "", "text", b"x", [], [[]]]
    odd += [[1, 2, 3, 1, 2], [-1], [2**32], ["a"], (1, 2), {1: 2}, {3}, np.arange(5), np.zeros((2, 2)), np.array(1), object()]
    odd += [np.arange(6, dtype=np.uint16)[::2], np.array([], dtype=np.int64), "read", "off", "single", "output", range(9)]

    def any_of() -> object:
        return chance.choice(odd)

    request, outcomes = trie.start([1, 2, 3, 1, 2]), {"returned": 0, "raised": 0}
    table = np.arange(40, dtype=np.int32).reshape(4, 10)
    for _ in range(20_000):
        if chance.random() < 0.1 or request.is_finished:
            request = trie.start([1, 2, 3, 1, 2], namespace=chance.choice("abc"))
        calls = [
            lambda: trie.start(any_of(), namespace=any_of(), share=any_of(), references=any_of()),
            lambda: trie.start(any_of()),
            lambda: trie.warm_up(any_of(), namespace="a"),
            lambda: request.append(any_of()),
            lambda: request.draft_tree(any_of(), depth=any_of(), min_probability=any_of()),
            lambda: request.draft_tree(3, shape=any_of(), source=any_of()),
            lambda: request.draft_chain(any_of()).tolist(),
            lambda: trie.draft_trees(chance.choice([[request], [request, request], any_of()]), any_of()),
            lambda: trie.draft_trees([request], 4).padded(any_of(), any_of()),
            lambda: trie.draft_trees([request], 4)[any_of()],
            lambda: trie.append_all(chance.choice([[request], any_of()]), any_of()),
            lambda: DraftTrie(any_of(), any_of()),
            lambda: DraftTrie(vocabulary=any_of()),
            lambda: DraftRows(trie, namespace="a", share=any_of()),
            lambda: DraftRows(trie).step(chance.choice([table, any_of()]), any_of(), any_of(), any_of(), max_tokens=any_of()),
            lambda: vocabulary_fingerprint(any_of()),
            lambda: trie.stats(namespace=any_of()),
            lambda: trie.remove_corpus(any_of(), namespace=any_of()),
            lambda: request.finish() if chance.random() < 0.1 else request.bytes,
        ]
        try:
            chance.choice(calls)()
            outcomes["returned"] += 1
        except (TypeError, ValueError, OverflowError, DraftError, LookupError):
            outcomes["raised"] += 1
    assert min(outcomes.values()) > 2000


def test_a_finished_request_says_so():
    trie = DraftTrie()
    request = trie.start([1, 2, 3])
    request.finish()
    assert request.is_finished and request.bytes == 0
    for act in (request.finish, request.draft_tree, request.draft_chain, lambda: request.append([1])):
        with pytest.raises(DraftError, match="the request is finished"):
            act()
    with pytest.raises(DraftError, match="the request is finished"):
        trie.draft_trees([trie.start([1]), request])
    request.cancel()


def test_answers_are_shared_in_their_namespace_and_prompts_are_not():
    trie = DraftTrie()
    with trie.start([1, 2, 3, 4], namespace="a") as request:
        request.append([10, 11, 12, 13])
    with pytest.raises(RuntimeError), trie.start([1], namespace="a") as request:
        request.append([20, 21, 22, 23])
        raise RuntimeError
    trie.start([1], namespace="a", share="read").append([30, 31, 32])

    def follows(ids: list[int], **where: str) -> list[int]:
        return trie.start(ids, **where).draft_tree(4, min_probability=0.0).tokens[1:].tolist()

    assert follows([10, 11], namespace="a") == [12, 13]
    assert follows([10, 11], namespace="a", share="off") == []
    assert follows([10, 11], namespace="b") == []
    for hidden in ([2, 3], [20, 21], [30, 31]):
        assert follows(hidden, namespace="a") == []
    assert trie.namespaces() == ["a", "b"]
    assert trie.stats(namespace="a")["tokens_learned"] == 4
    assert trie.remove_namespace("a") and not trie.remove_namespace("a")
    assert follows([10, 11], namespace="a") == []


def test_a_batch_is_the_drafts_of_its_requests_in_order():
    trie, chance = DraftTrie(), Chance(5)
    trie.warm_up(chance.text(2000))
    requests = [trie.start(chance.text(50)) for _ in range(150)]  # enough for several threads
    batch = trie.draft_trees(requests, 12)
    assert len(batch) == 150 and batch.offsets[-1] == len(batch.tokens)
    tokens, masks = batch.padded(16)
    assert tokens.shape == (150, 16) and masks.shape == (150, 16, 16) and masks.dtype == bool
    for index, request in enumerate(requests):
        tree = request.draft_tree(12)
        start, end = batch.offsets[index : index + 2]
        assert batch.tokens[start:end].tolist() == tree.tokens.tolist() == batch[index].tokens.tolist()
        assert batch.parents[start:end].tolist() == tree.parents.tolist()
        size = len(tree)
        assert tokens[index, :size].tolist() == tree.tokens.tolist()
        assert (tokens[index, size:] == tree.tokens[0]).all()
        assert (masks[index, :size, :size] == tree.mask).all()
        for filler in range(size, 16):
            assert masks[index, filler].nonzero()[0].tolist() == [0, filler]
    smaller, _ = batch.padded(3)
    assert (smaller == tokens[:, :3]).all()
    with pytest.raises(IndexError, match="draft 150 of a batch of 150"):
        batch[150]
    trie.append_all(requests, [[1]] * 150)
    assert all(request.draft_tree(0).tokens.tolist() == [1] for request in requests)


def test_a_namespace_in_a_file_is_there_after_a_restart(tmp_path):
    path, fingerprint = tmp_path / "drafts.trie", vocabulary_fingerprint(["a", "b"])
    trie = DraftTrie(fingerprint=fingerprint)
    assert trie.open(path)
    with trie.start([1]) as request:
        request.append([10, 11, 12, 13])
    # Not saved: the journal has it.
    again = DraftTrie(fingerprint=fingerprint)
    assert not again.open(path), "the first one writes"
    assert again.start([10, 11]).draft_chain(2, min_probability=0.0).tolist() == [12, 13]
    trie.save()
    assert inspect_corpus(path)["fingerprint"] == fingerprint
    del request, trie
    gc.collect()
    assert DraftTrie(fingerprint=fingerprint).open(path)
    with pytest.raises(DraftError, match="made with another tokenizer"):
        DraftTrie(fingerprint=1).open(path)


def test_what_follows_a_word_is_drafted_behind_its_other_spelling():
    prompt = [0, 1, 3, 4, 5, 0, 4, 2]
    for space in ("Ġ", "▁"):
        trie = DraftTrie(vocabulary=["_", f"{space}word", "word", "x", "y", "z"])
        assert trie.start(prompt).draft_chain(3, min_probability=0.0).tolist() == [3, 4, 5]
    assert 3 not in DraftTrie().start(prompt).draft_chain(1, min_probability=0.0).tolist()
    with pytest.raises(TypeError, match="vocabulary hold a int"):
        DraftTrie(vocabulary=[1])


def test_corpora_are_built_added_replaced_merged_and_removed(tmp_path):
    first, second, merged = (str(tmp_path / name) for name in ("first", "second", "merged"))
    assert build_corpus(first, [[10, 11, 12], [13, 14]], fingerprint=7) >= 5
    build_corpus(second, [np.array([20, 21, 22])], fingerprint=7)
    assert merge_corpora(merged, [first, second]) >= 8
    contents = inspect_corpus(merged)
    assert (contents["texts"], contents["fingerprint"], contents["journaled"]) == (3, 7, 0)

    trie = DraftTrie(fingerprint=7)
    trie.add_corpus("manual", first)
    request = trie.start([20, 21])
    assert request.draft_chain(1, min_probability=0.0).tolist() == []
    build_corpus(first, [[20, 21, 29]], fingerprint=7)
    trie.add_corpus("manual", first)  # a running request drafts from what took its place
    assert request.draft_chain(1, min_probability=0.0).tolist() == [29]
    assert list(trie.corpora()) == ["manual"]
    assert trie.remove_corpus("manual") and not trie.remove_corpus("manual")
    assert trie.corpora() == {}

    with pytest.raises(DraftError, match="made with another tokenizer"):
        DraftTrie().add_corpus("manual", first)
    with pytest.raises(FileNotFoundError, match="nothing-here"):
        trie.add_corpus("manual", tmp_path / "nothing-here")
    with pytest.raises(ValueError, match="no files of drafts to merge"):
        merge_corpora(merged, [])
    (tmp_path / "text").write_text("no drafts at all, but long enough for a header of a file, or two of them" * 9)
    for act in (inspect_corpus, lambda path: merge_corpora(merged, [path])):
        with pytest.raises(DraftError, match="not a file of drafts"):
            act(tmp_path / "text")
    whole = Path(merged).read_bytes()
    Path(merged).write_bytes(whole[:-5])
    with pytest.raises(DraftError, match="truncated"):
        inspect_corpus(merged)
    if os.geteuid() != 0:
        with pytest.raises(OSError, match="denied"):
            build_corpus("/lookahead-drafts-test", [[1]])


def test_many_threads_start_append_draft_and_finish():
    trie, failures = DraftTrie(2 * MIB), []

    def work(seed: int) -> None:
        try:
            chance = Chance(seed)
            for _ in range(30):
                with trie.start(chance.text(40), namespace=f"space {seed % 3}") as request:
                    for _ in range(10):
                        request.append(chance.text(4))
                        request.draft_tree(8)
                        trie.draft_trees([shared, request], 8)
        except Exception as error:  # shown by the test, not by the thread
            failures.append(error)

    shared = trie.start([1, 2, 3, 1, 2])
    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert sum(trie.stats(namespace=f"space {number}")["tokens_learned"] for number in range(3)) == 8 * 30 * 40


def test_the_fingerprint_is_the_one_that_the_program_shows():
    # FNV-1a over each text's length, 8 bytes, and its bytes.
    hash_ = 0xCBF29CE484222325
    for text in ("a", "ü"):
        raw = text.encode()
        for byte in len(raw).to_bytes(8, "little") + raw:
            hash_ = (hash_ ^ byte) * 0x100000001B3 % 2**64
    assert vocabulary_fingerprint(["a", "ü"]) == hash_
    assert vocabulary_fingerprint(["a", "b"]) != vocabulary_fingerprint(["b", "a"])
    with pytest.raises(TypeError, match="their texts are needed"):
        vocabulary_fingerprint([1])
