//! An architecture in words.

use std::fmt::Write as _;

use indicatif::HumanCount;
use lookahead_kernels::{Activation, RopePairs};
use lookahead_model::architecture::{Architecture, FeedForward, Layer, Mlp, Wiring};

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
    sentences.extend(kinds(layers, attention).into_iter().map(|kind| format!("attention: {kind}")));
    sentences.extend(kinds(layers, feed_forward).into_iter().map(|kind| format!("feed-forward: {kind}")));
    if architecture.embedding.first_position.is_some() {
        sentences.push("positions: learned".to_owned());
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

/// Each kind of layer once, with the number of its layers where there are several kinds.
fn kinds(layers: &[Layer], describe: impl Fn(&Layer) -> String) -> Vec<String> {
    let mut kinds: Vec<(String, usize)> = Vec::new();
    for kind in layers.iter().map(describe) {
        match kinds.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, count)) => *count += 1,
            None => kinds.push((kind, 1)),
        }
    }
    match kinds.as_slice() {
        [(kind, _)] => vec![kind.clone()],
        several => several
            .iter()
            .map(|(kind, count)| format!("{kind} ({count} of {} layers)", layers.len()))
            .collect(),
    }
}

fn attention(layer: &Layer) -> String {
    let attention = &layer.attention;
    let mut text = format!(
        "{} heads of {} over {} key-value heads",
        attention.heads, attention.head_dim, attention.kv_heads
    );
    if let Some(window) = attention.window {
        write!(text, ", window of {window} tokens").ok();
    }
    if attention.alibi {
        text.push_str(", scores fall with the distance (ALiBi)");
    }
    if let Some(cap) = attention.soft_cap {
        write!(text, ", scores capped at {cap}").ok();
    }
    if attention.qk_norm.is_some() {
        text.push_str(", queries and keys normalised");
    }
    text
}

fn feed_forward(layer: &Layer) -> String {
    let mut text = match &layer.feed_forward {
        FeedForward::Dense(mlp) => network(mlp),
        FeedForward::Experts(experts) => {
            let mut text =
                format!("{} of {} experts of {}", experts.active, experts.count, network(&experts.expert));
            if let Some(shared) = &experts.shared {
                write!(text, ", one for all of {}", network(shared)).ok();
            }
            text
        }
    };
    text.push_str(match layer.wiring {
        Wiring::PreNorm => "",
        Wiring::Sandwich => ", results normalised",
        Wiring::PostNorm => ", results normalised instead of inputs",
        Wiring::Parallel | Wiring::ParallelNorms => ", beside attention",
    });
    text
}

fn network(mlp: &Mlp) -> String {
    let activation = match mlp.activation {
        Activation::Silu => "SiLU",
        Activation::Gelu | Activation::GeluTanh => "GELU",
        Activation::Relu => "ReLU",
    };
    format!("width {}, {} {activation}", mlp.size, if mlp.gated { "gated by" } else { "with" })
}
