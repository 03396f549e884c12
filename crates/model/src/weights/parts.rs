//! The weights of a model, repacked for the kernels.

use std::ops::BitOr;

use lookahead_kernels::{InputCodes, Matrix, RopeTable};

use crate::architecture::{Architecture, Mixer};

/// The weights of a model.
#[derive(Debug)]
pub(crate) struct Weights {
    pub(crate) embedding: Matrix,
    /// Learned positions.
    pub(crate) positions: Option<Matrix>,
    pub(crate) embedding_norm: Option<NormWeights>,
    pub(crate) per_layer: Option<PerLayerInputsWeights>,
    pub(crate) altup: Option<AltUpWeights>,
    /// The blocks of each layer.
    pub(crate) layers: Vec<Vec<BlockWeights>>,
    pub(crate) output_norm: NormWeights,
    /// The output head; the embedding if `None`.
    pub(crate) output: Option<Linear>,
    /// Frequency divisors for each of the architecture's ropes, where they are a tensor.
    pub(crate) rope_factors: Vec<Option<Vec<f32>>>,
}

/// A matrix with an optional factor on each output and an optional bias: `x -> factors * (matrix x) + bias`.
#[derive(Debug)]
pub(crate) struct Linear {
    pub(crate) matrix: Matrix,
    pub(crate) factors: Option<Vec<f32>>,
    pub(crate) bias: Option<Vec<f32>>,
}

/// The weights of a norm.
#[derive(Debug)]
pub(crate) struct NormWeights {
    pub(crate) weight: Vec<f32>,
    /// Empty if there is none.
    pub(crate) bias: Vec<f32>,
}

impl NormWeights {
    /// Those of a norm without weights.
    pub(super) fn ones(len: usize) -> Self {
        Self { weight: vec![1.0; len], bias: Vec::new() }
    }
}

/// The weights of a block. Which norms there are says its wiring.
#[derive(Debug)]
pub(crate) struct BlockWeights {
    /// Of its input.
    pub(crate) norm: Option<NormWeights>,
    pub(crate) mixer: MixerWeights,
    /// Of its result.
    pub(crate) post_norm: Option<NormWeights>,
    /// Of the sum of its result and that of the block that it stands beside.
    pub(crate) joint_norm: Option<NormWeights>,
    /// Factor on the residual stream behind it.
    pub(crate) scale: f32,
}

/// The weights of what a block computes.
#[derive(Debug)]
pub(crate) enum MixerWeights {
    Attention(AttentionWeights),
    Latent(LatentWeights),
    Recurrence(RecurrenceWeights),
    Scan(ScanWeights),
    Convolution(ConvolutionWeights),
    Dense(MlpWeights),
    Experts(ExpertsWeights),
    PerLayer(PerLayerWeights),
    Laurel(LaurelWeights),
}

/// The weights of attention.
#[derive(Debug)]
pub(crate) struct AttentionWeights {
    pub(crate) query: Linear,
    /// Of keys and of values, where they are the block's own; the first alone if values are keys.
    pub(crate) keys_and_values: Vec<Linear>,
    /// Norms of queries, and of keys that are the block's own; empty if there are none.
    pub(crate) qk_norms: Vec<NormWeights>,
    pub(crate) value_norm: Option<NormWeights>,
    /// The score of each head's sink; empty if there are none.
    pub(crate) sinks: Vec<f32>,
    /// What attention's result is multiplied with the sigmoid of.
    pub(crate) gate: Option<Linear>,
    pub(crate) output: Linear,
}

/// Two maps, one after the other, or one.
#[derive(Debug)]
pub(crate) struct Series {
    pub(crate) first: Linear,
    pub(crate) second: Option<Linear>,
}

/// The weights of linear attention.
#[derive(Debug)]
pub(crate) struct RecurrenceWeights {
    /// Make what goes through the convolution, what decays are made of, and what rates are made of if that is something else: side by
    /// side in this order.
    pub(crate) inputs: Vec<Series>,
    pub(crate) gates: Series,
    /// `[tap][channel]`
    pub(crate) convolution: Vec<f32>,
    /// Empty if there is none.
    pub(crate) convolution_bias: Vec<f32>,
    /// Added to what decays are made of.
    pub(crate) decay_bias: Vec<f32>,
    /// How fast each head's state decays.
    pub(crate) decay_rates: Vec<f32>,
    /// The share of a head's values in what is read; empty if there is none.
    pub(crate) skips: Vec<f32>,
    /// Of all that heads read, side by side; empty if it is not normalised.
    pub(crate) norm: Vec<f32>,
    pub(crate) output: Linear,
}

