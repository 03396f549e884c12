//! From a file's bytes to its metadata and tensor table. Every number of the file is checked here before it is used.

use std::ops::Range;

use super::array::{Array, Strings};
use super::cursor::{Cursor, Field};
use super::error::{GgufError, MetadataProblem, TensorProblem};
use super::format::{ALIGNMENT_KEY, DEFAULT_ALIGNMENT, MAGIC, MAX_DIMENSIONS, value_type};
use super::metadata::Metadata;
use super::tensor::{TensorInfo, TensorTable};
use super::tensor_type;
use super::value::Value;

/// Arrays of arrays exist in the format; models hardly use them. The bound keeps hostile files off the stack.
const MAX_ARRAY_DEPTH: usize = 4;

/// Fewest bytes of a string: its length.
const MIN_STRING_BYTES: usize = 8;
/// Fewest bytes of a metadata entry: empty key, value type, one byte.
const MIN_METADATA_BYTES: usize = MIN_STRING_BYTES + 4 + 1;
/// Fewest bytes of an entry of the tensor table: empty name, one dimension, its length, type, offset.
const MIN_TENSOR_BYTES: usize = MIN_STRING_BYTES + 4 + 8 + 4 + 8;
/// Fewest bytes of an array: element type and count.
const MIN_ARRAY_BYTES: usize = 4 + 8;

pub(super) fn parse(file: &str, bytes: &[u8]) -> Result<(Metadata, TensorTable), GgufError> {
    let mut cursor = Cursor::new(file, bytes);
    let (tensor_count, metadata_count) = header(&mut cursor)?;
    let metadata = metadata(&mut cursor, metadata_count)?;
    let alignment = alignment(file, &metadata)?;
    let entries = tensor_entries(&mut cursor, tensor_count)?;

    let data_start = cursor.position().next_multiple_of(alignment as usize).min(bytes.len());
    let data = data_start..bytes.len();
    let infos = entries.into_iter().map(|entry| entry.locate(file, alignment, data.clone()));
    let tensors = TensorTable::new(file, infos.collect::<Result<_, _>>()?)?;
    Ok((metadata, tensors))
}

/// Magic, version, and the counts of tensors and metadata entries.
fn header(cursor: &mut Cursor<'_>) -> Result<(u64, u64), GgufError> {
    let file = cursor.file;
    let magic = cursor.take(MAGIC.len() as u64, Field::Header("magic"))?;
    if magic != MAGIC {
        return Err(GgufError::NotGguf { file: file.to_owned(), found: magic.to_vec() });
    }
    match cursor.u32(Field::Header("version"))? {
        2 | 3 => {}
        swapped if matches!(swapped.swap_bytes(), 1..=3) => {
            return Err(GgufError::BigEndian { file: file.to_owned() });
        }
        version => return Err(GgufError::UnsupportedVersion { file: file.to_owned(), version }),
    }
    let tensor_count = cursor.u64(Field::Header("tensor count"))?;
    let metadata_count = cursor.u64(Field::Header("metadata count"))?;
    cursor.check_count(tensor_count, MIN_TENSOR_BYTES, Field::Header("tensor count"))?;
    cursor.check_count(metadata_count, MIN_METADATA_BYTES, Field::Header("metadata count"))?;
    Ok((tensor_count, metadata_count))
}

fn metadata(cursor: &mut Cursor<'_>, count: u64) -> Result<Metadata, GgufError> {
    let mut entries = Vec::new();
    for index in 0..count {
        let field = Field::MetadataEntry(index);
        let key = cursor.name(field)?;
        let value_type = cursor.u32(Field::Metadata(key))?;
        entries.push((key.to_owned(), value(cursor, key, value_type)?));
    }
    Metadata::new(cursor.file, entries)
}

fn value(cursor: &mut Cursor<'_>, key: &str, value_type: u32) -> Result<Value, GgufError> {
    use value_type::{ARRAY, STRING};
    let field = Field::Metadata(key);
    Ok(match value_type {
        STRING => Value::String(String::from_utf8_lossy(cursor.string(field)?).into_owned()),
        ARRAY => Value::Array(array(cursor, key, 1)?),
        scalar => match elements(cursor, key, scalar, 1, 1)? {
            Array::U8(values) => Value::U8(values[0]),
            Array::I8(values) => Value::I8(values[0]),
            Array::U16(values) => Value::U16(values[0]),
            Array::I16(values) => Value::I16(values[0]),
            Array::U32(values) => Value::U32(values[0]),
            Array::I32(values) => Value::I32(values[0]),
            Array::U64(values) => Value::U64(values[0]),
            Array::I64(values) => Value::I64(values[0]),
            Array::F32(values) => Value::F32(values[0]),
            Array::F64(values) => Value::F64(values[0]),
            Array::Bool(values) => Value::Bool(values[0]),
            array @ (Array::Strings(_) | Array::Arrays(_)) => Value::Array(array),
        },
    })
}

