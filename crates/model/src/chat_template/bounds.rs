//! What the lists and dictionaries that a template builds may grow to.
//!
//! A list that holds one list twice, which holds another twice, and so on, is small in memory and endless to whoever walks through
//! it; one that is nested deeply ends the stack of whoever does, even of whoever drops it. minijinja's fuel knows of neither. So
//! what a template assigns to a variable is walked through when it is assigned, and what it prints before it is printed.

use minijinja::value::ObjectRepr;
use minijinja::{Error, ErrorKind, Output, State, Value, escape_formatter};

use super::python_value::is_given;
use super::tags::{Piece, pieces};

/// The function that assigned values go through.
pub(super) const ASSIGNED: &str = "__assigned__";

/// Lists and dictionaries within each other, at most; those of the request are not counted.
const MOST_LEVELS: usize = 64;

/// The same of what is printed, the request's documents included.
const MOST_PRINTED_LEVELS: usize = 300;

/// Values that a variable may hold, each as often as it stands in it.
const MOST_VALUES: usize = 1 << 18;

/// Values that are walked through for one unit of fuel, which is an instruction's.
const VALUES_A_UNIT: usize = 4;

/// Bytes of text that are printed for one unit of fuel: as minijinja charges them, but before they are there.
const BYTES_A_UNIT: usize = 64;

/// The value that a template assigns to a variable.
pub(super) fn assigned(state: &State<'_, '_>, value: Value) -> Result<Value, Error> {
    if value.as_object().is_some() {
        let mut walk = Walk { state, values: 0, most: MOST_VALUES, levels: MOST_LEVELS, is_printed: false };
        walk.through(&value, 0)?;
    }
    Ok(value)
}

/// Prints a value.
pub(super) fn print(out: &mut Output<'_>, state: &mut State<'_, '_>, value: &Value) -> Result<(), Error> {
    check_printed(state, value)?;
    escape_formatter(out, state, value)
}

/// Refuses a value that takes more to print than there is fuel for.
pub(super) fn check_printed(state: &State<'_, '_>, value: &Value) -> Result<(), Error> {
    if value.as_object().is_none() {
        return Ok(());
    }
    let mut walk = Walk { state, values: 0, most: usize::MAX, levels: MOST_PRINTED_LEVELS, is_printed: true };
    walk.through(value, 0)
}

struct Walk<'s> {
    state: &'s State<'s, 's>,
    values: usize,
    most: usize,
    levels: usize,
    is_printed: bool,
}

impl Walk<'_> {
    fn through(&mut self, value: &Value, level: usize) -> Result<(), Error> {
        self.values += 1;
        if self.values.is_multiple_of(VALUES_A_UNIT) {
            self.state.consume_fuel(1)?;
        }
        if self.values > self.most {
            return Err(too_much(&format!("lists of more than {} values", self.most)));
        }
        if let Some(text) = value.as_str().filter(|_| self.is_printed) {
            return self.state.consume_fuel((text.len() / BYTES_A_UNIT) as u64);
        }
        let Some(object) = value.as_object() else { return Ok(()) };
        if !self.is_printed && is_given(object) {
            return Ok(()); // a part of the request: as large and as deep as that is
        }
        let is_map = match object.repr() {
            ObjectRepr::Seq => false,
            ObjectRepr::Map => true,
            _ => return Ok(()), // an iterator may be gone through only once
        };
        if level == self.levels {
            return Err(too_much(&format!("lists within lists, more than {level} deep")));
        }
        for item in object.try_iter().into_iter().flatten() {
            self.through(&item, level + 1)?;
            if is_map && let Some(value) = object.get_value(&item) {
                self.through(&value, level + 1)?;
            }
        }
        Ok(())
    }
}

fn too_much(what: &str) -> Error {
    Error::new(ErrorKind::InvalidOperation, format!("the template builds {what}"))
}

/// The template with the values of all its variables going through [`ASSIGNED`]: those that `set` assigns where they are, and those
/// of loops, macros, calls and `with` in a `set` behind their tag.
pub(super) fn with_assignments_checked(source: &str) -> String {
    let mut checked = String::with_capacity(source.len() + source.len() / 8);
    for piece in pieces(source) {
        let Piece::Block(tag) = piece else {
            checked.push_str(piece.text());
            continue;
        };
        let inner = tag.strip_prefix("{%").and_then(|tag| tag.strip_suffix("%}"));
        let inner = inner.map_or("", |inner| inner.trim_matches(['-', '+']));
        let (head, close) = tag.split_at(tag.len() - length_of_close(tag));
        match assignment(inner) {
            Some((target, value)) => {
                let begin = head.find(target).unwrap_or(0);
                checked.extend([&head[..begin], target, "= ", ASSIGNED, "((", value, ")) ", close]);
            }
            None => checked.push_str(tag),
        }
        for name in bound_by(inner) {
            checked.extend(["{% set ", name, " = ", ASSIGNED, "((", name, ")) ", close]);
        }
    }
    checked
}

/// Bytes of what closes a tag; 0 where nothing does.
fn length_of_close(tag: &str) -> usize {
    let closes = ["-%}", "+%}", "%}"];
    closes.into_iter().find(|close| tag.ends_with(close)).map_or(0, str::len)
}

