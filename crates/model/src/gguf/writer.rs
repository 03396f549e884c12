//! Writes GGUF files: conversions, and models for tests.

use std::borrow::Cow;
use std::io::{self, Write};

use lookahead_kernels::WeightType;

use super::array::Array;
use super::error::{GgufError, TensorProblem};
use super::format::{ALIGNMENT_KEY, DEFAULT_ALIGNMENT, MAGIC, value_type};
use super::tensor::size_bytes;
use super::tensor_type;
use super::value::Value;

/// The version of the format that is written.
const VERSION: u32 = 3;

/// Collects metadata and tensors, then writes them as a GGUF version 3 file, little-endian, with alignment 32.
pub struct Writer<'a> {
    file: String,
    metadata: Vec<(String, Value)>,
    tensors: Vec<NewTensor<'a>>,
}

struct NewTensor<'a> {
    name: String,
    weight_type: WeightType,
    shape: Vec<u64>,
    bytes: Cow<'a, [u8]>,
}

impl<'a> Writer<'a> {
    /// An empty file; `name` is what errors call it.
    pub fn new(name: impl Into<String>) -> Self {
        Self { file: name.into(), metadata: Vec::new(), tensors: Vec::new() }
    }

    /// Sets the metadata value of `key`, replacing an earlier one. An alignment is not taken over from another file:
    /// `general.alignment` is ignored.
    pub fn metadata(&mut self, key: impl Into<String>, value: impl Into<Value>) -> &mut Self {
        let (key, value) = (key.into(), value.into());
        if let Some(entry) = self.metadata.iter_mut().find(|entry| entry.0 == key) {
            entry.1 = value;
        } else if key != ALIGNMENT_KEY {
            self.metadata.push((key, value));
        }
        self
    }

    /// Adds a tensor: `shape[0]` is the length of a row, `bytes` are its rows in blocks of `weight_type`.
    ///
    /// # Errors
    /// If there is a tensor of this name already, or if the bytes are not what type and shape need.
    pub fn tensor(
        &mut self,
        name: impl Into<String>,
        weight_type: WeightType,
        shape: &[u64],
        bytes: impl Into<Cow<'a, [u8]>>,
    ) -> Result<&mut Self, GgufError> {
        let (name, bytes) = (name.into(), bytes.into());
        let checked = match size_bytes(weight_type, shape) {
            Ok(_) if self.tensors.iter().any(|tensor| tensor.name == name) => Err(TensorProblem::Duplicate),
            Ok(size) if size != bytes.len() => {
                Err(TensorProblem::WrongSize { expected: size as u64, found: bytes.len() as u64 })
            }
            other => other.map(drop),
        };
        checked.map_err(|problem| problem.in_tensor(&self.file, &name))?;
        self.tensors.push(NewTensor { name, weight_type, shape: shape.to_vec(), bytes });
        Ok(self)
    }

    /// Writes the file.
    ///
    /// # Errors
    /// If writing to `out` fails.
    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let alignment = DEFAULT_ALIGNMENT as usize;
        let head = self.head(alignment);
        let padding = vec![0; alignment];
        out.write_all(&head)?;
        out.write_all(&padding[..head.len().next_multiple_of(alignment) - head.len()])?;
        for NewTensor { bytes, .. } in &self.tensors {
            out.write_all(bytes)?;
            out.write_all(&padding[..bytes.len().next_multiple_of(alignment) - bytes.len()])?;
        }
        out.flush()
    }

    /// The file's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let written = self.write(&mut bytes);
        debug_assert!(written.is_ok(), "writing to memory cannot fail");
        bytes
    }

    /// Header, metadata and tensor table.
    fn head(&self, alignment: usize) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend(MAGIC);
        out.extend(VERSION.to_le_bytes());
        out.extend((self.tensors.len() as u64).to_le_bytes());
        out.extend((self.metadata.len() as u64).to_le_bytes());
        for (key, value) in &self.metadata {
            put_string(&mut out, key);
            put_value(&mut out, value);
        }
        let mut offset = 0;
        for tensor in &self.tensors {
            put_string(&mut out, &tensor.name);
            out.extend((tensor.shape.len() as u32).to_le_bytes());
            out.extend(tensor.shape.iter().flat_map(|length| length.to_le_bytes()));
            out.extend(tensor_type::number(tensor.weight_type).to_le_bytes());
            out.extend((offset as u64).to_le_bytes());
            offset += tensor.bytes.len().next_multiple_of(alignment);
        }
        out
    }
}

fn put_string(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

fn put_value(out: &mut Vec<u8>, value: &Value) {
    let mut put = |value_type: u32, bytes: &[u8]| {
        out.extend(value_type.to_le_bytes());
        out.extend(bytes);
    };
    match value {
        Value::U8(value) => put(value_type::U8, &value.to_le_bytes()),
        Value::I8(value) => put(value_type::I8, &value.to_le_bytes()),
        Value::U16(value) => put(value_type::U16, &value.to_le_bytes()),
        Value::I16(value) => put(value_type::I16, &value.to_le_bytes()),
        Value::U32(value) => put(value_type::U32, &value.to_le_bytes()),
        Value::I32(value) => put(value_type::I32, &value.to_le_bytes()),
        Value::U64(value) => put(value_type::U64, &value.to_le_bytes()),
        Value::I64(value) => put(value_type::I64, &value.to_le_bytes()),
        Value::F32(value) => put(value_type::F32, &value.to_le_bytes()),
        Value::F64(value) => put(value_type::F64, &value.to_le_bytes()),
        Value::Bool(value) => put(value_type::BOOL, &[u8::from(*value)]),
        Value::String(text) => {
            put(value_type::STRING, &[]);
            put_string(out, text);
        }
        Value::Array(array) => {
            put(value_type::ARRAY, &[]);
            put_array(out, array);
        }
    }
}

fn put_array(out: &mut Vec<u8>, array: &Array) {
    let mut put = |element_type: u32| {
        out.extend(element_type.to_le_bytes());
        out.extend((array.len() as u64).to_le_bytes());
    };
    match array {
        Array::U8(values) => {
            put(value_type::U8);
            out.extend(values);
        }
        Array::I8(values) => {
            put(value_type::I8);
            out.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        }
        Array::U16(values) => {
            put(value_type::U16);
            out.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        }
        Array::I16(values) => {
            put(value_type::I16);
            out.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        }
        Array::U32(values) => {
            put(value_type::U32);
            out.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        }
        Array::I32(values) => {
            put(value_type::I32);
            out.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        }
        Array::U64(values) => {
            put(value_type::U64);
            out.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        }
        Array::I64(values) => {
            put(value_type::I64);
            out.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        }
        Array::F32(values) => {
            put(value_type::F32);
            out.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        }
        Array::F64(values) => {
            put(value_type::F64);
            out.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        }
        Array::Bool(values) => {
            put(value_type::BOOL);
            out.extend(values.iter().map(|&value| u8::from(value)));
        }
        Array::Strings(strings) => {
            put(value_type::STRING);
            strings.iter().for_each(|text| put_string(out, text));
        }
        Array::Arrays(arrays) => {
            put(value_type::ARRAY);
            for array in arrays {
                put_array(out, array);
            }
        }
    }
}