/// An array behind its element type and count; `depth` is 1 for an array that is itself no element.
fn array(cursor: &mut Cursor<'_>, key: &str, depth: usize) -> Result<Array, GgufError> {
    if depth > MAX_ARRAY_DEPTH {
        return Err(MetadataProblem::NestedTooDeep(MAX_ARRAY_DEPTH).in_key(cursor.file, key));
    }
    let field = Field::Metadata(key);
    let element_type = cursor.u32(field)?;
    let count = cursor.u64(field)?;
    elements(cursor, key, element_type, count, depth)
}

/// `count` values of one type.
fn elements(
    cursor: &mut Cursor<'_>,
    key: &str,
    element_type: u32,
    count: u64,
    depth: usize,
) -> Result<Array, GgufError> {
    let field = Field::Metadata(key);
    Ok(match element_type {
        value_type::U8 => Array::U8(cursor.take(count, field)?.to_vec()),
        value_type::I8 => Array::I8(cursor.numbers(count, i8::from_le_bytes, field)?),
        value_type::U16 => Array::U16(cursor.numbers(count, u16::from_le_bytes, field)?),
        value_type::I16 => Array::I16(cursor.numbers(count, i16::from_le_bytes, field)?),
        value_type::U32 => Array::U32(cursor.numbers(count, u32::from_le_bytes, field)?),
        value_type::I32 => Array::I32(cursor.numbers(count, i32::from_le_bytes, field)?),
        value_type::U64 => Array::U64(cursor.numbers(count, u64::from_le_bytes, field)?),
        value_type::I64 => Array::I64(cursor.numbers(count, i64::from_le_bytes, field)?),
        value_type::F32 => Array::F32(cursor.numbers(count, f32::from_le_bytes, field)?),
        value_type::F64 => Array::F64(cursor.numbers(count, f64::from_le_bytes, field)?),
        value_type::BOOL => {
            let bytes = cursor.take(count, field)?;
            Array::Bool(cursor.bools(bytes, key)?)
        }
        value_type::STRING => {
            let count = cursor.check_count(count, MIN_STRING_BYTES, field)?;
            let mut strings = Strings::with_capacity(count);
            for _ in 0..count {
                strings.push(&String::from_utf8_lossy(cursor.string(field)?));
            }
            Array::Strings(strings)
        }
        value_type::ARRAY => {
            let count = cursor.check_count(count, MIN_ARRAY_BYTES, field)?;
            let arrays = (0..count).map(|_| array(cursor, key, depth + 1));
            Array::Arrays(arrays.collect::<Result<_, _>>()?)
        }
        unknown => return Err(MetadataProblem::UnknownType(unknown).in_key(cursor.file, key)),
    })
}

/// The multiple at which tensor bytes start, in bytes.
fn alignment(file: &str, metadata: &Metadata) -> Result<u32, GgufError> {
    match metadata.u64(ALIGNMENT_KEY)? {
        None => Ok(DEFAULT_ALIGNMENT),
        // The format wants multiples of 8; real files have 32. Large values would only hide garbage between tensors.
        Some(alignment @ 8..=65_536) if alignment.is_power_of_two() => Ok(alignment as u32),
        Some(other) => Err(MetadataProblem::BadAlignment(other).in_key(file, ALIGNMENT_KEY)),
    }
}

/// An entry of the tensor table as it stands in the file: where the data starts is only known behind the last one.
struct TensorEntry<'a> {
    name: &'a str,
    shape: Vec<u64>,
    type_number: u32,
    offset: u64,
}

fn tensor_entries<'a>(cursor: &mut Cursor<'a>, count: u64) -> Result<Vec<TensorEntry<'a>>, GgufError> {
    let mut entries = Vec::new();
    for index in 0..count {
        let name = cursor.name(Field::TensorEntry(index))?;
        let field = Field::Tensor(name);
        let dimensions = cursor.u32(field)?;
        if !(1..=MAX_DIMENSIONS as u32).contains(&dimensions) {
            return Err(TensorProblem::Dimensions(dimensions.into()).in_tensor(cursor.file, name));
        }
        let shape = cursor.numbers(dimensions.into(), u64::from_le_bytes, field)?;
        let type_number = cursor.u32(field)?;
        let offset = cursor.u64(field)?;
        entries.push(TensorEntry { name, shape, type_number, offset });
    }
    Ok(entries)
}

impl TensorEntry<'_> {
    /// Checks the entry; `data` is where tensor bytes lie in the file.
    fn locate(self, file: &str, alignment: u32, data: Range<usize>) -> Result<TensorInfo, GgufError> {
        tensor_type::from_number(self.type_number)
            .ok_or(TensorProblem::UnsupportedType(self.type_number))
            .and_then(|weight_type| {
                TensorInfo::new(self.name, weight_type, self.shape, self.offset, alignment, data)
            })
            .map_err(|problem| problem.in_tensor(file, self.name))
    }
}
