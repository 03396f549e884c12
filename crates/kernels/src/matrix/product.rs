//! Products: shared out by groups of rows, each group to the kernel of its weights.

use super::output::Output;
use super::packed::Matrix;
use super::{dense, quantized};
use crate::activations::Activations;
use crate::disjoint::Disjoint;
use crate::kernels::Kernels;

/// Multiplies `x` (tokens by columns) with several matrices in one parallel operator, each product into its own slice:
/// `out[token * rows + row] = dot(matrix row, x token)`.
///
/// # Panics
/// If a slice has not `x.tokens() * matrix.rows()` values or a matrix not `x.columns()` columns, or if `x` is not
/// quantized for a matrix that needs it.
pub fn multiply<const N: usize>(kernels: &Kernels, x: &Activations, products: [(&Matrix, &mut [f32]); N]) {
    let mut tasks = 0;
    let products = products.map(|(matrix, out)| {
        assert_eq!(matrix.columns, x.columns(), "{matrix:?}: inputs");
        assert_eq!(out.len(), x.tokens() * matrix.rows, "{matrix:?}: outputs");
        let first_task = tasks;
        let task_groups = matrix.task_groups(x.tokens(), kernels.threads());
        tasks += task_groups.tasks();
        (first_task, task_groups, matrix, Disjoint::new(out))
    });
    let weights: usize = products.iter().map(|(.., matrix, _)| matrix.rows * matrix.columns).sum();
    kernels.run(tasks, weights * x.tokens() / tasks.max(1), |_, task| {
        let index = products.iter().rposition(|(first, ..)| *first <= task);
        let index = index.expect("the first product begins with the first task");
        let (first_task, task_groups, matrix, out) = &products[index];
        let groups = task_groups.part(task - first_task);
        // SAFETY: each group of each matrix belongs to one task.
        multiply_groups(kernels, matrix, x, &mut unsafe { Output::new(out, matrix, 0..matrix.rows, groups) });
    });
}

/// A task of a product: the groups of `out`.
pub(super) fn multiply_groups(kernels: &Kernels, matrix: &Matrix, x: &Activations, out: &mut Output<'_>) {
    if matrix.weight_type.is_quantized() {
        quantized::multiply(kernels.isa(), matrix, x, out);
    } else {
        dense::multiply(kernels.isa(), matrix, x, out);
    }
}
