//! The filter `tojson` as `transformers` defines it: Python's `json.dumps(…, ensure_ascii=False)`, not
//! escaped for HTML.

use std::io::{self, Write};

use minijinja::{Error, ErrorKind, State, Value, value::Kwargs};
use serde::Serialize;

use super::bounds::check_printed;
use serde_json::ser::{CharEscape, Formatter};

/// `value` as Python's `json.dumps(value, ensure_ascii=False)` writes it: how models have seen JSON in training.
pub(crate) fn python_json(value: &serde_json::Value) -> String {
    let mut json = Vec::new();
    write(value, PythonJson::default(), &mut json).expect("a JSON value is written to memory");
    String::from_utf8_lossy(&json).into_owned()
}

fn write(value: &impl Serialize, style: PythonJson, out: impl Write) -> serde_json::Result<()> {
    value.serialize(&mut serde_json::Serializer::with_formatter(out, style))
}

/// JSON that a template pays for as it grows: lists that hold one list twice, and that one another twice, would be
/// written until memory ends.
struct Charged<'s> {
    json: Vec<u8>,
    state: &'s State<'s, 's>,
}

impl Write for Charged<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        const UNIT_BYTES: usize = 4; // as minijinja charges what it serializes itself
        let units = (self.json.len() + bytes.len()) / UNIT_BYTES - self.json.len() / UNIT_BYTES;
        if units > 0 {
            self.state.consume_fuel(units as u64).map_err(io::Error::other)?;
        }
        self.json.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes `value` as JSON. Options as in Python: `indent`, `separators` and `ensure_ascii`.
#[allow(clippy::needless_pass_by_value)] // minijinja hands keyword arguments over by value
pub(super) fn tojson(state: &State<'_, '_>, value: &Value, options: Kwargs) -> Result<Value, Error> {
    let indent: Option<usize> = options.get("indent")?;
    let separators: Option<Vec<String>> = options.get("separators")?;
    let ensure_ascii: Option<bool> = options.get("ensure_ascii")?;
    options.assert_all_used()?;
    let [item_separator, key_separator] = match separators {
        Some(pair) => pair.try_into().map_err(|_| {
            Error::new(ErrorKind::InvalidOperation, "tojson: separators must be a pair of strings")
        })?,
        None => [if indent.is_some() { "," } else { ", " }, ": "].map(str::to_owned),
    };
    check_printed(state, value)?;
    let style = PythonJson {
        item_separator,
        key_separator,
        ensure_ascii: ensure_ascii.unwrap_or(false),
        // Deeper than any document needs; a template must not ask for gigabytes of spaces.
        indent: indent.map(|columns| columns.min(32)),
        ..PythonJson::default()
    };
    let mut charged = Charged { json: Vec::new(), state };
    write(value, style, &mut charged).map_err(|error| {
        Error::new(ErrorKind::BadSerialization, "tojson: the value cannot be written as JSON")
            .with_source(error)
    })?;
    Ok(Value::from_safe_string(String::from_utf8_lossy(&charged.json).into_owned()))
}

/// The layout of Python's `json.dumps`.
struct PythonJson {
    item_separator: String,
    key_separator: String,
    ensure_ascii: bool,
    indent: Option<usize>,
    depth: usize,
    /// Whether the innermost list or object has no item yet: Python writes `[]` for it, on one line.
    empty: bool,
}

impl Default for PythonJson {
    fn default() -> Self {
        let [item_separator, key_separator] = [", ", ": "].map(str::to_owned);
        Self { item_separator, key_separator, ensure_ascii: false, indent: None, depth: 0, empty: true }
    }
}

impl PythonJson {
    fn begin<W: ?Sized + Write>(&mut self, out: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.depth += 1;
        self.empty = true;
        out.write_all(bracket)
    }

    fn end<W: ?Sized + Write>(&mut self, out: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.depth -= 1;
        if !self.empty {
            self.new_line(out)?;
        }
        self.empty = false;
        out.write_all(bracket)
    }

    fn begin_item<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        if !first {
            out.write_all(self.item_separator.as_bytes())?;
        }
        self.empty = false;
        self.new_line(out)
    }

    fn new_line<W: ?Sized + Write>(&self, out: &mut W) -> io::Result<()> {
        match self.indent {
            Some(columns) => write!(out, "\n{:width$}", "", width = columns * self.depth),
            None => Ok(()),
        }
    }
}

impl Formatter for PythonJson {
    fn begin_array<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.begin(out, b"[")
    }

    fn end_array<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.end(out, b"]")
    }

    fn begin_array_value<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.begin_item(out, first)
    }

    fn begin_object<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.begin(out, b"{")
    }

    fn end_object<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.end(out, b"}")
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.begin_item(out, first)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        out.write_all(self.key_separator.as_bytes())
    }

    fn write_string_fragment<W: ?Sized + Write>(&mut self, out: &mut W, fragment: &str) -> io::Result<()> {
        if !self.ensure_ascii {
            // Python escapes DEL no more than serde_json does.
            return out.write_all(fragment.as_bytes());
        }
        for character in fragment.chars() {
            if character.is_ascii() {
                write!(out, "{character}")?;
            } else {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    write!(out, "\\u{unit:04x}")?;
                }
            }
        }
        Ok(())
    }

    fn write_char_escape<W: ?Sized + Write>(&mut self, out: &mut W, escape: CharEscape) -> io::Result<()> {
        match escape {
            CharEscape::AsciiControl(byte) => write!(out, "\\u{byte:04x}"),
            CharEscape::Quote => out.write_all(b"\\\""),
            CharEscape::ReverseSolidus => out.write_all(b"\\\\"),
            CharEscape::Solidus => out.write_all(b"/"),
            CharEscape::Backspace => out.write_all(b"\\b"),
            CharEscape::FormFeed => out.write_all(b"\\f"),
            CharEscape::LineFeed => out.write_all(b"\\n"),
            CharEscape::CarriageReturn => out.write_all(b"\\r"),
            CharEscape::Tab => out.write_all(b"\\t"),
        }
    }
}

#[cfg(test)]
mod tests {
    use minijinja::{Environment, context};

    use super::*;

    /// Expected strings are what CPython 3 prints for `json.dumps(value, ensure_ascii=False, …)`.
    #[test]
    fn json_is_laid_out_as_python_does() {
        let mut environment = Environment::new();
        environment.add_filter("tojson", tojson);
        let value = Value::from_pairs([
            ("name", Value::from("é<\"\u{1}\n>")),
            ("list", Value::from(vec![Value::from(1), Value::from(2.5), Value::from(true), Value::from(())])),
            ("none", Value::from(Vec::<Value>::new())),
            ("map", context! {}),
        ]);
        for (expression, expected) in [
            (
                "value | tojson",
                r#"{"name": "é<\"\u0001\n>", "list": [1, 2.5, true, null], "none": [], "map": {}}"#,
            ),
            ("value.list | tojson(separators=(',', ':'))", "[1,2.5,true,null]"),
            (
                "{'a': [1, {'b': []}]} | tojson(indent=2)",
                "{\n  \"a\": [\n    1,\n    {\n      \"b\": []\n    }\n  ]\n}",
            ),
            ("'é😀' | tojson(ensure_ascii=True)", r#""\u00e9\ud83d\ude00""#),
        ] {
            let rendered = environment
                .render_str(&format!("{{{{ {expression} }}}}"), context! { value => value.clone() });
            assert_eq!(rendered.unwrap(), expected, "{expression}");
        }
    }
}
