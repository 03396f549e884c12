//! Layers as lists of blocks, each of which makes something of the residual stream that is added to it.

use lookahead_kernels::{Activation, KvShape, RecurrenceShape, StateRule, Window};

/// A layer.
#[derive(Clone, Debug, PartialEq)]
pub struct Layer {
    /// First to last.
    pub blocks: Vec<Block>,
}

/// A part of a layer: `x += mixer(input)`, the result perhaps normalised.
#[derive(Clone, Debug, PartialEq)]
pub struct Block {
    /// What is computed.
    pub mixer: Mixer,
    /// What it is computed of.
    pub input: Input,
    /// Whether the result is normalised before it is added.
    pub post_norm: bool,
    /// Whether the results of the two blocks that stand side by side are added up and their sum is normalised before it is added. Both
    /// say so.
    pub joint_norm: bool,
    /// What the residual stream is multiplied with behind it.
    pub stream_scale: StreamScale,
}

/// A factor on the residual stream.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum StreamScale {
    /// The same in all models.
    Fixed(f32),
    /// Of the model's weights.
    Learned,
}

impl Block {
    /// A block behind which the residual stream stays as it is.
    pub fn new(mixer: impl Into<Mixer>, input: Input, post_norm: bool) -> Self {
        Self {
            mixer: mixer.into(),
            input,
            post_norm,
            joint_norm: false,
            stream_scale: StreamScale::Fixed(1.0),
        }
    }
}

/// What a block is given of the residual stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// All that the blocks before have added up to, normalised.
    Normalised,
    /// The same as it is.
    Plain,
    /// What the block before saw, by a norm of its own: the two stand side by side.
    Beside,
    /// The very input of the block before.
    Shared,
    /// Of several residual streams the active one as the layer predicts it, normalised: [`AltUp`](super::AltUp).
    Predicted,
    /// The active one as the layer has corrected it. The result is added to all streams but the first.
    Corrected,
}

impl Input {
    /// Whether the block sees the residual stream that the block before saw. A block has one beside it at most.
    pub fn is_beside(self) -> bool {
        matches!(self, Self::Beside | Self::Shared)
    }

    /// Whether the block has a norm of its own in front of it.
    pub fn has_norm(self) -> bool {
        matches!(self, Self::Normalised | Self::Beside | Self::Predicted)
    }
}

/// How the blocks of a layer usually hang together. `A` is the first, `F` the second.
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

impl Layer {
    /// A layer of these mixers.
    pub fn new(mixers: impl IntoIterator<Item = Mixer>, wiring: Wiring) -> Self {
        let block = |mixer| Block::new(mixer, Input::Normalised, false);
        let mut layer = Self { blocks: mixers.into_iter().map(block).collect() };
        layer.wire(wiring);
        layer
    }

    /// Puts the blocks together in this way.
    pub fn wire(&mut self, wiring: Wiring) {
        for (index, block) in self.blocks.iter_mut().enumerate() {
            (block.input, block.post_norm) = match (wiring, index) {
                (Wiring::PreNorm, _) | (Wiring::Parallel | Wiring::ParallelNorms, 0) => {
                    (Input::Normalised, false)
                }
                (Wiring::Sandwich, _) => (Input::Normalised, true),
                (Wiring::PostNorm, _) => (Input::Plain, true),
                (Wiring::Parallel, _) => (Input::Shared, false),
                (Wiring::ParallelNorms, _) => (Input::Beside, false),
            };
        }
    }
}

/// What a block computes.
#[derive(Clone, Debug, PartialEq)]
pub enum Mixer {
    /// Attention: it mixes tokens.
    Attention(Attention),
    /// Attention over latent rows.
    Latent(LatentAttention),
    /// Linear attention: a state that each token changes.
    Recurrence(Recurrence),
    /// The same channel by channel: Mamba 1.
    Scan(SelectiveScan),
    /// A convolution over the last tokens, between two gates.
    Convolution(GatedConvolution),
    /// A network: it mixes the features of a token.
    Dense(Mlp),
    /// One of several networks, or some of them.
    Experts(Experts),
    /// What the layer is given of the token besides, gated by the residual stream.
    PerLayer(PerLayer),
    /// A narrow map beside attention.
    Laurel(Laurel),
}

/// What a mixer keeps of the tokens of a sequence, for those to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// A token depends on no other one here.
    Nothing,
    /// A row for each token: its key and its value.
    Rows(KvShape),
    /// As much for any number of tokens.
    Recurrent(RecurrentShape),
}

