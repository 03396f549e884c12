//! Chat templates: the Jinja program that comes with a model and turns messages into the text of a
//! prompt.
//!
//! The environment is the one that Hugging Face's `transformers` gives to templates: blocks trimmed, Python's
//! string and dictionary methods, `raise_exception`, `strftime_now`, `tojson` as Python's `json.dumps` writes
//! it, loop controls, and `bos_token` and `eos_token`. A template comes with the model file and is not
//! trusted: it can reach nothing but the messages and tools, and its work, its recursion and what it builds are bounded.
//!
//! [`PromptEncoder`](crate::PromptEncoder) makes tokens of messages; it is what prompts should go through.

mod bounds;
mod forms;
pub(crate) mod json;
mod message;
mod nesting;
mod probe;
mod python_value;
mod tags;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;

use minijinja::{Environment, Error, ErrorKind, Value, syntax::SyntaxConfig};
use minijinja_contrib::pycompat;

use self::forms::{Content, Forms, ThoughtField};
pub use self::message::Message;
pub(crate) use self::probe::Roles;
use self::python_value::{from_json, list};
use crate::{
    Checkpoint, CheckpointError, TokenId,
    gguf::{GgufError, GgufFile},
    reasoning::ReasoningFormat,
    tokenizer::{
        EncodeError, Tokenizer,
        checkpoint_files::{TOKENIZER_CONFIG, token_name},
    },
    tool_calls::ToolFormat,
};

const FIELD: &str = "tokenizer.chat_template";
/// Where checkpoints of today have it.
const TEMPLATE_FILE: &str = "chat_template.jinja";

/// Instructions that one rendering may take, and 64-byte units that it may make: a few hundred messages of a
/// hundred thousand tokens take less than a tenth of it, and all of it less than a second or so.
const FUEL: u64 = 10_000_000;
/// The same for one small conversation by which a template is probed.
const PROBE_FUEL: u64 = 50_000;

/// Why a chat template could not be loaded, or messages could not become a prompt.
#[derive(Debug, thiserror::Error)]
pub enum ChatTemplateError {
    /// The metadata field has the wrong type.
    #[error(transparent)]
    Metadata(#[from] GgufError),
    /// A file of a checkpoint cannot be read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The template is not valid.
    #[error("{file}: {FIELD}: {source}")]
    Syntax {
        /// The file.
        file: String,
        /// What is wrong, with the line.
        source: Error,
    },
    /// The template itself refuses the messages, by `raise_exception`.
    #[error("the model's chat template refuses these messages: {0}")]
    Refused(String),
    /// The template failed on these messages.
    #[error("the model's chat template failed: {0}")]
    Render(Error),
    /// A variable of the template that the caller cannot set.
    #[error("`{0}` is set by the request itself, not among the chat template's variables")]
    ReservedVariable(String),
    /// The model has no template.
    #[error("the model has no chat template, so it cannot be given messages; give it a plain text instead")]
    NoTemplate,
    /// The tokenizer gives up on the text that the template makes.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The prompt has more tokens than it may.
    #[error("the prompt has {tokens} tokens or more, and may have {most}; shorten the messages")]
    TooLong {
        /// Tokens that it has at least.
        tokens: usize,
        /// Tokens that it may have.
        most: usize,
    },
    /// No character is left to mark what is not the template's.
    #[error("the messages hold all of Unicode's noncharacters U+FDD0 to U+FDEF; take one of them out")]
    NoUnusedCharacter,
    /// There is no final message to continue, or the template does not show it.
    #[error(
        "there is no final message that the model could continue; end the messages with one that has content"
    )]
    NothingToContinue,
}

/// A model's chat template.
#[derive(Debug)]
pub struct ChatTemplate {
    source: String,
    environment: Environment<'static>,
    bos_token: String,
    eos_token: String,
    knows_tools: bool,
    tool_format: ToolFormat,
    reasoning_format: Option<ReasoningFormat>,
    forms: Forms,
    roles: Roles,
}

impl ChatTemplate {
    /// The chat template of a model file, or `None` where the model has none (base models): the caller then
    /// uses the text as it is.
    ///
    /// # Errors
    /// If the field is no string or the template is not valid.
    pub fn from_gguf(file: &GgufFile, tokenizer: &Tokenizer) -> Result<Option<Self>, ChatTemplateError> {
        let Some(source) = file.metadata().str(FIELD)? else { return Ok(None) };
        let text = |token: Option<TokenId>| {
            token
                .map(|id| String::from_utf8_lossy(tokenizer.token_bytes(id)).into_owned())
                .unwrap_or_default()
        };
        Self::new(source, text(tokenizer.bos()), text(tokenizer.eos()))
            .map(Some)
            .map_err(|source| ChatTemplateError::Syntax { file: file.name().to_owned(), source })
    }

