//! JSON: whatever is allowed parses and satisfies the schema.

use crate::common::{Model, parse};
use lookahead_grammar::GrammarError;
use serde_json::{Value, json};

fn person() -> Value {
    json!({
        "type": "object",
        "properties": {
            "name": { "type": "string", "maxLength": 12 },
            "age": { "type": "integer", "minimum": 0, "maximum": 150 },
            "tags": { "type": "array", "items": { "enum": ["red", "blue", "größe"] }, "maxItems": 3 },
            "address": {
                "type": "object",
                "properties": { "city": { "type": "string", "maxLength": 8 }, "zip": { "pattern": "^[0-9]{5}$" , "type": "string" } },
                "required": ["city"],
                "additionalProperties": false
            },
            "married": { "type": "boolean" }
        },
        "required": ["name", "age", "tags"],
        "additionalProperties": false
    })
}

fn check_person(value: &Value) {
    let person = value.as_object().unwrap();
    assert!(person["name"].as_str().unwrap().chars().count() <= 12);
    assert!((0..=150).contains(&person["age"].as_i64().unwrap()));
    let tags = person["tags"].as_array().unwrap();
    assert!(
        tags.len() <= 3 && tags.iter().all(|tag| ["red", "blue", "größe"].contains(&tag.as_str().unwrap()))
    );
    if let Some(address) = person.get("address") {
        let address = address.as_object().unwrap();
        assert!(address["city"].as_str().unwrap().chars().count() <= 8);
        if let Some(zip) = address.get("zip") {
            assert!(
                zip.as_str().unwrap().len() == 5 && zip.as_str().unwrap().bytes().all(|b| b.is_ascii_digit())
            );
        }
        assert!(address.keys().all(|key| ["city", "zip"].contains(&key.as_str())));
    }
    assert!(person.get("married").is_none_or(Value::is_boolean));
    assert!(person.keys().all(|key| ["name", "age", "tags", "address", "married"].contains(&key.as_str())));
}

#[test]
fn random_answers_satisfy_the_schema() {
    for (name, model) in Model::all() {
        let mut constraint = model.grammars.json_schema(&person()).unwrap();
        let mut ended = 0;
        for seed in 0..60 {
            let Some(answer) = model.random_answer(&mut constraint, seed, 400) else { continue };
            let text = model.decode(&answer);
            check_person(&serde_json::from_str(&text).unwrap_or_else(|error| panic!("{text}: {error}")));
            ended += 1;
        }
        assert!(ended > 50, "{name}: only {ended} answers ended");
    }
}

#[test]
fn random_answers_of_json_object_are_objects() {
    for (name, model) in Model::all() {
        let mut constraint = model.grammars.json_object().unwrap();
        let mut ended = 0;
        for seed in 0..60 {
            let Some(answer) = model.random_answer(&mut constraint, seed, 300) else { continue };
            let text = model.decode(&answer);
            assert!(parse(&text).is_none_or(|value| value.is_object()), "{name}: {text}");
            ended += 1;
        }
        assert!(ended > 30, "{name}: only {ended} answers ended");
    }
}

