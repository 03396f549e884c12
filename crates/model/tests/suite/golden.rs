//! Logits against Hugging Face transformers, and against NumPy where it has no code: tiny random-weight models in float32, from checkpoints and from GGUF files.

use lookahead_fixtures::Golden;
use lookahead_kernels::{Isa, Kernels, KvType};
use lookahead_model::gguf::GgufFile;
use lookahead_model::{
    Accepted, Checkpoint, CpuModel, Keep, LanguageModel, Logits, LogitsOf, SequenceStep, TokenId, TokenTree,
};

/// Sums are ordered differently, nothing else.
const TOLERANCE: f32 = 1e-4;

/// The model from its checkpoint, and from a GGUF file.
fn load(golden: &Golden, isa: Isa) -> Vec<(&'static str, CpuModel)> {
    let checkpoint = Checkpoint::open(&golden.folder).unwrap();
    let mut models = vec![("checkpoint", CpuModel::load(&checkpoint, Kernels::with_isa(isa, 2)).unwrap())];
    if let Some(bytes) = golden.gguf() {
        let file = GgufFile::from_bytes(golden.name, bytes).unwrap();
        models.push(("GGUF", CpuModel::load(&file, Kernels::with_isa(isa, 2)).unwrap()));
    }
    models
}

fn argmax(logits: &[f32]) -> TokenId {
    let best = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
    best.map(|(token, _)| token as TokenId).unwrap()
}

/// Runs `tokens` as a chain and commits them.
fn run(model: &mut CpuModel, cache: &mut <CpuModel as LanguageModel>::Cache, tokens: &[TokenId]) -> Logits {
    let tree = TokenTree::chain(tokens).unwrap();
    let mut logits = Logits::default();
    let step = SequenceStep { tree: &tree, cache, logits_of: LogitsOf::Every, keep: Keep::Row };
    model.forward(&mut [step], &mut logits).unwrap();
    model.commit(&mut [Accepted { cache, path: &tree.path_to(tree.len() - 1) }]);
    logits
}

#[test]
fn logits_of_every_position_agree_with_the_reference() {
    let mut differing = Vec::new();
    for name in Golden::NAMES {
        let golden = Golden::load(name);
        for isa in Isa::available() {
            for (form, model) in load(&golden, isa) {
                let mut model = model.with_kv_type(KvType::F32);
                let mut cache = model.new_cache(golden.input_ids.len());
                let logits = run(&mut model, &mut cache, &golden.input_ids);
                let expected = golden.logits.chunks(golden.vocabulary_size);
                assert_eq!(logits.rows(), expected.len());
                let mut largest = 0.0f32;
                let mut all_best = true;
                for (position, expected) in expected.enumerate() {
                    let found = logits.row(position);
                    for error in found.iter().zip(expected).map(|(a, b)| (a - b).abs()) {
                        // What is no number is larger than any.
                        largest = if error <= largest { largest } else { error };
                    }
                    all_best &= argmax(found) == golden.argmax[position];
                }
                let line = format!("{name}, {form}, {}: largest error {largest:e}", isa.name());
                println!("{line}");
                let agrees = largest <= TOLERANCE && all_best;
                if !agrees {
                    differing.push(line);
                }
            }
        }
    }
    assert!(differing.is_empty(), "{differing:#?}");
}

#[test]
fn greedy_continuations_agree_with_the_reference() {
    for name in Golden::NAMES {
        let golden = Golden::load(name);
        for (form, model) in load(&golden, Isa::detect()) {
            let mut model = model.with_kv_type(KvType::F32);
            let mut cache = model.new_cache(golden.input_ids.len() + golden.greedy.len());
            let prompt = run(&mut model, &mut cache, &golden.input_ids);
            let mut next = argmax(prompt.row(prompt.rows() - 1));
            let mut continuation = vec![next];
            while continuation.len() < golden.greedy.len() {
                next = argmax(run(&mut model, &mut cache, &[next]).row(0));
                continuation.push(next);
            }
            assert_eq!(continuation, golden.greedy, "{name}, {form}");
        }
    }
}
