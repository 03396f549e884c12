//! Tenants share places, passes and memory: none waits for another's prompts, answers or number of requests, and none
//! starves. That no answer depends on it is shown beside this.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::common::HashModel;
use crate::scheduler::{VOCABULARY, drain, prompt_of, scheduler, submission};
use lookahead_engine::{
    Engine, EngineOptions, FinishReason, Generation, GenerationRequest, NoDraft, RequestId, SamplingParams,
    Scheduler, SchedulerOptions, StepReport, Submission,
};
use lookahead_model::{Accepted, CacheMemory, ForwardError, LanguageModel, Logits, SequenceStep, TokenId};

fn model() -> HashModel {
    HashModel::new(VOCABULARY, 2.0, 1)
}

/// A request of a tenant, whose answer is its own and so long.
fn of(tenant: &str, number: u64, prompt: usize, answer: usize) -> Submission {
    let sampling = SamplingParams { temperature: 2.0, seed: number, ..SamplingParams::greedy() };
    let request = GenerationRequest { sampling, max_tokens: answer, ..prompt_of(prompt) };
    // Without prefixes in common.
    Submission {
        tenant: tenant.to_owned(),
        scope: format!("{tenant}/{number}"),
        ..submission(request, NoDraft)
    }
}

fn step<M: LanguageModel>(scheduler: &mut Scheduler<M>) -> StepReport {
    scheduler.step(|_, _| ControlFlow::Continue(()))
}

/// Steps until a request has ended; how many that took.
fn steps_to_end<M: LanguageModel>(scheduler: &mut Scheduler<M>, id: RequestId) -> (usize, Generation) {
    for steps in 1..5000 {
        for (finished, generation) in step(scheduler).finished {
            if finished == id {
                return (steps, generation.unwrap());
            }
        }
    }
    panic!("{id:?} starves");
}

#[test]
fn many_requests_of_a_tenant_take_no_place_that_another_needs() {
    let mut scheduler = scheduler(model(), 4, 64);
    let flood: Vec<_> = (0..50).map(|number| scheduler.submit(of("many", number, 5, 100)).unwrap()).collect();
    for _ in 0..10 {
        step(&mut scheduler);
    }
    let one = scheduler.submit(of("one", 0, 5, 20)).unwrap();
    let report = step(&mut scheduler);
    assert_eq!(
        (report.admitted, report.paused, report.preempted),
        (vec![one], 1, 0),
        "at once, and at no cost"
    );
    let (steps, _) = steps_to_end(&mut scheduler, one);
    assert!(steps <= 21, "{steps} steps for 20 tokens");
    // Whoever gave up a place goes on where it was.
    let generations = drain(&mut scheduler);
    for id in flood {
        let Some(generation) = generations.get(&id) else { continue };
        assert_eq!(generation.token_ids.len(), 100);
        assert!(generation.stats.prefill_passes <= 1, "{}: computed again", generation.stats.prefill_passes);
    }
}

#[test]
fn tenants_are_given_as_many_tokens_whatever_the_size_of_their_requests() {
    // One place, so that it is the order of requests that decides.
    let mut scheduler = scheduler(model(), 1, 512);
    let mut tenants = BTreeMap::new();
    for number in 0..200 {
        tenants.insert(scheduler.submit(of("long", number, 200, 10)).unwrap(), "long");
        tenants.insert(scheduler.submit(of("short", number, 5, 10)).unwrap(), "short");
    }
    let mut tokens = BTreeMap::new();
    for _ in 0..600 {
        for (id, generation) in step(&mut scheduler).finished {
            let stats = generation.unwrap().stats;
            *tokens.entry(tenants[&id]).or_insert(0) += stats.prompt_tokens + stats.completion_tokens;
        }
    }
    let (long, short) = (tokens["long"], tokens["short"]);
    assert!(long.abs_diff(short) <= 2 * 210, "{long} tokens of long requests, {short} of short ones");
}

