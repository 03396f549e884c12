"""Generation in Transformers with drafts where plain `generate` is harder to follow: windows, chunks, positions that depend on the
length, recurrent states, and processors and criteria that look at the whole batch. The ids are plain `generate`'s, every one."""

from __future__ import annotations

import copy
import random
import warnings

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from transformers import (  # noqa: E402
    AutoConfig,
    AutoModelForCausalLM,
    DynamicCache,
    LogitsProcessor,
    LogitsProcessorList,
    RepetitionPenaltyLogitsProcessor,
    StoppingCriteria,
    StoppingCriteriaList,
    SynthIDTextWatermarkingConfig,
)

from lookahead_drafts import DraftTrie  # noqa: E402
from lookahead_drafts.transformers import lookahead  # noqa: E402

VOCABULARY = 96
LENGTH = 24
SMALL = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 256,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
EXPERTS = {"moe_intermediate_size": 32, "n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 1, "topk_group": 1}
LATENT = {"q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 8}
INDEXED = {"index_topk": 8, "index_n_heads": 2, "index_head_dim": 16, "num_key_value_heads": 4, "first_k_dense_replace": 1}
SHARED = {
    "num_hidden_layers": 4,
    "num_kv_shared_layers": 2,
    "layer_types": ["sliding_attention", "full_attention"] * 2,
    "sliding_window": 8,
    "vocab_size_per_layer_input": VOCABULARY,
}
MAMBA = {
    "mamba_n_heads": 4,
    "mamba_d_head": 16,
    "mamba_d_state": 8,
    "mamba_n_groups": 1,
    "mamba_chunk_size": 8,
    "mamba_d_conv": 4,
}
LINEAR = {"linear_key_head_dim": 8, "linear_value_head_dim": 8, "linear_num_key_heads": 2, "linear_num_value_heads": 4}
FAMILIES = {
    "llama": ("llama", SMALL),
    "mistral with a window": ("mistral", {**SMALL, "sliding_window": 8}),
    "llama 4 with chunks": (
        "llama4_text",
        {**SMALL, "num_hidden_layers": 4, "attention_chunk_size": 8, "intermediate_size_mlp": 64, "num_local_experts": 2}
        | {"no_rope_layer_interval": 4, "floor_scale": 16},
    ),
    "phi 3 with a switch of frequencies": (
        "phi3",
        {key: value for key, value in SMALL.items() if key != "head_dim"}
        | {"original_max_position_embeddings": 40, "rope_parameters": {"rope_type": "longrope", "rope_theta": 10000.0}}
        | {"rope_parameters": {"rope_type": "longrope", "rope_theta": 10000.0, "short_factor": [1.0] * 4}},
    ),
    "llama with frequencies that grow": (
        "llama",
        {**SMALL, "max_position_embeddings": 40}
        | {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0}},
    ),
    "gpt-neo with a window": (
        "gpt_neo",
        {
            "vocab_size": VOCABULARY,
            "hidden_size": 32,
            "num_layers": 2,
            "num_heads": 4,
            "intermediate_size": 64,
            "window_size": 8,
        }
        | {"attention_types": [[["global", "local"], 1]], "max_position_embeddings": 256},
    ),
    "gemma 3n with shared layers": (
        "gemma3n_text",
        {**SMALL, **SHARED, "intermediate_size": [64] * 4, "laurel_rank": 8, "hidden_size_per_layer_input": 8}
        | {"activation_sparsity_pattern": [0.0] * 4},
    ),
    "gemma 4 with shared layers": ("gemma4_text", {**SMALL, **SHARED, "hidden_size_per_layer_input": 8, "global_head_dim": 8}),
    "deepseek v3.2": ("deepseek_v32", {**SMALL, **EXPERTS, **LATENT, **INDEXED}),
    "deepseek v3.2 with a short text": ("deepseek_v32", {**SMALL, **EXPERTS, **LATENT, **INDEXED, "index_topk": 128}),
    "glm with sparse attention": ("glm_moe_dsa", {**SMALL, **EXPERTS, **LATENT, **INDEXED}),
    "mpt": ("mpt", {"d_model": 32, "n_heads": 4, "n_layers": 2, "vocab_size": VOCABULARY, "max_seq_len": 256}),
    "bloom": ("bloom", {"hidden_size": 32, "n_layer": 2, "n_head": 4, "vocab_size": VOCABULARY}),
    "mamba": ("mamba", {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 8}),
    "mamba 2": (
        "mamba2",
        {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 8, "num_heads": 8, "head_dim": 8}
        | {"n_groups": 1, "chunk_size": 8},
    ),
    "lfm 2": ("lfm2", {**SMALL, "layer_types": ["conv", "full_attention"], "block_auto_adjust_ff_dim": False}),
    "granite 4": (
        "granitemoehybrid",
        {**SMALL, **MAMBA, "layer_types": ["mamba", "attention"], "num_local_experts": 0, "shared_intermediate_size": 64},
    ),
    "falcon h1": ("falcon_h1", {**SMALL, **MAMBA, "mamba_d_ssm": 64}),
    "jamba": (
        "jamba",
        {**SMALL, "num_experts": 2, "attn_layer_period": 2, "attn_layer_offset": 1, "expert_layer_period": 2}
        | {"expert_layer_offset": 1, "use_mamba_kernels": False, "mamba_d_state": 8, "mamba_dt_rank": 4},
    ),
    "qwen 3 next": (
        "qwen3_next",
        {**SMALL, **LINEAR, "layer_types": ["linear_attention", "full_attention"], "num_experts": 4, "num_experts_per_tok": 2}
        | {"moe_intermediate_size": 32, "shared_expert_intermediate_size": 32},
    ),
}
# A recurrence that starts anew with each pass over several tokens; attention that chooses among equal scores.
PLAIN = {"mamba", "jamba", "deepseek v3.2", "glm with sparse attention"}
LONG = {"long_factor": [4.0] * 4, "attention_factor": 1.1, "original_max_position_embeddings": 40}
FAMILIES["phi 3 with a switch of frequencies"][1]["rope_parameters"].update(LONG)


def make(name: str):
    family, small = FAMILIES[name]
    torch.manual_seed(11)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **small)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(4)  # logits that differ
    model.generation_config.pad_token_id = 0
    model.generation_config.eos_token_id = 2
    return model