/// The weights of a selective scan.
#[derive(Debug)]
pub(crate) struct ScanWeights {
    pub(crate) channels: Linear,
    pub(crate) gates: Linear,
    /// `[tap][channel]`
    pub(crate) convolution: Vec<f32>,
    /// Empty if there is none.
    pub(crate) convolution_bias: Vec<f32>,
    /// Makes what steps are made of, keys and queries, side by side.
    pub(crate) select: Linear,
    /// Of each of these.
    pub(crate) norms: Option<[Vec<f32>; 3]>,
    /// Makes the step of each channel.
    pub(crate) steps: Linear,
    /// How fast states fade, in the kernel's order: negative.
    pub(crate) fades: Vec<f32>,
    /// The share of each channel in what is read.
    pub(crate) skips: Vec<f32>,
    pub(crate) output: Linear,
}

/// The weights of a gated convolution.
#[derive(Debug)]
pub(crate) struct ConvolutionWeights {
    /// Makes both gates and what is between them: `b`, `c`, `x`.
    pub(crate) input: Linear,
    /// `[tap][channel]`
    pub(crate) convolution: Vec<f32>,
    /// Empty if there is none.
    pub(crate) bias: Vec<f32>,
    pub(crate) output: Linear,
}

/// The weights of latent attention.
#[derive(Debug)]
pub(crate) struct LatentWeights {
    /// What makes what queries are made from, and its norm.
    pub(crate) query_down: Option<(Linear, NormWeights)>,
    pub(crate) query: Linear,
    /// Makes latent rows, and behind each the part of the key that is turned.
    pub(crate) down: Linear,
    pub(crate) norm: NormWeights,
    /// For each head: from a query's dimensions without position to a query for latent rows.
    pub(crate) key_up: Vec<Linear>,
    /// For each head: from a latent row to a value.
    pub(crate) value_up: Vec<Linear>,
    /// A factor for each head, as its sigmoid.
    pub(crate) gate: Option<Linear>,
    pub(crate) output: Linear,
}

/// The weights of a network of one hidden layer.
#[derive(Debug)]
pub(crate) struct MlpWeights {
    pub(crate) gate: Option<Linear>,
    pub(crate) up: Linear,
    pub(crate) down: Linear,
}

/// The weights of what layers are given of a token besides.
#[derive(Debug)]
pub(crate) struct PerLayerInputsWeights {
    /// For each token a row with what all layers are given.
    pub(crate) embedding: Matrix,
    /// Of the residual stream.
    pub(crate) projection: Linear,
    /// Of a layer's part of it.
    pub(crate) norm: NormWeights,
}

/// The weights of a block that takes what its layer is given of the token.
#[derive(Debug)]
pub(crate) struct PerLayerWeights {
    pub(crate) gate: Linear,
    pub(crate) projection: Linear,
}

/// The weights of a narrow map beside attention.
#[derive(Debug)]
pub(crate) struct LaurelWeights {
    pub(crate) left: Linear,
    pub(crate) right: Linear,
    /// Of what they make.
    pub(crate) norm: NormWeights,
}

/// The weights of several residual streams.
#[derive(Debug)]
pub(crate) struct AltUpWeights {
    /// Make all streams but the first of what enters the first layer.
    pub(crate) projections: Vec<Linear>,
    /// Their counterparts behind the last layer.
    pub(crate) unprojections: Vec<Linear>,
    pub(crate) layers: Vec<AltUpLayerWeights>,
}

/// Those of a layer.
#[derive(Debug)]
pub(crate) struct AltUpLayerWeights {
    /// Of what the router is given.
    pub(crate) norm: NormWeights,
    pub(crate) router: Linear,
    /// `[to][from][router's output]`
    pub(crate) prediction: Vec<f32>,
    /// `[to][router's output]`
    pub(crate) correction: Vec<f32>,
    /// Of the corrected stream, where a block is given it; empty if there is none.
    pub(crate) scale: Vec<f32>,
}

