//! Calls in every format: written by templates and read again, cut anywhere, cut off, hostile.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;
use crate::chat_template::{ChatTemplate, Message};

const ADD: &str = r#"{"name": "add", "arguments": {"a": 1, "b": [2]}}"#;

/// How templates write calls, each for its format, which is found in it.
const TEMPLATES: &[(ToolFormat, &str)] = &[
    (
        ToolFormat::Hermes,
        "{% for call in calls %}\n<tool_call>\n{{ {'name': call.name, 'arguments': call.arguments} | tojson }}\n</tool_call>{% endfor %}",
    ),
    (
        ToolFormat::Llama3Json,
        "{% for call in calls %}{{ '; ' if not loop.first }}{\"name\": {{ call.name | tojson }}, \"parameters\": {{ call.arguments | tojson }}}{% endfor %}",
    ),
    (
        ToolFormat::Pythonic,
        "{# [func_name(a=1)] #}[{% for call in calls %}{{ ', ' if not loop.first }}{{ call.name }}({% for key, value in call.arguments | items %}{{ ', ' if not loop.first }}{{ key }}={{ value | tojson }}{% endfor %}){% endfor %}]",
    ),
    (
        ToolFormat::Lfm2,
        "<|tool_call_start|>[{% for call in calls %}{{ ', ' if not loop.first }}{{ call.name }}({% for key, value in call.arguments | items %}{{ ', ' if not loop.first }}{{ key }}={{ value | tojson }}{% endfor %}){% endfor %}]<|tool_call_end|>",
    ),
    (
        ToolFormat::Qwen3Coder,
        "{% for call in calls %}\n<tool_call>\n<function={{ call.name }}>\n{% for key, value in call.arguments | items %}<parameter={{ key }}>\n{{ value if value is string else value | tojson }}\n</parameter>\n{% endfor %}</function>\n</tool_call>{% endfor %}",
    ),
    (
        ToolFormat::Seed,
        "{% for call in calls %}\n<seed:tool_call>\n<function={{ call.name }}>\n{% for key, value in call.arguments | items %}<parameter={{ key }}>{{ value if value is string else value | tojson }}</parameter>\n{% endfor %}</function>\n</seed:tool_call>{% endfor %}",
    ),
    (
        ToolFormat::MiniMax,
        "\n<minimax:tool_call>\n{% for call in calls %}<invoke name=\"{{ call.name }}\">\n{% for key, value in call.arguments | items %}<parameter name=\"{{ key }}\">{{ value if value is string else value | tojson }}</parameter>\n{% endfor %}</invoke>\n{% endfor %}</minimax:tool_call>",
    ),
    (
        ToolFormat::ToolCallsLines,
        "\n<tool_calls>\n{% for call in calls %}{{ {'name': call.name, 'arguments': call.arguments} | tojson }}\n{% endfor %}</tool_calls>",
    ),
    (
        ToolFormat::DeepSeekV32,
        "\n\n<｜DSML｜function_calls>\n{% for call in calls %}<｜DSML｜invoke name=\"{{ call.name }}\">\n{% for key, value in call.arguments | items %}<｜DSML｜parameter name=\"{{ key }}\" string=\"{{ 'true' if value is string else 'false' }}\">{{ value if value is string else value | tojson }}</｜DSML｜parameter>\n{% endfor %}</｜DSML｜invoke>\n{% endfor %}</｜DSML｜function_calls>",
    ),
    (
        ToolFormat::DeepSeekV4,
        "\n\n<｜DSML｜tool_calls>\n{% for call in calls %}<｜DSML｜invoke name=\"{{ call.name }}\">\n{% for key, value in call.arguments | items %}<｜DSML｜parameter name=\"{{ key }}\" string=\"{{ 'true' if value is string else 'false' }}\">{{ value if value is string else value | tojson }}</｜DSML｜parameter>\n{% endfor %}</｜DSML｜invoke>\n{% endfor %}</｜DSML｜tool_calls>",
    ),
    (
        ToolFormat::Glm,
        "{% for call in calls %}\n<tool_call>{{ call.name }}\n{% for key, value in call.arguments | items %}<arg_key>{{ key }}</arg_key>\n<arg_value>{{ value if value is string else value | tojson }}</arg_value>\n{% endfor %}</tool_call>{% endfor %}",
    ),
    (
        ToolFormat::GlmCompact,
        "{% for call in calls %}<tool_call>{{ call.name }}{% for key, value in call.arguments | items %}<arg_key>{{ key }}</arg_key><arg_value>{{ value if value is string else value | tojson }}</arg_value>{% endfor %}</tool_call>{% endfor %}",
    ),
    (
        ToolFormat::Mistral,
        "[TOOL_CALLS][{% for call in calls %}{{ ', ' if not loop.first }}{{ {'name': call.name, 'arguments': call.arguments, 'id': '123456789'} | tojson }}{% endfor %}]",
    ),
    (
        ToolFormat::MistralArgs,
        "{% for call in calls %}[TOOL_CALLS]{{ call.name }}[CALL_ID]12{{ loop.index }}[ARGS]{{ call.arguments | tojson }}{% endfor %}",
    ),
    (
        ToolFormat::DeepSeekR1,
        "<｜tool▁calls▁begin｜>{% for call in calls %}<｜tool▁call▁begin｜>function<｜tool▁sep｜>{{ call.name }}\n```json\n{{ call.arguments | tojson }}\n```<｜tool▁call▁end｜>{{ '\n' if not loop.last }}{% endfor %}<｜tool▁calls▁end｜>",
    ),
    (
        ToolFormat::DeepSeekV31,
        "<｜tool▁calls▁begin｜>{% for call in calls %}<｜tool▁call▁begin｜>{{ call.name }}<｜tool▁sep｜>{{ call.arguments | tojson }}<｜tool▁call▁end｜>{% endfor %}<｜tool▁calls▁end｜>",
    ),
    (
        ToolFormat::KimiK2,
        "<|tool_calls_section_begin|>{% for call in calls %}<|tool_call_begin|>functions.{{ call.name }}:{{ loop.index0 }}<|tool_call_argument_begin|>{{ call.arguments | tojson }}<|tool_call_end|>{% endfor %}<|tool_calls_section_end|>",
    ),
    (
        ToolFormat::Harmony,
        "{% for call in calls %}{{ '<|start|>assistant' if not loop.first or text }} to=functions.{{ call.name }}<|channel|>commentary json<|message|>{{ call.arguments | tojson }}<|call|>{% endfor %}",
    ),
    (
        ToolFormat::Granite,
        "<|tool_call|>[{% for call in calls %}{{ ', ' if not loop.first }}{{ {'name': call.name, 'arguments': call.arguments} | tojson }}{% endfor %}]",
    ),
    (
        ToolFormat::CommandR,
        "<|START_ACTION|>[\n{% for call in calls %}    {\"tool_call_id\": \"{{ loop.index0 }}\", \"tool_name\": {{ call.name | tojson }}, \"parameters\": {{ call.arguments | tojson }}}{{ ',' if not loop.last }}\n{% endfor %}]<|END_ACTION|>",
    ),
    (
        ToolFormat::Nemotron,
        "<TOOLCALL>[{% for call in calls %}{{ ', ' if not loop.first }}{{ {'name': call.name, 'arguments': call.arguments} | tojson }}{% endfor %}]</TOOLCALL>",
    ),
    (
        ToolFormat::ToolCallsList,
        "\n<tool_calls>[{% for call in calls %}{{ ', ' if not loop.first }}{{ {'name': call.name, 'arguments': call.arguments} | tojson }}{% endfor %}]</tool_calls>",
    ),
    (
        ToolFormat::Hunyuan,
        "<tool_calls:opensource>\n{% for call in calls %}<tool_call:opensource>{{ call.name }}<tool_sep:opensource>\n{% for key, value in call.arguments | items %}<arg_key:opensource>{{ key }}</arg_key:opensource>\n<arg_value:opensource>{{ value if value is string else value | tojson }}</arg_value:opensource>\n{% endfor %}</tool_call:opensource>\n{% endfor %}</tool_calls:opensource>",
    ),
    (
        ToolFormat::GigaChat,
        "{# <|message_sep|> #}{% for call in calls %}<|function_call|>{{ {'name': call.name, 'arguments': call.arguments} | tojson }}{% endfor %}",
    ),
    (
        ToolFormat::Functionary,
        "{% for call in calls %}<function={{ call.name }}>{{ call.arguments | tojson }}</function>{% endfor %}",
    ),
    (
        ToolFormat::Gemma4,
        "{% macro write(value) %}{% if value is string %}<|\"|>{{ value }}<|\"|>{% elif value is mapping %}{{ '{' }}{% for key, inner in value | items %}{{ ',' if not loop.first }}{{ key }}:{{ write(inner) }}{% endfor %}{{ '}' }}{% elif value is sequence %}[{% for inner in value %}{{ ',' if not loop.first }}{{ write(inner) }}{% endfor %}]{% else %}{{ value | tojson }}{% endif %}{% endmacro %}{% for call in calls %}<|tool_call>call:{{ call.name }}{{ write(call.arguments) }}<tool_call|>{% endfor %}",
    ),
    (
        ToolFormat::MiniMaxM3,
        "{% set ns = ']<]minimax[>[' %}{% macro write(value) %}{% if value is mapping %}{% for key, inner in value | items %}{{ ns }}<{{ key }}>{{ write(inner) }}{{ ns }}</{{ key }}>{% endfor %}{% elif value is sequence and value is not string %}{% for inner in value %}{{ ns }}<item>{{ write(inner) }}{{ ns }}</item>{% endfor %}{% else %}{{ value if value is string else value | tojson }}{% endif %}{% endmacro %}{{ ns }}<tool_call>\n{% for call in calls %}{{ ns }}<invoke name=\"{{ call.name }}\">{{ write(call.arguments) }}{{ ns }}</invoke>\n{% endfor %}{{ ns }}</tool_call>",
    ),
    (
        ToolFormat::Solar,
        "{% if calls %}{{ '<|end|><|begin|>assistant' if text }}<|tool_calls|>{% for call in calls %}<|tool_call:begin|>a1b2c3d4e{{ loop.index % 10 }}<|tool_call:name|>{{ call.name }}<|tool_call:args|>{{ call.arguments | tojson }}<|tool_call:end|>{% endfor %}<|calls|>{% endif %}",
    ),
    (
        ToolFormat::Apertus,
        "<|tools_prefix|>[{% for call in calls %}{{ ', ' if not loop.first }}{\"{{ call.name }}\": {{ call.arguments | tojson }}}{% endfor %}]<|tools_suffix|>",
    ),
    (
        ToolFormat::FunctionaryV32,
        "{# >>>all #}{% for call in calls %}{{ '>>>' if text or not loop.first }}{{ call.name }}\n{{ call.arguments | tojson }}{% endfor %}",
    ),
    (
        ToolFormat::MiniCpm,
        "{% for call in calls %}\n<function name=\"{{ call.name }}\">{% for key, value in call.arguments | items %}<param name=\"{{ key }}\">{% if value is string %}{{ '<![CDATA[' + value + ']]>' if '<' in value or '&' in value or '\n' in value else value }}{% else %}{{ value }}{% endif %}</param>{% endfor %}</function>{% endfor %}",
    ),
    (
        ToolFormat::KimiK3,
        "{% macro kind(value) %}{% if value is none %}null{% elif value is boolean %}boolean{% elif value is number %}number{% elif value is string %}string{% elif value is mapping %}object{% else %}array{% endif %}{% endmacro %}<|close|>response<|sep|><|open|>tools<|sep|>{% for call in calls %}<|open|>call tool=\"{{ call.name }}\" index=\"{{ loop.index }}\"<|sep|>{% for key, value in call.arguments | items %}<|open|>argument key=\"{{ key }}\" type=\"{{ kind(value) }}\"<|sep|>{{ value if value is string else value | tojson }}<|close|>argument<|sep|>{% endfor %}<|close|>call<|sep|>{% endfor %}<|close|>tools<|sep|><|close|>message<|sep|>",
    ),
    (
        ToolFormat::GigaChatV3,
        "{% for call in calls %}{{ '<|message_sep|>\n\n' if loop.first }}function call<|role_sep|>\n{{ {'name': call.name, 'arguments': call.arguments} | tojson }}<|message_sep|>\n\n{% endfor %}",
    ),
];