def prompts(rows: int, length: int = LENGTH):
    torch.manual_seed(7)
    ids = torch.randint(3, VOCABULARY, (rows, length))
    mask = torch.ones_like(ids)
    for row in range(1, rows):
        ids[row, : 4 * row] = 0
        mask[row, : 4 * row] = 0
    return ids, mask


def nearly(answers) -> DraftTrie:
    """A trie that knows the answers with a token in nine changed."""
    chance, trie = random.Random(3), DraftTrie()
    for answer in answers:
        for _ in range(2):
            trie.warm_up([chance.randrange(3, VOCABULARY) if chance.random() < 0.11 else int(token) for token in answer])
    return trie


def same_as_plain(model, ids, given, build=dict, cost_curve=None):
    """Generates plainly and with drafts; `build` makes what keeps a state, anew for each."""
    torch.manual_seed(5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = model.generate(ids, **given, **build())
        trie = nearly(expected)
        loop = lookahead(trie, draft_length=12, cost_curve=cost_curve, share="read", min_probability=0.0)
        torch.manual_seed(5)
        actual = model.generate(ids, **given, **build(), custom_generate=loop)
    assert actual.tolist() == expected.tolist()
    return loop.stats


@pytest.mark.parametrize("sampled", [False, True], ids=["greedy", "sampled"])
@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("family", FAMILIES)
def test_ids_are_those_of_plain_generate(family, rows, sampled):
    model = make(family)
    ids, mask = prompts(rows)
    given = {"attention_mask": mask, "max_new_tokens": 50, "eos_token_id": [2, 3, 4] if rows > 1 else None}
    if sampled:
        given |= {"do_sample": True, "temperature": 0.7, "top_k": 20}
    stats = same_as_plain(model, ids, given)
    assert family in PLAIN or stats.edl > 1.0, "without accepted drafts this shows nothing"
    assert family not in PLAIN or stats.passes == 0


@pytest.mark.parametrize("family", ["llama", "llama 4 with chunks", "lfm 2", "qwen 3 next", "mpt"])
def test_a_measured_cost_changes_no_token(family):
    model = make(family)
    ids, mask = prompts(3)
    given = {"attention_mask": mask, "max_new_tokens": 50, "eos_token_id": [2, 3, 4], "prefix_allowed_tokens_fn": rows_of}
    same_as_plain(model, ids, given, cost_curve="measure")
    same_as_plain(model, ids[:1], {"max_new_tokens": 50, "do_sample": True}, cost_curve="measure")


class ValuesPerRow(LogitsProcessor):
    def __init__(self) -> None:
        self.temperature = torch.tensor([[0.5], [1.0], [2.0]])

    def __call__(self, input_ids, scores):
        return scores / self.temperature


class MeanOfTheBatch(LogitsProcessor):
    def __call__(self, input_ids, scores):
        return scores + 0.3 * scores.mean(0, keepdim=True)


class OneStopsAll(StoppingCriteria):
    def __call__(self, input_ids, scores, **kwargs):
        return ((input_ids[:, LENGTH:] % 19 == 0).any(-1).sum() >= 2).expand(len(input_ids))


class Confident(StoppingCriteria):
    def __call__(self, input_ids, scores, **kwargs):
        assert scores is not None and len(scores) == input_ids.shape[1] - LENGTH
        return scores[-1].softmax(-1).max(-1).values > 0.995


def rows_of(row: int, text) -> list[int]:
    return [token for token in range(3, VOCABULARY) if (token + int(text[-1])) % 3 != row]


WATERMARK = SynthIDTextWatermarkingConfig(keys=[3, 5, 7], ngram_len=3, context_history_size=8)
BATCHWISE = {
    "prefix_allowed_tokens_fn": lambda: {"prefix_allowed_tokens_fn": rows_of},
    "values per row": lambda: {"logits_processor": LogitsProcessorList([ValuesPerRow()])},
    "mean of the batch": lambda: {"logits_processor": LogitsProcessorList([MeanOfTheBatch()])},
    "SynthID": lambda: {"watermarking_config": WATERMARK, "do_sample": True},
    "repetition penalty": lambda: {"repetition_penalty": 1.3},
    "repetition penalty behind the prompt": lambda: {
        "logits_processor": LogitsProcessorList([RepetitionPenaltyLogitsProcessor(1.3, prompt_ignore_length=LENGTH)])
    },
    "one stops all": lambda: {"stopping_criteria": StoppingCriteriaList([OneStopsAll()])},
    "reads scores": lambda: {
        "stopping_criteria": StoppingCriteriaList([Confident()]),
        "return_dict_in_generate": True,
        "output_scores": True,
    },
}


@pytest.mark.parametrize("eos", [None, [2, 3, 4]], ids=["to the end", "rows that end"])
@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("option", BATCHWISE)
def test_options_see_the_batch_as_plain_generate_shows_it(option, rows, eos):
    if option == "values per row" and rows == 1:
        rows = 3
    model = make("llama")
    ids, mask = prompts(rows)
    given = {"attention_mask": mask, "max_new_tokens": 50, "eos_token_id": eos}
    build = BATCHWISE[option]
    torch.manual_seed(5)
    expected = model.generate(ids, **given, **build())
    loop = lookahead(nearly(getattr(expected, "sequences", expected)), cost_curve=None, share="read", min_probability=0.0)
    torch.manual_seed(5)
    actual = model.generate(ids, **given, **build(), custom_generate=loop)
    if option == "reads scores":
        for name in ("scores", "sequences"):
            for one, other in zip(getattr(expected, name), getattr(actual, name), strict=True):
                torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)
        return
    assert actual.tolist() == expected.tolist()


