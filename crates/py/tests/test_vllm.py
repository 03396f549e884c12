"""The proposer as vLLM makes and calls it, on a host without a model."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from importlib.metadata import entry_points
from types import SimpleNamespace

import pytest

from host import Host, HostRequest
from lookahead_drafts.step_cost import PRIOR_FIXED, PRIOR_TOKEN, StepCost
from lookahead_drafts.vllm import LookaheadProposer, register
from test_rows import requests


def config(world_size: int = 1, longest: int = 512, tokens: int = 8) -> SimpleNamespace:
    """The part of vLLM's configuration that the proposer reads."""
    return SimpleNamespace(
        speculative_config=SimpleNamespace(num_speculative_tokens=tokens),
        model_config=SimpleNamespace(max_model_len=longest, skip_tokenizer_init=False, tokenizer="nowhere"),
        parallel_config=SimpleNamespace(world_size=world_size),
    )


def propose(proposer: LookaheadProposer):
    return lambda sampled, lengths, table: proposer.propose(sampled, lengths, table, slot_mappings=None)


@pytest.fixture(autouse=True)
def no_settings(monkeypatch):
    for name in ("CONFIG", "LEARNING", "SHARING", "SNAPSHOT", "FIXED_COST", "TOKEN_COST"):
        monkeypatch.delenv(f"LOOKAHEAD_{name}", raising=False)


def test_what_is_accepted_is_counted_and_answers_are_learned():
    proposer = LookaheadProposer(config(world_size=2))
    proposer.load_model("a", target=None)
    host = Host(propose(proposer), rows=8, longest=512)
    host.run(requests(200, seed=1), churn=0.1)
    stats = proposer.stats()
    assert stats["drafted"] >= stats["accepted"] > 1000
    assert host.tokens / host.passes > 1.5


def test_every_rank_proposes_the_same():
    ranks = [LookaheadProposer(config(world_size=2)) for _ in range(2)]

    def both(sampled, lengths, table):
        first, second = (rank.propose(sampled, lengths, table) for rank in ranks)
        assert first == second
        return first

    host = Host(both, rows=8)
    host.run(requests(150, seed=3), churn=0.2)
    assert host.drafted > 1000


def test_a_snapshot_makes_the_first_request_after_a_restart_warm(tmp_path, monkeypatch):
    monkeypatch.setenv("LOOKAHEAD_SNAPSHOT", str(tmp_path / "drafts.trie"))
    monkeypatch.setenv("LOOKAHEAD_FINGERPRINT", "5")
    answer = list(range(100, 160))
    passes = []
    for _ in range(2):
        proposer = LookaheadProposer(config(world_size=2))
        host = Host(propose(proposer), rows=2)
        host.run([HostRequest([1, 2, 3], answer), HostRequest([4, 5, 6], [7, 8])])
        host.propose([], host.lengths, host.table)  # a step without requests: all have ended
        passes.append(host.passes)
        del proposer, host
    assert passes[0] > 60 and passes[1] < 20


def test_without_sharing_nothing_is_drafted_from_others(monkeypatch):
    monkeypatch.setenv("LOOKAHEAD_SHARING", "off")
    host = Host(propose(LookaheadProposer(config(world_size=2))), rows=2)
    answer = list(range(100, 160))
    host.run([HostRequest([1, 2, 3], answer)])
    host.run([HostRequest([4, 5, 6], answer)])
    assert host.passes == 120


def test_drafts_that_cost_too_much_are_not_made(monkeypatch):
    monkeypatch.setenv("LOOKAHEAD_TOKEN_COST", "5")
    host = Host(propose(LookaheadProposer(config())), rows=2)
    host.run([HostRequest([1, 2, 3], list(range(100, 160)) * 3)])
    assert host.drafted == 0 and host.passes == 180


def test_costs_are_fitted_to_steps():
    fit = StepCost()
    assert (fit.fixed, fit.token) == (PRIOR_FIXED, PRIOR_TOKEN)
    for step in range(400):
        drafted = step % 9
        disturbed = 50.0 if step % 40 == 7 else 0.0
        fit.add(0.010 * (1 + 0.2 * (drafted > 0) + 0.05 * drafted) + disturbed, drafted)
    assert fit.fixed == pytest.approx(0.2, abs=0.08) and fit.token == pytest.approx(0.05, abs=0.015)
    # A host that has become faster at them is believed after a while.
    for step in range(2000):
        fit.add(0.010 * (1 + 0.01 * (step % 9)), step % 9)
    assert fit.fixed == pytest.approx(0.0, abs=0.02) and fit.token == pytest.approx(0.01, abs=0.005)


def test_the_proposer_has_a_short_name_where_plug_ins_are_loaded():
    assert any(point.value == "lookahead_drafts.vllm:register" for point in entry_points(group="vllm.general_plugins"))
    register()
    register()
    assert importlib.import_module("lookahead").Proposer is LookaheadProposer
    assert sys.modules["lookahead"].__name__ == "lookahead"


@pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed")
@pytest.mark.parametrize("name", ["lookahead_drafts.vllm.LookaheadProposer", "lookahead.Proposer"])
def test_vllm_makes_the_proposer_by_its_name(name):
    from vllm.plugins import load_general_plugins
    from vllm.v1.spec_decode.custom_class_proposer import create_custom_proposer

    load_general_plugins()
    given = config()
    given.speculative_config.model = name
    assert isinstance(create_custom_proposer(given), LookaheadProposer)
