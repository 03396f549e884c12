//! The contract: what is drafted, how the prompt is cut and who shares the batch changes no token and no bit.

use std::ops::ControlFlow;
use std::sync::Arc;

use crate::common::HashModel;
use lookahead_engine::{
    AdversarialDrafter, CostCurve, CostPoint, DraftPolicy, DraftShape, DraftSource, Drafter, Engine,
    EngineOptions, FinishReason, GeneratedToken, Generation, GenerationRequest, Namespace, NamespaceDrafter,
    NoDraft, Sampler, SamplingParams, Sharing, StopStrings, verify,
};
use lookahead_model::{Accepted, Keep, LanguageModel, Logits, LogitsOf, SequenceStep, TokenId, TokenTree};
use proptest::prelude::*;

/// A toy detokeniser: a letter per token.
fn text_of(token: TokenId) -> String {
    char::from(b'a' + (token % 26) as u8).to_string()
}

/// A sink that watches for a stop string.
fn until(stop: Option<&str>) -> impl FnMut(TokenId) -> ControlFlow<FinishReason> + use<> {
    let mut stop_strings = StopStrings::new(stop.map(String::from));
    move |token| {
        let stopped = stop_strings.push(&text_of(token)).stopped;
        if stopped { ControlFlow::Break(FinishReason::Stop) } else { ControlFlow::Continue(()) }
    }
}

#[derive(Clone, Debug)]
struct Case {
    request: GenerationRequest,
    stop: Option<String>,
}

/// The definition of generation: for each token, run all tokens before it afresh.
fn redecode(model: &mut HashModel, case: &Case) -> (Vec<TokenId>, FinishReason) {
    let request = &case.request;
    let mut sampler = Sampler::new(request.sampling.clone()).unwrap();
    let mut tokens = request.prompt.to_vec();
    let mut sink = until(case.stop.as_deref());
    let mut logits = Logits::default();
    let mut finish = FinishReason::Length;
    while tokens.len() < (request.prompt.len() + request.max_tokens).min(model.context_length()) {
        let mut cache = model.new_cache(tokens.len());
        let tree = TokenTree::chain(&tokens).unwrap();
        let step =
            SequenceStep { tree: &tree, cache: &mut cache, logits_of: LogitsOf::Last, keep: Keep::Row };
        model.forward(&mut [step], &mut logits).unwrap();
        let token = sampler.choose(logits.row(0), &tokens, tokens.len() as u64);
        tokens.push(token);
        if sink(token).is_break() || request.end_tokens.contains(&token) {
            finish = FinishReason::Stop;
            break;
        }
    }
    (tokens.split_off(request.prompt.len()), finish)
}

fn plain(model: HashModel, case: &Case) -> Generation {
    let mut engine = Engine::new(model, EngineOptions::default());
    let mut sink = until(case.stop.as_deref());
    engine.generate(case.request.clone(), Box::new(NoDraft), |token| sink(token.id)).unwrap()
}

/// Runs all cases as one batch, each with its drafter, and returns what each produced.
fn batched(
    model: HashModel,
    prefill_chunk: usize,
    cases: &[Case],
    drafters: Vec<Box<dyn Drafter>>,
) -> Vec<(Vec<TokenId>, FinishReason, Vec<u64>)> {
    let mut engine = Engine::new(model, EngineOptions { prefill_chunk });
    let mut sequences: Vec<_> = cases
        .iter()
        .zip(drafters)
        .map(|(case, drafter)| engine.start(case.request.clone(), drafter).unwrap())
        .collect();
    let mut sinks: Vec<_> = cases.iter().map(|case| until(case.stop.as_deref())).collect();
    let mut streamed = vec![Vec::new(); cases.len()];
    while sequences.iter().any(|sequence| !sequence.has_ended()) {
        let on_token = |index: usize, token: GeneratedToken| {
            streamed[index].push(token.id);
            sinks[index](token.id)
        };
        engine.step(&mut sequences, on_token).unwrap();
    }
    let results = sequences.iter().zip(streamed).map(|(sequence, streamed)| {
        assert_eq!(sequence.completion(), streamed, "what was streamed is what was produced");
        let stats = sequence.stats();
        assert_eq!(stats.completion_tokens, streamed.len());
        assert!(stats.accepted_tokens() <= stats.draft_tokens());
        assert!(stats.decode_tokens as u64 <= stats.steps() + stats.accepted_tokens());
        let rows = sequence.logits_trace().map_or_else(Vec::new, |trace| trace.rows().to_vec());
        (streamed, sequence.finish_reason().unwrap(), rows)
    });
    results.collect()
}