/// Sizes of a state that does not grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecurrentShape {
    /// Values that a token feeds in.
    pub width: usize,
    /// How many of the last tokens these are kept of.
    pub window: usize,
    /// Values of the matrices that all tokens together have come to.
    pub matrices: usize,
}

impl RecurrentShape {
    /// Values of it.
    pub fn values(&self) -> usize {
        self.window * self.width + self.matrices
    }

    /// Bytes of it.
    pub fn bytes(&self) -> usize {
        size_of::<f32>() * self.values()
    }

    /// Bytes of what a token feeds in.
    pub fn fed_bytes(&self) -> usize {
        size_of::<f32>() * self.width
    }
}

impl Mixer {
    /// What it keeps.
    pub fn state(&self) -> State {
        match self {
            Self::Attention(attention) => attention.state(),
            Self::Latent(attention) => State::Rows(attention.kv_shape()),
            Self::Recurrence(recurrence) => State::Recurrent(recurrence.state()),
            Self::Scan(scan) => State::Recurrent(scan.state()),
            Self::Convolution(convolution) => State::Recurrent(convolution.state()),
            Self::Dense(_) | Self::Experts(_) | Self::PerLayer(_) | Self::Laurel(_) => State::Nothing,
        }
    }
}

impl From<Attention> for Mixer {
    fn from(attention: Attention) -> Self {
        Self::Attention(attention)
    }
}

impl From<PerLayer> for Mixer {
    fn from(input: PerLayer) -> Self {
        Self::PerLayer(input)
    }
}

impl From<Laurel> for Mixer {
    fn from(laurel: Laurel) -> Self {
        Self::Laurel(laurel)
    }
}

impl From<Mlp> for Mixer {
    fn from(mlp: Mlp) -> Self {
        Self::Dense(mlp)
    }
}

impl From<Recurrence> for Mixer {
    fn from(recurrence: Recurrence) -> Self {
        Self::Recurrence(recurrence)
    }
}

impl From<GatedConvolution> for Mixer {
    fn from(convolution: GatedConvolution) -> Self {
        Self::Convolution(convolution)
    }
}

impl From<LatentAttention> for Mixer {
    fn from(attention: LatentAttention) -> Self {
        Self::Latent(attention)
    }
}

/// Multi-head latent attention: keys and values of all heads are made from one latent row for each token, which is all that is kept
/// of it, beside a part of the key that is turned by the position and the same for all heads.
///
/// It is computed in the absorbed form, for any number of tokens: what makes keys of latent rows is applied to queries instead,
/// and what makes values to what attention makes of the rows.
///
/// Source: DeepSeek-AI, "DeepSeek-V2: A Strong, Economical, and Efficient Mixture-of-Experts Language Model" (2024), section 2.1.
#[derive(Clone, Debug, PartialEq)]
pub struct LatentAttention {
    /// Query heads.
    pub heads: usize,
    /// Width of what queries are made from, where that is not the residual stream.
    pub query_rank: Option<usize>,
    /// Width of a latent row.
    pub rank: usize,
    /// Dimensions of a head's query that know no position.
    pub plain_dim: usize,
    /// Dimensions of a head's query, behind those, that are turned.
    pub rope_dim: usize,
    /// Dimensions of a head's value.
    pub value_dim: usize,
    /// Factor on the dot products of queries and keys.
    pub scale: f32,
    /// Which of [`Architecture::ropes`](super::Architecture::ropes) they are turned by; they stay as they are if `None`.
    pub rope: Option<usize>,
    /// Whether what each head gives is multiplied with the sigmoid of a linear map of the token.
    pub gated: bool,
}

impl LatentAttention {
    /// What it keeps of a token: the latent row and the turned part as a key, the latent row as a value.
    pub fn kv_shape(&self) -> KvShape {
        KvShape { heads: 1, key_dim: self.rank + self.rope_dim, value_dim: self.rank }
    }

    /// Dimensions of a head's query.
    pub fn query_dim(&self) -> usize {
        self.plain_dim + self.rope_dim
    }
}

