//! Requests that come, wait, share passes and prefixes, are put back and leave: no answer depends on it.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crate::common::HashModel;
use lookahead_engine::{
    Constraint, ConstraintError, CostCurve, CostPoint, DraftOrigin, DraftPolicy, Drafter, Engine,
    EngineError, EngineOptions, FinishReason, Generation, GenerationRequest, Namespace, NamespaceDrafter,
    NoDraft, RequestId, SamplingParams, Scheduler, SchedulerOptions, Scout, Submission,
};
use lookahead_model::{CacheMemory, LanguageModel, TokenId};
use proptest::prelude::*;

pub(crate) const VOCABULARY: usize = 12;

/// Allows a third of the tokens at each place, and knows every fifth.
struct Thirds {
    words: Vec<u32>,
}

impl Constraint for Thirds {
    fn allowed(&mut self, completion: &[TokenId]) -> Result<&[u32], ConstraintError> {
        let place = completion.len() as u32;
        let bits = (0..VOCABULARY as u32).filter(|&token| allows(place, token)).map(|token| 1 << token);
        self.words = vec![bits.sum()];
        Ok(&self.words)
    }

    fn scout(&mut self) -> Box<dyn Scout> {
        Box::new(Self { words: Vec::new() })
    }
}

impl Scout for Thirds {
    fn forced(&mut self, completion: &[TokenId], _: Instant) -> Vec<TokenId> {
        if completion.len() % 5 == 4 { vec![4] } else { Vec::new() }
    }

    fn accepted(&mut self, completion: &[TokenId], tokens: &[TokenId], _: Instant) -> usize {
        let places = completion.len() as u32..;
        places.zip(tokens).take_while(|&(place, &token)| allows(place, token)).count()
    }
}

fn allows(place: u32, token: TokenId) -> bool {
    if place % 5 == 4 { token == 4 } else { token % 3 == place % 3 }
}

fn constraint(is_constrained: bool) -> Option<Box<dyn Constraint>> {
    is_constrained.then(|| Box::new(Thirds { words: Vec::new() }) as Box<dyn Constraint>)
}

#[derive(Clone, Debug)]
struct Case {
    request: GenerationRequest,
    is_constrained: bool,
    tenant: usize,
    /// The step before which it comes.
    arrives: usize,
}

fn case() -> impl Strategy<Value = Case> {
    let sampling = (prop::sample::select(vec![0.0f32, 0.8]), any::<u64>(), any::<bool>()).prop_map(
        |(temperature, seed, biased)| SamplingParams {
            temperature,
            seed,
            frequency_penalty: if biased { 0.3 } else { 0.0 },
            logit_bias: if biased { vec![(3, 1.0)] } else { Vec::new() },
            ..SamplingParams::greedy()
        },
    );
    // Prompts begin with much in common.
    let prompt = (0usize..50, prop::collection::vec(0..VOCABULARY as TokenId, 1..8))
        .prop_map(|(shared, own)| (0..shared).map(|i| (i * i % 7) as TokenId).chain(own).collect::<Vec<_>>());
    (prompt, 1usize..40, sampling, any::<bool>(), 0usize..3, 0usize..60, prop::option::of(0usize..3))
        .prop_map(|(prompt, max_tokens, sampling, is_constrained, tenant, arrives, logprobs)| Case {
            request: GenerationRequest {
                prompt: prompt.into(),
                max_tokens,
                sampling,
                end_tokens: vec![11],
                trace_logits: true,
                logprobs,
                ..GenerationRequest::default()
            },
            is_constrained,
            tenant,
            arrives,
        })
}

/// The answer to a case alone, by plain decoding, with the log probabilities of its tokens.
fn alone(model: HashModel, case: &Case) -> (Generation, Vec<String>) {
    let mut engine = Engine::new(model, EngineOptions::default());
    let sequence = engine.start(case.request.clone(), Box::new(NoDraft)).unwrap();
    let mut sequence = [sequence.constrained(constraint(case.is_constrained))];
    let mut logprobs = Vec::new();
    while !sequence[0].has_ended() {
        let on_token = |_, token: lookahead_engine::GeneratedToken| {
            logprobs.push(format!("{:?}", token.logprobs));
            ControlFlow::Continue(())
        };
        engine.step(&mut sequence, on_token).unwrap();
    }
    let [sequence] = sequence;
    (sequence.into_generation().unwrap(), logprobs)
}

