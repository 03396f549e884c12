//! Calls of tools: how models write them, as grammars.

use lookahead_model::ToolFormat;
use lookahead_model::tool_calls::syntax::{
    ArgumentSyntax, CallSyntax, IdSyntax, Messages, NameSyntax, Syntax,
};
use serde_json::{Map, Value};

use crate::rules::{Rules, escaped, literal, sequence};
use crate::{arguments, vocabulary::Vocabulary};

/// A tool that a model may call.
#[derive(Clone, Debug, PartialEq)]
pub struct ToolSpec {
    /// What it is called by.
    pub name: String,
    /// The JSON schema of its arguments, which are an object; without one, of any object.
    pub parameters: Option<Value>,
    /// Whether the schema must be enforced as a whole. Otherwise what cannot be enforced of it is left out.
    pub strict: bool,
}

/// Whether a model calls tools.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ToolChoice {
    /// Text, calls, or calls behind a text. What begins as a call is one, of a tool that there is, with arguments that
    /// satisfy its schema.
    Auto,
    /// As [`Self::Auto`], but the answer ends behind its first call.
    AtMostOne,
    /// One or more calls and nothing else.
    Required,
    /// Exactly one call and nothing else.
    One,
}

impl ToolChoice {
    /// Whether an answer may do without a call.
    pub fn is_free(self) -> bool {
        matches!(self, Self::Auto | Self::AtMostOne)
    }

    /// Whether an answer may hold several calls.
    fn allows_several(self) -> bool {
        matches!(self, Self::Auto | Self::Required)
    }

    /// The same for an answer that calls.
    fn of_calls(self) -> Self {
        if self.allows_several() { Self::Required } else { Self::One }
    }
}

/// The schema of a tool's arguments, which are always an object; why it cannot be one where it says otherwise.
pub(crate) fn parameters(tool: &ToolSpec) -> Result<Value, String> {
    let mut schema = match &tool.parameters {
        None | Some(Value::Null | Value::Bool(true)) => Map::new(),
        Some(Value::Object(schema)) => schema.clone(),
        Some(other) => return Err(format!("parameters is {other}; it must be the JSON schema of an object")),
    };
    let is_object = match schema.get("type") {
        None | Some(Value::Null) => true,
        Some(Value::Array(types)) => types.iter().any(|name| name == "object"),
        Some(name) => name == "object",
    };
    if !is_object {
        let problem = format!(
            "parameters.type is {}; a function is called with an object, so it must be \"object\"",
            schema["type"]
        );
        return Err(problem);
    }
    schema.insert("type".to_owned(), "object".into());
    Ok(Value::Object(schema))
}

/// Whether arguments are written in JSON, so that all of a schema is enforced that JSON's grammar holds.
pub(crate) fn writes_json(format: ToolFormat) -> bool {
    match format.syntax().map(|syntax| &syntax.call) {
        None | Some(CallSyntax::Object { .. }) => true,
        Some(CallSyntax::Named { arguments, .. }) => *arguments == ArgumentSyntax::Json,
    }
}

/// The grammar of answers that call `tools` with `arguments`, in llguidance's dialect of Lark. An answer that calls none satisfies
/// the schema `answer`, if there is one.
pub(crate) fn grammar(
    tools: &[(&str, Value)],
    format: ToolFormat,
    choice: ToolChoice,
    answer: Option<&Value>,
    vocabulary: &Vocabulary,
) -> String {
    let mut rules = Rules::new(format.shown_tokens(), vocabulary);
    let answer = answer.filter(|_| choice.is_free()).map(|schema| rules.json(schema));
    let start = match format.syntax() {
        None => harmony(tools, choice, answer.as_deref(), &mut rules),
        Some(syntax) => {
            let calls: Vec<String> = tools.iter().map(|tool| call(tool, syntax, &mut rules)).collect();
            let call = rules.rule(&calls.join(" | "));
            // Beside an answer in JSON, calls stand alone.
            let choice = if answer.is_some() { choice.of_calls() } else { choice };
            if let Some(messages) = &syntax.messages {
                in_messages(&call, syntax, messages, choice, answer.as_deref(), &mut rules)
            } else {
                let calls = if let Some(text_name) = syntax.text_name() {
                    behind_names(tools, &call, syntax, text_name, choice, &mut rules)
                } else if syntax.is_anywhere {
                    anywhere(&call, syntax, choice, &mut rules)
                } else {
                    whole_answer(tools, &call, syntax, choice, &mut rules)
                };
                answer.map_or_else(|| calls.clone(), |answer| format!("{answer} | {calls}"))
            }
        }
    };
    rules.finish(&start)
}

