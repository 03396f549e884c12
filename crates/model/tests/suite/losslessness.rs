//! The contract of the forward pass: a token's logits are a function of the tokens at and before it, to the last bit,
//! however the work is cut.

use lookahead_fixtures::{Golden, TinyModel, tiny_model};
use lookahead_kernels::{Kernels, KvType, WeightType};
use lookahead_model::gguf::GgufFile;
use lookahead_model::{
    Accepted, Cache, Candidate, Checkpoint, CpuModel, ForwardError, Keep, KvCache, LanguageModel, Logits,
    LogitsOf, SequenceStep, TokenId, TokenTree,
};
use proptest::prelude::*;

const LOGITS_OF: [LogitsOf; 3] = [LogitsOf::Nothing, LogitsOf::Last, LogitsOf::Every];
/// The golden models' vocabulary; that of the tiny ones is larger.
const VOCABULARY: TokenId = 256;

/// A model of random weights.
#[derive(Clone, Copy, Debug)]
enum Weights {
    /// Of a GGUF file: the architecture, and the type of its weights.
    Gguf(&'static str, WeightType),
    /// The same with values twice as wide as keys.
    WideValues(&'static str, WeightType),
    /// Of a golden checkpoint, one of each family: as it is, in single precision, or made into another type.
    Golden(&'static str, Option<WeightType>),
}

fn weights() -> impl Strategy<Value = Weights> {
    let gguf = (
        prop::sample::select(vec!["llama", "qwen2", "gemma3", "qwen35"]),
        prop::sample::select(WeightType::ALL.to_vec()),
    );
    let types = WeightType::WRITABLE.map(Some).into_iter().chain([None]).collect::<Vec<_>>();
    let golden = (prop::sample::select(Golden::NAMES.to_vec()), prop::sample::select(types));
    prop_oneof![
        4 => gguf.clone().prop_map(|(architecture, weight_type)| Weights::Gguf(architecture, weight_type)),
        1 => gguf.prop_map(|(architecture, weight_type)| Weights::WideValues(architecture, weight_type)),
        5 => golden.prop_map(|(name, quantize)| Weights::Golden(name, quantize)),
    ]
}

fn model(weights: Weights, threads: usize) -> CpuModel {
    let tiny = |tiny: &TinyModel| {
        let file = GgufFile::from_bytes("tiny", tiny_model(tiny)).unwrap();
        CpuModel::load(&file, Kernels::new(threads)).unwrap()
    };
    match weights {
        Weights::Gguf(architecture, weight_type) => {
            tiny(&TinyModel { architecture, weight_type, ..TinyModel::default() })
        }
        Weights::WideValues(architecture, weight_type) => {
            tiny(&TinyModel { architecture, weight_type, value_dim: 128, ..TinyModel::default() })
        }
        Weights::Golden(name, quantize) => {
            let checkpoint = Checkpoint::open(Golden::load(name).folder).unwrap();
            CpuModel::load_quantized(&checkpoint, Kernels::new(threads), quantize).unwrap()
        }
    }
}

/// Bits of the logits after each token, one token a pass.
fn plain(model: &mut CpuModel, tokens: &[TokenId]) -> Vec<Vec<u32>> {
    let mut cache = model.new_cache(tokens.len());
    plain_behind(model, &mut cache, tokens)
}

/// As [`plain`], behind what `cache` holds.
fn plain_behind(model: &mut CpuModel, cache: &mut KvCache, tokens: &[TokenId]) -> Vec<Vec<u32>> {
    let mut logits = Logits::default();
    tokens
        .iter()
        .map(|&token| {
            let tree = TokenTree::chain(&[token]).unwrap();
            let step =
                SequenceStep { tree: &tree, cache: &mut *cache, logits_of: LogitsOf::Last, keep: Keep::Row };
            model.forward(&mut [step], &mut logits).unwrap();
            model.commit(&mut [Accepted { cache: &mut *cache, path: &[0] }]);
            bits(logits.row(0))
        })
        .collect()
}

fn bits(logits: &[f32]) -> Vec<u32> {
    logits.iter().map(|value| value.to_bits()).collect()
}

/// A random tree over random tokens.
fn tree(seeds: &[(u32, TokenId)]) -> TokenTree {
    let parents = seeds.iter().enumerate().map(|(node, (seed, _))| seed % (node.max(1) as u32)).collect();
    TokenTree::new(seeds.iter().map(|seed| seed.1).collect(), parents).unwrap()
}

fn tokens_of(tree: &TokenTree, path: &[u32]) -> Vec<TokenId> {
    path.iter().map(|&node| tree.tokens()[node as usize]).collect()
}

fn tokens(len: std::ops::Range<usize>) -> impl Strategy<Value = Vec<TokenId>> {
    prop::collection::vec(0..VOCABULARY, len)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 240, ..ProptestConfig::default() })]