fn sampling() -> impl Strategy<Value = SamplingParams> {
    let sampled = (
        prop::sample::select(vec![0.3f32, 0.8, 1.5]),
        prop::sample::select(vec![0usize, 1, 3, 100]),
        prop::sample::select(vec![1.0f32, 0.9, 0.5]),
        prop::sample::select(vec![0.0f32, 0.1]),
        any::<u64>(),
    );
    let sampled = sampled.prop_map(|(temperature, top_k, top_p, min_p, seed)| SamplingParams {
        temperature,
        top_k,
        top_p,
        min_p,
        seed,
        ..SamplingParams::greedy()
    });
    let chosen = prop_oneof![Just(SamplingParams::greedy()), sampled];
    let penalties = prop_oneof![
        Just((1.0f32, 0.0f32, 0.0f32, 64usize)),
        (
            prop::sample::select(vec![1.0f32, 1.3, 0.8]),
            prop::sample::select(vec![0.0f32, 0.5]),
            prop::sample::select(vec![0.0f32, 0.2]),
            prop::sample::select(vec![1usize, 5, 64, usize::MAX]),
        ),
    ];
    (chosen, penalties).prop_map(|(params, (repetition, presence, frequency, penalty_window))| {
        SamplingParams {
            repetition_penalty: repetition,
            presence_penalty: presence,
            frequency_penalty: frequency,
            penalty_window,
            ..params
        }
    })
}

const VOCABULARY: TokenId = 12;

fn case() -> impl Strategy<Value = Case> {
    (
        prop::collection::vec(0..VOCABULARY, 1..40),
        0usize..60,
        sampling(),
        prop::collection::vec(0..VOCABULARY, 0..2),
        prop::option::of("[a-l]{1,3}"),
    )
        .prop_map(|(prompt, max_tokens, sampling, end_tokens, stop)| {
            let request = GenerationRequest {
                prompt: prompt.into(),
                max_tokens,
                sampling,
                end_tokens,
                trace_logits: true,
                ..GenerationRequest::default()
            };
            Case { request, stop }
        })
}

