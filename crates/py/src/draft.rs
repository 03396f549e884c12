//! Drafts as NumPy arrays.

use lookahead_trie::DraftTree;
use numpy::{PyArray1, PyArray2, PyArrayMethods as _};
use pyo3::exceptions::{PyIndexError, PyValueError};
use pyo3::prelude::*;

use crate::params::MAX_NODES;

/// A draft tree. Node 0 is the root, the last token of the request's text; a parent stands before its children.
#[pyclass(name = "DraftTree", module = "lookahead_drafts", frozen)]
pub(crate) struct PyDraftTree(pub(crate) DraftTree);

#[pymethods]
impl PyDraftTree {
    /// Token of each node: int64, shape (nodes,).
    #[getter]
    fn tokens<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<i64>> {
        PyArray1::from_iter(py, self.0.tokens().iter().map(|&token| i64::from(token)))
    }

    /// Parent of each node: int64, shape (nodes,). The root's entry is 0 and means nothing.
    #[getter]
    fn parents<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<i64>> {
        PyArray1::from_iter(py, self.0.parents().iter().map(|&parent| i64::from(parent)))
    }

    /// Estimated probability of the path from the root to each node: float32, shape (nodes,); 1 for the root.
    #[getter]
    fn probabilities<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<f32>> {
        PyArray1::from_slice(py, self.0.probabilities())
    }

    /// Depth of each node: int64, shape (nodes,); 0 for the root.
    #[getter]
    fn depths<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<i64>> {
        PyArray1::from_vec(py, depths(&self.0))
    }

    /// The tree attention mask: bool, shape (nodes, nodes); node i sees itself and its ancestors.
    #[getter]
    fn mask<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray2<bool>>> {
        let nodes = self.0.len();
        let mut mask = vec![false; nodes * nodes];
        fill_mask(&self.0, nodes, &mut mask);
        PyArray1::from_vec(py, mask).reshape([nodes, nodes])
    }

    /// Tokens of the branch that is expected to be accepted furthest, without the root: int64, for engines that verify
    /// chains.
    fn best_chain<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<i64>> {
        let chain = self.0.best_chain();
        PyArray1::from_iter(py, chain.iter().skip(1).map(|&node| i64::from(self.0.tokens()[node as usize])))
    }

    fn __len__(&self) -> usize {
        self.0.len()
    }

    fn __repr__(&self) -> String {
        format!("DraftTree(tokens={:?}, parents={:?})", self.0.tokens(), self.0.parents())
    }
}

/// The drafts of several requests, one behind the other. Draft `i` holds the nodes `offsets[i]` to `offsets[i + 1]`, and its
/// parents count from its own root.
#[pyclass(name = "DraftBatch", module = "lookahead_drafts", frozen)]
pub(crate) struct PyDraftBatch {
    /// int64, shape (nodes of all,).
    #[pyo3(get)]
    tokens: Py<PyArray1<i64>>,
    /// int64, shape (nodes of all,).
    #[pyo3(get)]
    parents: Py<PyArray1<i64>>,
    /// float32, shape (nodes of all,).
    #[pyo3(get)]
    probabilities: Py<PyArray1<f32>>,
    /// int64, shape (requests + 1,).
    #[pyo3(get)]
    offsets: Py<PyArray1<i64>>,
    trees: Vec<DraftTree>,
}

impl PyDraftBatch {
    pub(crate) fn new(py: Python<'_>, trees: Vec<DraftTree>) -> Self {
        let nodes = trees.iter().map(DraftTree::len).sum();
        let mut tokens = Vec::with_capacity(nodes);
        let mut parents = Vec::with_capacity(nodes);
        let mut probabilities = Vec::with_capacity(nodes);
        let mut offsets = Vec::with_capacity(trees.len() + 1);
        offsets.push(0);
        for tree in &trees {
            tokens.extend(tree.tokens().iter().map(|&token| i64::from(token)));
            parents.extend(tree.parents().iter().map(|&parent| i64::from(parent)));
            probabilities.extend_from_slice(tree.probabilities());
            offsets.push(tokens.len() as i64);
        }
        Self {
            tokens: PyArray1::from_vec(py, tokens).unbind(),
            parents: PyArray1::from_vec(py, parents).unbind(),
            probabilities: PyArray1::from_vec(py, probabilities).unbind(),
            offsets: PyArray1::from_vec(py, offsets).unbind(),
            trees,
        }
    }
}

#[pymethods]
impl PyDraftBatch {
    /// The drafts at one size, for hosts that verify trees of a fixed shape: `(tokens, masks)` of int64, shape (requests,
    /// nodes), and bool, shape (requests, nodes, nodes). A smaller draft is filled up with children of the root that carry
    /// `padding` (by default the root's own token); a larger one is cut.
    #[pyo3(signature = (nodes, padding=None))]
    #[expect(clippy::type_complexity, reason = "two arrays")]
    fn padded<'py>(
        &self,
        py: Python<'py>,
        nodes: usize,
        padding: Option<i64>,
    ) -> PyResult<(Bound<'py, PyArray2<i64>>, Bound<'py, numpy::PyArray3<bool>>)> {
        let count = self.trees.len();
        if nodes > MAX_NODES {
            return Err(PyValueError::new_err(format!("nodes is {nodes}; 0 to {MAX_NODES} is needed")));
        }
        let mut tokens = Vec::with_capacity(count * nodes);
        let mut masks = vec![false; count * nodes * nodes];
        for (index, tree) in self.trees.iter().enumerate() {
            let root = tree.tokens().first().map_or(0, |&token| i64::from(token));
            let own = tree.len().min(nodes);
            tokens.extend(tree.tokens()[..own].iter().map(|&token| i64::from(token)));
            tokens.extend((own..nodes).map(|node| if node == 0 { root } else { padding.unwrap_or(root) }));
            fill_mask(tree, nodes, &mut masks[index * nodes * nodes..][..nodes * nodes]);
        }
        let tokens = PyArray1::from_vec(py, tokens).reshape([count, nodes])?;
        Ok((tokens, PyArray1::from_vec(py, masks).reshape([count, nodes, nodes])?))
    }

    fn __len__(&self) -> usize {
        self.trees.len()
    }

    fn __getitem__(&self, index: usize) -> PyResult<PyDraftTree> {
        let tree = self.trees.get(index).ok_or_else(|| {
            let message = format!("draft {index} of a batch of {}", self.trees.len());
            PyIndexError::new_err(message)
        })?;
        Ok(PyDraftTree(tree.clone()))
    }
}

pub(crate) fn depths(tree: &DraftTree) -> Vec<i64> {
    let mut depths = vec![0; tree.len()];
    for node in 1..tree.len() {
        depths[node] = depths[tree.parents()[node] as usize] + 1;
    }
    depths
}

/// Sets, for each of the first `nodes` nodes, those that it sees; nodes that the tree lacks are children of the root.
fn fill_mask(tree: &DraftTree, nodes: usize, mask: &mut [bool]) {
    for node in 0..nodes {
        if node > 0 {
            let parent = tree.parents().get(node).map_or(0, |&parent| parent as usize);
            let (above, row) = mask.split_at_mut(node * nodes);
            row[..nodes].copy_from_slice(&above[parent * nodes..][..nodes]);
        }
        mask[node * nodes + node] = true;
    }
}