#[test]
fn the_layout_is_that_of_python() {
    let model = Model::byte_level();
    let mut constraint = model.grammars.json_schema(&person()).unwrap();
    for (text, allowed) in [
        (r#"{"name": "Ann", "age": 7, "tags": ["red", "blue"]}"#, true),
        (r#"{"name": "Ann", "age": 7, "tags": []}"#, true),
        (r#"{"name":"Ann", "age": 7, "tags": []}"#, false),
        (r#"{"name": "Ann", "age": 7,  "tags": []}"#, false),
        ("{\n  \"name\": \"Ann\", \"age\": 7, \"tags\": []}", false),
        (r#" {"name": "Ann", "age": 7, "tags": []}"#, false),
        (r#"{"name": "Ann", "age": 7}"#, false),
        (r#"{"name": "Ann", "age": 151, "tags": []}"#, false),
        (r#"{"name": "Ann", "age": 7, "tags": ["green"]}"#, false),
    ] {
        assert_eq!(model.allows(&mut constraint, text), allowed, "{text}");
    }
}

#[test]
fn a_clients_layout_is_not_taken_over() {
    let model = Model::byte_level();
    let schema = json!({ "type": "array", "items": { "type": "null" }, "x-guidance": { "whitespace_flexible": true } });
    let mut constraint = model.grammars.json_schema(&schema).unwrap();
    assert!(model.allows(&mut constraint, "[null, null]"));
    assert!(!model.allows(&mut constraint, "[null,\n\n\n\n null]"));
}

#[test]
fn schemas_may_refer_to_themselves_and_be_booleans() {
    let model = Model::byte_level();
    let schema = json!({
        "$defs": {
            "node": {
                "type": "object",
                "properties": { "left": { "$ref": "#/$defs/node" } },
                "additionalProperties": false
            }
        },
        "$ref": "#/$defs/node"
    });
    let mut tree = model.grammars.json_schema(&schema).unwrap();
    assert!(model.allows(&mut tree, r#"{"left": {"left": {}}}"#));
    assert!(!model.allows(&mut tree, r#"{"left": {"left": 1}}"#));

    let mut anything = model.grammars.json_schema(&json!(true)).unwrap();
    assert!(model.allows(&mut anything, r#"[1, {"a": null}]"#));
}

#[test]
fn schemas_that_cannot_be_kept_are_errors() {
    let model = Model::byte_level();
    for (schema, message) in [
        (json!(7), "object or a boolean"),
        (json!(false), "nsatisfiable"),
        (json!({ "type": "object", "properties": { "a": false }, "required": ["a"] }), "nsatisfiable"),
        (json!({ "type": "integer", "minimum": 3, "maximum": 2 }), "nsatisfiable"),
        (
            json!({ "type": "integer", "maximum": 1e19 }),
            "maximum: 1e+19 cannot be enforced; numbers from -9007199254740991",
        ),
        (
            json!({ "type": "integer", "minimum": i64::MIN }),
            "minimum: -9223372036854775808 cannot be enforced",
        ),
        (
            json!({ "items": { "type": "number", "exclusiveMinimum": u64::MAX } }),
            "exclusiveMinimum: 18446744073709551615",
        ),
        (
            json!({ "type": "number", "multipleOf": 3e-10 }),
            "multipleOf: 3e-10 cannot be enforced; numbers of at most 8",
        ),
        (
            json!({ "allOf": [{ "multipleOf": 3001 }, { "multipleOf": 3011 }, { "multipleOf": 3019 }] }),
            "multipleOf",
        ),
        (json!({ "type": "strin" }), "strin"),
        (json!({ "type": "array", "uniqueItems": true }), "uniqueItems at /"),
        (
            json!({ "properties": { "a": { "items": [{ "propertyNames": {} }] } } }),
            "propertyNames at /properties/a/items/0 cannot be enforced",
        ),
        (json!({ "$ref": "#/$defs/missing" }), "missing"),
        (json!({ "$ref": "https://example.com/schema" }), "example.com"),
        (json!({ "type": "string", "pattern": "(" }), "("),
        (json!({ "oneOf": [{ "type": "integer" }, { "type": "number" }] }), "oneOf"),
    ] {
        match model.grammars.json_schema(&schema) {
            Err(GrammarError::Schema(problem)) => {
                assert!(
                    problem.contains(message) && !problem.contains("<non-verbose"),
                    "{schema}: {problem}"
                );
            }
            Err(other) => panic!("{schema}: {other}"),
            Ok(_) => panic!("{schema} is accepted"),
        }
    }
}

#[test]
fn bounds_are_held_to_the_last_one_that_is_supported() {
    let model = Model::byte_level();
    let largest = 9_007_199_254_740_991_i64;
    for (schema, holding, failing) in [
        (json!({ "type": "integer", "maximum": largest }), "9007199254740991", "9007199254740992"),
        (json!({ "type": "integer", "minimum": -largest }), "-9007199254740991", "-9007199254740992"),
        (json!({ "type": "integer", "exclusiveMinimum": largest }), "9007199254740992", "9007199254740991"),
        (
            json!({ "type": "integer", "exclusiveMaximum": -largest }),
            "-9007199254740992",
            "-9007199254740991",
        ),
        (json!({ "type": "number", "minimum": largest }), "9007199254740991", "9007199254740990"),
        (json!({ "type": "number", "maximum": largest }), "9007199254740991", "9007199254740992"),
        (json!({ "type": "number", "maximum": 1e-20 }), "0.00000000000000000001", "0.00000000000000000002"),
        (json!({ "type": "number", "multipleOf": 3e-8 }), "0.00000009", "0.00000010"),
        (
            json!({ "type": "integer", "allOf": [{ "multipleOf": 91 }, { "multipleOf": 101 }] }),
            "9191",
            "9190",
        ),
    ] {
        let follower =
            || model.grammars.json_schema(&schema).unwrap_or_else(|error| panic!("{schema}: {error}"));
        assert!(model.allows(&mut follower(), holding), "{schema}: {holding}");
        assert!(!model.allows(&mut follower(), failing), "{schema}: {failing}");
    }
}

#[test]
fn schemas_that_are_too_large_are_errors() {
    let model = Model::byte_level();
    let schema = json!({ "enum": ["a".repeat(300_000)] });
    assert!(matches!(model.grammars.json_schema(&schema), Err(GrammarError::TooLong { .. })));
    // A few bytes, much work.
    let patterns: Vec<Value> = (0..60).map(|i| json!({ "pattern": format!("a.{{{i}}}b") })).collect();
    for schema in [
        json!({ "type": "integer", "multipleOf": 999_983 }),
        json!({ "type": "string", "allOf": patterns }),
        json!({ "type": "string", "pattern": "^(.*a.{18}|(.*b.{18}){9})$", "allOf": [{ "pattern": "^(.*b.{18})$" }] }),
    ] {
        assert!(matches!(model.grammars.json_schema(&schema), Err(GrammarError::Schema(_))), "{schema}");
    }
}