/// Calls between markers, behind a text perhaps.
fn anywhere(call: &str, syntax: &Syntax, choice: ToolChoice, rules: &mut Rules) -> String {
    let begin = syntax.begin.concat();
    let opening = syntax.begin[0].trim();
    let behind_opening = rules.markup(&begin[opening.len()..]);
    let end = rules.markup(&syntax.end.concat());
    let more = match syntax.between {
        Some(between) if choice.allows_several() => {
            format!("({})*", sequence([&rules.markup(between), call]))
        }
        _ => String::new(),
    };
    let body = rules.rule(&sequence([&behind_opening, call, &more, &end]));
    let separator = rules.markup(syntax.separator);
    let next = sequence([&separator, &rules.markup(opening), &body]);
    let several = match syntax.between {
        Some(_) => String::new(),
        None if !choice.allows_several() => String::new(),
        // Models may end their last line, too; if that could only begin another call, they would be made to call twice.
        None if separator.is_empty() => format!("({next})*"),
        None => format!("({next})* {separator}?"),
    };
    if !choice.is_free() {
        return sequence([&rules.markup(opening), &body, &several]);
    }
    // Text ends where a call begins, whether that is seen by its characters or by the token.
    let text = rules.text_without(opening);
    let first = rules.text_until(opening);
    format!("{text}? | {}", sequence([&first, &body, &several]))
}

/// Messages: what the model thinks, then calls, perhaps behind a text, or a text or `answer`.
fn in_messages(
    call: &str,
    syntax: &Syntax,
    messages: &Messages,
    choice: ToolChoice,
    answer: Option<&str>,
    rules: &mut Rules,
) -> String {
    let calls = {
        let (begin, end) = (rules.markup(&syntax.begin.concat()), rules.markup(&syntax.end.concat()));
        let next = match syntax.between {
            Some(between) => sequence([&rules.markup(between), call]),
            None => sequence([&end, &rules.markup(syntax.separator), &begin, call]),
        };
        let more = if choice.allows_several() { format!("({next})*") } else { String::new() };
        rules.rule(&sequence([&begin, call, &more, &end]))
    };
    let has_text = choice.is_free() || answer.is_some();
    let between = rules.markup(messages.between);
    let calls_alone = sequence([&rules.markup(messages.no_text), &calls]);
    let end = match rules.markup(messages.end) {
        end if end.is_empty() => end,
        end => format!("({end})?"),
    };
    // A text behind what it begins with.
    let (text_open, text_close) = messages.text;
    let text = if let Some(answer) = answer {
        format!("{answer} ({})?", rules.markup(text_close))
    } else {
        let (some, whole) = (rules.text_without(text_close.trim()), rules.text_until(text_close));
        format!("{some}? | {whole} ({})?", sequence([&between, &calls]))
    };
    let text = rules.rule(&text);
    let rest = {
        let text = sequence([&rules.markup(text_open), &text]);
        // Calls behind an empty text are calls behind a text.
        let either = match (has_text, messages.no_text.is_empty() || answer.is_some()) {
            (true, true) => format!("({calls_alone} | {text})"),
            (true, false) => text,
            (false, _) => calls_alone,
        };
        rules.rule(&sequence([&either, &end]))
    };
    let Some((thought_open, thought_close)) = messages.thought else { return rest };
    let thought = rules.text_until(thought_close);
    if !messages.is_begun {
        let thought = sequence([&rules.markup(thought_open), &thought, &between]);
        return format!("({thought})* {rest}");
    }
    let no_text = sequence([&rules.markup(text_close), &between, &calls]);
    let begun_text = match (has_text, answer.is_some()) {
        (true, true) => format!("({text} | {no_text})"),
        (true, false) => text,
        (false, _) => no_text,
    };
    format!("{} | {begun_text} {end}", sequence([&thought, &between, &rest]))
}

