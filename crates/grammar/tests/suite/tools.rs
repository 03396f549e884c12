//! Calls of tools, in every choice and syntax.

use crate::common::{CONTROL, Model, USER_DEFINED, accepted, allowed, forced, parse};
use lookahead_grammar::{Constraint, Follower, GrammarError, ToolChoice, ToolConstraint, ToolSpec};
use lookahead_model::{ToolCallParser, ToolDelta, ToolFormat, ToolSignatures};
use serde_json::json;

const CHOICES: [ToolChoice; 4] =
    [ToolChoice::Auto, ToolChoice::AtMostOne, ToolChoice::Required, ToolChoice::One];

fn tools() -> Vec<ToolSpec> {
    let parameters = json!({
        "type": "object",
        "properties": {
            "city": { "type": "string", "maxLength": 10 },
            "unit": { "enum": ["celsius", "fahrenheit"] }
        },
        "required": ["city"],
        "additionalProperties": false
    });
    vec![
        ToolSpec { name: "get_weather".to_owned(), parameters: Some(parameters), strict: false },
        ToolSpec { name: "get \"time\"".to_owned(), parameters: None, strict: false },
    ]
}

const WEATHER: &str =
    "<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Paris\"}}\n</tool_call>";
const TIME: &str =
    "<tool_call>\n{\"name\": \"get \\\"time\\\"\", \"arguments\": {\"a\": [1, 2]}}\n</tool_call>";

fn constraint(model: &Model, format: ToolFormat, choice: ToolChoice) -> Follower {
    model.grammars.tools(&tools(), format, choice).unwrap().follower
}

/// The tags as text, as one token of text, and as control tokens.
fn models() -> Vec<(&'static str, Model)> {
    let mut models = Model::all();
    for (name, kind) in [("user-defined tags", USER_DEFINED), ("control tags", CONTROL)] {
        models.push((name, Model::with_tokens(&[("<tool_call>", kind), ("</tool_call>", kind)], false)));
    }
    models
}

#[test]
fn beside_calls_an_answer_may_have_to_be_json() {
    let schema = json!({
        "type": "object", "properties": { "n": { "type": "integer" } }, "required": ["n"], "additionalProperties": false,
    });
    for (name, model) in models() {
        for (text, allowed) in [
            // Auto, AtMostOne, Required, One
            (WEATHER.to_owned(), [true; 4]),
            (format!("{WEATHER}\n{TIME}"), [true, false, true, false]),
            ("{\"n\": 7}".to_owned(), [true, true, false, false]),
            ("{\"m\": 7}".to_owned(), [false; 4]),
            ("It is 7.".to_owned(), [false; 4]),
            (format!("Let me see.\n{WEATHER}"), [false; 4]),
            (String::new(), [false; 4]),
        ] {
            for (choice, allowed) in CHOICES.into_iter().zip(allowed) {
                let asked = model.grammars.tools_or_json(&tools(), ToolFormat::Hermes, choice, Some(&schema));
                let mut asked = asked.unwrap().follower;
                assert_eq!(model.allows(&mut asked, &text), allowed, "{name}, {choice:?}: {text}");
            }
        }
    }
    let (_, model) = &models()[0];
    let wrong = json!({ "type": "array", "uniqueItems": true });
    let refused = model.grammars.tools_or_json(&tools(), ToolFormat::Hermes, ToolChoice::Auto, Some(&wrong));
    assert!(
        matches!(refused.err().unwrap(), GrammarError::Schema(problem) if problem.contains("uniqueItems"))
    );
}

#[test]
fn hermes_calls_are_allowed_as_chosen() {
    for (name, model) in models() {
        for (text, allowed) in [
            // Auto, AtMostOne, Required, One
            (WEATHER.to_owned(), [true, true, true, true]),
            (TIME.to_owned(), [true, true, true, true]),
            (format!("{WEATHER}\n"), [true, false, true, false]),
            (format!("{WEATHER}\n{TIME}\n{WEATHER}"), [true, false, true, false]),
            (format!("Let me see…\n\n{WEATHER}"), [true, true, false, false]),
            (format!("a < b, <tool>\n{WEATHER}\n{TIME}\n"), [true, false, false, false]),
            ("The weather is fine. \"<tool_ca".to_owned(), [true, true, false, false]),
            (String::new(), [true, true, false, false]),
            (format!("{WEATHER} That was it."), [false; 4]),
            (WEATHER.replace("get_weather", "get_news"), [false; 4]),
            (WEATHER.replace("city", "town"), [false; 4]),
            (WEATHER.replace("}}", "}"), [false; 4]),
            (format!("Yes. {}", WEATHER.replace("Paris", "Castrop-Rauxel")), [false; 4]),
        ] {
            let asked = CHOICES
                .map(|choice| model.allows(&mut constraint(&model, ToolFormat::Hermes, choice), &text));
            assert_eq!(asked, allowed, "{name}: {text:?}");
        }
    }
}

#[test]
fn llama_calls_are_allowed_as_chosen() {
    let model = Model::byte_level();
    let call = r#"{"name": "get_weather", "parameters": {"city": "Paris", "unit": "celsius"}}"#;
    for (text, allowed) in [
        (call.to_owned(), [true, true, true, true]),
        (format!("\n{}", call.replacen('{', "{\n  ", 1)), [true, true, false, false]),
        (format!("{call}\n{call}"), [false; 4]),
        ("It is warm: {\"name\"}".to_owned(), [true, true, false, false]),
        ("{\"a\": 1}".to_owned(), [true, true, false, false]),
        (String::new(), [true, true, false, false]),
        ("{\"name\": \"Bob\"}".to_owned(), [false; 4]),
        (call.replace("celsius", "kelvin"), [false; 4]),
    ] {
        let asked = CHOICES
            .map(|choice| model.allows(&mut constraint(&model, ToolFormat::Llama3Json, choice), &text));
        assert_eq!(asked, allowed, "{text:?}");
    }
}