/// A call: its name and its arguments.
type Call = (String, Map<String, Value>);

fn template(format: ToolFormat) -> ChatTemplate {
    let (_, source) = TEMPLATES.iter().find(|(known, _)| *known == format).unwrap();
    let before = match format {
        ToolFormat::Harmony => "{% if text %}<|channel|>commentary<|message|>{{ text }}<|end|>{% endif %}",
        ToolFormat::Solar => "{{ '<|content|>' + text if text }}",
        ToolFormat::FunctionaryV32 => "{{ 'all\n' + text if text }}",
        _ => "{{ text }}",
    };
    let source = format!(
        "{{% if tools %}}{{% endif %}}{{% set text = messages[0].content %}}{{% set calls = variables_calls %}}{before}{source}"
    );
    ChatTemplate::new(&source, String::new(), String::new()).unwrap()
}

/// An answer as a model writes it.
fn write(format: ToolFormat, text: &str, calls: &[Call]) -> String {
    let calls: Value =
        calls.iter().map(|(name, arguments)| json!({ "name": name, "arguments": arguments })).collect();
    let variables = Map::from_iter([("variables_calls".to_owned(), calls)]);
    template(format).render(&[Message::new("assistant", text)], &[], &variables, false).unwrap()
}

/// The signatures of tools that are called so.
fn signatures(calls: &[Call]) -> ToolSignatures {
    let schemas: Vec<(&str, Value)> = calls
        .iter()
        .map(|(name, arguments)| (name.as_str(), schema(&Value::Object(arguments.clone()))))
        .collect();
    ToolSignatures::new(schemas.iter().map(|(name, schema)| (*name, Some(schema))))
}

