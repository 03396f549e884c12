//! Limits, statistics, errors and the ways in which a generation ends.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::common::HashModel;
use lookahead_engine::{
    AdversarialDrafter, CostCurve, CostCurveError, CostPoint, Draft, DraftLimits, DraftPolicy, Drafter,
    Engine, EngineError, EngineOptions, FinishReason, GeneratedToken, Generation, GenerationRequest,
    GenerationStats, MeasureError, Namespace, NamespaceDrafter, NoDraft, RequestText, SamplingParams,
    Sharing, measure_cost_curve,
};
use lookahead_model::{ForwardError, TokenId, TokenTree};

fn request(prompt: &[TokenId], max_tokens: usize) -> GenerationRequest {
    GenerationRequest { prompt: prompt.into(), max_tokens, ..GenerationRequest::default() }
}

fn engine(model: HashModel) -> Engine<HashModel> {
    Engine::new(model, EngineOptions { prefill_chunk: 4 })
}

fn generate(model: HashModel, request: GenerationRequest, drafter: impl Drafter + 'static) -> Generation {
    engine(model).generate(request, Box::new(drafter), |_| ControlFlow::Continue(())).unwrap()
}

fn namespace_drafter() -> NamespaceDrafter {
    drafter_by(DraftPolicy::default())
}

fn drafter_by(policy: DraftPolicy) -> NamespaceDrafter {
    NamespaceDrafter::new(Arc::new(Namespace::new(1 << 20).unwrap()), policy)
}

/// Drafts the right path, known beforehand, as a chain of up to `length` nodes.
struct Oracle {
    reference: Vec<TokenId>,
    length: usize,
}

impl Drafter for Oracle {
    fn draft(&mut self, context: &[TokenId], _limits: DraftLimits) -> Draft {
        let from = context.len() - 1;
        let to = self.reference.len().min(from + 1 + self.length);
        TokenTree::chain(&self.reference[from..to]).unwrap().into()
    }
}

const PROMPT: [TokenId; 6] = [1, 2, 3, 4, 5, 6];

fn oracle(model: HashModel, length: usize) -> Oracle {
    let plain = generate(model, request(&PROMPT, 100), NoDraft);
    Oracle { reference: [PROMPT.to_vec(), plain.token_ids].concat(), length }
}

#[test]
fn a_repetitive_text_takes_few_steps_out_of_the_trie() {
    let model = || HashModel::new(16, 4.0, 3);
    let plain = generate(model(), request(&PROMPT, 200), NoDraft);
    let lookahead = generate(model(), request(&PROMPT, 200), namespace_drafter());
    assert_eq!(plain.token_ids, lookahead.token_ids);
    assert_eq!((plain.stats.edl(), plain.stats.steps()), (1.0, 199));
    assert!(lookahead.stats.edl() > 3.0, "EDL {}", lookahead.stats.edl());
}

/// A pass over 17 tokens takes so many times as long as a pass over one, which takes a millisecond.
fn curve(c: f64) -> Arc<CostCurve> {
    let points = [(1, 1.0), (17, c)].map(|(tokens, ms)| CostPoint { tokens, ms });
    Arc::new(CostCurve::new(points.to_vec()).unwrap())
}

/// An answer by adaptive drafts, where passes take what `truth` says.
fn adaptive(measured: f64, truth: f64) -> Generation {
    let model = HashModel { pace: Some(curve(truth)), ..HashModel::new(16, 4.0, 3) };
    generate(model, request(&PROMPT, 600), drafter_by(DraftPolicy::adaptive(curve(measured))))
}

#[test]
fn an_adaptive_draft_is_as_long_as_its_price_allows() {
    let plain = generate(HashModel::new(16, 4.0, 3), request(&PROMPT, 600), NoDraft);
    let [free, usual, dear] = [1.0, 4.0, 30.0].map(|c| {
        let lookahead = adaptive(c, c);
        assert_eq!(lookahead.token_ids, plain.token_ids);
        lookahead.stats
    });
    let (most, some) = (free.draft_tokens(), usual.draft_tokens());
    assert!(most > some && some > 0, "{most} and {some} drafted");
    assert_eq!(free.draft_lengths.counts().len(), 64, "drafts of up to 63 nodes");
    assert!(free.edl() >= usual.edl() && usual.edl() > 2.0, "EDL {} and {}", free.edl(), usual.edl());
    assert!(dear.draft_tokens() < 10, "{} drafted: the worst case is plain decoding", dear.draft_tokens());
}

