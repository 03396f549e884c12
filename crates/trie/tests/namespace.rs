//! Namespaces and requests as an engine sees them.

#![allow(clippy::unwrap_used)]

use lookahead_trie::{DraftBounds, DraftTree, MIN_BYTES, Namespace, OutputSharing, RANKS, Request, TokenId};
use proptest::prelude::*;

const BOUNDS: DraftBounds = DraftBounds { nodes: 8, depth: 16, min_probability: 0.0 };

fn namespace() -> Namespace {
    Namespace::new(16 << 20).unwrap()
}

fn drafted(namespace: &Namespace, request: &mut Request) -> DraftTree {
    namespace.draft(request, BOUNDS).clone()
}

fn serve(namespace: &mut Namespace, prompt: &[TokenId], output: &[TokenId], sharing: OutputSharing) {
    let mut request = namespace.begin(prompt, sharing);
    for &token in output {
        namespace.draft(&mut request, BOUNDS);
        namespace.accept(&mut request, &[token]);
        request.keep_runners_up(&[[token; RANKS]]);
    }
    namespace.finish(request);
}

#[test]
fn a_prompt_is_never_seen_by_another_request() {
    let mut namespace = namespace();
    serve(&mut namespace, &[50, 51, 52, 53, 54], &[1, 2, 3], OutputSharing::Shared);
    let mut other = namespace.begin(&[50, 51, 52], OutputSharing::Shared);
    assert_eq!(drafted(&namespace, &mut other).tokens(), [52], "nothing follows in what is shared");
    let mut other = namespace.begin(&[1, 2], OutputSharing::Shared);
    assert!(drafted(&namespace, &mut other).tokens().contains(&3), "the output is");
}

#[test]
fn a_private_request_changes_nothing_for_others() {
    let mut touched = namespace();
    let untouched = namespace();
    serve(&mut touched, &[1, 2, 3], &[1, 2, 3, 1, 2, 3, 9, 9], OutputSharing::Private);
    for prompt in [&[1, 2][..], &[9, 9], &[4, 1, 2, 3, 1, 2]] {
        let mut requests =
            [&touched, &untouched].map(|namespace| namespace.begin(prompt, OutputSharing::Shared));
        let [a, b] = &mut requests;
        assert_eq!(drafted(&touched, a), drafted(&untouched, b));
    }
}

#[test]
fn runners_up_are_drafted_where_no_text_knows_better() {
    let namespace = namespace();
    let mut request = namespace.begin(&[5, 6], OutputSharing::Shared);
    namespace.accept(&mut request, &[7, 8]);
    request.keep_runners_up(&[[20, 21, 22, 23, 24, 25, 26, 27], [30, 31, 32, 33, 34, 35, 36, 37]]);
    namespace.accept(&mut request, &[40, 7]);
    // Behind 7 came 8 once, and the model ranked 30 to 37 there.
    let tree = drafted(&namespace, &mut request);
    let children: Vec<_> = (1..tree.len()).filter(|&node| tree.parents()[node] == 0).collect();
    let tokens: Vec<_> = children.iter().map(|&node| tree.tokens()[node]).collect();
    assert_eq!(tokens[..3], [8, 30, 31], "{tree:?}");
}

#[test]
fn a_copy_resumes_behind_a_difference() {
    let namespace = namespace();
    let prompt = [1, 2, 3, 10, 4, 5, 6, 7, 8, 1, 2, 3, 11];
    let mut request = namespace.begin(&prompt, OutputSharing::Shared);
    let tree = drafted(&namespace, &mut request);
    assert_eq!(tree.tokens()[..4], [11, 4, 5, 6], "11 was never seen, and stands where 10 did: {tree:?}");
}

#[test]
fn memory_stays_bounded_and_the_oldest_text_goes_first() {
    let max_bytes = 4 << 20;
    let mut namespace = Namespace::new(max_bytes).unwrap();
    let fixed = namespace.bytes();
    let text = |n: u32| (0..100).map(|i| (n * 7919 + i * 31) % 50_000).collect::<Vec<_>>();
    for n in 0..5_000 {
        namespace.warm_up(&text(n));
        assert!(namespace.bytes() - fixed <= max_bytes, "{n}: {}", namespace.bytes() - fixed);
    }
    let draft = |n: u32| {
        let mut request = namespace.begin(&text(n)[..20], OutputSharing::Private);
        drafted(&namespace, &mut request)
    };
    assert_eq!(draft(4_999).tokens(), &text(4_999)[19..28], "the newest is known");
    assert_ne!(draft(0).tokens(), &text(0)[19..28], "the oldest is not");
}

#[test]
fn a_bound_too_small_is_refused() {
    assert!(Namespace::new(MIN_BYTES - 1).is_err());
}

#[test]
fn probabilities_come_true() {
    // After 1 comes 2 in seven of ten cases, else 3; 4 follows both.
    let mut namespace = namespace();
    let mut seed = 1u64;
    let mut text = vec![1];
    for _ in 0..3_000 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        text.extend([if (seed >> 33) % 10 < 7 { 2 } else { 3 }, 4, 1]);
    }
    let (past, future) = text.split_at(3_000);
    namespace.warm_up(past);
    let mut request = namespace.begin(&past[2_990..], OutputSharing::Shared);
    for &token in future {
        namespace.draft(&mut request, BOUNDS);
        namespace.accept(&mut request, &[token]);
    }
    let error = request.reliability().calibration_error();
    assert!(error < 0.05, "{error}: {:?}", request.reliability());
}

proptest! {
    #[test]
    fn a_draft_is_a_tree_within_its_bounds_whatever_came_before(
        corpus in prop::collection::vec(prop::collection::vec(0u32..6, 0..80), 0..4),
        prompt in prop::collection::vec(0u32..6, 0..40),
        output in prop::collection::vec(0u32..6, 0..40),
        nodes in 0usize..40,
        depth in 0usize..8,
        min_probability in 0f32..0.3,
    ) {
        let mut namespace = namespace();
        for text in &corpus {
            namespace.warm_up(text);
        }
        let bounds = DraftBounds { nodes, depth, min_probability };
        let mut request = namespace.begin(&prompt, OutputSharing::Shared);
        for tokens in output.chunks(3) {
            let tree = namespace.draft(&mut request, bounds).clone();
            prop_assert!(tree.len() <= nodes + 1);
            // What `new` accepts is a tree whose probabilities do not rise along a branch.
            let parts = (tree.tokens().to_vec(), tree.parents().to_vec(), tree.probabilities().to_vec());
            prop_assert_eq!(DraftTree::new(parts.0, parts.1, parts.2).unwrap(), tree.clone());
            let mut depths = vec![0];
            for node in 1..tree.len() {
                let parent = tree.parents()[node] as usize;
                depths.push(depths[parent] + 1);
                prop_assert!(depths[node] <= depth);
                prop_assert!(tree.probabilities()[node] >= min_probability);
                let twin = (1..node).any(|other| {
                    tree.parents()[other] as usize == parent && tree.tokens()[other] == tree.tokens()[node]
                });
                prop_assert!(!twin, "siblings carry the same token");
            }
            namespace.accept(&mut request, tokens);
            request.keep_runners_up(&vec![[1, 2, 3, 4, 5, 6, 7, 8]; tokens.len()]);
        }
        namespace.finish(request);
    }
}
