//! JSON schemas as llguidance takes them.

use serde_json::{Map, Number, Value, json};

/// Deepest nesting of a schema; that of what serde_json parses.
const DEEPEST: usize = 128;
/// Most patterns in a schema that also intersects. Each byte is tried in all intersected patterns at once, so that work
/// multiplies within one step, out of the reach of llguidance's limits.
const MOST_INTERSECTED_PATTERNS: usize = 4;
/// Most of what numbers are to be multiples of, in units of their last decimal: each unit is a state, and all are visited.
const MOST_REMAINDERS: f64 = 10_000.0;
/// Largest bound of a number. llguidance reads bounds as `f64`, adds 1 to those that are exclusive, and makes `i64` of them: of larger
/// integers it would hold others.
const LARGEST_BOUND: f64 = 9_007_199_254_740_991.0; // 2^53 - 1
/// Most decimals of what a number is to be a multiple of: with more, the remainders overflow that are counted in `u32`.
const MOST_DECIMALS: i32 = 8;

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
        remainders += cost.remainders();
    }
    if remainders.is_nan() || remainders > MOST_REMAINDERS {
        return Err(format!(
            "multipleOf: values of at most {MOST_REMAINDERS} together are supported, decimal points left aside"
        ));
    }
    Ok(())
}

/// Whether the numbers of a schema are held as they are written. Where a number may be a bound, it is taken for one, as a reference may
/// lead to any place.
pub(crate) fn check_numbers(schema: &Value) -> Result<(), String> {
    match schema {
        Value::Array(items) => items.iter().try_for_each(check_numbers),
        Value::Object(keywords) => keywords.iter().try_for_each(|(keyword, value)| {
            if is_held(keyword, value) {
                return check_numbers(value);
            }
            let supported = match keyword.as_str() {
                "multipleOf" => {
                    format!("numbers of at most {MOST_DECIMALS} decimals are supported, and not all of them")
                }
                _ => format!("numbers from -{LARGEST_BOUND} to {LARGEST_BOUND} are supported"),
            };
            Err(format!("{keyword}: {value} cannot be enforced; {supported}"))
        }),
        _ => Ok(()),
    }
}

/// Whether a grammar holds what a keyword says of numbers as it is written; others say nothing of them.
pub(crate) fn is_held(keyword: &str, value: &Value) -> bool {
    let Value::Number(number) = value else { return true };
    let Some(value) = number.as_f64() else { return false };
    match keyword {
        "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum" => value.abs() <= LARGEST_BOUND,
        "multipleOf" => {
            let (digits, decimals) = decimal(number);
            // So llguidance finds the digits: of some numbers, such as 0.07, it finds others.
            let mut found = value;
            while found.fract() != 0.0 {
                found *= 10.0;
            }
            decimals <= MOST_DECIMALS && found == digits
        }
        _ => true,
    }
}

#[derive(Default)]
struct Cost {
    patterns: usize,
    /// Whether one value may have to satisfy several subschemas.
    intersects: bool,
    /// What numbers are to be multiples of, as [`decimal`]s.
    divisors: Vec<(f64, i32)>,
    /// Whether one number may have to be a multiple of several of them.
    combines: bool,
}

impl Cost {
    /// States of all divisors, or of one that stands for those that are combined: their least common multiple, which fits into `u32`
    /// then, as do the products of which it is made.
    fn remainders(&self) -> f64 {
        let sum = self.divisors.iter().map(|(digits, _)| digits).sum();
        if !self.combines {
            return sum;
        }
        let finest = self.divisors.iter().map(|&(_, decimals)| decimals).max().unwrap_or(0);
        let mut multiple = 1.0_f64;
        for &(digits, decimals) in &self.divisors {
            let units = digits * 10_f64.powi(finest - decimals);
            if units > MOST_REMAINDERS || multiple > MOST_REMAINDERS {
                return f64::INFINITY;
            }
            if units > 0.0 {
                multiple *= units / common_divisor(multiple, units);
            }
        }
        multiple.max(sum)
    }

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
                self.divisors.extend(keywords.get("multipleOf").and_then(Value::as_number).map(decimal));
                self.combines |= applied > 0 || named.is_some();
                keywords.values().try_for_each(|value| self.add(value, depth + 1))
            }
            _ => Ok(()),
        }
    }
}

