//! Finds a model's tensors, checks their shapes, cuts and joins what files store otherwise, and packs them.

use std::borrow::Cow;
use std::collections::HashSet;
use std::ops::Range;

use lookahead_kernels::{Kernels, Matrix, WeightArena, WeightType, dequantize_row};

use super::{ExpertsWeights, FeedForwardWeights, LayerWeights, Linear, MlpWeights, NormWeights, Weights};
use crate::LoadError;
use crate::architecture::tensor_names::{FusedQkv, Layout, TensorName};
use crate::architecture::{
    Architecture, Attention, Experts, FeedForward, Layer, Mlp, QkNorm, RopeFactors, Wiring,
};
use crate::model_files::{ModelFiles, StoredTensor};

pub(super) struct Loader<'a> {
    files: ModelFiles<'a>,
    layout: &'a Layout,
    kernels: &'a Kernels,
    /// What dense matrices are made into.
    quantize: Option<WeightType>,
    arena: WeightArena,
    used: HashSet<String>,
}

/// What a matrix is for: it says how far its weights may be rounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// As the caller asks.
    Linear,
    /// A row for each token: no fewer than eight bits.
    Vocabulary,
    /// Small, and much depends on it.
    Exact,
}

impl Role {
    fn of(part: &str) -> Self {
        match part {
            "token_embd" | "output" => Self::Vocabulary,
            "position_embd" | "ffn_gate_inp" | "ffn_gate_inp_shexp" => Self::Exact,
            _ => Self::Linear,
        }
    }

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

/// Rows of weights on their way from a file to a matrix.
struct Rows<'a> {
    /// What errors call the tensor.
    name: String,
    role: Role,
    weight_type: WeightType,
    columns: usize,
    bytes: Cow<'a, [u8]>,
}

/// A part of a model, whose tensors are its weight and perhaps its bias.
#[derive(Clone, Copy)]
struct Part<'a> {
    layer: Option<usize>,
    name: &'a str,
    index: Option<usize>,
}

impl<'a> Part<'a> {
    fn outer(name: &'a str) -> Self {
        Self { layer: None, name, index: None }
    }

    fn of_layer(layer: usize, name: &'a str) -> Self {
        Self { layer: Some(layer), name, index: None }
    }

    fn tensor(self, kind: &'static str) -> TensorName<'a> {
        TensorName { layer: self.layer, part: self.name, index: self.index, kind }
    }
}

impl<'a> Loader<'a> {
    pub(super) fn new(
        files: ModelFiles<'a>,
        layout: &'a Layout,
        kernels: &'a Kernels,
        quantize: Option<WeightType>,
    ) -> Self {
        Self { files, layout, kernels, quantize, arena: WeightArena::new(), used: HashSet::new() }
    }

    pub(super) fn weights(mut self, architecture: &Architecture) -> Result<Weights, LoadError> {
        let hidden = architecture.hidden_size;
        let embedding = self.matrix(Part::outer("token_embd"), None, hidden)?;
        let positions = match architecture.embedding.first_position {
            Some(_) => Some(self.matrix(Part::outer("position_embd"), None, hidden)?),
            None => None,
        };
        let embedding_norm = if architecture.embedding.norm {
            Some(self.norm(Part::outer("token_embd_norm"), hidden)?)
        } else {
            None
        };
        let layers = architecture
            .layers
            .iter()
            .enumerate()
            .map(|(index, layer)| self.layer(index, layer, hidden))
            .collect::<Result<_, _>>()?;
        let output_norm = self.norm(Part::outer("output_norm"), hidden)?;
        let output =
            if self.has(Part::outer("output"))? { Some(self.head(embedding.rows(), hidden)?) } else { None };
        let rope_factors = architecture
            .ropes
            .iter()
            .map(|rope| match rope.factors {
                RopeFactors::Tensor(name) if self.has(Part::outer(name))? => {
                    self.vector(Part::outer(name).tensor("weight"), rope.dimensions / 2).map(Some)
                }
                _ => Ok(None),
            })
            .collect::<Result<_, LoadError>>()?;
        self.warn_of_unused_tensors();
        Ok(Weights { embedding, positions, embedding_norm, layers, output_norm, output, rope_factors })
    }

