//! Takes the weights of each block from the source to the packer, cutting and joining what files store otherwise.

use std::ops::Range;

use lookahead_kernels::{Kernels, Matrix, WeightType};

use super::packer::Packer;
use super::parts::{
    AltUpLayerWeights, AltUpWeights, AttentionWeights, BlockWeights, ConvolutionWeights, ExpertsWeights,
    LatentWeights, LaurelWeights, Linear, MixerWeights, MlpWeights, NormWeights, PerLayerInputsWeights,
    PerLayerWeights, RecurrenceWeights, ScanWeights, Series, SharedExpertWeights, Weights,
};
use super::rows::Rows;
use super::source::{Part, Source};
use crate::architecture::tensor_names::{FusedQkv, Layout, Stacking};
use crate::architecture::{
    AltUp, Architecture, Attention, AttentionGate, Block, Experts, GatedConvolution, KeysAndValues,
    LatentAttention, Layer, Mixer, Mlp, OutputFactor, QkNorm, Recurrence, RopeFactors, SelectiveScan,
    StreamScale, UpdateRule,
};
use crate::load_error::LoadError;
use crate::model_files::ModelFiles;

/// Loads and repacks every tensor, releasing the files' pages as it goes. Dense matrices are made into `quantize`.
pub(crate) fn load(
    files: ModelFiles<'_>,
    layout: &Layout,
    architecture: &Architecture,
    kernels: &Kernels,
    quantize: Option<WeightType>,
) -> Result<Weights, LoadError> {
    if let ModelFiles::Checkpoint(checkpoint) = files {
        checkpoint.check_quantization()?;
    }
    let (source, packer) = (Source::new(files, layout), Packer::new(kernels, quantize));
    let factors = &architecture.output_factors;
    Loader { source, packer, hidden: architecture.hidden_size, factors }.weights(architecture)
}

struct Loader<'a> {
    source: Source<'a>,
    packer: Packer<'a>,
    /// Width of the residual stream.
    hidden: usize,
    /// What matrices of layers make is multiplied with these.
    factors: &'a [OutputFactor],
}

