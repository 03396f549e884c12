"""Generation in Transformers with drafts: the ids of plain `generate`, for every family, greedy and sampled.

The models are tiny and random; what they say repeats itself, so drafts are accepted. Each run is drafted from answers that the model
gave before, with some of their tokens changed, so that drafts are right, nearly right and wrong.
"""

from __future__ import annotations

import random

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from transformers import AutoConfig, AutoModelForCausalLM, DynamicCache  # noqa: E402

from lookahead_drafts import DraftTrie  # noqa: E402
from lookahead_drafts.transformers import (  # noqa: E402
    CostCurve,
    UnsupportedError,
    lookahead,
    measure_cost,
)
from lookahead_drafts.transformers.proof import takes_trees  # noqa: E402

VOCABULARY = 96
SMALL = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 256,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
GROUPED = {**SMALL, "num_key_value_heads": 2}
WINDOWED = {"sliding_window": 8, "use_sliding_window": True}
FAMILIES = {
    "llama": GROUPED,
    "qwen2": GROUPED,
    "qwen3": {**GROUPED, "head_dim": 8},
    "mistral": {**GROUPED, "sliding_window": 8, "head_dim": 8},
    "mixtral": {**GROUPED, "num_local_experts": 4, "sliding_window": None},
    "gemma": {**GROUPED, "head_dim": 8},
    "gemma2": {**GROUPED, "head_dim": 8, "sliding_window": 8, "query_pre_attn_scalar": 8},
    "gemma3_text": {**GROUPED, "head_dim": 8, "sliding_window": 8, "query_pre_attn_scalar": 8, "num_hidden_layers": 6},
    "phi": SMALL,
    "phi3": {**GROUPED, "pad_token_id": 0},
    "stablelm": GROUPED,
    "starcoder2": {**GROUPED, "sliding_window": 8},
    "olmo2": GROUPED,
    "gpt_neox": SMALL,
    "gptj": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256, "rotary_dim": 4, "vocab_size": VOCABULARY},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256, "vocab_size": VOCABULARY},
    "opt": {**SMALL, "ffn_dim": 64, "word_embed_proj_dim": 32},
    "falcon": {**SMALL, "alibi": False, "new_decoder_architecture": False},
    "bloom": {"hidden_size": 32, "n_layer": 2, "n_head": 4, "vocab_size": VOCABULARY},
}
CHAINS = {"bloom"}  # positions out of a 2D mask: no trees


def make(family: str, dtype=torch.float32):
    torch.manual_seed(len(family))
    config = AutoConfig.for_model(family, **FAMILIES[family])
    model = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(4)  # logits that differ
    model.generation_config.pad_token_id = 0
    model.generation_config.eos_token_id = 2
    return model.to(dtype)


@pytest.fixture(scope="module")
def llama():
    return make("llama")


def prompts(rows: int, longest: int = 24):
    """Random prompts of several lengths, padded on the left."""
    torch.manual_seed(7)
    ids = torch.randint(3, VOCABULARY, (rows, longest))
    mask = torch.ones_like(ids)
    for row in range(1, rows):
        pad = 5 * row
        ids[row, :pad] = 0
        mask[row, :pad] = 0
    return ids, mask


def nearly(answers, trie: DraftTrie) -> None:
    """Teaches answers with a token in nine changed."""
    chance = random.Random(3)
    for answer in answers:
        for _ in range(2):
            trie.warm_up([chance.randrange(3, VOCABULARY) if chance.random() < 0.11 else int(token) for token in answer])


