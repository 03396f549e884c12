//! Calls of tools: how models write them, as grammars.

use lookahead_model::ToolFormat;
use serde_json::Value;

use crate::{json, vocabulary::Vocabulary};

/// A tool that a model may call.
#[derive(Clone, Debug, PartialEq)]
pub struct ToolSpec {
    /// What it is called by.
    pub name: String,
    /// The JSON schema of its arguments, which are an object; without one, of any object.
    pub parameters: Option<Value>,
}

/// Whether a model calls tools.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ToolChoice {
    /// Text, calls, or calls behind a text. What begins as a call is one, of a tool that there is, with arguments that
    /// satisfy its schema.
    Auto,
    /// One or more calls and nothing else.
    Required,
    /// Exactly one call and nothing else.
    One,
}

/// The arguments of a tool: always an object.
pub(crate) fn arguments(tool: &ToolSpec) -> Option<Value> {
    let mut schema = tool.parameters.clone().unwrap_or_else(json::any_object);
    if let Value::Object(schema) = &mut schema {
        schema.entry("type").or_insert_with(|| "object".into());
    }
    json::laid_out(&schema)
}

/// The grammar of answers that call `tools` with `arguments`, in llguidance's dialect of Lark.
pub(crate) fn grammar(
    tools: &[(&str, Value)],
    format: ToolFormat,
    choice: ToolChoice,
    vocabulary: &Vocabulary,
) -> String {
    match format {
        ToolFormat::Hermes => hermes(tools, choice, vocabulary),
        ToolFormat::Llama3Json => llama3_json(tools, choice),
    }
}

fn hermes(tools: &[(&str, Value)], choice: ToolChoice, vocabulary: &Vocabulary) -> String {
    const OPEN: &str = "<tool_call>";
    const CLOSE: &str = "</tool_call>";
    let tag = |name| match vocabulary.control_token(name) {
        Some(id) => format!("<[{id}]>"),
        None => literal(name),
    };
    // Models may end their last line, too; if that could only begin another call, they would be made to call twice.
    let start = match choice {
        ToolChoice::One => "call",
        ToolChoice::Required => r#"call ("\n" call)* "\n"?"#,
        ToolChoice::Auto => r#"TEXT? | first ("\n" call)* "\n"?"#,
    };
    // Text ends where a call begins, whether that is seen by its characters or by the token.
    let auto = match (choice, vocabulary.control_token(OPEN)) {
        (ToolChoice::One | ToolChoice::Required, _) => String::new(),
        (ToolChoice::Auto, Some(id)) => format!("TEXT: /(?s:.+)/\nfirst: TEXT? <[{id}]> body\n"),
        (ToolChoice::Auto, None) => format!(
            "TEXT: /(?s:.+)/ & ~/(?s:.*){OPEN}(?s:.*)/\nlead[suffix={}]: /(?s:.*)/\nfirst: lead body\n",
            literal(OPEN)
        ),
    };
    let body = alternatives(tools, |name, arguments| {
        let head = literal(&format!("\n{{\"name\": {}, \"arguments\": ", Value::from(name)));
        format!("{head} %json {arguments} \"}}\\n\"")
    });
    format!(
        "start: {start}\ncall: {open} body\n{auto}body: ({body}) {close}\n",
        open = tag(OPEN),
        close = tag(CLOSE)
    )
}

fn llama3_json(tools: &[(&str, Value)], choice: ToolChoice) -> String {
    // An answer in JSON need not be a call. What begins one may be laid out as the model likes.
    const OPEN: &str = r#"[ \n]{0,2}\{[ \n]{0,8}"name""#;
    let start = match choice {
        ToolChoice::One | ToolChoice::Required => format!("start: {} body\n", literal("{\"name\"")),
        ToolChoice::Auto => {
            format!("start: TEXT? | OPEN body\nOPEN: /{OPEN}/\nTEXT: /(?s:.+)/ & ~/{OPEN}(?s:.*)/\n")
        }
    };
    let body = alternatives(tools, |name, arguments| {
        let head = literal(&format!(": {}, \"parameters\": ", Value::from(name)));
        format!("{head} %json {arguments} \"}}\"")
    });
    format!("{start}body: {body}\n")
}

fn alternatives(tools: &[(&str, Value)], call: impl Fn(&str, &Value) -> String) -> String {
    tools.iter().map(|(name, arguments)| call(name, arguments)).collect::<Vec<_>>().join(" | ")
}

/// `text` as a string in Lark, whose strings are those of JSON.
fn literal(text: &str) -> String {
    Value::from(text).to_string()
}
