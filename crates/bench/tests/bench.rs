//! A whole benchmark on a tiny model.
#![allow(clippy::unwrap_used)] // tests

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use lookahead_bench::{
    Bench, Case, Conversation, Identity, Journal, JournalError, Plan, Prompt, Results, Setting, Subject,
    Task, Warmth,
};
use lookahead_engine::{CostCurve, CostPoint, Engine, EngineOptions};
use lookahead_fixtures::{TinyModel, tiny_model};
use lookahead_kernels::Kernels;
use lookahead_model::CpuModel;
use lookahead_model::gguf::GgufFile;

fn engine(directory: &Path) -> Engine<CpuModel> {
    let path = directory.join("tiny.gguf");
    std::fs::write(&path, tiny_model(&TinyModel::default())).unwrap();
    let model = CpuModel::load(&GgufFile::open(&path).unwrap(), Kernels::new(1)).unwrap();
    Engine::new(model, EngineOptions::default())
}

fn plan() -> Plan {
    let task = |name: &str, first: u32| {
        let case = |index: u32| Case {
            id: format!("{name}/{index}"),
            prompt: Prompt::Known(vec![first, index, first + 1]),
        };
        Task::split(name, (0..4).map(case).collect(), 2)
    };
    Plan {
        tasks: vec![task("a", 10), task("b", 20)],
        policies: vec!["adaptive".parse().unwrap(), "4x4".parse().unwrap()],
        warmths: Warmth::ALL.to_vec(),
        repeats: 2,
        batch_sizes: vec![2, 3],
        max_tokens: 24,
        end_tokens: Vec::new(),
        spellings: None,
        peer: None,
    }
}

fn identity() -> Identity {
    let subject = Subject {
        program: "1".into(),
        model: "tiny".into(),
        model_bytes: 1,
        cpu: "c".into(),
        gpu: None,
        instruction_set: "i".into(),
        threads: 1,
        kv_type: "f16".into(),
        max_tokens: 24,
        repeats: 2,
        peer: None,
    };
    Identity { subject, suite: "s".into() }
}

fn open(path: &Path) -> Journal {
    let points = [(1, 1.0), (8, 1.5)].map(|(tokens, ms)| CostPoint { tokens, ms });
    let curve = || -> Result<_, JournalError> { Ok(CostCurve::new(points.to_vec()).unwrap()) };
    Journal::open(path, identity(), curve).unwrap()
}

/// Runs the benchmark until `stop_after` generations have begun; returns whether it is whole and how many began.
fn run(directory: &Path, journal: &mut Journal, stop_after: usize) -> (bool, usize) {
    let plan = plan();
    let cancel = Arc::new(AtomicBool::new(false));
    let mut begun = 0;
    let mut bench = Bench::new(engine(directory), &plan, journal, Arc::clone(&cancel));
    let is_whole = bench.run(|_| {
        begun += 1;
        cancel.store(begun > stop_after, Ordering::Relaxed);
    });
    (is_whole.unwrap(), begun)
}

