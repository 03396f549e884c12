//! What passes cost, and how much is drafted by that.

use lookahead_trie::{CostCurve, CostCurveError, CostPoint, LinearCost};
use numpy::{PyArrayMethods as _, PyReadonlyArray1};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// What a forward pass costs by its number of tokens, in passes over one: `costs` at the numbers `sizes`, which ascend, behind a
/// short context; straight lines between them, and the last line's slope beyond them. Where costs fall, they are replaced by their
/// mean. `context` is what each token of context adds to a pass over one token, and to one over several, which needs a mask.
#[pyclass(name = "CostCurve", module = "lookahead_drafts.transformers", frozen)]
pub(crate) struct PyCostCurve {
    curve: CostCurve,
    /// In passes over one token.
    context: (f64, f64),
}

impl PyCostCurve {
    /// The curve behind so many tokens of context.
    fn behind(&self, context: usize) -> PyResult<CostCurve> {
        if context == 0 || self.context == (0.0, 0.0) {
            return Ok(self.curve.clone());
        }
        let (one, several) = (self.context.0 * context as f64, self.context.1 * context as f64);
        let largest = self.curve.points().last().map_or(1, |point| point.tokens);
        // Points where the mask begins to cost, and where the last line goes on.
        let mut sizes: Vec<usize> = self.curve.points().iter().map(|point| point.tokens).collect();
        sizes.extend([1, 2, largest.max(2) + 1]);
        sizes.sort_unstable();
        sizes.dedup();
        let cost = |tokens| self.curve.relative(tokens) + if tokens > 1 { several } else { one };
        let points = sizes.into_iter().map(|tokens| CostPoint { tokens, ms: cost(tokens) });
        CostCurve::new(points.collect()).map_err(of_cost)
    }
}

#[pymethods]
impl PyCostCurve {
    #[new]
    #[pyo3(signature = (sizes, costs, context=(0.0, 0.0)))]
    fn new(sizes: Vec<usize>, costs: Vec<f64>, context: (f64, f64)) -> PyResult<Self> {
        if sizes.len() != costs.len() {
            let message = format!("there are {} sizes and {} costs", sizes.len(), costs.len());
            return Err(PyValueError::new_err(message));
        }
        linear_cost(context.0, context.1).map_err(|_| {
            PyValueError::new_err(format!("context is {context:?}; two numbers of at least 0 are needed"))
        })?;
        let points = sizes.into_iter().zip(costs).map(|(tokens, ms)| CostPoint { tokens, ms });
        Ok(Self { curve: CostCurve::new(points.collect()).map_err(of_cost)?, context })
    }

    /// Numbers of tokens, ascending.
    #[getter]
    fn sizes(&self) -> Vec<usize> {
        self.curve.points().iter().map(|point| point.tokens).collect()
    }

    /// What passes over them cost.
    #[getter]
    fn costs(&self) -> Vec<f64> {
        self.curve.points().iter().map(|point| self.curve.relative(point.tokens)).collect()
    }

    /// What each token of context adds.
    #[getter]
    fn context(&self) -> (f64, f64) {
        self.context
    }

    /// What a pass over so many tokens costs behind so many tokens of context.
    #[pyo3(signature = (tokens, context=0))]
    fn __call__(&self, tokens: usize, context: usize) -> PyResult<f64> {
        Ok(self.behind(context)?.relative(tokens))
    }

    /// How many nodes of each row's draft make the most expected tokens for the time, behind so many tokens of context of all rows:
    /// all rows get the same number. `probabilities` are those of each row's nodes, the root's first.
    #[pyo3(signature = (probabilities, context=0))]
    fn best_size(&self, probabilities: Vec<PyReadonlyArray1<'_, f32>>, context: usize) -> PyResult<usize> {
        let rows: Vec<Vec<f32>> = probabilities.iter().map(|row| row.to_vec()).collect::<Result<_, _>>()?;
        let rows: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
        Ok(self.behind(context)?.best_common_prefix(&rows))
    }

    fn __repr__(&self) -> String {
        format!("CostCurve(sizes={:?}, costs={:?}, context={:?})", self.sizes(), self.costs(), self.context)
    }
}

/// What drafted tokens cost a host: a step over a batch with n of them lasts `1 + fixed_cost + token_cost * n` plain steps, or 1 if
/// n is 0.
#[pyclass(name = "LinearCost", module = "lookahead_drafts", frozen)]
pub(crate) struct PyLinearCost(LinearCost);

#[pymethods]
impl PyLinearCost {
    #[new]
    fn new(fixed_cost: f64, token_cost: f64) -> PyResult<Self> {
        linear_cost(fixed_cost, token_cost).map(Self)
    }

    /// How often the two costs are paid in a step with so many drafted tokens: for who fits them to steps.
    #[staticmethod]
    fn terms(drafted: usize) -> [f64; 2] {
        LinearCost::terms(drafted)
    }

    /// A step with so many drafted tokens, in plain steps.
    fn __call__(&self, drafted: usize) -> f64 {
        self.0.of(drafted)
    }
}

/// The costs of a host.
///
/// # Errors
/// `ValueError` that names the argument.
pub(crate) fn linear_cost(fixed_cost: f64, token_cost: f64) -> PyResult<LinearCost> {
    LinearCost::new(fixed_cost, token_cost).map_err(of_cost)
}

fn of_cost(error: CostCurveError) -> PyErr {
    PyValueError::new_err(error.to_string())
}
