//! The contract of constraints: what is allowed depends on the completion alone, and all that is said agrees.

use std::sync::LazyLock;

use crate::common::{CONTROL, Model, Random, accepted, allowed, ends, forced, tokens};
use lookahead_grammar::{Constraint, Follower, GrammarError, Grammars, ToolChoice, ToolSpec};
use lookahead_model::ToolFormat;
use lookahead_model::{
    TokenId,
    tokenizer::{DecodeOptions, EncodeOptions},
};
use proptest::prelude::*;
use serde_json::json;

static MODELS: LazyLock<Vec<(&'static str, Model)>> = LazyLock::new(Model::all);

/// Grammars of every kind.
const KINDS: usize = 5 + ToolFormat::ALL.len();

fn constraint(model: &Model, kind: usize) -> Follower {
    let tool = |name: &str, parameters| ToolSpec { name: name.to_owned(), parameters, strict: false };
    let city = json!({ "type": "object", "properties": { "city": { "type": "string", "maxLength": 9 } } });
    let tools =
        [tool("weather", Some(city)), tool("web", None), tool("stop", Some(json!({ "maxProperties": 0 })))];
    let grammars = &model.grammars;
    match kind {
        0 => grammars.json_object(),
        1 => grammars.json_schema(&json!({
            "anyOf": [
                { "type": "object", "properties": { "kind": { "const": "a" }, "x": { "type": "number" } }, "required": ["kind"] },
                { "type": "object", "properties": { "kind": { "const": "ab" }, "y": { "type": "string" } }, "required": ["kind", "y"] },
                { "type": "array", "items": { "type": "boolean" } },
            ],
        })),
        2 => grammars.regex(r"(ab|a)*c?|[0-9]{2}\.\d+ .*"),
        3 => grammars.lark("start: \"(\" (start \",\")* word? \")\"\nword[suffix=\"!\"]: /[a-z ]*/\n"),
        4 => grammars.tools(&tools, ToolFormat::Hermes, ToolChoice::Required).map(|tools| tools.follower),
        _ => grammars.tools(&tools, ToolFormat::ALL[kind - 5], ToolChoice::Auto).map(|tools| tools.follower),
    }
    .unwrap()
}

/// Some answers that the grammar allows, and one that leaves it.
fn completions(model: &Model, kind: usize, seed: u64) -> Vec<Vec<TokenId>> {
    let mut walked = constraint(model, kind);
    let mut random = Random(seed);
    let mut completions = Vec::new();
    for branch in 0..3 {
        let mut completion: Vec<TokenId> = completions.last().cloned().unwrap_or_default();
        completion.truncate(random.below(completion.len() + 1));
        for _ in 0..12 {
            let next = allowed(&mut walked, &completion);
            completion.push(next[random.below(next.len())]);
        }
        if branch == 2 {
            let at = random.below(completion.len());
            completion[at] = random.below(model.tokenizer.vocabulary_size()) as TokenId;
        }
        completions.push(completion);
    }
    completions
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn what_is_allowed_depends_on_the_completion_alone(
        model in 0..3usize,
        kind in 0..KINDS,
        seed in any::<u64>(),
        questions in prop::collection::vec((0..3usize, 0..40usize, 0..4usize), 1..20),
    ) {
        let model = &MODELS[model].1;
        let completions = completions(model, kind, seed);
        let mut asked = constraint(model, kind);
        let mut scout = asked.scout();
        for (branch, length, question) in questions {
            let completion = &completions[branch];
            let (completion, rest) = completion.split_at(length.min(completion.len()));
            let mut fresh = constraint(model, kind);
            match question {
                // Scouts are asked about completions that are allowed.
                0 | 1 if fresh.allowed(completion).is_err() => {}
                0 => prop_assert_eq!(forced(&mut *scout, completion), forced(&mut *fresh.scout(), completion)),
                1 => prop_assert_eq!(accepted(&mut *scout, completion, rest), accepted(&mut *fresh.scout(), completion, rest)),
                _ => prop_assert_eq!(asked.allowed(completion), fresh.allowed(completion), "{:?}", model.decode(completion)),
            }
        }
    }

    #[test]
    fn accepted_and_forced_agree_with_allowed(
        model in 0..3usize,
        kind in 0..KINDS,
        seed in any::<u64>(),
    ) {
        let model = &MODELS[model].1;
        let mut walked = constraint(model, kind);
        let mut scout = walked.scout();
        for completion in completions(model, kind, seed) {
            for at in 0..=completion.len() {
                let (before, rest) = completion.split_at(at);
                if walked.allowed(before).is_err() {
                    break;
                }
                let mut follows = (0..rest.len()).take_while(|&next| {
                    allowed(&mut walked, &completion[..at + next]).contains(&rest[next])
                });
                prop_assert_eq!(accepted(&mut *scout, before, rest), follows.by_ref().count());

                let forced = forced(&mut *scout, before);
                prop_assert_eq!(accepted(&mut *scout, before, &forced), forced.len());
                let mut longer = before.to_vec();
                for token in forced {
                    let allowed = allowed(&mut walked, &longer);
                    prop_assert!(allowed.contains(&token));
                    if !model.is_end(token) {
                        prop_assert_eq!(allowed, vec![token]);
                    }
                    longer.push(token);
                }
            }
        }
    }
}

#[test]
fn control_tokens_and_tokens_beyond_the_vocabulary_are_never_allowed() {
    for (name, model) in &*MODELS {
        for kind in 0..KINDS {
            let mut asked = constraint(model, kind);
            for completion in completions(model, kind, 7) {
                for at in 0..completion.len() {
                    let Ok(mask) = asked.allowed(&completion[..at]) else { break };
                    assert_eq!(mask.len(), (model.tokenizer.vocabulary_size() + 37).div_ceil(32));
                    for token in tokens(mask) {
                        let text = model
                            .tokenizer
                            .decode(&[token], DecodeOptions { show_special: false, continuation: true });
                        assert!(!text.is_empty() || model.is_end(token), "{name}: {token} is allowed");
                    }
                }
            }
        }
    }
}

#[test]
fn behind_the_end_only_ends_are_allowed() {
    let model = Model::byte_level();
    let end = model.tokenizer.eos().unwrap();
    let mut asked = model.grammars.regex("ab*").unwrap();
    let a = model.spelling(&mut asked, b"a").unwrap();
    let all_ends: Vec<TokenId> =
        (0..model.tokenizer.vocabulary_size() as TokenId).filter(|&id| model.is_end(id)).collect();

    assert!(ends(&model, &mut asked, &a) && allowed(&mut asked, &a).len() > all_ends.len());
    let ended = [a[0], end];
    assert_eq!(allowed(&mut asked, &ended), all_ends);
    let mut scout = asked.scout();
    assert!(forced(&mut *scout, &ended).is_empty());
    assert_eq!(accepted(&mut *scout, &ended, &[end, a[0]]), 1);
    assert_eq!(accepted(&mut *scout, &a, &[end, a[0]]), 1);
    // An end too early is one nevertheless.
    assert_eq!(accepted(&mut *scout, &[], &[end]), 0);
    assert_eq!(allowed(&mut asked, &[end]), all_ends);
}

#[test]
fn what_is_forced_runs_to_the_end_of_the_answer() {
    for (name, model) in &*MODELS {
        let mut asked = model.grammars.regex("the answer is forty-two\\.").unwrap();
        let forced = forced(&mut *asked.scout(), &[]);
        let (end, text) = forced.split_last().unwrap();
        assert_eq!(model.decode(text), "the answer is forty-two.", "{name}");
        assert_eq!(Some(*end), model.tokenizer.eos(), "{name}");
        // It is spelt as the model's tokenizer does, not byte by byte.
        if *name == "byte level" {
            assert_eq!(
                text,
                model.tokenizer.encode("the answer is forty-two.", EncodeOptions::default()).unwrap()
            );
        }
    }
}

#[test]
fn forced_text_has_one_spelling() {
    let model = Model::byte_level();
    let mut asked = model.grammars.regex(" the answer").unwrap();
    let mut scout = asked.scout();
    let forced = forced(&mut *scout, &[]);
    let byte = model.tokenizer.encode(" ", EncodeOptions::default()).unwrap()[0];
    assert_ne!(forced[0], byte);
    assert_eq!(accepted(&mut *scout, &[], &forced), forced.len());
    assert_eq!(accepted(&mut *scout, &[], &[byte]), 0);
    assert_eq!(allowed(&mut asked, &[]), forced[..1]);
}

#[test]
fn places_that_look_alike_are_told_apart() {
    // Behind either bracket a letter follows, but what follows that differs.
    let model = Model::byte_level();
    let grammar = "start: \"(\" LETTER \"n\" | \"[\" LETTER \"r\"\nLETTER: /[a-z]/\n";
    let mut asked = model.grammars.lark(grammar).unwrap();
    let [token, round, square] =
        ["in", "(", "["].map(|text| model.tokenizer.encode(text, EncodeOptions::default()).unwrap()[0]);
    assert_eq!(model.tokenizer.token_bytes(token), b"in");
    assert!(allowed(&mut asked, &[round]).contains(&token));
    assert!(!allowed(&mut asked, &[square]).contains(&token));
    assert!(allowed(&mut asked, &[round]).contains(&token));
}

#[test]
fn a_grammar_may_name_the_token_that_ends_it() {
    let model = Model::byte_level();
    let mut asked = model.grammars.lark("start: /ab?/ <|im_end|>").unwrap();
    let [a, end] =
        [model.tokenizer.encode("a", EncodeOptions::default()).unwrap()[0], model.tokenizer.eos().unwrap()];
    assert!(allowed(&mut asked, &[a]).contains(&end));
    assert!(!allowed(&mut asked, &[]).contains(&end));
}

#[test]
fn keys_of_a_schema_are_forced() {
    let model = Model::byte_level();
    let schema = json!({
        "type": "object",
        "properties": { "temperature": { "type": "number" }, "unit": { "enum": ["C", "F"] } },
        "required": ["temperature", "unit"],
        "additionalProperties": false
    });
    let mut asked = model.grammars.json_schema(&schema).unwrap();
    let forced = model.decode(&forced(&mut *asked.scout(), &[]));
    assert!(
        r#"{"temperature": "#.starts_with(&forced) && forced.starts_with(r#"{"temperature""#),
        "{forced}"
    );
}

#[test]
fn grammars_that_are_none_are_errors() {
    let grammars = &MODELS[0].1.grammars;
    for pattern in ["(", "a{5,2}", r"(?=a)b", "[z-a]", r"a[^\s\S]"] {
        assert!(matches!(grammars.regex(pattern), Err(GrammarError::Regex(_))), "{pattern}");
    }
    for grammar in ["", "a: \"a\"", "start: \"a\" end", "start: <|no_such_token|>", "start: start"] {
        assert!(matches!(grammars.lark(grammar), Err(GrammarError::Lark(_))), "{grammar}");
    }
    // A few bytes, much work.
    for grammar in [
        "start: T\nT: /.*a/ & /.*b.{5}/ & /.*c.{6}/ & /.*d.{7}/ & /.*e.{8}/",
        "start: %json { \"type\": \"integer\", \"multipleOf\": 999983 }",
    ] {
        assert!(matches!(grammars.lark(grammar), Err(GrammarError::Lark(_))), "{grammar}");
    }
    let chain: Vec<String> = (0..2_000).map(|i| format!("r{i}:r{}", i + 1)).collect();
    assert!(grammars.lark(&format!("start: r0\n{}\nr2000: \"a\"", chain.join("\n"))).is_ok());
    assert!(matches!(grammars.regex(&"a".repeat(300_000)), Err(GrammarError::TooLong { .. })));
    assert!(grammars.regex("").is_ok() && grammars.regex("/").is_ok());
}

#[test]
fn a_tokenizer_without_an_end_has_no_grammars() {
    let model = Model::with_tokens(&[("<other>", CONTROL)], false);
    assert!(matches!(Grammars::new(&model.tokenizer, 0), Err(GrammarError::Tokenizer(_))));
}

#[test]
fn grammars_are_shared_by_threads() {
    fn shared<T: Send + Sync>(_: &T) {}
    shared(&MODELS[0].1.grammars);
}
