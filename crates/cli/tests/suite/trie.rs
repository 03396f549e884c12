//! `lookahead trie`: files of drafts.

use crate::program::Directory;
use lookahead_fixtures::TinyModel;
use serde_json::{Value, json};

fn directory() -> Directory {
    let directory = Directory::with_model(&TinyModel::default());
    directory.write("a.jsonl", json!({"text": "the first text of the corpus"}).to_string());
    directory.write("b.jsonl", json!({"answer": ["a second one", "and a third"]}).to_string());
    directory
}

fn inspect(directory: &Directory, file: &str) -> Value {
    let run = directory.run(&format!("trie inspect {file} --json"));
    assert_eq!(run.code, 0, "{}", run.stderr);
    serde_json::from_str(&run.stdout).unwrap()
}

#[test]
fn what_is_built_is_inspected_exported_and_merged() {
    let directory = directory();
    for (out, files) in [("a.trie", "a.jsonl"), ("b.trie", "b.jsonl"), ("ab.trie", "a.jsonl b.jsonl")] {
        let run = directory.run(&format!("trie build -m model.gguf {out} {files}"));
        assert_eq!((run.code, &*run.stdout), (0, ""), "{}", run.stderr);
    }
    assert_eq!(inspect(&directory, "b.trie")["texts"], 2);
    let merged = directory.run("trie merge all.trie a.trie b.trie");
    assert_eq!(merged.code, 0, "{}", merged.stderr);
    assert!(merged.stderr.contains("all.trie: 3 texts"), "{}", merged.stderr);
    let export = |file: &str| directory.run(&format!("trie export -m model.gguf {file} --text")).stdout;
    assert_eq!(export("all.trie"), export("ab.trie"));
    let lines: Vec<Value> =
        export("all.trie").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let texts: Vec<&str> = lines.iter().map(|line| line["text"].as_str().unwrap()).collect();
    assert_eq!(texts, ["the first text of the corpus", "a second one", "and a third"]);
    // What is exported can be built from again.
    directory.write("again.jsonl", export("all.trie"));
    assert_eq!(directory.run("trie build -m model.gguf again.trie again.jsonl").code, 0);
    assert_eq!(export("again.trie"), export("all.trie"));
}

#[test]
fn a_corpus_drafts_changes_no_token_and_stays_as_it_is() {
    let directory = directory();
    let generate = |flags: &str| -> Value {
        let run = directory.run(&format!(
            "generate -m model.gguf --prompt hello --max-tokens 40 --json --draft-length 8 --logits-hash {flags}"
        ));
        assert_eq!(run.code, 0, "{}", run.stderr);
        serde_json::from_str(&run.stdout).unwrap()
    };
    let cold = generate("");
    directory.write("answer.jsonl", cold.to_string());
    assert_eq!(directory.run("trie build -m model.gguf answer.trie answer.jsonl").code, 0);
    let bytes = directory.read("answer.trie");
    let warm = generate("--corpus answer.trie");
    assert_eq!(warm["logits_hash"], cold["logits_hash"]);
    let steps = |answer: &Value| answer["lookahead"]["steps"].as_u64().unwrap();
    assert!(steps(&warm) < steps(&cold), "{} then {}", steps(&cold), steps(&warm));
    assert_eq!(directory.read("answer.trie"), bytes);
}

#[test]
fn answers_in_a_journal_are_inspected_exported_and_merged_too() {
    let directory = directory();
    let generate =
        || directory.run("generate -m model.gguf --prompt hello --max-tokens 5 --trie d.trie").code;
    assert_eq!((generate(), generate()), (0, 0));
    let inspected = inspect(&directory, "d.trie");
    assert_eq!((&inspected["texts"], &inspected["journal_texts"]), (&json!(1), &json!(1)));
    assert_eq!(directory.run("trie export d.trie").stdout.lines().count(), 2);
    // Into itself: what was in the journal is in the file, once.
    assert_eq!(directory.run("trie merge d.trie d.trie").code, 0);
    let merged = inspect(&directory, "d.trie");
    assert_eq!((&merged["texts"], &merged["journal_texts"]), (&json!(2), &json!(0)));
    assert_eq!(generate(), 0);
    assert_eq!(inspect(&directory, "d.trie")["journal_texts"], 1);
}

#[test]
fn what_is_no_whole_file_of_drafts_is_refused_by_name() {
    let directory = directory();
    assert_eq!(directory.run("trie build -m model.gguf a.trie a.jsonl").code, 0);
    let mut bytes = directory.read("a.trie");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    directory.write("damaged.trie", bytes);
    directory.write("text.trie", "no drafts");
    for (command, problem) in [
        ("trie inspect damaged.trie", "damaged.trie: corrupt: the checksum"),
        ("trie merge x.trie a.trie damaged.trie", "damaged.trie: corrupt"),
        ("trie export damaged.trie", "damaged.trie: corrupt"),
        ("trie inspect text.trie", "text.trie: not a file of drafts"),
        ("trie inspect none.trie", "none.trie"),
        ("trie build -m model.gguf no/such/a.trie a.jsonl", "no/such/a.trie"),
        ("trie build -m model.gguf x.trie none.jsonl", "none.jsonl"),
        ("generate -m model.gguf --prompt a --corpus text.trie", "text.trie: not a file of drafts"),
    ] {
        let run = directory.run(command);
        assert_eq!((run.code, &*run.stdout), (1, ""), "{command}");
        assert!(run.stderr.contains(problem), "{command}: {}", run.stderr);
    }
    assert!(!directory.files().contains(&"x.trie".to_owned()));
}
