//! A request, as Python holds it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lookahead_trie::{Namespace, Request};
use numpy::PyArray1;
use pyo3::prelude::*;

use crate::draft::PyDraftTree;
use crate::error::{DraftError, of_trie};
use crate::params::{chain, chain_params, params};
use crate::tokens;

/// One request: a text that no other request sees. Made by `DraftTrie.start`.
///
/// As a context manager it is finished at the end of the block, and cancelled if that ends by an exception.
#[pyclass(name = "DraftRequest", module = "lookahead_drafts", frozen, weakref)]
pub(crate) struct PyDraftRequest {
    namespace: Arc<Namespace>,
    name: String,
    request: Mutex<Option<Request>>,
}

impl PyDraftRequest {
    pub(crate) fn new(namespace: Arc<Namespace>, name: String, request: Request) -> Self {
        Self { namespace, name, request: Mutex::new(Some(request)) }
    }

    pub(crate) fn namespace(&self) -> &Arc<Namespace> {
        &self.namespace
    }

    /// The request itself. Never waited for with the interpreter's lock held: who has it may wait for that.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Option<Request>> {
        self.request.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T: Send>(
        &self,
        py: Python<'_>,
        act: impl FnOnce(&Namespace, &mut Request) -> T + Send,
    ) -> PyResult<T> {
        py.detach(|| self.lock().as_mut().map(|request| act(&self.namespace, request))).ok_or_else(finished)
    }
}

pub(crate) fn finished() -> PyErr {
    DraftError::new_err("the request is finished; start another with DraftTrie.start")
}

#[pymethods]
impl PyDraftRequest {
    /// Appends the tokens that the model produced. How far the last draft agreed with them is learned.
    #[pyo3(signature = (token_ids, /))]
    fn append(&self, py: Python<'_>, token_ids: &Bound<'_, PyAny>) -> PyResult<()> {
        let tokens = tokens::from_python(token_ids, "token_ids")?;
        self.with(py, |namespace, request| namespace.accept(request, &tokens))
    }

    /// Drafts what may follow, as a tree of at most `budget` nodes besides its root. Nodes of an estimated path probability
    /// below `min_probability` are left out, and those deeper than `depth`.
    #[pyo3(signature = (budget=16, *, depth=None, min_probability=0.01, shape="hierarchical", source="mixed"))]
    fn draft_tree(
        &self,
        py: Python<'_>,
        budget: i64,
        depth: Option<i64>,
        min_probability: f64,
        shape: &str,
        source: &str,
    ) -> PyResult<PyDraftTree> {
        let params = params(budget, depth, min_probability, shape, source)?;
        self.with(py, |namespace, request| PyDraftTree(namespace.draft(request, &params).clone()))
    }

    /// Drafts what may follow, as at most `budget` tokens in a row (int64): the branch that is expected to be accepted
    /// furthest, for engines that verify chains.
    #[pyo3(signature = (budget=8, *, min_probability=0.01))]
    fn draft_chain<'py>(
        &self,
        py: Python<'py>,
        budget: i64,
        min_probability: f64,
    ) -> PyResult<Bound<'py, PyArray1<i64>>> {
        let params = params(budget, None, min_probability, "hierarchical", "mixed")?;
        let tokens = self.with(py, |namespace, request| {
            let tree = namespace.draft(request, &chain_params(params));
            chain(tree, params.nodes).map(|(token, _)| i64::from(token)).collect::<Vec<_>>()
        })?;
        Ok(PyArray1::from_vec(py, tokens))
    }

    /// Ends the request. With share="readwrite" its output joins its namespace, its prompt never does.
    fn finish(&self, py: Python<'_>) -> PyResult<()> {
        let request = py.detach(|| self.lock().take()).ok_or_else(finished)?;
        py.detach(|| self.namespace.finish(request)).map_err(of_trie)
    }

    /// Ends the request, and nothing of it is kept. Does nothing if it has ended already.
    fn cancel(&self, py: Python<'_>) {
        py.detach(|| drop(self.lock().take()));
    }

    /// Whether it has ended.
    #[getter]
    fn is_finished(&self, py: Python<'_>) -> bool {
        py.detach(|| self.lock().is_none())
    }

    /// The namespace that it is in.
    #[getter]
    fn namespace_name(&self) -> &str {
        &self.name
    }

    /// Allocated bytes of its text, index and runners-up; 0 once it has ended.
    #[getter]
    fn bytes(&self, py: Python<'_>) -> usize {
        py.detach(|| self.lock().as_ref().map_or(0, Request::bytes))
    }

    fn __enter__(this: PyRef<'_, Self>) -> PyRef<'_, Self> {
        this
    }

    #[pyo3(signature = (exception_type, exception, traceback, /))]
    fn __exit__(
        &self,
        py: Python<'_>,
        exception_type: &Bound<'_, PyAny>,
        exception: &Bound<'_, PyAny>,
        traceback: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let _ = (exception, traceback);
        if !exception_type.is_none() {
            self.cancel(py);
        } else if !self.is_finished(py) {
            self.finish(py)?;
        }
        Ok(())
    }
}
