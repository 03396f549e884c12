"""The draft source in SGLang's worker: its calls, its arrays, and SGLang's own code around it where that is installed."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import random
import sys
import types
from dataclasses import dataclass, field
from unittest.mock import MagicMock

import numpy as np
import pytest

from lookahead_drafts.settings import Settings
from lookahead_drafts.sglang import LookaheadCorpus, begin_requests

NODES = 12
HAS_SGLANG = importlib.util.find_spec("sglang") is not None and importlib.util.find_spec("torch") is not None
needs_sglang = pytest.mark.skipif(not HAS_SGLANG, reason="SGLang is not installed")


@dataclass
class Req:
    """What the worker reads of one of SGLang's requests."""

    rid: str
    origin_input_ids_unpadded: list[int]
    answer: list[int]
    output_ids: list[int] = field(default_factory=list)

    @property
    def is_done(self) -> bool:
        return len(self.output_ids) >= len(self.answer)


def corpus(**options) -> LookaheadCorpus:
    settings = Settings(min_probability=0.0, **options)
    return LookaheadCorpus(settings, None, NODES, max_trie_depth=18, capacity=1000, match_type="BFS")


def parents_of(mask: np.ndarray) -> list[int]:
    """Of each node, out of who sees whom: its nearest ancestor; -1 for the root."""
    return [max(np.flatnonzero(mask[node, :node]), default=-1) for node in range(len(mask))]


def check_tree(tokens: np.ndarray, mask: np.ndarray, last: int) -> None:
    """A tree as SGLang's kernels take it: the root first, parents before children, and a node sees what its parent sees."""
    assert tokens[0] == last
    parents = parents_of(mask)
    assert parents[0] == -1 and all(0 <= parent < node for node, parent in enumerate(parents) if node)
    for node in range(len(tokens)):
        expected = np.zeros(len(tokens), dtype=np.int64)
        at = node
        while at >= 0:
            expected[at] = 1
            at = parents[at]
        assert mask[node].tolist() == expected.tolist()


def accept(tokens: np.ndarray, mask: np.ndarray, rest: list[int]) -> list[int]:
    """The tokens that a model accepts which says `rest`, its own last one included; the first of equal siblings counts."""
    parents = parents_of(mask)
    node, said = 0, []
    while len(said) < len(rest):
        said.append(rest[len(said)])
        children = [child for child in range(node + 1, len(tokens)) if parents[child] == node]
        node = next((child for child in children if tokens[child] == said[-1]), -1)
        if node < 0:
            break
    return said


class Worker:
    """Drives a draft source as SGLang's worker does: the same calls in the same order with the same tails, in overlap mode, in
    which the last step's tokens are not in `output_ids` yet, or out of it."""

    def __init__(self, source: LookaheadCorpus, overlap: bool) -> None:
        self.source, self.overlap = source, overlap
        self.previous: dict[str, list[int]] = {}
        self.departed: set[str] = set()
        self.passes = self.tokens = 0

    def step(self, batch: list[Req]) -> None:
        begin_requests(self.source, batch)
        depth = self.source.tail
        self.source.synchronize()
        tails, totals = [], []
        for req in batch:
            spliced = self.previous.get(req.rid, []) if self.overlap else []
            whole = req.origin_input_ids_unpadded + req.output_ids + spliced
            tails.append(whole[-depth:])
            totals.append(len(whole))
        tokens, masks = self.source.batch_get([req.rid for req in batch], tails, totals)
        assert tokens.dtype == np.int64 and tokens.shape == (len(batch) * NODES,)
        assert masks.dtype == np.int64 and masks.shape == (len(batch) * NODES * NODES,)
        trees = zip(tokens.reshape(-1, NODES), masks.reshape(-1, NODES, NODES))
        for req, tail, (own, mask) in zip(batch, tails, trees):
            check_tree(own, mask, tail[-1])
            req.output_ids += self.previous.pop(req.rid, []) if self.overlap else []
            said = accept(own, mask, req.answer[len(req.output_ids) :])
            self.passes += 1
            self.tokens += len(said)
            if self.overlap:
                self.previous[req.rid] = said
            else:
                req.output_ids += said
        self.source.batch_put(tails)
        now = {req.rid for req in batch}
        left = self.departed - now
        if left:
            self.source.erase_match_state(list(left))
        self.departed = now

    def run(self, waiting: list[Req], rows: int = 4, retract: float = 0.0, seed: int = 0) -> None:
        chance, batch, retracted = random.Random(seed), [], []
        while waiting or batch or retracted:
            batch = [req for req in batch if len(req.output_ids + self.previous.get(req.rid, [])) < len(req.answer)]
            while len(batch) < rows and (retracted or waiting):
                req = (retracted or waiting).pop(0)
                if not req.output_ids:
                    req.output_ids = req.answer[:1]  # of the prompt's own pass
                if not req.is_done:
                    batch.append(req)
            if not batch:
                continue
            self.step(batch)
            if len(batch) > 1 and chance.random() < retract:
                req = batch.pop(chance.randrange(len(batch)))
                req.output_ids += self.previous.pop(req.rid, [])
                retracted.append(req)


