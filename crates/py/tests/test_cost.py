"""What passes cost, and how much is drafted by that, against a definition in NumPy."""

import random

import numpy as np
import pytest

from lookahead_drafts._native import CostCurve, LinearCost


def cost_of(sizes, costs, context, tokens, length):
    """A pass over so many tokens behind so many tokens of context, in passes over one."""
    if tokens > sizes[-1] and len(sizes) > 1:
        slope = (costs[-1] - costs[-2]) / (sizes[-1] - sizes[-2])
        cost = costs[-1] + slope * (tokens - sizes[-1])
    else:
        cost = float(np.interp(tokens, sizes, costs))
    return (cost + context[tokens > 1] * length) / (1.0 + context[0] * length)


def any_curve(draw):
    sizes = [1, *sorted(draw.sample(range(2, 40), draw.randint(0, 5)))]
    costs = [1.0]
    for _ in sizes[1:]:
        costs.append(costs[-1] + draw.choice([0.0, 0.1, draw.random()]))
    alone = draw.choice([0.0, 0.0005, 0.01])
    return sizes, costs, (alone, alone + draw.choice([0.0, 0.002]))


def test_costs_are_straight_lines_between_the_sizes_measured_behind_any_context():
    draw = random.Random(5)
    for _ in range(300):
        sizes, costs, context = any_curve(draw)
        curve = CostCurve(sizes, costs, context)
        assert curve.sizes == sizes and curve.costs == pytest.approx(costs) and curve.context == context
        for tokens in (1, 2, 3, 7, 39, 40, 41, 200):
            for length in (0, 1, 100, 5000):
                expected = cost_of(sizes, costs, context, tokens, length)
                assert curve(tokens, length) == pytest.approx(expected), (curve, tokens, length)


def test_no_other_number_of_nodes_makes_more_tokens_for_the_time():
    draw = random.Random(6)
    for _ in range(300):
        sizes, costs, context = any_curve(draw)
        rows = draw.randint(1, 4)
        drafts = [
            np.sort(np.random.default_rng(draw.randrange(99)).random(draw.randint(0, 12), np.float32))[::-1]
            for _ in range(rows)
        ]
        drafts = [np.concatenate([np.ones(1, np.float32), draft]) for draft in drafts]
        length = draw.choice([0, 50, 3000])
        chosen = CostCurve(sizes, costs, context).best_size(drafts, length)
        rates = []
        for size in range(1, max(map(len, drafts)) + 1):
            tokens = sum(float(draft[:size].astype(np.float64).sum()) for draft in drafts)
            rates.append(tokens / cost_of(sizes, costs, context, rows * size, length))
        assert 1 <= chosen <= len(rates) and rates[chosen - 1] == pytest.approx(max(rates))


def test_what_is_no_cost_is_refused_by_name():
    for arguments, message in [
        (([], []), "at least one number"),
        (([1, 2], [1.0]), "2 sizes and 1 costs"),
        (([2, 1], [1.0, 2.0]), "1 does not"),
        (([1], [0.0]), "cannot take 0 ms"),
        (([1], [1.0], (-0.1, 0.0)), "context is"),
    ]:
        with pytest.raises(ValueError, match=message):
            CostCurve(*arguments)
    with pytest.raises(ValueError, match="token_cost is -1"):
        LinearCost(0.0, -1.0)


def test_a_step_costs_a_fixed_part_and_one_for_each_drafted_token():
    cost = LinearCost(0.2, 0.05)
    assert [cost(drafted) for drafted in (0, 1, 4)] == pytest.approx([1.0, 1.25, 1.4])
    assert [list(LinearCost.terms(drafted)) for drafted in (0, 1, 4)] == [[0, 0], [1, 1], [1, 4]]
