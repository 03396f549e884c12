//! What drafts may look like and how requests share, out of Python's arguments.

use lookahead_trie::{DraftParams, DraftShape, DraftSource, DraftTree, Sharing, TokenId};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// Nodes of a draft, at most: a mask over them is of this size squared, in bytes.
pub(crate) const MAX_NODES: usize = 1 << 14;

/// What a draft may look like, out of Python's arguments.
///
/// # Errors
/// `ValueError` that names the argument.
pub(crate) fn params(
    budget: i64,
    depth: Option<i64>,
    min_probability: f64,
    shape: &str,
    source: &str,
) -> PyResult<DraftParams> {
    let size = |name: &str, value: i64| match usize::try_from(value) {
        Ok(value) if value <= MAX_NODES => Ok(value),
        _ => Err(PyValueError::new_err(format!("{name} is {value}; 0 to {MAX_NODES} is needed"))),
    };
    let nodes = size("budget", budget)?;
    if !(0.0..=1.0).contains(&min_probability) {
        let message = format!("min_probability is {min_probability}; 0 to 1 is needed");
        return Err(PyValueError::new_err(message));
    }
    let shape = match shape {
        "hierarchical" => DraftShape::Hierarchical,
        "parallel" => DraftShape::Parallel,
        "single" => DraftShape::Single,
        _ => {
            let message = format!("shape is '{shape}'; 'hierarchical', 'parallel' or 'single' is needed");
            return Err(PyValueError::new_err(message));
        }
    };
    let source = match source {
        "mixed" => DraftSource::Mixed,
        "prompt" => DraftSource::Prompt,
        "output" => DraftSource::Output,
        _ => {
            let message = format!("source is '{source}'; 'mixed', 'prompt' or 'output' is needed");
            return Err(PyValueError::new_err(message));
        }
    };
    let depth = depth.map_or(Ok(nodes), |depth| size("depth", depth))?;
    Ok(DraftParams { nodes, depth, min_probability: min_probability as f32, shape, source })
}

/// How a request shares, by name.
///
/// # Errors
/// `ValueError` for another name.
pub(crate) fn sharing(share: &str) -> PyResult<Sharing> {
    match share {
        "readwrite" => Ok(Sharing::ReadWrite),
        "read" => Ok(Sharing::Read),
        "off" => Ok(Sharing::Off),
        _ => {
            Err(PyValueError::new_err(format!("share is '{share}'; 'readwrite', 'read' or 'off' is needed")))
        }
    }
}

/// The tree out of which a chain is taken: more than one branch, so that the best can be chosen.
pub(crate) fn chain_params(params: DraftParams) -> DraftParams {
    DraftParams { nodes: params.nodes * 2, depth: params.nodes, ..params }
}

/// Tokens and path probabilities of the best chain, at most `longest`, without the root.
pub(crate) fn chain(tree: &DraftTree, longest: usize) -> impl Iterator<Item = (TokenId, f32)> + '_ {
    let nodes = tree.best_chain().into_iter().skip(1).take(longest);
    nodes.map(|node| (tree.tokens()[node as usize], tree.probabilities()[node as usize]))
}