    /// The chat template of a checkpoint: `chat_template.jinja`, or what `tokenizer_config.json` has; of several the one
    /// called `default`. `None` where the model has none.
    ///
    /// # Errors
    /// If a file cannot be read or the template is not valid.
    pub fn from_checkpoint(checkpoint: &Checkpoint) -> Result<Option<Self>, ChatTemplateError> {
        let config = checkpoint.json(TOKENIZER_CONFIG)?.unwrap_or_default();
        let in_config = || match &config["chat_template"] {
            serde_json::Value::String(source) => Some(source.clone()),
            serde_json::Value::Array(named) => {
                let named =
                    named.iter().filter_map(|one| Some((one["name"].as_str()?, one["template"].as_str()?)));
                let named: BTreeMap<&str, &str> = named.collect();
                let source = named.get("default").or_else(|| named.values().next());
                source.map(|source| (*source).to_owned())
            }
            _ => None,
        };
        let (file, source) = match checkpoint.text(TEMPLATE_FILE)? {
            Some(source) => (TEMPLATE_FILE, Some(source)),
            None => (TOKENIZER_CONFIG, in_config()),
        };
        let Some(source) = source else { return Ok(None) };
        let text = |name: &str| token_name(&config[name]).unwrap_or_default().to_owned();
        Self::new(&source, text("bos_token"), text("eos_token")).map(Some).map_err(|source| {
            ChatTemplateError::Syntax { file: checkpoint.folder().join(file).display().to_string(), source }
        })
    }

    /// The template with this text, which errors call `name`.
    ///
    /// # Errors
    /// If the template is not valid.
    pub fn from_source(
        name: &str,
        source: &str,
        bos_token: &str,
        eos_token: &str,
    ) -> Result<Self, ChatTemplateError> {
        Self::new(source, bos_token.to_owned(), eos_token.to_owned())
            .map_err(|source| ChatTemplateError::Syntax { file: name.to_owned(), source })
    }

    pub(crate) fn new(source: &str, bos_token: String, eos_token: String) -> Result<Self, Error> {
        let mut environment = Environment::new();
        environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
        environment.set_fuel(Some(PROBE_FUEL));
        environment.set_unknown_method_callback(pycompat::unknown_method_callback);
        environment.add_function("raise_exception", raise_exception);
        environment.add_function("strftime_now", strftime_now);
        environment.add_filter("tojson", json::tojson);
        // For minijinja none is an empty list; templates ask `tools is iterable` before they count the tools.
        environment.add_test("iterable", |value: &Value| !value.is_none() && value.try_iter().is_ok());
        environment.add_function(bounds::ASSIGNED, bounds::assigned);
        environment.set_formatter(bounds::print);
        let plain = without_generation_tags(source);
        nesting::check(&plain)?;
        let checked = bounds::with_assignments_checked(&plain);
        environment.add_template_owned(FIELD, checked)?;
        // Parsing takes `tools` in `{% set tools = tools or [] %}` for the new variable, but who sets it knows it.
        let knows_tools = environment.get_template(FIELD)?.undeclared_variables(false).contains("tools")
            || source.contains("set tools");
        let tool_format = if knows_tools { ToolFormat::of_template(source) } else { ToolFormat::Hermes };
        let (source, reasoning_format) = (source.to_owned(), ReasoningFormat::of_template(source));
        let (forms, roles) = (Forms::default(), Roles::default());
        let mut template = Self {
            source,
            environment,
            bos_token,
            eos_token,
            knows_tools,
            tool_format,
            reasoning_format,
            forms,
            roles,
        };
        template.forms = probe::forms(&template);
        template.roles = probe::roles(&template, template.forms);
        template.environment.set_fuel(Some(FUEL));
        Ok(template)
    }

    /// The template's text.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Whether the template has a place for definitions of tools.
    pub fn knows_tools(&self) -> bool {
        self.knows_tools
    }

    /// How the template asks the model to call tools; [`ToolFormat::Hermes`] where it knows none.
    pub fn tool_format(&self) -> ToolFormat {
        self.tool_format
    }

    /// How the model marks what it thinks, if the template says so.
    pub fn reasoning_format(&self) -> Option<ReasoningFormat> {
        self.reasoning_format
    }

