//! The pages of KV caches: shared without a difference in a single bit, bounded, and used again.

use lookahead_fixtures::{TinyModel, tiny_model};
use lookahead_kernels::{Kernels, KvType, PAGE_ROWS};
use lookahead_model::gguf::GgufFile;
use lookahead_model::{
    Accepted, Cache, CacheMemory, CpuModel, ForwardError, Keep, KvCache, LanguageModel, Logits, LogitsOf,
    OutOfCacheMemory, SequenceStep, TokenId, TokenTree,
};
use proptest::prelude::*;

const ARCHITECTURES: [&str; 3] = ["llama", "qwen2", "gemma3"];
/// The fixtures' vocabulary.
const VOCABULARY: TokenId = 512;

fn model(architecture: &'static str) -> CpuModel {
    let bytes = tiny_model(&TinyModel { architecture, ..TinyModel::default() });
    CpuModel::load(&GgufFile::from_bytes("tiny", bytes).unwrap(), Kernels::new(1)).unwrap()
}

/// A model with memory for so many pages.
fn bounded(pages: usize) -> CpuModel {
    let model = model("llama");
    let bytes = pages * PAGE_ROWS * model.kv_bytes_per_token();
    model.with_kv_memory(bytes)
}

/// Pages that the caches of `model` hold.
fn used_pages(model: &CpuModel) -> usize {
    let used = model.cache_memory().used_tokens();
    assert!(used.is_multiple_of(PAGE_ROWS));
    used / PAGE_ROWS
}

/// Text that no other `salt` has.
fn text(len: usize, salt: usize) -> Vec<TokenId> {
    (0..len).map(|i| ((i * 31 + salt * 97) % VOCABULARY as usize) as TokenId).collect()
}

fn forward(model: &mut CpuModel, cache: &mut KvCache, tokens: &[TokenId]) -> Result<Vec<u32>, ForwardError> {
    let (tree, mut logits) = (TokenTree::chain(tokens).unwrap(), Logits::default());
    model.forward(
        &mut [SequenceStep { tree: &tree, cache, logits_of: LogitsOf::Every, keep: Keep::Row }],
        &mut logits,
    )?;
    Ok((0..logits.rows()).flat_map(|row| logits.row(row)).map(|logit| logit.to_bits()).collect())
}

/// Commits `tokens` and returns the bits of all their logits.
fn feed(model: &mut CpuModel, cache: &mut KvCache, tokens: &[TokenId]) -> Vec<u32> {
    let bits = forward(model, cache, tokens).unwrap();
    let path: Vec<u32> = (0..tokens.len() as u32).collect();
    model.commit(&mut [Accepted { cache, path: &path }]);
    bits
}

/// The bits of the logits of the tokens from `from` on, in a cache of their own.
fn fresh(model: &mut CpuModel, tokens: &[TokenId], from: usize) -> Vec<u32> {
    let mut cache = model.new_cache(tokens.len());
    let bits = feed(model, &mut cache, tokens);
    bits[from * VOCABULARY as usize..].to_vec()
}

/// Lengths at both sides of the borders of pages.
const LENGTHS: [usize; 8] =
    [0, 1, PAGE_ROWS - 1, PAGE_ROWS, PAGE_ROWS + 1, 2 * PAGE_ROWS - 1, 2 * PAGE_ROWS, 2 * PAGE_ROWS + 1];

#[test]
fn a_fork_goes_on_as_a_fresh_cache_does_and_so_does_its_source() {
    for (kv_type, architecture) in KvType::ALL.into_iter().zip(ARCHITECTURES) {
        let mut model = model(architecture).with_kv_type(kv_type);
        let prompt = text(2 * PAGE_ROWS + 1, 0);
        let mut source = model.new_cache(4 * PAGE_ROWS);
        feed(&mut model, &mut source, &prompt);
        // Over the next border of a page.
        let [behind_fork, behind_source] = [1, 2].map(|salt| text(PAGE_ROWS + 2, salt));
        for len in LENGTHS {
            let mut fork = source.fork(len, 4 * PAGE_ROWS);
            assert_eq!(fork.len(), len);
            let of_fork = feed(&mut model, &mut fork, &behind_fork);
            // What is not committed goes with the next pass.
            let of_source = forward(&mut model, &mut source, &behind_source).unwrap();
            let expected = fresh(&mut model, &[&prompt[..len], &behind_fork].concat(), len);
            assert!(of_fork == expected, "{kv_type}, {len}: the fork");
            let expected = fresh(&mut model, &[&prompt[..], &behind_source].concat(), prompt.len());
            assert!(of_source == expected, "{kv_type}, {len}: its source");
        }
    }
}

