//! The bytes of a file, in a place that no other program can change.
//!
//! A file that is mapped where it lies can vanish under its readers: another program cuts it short in place, a network file
//! system loses it. Who then reads a page that is gone is ended by the system (SIGBUS). So the bytes are taken first: a small
//! file into memory, a larger one into a file without a name in the temporary directory (`TMPDIR`), which is mapped. What is
//! mapped takes memory as it is read, and the system takes that back when it needs the room; the copy itself goes with its
//! last reader, whatever ends it.

use std::fs::File;
use std::io::{self, Read as _};
use std::ops::Deref;

use memmap2::{Mmap, MmapMut};

use crate::error::FileProblem;

/// A file of up to so many bytes is read into memory, as a namespace takes that much anyway.
const MAX_READ_BYTES: u64 = 1 << 20;

/// Bytes that stay as they are.
pub(super) struct OwnBytes(Mmap);

impl OwnBytes {
    /// What is left of `file`, `most` bytes at most.
    pub(super) fn of(file: &mut File, most: u64) -> Result<Self, FileProblem> {
        let left = file.metadata()?.len().saturating_sub(io::Seek::stream_position(file)?).min(most);
        if left > MAX_READ_BYTES { Self::copy(file, left) } else { Ok(Self::read(file, left)?) }
    }

    fn read(file: &mut File, bytes: u64) -> io::Result<Self> {
        let mut content = Vec::with_capacity(bytes as usize);
        file.take(bytes).read_to_end(&mut content)?;
        let mut map = MmapMut::map_anon(content.len().max(1))?;
        map[..content.len()].copy_from_slice(&content);
        map.make_read_only().map(Self)
    }

    #[expect(unsafe_code, reason = "mapping")]
    fn copy(file: &mut File, bytes: u64) -> Result<Self, FileProblem> {
        let directory = std::env::temp_dir();
        let copied = (|| {
            let mut copy = tempfile::tempfile_in(&directory)?;
            io::copy(&mut file.take(bytes), &mut copy)?;
            // SAFETY: the file was made here and has no name, so that no other program opens it. This one writes it no more,
            // and closes it here: the map is all that is left of it. Its bytes stay, and so does its length.
            unsafe { Mmap::map(&copy) }
        })();
        copied.map(Self).map_err(|source| FileProblem::Copy { bytes, directory, source })
    }
}

impl Deref for OwnBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Seek as _, SeekFrom, Write as _};

    use super::*;

    #[test]
    fn bytes_are_those_of_the_file_from_where_it_stands_however_many() {
        for len in [1, 5000, MAX_READ_BYTES as usize + 3, MAX_READ_BYTES as usize + 4, 3 << 20] {
            let content: Vec<u8> = (0..len).map(|index| ((index * 31) >> 3) as u8).collect();
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&content).unwrap();
            for start in [0, len / 3] {
                file.seek(SeekFrom::Start(start as u64)).unwrap();
                assert!(*OwnBytes::of(&mut file, u64::MAX).unwrap() == content[start..]);
                file.seek(SeekFrom::Start(start as u64)).unwrap();
                let most = (len - start).div_ceil(2);
                let first = OwnBytes::of(&mut file, most as u64).unwrap();
                file.set_len(0).unwrap();
                assert!(*first == content[start..start + most]);
                file.seek(SeekFrom::Start(0)).unwrap();
                file.write_all(&content).unwrap();
            }
        }
    }
}
