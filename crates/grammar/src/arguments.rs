//! Arguments of calls that are not written in JSON, as grammars.

use std::collections::HashMap;
use std::ptr;

use lookahead_model::tool_calls::syntax::{NestedSyntax, TagSyntax};
use serde_json::{Map, Value, json};

use crate::json;
use crate::rules::{Rules, literal, sequence};

/// Deepest chain of references that is followed for the type of a parameter.
const DEEPEST: usize = 8;

/// Truth values as Python writes them, and as JSON does.
const TRUTHS: &str = r#"("True" | "False" | "true" | "false")"#;

/// The parameters that a schema names.
struct Parameters<'s> {
    root: &'s Value,
    named: Vec<(&'s str, &'s Value, bool)>,
    /// Whether there may be any others; only where none are named, so that models keep to the names they are told.
    any: bool,
}

impl<'s> Parameters<'s> {
    fn of(schema: &'s Value) -> Self {
        Self::within(schema, schema)
    }

    /// The fields that `schema` names, which stands in `root`.
    fn within(root: &'s Value, schema: &'s Value) -> Self {
        let properties = schema.get("properties").and_then(Value::as_object);
        let required = schema.get("required").and_then(Value::as_array);
        let is_required = |name: &str| required.is_some_and(|names| names.iter().any(|one| one == name));
        let named: Vec<_> = properties
            .into_iter()
            .flatten()
            .map(|(name, property)| (name.as_str(), property, is_required(name)))
            .collect();
        let any = named.is_empty() && schema.get("additionalProperties") != Some(&Value::Bool(false));
        Self { root, named, any }
    }

    /// A rule of JSON for a parameter, unless there are too many already: each may have a copy of all definitions.
    fn json(&self, schema: &Value, rules: &mut Rules) -> String {
        if rules.are_too_long() { String::new() } else { rules.json(&self.alone(schema)) }
    }

    /// The schema of a parameter by itself, in which references to the whole find what they mean.
    fn alone(&self, schema: &Value) -> Value {
        let mut alone = match schema {
            Value::Object(keywords) => keywords.clone(),
            Value::Bool(false) => Map::from_iter([("allOf".to_owned(), json!([false]))]),
            _ => Map::new(),
        };
        let refers = Value::Object(alone.clone()).to_string().contains("\"$ref\"");
        for definitions in ["$defs", "definitions"] {
            if let Some(defined) = self.root.get(definitions).filter(|_| refers) {
                alone.insert(definitions.to_owned(), defined.clone());
            }
        }
        json::laid_out(Value::Object(alone)).unwrap_or_default()
    }

