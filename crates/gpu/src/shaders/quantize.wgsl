// Rows of floats to bytes: a scale to every 32 columns, or to every 256, and the sums of each sixteen codes. A thread has 32 columns.

struct Parameters {
    columns: u32,
    tokens: u32,
    values: u32,
    codes: u32,
    sums: u32,
    scales: u32,
}
var<immediate> p: Parameters;

var<workgroup> largest_of: array<f32, 64>;

@compute @workgroup_size(64)
fn main(@builtin(local_invocation_index) thread: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let token = group.y;
    let block = 64u * group.x + thread;
    let is_inside = 32u * block < p.columns;
    let at = p.values + token * p.columns + 32u * block;
    var largest = 0.0f;
    if is_inside {
        for (var i = 0u; i < 32u; i++) {
            let magnitude = abs(floats[at + i]);
            largest = select(largest, magnitude, magnitude > largest);
        }
    }
    if IN_SUPER_BLOCKS {
        largest_of[thread] = largest;
        workgroupBarrier();
        for (var i = 0u; i < 8u; i++) {
            let other = largest_of[(thread & 56u) + i];
            largest = select(largest, other, other > largest);
        }
    }
    if !is_inside {
        return;
    }
    var scale = divide(largest, 127.0f);
    var inverse = 0.0f;
    if scale < 1.17549435e-38f {
        scale = 0.0f;
    } else {
        inverse = divide(127.0f, largest);
    }
    var total = 0;
    for (var half = 0u; half < 2u; half++) {
        var sum = 0;
        for (var quad = 0u; quad < 4u; quad++) {
            var word = 0u;
            for (var i = 0u; i < 4u; i++) {
                // Adding 1.5 * 2^23 rounds to an integer, ties to even, and leaves it in the low bits.
                let code = bitcast<u32>(floats[at + 16u * half + 4u * quad + i] * inverse + 12582912.0f) & 0xffu;
                word |= code << (8u * i);
                sum += extractBits(bitcast<i32>(code), 0u, 8u);
            }
            words[p.codes + (token * p.columns + 32u * block + 16u * half + 4u * quad) / 4u] = word;
        }
        words[p.sums + token * (p.columns / 16u) + 2u * block + half] = bitcast<u32>(sum);
        total += sum;
    }
    if IN_SUPER_BLOCKS {
        if (block & 7u) == 0u {
            floats[p.scales + token * (p.columns / 256u) + block / 8u] = scale;
        }
    } else {
        let x = p.scales + 2u * (token * (p.columns / 32u) + block);
        floats[x] = scale;
        floats[x + 1u] = scale * f32(total);
    }
}
