// Stores the keys and values of nodes: a block of dimensions a thread.

/// `keys` and `values`: floats `[head][dimension]` of each node, those of the next node `keys_stride` and `values_stride` further on;
/// `places`: words `[node]`.
struct Parameters { keys: u32, keys_stride: u32, values: u32, values_stride: u32, places: u32 }
var<immediate> p: Parameters;
@group(1) @binding(0) var<storage, read_write> kv: array<u32>;

const KEY_BLOCKS = (KEY_DIM + BLOCK - 1u) / BLOCK;
const VALUE_BLOCKS = (VALUE_DIM + BLOCK - 1u) / BLOCK;

/// Stores `count` floats from `source` on in words that lie `stride` apart.
fn store_block(source: u32, count: u32, at: u32, stride: u32, scale_at: u32) {
    var inverse = 0.0f;
    if SCALES == 1u {
        var largest = 0.0f;
        for (var i = 0u; i < count; i++) {
            let size = abs(floats[source + i]);
            largest = select(largest, size, size > largest);
        }
        kv[scale_at] = bitcast<u32>(half_of(to_half(divide(largest, 127.0f)), 0u));
        if largest > 0.0f {
            inverse = divide(127.0f, largest);
        }
    }
    for (var i = 0u; i < count; i += WORD_DIMS) {
        var word = 0u;
        for (var part = 0u; part < min(WORD_DIMS, count - i); part++) {
            word |= encode(floats[source + i + part], inverse) << (32u / WORD_DIMS * part);
        }
        kv[at + i / WORD_DIMS * stride] = word;
    }
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let node = id.y;
    let place = words[p.places + node];
    if id.x < KV_HEADS * KEY_BLOCKS {
        let head = id.x / KEY_BLOCKS;
        let block = id.x % KEY_BLOCKS;
        let first = block * BLOCK;
        let source = p.keys + node * p.keys_stride + head * KEY_DIM + first;
        let at = key_at(place, head, first / WORD_DIMS);
        store_block(source, min(BLOCK, KEY_DIM - first), at, PAGE_ROWS, key_at(place, head, KEY_WORDS + block));
    } else if id.x < KV_HEADS * (KEY_BLOCKS + VALUE_BLOCKS) {
        let index = id.x - KV_HEADS * KEY_BLOCKS;
        let head = index / VALUE_BLOCKS;
        let block = index % VALUE_BLOCKS;
        let first = block * BLOCK;
        let source = p.values + node * p.values_stride + head * VALUE_DIM + first;
        let at = value_at(place, head, first / WORD_DIMS);
        store_block(source, min(BLOCK, VALUE_DIM - first), at, 1u, value_scale_at(place, head, block));
    }
}
