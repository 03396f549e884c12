//! An architecture in words.

use indicatif::HumanCount;
use lookahead_kernels::{Activation, RopePairs};
use lookahead_model::architecture::{Architecture, Layer};

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
    let window = attention.window.map(|window| format!(", window of {window} tokens")).unwrap_or_default();
    let norms = if attention.qk_norm { ", queries and keys normalised" } else { "" };
    format!(
        "{} heads of {} over {} key-value heads{window}{norms}",
        attention.heads, attention.head_dim, attention.kv_heads
    )
}

fn feed_forward(layer: &Layer) -> String {
    let activation = match layer.feed_forward.activation {
        Activation::Silu => "SiLU",
        Activation::GeluTanh => "GELU",
    };
    let norms = if layer.post_norms { ", results normalised" } else { "" };
    format!("width {}, gated by {activation}{norms}", layer.feed_forward.size)
}
