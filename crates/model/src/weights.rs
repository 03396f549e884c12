//! The weights of a model, repacked for the kernels.

use std::collections::HashSet;

use lookahead_kernels::{Kernels, Matrix, WeightArena, dequantize_row};

use crate::LoadError;
use crate::architecture::{Architecture, Layer};
use crate::gguf::{GgufFile, Tensor};

/// A matrix with an optional bias: `x -> matrix x + bias`.
#[derive(Debug)]
pub(crate) struct Linear {
    pub(crate) matrix: Matrix,
    pub(crate) bias: Option<Vec<f32>>,
}

/// The weights of one layer.
#[derive(Debug)]
pub(crate) struct LayerWeights {
    pub(crate) attention_norm: Vec<f32>,
    pub(crate) query: Linear,
    pub(crate) key: Linear,
    pub(crate) value: Linear,
    /// Norms of each head of queries and keys.
    pub(crate) qk_norms: Option<[Vec<f32>; 2]>,
    pub(crate) attention_output: Linear,
    pub(crate) feed_forward_norm: Vec<f32>,
    pub(crate) gate: Linear,
    pub(crate) up: Linear,
    pub(crate) down: Linear,
    /// Norms of the results of attention and feed-forward network.
    pub(crate) post_norms: Option<[Vec<f32>; 2]>,
}

/// The weights of a model.
#[derive(Debug)]
pub(crate) struct Weights {
    pub(crate) embedding: Matrix,
    pub(crate) layers: Vec<LayerWeights>,
    pub(crate) output_norm: Vec<f32>,
    /// The output head; the embedding if `None`.
    pub(crate) output: Option<Linear>,
    /// Frequency divisors for each of the architecture's ropes.
    pub(crate) rope_factors: Vec<Option<Vec<f32>>>,
}

impl Weights {
    /// Loads and repacks every tensor, releasing the file's pages as it goes.
    pub(crate) fn load(
        file: &GgufFile,
        architecture: &Architecture,
        kernels: &Kernels,
    ) -> Result<Self, LoadError> {
        let mut loader = Loader { file, kernels, arena: WeightArena::new(), used: HashSet::new() };
        let hidden = architecture.hidden_size;
        let embedding = loader.matrix("token_embd.weight", None, hidden)?;
        let layers = architecture
            .layers
            .iter()
            .enumerate()
            .map(|(index, layer)| loader.layer(index, layer, hidden))
            .collect::<Result<_, _>>()?;
        let output_norm = loader.vector("output_norm.weight", hidden)?;
        let output = match file.tensor("output.weight") {
            Some(_) => Some(loader.linear("output", embedding.rows(), hidden)?),
            None => None,
        };
        let rope_factors = architecture
            .ropes
            .iter()
            .map(|rope| {
                let tensor = rope.factors_tensor.filter(|name| file.tensor(name).is_some());
                tensor.map(|name| loader.vector(name, rope.dimensions / 2)).transpose()
            })
            .collect::<Result<_, _>>()?;
        loader.warn_of_unused_tensors();
        Ok(Self { embedding, layers, output_norm, output, rope_factors })
    }

    /// The matrix of the output head.
    pub(crate) fn head(&self) -> &Matrix {
        self.output.as_ref().map_or(&self.embedding, |output| &output.matrix)
    }

    /// The matrices that every token is multiplied with.
    pub(crate) fn matrices(&self) -> impl Iterator<Item = &Matrix> {
        let of_layers = self.layers.iter().flat_map(|layer| {
            let LayerWeights { query, key, value, attention_output, gate, up, down, .. } = layer;
            [query, key, value, attention_output, gate, up, down].map(|linear| &linear.matrix)
        });
        of_layers.chain([self.head()])
    }
}

struct Loader<'a> {
    file: &'a GgufFile,
    kernels: &'a Kernels,
    arena: WeightArena,
    used: HashSet<String>,
}