/// The weights of a mixture of experts.
#[derive(Debug)]
pub(crate) struct ExpertsWeights {
    pub(crate) router: Linear,
    /// Added to the experts' scores where they are chosen; empty if there is none.
    pub(crate) choice_bias: Vec<f32>,
    /// Factors on the features that experts see; empty if there are none.
    pub(crate) input_scales: Vec<f32>,
    /// A factor on what each expert makes of them; empty if there is none.
    pub(crate) result_scales: Vec<f32>,
    pub(crate) experts: Vec<MlpWeights>,
    pub(crate) shared: Option<SharedExpertWeights>,
}

/// The weights of the expert that every token takes.
#[derive(Debug)]
pub(crate) struct SharedExpertWeights {
    pub(crate) mlp: MlpWeights,
    pub(crate) gate: Option<Linear>,
}

impl Weights {
    /// The matrix of the output head.
    pub(crate) fn head(&self) -> &Matrix {
        self.output.as_ref().map_or(&self.embedding, |output| &output.matrix)
    }

    /// The positions that there are embeddings for; without learned ones, there is no end.
    pub(crate) fn positions(&self, architecture: &Architecture) -> usize {
        match (&self.positions, architecture.embedding.first_position) {
            (Some(table), Some(first)) => table.rows().saturating_sub(first),
            _ => usize::MAX,
        }
    }

    /// A table for each of the architecture's rotary embeddings, empty yet.
    pub(crate) fn rope_tables(&self, architecture: &Architecture) -> Vec<RopeTable> {
        let ropes = architecture.ropes.iter().zip(&self.rope_factors);
        ropes.map(|(rope, factors)| rope.table(factors.as_deref())).collect()
    }

    /// The matrices that a token is multiplied with. Of experts, as many as it takes: they are alike.
    pub(crate) fn matrices<'a>(&'a self, architecture: &'a Architecture) -> impl Iterator<Item = &'a Matrix> {
        let blocks = architecture.layers.iter().flat_map(|layer| &layer.blocks);
        let linears = self.layers.iter().flatten().zip(blocks).flat_map(|(weights, block)| {
            let experts = if let Mixer::Experts(experts) = block.mixer { experts.active } else { 0 };
            weights.mixer.linears(experts)
        });
        linears.map(|linear| &linear.matrix).chain(self.shared_matrices())
    }

    /// Those of no layer.
    pub(crate) fn shared_matrices(&self) -> impl Iterator<Item = &Matrix> {
        let per_layer = self.per_layer.iter().map(|weights| &weights.projection);
        let altup = self.altup.iter().flat_map(AltUpWeights::linears);
        per_layer.chain(altup).map(|linear| &linear.matrix).chain([self.head()])
    }

    /// The linear maps of all experts in the layers from `first` on; a token takes few of them.
    #[cfg(feature = "gpu")]
    pub(crate) fn experts(&self, first: usize) -> impl Iterator<Item = &Linear> {
        let experts = self.layers[first..].iter().flatten().flat_map(|block| match &block.mixer {
            MixerWeights::Experts(weights) => &weights.experts[..],
            _ => &[],
        });
        experts.flat_map(MlpWeights::linears)
    }
}

impl Linear {
    /// The quantized forms in which the map takes its input.
    pub(crate) fn input_codes(&self) -> InputCodes {
        self.matrix.weight_type().codes()
    }
}

/// Those of a map that may be there.
fn codes_of(linear: Option<&Linear>) -> InputCodes {
    linear.map_or(InputCodes::NONE, Linear::input_codes)
}

