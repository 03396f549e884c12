// The greatest values of a slice of each row, by rank: the greater first, among equals the one that stands first. What is no number has no
// rank.

struct Parameters {
    source: u32,
    width: u32,
    ranks: u32,
    // `[row][slice][rank]`, a value and its place in the row; the place is -1 where there are no more.
    result: u32,
    // Where the rows meant are said, in `words`.
    rows: u32,
}
var<immediate> p: Parameters;

const THREADS: u32 = 256u;
const EACH: u32 = 8u;
const NONE: u32 = 0xffffffffu;

var<workgroup> values: array<f32, THREADS>;
var<workgroup> places: array<u32, THREADS>;

/// Whether candidate `a` ranks before `b`.
fn is_before(a: f32, a_place: u32, b: f32, b_place: u32) -> bool {
    if a_place == NONE || b_place == NONE {
        return b_place == NONE && a_place != NONE;
    }
    return a > b || (a == b && a_place < b_place);
}

@compute @workgroup_size(256)
fn main(@builtin(local_invocation_index) thread: u32, @builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let start = p.source + words[p.rows + group.y] * p.width;
    let first = group.x * THREADS * EACH + thread;
    var taken = 0u;
    for (var rank = 0u; rank < p.ranks; rank++) {
        var best = 0.0f;
        var place = NONE;
        for (var i = 0u; i < EACH; i++) {
            let column = first + i * THREADS;
            if column < p.width && (taken & (1u << i)) == 0u {
                let value = floats[start + column];
                let is_number = (bitcast<u32>(value) & 0x7fffffffu) <= 0x7f800000u;
                if is_number && is_before(value, column, best, place) {
                    best = value;
                    place = column;
                }
            }
        }
        values[thread] = best;
        places[thread] = place;
        workgroupBarrier();
        for (var half = THREADS / 2u; half > 0u; half /= 2u) {
            if thread < half && is_before(values[thread + half], places[thread + half], values[thread], places[thread]) {
                values[thread] = values[thread + half];
                places[thread] = places[thread + half];
            }
            workgroupBarrier();
        }
        let winner = places[0];
        if thread == 0u {
            let result = p.result + 2u * ((group.y * groups.x + group.x) * p.ranks + rank);
            floats[result] = values[0];
            floats[result + 1u] = select(f32(winner), -1.0f, winner == NONE);
        }
        if winner != NONE && winner % THREADS == thread {
            taken |= 1u << ((winner - first) / THREADS);
        }
        workgroupBarrier();
    }
}