def reqs(count: int, seed: int) -> list[Req]:
    chance = random.Random(seed)
    phrases = [[chance.randrange(100, 300) for _ in range(10)] for _ in range(20)]
    made = []
    for name in range(count):
        prompt = [chance.randrange(100) for _ in range(chance.randrange(5, 60))] + chance.choice(phrases)
        answer = [token for _ in range(chance.randrange(1, 9)) for token in chance.choice(phrases)]
        made.append(Req(f"request {name}", prompt, answer))
    return made


@pytest.mark.parametrize("overlap", [False, True])
def test_a_run_of_the_worker_gets_trees_and_ends_with_the_answers(overlap):
    worker = Worker(corpus(), overlap)
    made = reqs(60, seed=1)
    worker.run(list(made), retract=0.1)
    for req in made:
        said = req.output_ids + worker.previous.get(req.rid, [])
        assert said == req.answer
    assert worker.tokens / worker.passes > 2.0


def test_prompts_are_indexed_whole():
    source = corpus()
    prompt = [7, 8, 9, 10, 11, *range(1000, 1200)]  # what is drafted from stands 200 tokens before the end
    req = Req("long", prompt, [7, 8, 9, 10, 11])
    worker = Worker(source, overlap=False)
    worker.run([req])
    assert worker.passes == 1


def test_a_secret_of_one_prompt_is_never_drafted_for_another():
    chance, common = random.Random(2), [11, 12, 13, 14]
    made = []
    for index in range(120):
        secret = [10_000 + index * 8 + number for number in range(8)]
        answer = [chance.randrange(100) for _ in range(6)] + common + [chance.randrange(100) for _ in range(6)]
        made.append(Req(f"{index}", common + secret + [chance.randrange(100)], answer))
    source, own = corpus(), 0
    inner = source.batch_get

    def watched(req_ids, batch_tokens, total_lens):
        nonlocal own
        tokens, masks = inner(req_ids, batch_tokens, total_lens)
        for name, drafted in zip(req_ids, tokens.reshape(-1, NODES)):
            ours = range(10_000 + int(name) * 8, 10_008 + int(name) * 8)
            assert all(token < 10_000 or token in ours for token in drafted)
            own += any(token in ours for token in drafted)
        return tokens, masks

    source.batch_get = watched
    Worker(source, overlap=True).run(made, retract=0.2)
    assert own > 50


def test_answers_are_shared_when_their_request_leaves():
    source = corpus()
    answer = list(range(100, 140))
    for name, most in (("first", 40), ("second", 8)):
        worker = Worker(source, overlap=False)
        worker.run([Req(name, [1, 2, 3], answer)])
        assert worker.passes <= most
        source.erase_match_state([name])
    source.reset()
    worker = Worker(source, overlap=False)
    worker.run([Req("third", [1, 2, 3], answer)])
    assert worker.passes == 39


def test_a_small_draft_is_filled_up_as_sglang_fills_it_up():
    tokens, mask = corpus().batch_get(["new"], [[5, 6]], [2])
    assert tokens.tolist() == [6] + [0] * (NODES - 1)
    expected = np.eye(NODES, dtype=np.int64)
    expected[:, 0] = 1
    assert mask.reshape(NODES, NODES).tolist() == expected.tolist()


def test_a_request_that_goes_on_with_another_text_begins_anew(caplog):
    source = corpus()
    source.begin("one", [1, 2, 3, 4, 5])
    source.batch_get(["one"], [[9, 9, 9]], [6])
    assert "goes on with another text" in caplog.text
    tokens, _ = source.batch_get(["one"], [[9, 9, 9, 1]], [7])
    assert tokens[0] == 1 and 2 not in tokens


def test_external_corpora_are_loaded_committed_listed_and_removed():
    source = corpus()
    loaded = source.load_external_corpus_named("manual", [[50, 51, 52], [60, 61]])
    assert loaded == 5 and source.list_external_corpora() == {}

    def follows() -> bool:
        tokens, _ = source.batch_get(["asks"], [[50]], [1])
        source.erase_match_state(["asks"])
        return bool(tokens[1] == 51)

    assert not follows()
    source.commit_external_corpus_load("manual", loaded)
    assert follows() and source.list_external_corpora() == {"manual": 5}
    assert source.remaining_token_budget == 10_000_000 - 5
    with pytest.raises(ValueError, match="'manual' already exists"):
        source.load_external_corpus_named("manual", [[1]])
    source.external_corpus_max_tokens = 8
    with pytest.raises(ValueError, match="more than the 3 tokens"):
        source.load_external_corpus_named("large", [[1, 2], [3, 4]])
    source.reset()
    assert follows()
    source.remove_external_corpus("manual")
    assert not follows() and source.list_external_corpora() == {}


