use serde_json::json;

use super::*;

/// What does not hold, and with a question mark what could not be checked.
fn found(schema: &Value, value: &Value) -> Vec<String> {
    let mark = |finding: &Finding| if finding.is_certain { "" } else { "?" };
    let found = findings(schema, value, &mut Work::default()).unwrap();
    found.iter().map(|one| format!("{} {}{}", one.keyword, one.place, mark(one))).collect()
}

#[test]
fn each_keyword_says_what_it_says() {
    let two = json!({ "a": 1, "b": "x" });
    for (schema, holding, failing) in [
        (json!({ "type": "integer" }), json!(1.0), json!(1.5)),
        (json!({ "type": ["string", "null"] }), json!(null), json!(1)),
        (json!({ "const": { "a": [1, 2] } }), json!({ "a": [1.0, 2] }), json!({ "a": [2, 1] })),
        (json!({ "enum": [1, "x"] }), json!("x"), json!("y")),
        (json!({ "minimum": 1, "exclusiveMaximum": 3 }), json!(1), json!(3)),
        (json!({ "multipleOf": 0.1 }), json!(0.7), json!(0.75)),
        (json!({ "multipleOf": 3 }), json!(9), json!(10)),
        (json!({ "multipleOf": 2 }), json!(u64::MAX - 1), json!(u64::MAX)),
        (json!({ "maximum": u64::MAX - 1 }), json!(u64::MAX - 1), json!(u64::MAX)),
        (json!({ "exclusiveMinimum": 1e19 }), json!(u64::MAX), json!(i64::MAX)),
        (json!({ "minLength": 2, "maxLength": 2 }), json!("é🙂"), json!("é")),
        (json!({ "pattern": "^(?!\\.)[a-z.]+$" }), json!("a.b"), json!(".b")),
        (json!({ "pattern": "b+" }), json!("abb"), json!("a")),
        (json!({ "uniqueItems": true }), json!([1, "1", [1], { "a": 1, "b": 2 }]), json!([1, 1.0])),
        (json!({ "uniqueItems": true }), json!([]), json!([{ "a": 1, "b": 2 }, { "b": 2, "a": 1 }])),
        (json!({ "minItems": 1, "maxItems": 2 }), json!([1]), json!([1, 2, 3])),
        (json!({ "contains": { "type": "string" } }), json!([1, "x"]), json!([1])),
        (json!({ "contains": true, "minContains": 2, "maxContains": 3 }), json!([1, 2]), json!([1])),
        (json!({ "contains": true, "maxContains": 1 }), json!([1]), json!([1, 2])),
        (json!({ "prefixItems": [{ "type": "string" }], "items": false }), json!(["x"]), json!(["x", 1])),
        (json!({ "items": [{}], "additionalItems": { "type": "string" } }), json!([1, "x"]), json!([1, 2])),
        (
            json!({ "prefixItems": [true], "contains": { "const": 7 }, "unevaluatedItems": false }),
            json!([1, 7]),
            json!([1, 7, 2]),
        ),
        (json!({ "required": ["a"] }), two.clone(), json!({ "b": 1 })),
        (json!({ "maxProperties": 1 }), json!({ "a": 1 }), two.clone()),
        (json!({ "propertyNames": { "maxLength": 1 } }), two.clone(), json!({ "aa": 1 })),
        (json!({ "patternProperties": { "^a": { "type": "integer" } } }), two.clone(), json!({ "ab": "x" })),
        (
            json!({ "properties": { "a": true }, "patternProperties": { "^b": true }, "additionalProperties": false }),
            two.clone(),
            json!({ "a": 1, "c": 1 }),
        ),
        (json!({ "dependentRequired": { "a": ["b"] } }), two.clone(), json!({ "a": 1 })),
        (json!({ "dependentSchemas": { "a": { "required": ["b"] } } }), two.clone(), json!({ "a": 1 })),
        (
            json!({ "dependencies": { "a": ["b"], "b": { "maxProperties": 2 } } }),
            two.clone(),
            json!({ "a": 1 }),
        ),
        (json!({ "allOf": [{ "required": ["a"] }, { "required": ["b"] }] }), two.clone(), json!({ "a": 1 })),
        (json!({ "anyOf": [{ "type": "string" }, { "minimum": 3 }] }), json!(3), json!(2)),
        (json!({ "oneOf": [{ "type": "integer" }, { "minimum": 3 }] }), json!(2), json!(3)),
        (json!({ "not": { "required": ["a"] } }), json!({ "b": 1 }), two.clone()),
        (
            json!({ "if": { "required": ["a"] }, "then": { "required": ["b"] }, "else": { "maxProperties": 0 } }),
            json!({}),
            json!({ "c": 1 }),
        ),
        (
            json!({ "if": { "required": ["a"] }, "then": { "required": ["b"] } }),
            two.clone(),
            json!({ "a": 1 }),
        ),
        (
            json!({ "allOf": [{ "properties": { "a": true } }], "anyOf": [{ "properties": { "b": { "type": "string" } } }, { "properties": { "c": false } }],
                "unevaluatedProperties": false }),
            two.clone(),
            json!({ "a": 1, "d": 1 }),
        ),
    ] {
        assert_ne!(found(&schema, &failing), Vec::<String>::new(), "{schema}: {failing}");
        assert_eq!(found(&schema, &holding), Vec::<String>::new(), "{schema}: {holding}");
    }
    let tree =
        json!({ "$ref": "#/$defs/list", "$defs": { "list": { "type": "array", "items": { "$ref": "#" } } } });
    assert_eq!(found(&tree, &json!([[], [[1]]])), ["type /$defs/list"]);
}

