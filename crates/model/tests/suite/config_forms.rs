//! Checkpoints in other forms: `rope_theta` and `rope_scaling` of older ones in place of `rope_parameters`, and texts as a part of a model that
//! sees as well.

use std::fs;
use std::path::Path;

use lookahead_fixtures::Golden;
use lookahead_kernels::Kernels;
use lookahead_model::architecture::{Architecture, RopeFactors};
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

/// Models of families that the old form was never used for: it cannot say what their rotary embeddings are.
const NEWER: [&str; 2] = ["gemma4", "gemma4-dense"];

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
