//! Models on a GPU: every logit of theirs has the CPU's bits, for chunks of prompts, trees, batches, forks, whatever is kept of a row. Where
//! there is no GPU, not even one in software, the tests say so and pass.

use std::sync::{Arc, OnceLock};

use lookahead_fixtures::{Golden, TinyModel, tiny_model};
use lookahead_gpu::{Gpu, GpuError, choose};
use lookahead_kernels::{Kernels, KvType, WeightType};
use lookahead_model::gguf::GgufFile;
use lookahead_model::{
    Accepted, Cache as _, Checkpoint, CpuModel, GpuCache, GpuModel, GpuModelError, Keep, LanguageModel,
    Logits, LogitsOf, SequenceStep, TokenId, TokenTree, gpu_fit,
};
use proptest::prelude::*;

fn gpu() -> Option<Arc<Gpu>> {
    static GPU: OnceLock<Option<Arc<Gpu>>> = OnceLock::new();
    let gpu = GPU.get_or_init(|| match choose(None) {
        Ok(listing) => Some(Arc::new(Gpu::open(&listing).unwrap())),
        Err(error @ GpuError::NoAdapter) => {
            eprintln!("nothing is tested: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    });
    gpu.clone()
}

/// A pass of a script: for each sequence a chain or a tree, and what becomes of it.
#[derive(Clone, Debug)]
struct Pass {
    trees: Vec<TokenTree>,
    keep: Keep,
    /// Of the last node of which path is committed, for each sequence.
    committed: Vec<usize>,
}

/// The bits of all that a model says to a script, whose first pass is a prompt in two chunks; `fork` says after which pass a second
/// sequence begins with what the first has by then.
fn run<M: LanguageModel>(model: &mut M, prompt: &[TokenId], passes: &[Pass], fork: usize) -> Vec<Vec<u32>> {
    let mut caches = vec![model.new_cache(400)];
    let mut logits = Logits::default();
    let mut said = Vec::new();
    let (first, second) = prompt.split_at(prompt.len() / 2);
    for (chunk, logits_of) in [(first, LogitsOf::Nothing), (second, LogitsOf::Last)] {
        let tree = TokenTree::chain(chunk).unwrap();
        let step = SequenceStep { tree: &tree, cache: &mut caches[0], logits_of, keep: Keep::Row };
        model.forward(&mut [step], &mut logits).unwrap();
        let path: Vec<u32> = (0..chunk.len() as u32).collect();
        model.commit(&mut [Accepted { cache: &mut caches[0], path: &path }]);
    }
    said.push(bits(&logits, 0));
    for (number, pass) in passes.iter().enumerate() {
        if number == fork {
            let len = caches[0].len();
            caches.push(caches[0].fork(len, 400));
        }
        let mut batch: Vec<_> = caches
            .iter_mut()
            .zip(&pass.trees)
            .map(|(cache, tree)| SequenceStep { tree, cache, logits_of: LogitsOf::Every, keep: pass.keep })
            .collect();
        model.forward(&mut batch, &mut logits).unwrap();
        said.extend((0..logits.rows()).map(|row| bits(&logits, row)));
        let paths: Vec<_> = pass
            .trees
            .iter()
            .zip(&pass.committed)
            .map(|(tree, node)| tree.path_to(node % tree.len()))
            .collect();
        let accepted = caches.iter_mut().zip(&paths);
        let mut accepted: Vec<_> = accepted.map(|(cache, path)| Accepted { cache, path }).collect();
        model.commit(&mut accepted);
    }
    said
}

fn bits(logits: &Logits, row: usize) -> Vec<u32> {
    match logits.best(row) {
        Some(best) => {
            best.iter().flat_map(|candidate| [candidate.token, candidate.logit.to_bits()]).collect()
        }
        None => logits.row(row).iter().map(|logit| logit.to_bits()).collect(),
    }
}

fn tree() -> impl Strategy<Value = TokenTree> {
    prop::collection::vec((any::<u32>(), 0..256u32), 1..14).prop_map(|seeds| {
        let parents = seeds.iter().enumerate().map(|(node, (seed, _))| seed % (node.max(1) as u32)).collect();
        TokenTree::new(seeds.iter().map(|seed| seed.1).collect(), parents).unwrap()
    })
}

fn pass() -> impl Strategy<Value = Pass> {
    let keep = prop_oneof![Just(Keep::Row), (1usize..5).prop_map(Keep::Best), Just(Keep::Best(70))];
    (prop::collection::vec(tree(), 2), keep, prop::collection::vec(0usize..64, 2))
        .prop_map(|(trees, keep, committed)| Pass { trees, keep, committed })
}

/// A simple script, for tests of many models.
fn short_script() -> (Vec<TokenId>, Vec<Pass>) {
    let tree =
        |tokens: &[TokenId], parents: &[u32]| TokenTree::new(tokens.to_vec(), parents.to_vec()).unwrap();
    let passes = [
        Pass {
            trees: vec![tree(&[7, 8, 9, 10, 11, 12], &[0, 0, 0, 1, 2, 4])],
            keep: Keep::Row,
            committed: vec![5],
        },
        Pass {
            trees: vec![tree(&[20, 21], &[0, 0]), tree(&[22], &[0])],
            keep: Keep::Best(3),
            committed: vec![1, 0],
        },
    ];
    ((1..40).map(|i| i * 37 % 251).collect(), passes.into())
}

/// Loads the same model twice, and compares what it says on both.
fn check(
    load: impl Fn() -> CpuModel,
    gpu_layers: Option<usize>,
    prompt: &[TokenId],
    passes: &[Pass],
    what: &str,
) -> Result<(), TestCaseError> {
    let Some(gpu) = gpu() else { return Ok(()) };
    let mut on_gpu = GpuModel::new(load(), gpu, gpu_layers).unwrap();
    let expected = run(&mut load(), prompt, passes, 1);
    let found = run(&mut on_gpu, prompt, passes, 1);
    prop_assert!(found == expected, "{what}");
    // With room for the logits of two nodes at once.
    let vocabulary = on_gpu.vocabulary_size();
    let mut on_gpu = on_gpu.with_logit_room(2 * vocabulary);
    let found = run(&mut on_gpu, prompt, passes, 1);
    prop_assert!(found == expected, "{what}, logits in parts");
    Ok(())
}

#[test]
fn golden_models_have_the_bits_of_the_cpu() {
    let Some(gpu) = gpu() else { return };
    let (prompt, passes) = short_script();
    let (mut whole, mut parted) = (0, 0);
    for name in Golden::NAMES {
        let load = || golden(name, None);
        let expected = run(&mut load(), &prompt, &passes, 1);
        // All layers on the GPU, and half of them.
        let layers = load().architecture().layers.len();
        for (gpu_layers, computed) in [(None, &mut whole), (Some(layers / 2), &mut parted)] {
            match GpuModel::new(load(), Arc::clone(&gpu), gpu_layers) {
                Ok(mut on_gpu) => {
                    *computed += 1;
                    let found = run(&mut on_gpu, &prompt, &passes, 1);
                    assert!(found == expected, "{name}, {gpu_layers:?} layers: logits differ from the CPU's");
                }
                Err(GpuModelError::NotParted { .. }) if gpu_layers.is_some() => {}
                Err(error) => panic!("{name}: {error}"),
            }
        }
    }
    assert!(whole == Golden::NAMES.len() && parted >= 70, "{whole} golden models ran, {parted} in parts");
}

#[test]
fn quantized_models_with_latent_attention_or_several_streams_have_the_bits_of_the_cpu() {
    let (prompt, passes) = short_script();
    // With queries of two maps and of one, with gates; with inputs of each layer.
    for name in ["deepseek-v2", "deepseek-v2-lite", "ling-3", "gemma3n", "gemma4"] {
        let load = || golden(name, Some(WeightType::Q8_0));
        check(load, None, &prompt, &passes, name).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn quantized_models_have_the_bits_of_the_cpu_whatever_is_drafted(
        architecture in prop::sample::select(vec!["llama", "qwen2", "gemma3"]),
        weight_type in prop::sample::select(WeightType::ALL.to_vec()),
        kv_type in prop::sample::select(KvType::ALL.to_vec()),
        prompt in prop::collection::vec(0..256u32, 2..150),
        passes in prop::collection::vec(pass(), 3),
        gpu_layers in prop_oneof![Just(None), Just(Some(1))],
    ) {
        let load = || {
            let tiny = TinyModel { architecture, weight_type, ..TinyModel::default() };
            let file = GgufFile::from_bytes("tiny", tiny_model(&tiny)).unwrap();
            CpuModel::load(&file, Kernels::new(1)).unwrap().with_kv_type(kv_type)
        };
        check(load, gpu_layers, &prompt, &passes, &format!("{architecture} in {weight_type}"))?;
    }
}

#[test]
fn a_context_of_several_chunks_has_the_bits_of_the_cpu() {
    let (_, passes) = short_script();
    let prompt: Vec<TokenId> = (0..380).map(|i| i * 91 % 256).collect();
    check(tiny_llama, None, &prompt, &passes, "a long prompt").unwrap();
}

#[test]
fn a_tree_of_128_nodes_has_the_bits_of_the_cpu() {
    let (prompt, mut passes) = short_script();
    // Every third node begins a branch further up.
    let parents = (0..128u32).map(|node| if node % 3 == 0 { node / 2 } else { node - 1 });
    let tokens = (0..128).map(|node| node * 53 % 256);
    passes[0].trees = vec![TokenTree::new(tokens.collect(), parents.collect()).unwrap()];
    passes[0].committed = vec![127];
    check(tiny_llama, None, &prompt, &passes, "a large tree").unwrap();
}

#[test]
fn caches_of_both_devices_are_counted_together_and_forked_at_the_same_length() {
    let Some(gpu) = gpu() else { return };
    let on_gpu = GpuModel::new(tiny_llama(), gpu, Some(1)).unwrap();
    let on_cpu = tiny_llama();
    let layers = on_cpu.architecture().layers.len();
    assert!(layers > 1 && on_gpu.gpu_layers() == 1);
    let token_bytes = on_gpu.cache_memory().token_bytes;
    let on_gpu = on_gpu.with_kv_memory(3 * 64 * token_bytes).unwrap();
    let memory = on_gpu.cache_memory();
    assert_eq!((memory.total_bytes, memory.used_bytes), (3 * 64 * token_bytes, 0));

    let mut on_gpu = on_gpu;
    let mut cache = on_gpu.new_cache(192);
    let prompt: Vec<TokenId> = (0..100).collect();
    let tree = TokenTree::chain(&prompt).unwrap();
    step(&mut on_gpu, &mut cache, &tree);
    let path: Vec<u32> = (0..100).collect();
    on_gpu.commit(&mut [Accepted { cache: &mut cache, path: &path }]);
    assert_eq!(on_gpu.cache_memory().used_bytes, 2 * 64 * token_bytes);
    // The page that is not full is copied on both.
    let fork = cache.fork(90, 192);
    assert_eq!((fork.len(), on_gpu.cache_memory().used_bytes), (90, 3 * 64 * token_bytes));
    // For another copy there is no memory: the fork begins with the full page.
    assert_eq!(cache.fork(90, 192).len(), 64);
    assert!(cache.reserve(0, 64).is_err(), "all is taken");
    assert_eq!(on_gpu.cache_memory().used_bytes, 3 * 64 * token_bytes, "what fails takes nothing");
    drop((cache, fork));
    assert_eq!(on_gpu.cache_memory().used_bytes, 0);
}

#[test]
fn what_is_reserved_is_there_on_both_devices() {
    let Some(gpu) = gpu() else { return };
    for short in [0, 1] {
        let model = GpuModel::new(golden("granite-hybrid", None), Arc::clone(&gpu), None).unwrap();
        let memory = model.cache_memory();
        let page_bytes = 64 * memory.token_bytes;
        assert!(page_bytes <= 16 * memory.node_bytes, "what nodes feed in could make room for a page");
        let bytes = memory.state_bytes + 16 * memory.node_bytes + page_bytes - short;
        let model = model.with_kv_memory(bytes).unwrap();
        let mut cache = model.new_cache(64);
        assert_eq!(cache.reserve(0, 16).is_ok(), short == 0, "{short} bytes too few");
    }
}

#[test]
fn what_fits_a_gpu_is_as_many_layers_as_its_memory_has_room_for() {
    let model = tiny_llama();
    let whole = gpu_fit(&model, None);
    assert_eq!((whole.fitting, whole.layers), (2, 2));
    let memory = |bytes: u64| bytes * 16 / 15 + 16;
    let context = model.context_length().min(4096).next_multiple_of(64) as u64;
    let needed = whole.weight_bytes + context * whole.token_bytes;
    assert_eq!(gpu_fit(&model, Some(memory(needed))), whole);
    let fewer = gpu_fit(&model, Some(memory(needed - 100)));
    assert_eq!(fewer.fitting, 1);
    assert!(fewer.weight_bytes < whole.weight_bytes && fewer.token_bytes == whole.token_bytes / 2);
    assert_eq!(gpu_fit(&model, Some(1000)).fitting, 0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn mixtures_of_experts_have_the_bits_of_the_cpu_whatever_is_drafted(
        // With a gated shared expert; weights on inputs; learned scales; biases; groups.
        name in prop::sample::select(vec!["qwen2-moe", "llama4", "gemma4-moe", "gpt-oss", "glm4-moe"]),
        quantize in prop::sample::select(vec![None, Some(WeightType::Q8_0), Some(WeightType::Q4_0)]),
        prompt in prop::collection::vec(0..256u32, 2..150),
        passes in prop::collection::vec(pass(), 3),
        gpu_layers in prop_oneof![Just(None), Just(Some(1))],
    ) {
        let load = || golden(name, quantize);
        check(load, gpu_layers, &prompt, &passes, &format!("{name} in {quantize:?}"))?;
    }
}

fn golden(name: &'static str, quantize: Option<WeightType>) -> CpuModel {
    let checkpoint = Checkpoint::open(Golden::load(name).folder).unwrap();
    CpuModel::load_quantized(&checkpoint, Kernels::new(1), quantize).unwrap()
}

fn tiny_llama() -> CpuModel {
    let tiny = TinyModel { architecture: "llama", weight_type: WeightType::Q8_0, ..TinyModel::default() };
    CpuModel::load(&GgufFile::from_bytes("tiny", tiny_model(&tiny)).unwrap(), Kernels::new(1)).unwrap()
}

/// Runs a tree behind what is committed and returns the bits of all logits.
fn step<M: LanguageModel>(model: &mut M, cache: &mut M::Cache, tree: &TokenTree) -> Vec<Vec<u32>> {
    let mut logits = Logits::default();
    let step = SequenceStep { tree, cache, logits_of: LogitsOf::Every, keep: Keep::Row };
    model.forward(&mut [step], &mut logits).unwrap();
    (0..logits.rows()).map(|row| bits(&logits, row)).collect()
}

/// Nodes that are too many for a pass.
const TOO_MANY: usize = 70_000;

#[test]
fn a_pass_that_is_too_large_says_so_and_leaves_other_caches_as_they_are() {
    check_too_large(tiny_llama);
    // Its passes run in parts.
    check_too_large(|| golden("mixtral", None));
}

fn check_too_large(load: impl Fn() -> CpuModel) {
    let Some(gpu) = gpu() else { return };
    let mut on_gpu = GpuModel::new(load(), gpu, None).unwrap();
    assert!(on_gpu.pass_nodes() < TOO_MANY);
    let token_bytes = on_gpu.cache_memory().token_bytes;
    on_gpu = on_gpu.with_kv_memory((TOO_MANY + 1000) * token_bytes).unwrap();
    let mut on_cpu = load();
    let tree = TokenTree::new(vec![7, 8, 9, 10, 11, 12], vec![0, 0, 0, 1, 2, 4]).unwrap();
    let (mut cache, mut expected_cache) = (on_gpu.new_cache(100), on_cpu.new_cache(100));
    assert!(step(&mut on_gpu, &mut cache, &tree) == step(&mut on_cpu, &mut expected_cache, &tree));
    // Rows are moved, which nothing may prevent.
    let path = tree.path_to(5);
    on_gpu.commit(&mut [Accepted { cache: &mut cache, path: &path }]);
    on_cpu.commit(&mut [Accepted { cache: &mut expected_cache, path: &path }]);

    let chain = TokenTree::chain(&vec![3; TOO_MANY]).unwrap();
    let mut large = on_gpu.new_cache(TOO_MANY);
    let (logits_of, keep) = (LogitsOf::Nothing, Keep::Row);
    let too_large = SequenceStep { tree: &chain, cache: &mut large, logits_of, keep };
    let error = on_gpu.forward(&mut [too_large], &mut Logits::default()).unwrap_err();
    assert!(error.to_string().contains("--prefill-chunk"), "{error}");
    drop(large);

    assert!(step(&mut on_gpu, &mut cache, &tree) == step(&mut on_cpu, &mut expected_cache, &tree));
}

#[test]
fn a_sequence_whose_states_were_lost_with_a_pass_does_not_go_on() {
    let Some(gpu) = gpu() else { return };
    let model = GpuModel::new(golden("mamba2", None), gpu, None).unwrap();
    // Its rows take nothing: all is for states.
    let mut model = model.with_kv_memory(1 << 20).unwrap();
    assert_eq!(model.cache_memory().total_bytes, 1 << 20);
    let mut cache = model.new_cache(TOO_MANY + 10);
    let tree = TokenTree::chain(&[1, 2, 3]).unwrap();
    step(&mut model, &mut cache, &tree);
    model.commit(&mut [Accepted { cache: &mut cache, path: &[0, 1, 2] }]);
    let fork = cache.fork(3, 20);

    let chain = TokenTree::chain(&vec![3; TOO_MANY]).unwrap();
    let mut forward = |cache: &mut GpuCache, tree: &TokenTree| {
        let step = SequenceStep { tree, cache, logits_of: LogitsOf::Nothing, keep: Keep::Row };
        model.forward(&mut [step], &mut Logits::default())
    };
    assert!(forward(&mut cache, &chain).unwrap_err().to_string().contains("--prefill-chunk"));
    assert!(forward(&mut cache, &tree).unwrap_err().to_string().contains("begin it again"));
    let mut fork = fork;
    forward(&mut fork, &tree).unwrap();
}

#[test]
fn caches_take_no_more_than_their_bound() {
    let Some(gpu) = gpu() else { return };
    let model = GpuModel::new(tiny_llama(), Arc::clone(&gpu), None).unwrap();
    let page_bytes = 64 * model.cache_memory().token_bytes;
    let model = model.with_kv_memory(3 * page_bytes + 1).unwrap();
    assert_eq!(model.cache_memory().total_bytes, 3 * page_bytes);
    let [mut first, mut second] = [0, 1].map(|_| model.new_cache(1000));
    assert!(first.reserve(0, 128).is_ok() && second.reserve(0, 128).is_err());
    drop(first);
    assert!(second.reserve(0, 192).is_ok());
    assert!(matches!(model.with_kv_memory(page_bytes - 1), Err(GpuModelError::NoPage { .. })));
    let model = GpuModel::new(tiny_llama(), gpu, Some(1)).unwrap();
    let Err(GpuModelError::NoRoom { bytes, most_bytes, .. }) = model.with_kv_memory(1 << 60) else {
        panic!("more than any GPU has");
    };
    assert_eq!(bytes, 1 << 60);
    let model = GpuModel::new(tiny_llama(), self::gpu().unwrap(), Some(1)).unwrap();
    assert_eq!(model.with_kv_memory(most_bytes).unwrap().cache_memory().total_bytes, most_bytes);
}
