//! Drafts as an engine sees them.

#![allow(clippy::unwrap_used)]

use std::collections::HashSet;

use lookahead_trie::{
    DraftShape, DraftSource, DraftTree, DraftTrie, MIN_BYTES, OutputSharing, RequestDrafts, RetrievalParams,
    TokenId, TrieConfig, TrieError,
};
use proptest::prelude::*;

fn trie() -> DraftTrie {
    DraftTrie::new(TrieConfig::default()).unwrap()
}

fn draft(trie: &DraftTrie, request: &mut RequestDrafts, params: &RetrievalParams) -> DraftTree {
    let mut tree = DraftTree::default();
    trie.retrieve(request, params, &mut tree);
    tree
}

/// All branches, root left out.
fn paths(tree: &DraftTree) -> Vec<Vec<TokenId>> {
    let mut paths: Vec<Vec<TokenId>> = vec![Vec::new()];
    for node in 1..tree.len() {
        let mut path = paths[tree.parents()[node] as usize].clone();
        path.push(tree.tokens()[node]);
        paths.push(path);
    }
    paths
}

const LOOSE: RetrievalParams = RetrievalParams {
    draft_length: 16,
    branch_length: 8,
    match_length: usize::MAX,
    min_probability: 0.0,
    source: DraftSource::Mixed,
    shape: DraftShape::Hierarchical,
};

#[test]
fn prompt_branches_survive_a_large_output_trie() {
    let mut trie = trie();
    // A thousand outputs that go on in 40 ways after "1 2", far more branches than the draft has nodes.
    for answer in 0..1_000 {
        trie.warm_up(&[1, 2, 100 + answer % 40, 200 + answer % 7, 300]);
    }
    let mut request = trie.begin_request(&[8, 1, 2, 50, 51, 52, 9, 1, 2], OutputSharing::Shared);
    for draft_length in [3, 8, 16] {
        let tree = draft(&trie, &mut request, &RetrievalParams { draft_length, ..LOOSE });
        assert_eq!(tree.len(), draft_length + 1);
        let paths = paths(&tree);
        assert!(paths.contains(&vec![50, 51, 52]), "{draft_length}: {paths:?}");
        if draft_length == 16 {
            assert!(paths.iter().any(|path| path.first().is_some_and(|&token| token >= 100)), "{paths:?}");
        }
    }
}

#[test]
fn sources_can_be_chosen() {
    let mut trie = trie();
    trie.warm_up(&[1, 2, 7]);
    let mut request = trie.begin_request(&[1, 2, 5, 1, 2], OutputSharing::Shared);
    let mut first_tokens = |source| {
        let tree = draft(&trie, &mut request, &RetrievalParams { source, branch_length: 1, ..LOOSE });
        tree.tokens()[1..].iter().copied().collect::<HashSet<_>>()
    };
    assert_eq!(first_tokens(DraftSource::Prompt), HashSet::from([5]));
    assert_eq!(first_tokens(DraftSource::Output), HashSet::from([7]));
    assert_eq!(first_tokens(DraftSource::Mixed), HashSet::from([5, 7]));
}

#[test]
fn a_path_that_both_sources_know_is_likelier_than_by_either() {
    let mut trie = trie();
    trie.warm_up(&[1, 2, 5]);
    let mut request = trie.begin_request(&[1, 2, 5, 1, 2], OutputSharing::Shared);
    let mut probability = |source| {
        let tree = draft(&trie, &mut request, &RetrievalParams { source, branch_length: 1, ..LOOSE });
        assert_eq!(tree.tokens(), [2, 5]);
        tree.probabilities()[1]
    };
    let (prompt, output) = (probability(DraftSource::Prompt), probability(DraftSource::Output));
    let mixed = probability(DraftSource::Mixed);
    assert!(mixed > prompt && mixed > output && mixed < 1.0, "{prompt} {output} {mixed}");
}

#[test]
fn a_longer_match_outweighs_a_shorter_one() {
    let trie = trie();
    // After "2" alone mostly 6, after "1 2" always 5.
    let prompt = [3, 2, 6, 4, 2, 6, 1, 2, 5, 0, 1, 2, 5, 0, 1, 2];
    let mut request = trie.begin_request(&prompt, OutputSharing::Shared);
    let tree = draft(&trie, &mut request, &RetrievalParams { branch_length: 1, ..LOOSE });
    assert_eq!(tree.tokens(), [2, 5, 6]);
    let shorter = RetrievalParams { branch_length: 1, match_length: 1, ..LOOSE };
    let tree = draft(&trie, &mut request, &shorter);
    assert_eq!(tree.probabilities()[1], tree.probabilities()[2], "two of each after \"2\" alone");
}

#[test]
fn the_own_output_serves_at_once() {
    let mut trie = trie();
    let mut request = trie.begin_request(&[1], OutputSharing::Shared);
    trie.append(&mut request, &[2, 3, 4]);
    trie.append(&mut request, &[2]);
    for source in [DraftSource::Prompt, DraftSource::Output] {
        let tree = draft(&trie, &mut request, &RetrievalParams { draft_length: 2, source, ..LOOSE });
        assert_eq!(tree.tokens(), [2, 3, 4], "{source:?}");
    }
}

