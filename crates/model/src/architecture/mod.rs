//! Architectures as data: what a decoder-only transformer consists of, layer by layer.
//!
//! A family is one short file in `families/` that reads a model's hyperparameters and returns an [`Architecture`]; the
//! forward pass knows no families, only what is described here. How to add one: `docs/families.md`.

mod families;
mod hyperparameters;
mod rope;
pub(crate) mod tensor_names;

use lookahead_kernels::{Activation, KvType};

use crate::LoadError;
use crate::model_files::ModelFiles;
use hyperparameters::Hyperparameters;
pub use rope::{Rope, RopeFactors};
use tensor_names::Layout;

/// What a family's file provides.
struct Family {
    /// Its names in `general.architecture` of GGUF files.
    gguf: &'static [&'static str],
    /// Its names in `model_type` of `config.json`.
    model_types: &'static [&'static str],
    /// Describes a model of it.
    describe: fn(&Hyperparameters<'_>) -> Result<Architecture, LoadError>,
    /// How checkpoints name and store its tensors.
    layout: Layout,
}

/// A decoder-only transformer: embedding, layers, norm, output head.
#[derive(Clone, Debug, PartialEq)]
pub struct Architecture {
    /// The family, as files name it.
    pub family: &'static str,
    /// Tokens that the model was trained to see at once.
    pub context_length: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// How all norms are computed.
    pub norm: Norm,
    /// What enters the first layer.
    pub embedding: Embedding,
    /// The rotary embeddings that layers use.
    pub ropes: Vec<Rope>,
    /// First to last.
    pub layers: Vec<Layer>,
    /// Factor on what blocks add to the residual stream.
    pub residual_scale: f32,
    /// Factor on logits.
    pub logit_scale: f32,
    /// Bends logits so that they stay within it: `cap * tanh(logit / cap)`.
    pub logit_cap: Option<f32>,
}

/// What enters the first layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Embedding {
    /// Factor on the tokens' embeddings.
    pub scale: f32,
    /// With learned positions, which row of their table belongs to position 0.
    pub first_position: Option<usize>,
    /// Whether the sum is normalised.
    pub norm: bool,
}

/// How norms are computed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Norm {
    /// What is divided by.
    pub kind: NormKind,
    /// Added to mean squares before the root.
    pub epsilon: f32,
}

/// What a norm divides by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormKind {
    /// The root of the mean square.
    Rms,
    /// The standard deviation, after the mean is taken off.
    Layer,
}

/// A transformer layer: attention and a feed-forward network, each added to the residual stream.
#[derive(Clone, Debug, PartialEq)]
pub struct Layer {
    /// The attention block.
    pub attention: Attention,
    /// The feed-forward block.
    pub feed_forward: FeedForward,
    /// Where the norms are.
    pub wiring: Wiring,
}

/// How a layer's blocks and norms hang together. `A` is attention, `F` the feed-forward network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wiring {
    /// `x += A(norm(x)); x += F(norm(x))`
    PreNorm,
    /// `x += norm(A(norm(x))); x += norm(F(norm(x)))`
    Sandwich,
    /// `x += norm(A(x)); x += norm(F(x))`
    PostNorm,
    /// `x += A(n) + F(n)` with one `n = norm(x)`
    Parallel,
    /// `x += A(norm(x)) + F(norm(x))`, each with its norm
    ParallelNorms,
}

impl Wiring {
    /// Whether both blocks see the same residual stream.
    pub(crate) fn is_parallel(self) -> bool {
        matches!(self, Self::Parallel | Self::ParallelNorms)
    }

    /// Whether the blocks' results are normalised before they are added.
    pub(crate) fn has_post_norms(self) -> bool {
        matches!(self, Self::Sandwich | Self::PostNorm)
    }
}

/// Grouped-query attention.
#[derive(Clone, Debug, PartialEq)]
pub struct Attention {
    /// Query heads.
    pub heads: usize,
    /// Heads of keys and values.
    pub kv_heads: usize,
    /// Dimensions of a head.
    pub head_dim: usize,
    /// Factor on the dot products of queries and keys.
    pub scale: f32,
    /// Which of [`Architecture::ropes`] queries and keys are turned by.
    pub rope: Option<usize>,
    /// Whether scores fall with the distance (ALiBi).
    pub alibi: bool,
    /// Tokens that a token sees, itself included; all if `None`.
    pub window: Option<usize>,
    /// Bends scores so that they stay within it.
    pub soft_cap: Option<f32>,
    /// How queries and keys are normalised before they are turned.
    pub qk_norm: Option<QkNorm>,
}

/// How queries and keys are normalised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QkNorm {
    /// Each head, with the same weights.
    Heads,
    /// Each head, with weights of its own.
    EachHead,
    /// All heads together.
    Whole,
}

/// A feed-forward block.
#[derive(Clone, Debug, PartialEq)]
pub enum FeedForward {
    /// One network.
    Dense(Mlp),
    /// A mixture of experts.
    Experts(Experts),
}

/// A network of one hidden layer: `down(activation(gate(x)) * up(x))`, or without a gate `down(activation(up(x)))`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mlp {
    /// Width of its hidden layer.
    pub size: usize,
    /// The activation.
    pub activation: Activation,
    /// Whether there is a gate.
    pub gated: bool,
}

/// A mixture of experts: of `count` networks a router chooses `active` for each token, those of the greatest softmax
/// probabilities, which weigh their results.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Experts {
    /// How many there are.
    pub count: usize,
    /// How many a token takes.
    pub active: usize,
    /// Each of them.
    pub expert: Mlp,
    /// Whether the weights of those that are taken are made to sum to 1.
    pub normalised: bool,
    /// A network that every token takes, times the sigmoid of a gate.
    pub shared: Option<Mlp>,
}

impl Architecture {
    /// Describes the model in `files`, a GGUF file or a checkpoint.
    ///
    /// # Errors
    /// If the architecture is unknown, or hyperparameters are missing or contradict each other.
    pub fn of<'a>(files: impl Into<ModelFiles<'a>>) -> Result<Self, LoadError> {
        Self::describe(files.into()).map(|(architecture, _)| architecture)
    }

    /// The same, and how tensors are stored.
    pub(crate) fn describe(files: ModelFiles<'_>) -> Result<(Self, Layout), LoadError> {
        let name = files.architecture_name()?;
        let is_gguf = matches!(files, ModelFiles::Gguf(_));
        let names = |family: &Family| if is_gguf { family.gguf } else { family.model_types };
        let Some(family) = families::ALL.iter().find(|family| names(family).contains(&name)) else {
            let mut supported: Vec<_> = families::ALL.iter().flat_map(names).copied().collect();
            supported.sort_unstable();
            return Err(LoadError::UnknownArchitecture {
                file: files.name(),
                found: name.to_owned(),
                supported: supported.join(", "),
            });
        };
        let name = names(family).iter().copied().find(|known| *known == name).unwrap_or_default();
        let architecture = (family.describe)(&Hyperparameters::new(files, name, &family.layout))?;
        Ok((architecture, family.layout))
    }

    /// Bytes of keys and values of one token, over all layers: what the KV cache grows by.
    pub fn kv_bytes_per_token(&self, kv_type: KvType) -> usize {
        let attention = self.layers.iter().map(|layer| &layer.attention);
        attention.map(|a| 2 * a.kv_heads * kv_type.row_bytes(a.head_dim)).sum()
    }
}