    fn layer(&mut self, index: usize, layer: &Layer, hidden: usize) -> Result<LayerWeights, LoadError> {
        let part = |name| Part::of_layer(index, name);
        let attention = &layer.attention;
        let [query, key, value] = self.attention_inputs(index, attention, hidden)?;
        let qk_norms = match attention.qk_norm {
            None => None,
            Some(kind) => Some([
                self.head_norm(part("attn_q_norm"), kind, attention.heads, attention.head_dim)?,
                self.head_norm(part("attn_k_norm"), kind, attention.kv_heads, attention.head_dim)?,
            ]),
        };
        let has_pre_norms = layer.wiring != Wiring::PostNorm;
        let mut norm = |name, is_there: bool| is_there.then(|| self.norm(part(name), hidden)).transpose();
        let attention_norm = norm("attn_norm", has_pre_norms)?;
        let feed_forward_norm = norm("ffn_norm", has_pre_norms && layer.wiring != Wiring::Parallel)?;
        let has_post_norms = layer.wiring.has_post_norms();
        let post_norms =
            [norm("post_attention_norm", has_post_norms)?, norm("post_ffw_norm", has_post_norms)?];
        let [first, second] = post_norms;
        Ok(LayerWeights {
            attention_norm,
            query,
            key,
            value,
            qk_norms,
            attention_output: self.linear(
                part("attn_output"),
                hidden,
                attention.heads * attention.head_dim,
            )?,
            feed_forward_norm,
            feed_forward: match &layer.feed_forward {
                FeedForward::Dense(mlp) => FeedForwardWeights::Dense(self.mlp(index, "", mlp, hidden)?),
                FeedForward::Experts(experts) => {
                    FeedForwardWeights::Experts(self.experts(index, experts, hidden)?)
                }
            },
            post_norms: first.zip(second).map(|(first, second)| [first, second]),
        })
    }

    /// Queries, keys and values, cut from one matrix if the file has them so.
    fn attention_inputs(
        &mut self,
        layer: usize,
        attention: &Attention,
        hidden: usize,
    ) -> Result<[Linear; 3], LoadError> {
        let Attention { heads, kv_heads, head_dim, .. } = *attention;
        let (queries, keys) = (heads * head_dim, kv_heads * head_dim);
        let parts = ["attn_q", "attn_k", "attn_v"].map(|name| Part::of_layer(layer, name));
        if self.has(parts[0])? || !self.has(Part::of_layer(layer, "attn_qkv"))? {
            let [query, key, value] = parts;
            return Ok([
                self.linear(query, queries, hidden)?,
                self.linear(key, keys, hidden)?,
                self.linear(value, keys, hidden)?,
            ]);
        }
        let in_order = [0..queries, queries..queries + keys, queries + keys..queries + 2 * keys];
        let is_gguf = matches!(self.files, ModelFiles::Gguf(_));
        let ranges: [Vec<Range<usize>>; 3] = match self.layout.qkv {
            FusedQkv::ByGroup if !is_gguf => {
                let heads_of_group = heads / kv_heads;
                [
                    0..heads_of_group,
                    heads_of_group..heads_of_group + 1,
                    heads_of_group + 1..heads_of_group + 2,
                ]
                .map(|heads| {
                    let starts = (0..kv_heads).map(|group| group * (heads_of_group + 2));
                    starts.map(|at| (at + heads.start) * head_dim..(at + heads.end) * head_dim).collect()
                })
            }
            _ => in_order.map(|range| vec![range]),
        };
        self.cut(Part::of_layer(layer, "attn_qkv"), [queries + 2 * keys, hidden], &ranges)
    }

    /// A network; `suffix` follows its parts' names.
    fn mlp(&mut self, layer: usize, suffix: &str, mlp: &Mlp, hidden: usize) -> Result<MlpWeights, LoadError> {
        let [gate, up, both, down] =
            ["gate", "up", "gate_up", "down"].map(|name| format!("ffn_{name}{suffix}"));
        let [gate, up, both, down] = [&gate, &up, &both, &down].map(|name| Part::of_layer(layer, name));
        let down_columns = mlp.size;
        let (gate, up) = if !mlp.gated {
            (None, self.linear(up, mlp.size, hidden)?)
        } else if let Some(fused) = self.fused_gate(gate, both, up, mlp.size)? {
            let halves = [0..mlp.size, mlp.size..2 * mlp.size];
            let [gate, up] = self.cut(fused, [2 * mlp.size, hidden], &halves.map(|range| [range]))?;
            (Some(gate), up)
        } else {
            (Some(self.linear(gate, mlp.size, hidden)?), self.linear(up, mlp.size, hidden)?)
        };
        Ok(MlpWeights { gate, up, down: self.linear(down, hidden, down_columns)? })
    }

