// Leaves of each row what lies so many standard deviations above its mean.

/// `rows`: floats `[row][width]`
struct Parameters { rows: u32, width: u32, deviations: f32 }
var<immediate> p: Parameters;

@compute @workgroup_size(64)
fn main(@builtin(local_invocation_index) thread: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let at = p.rows + group.y * p.width;
    let count = f32(p.width);
    let mean = divide(lane_sum(thread, at, p.width, 0.0f, false), count);
    let squares = lane_sum(thread, at, p.width, mean, true);
    let cutoff = multiply_add(p.deviations, square_root(divide(squares, count)), mean);
    for (var column = thread; column < p.width; column += THREADS) {
        let x = floats[at + column];
        floats[at + column] = select(0.0f, x - cutoff, x > cutoff);
    }
}
