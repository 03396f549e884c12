//! Grammars of one model.

use std::{panic::AssertUnwindSafe, sync::Arc};

use llguidance::{
    Matcher, ParserFactory,
    api::{ParserLimits, TopLevelGrammar},
    panic_utils::catch_unwind,
};
use lookahead_model::{TokenId, ToolFormat, tokenizer::Tokenizer};
use serde_json::Value;
use toktrie::TokEnv;

use crate::{
    error::{GrammarError, readable},
    follower::{Endings, Follower},
    json,
    tools::{self, ToolChoice, ToolSpec},
    vocabulary::Vocabulary,
};

/// Longest schema, pattern or set of tools in bytes. Real ones have some thousands; the worst of this length take half a
/// second.
const LONGEST: usize = 128 << 10;

/// Longest grammar in bytes, and the stack that compiling it gets: rules are compiled recursively.
const LONGEST_LARK: usize = 32 << 10;
const STACK: usize = 64 << 20;

/// Most intersections in a grammar: work multiplies by each, out of the reach of llguidance's limits.
const MOST_INTERSECTIONS: usize = 3;

/// Most states of one request's lexer, 1 to 2 kB each. Schemas from practice need hundreds.
const LEXER_STATES: usize = 50_000;

/// What a model's tokens mean to grammars: made once a model, shared by all its requests.
///
/// Each function makes the [`Follower`] of one answer; more of them are its clones. What clients send is bounded: long texts and grammars that cost
/// too much are errors. If only a place in the answer turns out to cost too much, the answer ends there, with a warning.
pub struct Grammars {
    factory: ParserFactory,
    vocabulary: Arc<Vocabulary>,
    endings: Arc<Endings>,
}

impl Grammars {
    /// Prepares the tokens of a model whose logits are `vocabulary_size` wide, which may be more than the tokenizer has.
    ///
    /// # Errors
    /// If the tokenizer has no token that ends an answer, or is larger than any known.
    pub fn new(tokenizer: &Arc<Tokenizer>, vocabulary_size: usize) -> Result<Self, GrammarError> {
        let ends = tokenizer.end_of_generation().iter().copied();
        let tokens: Vec<TokenId> = ends.filter(|&id| (id as usize) < vocabulary_size).collect();
        let usual = tokenizer.eos().filter(|eos| tokens.contains(eos)).or(tokens.first().copied());
        let Some(usual) = usual else {
            return Err(GrammarError::Tokenizer("it has no token that ends an answer".to_owned()));
        };
        let mut mask = vec![0; vocabulary_size.div_ceil(32)];
        for &id in &tokens {
            mask[id as usize / 32] |= 1 << (id % 32);
        }

        let prepared = catch_unwind(AssertUnwindSafe(|| {
            let vocabulary = Arc::new(Vocabulary::new(tokenizer, vocabulary_size, &tokens));
            let environment: TokEnv = Arc::clone(&vocabulary) as TokEnv;
            // Neither capability is used: tokens are forced and taken back here.
            Ok((ParserFactory::new_simple(&environment)?, vocabulary))
        }));
        let (mut factory, vocabulary) =
            prepared.map_err(|problem| GrammarError::Tokenizer(readable(&problem)))?;
        factory.quiet();
        *factory.limits_mut() =
            ParserLimits { max_lexer_states: LEXER_STATES, verbose_errors: false, ..ParserLimits::default() };
        Ok(Self { factory, vocabulary, endings: Arc::new(Endings { tokens, usual, mask }) })
    }

    /// Any JSON object.
    ///
    /// # Errors
    /// Not expected.
    pub fn json_object(&self) -> Result<Follower, GrammarError> {
        self.json_schema(&json::any_object())
    }

    /// JSON that satisfies a schema, with one space behind commas and colons and no other whitespace. Keys stand in the
    /// order of the schema.
    ///
    /// # Errors
    /// If the schema is none, cannot be satisfied, is too large, or says what cannot be enforced.
    pub fn json_schema(&self, schema: &Value) -> Result<Follower, GrammarError> {
        json::check_cost([schema]).map_err(GrammarError::Schema)?;
        check_length("JSON schema", schema.to_string().len(), LONGEST)?;
        let schema = json::laid_out(schema)
            .ok_or_else(|| GrammarError::Schema("a schema is an object or a boolean".to_owned()))?;
        self.constraint(TopLevelGrammar::from_json_schema(schema)).map_err(GrammarError::Schema)
    }

    /// Text that matches a regular expression as a whole: the syntax of Rust's `regex`, without look-around.
    ///
    /// # Errors
    /// If the pattern is wrong, matches nothing or is too complex.
    pub fn regex(&self, pattern: &str) -> Result<Follower, GrammarError> {
        check_length("regular expression", pattern.len(), LONGEST)?;
        // A pattern is a part of a grammar, in which `//` begins a comment.
        let pattern = if pattern.is_empty() { "()" } else { pattern };
        self.constraint(TopLevelGrammar::from_regex(pattern)).map_err(GrammarError::Regex)
    }

    /// One of some texts.
    ///
    /// # Errors
    /// If there is none, or they are too long.
    pub fn choice(&self, texts: &[String]) -> Result<Follower, GrammarError> {
        if texts.is_empty() {
            return Err(GrammarError::Lark("there are no texts to choose from".to_owned()));
        }
        check_length("choice", texts.iter().map(String::len).sum(), LONGEST_LARK)?;
        let texts: Vec<String> = texts.iter().map(|text| Value::from(text.as_str()).to_string()).collect();
        self.constraint(TopLevelGrammar::from_lark(format!("start: {}", texts.join(" | "))))
            .map_err(GrammarError::Lark)
    }

