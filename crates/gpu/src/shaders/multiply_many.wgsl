// For many tokens: each thread has a row and a few tokens, for which it unpacks a weight once.

@compute @workgroup_size(128)
fn main(@builtin(local_invocation_index) thread: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let row = thread & 15u;
    let start = group.x * p.group_words;
    let first = (8u * group.y + (thread >> 4u)) * T;
    if first >= p.tokens {
        return;
    }
    var elements: array<f32, T>;
    for (var t = 0u; t < T; t++) {
        elements[t] = 0.0f;
    }
    for (var unit = 0u; unit < p.units; unit++) {
        let at = start + unit * UNIT_WORDS;
        let found = terms(unit, at, row, first);
        for (var t = 0u; t < T; t++) {
            elements[t] = add_terms(elements[t], unit, at, row, token_of(first, t), found[t]);
        }
    }
    for (var t = 0u; t < T; t++) {
        store(16u * group.x + row, first + t, elements[t]);
    }
}