/// Linear attention with a state that decays: Gated DeltaNet, Kimi delta attention, Mamba 2.
///
/// Queries, keys and values go through a short causal convolution and a SiLU; then each head takes them through its state
/// (`lookahead_kernels::recur`), and what it reads there is gated and perhaps normalised.
///
/// Sources: Yang et al., "Gated Delta Networks" (2024); Kimi Team, "Kimi Linear" (2025); Dao and Gu, "Transformers are SSMs" (2024).
#[derive(Clone, Debug, PartialEq)]
pub struct Recurrence {
    /// Heads, each with a state.
    pub heads: usize,
    /// Heads of keys and queries, a divisor of the heads.
    pub key_heads: usize,
    /// Whether a head of keys serves every `key_heads`-th head; else heads that follow one another.
    pub interleaved: bool,
    /// Dimensions of a key and a query.
    pub key_dim: usize,
    /// Dimensions of a value.
    pub value_dim: usize,
    /// Tokens that the convolution sees, the last one included: at most [`MOST_TAPS`].
    pub taps: usize,
    /// How a token changes the state.
    pub rule: UpdateRule,
    /// How the state decays.
    pub decay: Decay,
    /// What becomes of what is read.
    pub gate: RecurrenceGate,
}

/// The most tokens that a convolution sees.
pub const MOST_TAPS: usize = 8;

/// How a token changes a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpdateRule {
    /// Queries and keys have unit length, and values are corrected by what the state gives for the key already, at a rate of the
    /// token's own. The order of the convolution's channels is queries, keys, values.
    Delta,
    /// Values are added times the step that the state decays by, and what is read has a share of the value itself. The order is
    /// values, keys, queries.
    Step,
}

/// How a state decays: by `e^-(rate softplus(x + bias))`, `x` a linear map of the token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Decay {
    /// By a factor for each head.
    OfHeads,
    /// By a factor for each dimension of a head's keys.
    OfKeys,
    /// The same, but by `e^(bound sigmoid(rate (x + bias)))`: `bound` is negative.
    OfKeysWithin(f32),
}

/// What becomes of what a recurrence reads: it is multiplied with the activation of a linear map of the token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RecurrenceGate {
    /// The activation.
    pub activation: Activation,
    /// Parts of it that are normalised, each by itself; none if `None`.
    pub norm_groups: Option<usize>,
    /// Whether it is normalised after it is gated, not before.
    pub norm_is_behind: bool,
}

impl Recurrence {
    /// Channels of the convolution.
    pub fn channels(&self) -> usize {
        2 * self.key_heads * self.key_dim + self.heads * self.value_dim
    }

    /// Numbers that decays are made of.
    pub fn decay_inputs(&self) -> usize {
        self.heads * self.decays()
    }

    /// Numbers that rates are made of.
    pub fn rate_inputs(&self) -> usize {
        match self.rule {
            UpdateRule::Delta => self.heads,
            UpdateRule::Step => 0,
        }
    }

    /// Decays of a head.
    pub fn decays(&self) -> usize {
        match self.decay {
            Decay::OfHeads => 1,
            Decay::OfKeys | Decay::OfKeysWithin(_) => self.key_dim,
        }
    }

    /// What the kernel is given; `skips` are the shares of values in what is read.
    pub fn shape<'a>(&self, skips: &'a [f32]) -> RecurrenceShape<'a> {
        let &Self { heads, key_heads, interleaved, key_dim, value_dim, rule, .. } = self;
        let (keys, values) = (key_heads * key_dim, heads * value_dim);
        let [queries_at, keys_at, values_at] = match rule {
            UpdateRule::Delta => [0, keys, 2 * keys],
            UpdateRule::Step => [values + keys, values, 0],
        };
        let decay = self.channels();
        let rates = decay + self.decay_inputs();
        RecurrenceShape {
            heads,
            key_heads,
            interleaved,
            key_dim,
            value_dim,
            rule: match rule {
                UpdateRule::Delta => StateRule::Delta,
                UpdateRule::Step => StateRule::Step { skips },
            },
            decays: self.decays(),
            queries: queries_at,
            keys: keys_at,
            values: values_at,
            decay,
            rates,
            width: rates + heads,
        }
    }

    /// What it keeps.
    pub fn state(&self) -> RecurrentShape {
        RecurrentShape {
            width: self.channels() + self.decay_inputs() + self.rate_inputs(),
            window: self.taps - 1,
            matrices: self.shape(&[]).state_len(),
        }
    }
}

/// A selective scan: each channel has a few states, which decay by a step of the channel's own; what is added and what is read is chosen by
/// all channels together, after a short causal convolution and a SiLU. What is read is gated by a SiLU.
///
/// Source: Gu and Dao, "Mamba: Linear-Time Sequence Modeling with Selective State Spaces" (2023).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SelectiveScan {
    /// Channels.
    pub width: usize,
    /// States of a channel.
    pub states: usize,
    /// Width of what steps are made of.
    pub rank: usize,
    /// Tokens that the convolution sees, the last one included: at most [`MOST_TAPS`].
    pub taps: usize,
}

