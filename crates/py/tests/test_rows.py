"""Requests recognised by their tokens: nothing is mixed up, nothing of a prompt is ever seen by another."""

from __future__ import annotations

import random

import numpy as np
import pytest

from host import Host, HostRequest
from lookahead_drafts import DraftRequest, DraftRows, DraftTrie

MIB = 1 << 20


def proposer(rows: DraftRows, budget: int = 8):
    def propose(sampled, lengths, table):
        return rows.step(table, lengths[: len(sampled)], sampled, budget, max_tokens=table.shape[1])

    return propose


def requests(count: int, seed: int, prompts: int = 40) -> list[HostRequest]:
    """Prompts that share their beginnings and differ in the end, answers that repeat pieces of the prompt and of each other."""
    chance = random.Random(seed)
    phrases = [[chance.randrange(100, 400) for _ in range(12)] for _ in range(30)]
    heads = [[chance.randrange(100) for _ in range(chance.randrange(5, prompts))] for _ in range(6)]
    made = []
    for name in range(count):
        prompt = list(chance.choice(heads)) + [1000 + name]
        answer: list[int] = []
        while len(answer) < chance.randrange(4, 120):
            answer += chance.choice(phrases)
        made.append(HostRequest(prompt, answer))
    return made


def test_a_request_drafts_as_it_would_alone_however_its_row_moves():
    """Over 10,000 steps with requests that end, are preempted, aborted and moved, every draft is that of a request which the
    host names. One taken for another, or lost and begun anew, would draft something else: it would have another prompt, or
    would have learned something else of how far to trust what."""
    trie = DraftTrie(64 * MIB)
    rows = DraftRows(trie, share="off")  # so that a draft is a function of its request alone
    host = Host(proposer(rows), rows=8, seed=1)
    named = DraftTrie(64 * MIB)
    requests_by_name: dict[int, DraftRequest] = {}
    begun = drafts = 0

    def check(request: HostRequest, draft: list[int]) -> None:
        nonlocal begun, drafts
        if request.is_new:
            begun += 1
            context = request.prompt + request.answer[: request.before]
            requests_by_name[id(request)] = named.start(context, share="off")
        if request.said == request.before:
            assert draft == []
            return
        alone = requests_by_name[id(request)]
        alone.append(request.answer[request.before : request.said])
        assert draft == alone.draft_chain(8).tolist()
        drafts += len(draft) > 0

    host.check = check
    made = requests(6000, seed=2)  # kept, so that no two have the same id
    host.run(made, steps=10_000, churn=0.2)
    assert host.steps == 10_000
    assert drafts > 5_000
    assert rows.stats()["requests"] == begun
    assert begun > 2_000


def test_a_secret_of_one_prompt_is_never_drafted_for_another():
    """Each prompt holds a secret behind words that all share; answers end in those words, where a leak would show."""
    chance = random.Random(3)
    common = [11, 12, 13, 14]
    made: list[HostRequest] = []
    secrets: dict[int, list[int]] = {}
    for index in range(400):
        secret = [10_000 + index * 8 + number for number in range(8)]
        filler = [chance.randrange(100) for _ in range(chance.randrange(2, 30))]
        answer = [chance.randrange(100) for _ in range(chance.randrange(1, 20))] + common
        answer += [chance.randrange(100) for _ in range(chance.randrange(1, 20))]
        request = HostRequest(filler + common + secret, answer)
        secrets[id(request)] = secret
        made.append(request)

    rows = DraftRows(DraftTrie(64 * MIB))
    host = Host(proposer(rows), rows=8, seed=4)
    own = 0

    def check(request: HostRequest, draft: list[int]) -> None:
        nonlocal own
        foreign = [token for token in draft if token >= 10_000 and token not in secrets[id(request)]]
        assert not foreign, f"drafted from another's prompt: {foreign}"
        own += any(token >= 10_000 for token in draft)

    host.check = check
    host.run(made, churn=0.2)
    assert own > 50, "a request does draft from its own prompt, or this test shows nothing"
    assert rows.stats()["requests"] >= 400


def test_answers_are_learned_when_their_request_leaves_the_batch():
    rows = DraftRows(DraftTrie(MIB))
    host = Host(proposer(rows), rows=2)
    answer = list(range(100, 160))
    host.run([HostRequest([1, 2, 3], answer)])
    cold = host.passes
    host.run([HostRequest([4, 5], answer)])
    assert cold == 60
    assert host.passes - cold < 15


def test_with_read_nothing_is_learned_and_with_off_nothing_is_drafted_from_others():
    for share in ("read", "off"):
        trie = DraftTrie(MIB)
        trie.warm_up(list(range(100, 160)))
        rows = DraftRows(trie, share=share)
        host = Host(proposer(rows), rows=2)
        host.run([HostRequest([4, 5], list(range(100, 160)))])
        assert (host.passes < 15) == (share == "read")
        host.run([HostRequest([1, 2, 3], list(range(200, 260)))])
        passes = host.passes
        host.run([HostRequest([1, 2, 3], list(range(200, 260)))])
        assert host.passes - passes == 60


def test_drafts_get_shorter_as_they_cost_more_and_end_before_the_longest_text():
    def drafted(**costs: float) -> list[list[int]]:
        trie = DraftTrie(MIB)
        for _ in range(3):
            trie.warm_up(list(range(100, 160)))
        table = np.array([[1, 2, 100, 101], [5, 6, 120, 121]], dtype=np.int32)
        rows = DraftRows(trie)
        rows.step(table, [3, 3], [[100], [120]], 8, **costs)
        return rows.step(table, [4, 4], [[101], [121]], 8, min_probability=0.0, **costs)

    free = drafted()
    assert free == [list(range(102, 110)), list(range(122, 130))]
    lengths = [sum(map(len, drafted(token_cost=cost))) for cost in (0.0, 0.05, 0.2, 10.0)]
    assert lengths == sorted(lengths, reverse=True) and lengths[0] == 16 and lengths[-1] == 0
    assert sum(map(len, drafted(fixed_cost=100.0))) == 0
    # A text of at most 6 tokens has room for one drafted token and one of the model's own.
    assert drafted(max_tokens=6) == [[102], [122]]


def test_wrong_tables_are_refused_by_name():
    rows = DraftRows(DraftTrie(MIB))
    table = np.array([[1, 2, 3]], dtype=np.int32)
    with pytest.raises(TypeError, match="token_ids is no array of int32"):
        rows.step(table.astype(np.int64), [3], [[3]], 8)
    with pytest.raises(TypeError, match="token_ids is no array of int32"):
        rows.step([[1, 2, 3]], [3], [[3]], 8)
    with pytest.raises(ValueError, match="not contiguous"):
        rows.step(np.asfortranarray(np.ones((4, 3), dtype=np.int32)), [3], [[1]], 8)
    with pytest.raises(ValueError, match="row 0 has no place"):
        rows.step(table, [4], [[3]], 8)
    with pytest.raises(ValueError, match="row 1 has no place"):
        rows.step(table, [3, 3], [[3], [3]], 8)
    with pytest.raises(ValueError, match=r"row 0 does not end in the tokens of sampled\[0\]"):
        rows.step(table, [3], [[2]], 8)
    with pytest.raises(ValueError, match="fixed_cost is -1"):
        rows.step(table, [3], [[3]], 8, fixed_cost=-1.0)
    with pytest.raises(ValueError, match="token_cost is NaN"):
        rows.step(table, [3], [[3]], 8, token_cost=float("nan"))
    assert rows.step(table, [3], [[3]], 8) == [[]]
