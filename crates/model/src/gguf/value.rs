//! One metadata value.

use std::fmt;

use super::array::{Array, Strings};
use super::error::printable;

/// A metadata value.
///
/// Strings are UTF-8 in the format. Real vocabularies break that rule with tokens that are single bytes or pieces of
/// characters, and such a file must load: invalid bytes in a string value become U+FFFD. (A byte-level vocabulary
/// spells bytes as other characters, and SentencePiece spells them `<0xNN>`; neither is affected.)
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)] // the variants are the format's value types
pub enum Value {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    U64(u64),
    I64(i64),
    F32(f32),
    F64(f64),
    Bool(bool),
    String(String),
    Array(Array),
}

impl Value {
    /// The value as an integer, if it is one.
    pub(super) fn integer(&self) -> Option<i128> {
        match *self {
            Self::U8(value) => Some(value.into()),
            Self::I8(value) => Some(value.into()),
            Self::U16(value) => Some(value.into()),
            Self::I16(value) => Some(value.into()),
            Self::U32(value) => Some(value.into()),
            Self::I32(value) => Some(value.into()),
            Self::U64(value) => Some(value.into()),
            Self::I64(value) => Some(value.into()),
            Self::F32(_) | Self::F64(_) | Self::Bool(_) | Self::String(_) | Self::Array(_) => None,
        }
    }

    /// Type and value for an error: `u32 7`, `string "llama"`, `array of 3 f32`.
    pub(super) fn describe(&self) -> String {
        let type_name = match self {
            Self::U8(_) => "u8",
            Self::I8(_) => "i8",
            Self::U16(_) => "u16",
            Self::I16(_) => "i16",
            Self::U32(_) => "u32",
            Self::I32(_) => "i32",
            Self::U64(_) => "u64",
            Self::I64(_) => "i64",
            Self::F32(_) => "f32",
            Self::F64(_) => "f64",
            Self::Bool(_) => "bool",
            Self::String(_) => "string",
            Self::Array(_) => return self.to_string(),
        };
        format!("{type_name} {self}")
    }
}

/// A value as people read it; long strings are cut, and of an array only size and type are shown.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::U8(value) => value.fmt(f),
            Self::I8(value) => value.fmt(f),
            Self::U16(value) => value.fmt(f),
            Self::I16(value) => value.fmt(f),
            Self::U32(value) => value.fmt(f),
            Self::I32(value) => value.fmt(f),
            Self::U64(value) => value.fmt(f),
            Self::I64(value) => value.fmt(f),
            Self::F32(value) => value.fmt(f),
            Self::F64(value) => value.fmt(f),
            Self::Bool(value) => value.fmt(f),
            Self::String(value) => write!(f, "\"{}\"", printable(value)),
            Self::Array(array) => write!(f, "array of {} {}", array.len(), array.element_type()),
        }
    }
}

/// `From` for the types that values are made of.
macro_rules! from {
    ($($type:ty => $variant:expr,)*) => {$(
        impl From<$type> for Value {
            fn from(value: $type) -> Self {
                $variant(value)
            }
        }
    )*};
}

from! {
    u32 => Value::U32,
    i32 => Value::I32,
    u64 => Value::U64,
    f32 => Value::F32,
    bool => Value::Bool,
    String => Value::String,
    Array => Value::Array,
    Strings => |strings| Value::Array(Array::Strings(strings)),
    Vec<u32> => |values| Value::Array(Array::U32(values)),
    Vec<i32> => |values| Value::Array(Array::I32(values)),
    Vec<f32> => |values| Value::Array(Array::F32(values)),
    Vec<bool> => |values| Value::Array(Array::Bool(values)),
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::String(value.to_owned())
    }
}