#[test]
fn every_prompt_is_measured_in_every_setting_and_equals_plain_decoding() {
    let directory = tempfile::tempdir().unwrap();
    let mut journal = open(&directory.path().join("runs.jsonl"));
    let all = plan().generations();
    let batches = 2 + 1; // of 2 and of 3 out of 4 prompts
    assert_eq!(all, 4 + 2 * (4 * (1 + 2 * 4) + batches * 3), "lessons, repeats, prompts, settings");
    assert_eq!(run(directory.path(), &mut journal, usize::MAX), (true, all));
    assert_eq!((journal.lessons().len(), journal.runs().len()), (4, all - 4));

    let results = Results::new(&journal, &plan());
    assert_eq!(results.lossless.answers, 2 * (4 * 2 * 4 + batches * 2));
    let tokens = 2 * 24 * (4 * 2 * 4 + (2 * 2 + 3) * 2);
    assert_eq!((results.lossless.differing, results.lossless.tokens), (0, tokens));
    let sizes: Vec<_> = results.batches.iter().map(|batch| (batch.size, batch.batches)).collect();
    assert_eq!(sizes, [(2, 2), (3, 1)]);
    assert!(results.batches.iter().all(|batch| batch.lookahead.len() == 2));
    for task in &results.tasks {
        assert_eq!((task.prompts, task.warm_up_prompts, task.lookahead.len()), (2, 2, 8));
        assert!(task.plain.tokens_per_s.min > 0.0 && task.plain.ttft_ms > 0.0);
        for row in &task.lookahead {
            let steps: u64 = row.draft_lengths.iter().sum();
            assert_eq!(steps, row.accepted_lengths.iter().sum::<u64>());
            assert!((row.edl * steps as f64 - 2.0 * 2.0 * 23.0).abs() < 1e-6, "{row:?}");
            assert!(row.edl >= 1.0 && row.speed_up.min > 0.0 && row.speed_up_by_curve > 0.0, "{row:?}");
            let served: Vec<usize> = row.online.iter().map(|point| point.served).collect();
            assert_eq!(served, if row.warmth == Warmth::Online { vec![0, 1] } else { vec![] });
        }
    }
}

#[test]
fn an_interrupted_benchmark_goes_on_where_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("runs.jsonl");
    let all = plan().generations();
    for stop_after in [2, 7, 30] {
        let mut journal = open(&path);
        let (is_whole, begun) = run(directory.path(), &mut journal, stop_after);
        assert!(!is_whole && begun == stop_after + 1);
        assert_eq!(journal.lessons().len() + journal.runs().len(), stop_after, "the last one was cut off");
    }
    let mut journal = open(&path);
    assert_eq!(run(directory.path(), &mut journal, usize::MAX), (true, all));
    assert_eq!(journal.runs().len(), all - 4);
    let results = Results::new(&journal, &plan());
    assert_eq!(results.lossless.differing, 0);

    // Drafts are the same as without the interruptions.
    let other = tempfile::tempdir().unwrap();
    let mut straight = open(&other.path().join("runs.jsonl"));
    run(other.path(), &mut straight, usize::MAX);
    for run in straight.runs() {
        let is_online = matches!(run.key.setting, Setting::Lookahead { warmth: Warmth::Online, .. });
        // Those of several at once are cut by what their passes take, which no two runs share.
        let is_batch = run.key.task.starts_with("batch");
        let same = journal.run(&run.key).unwrap();
        assert_eq!(run.token_ids, same.token_ids);
        assert!(is_online || is_batch || run.draft_lengths == same.draft_lengths, "{:?}", run.key);
    }
}

#[test]
fn a_difference_is_found() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("runs.jsonl");
    let mut journal = open(&path);
    run(directory.path(), &mut journal, usize::MAX);
    let mut wrong = journal.runs().iter().find(|run| run.key.setting != Setting::Plain).unwrap().clone();
    wrong.token_ids[3] += 1;
    let kept = journal.runs().to_vec();
    let other = directory.path().join("wrong.jsonl");
    let mut journal = open(&other);
    for run in kept {
        journal.add(if run.key == wrong.key { wrong.clone() } else { run }).unwrap();
    }
    assert_eq!(Results::new(&journal, &plan()).lossless.differing, 1);
}

#[test]
fn only_what_is_measured_with_history_needs_lessons() {
    let directory = tempfile::tempdir().unwrap();
    let mut journal = open(&directory.path().join("runs.jsonl"));
    let plan = Plan { warmths: vec![Warmth::Cold, Warmth::Online], batch_sizes: Vec::new(), ..plan() };
    let mut begun = 0;
    let mut bench = Bench::new(engine(directory.path()), &plan, &mut journal, Arc::default());
    assert!(bench.run(|_| begun += 1).unwrap());
    assert_eq!((begun, plan.generations()), (2 * 4 * (1 + 2 * 2), begun));
    assert!(journal.lessons().is_empty());
    assert!(Results::new(&journal, &plan).tasks.iter().all(|task| task.warm_up_prompts == 0));
}

