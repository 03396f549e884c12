//! Numbers that look random, and are the same in each run.

/// A deterministic stream.
pub(crate) struct Noise(u64);

impl Noise {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 8
    }

    /// Around zero, with exact zeros of both signs and values below the normal ones among them.
    pub(crate) fn float(&mut self) -> f32 {
        match self.next() % 32 {
            0 => 0.0,
            1 => -0.0,
            2 => f32::from_bits(self.next() as u32 & 0x007f_ffff),
            _ => (self.next() as u16 as f32 / 32768.0 - 1.0) * 3.0,
        }
    }

    pub(crate) fn floats(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| self.float()).collect()
    }
}
