//! Rows of weights on their way from a file to a matrix.

use std::borrow::Cow;
use std::ops::Range;

use lookahead_kernels::{WeightType, dequantize_row};

/// Rows of weights.
pub(super) struct Rows<'a> {
    /// What errors call the tensor that they come from.
    pub(super) name: String,
    pub(super) role: Role,
    pub(super) weight_type: WeightType,
    pub(super) columns: usize,
    pub(super) bytes: Cow<'a, [u8]>,
    /// What the weights of equal parts of the rows are multiplied with besides; empty if nothing.
    pub(super) scales: Vec<f32>,
}

/// What a matrix is for: it says how far its weights may be rounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// As the caller asks.
    Linear,
    /// A row for each token: no fewer than eight bits.
    Vocabulary,
    /// Small, and much depends on it.
    Exact,
}

impl Rows<'_> {
    fn row_bytes(&self) -> usize {
        self.weight_type.row_bytes(self.columns).unwrap_or(0)
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len().checked_div(self.row_bytes()).unwrap_or(0)
    }

    /// What the weights of row `row` are multiplied with besides.
    fn scale_of(&self, row: usize) -> f32 {
        self.scales.get(row * self.scales.len() / self.len().max(1)).copied().unwrap_or(1.0)
    }

    /// What the weights of the first row are multiplied with besides, and those of all but experts side by side.
    pub(super) fn scale(&self) -> f32 {
        self.scale_of(0)
    }

    /// Some of the rows, one range after the other, whose scale is that of the first.
    pub(super) fn select(&self, ranges: &[Range<usize>]) -> Rows<'_> {
        let row_bytes = self.row_bytes();
        let bytes = |range: &Range<usize>| &self.bytes[range.start * row_bytes..range.end * row_bytes];
        let selected = match ranges {
            [range] => Cow::Borrowed(bytes(range)),
            ranges => Cow::Owned(ranges.iter().flat_map(bytes).copied().collect()),
        };
        let scales = ranges.first().map(|range| self.scale_of(range.start)).into_iter().collect();
        Rows { name: self.name.clone(), bytes: selected, scales, ..*self }
    }

    pub(super) fn to_floats(&self) -> Vec<f32> {
        let mut values = vec![0.0; self.len() * self.columns];
        let rows = values.chunks_exact_mut(self.columns).zip(self.bytes.chunks_exact(self.row_bytes()));
        for (index, (row, bytes)) in rows.enumerate() {
            dequantize_row(self.weight_type, bytes, row);
            let scale = self.scale_of(index);
            for weight in row {
                *weight *= scale;
            }
        }
        values
    }

    /// Rows and columns exchanged; weights in blocks become singles.
    pub(super) fn transposed(&self) -> Rows<'static> {
        let shape = [self.len(), self.columns];
        let (weight_type, bytes) = if self.weight_type.is_quantized() {
            let bytes: Vec<u8> = self.to_floats().iter().flat_map(|weight| weight.to_le_bytes()).collect();
            (WeightType::F32, transpose(&bytes, shape, size_of::<f32>()))
        } else {
            (self.weight_type, transpose(&self.bytes, shape, self.weight_type.block_bytes()))
        };
        let (name, role) = (self.name.clone(), self.role);
        Rows { name, role, weight_type, columns: shape[0], bytes: Cow::Owned(bytes), scales: Vec::new() }
    }

    /// The same rows at unit length, in single precision.
    pub(super) fn with_unit_length(&self) -> Rows<'static> {
        self.with_rows_changed(|row| {
            let squares: f64 = row.iter().map(|&weight| f64::from(weight).powi(2)).sum();
            let length = squares.sqrt().max(1e-12) as f32;
            for weight in row {
                *weight /= length;
            }
        })
    }

    /// The same rows with each column multiplied with its factor, in single precision.
    pub(super) fn with_scaled_columns(&self, factors: &[f32]) -> Rows<'static> {
        self.with_rows_changed(|row| {
            for (weight, factor) in row.iter_mut().zip(factors) {
                *weight *= factor;
            }
        })
    }

    fn with_rows_changed(&self, change: impl FnMut(&mut [f32])) -> Rows<'static> {
        let mut values = self.to_floats();
        values.chunks_exact_mut(self.columns).for_each(change);
        let bytes = values.iter().flat_map(|weight| weight.to_le_bytes()).collect();
        let (name, columns) = (self.name.clone(), self.columns);
        Rows {
            name,
            role: self.role,
            weight_type: WeightType::F32,
            columns,
            bytes: Cow::Owned(bytes),
            scales: Vec::new(),
        }
    }
}

/// A matrix of elements of `size` bytes with rows and columns exchanged.
pub(super) fn transpose(bytes: &[u8], [rows, columns]: [usize; 2], size: usize) -> Vec<u8> {
    let mut transposed = vec![0; bytes.len()];
    for (row, elements) in bytes.chunks_exact(columns * size).enumerate() {
        for (column, element) in elements.chunks_exact(size).enumerate() {
            transposed[(column * rows + row) * size..][..size].copy_from_slice(element);
        }
    }
    transposed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(values: &[f32], columns: usize) -> Rows<'static> {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>();
        Rows {
            name: "t".to_owned(),
            role: Role::Linear,
            weight_type: WeightType::F32,
            columns,
            bytes: Cow::Owned(bytes),
            scales: Vec::new(),
        }
    }

    #[test]
    fn rows_are_cut_joined_and_scaled() {
        let all = rows(&[3.0, 4.0, 0.0, 2.0, 5.0, 12.0], 2);
        assert_eq!(all.select(&[2..3, 0..1]).to_floats(), [5.0, 12.0, 3.0, 4.0]);
        assert_eq!(all.with_unit_length().to_floats(), [0.6, 0.8, 0.0, 1.0, 5.0 / 13.0, 12.0 / 13.0]);
        assert_eq!(all.with_scaled_columns(&[2.0, 0.5]).to_floats(), [6.0, 2.0, 0.0, 1.0, 10.0, 6.0]);
        let scaled = Rows { scales: vec![2.0, 1.0, -1.0], ..rows(&[3.0, 4.0, 0.0, 2.0, 5.0, 12.0], 2) };
        assert_eq!(scaled.to_floats(), [6.0, 8.0, 0.0, 2.0, -5.0, -12.0]);
        assert_eq!(scaled.select(std::slice::from_ref(&(2..3))).to_floats(), [-5.0, -12.0]);
        let transposed = transpose(&all.bytes, [3, 2], 4);
        let transposed = Rows { bytes: Cow::Owned(transposed), ..rows(&[], 3) };
        assert_eq!(transposed.to_floats(), [3.0, 0.0, 5.0, 4.0, 2.0, 12.0]);
    }
}
