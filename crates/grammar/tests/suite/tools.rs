//! Calls of tools, in every choice and syntax.

use crate::common::{CONTROL, Model, USER_DEFINED, allowed, forced, parse};
use lookahead_grammar::{Constraint, Follower, GrammarError, ToolChoice, ToolSpec};
use lookahead_model::ToolFormat;
use serde_json::json;

const CHOICES: [ToolChoice; 3] = [ToolChoice::Auto, ToolChoice::Required, ToolChoice::One];

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
        ToolSpec { name: "get_weather".to_owned(), parameters: Some(parameters) },
        ToolSpec { name: "get \"time\"".to_owned(), parameters: None },
    ]
}

const WEATHER: &str =
    "<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Paris\"}}\n</tool_call>";
const TIME: &str =
    "<tool_call>\n{\"name\": \"get \\\"time\\\"\", \"arguments\": {\"a\": [1, 2]}}\n</tool_call>";

fn constraint(model: &Model, format: ToolFormat, choice: ToolChoice) -> Follower {
    model.grammars.tools(&tools(), format, choice).unwrap()
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
fn hermes_calls_are_allowed_as_chosen() {
    for (name, model) in models() {
        for (text, allowed) in [
            // Auto, Required, One
            (WEATHER.to_owned(), [true, true, true]),
            (TIME.to_owned(), [true, true, true]),
            (format!("{WEATHER}\n"), [true, true, false]),
            (format!("{WEATHER}\n{TIME}\n{WEATHER}"), [true, true, false]),
            (format!("Let me see…\n\n{WEATHER}"), [true, false, false]),
            (format!("a < b, <tool>\n{WEATHER}\n{TIME}\n"), [true, false, false]),
            ("The weather is fine. \"<tool_ca".to_owned(), [true, false, false]),
            (String::new(), [true, false, false]),
            (format!("{WEATHER} That was it."), [false; 3]),
            (WEATHER.replace("get_weather", "get_news"), [false; 3]),
            (WEATHER.replace("city", "town"), [false; 3]),
            (WEATHER.replace("}}", "}"), [false; 3]),
            (format!("Yes. {}", WEATHER.replace("Paris", "Castrop-Rauxel")), [false; 3]),
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
        (call.to_owned(), [true, true, true]),
        (format!("\n{}", call.replacen('{', "{\n  ", 1)), [true, false, false]),
        (format!("{call}\n{call}"), [false; 3]),
        ("It is warm: {\"name\"}".to_owned(), [true, false, false]),
        ("{\"a\": 1}".to_owned(), [true, false, false]),
        (String::new(), [true, false, false]),
        ("{\"name\": \"Bob\"}".to_owned(), [false; 3]),
        (call.replace("celsius", "kelvin"), [false; 3]),
    ] {
        let asked = CHOICES
            .map(|choice| model.allows(&mut constraint(&model, ToolFormat::Llama3Json, choice), &text));
        assert_eq!(asked, allowed, "{text:?}");
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

            let mut llama = constraint(&model, ToolFormat::Llama3Json, choice);
            for seed in 0..10 {
                let Some(answer) = model.random_answer(&mut llama, seed, 500) else { continue };
                check_call(&model.decode(&answer), "parameters");
            }
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
        let mut asked = model.grammars.tools(&tools()[..1], ToolFormat::Hermes, ToolChoice::One).unwrap();
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
    let refused =
        |tools: &[ToolSpec]| model.grammars.tools(tools, ToolFormat::Hermes, ToolChoice::Auto).err().unwrap();
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