#[test]
fn an_adaptive_draft_goes_as_far_as_passes_were_measured() {
    let model = || HashModel::new(16, 4.0, 3);
    let traced = || GenerationRequest { trace_logits: true, ..request(&PROMPT, 600) };
    let plain = generate(model(), traced(), NoDraft);
    let whole = [&PROMPT[..], &plain.token_ids].concat();
    for (largest_pass, longest) in [(32, 63), (64, 63), (128, 127)] {
        let points = [1, largest_pass].map(|tokens| CostPoint { tokens, ms: 1.0 });
        let flat = Arc::new(CostCurve::new(points.to_vec()).unwrap());
        let namespace = Arc::new(Namespace::new(1 << 20).unwrap());
        namespace.warm_up(&whole).unwrap();
        let drafter = NamespaceDrafter::new(namespace, DraftPolicy::adaptive(flat));
        let lookahead = generate(model(), traced(), drafter);
        assert_eq!(lookahead.token_ids, plain.token_ids);
        assert_eq!(lookahead.logits_trace.unwrap().rows(), plain.logits_trace.as_ref().unwrap().rows());
        // What is known beforehand is copied whole.
        let lengths = [lookahead.stats.draft_lengths, lookahead.stats.accepted_lengths];
        assert_eq!(lengths.map(|lengths| lengths.counts().len() - 1), [longest; 2]);
    }
}

#[test]
fn drafts_of_several_fit_into_a_pass_together() {
    let mut engine = engine(HashModel { pass_nodes: 40, ..HashModel::new(16, 4.0, 3) });
    let mut sequences = [0, 1, 2].map(|more| {
        let drafter = drafter_by(DraftPolicy::adaptive(curve(1.0)));
        engine.start(request(&PROMPT.map(|token| token + more), 400), Box::new(drafter)).unwrap()
    });
    while sequences.iter().any(|sequence| !sequence.has_ended()) {
        engine.step(&mut sequences, |_, _| ControlFlow::Continue(())).unwrap();
    }
    let largest = engine.model().passes.iter().map(|nodes| nodes.iter().sum::<usize>()).max();
    assert!((30..=40).contains(&largest.unwrap()), "{largest:?} nodes");
}

#[test]
fn drafts_of_several_follow_what_passes_really_take() {
    // Two answers at once by adaptive drafts: their tokens, and how many nodes a step drafts.
    let drafted = |truth: f64| {
        let model = HashModel { pace: Some(curve(truth)), ..HashModel::new(16, 4.0, 3) };
        let mut engine = engine(model);
        let mut sequences = [PROMPT, PROMPT.map(|token| token + 1)].map(|prompt| {
            let drafter = drafter_by(DraftPolicy::adaptive(curve(2.0)));
            engine.start(request(&prompt, 600), Box::new(drafter)).unwrap()
        });
        while sequences.iter().any(|sequence| !sequence.has_ended()) {
            engine.step(&mut sequences, |_, _| ControlFlow::Continue(())).unwrap();
        }
        let tokens = sequences.each_ref().map(|sequence| sequence.completion().to_vec());
        let [nodes, steps] = [0, 1].map(|what| {
            let of = |stats: &GenerationStats| [stats.draft_tokens(), stats.steps()][what];
            sequences.iter().map(|sequence| of(sequence.stats())).sum::<u64>()
        });
        (tokens, nodes as f64 / steps as f64)
    };
    let (as_measured, dearer) = (drafted(2.0), drafted(20.0));
    assert_eq!(as_measured.0, dearer.0);
    assert!(dearer.1 < 0.85 * as_measured.1, "{} and {} nodes a step", as_measured.1, dearer.1);
}

#[test]
fn drafts_of_one_alone_do_not_depend_on_the_clock() {
    let [as_measured, dearer] = [2.0, 20.0].map(|truth| adaptive(2.0, truth).stats);
    assert_eq!(as_measured.draft_lengths.counts(), dearer.draft_lengths.counts());
}

