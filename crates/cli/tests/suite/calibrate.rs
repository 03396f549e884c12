//! `lookahead calibrate`, and what `generate` makes of it, on tiny models.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::program::Directory;
use lookahead_fixtures::TinyModel;
use serde_json::Value;

/// Repeats itself, so that there is something to draft.
const GENERATE: &str =
    "generate --model model.gguf --json --max-tokens 40 --prompt again_and_again_and_again";

const TOKENS: [u64; 17] = [1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 32, 48, 64];

fn directory() -> Directory {
    Directory::with_model(&TinyModel::default())
}

/// What is kept in the cache.
fn kept(directory: &Directory) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory.path().join("cache/calibration")) else { return Vec::new() };
    let mut kept: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    kept.sort();
    kept
}

fn the_one_kept(directory: &Directory) -> PathBuf {
    let [file] = kept(directory).try_into().unwrap();
    file
}

fn read(file: &PathBuf) -> Value {
    serde_json::from_slice(&fs::read(file).unwrap()).unwrap()
}

fn numbers(array: &Value) -> Vec<f64> {
    array.as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect()
}

fn tokens(points: &Value) -> Vec<u64> {
    points.as_array().unwrap().iter().map(|point| point["tokens"].as_u64().unwrap()).collect()
}

#[test]
fn the_table_has_a_row_for_each_number_of_tokens() {
    let table = directory().run("calibrate --model model.gguf --threads 2 --context 40").success();
    assert!(table.starts_with("model.gguf, threads 2, ") && table.contains(", context 40\n"), "{table}");
    assert!(table.contains("GB/s read"), "{table}");
    let (_, rows) = table.split_once("tokens        ms    c(N)  floor ms  ratio  tokens/s\n").unwrap();
    let rows: Vec<Vec<f64>> = rows
        .lines()
        .map(|row| row.split_whitespace().map(|number| number.parse().unwrap()).collect())
        .collect();
    assert_eq!(rows.len(), TOKENS.len(), "{table}");
    for (row, tokens) in rows.iter().zip(TOKENS) {
        assert_eq!((row.len(), row[0]), (6, tokens as f64), "{table}");
        assert!(row[1..].iter().all(|number| number.is_finite() && *number >= 0.0), "{table}");
    }
    assert_eq!(rows[0][2], 1.0, "c(1) is 1");
}

#[test]
fn less_of_the_cpu_is_used_where_that_is_asked_for() {
    let directory = directory();
    let object =
        directory.run("calibrate --model model.gguf --threads 1 --context 9 --isa scalar --json").json();
    assert_eq!(object["isa"], "scalar");
    let refused = directory.run("calibrate --model model.gguf --isa mmx");
    assert!(
        refused.stderr.contains("--isa") && refused.stderr.contains("this CPU has scalar"),
        "{}",
        refused.stderr
    );
}

#[test]
fn the_object_has_points_and_their_floor() {
    let directory = directory();
    let object = directory.run("calibrate --model model.gguf --threads 1 --context 9 --json").json();
    let keys: Vec<&String> = object.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["model", "threads", "isa", "context", "gpu", "points", "floor"]);
    assert!(object["gpu"].is_null());
    assert!(object["model"].as_str().unwrap().ends_with("model.gguf"));
    assert_eq!((&object["threads"], &object["context"]), (&1.into(), &9.into()));
    assert_eq!(tokens(&object["points"]), TOKENS);
    let ms: Vec<f64> =
        object["points"].as_array().unwrap().iter().map(|point| point["ms"].as_f64().unwrap()).collect();
    assert!(ms[0] > 0.0 && ms.is_sorted(), "{ms:?}");
    let floor = numbers(&object["floor"]);
    assert_eq!(floor.len(), TOKENS.len());
    assert!(floor[0] > 0.0 && floor.is_sorted(), "{floor:?}");
    // What is kept is what was told, and with it what it was measured on.
    let record = read(&the_one_kept(&directory));
    assert_eq!((&record["points"], &record["context"]), (&object["points"], &object["context"]));
    assert_eq!(record["key"]["threads"], 1);
}

#[test]
fn a_context_that_is_too_long_is_shortened_with_a_word() {
    let directory = Directory::with_model(&TinyModel { context_length: 100, ..TinyModel::default() });
    let run = directory.run("calibrate --model model.gguf --threads 1 --json");
    assert!(run.stderr.contains("holds 100 tokens: measuring behind 36, not 256"), "{}", run.stderr);
    assert_eq!(run.json()["context"], 36);
    let directory = Directory::with_model(&TinyModel { context_length: 20, ..TinyModel::default() });
    let object = directory.run("calibrate --model model.gguf --threads 1 --json").json();
    assert_eq!(tokens(&object["points"]).last(), Some(&20), "longer passes do not fit");
    assert_eq!(object["context"], 0);
}