impl<'a> Loader<'a> {
    fn layer(&mut self, index: usize, layer: &Layer, hidden: usize) -> Result<LayerWeights, LoadError> {
        let name = |part: &str| format!("blk.{index}.{part}");
        let norm = |part: &str| format!("blk.{index}.{part}.weight");
        let attention = &layer.attention;
        let (queries, keys) = (attention.heads * attention.head_dim, attention.kv_heads * attention.head_dim);
        let ffn = layer.feed_forward.size;
        let qk_norms = if attention.qk_norm {
            let query = self.vector(&norm("attn_q_norm"), attention.head_dim)?;
            Some([query, self.vector(&norm("attn_k_norm"), attention.head_dim)?])
        } else {
            None
        };
        let post_norms = if layer.post_norms {
            let attention = self.vector(&norm("post_attention_norm"), hidden)?;
            Some([attention, self.vector(&norm("post_ffw_norm"), hidden)?])
        } else {
            None
        };
        Ok(LayerWeights {
            attention_norm: self.vector(&norm("attn_norm"), hidden)?,
            query: self.linear(&name("attn_q"), queries, hidden)?,
            key: self.linear(&name("attn_k"), keys, hidden)?,
            value: self.linear(&name("attn_v"), keys, hidden)?,
            qk_norms,
            attention_output: self.linear(&name("attn_output"), hidden, queries)?,
            feed_forward_norm: self.vector(&norm("ffn_norm"), hidden)?,
            gate: self.linear(&name("ffn_gate"), ffn, hidden)?,
            up: self.linear(&name("ffn_up"), ffn, hidden)?,
            down: self.linear(&name("ffn_down"), hidden, ffn)?,
            post_norms,
        })
    }

    /// `NAME.weight`, and `NAME.bias` if there is one.
    fn linear(&mut self, name: &str, rows: usize, columns: usize) -> Result<Linear, LoadError> {
        let matrix = self.matrix(&format!("{name}.weight"), Some(rows), columns)?;
        let bias = format!("{name}.bias");
        let bias = self.file.tensor(&bias).map(|_| self.vector(&bias, rows)).transpose()?;
        Ok(Linear { matrix, bias })
    }

    fn matrix(&mut self, name: &str, rows: Option<usize>, columns: usize) -> Result<Matrix, LoadError> {
        let rows = rows.or(self.file.tensor(name).map(|tensor| tensor.rows()));
        let tensor = self.tensor(name, rows.unwrap_or(1), columns)?;
        Matrix::pack_in_steps(
            self.kernels,
            &mut self.arena,
            tensor.info.weight_type,
            [tensor.rows(), tensor.columns()],
            tensor.bytes,
            || self.file.release_pages(),
        )
        .map_err(|source| LoadError::Matrix {
            file: self.file.name().into(),
            tensor: name.into(),
            source,
        })
    }

    /// A tensor of one row, as floats.
    fn vector(&mut self, name: &str, len: usize) -> Result<Vec<f32>, LoadError> {
        let tensor = self.tensor(name, 1, len)?;
        let mut values = vec![0.0; len];
        dequantize_row(tensor.info.weight_type, tensor.bytes, &mut values);
        Ok(values)
    }

    fn tensor(&mut self, name: &str, rows: usize, columns: usize) -> Result<Tensor<'a>, LoadError> {
        let tensor = self.file.require(name)?;
        if (tensor.rows(), tensor.columns()) != (rows, columns) {
            return Err(LoadError::Shape {
                file: self.file.name().to_owned(),
                tensor: name.to_owned(),
                expected: format!("{rows} x {columns}"),
                found: format!("{} x {}", tensor.rows(), tensor.columns()),
            });
        }
        self.used.insert(name.to_owned());
        Ok(tensor)
    }

    /// A tensor that the description does not know may mean that the model computes something else.
    fn warn_of_unused_tensors(&self) {
        for tensor in self.file.tensors().iter().filter(|tensor| !self.used.contains(&tensor.name)) {
            tracing::warn!(
                file = self.file.name(),
                tensor = tensor.name,
                "tensor is not used by this architecture"
            );
        }
    }
}
