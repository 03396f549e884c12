//! Namespaces and requests as an engine sees them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use lookahead_trie::{
    Corpus, CorpusBuilder, DraftOrigin, DraftParams, DraftShape, DraftSource, DraftTree, MIN_BYTES,
    Namespace, Namespaces, RANKS, Request, RequestText, Sharing, Spellings, TokenId,
};
use proptest::prelude::*;

const PARAMS: DraftParams = DraftParams {
    nodes: 8,
    depth: 16,
    min_probability: 0.0,
    shape: DraftShape::Hierarchical,
    source: DraftSource::Mixed,
};

fn namespace() -> Namespace {
    Namespace::new(16 << 20).unwrap()
}

fn drafted(namespace: &Namespace, request: &mut Request) -> DraftTree {
    namespace.draft(request, &PARAMS).clone()
}

/// What is drafted behind `prompt` from what the namespace shares.
fn drafted_behind(namespace: &Namespace, prompt: &[TokenId]) -> DraftTree {
    drafted(namespace, &mut namespace.begin(prompt, &[], Sharing::Read))
}

fn serve(namespace: &Namespace, prompt: &[TokenId], output: &[TokenId], sharing: Sharing) {
    let mut request = namespace.begin(prompt, &[], sharing);
    let mut text = prompt.to_vec();
    for &token in output {
        namespace.draft(&mut request, &PARAMS);
        namespace.accept(&mut request, &[token]);
        request.observe(&text, [token; RANKS]);
        text.push(token);
    }
    namespace.finish(request).unwrap();
}

/// Nodes of each branch, root first, in the order of the leaves.
fn branches(tree: &DraftTree) -> Vec<Vec<usize>> {
    let leaves = (0..tree.len()).filter(|&node| !tree.parents()[node + 1..].contains(&(node as u32)));
    leaves
        .map(|leaf| {
            let above = |&node: &usize| (node > 0).then(|| tree.parents()[node] as usize);
            let mut branch: Vec<usize> = std::iter::successors(Some(leaf), above).collect();
            branch.reverse();
            branch
        })
        .collect()
}

/// Tokens and path probabilities of each branch.
fn branch_tokens(tree: &DraftTree) -> Vec<Vec<TokenId>> {
    let tokens = |branch: &Vec<usize>| branch.iter().map(|&node| tree.tokens()[node]).collect();
    branches(tree).iter().map(tokens).collect()
}

#[test]
fn a_prompt_is_never_seen_by_another_request() {
    let namespace = namespace();
    serve(&namespace, &[50, 51, 52, 53, 54], &[1, 2, 3], Sharing::ReadWrite);
    let mut other = namespace.begin(&[50, 51, 52], &[], Sharing::ReadWrite);
    assert_eq!(drafted(&namespace, &mut other).tokens(), [52], "nothing follows in what is shared");
    let mut other = namespace.begin(&[1, 2], &[], Sharing::ReadWrite);
    assert!(drafted(&namespace, &mut other).tokens().contains(&3), "the output is");
}

#[test]
fn references_are_drafted_from_and_never_seen_by_another_request() {
    let namespace = namespace();
    let references: [&[TokenId]; 2] = [&[60, 61, 62, 63], &[70, 71, 72]];
    for (sharing, first) in [(Sharing::ReadWrite, 5), (Sharing::Read, 6), (Sharing::Off, 7)] {
        let mut request = namespace.begin(&[first, 60, 61], &references, sharing);
        assert_eq!(drafted(&namespace, &mut request).tokens(), [61, 62, 63]);
        namespace.accept(&mut request, &[70, 71]);
        assert_eq!(
            drafted(&namespace, &mut request).tokens(),
            [71, 72],
            "and not what the prompt begins with"
        );
        namespace.finish(request).unwrap();
        for token in [60, 61, 62] {
            let others = drafted_behind(&namespace, &[token]);
            assert_eq!(others.tokens(), [token], "{sharing:?}");
        }
    }
}