#[test]
fn an_answer_serves_later_requests_unless_it_is_kept_private() {
    for (sharing, served) in [(OutputSharing::Shared, true), (OutputSharing::Private, false)] {
        let mut trie = trie();
        let mut first = trie.begin_request(&[1, 2], sharing);
        trie.append(&mut first, &[10, 11]);
        trie.append(&mut first, &[12, 10]);
        // The request itself is served either way.
        assert!(paths(&draft(&trie, &mut first, &LOOSE)).contains(&vec![11, 12]));
        trie.finish(first);
        let mut second = trie.begin_request(&[9, 10, 11], OutputSharing::Shared);
        assert_eq!(paths(&draft(&trie, &mut second, &LOOSE)).contains(&vec![12, 10]), served, "{sharing:?}");
        assert_eq!(trie.stats().nodes > 0, served);
    }
}

#[test]
fn nothing_of_a_prompt_reaches_the_shared_forest() {
    let mut trie = trie();
    let mut request = trie.begin_request(&[1, 2, 3], OutputSharing::Shared);
    assert_eq!(trie.stats().nodes, 0);
    trie.append(&mut request, &[4, 5]);
    assert_eq!(trie.stats().nodes, 3, "the branches 4, 4 5 and 5, none of which begins in the prompt");
    assert_eq!(trie.stats().tokens_inserted, 2);
}

#[test]
fn where_nothing_is_likely_enough_only_the_root_is_drafted() {
    let trie = trie();
    let mut request = trie.begin_request(&[1, 2, 3, 1], OutputSharing::Shared);
    for params in [
        RetrievalParams { min_probability: 0.9, ..LOOSE },
        RetrievalParams { min_probability: f32::NAN, ..LOOSE },
        RetrievalParams { draft_length: 0, ..LOOSE },
        RetrievalParams { branch_length: 0, ..LOOSE },
        RetrievalParams { match_length: 0, ..LOOSE },
        RetrievalParams { source: DraftSource::Output, ..LOOSE },
    ] {
        let tree = draft(&trie, &mut request, &params);
        assert_eq!((tree.tokens(), tree.parents(), tree.probabilities()), (&[1][..], &[0][..], &[1.0][..]));
    }
    let mut unknown = trie.begin_request(&[], OutputSharing::Shared);
    assert!(draft(&trie, &mut unknown, &LOOSE).is_empty());
}

#[test]
fn drafts_can_run_deeper_than_the_branches_of_the_trie() {
    let config = TrieConfig { branch_length: 3, ..TrieConfig::default() };
    let trie = DraftTrie::new(config).unwrap();
    let mut request = trie.begin_request(&[1, 2, 3, 4, 5, 6, 7, 8, 1], OutputSharing::Shared);
    let tree = draft(&trie, &mut request, &RetrievalParams { draft_length: 7, ..LOOSE });
    assert_eq!(tree.tokens(), [1, 2, 3, 4, 5, 6, 7, 8]);
}

#[test]
fn shapes_lay_out_the_same_text_differently() {
    let trie = trie();
    let prompt = [1, 2, 3, 1, 2, 4, 1, 2, 3, 1];
    let mut request = trie.begin_request(&prompt, OutputSharing::Shared);
    let mut shaped = |shape| {
        let params = RetrievalParams { shape, branch_length: 2, draft_length: 4, ..LOOSE };
        draft(&trie, &mut request, &params)
    };
    // After "1 2" come 3 and 4; "3 1 2" was followed by 4.
    let hierarchical = shaped(DraftShape::Hierarchical);
    assert_eq!((hierarchical.tokens(), hierarchical.parents()), (&[1, 2, 4, 3][..], &[0, 0, 1, 1][..]));
    let parallel = shaped(DraftShape::Parallel);
    assert_eq!((parallel.tokens(), parallel.parents()), (&[1, 2, 4, 2, 3][..], &[0, 0, 1, 0, 3][..]));
    let single = shaped(DraftShape::Single);
    assert_eq!((single.tokens(), single.parents()), (&[1, 2, 4][..], &[0, 0, 1][..]));
}

#[test]
fn configurations_out_of_range_are_refused() {
    let with = |branch_length, max_bytes, max_request_bytes| {
        DraftTrie::new(TrieConfig { branch_length, max_bytes, max_request_bytes }).err()
    };
    assert!(with(2, MIN_BYTES, MIN_BYTES).is_none() && with(255, MIN_BYTES, MIN_BYTES).is_none());
    assert!(matches!(with(1, MIN_BYTES, MIN_BYTES), Some(TrieError::BranchLength(1))));
    assert!(matches!(with(256, MIN_BYTES, MIN_BYTES), Some(TrieError::BranchLength(256))));
    assert!(matches!(with(12, 1000, MIN_BYTES), Some(TrieError::MaxBytes(1000))));
    assert!(matches!(with(12, MIN_BYTES, 0), Some(TrieError::MaxBytes(0))));
}