    /// Whether the template reads the variable `name`, such as `enable_thinking`.
    pub fn reads(&self, name: &str) -> bool {
        self.environment
            .get_template(FIELD)
            .is_ok_and(|template| template.undeclared_variables(false).contains(name))
            || self.source.contains(&format!("set {name} "))
    }

    /// The roles that the template bears.
    pub(crate) fn roles(&self) -> Roles {
        self.roles
    }

    /// The template as `transformers` uses it, for comparisons: it is given lists of parts and thoughts as they are
    /// written, even if it would print the list as such or not show it at all.
    #[must_use]
    pub fn taking_content_as_written(mut self) -> Self {
        self.forms = Forms { content: Content::AsWritten, reasoning: ThoughtField::default(), ..self.forms };
        self
    }

    /// The prompt for `messages` and the definitions of `tools`. With `add_generation_prompt` it ends where the
    /// assistant's answer begins. `variables` are those that this model's template has besides (`enable_thinking`).
    ///
    /// The text may begin with the name of the beginning-of-sequence token and holds names of control tokens:
    /// encode it with `parse_special`.
    ///
    /// # Errors
    /// If the template refuses the messages, fails on them, or takes too long; if a variable is one of the others.
    pub fn render(
        &self,
        messages: &[Message],
        tools: &[serde_json::Value],
        variables: &serde_json::Map<String, serde_json::Value>,
        add_generation_prompt: bool,
    ) -> Result<String, ChatTemplateError> {
        self.render_in(self.forms, messages, tools, variables, add_generation_prompt)
    }

    /// The same, with messages in these forms.
    fn render_in(
        &self,
        forms: Forms,
        messages: &[Message],
        tools: &[serde_json::Value],
        variables: &serde_json::Map<String, serde_json::Value>,
        add_generation_prompt: bool,
    ) -> Result<String, ChatTemplateError> {
        let template = self.environment.get_template(FIELD).map_err(ChatTemplateError::Render)?;
        let messages = list(messages.iter().map(|message| forms.message(message)));
        let tools = if tools.is_empty() { Value::from(()) } else { list(tools.iter().map(from_json)) };
        let mut context = BTreeMap::from([
            ("messages", messages),
            ("add_generation_prompt", Value::from(add_generation_prompt)),
            ("bos_token", Value::from(self.bos_token.as_str())),
            ("eos_token", Value::from(self.eos_token.as_str())),
            ("tools", tools),
            ("documents", Value::from(())),
        ]);
        for (name, value) in variables {
            if context.insert(name, from_json(value)).is_some() {
                return Err(ChatTemplateError::ReservedVariable(name.clone()));
            }
        }
        let rendered = template.render(Value::from(context));
        rendered.map_err(|error| match refusal(&error) {
            Some(message) => ChatTemplateError::Refused(message),
            None => ChatTemplateError::Render(error),
        })
    }
}

/// What the template said when it called `raise_exception`.
#[derive(Debug)]
struct Raised(String);

impl fmt::Display for Raised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Raised {}

fn raise_exception(message: &str) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, message.to_owned()).with_source(Raised(message.to_owned())))
}

fn refusal(error: &Error) -> Option<String> {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(Raised(message)) = error.downcast_ref() {
            return Some(message.clone());
        }
        cause = error.source();
    }
    None
}

/// The local time, as Python's `datetime.now().strftime` writes it.
fn strftime_now(format: &str) -> Result<String, Error> {
    jiff::fmt::strtime::format(format, &jiff::Zoned::now())
        .map_err(|error| Error::new(ErrorKind::InvalidOperation, format!("strftime_now: {error}")))
}

/// `transformers` marks the assistant's words with `{% generation %}` for training. In a prompt the tag does
/// nothing, but its whitespace control does; so it becomes an `if` that always holds.
fn without_generation_tags(source: &str) -> String {
    let mut plain = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let (before, tag) = rest.split_at(start);
        plain.push_str(before);
        let length = tag.find("%}").map_or(tag.len(), |end| end + 2);
        let (tag, after) = tag.split_at(length);
        let name =
            tag.trim_matches(|c: char| matches!(c, '{' | '%' | '}' | '-' | '+') || c.is_ascii_whitespace());
        match name {
            "generation" => plain.push_str(&tag.replacen("generation", "if true", 1)),
            "endgeneration" => plain.push_str(&tag.replacen("endgeneration", "endif", 1)),
            _ => plain.push_str(tag),
        }
        rest = after;
    }
    plain.push_str(rest);
    plain
}
