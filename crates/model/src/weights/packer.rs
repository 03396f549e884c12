//! Where rows of weights go: matrices in the kernels' layout.

use lookahead_kernels::{Kernels, Matrix, MatrixError, WeightArena, WeightType};

use super::rows::{Role, Rows};

/// Packs rows into matrices that share memory.
pub(super) struct Packer<'a> {
    kernels: &'a Kernels,
    /// What dense matrices are made into.
    quantize: Option<WeightType>,
    arena: WeightArena,
}

impl<'a> Packer<'a> {
    pub(super) fn new(kernels: &'a Kernels, quantize: Option<WeightType>) -> Self {
        Self { kernels, quantize, arena: WeightArena::new() }
    }

    /// The matrix of `rows`. `after_step` is called each time some of them are packed, and at the end.
    pub(super) fn pack(&mut self, rows: &Rows<'_>, after_step: impl FnMut()) -> Result<Matrix, MatrixError> {
        let types = [rows.weight_type, rows.role.weight_type(rows.weight_type, self.quantize, rows.columns)];
        let shape = [rows.len(), rows.columns];
        let matrix = Matrix::pack_as(self.kernels, &mut self.arena, types, shape, &rows.bytes, after_step)?;
        Ok(matrix.scaled(rows.scale()))
    }
}

impl Role {
    /// What rows of `columns` weights of type `stored` become if `asked` is asked for.
    fn weight_type(self, stored: WeightType, asked: Option<WeightType>, columns: usize) -> WeightType {
        let Some(asked) = asked.filter(|_| !stored.is_quantized() && self != Self::Exact) else {
            return stored;
        };
        let asked = if self == Self::Vocabulary && asked.is_quantized() { WeightType::Q8_0 } else { asked };
        let fitting =
            [asked, WeightType::Q8_0].into_iter().find(|t| columns.is_multiple_of(t.block_weights()));
        fitting.unwrap_or(stored)
    }
}
