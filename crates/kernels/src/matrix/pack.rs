//! Weights as they lie in a file to a [`Matrix`], and rows of it back to floats.

use super::packed::Matrix;
use super::{dense, quantized};
use crate::arena::WeightArena;
use crate::block::dequantize_row;
use crate::disjoint::Disjoint;
use crate::kernels::Kernels;
use crate::matrix_error::MatrixError;
use crate::quantize::quantize_row;
use crate::simd::GROUP;
use crate::weight_type::WeightType;

/// Bytes of a file to a step of packing: what is resident twice while a large matrix is packed.
const PACK_STEP_BYTES: usize = 16 << 20;

impl Matrix {
    /// Repacks `rows` rows of `columns` weights as they lie in a file (row-major, whole blocks) into memory of `arena`.
    ///
    /// # Errors
    /// If the bytes are not such rows, or there is no memory for them.
    pub fn pack(
        kernels: &Kernels,
        arena: &mut WeightArena,
        weight_type: WeightType,
        shape: [usize; 2],
        bytes: &[u8],
    ) -> Result<Self, MatrixError> {
        Self::pack_in_steps(kernels, arena, weight_type, shape, bytes, || {})
    }

    /// As [`Matrix::pack`], and calls `after_step` each time some 16 MiB of `bytes` are packed, and at the end: a caller
    /// that maps them from a file can release the pages, so that a large matrix is never in memory twice.
    ///
    /// # Errors
    /// As [`Matrix::pack`].
    pub fn pack_in_steps(
        kernels: &Kernels,
        arena: &mut WeightArena,
        weight_type: WeightType,
        shape: [usize; 2],
        bytes: &[u8],
        after_step: impl FnMut(),
    ) -> Result<Self, MatrixError> {
        Self::pack_as(kernels, arena, [weight_type; 2], shape, bytes, after_step)
    }

    /// As [`Matrix::pack_in_steps`], of `bytes` that hold weights of the first type, made into weights of the second.
    ///
    /// # Errors
    /// As [`Matrix::pack`].
    ///
    /// # Panics
    /// If the types differ and the second is none of [`WeightType::WRITABLE`].
    pub fn pack_as(
        kernels: &Kernels,
        arena: &mut WeightArena,
        [from, weight_type]: [WeightType; 2],
        [rows, columns]: [usize; 2],
        bytes: &[u8],
        mut after_step: impl FnMut(),
    ) -> Result<Self, MatrixError> {
        let row_bytes_of = |weight_type: WeightType| {
            let block = weight_type.block_weights();
            weight_type.row_bytes(columns).ok_or(MatrixError::PartialBlock { weight_type, columns, block })
        };
        let (row_bytes, packed_row_bytes) = (row_bytes_of(from)?, row_bytes_of(weight_type)?);
        let expected = row_bytes.saturating_mul(rows);
        if bytes.len() != expected {
            return Err(MatrixError::WrongSize {
                weight_type: from,
                rows,
                columns,
                expected,
                found: bytes.len(),
            });
        }
        let group_bytes = if weight_type.is_quantized() {
            quantized::group_bytes(weight_type, columns)
        } else {
            dense::group_bytes(weight_type, columns)
        };
        let groups = rows.div_ceil(GROUP);
        let mut data = arena.allocate(groups * group_bytes)?;
        let packed = Disjoint::new(data.as_mut());
        let step = (PACK_STEP_BYTES / (row_bytes * GROUP).max(1)).max(1);
        for first in (0..groups).step_by(step) {
            kernels.run(step.min(groups - first), columns * GROUP * 8, |_, task| {
                let group = first + task;
                // SAFETY: each task of each step writes its own group.
                let packed = unsafe { packed.part(group * group_bytes, group_bytes) };
                let rows = bytes.chunks_exact(row_bytes.max(1)).skip(group * GROUP).take(GROUP);
                let pack = |rows: &[&[u8]], packed: &mut [u8]| {
                    if weight_type.is_quantized() {
                        quantized::pack_group(weight_type, rows, packed);
                    } else {
                        dense::pack_group(weight_type, rows, packed);
                    }
                };
                if from == weight_type {
                    pack(&rows.collect::<Vec<_>>(), packed);
                } else {
                    let mut values = vec![0.0; columns];
                    let mut converted = vec![0; GROUP * packed_row_bytes];
                    let count = rows.len();
                    for (row, converted) in rows.zip(converted.chunks_exact_mut(packed_row_bytes)) {
                        dequantize_row(from, row, &mut values);
                        quantize_row(kernels.isa(), weight_type, &values, converted);
                    }
                    let rows = converted.chunks_exact(packed_row_bytes).take(count);
                    pack(&rows.collect::<Vec<_>>(), packed);
                }
            });
            after_step();
        }
        Ok(Self { weight_type, rows, columns, data, group_bytes, scale: 1.0 })
    }

    /// Writes the weights of row `row` as floats to `out`: an embedding.
    ///
    /// # Panics
    /// If there is no such row or `out` has another length.
    pub fn dequantize_row(&self, row: usize, out: &mut [f32]) {
        assert!(row < self.rows && out.len() == self.columns, "a row of the matrix");
        let group = self.group(row / GROUP);
        if self.weight_type.is_quantized() {
            quantized::unpack_row(self.weight_type, group, row % GROUP, out);
        } else {
            dense::unpack_row(self.weight_type, group, row % GROUP, out);
        }
        for weight in out {
            *weight *= self.scale;
        }
    }
}
