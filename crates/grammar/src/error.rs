//! Why there is no grammar.

/// Most characters that an error says.
const LONGEST_PROBLEM: usize = 500;

/// Why a grammar could not be made. The texts are for whoever sent the schema, pattern or grammar.
#[derive(Debug, thiserror::Error)]
pub enum GrammarError {
    /// The tokenizer cannot be used with grammars at all.
    #[error("the model's tokenizer cannot be used with grammars: {0}")]
    Tokenizer(String),
    /// The text of a schema, pattern or grammar is longer than is accepted.
    #[error("the {what} is {bytes} bytes long; at most {limit} are accepted")]
    TooLong {
        /// What is too long.
        what: &'static str,
        /// Its length.
        bytes: usize,
        /// The longest that is accepted.
        limit: usize,
    },
    /// The JSON schema is wrong, says what cannot be enforced, or is too complex.
    #[error("JSON schema: {0}")]
    Schema(String),
    /// The regular expression is wrong, matches nothing, or is too complex.
    #[error("regular expression: {0}")]
    Regex(String),
    /// The grammar is wrong, matches nothing, or is too complex.
    #[error("grammar: {0}")]
    Lark(String),
    /// The tools as a whole.
    #[error("tools: {0}")]
    Tools(String),
    /// The parameters of one tool.
    #[error("tool {name:?}: {problem}")]
    Tool {
        /// The tool's name.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
}

/// What llguidance says, without its own state and backtraces, and not at any length: it quotes what it was given.
pub(crate) fn readable(problem: &dyn std::fmt::Display) -> String {
    let text = problem.to_string();
    let marks = ["\n<non-verbose/>", "\n<backtrace>", "\n<state>"];
    let end = marks.iter().filter_map(|mark| text.find(mark)).min().unwrap_or(text.len());
    let text = text[..end].trim_end();
    if text.contains("NoExtensionBias") {
        return "no answer follows it: nothing can stand at its beginning, or nothing that the model's tokens write; make it \
                allow some text"
            .to_owned();
    }
    match text.char_indices().nth(LONGEST_PROBLEM) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