impl SelectiveScan {
    /// What the kernel is given: how fast states fade, in its order, and the shares of channels in what is read.
    pub fn shape<'a>(&self, fades: &'a [f32], skips: &'a [f32]) -> RecurrenceShape<'a> {
        let &Self { width, states, .. } = self;
        RecurrenceShape {
            heads: 1,
            key_heads: 1,
            interleaved: false,
            key_dim: states,
            value_dim: width,
            rule: StateRule::Scan { fades, skips },
            decays: 0,
            values: 0,
            keys: width,
            queries: width + states,
            decay: width + 2 * states,
            rates: width + 2 * states,
            width: 2 * width + 2 * states,
        }
    }

    /// What it keeps.
    pub fn state(&self) -> RecurrentShape {
        RecurrentShape {
            width: 2 * (self.width + self.states),
            window: self.taps - 1,
            matrices: self.shape(&[], &[]).state_len(),
        }
    }
}

impl From<SelectiveScan> for Mixer {
    fn from(scan: SelectiveScan) -> Self {
        Self::Scan(scan)
    }
}

/// `output(c * convolution(b * x))`, where `b`, `c` and `x` are linear maps of the token.
///
/// Source: Liquid AI, "LFM2 Technical Report" (2025).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GatedConvolution {
    /// Channels.
    pub width: usize,
    /// Tokens that it sees, the last one included: at most [`MOST_TAPS`].
    pub taps: usize,
}

impl GatedConvolution {
    /// What it keeps.
    pub fn state(&self) -> RecurrentShape {
        RecurrentShape { width: self.width, window: self.taps - 1, matrices: 0 }
    }
}

/// Grouped-query attention.
#[derive(Clone, Debug, PartialEq)]
pub struct Attention {
    /// Query heads.
    pub heads: usize,
    /// Heads of keys and values.
    pub kv_heads: usize,
    /// Dimensions of a query or a key of a head.
    pub key_dim: usize,
    /// Dimensions of a value of a head.
    pub value_dim: usize,
    /// Factor on the dot products of queries and keys.
    pub scale: f32,
    /// Which of [`Architecture::ropes`](super::Architecture::ropes) queries and keys are turned by.
    pub rope: Option<usize>,
    /// Whether scores fall with the distance (ALiBi).
    pub alibi: bool,
    /// Which tokens up to itself a token sees; all if `None`.
    pub window: Option<Window>,
    /// Bends scores so that they stay within it.
    pub soft_cap: Option<f32>,
    /// Whether each head has a sink, which takes attention and gives nothing.
    pub sinks: bool,
    /// Where keys and values come from.
    pub keys_and_values: KeysAndValues,
    /// How queries and keys are normalised.
    pub qk_norm: Option<QkNorm>,
    /// How values are normalised.
    pub value_norm: Option<QkNorm>,
    /// Whether they are normalised after they are turned, not before.
    pub norm_is_behind_rope: bool,
    /// A factor on queries that grows with the position.
    pub query_scale: Option<QueryScale>,
    /// Whether what attention gives is multiplied with the sigmoid of a linear map of the token.
    pub gate: Option<AttentionGate>,
}

/// What a gate behind attention has a factor for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttentionGate {
    /// Each head.
    OfHeads,
    /// Each value of each head. The maps are in one tensor with those of the queries, head by head.
    OfValues,
}

impl AttentionGate {
    /// How many factors there are.
    pub fn factors(self, attention: &Attention) -> usize {
        match self {
            Self::OfHeads => attention.heads,
            Self::OfValues => attention.heads * attention.value_dim,
        }
    }
}

impl Attention {
    /// What it keeps of a token: nothing, if it sees the keys and values of another block.
    fn state(&self) -> State {
        match self.keys_and_values {
            KeysAndValues::Of(_) => State::Nothing,
            KeysAndValues::TwoMatrices | KeysAndValues::OneMatrix => State::Rows(self.kv_shape()),
        }
    }

    /// The keys and values that it sees of a token.
    pub(crate) fn kv_shape(&self) -> KvShape {
        KvShape { heads: self.kv_heads, key_dim: self.key_dim, value_dim: self.value_dim }
    }
}

/// Where the keys and values of attention come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeysAndValues {
    /// From a matrix each.
    TwoMatrices,
    /// From one: values are the keys before those are normalised and turned.
    OneMatrix,
    /// They are those of an earlier block: of which one, counted from 0, of the blocks that keep rows.
    Of(usize),
}

