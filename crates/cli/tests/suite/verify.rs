//! `lookahead verify`, as a user runs it.

use crate::program::{Directory, Run};
use lookahead_fixtures::TinyModel;
use lookahead_kernels::WeightType;
use serde_json::Value;

/// A prompt that repeats itself, one for the chat template, and a conversation.
const PROMPTS: &str = r#"{"id": "code", "task": "a", "mode": "completion", "prompt": "def add(a, b):\n    return a + b\n\ndef add(a, b):\n"}
{"id": "chat", "task": "b", "prompt": "What is the sum of one and two? What is the sum of two and one?"}
{"task": "b", "messages": [{"role": "user", "content": "Hi"}, {"role": "user", "content": "And now?"}]}
"#;

fn verify(directory: &Directory, flags: &str) -> Value {
    let line = format!("verify --model model.gguf --prompts prompts.jsonl --threads 1,2 --json {flags}");
    let report = directory.run(&line).json();
    for count in ["differing_tokens", "differing_logits_rows", "differing_finish_reasons"] {
        assert_eq!(report[count], 0, "{report:#}");
    }
    assert_eq!(report["identical"], true);
    assert!(report["first_difference"].is_null());
    report
}

#[test]
fn lookahead_is_plain_decoding_in_every_weight_type() {
    for (weight_type, architecture) in
        WeightType::ALL.into_iter().zip(["llama", "qwen2", "gemma3"].into_iter().cycle())
    {
        let model = TinyModel { architecture, weight_type, layers: 2, ..TinyModel::default() };
        let directory = Directory::with_model(&model);
        directory.write("prompts.jsonl", PROMPTS);
        let report = verify(&directory, "--max-tokens 24 --limit 2 --adversarial");
        assert_eq!(report["prompts"], 2);
        let policies = report["policies"].as_array().unwrap();
        assert!(policies.len() >= 17, "{report:#}");
        assert!(report["tokens_compared"].as_u64().unwrap() > 500, "{report:#}");
        // The comparison is of something: drafts are accepted, and plain decoding takes a step a token.
        let edl = |name: &str| policies.iter().find(|policy| policy["name"] == name).unwrap()["edl"].as_f64();
        assert_eq!(edl("plain"), Some(1.0));
        assert!(edl("the answer known beforehand, 16 nodes").unwrap() > 2.0, "{report:#}");
        assert!(edl("near misses, 16 nodes").unwrap() > 1.1, "{report:#}");
    }
}

#[test]
fn lookahead_is_plain_decoding_when_sampling_with_every_processor() {
    for (architecture, flags) in [
        ("llama", "--temperature 0.8 --seed 7"),
        ("gemma3", "--temperature 1 --top-k 40 --top-p 0.95 --min-p 0.02 --repetition-penalty 1.1"),
        ("qwen2", "--temperature 1.2 --presence-penalty 0.5 --frequency-penalty 0.3"),
    ] {
        let directory = Directory::with_model(&TinyModel {
            architecture,
            weight_type: WeightType::Q4K,
            ..TinyModel::default()
        });
        directory.write("prompts.jsonl", PROMPTS);
        verify(&directory, &format!("--max-tokens 24 --adversarial {flags}"));
    }
}

#[test]
fn the_report_is_readable_and_names_what_was_compared() {
    let directory = Directory::with_model(&TinyModel { layers: 1, ..TinyModel::default() });
    directory.write("prompts.jsonl", PROMPTS);
    directory.write("more.jsonl", "\n{\"prompt\": \"The end\"}\n");
    let line = "verify --model model.gguf --prompts prompts.jsonl more.jsonl --max-tokens 8 --kernels";
    let report = directory.run(line).success();
    for part in [
        "model.gguf",
        "sampling   greedy",
        "prompts    4 (",
        "hierarchical, 16 nodes, depth 12 ",
        "plain, scalar kernels ",
        "differing  tokens 0, logits rows 0, finish reasons 0",
        "Every token and every bit of the logits is that of plain decoding",
    ] {
        assert!(report.contains(part), "{part:?} is not in:\n{report}");
    }
}

#[test]
fn prompts_beyond_the_context_are_left_out_and_named() {
    let directory =
        Directory::with_model(&TinyModel { layers: 1, context_length: 64, ..TinyModel::default() });
    let long = "word ".repeat(200);
    directory.write("prompts.jsonl", format!("{PROMPTS}{{\"id\": \"long\", \"prompt\": \"{long}\"}}\n"));
    let report = verify(&directory, "--max-tokens 100");
    assert_eq!(report["prompts_too_long"].as_array().unwrap().last().unwrap(), "long");
}

#[test]
fn broken_prompt_files_are_refused_by_line_before_a_model_is_loaded() {
    let directory = Directory::new();
    directory.write("bad.jsonl", format!("{PROMPTS}\n{{\"prompt\": 3}}\n"));
    directory.write("empty.jsonl", "\n\n");
    for (file, problem) in [
        ("bad.jsonl", "bad.jsonl, line 5: not a prompt"),
        ("missing.jsonl", "cannot read prompts from missing.jsonl"),
        ("empty.jsonl", "there are no prompts in empty.jsonl"),
    ] {
        let error = directory.run(&format!("verify --model none.gguf --prompts {file}")).failure();
        assert!(error.contains(problem), "{error}");
    }
    directory.write("good.jsonl", PROMPTS);
    let error = directory.run("verify --model none.gguf --prompts good.jsonl").failure();
    assert!(error.contains("there is no file none.gguf"), "{error}");
}

#[test]
#[cfg(unix)]
fn control_c_prints_what_was_compared_so_far() {
    let directory = Directory::with_model(&TinyModel::default());
    directory.write("prompts.jsonl", PROMPTS.repeat(1000));
    let child = directory.start("verify --model model.gguf --prompts prompts.jsonl --adversarial");
    std::thread::sleep(std::time::Duration::from_secs(3));
    let signal = std::process::Command::new("kill").args(["-s", "INT", &child.id().to_string()]).status();
    assert!(signal.unwrap().success());
    let run = Run::of(child);
    assert_eq!(run.code, 130, "{}{}", run.stdout, run.stderr);
    assert!(run.stdout.contains("Interrupted; so far every token"), "{}", run.stdout);
}