    /// What `schema` refers to.
    fn resolved(&self, mut schema: &'s Value) -> &'s Value {
        for _ in 0..DEEPEST {
            let Some(path) = schema.get("$ref").and_then(Value::as_str) else { break };
            let Some(target) = path.strip_prefix('#').and_then(|path| self.root.pointer(path)) else { break };
            schema = target;
        }
        schema
    }

    fn kind(&self, schema: &'s Value) -> Kind<'s> {
        let schema = self.resolved(schema);
        if let Some(values) = schema.get("enum").and_then(Value::as_array) {
            let texts: Option<Vec<&str>> = values.iter().map(Value::as_str).collect();
            return texts.map_or(Kind::of_values(values), Kind::OneOf);
        }
        if let Some(constant) = schema.get("const") {
            return constant.as_str().map_or(Kind::Json, |text| Kind::OneOf(vec![text]));
        }
        match schema.get("type") {
            Some(Value::String(name)) => match name.as_str() {
                "string" => Kind::Text,
                "boolean" => Kind::Boolean,
                _ => Kind::Json,
            },
            Some(Value::Array(names)) if !names.iter().any(|name| name == "string") => Kind::Json,
            _ => Kind::Any,
        }
    }
}

/// What values of a parameter are, as far as their writing depends on it.
enum Kind<'s> {
    Text,
    /// One of some texts.
    OneOf(Vec<&'s str>),
    Boolean,
    /// Neither a text nor a truth value.
    Json,
    /// A text, perhaps.
    Any,
}

impl Kind<'_> {
    fn of_values(values: &[Value]) -> Self {
        if values.iter().any(Value::is_string) { Self::Any } else { Self::Json }
    }
}

/// Arguments between tags.
pub(crate) fn tagged(schema: &Value, tags: &TagSyntax, rules: &mut Rules) -> String {
    let parameters = Parameters::of(schema);
    let text_end = tags.value_close.trim();
    let behind_text = tags.value_close.split_once(text_end).map_or("", |(_, behind)| behind);
    let close = rules.markup(tags.value_close);
    let text = match tags.raw {
        None => sequence([rules.text_until(text_end), rules.markup(behind_text)]),
        Some((raw_open, raw_end)) => {
            let raw =
                sequence([&rules.markup(raw_open), &rules.text_until(raw_end), &rules.markup(behind_text)]);
            let plain = rules.pattern(r"[^<&\n]+");
            format!("({plain}? {close} | {raw})")
        }
    };
    let open = |rules: &Rules, is_text: bool| {
        let said = tags.value_open.iter().filter(|(_, said)| said.is_none_or(|said| said == is_text));
        let opens: Vec<String> = said.map(|(literal, _)| rules.markup(literal)).collect();
        if opens.len() > 1 { format!("({})", opens.join(" | ")) } else { opens.concat() }
    };
    let argument = |rules: &mut Rules, key: &str, is_text: bool, value: &str| {
        let (key_open, key_close) = (rules.markup(tags.key_open), rules.markup(tags.key_close));
        sequence([&key_open, key, &key_close, &open(rules, is_text), value])
    };
    if parameters.any {
        let key = rules.pattern(r"[^<>\n\x22]+");
        let mut either = argument(rules, &key, true, &text);
        if tags.value_open.len() > 1 {
            let any = json::laid_out(json!(true)).unwrap_or_default();
            let any = sequence([&rules.json(&any), &close]);
            let other = argument(rules, &key, false, &any);
            either = format!("{either} | {other}");
        }
        return format!("({either})*");
    }
    let mut written = Vec::new();
    for &(name, schema, is_required) in &parameters.named {
        let key = literal(name);
        let body = match parameters.kind(schema) {
            Kind::OneOf(texts) => {
                let texts: Vec<String> = texts.into_iter().map(literal).collect();
                argument(rules, &key, true, &format!("({}) {close}", texts.join(" | ")))
            }
            Kind::Boolean if tags.is_python => argument(rules, &key, false, &sequence([TRUTHS, &close])),
            Kind::Json | Kind::Boolean => {
                let value = sequence([&parameters.json(schema, rules), &close]);
                argument(rules, &key, false, &value)
            }
            Kind::Any if tags.value_open.len() > 1 => {
                let as_json = sequence([&parameters.json(schema, rules), &close]);
                format!("{} | {}", argument(rules, &key, true, &text), argument(rules, &key, false, &as_json))
            }
            Kind::Text | Kind::Any => argument(rules, &key, true, &text),
        };
        written.push(format!("({body}){}", if is_required { "" } else { "?" }));
    }
    let body = sequence(written);
    rules.rule(&body)
}

/// Arguments with commas between them: required ones, and those of the optional ones that there are.
fn separated(arguments: Vec<(String, bool)>, comma: &str, rules: &mut Rules) -> String {
    let comma = literal(comma);
    let (mut head, mut tail) = (rules.rule(""), String::new());
    for (argument, is_required) in arguments.into_iter().rev() {
        let argument = rules.rule(&argument);
        let from_here = sequence([&argument, &tail]);
        head = rules.rule(&if is_required { from_here } else { format!("{from_here} | {head}") });
        let more = format!("({comma} {argument}){}", if is_required { "" } else { "?" });
        tail = rules.rule(&sequence([&more, &tail]));
    }
    head
}

/// Any number of arguments of any name.
fn any_arguments(key: &str, between: &str, value: &str, comma: &str, rules: &mut Rules) -> String {
    let argument = rules.rule(&sequence([key, &literal(between), value]));
    rules.rule(&format!("({argument} ({} {argument})*)?", literal(comma)))
}

/// Keyword arguments of Python.
pub(crate) fn python(schema: &Value, rules: &mut Rules) -> String {
    let parameters = Parameters::of(schema);
    let quoted = rules.pattern(r"'([^'\\\n]|\\[nrt'\x22\\])*'");
    let word = r#""True" | "False" | "None""#;
    let any = rules.json(&json::laid_out(json!(true)).unwrap_or_default());
    let anything = rules.rule(&format!("{any} | {quoted} | {word}"));
    if parameters.any {
        let key = rules.pattern("[A-Za-z_][A-Za-z_0-9]*");
        return sequence([&any_arguments(&key, "=", &anything, ", ", rules), "\")\""]);
    }
    let mut arguments = Vec::new();
    for &(name, schema, is_required) in &parameters.named {
        let value = match parameters.kind(schema) {
            Kind::Text => format!("{} | {quoted}", parameters.json(schema, rules)),
            Kind::OneOf(texts) => {
                let quotable = texts.iter().filter(|text| !text.contains(['\'', '\\', '\n']));
                let single = quotable.map(|text| literal(&format!("'{text}'")));
                let double = texts.iter().map(|text| literal(&literal(text)));
                single.chain(double).collect::<Vec<_>>().join(" | ")
            }
            Kind::Boolean => TRUTHS.to_owned(),
            Kind::Json => parameters.json(schema, rules),
            Kind::Any => anything.clone(),
        };
        let value = rules.rule(&value);
        arguments.push((sequence([&literal(&format!("{name}=")), &value]), is_required));
    }
    sequence([&separated(arguments, ", ", rules), "\")\""])
}

/// An object without quotes around its keys, behind its brace.
pub(crate) fn unquoted(schema: &Value, rules: &mut Rules) -> String {
    const MARK: &str = "<|\"|>";
    let parameters = Parameters::of(schema);
    let mark = rules.markup(MARK);
    let text_end = rules.text_until(MARK);
    let text = rules.rule(&sequence([&mark, &text_end]));
    let key = rules.pattern(r"[^\x22:,{}\[\]<\s][^:,{}\[\]]*");
    let number = rules.json(&json::laid_out(json!({ "type": "number" })).unwrap_or_default());
    let value = rules.rule(&format!(
        "{text} | {number} | \"true\" | \"false\" | \"null\" | \"[\" any_items? \"]\" | \"{{\" any_fields? \"}}\""
    ));
    rules.named("any_items", &format!("{value} (\",\" {value})*"));
    rules.named("any_fields", &format!("{key} \":\" {value} (\",\" {key} \":\" {value})*"));
    if parameters.any {
        return sequence([&any_arguments(&key, ":", &value, ",", rules), "\"}\""]);
    }
    let mut arguments = Vec::new();
    for &(name, schema, is_required) in &parameters.named {
        let typed = parameters.resolved(schema).get("type").and_then(Value::as_str);
        let written = match parameters.kind(schema) {
            Kind::Text => text.clone(),
            Kind::OneOf(texts) => {
                let texts: Vec<String> = texts.into_iter().map(literal).collect();
                format!("{mark} ({}) {mark}", texts.join(" | "))
            }
            Kind::Boolean => r#"("true" | "false")"#.to_owned(),
            Kind::Json if matches!(typed, Some("integer" | "number" | "null")) => {
                parameters.json(schema, rules)
            }
            Kind::Json | Kind::Any => value.clone(),
        };
        arguments.push((sequence([&literal(&format!("{name}:")), &written]), is_required));
    }
    sequence([&separated(arguments, ",", rules), "\"}\""])
}

/// Arguments in tags that nest.
pub(crate) fn nested(schema: &Value, syntax: &NestedSyntax, rules: &mut Rules) -> String {
    Nested { syntax, root: schema, known: HashMap::new() }.fields(schema, DEEPEST, rules)
}

/// Writes rules for tags that nest.
struct Nested<'s> {
    syntax: &'s NestedSyntax,
    root: &'s Value,
    /// Rules of values by their schema, name and depth: schemas that refer to themselves would multiply.
    known: HashMap<(*const Value, String, usize), String>,
}

