//! Requests recognised by their tokens, for hosts that give none a name.
//!
//! Such a host (vLLM's proposers) shows a batch as rows of token ids. A row is one request's from one step to the next only
//! until the batch changes: requests end, are preempted, come back, and rows move. So nothing is believed but the tokens
//! themselves: a row goes on with a request if its tokens before this step are, one by one, that request's tokens. What no
//! row goes on with has ended; a row that goes on with nothing is a new request, and all its tokens before this step are its
//! prompt, which nobody else ever sees. Therefore the only tokens that are ever shared are those that the host called sampled.
//!
//! A preempted request ends here and begins anew when it comes back, with its answer so far as a part of its prompt. Two
//! requests whose tokens are the same are exchangeable.

use std::sync::{Arc, Mutex, PoisonError};

use lookahead_trie::{DraftParams, LinearCost, Namespace, Request, Sharing, TokenId};
use numpy::{PyArray2, PyArrayMethods as _, PyUntypedArrayMethods as _};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::cost::linear_cost;
use crate::parallel::in_parallel;
use crate::params::{chain, chain_params, params, sharing};
use crate::tokens;
use crate::trie::PyDraftTrie;

/// Drafts for batches whose rows have no names.
#[pyclass(name = "DraftRows", module = "lookahead_drafts", frozen)]
pub(crate) struct PyDraftRows {
    namespace: Arc<Namespace>,
    sharing: Sharing,
    rows: Mutex<Rows>,
}

/// The requests of the last step, by row.
#[derive(Default)]
struct Rows {
    tracked: Vec<Option<Tracked>>,
    counts: Counts,
    /// The last answer that could not be written to the namespace's journal.
    problem: Option<String>,
}

#[derive(Clone, Copy, Default)]
struct Counts {
    steps: u64,
    requests: u64,
    finished: u64,
    sampled: u64,
    drafted: u64,
    accepted: u64,
}

/// A request and its tokens, all of them.
struct Tracked {
    text: Vec<i32>,
    request: Request,
    /// Tokens of the draft that the host was given last.
    drafted: usize,
}

/// What may follow a row: tokens and the probabilities of the paths to them.
type Chain = Vec<(TokenId, f32)>;

/// A row of this step.
struct Row<'a> {
    /// All its tokens, the sampled ones at the end.
    text: &'a [i32],
    sampled: &'a [TokenId],
}

impl Row<'_> {
    fn before(&self) -> &[i32] {
        &self.text[..self.text.len() - self.sampled.len()]
    }
}

impl Rows {
    /// Hands each row the request that it goes on with, ends those that none does, and begins new ones.
    fn assign(&mut self, namespace: &Namespace, sharing: Sharing, rows: &[Row<'_>]) -> Vec<Tracked> {
        let goes_on = |tracked: &Option<Tracked>, row: &Row<'_>| {
            tracked.as_ref().is_some_and(|tracked| tracked.text == row.before())
        };
        // Nearly always, a row stands where it stood.
        let mut assigned: Vec<Option<Tracked>> = (rows.iter().enumerate())
            .map(|(index, row)| self.tracked.get_mut(index)?.take_if(|tracked| tracked.text == row.before()))
            .collect();
        for (index, row) in rows.iter().enumerate() {
            if assigned[index].is_none() {
                let moved = self.tracked.iter().position(|tracked| goes_on(tracked, row));
                assigned[index] = moved.and_then(|moved| self.tracked[moved].take());
            }
        }
        for ended in self.tracked.drain(..).flatten() {
            self.counts.finished += 1;
            if let Err(error) = namespace.finish(ended.request) {
                self.problem = Some(error.to_string());
            }
        }
        // After those that ended, whose answers the new ones may draft from.
        (assigned.into_iter().zip(rows))
            .map(|(assigned, row)| {
                assigned.unwrap_or_else(|| {
                    self.counts.requests += 1;
                    let prompt: Vec<TokenId> =
                        row.before().iter().map(|&token| token.max(0) as TokenId).collect();
                    let request = namespace.begin(&prompt, &[], sharing);
                    Tracked { text: row.before().to_vec(), request, drafted: 0 }
                })
            })
            .collect()
    }

