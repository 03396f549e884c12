//! An architecture in words.

use std::fmt::Write as _;

use indicatif::HumanCount;
use lookahead_kernels::{Activation, RopePairs, Window};
use lookahead_model::architecture::{
    Architecture, Attention, AttentionGate, Block, Decay, Experts, KeysAndValues, LatentAttention, Layer,
    Mixer, Mlp, Recurrence, UpdateRule,
};

/// A few lines, from the outside in.
pub(super) fn sentences(
    architecture: &Architecture,
    vocabulary_size: Option<usize>,
    tied_embeddings: bool,
) -> Vec<String> {
    let Architecture { family, layers, hidden_size, context_length, .. } = architecture;
    let count = |number: usize| HumanCount(number as u64).to_string();
    let vocabulary = vocabulary_size.map_or_else(|| "unknown".to_owned(), count);
    let mut sentences = vec![
        format!("{family}: {} layers of width {hidden_size}", layers.len()),
        format!(
            "vocabulary of {vocabulary} tokens, {}; context of {} tokens",
            if tied_embeddings { "embedding and output share weights" } else { "output of its own" },
            count(*context_length)
        ),
    ];
    if let Some(altup) = architecture.altup {
        sentences.push(format!(
            "residual streams: {}, of which layers compute one and predict and correct the others (AltUp)",
            altup.streams
        ));
    }
    sentences.extend(kinds(layers));
    if architecture.embedding.first_position.is_some() {
        sentences.push("positions: learned".to_owned());
    }
    if !architecture.output_factors.is_empty() {
        sentences.push("factors on what matrices make, apart from their weights".to_owned());
    }
    for rope in &architecture.ropes {
        let pairs = match rope.pairs {
            RopePairs::Interleaved => "neighbouring dimensions",
            RopePairs::Halves => "dimensions half a head apart",
        };
        sentences.push(format!("rotary embedding: pairs of {pairs}, base {}", rope.base));
    }
    sentences
}

/// Each kind of block once, with the number of its layers where not all have it.
fn kinds(layers: &[Layer]) -> Vec<String> {
    let mut kinds: Vec<(String, usize)> = Vec::new();
    let most = layers.iter().map(|layer| layer.blocks.len()).max().unwrap_or(0);
    for place in 0..most {
        for kind in layers.iter().filter_map(|layer| layer.blocks.get(place)).map(kind) {
            match kinds.iter_mut().find(|(known, _)| *known == kind) {
                Some((_, count)) => *count += 1,
                None => kinds.push((kind, 1)),
            }
        }
    }
    let of_all = |(kind, count): (String, usize)| match layers.len() {
        all if all == count => kind,
        all => format!("{kind} ({count} of {all} layers)"),
    };
    kinds.into_iter().map(of_all).collect()
}

fn kind(block: &Block) -> String {
    let network = match &block.mixer {
        Mixer::Attention(spec) => return format!("attention: {}", attention(spec)),
        Mixer::Latent(spec) => return format!("attention: {}", latent_attention(spec)),
        Mixer::Recurrence(spec) => return format!("recurrence: {}", recurrence(spec)),
        Mixer::Scan(spec) => {
            return format!(
                "recurrence: selective scan (Mamba 1), {} channels of {} states, behind a convolution over {} tokens",
                spec.width, spec.states, spec.taps
            );
        }
        Mixer::Convolution(spec) => {
            return format!(
                "convolution: over {} tokens, {} channels, between two gates",
                spec.taps, spec.width
            );
        }
        Mixer::Dense(mlp) => network(mlp),
        Mixer::Experts(spec) => experts(spec),
        Mixer::PerLayer(spec) => return format!("input of each layer's own: width {}", spec.size),
        Mixer::Laurel(spec) => return format!("beside attention: a map of rank {} (LAuReL)", spec.rank),
    };
    if block.joint_norm && block.input.is_beside() {
        return format!("feed-forward: {network}, beside the network, results and their sum normalised");
    }
    let wiring = match (block.post_norm, block.input.has_norm(), block.input.is_beside()) {
        (true, true, _) => ", results normalised",
        (true, false, _) => ", results normalised instead of inputs",
        (false, _, true) => ", beside attention",
        (false, ..) => "",
    };
    format!("feed-forward: {network}{wiring}")
}

