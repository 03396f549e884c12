//! `lookahead render`: the prompts that a chat template makes of conversations.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use clap::{ArgGroup, Args};
use lookahead_model::chat_template::{ChatTemplate, Message};
use lookahead_model::{Chat, OpenModel, PromptEncoder};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::output;
use crate::store::pull::resolve_model;

const HELP: &str = "\
Examples:
  echo '[{\"role\": \"user\", \"content\": \"Hi\"}]' > messages.json
  lookahead render smollm2-135m --messages messages.json
      The text that the model is given, with the names of its control tokens
  lookahead render smollm2-135m --messages messages.json --tokens
      Its token ids on one line
  lookahead render qwen3.gguf --messages messages.json --tools tools.json --variables '{\"enable_thinking\": false}'
      With definitions of tools, in OpenAI's form, and a variable of this model's template
  lookahead render --template chat_template.jinja --bos '<s>' --eos '</s>' --cases cases.json
      Many conversations through a template of its own, for comparing with other implementations: a JSON array of
      {\"messages\", \"tools\"?, \"variables\"?, \"add_generation_prompt\"?} in, one of {\"prompt\"} or {\"error\"} out

Messages have the form of OpenAI's chat API; `reasoning_content` is what the assistant thought. What that form leaves open
(`content` empty or null beside calls, arguments as an object or as text) is shaped to what the template takes. For a MODEL,
the prompt is the one of `generate` and `serve`: tools, system messages and lists of parts that its template has no place for
are told to it as text. A --template is used as transformers does it: it is given all of that as it is written.";

/// Show the prompt that a chat template makes of messages
#[derive(Debug, Args)]
#[command(after_long_help = HELP)]
#[command(group = ArgGroup::new("by").args(["model", "template"]).required(true))]
#[command(group = ArgGroup::new("what").args(["messages", "cases"]).required(true))]
pub(crate) struct RenderArgs {
    /// The model: path, name, or hf:OWNER/REPO[/FILE.gguf]
    #[arg(value_name = "MODEL")]
    pub(crate) model: Option<String>,

    /// A chat template in place of a model's
    #[arg(long, value_name = "FILE.jinja", help_heading = "Template")]
    pub(crate) template: Option<PathBuf>,

    /// The template's `bos_token`
    #[arg(long, value_name = "TOKEN", default_value = "", hide_default_value = true)]
    #[arg(conflicts_with = "model", help_heading = "Template")]
    pub(crate) bos: String,

    /// The template's `eos_token`
    #[arg(long, value_name = "TOKEN", default_value = "", hide_default_value = true)]
    #[arg(conflicts_with = "model", help_heading = "Template")]
    pub(crate) eos: String,

    /// A conversation: a JSON array of messages
    #[arg(long, value_name = "FILE.json", help_heading = "Conversation")]
    pub(crate) messages: Option<PathBuf>,

    /// The tools that the model may call: a JSON array of definitions
    #[arg(long, value_name = "FILE.json", conflicts_with = "cases", help_heading = "Conversation")]
    pub(crate) tools: Option<PathBuf>,

    /// Variables of the template, as a JSON object
    #[arg(long, value_name = "JSON", conflicts_with = "cases", help_heading = "Conversation")]
    pub(crate) variables: Option<String>,

    /// End with the last message, not where an answer begins
    #[arg(long, conflicts_with = "cases", help_heading = "Conversation")]
    pub(crate) no_generation_prompt: bool,

    /// Many conversations: a JSON array of objects
    #[arg(long, value_name = "FILE.json", help_heading = "Conversation")]
    pub(crate) cases: Option<PathBuf>,

    /// Print token ids instead of text
    #[arg(long, conflicts_with_all = ["template", "cases"], help_heading = "Output")]
    pub(crate) tokens: bool,
}

/// What makes prompts.
enum Renderer {
    Model(PromptEncoder),
    Template(ChatTemplate),
}

/// One conversation of many.
#[derive(Deserialize)]
struct Case {
    messages: Vec<Message>,
    tools: Option<Vec<Value>>,
    variables: Option<Map<String, Value>>,
    add_generation_prompt: Option<bool>,
}

/// Runs the command.
pub(crate) fn run(arguments: &RenderArgs) -> anyhow::Result<ExitCode> {
    let renderer = renderer(arguments)?;
    let mut stdout = output::stdout();
    if let Some(path) = &arguments.cases {
        let cases: Vec<Value> = read_json(path, "a JSON array of cases")?;
        let answers = cases.into_iter().map(|case| match renderer.case(case) {
            Ok(prompt) => json!({ "prompt": prompt }),
            Err(error) => json!({ "error": format!("{error:#}") }),
        });
        serde_json::to_writer(&mut stdout, &answers.collect::<Vec<_>>()).map_err(io::Error::from)?;
        writeln!(stdout)?;
    } else {
        let chat = chat(arguments)?;
        match &renderer {
            Renderer::Model(prompts) if arguments.tokens => {
                let ids = prompts.encode_chat(&chat)?.iter().map(u32::to_string).collect::<Vec<_>>();
                writeln!(stdout, "{}", ids.join(" "))?;
            }
            _ => stdout.write_said(&renderer.render(&chat)?)?,
        }
    }
    stdout.flush()?;
    Ok(ExitCode::SUCCESS)
}

fn renderer(arguments: &RenderArgs) -> anyhow::Result<Renderer> {
    if let Some(path) = &arguments.template {
        let name = path.display().to_string();
        let source =
            fs::read_to_string(path).with_context(|| format!("cannot read the chat template {name}"))?;
        let template = ChatTemplate::from_source(&name, &source, &arguments.bos, &arguments.eos)?;
        return Ok(Renderer::Template(template.taking_content_as_written()));
    }
    let model = arguments.model.as_deref().context("neither MODEL nor --template")?;
    let files = OpenModel::open(resolve_model(model)?)?;
    let tokenizer = files.tokenizer()?;
    let template = files.chat_template(&tokenizer)?;
    Ok(Renderer::Model(PromptEncoder::new(Arc::new(tokenizer), template)?))
}

/// The conversation of `--messages`.
fn chat(arguments: &RenderArgs) -> anyhow::Result<Chat> {
    let path = arguments.messages.as_deref().context("neither --messages nor --cases")?;
    let tools =
        arguments.tools.as_deref().map(|path| read_json(path, "a JSON array of tools")).transpose()?;
    let variables = arguments.variables.as_deref().map(serde_json::from_str).transpose();
    Ok(Chat {
        tools: tools.unwrap_or_default(),
        variables: variables.context("--variables is no JSON object")?.unwrap_or_default(),
        add_generation_prompt: !arguments.no_generation_prompt,
        ..Chat::new(read_json(path, "a JSON array of messages")?)
    })
}

fn read_json<T: for<'de> Deserialize<'de>>(path: &Path, expected: &str) -> anyhow::Result<T> {
    let name = path.display();
    let text = fs::read(path).with_context(|| format!("cannot read {name}"))?;
    serde_json::from_slice(&text).with_context(|| format!("{name} is not {expected}"))
}

impl Renderer {
    fn render(&self, chat: &Chat) -> anyhow::Result<String> {
        Ok(match self {
            Self::Model(prompts) => prompts.render_chat(chat)?,
            Self::Template(template) => {
                template.render(&chat.messages, &chat.tools, &chat.variables, chat.add_generation_prompt)?
            }
        })
    }

    fn case(&self, case: Value) -> anyhow::Result<String> {
        let case: Case = serde_json::from_value(case).context("not a case")?;
        self.render(&Chat {
            tools: case.tools.unwrap_or_default(),
            variables: case.variables.unwrap_or_default(),
            add_generation_prompt: case.add_generation_prompt.unwrap_or(true),
            ..Chat::new(case.messages)
        })
    }
}