fn curve() -> Arc<CostCurve> {
    let points = [(1, 1.0), (4, 1.3), (16, 2.5)].map(|(tokens, ms)| CostPoint { tokens, ms });
    Arc::new(CostCurve::new(points.to_vec()).unwrap())
}

pub(crate) fn scheduler(
    model: HashModel,
    max_sequences: usize,
    prefill_chunk: usize,
) -> Scheduler<HashModel> {
    let engine = Engine::new(model, EngineOptions { prefill_chunk });
    Scheduler::new(engine, SchedulerOptions { max_sequences, max_queue: 1000, prefix_cache: true })
}

pub(crate) fn submission(request: GenerationRequest, drafter: impl Drafter + 'static) -> Submission {
    let (tenant, scope) = (String::new(), String::new());
    Submission { request, drafter: Box::new(drafter), constraint: None, tenant, scope }
}

/// Steps until nothing is left to do, and gives what came out.
pub(crate) fn drain<M: LanguageModel>(scheduler: &mut Scheduler<M>) -> BTreeMap<RequestId, Generation> {
    let mut finished = BTreeMap::new();
    while !scheduler.is_idle() {
        let report = scheduler.step(|_, _| ControlFlow::Continue(()));
        finished.extend(report.finished.into_iter().map(|(id, generation)| (id, generation.unwrap())));
    }
    finished
}

pub(crate) fn prompt_of(len: usize) -> GenerationRequest {
    let prompt = (0..len as TokenId).map(|i| i * 5 % 11).collect();
    GenerationRequest { prompt, max_tokens: 10, ..GenerationRequest::default() }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn every_answer_is_the_one_given_alone(
        cases in prop::collection::vec(case(), 1..12),
        peak in 0.0f32..4.0,
        seed: u64,
        max_sequences in 1usize..6,
        prefill_chunk in 1usize..40,
        memory in 165usize..600,
        snapshot_every in prop::sample::select(vec![1usize, 7]),
    ) {
        // Memory for the longest sequence and what a step may draft, but often not for two.
        let model = || HashModel::new(VOCABULARY, peak, seed);
        let expected: Vec<_> = cases.iter().map(|case| alone(model(), case)).collect();
        let namespaces = [0, 1, 2].map(|_| Arc::new(Namespace::new(1 << 20).unwrap()));
        let model = HashModel { snapshot_every, ..model().with_memory(memory) };
        let mut scheduler = scheduler(model, max_sequences, prefill_chunk);
        let mut ids = BTreeMap::new();
        let mut logprobs = vec![Vec::new(); cases.len()];
        let mut finished = BTreeMap::new();
        for step in 0.. {
            for (index, case) in cases.iter().enumerate().filter(|(_, case)| case.arrives == step) {
                let namespace = Arc::clone(&namespaces[case.tenant]);
                let drafter = NamespaceDrafter::new(namespace, DraftPolicy::adaptive(curve()));
                let submission = Submission {
                    constraint: constraint(case.is_constrained),
                    // Two tenants of three share a scope, which is no rule and does no harm.
                    tenant: case.tenant.to_string(),
                    scope: (case.tenant % 2).to_string(),
                    ..submission(case.request.clone(), drafter)
                };
                ids.insert(scheduler.submit(submission).unwrap(), index);
            }
            if step > 60 && scheduler.is_idle() {
                break;
            }
            prop_assert!(step < 5000, "no progress");
            let report = scheduler.step(|id, token| {
                logprobs[ids[&id]].push(format!("{:?}", token.logprobs));
                ControlFlow::Continue(())
            });
            prop_assert!(scheduler.running() <= max_sequences);
            prop_assert!(report.pass.sequences <= max_sequences);
            let CacheMemory { used_bytes, total_bytes, .. } = scheduler.cache_memory();
            prop_assert!(used_bytes <= total_bytes);
            finished.extend(report.finished.into_iter().map(|(id, generation)| (ids[&id], generation)));
        }
        prop_assert_eq!(finished.len(), cases.len());
        for (index, generation) in finished {
            let generation = generation.unwrap();
            let (alone, alone_logprobs) = &expected[index];
            prop_assert_eq!(&generation.token_ids, &alone.token_ids);
            prop_assert_eq!(generation.finish_reason, alone.finish_reason);
            let rows = generation.logits_trace.unwrap();
            prop_assert_eq!(rows.rows(), alone.logits_trace.as_ref().unwrap().rows());
            prop_assert_eq!(&logprobs[index], alone_logprobs);
        }
    }
}