impl Loader<'_> {
    fn weights(mut self, architecture: &Architecture) -> Result<Weights, LoadError> {
        let hidden = self.hidden;
        let embedding = self.matrix(Part::outer("token_embd"), None, hidden)?;
        let positions = match architecture.embedding.first_position {
            Some(_) => Some(self.matrix(Part::outer("position_embd"), None, hidden)?),
            None => None,
        };
        let embedding_norm =
            architecture.embedding.norm.then(|| self.norm(Part::outer("token_embd_norm"), hidden));
        let embedding_norm = embedding_norm.transpose()?;
        let per_layer = match architecture.embedding.per_layer {
            Some(size) => Some(self.per_layer_inputs(architecture.layers.len(), size)?),
            None => None,
        };
        let altup = match &architecture.altup {
            Some(altup) => Some(self.altup(architecture.layers.len(), altup)?),
            None => None,
        };
        let layer = |(index, layer): (usize, &Layer)| {
            layer.blocks.iter().map(|block| self.block(index, block)).collect::<Result<Vec<_>, _>>()
        };
        let layers = architecture.layers.iter().enumerate().map(layer).collect::<Result<_, _>>()?;
        let output_norm = self.norm(Part::outer("output_norm"), hidden)?;
        let output = Part::outer("output");
        let output = if self.source.has(output)? { Some(self.head(output, embedding.rows())?) } else { None };
        let rope_factors = architecture
            .ropes
            .iter()
            .map(|rope| match rope.factors {
                RopeFactors::Tensor(name) if self.source.has(Part::outer(name))? => {
                    self.source.vector(Part::outer(name), rope.dimensions / 2).map(Some)
                }
                _ => Ok(None),
            })
            .collect::<Result<_, LoadError>>()?;
        self.source.warn_of_unused_tensors();
        Ok(Weights {
            embedding,
            positions,
            embedding_norm,
            per_layer,
            altup,
            layers,
            output_norm,
            output,
            rope_factors,
        })
    }

    fn block(&mut self, layer: usize, block: &Block) -> Result<BlockWeights, LoadError> {
        let hidden = self.hidden;
        let mixer = match &block.mixer {
            Mixer::Attention(attention) => MixerWeights::Attention(self.attention(layer, attention)?),
            Mixer::Latent(attention) => MixerWeights::Latent(self.latent_attention(layer, attention)?),
            Mixer::Recurrence(recurrence) => MixerWeights::Recurrence(self.recurrence(layer, recurrence)?),
            Mixer::Scan(scan) => MixerWeights::Scan(self.scan(layer, scan)?),
            Mixer::Convolution(convolution) => {
                MixerWeights::Convolution(self.convolution(layer, convolution)?)
            }
            Mixer::Dense(mlp) => MixerWeights::Dense(self.mlp(layer, "", mlp)?),
            Mixer::Experts(experts) => MixerWeights::Experts(self.experts(layer, experts)?),
            Mixer::PerLayer(spec) => {
                let gate = self.linear(Part::of_layer(layer, "inp_gate"), spec.size, hidden)?;
                let projection = self.linear(Part::of_layer(layer, "proj"), hidden, spec.size)?;
                MixerWeights::PerLayer(PerLayerWeights { gate, projection })
            }
            Mixer::Laurel(spec) => {
                let left = self.linear(Part::of_layer(layer, "laurel_l"), spec.rank, hidden)?;
                let right = self.linear(Part::of_layer(layer, "laurel_r"), hidden, spec.rank)?;
                let norm = self.norm(Part::of_layer(layer, "laurel_post_norm"), hidden)?;
                MixerWeights::Laurel(LaurelWeights { left, right, norm })
            }
        };
        let norms = match &block.mixer {
            Mixer::Dense(_) if block.joint_norm => ["ffn_norm", "post_ffw_norm_1"],
            Mixer::Experts(_) if block.joint_norm => ["pre_ffw_norm_2", "post_ffw_norm_2"],
            Mixer::Dense(_) | Mixer::Experts(_) => ["ffn_norm", "post_ffw_norm"],
            Mixer::PerLayer(_) => ["inp_norm", "post_norm"],
            _ => ["attn_norm", "post_attention_norm"],
        };
        let [norm, post_norm] = norms.map(|name| Part::of_layer(layer, name));
        let norm = match &block.mixer {
            Mixer::Experts(experts) if experts.learned_scales => Some(NormWeights::ones(hidden)),
            _ => block.input.has_norm().then(|| self.norm(norm, hidden)).transpose()?,
        };
        let post_norm = block.post_norm.then(|| self.norm(post_norm, hidden)).transpose()?;
        let joint_norm = (block.joint_norm && block.input.is_beside())
            .then(|| self.norm(Part::of_layer(layer, "post_ffw_norm"), hidden))
            .transpose()?;
        let scale = match block.stream_scale {
            StreamScale::Fixed(scale) => scale,
            StreamScale::Learned => self.source.vector(Part::of_layer(layer, "layer_output_scale"), 1)?[0],
        };
        Ok(BlockWeights { norm, mixer, post_norm, joint_norm, scale })
    }

    fn per_layer_inputs(&mut self, layers: usize, size: usize) -> Result<PerLayerInputsWeights, LoadError> {
        let width = layers * size;
        Ok(PerLayerInputsWeights {
            embedding: self.matrix(Part::outer("per_layer_token_embd"), None, width)?,
            projection: self.linear(Part::outer("per_layer_model_proj"), width, self.hidden)?,
            norm: self.norm(Part::outer("per_layer_proj_norm"), size)?,
        })
    }

    fn altup(&mut self, layers: usize, altup: &AltUp) -> Result<AltUpWeights, LoadError> {
        let others = altup.streams - 1;
        let mut all = |name| {
            let shape = [self.hidden, self.hidden];
            let one = |index| self.one_of(Part::outer(name), [index, others], shape);
            (0..others).map(one).collect::<Result<Vec<_>, _>>()
        };
        Ok(AltUpWeights {
            projections: all("altup_proj")?,
            unprojections: all("altup_unembd_proj")?,
            layers: (0..layers).map(|layer| self.altup_layer(layer, altup)).collect::<Result<_, _>>()?,
        })
    }

    fn altup_layer(&mut self, layer: usize, altup: &AltUp) -> Result<AltUpLayerWeights, LoadError> {
        let part = |name| Part::of_layer(layer, name);
        let &AltUp { streams, scaled, .. } = altup;
        let scale = part("altup_correct_scale");
        Ok(AltUpLayerWeights {
            norm: self.norm(part("altup_router_norm"), self.hidden)?,
            router: self.linear(part("altup_router"), streams, self.hidden)?,
            prediction: self.floats(part("altup_predict_coef"), streams * streams, streams)?,
            correction: self.floats(part("altup_correct_coef"), streams, streams)?,
            scale: if scaled { self.source.vector(scale, self.hidden)? } else { Vec::new() },
        })
    }

    fn attention(&mut self, layer: usize, attention: &Attention) -> Result<AttentionWeights, LoadError> {
        let part = |name| Part::of_layer(layer, name);
        let &Attention { heads, kv_heads, key_dim, value_dim, .. } = attention;
        let mut gate = match attention.gate {
            Some(AttentionGate::OfHeads) => Some(self.linear(part("attn_gate"), heads, self.hidden)?),
            Some(AttentionGate::OfValues) | None => None,
        };
        let (query, keys_and_values) = match attention.keys_and_values {
            KeysAndValues::TwoMatrices if attention.gate == Some(AttentionGate::OfValues) => {
                let key = self.linear(part("attn_k"), kv_heads * key_dim, self.hidden)?;
                let value = self.linear(part("attn_v"), kv_heads * value_dim, self.hidden)?;
                let of_head = key_dim + value_dim;
                let ranges = [0..key_dim, key_dim..of_head].map(|rows| of_each(heads, of_head, &rows));
                let [query, gates] = self.cut(part("attn_q"), [heads * of_head, self.hidden], &ranges)?;
                gate = Some(gates);
                (query, vec![key, value])
            }
            KeysAndValues::TwoMatrices => {
                let [query, key, value] = self.attention_inputs(layer, attention)?;
                (query, vec![key, value])
            }
            KeysAndValues::OneMatrix => {
                let query = self.linear(part("attn_q"), heads * key_dim, self.hidden)?;
                (query, vec![self.linear(part("attn_k"), kv_heads * key_dim, self.hidden)?])
            }
            KeysAndValues::Of(_) => (self.linear(part("attn_q"), heads * key_dim, self.hidden)?, Vec::new()),
        };
        let mut qk_norms = Vec::new();
        if let Some(kind) = attention.qk_norm {
            qk_norms.push(self.head_norm(part("attn_q_norm"), kind, heads, key_dim)?);
            if !keys_and_values.is_empty() {
                qk_norms.push(self.head_norm(part("attn_k_norm"), kind, kv_heads, key_dim)?);
            }
        }
        let value_norm = match attention.value_norm {
            Some(kind) => Some(self.head_norm(part("attn_v_norm"), kind, kv_heads, value_dim)?),
            None => None,
        };
        let sinks = if attention.sinks { self.source.vector(part("attn_sinks"), heads)? } else { Vec::new() };
        let output = self.linear(part("attn_output"), self.hidden, heads * value_dim)?;
        Ok(AttentionWeights { query, keys_and_values, qk_norms, value_norm, sinks, gate, output })
    }

    /// Queries, keys and values, cut from one matrix if the file has them so.
    fn attention_inputs(&mut self, layer: usize, attention: &Attention) -> Result<[Linear; 3], LoadError> {
        let &Attention { heads, kv_heads, key_dim, value_dim, .. } = attention;
        let [queries, keys, values] = [heads * key_dim, kv_heads * key_dim, kv_heads * value_dim];
        let parts = ["attn_q", "attn_k", "attn_v"].map(|name| Part::of_layer(layer, name));
        let fused = Part::of_layer(layer, "attn_qkv");
        if self.source.has(parts[0])? || !self.source.has(fused)? {
            let [query, key, value] = parts;
            return Ok([
                self.linear(query, queries, self.hidden)?,
                self.linear(key, keys, self.hidden)?,
                self.linear(value, values, self.hidden)?,
            ]);
        }
        let all = queries + keys + values;
        let ranges: [Vec<Range<usize>>; 3] = match self.source.layout().qkv {
            FusedQkv::Concatenated => {
                [0..queries, queries..queries + keys, queries + keys..all].map(|range| vec![range])
            }
            FusedQkv::ByGroup => {
                let [query, group] = [queries, all].map(|rows| rows / kv_heads);
                [0..query, query..query + key_dim, query + key_dim..group]
                    .map(|rows| of_each(kv_heads, group, &rows))
            }
        };
        self.cut(fused, [all, self.hidden], &ranges)
    }

    fn recurrence(&mut self, layer: usize, recurrence: &Recurrence) -> Result<RecurrenceWeights, LoadError> {
        let part = |name| Part::of_layer(layer, name);
        let &Recurrence { heads, value_dim, .. } = recurrence;
        let (channels, width) = (recurrence.channels(), heads * value_dim);
        let (inputs, gates) = match recurrence.rule {
            UpdateRule::Delta => self.delta_inputs(layer, recurrence)?,
            UpdateRule::Step => {
                let rows = width + channels + heads;
                let ranges = [0..width, width..width + channels, width + channels..rows].map(|rows| [rows]);
                let [gate, channels, steps] = self.cut(part("ssm_in"), [rows, self.hidden], &ranges)?;
                (vec![channels.into(), steps.into()], gate.into())
            }
        };
        let convolution = if self.source.has(part("ssm_conv1d"))? {
            self.taps(part("ssm_conv1d"), channels, recurrence.taps)?
        } else {
            let keys = recurrence.key_heads * recurrence.key_dim;
            self.joined_taps(layer, [keys, keys, width], recurrence.taps)?
        };
        let convolution_bias = self.source.bias(part("ssm_conv1d"), channels)?.unwrap_or_default();
        let decay_bias = self.source.numbers(part("ssm_dt"), "bias", recurrence.decay_inputs())?;
        let decay_rates = self.source.numbers(part("ssm_a"), "", heads)?;
        let decay_rates = decay_rates.into_iter().map(self.source.layout().decay_rate).collect();
        let skips = match recurrence.rule {
            UpdateRule::Delta => Vec::new(),
            UpdateRule::Step => self.source.numbers(part("ssm_d"), "", heads)?,
        };
        let norm = match (recurrence.gate.norm_groups, recurrence.rule) {
            (None, _) => Vec::new(),
            (Some(_), UpdateRule::Delta) => {
                self.source.numbers(part("ssm_norm"), "weight", value_dim)?.repeat(heads)
            }
            (Some(_), UpdateRule::Step) => self.source.numbers(part("ssm_norm"), "weight", width)?,
        };
        let output = self.linear(part("ssm_out"), self.hidden, width)?;
        Ok(RecurrenceWeights {
            inputs,
            gates,
            convolution,
            convolution_bias,
            decay_bias,
            decay_rates,
            skips,
            norm,
            output,
        })
    }

    /// What a recurrence of the delta rule is fed with, and its gates.
    fn delta_inputs(
        &mut self,
        layer: usize,
        recurrence: &Recurrence,
    ) -> Result<(Vec<Series>, Series), LoadError> {
        let part = |name| Part::of_layer(layer, name);
        let &Recurrence { heads, key_heads, key_dim, value_dim, .. } = recurrence;
        let (hidden, keys, width) = (self.hidden, key_heads * key_dim, heads * value_dim);
        if self.source.has(part("attn_q"))? {
            let mut inputs = Vec::with_capacity(5);
            for (name, rows) in [("attn_q", keys), ("attn_k", keys), ("attn_v", width)] {
                inputs.push(self.linear(part(name), rows, hidden)?.into());
            }
            inputs.push(self.series(layer, ["ssm_f_a", "ssm_f_b"], recurrence.decay_inputs())?);
            inputs.push(self.linear(part("ssm_beta"), heads, hidden)?.into());
            return Ok((inputs, self.series(layer, ["ssm_g_a", "ssm_g_b"], width)?));
        }
        let values = heads / key_heads * value_dim;
        let (channels, gates) = if self.source.has(part("attn_qkv"))? {
            let channels = self.linear(part("attn_qkv"), recurrence.channels(), hidden)?;
            (channels, self.linear(part("attn_gate"), width, hidden)?)
        } else {
            // For each head of keys its query, its key, its values, their gates.
            let group = 2 * key_dim + 2 * values;
            let [queries, keys, values, gates] = [
                0..key_dim,
                key_dim..2 * key_dim,
                2 * key_dim..2 * key_dim + values,
                2 * key_dim + values..group,
            ]
            .map(|rows| of_each(key_heads, group, &rows));
            let ranges = [[queries, keys, values].concat(), gates];
            self.cut(part("ssm_in"), [key_heads * group, hidden], &ranges)?.into()
        };
        let (decays, rates) = if self.source.has(part("ssm_ba"))? {
            let share = heads / key_heads;
            let ranges = [share..2 * share, 0..share].map(|rows| of_each(key_heads, 2 * share, &rows));
            self.cut(part("ssm_ba"), [2 * heads, hidden], &ranges)?.into()
        } else {
            (self.linear(part("ssm_alpha"), heads, hidden)?, self.linear(part("ssm_beta"), heads, hidden)?)
        };
        Ok((vec![channels.into(), decays.into(), rates.into()], gates.into()))
    }

    /// Two maps of these names, one after the other, or only the first.
    fn series(&mut self, layer: usize, [first, second]: [&str; 2], rows: usize) -> Result<Series, LoadError> {
        let [first, second] = [first, second].map(|name| Part::of_layer(layer, name));
        if !self.source.has(second)? {
            return Ok(self.linear(first, rows, self.hidden)?.into());
        }
        let between = self.source.row_count(first)?.unwrap_or(0);
        let first = self.linear(first, between, self.hidden)?;
        Ok(Series { first, second: Some(self.linear(second, rows, between)?) })
    }

    fn scan(&mut self, layer: usize, scan: &SelectiveScan) -> Result<ScanWeights, LoadError> {
        let part = |name| Part::of_layer(layer, name);
        let &SelectiveScan { width, states, rank, taps } = scan;
        let halves = [0..width, width..2 * width].map(|rows| [rows]);
        let [channels, gates] = self.cut(part("ssm_in"), [2 * width, self.hidden], &halves)?;
        let norms = if self.source.has(part("ssm_dt_norm"))? {
            let steps = self.source.vector(part("ssm_dt_norm"), rank)?;
            let keys = self.source.vector(part("ssm_b_norm"), states)?;
            Some([steps, keys, self.source.vector(part("ssm_c_norm"), states)?])
        } else {
            None
        };
        // A row for each channel.
        let rates = self.source.numbers(part("ssm_a"), "", width * states)?;
        let of_state = |state: usize| rates.iter().skip(state).step_by(states);
        let fades = (0..states).flat_map(of_state).map(|&rate| -(self.source.layout().decay_rate)(rate));
        let fades = scan.shape(&[], &[]).pack(&fades.collect::<Vec<_>>());
        Ok(ScanWeights {
            channels,
            gates,
            convolution: self.taps(part("ssm_conv1d"), width, taps)?,
            convolution_bias: self.source.bias(part("ssm_conv1d"), width)?.unwrap_or_default(),
            select: self.linear(part("ssm_x"), rank + 2 * states, width)?,
            norms,
            steps: self.linear(part("ssm_dt"), width, rank)?,
            fades,
            skips: self.source.numbers(part("ssm_d"), "", width)?,
            output: self.linear(part("ssm_out"), self.hidden, width)?,
        })
    }

    fn convolution(
        &mut self,
        layer: usize,
        convolution: &GatedConvolution,
    ) -> Result<ConvolutionWeights, LoadError> {
        let part = |name| Part::of_layer(layer, name);
        let &GatedConvolution { width, taps } = convolution;
        Ok(ConvolutionWeights {
            input: self.linear(part("shortconv.in_proj"), 3 * width, self.hidden)?,
            convolution: self.taps(part("shortconv.conv"), width, taps)?,
            bias: self.source.bias(part("shortconv.conv"), width)?.unwrap_or_default(),
            output: self.linear(part("shortconv.out_proj"), self.hidden, width)?,
        })
    }

    /// The weights of a convolution, `[tap][channel]`.
    fn taps(&mut self, part: Part<'_>, channels: usize, taps: usize) -> Result<Vec<f32>, LoadError> {
        let stored = self.source.numbers(part, "weight", channels * taps)?;
        let of_tap = |tap| stored.iter().skip(tap).step_by(taps);
        Ok((0..taps).flat_map(of_tap).copied().collect())
    }

    /// Those of queries, keys and values side by side.
    fn joined_taps(&mut self, layer: usize, widths: [usize; 3], taps: usize) -> Result<Vec<f32>, LoadError> {
        let names = ["ssm_conv1d_q", "ssm_conv1d_k", "ssm_conv1d_v"].map(|name| Part::of_layer(layer, name));
        let mut parts = Vec::with_capacity(names.len());
        for (part, width) in names.into_iter().zip(widths) {
            parts.push((self.taps(part, width, taps)?, width));
        }
        let of_tap = |tap| parts.iter().flat_map(move |(part, width)| &part[tap * width..][..*width]);
        Ok((0..taps).flat_map(of_tap).copied().collect())
    }

    fn latent_attention(
        &mut self,
        layer: usize,
        attention: &LatentAttention,
    ) -> Result<LatentWeights, LoadError> {
        let part = |name| Part::of_layer(layer, name);
        let &LatentAttention { heads, query_rank, rank, rope_dim, value_dim, .. } = attention;
        let (hidden, queries) = (self.hidden, heads * attention.query_dim());
        let (query_down, query) = match query_rank {
            None => (None, self.linear(part("attn_q"), queries, hidden)?),
            Some(rank) => {
                let down = self.linear(part("attn_q_a"), rank, hidden)?;
                let norm = self.norm(part("attn_q_a_norm"), rank)?;
                (Some((down, norm)), self.linear(part("attn_q_b"), queries, rank)?)
            }
        };
        let down = self.linear(part("attn_kv_a_mqa"), rank + rope_dim, hidden)?;
        let norm = self.norm(part("attn_kv_a_norm"), rank)?;
        let (key_up, value_up) = self.latent_heads(layer, attention)?;
        let gate = attention.gated.then(|| self.linear(part("attn_gate"), heads, hidden)).transpose()?;
        let output = self.linear(part("attn_output"), hidden, heads * value_dim)?;
        Ok(LatentWeights { query_down, query, down, norm, key_up, value_up, gate, output })
    }

    /// What makes of a query one for latent rows, and of a latent row a value, for each head.
    fn latent_heads(
        &mut self,
        layer: usize,
        attention: &LatentAttention,
    ) -> Result<(Vec<Linear>, Vec<Linear>), LoadError> {
        let &LatentAttention { heads, rank, plain_dim, value_dim, .. } = attention;
        let [both, keys, values] =
            ["attn_kv_b", "attn_k_b", "attn_v_b"].map(|name| Part::of_layer(layer, name));
        let (mut key_up, mut value_up) = (Vec::with_capacity(heads), Vec::with_capacity(heads));
        if self.source.has(keys)? {
            let keys = self.source.rows(keys, Some(heads * rank), plain_dim)?;
            let values = self.source.rows(values, Some(heads * value_dim), rank)?;
            for head in 0..heads {
                let [keys_of_head, values_of_head] =
                    [rank, value_dim].map(|rows| head * rows..(head + 1) * rows);
                key_up.push(self.pack(&keys.select(&[keys_of_head]))?.into());
                value_up.push(self.pack(&values.select(&[values_of_head]))?.into());
            }
            return Ok((key_up, value_up));
        }
        let of_head = plain_dim + value_dim;
        let both = self.source.rows(both, Some(heads * of_head), rank)?;
        for head in 0..heads {
            let start = head * of_head;
            let keys = start..start + plain_dim;
            let values = start + plain_dim..start + of_head;
            key_up.push(self.pack(&both.select(&[keys]).transposed())?.into());
            value_up.push(self.pack(&both.select(&[values]))?.into());
        }
        Ok((key_up, value_up))
    }

    /// A network; `suffix` follows its parts' names.
    fn mlp(&mut self, layer: usize, suffix: &str, mlp: &Mlp) -> Result<MlpWeights, LoadError> {
        let (size, hidden) = (mlp.size, self.hidden);
        let [gate, up, both, down] =
            ["gate", "up", "gate_up", "down"].map(|name| format!("ffn_{name}{suffix}"));
        let [gate, up, both, down] = [&gate, &up, &both, &down].map(|name| Part::of_layer(layer, name));
        let (gate, up) = if !mlp.gated {
            (None, self.linear(up, size, hidden)?)
        } else if let Some(fused) = self.fused_gate(gate, both, up, size)? {
            let halves = [0..size, size..2 * size];
            let [gate, up] = self.cut(fused, [2 * size, hidden], &halves.map(|range| [range]))?;
            (Some(gate), up)
        } else {
            (Some(self.linear(gate, size, hidden)?), self.linear(up, size, hidden)?)
        };
        Ok(MlpWeights { gate, up, down: self.linear(down, hidden, size)? })
    }

    /// The one matrix of both gate and up, gate first, if there is none of the gate alone; GGUF files call it up.
    fn fused_gate<'p>(
        &self,
        gate: Part<'p>,
        both: Part<'p>,
        up: Part<'p>,
        size: usize,
    ) -> Result<Option<Part<'p>>, LoadError> {
        if self.source.has(gate)? {
            return Ok(None);
        }
        if self.source.has(both)? {
            return Ok(Some(both));
        }
        Ok((self.source.row_count(up)? == Some(2 * size)).then_some(up))
    }

    fn experts(&mut self, layer: usize, experts: &Experts) -> Result<ExpertsWeights, LoadError> {
        let (hidden, count, size) = (self.hidden, experts.count, experts.expert.size);
        let scales = experts.learned_scales;
        let router = if scales {
            self.scaled_router(layer, count)?
        } else {
            self.linear(Part::of_layer(layer, "ffn_gate_inp"), count, hidden)?
        };
        let (mut input_scales, mut result_scales) = (Vec::new(), Vec::new());
        if scales {
            input_scales = self.source.vector(Part::of_layer(layer, "pre_ffw_norm_2"), hidden)?;
            result_scales = self.source.numbers(Part::of_layer(layer, "ffn_down_exps.scale"), "", count)?;
        }
        let choice_bias = if experts.routing.bias {
            let part = Part::of_layer(layer, "exp_probs_b");
            self.source.bias(part, count)?.ok_or_else(|| self.source.missing_bias(part))?
        } else {
            Vec::new()
        };
        let biases = self.expert_biases(layer, experts)?;
        let bias = |of: usize, expert: usize, len: usize| {
            (!biases[of].is_empty()).then(|| biases[of][expert * len..][..len].to_vec())
        };
        let weights = (0..count).map(|expert| {
            let MlpWeights { gate, up, down } =
                self.expert_matrices(layer, [expert, count], &experts.expert)?;
            Ok(MlpWeights {
                gate: gate.map(|gate| Linear { bias: bias(0, expert, size), ..gate }),
                up: Linear { bias: bias(1, expert, size), ..up },
                down: Linear { bias: bias(2, expert, hidden), ..down },
            })
        });
        let weights = weights.collect::<Result<_, LoadError>>()?;
        let shared = match &experts.shared {
            None => None,
            Some(shared) => {
                let gate = Part::of_layer(layer, "ffn_gate_inp_shexp");
                let gate = shared.gated.then(|| self.linear(gate, 1, hidden)).transpose()?;
                Some(SharedExpertWeights { mlp: self.mlp(layer, "_shexp", &shared.mlp)?, gate })
            }
        };
        Ok(ExpertsWeights { router, choice_bias, input_scales, result_scales, experts: weights, shared })
    }

    /// A router with the factors on what it sees in its weights. With them goes one that takes the length of what it sees to 1.
    fn scaled_router(&mut self, layer: usize, count: usize) -> Result<Linear, LoadError> {
        let hidden = self.hidden;
        let scales = self.source.numbers(Part::of_layer(layer, "ffn_gate_inp.scale"), "", hidden)?;
        let to_unit_length = 1.0 / (hidden as f32).sqrt();
        let scales: Vec<f32> = scales.iter().map(|scale| scale * to_unit_length).collect();
        let stored = self.source.rows(Part::of_layer(layer, "ffn_gate_inp"), Some(count), hidden)?;
        Ok(self.pack(&stored.with_scaled_columns(&scales))?.into())
    }

    /// One expert without its biases.
    fn expert_matrices(
        &mut self,
        layer: usize,
        [expert, count]: [usize; 2],
        mlp: &Mlp,
    ) -> Result<MlpWeights, LoadError> {
        let (hidden, size) = (self.hidden, mlp.size);
        let part = |name| Part::of_layer(layer, name).of(count);
        let [gate, up, both, down] =
            ["ffn_gate_exps", "ffn_up_exps", "ffn_gate_up_exps", "ffn_down_exps"].map(part);
        let stacking = self.source.layout().stacking;
        if matches!(stacking, Stacking::Columns | Stacking::HalvedColumns) {
            let gate_up = self.expert_columns(both, [expert, count], [hidden, 2 * size])?;
            let down = self.expert_columns(down, [expert, count], [size, hidden])?;
            let every_second = |first: usize| (first..2 * size).step_by(2).map(|row| row..row + 1).collect();
            let [gates, ups]: [Vec<_>; 2] = match stacking {
                Stacking::HalvedColumns => [0..size, size..2 * size].map(|rows| vec![rows]),
                _ => [every_second(0), every_second(1)],
            };
            return Ok(MlpWeights {
                gate: Some(self.pack(&gate_up.select(&gates))?.into()),
                up: self.pack(&gate_up.select(&ups))?.into(),
                down: self.pack(&down)?.into(),
            });
        }
        let [gate, up] = if self.source.has(both)? {
            // Gates above ups, expert by expert.
            [2 * expert, 2 * expert + 1].map(|half| (both, [half, 2 * count]))
        } else {
            [gate, up].map(|part| (part, [expert, count]))
        };
        let mut inner = |(part, place)| self.one_of(part, place, [size, hidden]);
        Ok(MlpWeights {
            gate: mlp.gated.then(|| inner(gate)).transpose()?,
            up: inner(up)?,
            down: self.one_of(down, [expert, count], [hidden, size])?,
        })
    }

    /// One expert's matrix of a tensor for all that has a column for each output.
    fn expert_columns(
        &mut self,
        part: Part<'_>,
        [expert, count]: [usize; 2],
        [rows, columns]: [usize; 2],
    ) -> Result<Rows<'static>, LoadError> {
        let all = self.source.rows(part, Some(count * rows), columns)?;
        let range = expert * rows..(expert + 1) * rows;
        Ok(all.select(&[range]).transposed())
    }

    /// The biases of all experts' gates, ups and downs, each expert by expert; empty where there are none.
    fn expert_biases(&mut self, layer: usize, experts: &Experts) -> Result<[Vec<f32>; 3], LoadError> {
        let (hidden, count, size) = (self.hidden, experts.count, experts.expert.size);
        let mut biases = |name, len| self.source.biases(Part::of_layer(layer, name), count, len);
        let down = biases("ffn_down_exps", hidden)?;
        let (gate, up) = match biases("ffn_gate_up_exps", 2 * size)? {
            Some(both) => {
                let every_second = |first| both.iter().skip(first).step_by(2).copied().collect();
                (Some(every_second(0)), Some(every_second(1)))
            }
            None => (biases("ffn_gate_exps", size)?, biases("ffn_up_exps", size)?),
        };
        Ok([gate, up, down].map(Option::unwrap_or_default))
    }

    /// One of several matrices, such as an expert's: a tensor of its own, or its part of one for all.
    fn one_of(
        &mut self,
        part: Part<'_>,
        [index, count]: [usize; 2],
        [rows, columns]: [usize; 2],
    ) -> Result<Linear, LoadError> {
        if !self.source.has(part)? {
            return self.linear(part.indexed(index), rows, columns);
        }
        let all = self.source.rows(part, Some(count * rows), columns)?;
        let range = index * rows..(index + 1) * rows;
        Ok(self.pack(&all.select(&[range]))?.into())
    }

    /// The output head.
    fn head(&mut self, part: Part<'_>, rows: usize) -> Result<Linear, LoadError> {
        if self.source.layout().unit_head_rows != Some(rows) {
            return self.linear(part, rows, self.hidden);
        }
        let stored = self.source.rows(part, Some(rows), self.hidden)?;
        Ok(self.pack(&stored.with_unit_length())?.into())
    }

    /// Parts of the rows of one matrix and of its bias, each as a matrix of its own.
    fn cut<const N: usize>(
        &mut self,
        part: Part<'_>,
        [rows, columns]: [usize; 2],
        ranges: &[impl AsRef<[Range<usize>]>; N],
    ) -> Result<[Linear; N], LoadError> {
        let stored = self.source.rows(part, Some(rows), columns)?;
        let (factors, bias) = (self.output_factors(part, rows), self.source.bias(part, rows)?);
        let mut linears = Vec::with_capacity(N);
        for ranges in ranges.iter().map(AsRef::as_ref) {
            let matrix = self.pack(&stored.select(ranges))?;
            let select = |values: &Vec<f32>| -> Vec<f32> {
                ranges.iter().flat_map(|range| &values[range.clone()]).copied().collect()
            };
            let [factors, bias] = [&factors, &bias].map(|values| values.as_ref().map(select));
            linears.push(Linear { matrix, factors, bias });
        }
        Ok(linears.try_into().unwrap_or_else(|_| unreachable!("a matrix for each")))
    }

    /// `NAME.weight`, and `NAME.bias` if there is one.
    fn linear(&mut self, part: Part<'_>, rows: usize, columns: usize) -> Result<Linear, LoadError> {
        let matrix = self.matrix(part, Some(rows), columns)?;
        Ok(Linear { matrix, factors: self.output_factors(part, rows), bias: self.source.bias(part, rows)? })
    }

    /// A factor for each of `rows` outputs of a part, if it has some.
    fn output_factors(&self, part: Part<'_>, rows: usize) -> Option<Vec<f32>> {
        let mut factors = None;
        for OutputFactor { rows: of_rows, factor, .. } in
            self.factors.iter().filter(|factor| part.is_in_layers(factor.part))
        {
            factors.get_or_insert_with(|| vec![1.0; rows])[of_rows.clone()].fill(*factor);
        }
        factors
    }

    fn norm(&mut self, part: Part<'_>, len: usize) -> Result<NormWeights, LoadError> {
        let mut weight = self.source.vector(part, len)?;
        if self.source.layout().norms_minus_one {
            for weight in &mut weight {
                *weight += 1.0;
            }
        }
        Ok(NormWeights { weight, bias: self.source.bias(part, len)?.unwrap_or_default() })
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
            QkNorm::Unweighted => Ok(NormWeights::ones(head_dim)),
            QkNorm::Whole => self.norm(part, heads * head_dim),
            QkNorm::EachHead if self.source.has(part)? => {
                let weight = self.source.rows(part, Some(heads), head_dim)?.to_floats();
                Ok(NormWeights { weight, bias: Vec::new() })
            }
            QkNorm::EachHead => {
                let weights = (0..heads).map(|head| self.source.vector(part.indexed(head), head_dim));
                let weight = weights.collect::<Result<Vec<_>, _>>()?.concat();
                Ok(NormWeights { weight, bias: Vec::new() })
            }
        }
    }

    /// The weights of a small matrix, row by row.
    fn floats(&mut self, part: Part<'_>, rows: usize, columns: usize) -> Result<Vec<f32>, LoadError> {
        Ok(self.source.rows(part, Some(rows), columns)?.to_floats())
    }

    fn matrix(&mut self, part: Part<'_>, rows: Option<usize>, columns: usize) -> Result<Matrix, LoadError> {
        let rows = self.source.rows(part, rows, columns)?;
        self.pack(&rows)
    }

    fn pack(&mut self, rows: &Rows<'_>) -> Result<Matrix, LoadError> {
        let Self { source, packer, .. } = self;
        packer.pack(rows, || source.release_pages()).map_err(|error| source.no_matrix(&rows.name, error))
    }
}

/// The same `rows` of each of so many groups of `group` rows.
fn of_each(count: usize, group: usize, rows: &Range<usize>) -> Vec<Range<usize>> {
    (0..count).map(|index| index * group + rows.start..index * group + rows.end).collect()
}