#[test]
fn what_is_not_shared_changes_nothing_for_others() {
    for sharing in [Sharing::Read, Sharing::Off] {
        let (touched, untouched) = (namespace(), namespace());
        serve(&touched, &[1, 2, 3], &[1, 2, 3, 1, 2, 3, 9, 9], sharing);
        for prompt in [&[1, 2][..], &[9, 9], &[4, 1, 2, 3, 1, 2]] {
            let mut requests =
                [&touched, &untouched].map(|namespace| namespace.begin(prompt, &[], Sharing::ReadWrite));
            let [a, b] = &mut requests;
            assert_eq!(drafted(&touched, a), drafted(&untouched, b), "{sharing:?}");
        }
    }
}

#[test]
fn a_request_that_shares_nothing_drafts_from_its_own_text_alone() {
    let namespace = namespace();
    serve(&namespace, &[], &[7, 8, 9], Sharing::ReadWrite);
    namespace.warm_up_runners_up(&[7, 8], [11; RANKS]);
    for source in [DraftSource::Mixed, DraftSource::Prompt, DraftSource::Output] {
        let params = DraftParams { source, ..PARAMS };
        let mut request = namespace.begin(&[7, 8], &[], Sharing::Off);
        assert_eq!(namespace.draft(&mut request, &params).tokens(), [8], "{source:?}");
        namespace.accept(&mut request, &[5, 6, 7, 8]);
        assert_eq!(namespace.draft(&mut request, &params).tokens()[..4], [8, 5, 6, 7], "{source:?}");
    }
    assert_eq!(drafted_behind(&namespace, &[7, 8]).tokens()[..2], [8, 9], "another one sees what is shared");
}

#[test]
fn a_source_is_all_that_is_drafted_from() {
    let namespace = namespace();
    namespace.warm_up(&[1, 2, 30, 31]).unwrap();
    let mut request = namespace.begin(&[1, 2, 40, 41, 1, 2], &[], Sharing::ReadWrite);
    let mut drafted = |source| {
        let mut tokens =
            namespace.draft(&mut request, &DraftParams { source, ..PARAMS }).tokens()[1..].to_vec();
        tokens.sort_unstable();
        tokens.dedup();
        tokens
    };
    assert_eq!(drafted(DraftSource::Prompt), [1, 2, 40, 41]);
    assert_eq!(drafted(DraftSource::Output), [30, 31]);
    let mixed = drafted(DraftSource::Mixed);
    assert!(mixed.contains(&30) && mixed.contains(&40), "{mixed:?}");
}

#[test]
fn runners_up_are_drafted_where_no_text_knows_better() {
    let namespace = namespace();
    let mut request = namespace.begin(&[5, 6], &[], Sharing::ReadWrite);
    namespace.accept(&mut request, &[7, 8]);
    request.observe(&[5, 6], [20, 21, 22, 23, 24, 25, 26, 27]);
    request.observe(&[5, 6, 7], [30, 31, 32, 33, 34, 35, 36, 37]);
    namespace.accept(&mut request, &[40, 7]);
    // Behind 7 came 8 once, and the model ranked 30 to 37 there.
    let tree = drafted(&namespace, &mut request);
    let children: Vec<_> = (1..tree.len()).filter(|&node| tree.parents()[node] == 0).collect();
    let tokens: Vec<_> = children.iter().map(|&node| tree.tokens()[node]).collect();
    assert_eq!(tokens[..3], [8, 30, 31], "{tree:?}");
}

#[test]
fn a_rank_that_no_token_has_is_not_drafted() {
    let namespace = namespace();
    let mut request = namespace.begin(&[5, 6], &[], Sharing::ReadWrite);
    let mut likeliest = [TokenId::MAX; RANKS];
    likeliest[..2].copy_from_slice(&[20, 21]);
    request.observe(&[5, 6], likeliest);
    namespace.accept(&mut request, &[5, 6]);
    let mut tokens = namespace.draft(&mut request, &DraftParams { depth: 1, ..PARAMS }).tokens().to_vec();
    tokens.sort_unstable();
    assert_eq!(tokens, [5, 6, 20, 21]);
}