#[test]
fn a_saved_trie_drafts_the_same() {
    let mut trie = trie();
    trie.warm_up(&[1, 2, 3, 4, 1, 2, 5, 6, 1, 2, 3, 7]);
    let mut file = Vec::new();
    trie.save(7, &mut file).unwrap();
    let loaded = DraftTrie::load(TrieConfig::default(), 7, &file[..]).unwrap();
    assert_eq!(loaded.stats().nodes, trie.stats().nodes);
    assert_eq!(loaded.stats().tokens_inserted, 12);
    let drafts = [&trie, &loaded].map(|trie| {
        let mut request = trie.begin_request(&[9, 1, 2], OutputSharing::Shared);
        draft(trie, &mut request, &LOOSE)
    });
    assert!(drafts[0].len() > 3);
    assert_eq!(drafts[0], drafts[1]);
}

fn params() -> impl Strategy<Value = RetrievalParams> {
    use prop::sample::select;
    (
        0usize..20,
        0usize..10,
        0usize..8,
        select(vec![0.0, 0.01, 0.1, 0.3]),
        select(vec![DraftSource::Prompt, DraftSource::Output, DraftSource::Mixed]),
        select(vec![DraftShape::Hierarchical, DraftShape::Parallel, DraftShape::Single]),
    )
        .prop_map(|(draft_length, branch_length, match_length, min_probability, source, shape)| {
            RetrievalParams { draft_length, branch_length, match_length, min_probability, source, shape }
        })
}

fn text() -> impl Strategy<Value = Vec<TokenId>> {
    prop_oneof![prop::collection::vec(0u32..4, 1..80), prop::collection::vec(0u32..40, 1..80)]
}

proptest! {
    #[test]
    fn drafts_are_trees_within_their_limits(
        corpus in text(), prompt in text(), output in text(), params in params(),
    ) {
        let mut trie = trie();
        trie.warm_up(&corpus);
        let mut request = trie.begin_request(&prompt, OutputSharing::Shared);
        trie.append(&mut request, &output);
        let tree = draft(&trie, &mut request, &params);

        prop_assert!(tree.len() <= params.draft_length + 1);
        prop_assert_eq!(Some(&tree.tokens()[0]), output.last());
        prop_assert_eq!(tree.probabilities()[0], 1.0);
        let mut siblings = HashSet::new();
        for node in 1..tree.len() {
            let parent = tree.parents()[node] as usize;
            prop_assert!(parent < node);
            prop_assert!(tree.probabilities()[node] <= tree.probabilities()[parent]);
            prop_assert!(tree.probabilities()[node] >= params.min_probability);
            let is_new = siblings.insert((parent, tree.tokens()[node]));
            prop_assert!(is_new || params.shape == DraftShape::Parallel);
            if params.shape == DraftShape::Single {
                prop_assert_eq!(parent, node - 1);
            }
            if params.shape == DraftShape::Parallel {
                prop_assert!(parent == 0 || parent == node - 1, "branches share nothing but the root");
            }
        }
        let paths = paths(&tree);
        prop_assert!(paths.iter().all(|path| path.len() <= params.branch_length));
        let leaves = (1..tree.len()).filter(|&node| !tree.parents()[1..].contains(&(node as u32)));
        let mut branches = HashSet::new();
        prop_assert!(leaves.into_iter().all(|leaf| branches.insert(&paths[leaf])), "no branch comes twice");
    }

    #[test]
    fn a_request_leaves_no_trace_of_its_prompt(
        corpus in text(), secret in text(), prompt in text(), output in text(), params in params(),
        is_still_running in any::<bool>(),
    ) {
        let draft_after = |prompt_of_another: Option<&[TokenId]>| {
            let mut trie = trie();
            trie.warm_up(&corpus);
            let another = prompt_of_another.map(|prompt| trie.begin_request(prompt, OutputSharing::Shared));
            let another = another.filter(|_| is_still_running); // else it is dropped here
            let mut request = trie.begin_request(&prompt, OutputSharing::Shared);
            trie.append(&mut request, &output);
            let tree = draft(&trie, &mut request, &params);
            drop(another);
            (tree, trie.stats())
        };
        prop_assert_eq!(draft_after(None), draft_after(Some(&secret)));
    }

    #[test]
    fn a_draft_does_not_depend_on_what_the_buffers_held_before(
        prompt in text(), output in text(), params in params(), others in prop::collection::vec(params(), 1..4),
    ) {
        let mut trie = trie();
        let mut request = trie.begin_request(&prompt, OutputSharing::Shared);
        let mut reused = DraftTree::default();
        for other in others {
            trie.retrieve(&mut request, &other, &mut reused);
        }
        trie.append(&mut request, &output);
        trie.retrieve(&mut request, &params, &mut reused);
        let mut fresh_trie = DraftTrie::new(TrieConfig::default()).unwrap();
        let mut fresh = fresh_trie.begin_request(&prompt, OutputSharing::Shared);
        fresh_trie.append(&mut fresh, &output);
        prop_assert_eq!(reused, draft(&fresh_trie, &mut fresh, &params));
    }
}