#[test]
fn what_does_not_hold_is_named_with_its_place_once() {
    let schema = json!({
        "type": "object",
        "properties": {
            "rows": { "items": { "properties": { "tags": { "uniqueItems": true } }, "not": { "required": ["x"] } } },
            "mail": { "$ref": "#/$defs/mail" }
        },
        "$defs": { "mail": { "pattern": "^(?=.*@)" } }
    });
    let row = json!({ "tags": [1, 1], "x": 1 });
    let value = json!({ "rows": [row, row], "mail": "nobody" });
    let expected = [
        "not /properties/rows/items",
        "uniqueItems /properties/rows/items/properties/tags",
        "pattern /$defs/mail",
    ];
    assert_eq!(found(&schema, &value), expected);
}

#[test]
fn what_cannot_be_checked_is_said_and_taken_for_neither() {
    let far = json!({ "$ref": "https://example.com/a" });
    for (schema, expected) in [
        (far.clone(), "$ref /?"),
        (json!({ "not": far }), "not /?"),
        (json!({ "anyOf": [far, { "type": "null" }] }), "anyOf /?"),
        (json!({ "oneOf": [far, true] }), "oneOf /?"),
        (json!({ "if": far, "then": false }), "if /?"),
        (json!({ "pattern": "(" }), "pattern /?"),
        (json!({ "pattern": "(a|aa)+(?=c)\\1" }), "pattern /?"),
        (json!({ "pattern": "(?:[a-z]{1000}){1000}" }), "pattern /?"),
        (json!({ "$dynamicRef": "#x" }), "$dynamicRef /?"),
    ] {
        assert_eq!(found(&schema, &json!("a".repeat(60))), [expected], "{schema}");
    }
    assert_eq!(found(&json!({ "anyOf": [far, true] }), &json!(1)), Vec::<String>::new());
    // Nothing is said of a keyword that is not there.
    assert_eq!(found(&json!({ "contains": far }), &json!([1])), ["contains /?"]);
    assert_eq!(
        found(&json!({ "contains": far, "maxContains": 0 }), &json!([1])),
        ["contains /?", "maxContains /?"]
    );
}

/// Without a count of work, these take years, or the stack.
#[test]
fn hostile_schemas_and_values_are_given_up() {
    let doubled: Map<String, Value> = (0..60)
        .map(|at| {
            let next = json!({ "$ref": format!("#/$defs/{}", at + 1) });
            (at.to_string(), json!({ "allOf": [next, next] }))
        })
        .chain([("60".to_owned(), json!(true))])
        .collect();
    let long: Vec<Value> = (0..400).map(Value::from).collect();
    let patterns: Map<String, Value> = (0..200).map(|at| (format!("(?=a){at}"), json!(true))).collect();
    for (schema, value) in [
        (json!({ "$ref": "#" }), json!(1)),
        (json!({ "not": { "$ref": "#" } }), json!(1)),
        (json!({ "$ref": "#/$defs/0", "$defs": doubled }), json!(1)),
        (json!({ "items": { "enum": long } }), json!(long)),
        (json!({ "patternProperties": patterns }), json!({ "a": 1 })),
        (json!({ "pattern": "^(?:(?=a*b|a)a)*c" }), json!("a".repeat(4096))),
        (json!({ "items": { "pattern": "^(?:(?=a*b|a)a)*c" } }), json!(vec!["a".repeat(500); 30])),
        (json!({ "items": { "pattern": "^(?>a*)b" } }), json!(vec!["a".repeat(500); 30])),
    ] {
        assert_eq!(findings(&schema, &value, &mut Work::default()), Err(TooCostly), "{schema}");
    }
}
