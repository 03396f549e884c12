//! The tools that may be called, as far as a parser needs them.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::Value;

/// Deepest chain of references and alternatives that is followed for the type of a parameter.
const DEEPEST: usize = 8;
/// Most alternatives of a type that are looked at: with `$ref`s, work multiplies by them.
const MOST_ALTERNATIVES: usize = 4;

/// How a parameter's value is written where strings stand without quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Writing {
    /// As it is: the value is a string.
    Text,
    /// As JSON: the value is no string.
    Json,
    /// As either.
    Either,
}

/// The names and the schemas of the parameters of the tools that may be called; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct ToolSignatures(Arc<HashMap<String, Value>>);

impl ToolSignatures {
    /// Reads them from names and JSON schemas of parameters.
    pub fn new<'t>(tools: impl IntoIterator<Item = (&'t str, Option<&'t Value>)>) -> Self {
        let schema = |schema: Option<&Value>| schema.cloned().unwrap_or_default();
        Self(Arc::new(tools.into_iter().map(|(name, known)| (name.to_owned(), schema(known))).collect()))
    }

    /// Whether no tool is known, so that any name may be one.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn knows(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Whether `text` begins the name of a tool.
    pub(super) fn knows_beginning(&self, text: &str) -> bool {
        self.0.keys().any(|name| name.starts_with(text))
    }

    pub(super) fn writing(&self, tool: &str, parameter: &str) -> Writing {
        self.arguments(tool).field(parameter).writing()
    }

    /// The schema of a tool's arguments.
    pub(super) fn arguments(&self, tool: &str) -> SchemaPlace {
        SchemaPlace { tools: self.clone(), tool: tool.to_owned(), path: Some(String::new()) }
    }
}

/// A place in the schema of a tool's arguments, which may say nothing of what stands there.
#[derive(Clone, Debug)]
pub(super) struct SchemaPlace {
    tools: ToolSignatures,
    tool: String,
    /// Where in the schema it is, as a JSON pointer.
    path: Option<String>,
}

impl SchemaPlace {
    fn root(&self) -> &Value {
        self.tools.0.get(&self.tool).unwrap_or(&Value::Null)
    }

    fn schema(&self) -> Option<&Value> {
        self.root().pointer(self.path.as_deref()?)
    }

    /// How a value at this place is written.
    pub(super) fn writing(&self) -> Writing {
        self.schema().map_or(Writing::Either, |schema| writing(schema, self.root(), DEEPEST))
    }

    /// Whether an array is at this place, or an object, if either is.
    pub(super) fn is_array(&self) -> Option<bool> {
        let here = self.container()?;
        is_array(here.schema()?)
    }

    /// The place of a field of an object at this place.
    pub(super) fn field(&self, name: &str) -> Self {
        let name = name.replace('~', "~0").replace('/', "~1");
        self.below(&[format!("/properties/{name}"), "/additionalProperties".to_owned()])
    }

    /// The place of an item of an array at this place.
    pub(super) fn item(&self, index: usize) -> Self {
        self.below(&[format!("/prefixItems/{index}"), "/items".to_owned()])
    }

    /// The first of some places below this one that there are.
    fn below(&self, keys: &[String]) -> Self {
        let container = self.container();
        let found = container.as_ref().and_then(|container| {
            let (path, schema) = (container.path.as_deref()?, container.schema()?);
            let key = keys.iter().find(|key| schema.pointer(key).is_some())?;
            Some(format!("{path}{key}"))
        });
        Self { tools: self.tools.clone(), tool: self.tool.clone(), path: found }
    }

    /// The place that says of which kind an array or object here is: behind references, and of alternatives the first.
    fn container(&self) -> Option<Self> {
        let mut place = self.clone();
        for _ in 0..DEEPEST {
            let (path, schema) = (place.path.as_deref()?, place.schema()?);
            if is_array(schema).is_some() {
                return Some(place);
            }
            let target = schema.get("$ref").and_then(Value::as_str).and_then(|path| path.strip_prefix('#'));
            let alternative = || {
                let key = ["anyOf", "oneOf"].into_iter().find(|key| schema.get(key).is_some())?;
                let schemas = schema.get(key)?.as_array()?;
                let is_container =
                    |schema: &Value| is_array(schema).is_some() || schema.get("$ref").is_some();
                Some(format!("{path}/{key}/{}", schemas.iter().position(is_container)?))
            };
            let path = target.map(str::to_owned).or_else(alternative)?;
            place.path = Some(path);
        }
        None
    }
}

