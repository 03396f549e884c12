// Turns heads to their positions: a pair of dimensions a thread.

/// `rows`: floats `[node][head][head_dim]`; `angles`: floats `[node][pair]`, cosine and sine.
struct Parameters { rows: u32, angles: u32, heads: u32, head_dim: u32, pairs: u32, is_interleaved: u32 }
var<immediate> p: Parameters;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= p.heads * p.pairs {
        return;
    }
    let node = id.y;
    let pair = id.x % p.pairs;
    let head = p.rows + (node * p.heads + id.x / p.pairs) * p.head_dim;
    let first = head + select(pair, 2u * pair, p.is_interleaved == 1u);
    let second = first + select(p.pairs, 1u, p.is_interleaved == 1u);
    let angle = p.angles + 2u * (node * p.pairs + pair);
    let cosine = floats[angle];
    let sine = floats[angle + 1u];
    let a = floats[first];
    let b = floats[second];
    floats[first] = a * cosine - b * sine;
    floats[second] = a * sine + b * cosine;
}