/// The schema of a value.
fn schema(value: &Value) -> Value {
    match value {
        Value::Null => json!({ "type": "null" }),
        Value::Bool(_) => json!({ "type": "boolean" }),
        Value::Number(_) => json!({ "type": "number" }),
        Value::String(_) => json!({ "type": "string" }),
        Value::Array(items) => {
            json!({ "type": "array", "prefixItems": items.iter().map(schema).collect::<Vec<_>>() })
        }
        Value::Object(fields) => {
            let properties: Map<String, Value> =
                fields.iter().map(|(key, value)| (key.clone(), schema(value))).collect();
            json!({ "type": "object", "properties": properties })
        }
    }
}

fn content(text: &str) -> ToolDelta {
    ToolDelta::Content(text.to_owned())
}

fn call(name: &str, arguments: &str) -> [ToolDelta; 2] {
    [ToolDelta::Call { name: name.to_owned() }, ToolDelta::Arguments(arguments.to_owned())]
}

fn add() -> [ToolDelta; 2] {
    call("add", r#"{"a": 1, "b": [2]}"#)
}

/// What the prompt of a template ends with, as far as it begins an answer.
fn prompt_end(format: ToolFormat) -> &'static str {
    match format {
        ToolFormat::FunctionaryV32 => ">>>",
        ToolFormat::KimiK3 => "<|open|>response<|sep|>",
        _ => "",
    }
}

fn parser(format: ToolFormat, tools: ToolSignatures) -> ToolCallParser {
    ToolCallParser::new(format, tools).behind(prompt_end(format))
}

/// What comes of `pieces`, neighbours of one kind together.
fn parse<'t>(
    format: ToolFormat,
    tools: ToolSignatures,
    pieces: impl IntoIterator<Item = &'t str>,
) -> Vec<ToolDelta> {
    let mut parser = parser(format, tools);
    let mut all: Vec<ToolDelta> = pieces.into_iter().flat_map(|piece| parser.push(piece)).collect();
    all.extend(parser.finish());
    assert_eq!(parser.finish(), [], "there is only one end");
    let mut merged = Deltas::default();
    for delta in all {
        merge(&mut merged, delta);
    }
    merged.0
}

fn merge(merged: &mut Deltas, delta: ToolDelta) {
    match delta {
        ToolDelta::Content(text) => merged.content(&text),
        ToolDelta::Reasoning(text) => merged.reasoning(&text),
        ToolDelta::Call { name } => merged.call(name),
        ToolDelta::Arguments(text) => merged.arguments(&text),
    }
}

fn parse_whole(format: ToolFormat, text: &str) -> Vec<ToolDelta> {
    parse(format, ToolSignatures::default(), [text])
}

/// The text and the calls of an answer.
fn read(deltas: Vec<ToolDelta>) -> (String, Vec<(String, String)>) {
    let (mut text, mut calls) = (String::new(), Vec::new());
    for delta in deltas {
        match delta {
            ToolDelta::Content(more) => text += &more,
            ToolDelta::Reasoning(more) => panic!("{more:?} is no thinking"),
            ToolDelta::Call { name } => calls.push((name, String::new())),
            ToolDelta::Arguments(more) => calls.last_mut().unwrap().1 += &more,
        }
    }
    (text, calls)
}

