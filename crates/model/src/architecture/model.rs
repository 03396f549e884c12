//! What a decoder-only model consists of: embedding, layers, norm, output head.

use std::ops::Range;

use lookahead_kernels::{KvShape, KvType, Window};

use super::layer::{
    Attention, Experts, KeysAndValues, LatentAttention, Layer, Mixer, RecurrentShape, State, Wiring,
};
use super::rope::Rope;

/// A decoder-only model: embedding, layers, norm, output head.
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
    /// Factors on what matrices of layers make, where files do not have them in the weights.
    pub output_factors: Vec<OutputFactor>,
    /// How several residual streams are one in layers; there is one if `None`.
    pub altup: Option<AltUp>,
    /// Factor on what blocks add to the residual stream.
    pub residual_scale: f32,
    /// Factor on logits.
    pub logit_scale: f32,
    /// Bends logits so that they stay within it: `cap * tanh(logit / cap)`.
    pub logit_cap: Option<f32>,
}

/// A factor on what some rows of a matrix make, the same in each layer.
#[derive(Clone, Debug, PartialEq)]
pub struct OutputFactor {
    /// The matrix, by the name that GGUF files have for it in a layer.
    pub part: &'static str,
    /// Its rows.
    pub rows: Range<usize>,
    /// The factor.
    pub factor: f32,
}

/// Alternating updates: several residual streams, of which layers compute one. What becomes of the others is predicted from all of
/// them, and corrected by what the layer has made of the one.
///
/// Source: Baykal et al., "Alternating Updates for Efficient Transformers" (2023).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AltUp {
    /// How many there are: at most [`MOST_STREAMS`].
    pub streams: usize,
    /// Which of them layers compute, counted from 0.
    pub active: usize,
    /// Whether the corrected stream is scaled, value by value, where a block is given it.
    pub scaled: bool,
}

/// The most residual streams that a model has.
pub const MOST_STREAMS: usize = 16;

/// What enters the first layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Embedding {
    /// Factor on the tokens' embeddings.
    pub scale: f32,
    /// With learned positions, which row of their table belongs to position 0.
    pub first_position: Option<usize>,
    /// Whether the sum is normalised.
    pub norm: bool,
    /// Width of what each layer is given of the token besides, if it is given something.
    pub per_layer: Option<usize>,
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

impl Architecture {
    /// What the blocks keep of the tokens of a sequence, first to last.
    pub fn states(&self) -> impl Iterator<Item = State> {
        self.layers.iter().flat_map(|layer| &layer.blocks).map(|block| block.mixer.state())
    }

    /// The rows of a token in the KV cache, first to last.
    pub(crate) fn kv_shapes(&self) -> impl Iterator<Item = KvShape> {
        self.states().filter_map(|state| match state {
            State::Rows(shape) => Some(shape),
            State::Nothing | State::Recurrent(_) => None,
        })
    }

    /// Bytes of keys and values of one token, over all layers: what the KV cache grows by.
    pub fn kv_bytes_per_token(&self, kv_type: KvType) -> usize {
        self.kv_shapes().map(|shape| shape.row_bytes(kv_type)).sum()
    }

    /// Bytes of the states of recurrent layers of one sequence, whatever its length.
    pub fn state_bytes(&self) -> usize {
        self.recurrent_states().map(|state| state.bytes()).sum()
    }

    /// Bytes of what a node of a draft feeds into recurrent layers, which is kept until its path is known.
    pub fn fed_bytes_per_node(&self) -> usize {
        self.recurrent_states().map(|state| state.fed_bytes()).sum()
    }

    /// The states that do not grow, first to last.
    pub(crate) fn recurrent_states(&self) -> impl Iterator<Item = RecurrentShape> {
        self.states().filter_map(|state| match state {
            State::Recurrent(shape) => Some(shape),
            State::Nothing | State::Rows(_) => None,
        })
    }

    /// Puts the blocks of all layers together in this way.
    pub(super) fn wire(&mut self, wiring: Wiring) {
        self.layers.iter_mut().for_each(|layer| layer.wire(wiring));
    }

    /// Gives `experts` to the layers that `is_sparse` says, counted from 0, in place of their networks.
    pub(super) fn sparse(&mut self, experts: &Experts, is_sparse: impl Fn(usize) -> bool) {
        for (_, layer) in self.layers.iter_mut().enumerate().filter(|(index, _)| is_sparse(*index)) {
            for block in &mut layer.blocks {
                if let Mixer::Dense(_) = block.mixer {
                    block.mixer = Mixer::Experts(*experts);
                }
            }
        }
    }

    /// Gives `mixer` to the layers without attention, in its place.
    pub(super) fn replace_attention(&mut self, has_attention: &[bool], mixer: &Mixer) {
        for (layer, _) in self.layers.iter_mut().zip(has_attention).filter(|(_, has)| !**has) {
            for block in &mut layer.blocks {
                if let Mixer::Attention(_) | Mixer::Latent(_) = block.mixer {
                    block.mixer = mixer.clone();
                }
            }
        }
    }

    /// Lets the attention blocks behind the first `own` see the keys and values of the last of those that sees as much, a window or
    /// everything; `None` if there is no such one.
    pub(super) fn share_keys(&mut self, slides: &[bool], own: usize) -> Option<()> {
        for (attention, &sees_window) in self.attention_mut().zip(slides).skip(own) {
            let earlier = slides[..own].iter().rposition(|&slides| slides == sees_window)?;
            attention.keys_and_values = KeysAndValues::Of(earlier);
        }
        Some(())
    }

    /// Lets the attention blocks that `slides` says see a window; `ropes` are that of those and that of the others.
    pub(super) fn slide(&mut self, slides: &[bool], window: usize, ropes: [Option<usize>; 2]) {
        for (attention, &slides) in self.attention_mut().zip(slides) {
            attention.window = slides.then_some(Window::Sliding(window));
            attention.rope = if slides { ropes[0] } else { ropes[1] };
        }
    }

    /// The mixtures of experts, first to last.
    pub(super) fn experts_mut(&mut self) -> impl Iterator<Item = &mut Experts> {
        let blocks = self.layers.iter_mut().flat_map(|layer| &mut layer.blocks);
        blocks.filter_map(|block| match &mut block.mixer {
            Mixer::Experts(experts) => Some(experts),
            _ => None,
        })
    }

    /// The latent attention blocks, first to last.
    pub(super) fn latent_mut(&mut self) -> impl Iterator<Item = &mut LatentAttention> {
        let blocks = self.layers.iter_mut().flat_map(|layer| &mut layer.blocks);
        blocks.filter_map(|block| match &mut block.mixer {
            Mixer::Latent(attention) => Some(attention),
            _ => None,
        })
    }

    /// The attention blocks, first to last.
    pub(super) fn attention_mut(&mut self) -> impl Iterator<Item = &mut Attention> {
        let blocks = self.layers.iter_mut().flat_map(|layer| &mut layer.blocks);
        blocks.filter_map(|block| match &mut block.mixer {
            Mixer::Attention(attention) => Some(attention),
            _ => None,
        })
    }
}
