//! Memory for weights: large pieces that many matrices share.
//!
//! Products stream through weights, and small pages would stop the processor's prefetching every 4 KiB. The system has
//! huge pages, but only for regions larger than most matrices; so matrices lie one behind the other in large ones.

use std::ops::Deref;
use std::sync::Arc;

#[cfg(target_os = "linux")]
use memmap2::Advice;
use memmap2::{MmapMut, MmapRaw};

use crate::matrix_error::MatrixError;

/// What is mapped at once. Pages are taken from the system only when they are written; a sanitizer keeps books of all of it.
const PIECE_BYTES: usize = if cfg!(sanitizer) { 1 << 20 } else { 256 << 20 };

/// Where a buffer begins: at a cache line.
const ALIGNMENT: usize = 64;

/// Hands out memory for the matrices of a model, piece by piece. It is given back when the last of them is dropped.
#[derive(Debug, Default)]
pub struct WeightArena {
    piece: Option<Arc<MmapRaw>>,
    used: usize,
}

impl WeightArena {
    /// An arena without memory yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// A buffer of `len` zeros.
    pub(crate) fn allocate(&mut self, len: usize) -> Result<Buffer, MatrixError> {
        let start = self.used.next_multiple_of(ALIGNMENT);
        let piece = match &self.piece {
            Some(piece) if start <= piece.len() && len <= piece.len() - start => Arc::clone(piece),
            _ => {
                let piece = map(len.max(PIECE_BYTES)).or_else(|_| map(len))?;
                self.used = 0;
                Arc::clone(self.piece.insert(Arc::new(piece)))
            }
        };
        let start = self.used.next_multiple_of(ALIGNMENT);
        self.used = start + len;
        let buffer = Buffer { piece, start, len };
        #[cfg(sanitizer)]
        sanitizer::allow(&buffer);
        Ok(buffer)
    }
}

fn map(len: usize) -> Result<MmapRaw, MatrixError> {
    // An empty mapping is an error to some systems.
    let memory = MmapMut::map_anon(len.max(1)).map_err(|_| MatrixError::OutOfMemory { bytes: len })?;
    #[cfg(target_os = "linux")]
    // A hint: without huge pages, it is only slower.
    let _ = memory.advise(Advice::HugePage);
    #[cfg(sanitizer)]
    sanitizer::forbid(&memory);
    Ok(memory.into())
}

/// AddressSanitizer (`.ci/sanitizer`) takes all of a mapping for good to read: it is told which parts are buffers.
#[cfg(sanitizer)]
mod sanitizer {
    use std::ffi::c_void;

    unsafe extern "C" {
        safe fn __asan_poison_memory_region(start: *const c_void, len: usize);
        safe fn __asan_unpoison_memory_region(start: *const c_void, len: usize);
    }

    pub(super) fn forbid(memory: &[u8]) {
        __asan_poison_memory_region(memory.as_ptr().cast(), memory.len());
    }

    pub(super) fn allow(buffer: &[u8]) {
        __asan_unpoison_memory_region(buffer.as_ptr().cast(), buffer.len());
    }
}

/// A part of an arena's memory, owned.
pub(crate) struct Buffer {
    piece: Arc<MmapRaw>,
    start: usize,
    len: usize,
}

impl Buffer {
    pub(crate) fn as_mut(&mut self) -> &mut [u8] {
        // SAFETY: the part lies within the mapping (`allocate`), which lives as long as `piece`. No other buffer has it,
        // as an arena hands out each part once, and this one is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.piece.as_mut_ptr().add(self.start), self.len) }
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: as in `as_mut`; only this buffer's owner writes to it, and it is borrowed.
        unsafe { std::slice::from_raw_parts(self.piece.as_ptr().add(self.start), self.len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(sanitizer)]
    #[test]
    fn the_sanitizer_knows_where_a_buffer_ends() {
        unsafe extern "C" {
            safe fn __asan_address_is_poisoned(address: *const u8) -> i32;
        }
        let mut arena = WeightArena::new();
        for len in [1, 64, 100] {
            let buffer = arena.allocate(len).unwrap();
            let is_forbidden = |at| __asan_address_is_poisoned(buffer.as_ptr().wrapping_add(at)) != 0;
            assert_eq!([0, len - 1, len].map(is_forbidden), [false, false, true], "{len}");
        }
    }

    #[test]
    fn buffers_are_zeros_at_cache_lines_and_do_not_overlap() {
        let mut arena = WeightArena::new();
        let mut buffers: Vec<Buffer> = [100, 1, 0, PIECE_BYTES - 100, 64, PIECE_BYTES + 1]
            .map(|len| arena.allocate(len).unwrap())
            .into();
        for buffer in &buffers {
            assert!(buffer.as_ptr().addr().is_multiple_of(ALIGNMENT));
        }
        for (i, buffer) in buffers.iter_mut().enumerate() {
            assert!(buffer.iter().take(100).all(|&byte| byte == 0));
            if let Some(first) = buffer.as_mut().first_mut() {
                *first = i as u8 + 1;
            }
            if let Some(last) = buffer.as_mut().last_mut() {
                *last = i as u8 + 1;
            }
        }
        drop(arena);
        for (i, buffer) in buffers.iter().enumerate() {
            let ends = [buffer.first(), buffer.last()];
            assert!(ends.into_iter().flatten().all(|&byte| byte == i as u8 + 1), "buffer {i}");
        }
    }
}