#[test]
fn several_answers_to_one_prompt_compute_it_once() {
    let mut scheduler = scheduler(HashModel::new(VOCABULARY, 2.0, 1), 4, 64);
    let ids: Vec<_> = (0..4)
        .map(|seed| {
            let sampling = SamplingParams { temperature: 1.0, seed, ..SamplingParams::greedy() };
            scheduler.submit(submission(GenerationRequest { sampling, ..prompt_of(100) }, NoDraft)).unwrap()
        })
        .collect();
    let finished = drain(&mut scheduler);
    let cached: Vec<usize> = ids.iter().map(|id| finished[id].stats.cached_tokens).collect();
    assert_eq!(cached, [0, 99, 99, 99]);
}

#[test]
fn a_step_commits_the_paths_of_all_sequences_at_once() {
    let mut scheduler = scheduler(HashModel::new(VOCABULARY, 2.0, 1), 3, 64);
    for scope in ["a", "b", "c"] {
        let submission = Submission { scope: scope.to_owned(), ..submission(prompt_of(20), NoDraft) };
        scheduler.submit(submission).unwrap();
    }
    drain(&mut scheduler);
    let HashModel { passes, commits, .. } = scheduler.engine().model();
    assert_eq!(*commits, passes.iter().map(Vec::len).collect::<Vec<_>>());
    assert!(commits.contains(&3));
}

#[test]
fn a_prefix_is_shared_as_far_as_there_are_snapshots() {
    let model = HashModel { snapshot_every: 8, ..HashModel::new(VOCABULARY, 2.0, 1) };
    let mut scheduler = scheduler(model, 4, 64);
    let mut ask = |len: usize| {
        let id = scheduler.submit(submission(prompt_of(len), NoDraft)).unwrap();
        drain(&mut scheduler)[&id].stats.cached_tokens
    };
    assert_eq!([ask(50), ask(50), ask(49), ask(48)], [0, 48, 48, 40]);
}

#[test]
fn a_prefix_is_found_in_its_scope_only() {
    let mut scheduler = scheduler(HashModel::new(VOCABULARY, 2.0, 1), 4, 64);
    let mut ask = |scope: &str| {
        let submission = Submission { scope: scope.to_owned(), ..submission(prompt_of(50), NoDraft) };
        let id = scheduler.submit(submission).unwrap();
        drain(&mut scheduler)[&id].stats.cached_tokens
    };
    assert_eq!([ask("a"), ask("a"), ask("b"), ask("a"), ask("b")], [0, 49, 0, 49, 49]);
}

#[test]
fn the_first_come_are_the_first_served_and_the_youngest_makes_room() {
    // Memory for one prompt with its answer, and a part of another.
    let mut scheduler = scheduler(HashModel::new(VOCABULARY, 2.0, 1).with_memory(180), 4, 64);
    let request = |seed| GenerationRequest {
        max_tokens: 60,
        sampling: SamplingParams { temperature: 2.0, seed, ..SamplingParams::greedy() },
        ..prompt_of(20)
    };
    for seed in 0..6 {
        let scope = seed.to_string(); // no shared prefixes
        scheduler.submit(Submission { scope, ..submission(request(seed), NoDraft) }).unwrap();
    }
    let (mut order, mut preempted, mut admitted) = (Vec::new(), 0, Vec::new());
    while !scheduler.is_idle() {
        let report = scheduler.step(|_, _| ControlFlow::Continue(()));
        preempted += report.preempted;
        admitted.extend(report.admitted);
        order.extend(report.finished.into_iter().map(|(id, generation)| {
            assert_eq!(generation.unwrap().token_ids.len(), 60);
            id
        }));
    }
    assert!(order.is_sorted() && order.len() == 6, "{order:?}");
    assert_eq!(admitted, order, "each once, in turn");
    assert!(preempted > 0);
    assert_eq!(scheduler.cache_memory().used_tokens(), {
        // What is kept is kept for prompts to come; it goes when they need the room.
        let kept = scheduler.cache_memory().used_tokens();
        assert!(kept > 0 && kept <= 180);
        kept
    });
}

