//! What is asked of a model, whatever wire format it came in.

use lookahead_engine::{DraftPolicy, SamplingParams};
use lookahead_grammar::{ToolChoice, ToolSpec};
use lookahead_model::{Chat, TokenId};
use serde_json::Value;

use crate::drafts::NamespaceName;

/// What is asked of a model.
pub(crate) struct AnswerRequest {
    pub(crate) input: Input,
    pub(crate) names: FieldNames,
    /// Answers to each prompt.
    pub(crate) choices: usize,
    /// The most tokens of an answer; what the context and the server allow if it is `None`.
    pub(crate) max_tokens: Option<usize>,
    pub(crate) sampling: SamplingParams,
    /// Texts that end an answer.
    pub(crate) stop: Vec<String>,
    /// Tokens that end an answer besides the model's own.
    pub(crate) stop_tokens: Vec<TokenId>,
    /// Whether answers go on behind the tokens that end one.
    pub(crate) ignore_eos: bool,
    /// The fewest tokens of an answer: before them, no token ends it that could go on.
    pub(crate) min_tokens: usize,
    /// The most tokens of a prompt: of a longer one the last are left.
    pub(crate) truncate_prompt: Option<usize>,
    /// How many of the most likely tokens come with each token, beside its own log probability; `None` for neither.
    pub(crate) logprobs: Option<usize>,
    /// Whether the tokens of prompts come first, all but the first of each, with theirs.
    pub(crate) prompt_logprobs: bool,
    pub(crate) structure: Option<Structure>,
    /// The most tokens that the model thinks before it answers, if it thinks.
    pub(crate) thinking_budget: Option<usize>,
    /// A text that the answers will largely repeat.
    pub(crate) prediction: Option<String>,
    pub(crate) drafting: Drafting,
    /// Bytes that its wire keeps of what was sent, until it is answered.
    pub(crate) kept_bytes: usize,
}

impl AnswerRequest {
    /// The request with a limit that its client calls by this name.
    pub(crate) fn with_max_tokens(self, limit: Option<(&'static str, usize)>) -> Self {
        let Some((max_tokens, limit)) = limit else { return self };
        Self { max_tokens: Some(limit), names: FieldNames { max_tokens, ..self.names }, ..self }
    }
}

/// What a client calls those fields of its request that may turn out to be wrong when it is prepared.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FieldNames {
    /// What is to be continued.
    pub(crate) input: &'static str,
    /// What stands behind a gap.
    pub(crate) suffix: &'static str,
    /// The most tokens of an answer.
    pub(crate) max_tokens: &'static str,
}

/// What is to be continued.
pub(crate) enum Input {
    /// A conversation, and the functions of it that may be called.
    Conversation(Box<Chat>, Option<Tools>),
    /// Texts, each by itself.
    Texts(Vec<Prompt>),
}

/// A text to be continued as it stands.
pub(crate) enum Prompt {
    Text(String),
    Tokens(Vec<TokenId>),
    /// What stands before a gap and behind it: the model fills it in. Other files, by name, are shown first.
    Around {
        files: Vec<(String, String)>,
        before: String,
        after: String,
    },
}

/// Functions that an answer may call.
#[derive(Debug)]
pub(crate) struct Tools {
    pub(crate) specs: Vec<ToolSpec>,
    pub(crate) choice: ToolChoice,
}

/// The form that answers have.
pub(crate) struct Structure {
    /// The field of the request that asks for it.
    pub(crate) field: &'static str,
    /// Where the rule stands.
    pub(crate) param: &'static str,
    pub(crate) rule: Rule,
}

/// What an answer follows.
pub(crate) enum Rule {
    AnyJsonObject,
    JsonSchema(Value),
    Regex(String),
    /// One of these texts.
    Choice(Vec<String>),
    /// In llguidance's dialect of Lark, or in llama.cpp's GBNF.
    Grammar(String),
    /// In llama.cpp's GBNF.
    Gbnf(String),
}

/// How drafts are made.
pub(crate) struct Drafting {
    /// `None` for plain decoding.
    pub(crate) policy: Option<DraftPolicy>,
    /// The name of the namespace. Requests of one share prefixes, too.
    pub(crate) namespace: NamespaceName,
}

impl Input {
    /// Prompts that are answered.
    pub(crate) fn prompts(&self) -> usize {
        match self {
            Self::Conversation(..) => 1,
            Self::Texts(prompts) => prompts.len(),
        }
    }

    /// Functions that may be called.
    pub(crate) fn tools(&self) -> Option<&Tools> {
        match self {
            Self::Conversation(_, tools) => tools.as_ref(),
            Self::Texts(_) => None,
        }
    }

    /// What OpenAI's clients call the fields of a request for it.
    pub(crate) fn usual_names(&self) -> FieldNames {
        let input = match self {
            Self::Conversation(..) => "messages",
            Self::Texts(_) => "prompt",
        };
        FieldNames { input, suffix: "suffix", max_tokens: "max_tokens" }
    }
}
