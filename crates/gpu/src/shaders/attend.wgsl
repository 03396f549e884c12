// Attention of a node's head to a chunk of positions, by a workgroup.

@group(1) @binding(0) var<storage, read> kv: array<u32>;

const THREADS = 128u;

var<workgroup> query: array<f32, WORD_DIMS * KEY_WORDS>;
/// Of each position that is seen of the chunk: where its row lies, and its score, then its numerator.
var<workgroup> places: array<u32, CHUNK>;
var<workgroup> scores: array<f32, CHUNK>;
var<workgroup> maxima: array<f32, THREADS>;
var<workgroup> lanes: array<f32, 8>;

fn place_of(seen: Seen, position: u32) -> u32 {
    var row = position;
    if position >= seen.context {
        row = words[seen.path + position - seen.context];
    }
    return words[seen.slots + row / PAGE_ROWS] * PAGE_ROWS + row % PAGE_ROWS;
}

/// The query times a key, the dimensions in ascending order. Dimensions that fill up a word are zero.
fn dot_product(place: u32, kv_head: u32) -> f32 {
    var dot = 0.0f;
    var scale = 1.0f;
    let at = key_at(place, kv_head, 0u);
    for (var word = 0u; word < KEY_WORDS; word++) {
        let first = word * WORD_DIMS;
        if SCALES == 1u && first % BLOCK == 0u {
            scale = bitcast<f32>(kv[at + (KEY_WORDS + first / BLOCK) * PAGE_ROWS]);
        }
        let bits = kv[at + word * PAGE_ROWS];
        for (var part = 0u; part < WORD_DIMS; part++) {
            dot = multiply_add(decode(bits, part, scale), query[first + part], dot);
        }
    }
    return dot;
}

/// A dimension of a value.
fn value_of(place: u32, kv_head: u32, dim: u32) -> f32 {
    var scale = 1.0f;
    if SCALES == 1u {
        scale = bitcast<f32>(kv[value_scale_at(place, kv_head, dim / BLOCK)]);
    }
    return decode(kv[value_at(place, kv_head, dim / WORD_DIMS)], dim % WORD_DIMS, scale);
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let head = group.x;
    let node = p.first_node + group.y;
    let chunk = p.first_chunk + group.z;
    let kv_head = head / (p.heads / KV_HEADS);
    let seen = seen_of(node);
    let first = max(seen.start, chunk * CHUNK);
    let end = min(seen.end, (chunk + 1u) * CHUNK);
    let count = select(0u, end - first, end > first);

    let queries = p.queries + (node * p.heads + head) * KEY_DIM;
    for (var dim = thread; dim < WORD_DIMS * KEY_WORDS; dim += THREADS) {
        if dim < KEY_DIM {
            query[dim] = floats[queries + dim];
        } else {
            query[dim] = 0.0f;
        }
    }
    workgroupBarrier();

    var largest = negative_infinity();
    for (var i = thread; i < count; i += THREADS) {
        let place = place_of(seen, first + i);
        var score = dot_product(place, kv_head) * p.scale;
        if p.soft_cap != 0.0f {
            score = p.soft_cap * hyperbolic_tangent(divide(score, p.soft_cap));
        }
        if p.slopes != NONE {
            let distance = seen.end - 1u - (first + i);
            score = multiply_add(-constants[p.slopes + head], f32(distance), score);
        }
        places[i] = place;
        scores[i] = score;
        largest = select(largest, score, score > largest);
    }
    maxima[thread] = largest;
    workgroupBarrier();
    for (var half = THREADS / 2u; half > 0u; half /= 2u) {
        if thread < half {
            let other = maxima[thread + half];
            maxima[thread] = select(maxima[thread], other, other > maxima[thread]);
        }
        workgroupBarrier();
    }
    largest = maxima[0];
    for (var i = thread; i < count; i += THREADS) {
        scores[i] = exponential(scores[i] - largest);
    }
    workgroupBarrier();

    if thread < 8u {
        var sum = 0.0f;
        for (var i = thread; i < count; i += 8u) {
            sum += scores[i];
        }
        lanes[thread] = sum;
    }
    let part = part_of(chunk, node, head);
    if count > 0u {
        for (var dim = thread; dim < VALUE_DIM; dim += THREADS) {
            var sum = 0.0f;
            for (var i = 0u; i < count; i++) {
                sum = multiply_add(scores[i], value_of(places[i], kv_head, dim), sum);
            }
            floats[p.parts + part * VALUE_DIM + dim] = sum;
        }
    }
    workgroupBarrier();
    if count > 0u && thread == 0u {
        floats[p.stats + 2u * part] = largest;
        floats[p.stats + 2u * part + 1u] =
            ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) + ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]));
    }
}
