//! Checkpoints in other forms: `rope_theta` and `rope_scaling` of older ones in place of `rope_parameters`, texts as a part of a model that sees
//! as well, and experts in one tensor.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use lookahead_fixtures::Golden;
use lookahead_kernels::Kernels;
use lookahead_model::architecture::{Architecture, Mixer, RopeFactors};
use lookahead_model::{Checkpoint, CpuModel, Keep, LanguageModel, Logits, LogitsOf, SequenceStep, TokenTree};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView, serialize};
use serde_json::{Value, json};

fn describe(name: &'static str, change: impl FnOnce(&mut Value)) -> Architecture {
    let golden = Golden::load(name);
    let folder = tempfile::tempdir().unwrap();
    golden.write_checkpoint(folder.path());
    let mut config = golden.config;
    change(&mut config);
    fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    Architecture::of(&Checkpoint::open(folder.path()).unwrap()).unwrap()
}

/// Takes `rope_parameters` apart, as older files have them.
fn to_old_form(config: &mut Value) {
    let mut rope = config["rope_parameters"].take();
    let fields = config.as_object_mut().unwrap();
    fields.remove("rope_parameters");
    if let Some(full) = rope.get("full_attention").cloned() {
        fields.insert("rope_local_base_freq".to_owned(), rope["sliding_attention"]["rope_theta"].clone());
        rope = full;
    }
    let rope = rope.as_object_mut().unwrap();
    for name in ["rope_theta", "partial_rotary_factor"] {
        if let Some(value) = rope.remove(name) {
            fields.insert(name.to_owned(), value);
        }
    }
    if rope["rope_type"] != "default" {
        fields.insert("rope_scaling".to_owned(), Value::Object(rope.clone()));
    }
}

/// The architecture of a model with this `config.json` and the tensors of a golden model.
fn describe_config(name: &'static str, config: &Value) -> Architecture {
    describe(name, |golden| *golden = config.clone())
}