/// Calls behind names, of which the prompt has begun the first; behind another name stands a text.
fn behind_names(
    tools: &[(&str, Value)],
    call: &str,
    syntax: &Syntax,
    text_name: &str,
    choice: ToolChoice,
    rules: &mut Rules,
) -> String {
    let CallSyntax::Named { close, arguments, .. } = &syntax.call else { return call.to_owned() };
    let begin = syntax.begin.concat();
    let more = if choice.allows_several() {
        format!("({})*", sequence([&rules.markup(&begin), call]))
    } else {
        String::new()
    };
    let calls = sequence([call, &more]);
    if !choice.is_free() {
        return calls;
    }
    // What begins a call ends a text only with the name of a tool: the mark alone may be part of one.
    let behind_text: Vec<String> = tools
        .iter()
        .map(|(name, schema)| {
            let text = rules.text_until(&format!("{begin}{name}{close}"));
            sequence([&text, &written_arguments(schema, arguments, rules)])
        })
        .collect();
    let behind_text = rules.rule(&behind_text.join(" | "));
    let names: Vec<String> = tools.iter().map(|(name, _)| escaped(name)).collect();
    let text = rules.text_not_holding(&format!("{}({}){}", escaped(&begin), names.join("|"), escaped(close)));
    let head = literal(&format!("{text_name}{close}"));
    format!("{calls} | {head} ({text}? | {})", sequence([&behind_text, &more]))
}

/// Calls that are the whole answer.
fn whole_answer(
    tools: &[(&str, Value)],
    call: &str,
    syntax: &Syntax,
    choice: ToolChoice,
    rules: &mut Rules,
) -> String {
    let (begin, end) = (rules.markup(&syntax.begin.concat()), rules.markup(&syntax.end.concat()));
    let more = match syntax.between {
        Some(between) if choice.allows_several() => {
            format!("({})*", sequence([&rules.markup(between), call]))
        }
        _ => String::new(),
    };
    if !choice.is_free() {
        return sequence([&begin, call, &more, &end]);
    }
    // An answer in JSON or a list need not be a call. What begins an object may be laid out as the model likes.
    let (beginning, first) = match &syntax.call {
        CallSyntax::Object { name, arguments, .. } => {
            let beginning = format!(r"[ \n]{{0,2}}\{{[ \n]{{0,8}}\x22{name}\x22");
            let call = |(name, schema): &(&str, Value)| {
                let head = format!(": {}, {}: ", Value::from(*name), Value::from(*arguments));
                sequence([&literal(&head), &rules.json(schema), &literal("}")])
            };
            let calls: Vec<String> = tools.iter().map(call).collect();
            let calls = rules.rule(&calls.join(" | "));
            (beginning.clone(), sequence([&rules.pattern(&beginning), &calls]))
        }
        CallSyntax::Named { close, arguments, .. } => {
            let begin = syntax.begin.concat();
            let names: Vec<String> = tools.iter().map(|(name, _)| escaped(name)).collect();
            let beginning = format!("{}({}){}", escaped(&begin), names.join("|"), escaped(close));
            // A text goes on as long as it can, so what ends it is one piece.
            let calls: Vec<String> = tools
                .iter()
                .map(|(name, schema)| {
                    let opening = rules.pattern(&escaped(&format!("{begin}{name}{close}")));
                    sequence([&opening, &written_arguments(schema, arguments, rules)])
                })
                .collect();
            (beginning, rules.rule(&calls.join(" | ")))
        }
    };
    let text = rules.text_not_beginning(&beginning);
    format!("{text}? | {}", sequence([&first, &more, &end]))
}

