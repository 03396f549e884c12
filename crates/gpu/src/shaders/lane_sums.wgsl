// Sums over a row by a workgroup, as the CPU adds them up: in eight lanes by column modulo eight.

const THREADS: u32 = 64u;
var<workgroup> lanes: array<f32, 8>;

/// Has eight threads add up what `width` floats from `at` on are above `mean`, or the squares of that; all threads get the sum.
fn lane_sum(thread: u32, at: u32, width: u32, mean: f32, squares: bool) -> f32 {
    workgroupBarrier();
    storageBarrier();
    if thread < 8u {
        var sum = 0.0f;
        for (var column = thread; column < width; column += 8u) {
            let x = floats[at + column] - mean;
            if squares {
                sum = multiply_add(x, x, sum);
            } else {
                sum = sum + x;
            }
        }
        lanes[thread] = sum;
    }
    workgroupBarrier();
    return ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) + ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]));
}
