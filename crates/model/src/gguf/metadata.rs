//! Metadata: named values in the order of the file, and typed access to them.

use super::array::{Array, Strings};
use super::error::{GgufError, MetadataProblem};
use super::value::Value;

/// The named values of a file, in its order.
///
/// Typed accessors come in two kinds: `u32(key)` gives `None` where the key is absent, `require_u32(key)` makes that
/// an error. In both a value of another type is an error that names file, key, and what was expected and found.
/// Integers may have any width in the file, as tools differ; they must fit the type asked for.
#[derive(Clone, Debug)]
pub struct Metadata {
    file: String,
    entries: Vec<(String, Value)>,
    /// Indices of `entries`, by key.
    sorted: Vec<usize>,
}

impl Metadata {
    /// Checks that no key appears twice.
    pub(super) fn new(file: &str, entries: Vec<(String, Value)>) -> Result<Self, GgufError> {
        let key = |index: usize| entries[index].0.as_str();
        let mut sorted: Vec<usize> = (0..entries.len()).collect();
        sorted.sort_unstable_by(|&a, &b| key(a).cmp(key(b)));
        if let Some(pair) = sorted.windows(2).find(|pair| key(pair[0]) == key(pair[1])) {
            return Err(MetadataProblem::Duplicate.in_key(file, key(pair[0])));
        }
        Ok(Self { file: file.to_owned(), entries, sorted })
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Keys and values, in the order of the file.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Value)> {
        self.entries.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// The value of `key`, of whatever type.
    pub fn get(&self, key: &str) -> Option<&Value> {
        let found = self.sorted.binary_search_by(|&index| self.entries[index].0.as_str().cmp(key));
        found.ok().map(|at| &self.entries[self.sorted[at]].1)
    }

    /// An error about the value of `key`: for checks that go beyond its type.
    pub fn invalid(&self, key: &str, expected: &'static str) -> GgufError {
        match self.get(key) {
            Some(value) => {
                MetadataProblem::WrongType { expected, found: value.describe() }.in_key(&self.file, key)
            }
            None => self.missing(key),
        }
    }

    fn missing(&self, key: &str) -> GgufError {
        MetadataProblem::Missing.in_key(&self.file, key)
    }

    fn read<'a, T>(
        &'a self,
        key: &str,
        expected: &'static str,
        convert: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, GgufError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        convert(value).map(Some).ok_or_else(|| self.invalid(key, expected))
    }
}

/// For each type the accessor and its `require_` twin.
macro_rules! accessors {
    ($($name:ident, $require:ident: $type:ty, $what:literal, $convert:expr;)*) => {
        impl Metadata {
            $(
                #[doc = concat!("The value of `key`, which must be ", $what, "; `None` if there is no such key.")]
                ///
                /// # Errors
                /// [`MetadataProblem::WrongType`] if the value is something else.
                pub fn $name(&self, key: &str) -> Result<Option<$type>, GgufError> {
                    self.read(key, $what, $convert)
                }

                #[doc = concat!("The value of `key`, which must be there and be ", $what, ".")]
                ///
                /// # Errors
                /// [`MetadataProblem::Missing`] or [`MetadataProblem::WrongType`].
                pub fn $require(&self, key: &str) -> Result<$type, GgufError> {
                    self.$name(key)?.ok_or_else(|| self.missing(key))
                }
            )*
        }
    };
}

accessors! {
    u32, require_u32: u32, "an integer that fits u32", |value| u32::try_from(value.integer()?).ok();
    u64, require_u64: u64, "an integer that fits u64", |value| u64::try_from(value.integer()?).ok();
    f32, require_f32: f32, "a floating-point number", |value| match *value {
        Value::F32(value) => Some(value),
        Value::F64(value) => Some(value as f32),
        _ => None,
    };
    bool, require_bool: bool, "a bool", |value| match *value {
        Value::Bool(value) => Some(value),
        _ => None,
    };
    str, require_str: &str, "a string", |value| match value {
        Value::String(text) => Some(text.as_str()),
        _ => None,
    };
    strings, require_strings: &Strings, "an array of strings", |value| match value {
        Value::Array(Array::Strings(strings)) => Some(strings),
        _ => None,
    };
    bools, require_bools: &[bool], "an array of bools", |value| match value {
        Value::Array(Array::Bool(values)) => Some(values.as_slice()),
        _ => None,
    };
    u8s, require_u8s: &[u8], "an array of u8", |value| match value {
        Value::Array(Array::U8(values)) => Some(values.as_slice()),
        _ => None,
    };
    f32s, require_f32s: &[f32], "an array of f32", |value| match value {
        Value::Array(Array::F32(values)) => Some(values.as_slice()),
        _ => None,
    };
    u32s, require_u32s: Vec<u32>, "an array of integers that fit u32", |value| match value {
        Value::Array(array) => array.integers(),
        _ => None,
    };
    i32s, require_i32s: Vec<i32>, "an array of integers that fit i32", |value| match value {
        Value::Array(array) => array.integers(),
        _ => None,
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata() -> Metadata {
        let entries: [(&str, Value); 7] = [
            ("z.count", Value::U64(7)),
            ("negative", Value::I8(-1)),
            ("big", Value::U64(1 << 40)),
            ("eps", Value::F64(0.5)),
            ("name", "llama".into()),
            ("types", Value::Array(Array::U8(vec![1, 255]))),
            ("scores", vec![0.5f32, -1.0].into()),
        ];
        Metadata::new("m.gguf", entries.map(|(key, value)| (key.to_owned(), value)).to_vec()).unwrap()
    }

    #[test]
    fn values_keep_the_order_of_the_file_and_are_found_by_key() {
        let metadata = metadata();
        assert_eq!(metadata.iter().map(|(key, _)| key).collect::<Vec<_>>()[..2], ["z.count", "negative"]);
        assert!(metadata.iter().all(|(key, value)| metadata.get(key) == Some(value)));
        assert_eq!(metadata.get("absent"), None);
    }

    #[test]
    fn integers_of_any_width_are_accepted_where_they_fit() {
        let metadata = metadata();
        assert_eq!(metadata.require_u32("z.count").unwrap(), 7);
        assert_eq!(metadata.u64("big").unwrap(), Some(1 << 40));
        assert_eq!(metadata.require_i32s("types").unwrap(), [1, 255]);
        assert_eq!(metadata.require_f32("eps").unwrap(), 0.5);
        assert_eq!(metadata.u32("absent").unwrap(), None);
    }

    #[test]
    fn errors_name_file_key_and_both_types() {
        let metadata = metadata();
        let message = |error: GgufError| error.to_string();
        assert_eq!(
            message(metadata.u32("negative").unwrap_err()),
            "m.gguf: metadata negative: expected an integer that fits u32, found i8 -1"
        );
        assert_eq!(
            message(metadata.u32("big").unwrap_err()),
            "m.gguf: metadata big: expected an integer that fits u32, found u64 1099511627776"
        );
        assert_eq!(
            message(metadata.strings("scores").unwrap_err()),
            "m.gguf: metadata scores: expected an array of strings, found array of 2 f32"
        );
        assert_eq!(
            message(metadata.bool("name").unwrap_err()),
            "m.gguf: metadata name: expected a bool, found string \"llama\""
        );
        assert_eq!(
            message(metadata.require_str("absent").unwrap_err()),
            "m.gguf: metadata absent: missing: the file is not a complete model"
        );
    }
}