impl MixerWeights {
    /// The quantized forms in which the block takes its input.
    pub(crate) fn input_codes(&self) -> InputCodes {
        match self {
            Self::Attention(AttentionWeights { query, keys_and_values, gate, .. }) => {
                let others = keys_and_values.iter().map(Linear::input_codes);
                others.fold(query.input_codes() | codes_of(gate.as_ref()), BitOr::bitor)
            }
            Self::Recurrence(RecurrenceWeights { inputs, gates, .. }) => {
                let all = inputs.iter().map(|series| series.first.input_codes());
                all.fold(gates.first.input_codes(), |all, codes| all | codes)
            }
            Self::Scan(ScanWeights { channels, gates, .. }) => channels.input_codes() | gates.input_codes(),
            Self::Convolution(ConvolutionWeights { input, .. }) => input.input_codes(),
            Self::Latent(LatentWeights { query_down, query, down, gate, .. }) => {
                let first = query_down.as_ref().map_or(query, |(linear, _)| linear);
                first.input_codes() | down.input_codes() | codes_of(gate.as_ref())
            }
            Self::Dense(mlp) => mlp.input_codes(),
            Self::Experts(experts) => experts.input_codes(),
            Self::PerLayer(weights) => weights.gate.input_codes(),
            Self::Laurel(weights) => weights.left.input_codes(),
        }
    }

    /// The linear maps that a token is multiplied with if it takes so many experts.
    pub(crate) fn linears(&self, experts: usize) -> Vec<&Linear> {
        match self {
            Self::Attention(AttentionWeights { query, keys_and_values, gate, output, .. }) => {
                [query].into_iter().chain(keys_and_values).chain(gate).chain([output]).collect()
            }
            Self::Recurrence(weights) => {
                let RecurrenceWeights { inputs, gates, output, .. } = weights;
                inputs.iter().chain([gates]).flat_map(Series::linears).chain([output]).collect()
            }
            Self::Scan(ScanWeights { channels, gates, select, steps, output, .. }) => {
                vec![channels, gates, select, steps, output]
            }
            Self::Convolution(ConvolutionWeights { input, output, .. }) => vec![input, output],
            Self::Latent(weights) => {
                let LatentWeights { query_down, query, down, key_up, value_up, gate, output, .. } = weights;
                let query_down = query_down.iter().map(|(linear, _)| linear);
                let heads = key_up.iter().chain(value_up);
                query_down.chain([query, down]).chain(heads).chain(gate).chain([output]).collect()
            }
            Self::Dense(mlp) => mlp.linears().collect(),
            Self::PerLayer(PerLayerWeights { gate, projection }) => vec![gate, projection],
            Self::Laurel(LaurelWeights { left, right, .. }) => vec![left, right],
            Self::Experts(weights) => {
                let experts = weights.experts.iter().take(experts).flat_map(MlpWeights::linears);
                let shared = weights.shared.iter().flat_map(SharedExpertWeights::linears);
                [&weights.router].into_iter().chain(experts).chain(shared).collect()
            }
        }
    }
}

impl From<Matrix> for Linear {
    fn from(matrix: Matrix) -> Self {
        Self { matrix, factors: None, bias: None }
    }
}

impl From<Linear> for Series {
    fn from(first: Linear) -> Self {
        Self { first, second: None }
    }
}

impl Series {
    /// Rows of the result.
    pub(crate) fn rows(&self) -> usize {
        self.second.as_ref().unwrap_or(&self.first).matrix.rows()
    }

    fn linears(&self) -> impl Iterator<Item = &Linear> {
        [&self.first].into_iter().chain(&self.second)
    }
}

impl AltUpWeights {
    fn linears(&self) -> impl Iterator<Item = &Linear> {
        let routers = self.layers.iter().map(|layer| &layer.router);
        self.projections.iter().chain(&self.unprojections).chain(routers)
    }
}

impl MlpWeights {
    /// The quantized forms in which the network takes its input.
    pub(crate) fn input_codes(&self) -> InputCodes {
        self.up.input_codes() | codes_of(self.gate.as_ref())
    }

    fn linears(&self) -> impl Iterator<Item = &Linear> {
        self.gate.iter().chain([&self.up, &self.down])
    }
}

impl ExpertsWeights {
    fn input_codes(&self) -> InputCodes {
        let shared = |shared: &SharedExpertWeights| shared.mlp.input_codes() | codes_of(shared.gate.as_ref());
        self.router.input_codes() | self.shared.as_ref().map_or(InputCodes::NONE, shared)
    }
}

impl SharedExpertWeights {
    fn linears(&self) -> impl Iterator<Item = &Linear> {
        self.mlp.linears().chain(&self.gate)
    }
}
