//! `lookahead bench` on a tiny model.
use crate::program;

use std::fs;

use crate::program::Directory;
use lookahead_fixtures::TinyModel;
use serde_json::Value;

const PROMPTS: &str = r#"{"id": "one", "prompt": "The model writes."}
{"id": "two", "prompt": "One token after the other."}
{"prompt": "The other token writes.", "task": "<b>|x"}
"#;

fn directory() -> Directory {
    let directory = Directory::with_model(&TinyModel::default());
    directory.write("words.jsonl", PROMPTS);
    directory
}

fn bench(more: &str) -> String {
    format!("bench --model model.gguf --suite words.jsonl --out report --threads 1 --repeats 1 {more}")
}

#[test]
fn a_benchmark_writes_a_report_and_goes_on_where_it_was() {
    let directory = directory();
    let line = bench("-n 6 --policies adaptive,4x2:single --batch 2");
    let run = directory.run(&line);
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    assert!(run.stdout.contains("words") && run.stdout.contains("report.html"), "{}", run.stdout);

    let read = |name: &str| fs::read_to_string(directory.path().join("report").join(name)).unwrap();
    let results: Value = serde_json::from_str(&read("results.json")).unwrap();
    assert_eq!(results["lossless"]["differing"], 0);
    assert_eq!(
        results["lossless"]["answers"],
        2 * 2 * 4 + 2,
        "prompts, policies, warmths; a batch by each policy"
    );
    assert_eq!(results["subject"]["model"], "model.gguf");
    assert_eq!(results["tasks"][0]["warm_up_prompts"], 1);
    assert_eq!(results["batches"][0]["size"], 2);
    let html = read("report.html");
    assert!(html.contains("&lt;b&gt;|x") && !html.contains("<b>|x"), "names are escaped");
    assert!(html.contains("<svg") && read("report.md").contains("words"));

    let runs = read("runs.jsonl");
    assert_eq!(directory.run(&line).code, 0);
    assert_eq!(read("runs.jsonl"), runs, "everything was there");
    let other = directory.run(&bench("-n 7"));
    assert_eq!(other.code, 1);
    assert!(
        other.stderr.contains("--max-tokens differ") && other.stderr.contains("--out"),
        "{}",
        other.stderr
    );
}

#[test]
fn prompts_for_warm_up_can_be_given() {
    let directory = directory();
    directory.write("more.jsonl", "{\"prompt\": \"x\", \"task\": \"words\"}\n{\"prompt\": \"y\"}\n");
    let run = directory.run(&bench("-n 6 --warmup more.jsonl --warmth same,other"));
    assert_eq!(run.code, 0, "{}", run.stderr);
    let results = fs::read_to_string(directory.path().join("report/results.json")).unwrap();
    let results: Value = serde_json::from_str(&results).unwrap();
    let tasks = results["tasks"].as_array().unwrap();
    assert_eq!(tasks.len(), 2, "nothing of `more` is measured");
    assert_eq!((&tasks[0]["prompts"], &tasks[0]["warm_up_prompts"]), (&2.into(), &1.into()));
    assert_eq!(tasks[0]["lookahead"].as_array().unwrap().len(), 2);
}

#[test]
fn errors_name_the_value_and_the_way_out() {
    let directory = directory();
    directory.write("empty.jsonl", "");
    for (arguments, problem) in [
        ("--suite no/such", "no/such"),
        ("--suite empty.jsonl", "no prompts"),
        ("--suite words.jsonl --against llama.cpp=no/such/server", "no/such/server"),
        ("--suite words.jsonl --policies 9y9", "`9y9` is no draft policy"),
        ("--suite words.jsonl --out empty.jsonl", "empty.jsonl"),
    ] {
        let run = directory.run(&format!("bench --model model.gguf {arguments}"));
        assert!(run.code != 0 && run.stderr.contains(problem), "{arguments}: {}", run.stderr);
    }
}

/// Sends SIGINT, as Ctrl-C does, once something was measured.
#[cfg(unix)]
#[test]
fn control_c_ends_with_a_report_of_what_there_is() {
    use std::process::Command;
    use std::time::Duration;

    let model = TinyModel { context_length: 100_000, layers: 8, seed: 2, ..TinyModel::default() };
    let directory = Directory::with_model(&model);
    directory.write("words.jsonl", PROMPTS.repeat(20));
    let line = bench("-n 300");
    let mut child = directory.start(&line);
    let runs = directory.path().join("report/runs.jsonl");
    while fs::read_to_string(&runs).unwrap_or_default().lines().count() < 3 {
        assert!(child.try_wait().unwrap().is_none(), "it ended too soon");
        std::thread::sleep(Duration::from_millis(20));
    }
    let signal = Command::new("kill").args(["-s", "INT", &child.id().to_string()]).status();
    assert!(signal.unwrap().success());
    let run = program::Run::of(child);
    assert_eq!(run.code, 130, "{}{}", run.stdout, run.stderr);
    assert!(run.stderr.contains("the same command goes on"), "{}", run.stderr);
    assert!(directory.path().join("report/report.html").exists());
    assert!(fs::read_to_string(&runs).unwrap().ends_with("}\n"), "no half a line");
}
