//! Whether a value satisfies a JSON schema, for what of it no grammar holds. Both come from clients, so work is counted.
//!
//! The keywords are those of JSON Schema 2020-12 with those of earlier drafts that name the same; `format` is an annotation.

mod values;

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};

use fancy_regex::{Regex, RegexBuilder};
use serde_json::{Map, Value};

use self::values::{canonical, equal, has_type, is_multiple, weight, within};
use crate::schema::looks_around;

/// Work for all that is checked together, in units of some 100 ns.
const MOST_WORK: usize = 100_000;
/// Schemas within each other, with those that are referred to. Each takes some of the stack.
const DEEPEST: usize = 96;
/// Work of compiling a pattern, and of matching it, the length of the text left aside; more for one that goes back.
const COMPILING: usize = 5_000;
const MATCHING: usize = 100;
const GOING_BACK: usize = 1_000;
/// Work of a byte of the text: at each, a regular expression may be in all its states.
const READING: usize = 4;
/// Pairs of bytes of the text for one unit: at each byte, a pattern that looks around may look through all of it.
const LOOKED_AT_A_UNIT: usize = 64;
/// Longest pattern, and longest text that one is matched with, in bytes.
const LONGEST_MATCHED: usize = 4 << 10;
/// What a pattern that looks around may go back.
const MOST_BACKTRACKS: usize = 2_000;
/// Bytes of a compiled pattern.
const LARGEST_PATTERN: usize = 256 << 10;

/// The check was given up.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooCostly;

/// An assertion that does not hold, or that could not be checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) keyword: String,
    /// Where the keyword stands in the schema.
    pub(crate) place: String,
    /// Whether it could be checked.
    pub(crate) is_certain: bool,
}

/// Work that is left.
#[derive(Debug)]
pub(crate) struct Work(usize);

impl Default for Work {
    fn default() -> Self {
        Self(MOST_WORK)
    }
}

impl Work {
    fn spend(&mut self, units: usize) -> Result<(), TooCostly> {
        self.0 = self.0.checked_sub(units).ok_or(TooCostly)?;
        Ok(())
    }
}

/// What of `schema` does not hold for `value`.
pub(crate) fn findings(schema: &Value, value: &Value, work: &mut Work) -> Result<Vec<Finding>, TooCostly> {
    let mut validator = Validator { root: schema, work, depth: 0, patterns: HashMap::new() };
    let mut found = Vec::new();
    validator.apply(schema, value, &Place { within: None, name: "" }, &mut found)?;
    Ok(found)
}

/// A place in a schema.
struct Place<'p> {
    within: Option<&'p Place<'p>>,
    name: &'p str,
}

impl<'p> Place<'p> {
    fn of(&'p self, name: &'p str) -> Self {
        Self { within: Some(self), name }
    }

    fn path(&self) -> String {
        self.within.map_or_else(|| self.name.to_owned(), |within| format!("{}/{}", within.path(), self.name))
    }
}

/// The parts of a value that a schema has looked at.
#[derive(Default)]
struct Seen {
    names: BTreeSet<String>,
    items: BTreeSet<usize>,
}

impl Seen {
    fn add(&mut self, mut other: Self) {
        self.names.append(&mut other.names);
        self.items.append(&mut other.items);
    }
}

struct Validator<'s, 'w> {
    root: &'s Value,
    work: &'w mut Work,
    depth: usize,
    /// What was compiled; `None` for what is no pattern, or too large a one.
    patterns: HashMap<&'s str, Option<Regex>>,
}

/// Notes an assertion unless it holds; `None` if that is not known.
fn note(holds: Option<bool>, keyword: &str, place: &Place<'_>, found: &mut Vec<Finding>) {
    if holds != Some(true) {
        let path = place.path();
        let place = if path.is_empty() { "/".to_owned() } else { path };
        let finding = Finding { keyword: keyword.to_owned(), place, is_certain: holds.is_some() };
        if !found.contains(&finding) {
            found.push(finding);
        }
    }
}

/// Whether a pattern may be no regular expression, so that matching it goes back.
fn goes_back(pattern: &str) -> bool {
    let others = ["(?>", "(?(", "\\G", "\\K", "++", "*+", "?+", "}+"];
    looks_around(pattern) || others.iter().any(|other| pattern.contains(other))
}

