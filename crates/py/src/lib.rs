//! `lookahead_drafts._native`: the draft engine as a Python extension module.
//!
//! Each class wraps one type of `lookahead-trie` and adds what Python needs: arrays in and out, exceptions that name the
//! argument, the interpreter's lock released while drafts are made, and use from many threads. `python/lookahead_drafts`
//! holds the stubs and the code for the hosts.

#![deny(unsafe_code)]
#![allow(clippy::needless_pass_by_value, reason = "a call from Python gives its arguments away")]
#![allow(clippy::unused_self, reason = "a method in Python, whatever it needs")]

mod cost;
mod draft;
mod error;
mod parallel;
mod params;
mod request;
mod rows;
mod tokens;
mod trie;

use pyo3::prelude::*;

/// The extension module.
#[pymodule(name = "_native")]
mod native {
    #[pymodule_export]
    use crate::cost::{PyCostCurve, PyLinearCost};
    #[pymodule_export]
    use crate::draft::{PyDraftBatch, PyDraftTree};
    #[pymodule_export]
    use crate::error::DraftError;
    #[pymodule_export]
    use crate::request::PyDraftRequest;
    #[pymodule_export]
    use crate::rows::PyDraftRows;
    #[pymodule_export]
    use crate::tokens::vocabulary_fingerprint;
    #[pymodule_export]
    use crate::trie::{PyDraftTrie, build_corpus, inspect_corpus, merge_corpora};
}
