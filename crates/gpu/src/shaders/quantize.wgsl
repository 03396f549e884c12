// Floats to bytes: a scale to every 32 columns if HAS_BLOCKS, to every 256 if HAS_SUPER_BLOCKS, and the sums of each sixteen codes.
// A workgroup has 256 columns of a row, each of its 64 threads four.

/// Where the codes of rows lie: see `Codes` in `rows.rs`.
struct Codes { quads: u32, sums: u32, scales: u32 }

var<workgroup> largest_of_quads: array<f32, 64>;
var<workgroup> largest_of_blocks: array<f32, 8>;
var<workgroup> sums_of_quads: array<i32, 64>;

fn larger(a: f32, b: f32) -> f32 {
    return select(a, b, b > a);
}

/// A scale, and what values are multiplied with to be codes.
fn scale_of(largest: f32) -> vec2<f32> {
    let scale = divide(largest, 127.0f);
    if scale < 1.17549435e-38f {
        return vec2<f32>();
    }
    return vec2<f32>(scale, divide(127.0f, largest));
}

fn sum_of_half(first: u32) -> i32 {
    return (sums_of_quads[first] + sums_of_quads[first + 1u]) + (sums_of_quads[first + 2u] + sums_of_quads[first + 3u]);
}

/// Writes the codes of a thread's values, and has the sums of each sixteen written; returns the sum of a block's codes.
fn write_codes(thread: u32, quad: u32, is_inside: bool, values: vec4<f32>, inverse: f32, codes: Codes) -> i32 {
    var x = values;
    var word = 0u;
    var sum = 0;
    for (var i = 0u; i < 4u; i++) {
        // Adding 1.5 * 2^23 rounds to an integer, ties to even, and leaves it in the low bits.
        let code = bitcast<u32>(x[i] * inverse + 12582912.0f) & 0xffu;
        word |= code << (8u * i);
        sum += extractBits(bitcast<i32>(code), 0u, 8u);
    }
    // Sums that were there before have been read.
    workgroupBarrier();
    sums_of_quads[thread] = sum;
    workgroupBarrier();
    if is_inside {
        words[codes.quads + quad] = word;
        if (thread & 3u) == 0u {
            words[codes.sums + quad / 4u] = bitcast<u32>(sum_of_half(thread));
        }
    }
    return sum_of_half(thread & 56u) + sum_of_half((thread & 56u) + 4u);
}

/// Quantizes four values of each thread. `quad` is the number of these four among all of the rows; they are zeros if they are not inside
/// of the row.
fn quantize(thread: u32, quad: u32, is_inside: bool, values: vec4<f32>, blocks: Codes, super_blocks: Codes) {
    if !HAS_BLOCKS && !HAS_SUPER_BLOCKS {
        return;
    }
    var x = values;
    var largest = 0.0f;
    for (var i = 0u; i < 4u; i++) {
        largest = larger(largest, abs(x[i]));
    }
    workgroupBarrier();
    largest_of_quads[thread] = largest;
    workgroupBarrier();
    for (var i = 0u; i < 8u; i++) {
        largest = larger(largest, largest_of_quads[(thread & 56u) + i]);
    }
    let is_first = (thread & 7u) == 0u;
    if HAS_BLOCKS {
        let scale = scale_of(largest);
        let total = write_codes(thread, quad, is_inside, values, scale.y, blocks);
        if is_inside && is_first {
            floats[blocks.scales + quad / 4u] = scale.x;
            floats[blocks.scales + quad / 4u + 1u] = scale.x * f32(total);
        }
    }
    if HAS_SUPER_BLOCKS {
        if is_first {
            largest_of_blocks[thread / 8u] = largest;
        }
        workgroupBarrier();
        for (var i = 0u; i < 8u; i++) {
            largest = larger(largest, largest_of_blocks[i]);
        }
        let scale = scale_of(largest);
        write_codes(thread, quad, is_inside, values, scale.y, super_blocks);
        if thread == 0u {
            floats[super_blocks.scales + quad / 64u] = scale.x;
        }
    }
}