/// A call of each format with text before it, and what two calls look like where there may be two.
const WRITTEN: &[(ToolFormat, &str, &str)] = &[
    (
        ToolFormat::Hermes,
        "<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Paris\"}}\n</tool_call>",
        "<tool_call>\n{\"name\": \"now\", \"arguments\": {}}\n</tool_call>\n<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Paris\", \"days\": 3}}\n</tool_call>",
    ),
    (
        ToolFormat::Llama3Json,
        "{\"name\": \"get_weather\", \"parameters\": {\"city\": \"Paris\"}}",
        "{\"name\": \"now\", \"parameters\": {}}; {\"name\": \"get_weather\", \"parameters\": {\"city\": \"Paris\"}}",
    ),
    (
        ToolFormat::Pythonic,
        "[get_weather(city='Paris', days=3, unit=\"celsius\", options={\"a\": true})]",
        "[now(), get_weather(city=\"Paris\", loud=True)]",
    ),
    (
        ToolFormat::Lfm2,
        "<|tool_call_start|>[get_weather(city='Paris')]<|tool_call_end|>",
        "<|tool_call_start|>[now(), get_weather(city=\"Paris\", days=3)]<|tool_call_end|>",
    ),
    (
        ToolFormat::Qwen3Coder,
        "<tool_call>\n<function=get_weather>\n<parameter=city>\nParis \"<x>\"\n</parameter>\n<parameter=days>\n3\n</parameter>\n<parameter=unit>\ncelsius\n</parameter>\n<parameter=options>\n{\"a\": [1]}\n</parameter>\n<parameter=loud>\ntrue\n</parameter>\n</function>\n</tool_call>",
        "<tool_call>\n<function=now>\n</function>\n</tool_call>\n<tool_call>\n<function=get_weather>\n<parameter=city>\nParis\n</parameter>\n</function>\n</tool_call>",
    ),
    (
        ToolFormat::Seed,
        "<seed:tool_call>\n<function=get_weather>\n<parameter=city>Paris</parameter>\n<parameter=days>3</parameter>\n</function>\n</seed:tool_call>",
        "<seed:tool_call>\n<function=now>\n</function>\n</seed:tool_call>\n<seed:tool_call>\n<function=get_weather>\n<parameter=city>Paris</parameter>\n</function>\n</seed:tool_call>",
    ),
    (
        ToolFormat::MiniMax,
        "<minimax:tool_call>\n<invoke name=\"get_weather\">\n<parameter name=\"city\">Paris</parameter>\n<parameter name=\"days\">3</parameter>\n</invoke>\n</minimax:tool_call>",
        "<minimax:tool_call>\n<invoke name=\"now\">\n</invoke>\n<invoke name=\"get_weather\">\n<parameter name=\"city\">Paris</parameter>\n</invoke>\n</minimax:tool_call>",
    ),
    (
        ToolFormat::ToolCallsLines,
        "<tool_calls>\n{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Paris\"}}\n</tool_calls>",
        "<tool_calls>\n{\"name\": \"now\", \"arguments\": {}}\n{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Paris\"}}\n</tool_calls>",
    ),
    (
        ToolFormat::DeepSeekV32,
        "<｜DSML｜function_calls>\n<｜DSML｜invoke name=\"get_weather\">\n<｜DSML｜parameter name=\"city\" string=\"true\">Paris</｜DSML｜parameter>\n<｜DSML｜parameter name=\"days\" string=\"false\">3</｜DSML｜parameter>\n</｜DSML｜invoke>\n</｜DSML｜function_calls>",
        "<｜DSML｜function_calls>\n<｜DSML｜invoke name=\"now\">\n</｜DSML｜invoke>\n<｜DSML｜invoke name=\"get_weather\">\n<｜DSML｜parameter name=\"city\" string=\"true\">Paris</｜DSML｜parameter>\n</｜DSML｜invoke>\n</｜DSML｜function_calls>",
    ),
    (
        ToolFormat::DeepSeekV4,
        "<｜DSML｜tool_calls>\n<｜DSML｜invoke name=\"get_weather\">\n<｜DSML｜parameter name=\"city\" string=\"true\">Paris</｜DSML｜parameter>\n</｜DSML｜invoke>\n</｜DSML｜tool_calls>",
        "<｜DSML｜tool_calls>\n<｜DSML｜invoke name=\"now\">\n</｜DSML｜invoke>\n<｜DSML｜invoke name=\"get_weather\">\n<｜DSML｜parameter name=\"city\" string=\"true\">Paris</｜DSML｜parameter>\n</｜DSML｜invoke>\n</｜DSML｜tool_calls>",
    ),
    (
        ToolFormat::Glm,
        "<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>Paris</arg_value>\n<arg_key>days</arg_key>\n<arg_value>3</arg_value>\n</tool_call>",
        "<tool_call>now\n</tool_call>\n<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>Paris</arg_value>\n</tool_call>",
    ),
    (
        ToolFormat::GlmCompact,
        "<tool_call>get_weather<arg_key>city</arg_key><arg_value>Paris</arg_value><arg_key>days</arg_key><arg_value>3</arg_value></tool_call>",
        "<tool_call>now</tool_call><tool_call>get_weather<arg_key>city</arg_key><arg_value>Paris</arg_value></tool_call>",
    ),
    (
        ToolFormat::Mistral,
        "[TOOL_CALLS][{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Paris\"}}]",
        "[TOOL_CALLS][{\"name\": \"now\", \"arguments\": {}, \"id\": \"123456789\"}, {\"name\": \"get_weather\", \"arguments\": {\"city\": \"Paris\"}, \"id\": \"1\"}]",
    ),
    (
        ToolFormat::MistralArgs,
        "[TOOL_CALLS]get_weather[ARGS]{\"city\": \"Paris\"}",
        "[TOOL_CALLS]now[ARGS]{}[TOOL_CALLS]get_weather[ARGS]{\"city\": \"Paris\"}",
    ),
    (
        ToolFormat::DeepSeekR1,
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n```json\n{\"city\": \"Paris\"}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>now\n```json\n{}\n```<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n```json\n{\"city\": \"Paris\"}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
    ),
    (
        ToolFormat::DeepSeekV31,
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>{\"city\": \"Paris\"}<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>now<｜tool▁sep｜>{}<｜tool▁call▁end｜><｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>{\"city\": \"Paris\"}<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
    ),
    (
        ToolFormat::KimiK2,
        "<|tool_calls_section_begin|><|tool_call_begin|>functions.get_weather:0<|tool_call_argument_begin|>{\"city\": \"Paris\"}<|tool_call_end|><|tool_calls_section_end|>",
        "<|tool_calls_section_begin|><|tool_call_begin|>functions.now:0<|tool_call_argument_begin|>{}<|tool_call_end|><|tool_call_begin|>functions.get_weather:1<|tool_call_argument_begin|>{\"city\": \"Paris\"}<|tool_call_end|><|tool_calls_section_end|>",
    ),
    (
        ToolFormat::Harmony,
        "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant to=functions.get_weather<|channel|>commentary json<|message|>{\"city\": \"Paris\"}",
        "",
    ),
    (
        ToolFormat::Granite,
        "<|tool_call|>[{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Paris\"}}]",
        "<|tool_call|>[{\"name\": \"now\", \"arguments\": {}}, {\"name\": \"get_weather\", \"arguments\": {\"city\": \"Paris\"}}]",
    ),
    (
        ToolFormat::CommandR,
        "<|START_ACTION|>[\n    {\"tool_call_id\": \"0\", \"tool_name\": \"get_weather\", \"parameters\": {\"city\": \"Paris\"}}\n]<|END_ACTION|>",
        "<|START_ACTION|>[\n    {\"tool_call_id\": \"0\", \"tool_name\": \"now\", \"parameters\": {}},\n    {\"tool_call_id\": \"1\", \"tool_name\": \"get_weather\", \"parameters\": {\"city\": \"Paris\"}}\n]<|END_ACTION|>",
    ),
    (
        ToolFormat::Nemotron,
        "<TOOLCALL>[{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Paris\"}}]</TOOLCALL>",
        "<TOOLCALL>[{\"name\": \"now\", \"arguments\": {}}, {\"name\": \"get_weather\", \"arguments\": {\"city\": \"Paris\"}}]</TOOLCALL>",
    ),
    (
        ToolFormat::ToolCallsList,
        "<tool_calls>[{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Paris\"}}]</tool_calls>",
        "<tool_calls>[{\"name\": \"now\", \"arguments\": {}}, {\"name\": \"get_weather\", \"arguments\": {\"city\": \"Paris\"}}]</tool_calls>",
    ),
    (
        ToolFormat::Hunyuan,
        "<tool_calls:opensource>\n<tool_call:opensource>get_weather<tool_sep:opensource>\n<arg_key:opensource>city</arg_key:opensource>\n<arg_value:opensource>Paris</arg_value:opensource>\n</tool_call:opensource>\n</tool_calls:opensource>",
        "<tool_calls:opensource>\n<tool_call:opensource>now<tool_sep:opensource>\n</tool_call:opensource>\n<tool_call:opensource>get_weather<tool_sep:opensource>\n<arg_key:opensource>city</arg_key:opensource>\n<arg_value:opensource>Paris</arg_value:opensource>\n</tool_call:opensource>\n</tool_calls:opensource>",
    ),
    (
        ToolFormat::GigaChat,
        "<|function_call|>{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Paris\"}}",
        "<|function_call|>{\"name\": \"now\", \"arguments\": {}}<|function_call|>{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Paris\"}}",
    ),
    (
        ToolFormat::Functionary,
        "<function=get_weather>{\"city\": \"Paris\"}</function>",
        "<function=now>{}</function><function=get_weather>{\"city\": \"Paris\"}</function>",
    ),
    (
        ToolFormat::Gemma4,
        "<|tool_call>call:get_weather{city:<|\"|>Paris \"x\"<|\"|>,days:3,unit:<|\"|>celsius<|\"|>,options:{a:[1,<|\"|>x<|\"|>],b:true}}<tool_call|>",
        "<|tool_call>call:now{}<tool_call|><|tool_call>call:get_weather{city:<|\"|>Paris<|\"|>}<tool_call|>",
    ),
    (
        ToolFormat::MiniMaxM3,
        "]<]minimax[>[<tool_call>\n]<]minimax[>[<invoke name=\"get_weather\">]<]minimax[>[<city>Paris \"<x>\"]<]minimax[>[</city>]<]minimax[>[<days>3]<]minimax[>[</days>]<]minimax[>[<unit>celsius]<]minimax[>[</unit>]<]minimax[>[<options>]<]minimax[>[<a>]<]minimax[>[<item>1]<]minimax[>[</item>]<]minimax[>[</a>]<]minimax[>[</options>]<]minimax[>[<loud>true]<]minimax[>[</loud>]<]minimax[>[</invoke>\n]<]minimax[>[</tool_call>",
        "]<]minimax[>[<tool_call>\n]<]minimax[>[<invoke name=\"now\">]<]minimax[>[</invoke>\n]<]minimax[>[<invoke name=\"get_weather\">]<]minimax[>[<city>Paris]<]minimax[>[</city>]<]minimax[>[</invoke>\n]<]minimax[>[</tool_call>",
    ),
    (
        ToolFormat::Solar,
        "<|think|>Hm.<|end|><|begin|>assistant<|tool_calls|><|tool_call:begin|>a1b2c3d4e5<|tool_call:name|>get_weather<|tool_call:args|>{\"city\": \"Paris\"}<|tool_call:end|>",
        "<|tool_calls|><|tool_call:begin|>a1b2c3d4e5<|tool_call:name|>now<|tool_call:args|>{}<|tool_call:end|><|tool_call:begin|>0000000000<|tool_call:name|>get_weather<|tool_call:args|>{\"city\": \"Paris\"}<|tool_call:end|>",
    ),
    (
        ToolFormat::Apertus,
        "<|tools_prefix|>[{\"get_weather\": {\"city\": \"Paris\"}}]<|tools_suffix|>",
        "<|tools_prefix|>[{\"now\": {}}, {\"get_weather\": {\"city\": \"Paris\"}}]<|tools_suffix|>",
    ),
    (
        ToolFormat::FunctionaryV32,
        "get_weather\n{\"city\": \"Paris\"}",
        "now\n{}>>>get_weather\n{\"city\": \"Paris\"}",
    ),
    (
        ToolFormat::MiniCpm,
        "<function name=\"get_weather\"><param name=\"city\"><![CDATA[Paris \"<x>\"]]></param><param name=\"days\">3</param><param name=\"unit\">celsius</param><param name=\"options\">{\"a\": [1]}</param><param name=\"loud\">True</param></function>",
        "<function name=\"now\"></function>\n<function name=\"get_weather\"><param name=\"city\">Paris</param></function>",
    ),
    (
        ToolFormat::KimiK3,
        "Hm.<|close|>think<|sep|><|open|>response<|sep|><|close|>response<|sep|><|open|>tools<|sep|><|open|>call tool=\"get_weather\" index=\"1\"<|sep|><|open|>argument key=\"city\" type=\"string\"<|sep|>Paris \"<x>\"<|close|>argument<|sep|><|open|>argument key=\"days\" type=\"number\"<|sep|>3<|close|>argument<|sep|><|close|>call<|sep|><|close|>tools<|sep|><|close|>message<|sep|>",
        "<|close|>think<|sep|><|open|>response<|sep|><|close|>response<|sep|><|open|>tools<|sep|><|open|>call tool=\"now\" index=\"1\"<|sep|><|close|>call<|sep|><|open|>call tool=\"get_weather\" index=\"2\"<|sep|><|open|>argument key=\"city\" type=\"string\"<|sep|>Paris<|close|>argument<|sep|><|close|>call<|sep|><|close|>tools<|sep|>",
    ),
    (
        ToolFormat::GigaChatV3,
        "<|message_sep|>\n\nfunction call<|role_sep|>\n{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Paris\"}}<|message_sep|>\n\n",
        "<|message_sep|>\n\nfunction call<|role_sep|>\n{\"name\": \"now\", \"arguments\": {}}<|message_sep|>\n\nfunction call<|role_sep|>\n{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Paris\"}}",
    ),
];

/// A text before what calls begin with.
fn said(format: ToolFormat, calls: &str) -> String {
    match format {
        ToolFormat::Solar => {
            calls.replace("<|tool_calls|>", "<|content|>Let me see.<|end|><|begin|>assistant<|tool_calls|>")
        }
        ToolFormat::FunctionaryV32 => format!("all\nLet me see.>>>{calls}"),
        ToolFormat::KimiK3 => {
            calls.replace("response<|sep|><|close|>", "response<|sep|>Let me see.<|close|>")
        }
        _ => format!("Let me see.{calls}"),
    }
}

/// What a text that is an answer begins with.
fn text_open(format: ToolFormat) -> &'static str {
    match format {
        ToolFormat::Solar => "<|content|>",
        ToolFormat::FunctionaryV32 => "all\n",
        _ => "",
    }
}

/// What the prompt of a format ends with, as far as it begins an answer.
fn prompt_end(format: ToolFormat) -> &'static str {
    match format {
        ToolFormat::FunctionaryV32 => ">>>",
        ToolFormat::KimiK3 => "<|open|>think<|sep|>",
        _ => "",
    }
}

