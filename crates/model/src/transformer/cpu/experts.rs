//! Rows on their way to experts and back.

use lookahead_kernels::{Activations, Isa, Kernels, add_scaled, scale, scale_each};

use crate::transformer::backend::Gathered;

/// `to = weight * (scales * from)` of each route's token.
pub(super) fn gather(kernels: &Kernels, gathered: &Gathered<'_>, from: &Activations, to: &mut Activations) {
    let &Gathered { routes, scales, weighs_inputs, codes } = gathered;
    let (isa, columns) = (kernels.isa(), from.columns());
    to.compute(kernels, [routes.len(), columns], codes, [], columns, |index, [], row| {
        row.copy_from_slice(from.row(routes[index].token));
        scale_each(isa, row, scales);
        if weighs_inputs {
            scale(isa, row, routes[index].weight);
        }
    });
}

/// `to[row] += factor * from` for each row of `from`, of `width` values.
pub(super) fn add_rows(
    isa: Isa,
    rows: impl Iterator<Item = (usize, f32)>,
    width: usize,
    from: &[f32],
    to: &mut [f32],
) {
    for ((row, factor), from) in rows.zip(from.chunks_exact(width)) {
        add_scaled(isa, &mut to[row * width..][..width], from, factor);
    }
}
