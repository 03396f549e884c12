//! Caches of models with recurrent layers: forks begin with snapshots, memory is bounded, and not a bit differs.

use lookahead_fixtures::{Golden, TinyModel, tiny_model};
use lookahead_kernels::{Kernels, PAGE_ROWS};
use lookahead_model::gguf::GgufFile;
use lookahead_model::{
    Accepted, Cache, Checkpoint, CpuModel, ForwardError, Keep, KvCache, LanguageModel, Logits, LogitsOf,
    OutOfCacheMemory, SequenceStep, TokenId, TokenTree,
};
use proptest::prelude::*;

/// One of each kind of recurrent layer, with and without attention.
const GOLDEN: [&str; 6] = ["falcon-h1", "jamba", "kimi-linear", "lfm2", "mamba2", "qwen3-next"];
const VOCABULARY: u32 = 256;
const CAPACITY: usize = 3 * PAGE_ROWS;

fn model(name: &'static str) -> CpuModel {
    CpuModel::load(&Checkpoint::open(Golden::load(name).folder).unwrap(), Kernels::new(1)).unwrap()
}

/// Text that no other `salt` has.
fn text(len: usize, salt: usize) -> Vec<TokenId> {
    (0..len).map(|i| (i * 31 + salt * 97) as TokenId % VOCABULARY).collect()
}

fn forward(
    model: &mut CpuModel,
    cache: &mut KvCache,
    tree: &TokenTree,
    logits_of: LogitsOf,
) -> Result<Vec<u32>, ForwardError> {
    let mut logits = Logits::default();
    model.forward(&mut [SequenceStep { tree, cache, logits_of, keep: Keep::Row }], &mut logits)?;
    Ok((0..logits.rows()).flat_map(|row| logits.row(row)).map(|logit| logit.to_bits()).collect())
}

/// Computes a part of a prompt, commits it, and returns the bits of the last token's logits.
fn feed(model: &mut CpuModel, cache: &mut KvCache, tokens: &[TokenId], logits_of: LogitsOf) -> Vec<u32> {
    let tree = TokenTree::chain(tokens).unwrap();
    let bits = forward(model, cache, &tree, logits_of).unwrap();
    model.commit(&mut [Accepted { cache, path: &tree.path_to(tokens.len() - 1) }]);
    bits
}

/// The bits of the last token's logits, one token a pass in a cache of its own.
fn fresh(model: &mut CpuModel, tokens: &[TokenId]) -> Vec<u32> {
    let mut cache = model.new_cache(tokens.len());
    tokens.iter().fold(Vec::new(), |_, &token| feed(model, &mut cache, &[token], LogitsOf::Every))
}

/// What happens to one of several caches.
#[derive(Clone, Debug)]
enum Operation {
    /// A part of a prompt, the last one or not.
    Feed(usize, bool),
    /// A tree, of which a path is kept, or nothing.
    Draft(Vec<u32>, Option<prop::sample::Index>),
    /// Its fork takes the place of one of the caches, perhaps of itself.
    Fork(prop::sample::Index, usize),
}