/// A context length that some of the cases fill.
fn model(peak: f32, seed: u64) -> HashModel {
    HashModel { context_length: 64, ..HashModel::new(VOCABULARY as usize, peak, seed) }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn plain_decoding_equals_redecoding_every_token_afresh(
        case in case(), peak in 0.0f32..4.0, seed: u64,
    ) {
        let generation = plain(model(peak, seed), &case);
        let (tokens, finish_reason) = redecode(&mut model(peak, seed), &case);
        prop_assert_eq!(generation.token_ids, tokens);
        prop_assert_eq!(generation.finish_reason, finish_reason);
        prop_assert!(generation.stats.edl() <= 1.0);
    }

    #[test]
    fn adversarial_drafts_chunks_and_batches_change_nothing(
        cases in prop::collection::vec(case(), 1..5),
        peak in 0.0f32..4.0,
        seed: u64,
        prefill_chunk in 1usize..50,
        draft_length in 0usize..70,
        near_misses: bool,
    ) {
        let expected: Vec<Generation> = cases.iter().map(|case| plain(model(peak, seed), case)).collect();
        let drafters = cases.iter().zip(&expected).enumerate().map(|(index, (case, plain))| {
            let seed = seed ^ index as u64;
            let drafter = AdversarialDrafter::new(VOCABULARY as usize, draft_length, seed);
            let reference = [&case.request.prompt[..], &plain.token_ids].concat();
            Box::new(if near_misses { drafter.with_reference(reference) } else { drafter }) as Box<dyn Drafter>
        });
        let results = batched(model(peak, seed), prefill_chunk, &cases, drafters.collect());
        for (plain, (tokens, finish_reason, rows)) in expected.iter().zip(results) {
            prop_assert_eq!(&plain.token_ids, &tokens);
            prop_assert_eq!(plain.finish_reason, finish_reason);
            prop_assert_eq!(plain.logits_trace.as_ref().unwrap().rows(), rows);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// Where the best of a row suffice, nothing else is kept; the tokens are those of whole rows.
    #[test]
    fn what_is_kept_of_logits_changes_no_token(
        cases in prop::collection::vec(case(), 1..5),
        peak in 0.0f32..4.0,
        seed: u64,
        draft_length in 0usize..20,
    ) {
        let model = || HashModel { vocabulary_size: 150, ..model(peak, seed) };
        let untraced = |case: &Case| {
            let request = GenerationRequest { trace_logits: false, ..case.request.clone() };
            Case { request, ..case.clone() }
        };
        let untraced: Vec<Case> = cases.iter().map(untraced).collect();
        let drafters = (seed..).zip(&cases).map(|(seed, _)| {
            Box::new(AdversarialDrafter::new(150, draft_length, seed)) as Box<dyn Drafter>
        });
        let results = batched(model(), 64, &untraced, drafters.collect());
        for (case, (tokens, finish_reason, _)) in cases.iter().zip(results) {
            let (expected, expected_reason) = redecode(&mut model(), case);
            prop_assert_eq!(tokens, expected);
            prop_assert_eq!(finish_reason, expected_reason);
        }
    }
}

#[test]
fn one_request_that_needs_whole_rows_does_not_make_others_keep_them() {
    let mut engine = Engine::new(HashModel::new(200, 2.0, 1), EngineOptions::default());
    let greedy = SamplingParams::greedy();
    let hot = SamplingParams { temperature: 1.0, ..greedy.clone() };
    let few = SamplingParams { top_k: 5, ..hot.clone() };
    let start = |sampling| {
        let request = GenerationRequest {
            prompt: [1, 2].into(),
            max_tokens: 4,
            sampling,
            ..GenerationRequest::default()
        };
        engine.start(request, Box::new(NoDraft)).unwrap()
    };
    let mut sequences = [greedy, hot, few].map(start);
    engine.step(&mut sequences, |_, _| ControlFlow::Continue(())).unwrap();
    assert_eq!(engine.model().kept, [Keep::Best(1), Keep::Row, Keep::Best(5)]);
}

fn policy() -> impl Strategy<Value = DraftPolicy> {
    let shapes = vec![DraftShape::Hierarchical, DraftShape::Parallel, DraftShape::Single];
    let sources = vec![DraftSource::Prompt, DraftSource::Output, DraftSource::Mixed];
    let sharing = vec![Sharing::ReadWrite, Sharing::Read, Sharing::Off];
    (
        0usize..70,
        1usize..20,
        prop::sample::select(shapes),
        prop::sample::select(sources),
        prop::sample::select(vec![0.0f32, 0.02, 0.3]),
        prop::sample::select(sharing),
        any::<bool>(),
        cost(),
    )
        .prop_map(
            |(draft_length, branch_length, shape, source, min_probability, sharing, runners_up, cost)| {
                let limits =
                    DraftPolicy { draft_length, branch_length, min_probability, ..DraftPolicy::default() };
                DraftPolicy { shape, source, sharing, runners_up, cost, ..limits }
            },
        )
}

/// A cost curve for adaptive drafts, or none.
fn cost() -> impl Strategy<Value = Option<Arc<CostCurve>>> {
    prop::option::of(prop::collection::vec(1.0f64..4.0, 1..8)).prop_map(|times| {
        let points = times?.into_iter().zip([1, 2, 3, 5, 9, 17, 33]);
        let points = points.map(|(ms, tokens)| CostPoint { tokens, ms }).collect();
        Some(Arc::new(CostCurve::new(points).unwrap()))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn drafts_out_of_a_shared_namespace_change_nothing(
        cases in prop::collection::vec((case(), policy()), 1..5),
        warm_up in prop::collection::vec(0..VOCABULARY + 2, 0..100),
        peak in 0.0f32..4.0,
        seed: u64,
        prefill_chunk in 1usize..50,
    ) {
        // The corpus has tokens that the model does not know, as that of another model would.
        let namespace = Arc::new(Namespace::new(1 << 20).unwrap());
        namespace.warm_up(&warm_up).unwrap();
        let drafters = cases.iter().map(|(_, policy)| {
            Box::new(NamespaceDrafter::new(Arc::clone(&namespace), policy.clone())) as Box<dyn Drafter>
        });
        let drafters = drafters.collect();
        let cases: Vec<Case> = cases.iter().map(|(case, _)| case.clone()).collect();
        let results = batched(model(peak, seed), prefill_chunk, &cases, drafters);
        for (case, (tokens, finish_reason, rows)) in cases.iter().zip(results) {
            let plain = plain(model(peak, seed), case);
            prop_assert_eq!(&plain.token_ids, &tokens);
            prop_assert_eq!(plain.finish_reason, finish_reason);
            prop_assert_eq!(plain.logits_trace.as_ref().unwrap().rows(), rows);
        }
    }

    #[test]
    fn a_verified_path_is_what_redecoding_token_by_token_gives(
        case in case(), peak in 0.0f32..4.0, seed: u64, draft_length in 0usize..40,
    ) {
        let mut model = model(peak, seed);
        let mut history = case.request.prompt.to_vec();
        let limits = lookahead_engine::DraftLimits { nodes: draft_length, depth: 20 };
        let expected = {
            let request = GenerationRequest { max_tokens: 20, end_tokens: Vec::new(), ..case.request.clone() };
            redecode(&mut model, &Case { request, stop: None }).0
        };
        let reference = [history.clone(), expected.clone()].concat();
        let mut drafter = AdversarialDrafter::new(model.vocabulary_size() - 3, draft_length, seed)
            .with_reference(reference);
        let draft = drafter.draft(&history, limits);
        let tree = draft.tree();

        let mut cache = model.new_cache(100);
        let mut logits = Logits::default();
        if history.len() > 1 {
            let prompt = TokenTree::chain(&history[..history.len() - 1]).unwrap();
            let step = SequenceStep { tree: &prompt, cache: &mut cache, logits_of: LogitsOf::Nothing, keep: Keep::Row };
            model.forward(&mut [step], &mut logits).unwrap();
            let path: Vec<u32> = (0..prompt.len() as u32).collect();
            model.commit(&mut [Accepted { cache: &mut cache, path: &path }]);
        }
        model.context_length = 1000; // the engine cuts drafts at the context's end; here nobody does
        let step = SequenceStep { tree, cache: &mut cache, logits_of: LogitsOf::Every, keep: Keep::Row };
        model.forward(&mut [step], &mut logits).unwrap();
        let mut sampler = Sampler::new(case.request.sampling.clone()).unwrap();
        let choose = |node, history: &[TokenId]| {
            Some(sampler.choose(logits.row(node), history, history.len() as u64))
        };
        let verified = verify(tree, 0, choose, &mut history);

        let count = verified.tokens.len().min(expected.len());
        prop_assert_eq!(&verified.tokens[..count], &expected[..count]);
        let drafted: Vec<TokenId> = verified.path[1..].iter().map(|&node| tree.tokens()[node as usize]).collect();
        prop_assert_eq!(&verified.tokens[..verified.tokens.len() - 1], drafted);
    }
}

#[test]
fn the_hash_model_notices_a_wrong_row_in_the_cache() {
    // Two nodes of the same depth with the same token but another parent: only the rows tell them apart.
    let mut model = HashModel::new(12, 2.0, 1);
    let mut logits_after_keeping = |path: &[u32]| {
        let mut cache = model.new_cache(20);
        let mut logits = Logits::default();
        let tree = TokenTree::new(vec![1, 2, 3, 4, 4], vec![0, 0, 0, 1, 2]).unwrap();
        let step =
            SequenceStep { tree: &tree, cache: &mut cache, logits_of: LogitsOf::Nothing, keep: Keep::Row };
        model.forward(&mut [step], &mut logits).unwrap();
        model.commit(&mut [Accepted { cache: &mut cache, path }]);
        let next = TokenTree::chain(&[5]).unwrap();
        let step =
            SequenceStep { tree: &next, cache: &mut cache, logits_of: LogitsOf::Last, keep: Keep::Row };
        model.forward(&mut [step], &mut logits).unwrap();
        logits.row(0).to_vec()
    };
    let right = logits_after_keeping(&[0, 1, 3]);
    for wrong in [[0, 1, 4], [0, 2, 3], [0, 2, 4]] {
        assert_ne!(right, logits_after_keeping(&wrong), "{wrong:?}");
    }
}