/// Whether a schema is of arrays, or of objects, if of either.
fn is_array(schema: &Value) -> Option<bool> {
    let has = |key: &str| schema.get(key).is_some();
    let kinds = match schema.get("type") {
        Some(Value::Array(kinds)) => kinds.iter().filter_map(Value::as_str).collect(),
        kind => Vec::from_iter(kind.and_then(Value::as_str)),
    };
    let is = |kind: &str| kinds.contains(&kind);
    match (is("array"), is("object")) {
        (true, false) => Some(true),
        (false, true) => Some(false),
        _ if has("items") || has("prefixItems") => Some(true),
        _ if has("properties") => Some(false),
        _ => None,
    }
}

/// How values of `schema` are written, which stands in `root`.
fn writing(schema: &Value, root: &Value, depth: usize) -> Writing {
    let is_string = |value: &Value| value.is_string();
    let joined = |writings: Vec<Writing>| {
        let first = writings.first().copied().unwrap_or(Writing::Either);
        if writings.iter().all(|writing| *writing == first) { first } else { Writing::Either }
    };
    let of_bool = |is_text| if is_text { Writing::Text } else { Writing::Json };
    if depth == 0 {
        return Writing::Either;
    }
    match schema.get("type") {
        Some(Value::String(name)) => return of_bool(name == "string"),
        Some(Value::Array(names)) if !names.is_empty() => {
            return joined(names.iter().map(|name| of_bool(name == "string")).collect());
        }
        _ => {}
    }
    if let Some(constant) = schema.get("const") {
        return of_bool(is_string(constant));
    }
    if let Some(values) = schema.get("enum").and_then(Value::as_array) {
        return joined(values.iter().map(|value| of_bool(is_string(value))).collect());
    }
    if let Some(path) = schema.get("$ref").and_then(Value::as_str).and_then(|path| path.strip_prefix('#')) {
        return root.pointer(path).map_or(Writing::Either, |schema| writing(schema, root, depth - 1));
    }
    for alternatives in ["anyOf", "oneOf"] {
        if let Some(schemas) = schema.get(alternatives).and_then(Value::as_array) {
            if schemas.len() > MOST_ALTERNATIVES {
                return Writing::Either;
            }
            return joined(schemas.iter().map(|schema| writing(schema, root, depth / 2)).collect());
        }
    }
    Writing::Either
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_writing_of_a_value_follows_its_schema() {
        let schema = json!({
            "properties": {
                "text": { "type": "string" },
                "count": { "type": "integer" },
                "maybe": { "type": ["string", "null"] },
                "unit": { "enum": ["a", "b"] },
                "mixed": { "enum": ["a", 1] },
                "one": { "const": 1 },
                "optional": { "anyOf": [{ "type": "integer" }, { "type": "null" }] },
                "referred": { "$ref": "#/$defs/text" },
                "endless": { "$ref": "#/properties/endless" },
                "any": {}
            },
            "$defs": { "text": { "type": "string" } }
        });
        let tools = ToolSignatures::new([("f", Some(&schema)), ("g", None)]);
        for (parameter, writing) in [
            ("text", Writing::Text),
            ("count", Writing::Json),
            ("maybe", Writing::Either),
            ("unit", Writing::Text),
            ("mixed", Writing::Either),
            ("one", Writing::Json),
            ("optional", Writing::Json),
            ("referred", Writing::Text),
            ("endless", Writing::Either),
            ("any", Writing::Either),
            ("unknown", Writing::Either),
        ] {
            assert_eq!(tools.writing("f", parameter), writing, "{parameter}");
        }
        assert!(tools.knows("g") && !tools.knows("h") && tools.knows_beginning("") && !tools.is_empty());
    }
}