fn two_tools() -> Vec<ToolSpec> {
    let parameters = json!({
        "type": "object",
        "properties": {
            "city": { "type": "string" },
            "days": { "type": "integer" },
            "unit": { "enum": ["celsius", "fahrenheit"] },
            "options": { "$ref": "#/$defs/options" },
            "loud": { "type": "boolean" }
        },
        "required": ["city"],
        "additionalProperties": false,
        "$defs": { "options": { "type": "object" } }
    });
    let nothing = json!({ "type": "object", "properties": {}, "additionalProperties": false });
    [("get_weather", parameters), ("now", nothing)]
        .map(|(name, parameters)| ToolSpec {
            name: name.to_owned(),
            parameters: Some(parameters),
            strict: true,
        })
        .into()
}

/// Models in which the markup of a format is text, and in which it is control tokens.
fn models_of(format: ToolFormat) -> [Model; 2] {
    let tokens: Vec<(&str, i32)> = format.shown_tokens().iter().map(|token| (*token, CONTROL)).collect();
    [Model::byte_level(), Model::with_tokens(&tokens, false)]
}

#[test]
fn calls_are_allowed_as_every_format_writes_them() {
    assert_eq!(WRITTEN.len(), ToolFormat::ALL.len());
    for &(format, one, two) in WRITTEN {
        let is_bare = format.syntax().is_some_and(|syntax| !syntax.is_anywhere);
        for model in models_of(format) {
            for (text, allowed) in [
                // Auto, AtMostOne, Required, One
                (one.to_owned(), [true, true, true, true]),
                (two.to_owned(), [true, two.is_empty(), !two.is_empty(), false]),
                (one.replace("get_weather", "get_news"), [false; 4]),
                (one.replace("city", "town"), [false; 4]),
                (said(format, one), [true, true, false, false]),
                (
                    format!("{}It is fine, a < b >>> c [and] {{so}}.", text_open(format)),
                    [true, true, false, false],
                ),
            ] {
                if format == ToolFormat::Harmony && !text.starts_with("<|channel|>") {
                    continue;
                }
                if is_bare && text.starts_with('[') && text.contains("get_news") {
                    // A list of calls of other functions is a text.
                    continue;
                }
                for (choice, allowed) in CHOICES.into_iter().zip(allowed) {
                    let mut asked = model.grammars.tools(&two_tools(), format, choice).unwrap().follower;
                    assert_eq!(model.allows(&mut asked, &text), allowed, "{format:?}, {choice:?}: {text:?}");
                }
            }
        }
    }
}