#[test]
fn a_place_is_shared_in_time_where_there_is_one() {
    let mut scheduler = scheduler(model(), 1, 64);
    let endless = scheduler.submit(of("endless", 0, 5, 1500)).unwrap();
    for _ in 0..200 {
        step(&mut scheduler);
    }
    let short = scheduler.submit(of("short", 0, 5, 20)).unwrap();
    let (steps, _) = steps_to_end(&mut scheduler, short);
    assert!(steps < 64 + 25, "{steps} steps");
    let (_, generation) = steps_to_end(&mut scheduler, endless);
    assert_eq!(generation.token_ids.len(), 1500);
}

#[test]
fn a_long_prompt_holds_up_neither_a_short_one_nor_an_answer() {
    let mut scheduler = scheduler(model(), 4, 256);
    let answer = scheduler.submit(of("answer", 0, 5, 40)).unwrap();
    step(&mut scheduler);
    scheduler.submit(of("long", 0, 3000, 1)).unwrap();
    scheduler.submit(of("long", 1, 3000, 1)).unwrap();
    let before = scheduler.engine().model().passes.len();
    let (steps, _) = steps_to_end(&mut scheduler, answer);
    assert!(steps <= 40, "{steps}");
    let passes = &scheduler.engine().model().passes[before..];
    let largest = passes.iter().map(|pass| pass.iter().sum::<usize>()).max().unwrap();
    assert!((8..=17).contains(&largest), "{largest} rows: no more than twice the time of one");
    // Alone, prompts are computed in whole chunks again.
    let report = step(&mut scheduler);
    assert_eq!(report.pass.prefill_tokens, 256);
    let short = scheduler.submit(of("short", 0, 30, 5)).unwrap();
    let (steps, _) = steps_to_end(&mut scheduler, short);
    assert!(steps <= 6, "{steps} steps for a prompt of 30 and 5 tokens");
}

#[test]
fn whoever_waits_for_a_prompt_lets_others_pass() {
    let mut scheduler = scheduler(model(), 4, 16);
    let like = |number, prompt| Submission { scope: "same".to_owned(), ..of("a", number, prompt, 4) };
    let first = scheduler.submit(like(0, 200)).unwrap();
    let waits = scheduler.submit(like(1, 200)).unwrap();
    let behind = scheduler.submit(of("a", 2, 8, 4)).unwrap();
    let other = scheduler.submit(of("b", 0, 8, 4)).unwrap();
    let admitted = step(&mut scheduler).admitted;
    assert!([first, behind, other].iter().all(|id| admitted.contains(id)), "{admitted:?}");
    let generations = drain(&mut scheduler);
    let cached = generations[&waits].stats.cached_tokens;
    assert!(cached > 200 - 32, "{cached} tokens spared");
}

#[test]
fn memory_is_taken_from_the_tenant_that_holds_the_most() {
    // Memory for about four of the flood.
    let mut scheduler = scheduler(model().with_memory(4 * 120), 8, 64);
    for number in 0..20 {
        scheduler.submit(of("many", number, 60, 40)).unwrap();
    }
    for _ in 0..20 {
        step(&mut scheduler);
    }
    let one = scheduler.submit(of("one", 0, 60, 40)).unwrap();
    let mut admitted = Vec::new();
    for _ in 0..3 {
        admitted.extend(step(&mut scheduler).admitted);
    }
    assert!(admitted.contains(&one), "it waits for no answer of the others");
    let (steps, _) = steps_to_end(&mut scheduler, one);
    assert!(steps <= 50, "{steps}");
    assert_eq!(drain(&mut scheduler).values().filter(|g| g.token_ids.len() != 40).count(), 0);
}

#[test]
fn a_request_that_needs_all_memory_is_answered_in_the_end() {
    let mut scheduler = scheduler(model().with_memory(600), 4, 64);
    let mut number = 0;
    let mut chat = |scheduler: &mut Scheduler<HashModel>| {
        while scheduler.queued() < 4 {
            number += 1;
            scheduler.submit(of("chatty", number, 20, 30)).unwrap();
        }
    };
    chat(&mut scheduler);
    step(&mut scheduler);
    let large = scheduler.submit(of("large", 0, 500, 20)).unwrap();
    let mut chatty = 0;
    for steps in 0.. {
        assert!(steps < 3000, "it starves");
        chat(&mut scheduler);
        let finished = step(&mut scheduler).finished;
        if finished.iter().any(|(id, _)| *id == large) {
            break;
        }
        chatty += finished.len();
    }
    assert!(chatty > 20, "others went on meanwhile: {chatty}");
}