def same(model, ids, mask, expected, actual) -> None:
    """Equal ids; or, where sums in another order chose another token, two that were nearly as likely."""
    for row, (one, other) in enumerate(zip(expected, actual)):
        length = min(len(one), len(other))
        differ = (one[:length] != other[:length]).nonzero()
        if len(differ) == 0:
            assert len(one) == len(other) or len(expected) > 1
            continue
        first = int(differ[0])
        start = int(mask[row].argmax())
        with torch.no_grad():
            logits = model(input_ids=one[None, start:first]).logits[0, -1].float()
        top = logits.topk(2).values
        assert top[0] - top[1] < 1e-4, f"row {row} differs at {first}, where the logits are {float(top[0] - top[1])} apart"


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("rows", [1, 3])
def test_ids_are_those_of_plain_generate(family, rows):
    model = make(family)
    assert takes_trees(model) == (family not in CHAINS)
    ids, mask = prompts(rows)
    rejected = 0
    for options in ({"do_sample": False}, {"do_sample": True, "temperature": 0.7, "top_k": 20}):
        torch.manual_seed(5)
        given = {"input_ids": ids, "attention_mask": mask, "max_new_tokens": 60, "eos_token_id": None, **options}
        expected = model.generate(**given)
        trie = DraftTrie()
        nearly(expected, trie)
        for curve in (None, CostCurve((1, 16), (1.0, 4.0))):
            loop = lookahead(trie, draft_length=12, cost_curve=curve, share="read", min_probability=0.0)
            torch.manual_seed(5)
            actual = model.generate(**given, custom_generate=loop)
            same(model, ids, mask, expected, actual)
            in_step = rows > 1 and family in CHAINS  # all rows have to be right
            assert loop.stats.edl > 1.2 or in_step, "without accepted drafts this shows nothing"
            rejected += loop.stats.drafted - loop.stats.accepted
    assert rejected > 0 or family in CHAINS, "without rejected drafts this shows nothing"


def test_half_precision_differs_only_where_two_tokens_are_nearly_as_likely():
    model = make("llama", torch.bfloat16)
    ids, mask = prompts(1)
    expected = model.generate(ids, attention_mask=mask, max_new_tokens=60)
    trie = DraftTrie()
    nearly(expected, trie)
    loop = lookahead(trie, cost_curve=None, share="read")
    actual = model.generate(ids, attention_mask=mask, max_new_tokens=60, custom_generate=loop)
    length = min(expected.shape[1], actual.shape[1])
    differ = (expected[0, :length] != actual[0, :length]).nonzero()
    if len(differ):
        with torch.no_grad():
            top = model(input_ids=expected[:, : int(differ[0])]).logits[0, -1].float().topk(2).values
        assert top[0] - top[1] < 0.1
    assert loop.stats.edl > 1.2


def test_processors_and_criteria_see_the_text_of_their_node(llama):
    ids, mask = prompts(2)
    options = [
        {"repetition_penalty": 1.3},
        {"no_repeat_ngram_size": 3},
        {"min_new_tokens": 20, "eos_token_id": list(range(2, 40))},
        {"eos_token_id": list(range(2, 30))},
        {"bad_words_ids": [[5], [9, 11]]},
        {"max_length": 30},
        {"do_sample": True, "top_p": 0.9, "repetition_penalty": 1.1, "eos_token_id": list(range(2, 20))},
    ]
    for option in options:
        given = {"input_ids": ids, "attention_mask": mask, **({"max_new_tokens": 40} | option)}
        given.pop("max_new_tokens") if "max_length" in option else None
        torch.manual_seed(1)
        expected = llama.generate(**given)
        trie = DraftTrie()
        nearly(expected, trie)
        torch.manual_seed(1)
        actual = llama.generate(**given, custom_generate=lookahead(trie, cost_curve=None, min_probability=0.0))
        assert actual.tolist() == expected.tolist(), option


def test_random_numbers_go_on_where_plain_generate_would_leave_them(llama):
    ids, mask = prompts(3)
    after = []
    for loop in (None, lookahead(DraftTrie(), cost_curve=None)):
        torch.manual_seed(9)
        llama.generate(ids, attention_mask=mask, do_sample=True, max_new_tokens=20, min_new_tokens=20, custom_generate=loop)
        after.append(torch.rand(1).item())
    assert after[0] == after[1]


