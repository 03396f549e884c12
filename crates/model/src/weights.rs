//! The weights of a model, repacked for the kernels.

mod loader;

use lookahead_kernels::{Kernels, Matrix, WeightType};

use crate::LoadError;
use crate::architecture::tensor_names::Layout;
use crate::architecture::{Architecture, FeedForward};
use crate::model_files::ModelFiles;
use loader::Loader;

/// A matrix with an optional bias: `x -> matrix x + bias`.
#[derive(Debug)]
pub(crate) struct Linear {
    pub(crate) matrix: Matrix,
    pub(crate) bias: Option<Vec<f32>>,
}

/// The weights of a norm.
#[derive(Debug)]
pub(crate) struct NormWeights {
    pub(crate) weight: Vec<f32>,
    /// Empty if there is none.
    pub(crate) bias: Vec<f32>,
}

/// The weights of one layer. Which norms there are says its wiring.
#[derive(Debug)]
pub(crate) struct LayerWeights {
    pub(crate) attention_norm: Option<NormWeights>,
    pub(crate) query: Linear,
    pub(crate) key: Linear,
    pub(crate) value: Linear,
    /// Norms of queries and keys.
    pub(crate) qk_norms: Option<[NormWeights; 2]>,
    pub(crate) attention_output: Linear,
    pub(crate) feed_forward_norm: Option<NormWeights>,
    pub(crate) feed_forward: FeedForwardWeights,
    /// Norms of the results of attention and feed-forward network.
    pub(crate) post_norms: Option<[NormWeights; 2]>,
}

/// The weights of a feed-forward block.
#[derive(Debug)]
pub(crate) enum FeedForwardWeights {
    Dense(MlpWeights),
    Experts(ExpertsWeights),
}

/// The weights of a network of one hidden layer.
#[derive(Debug)]
pub(crate) struct MlpWeights {
    pub(crate) gate: Option<Linear>,
    pub(crate) up: Linear,
    pub(crate) down: Linear,
}

/// The weights of a mixture of experts.
#[derive(Debug)]
pub(crate) struct ExpertsWeights {
    pub(crate) router: Linear,
    pub(crate) experts: Vec<MlpWeights>,
    /// The shared expert, and its gate.
    pub(crate) shared: Option<(MlpWeights, Linear)>,
}

/// The weights of a model.
#[derive(Debug)]
pub(crate) struct Weights {
    pub(crate) embedding: Matrix,
    /// Learned positions.
    pub(crate) positions: Option<Matrix>,
    pub(crate) embedding_norm: Option<NormWeights>,
    pub(crate) layers: Vec<LayerWeights>,
    pub(crate) output_norm: NormWeights,
    /// The output head; the embedding if `None`.
    pub(crate) output: Option<Linear>,
    /// Frequency divisors for each of the architecture's ropes, where they are a tensor.
    pub(crate) rope_factors: Vec<Option<Vec<f32>>>,
}

impl Weights {
    /// Loads and repacks every tensor, releasing the files' pages as it goes. Dense matrices are made into `quantize`.
    pub(crate) fn load(
        files: ModelFiles<'_>,
        layout: &Layout,
        architecture: &Architecture,
        kernels: &Kernels,
        quantize: Option<WeightType>,
    ) -> Result<Self, LoadError> {
        Loader::new(files, layout, kernels, quantize).weights(architecture)
    }

    /// The matrix of the output head.
    pub(crate) fn head(&self) -> &Matrix {
        self.output.as_ref().map_or(&self.embedding, |output| &output.matrix)
    }

    /// The matrices that a token is multiplied with. Of experts, as many as it takes: they are alike.
    pub(crate) fn matrices<'a>(&'a self, architecture: &'a Architecture) -> impl Iterator<Item = &'a Matrix> {
        let of_layers = self.layers.iter().zip(&architecture.layers).flat_map(|(weights, layer)| {
            let LayerWeights { query, key, value, attention_output, .. } = weights;
            let mut linears = vec![query, key, value, attention_output];
            match (&weights.feed_forward, &layer.feed_forward) {
                (FeedForwardWeights::Dense(mlp), _) => linears.extend(mlp.linears()),
                (FeedForwardWeights::Experts(weights), spec) => {
                    let active = if let FeedForward::Experts(spec) = spec { spec.active } else { 0 };
                    linears.push(&weights.router);
                    linears.extend(weights.experts.iter().take(active).flat_map(MlpWeights::linears));
                    linears.extend(weights.shared.iter().flat_map(|(mlp, gate)| mlp.linears().chain([gate])));
                }
            }
            linears.into_iter().map(|linear| &linear.matrix)
        });
        of_layers.chain([self.head()])
    }
}

impl MlpWeights {
    fn linears(&self) -> impl Iterator<Item = &Linear> {
        self.gate.iter().chain([&self.up, &self.down])
    }
}