/// A call of a tool, without what calls begin and end with.
fn call((name, schema): &(&str, Value), syntax: &Syntax, rules: &mut Rules) -> String {
    match &syntax.call {
        CallSyntax::Object { name: name_key, arguments, id } => {
            let [name_key, arguments, name] = [*name_key, *arguments, *name].map(Value::from);
            let key = |key: &str| Value::from(key).to_string();
            let (first, last) = match id {
                IdSyntax::None => (literal("{"), String::new()),
                IdSyntax::First(id) => {
                    let number = rules.pattern("[0-9]{1,3}");
                    (
                        sequence([&literal(&format!("{{{}: \"", key(id))), &number, &literal("\", ")]),
                        String::new(),
                    )
                }
                IdSyntax::Last(id) => {
                    let number = rules.pattern("[a-zA-Z0-9_-]{1,40}");
                    let open = literal(&format!(", {}: \"", key(id)));
                    (literal("{"), format!("({open} {number} \"\\\"\")?"))
                }
            };
            let head = literal(&format!("{name_key}: {name}, {arguments}: "));
            sequence([&first, &head, &rules.json(schema), &last, &literal("}")])
        }
        CallSyntax::Named { open, name: written, close, arguments, end } => {
            let name = match written {
                NameSyntax::Plain | NameSyntax::OrText(_) => literal(name),
                NameSyntax::BehindId(mark) => {
                    let id = rules.pattern("[a-z0-9]{10}");
                    sequence([&id, &rules.markup(mark), &literal(name)])
                }
                NameSyntax::Counted => {
                    let number = rules.pattern("[0-9]{1,3}");
                    sequence([&literal(&format!("{name}\" index=\"")), &number])
                }
                NameSyntax::Indexed => {
                    let number = rules.pattern("[0-9]{1,3}");
                    sequence([&literal(&format!("functions.{name}:")), &number])
                }
            };
            let arguments = written_arguments(schema, arguments, rules);
            let (open, close, end) = (rules.markup(open), rules.markup(close), rules.markup(end));
            sequence([&open, &name, &close, &arguments, &end])
        }
    }
}

/// The arguments of a call of a tool with that schema.
fn written_arguments(schema: &Value, syntax: &ArgumentSyntax, rules: &mut Rules) -> String {
    match syntax {
        ArgumentSyntax::Json => rules.json(schema),
        ArgumentSyntax::Tagged(tags) => arguments::tagged(schema, tags, rules),
        ArgumentSyntax::Python => arguments::python(schema, rules),
        ArgumentSyntax::Unquoted => arguments::unquoted(schema, rules),
        ArgumentSyntax::Nested(nested) => arguments::nested(schema, nested, rules),
    }
}

/// A message on a channel of gpt-oss, and what begins the next one.
fn message(channel: &str, rules: &mut Rules) -> String {
    let text = rules.text_until("<|end|>");
    let head = rules.markup(&format!("<|channel|>{channel}<|message|>"));
    let next = rules.markup("<|start|>assistant");
    rules.rule(&sequence([&head, &text, &next]))
}

/// What the final message of an answer in channels begins with.
fn final_head(rules: &Rules) -> String {
    rules.markup("<|channel|>final<|message|>")
}

/// The grammar of what stands before the final message of an answer of a given form: thinking, and the head of that message. What is
/// said on other channels would be content beside the form.
pub(crate) fn before_final(vocabulary: &Vocabulary) -> String {
    let mut rules = Rules::new(ToolFormat::Harmony.shown_tokens(), vocabulary);
    let thinking = message("analysis", &mut rules);
    let start = format!("{thinking}* {}", final_head(&rules));
    rules.finish(&start)
}

/// Messages on the channels of gpt-oss: thinking and what is said before a call, then a call or the answer. What ends a
/// call ends the answer.
fn harmony(tools: &[(&str, Value)], choice: ToolChoice, answer: Option<&str>, rules: &mut Rules) -> String {
    let thinking = message("analysis", rules);
    let mut calls = Vec::new();
    for (name, schema) in tools {
        for (before, behind) in [
            (" to=functions.", "<|channel|>commentary json<|message|>"),
            ("<|channel|>commentary to=functions.", " <|constrain|>json<|message|>"),
        ] {
            let (before, behind) = (rules.markup(before), rules.markup(behind));
            calls.push(sequence([&before, &literal(name), &behind, &rules.json(schema)]));
        }
    }
    let call = rules.rule(&calls.join(" | "));
    if !choice.is_free() {
        return format!("{thinking}* {call}");
    }
    let head = final_head(rules);
    if let Some(answer) = answer {
        return format!("{thinking}* ({call} | {head} {answer})");
    }
    let preamble = message("commentary", rules);
    let said = rules.text_without("<|end|>");
    format!("({thinking} | {preamble})* ({call} | {head} {said}?)")
}