#[test]
fn configs_are_read_in_the_form_in_which_models_are_published() {
    // Nemotron 3 Nano 30B-A3B
    let pattern = "MEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEMEM*EMEMEMEME";
    let nemotron = describe_config(
        "nemotron-h-moe",
        &json!({
            "model_type": "nemotron_h", "hybrid_override_pattern": pattern, "num_hidden_layers": 52, "hidden_size": 2688,
            "intermediate_size": 1856, "vocab_size": 131_072, "max_position_embeddings": 262_144, "num_attention_heads": 32,
            "num_key_value_heads": 2, "head_dim": 128, "mamba_num_heads": 64, "mamba_head_dim": 64, "n_groups": 8,
            "ssm_state_size": 128, "conv_kernel": 4, "expand": 2, "chunk_size": 128, "time_step_limit": [0.0, null],
            "layer_norm_epsilon": 1e-5, "norm_eps": 1e-5, "mlp_hidden_act": "relu2", "n_routed_experts": 128,
            "num_experts_per_tok": 6, "n_shared_experts": 1, "moe_intermediate_size": 1856,
            "moe_shared_expert_intermediate_size": 3712, "norm_topk_prob": true, "routed_scaling_factor": 2.5, "n_group": 1,
            "topk_group": 1, "attention_bias": false, "tie_word_embeddings": false, "rope_theta": 10000, "partial_rotary_factor": 1.0
        }),
    );
    assert_eq!(nemotron.layers.len(), pattern.len());
    let Mixer::Experts(experts) = &nemotron.layers[1].blocks[0].mixer else {
        panic!("{:?}", nemotron.layers[1])
    };
    assert_eq!((experts.count, experts.active, experts.expert.gated), (128, 6, false));
    assert_eq!((experts.expert.size, experts.shared.unwrap().mlp.size), (1856, 3712));

    // Gemma 4 26B-A4B
    let layer_types: Vec<_> =
        (1..=30).map(|layer| if layer % 6 == 0 { "full_attention" } else { "sliding_attention" }).collect();
    let gemma = describe_config(
        "gemma4-moe",
        &json!({ "model_type": "gemma4", "vision_config": {}, "text_config": {
            "model_type": "gemma4_text", "hidden_size": 2816, "intermediate_size": 2112, "num_hidden_layers": 30,
            "num_attention_heads": 16, "num_key_value_heads": 8, "num_global_key_value_heads": 2, "head_dim": 256,
            "global_head_dim": 512, "attention_k_eq_v": true, "sliding_window": 1024, "layer_types": layer_types,
            "max_position_embeddings": 262_144, "rms_norm_eps": 1e-6, "final_logit_softcapping": 30.0, "vocab_size": 262_144,
            "enable_moe_block": true, "num_experts": 128, "top_k_experts": 8, "moe_intermediate_size": 704,
            "hidden_size_per_layer_input": 0, "num_kv_shared_layers": 0, "use_double_wide_mlp": false,
            "rope_parameters": {
                "full_attention": { "partial_rotary_factor": 0.25, "rope_theta": 1_000_000.0, "rope_type": "proportional" },
                "sliding_attention": { "rope_theta": 10_000.0, "rope_type": "default" }
            }
        } }),
    );
    let blocks = &gemma.layers[5].blocks;
    let (Mixer::Attention(attention), Mixer::Dense(dense), Mixer::Experts(experts)) =
        (&blocks[0].mixer, &blocks[1].mixer, &blocks[2].mixer)
    else {
        panic!("{blocks:?}")
    };
    assert_eq!((attention.key_dim, attention.kv_heads, dense.size), (512, 2, 2112));
    assert_eq!((experts.count, experts.active, experts.expert.size), (128, 8, 704));

    // Falcon-H1 0.5B
    let falcon = describe_config(
        "falcon-h1",
        &json!({
            "model_type": "falcon_h1", "hidden_size": 1024, "intermediate_size": 2048, "num_hidden_layers": 36,
            "num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 64, "mamba_d_ssm": 1536, "mamba_n_heads": 24,
            "mamba_d_head": 64, "mamba_d_state": 128, "mamba_n_groups": 1, "mamba_d_conv": 4, "mamba_expand": 2,
            "mamba_chunk_size": 128, "mamba_conv_bias": true, "mamba_proj_bias": false, "mamba_rms_norm": false,
            "mamba_norm_before_gate": false, "mamba_use_mlp": true, "attention_bias": false, "mlp_bias": false,
            "projectors_bias": false, "max_position_embeddings": 16384, "rope_theta": 100_000_000_000.0_f64, "rope_scaling": null,
            "rms_norm_eps": 1e-5, "vocab_size": 32784, "attention_in_multiplier": 1.0, "attention_out_multiplier": 0.9375,
            "embedding_multiplier": 5.656_854_249_492_381, "key_multiplier": 0.390_625, "lm_head_multiplier": 0.039_062_5,
            "mlp_multipliers": [0.883_883_476_483_184_5, 0.585_937_5], "ssm_in_multiplier": 1.25, "ssm_out_multiplier": 0.235_702_260_395_515_87,
            "ssm_multipliers": [0.353_553_390_593_273_8, 0.25, 0.353_553_390_593_273_8, 0.5, 0.353_553_390_593_273_8]
        }),
    );
    let factor =
        |part| falcon.output_factors.iter().find(|factor| factor.part == part).map(|factor| factor.factor);
    assert_eq!(
        (factor("attn_q"), factor("attn_k"), factor("ffn_down")),
        (None, Some(0.390_625), Some(0.585_937_5))
    );
    let steps = falcon.output_factors.last().unwrap();
    assert_eq!((steps.part, steps.rows.clone()), ("ssm_in", 3328..3352));
}

/// Models of families that the old form was never used for: it cannot say what their rotary embeddings are.
const NEWER: [&str; 3] = ["gemma4", "gemma4-dense", "gemma4-moe"];

