// Moves rows: a column of words a thread, which takes the moves in turn, so that a row is read before another is moved there.

/// `moves`: words `[move]`, the place that it is moved from and the place that it is moved to.
struct Parameters { moves: u32, count: u32 }
var<immediate> p: Parameters;
@group(1) @binding(0) var<storage, read_write> kv: array<u32>;

fn word_at(place: u32, column: u32) -> u32 {
    if column < KV_HEADS * KEY_ROW {
        return key_at(place, column / KEY_ROW, column % KEY_ROW);
    }
    let head = (column - KV_HEADS * KEY_ROW) / VALUE_ROW;
    let word = (column - KV_HEADS * KEY_ROW) % VALUE_ROW;
    if word < VALUE_WORDS {
        return value_at(place, head, word);
    }
    return value_scale_at(place, head, word - VALUE_WORDS);
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= KV_HEADS * (KEY_ROW + VALUE_ROW) {
        return;
    }
    for (var i = 0u; i < p.count; i++) {
        let source = words[p.moves + 2u * i];
        let to = words[p.moves + 2u * i + 1u];
        kv[word_at(to, id.x)] = kv[word_at(source, id.x)];
    }
}
