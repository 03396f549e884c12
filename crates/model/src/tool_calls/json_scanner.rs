//! Where a JSON value ends, in text that arrives in pieces.

/// What is known of a value after its last character so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// It goes on.
    Open,
    /// It ended with this character.
    Complete,
    /// It is no JSON.
    Broken,
}

/// Follows the structure of a JSON object character by character, in constant time for each.
///
/// It is a little more lenient than the grammar (RFC 8259): it takes any run of letters, digits, signs and dots for a
/// number or a literal, and any character behind a backslash for an escape. Whoever reads the complete value checks that.
#[derive(Clone, Debug, Default)]
pub(super) struct JsonScanner {
    /// The containers that are open, outermost first.
    open: Vec<Container>,
    expects: Expects,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Container {
    Object,
    Array,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Expects {
    /// The opening brace of the object.
    #[default]
    Begin,
    /// A key, or the end of an object that has none so far.
    FirstKey,
    Key,
    Colon,
    Value,
    /// A value, or the end of an array that has none so far.
    FirstValue,
    /// A comma, or the end of the container.
    Separator,
    /// More of a string; `is_key` if it is one, `is_escaped` behind a backslash.
    InString {
        is_key: bool,
        is_escaped: bool,
    },
    /// More of a number or a literal, or what follows it.
    InScalar,
}

impl JsonScanner {
    /// Takes the next character. To be called until the value is complete or broken.
    pub(super) fn push(&mut self, character: char) -> Progress {
        use Expects::{Begin, Colon, FirstKey, FirstValue, InScalar, InString, Key, Separator, Value};
        let is_space = matches!(character, ' ' | '\t' | '\n' | '\r');
        let string = |is_key| InString { is_key, is_escaped: false };
        self.expects = match (self.expects, character) {
            (InString { is_key, is_escaped: true }, _) => string(is_key),
            (InString { is_key, .. }, '\\') => InString { is_key, is_escaped: true },
            (InString { is_key, .. }, '"') => {
                if is_key {
                    Colon
                } else {
                    Separator
                }
            }
            (InString { is_key, .. }, character) if character >= ' ' => string(is_key),
            (InScalar, character) if is_of_scalar(character) => InScalar,
            (InScalar, _) if is_space => Separator,
            (InString { .. }, _) => return Progress::Broken,
            (expects, _) if is_space => expects,
            (Begin | Value | FirstValue, '{') => self.enter(Container::Object, FirstKey),
            (Value | FirstValue, '[') => self.enter(Container::Array, FirstValue),
            (Value | FirstValue, '"') => string(false),
            (Value | FirstValue, character) if is_of_scalar(character) => InScalar,
            (FirstKey | Key, '"') => string(true),
            (Colon, ':') => Value,
            (Separator | InScalar, ',') => match self.open.last() {
                Some(Container::Object) => Key,
                _ => Value,
            },
            (FirstKey | Separator | InScalar, '}') => return self.leave(Container::Object),
            (FirstValue | Separator | InScalar, ']') => return self.leave(Container::Array),
            _ => return Progress::Broken,
        };
        Progress::Open
    }

    /// How many containers are open.
    pub(super) fn depth(&self) -> usize {
        self.open.len()
    }

    /// Whether the next character belongs to a string.
    pub(super) fn is_in_string(&self) -> bool {
        matches!(self.expects, Expects::InString { .. })
    }

    fn enter(&mut self, container: Container, expects: Expects) -> Expects {
        self.open.push(container);
        expects
    }

    fn leave(&mut self, container: Container) -> Progress {
        if self.open.pop() != Some(container) {
            return Progress::Broken;
        }
        self.expects = Expects::Separator;
        if self.open.is_empty() { Progress::Complete } else { Progress::Open }
    }
}

fn is_of_scalar(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '+' | '-' | '.')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    /// How many bytes of `text` the scanner took, and what it knew then.
    fn scan(text: &str) -> (usize, Progress) {
        let mut scanner = JsonScanner::default();
        for (at, character) in text.char_indices() {
            let progress = scanner.push(character);
            if progress != Progress::Open {
                return (at + character.len_utf8(), progress);
            }
        }
        (text.len(), Progress::Open)
    }

    #[test]
    fn structure_is_followed_to_the_closing_brace_and_no_further() {
        for (object, behind) in [
            ("{}", "}"),
            (" { } ", ""),
            (r#"{"a": [1, -2.5e+3, true, null, {"}": "\"}"}], "é": ""}"#, "</tool_call>"),
        ] {
            let end = object.trim_end().len();
            assert_eq!(scan(&format!("{object}{behind}")), (end, Progress::Complete), "{object}");
            assert_eq!(scan(&object[..object.trim_end().len() - 1]).1, Progress::Open, "{object}");
        }
        for broken in [
            "[",
            "x",
            "{1",
            "{,",
            "{\"a\" 1",
            "{\"a\":}",
            "{\"a\":1,}",
            "{\"a\":1]",
            "{\"a\":[1}",
            "{\"a\" \"",
            "{\"\n",
            "{\"a\":[,",
            "{\"a\"::",
            "{\"a\":1 2",
        ] {
            assert_eq!(scan(broken), (broken.len(), Progress::Broken), "{broken}");
        }
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec((any::<String>(), inner), 0..4)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn every_object_is_taken_and_no_beginning_of_one_is_broken(
            fields in prop::collection::vec((any::<String>(), values()), 0..4),
            pretty in any::<bool>(),
        ) {
            let object = Value::Object(fields.into_iter().collect());
            let text = if pretty { format!("{object:#}") } else { object.to_string() };
            prop_assert_eq!(scan(&text), (text.len(), Progress::Complete));
        }

        /// What is broken here is broken for the library, too: no call is missed.
        #[test]
        fn whatever_the_library_reads_is_complete(text in r#"\{["a:1,\[\]{} \\]{0,12}\}"#) {
            let mut values = serde_json::Deserializer::from_str(&text).into_iter::<Value>();
            if let Some(Ok(_)) = values.next() {
                prop_assert_eq!(scan(&text), (values.byte_offset(), Progress::Complete));
            }
        }
    }
}
