"""Every causal language model that Transformers ships, tiny and of random weights: ids with drafts are those of plain `generate`.

    python transformers_sweep.py [MODEL_TYPE…]

Prints a line for each model type, with how it was generated and the tokens a pass. Types that cannot be built small are left out by
name. Ends with an error if one differs. It takes about half an hour, so that CI runs a few types of each kind only, with pytest.
"""

from __future__ import annotations

import random
import sys
import warnings
from collections import Counter

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from lookahead_drafts import DraftTrie
from lookahead_drafts.transformers import lookahead
from lookahead_drafts.transformers import loop as loop_module

VOCABULARY = 96
LAYERS = 4
MAX_PARAMETERS = 20_000_000

# A value for each size that a configuration may have, by the values' names.
NAMES = {
    96: "vocab_size vocab_size_per_layer_input",
    32: "hidden_size d_model n_embd dim moe_intermediate_size shared_expert_intermediate_size expert_ffn_hidden_size lru_width"
    " word_embed_proj_dim embedding_size",
    64: "intermediate_size ffn_dim d_ff n_inner mamba_d_ssm shared_intermediate_size intermediate_size_mlp decoder_ffn_dim"
    " encoder_ffn_dim",
    4: "num_hidden_layers n_layer n_layers num_layers decoder_layers encoder_layers num_attention_heads n_head n_heads num_heads"
    " decoder_attention_heads encoder_attention_heads n_routed_experts num_experts num_local_experts moe_num_experts"
    " linear_num_value_heads mamba_n_heads mamba_dt_rank rotary_dim",
    2: "num_key_value_heads num_global_key_value_heads num_experts_per_tok moe_k linear_num_key_heads index_n_heads"
    " altup_num_inputs eos_token_id",
    8: "head_dim global_head_dim qk_rope_head_dim qk_nope_head_dim v_head_dim rope_head_dim index_topk sliding_window"
    " attention_chunk_size window_size attention_window_size linear_key_head_dim linear_value_head_dim mamba_d_state state_size"
    " mamba_chunk_size mamba_num_heads mamba_head_dim ssm_state_size chunk_size hidden_size_per_layer_input laurel_rank"
    " query_pre_attn_scalar",
    16: "q_lora_rank kv_lora_rank index_head_dim mamba_d_head",
    512: "max_position_embeddings n_positions max_seq_len",
    1: "n_group topk_group first_k_dense_replace mamba_n_groups n_groups num_mem_blocks num_codebooks bos_token_id",
    0: "pad_token_id num_kv_shared_layers",
}
SIZES = {name: size for size, names in NAMES.items() for name in names.split()}
SIZES |= {"use_mamba_kernels": False, "is_decoder": True}
# What some need beside: tried one after the other.
WIDER = {"hidden_size": 64, "head_dim": 16}
TRIES: list[dict] = [
    {},
    {"head_dim": 16},
    WIDER,
    {"num_key_value_heads": 4},
    {**WIDER, "num_key_value_heads": 4, "v_head_dim": 16},
    {"hidden_size": 128, "head_dim": 32, "num_key_value_heads": 4, "intermediate_size": 128},
    {"intermediate_size": [64] * LAYERS, "activation_sparsity_pattern": [0.0] * LAYERS},
    {"attention_types": [[["global", "local"], 2]]},
    {"num_heads": 8, "head_dim": 8},
    {"layer_types": ["full_attention"] * LAYERS},
    {"num_experts_per_tok": 1},
    {"attn_layer_indices": [1, 3]},
    {"attn_layer_period": 2, "attn_layer_offset": 1},
]


def configuration(model_type: str, more: dict):
    kind = type(AutoConfig.for_model(model_type))
    default = kind()
    text = default.get_text_config(decoder=True)
    known = text.to_dict()
    small = {name: size for name, size in SIZES.items() if known.get(name) is not None}
    if "sliding_window" in known:
        small["sliding_window"] = 8
    for name, value in known.items():
        if name.endswith("layer_types") and isinstance(value, list) and value:
            kinds = list(dict.fromkeys(value))
            small[name] = [kinds[layer % len(kinds)] for layer in range(LAYERS)]
    field = next((name for name, value in vars(default).items() if value is text), None)
    return kind(**{field: small | more}) if field and text is not default else kind(**small | more)


