//! Grammars at their limits: an answer that meets one fails at the same token, whatever is drafted.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use crate::common::{Model, Random, accepted, allowed};
use lookahead_engine::{
    AdversarialDrafter, Draft, DraftLimits, DraftPolicy, Drafter, Engine, EngineError, EngineOptions,
    FinishReason, GeneratedToken, GenerationRequest, Namespace, NamespaceDrafter, NoDraft, RequestText,
    SamplingParams,
};
use lookahead_fixtures::{TinyModel, tiny_model};
use lookahead_grammar::{Constraint, Follower, GrammarError, GrammarLimits, Grammars};
use lookahead_kernels::Kernels;
use lookahead_model::gguf::GgufFile;
use lookahead_model::tokenizer::EncodeOptions;
use lookahead_model::{CpuModel, TokenId, TokenTree};
use serde_json::{Value, json};

const MOST_TOKENS: usize = 40;

/// Grammars that are run, and the least of them that meet a limit in the midst of an answer.
const GRAMMARS: usize = 240;
const MEET_A_LIMIT: usize = 60;

/// Places that cost much, made by hand.
const PATTERNS: [&str; 8] = [
    r"b|.*a.{30}c.{30}d",
    r"(.*[a-m].{12}){2}",
    r"([a-z ]*[aeiou][a-z ]{8})*\.",
    r"(\w+[ ,]){3,40}",
    r"(a|b|ab|ba|aab)*[0-9]{2,30}.{0,80}",
    r"(?i)(north|south|east|west)+(.{3}[0-9]){5,}",
    r"[^a]{0,20}a(.|\n){20}[^b]*b.{9}",
    r"(\d{1,3}\.){3}\d{1,3}( .{1,40})?",
];

const LARKS: [&str; 5] = [
    "start: item (\",\" item)*\nitem: /[a-z]/ | \"(\" start \")\" | item item\n",
    "start: a+\na: b | b a | /[a-z ]/\nb: /[a-f]/ | \"(\" a \")\" | b b\n",
    "start: (WORD | NUMBER | TEXT)*\nWORD: /[a-z]+/\nNUMBER: /[0-9]{1,9}/\nTEXT: /.{1,5}[ .]/\n",
    "start: line{1,30}\nline: /[^\\n]{0,40}/ \"\\n\"\n",
    "start: /(?s:.*)/ & ~/(?s:.*)(end|stop)(?s:.*)/ \"end\"\n",
];

fn schemas() -> Vec<Value> {
    let text = |most: u64| json!({ "type": "string", "maxLength": most });
    vec![
        json!({ "type": "array", "items": text(30), "minItems": 2 }),
        json!({ "type": "object", "properties": { "id": { "type": "string", "pattern": "^[a-z]{2,12}-.*[0-9]{8}$" }, "n": { "type": "integer", "multipleOf": 7 } }, "required": ["id", "n"] }),
        json!({ "anyOf": [{ "type": "array", "items": { "type": "number" } }, { "type": "object", "additionalProperties": text(50) }] }),
        json!({ "type": "array", "items": { "enum": ["north", "northern", "nor", "no", "notable", "noted"] } }),
        json!({ "type": "string", "pattern": "(.*[a-m].{9}){2}", "minLength": 20 }),
    ]
}

/// A pattern of choices, repetitions and counts.
fn random_pattern(random: &mut Random, depth: usize) -> String {
    let one = |random: &mut Random| {
        ["a", "[a-m]", ".", "\\w", "[^e]", "in", " ", "[0-9]", "\\n", "the"][random.below(10)].to_owned()
    };
    let part = |random: &mut Random| {
        if depth > 0 { format!("({})", random_pattern(random, depth - 1)) } else { one(random) }
    };
    let parts = 1 + random.below(4);
    (0..parts)
        .map(|_| match random.below(6) {
            0 => format!("({}|{})", part(random), one(random)),
            1 => format!("{}*", part(random)),
            2 => format!(".*{}.{{{}}}", one(random), 1 + random.below(14)),
            3 => format!("{}{{{},{}}}", part(random), random.below(3), 3 + random.below(20)),
            4 => format!("{}?{}", part(random), one(random)),
            _ => one(random),
        })
        .collect()
}