    /// One step: what follows each row, as the tokens of a chain.
    fn step(
        &mut self,
        namespace: &Namespace,
        sharing: Sharing,
        rows: &[Row<'_>],
        most: &[usize],
        params: &DraftParams,
        cost: LinearCost,
    ) -> Vec<Vec<TokenId>> {
        let each = self.assign(namespace, sharing, rows).into_iter().zip(rows).zip(most).collect();
        let (tracked, chains): (Vec<Tracked>, Vec<_>) = in_parallel(each, |((mut tracked, row), &most)| {
            if row.sampled.is_empty() {
                return (tracked, None); // a prompt that is not read to its end
            }
            tracked.text.extend_from_slice(&row.text[tracked.text.len()..]);
            namespace.accept(&mut tracked.request, row.sampled);
            let params = DraftParams { nodes: params.nodes.min(most), ..*params };
            let tree = namespace.draft(&mut tracked.request, &chain_params(params));
            let chain: Chain = chain(tree, params.nodes).collect();
            (tracked, Some(chain))
        })
        .into_iter()
        .unzip();
        let lengths = lengths(&chains, cost);
        self.counts.steps += 1;
        let mut drafts = Vec::with_capacity(chains.len());
        for (((mut tracked, row), chain), length) in tracked.into_iter().zip(rows).zip(chains).zip(lengths) {
            self.counts.sampled += row.sampled.len() as u64;
            if !row.sampled.is_empty() {
                self.counts.accepted += tracked.drafted.min(row.sampled.len() - 1) as u64;
                self.counts.drafted += length as u64;
                tracked.drafted = length;
            }
            drafts.push(chain.into_iter().flatten().take(length).map(|(token, _)| token).collect());
            self.tracked.push(Some(tracked));
        }
        drafts
    }
}

/// How much of each chain to draft: the likeliest tokens of all, as many as make the most expected tokens for what the step
/// costs. Every row that decodes gets one token in any case.
fn lengths(chains: &[Option<Chain>], cost: LinearCost) -> Vec<usize> {
    // From the root on, which is the token that the row gets in any case.
    let probabilities: Vec<Vec<f32>> = chains
        .iter()
        .map(|chain| {
            let nodes = chain.iter().flatten().map(|&(_, probability)| probability);
            chain.iter().map(|_| 1.0).chain(nodes).collect()
        })
        .collect();
    let drafts: Vec<&[f32]> = probabilities.iter().map(Vec::as_slice).collect();
    let decoding = chains.iter().flatten().count();
    let sizes = cost.curve(decoding).share(0, &drafts);
    sizes.into_iter().map(|nodes| nodes.saturating_sub(1)).collect()
}

#[pymethods]
impl PyDraftRows {
    /// Rows whose requests draft from, and finish into, one namespace of `trie`, and share as `DraftTrie.start` says.
    #[new]
    #[pyo3(signature = (trie, *, namespace="default", share="readwrite"))]
    fn new(trie: &PyDraftTrie, namespace: &str, share: &str) -> PyResult<Self> {
        Ok(Self { namespace: trie.namespace(namespace)?, sharing: sharing(share)?, rows: Mutex::default() })
    }