#[test]
fn the_channels_of_an_answer_are_allowed() {
    for model in models_of(ToolFormat::Harmony) {
        for (text, allowed) in [
            ("<|channel|>final<|message|>Hi.", [true, true, false, false]),
            (
                "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>Hi.",
                [true, true, false, false],
            ),
            (
                "<|channel|>commentary<|message|>So.<|end|><|start|>assistant to=functions.now<|channel|>commentary json<|message|>{}",
                [true, true, false, false],
            ),
            (
                "<|channel|>commentary to=functions.now <|constrain|>json<|message|>{}",
                [true, true, true, true],
            ),
            ("<|channel|>commentary to=functions.then <|constrain|>json<|message|>{}", [false; 4]),
        ] {
            for (choice, allowed) in CHOICES.into_iter().zip(allowed) {
                let mut asked =
                    model.grammars.tools(&two_tools(), ToolFormat::Harmony, choice).unwrap().follower;
                assert_eq!(model.allows(&mut asked, text), allowed, "{choice:?}: {text:?}");
            }
        }
    }
}

#[test]
fn a_form_holds_in_the_final_channel_behind_thinking() {
    let tokens: Vec<(&str, i32)> =
        ToolFormat::Harmony.shown_tokens().iter().map(|token| (*token, CONTROL)).collect();
    let model = Model::with_tokens(&tokens, false);
    let constraint =
        || model.grammars.in_final_channel(Box::new(model.grammars.regex("yes|no").unwrap())).unwrap();
    let thought = "<|channel|>analysis<|message|>final? yes, or no.<|end|><|start|>assistant";
    let said = "<|channel|>commentary<|message|>I see.<|end|><|start|>assistant";
    let head = "<|channel|>final<|message|>";
    for (text, is_allowed) in [
        (format!("{head}yes"), true),
        (format!("{thought}{head}no"), true),
        (format!("{thought}{thought}{head}no"), true),
        (format!("{thought}{said}{head}no"), false),
        (format!("{thought}{head}maybe"), false),
        (format!("{thought}{head}"), false),
        (thought.to_owned(), false),
        (format!("{thought}yes"), false),
        ("yes".to_owned(), false),
        (format!("{head}yes<|end|>"), false),
    ] {
        let mut constraint = constraint();
        assert_eq!(model.allows(constraint.as_mut(), &text), is_allowed, "{text}");
        // A scout must say what the constraint does, or drafts are lost.
        let Some(path) = model.spelling(constraint.as_mut(), text.as_bytes()) else { continue };
        let mut scout = constraint.scout();
        for begun in 0..path.len() {
            assert_eq!(
                accepted(scout.as_mut(), &path[..begun], &path[begun..]),
                path.len() - begun,
                "{text}"
            );
            for (place, token) in forced(scout.as_mut(), &path[..begun]).into_iter().enumerate() {
                if let Some(other) = path.get(begun + place).filter(|other| **other != token) {
                    panic!("{text}: {token} is forced in place of {other}");
                }
            }
        }
    }
    let mut scout = constraint().scout();
    let answer = model.spelling(&mut model.grammars.regex("yes").unwrap(), b"yes").unwrap();
    assert_eq!(accepted(scout.as_mut(), &[], &answer), 0);
    // Marks that are text tell nothing in time.
    let plain = Model::byte_level();
    let mut at_once =
        plain.grammars.in_final_channel(Box::new(plain.grammars.regex("yes|no").unwrap())).unwrap();
    assert!(plain.allows(at_once.as_mut(), "yes"));
}

