//! Checkpoint folders in place of GGUF files, as a user gives them.

use std::fs;

use crate::program::Directory;
use lookahead_fixtures::Golden;

/// Prompts that repeat themselves, as their drafts need it.
const PROMPTS: &str = r#"{"prompt": "def add(a, b):\n    return a + b\n\ndef add(a, b):\n"}
{"prompt": "one two three one two"}
"#;

/// A directory with the golden checkpoint `name` as `model`.
fn with_checkpoint(name: &'static str) -> Directory {
    let directory = Directory::new();
    let model = directory.path().join("model");
    fs::create_dir(&model).unwrap();
    Golden::load(name).write_checkpoint(&model);
    directory.write("prompts.jsonl", PROMPTS);
    directory
}

#[test]
fn every_family_is_lossless_from_its_checkpoint() {
    let rounded = ["", "--quantize bf16", "--quantize q8_0", "--quantize q4_0", "--quantize q4_k"];
    for (name, flags) in Golden::NAMES.into_iter().zip(rounded.into_iter().cycle()) {
        let directory = with_checkpoint(name);
        let line = format!(
            "verify --model model --prompts prompts.jsonl --max-tokens 16 --threads 2 --adversarial --json {flags}"
        );
        let report = directory.run(&line).json();
        assert_eq!(report["identical"], true, "{name} {flags}: {report:#}");
        assert!(report["tokens_compared"].as_u64().unwrap() > 200, "{name}: {report:#}");
    }
}

#[test]
fn a_checkpoint_answers_and_is_inspected() {
    let directory = with_checkpoint("qwen3-moe");
    let answers = ["", "--decoding plain", "--decoding plain --quantize q8_0 --kv-type f32"].map(|flags| {
        directory.run(&format!("generate --model model -p abcabc --max-tokens 8 --raw --json {flags}")).json()
    });
    assert_eq!(answers[0]["token_ids"], answers[1]["token_ids"]);
    assert_eq!(answers[2]["completion_tokens"], 8);
    let found = directory.run("inspect model").success();
    for part in [
        "qwen3_moe: 2 layers",
        "2 of 4 experts of width 48",
        "F32",
        "num_experts_per_tok",
        "model.embed_tokens.weight",
    ] {
        assert!(found.contains(part), "{part:?} is not in:\n{found}");
    }
    let ids = directory.run_with_input("tokenize model", "ab").success();
    assert_eq!(ids.split_whitespace().collect::<Vec<_>>(), ["97", "98"]);
}

/// Both commands are fed token ids, which no tokenizer has to make.
#[test]
fn token_ids_need_no_tokenizer() {
    let golden = Golden::load("llama");
    let directory = with_checkpoint("llama");
    let model = directory.path().join("model");
    directory.write("ids.json", format!("{:?}", golden.input_ids));
    let logits = || {
        directory.run("logits model --ids ids.json --out logits.f32").success();
        directory.read("logits.f32")
    };
    let with_tokenizer = logits();
    fs::remove_file(model.join("tokenizer.json")).unwrap();
    assert_eq!(logits(), with_tokenizer);
    let verify =
        "verify --model model --ids ids.json ids.json --max-tokens 16 --threads 2 --adversarial --json";
    let report = directory.run(verify).json();
    assert_eq!((&report["identical"], &report["prompts"]), (&true.into(), &2.into()), "{report:#}");
    assert!(report["tokens_compared"].as_u64().unwrap() > 200, "{report:#}");
    directory.write("far.json", "[1, 999999]");
    let error = directory.run("verify --model model --ids far.json").failure();
    assert!(error.contains("far.json") && error.contains("outside the vocabulary"), "{error}");
    let error = directory.run("verify --model model --prompts prompts.jsonl").failure();
    assert!(error.contains("tokenizer.json: there is no such file"), "{error}");
}

#[test]
fn what_a_checkpoint_lacks_is_named() {
    let directory = with_checkpoint("llama");
    let generate = || directory.run("generate --model model -p x --max-tokens 1").failure();
    let model = directory.path().join("model");
    let config = fs::read_to_string(model.join("config.json")).unwrap();
    for (from, to, problem) in [
        ("\"llama\"", "\"mamba\"", "\"mamba\" is not supported"),
        ("\"hidden_size\"", "\"other_size\"", "hidden_size: expected a number, found nothing"),
        (
            "\"intermediate_size\": 128",
            "\"intermediate_size\": 120",
            "expected 120 x 64 (rows x columns), found 128 x 64",
        ),
        (
            "\"num_hidden_layers\": 2",
            "\"num_hidden_layers\": 3",
            "model.layers.2.self_attn.q_proj.weight is missing",
        ),
    ] {
        directory.write("model/config.json", config.replace(from, to));
        let error = generate();
        assert!(error.contains(problem), "{problem:?} is not in: {error}");
    }
    directory.write("model/config.json", &config);
    fs::remove_file(model.join("tokenizer.json")).unwrap();
    assert!(generate().contains("tokenizer.json"));
    fs::remove_file(model.join("model.safetensors")).unwrap();
    assert!(generate().contains("model.safetensors"));
    fs::remove_file(model.join("config.json")).unwrap();
    assert!(generate().contains("is a directory without a config.json"));
}