#[test]
fn the_old_form_of_a_config_means_the_same() {
    for name in Golden::NAMES.into_iter().filter(|name| !NEWER.contains(name)) {
        let has_rope = Golden::load(name).config.get("rope_parameters").is_some();
        if has_rope {
            assert_eq!(describe(name, to_old_form), describe(name, |_| ()), "{name}");
        }
    }
    // GPT-NeoX had names of its own, and a model for images has its part for texts apart.
    let neox = describe("gpt-neox", |config| {
        to_old_form(config);
        let fields = config.as_object_mut().unwrap();
        for (old, new) in [("rotary_emb_base", "rope_theta"), ("rotary_pct", "partial_rotary_factor")] {
            let value = fields.remove(new).unwrap();
            fields.insert(old.to_owned(), value);
        }
    });
    assert_eq!(neox, describe("gpt-neox", |_| ()));
    let within = describe("gemma3", |config| {
        *config = json!({ "model_type": "gemma3", "text_config": config.take() });
    });
    assert_eq!(within, describe("gemma3", |_| ()));
}

#[test]
fn a_model_made_for_long_contexts_takes_its_long_factors() {
    let scaling = |context: usize| {
        describe("phi3", |config| {
            to_old_form(config);
            config["max_position_embeddings"] = context.into();
            config["original_max_position_embeddings"] = 64.into();
            config["rope_scaling"] =
                json!({ "type": "longrope", "short_factor": vec![1.0; 8], "long_factor": vec![2.0; 8] });
        })
    };
    let [long, short] = [256, 64].map(|context| scaling(context).ropes[0].clone());
    assert_eq!(long.factors, RopeFactors::Values(vec![2.0; 8]));
    let expected = (1.0 + libm::log(4.0) / libm::log(64.0)).sqrt();
    assert!((long.magnitude - expected).abs() < 1e-12, "{}", long.magnitude);
    assert_eq!((short.factors, short.magnitude), (RopeFactors::Values(vec![1.0; 8]), 1.0));
}

#[test]
fn yarn_scales_slow_pairs_and_all_lengths() {
    let rope = describe("qwen3", |config| {
        config["rope_parameters"] = json!({ "rope_type": "yarn", "rope_theta": 1e6, "factor": 4.0,
                                            "original_max_position_embeddings": 64 });
    });
    let rope = &rope.ropes[0];
    let RopeFactors::Values(factors) = &rope.factors else { panic!("{rope:?}") };
    assert_eq!((factors[0], factors[factors.len() - 1]), (1.0, 4.0));
    assert!((rope.magnitude - (0.1 * libm::log(4.0) + 1.0)).abs() < 1e-12);
}

#[test]
fn magnitudes_have_the_bits_of_libm_on_every_platform() {
    // Factors for which the logarithm of the GNU C library has other bits.
    for factor in [18.8, 23.2, 40.2, 41.7, 42.4] {
        let rope = describe("qwen3", |config| {
            config["rope_parameters"] = json!({ "rope_type": "yarn", "rope_theta": 1e6, "factor": factor,
                                                "original_max_position_embeddings": 64 });
        });
        let expected = 0.1 * libm::log(factor) + 1.0;
        assert_eq!(rope.ropes[0].magnitude.to_bits(), expected.to_bits(), "factor {factor}");
    }
}

/// The bits of the logits after a few tokens.
fn logits(folder: &Path) -> Vec<u32> {
    let mut model = CpuModel::load(&Checkpoint::open(folder).unwrap(), Kernels::new(1)).unwrap();
    let (mut cache, mut logits) = (model.new_cache(5), Logits::default());
    let tree = TokenTree::chain(&[5, 60, 7, 80, 9]).unwrap();
    let step = SequenceStep { tree: &tree, cache: &mut cache, logits_of: LogitsOf::Last, keep: Keep::Row };
    model.forward(&mut [step], &mut logits).unwrap();
    logits.row(0).iter().map(|logit| logit.to_bits()).collect()
}