impl<'s> Nested<'s> {
    fn tag(&self, tag: &str) -> String {
        format!("{}<{tag}>", self.syntax.mark)
    }

    /// The fields of an object.
    fn fields(&mut self, schema: &'s Value, depth: usize, rules: &mut Rules) -> String {
        let parameters = Parameters::within(self.root, schema);
        if parameters.any {
            return format!("({})*", self.any_element(rules));
        }
        let fields = parameters.named.iter().map(|&(name, schema, is_required)| {
            let field = self.element(name, schema, depth, rules);
            if is_required { field } else { format!("({field})?") }
        });
        sequence(fields.collect::<Vec<_>>())
    }

    /// An element of that name.
    fn element(&mut self, name: &str, schema: &'s Value, depth: usize, rules: &mut Rules) -> String {
        let body = [rules.markup(&self.tag(name)), self.value(name, schema, depth, rules)];
        rules.rule(&sequence(body))
    }

    /// What stands in an element of that name, and its end.
    fn value(&mut self, name: &str, schema: &'s Value, depth: usize, rules: &mut Rules) -> String {
        let key = (ptr::from_ref(schema), name.to_owned(), depth);
        if let Some(known) = self.known.get(&key) {
            return known.clone();
        }
        let body = self.new_value(name, schema, depth, rules);
        let rule = rules.rule(&body);
        self.known.insert(key, rule.clone());
        rule
    }