#[test]
fn those_that_have_not_begun_can_be_withdrawn() {
    let mut scheduler = scheduler(model(), 1, 64);
    let running = scheduler.submit(of("a", 0, 5, 100)).unwrap();
    let waiting: Vec<_> = (1..4).map(|number| scheduler.submit(of("a", number, 5, 5)).unwrap()).collect();
    let other = scheduler.submit(of("b", 0, 5, 5)).unwrap();
    while !step(&mut scheduler).admitted.contains(&other) {}
    assert_eq!(scheduler.queued(), 4, "the first one waits for a place, with what it has");
    assert_eq!(scheduler.withdraw_waiting(), waiting);
    let generations = drain(&mut scheduler);
    assert_eq!(generations[&running].token_ids.len(), 100);
    assert_eq!(generations.len(), 2);
}

/// Panics in a pass over [`POISON`], behind some work.
struct Panicking(HashModel);

const POISON: TokenId = 11;

impl LanguageModel for Panicking {
    type Cache = <HashModel as LanguageModel>::Cache;

    fn vocabulary_size(&self) -> usize {
        self.0.vocabulary_size()
    }

    fn context_length(&self) -> usize {
        self.0.context_length()
    }

    fn new_cache(&self, capacity: usize) -> Self::Cache {
        self.0.new_cache(capacity)
    }

    fn cache_memory(&self) -> CacheMemory {
        self.0.cache_memory()
    }

    fn forward(
        &mut self,
        batch: &mut [SequenceStep<'_, Self::Cache>],
        logits: &mut Logits,
    ) -> Result<(), ForwardError> {
        self.0.forward(batch, logits)?;
        assert!(!batch.iter().any(|step| step.tree.tokens().contains(&POISON)), "poison");
        Ok(())
    }

    fn commit(&mut self, batch: &mut [Accepted<'_, Self::Cache>]) {
        self.0.commit(batch);
    }
}

#[test]
fn a_panic_costs_the_batch_and_those_that_wait_go_on() {
    // Favourites alone, so that no answer has the poison by chance.
    let run = |poison: bool| {
        let engine = Engine::new(
            Panicking(HashModel::new(VOCABULARY, 9.0, 3).with_memory(400)),
            EngineOptions::default(),
        );
        let options = SchedulerOptions { max_sequences: 2, max_queue: 100, prefix_cache: true };
        let mut scheduler = Scheduler::new(engine, options);
        let clean = |number| {
            let bias = vec![(POISON, -100.0)];
            let mut submission = of("clean", number, 20, 30);
            submission.request.sampling = SamplingParams { logit_bias: bias, ..submission.request.sampling };
            submission
        };
        let mut ids: Vec<_> = (0..4).map(|number| scheduler.submit(clean(number)).unwrap()).collect();
        for _ in 0..5 {
            step(&mut scheduler);
        }
        if poison {
            let request = GenerationRequest {
                prompt: [1, 2, POISON, 3].into(),
                max_tokens: 5,
                ..GenerationRequest::default()
            };
            let tenant = "poisoned".to_owned();
            let poisoned = scheduler.submit(Submission { tenant, ..submission(request, NoDraft) }).unwrap();
            let panic = catch_unwind(AssertUnwindSafe(|| step(&mut scheduler)));
            assert!(panic.is_err());
            scheduler.abandon_batch();
            // One gave its place up for the poisoned one; that and those that waited are left.
            let left: Vec<_> = scheduler.waiting().collect();
            assert!(left.len() == 3 && !left.contains(&poisoned), "{left:?}");
            assert_eq!((scheduler.running(), scheduler.cache_memory().used_tokens()), (0, 0));
            ids.retain(|id| left.contains(id));
        }
        let generations = drain(&mut scheduler);
        assert!(scheduler.is_idle());
        let answer = |id| {
            let generation: &Generation = &generations[id];
            assert_eq!(generation.finish_reason, FinishReason::Length);
            generation.token_ids.clone()
        };
        ids[ids.len() - 2..].iter().map(answer).collect::<Vec<_>>()
    };
    assert_eq!(run(true), run(false));
}