class Kernels(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Stands in for SGLang's compiled kernels, which need a GPU: nothing of them is called here."""

    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "sgl_kernel":
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec):
        module = types.ModuleType(spec.name)
        module.__getattr__ = lambda name: MagicMock()
        return module

    def exec_module(self, module) -> None:
        """There is nothing in it."""


@pytest.fixture
def sglang():
    if importlib.util.find_spec("sgl_kernel") is None:
        sys.meta_path.insert(0, Kernels())
    from lookahead_drafts import sglang as ours

    return ours


@needs_sglang
def test_the_algorithm_is_registered_by_its_name_and_taken_for_drafts_out_of_a_corpus(sglang):
    from importlib.metadata import entry_points

    from sglang.srt.speculative.spec_info import SpeculativeAlgorithm

    assert any(point.value == "lookahead_drafts.sglang:register" for point in entry_points(group="sglang.srt.plugins"))
    sglang.register()
    sglang.register()  # in every process, some of them twice
    algorithm = SpeculativeAlgorithm.from_string("lookahead")
    assert algorithm.is_ngram() and algorithm.supports_overlap and not algorithm.has_draft_kv()
    builtin = SpeculativeAlgorithm.NGRAM
    for name in (name for name in vars(SpeculativeAlgorithm) if name.startswith(("is_", "supports_"))):
        assert getattr(algorithm, name)() == getattr(builtin, name)(), name


@needs_sglang
@pytest.mark.parametrize("overlap", [False, True])
def test_sglangs_own_worker_prepares_its_batches_with_our_drafts(sglang, overlap):
    """The methods of SGLang's worker that call the draft source, on a worker without a model."""
    import torch
    from sglang.srt.speculative.ngram_worker import _derive_tree_links

    worker = object.__new__(sglang.worker_class())
    worker.ngram_corpus = corpus()
    worker.max_trie_depth = worker.ngram_corpus.tail
    worker.draft_token_num = NODES
    worker.enable_overlap = overlap
    made = reqs(30, seed=5)
    waiting, batch, previous, departed = list(made), [], {}, set()
    passes = tokens = 0
    while waiting or batch:
        batch = [req for req in batch if len(req.output_ids + previous.get(req.rid, [])) < len(req.answer)]
        while len(batch) < 4 and waiting:
            req = waiting.pop(0)
            req.output_ids = [] if overlap else req.answer[:1]
            previous[req.rid] = req.answer[:1] if overlap else []
            batch.append(req)
        if not batch:
            break
        spec_info = types.SimpleNamespace(
            accept_tokens=torch.tensor(
                [(previous.get(req.rid, []) + [0] * NODES)[:NODES] for req in batch], dtype=torch.int32
            ).flatten(),
            accept_lens=torch.tensor([len(previous.get(req.rid, [])) for req in batch], dtype=torch.int32),
        )
        schedule = types.SimpleNamespace(reqs=batch, spec_info=spec_info, grammar_needs_sync=lambda: False)
        drafts, mask = worker._prepare_draft_tokens(schedule)
        next_token, next_sibling = _derive_tree_links(mask, len(batch), NODES)
        trees = zip(drafts.reshape(-1, NODES), mask.reshape(-1, NODES, NODES))
        for row, (req, (own, sees)) in enumerate(zip(batch, trees)):
            whole = req.origin_input_ids_unpadded + req.output_ids + (previous[req.rid] if overlap else [])
            check_tree(own, sees, whole[-1])
            # The links reach every node from the root, children of a node in order: what verification walks along.
            parents, reached = parents_of(sees), []
            for node in range(NODES):
                child, children = int(next_token[row, node]), []
                while child >= 0:
                    children.append(child)
                    child = int(next_sibling[row, child])
                assert children == [child for child in range(NODES) if parents[child] == node]
                reached += children
            assert sorted(reached) == list(range(1, NODES))
            req.output_ids = req.output_ids + (previous[req.rid] if overlap else [])
            said = accept(own, sees, req.answer[len(req.output_ids) :])
            passes, tokens = passes + 1, tokens + len(said)
            if overlap:
                previous[req.rid] = said
            else:
                req.output_ids = req.output_ids + said
        worker._update_ngram_corpus(schedule)
        now = {req.rid for req in batch}  # as at the end of forward_batch_generation
        worker.ngram_corpus.erase_match_state(list(departed - now))
        departed = now
    assert all(req.output_ids + (previous[req.rid] if overlap else []) == req.answer for req in made)
    assert tokens / passes > 2.0