fn is_bare(format: ToolFormat) -> bool {
    format.syntax().is_some_and(|syntax| !syntax.is_anywhere)
}

/// Two calls with what is hard to quote, as each format can hold it.
fn hard_calls() -> Vec<Call> {
    let object = |value: Value| value.as_object().unwrap().clone();
    vec![
        (
            "get_weather".to_owned(),
            object(json!({
                "city": "Rome \"x\"\n  'y' \\ </tool> é🙂",
                "days": 3,
                "empty": "",
                "number": "42",
                "options": { "a": [1, "x", null, { "b": true }], "c": {} }
            })),
        ),
        ("now".to_owned(), Map::new()),
        ("save".to_owned(), object(json!({ "text": "\n two lines \n", "flag": false }))),
    ]
}

#[test]
fn every_format_has_a_template_that_it_is_found_in() {
    for format in ToolFormat::ALL {
        assert_eq!(template(*format).tool_format(), *format);
    }
    assert_eq!(TEMPLATES.len(), ToolFormat::ALL.len());
}

#[test]
fn what_a_template_writes_is_read_again() {
    for &format in ToolFormat::ALL {
        let calls = hard_calls();
        let text = if is_bare(format) { "" } else { "Let me see <b>." };
        let answer = write(format, text, &calls);
        let letters: Vec<String> = answer.chars().map(String::from).collect();
        let deltas = parse(format, signatures(&calls), letters.iter().map(String::as_str));
        let (read_text, read_calls) = read(deltas);
        assert_eq!(read_text, text, "{format:?}: {answer}");
        assert_eq!(read_calls.len(), calls.len(), "{format:?}: {answer}");
        for ((name, arguments), (read_name, read_arguments)) in calls.iter().zip(read_calls) {
            assert_eq!(*name, read_name, "{format:?}: {answer}");
            let read: Value = serde_json::from_str(&read_arguments).unwrap();
            assert_eq!(read, Value::Object(arguments.clone()), "{format:?}: {answer}");
        }
    }
}