@pytest.mark.parametrize("family", ["llama", "mistral with a window"])
def test_a_row_that_is_last_does_not_see_what_others_left(family):
    model = make(family)
    ids, mask = prompts(3)
    given = {"attention_mask": mask, "max_new_tokens": 50, "eos_token_id": None}
    given |= {"return_dict_in_generate": True, "output_logits": True}
    expected = model.generate(ids, **given)
    loop = lookahead(nearly(expected.sequences[1:]), cost_curve=None, share="read", min_probability=0.0)
    actual = model.generate(ids, **given, custom_generate=loop)
    assert actual.sequences.tolist() == expected.sequences.tolist()
    for one, other in zip(expected.logits, actual.logits, strict=True):
        torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("family", ["mistral with a window", "llama 4 with chunks", "lfm 2", "qwen 3 next", "granite 4"])
def test_a_cache_goes_on_in_the_next_answer(family):
    model = make(family)
    ids, _ = prompts(1)
    answers = []
    for tokens in (20, 23, 26):
        for drafts in (False, True):
            last = model.generate(ids, max_new_tokens=tokens, eos_token_id=None, return_dict_in_generate=True)
            loop = lookahead(nearly(last.sequences), cost_curve=None, share="off", min_probability=0.0)
            first = model.generate(
                ids,
                max_new_tokens=tokens,
                eos_token_id=None,
                return_dict_in_generate=True,
                custom_generate=loop if drafts else None,
            )
            more = torch.cat([first.sequences, ids[:, :5]], dim=-1)
            for own in (None, loop):  # plain generation goes on with a cache that drafts were verified with
                cache = copy.deepcopy(first.cache)
                answer = model.generate(more, cache=cache, max_new_tokens=15, eos_token_id=None, custom_generate=own)
                answers.append((tokens, answer.tolist()))
    assert all(one == other for one, other in zip(answers, answers[1:]) if one[0] == other[0])