/// Whether there are fields of all these names.
fn has_all(fields: &Map<String, Value>, names: &[Value]) -> bool {
    names.iter().filter_map(Value::as_str).all(|name| fields.contains_key(name))
}

impl<'s> Validator<'s, '_> {
    /// Notes what of `schema` does not hold for `value`.
    fn apply(
        &mut self,
        schema: &'s Value,
        value: &Value,
        place: &Place<'_>,
        found: &mut Vec<Finding>,
    ) -> Result<Seen, TooCostly> {
        let keywords = match schema {
            Value::Object(keywords) => keywords,
            Value::Bool(false) => {
                note(Some(false), "false", place, found);
                return Ok(Seen::default());
            }
            _ => return Ok(Seen::default()),
        };
        // What was found is looked through again for each finding.
        self.work.spend(1 + keywords.len() + found.len())?;
        if self.depth == DEEPEST {
            return Err(TooCostly);
        }
        self.depth += 1;
        let mut seen = Seen::default();
        for (keyword, asserted) in keywords {
            self.combine(keyword, asserted, keywords, value, place, found, &mut seen)?;
        }
        match value {
            Value::String(text) => self.check_text(keywords, text, place, found)?,
            Value::Number(number) => {
                for (keyword, limit) in keywords {
                    let holds = match keyword.as_str() {
                        "multipleOf" => limit.as_number().is_none_or(|divisor| is_multiple(number, divisor)),
                        _ => within(keyword, number, limit),
                    };
                    note(Some(holds), keyword, place, found);
                }
            }
            Value::Array(items) => self.check_items(keywords, items, place, found, &mut seen)?,
            Value::Object(fields) => self.check_fields(keywords, fields, place, found, &mut seen)?,
            Value::Null | Value::Bool(_) => {}
        }
        self.depth -= 1;
        Ok(seen)
    }

    /// Whether `value` satisfies `schema`, if that is known, and what was looked at.
    fn fits(&mut self, schema: &'s Value, value: &Value) -> Result<(Option<bool>, Seen), TooCostly> {
        let mut found = Vec::new();
        let seen = self.apply(schema, value, &Place { within: None, name: "" }, &mut found)?;
        let fails = found.iter().any(|finding| finding.is_certain);
        let fits = (fails || found.is_empty()).then_some(!fails);
        Ok((fits, if fits == Some(true) { seen } else { Seen::default() }))
    }

    /// What is asserted of values of any kind.
    #[expect(clippy::too_many_arguments, reason = "a keyword with all that it may look at")]
    fn combine(
        &mut self,
        keyword: &str,
        asserted: &'s Value,
        keywords: &'s Map<String, Value>,
        value: &Value,
        place: &Place<'_>,
        found: &mut Vec<Finding>,
        seen: &mut Seen,
    ) -> Result<(), TooCostly> {
        let here = place.of(keyword);
        match (keyword, asserted) {
            ("type", Value::String(name)) => note(Some(has_type(value, name)), keyword, place, found),
            ("type", Value::Array(names)) => {
                let mut names = names.iter().filter_map(Value::as_str);
                note(Some(names.any(|name| has_type(value, name))), keyword, place, found);
            }
            ("const", constant) => {
                self.work.spend(weight(constant))?;
                note(Some(equal(constant, value)), keyword, place, found);
            }
            ("enum", Value::Array(values)) => {
                self.work.spend(weight(asserted))?;
                note(Some(values.iter().any(|one| equal(one, value))), keyword, place, found);
            }
            ("allOf", Value::Array(schemas)) => {
                for (index, schema) in schemas.iter().enumerate() {
                    seen.add(self.apply(schema, value, &here.of(&index.to_string()), found)?);
                }
            }
            ("anyOf" | "oneOf", Value::Array(schemas)) => {
                let (mut fitting, mut unknown) = (0, 0);
                for schema in schemas {
                    let (fits, looked_at) = self.fits(schema, value)?;
                    fitting += usize::from(fits == Some(true));
                    unknown += usize::from(fits.is_none());
                    seen.add(looked_at);
                }
                let holds = match (keyword, fitting, unknown) {
                    ("anyOf", 1.., _) | (_, 1, 0) => Some(true),
                    (_, 0, 0) | ("oneOf", 2.., _) => Some(false),
                    _ => None,
                };
                note(holds, keyword, place, found);
            }
            ("not", schema) => {
                let (fits, _) = self.fits(schema, value)?;
                note(fits.map(|fits| !fits), keyword, place, found);
            }
            ("if", schema) => {
                let (fits, looked_at) = self.fits(schema, value)?;
                seen.add(looked_at);
                let branch = fits.map(|fits| if fits { "then" } else { "else" });
                match branch.map(|name| (name, keywords.get(name))) {
                    Some((name, Some(schema))) => {
                        seen.add(self.apply(schema, value, &place.of(name), found)?);
                    }
                    Some((_, None)) => {}
                    None => note(None, keyword, place, found),
                }
            }
            ("$ref", Value::String(target)) => {
                let path = target.strip_prefix('#').unwrap_or("?");
                match self.root.pointer(path) {
                    Some(schema) => {
                        let there = Place { within: None, name: path };
                        seen.add(self.apply(schema, value, &there, found)?);
                    }
                    None => note(None, keyword, place, found),
                }
            }
            ("dependentRequired" | "dependentSchemas" | "dependencies", Value::Object(needs)) => {
                self.work.spend(needs.len())?;
                let Value::Object(fields) = value else { return Ok(()) };
                for (name, needed) in needs.iter().filter(|(name, _)| fields.contains_key(*name)) {
                    if let Value::Array(names) = needed {
                        note(Some(has_all(fields, names)), keyword, place, found);
                    } else {
                        seen.add(self.apply(needed, value, &here.of(name), found)?);
                    }
                }
            }
            ("$dynamicRef" | "$recursiveRef", _) => note(None, keyword, place, found),
            _ => {}
        }
        Ok(())
    }

    fn check_text(
        &mut self,
        keywords: &'s Map<String, Value>,
        text: &str,
        place: &Place<'_>,
        found: &mut Vec<Finding>,
    ) -> Result<(), TooCostly> {
        self.work.spend(text.len() / 64)?;
        for (keyword, asserted) in keywords {
            match (keyword.as_str(), asserted) {
                ("minLength" | "maxLength", limit) => {
                    note(Some(within(keyword, &text.chars().count().into(), limit)), keyword, place, found);
                }
                ("pattern", Value::String(pattern)) => {
                    note(self.matches(pattern, text)?, keyword, place, found);
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn check_items(
        &mut self,
        keywords: &'s Map<String, Value>,
        items: &[Value],
        place: &Place<'_>,
        found: &mut Vec<Finding>,
        seen: &mut Seen,
    ) -> Result<(), TooCostly> {
        self.work.spend(items.len() / 16)?;
        // In earlier drafts the first items stood under `items`, and the others under `additionalItems`.
        let (first, others) = match (keywords.get("prefixItems"), keywords.get("items")) {
            (None, Some(Value::Array(first))) => (Some(("items", first)), "additionalItems"),
            (first, _) => (first.and_then(Value::as_array).map(|first| ("prefixItems", first)), "items"),
        };
        let begun = first.map_or(0, |(_, schemas)| schemas.len());
        if let Some((keyword, schemas)) = first {
            for (index, (schema, item)) in schemas.iter().zip(items).enumerate() {
                seen.items.insert(index);
                self.apply(schema, item, &place.of(keyword).of(&index.to_string()), found)?;
            }
        }
        if let Some(schema) = keywords.get(others) {
            for (index, item) in items.iter().enumerate().skip(begun) {
                seen.items.insert(index);
                self.apply(schema, item, &place.of(others), found)?;
            }
        }
        if let Some(schema) = keywords.get("contains") {
            let (mut fitting, mut unknown) = (0_usize, 0);
            for (index, item) in items.iter().enumerate() {
                let (fits, _) = self.fits(schema, item)?;
                unknown += usize::from(fits.is_none());
                if fits == Some(true) {
                    fitting += 1;
                    seen.items.insert(index);
                }
            }
            let least = keywords.get("minContains").and_then(Value::as_f64).unwrap_or(1.0);
            let known = |holds: bool| (unknown == 0).then_some(holds);
            let enough = if fitting as f64 >= least { Some(true) } else { known(false) };
            note(enough, if least == 1.0 { "contains" } else { "minContains" }, place, found);
            if let Some(most) = keywords.get("maxContains").and_then(Value::as_f64) {
                let not_too_many = if fitting as f64 > most { Some(false) } else { known(true) };
                note(not_too_many, "maxContains", place, found);
            }
        }
        if keywords.get("uniqueItems") == Some(&Value::Bool(true)) {
            let mut known = BTreeSet::new();
            let mut written: Vec<String> = Vec::with_capacity(items.len());
            for item in items {
                let text = canonical(item);
                self.work.spend(4 + text.len() / 16)?;
                written.push(text);
            }
            note(Some(written.iter().all(|text| known.insert(text))), "uniqueItems", place, found);
        }
        for keyword in ["minItems", "maxItems"] {
            let holds = keywords.get(keyword).is_none_or(|limit| within(keyword, &items.len().into(), limit));
            note(Some(holds), keyword, place, found);
        }
        if let Some(schema) = keywords.get("unevaluatedItems") {
            for (index, item) in items.iter().enumerate() {
                if seen.items.insert(index) {
                    let (fits, _) = self.fits(schema, item)?;
                    note(fits, "unevaluatedItems", place, found);
                }
            }
        }
        Ok(())
    }

    fn check_fields(
        &mut self,
        keywords: &'s Map<String, Value>,
        fields: &Map<String, Value>,
        place: &Place<'_>,
        found: &mut Vec<Finding>,
        seen: &mut Seen,
    ) -> Result<(), TooCostly> {
        self.work.spend(fields.len() / 16)?;
        let object = |keyword: &str| keywords.get(keyword).and_then(Value::as_object);
        let (properties, patterns) = (object("properties"), object("patternProperties"));
        for (name, value) in fields {
            let mut is_named = false;
            if let Some(schema) = properties.and_then(|properties| properties.get(name)) {
                is_named = true;
                self.apply(schema, value, &place.of("properties").of(name), found)?;
            }
            for (pattern, schema) in patterns.into_iter().flatten() {
                match self.matches(pattern, name)? {
                    Some(true) => {
                        is_named = true;
                        self.apply(schema, value, &place.of("patternProperties").of(pattern), found)?;
                    }
                    Some(false) => {}
                    None => note(None, "patternProperties", place, found),
                }
            }
            if let Some(schema) = keywords.get("additionalProperties").filter(|_| !is_named) {
                is_named = true;
                self.apply(schema, value, &place.of("additionalProperties"), found)?;
            }
            if is_named {
                seen.names.insert(name.clone());
            }
            if let Some(schema) = keywords.get("propertyNames") {
                let (fits, _) = self.fits(schema, &Value::from(name.as_str()))?;
                note(fits, "propertyNames", place, found);
            }
        }
        if let Some(Value::Array(names)) = keywords.get("required") {
            self.work.spend(names.len() / 16)?;
            note(Some(has_all(fields, names)), "required", place, found);
        }
        for keyword in ["minProperties", "maxProperties"] {
            let holds =
                keywords.get(keyword).is_none_or(|limit| within(keyword, &fields.len().into(), limit));
            note(Some(holds), keyword, place, found);
        }
        if let Some(schema) = keywords.get("unevaluatedProperties") {
            for (name, value) in fields {
                if seen.names.insert(name.clone()) {
                    let (fits, _) = self.fits(schema, value)?;
                    note(fits, "unevaluatedProperties", place, found);
                }
            }
        }
        Ok(())
    }

    /// Whether a pattern is found in a text, if that is known.
    fn matches(&mut self, pattern: &'s str, text: &str) -> Result<Option<bool>, TooCostly> {
        let bytes = text.len();
        if pattern.len().max(bytes) > LONGEST_MATCHED {
            self.work.spend(MATCHING)?;
            return Ok(None);
        }
        let reading =
            if goes_back(pattern) { GOING_BACK + bytes * bytes / LOOKED_AT_A_UNIT } else { bytes * READING };
        self.work.spend(MATCHING + reading)?;
        let compiled = match self.patterns.entry(pattern) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(free) => {
                self.work.spend(COMPILING)?;
                let mut builder = RegexBuilder::new(pattern);
                builder.backtrack_limit(MOST_BACKTRACKS);
                builder.delegate_size_limit(LARGEST_PATTERN).delegate_dfa_size_limit(LARGEST_PATTERN);
                free.insert(builder.build().ok())
            }
        };
        Ok(compiled.as_ref().and_then(|pattern| pattern.is_match(text).ok()))
    }
}

#[cfg(test)]
mod tests;