#[test]
fn a_copy_resumes_behind_a_difference() {
    let namespace = namespace();
    let prompt = [1, 2, 3, 10, 4, 5, 6, 7, 8, 1, 2, 3, 11];
    let mut request = namespace.begin(&prompt, &[], Sharing::ReadWrite);
    let tree = drafted(&namespace, &mut request);
    assert_eq!(tree.tokens()[..4], [11, 4, 5, 6], "11 was never seen, and stands where 10 did: {tree:?}");
}

#[test]
fn a_copy_that_was_left_is_returned_to_where_it_was_left() {
    const LINE_END: TokenId = 99;
    let lines = (0..12).map(|line| [&[20 + line; 8][..], &[LINE_END]].concat());
    let mut prompt = Vec::new();
    for (number, line) in lines.enumerate() {
        prompt.extend(
            line.into_iter()
                .zip(0..)
                .map(|(token, at)| if token == LINE_END { token } else { token * 100 + at }),
        );
        assert_eq!(prompt.len(), 9 * (number + 1));
    }
    let namespace = namespace();
    let mut request = namespace.begin(&prompt, &[], Sharing::ReadWrite);
    // Two lines are copied, another is put between, and the third line should come next, not what followed the last line end.
    let inserted = [7, 8, 9, LINE_END];
    for token in prompt[..18].iter().copied().chain(inserted) {
        drafted(&namespace, &mut request);
        namespace.accept(&mut request, &[token]);
    }
    let tree = drafted(&namespace, &mut request);
    assert_eq!(tree.tokens()[..5], [&[LINE_END], &prompt[18..22]].concat(), "{tree:?}");
}

#[test]
fn what_follows_a_word_is_drafted_behind_its_other_spelling() {
    let texts: [&[u8]; 6] = [b"_", b" word", b"word", b"x", b"y", b"z"];
    let spellings = Arc::new(Spellings::new(texts.into_iter()));
    let namespace = namespace();
    for (said, quoted) in [(1, 2), (2, 1)] {
        let prompt = [0, said, 3, 4, 5, 0, 4, quoted];
        let drafted_with = |text: RequestText| {
            let mut request = namespace.begin_with(text, Sharing::Off);
            let tree = drafted(&namespace, &mut request);
            branch_tokens(&tree).into_iter().find(|branch| branch.starts_with(&[quoted, 3]))
        };
        let text = || RequestText::new(&prompt, &[]);
        assert_eq!(drafted_with(text()), None, "nothing is known of spellings");
        let drafted = drafted_with(text().with_spellings(Some(&spellings)));
        assert!(drafted.is_some_and(|branch| branch.starts_with(&[quoted, 3, 4, 5])));
        let copy = text().with_spellings(Some(&spellings)).clone();
        assert!(drafted_with(copy).is_some());
    }
}

#[test]
fn the_answer_to_a_question_that_was_asked_before_is_drafted_from_its_first_token_on() {
    let namespace = namespace();
    let question = [4, 5, 6];
    let answer: Vec<TokenId> = (10..20).collect();
    // The same tokens come elsewhere too, and go on otherwise.
    serve(&namespace, &question, &answer, Sharing::ReadWrite);
    for other in 0..40 {
        serve(&namespace, &[7, other], &[10, 11, 60 + other], Sharing::ReadWrite);
    }
    let drafted_for = |prompt: &[TokenId], sharing, output: &[TokenId]| {
        let mut request = namespace.begin(prompt, &[], sharing);
        for &token in output {
            drafted(&namespace, &mut request);
            namespace.accept(&mut request, &[token]);
        }
        drafted(&namespace, &mut request).tokens().to_vec()
    };
    for begun in 0..4 {
        let tokens = drafted_for(&question, Sharing::Read, &answer[..begun]);
        let follows = answer[begun..].iter().take(4).all(|token| tokens[1..].contains(token));
        assert!(follows, "behind {begun} tokens: {tokens:?}");
    }
    assert_eq!(drafted_for(&question, Sharing::Read, &[])[1], 10);
    // Who asks something else, or shares nothing, gets nothing of it.
    assert_eq!(drafted_for(&[4, 5, 999], Sharing::Read, &[]), [999]);
    assert_eq!(drafted_for(&question, Sharing::Off, &[]), [6]);
}

