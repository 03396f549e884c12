// Adds up what chunks of positions come to, for a node's head: a dimension a thread.

const THREADS = 64u;

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let head = group.x;
    let node = p.first_node + group.y;
    let seen = seen_of(node);
    let chunks = (seen.end + CHUNK - 1u) / CHUNK;

    var largest = negative_infinity();
    if p.sinks != NONE {
        largest = constants[p.sinks + head];
    }
    for (var chunk = seen.start / CHUNK; chunk < chunks; chunk++) {
        let greatest = floats[p.stats + 2u * part_of(chunk, node, head)];
        largest = select(largest, greatest, greatest > largest);
    }
    for (var dim = thread; dim < VALUE_DIM; dim += THREADS) {
        var total = 0.0f;
        if p.sinks != NONE {
            total = exponential(constants[p.sinks + head] - largest);
        }
        var out = 0.0f;
        for (var chunk = seen.start / CHUNK; chunk < chunks; chunk++) {
            let part = part_of(chunk, node, head);
            let scale = exponential(floats[p.stats + 2u * part] - largest);
            total = multiply_add(scale, floats[p.stats + 2u * part + 1u], total);
            out = multiply_add(scale, floats[p.parts + part * VALUE_DIM + dim], out);
        }
        floats[p.out + (node * p.heads + head) * VALUE_DIM + dim] = divide(out, total);
    }
}