#[test]
fn generate_measures_once_and_then_uses_what_is_kept() {
    let directory = directory();
    let first = directory.run(&format!("{GENERATE} --threads 1")).json();
    let file = the_one_kept(&directory);
    let record = read(&file);
    assert_eq!(tokens(&record["points"]).last(), Some(&32), "as many as a first answer waits for");
    let written = fs::metadata(&file).unwrap().modified().unwrap();
    let again = directory.run(&format!("{GENERATE} --threads 1 -v"));
    assert!(!again.stderr.contains("measured what a forward pass costs"), "{}", again.stderr);
    assert_eq!(again.json()["token_ids"], first["token_ids"]);
    assert_eq!(fs::metadata(the_one_kept(&directory)).unwrap().modified().unwrap(), written);

    // The same model elsewhere is the same model; on more threads, passes have other costs.
    directory.write("copy.gguf", directory.read("model.gguf"));
    directory.run(&format!("{GENERATE} --threads 1").replace("model.gguf", "copy.gguf")).success();
    assert_eq!(read(&the_one_kept(&directory)), record);
    let run = directory.run(&format!("{GENERATE} --threads 2 -v"));
    assert!(run.stderr.contains("measured what a forward pass costs"), "{}", run.stderr);
    run.success();
    assert_eq!(kept(&directory).len(), 2);
}

#[test]
fn the_curve_that_is_kept_decides_what_is_drafted() {
    let directory = directory();
    let plain = directory.run(&format!("{GENERATE} --threads 1 --decoding plain")).json();
    assert!(kept(&directory).is_empty(), "plain decoding needs none");
    directory.run("calibrate --model model.gguf --threads 1").success();
    let file = the_one_kept(&directory);
    let drafted = |c: f64| {
        let mut record = read(&file);
        record["points"] = serde_json::json!([{"tokens": 1, "ms": 1.0}, {"tokens": 32, "ms": c}]);
        fs::write(&file, record.to_string()).unwrap();
        let object = directory.run(&format!("{GENERATE} --threads 1")).json();
        assert_eq!(object["token_ids"], plain["token_ids"]);
        assert_eq!(read(&file), record, "it was used as it is");
        object["lookahead"]["draft_tokens"].as_u64().unwrap()
    };
    let (free, dear) = (drafted(1.0), drafted(32.0));
    assert!(free > 0 && dear == 0, "{free} drafted where they are free, {dear} where they are dear");
}

#[test]
fn a_file_that_is_damaged_or_of_something_else_is_replaced() {
    let directory = directory();
    directory.run(&format!("{GENERATE} --threads 1")).success();
    let file = the_one_kept(&directory);
    let record = read(&file);
    let mut foreign = record.clone();
    foreign["key"]["cpu"] = "another".into();
    let mut impossible = record.clone();
    impossible["points"][3]["ms"] = Value::from(-1.0);
    let whole = record.to_string();
    for damage in [&foreign.to_string(), &impossible.to_string(), &whole[..whole.len() / 2], "", "[]"] {
        fs::write(&file, damage).unwrap();
        let run = directory.run(&format!("{GENERATE} --threads 1"));
        assert_eq!(run.stderr, "", "damage is no matter for the user");
        run.success();
        let replaced = read(&the_one_kept(&directory));
        assert_eq!(replaced["key"], record["key"]);
        assert_eq!(tokens(&replaced["points"]), tokens(&record["points"]));
    }
}

#[test]
fn without_a_place_for_it_a_warning_is_all() {
    let directory = directory();
    directory.write("cache", "a file where a directory should be");
    let run = directory.run(&format!("{GENERATE} --threads 1"));
    assert!(run.stderr.contains("what a forward pass costs cannot be kept"), "{}", run.stderr);
    assert_eq!(run.json()["completion_tokens"], 40);
    assert!(directory.run("calibrate --model model.gguf --threads 1").success().contains("floor ms"));
}

#[test]
fn a_fixed_policy_measures_nothing() {
    let directory = directory();
    for flag in ["--draft-length 4", "--branch-length 3", "--min-probability 0.3"] {
        directory.run(&format!("{GENERATE} --threads 1 {flag}")).success();
        assert!(kept(&directory).is_empty(), "{flag}");
    }
}

#[test]
fn the_help_teaches() {
    let directory = Directory::new();
    let help = directory.run("calibrate --help").success();
    for part in
        ["--context", "--json", "Examples:", "c(N)", "floor ms", "`points`", "median time", "quiet machine"]
    {
        assert!(help.contains(part), "{part} is not in {help}");
    }
    assert!(directory.run("--help").success().contains("calibrate"));
    let generate =
        Command::new(env!("CARGO_BIN_EXE_lookahead")).args(["generate", "--help"]).output().unwrap();
    let generate = String::from_utf8(generate.stdout).unwrap();
    assert!(generate.contains("--min-probability") && generate.contains("lookahead calibrate"), "{generate}");
}
