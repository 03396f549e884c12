// What the two operators of attention share: the positions of nodes, and where their parts of the result lie.

/// `nodes` nodes from `first_node` on. Floats: `queries` `[node][head][KEY_DIM]` of all nodes, `stats` `[chunk][node][head]` of the greatest
/// score and the sum of the numerators, `parts` `[chunk][node][head][VALUE_DIM]`, unnormalised, `out` `[node][head][VALUE_DIM]` of all
/// nodes. Words: `seen`, see `seen_of`. Constants: `slopes` and `sinks`, `[head]`, or NONE. A node sees the last `sliding` positions, and
/// only those of its own `chunked` ones.
struct Parameters {
    first_node: u32,
    nodes: u32,
    heads: u32,
    first_chunk: u32,
    seen: u32,
    queries: u32,
    stats: u32,
    parts: u32,
    out: u32,
    scale: f32,
    sliding: u32,
    chunked: u32,
    soft_cap: f32,
    slopes: u32,
    sinks: u32,
}
var<immediate> p: Parameters;

const NONE = 0xffffffffu;

/// What a node sees: the rows below `context`, then those that words `path` on say; and where the words begin that say the slots of its
/// sequence's pages. It ends with position `end`, and begins with `start`.
struct Seen { context: u32, path: u32, slots: u32, start: u32, end: u32 }

fn seen_of(node: u32) -> Seen {
    let at = p.seen + 4u * node;
    let context = words[at];
    let end = context + words[at + 1u];
    let own = end - 1u;
    let sliding = select(0u, end - p.sliding, end > p.sliding);
    let start = max(sliding, own - own % p.chunked);
    return Seen(context, p.seen + words[at + 2u], p.seen + words[at + 3u], start, end);
}

/// The number of a chunk's part of a node's result, for one head.
fn part_of(chunk: u32, node: u32, head: u32) -> u32 {
    return ((chunk - p.first_chunk) * p.nodes + (node - p.first_node)) * p.heads + head;
}

fn negative_infinity() -> f32 {
    var bits = 0xff800000u;
    return bitcast<f32>(bits);
}