#[test]
fn the_part_for_texts_of_a_model_that_sees_is_found() {
    for (name, whole, layers, head) in [
        ("qwen3-5", "qwen3_5", "model.language_model.", "lm_head."),
        ("qwen3-5-moe", "qwen3_5_moe", "model.language_model.", "lm_head."),
        ("gemma3", "gemma3", "language_model.model.", "language_model.lm_head."),
        ("gemma3n", "gemma3n", "model.language_model.", "lm_head."),
        ("ministral3", "mistral3", "language_model.model.", "language_model.lm_head."),
    ] {
        let golden = Golden::load(name);
        let folder = tempfile::tempdir().unwrap();
        let bytes = fs::read(golden.folder.join("model.safetensors")).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let renamed = |name: &str| match name.strip_prefix("model.") {
            Some(rest) => format!("{layers}{rest}"),
            None => name.replacen("lm_head.", head, 1),
        };
        let mut views: Vec<(String, TensorView<'_>)> =
            tensors.tensors().into_iter().map(|(name, view)| (renamed(&name), view)).collect();
        let seen = TensorView::new(Dtype::F32, vec![1, 2], &[0; 8]).unwrap();
        views.push(("model.visual.patch_embed.weight".to_owned(), seen));
        fs::write(folder.path().join("model.safetensors"), serialize(views, None).unwrap()).unwrap();
        let config = json!({ "model_type": whole, "text_config": golden.config, "vision_config": {} });
        fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
        assert_eq!(logits(folder.path()), logits(&golden.folder), "{name}");
    }
}

#[test]
fn experts_in_one_tensor_are_those_in_many() {
    for name in ["qwen3-5-moe", "qwen3-moe", "glm4-moe"] {
        let golden = Golden::load(name);
        let folder = tempfile::tempdir().unwrap();
        fs::copy(golden.folder.join("config.json"), folder.path().join("config.json")).unwrap();
        let bytes = fs::read(golden.folder.join("model.safetensors")).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let (experts, others): (Vec<_>, Vec<_>) =
            tensors.tensors().into_iter().partition(|(name, _)| name.contains(".experts."));
        let joined = joined_experts(&experts);
        let views = joined.iter().map(|(name, shape, bytes)| {
            (name.clone(), TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap())
        });
        let views: Vec<_> = views.chain(others).collect();
        fs::write(folder.path().join("model.safetensors"), serialize(views, None).unwrap()).unwrap();
        assert_eq!(logits(folder.path()), logits(&golden.folder), "{name}");
    }
}

/// `mlp.experts.gate_up_proj` and `mlp.experts.down_proj` of each layer: experts one behind the other, gates in front of ups.
fn joined_experts(experts: &[(String, TensorView<'_>)]) -> Vec<(String, Vec<usize>, Vec<u8>)> {
    let find = |name: &str| experts.iter().find(|(found, _)| found == name).map(|(_, view)| view);
    let layers: BTreeSet<&str> =
        experts.iter().filter_map(|(name, _)| Some(name.split_once(".experts.")?.0)).collect();
    let mut joined = Vec::new();
    for layer in layers {
        for (whole, parts) in [("gate_up_proj", &["gate_proj", "up_proj"][..]), ("down_proj", &["down_proj"])]
        {
            let (mut bytes, mut shape) = (Vec::new(), vec![0, 0, 0]);
            while let Some(first) = find(&format!("{layer}.experts.{}.{}.weight", shape[0], parts[0])) {
                for part in parts {
                    let view = find(&format!("{layer}.experts.{}.{part}.weight", shape[0])).unwrap();
                    bytes.extend_from_slice(view.data());
                }
                shape = vec![shape[0] + 1, parts.len() * first.shape()[0], first.shape()[1]];
            }
            joined.push((format!("{layer}.experts.{whole}"), shape, bytes));
        }
    }
    joined
}