/// What happens to one of several caches.
#[derive(Clone, Debug)]
enum Operation {
    /// Tokens that it goes on with, in one pass.
    Feed(usize),
    /// A tree of two branches of this length, the second of which is kept.
    Branch(usize),
    /// Its fork takes the place of one of the caches, perhaps of itself.
    Fork(prop::sample::Index, usize),
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        (1..PAGE_ROWS + 8).prop_map(Operation::Feed),
        (1usize..12).prop_map(Operation::Branch),
        (any::<prop::sample::Index>(), 0usize..3).prop_map(|(len, place)| Operation::Fork(len, place)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Caches that fork, forget and go on in any order answer as if each stood alone.
    #[test]
    fn caches_never_touch_each_others_rows(
        kv_type in prop::sample::select(KvType::ALL.to_vec()),
        architecture in prop::sample::select(ARCHITECTURES.to_vec()),
        operations in prop::collection::vec((0usize..3, operation()), 1..24),
    ) {
        let mut model = model(architecture).with_kv_type(kv_type);
        let capacity = 3 * PAGE_ROWS;
        let mut caches: Vec<(KvCache, Vec<TokenId>)> =
            (0..3).map(|_| (model.new_cache(capacity), Vec::new())).collect();
        for (salt, (index, operation)) in operations.into_iter().enumerate() {
            let (cache, context) = &mut caches[index];
            match operation {
                Operation::Feed(len) => {
                    let tokens = text(len.min(capacity - context.len()), salt);
                    if !tokens.is_empty() {
                        feed(&mut model, cache, &tokens);
                        context.extend(tokens);
                    }
                }
                Operation::Branch(len) if context.len() + 2 * len < capacity => {
                    let tokens = text(1 + 2 * len, salt);
                    let parents = (0..tokens.len() as u32).map(|node| match node {
                        0 => 0,
                        node if node as usize == len + 1 => 0,
                        node => node - 1,
                    });
                    let tree = TokenTree::new(tokens.clone(), parents.collect()).unwrap();
                    let step = SequenceStep { tree: &tree, cache, logits_of: LogitsOf::Nothing, keep: Keep::Row };
                    model.forward(&mut [step], &mut Logits::default()).unwrap();
                    let path = tree.path_to(tree.len() - 1);
                    model.commit(&mut [Accepted { cache, path: &path }]);
                    context.extend(path.iter().map(|&node| tokens[node as usize]));
                }
                Operation::Branch(_) => {}
                Operation::Fork(len, place) => {
                    let len = len.index(context.len() + 1);
                    prop_assert_eq!(cache.forkable(len), len);
                    let fork = (cache.fork(len, capacity), context[..len].to_vec());
                    caches[place] = fork;
                }
            }
        }
        for (cache, context) in &mut caches {
            prop_assert_eq!(cache.len(), context.len());
            if cache.len() < capacity {
                let found = feed(&mut model, cache, &[7]);
                context.push(7);
                let expected = fresh(&mut model, context, context.len() - 1);
                prop_assert!(found == expected, "behind {} tokens", context.len() - 1);
            }
        }
        drop(caches);
        prop_assert_eq!(used_pages(&model), 0);
    }
}

#[test]
fn full_pages_are_shared_and_the_last_one_is_copied() {
    let mut model = bounded(5);
    let half = PAGE_ROWS / 2;
    let prompt = text(PAGE_ROWS + half, 0);
    let mut source = model.new_cache(3 * PAGE_ROWS);
    feed(&mut model, &mut source, &prompt);
    let mut fork = source.fork(PAGE_ROWS + half, 3 * PAGE_ROWS);
    assert_eq!(used_pages(&model), 3, "a page that both have counts once");
    let early = source.fork(half, PAGE_ROWS);
    assert_eq!((early.forkable(PAGE_ROWS), used_pages(&model)), (half, 4));
    let (other, next) = (text(half, 1), text(3, 2));
    let found = feed(&mut model, &mut source, &other);
    assert!(found == fresh(&mut bounded(4), &[&prompt[..], &other].concat(), prompt.len()));
    let found = feed(&mut model, &mut fork, &next);
    assert!(found == fresh(&mut bounded(4), &[&prompt[..], &next].concat(), prompt.len()));
    drop((fork, early));
    assert_eq!(used_pages(&model), 2);
}

#[test]
fn memory_is_bounded_and_comes_back() {
    let mut model = bounded(3);
    let memory = |model: &CpuModel| model.cache_memory();
    let tokens = |pages: usize| pages * PAGE_ROWS;
    let token_bytes = model.kv_bytes_per_token();
    let empty = CacheMemory {
        total_bytes: tokens(3) * token_bytes,
        used_bytes: 0,
        token_bytes,
        page_tokens: PAGE_ROWS,
        state_bytes: 0,
        node_bytes: 0,
    };
    assert_eq!(memory(&model), empty);
    assert_eq!((empty.total_tokens(), empty.used_tokens()), (tokens(3), 0));
    let mut first = model.new_cache(tokens(3));
    let mut second = model.new_cache(tokens(3));
    feed(&mut model, &mut first, &text(PAGE_ROWS + 1, 0));
    assert_eq!(second.reserve(0, tokens(2)), Err(OutOfCacheMemory));
    assert_eq!(memory(&model).used_tokens(), tokens(2), "what does not suffice is not kept");
    assert_eq!(second.reserve(PAGE_ROWS - 1, 1), Ok(()));
    assert_eq!(second.reserve(PAGE_ROWS - 1, 1), Ok(()), "what is there already is not taken again");
    assert_eq!(memory(&model).used_tokens(), tokens(3));
    assert_eq!(forward(&mut model, &mut second, &text(PAGE_ROWS + 1, 1)), Err(OutOfCacheMemory.into()));
    // Nothing behind a whole page can be copied.
    assert_eq!(first.fork(PAGE_ROWS + 1, tokens(3)).len(), PAGE_ROWS);

    first = first.fork(PAGE_ROWS, tokens(3));
    assert_eq!(memory(&model).used_tokens(), tokens(2));
    let found = feed(&mut model, &mut second, &text(PAGE_ROWS + 1, 1));
    assert!(found == fresh(&mut bounded(2), &text(PAGE_ROWS + 1, 1), 0));
    drop(first);
    assert_eq!(second.reserve(usize::MAX, usize::MAX), Ok(()), "no more than its capacity");
    drop(second);
    assert_eq!(memory(&model).used_tokens(), 0);
}

#[test]
fn a_batch_that_lacks_memory_changes_nothing() {
    let mut model = bounded(3);
    let mut caches = [0; 3].map(|_| model.new_cache(3 * PAGE_ROWS));
    let starts = [0, 1, 2].map(|salt| text(3, salt));
    for (cache, start) in caches.iter_mut().zip(&starts[..2]) {
        feed(&mut model, cache, start);
    }
    // One more page for the first and one for the last: there is one.
    let trees = [PAGE_ROWS, 2, 1].map(|len| TokenTree::chain(&text(len, 5)).unwrap());
    let mut batch: Vec<_> = trees
        .iter()
        .zip(&mut caches)
        .map(|(tree, cache)| SequenceStep { tree, cache, logits_of: LogitsOf::Last, keep: Keep::Row })
        .collect();
    let mut logits = Logits::default();
    assert_eq!(model.forward(&mut batch, &mut logits), Err(OutOfCacheMemory.into()));
    assert_eq!(used_pages(&model), 2);
    // Without the first, the others run.
    model.forward(&mut batch[1..], &mut logits).unwrap();
    assert_eq!(used_pages(&model), 3);
    assert_eq!(caches.each_ref().map(KvCache::len), [3, 3, 0]);
    let found = feed(&mut model, &mut caches[0], &[9]);
    assert!(found == fresh(&mut bounded(1), &[&starts[0][..], &[9]].concat(), 3));
}

#[test]
fn a_full_cache_is_named_before_memory_is_taken() {
    let mut model = bounded(1);
    let mut cache = model.new_cache(PAGE_ROWS);
    let full = ForwardError::CacheFull { capacity: PAGE_ROWS, committed: 0, new: PAGE_ROWS + 1 };
    assert_eq!(forward(&mut model, &mut cache, &text(PAGE_ROWS + 1, 0)), Err(full));
    assert_eq!(used_pages(&model), 0);
}

#[test]
fn models_that_share_weights_share_memory_for_caches() {
    let model = bounded(2);
    let other = model.with_kernels(Kernels::new(1));
    let mut cache = model.new_cache(PAGE_ROWS);
    cache.reserve(0, 1).unwrap();
    let tokens = |model: &CpuModel| {
        let memory = model.cache_memory();
        (memory.total_tokens(), memory.used_tokens())
    };
    assert_eq!(tokens(&other), (2 * PAGE_ROWS, PAGE_ROWS));
    // Another type needs other pages: as many as the same memory holds.
    let other = other.with_kv_type(KvType::F32);
    assert_eq!(tokens(&other), (PAGE_ROWS, 0));
    assert_eq!(tokens(&self::model("llama")), (usize::MAX, 0));
}

#[test]
fn a_page_that_came_back_is_used_again_without_a_trace() {
    let mut model = bounded(1);
    let expected = fresh(&mut model, &text(20, 1), 0);
    for salt in 2..5 {
        fresh(&mut model, &text(PAGE_ROWS, salt), 0);
        assert!(fresh(&mut model, &text(20, 1), 0) == expected);
    }
}
