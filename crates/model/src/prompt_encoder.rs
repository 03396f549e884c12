//! Prompts: conversations and texts become the tokens that a model is to continue.
//!
//! A chat template's control tokens become tokens, but nobody can make one from inside a message: the names of
//! control tokens in messages, results of tools and definitions of tools stay text. So no one ends a turn or
//! speaks as the system who is not to.

mod chat;
mod control_names;
mod fill_in_middle;
mod roles;
#[cfg(test)]
mod tests;
mod tools_as_text;

use std::collections::HashSet;
use std::mem;
use std::ops::RangeInclusive;
use std::sync::Arc;

use serde_json::Value;

pub use self::chat::Chat;
use self::control_names::ControlNames;
pub use self::fill_in_middle::FillInMiddle;
use crate::{
    TokenId,
    chat_template::{ChatTemplate, ChatTemplateError, Message},
    reasoning::ReasoningFormat,
    tokenizer::{DecodeOptions, EncodeError, EncodeOptions, Tokenizer, TokenizerError},
    tool_calls::ToolFormat,
};

/// Tokens at the end of a prompt among which a mark that begins an answer's first part is looked for.
const PROMPT_END: usize = 32;

/// Unicode's noncharacters, which are for internal use.
const NONCHARACTERS: RangeInclusive<char> = '\u{fdd0}'..='\u{fdef}';

/// Encodes prompts for one model.
#[derive(Debug)]
pub struct PromptEncoder {
    tokenizer: Arc<Tokenizer>,
    template: Option<ChatTemplate>,
    control_names: ControlNames,
    fill_in_middle: Option<FillInMiddle>,
}

impl PromptEncoder {
    /// An encoder for the model of `tokenizer`; base models have no `template`.
    ///
    /// # Errors
    /// If there are more control tokens than can be searched for.
    pub fn new(tokenizer: Arc<Tokenizer>, template: Option<ChatTemplate>) -> Result<Self, TokenizerError> {
        let control_names = ControlNames::new(&tokenizer)?;
        let fill_in_middle = FillInMiddle::find(&tokenizer);
        Ok(Self { tokenizer, template, control_names, fill_in_middle })
    }

    /// The model's tokenizer.
    pub fn tokenizer(&self) -> &Arc<Tokenizer> {
        &self.tokenizer
    }

    /// The model's chat template.
    pub fn template(&self) -> Option<&ChatTemplate> {
        self.template.as_ref()
    }

    /// How the model calls tools.
    pub fn tool_format(&self) -> ToolFormat {
        self.template.as_ref().map_or(ToolFormat::Hermes, ChatTemplate::tool_format)
    }

    /// The tokens by which the model is asked to fill in the middle, if it was trained for that.
    pub fn fill_in_middle(&self) -> Option<&FillInMiddle> {
        self.fill_in_middle.as_ref()
    }