fn operation() -> impl Strategy<Value = Operation> {
    let kept = prop::option::of(any::<prop::sample::Index>());
    prop_oneof![
        2 => (1..PAGE_ROWS + 8, any::<bool>()).prop_map(|(len, is_last)| Operation::Feed(len, is_last)),
        2 => (prop::collection::vec(any::<u32>(), 1..12), kept).prop_map(|(seeds, kept)| Operation::Draft(seeds, kept)),
        1 => (any::<prop::sample::Index>(), 0usize..3).prop_map(|(len, place)| Operation::Fork(len, place)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    /// Caches that fork, draft, forget and go on in any order answer as if each stood alone.
    #[test]
    fn caches_never_touch_each_others_states(
        name in prop::sample::select(GOLDEN.to_vec()),
        operations in prop::collection::vec((0usize..3, operation()), 1..20),
    ) {
        let mut model = model(name);
        let mut caches: Vec<(KvCache, Vec<TokenId>)> =
            (0..3).map(|_| (model.new_cache(CAPACITY), Vec::new())).collect();
        for (salt, (index, operation)) in operations.into_iter().enumerate() {
            let (cache, context) = &mut caches[index];
            match operation {
                Operation::Feed(len, is_last) => {
                    let tokens = text(len.min(CAPACITY - context.len()), salt);
                    if !tokens.is_empty() {
                        let logits_of = if is_last { LogitsOf::Last } else { LogitsOf::Nothing };
                        feed(&mut model, cache, &tokens, logits_of);
                        context.extend(tokens);
                    }
                }
                Operation::Draft(seeds, kept) => {
                    let tokens = text(seeds.len().min(CAPACITY - context.len()), salt);
                    let parents = seeds.iter().enumerate().map(|(node, seed)| seed % node.max(1) as u32);
                    let parents = parents.take(tokens.len()).collect();
                    let Ok(tree) = TokenTree::new(tokens, parents) else { continue };
                    forward(&mut model, cache, &tree, LogitsOf::Every).unwrap();
                    if let Some(kept) = kept {
                        let path = tree.path_to(kept.index(tree.len()));
                        model.commit(&mut [Accepted { cache, path: &path }]);
                        context.extend(path.iter().map(|&node| tree.tokens()[node as usize]));
                    }
                }
                Operation::Fork(len, place) => {
                    let len = len.index(context.len() + 1);
                    let fork = cache.fork(len, CAPACITY);
                    prop_assert_eq!(fork.len(), cache.forkable(len));
                    prop_assert!(fork.len() <= len);
                    let fork = (context[..fork.len()].to_vec(), fork);
                    caches[place] = (fork.1, fork.0);
                }
            }
        }
        for (cache, context) in &mut caches {
            prop_assert_eq!(cache.len(), context.len());
            if cache.len() < CAPACITY {
                let found = feed(&mut model, cache, &[7], LogitsOf::Every);
                context.push(7);
                prop_assert!(found == fresh(&mut model, context), "behind {} tokens", context.len() - 1);
            }
        }
        drop(caches);
        prop_assert_eq!(model.cache_memory().used_bytes, 0);
    }
}

#[test]
fn a_fork_begins_at_the_end_of_a_prompt_or_with_the_last_snapshot_before() {
    let mut model = model("qwen3-next");
    let mut cache = model.new_cache(2048);
    for part in 0..5 {
        feed(&mut model, &mut cache, &text(256, part), LogitsOf::Nothing);
    }
    feed(&mut model, &mut cache, &text(20, 9), LogitsOf::Last);
    // Snapshots are one token before the ends of parts, at least 512 apart, and of the last part.
    assert_eq!([0, 511, 767, 1298, 1299, 1300].map(|len| cache.forkable(len)), [0, 0, 767, 1279, 1299, 1300]);
    for token in 0..10 {
        feed(&mut model, &mut cache, &[token], LogitsOf::Every);
    }
    assert_eq!([1298, 1300, 1308, 1310, 5000].map(|len| cache.forkable(len)), [1279, 1299, 1299, 1310, 1310]);
    let fork = cache.fork(1305, 2048);
    assert_eq!(fork.len(), 1299);
    // It has the snapshots before it as well.
    assert_eq!([1000, 1299].map(|len| fork.forkable(len)), [767, 1299]);
}

#[test]
fn states_are_within_the_bound_and_snapshots_go_first() {
    let model = model("qwen3-next");
    let (state, page) = (model.architecture().state_bytes(), PAGE_ROWS * model.kv_bytes_per_token());
    let node = model.architecture().fed_bytes_per_node();
    let mut model = model.with_kv_memory(page * 2 + state * 2 + node);
    assert!(state > page, "a state does not fit in what is left");
    let used = |model: &CpuModel| model.cache_memory().used_bytes;
    let mut cache = model.new_cache(CAPACITY);
    feed(&mut model, &mut cache, &text(20, 0), LogitsOf::Last);
    assert_eq!(used(&model), page + state + node, "the snapshot is the state itself");
    feed(&mut model, &mut cache, &[1], LogitsOf::Every);
    assert_eq!(used(&model), page + 2 * state + node);
    assert_eq!([18, 19, 20].map(|len| cache.forkable(len)), [0, 19, 20]);
    // A second sequence has no memory for a state, and takes nothing.
    let mut other = model.new_cache(CAPACITY);
    let tree = TokenTree::chain(&[1, 2]).unwrap();
    let refused = forward(&mut model, &mut other, &tree, LogitsOf::Every);
    assert_eq!(refused, Err(ForwardError::OutOfCacheMemory(OutOfCacheMemory)));
    assert_eq!(used(&model), page + 2 * state + node);
    // A fork shares what it can; to go on it needs a state of its own, and gives the snapshots up first.
    let mut fork = cache.fork(21, CAPACITY);
    assert_eq!(used(&model), 2 * page + 2 * state + node);
    assert_eq!(fork.reserve(0, 1), Err(OutOfCacheMemory));
    drop(cache);
    assert_eq!(fork.reserve(0, 1), Ok(()));
    drop((fork, other));
    assert_eq!(used(&model), 0);
}

#[test]
fn a_sequence_as_long_as_there_is_room_for_runs_with_drafts_to_its_end() {
    const NODES: usize = 64;
    let model = model("qwen3-next");
    let (memory, page) = (model.cache_memory(), PAGE_ROWS * model.kv_bytes_per_token());
    for spare in [0, page, 3 * page + 100] {
        let mut model = model.with_kernels(Kernels::new(1)).with_kv_memory(memory.least_bytes(NODES) + spare);
        let tokens = model.cache_memory().sequence_tokens(NODES);
        assert!(tokens > spare / page * PAGE_ROWS, "{tokens} tokens with {spare} bytes to spare");
        let mut cache = model.new_cache(tokens + NODES);
        for part in text(tokens / 2, 1).chunks(50) {
            feed(&mut model, &mut cache, part, LogitsOf::Last);
        }
        let mut accepted = (1..=NODES).cycle();
        while cache.len() < tokens {
            let draft = TokenTree::chain(&text(NODES, cache.len())).unwrap();
            forward(&mut model, &mut cache, &draft, LogitsOf::Every).unwrap();
            let path = draft.path_to(accepted.next().unwrap().min(tokens - cache.len()) - 1);
            model.commit(&mut [Accepted { cache: &mut cache, path: &path }]);
        }
    }
}

#[test]
fn what_drafts_feed_in_is_within_the_bound() {
    let model = model("qwen3-next");
    let (state, page) = (model.architecture().state_bytes(), PAGE_ROWS * model.kv_bytes_per_token());
    let node = model.architecture().fed_bytes_per_node();
    let mut model = model.with_kv_memory(page + state + node * 5);
    let mut cache = model.new_cache(CAPACITY);
    assert_eq!(cache.reserve(PAGE_ROWS - 5, 5), Ok(()), "a prompt's tokens feed in nothing that is kept");
    assert_eq!(model.cache_memory().used_bytes, page + state + node * 5);
    let refused = forward(&mut model, &mut cache, &TokenTree::chain(&text(6, 0)).unwrap(), LogitsOf::Every);
    assert_eq!(refused, Err(ForwardError::OutOfCacheMemory(OutOfCacheMemory)));
    // What was committed is no more than what was drafted, and makes room in the next pass.
    for salt in 0..3 {
        feed(&mut model, &mut cache, &text(5, salt), LogitsOf::Every);
    }
    assert_eq!(model.cache_memory().used_bytes, page + state + node * 5);
}

#[test]
fn a_cache_of_states_alone_does_not_grow() {
    let mut model = model("mamba2");
    assert_eq!(model.kv_bytes_per_token(), 0);
    let [state, node] = [model.architecture().state_bytes(), model.architecture().fed_bytes_per_node()];
    let mut cache = model.new_cache(CAPACITY);
    for salt in 0..2 {
        feed(&mut model, &mut cache, &text(PAGE_ROWS, salt), LogitsOf::Nothing);
        assert_eq!(model.cache_memory().used_bytes, state + node);
    }
    assert_eq!(model.cache_memory().total_tokens(), usize::MAX);
}

#[test]
#[should_panic(expected = "all of a prompt's part is committed")]
fn a_part_of_a_prompt_is_not_taken_back() {
    let bytes = tiny_model(&TinyModel { architecture: "qwen35", ..TinyModel::default() });
    let file = GgufFile::from_bytes("tiny", bytes).unwrap();
    let mut model = CpuModel::load(&file, Kernels::new(1)).unwrap();
    let mut cache = model.new_cache(10);
    forward(&mut model, &mut cache, &TokenTree::chain(&[1, 2, 3]).unwrap(), LogitsOf::Nothing).unwrap();
    model.commit(&mut [Accepted { cache: &mut cache, path: &[0] }]);
}