    /// The one matrix of both gate and up, gate first, if there is none of the gate alone; GGUF files call it up.
    fn fused_gate<'p>(
        &self,
        gate: Part<'p>,
        both: Part<'p>,
        up: Part<'p>,
        size: usize,
    ) -> Result<Option<Part<'p>>, LoadError> {
        if self.has(gate)? {
            return Ok(None);
        }
        if self.has(both)? {
            return Ok(Some(both));
        }
        let rows = self.files.find(self.layout, &up.tensor("weight"))?.map(|stored| stored.rows);
        Ok((rows == Some(2 * size)).then_some(up))
    }

    fn experts(
        &mut self,
        layer: usize,
        experts: &Experts,
        hidden: usize,
    ) -> Result<ExpertsWeights, LoadError> {
        let router = self.linear(Part::of_layer(layer, "ffn_gate_inp"), experts.count, hidden)?;
        let size = experts.expert.size;
        let weights = (0..experts.count).map(|expert| {
            Ok(MlpWeights {
                gate: Some(self.expert(layer, "ffn_gate_exps", [expert, experts.count], [size, hidden])?),
                up: self.expert(layer, "ffn_up_exps", [expert, experts.count], [size, hidden])?,
                down: self.expert(layer, "ffn_down_exps", [expert, experts.count], [hidden, size])?,
            })
        });
        let weights = weights.collect::<Result<_, LoadError>>()?;
        let shared = match &experts.shared {
            None => None,
            Some(mlp) => {
                let gate = self.linear(Part::of_layer(layer, "ffn_gate_inp_shexp"), 1, hidden)?;
                Some((self.mlp(layer, "_shexp", mlp, hidden)?, gate))
            }
        };
        Ok(ExpertsWeights { router, experts: weights, shared })
    }

    /// One expert's matrix: a tensor of its own, or its part of one for all.
    fn expert(
        &mut self,
        layer: usize,
        name: &str,
        [expert, count]: [usize; 2],
        [rows, columns]: [usize; 2],
    ) -> Result<Linear, LoadError> {
        let own = Part { index: Some(expert), ..Part::of_layer(layer, name) };
        if matches!(self.files, ModelFiles::Checkpoint(_)) {
            return self.linear(own, rows, columns);
        }
        let all = self.rows(own, Some(count * rows), columns)?;
        let range = expert * rows..(expert + 1) * rows;
        let matrix = self.pack(all.select(&[range]), rows)?;
        Ok(Linear { matrix, bias: None })
    }

    /// The output head.
    fn head(&mut self, rows: usize, columns: usize) -> Result<Linear, LoadError> {
        let part = Part::outer("output");
        let is_gguf = matches!(self.files, ModelFiles::Gguf(_));
        if is_gguf || self.layout.unit_head_rows != Some(rows) {
            return self.linear(part, rows, columns);
        }
        let stored = self.rows(part, Some(rows), columns)?;
        let matrix = self.pack(stored.with_unit_length(), rows)?;
        Ok(Linear { matrix, bias: None })
    }

    /// Parts of the rows of one matrix and of its bias, each as a matrix of its own.
    fn cut<const N: usize>(
        &mut self,
        part: Part<'_>,
        [rows, columns]: [usize; 2],
        ranges: &[impl AsRef<[Range<usize>]>; N],
    ) -> Result<[Linear; N], LoadError> {
        let stored = self.rows(part, Some(rows), columns)?;
        let bias = self.bias(part, rows)?;
        let mut linears = Vec::with_capacity(N);
        for ranges in ranges.iter().map(AsRef::as_ref) {
            let matrix = self.pack(stored.select(ranges), ranges.iter().map(Range::len).sum())?;
            let select =
                |bias: &Vec<f32>| ranges.iter().flat_map(|range| &bias[range.clone()]).copied().collect();
            linears.push(Linear { matrix, bias: bias.as_ref().map(select) });
        }
        Ok(linears.try_into().unwrap_or_else(|_| unreachable!("a matrix for each")))
    }

    /// `NAME.weight`, and `NAME.bias` if there is one.
    fn linear(&mut self, part: Part<'_>, rows: usize, columns: usize) -> Result<Linear, LoadError> {
        let matrix = self.matrix(part, Some(rows), columns)?;
        Ok(Linear { matrix, bias: self.bias(part, rows)? })
    }

    fn bias(&mut self, part: Part<'_>, len: usize) -> Result<Option<Vec<f32>>, LoadError> {
        let name = part.tensor("bias");
        match self.files.find(self.layout, &name)? {
            Some(_) => self.vector(name, len).map(Some),
            None => Ok(None),
        }
    }

    fn norm(&mut self, part: Part<'_>, len: usize) -> Result<NormWeights, LoadError> {
        let mut weight = self.vector(part.tensor("weight"), len)?;
        if self.layout.norms_minus_one && matches!(self.files, ModelFiles::Checkpoint(_)) {
            for weight in &mut weight {
                *weight += 1.0;
            }
        }
        Ok(NormWeights { weight, bias: self.bias(part, len)?.unwrap_or_default() })
    }

    /// The norm of queries or keys.
    fn head_norm(
        &mut self,
        part: Part<'_>,
        kind: QkNorm,
        heads: usize,
        head_dim: usize,
    ) -> Result<NormWeights, LoadError> {
        match kind {
            QkNorm::Heads => self.norm(part, head_dim),
            QkNorm::Whole => self.norm(part, heads * head_dim),
            QkNorm::EachHead => {
                let indexed = Part { index: Some(0), ..part };
                if matches!(self.files, ModelFiles::Gguf(_)) {
                    let rows = self.rows(part, Some(heads), head_dim)?;
                    return Ok(NormWeights { weight: rows.to_floats(), bias: Vec::new() });
                }
                let mut weight = Vec::with_capacity(heads * head_dim);
                for head in 0..heads {
                    weight.extend(
                        self.vector(Part { index: Some(head), ..indexed }.tensor("weight"), head_dim)?,
                    );
                }
                Ok(NormWeights { weight, bias: Vec::new() })
            }
        }
    }

    fn matrix(&mut self, part: Part<'_>, rows: Option<usize>, columns: usize) -> Result<Matrix, LoadError> {
        let stored = self.rows(part, rows, columns)?;
        let rows = stored.len();
        self.pack(stored, rows)
    }

    fn pack(&mut self, rows: Rows<'_>, count: usize) -> Result<Matrix, LoadError> {
        let (files, shape) = (self.files, [count, rows.columns]);
        let release = || files.release_pages();
        let types = [rows.weight_type, rows.role.weight_type(rows.weight_type, self.quantize, rows.columns)];
        Matrix::pack_as(self.kernels, &mut self.arena, types, shape, &rows.bytes, release)
            .map_err(|source| LoadError::Matrix { file: files.name(), tensor: rows.name, source })
    }

    /// A tensor of one row, as floats.
    fn vector(&mut self, name: TensorName<'_>, len: usize) -> Result<Vec<f32>, LoadError> {
        let stored = self.require(name)?;
        self.check_shape(&stored, [1, len])?;
        let mut values = vec![0.0; len];
        dequantize_row(stored.weight_type, stored.bytes, &mut values);
        Ok(values)
    }

    /// The weights of a part, a row for each output.
    fn rows(&mut self, part: Part<'_>, rows: Option<usize>, columns: usize) -> Result<Rows<'a>, LoadError> {
        let stored = self.require(part.tensor("weight"))?;
        let is_transposed =
            self.layout.transposed && part.layer.is_some() && matches!(self.files, ModelFiles::Checkpoint(_));
        let expected = match (rows, is_transposed) {
            (Some(rows), true) => [columns, rows],
            (Some(rows), false) => [rows, columns],
            (None, _) => [stored.rows, columns],
        };
        self.check_shape(&stored, expected)?;
        let StoredTensor { name, weight_type, bytes, .. } = stored;
        let bytes = if is_transposed {
            Cow::Owned(transpose(bytes, expected, weight_type.block_bytes()))
        } else {
            Cow::Borrowed(bytes)
        };
        Ok(Rows { name, role: Role::of(part.name), weight_type, columns, bytes })
    }

    fn has(&self, part: Part<'_>) -> Result<bool, LoadError> {
        let part = Part { index: part.index, ..part };
        Ok(self.files.find(self.layout, &part.tensor("weight"))?.is_some())
    }

    fn require(&mut self, name: TensorName<'_>) -> Result<StoredTensor<'a>, LoadError> {
        let Some(stored) = self.files.find(self.layout, &name)? else {
            let tensor = self.files.name_of(self.layout, &name);
            return Err(LoadError::MissingTensor { file: self.files.name(), tensor });
        };
        self.used.insert(stored.name.clone());
        Ok(stored)
    }

    fn check_shape(&self, stored: &StoredTensor<'_>, [rows, columns]: [usize; 2]) -> Result<(), LoadError> {
        if [stored.rows, stored.columns] == [rows, columns] {
            return Ok(());
        }
        Err(LoadError::Shape {
            file: self.files.name(),
            tensor: stored.name.clone(),
            expected: format!("{rows} x {columns}"),
            found: format!("{} x {}", stored.rows, stored.columns),
        })
    }

    /// A tensor that the description does not know may mean that the model computes something else.
    fn warn_of_unused_tensors(&self) {
        for tensor in self.files.tensor_names() {
            // Some checkpoints carry tables that their code computes anew, and the mask of attention.
            let is_computed = [".rotary_emb.inv_freq", ".attn.bias", ".attn.masked_bias", ".attention.bias"]
                .iter()
                .any(|suffix| tensor.ends_with(suffix));
            if !self.used.contains(tensor) && !is_computed {
                tracing::warn!(file = self.files.name(), tensor, "tensor is not used by this architecture");
            }
        }
    }
}

impl Rows<'_> {
    fn row_bytes(&self) -> usize {
        self.weight_type.row_bytes(self.columns).unwrap_or(0)
    }

    fn len(&self) -> usize {
        self.bytes.len().checked_div(self.row_bytes()).unwrap_or(0)
    }

    /// Some of the rows, one range after the other.
    fn select(&self, ranges: &[Range<usize>]) -> Rows<'_> {
        let row_bytes = self.row_bytes();
        let bytes = |range: &Range<usize>| &self.bytes[range.start * row_bytes..range.end * row_bytes];
        let selected = match ranges {
            [range] => Cow::Borrowed(bytes(range)),
            ranges => Cow::Owned(ranges.iter().flat_map(bytes).copied().collect()),
        };
        Rows { name: self.name.clone(), bytes: selected, ..*self }
    }

    fn to_floats(&self) -> Vec<f32> {
        let mut values = vec![0.0; self.len() * self.columns];
        for (row, bytes) in
            values.chunks_exact_mut(self.columns).zip(self.bytes.chunks_exact(self.row_bytes()))
        {
            dequantize_row(self.weight_type, bytes, row);
        }
        values
    }

    /// The same rows at unit length, in single precision.
    fn with_unit_length(&self) -> Rows<'static> {
        let mut values = self.to_floats();
        for row in values.chunks_exact_mut(self.columns) {
            let squares: f64 = row.iter().map(|&weight| f64::from(weight).powi(2)).sum();
            let length = squares.sqrt().max(1e-12) as f32;
            for weight in row {
                *weight /= length;
            }
        }
        let bytes = values.iter().flat_map(|weight| weight.to_le_bytes()).collect();
        let (name, columns) = (self.name.clone(), self.columns);
        Rows { name, role: self.role, weight_type: WeightType::F32, columns, bytes: Cow::Owned(bytes) }
    }
}

/// A matrix of elements of `size` bytes with rows and columns exchanged.
fn transpose(bytes: &[u8], [rows, columns]: [usize; 2], size: usize) -> Vec<u8> {
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
        }
    }

    #[test]
    fn rows_are_cut_joined_and_scaled() {
        let all = rows(&[3.0, 4.0, 0.0, 2.0, 5.0, 12.0], 2);
        assert_eq!(all.select(&[2..3, 0..1]).to_floats(), [5.0, 12.0, 3.0, 4.0]);
        assert_eq!(all.with_unit_length().to_floats(), [0.6, 0.8, 0.0, 1.0, 5.0 / 13.0, 12.0 / 13.0]);
        let transposed = transpose(&all.bytes, [3, 2], 4);
        let transposed = Rows { bytes: Cow::Owned(transposed), ..rows(&[], 3) };
        assert_eq!(transposed.to_floats(), [3.0, 0.0, 5.0, 4.0, 2.0, 12.0]);
    }
}
