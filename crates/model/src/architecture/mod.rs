//! Architectures as data: what a decoder-only transformer consists of, layer by layer.
//!
//! A family is one short file that reads a model's hyperparameters and returns an [`Architecture`]; the forward pass
//! knows no families, only what is described here. To add one, write its file and list it in `FAMILIES`.

mod gemma3;
mod hyperparameters;
mod llama;
mod qwen2;

use lookahead_kernels::{Activation, KvType, RopePairs};

use crate::LoadError;
use crate::gguf::GgufFile;
use hyperparameters::Hyperparameters;

/// What a family's file provides: its name in `general.architecture`, and how to describe a model of it.
type Family = (&'static str, fn(&Hyperparameters<'_>) -> Result<Architecture, LoadError>);

const FAMILIES: &[Family] =
    &[("gemma3", gemma3::describe), ("llama", llama::describe), ("qwen2", qwen2::describe)];

/// A decoder-only transformer: embedding, layers, norm, output head.
#[derive(Clone, Debug, PartialEq)]
pub struct Architecture {
    /// The family, as files name it.
    pub family: &'static str,
    /// Tokens that the model was trained to see at once.
    pub context_length: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Added to mean squares before the root.
    pub norm_epsilon: f32,
    /// Factor on embeddings.
    pub embedding_scale: f32,
    /// The rotary embeddings that layers use.
    pub ropes: Vec<Rope>,
    /// First to last.
    pub layers: Vec<Layer>,
}

/// A rotary position embedding.
#[derive(Clone, Debug, PartialEq)]
pub struct Rope {
    /// Which dimensions form pairs.
    pub pairs: RopePairs,
    /// Rotated dimensions of a head.
    pub dimensions: usize,
    /// Base of the frequencies.
    pub base: f64,
    /// Factor on positions: below 1 for linear scaling to longer contexts.
    pub position_scale: f64,
    /// The tensor of divisors of the frequencies, one a pair, used if the file has it (Llama 3).
    pub factors_tensor: Option<&'static str>,
}

/// A transformer layer: attention, then a feed-forward network, each added to the residual stream.
#[derive(Clone, Debug, PartialEq)]
pub struct Layer {
    /// The attention block.
    pub attention: Attention,
    /// The feed-forward block.
    pub feed_forward: FeedForward,
    /// Whether the blocks' results are normalised too, before they are added.
    pub post_norms: bool,
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
    /// Which of [`Architecture::ropes`].
    pub rope: usize,
    /// Tokens that a token sees, itself included; all if `None`.
    pub window: Option<usize>,
    /// Whether each head of queries and keys is normalised before it is rotated.
    pub qk_norm: bool,
}

/// A gated feed-forward network: `down(activation(gate(x)) * up(x))`.
#[derive(Clone, Debug, PartialEq)]
pub struct FeedForward {
    /// Width of gate and up.
    pub size: usize,
    /// The activation of the gate.
    pub activation: Activation,
}

impl Architecture {
    /// Describes the model in `file`.
    ///
    /// # Errors
    /// If the architecture is unknown, or hyperparameters are missing or contradict each other.
    pub fn describe(file: &GgufFile) -> Result<Self, LoadError> {
        let name = file.metadata().require_str("general.architecture")?;
        let Some((family, describe)) = FAMILIES.iter().find(|(family, _)| *family == name) else {
            let supported = FAMILIES.iter().map(|(family, _)| *family).collect::<Vec<_>>().join(", ");
            return Err(LoadError::UnknownArchitecture {
                file: file.name().to_owned(),
                found: name.to_owned(),
                supported,
            });
        };
        describe(&Hyperparameters::new(file, family))
    }

    /// Bytes of keys and values of one token, over all layers: what the KV cache grows by.
    pub fn kv_bytes_per_token(&self, kv_type: KvType) -> usize {
        let attention = self.layers.iter().map(|layer| &layer.attention);
        attention.map(|a| 2 * a.kv_heads * kv_type.row_bytes(a.head_dim)).sum()
    }
}