/// A namespace and a request behind whose text four tokens are likely, and several behind each.
fn at_a_fork() -> (Namespace, Request) {
    let namespace = namespace();
    for tail in [[10, 11, 12], [10, 11, 13], [20, 21, 22], [20, 21, 22], [20, 23, 24], [30, 31, 32]] {
        namespace.warm_up(&[&[1, 2], &tail[..]].concat()).unwrap();
    }
    let request = namespace.begin(&[1, 2], &[], Sharing::Read);
    (namespace, request)
}

#[test]
fn the_single_shape_follows_the_likeliest_token_at_every_node() {
    let (namespace, mut request) = at_a_fork();
    for nodes in 0..5 {
        let single = DraftParams { nodes, shape: DraftShape::Single, ..PARAMS };
        let chain = namespace.draft(&mut request, &single).clone();
        assert_eq!(chain.tokens(), &[2, 20, 21, 22][..=nodes.min(3)]);
        assert_eq!(chain.parents(), &[0, 0, 1, 2][..=nodes.min(3)]);
    }
    // What was drafted so is learned from as any other draft is.
    namespace.accept(&mut request, &[20, 21, 9]);
    let seen: u64 = request.reliability().bins().iter().map(|bin| bin.drafted).sum();
    assert_eq!(seen, 3);
}

#[test]
fn the_parallel_shape_lays_whole_branches_side_by_side_within_the_bound() {
    let (namespace, mut request) = at_a_fork();
    let mut most_branches = 0;
    for nodes in 0..20 {
        let params = DraftParams { nodes, ..PARAMS };
        let merged = branch_tokens(namespace.draft(&mut request, &params));
        let parallel = DraftParams { shape: DraftShape::Parallel, ..params };
        let tree = namespace.draft(&mut request, &parallel).clone();
        assert!(tree.len() <= nodes + 1);
        for (node, &parent) in tree.parents().iter().enumerate().skip(1) {
            assert!(parent == 0 || parent as usize == node - 1, "no branch forks behind the root: {tree:?}");
        }
        let laid = branch_tokens(&tree);
        assert!(laid.iter().all(|branch| merged.contains(branch)), "{laid:?} of {merged:?}");
        assert_eq!(laid.is_empty(), merged.is_empty());
        let ends: Vec<f32> =
            branches(&tree).iter().map(|branch| tree.probabilities()[*branch.last().unwrap()]).collect();
        assert!(ends.is_sorted_by(|a, b| a >= b), "the likeliest first: {ends:?}");
        most_branches = most_branches.max(laid.len());
    }
    assert_eq!(most_branches, 5, "in the end all branches fit");
}

#[test]
fn drafts_for_many_are_what_drafts_for_each_would_be() {
    let (namespace, _) = at_a_fork();
    let prompts: [&[TokenId]; 4] = [&[1, 2], &[5, 1, 2, 20], &[], &[20, 21, 20]];
    for shape in [DraftShape::Hierarchical, DraftShape::Parallel, DraftShape::Single] {
        let params = DraftParams { shape, ..PARAMS };
        let mut together = prompts.map(|prompt| namespace.begin(prompt, &[], Sharing::ReadWrite));
        let mut alone = prompts.map(|prompt| namespace.begin(prompt, &[], Sharing::ReadWrite));
        for tokens in [&[20, 21][..], &[22], &[1, 2]] {
            let trees = namespace.draft_all(&mut together, &params);
            for (tree, request) in trees.into_iter().zip(&mut alone) {
                assert_eq!(tree, namespace.draft(request, &params));
            }
            for request in together.iter_mut().chain(&mut alone) {
                namespace.accept(request, tokens);
            }
        }
    }
}

