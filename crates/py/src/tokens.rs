//! Token ids as Python has them: lists, NumPy arrays of any integer type, whatever turns into one.

use lookahead_trie::TokenId;
use numpy::{
    Element, PyArray1, PyArrayDescrMethods as _, PyArrayMethods as _, PyUntypedArray,
    PyUntypedArrayMethods as _,
};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyList, PyString};

/// The greatest number is no token.
const MAX_TOKEN: i64 = (TokenId::MAX - 1) as i64;

/// The token ids in `value`, called `name` where something is wrong with it.
///
/// # Errors
/// `TypeError` for what is no row of integers, `ValueError` for a wrong shape or an id out of range.
pub(crate) fn from_python(value: &Bound<'_, PyAny>, name: &str) -> PyResult<Vec<TokenId>> {
    if let Ok(list) = value.cast::<PyList>() {
        return list.iter().enumerate().map(|(index, id)| one(&id, name, index)).collect();
    }
    if let Ok(array) = value.cast::<PyUntypedArray>() {
        return from_array(array, name);
    }
    // Tensors and the like; not a torch tensor item by item, which takes a microsecond each.
    if value.hasattr(intern!(value.py(), "__array__"))? {
        let array = value.call_method0(intern!(value.py(), "__array__"))?;
        return from_array(array.cast::<PyUntypedArray>()?, name);
    }
    if value.is_instance_of::<PyString>() {
        return Err(PyTypeError::new_err(format!(
            "{name} is a text; token ids are needed: encode it with the model's tokenizer"
        )));
    }
    let items = value.try_iter().map_err(|_| {
        let found = type_name(value);
        PyTypeError::new_err(format!("{name} is of type {found}; a list or array of token ids is needed"))
    })?;
    items.enumerate().map(|(index, id)| one(&id?, name, index)).collect()
}

fn from_array(array: &Bound<'_, PyUntypedArray>, name: &str) -> PyResult<Vec<TokenId>> {
    if array.ndim() != 1 {
        return Err(PyValueError::new_err(format!(
            "{name} has the shape {:?}; token ids are one row, of one dimension",
            array.shape()
        )));
    }
    let dtype = array.dtype();
    if !matches!(dtype.kind(), b'i' | b'u') {
        // An empty list becomes an array of floats.
        if array.is_empty() {
            return Ok(Vec::new());
        }
        return Err(PyTypeError::new_err(format!(
            "{name} is an array of {dtype}; token ids are integers: convert it with .astype(numpy.int64)"
        )));
    }
    if let Some(tokens) = typed::<i64>(array, name).or_else(|| typed::<i32>(array, name)) {
        return tokens;
    }
    if dtype.kind() == b'u' && dtype.itemsize() == 8 {
        return typed::<u64>(array, name).unwrap_or_else(|| Ok(Vec::new()));
    }
    let widened = array.call_method1(intern!(array.py(), "astype"), (intern!(array.py(), "int64"),))?;
    typed::<i64>(widened.cast::<PyUntypedArray>()?, name).unwrap_or_else(|| Ok(Vec::new()))
}

/// The ids of an array of this type, if it is one.
fn typed<T>(array: &Bound<'_, PyUntypedArray>, name: &str) -> Option<PyResult<Vec<TokenId>>>
where
    T: Element + Copy + TryInto<i128> + std::fmt::Display,
{
    let array = array.cast::<PyArray1<T>>().ok()?;
    let array = array.try_readonly().ok()?;
    let checked = |(index, &id): (usize, &T)| {
        let number: i128 = id.try_into().unwrap_or(-1);
        if (0..=i128::from(MAX_TOKEN)).contains(&number) {
            Ok(number as TokenId)
        } else {
            Err(out_of_range(&id, name, index))
        }
    };
    Some(match array.as_slice() {
        Ok(ids) => ids.iter().enumerate().map(checked).collect(),
        Err(_) => array.as_array().iter().enumerate().map(checked).collect(),
    })
}

fn one(id: &Bound<'_, PyAny>, name: &str, index: usize) -> PyResult<TokenId> {
    let number = match id.extract::<i64>() {
        Ok(number) if !id.is_instance_of::<PyBool>() => number,
        Err(_) if id.is_instance_of::<pyo3::types::PyInt>() => return Err(out_of_range(id, name, index)),
        _ => {
            return Err(PyTypeError::new_err(format!(
                "{name}[{index}] is of type {}; token ids are integers",
                type_name(id)
            )));
        }
    };
    if (0..=MAX_TOKEN).contains(&number) {
        Ok(number as TokenId)
    } else {
        Err(out_of_range(&number, name, index))
    }
}

fn out_of_range(id: &dyn std::fmt::Display, name: &str, index: usize) -> PyErr {
    PyValueError::new_err(format!("{name}[{index}] is {id}; token ids are 0 to {MAX_TOKEN}"))
}

pub(crate) fn type_name(value: &Bound<'_, PyAny>) -> String {
    value.get_type().name().map_or_else(|_| "unknown".to_owned(), |name| name.to_string())
}

/// A hash over a vocabulary's tokens in the order of their ids, which files of drafts carry: those of one tokenizer are
/// refused by another. It is the one that `lookahead trie inspect` shows.
#[pyfunction]
#[pyo3(signature = (tokens, /))]
pub(crate) fn vocabulary_fingerprint(tokens: &Bound<'_, PyAny>) -> PyResult<u64> {
    Ok(lookahead_trie::vocabulary_fingerprint(texts_of(tokens, "tokens")?))
}

/// The texts of tokens, which errors call `name`.
pub(crate) fn texts_of(tokens: &Bound<'_, PyAny>, name: &str) -> PyResult<Vec<String>> {
    let texts = tokens.try_iter()?.map(|token| {
        let token = token?;
        let text = token.cast::<PyString>().map_err(|_| {
            PyTypeError::new_err(format!("{name} hold a {}; their texts are needed", type_name(&token)))
        })?;
        Ok(text.to_cow()?.into_owned())
    });
    texts.collect()
}