    /// Prefill in two chunks, a random tree, a random path of it kept, then another tree.
    #[test]
    fn tree_logits_are_those_of_plain_decoding_to_the_last_bit(
        weights in weights(),
        kv_type in prop::sample::select(KvType::ALL.to_vec()),
        threads in 1usize..4,
        prompt in tokens(2..40),
        cut in 1usize..40,
        seeds in prop::collection::vec((any::<u32>(), 0..VOCABULARY), 1..24),
        kept in any::<prop::sample::Index>(),
        next_seeds in prop::collection::vec((any::<u32>(), 0..VOCABULARY), 1..8),
    ) {
        let mut model = model(weights, threads).with_kv_type(kv_type);
        let mut cache = model.new_cache(128);
        let mut logits = Logits::default();
        for chunk in [&prompt[..cut.min(prompt.len())], &prompt[cut.min(prompt.len())..]] {
            let Ok(tree) = TokenTree::chain(chunk) else { continue };
            let step = SequenceStep { tree: &tree, cache: &mut cache, logits_of: LogitsOf::Nothing, keep: Keep::Row };
            model.forward(&mut [step], &mut logits).unwrap();
            let path = tree.path_to(tree.len() - 1);
            model.commit(&mut [Accepted { cache: &mut cache, path: &path }]);
        }
        let mut plain_cache = model.new_cache(128);
        plain_behind(&mut model, &mut plain_cache, &prompt);
        for (round, tree) in [tree(&seeds), tree(&next_seeds)].iter().enumerate() {
            let step = SequenceStep { tree, cache: &mut cache, logits_of: LogitsOf::Every, keep: Keep::Row };
            model.forward(&mut [step], &mut logits).unwrap();
            for node in 0..tree.len() {
                let path = tokens_of(tree, &tree.path_to(node));
                let mut fork = plain_cache.fork(plain_cache.len(), 128);
                let expected = plain_behind(&mut model, &mut fork, &path);
                prop_assert_eq!(&bits(logits.row(node)), &expected[path.len() - 1], "round {}, node {}", round, node);
            }
            let path = tree.path_to(kept.index(tree.len()));
            model.commit(&mut [Accepted { cache: &mut cache, path: &path }]);
            plain_behind(&mut model, &mut plain_cache, &tokens_of(tree, &path));
        }
    }