#[test]
fn a_cost_curve_is_measured_in_blocks_behind_a_context() {
    let mut model = HashModel::new(16, 1.0, 3);
    let mut progress = Vec::new();
    let sizes = [1, 2, 5];
    let curve =
        measure_cost_curve(&mut model, 300, &sizes, Duration::ZERO, |part| progress.push(part)).unwrap();
    assert!(curve.points().iter().map(|point| point.tokens).eq(sizes));
    let passes: Vec<usize> = model.passes.iter().map(|pass| pass[0]).collect();
    assert_eq!(
        passes,
        [256, 44, 5, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 5, 5, 5],
        "context, a warm-up, settling, three passes of each size"
    );
    assert!(progress.is_sorted() && progress.last() == Some(&1.0), "{progress:?}");

    model.passes.clear();
    measure_cost_curve(&mut model, 3, &[1, 64], Duration::from_mins(1), |_| ()).unwrap();
    let most = 2 + 5 * 4 * 32;
    assert!(model.passes.len() <= most, "{} passes: more than tell anything are not run", model.passes.len());
    assert!(model.passes.len() >= 2 + 5 * 4 * 3, "five rounds");
    let sizes: Vec<usize> = model.passes[2..].iter().map(|pass| pass[0]).collect();
    assert_eq!(sizes.chunk_by(|a, b| a == b).count(), 2 * 5, "passes of a size follow each other");

    model.context_length = 20;
    model.passes.clear();
    let curve = measure_cost_curve(&mut model, 256, &[1, 16, 64], Duration::ZERO, |_| ()).unwrap();
    assert_eq!(curve.points().len(), 2, "64 tokens do not fit");
    assert_eq!(model.passes[0], [4], "a shorter context leaves room for 16");
    let refused = |model: &mut HashModel, sizes| {
        measure_cost_curve(model, 9, sizes, Duration::ZERO, |_| ()).unwrap_err()
    };
    assert_eq!(refused(&mut model, &[]), MeasureError::Curve(CostCurveError::Empty));
    assert_eq!(refused(&mut model, &[21]), MeasureError::Curve(CostCurveError::Empty));
    assert_eq!(refused(&mut model, &[0, 1]), MeasureError::Curve(CostCurveError::NotAscending(0)));
    assert_eq!(refused(&mut model, &[2, 1]), MeasureError::Curve(CostCurveError::NotAscending(1)));
}

#[test]
fn the_statistics_add_up() {
    let model = || HashModel::new(16, 4.0, 3);
    let oracle = oracle(model(), 4);
    let stats = generate(model(), request(&PROMPT, 41), oracle).stats;
    // A prefill of two chunks gives the first token; then 8 steps of 4 drafted tokens and one free.
    assert_eq!((stats.prompt_tokens, stats.prefill_passes), (6, 2));
    assert_eq!((stats.completion_tokens, stats.decode_tokens, stats.steps()), (41, 40, 8));
    assert_eq!((stats.draft_tokens(), stats.accepted_tokens(), stats.edl()), (32, 32, 5.0));
    assert_eq!(stats.accepted_lengths.counts(), [0, 0, 0, 0, 8]);
    assert!(stats.retrieval + stats.forward + stats.verify <= stats.decode);
    assert!(stats.decode_tokens_per_s() > 0.0 && stats.prefill_tokens_per_s() > 0.0);
}

#[test]
fn an_end_token_inside_an_accepted_path_ends_the_answer_there() {
    let model = || HashModel::new(16, 0.5, 8);
    let reference = oracle(model(), 10);
    let answer = &reference.reference[PROMPT.len()..];
    // A token that comes up for the first time within the first path.
    let index = (3..10).find(|&index| !answer[..index].contains(&answer[index])).unwrap();
    let end = answer[index];
    let with_end = |max_tokens| GenerationRequest { end_tokens: vec![end], ..request(&PROMPT, max_tokens) };
    let plain = generate(model(), with_end(50), NoDraft);
    let lookahead = generate(model(), with_end(50), reference);
    assert_eq!(lookahead.token_ids, plain.token_ids);
    assert_eq!((lookahead.finish_reason, plain.finish_reason), (FinishReason::Stop, FinishReason::Stop));
    assert_eq!(lookahead.token_ids.last(), Some(&end), "the end token is part of the answer");
    assert_eq!(lookahead.stats.steps(), 1, "the path was accepted in one step and cut");
    assert_eq!(lookahead.stats.accepted_tokens() as usize, lookahead.token_ids.len() - 1);
}

#[test]
fn tokens_say_whether_they_were_drafted() {
    let model = || HashModel::new(16, 4.0, 3);
    let oracle = oracle(model(), 2);
    let mut tokens: Vec<GeneratedToken> = Vec::new();
    let on_token = |token| {
        tokens.push(token);
        ControlFlow::Continue(())
    };
    let generation = engine(model()).generate(request(&PROMPT, 8), Box::new(oracle), on_token).unwrap();
    assert_eq!(tokens.iter().map(|token| token.id).collect::<Vec<_>>(), generation.token_ids);
    assert_eq!(tokens.iter().map(|token| token.position).collect::<Vec<_>>(), (6..14).collect::<Vec<_>>());
    let drafted: Vec<bool> = tokens.iter().map(GeneratedToken::is_drafted).collect();
    // From the prefill; two steps of two drafted and one free; then one drafted, as one token more comes
    // free.
    assert_eq!(drafted, [false, true, true, false, true, true, false, false]);
}

