//! Values in the syntax of Python, or in JSON without quotes, become JSON as they come.

use serde::de::IgnoredAny;

use super::finder::Finder;
use super::json_scanner::Progress;

/// What stands around strings where keys are not quoted.
const STRING_MARK: &str = "<|\"|>";

/// Translates a value that arrives character by character, in constant time for each.
#[derive(Clone, Debug)]
pub(super) struct Literal {
    dialect: Dialect,
    /// The containers that are open, outermost first.
    open: Vec<Container>,
    place: Place,
    /// Whether a comma is due before the next item. One that is followed by none is left out.
    has_comma: bool,
    mark: Finder,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dialect {
    Python,
    Unquoted,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Container {
    /// Keyword arguments, up to a parenthesis.
    Arguments,
    Object,
    List,
    Tuple,
}

#[derive(Clone, Debug)]
enum Place {
    /// Before a key, or the end of what it would be in.
    Key,
    /// In a key without quotes.
    BareKey,
    /// Behind a key.
    Colon,
    /// Before a value, or the end of a list.
    Value,
    /// In a number or a name.
    Word(String),
    String {
        quote: char,
        is_key: bool,
        escape: Escape,
    },
    /// In a string between marks.
    Marked {
        is_key: bool,
    },
    /// In what may be a mark before a string.
    Mark {
        is_key: bool,
    },
    /// Behind a value.
    Behind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Escape {
    None,
    Begun,
    /// So many digits are to come.
    Digits(u8),
}

impl Literal {
    /// Keyword arguments of Python behind the opening parenthesis, as a JSON object.
    pub(super) fn python_arguments(out: &mut String) -> Self {
        out.push('{');
        Self::new(Dialect::Python, vec![Container::Arguments], Place::Key)
    }

    /// An object without quotes, behind its brace.
    pub(super) fn unquoted_object(out: &mut String) -> Self {
        out.push('{');
        Self::new(Dialect::Unquoted, vec![Container::Object], Place::Key)
    }

    fn new(dialect: Dialect, open: Vec<Container>, place: Place) -> Self {
        Self { dialect, open, place, has_comma: false, mark: Finder::new([STRING_MARK]) }
    }

    /// The JSON of a whole Python literal.
    pub(super) fn python(text: &str) -> Option<String> {
        if let Some(word) = json_word(text) {
            return Some(word);
        }
        let mut literal = Self::new(Dialect::Python, Vec::new(), Place::Value);
        let mut json = String::with_capacity(text.len());
        let mut characters = text.chars();
        let ended = characters.find_map(|character| match literal.push(character, &mut json) {
            Progress::Open => None,
            ended => Some(ended),
        });
        (ended == Some(Progress::Complete) && characters.as_str().is_empty()).then_some(json)
    }

    /// Takes the next character, and writes what it means. To be called until the value is complete or broken.
    pub(super) fn push(&mut self, character: char, out: &mut String) -> Progress {
        match std::mem::replace(&mut self.place, Place::Behind) {
            place @ (Place::Key | Place::Colon | Place::Value | Place::Behind)
                if character.is_whitespace() =>
            {
                self.place = place;
                Progress::Open
            }
            Place::Key => self.begin_key(character, out),
            Place::BareKey => self.go_on_with_key(character, out),
            Place::Colon if character == self.separator() => {
                out.push_str(": ");
                self.go_to(Place::Value)
            }
            Place::Value => self.begin_value(character, out),
            Place::Word(mut word) if is_of_word(character) => {
                word.push(character);
                self.go_to(Place::Word(word))
            }
            Place::Word(word) => match json_word(&word) {
                Some(word) => {
                    out.push_str(&word);
                    self.place = Place::Behind;
                    self.push(character, out)
                }
                None => Progress::Broken,
            },
            Place::String { quote, is_key, escape } => {
                self.go_on_with_string(character, quote, is_key, escape, out)
            }
            Place::Marked { is_key } => {
                let mut text = String::new();
                let is_end = self.mark.push(character, &mut text).is_some();
                text.chars().for_each(|character| escape_into(character, out));
                if is_end { self.end_string(is_key, out) } else { self.go_to(Place::Marked { is_key }) }
            }
            Place::Mark { is_key } => {
                let mut text = String::new();
                let is_mark = self.mark.push(character, &mut text).is_some();
                match (is_mark, text.is_empty()) {
                    (true, true) => {
                        out.push('"');
                        self.go_to(Place::Marked { is_key })
                    }
                    (false, true) => self.go_to(Place::Mark { is_key }),
                    _ => Progress::Broken,
                }
            }
            Place::Behind if character == ',' && !self.open.is_empty() => {
                self.has_comma = true;
                let is_keyed = matches!(self.open.last(), Some(Container::Arguments | Container::Object));
                self.go_to(if is_keyed { Place::Key } else { Place::Value })
            }
            Place::Behind => self.close(character, out),
            Place::Colon => Progress::Broken,
        }
    }

    fn go_to(&mut self, place: Place) -> Progress {
        self.place = place;
        Progress::Open
    }

    /// What stands between a key and its value.
    fn separator(&self) -> char {
        if self.open.last() == Some(&Container::Arguments) { '=' } else { ':' }
    }

    fn begin_key(&mut self, character: char, out: &mut String) -> Progress {
        let is_bare = match (self.dialect, self.open.last()) {
            (Dialect::Python, Some(Container::Arguments)) => character.is_alphabetic() || character == '_',
            (Dialect::Python, _) => false,
            (Dialect::Unquoted, _) => !is_structure(character) && !matches!(character, '"' | '<'),
        };
        if matches!(character, '}' | ')') {
            return self.close(character, out);
        }
        self.write_comma(out);
        match character {
            _ if is_bare => {
                out.push('"');
                escape_into(character, out);
                self.go_to(Place::BareKey)
            }
            '<' if self.dialect == Dialect::Unquoted => self.begin_mark(true),
            '"' | '\'' if self.open.last() == Some(&Container::Object) => {
                self.begin_string(character, true, out)
            }
            _ => Progress::Broken,
        }
    }

    fn go_on_with_key(&mut self, character: char, out: &mut String) -> Progress {
        let belongs = match self.dialect {
            Dialect::Python => character.is_alphanumeric() || character == '_',
            Dialect::Unquoted => !is_structure(character),
        };
        if character == self.separator() {
            out.push_str("\": ");
            self.go_to(Place::Value)
        } else if belongs {
            escape_into(character, out);
            self.go_to(Place::BareKey)
        } else if character.is_whitespace() {
            out.push('"');
            self.go_to(Place::Colon)
        } else {
            Progress::Broken
        }
    }

    fn begin_value(&mut self, character: char, out: &mut String) -> Progress {
        let container = match character {
            '{' => Some((Container::Object, '{', Place::Key)),
            '[' => Some((Container::List, '[', Place::Value)),
            '(' if self.dialect == Dialect::Python => Some((Container::Tuple, '[', Place::Value)),
            ']' | ')' if matches!(self.open.last(), Some(Container::List | Container::Tuple)) => {
                return self.close(character, out);
            }
            _ => None,
        };
        self.write_comma(out);
        if let Some((container, bracket, place)) = container {
            out.push(bracket);
            self.open.push(container);
            return self.go_to(place);
        }
        match (self.dialect, character) {
            (_, '"') | (Dialect::Python, '\'') => self.begin_string(character, false, out),
            (Dialect::Unquoted, '<') => self.begin_mark(false),
            _ if is_of_word(character) => self.go_to(Place::Word(character.to_string())),
            _ => Progress::Broken,
        }
    }

    fn begin_mark(&mut self, is_key: bool) -> Progress {
        self.mark.push('<', &mut String::new());
        self.go_to(Place::Mark { is_key })
    }

    fn begin_string(&mut self, quote: char, is_key: bool, out: &mut String) -> Progress {
        out.push('"');
        self.go_to(Place::String { quote, is_key, escape: Escape::None })
    }

    fn end_string(&mut self, is_key: bool, out: &mut String) -> Progress {
        out.push('"');
        self.go_to(if is_key { Place::Colon } else { Place::Behind })
    }

    fn go_on_with_string(
        &mut self,
        character: char,
        quote: char,
        is_key: bool,
        escape: Escape,
        out: &mut String,
    ) -> Progress {
        let escape = match (escape, character) {
            (Escape::None, '\\') => Escape::Begun,
            (Escape::None, _) if character == quote => return self.end_string(is_key, out),
            (Escape::None, _) => {
                escape_into(character, out);
                Escape::None
            }
            (Escape::Begun, 'u') => {
                out.push_str("\\u");
                Escape::Digits(4)
            }
            (Escape::Begun, 'x') => {
                out.push_str("\\u00");
                Escape::Digits(2)
            }
            (Escape::Begun, 'n' | 't' | 'r' | 'b' | 'f' | '"' | '\\') => {
                out.extend(['\\', character]);
                Escape::None
            }
            (Escape::Begun, '\'' | '/') => {
                out.push(character);
                Escape::None
            }
            // A line that goes on.
            (Escape::Begun, '\n') => Escape::None,
            (Escape::Begun, _) => {
                out.push_str("\\\\");
                escape_into(character, out);
                Escape::None
            }
            (Escape::Digits(left), _) if character.is_ascii_hexdigit() => {
                out.push(character);
                if left > 1 { Escape::Digits(left - 1) } else { Escape::None }
            }
            (Escape::Digits(_), _) => return Progress::Broken,
        };
        self.go_to(Place::String { quote, is_key, escape })
    }

    fn write_comma(&mut self, out: &mut String) {
        if std::mem::take(&mut self.has_comma) {
            out.push_str(", ");
        }
    }

    fn close(&mut self, character: char, out: &mut String) -> Progress {
        self.has_comma = false;
        let bracket = match (self.open.pop(), character) {
            (Some(Container::Arguments), ')') | (Some(Container::Object), '}') => '}',
            (Some(Container::List), ']') | (Some(Container::Tuple), ')') => ']',
            _ => return Progress::Broken,
        };
        out.push(bracket);
        if self.open.is_empty() { Progress::Complete } else { self.go_to(Place::Behind) }
    }
}

fn is_structure(character: char) -> bool {
    matches!(character, '{' | '}' | '[' | ']' | ':' | ',')
}

fn is_of_word(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '_' | '+' | '-' | '.')
}

/// A number or a name of Python or JSON as JSON.
fn json_word(word: &str) -> Option<String> {
    match word {
        "True" => Some("true".to_owned()),
        "False" => Some("false".to_owned()),
        "None" => Some("null".to_owned()),
        _ => {
            let is_json = word.chars().all(is_of_word) && serde_json::from_str::<IgnoredAny>(word).is_ok();
            is_json.then(|| word.to_owned())
        }
    }
}

/// Writes a character of a string as JSON does.
pub(super) fn escape_into(character: char, out: &mut String) {
    match character {
        '"' | '\\' => out.extend(['\\', character]),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\0'..='\u{1f}' => {
            let digit = |value: u32| char::from_digit(value, 16).unwrap_or('0');
            out.push_str("\\u00");
            out.extend([digit(character as u32 >> 4), digit(character as u32 & 15)]);
        }
        _ => out.push(character),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn translate(mut literal: Literal, mut json: String, text: &str) -> (String, Progress) {
        for (at, character) in text.char_indices() {
            let progress = literal.push(character, &mut json);
            if progress != Progress::Open {
                let rest = if progress == Progress::Complete {
                    &text[at + character.len_utf8()..]
                } else {
                    &text[at..]
                };
                return (format!("{json}{rest}"), progress);
            }
        }
        (json, Progress::Open)
    }

    #[test]
    fn keyword_arguments_become_an_object() {
        for (text, json, progress) in [
            (")", "{}", Progress::Complete),
            ("a=1, b = 'x\"y\\'z\\n',)!", r#"{"a": 1, "b": "x\"y'z\n"}!"#, Progress::Complete),
            ("größe=True, n=None)", r#"{"größe": true, "n": null}"#, Progress::Complete),
            (
                r#"o={"a": [1, -2.5, (3,)], 'b': False, "c": {}}, l=[])"#,
                r#"{"o": {"a": [1, -2.5, [3]], "b": false, "c": {}}, "l": []}"#,
                Progress::Complete,
            ),
            (r"a='\x41\u00e9\d'", r#"{"a": "\u0041\u00e9\\d""#, Progress::Open),
            ("a=\"tab\there", r#"{"a": "tab\there"#, Progress::Open),
            ("1)", "{1)", Progress::Broken),
            ("a=foo)", "{\"a\": )", Progress::Broken),
            ("a=1]", "{\"a\": 1]", Progress::Broken),
            ("a=1 b=2)", "{\"a\": 1b=2)", Progress::Broken),
        ] {
            let mut start = String::new();
            let literal = Literal::python_arguments(&mut start);
            assert_eq!(translate(literal, start, text), (json.to_owned(), progress), "{text}");
        }
    }

    #[test]
    fn objects_without_quotes_become_json() {
        for (text, json, progress) in [
            ("}", "{}", Progress::Complete),
            (
                "city:<|\"|>Paris \"x\"<|\"|>,days:3,o:{a:[1,<|\"|>x<|\"|>],b:true}}",
                r#"{"city": "Paris \"x\"", "days": 3, "o": {"a": [1, "x"], "b": true}}"#,
                Progress::Complete,
            ),
            ("a-b c:null}", r#"{"a-b c": null}"#, Progress::Complete),
            ("a:<|\"|>1 < 2 <|", r#"{"a": "1 < 2 "#, Progress::Open),
            ("a:<b>", r#"{"a": b>"#, Progress::Broken),
        ] {
            let mut start = String::new();
            let literal = Literal::unquoted_object(&mut start);
            assert_eq!(translate(literal, start, text), (json.to_owned(), progress), "{text}");
        }
    }

    #[test]
    fn literals_of_python_become_json() {
        for (text, json) in [
            ("{'a': [1, 'x'], 'b': True}", Some(r#"{"a": [1, "x"], "b": true}"#)),
            ("None", Some("null")),
            ("[]", Some("[]")),
            ("[1] ", None),
            ("{'a': }", None),
            ("'x'", None),
            ("Paris", None),
            ("{'a'", None),
        ] {
            assert_eq!(Literal::python(text).as_deref(), json, "{text}");
        }
    }
}