def test_scores_and_the_cache_are_returned_as_by_plain_generate(llama):
    ids, mask = prompts(1)
    given = {"attention_mask": mask, "max_new_tokens": 30, "return_dict_in_generate": True}
    given |= {"output_scores": True, "output_logits": True}
    plain = llama.generate(ids, **given)
    trie = DraftTrie()
    nearly(plain.sequences, trie)
    ours = llama.generate(ids, **given, custom_generate=lookahead(trie, cost_curve=None))
    assert ours.sequences.tolist() == plain.sequences.tolist()
    for name in ("scores", "logits"):
        assert len(getattr(ours, name)) == len(getattr(plain, name))
        for one, other in zip(getattr(ours, name), getattr(plain, name)):
            torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)
    assert ours.cache.get_seq_length() == plain.cache.get_seq_length()
    for one, other in zip(ours.cache.layers, plain.cache.layers):
        torch.testing.assert_close(one.keys, other.keys, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(one.values, other.values, atol=1e-4, rtol=1e-4)

    # A chat that goes on with the cache of its last answer.
    more = torch.cat([ours.sequences, ids[:, :9]], dim=-1)
    expected = llama.generate(more, attention_mask=torch.ones_like(more), max_new_tokens=20)
    actual = llama.generate(
        more,
        attention_mask=torch.ones_like(more),
        max_new_tokens=20,
        cache=ours.cache,
        custom_generate=lookahead(trie, cost_curve=None),
    )
    assert actual.tolist() == expected.tolist()


class Stream:
    """A streamer that keeps what it is given."""

    def __init__(self) -> None:
        self.values: list[int] = []
        self.ended = 0

    def put(self, value) -> None:
        self.values += value.flatten().tolist()

    def end(self) -> None:
        self.ended += 1


def test_a_streamer_gets_every_token_once_wherever_it_is_given(llama):
    ids, mask = prompts(1)
    trie = DraftTrie()
    expected = llama.generate(ids, attention_mask=mask, max_new_tokens=30)
    nearly(expected, trie)
    for here in (True, False):
        stream = Stream()
        loop = lookahead(trie, cost_curve=None, streamer=None if here else stream)
        more = {"streamer": stream} if here else {}
        llama.generate(ids, attention_mask=mask, max_new_tokens=30, custom_generate=loop, **more)
        assert stream.values == expected[0].tolist() and stream.ended == 1
    with pytest.raises(UnsupportedError, match="one text at a time"):
        both = prompts(2)[0]
        llama.generate(both, max_new_tokens=3, custom_generate=lookahead(trie, cost_curve=None, streamer=Stream()))


def test_answers_are_learned_and_prompts_are_not(llama):
    ids, mask = prompts(1)
    trie = DraftTrie()
    loop = lookahead(trie, cost_curve=None)
    answer = llama.generate(ids, attention_mask=mask, max_new_tokens=30, custom_generate=loop)[0, ids.shape[1] :].tolist()
    assert trie.stats()["tokens_learned"] == len(answer)
    assert trie.start(answer[:4], share="read").draft_chain(1, min_probability=0.0).tolist() != []
    prompt = ids[0].tolist()
    unseen = [token for token in prompt if token not in answer]
    assert unseen and trie.start(unseen[:1], share="read").draft_tree(4, min_probability=0.0).tokens.tolist() == unseen[:1]
    first = loop.stats.passes
    llama.generate(ids, attention_mask=mask, max_new_tokens=30, custom_generate=loop)
    assert loop.stats.passes - first < first
    llama.generate(ids, attention_mask=mask, max_new_tokens=30, custom_generate=lookahead(trie, share="off", cost_curve=None))
    assert trie.stats()["tokens_learned"] == 2 * len(answer)


def test_who_watches_sees_each_step(llama):
    ids, mask = prompts(1)
    trie, steps = DraftTrie(), []
    expected = llama.generate(ids, attention_mask=mask, max_new_tokens=30)
    nearly(expected, trie)
    loop = lookahead(trie, cost_curve=None, observer=steps.append)
    llama.generate(ids, attention_mask=mask, max_new_tokens=30, custom_generate=loop)
    said = [token for step in steps for token in step.tokens]
    assert said == expected[0, ids.shape[1] + 1 :].tolist()  # the first comes with the prompt's own pass
    for step in steps:
        assert [step.tree.tokens[node] for node in step.accepted] == list(step.tokens[: len(step.accepted)])


def test_what_lookahead_cannot_do_is_refused_with_the_way_out(llama):
    ids, mask = prompts(1)
    loop = lookahead(DraftTrie(), cost_curve=None)

    def run(model=llama, **options):
        given = {"input_ids": ids, "attention_mask": mask, "max_new_tokens": 3, "custom_generate": loop}
        return model.generate(**(given | options))

    refused = [
        ({"num_beams": 2}, "num_beams is 2"),
        ({"use_cache": False}, "needs the cache"),
        ({"cache_implementation": "static"}, "needs a DynamicCache"),
        ({"return_dict_in_generate": True, "output_attentions": True}, "no attentions"),
    ]
    for options, message in refused:
        with pytest.raises(UnsupportedError, match=message):
            run(**options)
    with pytest.raises(UnsupportedError, match=r"input_ids is empty \(shape \(1, 0\)\)"):
        run(input_ids=ids[:, :0], attention_mask=mask[:, :0])
    with pytest.raises(ValueError, match="cost_curve is 'guess'"):
        lookahead(DraftTrie(), cost_curve="guess")
    with pytest.raises(ValueError, match="draft_length is -1"):
        lookahead(DraftTrie(), draft_length=-1)
    with pytest.raises(ValueError, match="share is 'all'"):
        run(custom_generate=lookahead(DraftTrie(), share="all", cost_curve=None))


def test_an_answer_that_fails_is_not_learned(llama):
    ids, mask = prompts(1)

    class Fails(transformers.LogitsProcessor):
        def __call__(self, input_ids, scores):
            if input_ids.shape[1] > 30:
                raise RuntimeError("the processor fails")
            return scores

    trie = DraftTrie()
    with pytest.raises(RuntimeError, match="the processor fails"):
        llama.generate(
            ids,
            attention_mask=mask,
            max_new_tokens=30,
            logits_processor=transformers.LogitsProcessorList([Fails()]),
            custom_generate=lookahead(trie, cost_curve=None),
        )
    assert trie.stats()["tokens_learned"] == 0


def test_a_cost_curve_decides_how_much_is_drafted(llama):
    import numpy as np

    curve = CostCurve((1, 4, 16), (1.0, 1.3, 2.5))
    assert curve(1) == 1.0 and curve(10) == pytest.approx(1.9) and curve(28) == pytest.approx(3.7)
    sure, unsure = np.ones(16, dtype=np.float32), np.array([1.0] + [0.05] * 15, dtype=np.float32)
    assert curve.best_size([sure]) == 16 and curve.best_size([unsure]) == 1
    assert CostCurve((1, 64), (1.0, 1.0)).best_size([unsure]) == 16
    # Behind a long context passes over several tokens cost more than a short one tells.
    long = CostCurve((1, 4), (1.0, 1.2), context=(0.001, 0.003))
    assert long(4) == 1.2 and long(4, context=1000) == pytest.approx(4.2 / 2.0)
    likely = np.array([1.0, 0.5, 0.5, 0.5], dtype=np.float32)
    assert long.best_size([likely]) == 4 and long.best_size([likely], context=10_000) == 1
    measured = measure_cost(llama, sizes=(1, 2, 8))
    assert measured.costs[0] == 1.0 and list(measured.costs) == sorted(measured.costs)
    loop = lookahead(DraftTrie())
    ids, mask = prompts(1)
    expected = llama.generate(ids, attention_mask=mask, max_new_tokens=20)
    assert llama.generate(ids, attention_mask=mask, max_new_tokens=20, custom_generate=loop).tolist() == expected.tolist()


def test_positions_end_where_the_model_ends():
    model = make("gpt2")
    ids, mask = prompts(1)
    options = {"attention_mask": mask, "max_length": 256, "eos_token_id": None}
    expected = model.generate(ids, **options)
    trie = DraftTrie()
    nearly(expected, trie)
    actual = model.generate(ids, **options, custom_generate=lookahead(trie, cost_curve=None))
    assert actual.shape[1] == 256 and actual.tolist() == expected.tolist()


def test_a_cache_of_ones_own_is_filled(llama):
    ids, mask = prompts(1)
    cache = DynamicCache()
    llama.generate(ids, attention_mask=mask, max_new_tokens=10, cache=cache, custom_generate=lookahead(DraftTrie()))
    assert cache.get_seq_length() == ids.shape[1] + 9
