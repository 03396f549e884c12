//! Calls of tools in the text that a model writes.

mod delta;
mod finder;
mod format;
mod harmony;
mod json_scanner;
mod literal;
mod marked;
mod nested;
mod object;
mod signatures;
pub mod syntax;
mod tagged;
#[cfg(test)]
mod tests;

use self::delta::Deltas;
pub use self::delta::ToolDelta;
pub use self::format::ToolFormat;
use self::harmony::Harmony;
use self::marked::Marked;
pub use self::signatures::ToolSignatures;

/// What a call begins with in the format of Hermes and Qwen.
pub(crate) const CALL_BEGIN: &str = "<tool_call>";
/// What it ends with.
pub(crate) const CALL_END: &str = "</tool_call>";

/// Finds calls of tools in an answer that arrives in pieces, in time linear in the answer.
///
/// Where the pieces are cut makes no difference. Text that may be the beginning of a call is held back until that is
/// decided; what turns out to be none is content. Once the name of a call is known and its arguments begin, it is a call,
/// and its arguments are told as they come, in JSON whatever the format: one that is cut off has what came of them. White
/// space around calls is part of their markup, as chat templates write it again when the conversation goes on.
#[derive(Clone, Debug)]
pub struct ToolCallParser(Parser);

#[derive(Clone, Debug)]
enum Parser {
    Marked(Box<Marked>),
    Harmony(Harmony),
}

impl ToolCallParser {
    /// A parser for an answer in `format` that may call `tools`. Where strings stand without quotes, the types of
    /// parameters tell what is one; a value of unknown type is what it is as JSON, or else a string.
    pub fn new(format: ToolFormat, tools: ToolSignatures) -> Self {
        Self(match format.syntax() {
            Some(syntax) => Parser::Marked(Box::new(Marked::new(syntax, tools))),
            None => Parser::Harmony(Harmony::default()),
        })
    }

    /// The same for an answer to a prompt that ends so, where the prompt may have begun what the format marks.
    #[must_use]
    pub fn behind(mut self, prompt: &str) -> Self {
        if let Parser::Marked(parser) = &mut self.0 {
            parser.begin_behind(prompt);
        }
        self
    }

    /// Takes the next piece of the answer.
    pub fn push(&mut self, text: &str) -> Vec<ToolDelta> {
        let mut deltas = Deltas::default();
        match &mut self.0 {
            Parser::Marked(parser) => parser.push(text, &mut deltas),
            Parser::Harmony(parser) => parser.push(text, &mut deltas),
        }
        deltas.0
    }

    /// What was still held back, once no more will come. A call that only lacks its end counts.
    pub fn finish(&mut self) -> Vec<ToolDelta> {
        let mut deltas = Deltas::default();
        match &mut self.0 {
            Parser::Marked(parser) => parser.finish(&mut deltas),
            Parser::Harmony(parser) => parser.finish(&mut deltas),
        }
        deltas.0
    }
}