/// A factor on queries that keeps attention sharp in long contexts: `1 + weight * ln(1 + floor((position + offset) / period))`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct QueryScale {
    /// How fast it grows.
    pub weight: f32,
    /// Positions in which it stays the same.
    pub period: usize,
    /// Added to positions.
    pub offset: usize,
}

impl QueryScale {
    /// The factor at a position.
    pub fn at(&self, position: usize) -> f32 {
        let periods = (position + self.offset) / self.period;
        if periods == 0 { 1.0 } else { 1.0 + self.weight * libm::logf(1.0 + periods as f32) }
    }
}

/// How queries, keys or values are normalised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QkNorm {
    /// Each head, with the same weights.
    Heads,
    /// Each head, with weights of its own.
    EachHead,
    /// Each head, without weights.
    Unweighted,
    /// All heads together.
    Whole,
}

/// A network of one hidden layer: `down(activation(gate(x)) * up(x))`, or without a gate `down(activation(up(x)))`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mlp {
    /// Width of its hidden layer.
    pub size: usize,
    /// The activation.
    pub activation: Activation,
    /// Whether there is a gate.
    pub gated: bool,
    /// Of the values in front of the activation, those count that lie so many standard deviations above their mean, by what they lie
    /// above it; all if `None`.
    pub sparsity: Option<f32>,
}

impl Mlp {
    /// A network with a gate, in which all values count.
    pub fn gated(size: usize, activation: Activation) -> Self {
        Self { size, activation, gated: true, sparsity: None }
    }
}

/// `x + norm(right(left(x)))`: a learned augmented residual layer of low rank.
///
/// Source: Menghani et al., "LAuReL: Learned Augmented Residual Layer" (2024).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Laurel {
    /// Width of what is between the two maps.
    pub rank: usize,
}

/// What a layer is given of the token besides the residual stream: `projection(activation(gate(x)) * input)`.
///
/// Source: Gemma Team, "Gemma 3n" (2025), the models' published description.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PerLayer {
    /// Which layer it is.
    pub layer: usize,
    /// Width of what it is given.
    pub size: usize,
    /// The activation of the gate.
    pub activation: Activation,
}

/// A mixture of experts: of `count` networks a router chooses `active` for each token, which weigh their results.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Experts {
    /// How many there are.
    pub count: usize,
    /// How many a token takes.
    pub active: usize,
    /// Each of them.
    pub expert: Mlp,
    /// How they are chosen and weighed.
    pub routing: Routing,
    /// Whether there are learned factors: on each feature that the router sees, on each feature that experts see, and on what each expert
    /// makes of it. The block's norm has no weights then.
    pub learned_scales: bool,
    /// A network that every token takes.
    pub shared: Option<SharedExpert>,
}

/// How a router chooses experts, and what their results are multiplied with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Routing {
    /// What the router's outputs are made into: the greatest are chosen.
    pub scores: RouterScores,
    /// Whether each expert has a bias that is added to its score where experts are chosen, not where they are weighed.
    pub bias: bool,
    /// Groups of experts, of which a token may take from some only.
    pub groups: Option<ExpertGroups>,
    /// Whether the weights of those that are taken are made to sum to 1.
    pub normalised: bool,
    /// Factor on the weights.
    pub scale: f32,
    /// Whether the weights are factors on what experts are given instead of on what they make of it.
    pub weighs_inputs: bool,
}

/// Groups of experts, side by side and of one size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExpertGroups {
    /// How many there are.
    pub count: usize,
    /// How many of them, the best, a token's experts may come from.
    pub active: usize,
    /// By how many of its greatest scores, added up, a group is as good as it is.
    pub judged_by: usize,
}

/// What a router's outputs are made into.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RouterScores {
    /// Experts are chosen one after the other: each by its probability among those that are left and whose outputs are, in proportion,
    /// not further below the greatest than `tolerance`.
    ///
    /// Source: Liu et al., "Bridging Discrete and Backpropagation: Straight-Through and Beyond" and "GRIN: GRadient-INformed MoE"
    /// (2024), section 2.2.
    OneByOne {
        /// How far below.
        tolerance: f32,
    },
    /// Probabilities of all experts together.
    Softmax,
    /// The sigmoid of each.
    Sigmoid,
}

/// A network beside a mixture of experts, which every token takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SharedExpert {
    /// The network.
    pub mlp: Mlp,
    /// Whether its result is multiplied with the sigmoid of a gate.
    pub gated: bool,
}