#[test]
fn a_break_inside_an_accepted_path_ends_with_that_token_and_reason() {
    for reason in [FinishReason::Stop, FinishReason::Cancelled] {
        let model = || HashModel::new(16, 4.0, 3);
        let oracle = oracle(model(), 10);
        let expected = oracle.reference[PROMPT.len()..][..5].to_vec();
        let mut left = 5;
        let on_token = |_| {
            left -= 1;
            if left == 0 { ControlFlow::Break(reason) } else { ControlFlow::Continue(()) }
        };
        let generation = engine(model()).generate(request(&PROMPT, 50), Box::new(oracle), on_token).unwrap();
        assert_eq!((generation.token_ids, generation.finish_reason), (expected, reason));
    }
}

#[test]
fn the_cancel_flag_ends_a_generation_even_in_its_prefill() {
    let flag = Arc::new(AtomicBool::new(false));
    let request = GenerationRequest { cancel: Some(flag.clone()), ..request(&[1; 50], 50) };
    let mut engine = engine(HashModel::new(16, 4.0, 3));
    let mut sequence = [engine.start(request, Box::new(NoDraft)).unwrap()];
    engine.step(&mut sequence, |_, _| ControlFlow::Continue(())).unwrap();
    flag.store(true, Ordering::Relaxed);
    engine.step(&mut sequence, |_, _| unreachable!("cancelled")).unwrap();
    assert_eq!(sequence[0].finish_reason(), Some(FinishReason::Cancelled));
    assert_eq!(engine.model().passes.len(), 1);
}

#[test]
fn the_context_length_ends_an_answer_and_no_draft_reaches_beyond_it() {
    // The model asserts that no position lies beyond its context.
    let model = || HashModel { context_length: 30, ..HashModel::new(16, 4.0, 3) };
    for length in [0, 3, 100] {
        let oracle = Oracle { reference: oracle(HashModel::new(16, 4.0, 3), 0).reference, length };
        let generation = generate(model(), request(&PROMPT, 1000), oracle);
        assert_eq!((generation.token_ids.len(), generation.finish_reason), (24, FinishReason::Length));
    }
    let drafter = AdversarialDrafter::new(16, 500, 1);
    assert_eq!(generate(model(), request(&PROMPT, usize::MAX), drafter).token_ids.len(), 24);
}

/// Drafts more children of the root than any cache holds.
struct WideStar;

impl Drafter for WideStar {
    fn draft(&mut self, context: &[TokenId], _limits: DraftLimits) -> Draft {
        let mut tokens = vec![3; 1000];
        tokens[0] = context[context.len() - 1];
        TokenTree::new(tokens, vec![0; 1000]).unwrap().into()
    }
}

#[test]
fn a_draft_larger_than_the_cache_is_cut_to_fit() {
    let model = || HashModel::new(16, 4.0, 3);
    let mut engine = engine(model());
    let on_token = |_| ControlFlow::Continue(());
    let generation = engine.generate(request(&PROMPT, 20), Box::new(WideStar), on_token).unwrap();
    assert_eq!(generation.token_ids, generate(model(), request(&PROMPT, 20), NoDraft).token_ids);
    let widest = engine.model().passes.iter().flatten().max();
    assert!((30..100).contains(widest.unwrap()), "{widest:?} nodes: the cache's room, used in full");
}

/// Drafts behind a token that is not the context's last.
struct WrongRoot;

impl Drafter for WrongRoot {
    fn draft(&mut self, context: &[TokenId], _limits: DraftLimits) -> Draft {
        TokenTree::chain(&[(context[context.len() - 1] + 1) % 16, 2, 3]).unwrap().into()
    }
}

#[test]
fn a_draft_with_another_root_is_ignored() {
    let model = || HashModel::new(16, 4.0, 3);
    let generation = generate(model(), request(&PROMPT, 20), WrongRoot);
    assert_eq!(generation.token_ids, generate(model(), request(&PROMPT, 20), NoDraft).token_ids);
    assert_eq!(generation.stats.draft_tokens(), 0);
}