#[test]
fn parameters_that_are_no_object_are_refused_where_a_call_may_be_asked_for() {
    let model = Model::byte_level();
    for (parameters, problem) in [
        (json!({ "type": "string" }), "parameters.type is \"string\""),
        (json!({ "type": ["array", "null"] }), "parameters.type is [\"array\",\"null\"]"),
        (json!("object"), "parameters is \"object\""),
        (json!([]), "parameters is []"),
        (json!(false), "parameters is false"),
    ] {
        let asked = |choice, strict| {
            let tool = ToolSpec { name: "f".to_owned(), parameters: Some(parameters.clone()), strict };
            model.grammars.tools(&[tool], ToolFormat::Hermes, choice)
        };
        for (choice, strict) in
            [(ToolChoice::Required, false), (ToolChoice::One, false), (ToolChoice::Auto, true)]
        {
            let refused = asked(choice, strict).err().unwrap().to_string();
            assert!(refused.starts_with(&format!("tool \"f\": {problem}")), "{refused}");
        }
        let ToolConstraint { mut follower, warnings, check } = asked(ToolChoice::Auto, false).unwrap();
        assert_eq!(
            warnings,
            ["tool \"f\": a schema of its parameters that is none of an object is not enforced"]
        );
        assert!(check.is_empty());
        let call = |arguments: &str| {
            format!("<tool_call>\n{{\"name\": \"f\", \"arguments\": {arguments}}}\n</tool_call>")
        };
        assert!(model.allows(&mut follower, &call("{\"a\": 1}")));
        assert!(!model.allows(&mut follower, &call("\"a\"")), "arguments are an object");
    }
    for parameters in
        [json!(null), json!(true), json!({ "type": null }), json!({ "type": ["object", "null"] })]
    {
        let tool = ToolSpec { name: "f".to_owned(), parameters: Some(parameters), strict: false };
        let mut asked = model.grammars.tools(&[tool], ToolFormat::Hermes, ToolChoice::One).unwrap().follower;
        let call = "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": 1}}\n</tool_call>";
        assert!(model.allows(&mut asked, call));
        assert!(!model.allows(&mut asked, &call.replace("{\"a\": 1}", "null")));
    }
}

#[test]
fn bounds_that_no_grammar_holds_are_checked_once_a_call_is_there() {
    let model = Model::byte_level();
    let parameters =
        json!({ "type": "object", "properties": { "id": { "type": "integer", "maximum": u64::MAX - 1 } } });
    let asked = |strict| {
        let tool = ToolSpec { name: "f".to_owned(), parameters: Some(parameters.clone()), strict };
        model.grammars.tools(&[tool], ToolFormat::Hermes, ToolChoice::Required)
    };
    let ToolConstraint { mut follower, warnings, check } = asked(false).unwrap();
    assert_eq!(warnings, ["tool \"f\": maximum at /properties/id is not enforced"]);
    assert!(!check.is_empty());
    let call =
        format!("<tool_call>\n{{\"name\": \"f\", \"arguments\": {{\"id\": {}}}}}\n</tool_call>", u64::MAX);
    assert!(model.allows(&mut follower, &call));
    let refused = asked(true).err().unwrap().to_string();
    assert!(refused.starts_with("tool \"f\": maximum: 18446744073709551614 cannot be enforced"), "{refused}");
}

