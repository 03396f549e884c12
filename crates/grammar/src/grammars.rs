//! Grammars of one model.

use std::{panic::AssertUnwindSafe, sync::Arc, thread};

use llguidance::{
    ParserFactory,
    api::{ParserLimits, TopLevelGrammar},
    panic_utils::catch_unwind,
};
use lookahead_engine::{Constraint, allow};
use lookahead_model::{TokenId, ToolFormat, tokenizer::Tokenizer};
use serde_json::Value;
use toktrie::TokEnv;

use crate::{
    call_check::CallCheck,
    channels::{FinalChannel, Marks},
    compiled::{Cache, Compiled},
    endings::Endings,
    error::{GrammarError, readable},
    follower::Follower,
    gbnf, json,
    rules::MOST_BYTES,
    schema,
    tools::{self, ToolChoice, ToolSpec},
    vocabulary::Vocabulary,
    walker::Walker,
};

/// Longest schema, pattern or set of tools in bytes. Real ones have some thousands; the worst of this length take half a
/// second.
const LONGEST: usize = MOST_BYTES;

/// Longest grammar in bytes, and the stack that compiling it gets: rules are compiled recursively.
const LONGEST_LARK: usize = 32 << 10;
const STACK: usize = 64 << 20;

/// Most intersections in a grammar: work multiplies by each, out of the reach of llguidance's limits.
const MOST_INTERSECTIONS: usize = 3;

const NO_SCHEMA: &str = "a schema is an object or a boolean";

/// Compiled grammars that are kept, and their bytes.
const MOST_KEPT: usize = 256;
const MOST_KEPT_BYTES: usize = 64 << 20;

/// What grammars may cost: when they are compiled, and in the midst of an answer, where an answer that goes beyond it fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrammarLimits {
    /// Grammars that are compiled at a time; others wait. Half of the cores by default, which leaves some for answers.
    pub compilations: usize,
    /// States of an answer's lexer, 1 to 2 kB each. Schemas from practice need hundreds.
    pub lexer_states: usize,
    /// Work of the lexer on one token, in derivatives of expressions, of which it does some 14,000 in a millisecond.
    pub lexer_work: u64,
    /// Items of the parser for one token, of which it makes some 20,000 in a millisecond.
    pub items: usize,
    /// Items of the parser at one place: rules that may go on there.
    pub items_in_row: usize,
}

impl Default for GrammarLimits {
    fn default() -> Self {
        let compilations = thread::available_parallelism().map_or(1, |cores| cores.get().div_ceil(2));
        Self { compilations, lexer_states: 50_000, lexer_work: 200_000, items: 50_000, items_in_row: 2_000 }
    }
}

/// What answers that call tools follow.
pub struct ToolConstraint {
    /// What follows one answer.
    pub follower: Follower,
    /// What of the tools' schemas is not enforced: the tool, the keyword and its place.
    pub warnings: Vec<String>,
    /// Checks calls that are complete against what is not enforced.
    pub check: CallCheck,
}

/// What a model's tokens mean to grammars: made once a model, shared by all its requests.
///
/// Each function makes the [`Follower`] of one answer; more of them are its clones. Compiled grammars are kept for a while.
/// What clients send is bounded: long texts and grammars that cost too much are errors. If only a place in the answer turns
/// out to cost too much, [`Follower::allowed`](lookahead_engine::Constraint::allowed) fails there, always.
pub struct Grammars {
    factory: ParserFactory,
    vocabulary: Arc<Vocabulary>,
    endings: Arc<Endings>,
    compiled: Cache,
}

impl Grammars {
    /// Prepares the tokens of a model whose logits are `vocabulary_size` wide, which may be more than the tokenizer has.
    ///
    /// # Errors
    /// If the tokenizer has no token that ends an answer, or is larger than any known.
    pub fn new(tokenizer: &Arc<Tokenizer>, vocabulary_size: usize) -> Result<Self, GrammarError> {
        Self::with_limits(tokenizer, vocabulary_size, &GrammarLimits::default())
    }

