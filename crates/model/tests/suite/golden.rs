//! Logits against Hugging Face transformers, and against NumPy where it has no code: tiny random-weight models in float32, from checkpoints and from GGUF files.

use lookahead_fixtures::Golden;
use lookahead_kernels::{Isa, Kernels, KvType, WeightType};
use lookahead_model::gguf::{GgufFile, Writer};
use lookahead_model::{
    Accepted, Checkpoint, CpuModel, Keep, LanguageModel, Logits, LogitsOf, SequenceStep, TokenId, TokenTree,
};

/// Sums are ordered differently, nothing else.
const TOLERANCE: f32 = 1e-4;

/// The model from its checkpoint, and from a GGUF file.
fn load(golden: &Golden) -> Vec<(&'static str, CpuModel)> {
    let checkpoint = Checkpoint::open(&golden.folder).unwrap();
    let mut models = vec![("checkpoint", CpuModel::load(&checkpoint, Kernels::new(2)).unwrap())];
    if let Some(bytes) = golden.gguf() {
        let file = GgufFile::from_bytes(golden.name, bytes).unwrap();
        models.push(("GGUF", CpuModel::load(&file, Kernels::new(2)).unwrap()));
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
        for (form, model) in load(&golden) {
            let model = model.with_kv_type(KvType::F32);
            for isa in Isa::available() {
                let mut model = model.with_kernels(Kernels::with_isa(isa, 2));
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
        for (form, model) in load(&golden) {
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

/// The file with queries and experts as NVFP4, whose blocks have the same scales times 2 to the power of `-less` of the expert, and where that is
/// not 1 its inverse as a tensor beside.
fn with_nvfp4(file: &GgufFile, less: &[u8]) -> GgufFile {
    let mut writer = Writer::new("nvfp4");
    for (key, value) in file.metadata().iter() {
        writer.metadata(key, value.clone());
    }
    for info in file.tensors() {
        let experts = match info.name.as_str() {
            name if name.ends_with("_exps.weight") => 4,
            name if name.ends_with("attn_q.weight") => 1,
            name => {
                let bytes = file.require(name).unwrap().bytes;
                writer.tensor(name, info.weight_type, &info.shape, bytes).unwrap();
                continue;
            }
        };
        let blocks = info.rows() * info.columns() / WeightType::Nvfp4.block_weights();
        let block = |index: usize| {
            let exponent = 5 - less.get(index * experts / blocks).unwrap_or(&0);
            let scales = (0..4).map(move |i| exponent << 3 | ((index + 3 * i) % 8) as u8);
            scales.chain((0..32).map(move |i| (index * 31 + i * 89) as u8))
        };
        let bytes: Vec<u8> = (0..blocks).flat_map(block).collect();
        writer.tensor(info.name.as_str(), WeightType::Nvfp4, &info.shape, bytes).unwrap();
        if !less.is_empty() {
            let less = if experts == 1 { &less[..1] } else { less };
            let scales = less.iter().flat_map(|&less| f32::from(1u8 << less).to_le_bytes());
            let (name, scales) = (info.name.replace(".weight", ".scale"), scales.collect::<Vec<_>>());
            writer.tensor(name, WeightType::F32, &[less.len() as u64], scales).unwrap();
        }
    }
    GgufFile::from_bytes("nvfp4", writer.to_bytes()).unwrap()
}

#[test]
fn scales_beside_nvfp4_weights_multiply_them() {
    let golden = Golden::load("mixtral");
    let file = GgufFile::from_bytes("mixtral", golden.gguf().unwrap()).unwrap();
    let logits = |less: &[u8]| {
        let mut model = CpuModel::load(&with_nvfp4(&file, less), Kernels::new(2)).unwrap();
        let mut cache = model.new_cache(golden.input_ids.len());
        let logits = run(&mut model, &mut cache, &golden.input_ids);
        (0..logits.rows()).map(|row| logits.row(row).to_vec()).collect::<Vec<_>>()
    };
    let expected = logits(&[]);
    assert!(expected.iter().flatten().all(|logit| logit.is_finite()));
    // Powers of two round nothing.
    assert_eq!(logits(&[2, 0, 3, 4]), expected);
    for less in [&[1, 1][..], &[0; 3], &[0; 8]] {
        let refused = CpuModel::load(&with_nvfp4(&file, less), Kernels::new(1)).unwrap_err().to_string();
        assert!(refused.contains("_exps.scale") && refused.contains("1 x 4"), "{refused}");
    }
}
