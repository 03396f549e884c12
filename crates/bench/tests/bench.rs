//! A whole benchmark on a tiny model.
#![allow(clippy::unwrap_used)] // tests

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use lookahead_bench::{
    Bench, Case, Identity, Journal, JournalError, Plan, Results, Setting, Subject, Task, Warmth,
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
        let case = |index: u32| Case { id: format!("{name}/{index}"), prompt: vec![first, index, first + 1] };
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
        peer: None,
    }
}

fn identity() -> Identity {
    let subject = Subject {
        program: "1".into(),
        model: "tiny".into(),
        model_bytes: 1,
        cpu: "c".into(),
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
