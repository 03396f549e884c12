//! A parser on its way through an answer.

use std::{fmt::Display, panic::AssertUnwindSafe};

use llguidance::{
    TokenParser,
    earley::{BiasComputer, ParserRecognizer},
    panic_utils::catch_unwind,
};
use lookahead_model::TokenId;
use toktrie::{SimpleVob, TokEnv, TokTrie};

use crate::error::readable;

/// A parser behind some tokens. Each step has the lexer's fuel to itself. A step that fails, by a limit or by a token that
/// the grammar does not allow, is the last.
pub(crate) struct Walker {
    parser: TokenParser,
    failure: Option<String>,
}

impl Walker {
    /// At the beginning.
    pub(crate) fn new(mut parser: TokenParser) -> Self {
        if parser.is_fresh() {
            parser.start_without_prompt();
        }
        Self { parser, failure: None }
    }

    /// Another one at the same place. It shares no state with this one: not even the lexer's, which grows.
    pub(crate) fn fork(&self) -> Self {
        Self { parser: self.parser.deep_clone(), failure: self.failure.clone() }
    }

    /// The bytes of the lexer's tables, roughly: most of what it holds.
    pub(crate) fn bytes(&self) -> usize {
        self.parser.parser.lexer_stats().num_bytes
    }

    /// What llguidance says about the grammar.
    pub(crate) fn warnings(&mut self) -> Vec<String> {
        self.parser.grammar_warnings()
    }

    /// The tokens that may come next, and a bit behind the last one that means nothing; none if the answer can only end.
    pub(crate) fn mask(&mut self) -> Result<Option<SimpleVob>, String> {
        self.step(|parser| if parser.stopped() { Ok(None) } else { parser.compute_mask().map(Some) })
    }

    /// Takes a token.
    pub(crate) fn take(&mut self, token: TokenId) -> Result<(), String> {
        self.step(|parser| parser.consume_token(token).and_then(|_| parser.check_stop()).map(|_| ()))
    }

    /// Gives the last `count` tokens back. Some grammars cannot.
    pub(crate) fn give_back(&mut self, count: usize) -> Result<(), String> {
        self.step(|parser| parser.rollback(count))?;
        // The last mask serves again while the lexer's state and the number of the parser's rows are the same, but that
        // row is another now.
        self.parser.invalidate_bias_cache();
        Ok(())
    }

    /// The tokens that must come next, as far as text that is forced is spelt in one way.
    pub(crate) fn forced(&mut self) -> Result<Vec<TokenId>, String> {
        self.step(|parser| Ok::<_, String>(parser.compute_ff_tokens()))
    }

    /// Whether the text of a token may come next.
    pub(crate) fn allows(&mut self, token: TokenId) -> Result<bool, String> {
        self.step(|parser| parser.validate_tokens_raw(&[token]).map(|valid| valid == 1))
    }

    /// Whether the answer may end here.
    pub(crate) fn may_end(&mut self) -> Result<bool, String> {
        self.step(|parser| Ok::<_, String>(parser.is_accepting()))
    }

    /// Whether the answer can only end here.
    pub(crate) fn is_over(&self) -> bool {
        self.failure.is_none() && self.parser.stopped()
    }

    fn step<T, E: Display>(
        &mut self,
        work: impl FnOnce(&mut TokenParser) -> Result<T, E>,
    ) -> Result<T, String> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        let parser = &mut self.parser;
        let done = catch_unwind(AssertUnwindSafe(|| {
            parser.parser.compute_bias(&Refuel(&parser.token_env), &[0]);
            let done = work(parser).map_err(|problem| readable(&problem));
            // Where a limit was met, what else went wrong follows from it.
            Ok(match parser.parser.get_error() {
                Some(limit) => Err(readable(&limit.message())),
                None => done,
            })
        }));
        let done = done.unwrap_or_else(|panic| Err(readable(&panic)));
        self.failure = done.as_ref().err().cloned();
        done
    }
}

/// No mask: llguidance fills up the fuel before it computes one, and nowhere else. The start of a token, which a caller
/// gives along, keeps it from remembering this one.
struct Refuel<'a>(&'a TokEnv);

impl BiasComputer for Refuel<'_> {
    fn compute_bias(&self, _: &mut ParserRecognizer<'_>, _: &[u8]) -> SimpleVob {
        self.trie().alloc_token_set()
    }

    fn trie(&self) -> &TokTrie {
        self.0.tok_trie()
    }
}