#[test]
fn memory_stays_bounded_and_the_oldest_text_goes_first() {
    let max_bytes = 4 << 20;
    let namespace = Namespace::new(max_bytes).unwrap();
    let fixed = namespace.stats().bytes;
    let text = |n: u32| (0..100).map(|i| (n * 100 + i).wrapping_mul(0x9e37_79b1) >> 16).collect::<Vec<_>>();
    for n in 0..5_000 {
        namespace.warm_up(&text(n)).unwrap();
        let bytes = namespace.stats().bytes - fixed;
        assert!(bytes <= max_bytes, "{n}: {bytes}");
    }
    assert_eq!(namespace.stats().tokens_learned, 500_000);
    assert!(namespace.stats().tokens < 500_000);
    let draft = |n: u32| drafted_behind(&namespace, &text(n)[..20]);
    assert_eq!(draft(4_999).tokens(), &text(4_999)[19..28], "the newest is known");
    assert_ne!(draft(0).tokens(), &text(0)[19..28], "the oldest is not");
}

#[test]
fn a_text_larger_than_the_bound_is_known_by_its_end() {
    let namespace = Namespace::new(MIN_BYTES).unwrap();
    let fixed = namespace.stats().bytes;
    let text: Vec<TokenId> = (0..200_000).collect();
    namespace.warm_up(&text).unwrap();
    assert!(namespace.stats().bytes - fixed <= MIN_BYTES);
    assert_eq!(drafted_behind(&namespace, &[199_990]).tokens(), &text[199_990..199_999]);
    assert_eq!(drafted_behind(&namespace, &[10]).tokens(), [10]);
}

#[test]
fn a_bound_too_small_is_refused() {
    assert!(Namespace::new(MIN_BYTES - 1).is_err());
    assert!(Namespaces::new(MIN_BYTES - 1).is_err());
}

#[test]
fn probabilities_come_true() {
    // After 1 comes 2 in seven of ten cases, else 3; 4 follows both.
    let namespace = namespace();
    let mut seed = 1u64;
    let mut text = vec![1];
    for _ in 0..3_000 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        text.extend([if (seed >> 33) % 10 < 7 { 2 } else { 3 }, 4, 1]);
    }
    let (past, future) = text.split_at(3_000);
    namespace.warm_up(past).unwrap();
    let mut request = namespace.begin(&past[2_990..], &[], Sharing::ReadWrite);
    for &token in future {
        namespace.draft(&mut request, &PARAMS);
        namespace.accept(&mut request, &[token]);
    }
    let error = request.reliability().calibration_error();
    assert!(error < 0.05, "{error}: {:?}", request.reliability());
}

/// A corpus of these texts, in a file of this name.
fn corpus(directory: &std::path::Path, name: &str, texts: &[&[TokenId]]) -> Corpus {
    let mut builder = CorpusBuilder::default();
    for text in texts {
        builder.add(text);
    }
    builder.write(&directory.join(name), 1).unwrap()
}