    /// The tokens of a prompt for what stands between `before` and `after`, both texts as they stand; `None` if the model was
    /// not trained for that. Other `files`, by name, are shown first.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_gap(
        &self,
        files: &[(String, String)],
        before: &str,
        after: &str,
    ) -> Result<Option<Vec<TokenId>>, EncodeError> {
        let Some(fill_in_middle) = self.fill_in_middle else { return Ok(None) };
        let encode =
            |text: &str| self.tokenizer.encode(text, EncodeOptions { add_bos: false, parse_special: false });
        let mut tokens: Vec<TokenId> = self.tokenizer.beginning().into_iter().collect();
        for (name, text) in files {
            tokens.extend(fill_in_middle.file());
            tokens.extend(encode(&format!("{name}\n{text}\n"))?);
        }
        fill_in_middle.append(&mut tokens, &encode(before)?, &encode(after)?);
        Ok(Some(tokens))
    }

    /// The tokens of a text as it stands.
    ///
    /// It is all the user's own: names of control tokens in it become those tokens (code models are asked to fill in
    /// the middle that way).
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_text(&self, text: &str) -> Result<Vec<TokenId>, EncodeError> {
        self.tokenizer.encode(text, EncodeOptions { add_bos: true, parse_special: true })
    }

    /// The tokens of a conversation, through the chat template.
    ///
    /// If the template has no place for tools, they are described to the model in a system message, and calls and
    /// results are written into messages as text. A system message that it has no place for is told by the user, and
    /// turns of one role are joined if it wants them to alternate. The arguments of calls may be an object or the JSON text of one.
    ///
    /// # Errors
    /// If the model has no template, the template refuses the messages or fails on them, there is no message to
    /// continue, the messages hold all of Unicode's noncharacters, or the tokenizer gives up on the text.
    pub fn encode_chat(&self, chat: &Chat) -> Result<Vec<TokenId>, ChatTemplateError> {
        self.encode_chat_within(chat, usize::MAX)
    }

    /// As [`encode_chat`](Self::encode_chat), for a prompt that is of no use where it has more than `most` tokens: one whose length in
    /// bytes says so is not encoded.
    ///
    /// # Errors
    /// As [`encode_chat`](Self::encode_chat), and if more tokens than `most` are seen to come; not for all prompts of more.
    pub fn encode_chat_within(&self, chat: &Chat, most: usize) -> Result<Vec<TokenId>, ChatTemplateError> {
        let (text, mark) = self.marked_prompt(chat)?;
        let parts = text.split(|character| Some(character) == mark);
        let tokens = self.tokenizer.fewest_tokens(parts.clone());
        if tokens > most {
            return Err(ChatTemplateError::TooLong { tokens, most });
        }
        Ok(self.tokenizer.encode_parts(parts, EncodeOptions { add_bos: true, parse_special: true })?)
    }

    /// The text of a conversation's prompt, as a person reads it: names of control tokens stand in it whoever wrote
    /// them, so its tokens are those of [`encode_chat`](Self::encode_chat) alone.
    ///
    /// # Errors
    /// As [`encode_chat`](Self::encode_chat), except for the tokenizer's.
    pub fn render_chat(&self, chat: &Chat) -> Result<String, ChatTemplateError> {
        let (text, mark) = self.marked_prompt(chat)?;
        Ok(match mark {
            Some(mark) => text.replace(mark, ""),
            None => text,
        })
    }

    /// Whether a prompt has ended where the model begins to think.
    pub fn opens_thinking(&self, prompt: &[TokenId], format: ReasoningFormat) -> bool {
        self.end_of(prompt).trim_end().ends_with(format.open)
    }

    /// The text that a prompt ends with, with its marks.
    pub fn end_of(&self, prompt: &[TokenId]) -> String {
        let end = &prompt[prompt.len().saturating_sub(PROMPT_END)..];
        self.tokenizer.decode(end, DecodeOptions { show_special: true, continuation: true })
    }

    /// The text of a prompt, with the mark that stands inside each name of a control token that is not the template's.
    fn marked_prompt(&self, chat: &Chat) -> Result<(String, Option<char>), ChatTemplateError> {
        let template = self.template.as_ref().ok_or(ChatTemplateError::NoTemplate)?;
        let mut chat = chat.clone();
        // First of all: JSON text may hide a name behind escapes.
        chat.messages.iter_mut().flat_map(|message| &mut message.tool_calls).for_each(parse_arguments);
        let mut unused = unused_characters(&mut chat);
        let mut unused = || unused.next().ok_or(ChatTemplateError::NoUnusedCharacter);

        // A mark inside each name survives the template; cut there, the two halves are ordinary text.
        let mut has_names = chat.messages.iter().any(|message| self.parts_make_a_name(message));
        visit_strings(&mut chat, &mut |text| has_names |= self.control_names.occur_in(text));
        let mark = has_names.then(&mut unused).transpose()?;
        if let Some(mark) = mark {
            visit_strings(&mut chat, &mut |text| *text = self.control_names.mark(text, mark));
            chat.messages.iter_mut().for_each(|message| part_with(mark, &mut message.parts));
        }
        let end = chat.continue_final_message.then(&mut unused).transpose()?;
        if let Some(end) = end {
            let last = chat.messages.last_mut().ok_or(ChatTemplateError::NothingToContinue)?;
            last.content.push(end);
            last.parts.iter_mut().last().into_iter().for_each(|part| part.push(end));
        }

        if !template.knows_tools() {
            tools_as_text::rewrite(&mut chat);
        }
        roles::rewrite(&mut chat.messages, template.roles());
        let add_generation_prompt = chat.add_generation_prompt && end.is_none();
        let mut text =
            template.render(&chat.messages, &chat.tools, &chat.variables, add_generation_prompt)?;
        if let Some(end) = end {
            text.truncate(text.find(end).ok_or(ChatTemplateError::NothingToContinue)?);
        }
        Ok((text, mark))
    }

    /// Whether a name of a control token may come about where parts of a content meet, trimmed or not.
    fn parts_make_a_name(&self, message: &Message) -> bool {
        message.parts.len() > 1 && {
            let trimmed: String = message.parts.iter().map(|part| part.trim()).collect();
            self.control_names.occur_in(&message.content) || self.control_names.occur_in(&trimmed)
        }
    }
}

/// Sets parts of a content apart by `mark`, which stands where a template that trims them does not reach it.
fn part_with(mark: char, parts: &mut [String]) {
    for part in parts.iter_mut().skip(1) {
        part.insert(part.len() - part.trim_start().len(), mark);
    }
}

/// Turns the arguments of a call into an object if they are the JSON text of one: clients of OpenAI's API send text,
/// templates expect the object.
fn parse_arguments(call: &mut Value) {
    if let Some(arguments) = call.pointer_mut("/function/arguments")
        && let Some(Ok(object @ Value::Object(_))) = arguments.as_str().map(serde_json::from_str)
    {
        *arguments = object;
    }
}

/// The noncharacters that `chat` does not hold.
fn unused_characters(chat: &mut Chat) -> impl Iterator<Item = char> + use<> {
    let mut used = HashSet::new();
    visit_strings(chat, &mut |text| used.extend(text.chars().filter(|c| NONCHARACTERS.contains(c))));
    NONCHARACTERS.filter(move |character| !used.contains(character))
}

/// Shows every string of `chat` to `visit`, wherever it stands.
fn visit_strings(chat: &mut Chat, visit: &mut impl FnMut(&mut String)) {
    for message in &mut chat.messages {
        let Message { role, content, parts, reasoning, name, tool_calls, tool_call_id } = message;
        visit(role);
        visit(content);
        parts.iter_mut().for_each(&mut *visit);
        reasoning.iter_mut().for_each(&mut *visit);
        name.iter_mut().for_each(&mut *visit);
        tool_call_id.iter_mut().for_each(&mut *visit);
        for call in tool_calls {
            visit_json(call, visit);
        }
    }
    chat.tools.iter_mut().for_each(|tool| visit_json(tool, visit));
    chat.variables.values_mut().for_each(|value| visit_json(value, visit));
}

/// The same for a value, names of fields included.
fn visit_json(value: &mut Value, visit: &mut impl FnMut(&mut String)) {
    match value {
        Value::String(text) => visit(text),
        Value::Array(values) => values.iter_mut().for_each(|value| visit_json(value, visit)),
        Value::Object(fields) => {
            let visited = mem::take(fields).into_iter().map(|(mut name, mut value)| {
                visit(&mut name);
                visit_json(&mut value, visit);
                (name, value)
            });
            *fields = visited.collect();
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