#[test]
fn answers_in_messages_and_values_in_tags_follow_their_format() {
    let kimi_call = "<|open|>tools<|sep|><|open|>call tool=\"now\" index=\"1\"<|sep|><|close|>call<|sep|><|close|>tools<|sep|>";
    let kimi_thought = "Hm.<|close|>think<|sep|><|open|>response<|sep|>";
    let minimax_call = |city: &str| {
        format!(
            "~<tool_call>\n~<invoke name=\"get_weather\">~<city>{city}~</city>~<days>3~</days>~</invoke>\n~</tool_call>"
        )
        .replace('~', "]<]minimax[>[")
    };
    let minicpm_call =
        |city: &str| format!("<function name=\"get_weather\"><param name=\"city\">{city}</param></function>");
    let free = [true, true, false, false];
    for (format, text, allowed) in [
        (ToolFormat::Solar, "<|content|>Hi.<|end|>".to_owned(), free),
        (ToolFormat::Solar, "<|think|>Hm.<|end|><|begin|>assistant<|content|>Hi.".to_owned(), free),
        (ToolFormat::Solar, "Hi.".to_owned(), [false; 4]),
        (
            ToolFormat::KimiK3,
            format!("{kimi_thought}Hi.<|close|>response<|sep|><|close|>message<|sep|>"),
            free,
        ),
        (ToolFormat::KimiK3, format!("{kimi_thought}Hi.<|close|>response<|sep|>{kimi_call}"), free),
        // Where the prompt has left thinking out.
        (ToolFormat::KimiK3, format!("Hi.<|close|>response<|sep|>{kimi_call}"), free),
        (ToolFormat::KimiK3, format!("<|close|>response<|sep|>{kimi_call}"), [true; 4]),
        (
            ToolFormat::KimiK3,
            format!("<|close|>response<|sep|>{}", kimi_call.replace("now", "then")),
            [false; 4],
        ),
        (ToolFormat::GigaChatV3, "Hi.<|message_sep|>\n\n".to_owned(), free),
        (ToolFormat::FunctionaryV32, "all\n>>> print(1)\n>>>then\n{}".to_owned(), free),
        (ToolFormat::FunctionaryV32, "all\nHi.>>>get_weather\n{}".to_owned(), [false; 4]),
        (ToolFormat::FunctionaryV32, "Hi.".to_owned(), [false; 4]),
        (ToolFormat::MiniCpm, minicpm_call("Paris & Rome"), [false; 4]),
        (ToolFormat::MiniCpm, minicpm_call("<![CDATA[Paris & Rome]]>"), [true; 4]),
        (ToolFormat::MiniMaxM3, minimax_call("Paris <x>"), [true; 4]),
        (ToolFormat::MiniMaxM3, minimax_call("Paris").replace('3', "x"), [false; 4]),
        (ToolFormat::MiniMaxM3, minimax_call("Paris").replace("days", "months"), [false; 4]),
    ] {
        // What ends thinking and what ends a text begin alike: Kimi K3's marks are told apart as tokens.
        let models = models_of(format).into_iter().skip(usize::from(format == ToolFormat::KimiK3));
        for model in models {
            for (choice, allowed) in CHOICES.into_iter().zip(allowed) {
                let mut asked = model.grammars.tools(&two_tools(), format, choice).unwrap().follower;
                assert_eq!(model.allows(&mut asked, &text), allowed, "{format:?}, {choice:?}: {text:?}");
            }
        }
    }
    let schema = json!({
        "type": "object", "properties": { "n": { "type": "integer" } }, "required": ["n"], "additionalProperties": false,
    });
    for (format, text, allowed) in [
        (ToolFormat::Solar, "<|content|>{\"n\": 7}<|end|>".to_owned(), true),
        (ToolFormat::Solar, "<|content|>It is 7.<|end|>".to_owned(), false),
        (ToolFormat::KimiK3, format!("{kimi_thought}{{\"n\": 7}}<|close|>response<|sep|>"), true),
        (ToolFormat::KimiK3, format!("{kimi_thought}<|close|>response<|sep|>{kimi_call}"), true),
        (ToolFormat::KimiK3, format!("<|close|>response<|sep|>{kimi_call}"), true),
        (ToolFormat::FunctionaryV32, "now\n{}".to_owned(), true),
    ] {
        for model in models_of(format).into_iter().skip(usize::from(format == ToolFormat::KimiK3)) {
            let asked = model.grammars.tools_or_json(&two_tools(), format, ToolChoice::Auto, Some(&schema));
            let mut asked = asked.unwrap().follower;
            assert_eq!(model.allows(&mut asked, &text), allowed, "{format:?}: {text:?}");
        }
    }
}

