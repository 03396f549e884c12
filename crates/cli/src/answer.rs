//! One answer: the engine's tokens become text for the user as they come.

use std::io;
use std::ops::ControlFlow;

use lookahead_engine::{AnswerText, Drafter, Engine, FinishReason, Generation, GenerationRequest};
use lookahead_model::tokenizer::Tokenizer;
use lookahead_model::{CpuModel, LanguageModel as _};

/// A finished answer.
pub(crate) struct Answer {
    /// What the user saw: no end token, no stop string and nothing behind it.
    pub(crate) text: String,
    /// Its tokens, those that give no text included, and its numbers.
    pub(crate) generation: Generation,
}

/// Text that became certain with one token.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Piece<'a> {
    /// The text; often empty, as no part of a character or of a stop string is shown.
    pub(crate) text: &'a str,
    /// Whether the token came out of an accepted draft.
    pub(crate) drafted: bool,
    /// Whether the next token takes another forward pass: time to show what there is.
    pub(crate) ends_step: bool,
}

/// Generates the answer to `request` and hands its text to `show`, piece by piece. The first of `stop` that occurs ends
/// it.
///
/// # Errors
/// If the request is refused or `show` fails.
pub(crate) fn answer(
    engine: &mut Engine<CpuModel>,
    tokenizer: &Tokenizer,
    request: GenerationRequest,
    drafter: Box<dyn Drafter>,
    stop: &[String],
    mut show: impl FnMut(Piece<'_>) -> io::Result<()>,
) -> anyhow::Result<Answer> {
    let mut answer = AnswerText::new(tokenizer, stop.iter().cloned());
    let (mut text, mut shown) = (String::new(), Ok(()));
    let generation = engine.generate(request, drafter, |token| {
        let check = answer.push(token.id);
        text.push_str(&check.text);
        shown =
            show(Piece { text: &check.text, drafted: token.is_drafted(), ends_step: !token.is_drafted() });
        match (&shown, check.stopped) {
            (Err(_), _) => ControlFlow::Break(FinishReason::Cancelled),
            (Ok(()), true) => ControlFlow::Break(FinishReason::Stop),
            (Ok(()), false) => ControlFlow::Continue(()),
        }
    })?;
    shown?;
    let rest = answer.finish();
    text.push_str(&rest);
    show(Piece { text: &rest, drafted: false, ends_step: true })?;
    Ok(Answer { text, generation })
}

/// Refuses a prompt that the model's context cannot hold, before time is spent on anything else.
pub(crate) fn check_prompt_fits(prompt_tokens: usize, model: &CpuModel) -> anyhow::Result<()> {
    let context_length = model.context_length();
    anyhow::ensure!(
        prompt_tokens < context_length,
        "the prompt has {prompt_tokens} tokens, but this model's context holds {context_length}, and the answer needs \
         room in it, too\nShorten the prompt, or choose a model with a longer context (`lookahead models` lists them)"
    );
    Ok(())
}