#[test]
fn sequences_of_a_batch_share_each_forward_pass_until_they_end() {
    let mut engine = engine(HashModel::new(16, 4.0, 3));
    let mut sequences: Vec<_> = [(3, 2), (6, 4), (1, 0)]
        .map(|(prompt, max_tokens)| {
            engine.start(request(&PROMPT[..prompt], max_tokens), Box::new(NoDraft)).unwrap()
        })
        .into();
    while sequences.iter().any(|sequence| !sequence.has_ended()) {
        engine.step(&mut sequences, |_, _| ControlFlow::Continue(())).unwrap();
    }
    // Prompts of 3 and 6 share chunks of 4, then a token each, until the first has its 2 and the second its 4.
    let passes: Vec<Vec<usize>> = vec![vec![3, 1], vec![1, 4], vec![1], vec![1], vec![1], vec![1]];
    assert_eq!(engine.model().passes, passes);
    assert_eq!(sequences.iter().map(|s| s.completion().len()).collect::<Vec<_>>(), [2, 4, 0]);
}

#[test]
fn what_cannot_start_is_refused_with_the_reason() {
    let model = HashModel { context_length: 8, ..HashModel::new(16, 4.0, 3) };
    let engine = engine(model);
    let error = |request| engine.start(request, Box::new(NoDraft)).err().map(|error| error.to_string());
    let cases = [
        (request(&[], 5), "the prompt is empty: a generation needs at least one token to continue"),
        (
            request(&[1; 8], 5),
            "the prompt has 8 tokens, but the model's context holds 8 and the answer needs at least one of them",
        ),
        (request(&[1, 16], 5), "forward pass: token id 16 is outside the vocabulary of 16 tokens"),
        (
            GenerationRequest {
                sampling: SamplingParams { top_p: 7.0, ..SamplingParams::greedy() },
                ..request(&[1], 5)
            },
            "sampling: top_p is 7; it must be 0 to 1",
        ),
    ];
    for (request, message) in cases {
        assert_eq!(error(request).as_deref(), Some(message));
    }
    assert_eq!(error(request(&[1; 7], 5)), None);
}

#[test]
fn a_refused_forward_pass_is_an_error_of_the_generation() {
    let mut engine = engine(HashModel::new(16, 4.0, 3));
    let mut sequence = [engine.start(request(&[1, 2], 5), Box::new(NoDraft)).unwrap()];
    engine.model_mut().vocabulary_size = 2;
    let error = engine.step(&mut sequence, |_, _| ControlFlow::Continue(())).unwrap_err();
    let unknown = ForwardError::UnknownToken { token: 2, vocabulary_size: 2 };
    assert_eq!(error, EngineError::Forward(unknown));
    engine.model_mut().vocabulary_size = 16;
    engine.step(&mut sequence, |_, _| ControlFlow::Continue(())).unwrap();
    assert_eq!(sequence[0].completion().len(), 1, "the sequence can go on");
}

#[test]
fn answers_to_one_prompt_share_its_index_and_draft_as_if_each_had_made_it() {
    let prompt: Vec<TokenId> = (0..300).map(|i| i * i % 23).collect();
    let reference: Vec<TokenId> = (0..200).map(|i| i * 3 % 19).collect();
    let namespace = Arc::new(Namespace::new(1 << 20).unwrap());
    // What one answer teaches the namespace would be known to the next.
    let policy = DraftPolicy { sharing: Sharing::Read, ..DraftPolicy::default() };
    let drafter = || NamespaceDrafter::new(Arc::clone(&namespace), policy.clone());
    let limits = DraftLimits { nodes: 8, depth: 8 };
    let drafts = |mut drafter: NamespaceDrafter, answer: &[TokenId]| -> Vec<Draft> {
        drafter.begin(&prompt);
        let mut context = prompt.clone();
        let draft = |&token: &TokenId| {
            context.push(token);
            drafter.accept(&[token]);
            drafter.draft(&context, limits)
        };
        answer.iter().map(draft).collect()
    };
    let shared = Arc::new(RequestText::new(&prompt, &[&reference]));
    for answer in [[1, 4, 9, 16, 2], [3, 6, 9, 12, 15], [1, 4, 9, 16, 2]] {
        let own = Arc::new(RequestText::new(&prompt, &[&reference]));
        let expected = drafts(drafter().with_text(own), &answer);
        assert!(expected.iter().any(|draft| draft.tree().len() > 1));
        assert_eq!(drafts(drafter().with_text(Arc::clone(&shared)), &answer), expected);
    }
    assert_eq!(Arc::strong_count(&shared), 1, "whoever has begun holds it no more");
}