/// Each turn asks with the last answer's end.
struct LastAnswer;

impl Conversation for LastAnswer {
    fn prompt(&self, answers: &[Vec<u32>]) -> Result<Vec<u32>, Box<dyn std::error::Error + Send + Sync>> {
        match answers.last() {
            Some(answer) => Ok([&[3, answers.len() as u32], &answer[20..]].concat()),
            None => Err("no turn before it".into()),
        }
    }
}

#[test]
fn the_turns_of_a_conversation_are_asked_with_the_models_own_answers() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("runs.jsonl");
    let turn = |id: &str| Case {
        id: id.into(),
        prompt: Prompt::Later { said: id.into(), conversation: Arc::new(LastAnswer) },
    };
    let first = |id: &str, token| Case { id: id.into(), prompt: Prompt::Known(vec![token, 7]) };
    let cases = vec![first("a", 5), turn("a2"), turn("a3"), first("b", 6), turn("b2"), first("c", 8)];
    let tasks = vec![Task::split("talk", cases, usize::MAX)];
    let plan = Plan { tasks, batch_sizes: vec![2], ..plan() };
    let bench_until = |stop_after: usize| {
        let (cancel, mut journal, mut begun) = (Arc::new(AtomicBool::new(false)), open(&path), 0);
        let mut bench = Bench::new(engine(directory.path()), &plan, &mut journal, Arc::clone(&cancel));
        let is_whole = bench.run(|_| {
            begun += 1;
            cancel.store(begun > stop_after, Ordering::Relaxed);
        });
        (is_whole.unwrap(), begun)
    };
    assert!(!bench_until(20).0);
    assert_eq!(bench_until(usize::MAX), (true, plan.generations()));
    let journal = open(&path);
    assert_eq!(journal.lessons().len(), 2, "both turns of the conversation that teaches");
    let results = Results::new(&journal, &plan);
    assert_eq!((results.lossless.differing, results.tasks[0].prompts), (0, 4));
    assert_eq!(results.batches[0].batches, 1, "of what is asked first");

    // The prompt of the third turn is what the answer to the second says.
    let plain = |prompt: &str| {
        let run =
            journal.runs().iter().find(|run| run.key.prompt == prompt && run.key.setting == Setting::Plain);
        run.unwrap().token_ids.clone()
    };
    let request = lookahead_engine::GenerationRequest {
        prompt: [&[3, 2], &plain("a2")[20..]].concat().as_slice().into(),
        max_tokens: 24,
        ..Default::default()
    };
    let drafter = Box::new(lookahead_engine::NoDraft);
    let generation =
        engine(directory.path()).generate(request, drafter, |_| std::ops::ControlFlow::Continue(()));
    assert_eq!(generation.unwrap().token_ids, plain("a3"));
}

#[test]
fn a_turn_that_cannot_be_asked_is_named() {
    struct Never;
    impl Conversation for Never {
        fn prompt(&self, _: &[Vec<u32>]) -> Result<Vec<u32>, Box<dyn std::error::Error + Send + Sync>> {
            Err("the template refuses it".into())
        }
    }
    let directory = tempfile::tempdir().unwrap();
    let mut journal = open(&directory.path().join("runs.jsonl"));
    let later = Prompt::Later { said: "x".into(), conversation: Arc::new(Never) };
    let cases = [("a", Prompt::Known(vec![5])), ("a2", later)];
    let measured = cases.map(|(id, prompt)| Case { id: id.into(), prompt }).into();
    let plan = Plan { tasks: vec![Task::of("talk", measured, Vec::new(), 9)], ..plan() };
    let mut bench = Bench::new(engine(directory.path()), &plan, &mut journal, Arc::default());
    let error = bench.run(|_| ()).unwrap_err().to_string();
    assert_eq!(error, "task talk, prompt a2: the template refuses it");
}