#[test]
fn a_corpus_is_drafted_from_until_it_is_replaced_or_removed() {
    let directory = tempfile::tempdir().unwrap();
    let namespace = namespace();
    namespace.add_corpus("facts", corpus(directory.path(), "a", &[&[1, 2, 3], &[4, 5]])).unwrap();
    namespace.add_corpus("other", corpus(directory.path(), "b", &[&[7, 8]])).unwrap();
    assert_eq!(drafted_behind(&namespace, &[1]).tokens(), [1, 2, 3]);
    assert_eq!(drafted_behind(&namespace, &[4]).tokens(), [4, 5]);
    assert_eq!(drafted_behind(&namespace, &[3]).tokens(), [3], "its texts do not run into each other");

    namespace.add_corpus("facts", corpus(directory.path(), "c", &[&[1, 6]])).unwrap();
    assert_eq!(drafted_behind(&namespace, &[1]).tokens(), [1, 6]);
    let mut names: Vec<String> = namespace.corpora().into_iter().map(|(name, _)| name).collect();
    names.sort();
    assert_eq!(names, ["facts", "other"]);
    assert_eq!(namespace.stats().tokens, 4);

    assert!(namespace.remove_corpus("facts"));
    assert!(!namespace.remove_corpus("facts"));
    assert_eq!(drafted_behind(&namespace, &[1]).tokens(), [1]);
    assert_eq!(drafted_behind(&namespace, &[7]).tokens(), [7, 8]);
}

#[test]
fn a_draft_of_a_corpus_that_is_gone_is_learned_from_all_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let namespace = namespace();
    namespace.add_corpus("facts", corpus(directory.path(), "a", &[&[1, 2, 3, 4]])).unwrap();
    let mut request = namespace.begin(&[1], &[], Sharing::ReadWrite);
    assert_eq!(drafted(&namespace, &mut request).tokens(), [1, 2, 3, 4]);
    namespace.remove_corpus("facts");
    std::fs::remove_file(directory.path().join("a")).unwrap();
    namespace.accept(&mut request, &[2, 3, 9]);
    assert_eq!(request.reliability().bins().iter().map(|bin| bin.drafted).sum::<u64>(), 3);
    assert_eq!(drafted(&namespace, &mut request).tokens(), [9]);
}

#[test]
fn more_corpora_than_can_be_told_apart_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let namespace = namespace();
    let corpus = corpus(directory.path(), "a", &[&[1, 2]]);
    for n in 0..250 {
        namespace.add_corpus(&n.to_string(), corpus.clone()).unwrap();
    }
    let error = namespace.add_corpus("one more", corpus.clone()).unwrap_err().to_string();
    assert!(error.contains("no more than 250"), "{error}");
    namespace.add_corpus("7", corpus).unwrap();
    assert_eq!(drafted_behind(&namespace, &[1]).tokens(), [1, 2]);
}

#[test]
fn namespaces_are_made_found_and_removed_by_name() {
    let namespaces = Namespaces::new(MIN_BYTES).unwrap();
    assert!(namespaces.names().is_empty());
    namespaces.get("b").unwrap().warm_up(&[1, 2, 3]).unwrap();
    namespaces.get("a").unwrap();
    assert_eq!(namespaces.names(), ["a", "b"]);
    assert_eq!(drafted_behind(&namespaces.get("b").unwrap(), &[1]).tokens(), [1, 2, 3]);

    let removed = namespaces.remove("b").unwrap();
    assert!(namespaces.remove("b").is_none());
    assert_eq!(namespaces.names(), ["a"]);
    assert_eq!(drafted_behind(&removed, &[1]).tokens(), [1, 2, 3], "who has it goes on with it");
    assert_eq!(drafted_behind(&namespaces.get("b").unwrap(), &[1]).tokens(), [1], "the name starts empty");
    assert!(namespaces.insert("b", removed).is_some());
    assert_eq!(drafted_behind(&namespaces.get("b").unwrap(), &[1]).tokens(), [1, 2, 3]);
}

