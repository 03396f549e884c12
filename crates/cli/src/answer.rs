//! One answer: the engine's tokens become thoughts and text for the user as they come.

use std::io;
use std::ops::ControlFlow;

use lookahead_engine::{AnswerText, Drafter, Engine, FinishReason, Generation, GenerationRequest};
use lookahead_model::chat_template::Message;
use lookahead_model::tokenizer::Tokenizer;
use lookahead_model::{
    AnswerParser, DeviceModel, LanguageModel as _, PromptEncoder, ReasoningParser, TokenId, ToolCallParser,
    ToolDelta, ToolSignatures,
};
use lookahead_server::ReasoningMode;

/// A finished answer.
pub(crate) struct Answer {
    /// What the model thought first, without the marks of that.
    pub(crate) reasoning: String,
    /// What the user saw as the answer: no thoughts, no end token, no stop string and nothing behind it.
    pub(crate) text: String,
    /// Its tokens, those that give no text included, and its numbers.
    pub(crate) generation: Generation,
}

/// What a piece of text belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// What the model thinks.
    Reasoning,
    /// What it answers.
    Text,
}

/// Text that became certain with one token.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Piece<'a> {
    /// What it belongs to.
    pub(crate) part: Part,
    /// The text; often empty, as no part of a character, of a mark or of a stop string is shown.
    pub(crate) text: &'a str,
    /// Whether the token came out of an accepted draft.
    pub(crate) drafted: bool,
    /// Whether the next token takes another forward pass: time to show what there is.
    pub(crate) ends_step: bool,
}

/// How what a model thinks and calls is told from what it says.
pub(crate) struct Marks {
    parser: AnswerParser,
    /// The control tokens that are marks.
    shown: Vec<&'static str>,
}

impl Marks {
    /// No marks: all is text.
    pub(crate) fn none() -> Self {
        Self { parser: AnswerParser::default(), shown: Vec::new() }
    }

    /// Those of an answer to `prompt`, which was made of a conversation.
    pub(crate) fn of(prompts: &PromptEncoder, mode: ReasoningMode, prompt: &[TokenId]) -> Self {
        let mut shown = Vec::new();
        let thoughts = mode.format(prompts).map(|format| {
            shown.extend(format.control_tokens());
            ReasoningParser::new(format, prompts.opens_thinking(prompt, format))
        });
        let format = prompts.tool_format();
        let calls = format.has_channels().then(|| {
            shown.extend(format.shown_tokens());
            ToolCallParser::new(format, ToolSignatures::new([])).behind(&prompts.end_of(prompt))
        });
        Self { parser: AnswerParser::new(thoughts, calls), shown }
    }
}

/// Generates the answer to `request` and hands its text to `show`, piece by piece. The first of `stop` that occurs ends
/// it.
///
/// # Errors
/// If the request is refused or `show` fails.
pub(crate) fn answer(
    engine: &mut Engine<DeviceModel>,
    tokenizer: &Tokenizer,
    request: GenerationRequest,
    drafter: Box<dyn Drafter>,
    stop: &[String],
    marks: Marks,
    mut show: impl FnMut(Piece<'_>) -> io::Result<()>,
) -> anyhow::Result<Answer> {
    let Marks { mut parser, shown: markers } = marks;
    let mut answer = AnswerText::showing(tokenizer, stop.iter().cloned(), &markers);
    let (mut said, mut shown) = (Said::default(), Ok(()));
    let mut tell = |deltas: Vec<ToolDelta>, drafted, ends_step| {
        for delta in deltas {
            let (part, piece) = said.add(delta);
            show(Piece { part, text: &piece, drafted, ends_step: false })?;
        }
        show(Piece { part: Part::Text, text: "", drafted, ends_step })
    };
    let generation = engine.generate(request, drafter, |token| {
        let check = answer.push(token.id);
        shown = tell(parser.push(&check.text), token.is_drafted(), !token.is_drafted());
        match (&shown, check.stopped) {
            (Err(_), _) => ControlFlow::Break(FinishReason::Cancelled),
            (Ok(()), true) => ControlFlow::Break(FinishReason::Stop),
            (Ok(()), false) => ControlFlow::Continue(()),
        }
    })?;
    shown?;
    let mut rest = parser.push(&answer.finish());
    rest.extend(parser.finish());
    tell(rest, false, true)?;
    Ok(Answer { reasoning: said.reasoning, text: said.text, generation })
}

/// The assistant's message that an answer of these tokens to `prompt` is.
pub(crate) fn message(prompts: &PromptEncoder, prompt: &[TokenId], answer: &[TokenId]) -> Message {
    let Marks { mut parser, shown } = Marks::of(prompts, ReasoningMode::default(), prompt);
    let (mut text, mut said) = (AnswerText::showing(prompts.tokenizer(), [], &shown), Said::default());
    let mut add = |deltas: Vec<ToolDelta>| deltas.into_iter().for_each(|delta| drop(said.add(delta)));
    for &token in answer {
        add(parser.push(&text.push(token).text));
    }
    add(parser.push(&text.finish()));
    add(parser.finish());
    let reasoning = Some(said.reasoning).filter(|reasoning| !reasoning.is_empty());
    Message { reasoning, ..Message::new("assistant", said.text) }
}

/// What was said so far.
#[derive(Default)]
struct Said {
    reasoning: String,
    text: String,
}

impl Said {
    /// Adds what came, and returns it.
    fn add(&mut self, delta: ToolDelta) -> (Part, String) {
        let (part, piece) = match delta {
            ToolDelta::Reasoning(piece) => (Part::Reasoning, piece),
            ToolDelta::Content(piece) | ToolDelta::Arguments(piece) => (Part::Text, piece),
            // There are no tools to call, so that it can only be shown.
            ToolDelta::Call { name } if self.text.is_empty() => (Part::Text, format!("{name} ")),
            ToolDelta::Call { name } => (Part::Text, format!("\n{name} ")),
        };
        match part {
            Part::Reasoning => self.reasoning.push_str(&piece),
            Part::Text => self.text.push_str(&piece),
        }
        (part, piece)
    }
}

/// Refuses a prompt that the model's context cannot hold, before time is spent on anything else.
pub(crate) fn check_prompt_fits(prompt_tokens: usize, model: &DeviceModel) -> anyhow::Result<()> {
    let context_length = model.context_length();
    anyhow::ensure!(
        prompt_tokens < context_length,
        "the prompt has {prompt_tokens} tokens, but this model's context holds {context_length}, and the answer needs \
         room in it, too\nShorten the prompt, or choose a model with a longer context (`lookahead models` lists them)"
    );
    Ok(())
}