@pytest.mark.parametrize("family", ["llama", "phi 3 with a switch of frequencies", "llama with frequencies that grow"])
def test_a_batch_goes_on_with_its_cache_and_new_tokens_alone(family):
    model = make(family)
    ids, mask = prompts(3)
    given = {"max_new_tokens": 40, "eos_token_id": None, "do_sample": True}
    answers: list = []
    for drafts in (False, True):
        cache = DynamicCache()
        with torch.no_grad():
            positions = (mask.cumsum(-1) - 1).clamp(min=0)
            model(ids[:, :-1], attention_mask=mask[:, :-1], position_ids=positions[:, :-1], cache=cache)
        loop = lookahead(nearly(answers[0]), cost_curve=None, share="read", min_probability=0.0) if drafts else None
        torch.manual_seed(2)
        answer = model.generate(ids[:, -1:], attention_mask=mask, cache=cache, custom_generate=loop, **given)
        answers.append(answer.tolist())
        assert loop is None or loop.stats.edl > 1.0
    assert answers[0] == answers[1]


def test_a_model_that_is_generated_plainly_says_so_once():
    model = make("mamba")
    ids, _ = prompts(1)
    loop = lookahead(DraftTrie())
    with pytest.warns(UserWarning, match="MambaForCausalLM is generated plainly, without drafts: its passes over several"):
        model.generate(ids, max_new_tokens=3, custom_generate=loop)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.generate(ids, max_new_tokens=3, custom_generate=loop)


@pytest.mark.parametrize("processors", [[], [MeanOfTheBatch()]], ids=["alone", "together"])
def test_rows_advance_in_step_only_where_something_looks_at_all_of_them(processors):
    model = make("llama")
    ids, mask = prompts(3)
    given = {"attention_mask": mask, "max_new_tokens": 50, "eos_token_id": None}
    given |= {"logits_processor": LogitsProcessorList(processors)}
    expected = model.generate(ids, **given)
    rows = []
    loop = lookahead(nearly(expected[1:]), cost_curve=None, share="read", observer=lambda step: rows.append(step.row))
    assert model.generate(ids, **given, custom_generate=loop).tolist() == expected.tolist()
    passes = [rows.count(row) for row in range(3)]
    assert (max(passes) == min(passes)) == bool(processors), passes


def test_a_model_with_an_encoder_is_generated_plainly():
    torch.manual_seed(3)
    small = {"vocab_size": VOCABULARY, "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}
    model = transformers.T5ForConditionalGeneration(transformers.T5Config(**small, decoder_start_token_id=0)).eval()
    ids, mask = prompts(3)
    given = {"attention_mask": mask, "max_new_tokens": 20}
    with pytest.warns(UserWarning, match="it has an encoder"):
        actual = model.generate(ids, **given, custom_generate=lookahead(DraftTrie()))
    assert actual.tolist() == model.generate(ids, **given).tolist()