#[test]
fn drafts_of_a_namespace_do_not_depend_on_what_another_did() {
    let all_drafts = |with_traffic: bool| {
        let namespaces = Namespaces::new(MIN_BYTES).unwrap();
        let ours = namespaces.get("ours").unwrap();
        let mut drafts = Vec::new();
        for round in 0..60u32 {
            if with_traffic {
                // The same tokens in another order, and enough of them for one bound to be full.
                let theirs = namespaces.get("theirs").unwrap();
                let text: Vec<TokenId> = (0..2_000).map(|n| (n * 13 + round * 7) % 40).collect();
                serve(&theirs, &text[..20], &text[20..120], Sharing::ReadWrite);
                theirs.warm_up(&text).unwrap();
            }
            let mut request = ours.begin(&[round % 7, 1, 2], &[], Sharing::ReadWrite);
            for step in 0..10 {
                drafts.push(drafted(&ours, &mut request));
                let token = (round * step) % 40;
                ours.accept(&mut request, &[token, (token * 3 + 1) % 40]);
                request.observe(&[1, token], std::array::from_fn(|rank| token + rank as TokenId));
            }
            ours.finish(request).unwrap();
        }
        drafts
    };
    let drafts = all_drafts(false);
    assert!(drafts.iter().any(|draft| draft.len() > 5));
    assert_eq!(drafts, all_drafts(true));
}

/// Requests with answers that begin with numbers of their own are finished by two threads while others draft behind any of
/// them; returns the numbers that were finished.
fn serve_from_many_threads(namespace: &Namespace, answers: u32) {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        for reader in 0..3 {
            let is_over = &is_over;
            scope.spawn(move || {
                let mut number = reader;
                while !is_over.load(Ordering::Relaxed) {
                    number = (number * 5 + 1) % answers;
                    let mut request = namespace.begin(&answer(number)[..2], &[], Sharing::ReadWrite);
                    for tokens in answer(number)[2..].chunks(3) {
                        let tree = namespace.draft(&mut request, &PARAMS);
                        assert!(tree.len() <= PARAMS.nodes + 1);
                        let parts = (tree.tokens(), tree.parents(), tree.probabilities());
                        DraftTree::new(parts.0.to_vec(), parts.1.to_vec(), parts.2.to_vec()).unwrap();
                        namespace.accept(&mut request, tokens);
                    }
                    assert!(namespace.stats().tokens <= u64::from(answers) * 100);
                }
            });
        }
        let writers = [0, 1].map(|writer| {
            scope.spawn(move || {
                for number in (writer..answers).step_by(2) {
                    let answer = answer(number);
                    serve(namespace, &answer[..1], &answer, Sharing::ReadWrite);
                }
            })
        });
        for writer in writers {
            writer.join().unwrap();
        }
        is_over.store(true, Ordering::Relaxed);
    });
}

/// An answer whose first tokens no other has, with an end that is like others.
fn answer(number: u32) -> Vec<TokenId> {
    let own = [1_000 + number, 100_000 + number, 200_000 + number, 300_000 + number];
    own.into_iter().chain((0..24).map(|n| (number * 31 + n * n) % 50)).collect()
}

#[test]
fn what_one_thread_finished_is_drafted_by_all_while_others_go_on() {
    let namespace = namespace();
    let answers = 600;
    serve_from_many_threads(&namespace, answers);
    for number in 0..answers {
        let answer = answer(number);
        let tree = drafted_behind(&namespace, &[7, answer[0]]);
        let chain: Vec<TokenId> =
            tree.best_chain().iter().map(|&node| tree.tokens()[node as usize]).collect();
        assert_eq!(chain[..4], answer[..4], "{number}");
    }
    assert_eq!(namespace.stats().tokens_learned, u64::from(answers) * 28);
}

