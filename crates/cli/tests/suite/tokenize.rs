//! `lookahead tokenize`, as a user runs it.

use crate::program::Directory;
use lookahead_fixtures::TinyModel;
use serde_json::json;

fn directory(architecture: &'static str) -> Directory {
    Directory::with_model(&TinyModel { architecture, layers: 1, ..TinyModel::default() })
}

/// Byte `b` is token `b + 3` of the byte-level vocabulary: three special tokens come first.
fn byte(b: u8) -> u32 {
    u32::from(b) + 3
}

#[test]
fn text_becomes_ids_on_one_line() {
    let directory = directory("llama");
    let line = directory.run_with_input("tokenize model.gguf", "é\n").success();
    let expected = "é\n".bytes().map(|b| byte(b).to_string()).collect::<Vec<_>>().join(" ");
    assert_eq!(line, format!("{expected}\n"));
    assert_eq!(directory.run("tokenize model.gguf").success(), "\n", "no text, no ids");
}

#[test]
fn a_json_array_of_texts_becomes_an_array_of_arrays() {
    let ids =
        directory("llama").run_with_input("tokenize model.gguf --json", r#"["~", "", "\u0001"]"#).json();
    assert_eq!(ids, json!([[byte(b'~')], [], [byte(1)]]));
}

#[test]
fn names_of_control_tokens_are_text_unless_asked_for() {
    let directory = directory("llama");
    let ids = |flags: &str| {
        directory.run_with_input(&format!("tokenize model.gguf {flags}"), "<|im_end|>~").success()
    };
    assert_eq!(ids("--special"), format!("2 {}\n", byte(b'~')));
    assert!(ids("").starts_with(&format!("{} {} ", byte(b'<'), byte(b'|'))), "{}", ids(""));
}

#[test]
fn the_beginning_of_sequence_token_comes_where_the_model_wants_it() {
    let directory = directory("gemma3");
    let ids = |flags: &str| {
        directory.run_with_input(&format!("tokenize model.gguf --json {flags}"), r#"["the"]"#).json()
    };
    let with = ids("")[0].as_array().unwrap().clone();
    assert_eq!(with[0], 2, "<bos>");
    assert_eq!(ids("--no-bos")[0].as_array().unwrap()[..], with[1..]);
}

#[test]
fn wrong_input_is_refused() {
    let directory = directory("llama");
    let run = |flags: &str, input: &[u8]| {
        directory.run_with_input(&format!("tokenize model.gguf {flags}"), input).failure()
    };
    assert!(run("", &[0xff]).contains("stdin is not UTF-8"));
    for input in ["\"text\"", "[1]", "[\"x\"", ""] {
        assert!(run("--json", input.as_bytes()).contains("stdin is not a JSON array of strings"), "{input}");
    }
    assert!(directory.run("tokenize missing.gguf").failure().contains("there is no file missing.gguf"));
}