def build(model_type: str):
    """A small model that generates; raises the first of the errors if none can be made."""
    first = None
    for more in TRIES:
        try:
            config = configuration(model_type, more)
            with torch.device("meta"):
                parameters = sum(parameter.numel() for parameter in AutoModelForCausalLM.from_config(config).parameters())
            if parameters > MAX_PARAMETERS:
                raise ValueError(f"it has {parameters} parameters")
            torch.manual_seed(11)
            model = AutoModelForCausalLM.from_config(config).eval()
            with torch.no_grad():
                for parameter in model.parameters():
                    if parameter.ndim > 1:
                        parameter.mul_(4)  # logits that differ
            model.generation_config.pad_token_id = 0
            model.generation_config.eos_token_id = 2
            ids = torch.arange(6)[None] + 4
            answer = model.generate(ids, max_new_tokens=4, do_sample=False, eos_token_id=None)
            if answer.shape[1] != 10:
                raise ValueError(f"plain generation gives {tuple(answer.shape)}")
            return model
        except Exception as error:  # whatever a model raises that a size does not suit
            first = first or error
    raise first or ValueError(model_type)


def nearly(answers) -> DraftTrie:
    """A trie that knows the answers with a token in nine changed."""
    chance, trie = random.Random(3), DraftTrie()
    for answer in answers:
        for _ in range(2):
            trie.warm_up([chance.randrange(3, VOCABULARY) if chance.random() < 0.11 else int(token) for token in answer])
    return trie


def compare(model) -> tuple[set[str], list[str], bool]:
    """How it was generated, the tokens a pass or the error of each way to call it, and whether all ids are the same."""
    ways: set[str] = set()
    results, same = [], True
    choose = loop_module.verifier

    def noted(*arguments):
        passes = choose(*arguments)
        ways.add("plain" if passes is None else type(passes).__name__.lower())
        return passes

    loop_module.verifier = noted
    try:
        for rows in (1, 3):
            for options in ({"do_sample": False}, {"do_sample": True, "temperature": 0.7, "top_k": 20}):
                torch.manual_seed(7)
                ids = torch.randint(3, VOCABULARY, (rows, 24))
                mask = torch.ones_like(ids)
                for row in range(1, rows):
                    ids[row, : 4 * row] = 0
                    mask[row, : 4 * row] = 0
                given = {
                    "attention_mask": mask,
                    "max_new_tokens": 50,
                    "eos_token_id": None if rows == 1 else [2, 3, 4],
                    **options,
                }
                torch.manual_seed(5)
                try:
                    expected = model.generate(ids, **given)
                except Exception as error:  # not made for such a call
                    results.append(f"plain fails: {error!r}"[:80])
                    continue
                loop = lookahead(nearly(expected), draft_length=12, cost_curve=None, share="read", min_probability=0.0)
                torch.manual_seed(5)
                is_same = model.generate(ids, **given, custom_generate=loop).tolist() == expected.tolist()
                same &= is_same
                results.append(f"{loop.stats.edl:.2f}" if is_same else "differs")
    finally:
        loop_module.verifier = choose
    return ways, results, same


# One of each kind, and some that are read in a way of their own.
KINDS = {
    "bloom": "chains",
    "codegen": "trees",
    "cohere2": "trees",
    "falcon_mamba": "plain",
    "gpt_oss": "trees",
    "lfm3": "chains",
    "openai-gpt": "chains",
    "rwkv": "plain",
    "xlm": "plain",
}


def test_kinds_of_models_are_generated_as_the_table_says():
    for model_type, way in KINDS.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ways, results, same = compare(build(model_type))
        assert same and way in ways, (model_type, ways, results)


def main() -> int:
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    counts: Counter[str] = Counter()
    for model_type in sys.argv[1:] or MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        try:
            model = build(model_type)
        except Exception as error:  # as above
            print(f"left out  {model_type}: {str(error)[:100]!r}", flush=True)
            counts["left out"] += 1
            continue
        try:
            ways, results, same = compare(model)
        except Exception as error:  # the fault that is looked for
            ways, results, same = set(), [f"raises {error!r}"[:160]], False
        verdict = "left out" if same and not ways else "same" if same else "DIFFERS"
        counts[verdict] += 1
        counts.update(ways)
        print(f"{verdict:9}", model_type, *sorted(ways), *results, flush=True)
    print(dict(counts))
    return int(counts["DIFFERS"] > 0)


if __name__ == "__main__":
    sys.exit(main())
