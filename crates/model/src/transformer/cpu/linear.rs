//! Products with the weights of linear maps.

use lookahead_kernels::{Activations, Kernels, Matrix, add, multiply, scale_each};

use crate::weights::{Linear, Series};

/// Multiplies `input` with several matrices at once, the results with their factors, and adds their biases.
pub(super) fn apply<const N: usize>(
    kernels: &Kernels,
    input: &Activations,
    mut products: [(&Linear, &mut Vec<f32>); N],
) {
    let tokens = input.tokens();
    for (linear, out) in &mut products {
        out.resize(tokens * linear.matrix.rows(), 0.0);
    }
    let outputs: [(&Matrix, &mut [f32]); N] =
        products.each_mut().map(|(linear, out)| (&linear.matrix, out.as_mut_slice()));
    multiply(kernels, input, outputs);
    for (Linear { matrix, factors, bias }, out) in products {
        if factors.is_none() && bias.is_none() {
            continue;
        }
        let rows = matrix.rows();
        kernels.for_each_row(tokens, rows, [(out, rows)], |_, [row]| {
            if let Some(factors) = factors {
                scale_each(kernels.isa(), row, factors);
            }
            if let Some(bias) = bias {
                add(kernels.isa(), row, bias);
            }
        });
    }
}

/// Multiplies `input` with one matrix, and the result perhaps with a second.
pub(super) fn apply_series(
    kernels: &Kernels,
    input: &Activations,
    series: &Series,
    second_input: &mut Activations,
    between: &mut Vec<f32>,
    out: &mut Vec<f32>,
) {
    let Series { first, second } = series;
    let Some(second) = second else { return apply(kernels, input, [(first, out)]) };
    apply(kernels, input, [(first, between)]);
    let shape = [input.tokens(), first.matrix.rows()];
    let (codes, sources) = (second.input_codes(), [(&mut between[..], shape[1])]);
    second_input.compute(kernels, shape, codes, sources, shape[1], |_, [between], row| {
        row.copy_from_slice(between);
    });
    apply(kernels, second_input, [(second, out)]);
}