fn attention(attention: &Attention) -> String {
    let mut text = format!(
        "{} heads of {} over {} key-value heads",
        attention.heads, attention.key_dim, attention.kv_heads
    );
    if attention.value_dim != attention.key_dim {
        write!(text, ", values of {}", attention.value_dim).ok();
    }
    match attention.window {
        None => {}
        Some(Window::Sliding(window)) => _ = write!(text, ", window of {window} tokens"),
        Some(Window::Chunk(chunk)) => _ = write!(text, ", chunks of {chunk} tokens"),
    }
    if attention.alibi {
        text.push_str(", scores fall with the distance (ALiBi)");
    }
    if let Some(cap) = attention.soft_cap {
        write!(text, ", scores capped at {cap}").ok();
    }
    if attention.qk_norm.is_some() {
        text.push_str(", queries and keys normalised");
        if attention.norm_is_behind_rope {
            text.push_str(" after they are turned");
        }
    }
    match attention.keys_and_values {
        KeysAndValues::TwoMatrices => {}
        KeysAndValues::OneMatrix => text.push_str(", values are keys"),
        KeysAndValues::Of(earlier) => _ = write!(text, ", keys and values of layer {}", earlier + 1),
    }
    if attention.sinks {
        text.push_str(", sinks");
    }
    if attention.query_scale.is_some() {
        text.push_str(", queries scaled by their position");
    }
    match attention.gate {
        None => {}
        Some(AttentionGate::OfHeads) => text.push_str(", a gate on each head"),
        Some(AttentionGate::OfValues) => text.push_str(", a gate on each value"),
    }
    text
}

fn recurrence(recurrence: &Recurrence) -> String {
    let Recurrence { heads, key_heads, key_dim, value_dim, taps, rule, decay, .. } = recurrence;
    let rule = match rule {
        UpdateRule::Delta => "delta rule",
        UpdateRule::Step => "state space (Mamba 2)",
    };
    let decay = match decay {
        Decay::OfHeads => "one decay a head",
        Decay::OfKeys | Decay::OfKeysWithin(_) => "a decay for each dimension of a key",
    };
    format!(
        "{rule}, {heads} heads with states of {key_dim} x {value_dim} over {key_heads} key heads, {decay}, behind a convolution over {taps} tokens"
    )
}

fn latent_attention(attention: &LatentAttention) -> String {
    let LatentAttention { heads, rank, plain_dim, rope_dim, value_dim, rope, gated, .. } = attention;
    let turned = if rope.is_some() { "turned" } else { "shared" };
    let gate = if *gated { ", a gate on each head" } else { "" };
    format!(
        "{heads} heads of {plain_dim} and {rope_dim} {turned} dimensions, values of {value_dim}, over one latent row of {rank}{gate}"
    )
}

fn experts(experts: &Experts) -> String {
    let mut text = format!("{} of {} experts of {}", experts.active, experts.count, network(&experts.expert));
    if let Some(shared) = &experts.shared {
        write!(text, ", one for all of {}", network(&shared.mlp)).ok();
    }
    text
}

fn network(mlp: &Mlp) -> String {
    let activation = match mlp.activation {
        Activation::Silu => "SiLU",
        Activation::Gelu | Activation::GeluTanh => "GELU",
        Activation::Relu => "ReLU",
        Activation::SquaredRelu => "squared ReLU",
        Activation::ClampedSwish => "clamped swish",
        Activation::Sigmoid => "sigmoid",
        Activation::Xielu { .. } => "xIELU",
    };
    let mut text =
        format!("width {}, {} {activation}", mlp.size, if mlp.gated { "gated by" } else { "with" });
    if let Some(deviations) = mlp.sparsity {
        write!(text, " of values more than {deviations:.2} standard deviations above their mean").ok();
    }
    text
}