    /// As [`Self::new`], with other limits.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn with_limits(
        tokenizer: &Arc<Tokenizer>,
        vocabulary_size: usize,
        limits: &GrammarLimits,
    ) -> Result<Self, GrammarError> {
        let ends = tokenizer.end_of_generation().iter().copied();
        let tokens: Vec<TokenId> = ends.filter(|&id| (id as usize) < vocabulary_size).collect();
        let usual = tokenizer.eos().filter(|eos| tokens.contains(eos)).or(tokens.first().copied());
        let Some(usual) = usual else {
            return Err(GrammarError::Tokenizer("it has no token that ends an answer".to_owned()));
        };
        let mut mask = vec![0; vocabulary_size.div_ceil(32)];
        for &id in &tokens {
            allow(&mut mask, id);
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
        *factory.limits_mut() = ParserLimits {
            max_lexer_states: limits.lexer_states,
            step_lexer_fuel: limits.lexer_work,
            step_max_items: limits.items,
            max_items_in_row: limits.items_in_row,
            verbose_errors: false,
            ..ParserLimits::default()
        };
        let compiled = Cache::new(MOST_KEPT, MOST_KEPT_BYTES, limits.compilations.max(1));
        Ok(Self { factory, vocabulary, endings: Arc::new(Endings { tokens, usual, mask }), compiled })
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
        let (tidy, laid_out) = checked(schema)?;
        self.follower(TopLevelGrammar::from_json_schema(laid_out))
            .map_err(|problem| GrammarError::Schema(schema::explained(problem, &tidy)))
    }

    /// Text that matches a regular expression as a whole: the syntax of Rust's `regex`, without look-around.
    ///
    /// # Errors
    /// If the pattern is wrong, matches nothing or is too complex.
    pub fn regex(&self, pattern: &str) -> Result<Follower, GrammarError> {
        check_length("regular expression", pattern.len(), LONGEST)?;
        // A pattern is a part of a grammar, in which `//` begins a comment.
        let pattern = if pattern.is_empty() { "()" } else { pattern };
        self.follower(TopLevelGrammar::from_regex(pattern)).map_err(GrammarError::Regex)
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
        self.follower(TopLevelGrammar::from_lark(format!("start: {}", texts.join(" | "))))
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
        schemas.iter().try_for_each(json::check_numbers).map_err(GrammarError::Lark)?;
        self.follower(TopLevelGrammar::from_lark(grammar.to_owned())).map_err(GrammarError::Lark)
    }

    /// Text that follows a grammar in GBNF, as llama.cpp has it.
    ///
    /// # Errors
    /// If the grammar is wrong, which names the line and the rule, matches nothing or is too complex.
    pub fn gbnf(&self, grammar: &str) -> Result<Follower, GrammarError> {
        check_length("grammar", grammar.len(), LONGEST_LARK)?;
        let lark = gbnf::to_lark(grammar).map_err(GrammarError::Lark)?;
        self.lark(&lark.text).map_err(|error| match error {
            GrammarError::Lark(problem) => GrammarError::Lark(lark.explained(&problem)),
            error => error,
        })
    }

    /// Answers that call tools. For the choice of one tool, pass that tool alone and [`ToolChoice::One`].
    ///
    /// What cannot be enforced of the schema of a tool that is not strict is left out, with a warning.
    ///
    /// # Errors
    /// If there is no tool, or the schema of a tool's parameters is one of those that [`Self::json_schema`] refuses.
    pub fn tools(
        &self,
        tools: &[ToolSpec],
        format: ToolFormat,
        choice: ToolChoice,
    ) -> Result<ToolConstraint, GrammarError> {
        self.tools_or_json(tools, format, choice, None)
    }

    /// As [`tools`](Self::tools), where an answer that calls none is JSON that satisfies the schema `answer`, as of
    /// [`Self::json_schema`], if there is one.
    ///
    /// # Errors
    /// As [`tools`](Self::tools) and [`Self::json_schema`].
    pub fn tools_or_json(
        &self,
        tools: &[ToolSpec],
        format: ToolFormat,
        choice: ToolChoice,
        answer: Option<&Value>,
    ) -> Result<ToolConstraint, GrammarError> {
        if tools.is_empty() {
            return Err(GrammarError::Tools("there are none to call".to_owned()));
        }
        let wrong = |tool: &ToolSpec, problem| GrammarError::Tool { name: tool.name.clone(), problem };
        let mut named = Vec::with_capacity(tools.len());
        let mut warnings = Vec::new();
        let mut checked_tools = Vec::new();
        for tool in tools {
            let arguments = self.arguments(tool, format, choice).map_err(|problem| wrong(tool, problem))?;
            let warning = |what| format!("tool {:?}: {what} is not enforced", tool.name);
            warnings.extend(arguments.unenforced.into_iter().map(warning));
            checked_tools.extend(arguments.checked.map(|schema| (tool.name.clone(), schema)));
            named.push((tool.name.as_str(), arguments.enforced));
        }
        json::check_cost(named.iter().map(|(_, parameters)| parameters)).map_err(GrammarError::Tools)?;
        let laid_out = answer.map(checked).transpose()?.map(|(_, laid_out)| laid_out);
        let grammar = tools::grammar(&named, format, choice, laid_out.as_ref(), &self.vocabulary);
        check_length("schemas of the tools", grammar.len(), LONGEST)?;
        let follower = self.follower(TopLevelGrammar::from_lark(grammar)).map_err(|problem| {
            let alone = |(tool, (_, parameters)): (&ToolSpec, (&str, Value))| {
                let problem = self.follower(TopLevelGrammar::from_json_schema(parameters.clone())).err()?;
                Some(wrong(tool, schema::explained(problem, &parameters)))
            };
            let of_answer = || answer.and_then(|schema| self.json_schema(schema).err());
            let found = tools.iter().zip(named).find_map(alone).or_else(of_answer);
            found.unwrap_or(GrammarError::Tools(problem))
        })?;
        Ok(ToolConstraint { follower, warnings, check: CallCheck::new(checked_tools) })
    }

    /// `answer` in the final channel of a model that has channels, behind what it thinks in others. Without control tokens that
    /// mark channels nothing tells the final one in time, and `answer` begins at once.
    ///
    /// # Errors
    /// Not expected.
    pub fn in_final_channel(&self, answer: Box<dyn Constraint>) -> Result<Box<dyn Constraint>, GrammarError> {
        let Some(marks) = Marks::new(&self.vocabulary) else { return Ok(answer) };
        let grammar = TopLevelGrammar::from_lark(tools::before_final(&self.vocabulary));
        let grammar = self.compiled(grammar).map_err(GrammarError::Lark)?;
        Ok(Box::new(FinalChannel::new(marks, &self.endings, grammar, answer)))
    }

    /// What becomes of the schema of a tool's arguments.
    fn arguments(
        &self,
        tool: &ToolSpec,
        format: ToolFormat,
        choice: ToolChoice,
    ) -> Result<Arguments, String> {
        let laid_out = |schema| json::laid_out(schema).ok_or_else(|| NO_SCHEMA.to_owned());
        let mut enforced = match tools::parameters(tool) {
            // The model may never call it.
            Err(_) if choice.is_free() && !tool.strict => {
                let unenforced = vec!["a schema of its parameters that is none of an object".to_owned()];
                return Ok(Arguments { enforced: laid_out(json::any_object())?, unenforced, checked: None });
            }
            schema => schema?,
        };
        json::check_cost([&enforced])?;
        schema::tidy(&mut enforced);
        let mut unenforced = Vec::new();
        if !tool.strict {
            unenforced = schema::relax(&mut enforced, false);
            if self.has_overlaps(&enforced) {
                unenforced.extend(schema::relax(&mut enforced, true));
            }
        }
        json::check_numbers(&enforced)?;
        let mut checked = None;
        if !tools::writes_json(format) || !unenforced.is_empty() {
            let mut whole = tools::parameters(tool)?;
            schema::tidy(&mut whole);
            checked = Some(whole);
        }
        Ok(Arguments { enforced: laid_out(enforced)?, unenforced, checked })
    }

    /// Whether two alternatives of a `oneOf` have a value in common, or may have for all that is known.
    fn has_overlaps(&self, schema: &Value) -> bool {
        let alone = || json::laid_out(schema.clone()).map(TopLevelGrammar::from_json_schema);
        let problem = || alone().and_then(|grammar| self.follower(grammar).err());
        schema::has_alternatives(schema) && problem().is_some_and(|problem| problem.contains("oneOf"))
    }

    fn follower(&self, grammar: TopLevelGrammar) -> Result<Follower, String> {
        Ok(Follower::new(Arc::clone(&self.endings), self.compiled(grammar)?))
    }

    fn compiled(&self, grammar: TopLevelGrammar) -> Result<Arc<Compiled>, String> {
        let source = serde_json::to_string(&grammar).map_err(|problem| readable(&problem))?;
        self.compiled.get(&source, || self.compile(grammar))
    }

    fn compile(&self, grammar: TopLevelGrammar) -> Result<Compiled, String> {
        let parser = thread::scope(|scope| {
            let compile = || self.factory.create_parser(grammar);
            let thread = thread::Builder::new().stack_size(STACK).spawn_scoped(scope, compile);
            let thread = thread.map_err(|error| error.to_string())?;
            let compiled = thread.join().map_err(|_| "llguidance panicked".to_owned())?;
            compiled.map_err(|problem| readable(&problem))
        })?;
        let mut start = Walker::new(parser);
        // What allows no token is no use, and what costs too much already here is the client's to know. The states that
        // this makes are inherited by all that follow.
        start.mask()?;
        for warning in start.warnings() {
            tracing::debug!("grammar: {warning}");
        }
        Ok(Compiled::new(start))
    }
}

/// What becomes of the schema of a tool's arguments.
struct Arguments {
    /// What the grammar holds, laid out.
    enforced: Value,
    /// What it does not, with the place.
    unenforced: Vec<String>,
    /// All of the schema, where a call is to be checked against it.
    checked: Option<Value>,
}

/// A schema without what says nothing, and as it is laid out.
fn checked(schema: &Value) -> Result<(Value, Value), GrammarError> {
    json::check_cost([schema]).and_then(|()| json::check_numbers(schema)).map_err(GrammarError::Schema)?;
    check_length("JSON schema", schema.to_string().len(), LONGEST)?;
    let mut tidy = schema.clone();
    schema::tidy(&mut tidy);
    let laid_out = json::laid_out(tidy.clone());
    let laid_out = laid_out.ok_or_else(|| GrammarError::Schema(NO_SCHEMA.to_owned()))?;
    Ok((tidy, laid_out))
}

fn check_length(what: &'static str, bytes: usize, limit: usize) -> Result<(), GrammarError> {
    if bytes > limit { Err(GrammarError::TooLong { what, bytes, limit }) } else { Ok(()) }
}
