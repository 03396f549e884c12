//! Ids and words that other implementations give for the small vocabularies of `fixtures/tokenizers`, whose README says which.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::pre_tokenizer::{PreTokenizer, cut};
use super::*;
use crate::Checkpoint;

const PLAIN: EncodeOptions = EncodeOptions { add_bos: false, parse_special: false };
const PARSED: EncodeOptions = EncodeOptions { add_bos: false, parse_special: true };
const PROMPT: EncodeOptions = EncodeOptions { add_bos: true, parse_special: false };

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/tokenizers").join(name)
}

fn json(name: &str) -> Value {
    serde_json::from_slice(&fs::read(folder(name)).unwrap()).unwrap()
}

fn ids(value: &Value) -> Vec<TokenId> {
    serde_json::from_value(value.clone()).unwrap()
}

fn strings(value: &Value) -> Vec<&str> {
    value.as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect()
}

/// The tokenizer of a folder, and its cases: a text, and what it becomes.
fn checkpoint(name: &str) -> (Tokenizer, Vec<Value>) {
    let tokenizer = Tokenizer::from_checkpoint(&Checkpoint::without_weights(&folder(name))).unwrap();
    let Value::Array(cases) = json(&format!("{name}/cases.json")) else { panic!("a list of cases") };
    assert!(cases.len() > 9);
    (tokenizer, cases)
}

/// No text has fewer tokens than it is said to have at least.
fn check_reach(tokenizer: &Tokenizer, text: &str, tokens: &[TokenId]) {
    assert!(tokenizer.fewest_tokens([text]) <= tokens.len(), "{text:?}");
}

#[test]
fn words_are_those_of_the_models_regular_expressions() {
    let golden = json("words.json");
    let texts = strings(&golden["texts"]);
    for (name, words) in golden["words"].as_object().unwrap() {
        let splits = PreTokenizer::for_name(Some(name)).compile().unwrap();
        for (text, words) in texts.iter().zip(words.as_array().unwrap()) {
            let found: Vec<&str> = cut(&splits, text).into_iter().map(|(from, to)| &text[from..to]).collect();
            // A text without a character is one word or none.
            let expected: Vec<&str> = strings(words).into_iter().filter(|word| !word.is_empty()).collect();
            let found: Vec<&str> = found.into_iter().filter(|word| !word.is_empty()).collect();
            assert_eq!(found, expected, "{name}: {text:?}");
        }
    }
}

#[test]
fn characters_merge_as_in_gemma_4() {
    let golden = json("gemma4.json");
    let vocabulary = Vocabulary {
        file: "gemma4.gguf".to_owned(),
        model: "gemma4",
        tokens: strings(&golden["tokens"]),
        token_types: Some(serde_json::from_value(golden["kinds"].clone()).unwrap()),
        merges: Some(strings(&golden["merges"])),
        unknown: Some(3),
        ..Vocabulary::default()
    };
    let tokenizer = Tokenizer::new(&vocabulary, Algorithm::of(&vocabulary).unwrap()).unwrap();
    for case in golden["cases"].as_array().unwrap() {
        let (text, expected) = (case[0].as_str().unwrap(), ids(&case[1]));
        assert_eq!(tokenizer.encode(text, PLAIN).unwrap(), expected, "{text:?}");
        assert_eq!(tokenizer.decode(&expected, DecodeOptions::default()), text.replace('▁', " "));
        check_reach(&tokenizer, text, &expected);
    }
}

#[test]
fn ranked_byte_strings_are_tokens_as_in_kimi_and_qwen() {
    for (name, end, ends) in [
        ("kimi", "<|im_end|>", vec!["<|im_end|>", "[EOS]"]),
        ("qwen", "<|im_end|>", vec!["<|endoftext|>", "<|im_end|>"]),
    ] {
        let (tokenizer, cases) = checkpoint(name);
        for case in &cases {
            let (text, expected, parsed) = (case[0].as_str().unwrap(), ids(&case[1]), ids(&case[2]));
            assert_eq!(tokenizer.encode(text, PLAIN).unwrap(), expected, "{name}: {text:?}");
            assert_eq!(tokenizer.encode(text, PARSED).unwrap(), parsed, "{name}: {text:?}");
            check_reach(&tokenizer, text, &expected);
            if name == "kimi" {
                assert_eq!(tokenizer.decode(&expected, DecodeOptions::default()), text);
            }
        }
        let id = |name: &str| tokenizer.encode(name, PARSED).unwrap()[0];
        assert!(tokenizer.is_control(id(end)));
        let mut ends: Vec<TokenId> = ends.into_iter().map(id).collect();
        ends.sort_unstable();
        assert_eq!(tokenizer.end_of_generation(), ends, "{name}");
    }
}

#[test]
fn texts_are_tokens_as_in_tekken() {
    let (tokenizer, cases) = checkpoint("tekken");
    for case in &cases {
        let (text, expected) = (case[0].as_str().unwrap(), ids(&case[1]));
        assert_eq!(tokenizer.encode(text, PROMPT).unwrap(), expected, "{text:?}");
        check_reach(&tokenizer, text, &expected);
        assert_eq!(tokenizer.decode(&expected, DecodeOptions::default()), text);
    }
    assert_eq!(tokenizer.vocabulary_size(), 420);
    assert_eq!((tokenizer.bos(), tokenizer.end_of_generation()), (Some(1), &[2][..]));
    assert_eq!(tokenizer.token_bytes(19), b"<SPECIAL_19>");
}

#[test]
fn pieces_are_those_with_the_best_sum_of_scores() {
    for name in ["unigram-nmt", "unigram-plain", "unigram-json"] {
        let (tokenizer, cases) = checkpoint(name);
        for case in &cases {
            let (text, expected) = (case[0].as_str().unwrap(), ids(&case[1]));
            assert_eq!(tokenizer.encode(text, PLAIN).unwrap(), expected, "{name}: {text:?}");
        }
    }
}
