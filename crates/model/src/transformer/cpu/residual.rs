//! Rows of the residual stream: sums and norms.

use std::ops::Range;

use lookahead_kernels::{Activations, Isa, Kernels, add, add_scaled, scale};

use super::norm::{normalise, normalise_to};
use crate::architecture::Norm;
use crate::transformer::backend::{Normalised, Sum};
use crate::weights::NormWeights;

/// Adds `results` to `stream` as `sum` says, then `to = norm(stream)`.
pub(super) fn add_and_normalise(
    kernels: &Kernels,
    sum: &Sum<'_>,
    how: Normalised<'_>,
    stream: &mut [f32],
    [first, second]: &mut [Vec<f32>; 2],
    to: &mut Activations,
) {
    let Normalised { shape, norm, weights, codes } = how;
    let (isa, hidden) = (kernels.isa(), shape[1]);
    let first = if sum.results > 0 { (&mut first[..], hidden) } else { (&mut [][..], 0) };
    let second = if sum.results > 1 { (&mut second[..], hidden) } else { (&mut [][..], 0) };
    let sources = [(stream, hidden), first, second];
    to.compute(kernels, shape, codes, sources, 3 * hidden, |_, [stream, first, second], row| {
        let mut results = [first, second];
        for (result, post_norm) in results.iter_mut().zip(sum.post_norms) {
            if let Some(post_norm) = post_norm.filter(|_| !result.is_empty()) {
                normalise(isa, norm, post_norm, result);
            }
        }
        if let (Some(joint_norm), [first, second]) = (sum.joint_norm, &mut results) {
            add(isa, first, second);
            normalise(isa, norm, joint_norm, first);
            *second = &mut [];
        }
        for result in results.into_iter().filter(|result| !result.is_empty()) {
            add_result(isa, sum.scale, stream, result);
        }
        if sum.stream_scale != 1.0 {
            scale(isa, stream, sum.stream_scale);
        }
        normalise_to(isa, norm, weights, stream, row);
    });
}

/// `to = norm(rows)`
pub(super) fn normalise_rows(kernels: &Kernels, how: Normalised<'_>, rows: &mut [f32], to: &mut Activations) {
    let Normalised { shape, norm, weights, codes } = how;
    let width = shape[1];
    to.compute(kernels, shape, codes, [(rows, width)], 3 * width, |_, [from], row| {
        normalise_to(kernels.isa(), norm, weights, from, row);
    });
}

/// `rows = norm(rows) + input`
pub(super) fn normalise_and_add(
    kernels: &Kernels,
    norm: Norm,
    weights: &NormWeights,
    input: &Activations,
    rows: &mut [f32],
) {
    let (isa, columns) = (kernels.isa(), input.columns());
    kernels.for_each_row(input.tokens(), 3 * columns, [(rows, columns)], |token, [row]| {
        normalise(isa, norm, weights, row);
        add(isa, row, input.row(token));
    });
}

/// Moves the rows of the given ranges to the front and forgets the others.
pub(super) fn keep_rows(values: &mut Vec<f32>, width: usize, ranges: &[Range<usize>]) {
    let mut kept = 0;
    for rows in ranges {
        values.copy_within(rows.start * width..rows.end * width, kept * width);
        kept += rows.len();
    }
    values.truncate(kept * width);
}

fn add_result(isa: Isa, scale: f32, stream: &mut [f32], result: &[f32]) {
    if scale == 1.0 {
        add(isa, stream, result);
    } else {
        add_scaled(isa, stream, result, scale);
    }
}