/// The target and the value of `set target = value`, with the whitespace around them.
fn assignment(tag: &str) -> Option<(&str, &str)> {
    let rest = tag.trim_start().strip_prefix("set")?;
    if !rest.starts_with(|c: char| c.is_whitespace() || c == '(') {
        return None;
    }
    let (target, value) = rest.split_once('=')?;
    // A block has filters with arguments, and no value.
    let is_target =
        |c: char| c.is_alphanumeric() || c.is_whitespace() || matches!(c, '_' | '.' | ',' | '(' | ')');
    let is_block = target.contains('(') && !target.trim_start().starts_with('(');
    (target.chars().all(is_target) && !is_block && !value.starts_with('=')).then_some((target, value))
}

/// The variables that a tag binds which is no `set`.
fn bound_by(tag: &str) -> Vec<&str> {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    let (keyword, rest) = tag.trim().split_at(tag.trim().find(|c| !is_part(c)).unwrap_or(0));
    let names: Vec<&str> = match keyword {
        "for" => {
            let words = rest.split(|c| !is_part(c)).filter(|word| !word.is_empty());
            words.take_while(|&word| word != "in").collect()
        }
        "with" => parts(rest).collect(),
        "macro" | "call" => {
            let parameters =
                rest.find('(').filter(|&open| keyword == "macro" || rest[..open].trim().is_empty());
            parameters.into_iter().flat_map(|open| parts(&rest[open + 1..])).collect()
        }
        _ => Vec::new(),
    };
    let is_name = |name: &&str| !name.is_empty() && name.chars().all(is_part);
    names.into_iter().filter(is_name).collect()
}

/// The names of a list of parameters or assignments, which ends where its bracket is closed.
fn parts(list: &str) -> impl Iterator<Item = &str> {
    let (mut depth, mut quote, mut is_over) = (0_usize, None, false);
    let is_comma = move |c: char| {
        match (c, quote) {
            (c, Some(open)) if c == open => quote = None,
            ('"' | '\'', None) => quote = Some(c),
            ('(' | '[' | '{', None) => depth += 1,
            (')' | ']' | '}', None) if depth == 0 => is_over = true,
            (')' | ']' | '}', None) => depth -= 1,
            _ => {}
        }
        is_over || (c == ',' && depth == 0 && quote.is_none())
    };
    list.split(is_comma).map(|part| part.split_once('=').map_or(part, |(name, _)| name).trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_assigned_is_checked_and_nothing_else_changes() {
        for (source, checked) in [
            ("a {% set x = 1 %} b", "a {% set x = __assigned__(( 1 )) %} b"),
            ("{%- set ns.x = [ns.x]-%}", "{%- set ns.x = __assigned__(( [ns.x])) -%}"),
            ("{% set a, b = 1, '%}' %}", "{% set a, b = __assigned__(( 1, '%}' )) %}"),
            ("{%set x='a=b'+%}", "{%set x= __assigned__(('a=b')) +%}"),
            ("{% set x %}a = b{% endset %}", "{% set x %}a = b{% endset %}"),
            (
                "{% set x | replace('a', b='c') %}y{% endset %}",
                "{% set x | replace('a', b='c') %}y{% endset %}",
            ),
            ("{# {% set x = 1 %} #}{{ '{% set x = 1 %}' }}", "{# {% set x = 1 %} #}{{ '{% set x = 1 %}' }}"),
            (
                "{% raw %}{% set x = 1 %}{{{% endraw %}{% if a %}",
                "{% raw %}{% set x = 1 %}{{{% endraw %}{% if a %}",
            ),
            (
                "{%- for a, (b) in x if y -%}",
                "{%- for a, (b) in x if y -%}{% set a = __assigned__((a)) -%}{% set b = __assigned__((b)) -%}",
            ),
            (
                "{% macro m(a, b=[1, 'c=,'], d={'e': (1)}) +%}{% endmacro %}",
                "{% macro m(a, b=[1, 'c=,'], d={'e': (1)}) +%}{% set a = __assigned__((a)) +%}\
                 {% set b = __assigned__((b)) +%}{% set d = __assigned__((d)) +%}{% endmacro %}",
            ),
            ("{% with a = f(b, c) %}", "{% with a = f(b, c) %}{% set a = __assigned__((a)) %}"),
            (
                "{% call(a) m(b) %}{% call m(b) %}",
                "{% call(a) m(b) %}{% set a = __assigned__((a)) %}{% call m(b) %}",
            ),
            ("{{ {'a': 1}['a'] }}{% settle = 1 %}{", "{{ {'a': 1}['a'] }}{% settle = 1 %}{"),
            (
                "{% raw %}{% \" %}{% endraw %}{% set x = 1 %}",
                "{% raw %}{% \" %}{% endraw %}{% set x = __assigned__(( 1 )) %}",
            ),
            (
                "{{ {'a': {}}['{#'] }}{% set x = 1 %}",
                "{{ {'a': {}}['{#'] }}{% set x = __assigned__(( 1 )) %}",
            ),
        ] {
            assert_eq!(with_assignments_checked(source), checked, "{source}");
        }
    }
}