#[test]
fn a_call_that_is_cut_off_is_a_call_as_far_as_it_came() {
    for &format in ToolFormat::ALL {
        let arguments = json!({ "city": "Paris on the Seine" }).as_object().unwrap().clone();
        let calls = [("get_weather".to_owned(), arguments)];
        let answer = write(format, "", &calls);
        let cut = answer.find(" Seine").unwrap();
        let (text, calls) = read(parse(format, signatures(&calls), [&answer[..cut]]));
        assert_eq!(text, "", "{format:?}");
        assert_eq!(calls, [("get_weather".to_owned(), r#"{"city": "Paris on the"#.to_owned())], "{format:?}");
    }
}

#[test]
fn arguments_are_told_as_they_come() {
    for &format in ToolFormat::ALL {
        let arguments = json!({ "city": "Paris" }).as_object().unwrap().clone();
        let calls = [("get_weather".to_owned(), arguments)];
        let answer = write(format, "", &calls);
        let mut parser = parser(format, signatures(&calls));
        let deltas = parser.push(&answer[..answer.find("aris").unwrap()]);
        assert_eq!(deltas, call("get_weather", r#"{"city": "P"#), "{format:?}");
        assert_eq!(parser.push("ari"), [ToolDelta::Arguments("ari".to_owned())], "{format:?}");
    }
}

#[test]
fn hermes_calls_stand_between_markers() {
    for (text, expected) in [
        ("", vec![]),
        ("Hi <b>!\n", vec![content("Hi <b>!\n")]),
        (&format!("<tool_call>\n{ADD}\n</tool_call>"), add().to_vec()),
        (
            &format!("First.\n\n<tool_call>{ADD}</tool_call>\n<tool_call>\n{ADD}\n</tool_call>\n Done "),
            [&[content("First.")][..], &add(), &add(), &[content("Done ")]].concat(),
        ),
        (&format!("<tool_call>{ADD}"), add().to_vec()),
        (&format!("<tool_call>{ADD}\n</tool_"), add().to_vec()),
        ("<tool_call>{\"name\": \"now\"}</tool_call>", call("now", "{}").to_vec()),
        ("<tool_call>{\"name\": \"now\", \"arguments\": null}</tool_call>", call("now", "{}").to_vec()),
        ("<tool_call>{\"name\": \"f\", \"parameters\": {}}</tool_call>", call("f", "{}").to_vec()),
        (
            "<tool_call>{\"arguments\": {\"a\": 1}, \"name\": \"f\"}</tool_call>",
            call("f", "{\"a\": 1}").to_vec(),
        ),
        (
            r#"<tool_call>{"name": "f", "arguments": "{\"a\": 1}"}</tool_call>"#,
            call("f", r#"{"a": 1}"#).to_vec(),
        ),
        (
            r#"<tool_call>{"name": "f", "arguments": {"a": "</tool_call>"}} </tool_call>"#,
            call("f", r#"{"a": "</tool_call>"}"#).to_vec(),
        ),
        (
            "<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": 1}</tool_call> Done",
            [&call("f", "{\"a\": 1}")[..], &[content("Done")]].concat(),
        ),
        (
            "<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": oh no}}</tool_call>",
            [&call("f", "{\"a\": oh ")[..], &[content("no}}</tool_call>")]].concat(),
        ),
    ] {
        assert_eq!(parse_whole(ToolFormat::Hermes, text), expected, "{text}");
    }
}

#[test]
fn what_is_no_call_is_content_and_hides_none_behind_it() {
    for text in [
        "The marker <tool_call> begins a call",
        " <tool_call> \n",
        "<tool_call>{\"name\": \"f\"",
        "<tool_call>{\"name\": \"f\", \"arguments\": [1]}</tool_call>",
        "<tool_call>{\"name\": 1, \"arguments\": {}}</tool_call>",
        "<tool_call>{\"name\": \"</tool_call>",
        "</tool_call>",
        "<tool_cal",
    ] {
        assert_eq!(parse_whole(ToolFormat::Hermes, text), [content(text)]);
        let followed = format!("{text}\n<tool_call>{ADD}</tool_call>");
        let expected = [&[content(text.trim_end())][..], &add()].concat();
        assert_eq!(parse_whole(ToolFormat::Hermes, &followed), expected);
    }
}

#[test]
fn only_what_may_be_a_call_is_held_back() {
    let mut parser = ToolCallParser::new(ToolFormat::Hermes, ToolSignatures::default());
    for (piece, deltas) in [
        ("if a <", vec![content("if a")]),
        (" b", vec![content(" < b")]),
        ("\n<tool_", vec![]),
        ("box>", vec![content("\n<tool_box>")]),
        ("<tool_call>", vec![]),
        ("is", vec![content("<tool_call>is")]),
    ] {
        assert_eq!(parser.push(piece), deltas, "{piece}");
    }
}

#[test]
fn the_marker_of_another_format_is_content() {
    for (format, text) in [
        (ToolFormat::Mistral, "[TOOL_CALLS]f[ARGS]{}"),
        (ToolFormat::MistralArgs, "[TOOL_CALLS][{\"name\": \"f\", \"arguments\": {}}]"),
        (ToolFormat::Glm, "<tool_call>{\"name\": \"f\", \"arguments\": {}}</tool_call>"),
        (ToolFormat::Qwen3Coder, "<tool_call>{\"name\": \"f\", \"arguments\": {}}</tool_call>"),
        (ToolFormat::DeepSeekV31, "<｜tool▁calls▁begin｜>f"),
        (ToolFormat::KimiK2, "<|tool_calls_section_begin|><|tool_call_begin|>functions.f"),
    ] {
        assert_eq!(parse_whole(format, text), [content(text)], "{format:?}");
    }
}

#[test]
fn values_between_tags_are_what_their_schema_says() {
    let schema = json!({ "properties": {
        "text": { "type": "string" }, "count": { "type": "integer" }, "maybe": { "type": ["string", "null"] }
    } });
    let tools = || ToolSignatures::new([("f", Some(&schema))]);
    let answer = |key: &str, value: &str| {
        format!(
            "<tool_call>\n<function=f>\n<parameter={key}>\n{value}\n</parameter>\n</function>\n</tool_call>"
        )
    };
    for (key, value, json) in [
        ("text", "3", "\"3\""),
        ("text", "</param>", "\"</param>\""),
        ("text", "a\n", "\"a\\n\""),
        ("count", "3", "3"),
        ("count", " 3 ", "3"),
        ("count", "many", "\"many\""),
        ("count", "None", "null"),
        ("maybe", "null", "null"),
        ("maybe", "\"quoted\"", "\"\\\"quoted\\\"\""),
        ("other", "{'a': True}", "{\"a\": true}"),
        ("other", "1e400", "1e400"),
        ("other", "123456789012345678901234567890", "123456789012345678901234567890"),
    ] {
        let expected = call("f", &format!("{{\"{key}\": {json}}}"));
        assert_eq!(
            parse(ToolFormat::Qwen3Coder, tools(), [&*answer(key, value)]),
            expected,
            "{key}: {value}"
        );
    }
}

#[test]
fn tags_may_lack_line_breaks_and_ends() {
    for (text, arguments, rest) in [
        ("<tool_call><function=f><parameter=a>x</parameter></function></tool_call>", "{\"a\": \"x\"}", None),
        ("<tool_call><function=f><parameter=a>x</parameter></tool_call>Done", "{\"a\": \"x\"}", Some("Done")),
        ("<tool_call><function=f></function>", "{}", None),
        ("<tool_call><function=f>\nWhat?", "{}", Some("What?")),
        ("<tool_call><function=f><parameter=a>1", "{\"a\": \"1", None),
        ("<tool_call><function=f><parameter=a>[1", "{\"a\": [1", None),
    ] {
        let expected: Vec<ToolDelta> = call("f", arguments).into_iter().chain(rest.map(content)).collect();
        assert_eq!(parse_whole(ToolFormat::Qwen3Coder, text), expected, "{text}");
    }
}

#[test]
fn a_llama_call_is_the_whole_answer() {
    let parameters = ADD.replace("arguments", "parameters");
    for (text, expected) in [
        (&*parameters, add().to_vec()),
        (ADD, add().to_vec()),
        (&format!(" \n{parameters}\n"), add().to_vec()),
        (&format!("<|python_tag|>{parameters}; {parameters}"), [add(), add()].concat()),
        (&format!("<|python_tag|> {parameters}\n{parameters}"), [add(), add()].concat()),
        (&format!("So: {parameters}"), vec![content(&format!("So: {parameters}"))]),
        (&format!("{parameters} it is"), [&add()[..], &[content("it is")]].concat()),
        ("{\"name\": \"Ada\"}", vec![content("{\"name\": \"Ada\"}")]),
        ("{\"name\"", vec![content("{\"name\"")]),
        ("<|python_tag|>print(1)", vec![content("<|python_tag|>print(1)")]),
        (&format!("<{parameters}"), vec![content(&format!("<{parameters}"))]),
        ("<|python_x", vec![content("<|python_x")]),
        (" ", vec![content(" ")]),
        ("", vec![]),
    ] {
        assert_eq!(parse_whole(ToolFormat::Llama3Json, text), expected, "{text}");
    }
    let mut parser = ToolCallParser::new(ToolFormat::Llama3Json, ToolSignatures::default());
    for (piece, deltas) in [("\n", vec![]), ("No", vec![content("\nNo")]), (" {", vec![content(" {")])] {
        assert_eq!(parser.push(piece), deltas, "{piece}");
    }
}

#[test]
fn calls_without_markers_are_calls_of_known_tools() {
    let tools = || ToolSignatures::new([("add", None)]);
    for (format, text, is_call) in [
        (ToolFormat::Llama3Json, "{\"name\": \"add\", \"parameters\": {}}", true),
        (ToolFormat::Llama3Json, "{\"name\": \"Ada\", \"parameters\": {}}", false),
        (ToolFormat::Pythonic, "[add()]", true),
        (ToolFormat::Pythonic, "[sub()]", false),
        (ToolFormat::Pythonic, "[1, 2]", false),
        (ToolFormat::Pythonic, "[", false),
    ] {
        let deltas = parse(format, tools(), [text]);
        if is_call {
            assert_eq!(deltas, call("add", "{}"), "{text}");
        } else {
            assert_eq!(deltas, [content(text)], "{text}");
        }
    }
}

#[test]
fn the_channels_of_gpt_oss_are_told_apart() {
    let thinking = || ToolDelta::Reasoning("Hm.".to_owned());
    for (text, expected) in [
        (
            "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>Hi < you",
            vec![thinking(), content("Hi < you")],
        ),
        (
            "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>commentary to=functions.f \
             <|constrain|>json<|message|>{\"a\": 1}<|call|>",
            [&[thinking()][..], &call("f", "{\"a\": 1}")].concat(),
        ),
        (" to=functions.f<|channel|>commentary json<|message|> <|call|>", call("f", "{}").to_vec()),
        ("<|channel|>commentary<|message|>I will look.<|end|>", vec![content("I will look.")]),
        ("<|channel|>analysis<|message|>Hm.", vec![thinking()]),
        ("<|channel|>analysis", vec![]),
        ("No channel at all", vec![content("No channel at all")]),
        ("{\"a\": 1}", vec![content("{\"a\": 1}")]),
    ] {
        assert_eq!(parse_whole(ToolFormat::Harmony, text), expected, "{text}");
    }
}

#[test]
fn messages_are_told_apart() {
    let thinking = || ToolDelta::Reasoning("Hm.".to_owned());
    let f = || call("f", "{\"a\": 1}");
    let solar_call = "<|tool_calls|><|tool_call:begin|>a1b2c3d4e5<|tool_call:name|>f<|tool_call:args|>{\"a\": 1}<|tool_call:end|>";
    let kimi_call = "<|open|>tools<|sep|><|open|>call tool=\"f\" index=\"1\"<|sep|><|open|>argument key=\"a\" \
                     type=\"number\"<|sep|>1<|close|>argument<|sep|><|close|>call<|sep|><|close|>tools<|sep|>";
    let gigachat_call = "function call<|role_sep|>\n{\"name\": \"f\", \"arguments\": {\"a\": 1}}";
    for (format, prompt, text, expected) in [
        (
            ToolFormat::Solar,
            "<|begin|>assistant",
            "<|think|>\nHm.\n<|end|><|begin|>assistant<|content|>Hi <b>.<|end|>".to_owned(),
            vec![thinking(), content("Hi <b>.")],
        ),
        (
            ToolFormat::Solar,
            "<|begin|>assistant",
            format!("<|think|>Hm.<|end|><|begin|>assistant{solar_call}<|calls|>"),
            [&[thinking()][..], &f()].concat(),
        ),
        (
            ToolFormat::Solar,
            "<|begin|>assistant",
            format!("<|content|>So.<|end|><|begin|>assistant{solar_call}"),
            [&[content("So.")][..], &f()].concat(),
        ),
        (ToolFormat::Solar, "<|begin|>assistant", "{\"b\": 2}".to_owned(), vec![content("{\"b\": 2}")]),
        (ToolFormat::Solar, "<|begin|>assistant", "<|think|>Hm.<|e".to_owned(), vec![ToolDelta::Reasoning("Hm.<|e".to_owned())]),
        (
            ToolFormat::KimiK3,
            "<|open|>think<|sep|>",
            format!("Hm.<|close|>think<|sep|><|open|>response<|sep|><|close|>response<|sep|>{kimi_call}<|close|>message<|sep|>"),
            [&[thinking()][..], &f()].concat(),
        ),
        (
            ToolFormat::KimiK3,
            "<|open|>think<|sep|>",
            "Hm.<|close|>think<|sep|><|open|>response<|sep|>Hi.<|close|>response<|sep|><|close|>message<|sep|>".to_owned(),
            vec![thinking(), content("Hi.")],
        ),
        (
            ToolFormat::KimiK3,
            "<|open|>response<|sep|>",
            format!("Hi.<|close|>response<|sep|>{kimi_call}"),
            [&[content("Hi.")][..], &f()].concat(),
        ),
        (
            ToolFormat::GigaChatV3,
            "",
            format!("Hi.<|message_sep|>\n\n{gigachat_call}<|message_sep|>\n\n"),
            [&[content("Hi.")][..], &f()].concat(),
        ),
        (ToolFormat::GigaChatV3, "", "Hi.<|message_sep|>\n\n".to_owned(), vec![content("Hi.")]),
        (ToolFormat::FunctionaryV32, ">>>", "f\n{\"a\": 1}>>>f\n{\"a\": 1}".to_owned(), [f(), f()].concat()),
        (
            ToolFormat::FunctionaryV32,
            "<|end_header_id|>\n\n>>>",
            "all\n>>> print(1)\n1 >>>>f\n{\"a\": 1}".to_owned(),
            [&[content(">>> print(1)\n1 >")][..], &f()].concat(),
        ),
        (ToolFormat::FunctionaryV32, ">>>", "{\"b\": 2}".to_owned(), vec![content("{\"b\": 2}")]),
        (ToolFormat::FunctionaryV32, ">>>", "Hi.".to_owned(), vec![content("Hi.")]),
        (ToolFormat::FunctionaryV32, "", "all\n".to_owned(), vec![content("all\n")]),
    ] {
        let tools = ToolSignatures::new([("f", None)]);
        let mut parser = ToolCallParser::new(format, tools).behind(prompt);
        let mut deltas = Deltas::default();
        let pieces = text.chars().flat_map(|letter| parser.push(letter.encode_utf8(&mut [0; 4])));
        let mut all: Vec<ToolDelta> = pieces.collect();
        all.extend(parser.finish());
        for delta in all {
            merge(&mut deltas, delta);
        }
        assert_eq!(deltas.0, expected, "{format:?}: {text}");
    }
}

#[test]
fn values_with_markup_may_be_raw() {
    let schema = json!({ "properties": { "text": { "type": "string" }, "flag": { "type": "boolean" } } });
    for (key, value, json) in [
        ("text", "<![CDATA[a <b> & </param>\n]]>", "\"a <b> & </param>\\n\""),
        ("text", "<![CDATA[]] ]]>", "\"]] \""),
        ("text", "<![CDAT", "\"<![CDAT\""),
        ("text", "", "\"\""),
        ("flag", "True", "true"),
        ("other", "<![CDATA[{'a': [None, 'x']}]]>", "{\"a\": [null, \"x\"]}"),
    ] {
        let text = format!("<function name=\"f\"><param name=\"{key}\">{value}</param></function>");
        let tools = ToolSignatures::new([("f", Some(&schema))]);
        let expected = call("f", &format!("{{\"{key}\": {json}}}"));
        assert_eq!(parse(ToolFormat::MiniCpm, tools, [text.as_str()]), expected, "{text}");
    }
}

#[test]
fn tags_that_nest_are_what_their_schema_says() {
    let schema = json!({
        "properties": {
            "text": { "type": "string" },
            "list": { "type": "array", "items": { "type": "string" } },
            "tree": { "$ref": "#/$defs/tree" },
            "maybe": { "anyOf": [{ "type": "null" }, { "type": "array", "items": { "type": "integer" } }] },
            "map": { "type": "object", "additionalProperties": { "type": "string" } }
        },
        "$defs": {
            "tree": { "properties": { "name": { "type": "string" }, "item": { "type": "array", "items": { "$ref": "#/$defs/tree" } } } }
        }
    });
    // A tilde stands for what every tag stands behind.
    for (arguments, json) in [
        ("", "{}"),
        ("~<text>1 <b> ~<i> ~</b> </text>~</text>", "{\"text\": \"1 <b> ~<i> ~</b> </text>\"}"),
        ("~<list>~<item>1~</item>\n~<item>~</item>~</list>", "{\"list\": [\"1\", \"\"]}"),
        ("~<list>~</list>~<map>~</map>", "{\"list\": [], \"map\": {}}"),
        (
            "~<tree>~<name>1~</name>~<item>~<item>~<name>2~</name>~</item>~</item>~</tree>",
            "{\"tree\": {\"name\": \"1\", \"item\": [{\"name\": \"2\"}]}}",
        ),
        ("~<maybe>~<item>1~</item>~</maybe>", "{\"maybe\": [1]}"),
        ("~<maybe>null~</maybe>", "{\"maybe\": null}"),
        ("~<map>~<item>1~</item>~</map>", "{\"map\": {\"item\": \"1\"}}"),
        (
            "~<other>~<item>1~</item>~<item>~<a>x y~</a>~<b>true~</b>~</item>~</other>",
            "{\"other\": [1, {\"a\": \"x y\", \"b\": true}]}",
        ),
    ] {
        let mark = "]<]minimax[>[";
        let text = format!("~<tool_call>\n~<invoke name=\"f\">{arguments}~</invoke>\n~</tool_call>")
            .replace('~', mark);
        let tools = ToolSignatures::new([("f", Some(&schema))]);
        let expected = call("f", &json.replace('~', mark));
        assert_eq!(parse(ToolFormat::MiniMaxM3, tools, [text.as_str()]), expected, "{text}");
    }
}

/// Reading an answer again from its beginning for each piece would take hours here.
#[test]
fn long_answers_of_undecided_text_take_linear_time() {
    let spaces = " ".repeat(5_000);
    for &format in ToolFormat::ALL {
        let calls = [("f".to_owned(), json!({ "a": "x" }).as_object().unwrap().clone())];
        let answer = write(format, "", &calls);
        let beginning = &answer[..answer.find('x').unwrap()];
        let opening = format
            .syntax()
            .and_then(|syntax| syntax.begin.first())
            .map_or("<|channel|>", |begin| begin.trim());
        let texts = [
            format!("{beginning}{}", "</tool_call>\n".repeat(2_000)),
            format!("{beginning}{}", "\n<".repeat(10_000)),
            format!("{beginning}{}", "\\\"".repeat(10_000)),
            beginning.repeat(500),
            answer.repeat(500),
            opening.repeat(2_000),
            format!("{opening}{{\"").repeat(2_000),
            format!("{opening}{{\"a\": \"").repeat(2_000),
            format!("{opening}{{\",").repeat(2_000),
            format!("{opening}{spaces}"),
            format!("a{spaces}"),
            format!("{spaces}{answer}"),
            format!("{opening}{}", "{\"a\":".repeat(5_000)),
            format!("{beginning}{}", "[".repeat(10_000)),
        ];
        for text in &texts {
            let parser = &mut parser(format, signatures(&calls));
            text.chars().for_each(|letter| drop(parser.push(letter.encode_utf8(&mut [0; 4]))));
            parser.finish();
        }
        let text = texts.concat();
        let letters: Vec<String> = text.chars().map(String::from).collect();
        let whole = parse(format, signatures(&calls), [&*text]);
        assert!(parse(format, signatures(&calls), letters.iter().map(String::as_str)) == whole, "{format:?}");
    }
}

fn answers() -> impl Strategy<Value = String> {
    let literals = ToolFormat::ALL.iter().flat_map(|format| format.shown_tokens().iter().copied());
    let others = [
        ADD,
        r#"{"name": "f", "arguments": {"a": "</tool_call>"}}"#,
        r#"{"name": "f", "arguments": {"a": ""#,
        "<function=f>",
        "<parameter=a>",
        "</parameter>",
        "</function>",
        "<function name=\"f\">",
        "<param name=\"a\">",
        "<![CDATA[",
        "]]></param>",
        ">>>",
        "all\n",
        "tools",
        "think",
        "response",
        "call tool=\"f\" index=\"1\"",
        "function call",
        "<invoke name=\"f\">",
        "<parameter name=\"a\">",
        "</invoke>",
        "call:f{",
        "f(a=",
        "f",
        " to=functions.f",
        "analysis",
        "<tool_",
        "\n",
        " ",
        "<",
        "{",
        "[",
        "]",
        "\"",
        "'",
        "}",
        ")",
        ";",
        ",",
        "1",
        "é",
    ];
    let part = prop::sample::select(literals.chain(others).chain(others).collect::<Vec<_>>());
    prop::collection::vec(part, 0..16).prop_map(|parts| parts.concat())
}

fn formats() -> impl Strategy<Value = ToolFormat> {
    prop::sample::select(ToolFormat::ALL.to_vec())
}

/// `text` in pieces.
fn cut(text: &str, cuts: &[prop::sample::Index]) -> Vec<String> {
    let chars: Vec<char> = text.chars().collect();
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(chars.len() + 1)).collect();
    cuts.extend([0, chars.len()]);
    cuts.sort_unstable();
    cuts.windows(2).map(|w| chars[w[0]..w[1]].iter().collect()).collect()
}

fn cuts() -> impl Strategy<Value = Vec<prop::sample::Index>> {
    prop::collection::vec(any::<prop::sample::Index>(), 0..8)
}

/// Strings with what formats are written in, and any characters.
fn strings() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        any::<String>(),
        prop::sample::select(vec![
            "<", "</", "\"", "'", "\\", "\n", "{", "}", "[ARGS]", "1", "true", " ", "<|", "｜>", "é🙂"
        ])
        .prop_map(String::from),
    ];
    prop::collection::vec(part, 0..4).prop_map(|parts| parts.concat())
}

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<i16>().prop_map(|number| Value::from(f64::from(number) / 8.0)),
        strings().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::vec(("[a-zA-Z_][a-zA-Z0-9_]{0,6}", inner), 0..3)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

fn calls() -> impl Strategy<Value = Vec<Call>> {
    let arguments = prop::collection::vec(("[a-zA-Z_][a-zA-Z0-9_]{0,8}", values()), 0..4);
    let call = ("[a-zA-Z_][a-zA-Z0-9_.-]{0,12}", arguments.prop_map(|fields| fields.into_iter().collect()));
    prop::collection::btree_map(call.0, call.1, 1..4).prop_map(|calls| calls.into_iter().collect())
}

proptest! {
    #[test]
    fn the_deltas_do_not_depend_on_where_the_text_was_cut(text in answers(), cuts in cuts()) {
        let tools = || ToolSignatures::new([("f", Some(&json!({ "properties": { "a": { "type": "string" } } })))]);
        let letters: Vec<String> = text.chars().map(String::from).collect();
        for &format in ToolFormat::ALL {
            let whole = parse(format, tools(), [text.as_str()]);
            prop_assert_eq!(&parse(format, tools(), cut(&text, &cuts).iter().map(String::as_str)), &whole);
            prop_assert_eq!(&parse(format, tools(), letters.iter().map(String::as_str)), &whole);
            let has_calls = whole.iter().any(|delta| matches!(delta, ToolDelta::Call { .. }));
            if !has_calls && !format.has_channels() {
                prop_assert_eq!(whole, Vec::from_iter((!text.is_empty()).then(|| content(&text))), "{:?}", format);
            }
        }
    }

    #[test]
    fn random_calls_are_read_as_they_were_written(
        format in formats(), text in "([a-zA-Z<>{}.]( [a-z<]{1,5}){0,3})?", calls in calls(), cuts in cuts(),
    ) {
        // What ends a value between tags cannot stand in it.
        let ends: &[&str] = &["</parameter>", "</arg_value>", "</arg_value:opensource>", "</｜DSML｜parameter>", "<|\"|>", "<|", "</param>"];
        let holds = |text: &str| !ends.iter().any(|end| text.contains(end));
        prop_assume!(holds(&json!(calls).to_string().replace("\\\"", "\"")));
        let text = if is_bare(format) { "" } else { &text };
        let answer = write(format, text, &calls);
        let deltas = parse(format, signatures(&calls), cut(&answer, &cuts).iter().map(String::as_str));
        let (read_text, read_calls) = read(deltas);
        prop_assert_eq!(&read_text, text, "{:?}: {}", format, answer);
        let read_calls: Vec<(String, Value)> = read_calls
            .into_iter()
            .map(|(name, arguments)| (name, serde_json::from_str(&arguments).unwrap_or(Value::String(arguments))))
            .collect();
        let calls: Vec<(String, Value)> =
            calls.into_iter().map(|(name, arguments)| (name, Value::Object(arguments))).collect();
        prop_assert_eq!(read_calls, calls, "{:?}: {}", format, answer);
    }
}
