//! JSON schemas as llguidance takes them.

use serde_json::{Map, Value, json};

/// Deepest nesting of a schema; that of what serde_json parses.
const DEEPEST: usize = 128;
/// Most patterns in a schema that also intersects. Each byte is tried in all intersected patterns at once, so that work
/// multiplies within one step, out of the reach of llguidance's limits.
const MOST_INTERSECTED_PATTERNS: usize = 4;
/// Most of what numbers are to be multiples of, in units of their last decimal: each unit is a state, and all are visited.
const MOST_REMAINDERS: f64 = 10_000.0;

/// Any JSON object.
pub(crate) fn any_object() -> Value {
    json!({ "type": "object" })
}

/// `schema` with the layout of the JSON: one space behind commas and colons, none elsewhere, as Python's `json.dumps`
/// writes it and chat templates show it. Small models that may choose their whitespace loop in it, and with one layout
/// all that lies between two values is forced, so it costs no guess and few tokens.
///
/// None for what is no schema.
pub(crate) fn laid_out(schema: Value) -> Option<Value> {
    let mut schema = match schema {
        Value::Object(schema) => schema,
        Value::Bool(_) => Map::from_iter([("allOf".to_owned(), json!([schema]))]),
        _ => return None,
    };
    let layout = json!({ "item_separator": ", ", "key_separator": ": ", "whitespace_flexible": false });
    schema.insert("x-guidance".to_owned(), layout);
    Some(Value::Object(schema))
}

/// Whether the schemas of one grammar are small enough to be compiled. llguidance counts work, too, but not all of it.
pub(crate) fn check_cost<'a>(schemas: impl IntoIterator<Item = &'a Value>) -> Result<(), String> {
    let mut remainders = 0.0;
    for schema in schemas {
        let mut cost = Cost::default();
        cost.add(schema, 0)?;
        if cost.intersects && cost.patterns > MOST_INTERSECTED_PATTERNS {
            return Err(format!(
                "{} patterns in a schema that combines some (allOf, or what stands beside $ref, anyOf and oneOf); \
                 at most {MOST_INTERSECTED_PATTERNS} are supported",
                cost.patterns
            ));
        }
        remainders += cost.remainders;
    }
    if remainders.is_nan() || remainders > MOST_REMAINDERS {
        return Err(format!(
            "multipleOf: values of at most {MOST_REMAINDERS} together are supported, decimal points left aside"
        ));
    }
    Ok(())
}

#[derive(Default)]
struct Cost {
    patterns: usize,
    /// Whether one value may have to satisfy several subschemas.
    intersects: bool,
    remainders: f64,
}

impl Cost {
    fn add(&mut self, schema: &Value, depth: usize) -> Result<(), String> {
        if depth > DEEPEST {
            return Err(format!("it is nested deeper than {DEEPEST} levels"));
        }
        match schema {
            Value::Array(items) => items.iter().try_for_each(|item| self.add(item, depth + 1)),
            Value::Object(keywords) => {
                // A keyword is known by the form of its value: a property of its name has a schema there, an object or a boolean.
                // Where names stand is no help, as a reference may lead to any place.
                let of_form = |key: &str, is_form: fn(&Value) -> bool| keywords.get(key).is_some_and(is_form);
                let is_schema = |value: &&Value| value.is_object() || value.is_boolean();
                let named = keywords.get("patternProperties").and_then(Value::as_object);
                let patterns = usize::from(of_form("pattern", Value::is_string))
                    + named.map_or(0, |named| named.values().filter(is_schema).count());
                let applied = ["allOf", "anyOf", "oneOf"]
                    .into_iter()
                    .filter(|key| of_form(key, Value::is_array))
                    .count()
                    + usize::from(of_form("$ref", Value::is_string));
                let all_of = keywords.get("allOf").and_then(Value::as_array).map_or(0, Vec::len);
                self.patterns += patterns;
                self.intersects |= all_of > 1 || applied + usize::from(patterns > 0) > 1;
                let divisor = keywords.get("multipleOf").filter(|divisor| divisor.is_number());
                self.remainders += divisor.map_or(0.0, remainders);
                keywords.values().try_for_each(|value| self.add(value, depth + 1))
            }
            _ => Ok(()),
        }
    }
}

/// A number without its decimal point: 25 for 0.25.
fn remainders(divisor: &Value) -> f64 {
    let text = divisor.to_string();
    let (number, exponent) = text.split_once(['e', 'E']).unwrap_or((&text, "0"));
    let digits: f64 = number.replace(['.', '-'], "").parse().unwrap_or(0.0);
    let exponent: i32 = exponent.parse().unwrap_or(i32::MAX);
    digits * 10_f64.powi(exponent.max(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn multiples_are_counted_in_units_of_their_last_decimal() {
        for (divisor, count) in
            [(json!(7), 7.0), (json!(0.25), 25.0), (json!(1e3), 10_000.0), (json!(1e-7), 1.0)]
        {
            assert_eq!(remainders(&divisor), count, "{divisor}");
        }
        assert!(remainders(&json!(1e300)) > MOST_REMAINDERS);
    }

    #[test]
    fn a_property_that_is_called_as_a_keyword_hides_none() {
        let costly = json!({ "type": "integer", "multipleOf": 1_500_007 });
        for other in [json!({ "type": "string" }), json!(true), json!("e"), json!([1])] {
            let schema = json!({ "properties": { "x": costly, "multipleOf": other } });
            assert!(check_cost([&schema]).is_err(), "{schema}");
            assert!(check_cost([&json!({ "default": { "multipleOf": other } }), &costly]).is_err());
        }
        assert!(check_cost([&json!({ "properties": { "multipleOf": { "type": "string" } } })]).is_ok());
    }

    #[test]
    fn patterns_count_where_they_may_meet() {
        let many = |schema: Value| json!({ "properties": (0..5).map(|i| (i.to_string(), schema.clone())).collect::<Map<_, _>>() });
        assert!(check_cost([&many(json!({ "pattern": "a" }))]).is_ok());
        assert!(check_cost([&many(json!({ "pattern": "a", "$ref": "#" }))]).is_err());
        assert!(check_cost([&many(json!({ "allOf": [{ "pattern": "a" }] }))]).is_ok());
        assert!(check_cost([&many(json!({ "allOf": [{ "pattern": "a" }, true] }))]).is_err());
    }

    #[test]
    fn a_property_that_is_called_as_a_keyword_is_none() {
        let named = |name: &str| {
            let tool = json!({ "type": "object", "properties": { name: { "type": "string", "$ref": "#/$defs/a" } } });
            json!({ "$defs": { "a": true, name: true }, "allOf": [{ "pattern": "a" }, true],
                "properties": (0..9).map(|i| (i.to_string(), tool.clone())).collect::<Map<_, _>>() })
        };
        for name in ["pattern", "patternProperties", "allOf", "anyOf", "oneOf", "$ref", "multipleOf"] {
            assert!(check_cost([&named(name)]).is_ok(), "{name}");
        }
        let mut deep = json!({ "type": "string", "pattern": "a" });
        for _ in 0..3 {
            deep = json!({ "properties": { "pattern": deep.clone(), "$ref": deep.clone(), "x": deep } });
        }
        let schema = json!({ "allOf": [deep, true] });
        assert!(check_cost([&schema]).unwrap_err().starts_with("27 patterns"), "those that are there count");
    }

    #[test]
    fn deep_schemas_are_refused() {
        let deep = (0..200).fold(json!(true), |schema, _| json!({ "items": schema }));
        assert!(check_cost([&deep]).is_err());
    }
}