    /// Text that follows a grammar in llguidance's dialect of Lark. Such a grammar may name control tokens, and may hold
    /// JSON schemas, whose layout it chooses.
    ///
    /// # Errors
    /// If the grammar is wrong, matches nothing or is too complex.
    pub fn lark(&self, grammar: &str) -> Result<Follower, GrammarError> {
        check_length("grammar", grammar.len(), LONGEST_LARK)?;
        if grammar.matches('&').count() > MOST_INTERSECTIONS {
            let problem = format!("more than {MOST_INTERSECTIONS} intersections (&) are not supported");
            return Err(GrammarError::Lark(problem));
        }
        let schema_at = |text| serde_json::Deserializer::from_str(text).into_iter().next()?.ok();
        let schemas: Vec<Value> = grammar.split("%json").skip(1).filter_map(schema_at).collect();
        json::check_cost(&schemas).map_err(GrammarError::Lark)?;
        self.constraint(TopLevelGrammar::from_lark(grammar.to_owned())).map_err(GrammarError::Lark)
    }

    /// Answers that call tools. For the choice of one tool, pass that tool alone and [`ToolChoice::One`].
    ///
    /// # Errors
    /// If there is no tool, or the schema of a tool's parameters is one of those that [`Self::json_schema`] refuses.
    pub fn tools(
        &self,
        tools: &[ToolSpec],
        format: ToolFormat,
        choice: ToolChoice,
    ) -> Result<Follower, GrammarError> {
        if tools.is_empty() {
            return Err(GrammarError::Tools("there are none to call".to_owned()));
        }
        let wrong = |tool: &ToolSpec, problem| GrammarError::Tool { name: tool.name.clone(), problem };
        let named = |tool| {
            let no_schema = || wrong(tool, "a schema is an object or a boolean".to_owned());
            let arguments = tools::arguments(tool).ok_or_else(no_schema)?;
            Ok((tool.name.as_str(), arguments))
        };
        let with_arguments = tools.iter().map(named).collect::<Result<Vec<_>, GrammarError>>()?;
        json::check_cost(with_arguments.iter().map(|(_, arguments)| arguments))
            .map_err(GrammarError::Tools)?;
        let grammar = tools::grammar(&with_arguments, format, choice, &self.vocabulary);
        check_length("schemas of the tools", grammar.len(), LONGEST)?;
        self.constraint(TopLevelGrammar::from_lark(grammar)).map_err(|problem| {
            let alone = |(tool, (_, arguments)): (&ToolSpec, (&str, Value))| {
                let grammar = TopLevelGrammar::from_json_schema(arguments);
                self.constraint(grammar).err().map(|problem| wrong(tool, problem))
            };
            tools.iter().zip(with_arguments).find_map(alone).unwrap_or(GrammarError::Tools(problem))
        })
    }

    fn constraint(&self, grammar: TopLevelGrammar) -> Result<Follower, String> {
        let compiled = std::thread::scope(|scope| {
            let compile = || self.factory.create_parser(grammar);
            let thread = std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, compile);
            thread.map_err(|error| error.to_string())?.join().map_err(|_| "llguidance panicked".to_owned())
        })?;
        let mut start = Matcher::new(compiled);
        // What allows no token is no use, and what costs too much already here is the client's to know. The states that
        // this makes are inherited by all that follow.
        start.compute_mask_or_eos().map_err(|problem| readable(&problem))?;
        for warning in start.grammar_warnings() {
            tracing::debug!("grammar: {warning}");
        }
        Ok(Follower::new(Arc::clone(&self.endings), start))
    }
}

fn check_length(what: &'static str, bytes: usize, limit: usize) -> Result<(), GrammarError> {
    if bytes > limit { Err(GrammarError::TooLong { what, bytes, limit }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use lookahead_fixtures::{TinyModel, tiny_model};
    use lookahead_model::gguf::GgufFile;

    use super::*;
    use crate::Constraint as _;

    #[test]
    fn a_place_that_costs_too_much_ends_the_answer_and_spoils_no_other() {
        let file = GgufFile::from_bytes("tiny", tiny_model(&TinyModel::default())).unwrap();
        let tokenizer = Arc::new(Tokenizer::from_gguf(&file).unwrap());
        let mut grammars = Grammars::new(&tokenizer, tokenizer.vocabulary_size()).unwrap();
        grammars.factory.limits_mut().step_lexer_fuel = 3_000;
        let mut constraint = grammars.regex("b|.*a.{30}c.{30}d").unwrap();

        let token =
            |text| tokenizer.encode(text, lookahead_model::tokenizer::EncodeOptions::default()).unwrap()[0];
        let (a, b, c) = (token("a"), token("b"), token("c"));
        let ends = grammars.endings.mask.clone();
        let costly = [[a; 40].as_slice(), &[c; 20]].concat();
        let at = (0..costly.len())
            .find(|&at| constraint.allowed(&costly[..at]) == ends)
            .expect("no limit was hit");
        assert!(at > 0);
        assert!(constraint.allowed(&[]) != ends);
        assert_eq!(constraint.accepted(&[], &[b]), 1);
    }
}