#[test]
fn tags_that_nest_follow_their_schemas() {
    let parameters = json!({
        "type": "object",
        "properties": {
            "tags": { "type": "array", "items": { "type": "string" } },
            "tree": { "$ref": "#/$defs/tree" },
            "maybe": { "anyOf": [{ "type": "integer" }, { "type": "null" }] },
            "mixed": { "type": ["string", "null"] },
            "any": {}
        },
        "additionalProperties": false,
        "$defs": { "tree": {
            "type": "object",
            "properties": { "size": { "type": "number" }, "below": { "type": "array", "items": { "$ref": "#/$defs/tree" } } },
            "required": ["size"],
            "additionalProperties": false
        } }
    });
    let tools = [ToolSpec { name: "f".to_owned(), parameters: Some(parameters), strict: true }];
    for (arguments, allowed) in [
        ("~<tags>~<item>a~</item>~<item>~</item>~</tags>", true),
        ("~<tags>~</tags>", true),
        ("~<tags>a~</tags>", false),
        ("~<tags>~<tag>a~</tag>~</tags>", false),
        ("~<tree>~<size>1~</size>~<below>~<item>~<size>2.5~</size>~</item>~</below>~</tree>", true),
        ("~<tree>~<below>~</below>~</tree>", false),
        ("~<tree>~<size>x~</size>~</tree>", false),
        ("~<maybe>null~</maybe>~<mixed>3 < 4~</mixed>", true),
        ("~<maybe>many~</maybe>", false),
        ("~<any>text~</any>", true),
        ("~<any>~<a>1~</a>~<item>~<b>~</b>~</item>~</any>", true),
    ] {
        let text = format!("~<tool_call>\n~<invoke name=\"f\">{arguments}~</invoke>\n~</tool_call>");
        let text = text.replace('~', "]<]minimax[>[");
        for model in models_of(ToolFormat::MiniMaxM3) {
            let asked = model.grammars.tools(&tools, ToolFormat::MiniMaxM3, ToolChoice::One);
            assert_eq!(model.allows(&mut asked.unwrap().follower, &text), allowed, "{arguments}");
        }
    }
}

/// Written out as a tree, this schema would have ten to the eighth places.
#[test]
fn schemas_that_refer_to_themselves_are_written_once_for_each_depth() {
    let fields: serde_json::Map<_, _> =
        (0..10).map(|field| (format!("f{field}"), json!({ "$ref": "#/$defs/tree" }))).collect();
    let either: Vec<_> = (0..10).map(|_| json!({ "$ref": "#/$defs/either" })).collect();
    let parameters = json!({
        "type": "object",
        "properties": { "tree": { "$ref": "#/$defs/tree" }, "either": { "$ref": "#/$defs/either" } },
        "$defs": { "tree": { "type": "object", "properties": fields }, "either": { "anyOf": either } }
    });
    let model = Model::byte_level();
    let tools = [ToolSpec { name: "f".to_owned(), parameters: Some(parameters), strict: true }];
    let begun = std::time::Instant::now();
    // Whether it is taken or refused as too large, it is soon.
    let _ = model.grammars.tools(&tools, ToolFormat::MiniMaxM3, ToolChoice::One);
    assert!(begun.elapsed() < std::time::Duration::from_secs(20), "{:?}", begun.elapsed());
}

#[test]
fn random_calls_of_every_format_are_found_by_its_parser() {
    let tools = two_tools();
    let signatures =
        || ToolSignatures::new(tools.iter().map(|tool| (tool.name.as_str(), tool.parameters.as_ref())));
    for &format in ToolFormat::ALL {
        let mut ended = 0;
        for model in models_of(format) {
            for seed in 0..8 {
                let mut asked = model.grammars.tools(&tools, format, ToolChoice::Required).unwrap().follower;
                let Some(answer) = model.random_answer(&mut asked, seed, 300) else { continue };
                let text = model.decode(&answer);
                let mut parser = ToolCallParser::new(format, signatures()).behind(prompt_end(format));
                let mut deltas = parser.push(&text);
                deltas.extend(parser.finish());
                let (mut name, mut arguments) = (None, String::new());
                for delta in deltas.into_iter().chain([ToolDelta::Call { name: String::new() }]) {
                    match delta {
                        ToolDelta::Call { name: next } => {
                            if let Some(name) = name.replace(next) {
                                check_two_tools(&name, &std::mem::take(&mut arguments), &text);
                            }
                        }
                        ToolDelta::Arguments(more) => arguments += &more,
                        ToolDelta::Reasoning(_) if format.has_channels() => {}
                        other => panic!("{format:?}: {other:?} in {text:?}"),
                    }
                }
                ended += 1;
            }
        }
        assert!(ended > 0, "{format:?}: no answer ended");
    }
}

fn check_two_tools(name: &str, arguments: &str, text: &str) {
    let Some(arguments) = parse(arguments) else { return };
    let arguments = arguments.as_object().unwrap();
    if name == "now" {
        assert!(arguments.is_empty(), "{text}");
        return;
    }
    assert_eq!(name, "get_weather", "{text}");
    assert!(arguments["city"].is_string(), "{text}");
    for (key, value) in arguments {
        let is_right = match key.as_str() {
            "city" => value.is_string(),
            "days" => value.is_number(),
            "unit" => value == "celsius" || value == "fahrenheit",
            "options" => value.is_object(),
            "loud" => value.is_boolean(),
            _ => false,
        };
        assert!(is_right, "{key} in {text}");
    }
}