    /// One step of the host. Row i holds the tokens `token_ids[i, :num_tokens[i]]` (int32), of which the last are
    /// `sampled[i]`: what the model produced in this step, nothing for a prompt that is not read to its end. It returns for
    /// each row a chain of at most `budget` tokens, fewer where they are not worth their price, and none that would make the
    /// row longer than `max_tokens`.
    ///
    /// A step with `n` drafted tokens in all costs `1 + fixed_cost + token_cost * n` plain steps of this batch.
    #[pyo3(signature = (token_ids, num_tokens, sampled, budget, *, max_tokens=None, min_probability=0.01, fixed_cost=0.0, token_cost=0.0))]
    #[expect(clippy::too_many_arguments, reason = "Python's keyword arguments")]
    fn step(
        &self,
        py: Python<'_>,
        token_ids: &Bound<'_, PyAny>,
        num_tokens: &Bound<'_, PyAny>,
        sampled: &Bound<'_, PyAny>,
        budget: i64,
        max_tokens: Option<usize>,
        min_probability: f64,
        fixed_cost: f64,
        token_cost: f64,
    ) -> PyResult<Vec<Vec<TokenId>>> {
        let params = params(budget, None, min_probability, "hierarchical", "mixed")?;
        let cost = linear_cost(fixed_cost, token_cost)?;
        let table = token_ids.cast::<PyArray2<i32>>().map_err(|_| {
            PyTypeError::new_err("token_ids is no array of int32 with two dimensions: a row for each request")
        })?;
        let table = table.try_readonly()?;
        let columns = table.shape()[1];
        if !table.is_c_contiguous() {
            return Err(PyValueError::new_err("token_ids is not contiguous by rows"));
        }
        let table = table.as_slice()?;
        let lengths = tokens::from_python(num_tokens, "num_tokens")?;
        let sampled = sampled
            .try_iter()?
            .enumerate()
            .map(|(row, ids)| tokens::from_python(&ids?, &format!("sampled[{row}]")))
            .collect::<PyResult<Vec<_>>>()?;
        let mut rows = Vec::with_capacity(sampled.len());
        for (index, sampled) in sampled.iter().enumerate() {
            let length =
                lengths.get(index).map(|&length| length as usize).filter(|&length| length <= columns);
            let row = length.and_then(|length| table.get(index * columns..)?.get(..length));
            let text = row.ok_or_else(|| {
                PyValueError::new_err(format!(
                    "row {index} has no place in token_ids, of shape {:?}, or num_tokens does not tell its length",
                    (table.len() / columns.max(1), columns)
                ))
            })?;
            let is_behind = text.len() >= sampled.len()
                && text[text.len() - sampled.len()..]
                    .iter()
                    .zip(sampled)
                    .all(|(&id, &other)| id as TokenId == other);
            if !is_behind {
                let message = format!("row {index} does not end in the tokens of sampled[{index}]");
                return Err(PyValueError::new_err(message));
            }
            rows.push(Row { text, sampled });
        }
        // A draft may not end the text: there is always one more token of the model's own.
        let room =
            |row: &Row<'_>| max_tokens.map_or(usize::MAX, |most| most.saturating_sub(row.text.len() + 1));
        let most: Vec<usize> = rows.iter().map(room).collect();
        Ok(py.detach(|| {
            let mut state = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
            state.step(&self.namespace, self.sharing, &rows, &most, &params, cost)
        }))
    }

    /// Ends all requests, as if the batch had become empty.
    fn finish(&self, py: Python<'_>) {
        py.detach(|| {
            let mut state = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
            state.assign(&self.namespace, self.sharing, &[]);
        });
    }

    /// Why an answer could not be written to the namespace's journal, if that happened since this was asked last. It is known
    /// to this process all the same.
    fn take_problem(&self, py: Python<'_>) -> Option<String> {
        py.detach(|| self.rows.lock().unwrap_or_else(PoisonError::into_inner).problem.take())
    }

    /// Counts since it was made: `steps`, `requests` begun and `finished`, tokens `sampled`, `drafted`, and of those
    /// `accepted`.
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let counts = py.detach(|| self.rows.lock().unwrap_or_else(PoisonError::into_inner).counts);
        let dictionary = PyDict::new(py);
        dictionary.set_item("steps", counts.steps)?;
        dictionary.set_item("requests", counts.requests)?;
        dictionary.set_item("finished", counts.finished)?;
        dictionary.set_item("sampled", counts.sampled)?;
        dictionary.set_item("drafted", counts.drafted)?;
        dictionary.set_item("accepted", counts.accepted)?;
        Ok(dictionary)
    }
}