    #[test]
    fn sequences_of_a_batch_do_not_see_each_other(
        weights in weights(),
        prompts in prop::collection::vec(tokens(1..20), 2..5),
    ) {
        let mut model = model(weights, 2);
        let trees: Vec<TokenTree> = prompts.iter().map(|prompt| TokenTree::chain(prompt).unwrap()).collect();
        let mut caches: Vec<_> = prompts.iter().map(|_| model.new_cache(20)).collect();
        let mut batch: Vec<_> = trees
            .iter()
            .zip(&mut caches)
            .map(|(tree, cache)| SequenceStep { tree, cache, logits_of: LogitsOf::Last, keep: Keep::Row })
            .collect();
        let mut logits = Logits::default();
        model.forward(&mut batch, &mut logits).unwrap();
        for (row, prompt) in prompts.iter().enumerate() {
            let alone = plain(&mut model, prompt);
            prop_assert_eq!(&bits(logits.row(row)), &alone[prompt.len() - 1]);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn what_is_kept_for_each_sequence_is_that_of_the_whole_rows(
        weights in weights(),
        prompts in prop::collection::vec((tokens(1..20), prop::sample::select(LOGITS_OF.to_vec())), 1..4),
        keep in prop::collection::vec(prop_oneof![Just(Keep::Row), (1usize..10).prop_map(Keep::Best)], 4),
    ) {
        let mut model = model(weights, 2);
        let trees: Vec<TokenTree> = prompts.iter().map(|(prompt, _)| TokenTree::chain(prompt).unwrap()).collect();
        let [rows, kept] = [&[Keep::Row; 4], &keep[..]].map(|keep| {
            let mut logits = Logits::default();
            let mut caches: Vec<_> = prompts.iter().map(|_| model.new_cache(20)).collect();
            let steps = trees.iter().zip(&mut caches).zip(&prompts).zip(keep);
            let steps = steps.map(|(((tree, cache), &(_, logits_of)), &keep)| {
                SequenceStep { tree, cache, logits_of, keep }
            });
            let mut batch: Vec<_> = steps.collect();
            model.forward(&mut batch, &mut logits).unwrap();
            logits
        });
        prop_assert_eq!(kept.rows(), rows.rows());
        let keeps = trees.iter().zip(&prompts).zip(&keep).flat_map(|((tree, (_, logits_of)), keep)| {
            let rows = match logits_of {
                LogitsOf::Nothing => 0,
                LogitsOf::Last => 1,
                LogitsOf::Every => tree.len(),
            };
            std::iter::repeat_n(*keep, rows)
        });
        for (row, keep) in keeps.enumerate() {
            prop_assert_eq!(rows.best(row), None);
            let Keep::Best(ranks) = keep else {
                prop_assert_eq!(bits(kept.row(row)), bits(rows.row(row)));
                continue;
            };
            let mut all: Vec<Candidate> =
                rows.row(row).iter().zip(0..).map(|(&logit, token)| Candidate { token, logit }).collect();
            all.sort_by(Candidate::by_rank);
            prop_assert_eq!(kept.best(row).unwrap(), &all[..ranks]);
        }
    }
}

#[test]
fn what_cannot_run_is_refused_and_changes_nothing() {
    let mut model = model(Weights::Gguf("llama", WeightType::F32), 1);
    let mut cache = model.new_cache(4);
    let mut logits = Logits::default();
    let attempt = |model: &mut CpuModel, logits: &mut Logits, cache: &mut _, tokens: &[TokenId]| {
        let tree = TokenTree::chain(tokens).unwrap();
        model.forward(
            &mut [SequenceStep { tree: &tree, cache, logits_of: LogitsOf::Last, keep: Keep::Row }],
            logits,
        )
    };
    assert_eq!(attempt(&mut model, &mut logits, &mut cache, &[1, 2, 3]), Ok(()));
    model.commit(&mut [Accepted { cache: &mut cache, path: &[0, 1, 2] }]);
    let mut attempt = |cache: &mut _, tokens: &[TokenId]| attempt(&mut model, &mut logits, cache, tokens);
    assert_eq!(
        attempt(&mut cache, &[1, 2]),
        Err(ForwardError::CacheFull { capacity: 4, committed: 3, new: 2 })
    );
    let unknown = ForwardError::UnknownToken { token: 512, vocabulary_size: 512 };
    assert_eq!(attempt(&mut cache, &[512]), Err(unknown));
    assert_eq!(cache.len(), 3);
    assert_eq!(attempt(&mut cache, &[1]), Ok(()));
}

#[test]
fn a_decode_step_allocates_nothing() {
    let gguf = ["llama", "qwen2", "gemma3", "qwen35"]
        .map(|architecture| Weights::Gguf(architecture, WeightType::Q4K));
    let wide = [Weights::WideValues("llama", WeightType::Q8_0)];
    let golden = Golden::NAMES.map(|name| Weights::Golden(name, None));
    for (weights, keep) in gguf
        .into_iter()
        .chain(wide)
        .chain(golden)
        .zip([Keep::Row, Keep::Best(1), Keep::Best(8)].into_iter().cycle())
    {
        let mut model = model(weights, 1);
        let mut cache = model.new_cache(100);
        let mut logits = Logits::default();
        let mut step = |cache: &mut KvCache, tree: &TokenTree, path: &[u32]| {
            let step = SequenceStep { tree, cache, logits_of: LogitsOf::Every, keep };
            model.forward(&mut [step], &mut logits).unwrap();
            model.commit(&mut [Accepted { cache, path }]);
        };
        let prompt: Vec<TokenId> = (0..40).collect();
        let chain = TokenTree::chain(&prompt).unwrap();
        let tree = tree(&[(0, 1), (0, 2), (0, 3), (1, 4), (2, 5), (1, 6)]);
        step(&mut cache, &chain, &chain.path_to(39));
        let mut fork = cache.fork(40, 100);
        // The first step makes room, for the tree and for the positions it reaches.
        step(&mut fork, &tree, &[0, 1, 3]);
        let counted = allocation_counter::measure(|| step(&mut cache, &tree, &[0, 1, 3]));
        assert_eq!(counted.count_total, 0, "{weights:?}");
    }
}

#[test]
fn keys_and_values_have_sizes_of_their_own() {
    let usual = model(Weights::Gguf("llama", WeightType::F32), 1);
    let wide = model(Weights::WideValues("llama", WeightType::F32), 1);
    // Two layers of two heads, in half precision: keys of 64, values of 64 or 128.
    assert_eq!(usual.kv_bytes_per_token(), 2 * 2 * 2 * (64 + 64));
    assert_eq!(wide.kv_bytes_per_token(), 2 * 2 * 2 * (64 + 128));
}

#[test]
fn a_model_with_learned_positions_ends_where_they_end() {
    let mut model = model(Weights::Golden("opt", None), 1);
    assert_eq!(model.context_length(), 256);
    let mut cache = model.new_cache(300);
    let tokens = vec![3; 257];
    let mut attempt = |tokens: &[TokenId]| {
        let tree = TokenTree::chain(tokens).unwrap();
        let step =
            SequenceStep { tree: &tree, cache: &mut cache, logits_of: LogitsOf::Last, keep: Keep::Row };
        model.forward(&mut [step], &mut Logits::default())
    };
    assert_eq!(attempt(&tokens), Err(ForwardError::CacheFull { capacity: 256, committed: 0, new: 257 }));
    assert_eq!(attempt(&tokens[..256]), Ok(()));
}