    fn new_value(&mut self, name: &str, schema: &'s Value, depth: usize, rules: &mut Rules) -> String {
        let parameters = Parameters { root: self.root, named: Vec::new(), any: false };
        let end = self.tag(&format!("/{name}"));
        let close = rules.markup(&end);
        let schema = parameters.resolved(schema);
        if depth == 0 || rules.are_too_long() {
            return self.any_value(rules);
        }
        match parameters.kind(schema) {
            Kind::Text => rules.text_until(&end),
            Kind::OneOf(texts) => {
                let texts: Vec<String> = texts.into_iter().map(literal).collect();
                format!("({}) {close}", texts.join(" | "))
            }
            Kind::Json | Kind::Boolean => match schema.get("type").and_then(Value::as_str) {
                Some("object") => sequence([&self.fields(schema, depth - 1, rules), &close]),
                Some("array") => {
                    let item = match schema.get("items") {
                        Some(items) => self.element(self.syntax.item, items, depth - 1, rules),
                        None => {
                            sequence([&rules.markup(&self.tag(self.syntax.item)), &self.any_value(rules)])
                        }
                    };
                    format!("({item})* {close}")
                }
                _ if may_nest(schema) => self.any_value(rules),
                _ => sequence([&parameters.json(schema, rules), &close]),
            },
            Kind::Any => {
                let alternatives = ["anyOf", "oneOf"].into_iter().find_map(|key| schema.get(key)?.as_array());
                match alternatives {
                    Some(alternatives) => {
                        let written = alternatives.iter().map(|one| self.value(name, one, depth - 1, rules));
                        written.collect::<Vec<_>>().join(" | ")
                    }
                    None if may_nest(schema) => self.any_value(rules),
                    None => rules.text_until(&end),
                }
            }
        }
    }

    /// Any element.
    fn any_element(&self, rules: &mut Rules) -> String {
        let open = rules.markup(&format!("{}<", self.syntax.mark));
        sequence([&open, &tag_name(rules), "\">\"", &self.any_value(rules)])
    }

    /// Anything that may stand in an element, and its end. Names cannot be compared here: elements end in their order. Only what
    /// stands behind a mark tells a text from an element, so that both have the mark in common.
    fn any_value(&self, rules: &mut Rules) -> String {
        let (text, mark) = (rules.text_until(self.syntax.mark), rules.markup(self.syntax.mark));
        let name = tag_name(rules);
        rules.named("any_value", &sequence([&text, "any_rest"]));
        rules.named(
            "any_rest",
            &format!("\"</\" {name} \">\" | \"<\" {name} \">\" any_value {mark} any_rest"),
        );
        "any_value".to_owned()
    }
}

/// The name of a tag.
fn tag_name(rules: &mut Rules) -> String {
    rules.pattern(r"[^<>\/\s\]\[][^<>\s\]\[]{0,99}")
}

/// Whether values of a schema that names no one type may be objects or arrays.
fn may_nest(schema: &Value) -> bool {
    let holds = |value: &Value| value.is_object() || value.is_array();
    let nests = |kind: &Value| kind == "object" || kind == "array";
    match (schema.get("enum"), schema.get("const"), schema.get("type")) {
        (Some(Value::Array(values)), ..) => values.iter().any(holds),
        (_, Some(value), _) => holds(value),
        (_, _, Some(Value::Array(kinds))) => kinds.iter().any(nests),
        (_, _, kind) => kind.is_none_or(nests),
    }
}
