//! Rust's errors as Python's exceptions.

use lookahead_trie::{FileProblem, TrieError};
use pyo3::exceptions::{PyException, PyFileNotFoundError, PyOSError, PyValueError};
use pyo3::prelude::*;

pyo3::create_exception!(
    lookahead_drafts,
    DraftError,
    PyException,
    "A file of drafts that cannot be used, or a request that is finished."
);

/// The exception for an error of the draft engine.
pub(crate) fn of_trie(error: TrieError) -> PyErr {
    let message = error.to_string();
    match error {
        TrieError::MaxBytes(_) | TrieError::NothingToMerge => PyValueError::new_err(message),
        TrieError::File { problem: FileProblem::Io(error), .. } => match error.kind() {
            std::io::ErrorKind::NotFound => PyFileNotFoundError::new_err(message),
            _ => PyOSError::new_err(message),
        },
        TrieError::File { problem: FileProblem::Copy { .. }, .. } => PyOSError::new_err(message),
        _ => DraftError::new_err(message),
    }
}
