//! Checkpoints with something wrong in them: an error, or a model that runs; never a panic.

use std::fs;
use std::path::Path;

use lookahead_fixtures::Golden;
use lookahead_kernels::{Isa, Kernels};
use lookahead_model::architecture::Architecture;
use lookahead_model::{
    Checkpoint, CpuModel, Keep, LanguageModel, LoadError, Logits, LogitsOf, SequenceStep, TokenTree,
};
use proptest::prelude::*;
use serde_json::{Value, json};

/// Loads the checkpoint and runs two tokens.
fn run(folder: &Path) -> Result<(), LoadError> {
    run_unless(folder, None)
}

/// The same, unless it is the model `known`.
fn run_unless(folder: &Path, known: Option<&Architecture>) -> Result<(), LoadError> {
    let checkpoint = Checkpoint::open(folder)?;
    if known.is_some_and(|known| Architecture::of(&checkpoint).is_ok_and(|found| found == *known)) {
        return Ok(());
    }
    let mut model = CpuModel::load(&checkpoint, Kernels::with_isa(Isa::SCALAR, 1))?;
    let mut cache = model.new_cache(2);
    let tree = TokenTree::chain(&[1, 2]).unwrap();
    let step = SequenceStep { tree: &tree, cache: &mut cache, logits_of: LogitsOf::Every, keep: Keep::Row };
    let _ = model.forward(&mut [step], &mut Logits::default());
    Ok(())
}

/// What stands in place of a value.
fn replacements() -> Vec<Value> {
    vec![
        Value::Null,
        json!(0),
        json!(-1),
        json!(1),
        json!(3),
        json!(0.5),
        json!(1e300),
        json!(u64::MAX),
        json!(1_000_000),
        json!("x"),
        json!([]),
        json!([1, "x"]),
        json!({}),
        json!(true),
        json!(false),
    ]
}

/// The config with one field, or one of an object in it, replaced.
fn variants(config: &Value) -> Vec<(String, Value)> {
    let mut variants = Vec::new();
    for (name, value) in config.as_object().unwrap() {
        for replacement in replacements() {
            let mut changed = config.clone();
            changed[name] = replacement.clone();
            variants.push((format!("{name} = {replacement}"), changed));
            for inner in value.as_object().into_iter().flat_map(|object| object.keys()) {
                let mut changed = config.clone();
                changed[name][inner] = replacement.clone();
                variants.push((format!("{name}.{inner} = {replacement}"), changed));
            }
        }
    }
    variants
}

#[test]
fn any_value_of_any_field_is_refused_or_runs() {
    for name in Golden::NAMES {
        let golden = Golden::load(name);
        let folder = tempfile::tempdir().unwrap();
        golden.write_checkpoint(folder.path());
        let known = Architecture::of(&Checkpoint::open(folder.path()).unwrap()).unwrap();
        let mut refused = 0;
        for (what, config) in variants(&golden.config) {
            fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
            let outcome = std::panic::catch_unwind(|| run_unless(folder.path(), Some(&known)));
            let outcome = outcome.unwrap_or_else(|_| panic!("{name}: {what} panics"));
            if let Err(error) = outcome {
                refused += 1;
                assert!(
                    error.to_string().contains(&folder.path().display().to_string()),
                    "{name}: {what}: {error}"
                );
            }
        }
        assert!(refused > 20, "{name}: {refused}");
    }
}

#[test]
fn a_rotary_embedding_that_is_no_object_is_named() {
    let golden = Golden::load("llama");
    let folder = tempfile::tempdir().unwrap();
    golden.write_checkpoint(folder.path());
    for field in ["rope_parameters", "rope_scaling"] {
        let mut config = golden.config.clone();
        config[field] = json!("abc");
        fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
        let error = Architecture::of(&Checkpoint::open(folder.path()).unwrap()).unwrap_err().to_string();
        assert!(error.contains(field) && error.contains("abc"), "{error}");
    }
}

#[test]
fn what_is_wrong_with_residual_streams_and_sparse_networks_is_named() {
    let golden = Golden::load("gemma3n");
    let folder = tempfile::tempdir().unwrap();
    golden.write_checkpoint(folder.path());
    for (field, value, expected) in [
        ("altup_num_inputs", json!(0), "a number from 1"),
        ("altup_num_inputs", json!(17), "a number from 1 to 16"),
        ("altup_active_idx", json!(4), "a number below that of the residual streams"),
        ("altup_active_idx", json!(-1), "a whole number"),
        ("altup_correct_scale", json!("x"), "true or false"),
        ("laurel_rank", json!(0), "a number from 1"),
        ("activation_sparsity_pattern", json!(0.5), "a list of numbers"),
        ("activation_sparsity_pattern", json!([0.5, 0.0]), "as many entries as there are layers"),
        ("activation_sparsity_pattern", json!([0, 0, 0, 0, 1]), "a share from 0 to 1"),
        ("activation_sparsity_pattern", json!([-0.5, 0, 0, 0, 0]), "a share from 0 to 1"),
        ("intermediate_size", json!([96, 128, 96, 96]), "for each layer"),
        ("intermediate_size", json!([96, 0, 96, 96, 128]), "for each layer"),
        ("num_kv_shared_layers", json!(5), "fewer than there are layers"),
        ("num_kv_shared_layers", json!(4), "so few that layers of both kinds are in front"),
    ] {
        let mut config = golden.config.clone();
        config[field] = value.clone();
        fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
        let error = Architecture::of(&Checkpoint::open(folder.path()).unwrap()).unwrap_err().to_string();
        assert!(error.contains(field) && error.contains(expected), "{field} = {value}: {error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]
    #[test]
    fn damaged_weights_are_refused_or_run(
        name in prop::sample::select(vec!["llama", "gpt2", "phi3", "qwen2-moe"]),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
        in_table in any::<bool>(),
    ) {
        let golden = Golden::load(name);
        let folder = tempfile::tempdir().unwrap();
        golden.write_checkpoint(folder.path());
        let file = folder.path().join("model.safetensors");
        let mut bytes = fs::read(&file).unwrap();
        let changeable = if in_table { 2000 } else { bytes.len() };
        for (at, byte) in changes {
            bytes[at.index(changeable)] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        fs::write(&file, bytes).unwrap();
        let _ = run(folder.path());
    }
}