fn follower(grammars: &Grammars, case: usize, random: &mut Random) -> Result<Follower, GrammarError> {
    let schemas = schemas();
    match case % 4 {
        0 => grammars.regex(PATTERNS[random.below(PATTERNS.len())]),
        1 => grammars.lark(LARKS[random.below(LARKS.len())]),
        2 => grammars.json_schema(&schemas[random.below(schemas.len())]),
        _ => grammars.regex(&random_pattern(random, 2)),
    }
}

/// One limit within reach, the others as usual.
fn limits(random: &mut Random) -> GrammarLimits {
    let mut limits = GrammarLimits::default();
    match random.below(4) {
        0 | 1 => limits.lexer_states = 20 + random.below(400),
        2 => limits.lexer_work = 100 + random.below(4_000) as u64,
        _ if random.below(2) == 0 => limits.items = 20 + random.below(600),
        _ => limits.items_in_row = 3 + random.below(30),
    }
    limits
}

/// Drafts tokens that the grammar allows, and the model most likely does not want: they take parsers where no answer goes.
struct Wanderer {
    constraint: Follower,
    prompt_tokens: usize,
    random: Random,
}

impl Drafter for Wanderer {
    fn draft(&mut self, context: &[TokenId], _: DraftLimits) -> Draft {
        let next = allowed(&mut self.constraint, &context[self.prompt_tokens..]);
        let (mut tokens, mut parents) = (vec![context[context.len() - 1]], vec![0]);
        for sibling in 0..next.len().min(6) as u32 {
            tokens.extend([next[self.random.below(next.len())], next[self.random.below(next.len())]]);
            parents.extend([0, 2 * sibling + 1]);
        }
        TokenTree::new(tokens, parents).unwrap().into()
    }
}

/// The tokens that an answer came to, and its end.
type Outcome = (Vec<TokenId>, Result<FinishReason, EngineError>);

fn run(
    engine: &mut Engine<CpuModel>,
    request: &GenerationRequest,
    sequences: Vec<(Follower, Box<dyn Drafter>)>,
) -> Vec<Outcome> {
    let mut said = vec![Vec::new(); sequences.len()];
    let mut sequences: Vec<_> = sequences
        .into_iter()
        .map(|(follower, drafter)| {
            engine.start(request.clone(), drafter).unwrap().constrained(Some(Box::new(follower)))
        })
        .collect();
    while sequences.iter().any(|sequence| !sequence.has_ended()) {
        let push = |index: usize, token: GeneratedToken| {
            said[index].push(token.id);
            ControlFlow::Continue(())
        };
        engine.step(&mut sequences, push).unwrap();
    }
    let ends = sequences.into_iter().map(|sequence| {
        let completion = sequence.completion().to_vec();
        (completion, sequence.into_generation().map(|generation| generation.finish_reason))
    });
    let ends: Vec<_> = ends.collect();
    assert!(ends.iter().zip(&said).all(|((completion, _), said)| completion == said));
    ends
}