#[test]
fn what_cannot_be_enforced_is_left_out_unless_a_tool_is_strict() {
    let model = Model::byte_level();
    let parameters = json!({
        "type": "object",
        "required": null,
        "properties": {
            "tags": { "type": "array", "items": { "type": "string", "format": "color" }, "uniqueItems": true },
            "count": { "oneOf": [{ "type": "integer" }, { "type": "number" }] },
            "map": { "type": "object", "propertyNames": { "pattern": "^(?!x)" } }
        }
    });
    let tool = |strict| ToolSpec { name: "f".to_owned(), parameters: Some(parameters.clone()), strict };
    let asked = model.grammars.tools(&[tool(false)], ToolFormat::Hermes, ToolChoice::Auto).unwrap();
    assert_eq!(
        asked.warnings,
        [
            "tool \"f\": uniqueItems at /properties/tags is not enforced",
            "tool \"f\": propertyNames at /properties/map is not enforced",
            "tool \"f\": that only one alternative fits, oneOf at /properties/count, is not enforced",
        ]
    );
    let mut follower = asked.follower;
    for (arguments, allowed) in [
        (r#"{"tags": ["a", "a"], "count": 1, "map": {"x": 1}}"#, true),
        (r#"{"tags": [1]}"#, false),
        (r#"{"count": "1"}"#, false),
    ] {
        let call = format!("<tool_call>\n{{\"name\": \"f\", \"arguments\": {arguments}}}\n</tool_call>");
        assert_eq!(model.allows(&mut follower, &call), allowed, "{call}");
    }
    // What was left out is checked when a call is complete.
    let found = |arguments: &str| -> Vec<String> {
        let check = model.grammars.tools(&[tool(false)], ToolFormat::Hermes, ToolChoice::Auto).unwrap().check;
        let calls = [("f", arguments), ("g", "{}"), ("f", arguments), ("f", "{\"tags\": [")];
        check.findings(calls).iter().map(ToString::to_string).collect()
    };
    assert!(found(r#"{"tags": ["a", "b"], "count": 1.5, "map": {"y": 1}}"#).is_empty());
    assert_eq!(
        found(r#"{"tags": ["a", "a"], "count": 1, "map": {"x": 1}}"#),
        [
            "call of \"f\": uniqueItems at /properties/tags does not hold",
            "call of \"f\": oneOf at /properties/count does not hold",
            "call of \"f\": propertyNames at /properties/map does not hold",
        ]
    );
    let refused = model.grammars.tools(&[tool(true)], ToolFormat::Hermes, ToolChoice::Auto).err().unwrap();
    assert!(refused.to_string().contains("uniqueItems at /properties/tags"), "{refused}");
}

#[test]
fn strings_without_quotes_are_checked_where_their_grammar_leaves_them_free() {
    let model = Model::byte_level();
    let parameters = json!({ "properties": { "a": { "type": "string", "pattern": "^x", "maxLength": 2 } } });
    let tool = ToolSpec { name: "f".to_owned(), parameters: Some(parameters), strict: true };
    for (format, expected) in [(ToolFormat::Hermes, 0), (ToolFormat::Qwen3Coder, 2), (ToolFormat::Gemma4, 2)]
    {
        let tools = std::slice::from_ref(&tool);
        let check = model.grammars.tools(tools, format, ToolChoice::Auto).unwrap().check;
        assert_eq!(check.is_empty(), expected == 0, "{format:?}");
        assert_eq!(check.findings([("f", r#"{"a": "yyy"}"#)]).len(), expected, "{format:?}");
        assert!(check.findings([("f", r#"{"a": "xy"}"#)]).is_empty(), "{format:?}");
    }
}

#[test]
fn random_calls_parse() {
    for (name, model) in models() {
        for choice in [ToolChoice::Required, ToolChoice::One] {
            let mut hermes = constraint(&model, ToolFormat::Hermes, choice);
            let mut ended = 0;
            for seed in 0..20 {
                let Some(answer) = model.random_answer(&mut hermes, seed, 500) else { continue };
                let text = model.decode(&answer);
                let calls: Vec<&str> = text.trim_end_matches('\n').split("\n</tool_call>").collect();
                let (rest, calls) = calls.split_last().unwrap();
                assert!(rest.is_empty() && !calls.is_empty(), "{name}: {text}");
                assert!(choice == ToolChoice::Required || calls.len() == 1, "{name}: {text}");
                for call in calls {
                    check_call(
                        call.trim_start_matches('\n').strip_prefix("<tool_call>\n").unwrap(),
                        "arguments",
                    );
                }
                ended += 1;
            }
            assert!(ended > 10, "{name}: only {ended} answers ended");
        }
        let mut llama = constraint(&model, ToolFormat::Llama3Json, ToolChoice::One);
        for seed in 0..10 {
            let Some(answer) = model.random_answer(&mut llama, seed, 500) else { continue };
            check_call(&model.decode(&answer), "parameters");
        }
    }
}

fn check_call(text: &str, arguments: &str) {
    let Some(call) = parse(text) else { return };
    let call = call.as_object().unwrap();
    assert_eq!(call.keys().collect::<Vec<_>>(), ["name", arguments]);
    let arguments = call[arguments].as_object().unwrap();
    match call["name"].as_str().unwrap() {
        "get_weather" => {
            assert!(arguments["city"].as_str().unwrap().chars().count() <= 10);
            let unit = arguments.get("unit").map(|unit| unit.as_str().unwrap());
            assert!(unit.is_none_or(|unit| ["celsius", "fahrenheit"].contains(&unit)));
        }
        name => assert_eq!(name, "get \"time\""),
    }
}

#[test]
fn what_begins_a_call_is_forced_and_tags_are_one_token_where_they_are() {
    for (name, model) in models() {
        let mut asked =
            model.grammars.tools(&tools()[..1], ToolFormat::Hermes, ToolChoice::One).unwrap().follower;
        let forced = forced(&mut *asked.scout(), &[]);
        let text = model.decode(&forced);
        assert!(
            text.starts_with("<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"city"),
            "{name}: {text}"
        );
        if name.ends_with("tags") {
            assert_eq!(model.decode(&forced[..1]), "<tool_call>", "{name}");
        }
    }
}

#[test]
fn in_free_text_every_text_token_is_allowed() {
    for (name, model) in models() {
        let mut asked = constraint(&model, ToolFormat::Hermes, ToolChoice::Auto);
        let allowed = allowed(&mut asked, &[]);
        // All but control tokens that end nothing and, where they are text, closing tags are text as any other.
        let most = model.tokenizer.vocabulary_size();
        assert!(allowed.len() >= most - 140, "{name}: {} of {most}", allowed.len());
    }
}

#[test]
fn tools_that_cannot_be_called_are_errors() {
    let model = Model::byte_level();
    let refused = |tools: &[ToolSpec]| {
        model.grammars.tools(tools, ToolFormat::Hermes, ToolChoice::Required).err().unwrap()
    };
    assert!(matches!(refused(&[]), GrammarError::Tools(_)));
    for parameters in [
        json!({ "type": "object", "required": ["a"], "properties": { "a": false } }),
        json!("x"),
        json!({ "type": "string" , "pattern": "(" }),
    ] {
        let mut tools = tools();
        tools[1].parameters = Some(parameters);
        match refused(&tools) {
            GrammarError::Tool { name, .. } => assert_eq!(name, "get \"time\""),
            other => panic!("{other}"),
        }
    }
}
