// For few tokens: the threads of a workgroup take units of the same sixteen rows in turns, and then one for each row and token adds the
// terms in the order of the units.

const LANES: u32 = 8u;

var<workgroup> shared_terms: array<Terms, LANES * 16u * T>;

@compute @workgroup_size(128)
fn main(@builtin(local_invocation_index) thread: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let row = thread & 15u;
    let lane = thread >> 4u;
    let start = group.x * p.group_words;
    let first = group.y * T;
    var element = 0.0f;
    for (var unit = 0u; unit < p.units; unit += LANES) {
        if unit + lane < p.units {
            let found = terms(unit + lane, start + (unit + lane) * UNIT_WORDS, row, first);
            for (var t = 0u; t < T; t++) {
                shared_terms[(lane * T + t) * 16u + row] = found[t];
            }
        }
        workgroupBarrier();
        if lane < T {
            for (var l = 0u; l < min(LANES, p.units - unit); l++) {
                let at = start + (unit + l) * UNIT_WORDS;
                element = add_terms(element, unit + l, at, row, token_of(first, lane), shared_terms[(l * T + lane) * 16u + row]);
            }
        }
        workgroupBarrier();
    }
    if lane < T {
        store(16u * group.x + row, first + lane, element);
    }
}