#[test]
fn a_limit_is_met_at_the_same_token_whatever_is_drafted() {
    let file =
        GgufFile::from_bytes("tiny", tiny_model(&TinyModel { layers: 1, ..TinyModel::default() })).unwrap();
    let model = CpuModel::load(&file, Kernels::new(1)).unwrap();
    let Model { tokenizer, .. } = Model::byte_level();
    let mut engine = Engine::new(model, EngineOptions::default());
    let prompt = tokenizer.encode("the answer is", EncodeOptions::default()).unwrap();
    let (mut random, mut run_so_far, mut at_limits) = (Random(7), 0, 0);
    for case in 0.. {
        if run_so_far == GRAMMARS {
            break;
        }
        let limits = limits(&mut random);
        let grammars = Grammars::with_limits(&tokenizer, tokenizer.vocabulary_size(), &limits).unwrap();
        let Ok(follower) = follower(&grammars, case, &mut random) else { continue };
        run_so_far += 1;
        let request = GenerationRequest {
            prompt: prompt.clone().into(),
            max_tokens: MOST_TOKENS,
            sampling: SamplingParams {
                temperature: if case % 3 == 0 { 0.0 } else { 1.5 },
                seed: case as u64,
                ..SamplingParams::greedy()
            },
            end_tokens: tokenizer.end_of_generation().to_vec(),
            ..GenerationRequest::default()
        };

        let plain = run(&mut engine, &request, vec![(follower.clone(), Box::new(NoDraft))]).remove(0);
        at_limits += usize::from(plain.1.is_err());
        let whole = [&prompt[..], &plain.0].concat();
        let namespace = Arc::new(Namespace::new(1 << 20).unwrap());
        let lookahead = || -> Box<dyn Drafter> {
            let drafter = NamespaceDrafter::new(Arc::clone(&namespace), DraftPolicy::default());
            Box::new(drafter.with_text(Arc::new(RequestText::new(&prompt, &[&whole]))))
        };
        let adversary = |seed| -> Box<dyn Drafter> {
            Box::new(AdversarialDrafter::new(512, 12, seed).with_reference(whole.clone()))
        };
        let wanderer: Box<dyn Drafter> = Box::new(Wanderer {
            constraint: follower.clone(),
            prompt_tokens: prompt.len(),
            random: Random(case as u64),
        });
        for drafters in
            [vec![lookahead()], vec![wanderer], vec![adversary(1), adversary(case as u64), lookahead()]]
        {
            let sequences = drafters.into_iter().map(|drafter| (follower.clone(), drafter)).collect();
            for outcome in run(&mut engine, &request, sequences) {
                assert_eq!(outcome, plain, "case {case}: {limits:?}");
            }
        }
    }
    assert!(at_limits >= MEET_A_LIMIT, "{at_limits} of {GRAMMARS} meet a limit");
}

#[test]
fn an_answer_that_meets_a_limit_spoils_no_other() {
    let Model { tokenizer, .. } = Model::byte_level();
    let limits = GrammarLimits { lexer_work: 3_000, ..GrammarLimits::default() };
    let grammars = Grammars::with_limits(&tokenizer, tokenizer.vocabulary_size(), &limits).unwrap();
    let mut constraint = grammars.regex("b|.*a.{30}c.{30}d").unwrap();

    let token = |text| tokenizer.encode(text, EncodeOptions::default()).unwrap()[0];
    let (a, b, c) = (token("a"), token("b"), token("c"));
    let costly = [[a; 40].as_slice(), &[c; 20]].concat();
    let failure = |constraint: &mut Follower| {
        (0..costly.len()).find_map(|at| Some((at, constraint.allowed(&costly[..at]).err()?)))
    };
    let (at, error) = failure(&mut constraint).expect("no limit was hit");
    assert!(
        at > 0 && error.to_string().starts_with(&format!("behind {at} tokens of the answer: ")),
        "{error}"
    );
    // Again from the beginning: the same. And where it is not met, all is as before.
    assert_eq!(constraint.allowed(&costly[..at]).map(<[u32]>::len), Err(error.clone()));
    assert_eq!(failure(&mut constraint), Some((at, error.clone())));
    assert_eq!(failure(&mut constraint.clone()), Some((at, error)));
    assert!(allowed(&mut constraint, &[]).contains(&b));
    assert_eq!(accepted(&mut *constraint.scout(), &[], &[b]), 1);
}

#[test]
fn a_scout_without_time_is_on_its_way() {
    let model = Model::byte_level();
    let mut constraint = model.grammars.regex("[a-z]*").unwrap();
    let a = model.tokenizer.encode("a", EncodeOptions::default()).unwrap()[0];
    let (mut scout, now, long) = (constraint.scout(), Instant::now(), vec![a; 30]);
    assert_eq!(scout.accepted(&long, &[a], now), 0);
    assert!(scout.forced(&long, now).is_empty());
    assert_eq!(accepted(&mut *scout, &long, &[a, a]), 2);
}