#[test]
fn a_user_who_gives_up_is_not_served_wherever_the_request_is() {
    let mut scheduler = scheduler(HashModel::new(VOCABULARY, 2.0, 1), 1, 64);
    let flags: Vec<_> = (0..3).map(|_| Arc::new(AtomicBool::new(false))).collect();
    let ids: Vec<_> = flags
        .iter()
        .map(|flag| {
            let request = GenerationRequest { cancel: Some(Arc::clone(flag)), ..prompt_of(5) };
            scheduler.submit(submission(request, NoDraft)).unwrap()
        })
        .collect();
    scheduler.step(|_, _| ControlFlow::Continue(()));
    flags[0].store(true, Ordering::Relaxed); // runs
    flags[2].store(true, Ordering::Relaxed); // waits
    let finished = drain(&mut scheduler);
    assert_eq!(finished[&ids[0]].finish_reason, FinishReason::Cancelled);
    assert_eq!(finished[&ids[0]].token_ids.len(), 1);
    assert_eq!(
        (finished[&ids[1]].finish_reason, finished[&ids[1]].token_ids.len()),
        (FinishReason::Length, 10)
    );
    assert_eq!(
        (finished[&ids[2]].finish_reason, finished[&ids[2]].token_ids.len()),
        (FinishReason::Cancelled, 0)
    );
}

#[test]
fn a_full_queue_and_a_request_that_cannot_run_are_refused() {
    let engine = Engine::new(HashModel::new(VOCABULARY, 2.0, 1), EngineOptions::default());
    let options = SchedulerOptions { max_sequences: 1, max_queue: 2, prefix_cache: true };
    let mut scheduler = Scheduler::new(engine, options);
    let bad = GenerationRequest { prompt: [99].into(), max_tokens: 5, ..GenerationRequest::default() };
    let bad = scheduler.submit(submission(bad, NoDraft)).unwrap();
    scheduler.submit(submission(prompt_of(5), NoDraft)).unwrap();
    let error = scheduler.submit(submission(prompt_of(5), NoDraft)).unwrap_err();
    assert_eq!(error.to_string(), "2 requests are waiting, as many as may");
    let report = scheduler.step(|_, _| ControlFlow::Continue(()));
    let [(id, Err(error))] = &report.finished[..] else { panic!("{report:?}") };
    assert_eq!(*id, bad);
    assert!(matches!(error, EngineError::Forward(_)), "{error}");
    assert_eq!(scheduler.running(), 1, "the next one is served in the same step");
    // A prompt that no memory would ever hold is refused like one that the context does not hold.
    let scheduler =
        Engine::new(HashModel::new(VOCABULARY, 2.0, 1).with_memory(100), EngineOptions::default());
    assert_eq!(scheduler.context_length(), 36);
    let error = scheduler.check(&prompt_of(36)).unwrap_err().to_string();
    assert!(error.contains("holds 36"), "{error}");
}

#[test]
fn what_a_constraint_forces_is_drafted_for_free() {
    let run = |drafter: Box<dyn Drafter>| {
        let mut scheduler = scheduler(HashModel::new(VOCABULARY, 0.0, 1), 1, 64);
        let request = GenerationRequest { max_tokens: 50, ..prompt_of(5) };
        let id = scheduler
            .submit(Submission { drafter, constraint: constraint(true), ..submission(request, NoDraft) })
            .unwrap();
        drain(&mut scheduler).remove(&id).unwrap()
    };
    let namespace = Arc::new(Namespace::new(1 << 20).unwrap());
    let lookahead = run(Box::new(NamespaceDrafter::new(namespace, DraftPolicy::adaptive(curve()))));
    let plain = run(Box::new(NoDraft));
    assert_eq!(lookahead.token_ids, plain.token_ids);
    assert!((0..).zip(&plain.token_ids).all(|(place, &token)| allows(place, token)));
    assert!(lookahead.stats.accepted_by_origin.of(DraftOrigin::Constraint) >= 8, "every fifth of 50");
    assert_eq!((plain.stats.edl(), plain.stats.draft_tokens()), (1.0, 0), "plain decoding drafts nothing");
}