/// A number without its sign and its decimal point, and how many of its digits are decimals: 25 and 2 for 0.25.
fn decimal(number: &Number) -> (f64, i32) {
    let text = number.to_string();
    let (number, exponent) = text.split_once(['e', 'E']).unwrap_or((&text, "0"));
    let (whole, decimals) = number.split_once('.').unwrap_or((number, ""));
    let decimals = decimals.trim_end_matches('0');
    let digits: f64 = format!("{}{decimals}", whole.trim_start_matches('-')).parse().unwrap_or(f64::INFINITY);
    let exponent: i32 = exponent.parse().unwrap_or(i32::MAX);
    let decimals = (decimals.len() as i32).saturating_sub(exponent);
    (digits * 10_f64.powi(decimals.saturating_neg().max(0)), decimals.max(0))
}

/// Of two whole numbers above 0.
fn common_divisor(one: f64, other: f64) -> f64 {
    if other == 0.0 { one } else { common_divisor(other, one % other) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn multiples_are_counted_in_units_of_their_last_decimal() {
        for (divisor, count, decimals) in
            [(json!(7), 7.0, 0), (json!(0.25), 25.0, 2), (json!(1e3), 1000.0, 0), (json!(1.5e-7), 15.0, 8)]
        {
            assert_eq!(decimal(divisor.as_number().unwrap()), (count, decimals), "{divisor}");
        }
        assert!(check_cost([&json!({ "multipleOf": 1e300 })]).is_err());
    }

    #[test]
    fn multiples_that_are_combined_count_by_their_product() {
        let all_of = |divisors: &[f64]| {
            let divisors: Vec<_> = divisors.iter().map(|divisor| json!({ "multipleOf": divisor })).collect();
            json!({ "type": "number", "allOf": divisors })
        };
        for fine in [&[7.0, 11.0, 13.0][..], &[0.01, 0.25, 5.0], &[4000.0, 2000.0], &[0.0, 3.0], &[0.5]] {
            assert!(check_cost([&all_of(fine)]).is_ok(), "{fine:?}");
        }
        for costly in [&[101.0, 103.0][..], &[3001.0, 3011.0, 3019.0], &[0.001, 11.0], &[1e-7, 9998.0]] {
            assert!(check_cost([&all_of(costly)]).is_err(), "{costly:?}");
        }
        let beside = json!({ "multipleOf": 101, "anyOf": [{ "multipleOf": 103 }, { "type": "null" }] });
        assert!(check_cost([&beside]).is_err());
        let apart = json!({ "properties": { "a": { "multipleOf": 101 }, "b": { "multipleOf": 103 } } });
        assert!(check_cost([&apart]).is_ok());
    }

    #[test]
    fn numbers_are_held_as_they_are_written_or_refused() {
        let (safe, tiny) = (9_007_199_254_740_991_i64, 1e-300);
        for (keyword, held, not_held) in [
            (
                "minimum",
                vec![json!(0), json!(-0.5), json!(tiny), json!(-safe)],
                vec![json!(-1e19), json!(i64::MIN)],
            ),
            ("maximum", vec![json!(safe), json!(1e15), json!("x")], vec![json!(u64::MAX), json!(1e300)]),
            ("exclusiveMinimum", vec![json!(safe), json!(true)], vec![json!(safe + 1), json!(i64::MAX)]),
            ("exclusiveMaximum", vec![json!(tiny)], vec![json!(safe + 2), json!(-1e16)]),
            (
                "multipleOf",
                vec![json!(3), json!(0.01), json!(1e-8), json!(2.5), json!(1e3)],
                vec![json!(1e-9), json!(tiny), json!(0.07), json!(-3)],
            ),
            ("default", vec![json!(u64::MAX)], vec![]),
        ] {
            for (value, is_fine) in
                held.iter().map(|value| (value, true)).chain(not_held.iter().map(|value| (value, false)))
            {
                let checked = check_numbers(&json!({ "properties": { "n": { keyword: value } } }));
                assert_eq!(checked.is_ok(), is_fine, "{keyword}: {value}: {checked:?}");
            }
        }
        let problem = check_numbers(&json!({ "maximum": u64::MAX })).unwrap_err();
        assert_eq!(
            problem,
            "maximum: 18446744073709551615 cannot be enforced; \
             numbers from -9007199254740991 to 9007199254740991 are supported"
        );
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