#[test]
fn many_threads_draft_while_the_oldest_text_goes() {
    let namespace = Namespace::new(MIN_BYTES).unwrap();
    serve_from_many_threads(&namespace, 1_500);
    assert!(namespace.stats().tokens < namespace.stats().tokens_learned, "the bound was reached");
    let newest = answer(1_499);
    assert_eq!(drafted_behind(&namespace, &[7, newest[0]]).tokens()[..3], newest[..3]);
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
        shape in prop::sample::select(&[DraftShape::Hierarchical, DraftShape::Parallel, DraftShape::Single]),
        source in prop::sample::select(&[DraftSource::Mixed, DraftSource::Prompt, DraftSource::Output]),
        sharing in prop::sample::select(&[Sharing::ReadWrite, Sharing::Read, Sharing::Off]),
    ) {
        let namespace = namespace();
        for text in &corpus {
            namespace.warm_up(text).unwrap();
        }
        let params = DraftParams { nodes, depth, min_probability, shape, source };
        let vocabulary: [&[u8]; 6] = [b" a", b"a", b"b", b"c", b" c", b"d"];
        let spellings = Arc::new(Spellings::new(vocabulary.into_iter()));
        let given = RequestText::new(&prompt, &[&output]).with_spellings(Some(&spellings));
        let mut request = namespace.begin_with(given, sharing);
        let mut text = prompt.clone();
        for tokens in output.chunks(3) {
            let tree = namespace.draft(&mut request, &params).clone();
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
                prop_assert!(!twin || shape == DraftShape::Parallel, "siblings carry the same token");
                prop_assert!(parent == node - 1 || shape != DraftShape::Single);
            }
            namespace.accept(&mut request, tokens);
            for _ in tokens {
                request.observe(&text, [1, 2, 3, 4, 5, 6, 7, 8]);
            }
            text.extend(tokens);
        }
        namespace.finish(request).unwrap();
    }
}

#[test]
fn a_drafted_token_says_what_it_was_taken_from() {
    let directory = tempfile::tempdir().unwrap();
    let mut corpus = CorpusBuilder::default();
    corpus.add(&[40, 41, 42]);
    let corpus = corpus.write(&directory.path().join("c"), 1).unwrap();
    let namespace = Namespace::new(MIN_BYTES).unwrap();
    namespace.warm_up(&[30, 31, 32]).unwrap();
    namespace.add_corpus("c", corpus).unwrap();
    let origins = |prompt: &[TokenId], shape| {
        let mut request = namespace.begin(prompt, &[&[20, 21, 22]], Sharing::ReadWrite);
        let params = DraftParams { nodes: 2, min_probability: 0.0, shape, ..DraftParams::default() };
        let drafted = namespace.draft(&mut request, &params).len();
        (1..drafted).map(|node| request.origin(node)).collect::<Vec<_>>()
    };
    for shape in [DraftShape::Hierarchical, DraftShape::Parallel] {
        for (prompt, origin) in [
            (&[10, 11, 12, 5, 10][..], DraftOrigin::Prompt),
            (&[5, 20], DraftOrigin::Reference),
            (&[5, 30], DraftOrigin::Output),
            (&[5, 40], DraftOrigin::Corpus),
        ] {
            assert_eq!(origins(prompt, shape), [origin; 2], "{prompt:?}");
        }
    }
    let mut request = namespace.begin(&[1, 2], &[], Sharing::ReadWrite);
    request.observe(&[1, 2], [50, 51, 52, 53, 54, 55, 56, 57]);
    let params = DraftParams { nodes: 1, min_probability: 0.0, ..DraftParams::default() };
    assert_eq!(namespace.draft(&mut request, &params).len(), 2);
    assert_eq!(request.origin(1), DraftOrigin::RunnersUp);
}

proptest! {
    #[test]
    fn a_copy_of_an_indexed_text_drafts_as_the_text_and_neither_sees_what_the_other_adds(
        prompt in proptest::collection::vec(0u32..9, 1..700),
        reference in proptest::collection::vec(0u32..9, 0..300),
        outputs in proptest::collection::vec(proptest::collection::vec(0u32..9, 1..40), 3),
    ) {
        let namespace = namespace();
        let text = RequestText::new(&prompt, &[&reference]);
        for output in &outputs {
            let mut copied = namespace.begin_with(text.clone(), Sharing::Off);
            let mut made = namespace.begin(&prompt, &[&reference], Sharing::Off);
            for &token in output {
                prop_assert_eq!(drafted(&namespace, &mut copied), drafted(&namespace, &mut made));
                namespace.accept(&mut copied, &[token]);
                namespace.accept(&mut made, &[token]);
            }
        }
    }
}
