//! Constraints that are slow, and such that fail: no token depends on the time, and a failure is always at the same one.

use std::ops::ControlFlow;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::HashModel;
use lookahead_engine::{
    AdversarialDrafter, Constraint, ConstraintError, Drafter, Engine, EngineError, EngineOptions,
    FinishReason, GenerationRequest, NoDraft, Scout, Sequence,
};
use lookahead_model::{LanguageModel, TokenId};

const VOCABULARY: usize = 12;

/// Happens before an answer: it may take its time, or fail.
type Before = dyn Fn(&[TokenId]) -> Result<(), ConstraintError> + Send + Sync;

/// Allows half of the tokens at each place.
struct Halves {
    words: Vec<u32>,
    before: Arc<Before>,
}

impl Halves {
    fn new(before: impl Fn(&[TokenId]) -> Result<(), ConstraintError> + Send + Sync + 'static) -> Self {
        Self { words: Vec::new(), before: Arc::new(before) }
    }
}

impl Clone for Halves {
    fn clone(&self) -> Self {
        Self { words: Vec::new(), before: Arc::clone(&self.before) }
    }
}

impl Constraint for Halves {
    fn allowed(&mut self, completion: &[TokenId]) -> Result<&[u32], ConstraintError> {
        (self.before)(completion)?;
        self.words =
            vec![if completion.len().is_multiple_of(2) { 0b0101_0101_0101 } else { 0b1010_1010_1010 }];
        Ok(&self.words)
    }

    fn scout(&mut self) -> Box<dyn Scout> {
        Box::new(self.clone())
    }
}

impl Scout for Halves {
    fn accepted(&mut self, completion: &[TokenId], tokens: &[TokenId], _: Instant) -> usize {
        let places = completion.len()..;
        places.zip(tokens).take_while(|&(place, &token)| token as usize % 2 == place % 2).count()
    }
}

fn request(max_tokens: usize) -> GenerationRequest {
    GenerationRequest { prompt: [1, 2, 3].into(), max_tokens, ..GenerationRequest::default() }
}

fn engine() -> Engine<HashModel> {
    Engine::new(HashModel::new(VOCABULARY, 1.0, 5), EngineOptions::default())
}

type HashSequence = Sequence<<HashModel as LanguageModel>::Cache>;

/// The tokens of each sequence and its end.
fn run(
    engine: &mut Engine<HashModel>,
    mut sequences: Vec<HashSequence>,
) -> Vec<(Vec<TokenId>, Result<FinishReason, EngineError>)> {
    while sequences.iter().any(|sequence| !sequence.has_ended()) {
        engine.step(&mut sequences, |_, _| ControlFlow::Continue(())).unwrap();
    }
    let end = |sequence: HashSequence| {
        let completion = sequence.completion().to_vec();
        (completion, sequence.into_generation().map(|generation| generation.finish_reason))
    };
    sequences.into_iter().map(end).collect()
}

/// An answer by plain decoding, and then several at once that are drafted in hostile ways.
fn plain_and_drafted(
    constraint: &Halves,
    max_tokens: usize,
) -> Vec<(Vec<TokenId>, Result<FinishReason, EngineError>)> {
    let mut engine = engine();
    let start = |engine: &Engine<HashModel>, drafter: Box<dyn Drafter>| {
        let sequence = engine.start(request(max_tokens), drafter).unwrap();
        sequence.constrained(Some(Box::new(constraint.clone())))
    };
    let plain = vec![start(&engine, Box::new(NoDraft))];
    let mut ends = run(&mut engine, plain);
    let whole = [&[1, 2, 3], &ends[0].0[..]].concat();
    for together in [1, 4] {
        let drafted = (0..together).map(|seed| {
            let drafter = AdversarialDrafter::new(VOCABULARY, 10, seed).with_reference(whole.clone());
            start(&engine, Box::new(drafter))
        });
        let drafted = drafted.collect();
        ends.extend(run(&mut engine, drafted));
    }
    ends
}

#[test]
fn masks_that_take_their_time_change_no_token() {
    let constraint = Halves::new(|completion| {
        // A few are slow, each time, so that sequences sit out and come back.
        let hash = completion.iter().fold(7_u64, |hash, &token| (hash * 31 + u64::from(token)) % 10_007);
        if hash % 7 == 0 {
            thread::sleep(Duration::from_micros(500 * (hash % 8)));
        }
        Ok(())
    });
    let ends = plain_and_drafted(&constraint, 60);
    assert_eq!(ends[0].0.len(), 60);
    assert!(ends.iter().all(|end| *end == ends[0]), "{ends:?}");
}

#[test]
fn a_constraint_fails_at_the_same_token_whatever_is_drafted() {
    let failure = ConstraintError("the 20th token costs too much".to_owned());
    let fails = failure.clone();
    let constraint =
        Halves::new(move |completion| if completion.len() < 20 { Ok(()) } else { Err(fails.clone()) });
    let ends = plain_and_drafted(&constraint, 60);
    assert_eq!((ends[0].0.len(), &ends[0].1), (20, &Err(EngineError::Constraint(failure))));
    assert!(ends.iter().all(|end| *end == ends[0]), "{ends:?}");
    // An answer that ends before it is none of its business, also where a draft goes beyond.
    let ends = plain_and_drafted(&constraint, 20);
    assert_eq!((ends[0].0.len(), &ends[0].1), (20, &Ok(FinishReason::Length)));
    assert!(ends.iter().all(|end| *end == ends[0]), "{ends:?}");
}

#[test]
fn a_sequence_sits_out_while_its_mask_is_late_and_others_run() {
    let gate = Arc::new((Mutex::new(false), Condvar::new()));
    let closed = Arc::clone(&gate);
    let constraint = Halves::new(move |completion| {
        if completion.is_empty() {
            thread::sleep(Duration::from_millis(20)); // so that it is known to be slow
        } else {
            let (is_open, opened) = &*closed;
            let wait =
                opened.wait_timeout_while(is_open.lock().unwrap(), Duration::from_secs(20), |is_open| {
                    !*is_open
                });
            assert!(!wait.unwrap().1.timed_out(), "a pass waits for a late mask");
        }
        Ok(())
    });
    let mut engine = engine();
    let late = engine.start(request(8), Box::new(NoDraft)).unwrap().constrained(Some(Box::new(constraint)));
    let mut sequences = vec![late, engine.start(request(30), Box::new(NoDraft)).unwrap()];
    for _ in 0..10 {
        let report = engine.step(&mut sequences, |_, _| ControlFlow::Continue(())).unwrap();
        assert!(report.sequences >= 1);
    }
    assert_eq!((sequences[0].completion().len(), sequences[1].completion().len()), (1, 10));
    *gate.0.lock().unwrap() = true;
    gate.1.notify_all();
    let ends = run(&mut engine, sequences);
    assert!(ends.iter().all(|(_, end)| end.is_ok()));
    assert_eq!((ends[0].0.len(), ends[1].0.len()), (8, 30));
}
