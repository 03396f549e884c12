//! The trie file: the shared forest, written and read as a stream.
//!
//! All numbers are little-endian.
//!
//! | bytes | content |
//! | --- | --- |
//! | 6 | "LKTRIE" |
//! | 2 | format version, 1 |
//! | 8 | fingerprint of the tokenizer, given by the caller |
//! | 4 | branch length |
//! | 8 | tokens inserted |
//! | 4 | number of first tokens: children of the root |
//! | 12 each | nodes in pre-order, the most recently seen of siblings last: token, frequency, number of children (4 bytes each) |
//! | 8 | FNV-1a (64 bits) of everything before |
//!
//! Reading trusts nothing: memory grows with the bytes that were read and not with the counts that they claim, and
//! depth is bounded.

use std::io::{self, BufReader, BufWriter, Read, Write};

use crate::forest::{Forest, ROOT};
use crate::{MAX_BRANCH_LENGTH, MIN_BRANCH_LENGTH, TrieError};

const MAGIC: &[u8; 6] = b"LKTRIE";
const VERSION: u16 = 1;

/// FNV-1a: every changed byte changes it, which is what a checksum against damage needs.
struct Checksum(u64);

impl Checksum {
    const fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    fn update(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}

struct Output<W: Write> {
    writer: BufWriter<W>,
    checksum: Checksum,
}

impl<W: Write> Output<W> {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.checksum.update(bytes);
        self.writer.write_all(bytes)
    }
}

pub(crate) fn save(forest: &Forest, tokenizer: u64, writer: impl Write) -> Result<(), TrieError> {
    let mut output = Output { writer: BufWriter::new(writer), checksum: Checksum::new() };
    output.put(MAGIC)?;
    output.put(&VERSION.to_le_bytes())?;
    output.put(&tokenizer.to_le_bytes())?;
    output.put(&(forest.branch_length() as u32).to_le_bytes())?;
    output.put(&forest.tokens_inserted().to_le_bytes())?;
    // The siblings still to write, the next one last; those of all levels of the branch one after another.
    let mut left: Vec<u32> = forest.child_indices(ROOT).collect();
    output.put(&(left.len() as u32).to_le_bytes())?;
    while let Some(index) = left.pop() {
        let node = forest.node(index);
        let siblings = left.len();
        left.extend(forest.child_indices(index));
        output.put(&node.token.to_le_bytes())?;
        output.put(&node.frequency.to_le_bytes())?;
        output.put(&((left.len() - siblings) as u32).to_le_bytes())?;
    }
    let checksum = output.checksum.0;
    output.put(&checksum.to_le_bytes())?;
    output.writer.flush()?;
    Ok(())
}

struct Input<R: Read> {
    reader: BufReader<R>,
    checksum: Checksum,
    /// Nodes read so far.
    nodes: u64,
}

impl<R: Read> Input<R> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], TrieError> {
        let mut bytes = [0; N];
        self.reader.read_exact(&mut bytes).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => TrieError::Truncated { nodes: self.nodes },
            _ => TrieError::Io(error),
        })?;
        self.checksum.update(&bytes);
        Ok(bytes)
    }

    fn take_u32(&mut self) -> Result<u32, TrieError> {
        self.take().map(u32::from_le_bytes)
    }

    fn take_u64(&mut self) -> Result<u64, TrieError> {
        self.take().map(u64::from_le_bytes)
    }

    fn corrupt(&self, reason: &'static str) -> TrieError {
        TrieError::Corrupt { node: self.nodes, reason }
    }
}

/// A node whose children are being read.
struct Level {
    /// `None` below the branch length wanted: the nodes there are read and dropped.
    node: Option<u32>,
    frequency: u32,
    children_left: u32,
}

/// Reads into `forest`, which is empty.
pub(crate) fn load(mut forest: Forest, tokenizer: u64, reader: impl Read) -> Result<Forest, TrieError> {
    let mut input = Input { reader: BufReader::new(reader), checksum: Checksum::new(), nodes: 0 };
    if input.take::<6>()? != *MAGIC {
        return Err(TrieError::NotATrieFile);
    }
    let version = input.take().map(u16::from_le_bytes)?;
    if version != VERSION {
        return Err(TrieError::Version { found: version, supported: VERSION });
    }
    let found = input.take_u64()?;
    if found != tokenizer {
        return Err(TrieError::Fingerprint { found, expected: tokenizer });
    }
    let depth_in_file = input.take_u32()? as usize;
    if !(MIN_BRANCH_LENGTH..=MAX_BRANCH_LENGTH).contains(&depth_in_file) {
        return Err(input.corrupt("its branch length is out of range"));
    }
    let tokens_inserted = input.take_u64()?;
    let children_left = input.take_u32()?;

    let mut levels = vec![Level { node: Some(ROOT), frequency: u32::MAX, children_left }];
    while let Some(depth) = levels.len().checked_sub(1) {
        let level = &mut levels[depth];
        if level.children_left == 0 {
            levels.pop();
            continue;
        }
        level.children_left -= 1;
        let (token, frequency, children) = (input.take_u32()?, input.take_u32()?, input.take_u32()?);
        if frequency == 0 || frequency > level.frequency {
            return Err(input.corrupt("its frequency is 0 or above its parent's"));
        }
        if children > 0 && depth + 1 >= depth_in_file {
            return Err(input.corrupt("its branch is longer than the branch length"));
        }
        let node = match level.node.filter(|_| depth < forest.branch_length()) {
            Some(parent) => Some(
                forest
                    .load_child(parent, token, frequency)
                    .ok_or(TrieError::Corrupt { node: input.nodes, reason: "too many nodes" })?,
            ),
            None => None,
        };
        levels.push(Level { node, frequency, children_left: children });
        input.nodes += 1;
    }

    let computed = input.checksum.0;
    let stored = input.take_u64()?;
    if stored != computed {
        return Err(TrieError::Checksum { stored, computed });
    }
    if !forest.finish_loading(tokens_inserted) {
        return Err(input.corrupt("two siblings carry the same token"));
    }
    Ok(forest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MIN_BYTES;
    use crate::forest::OpenBranches;

    const TOKENIZER: u64 = 0x0123_4567_89ab_cdef;

    fn forest_of(branch_length: usize, texts: &[&[u32]]) -> Forest {
        let mut forest = Forest::new(branch_length, 64 << 20);
        for text in texts {
            forest.extend(&mut OpenBranches::default(), text);
        }
        forest
    }

    fn bytes_of(forest: &Forest) -> Vec<u8> {
        let mut bytes = Vec::new();
        save(forest, TOKENIZER, &mut bytes).unwrap();
        bytes
    }

    fn load_into(branch_length: usize, max_bytes: usize, bytes: &[u8]) -> Result<Forest, TrieError> {
        load(Forest::new(branch_length, max_bytes), TOKENIZER, bytes)
    }

    /// A file with a right checksum around the given content.
    fn file(branch_length: u32, first_tokens: u32, nodes: &[[u32; 3]]) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend(TOKENIZER.to_le_bytes());
        bytes.extend(branch_length.to_le_bytes());
        bytes.extend(7u64.to_le_bytes());
        bytes.extend(first_tokens.to_le_bytes());
        bytes.extend(nodes.as_flattened().iter().flat_map(|number| number.to_le_bytes()));
        let mut checksum = Checksum::new();
        checksum.update(&bytes);
        bytes.extend(checksum.0.to_le_bytes());
        bytes
    }

    #[test]
    fn a_loaded_forest_equals_the_saved_one_and_grows_like_it() {
        let wide: Vec<u32> = (0..200).flat_map(|token| [7, token]).collect();
        let mut forest = forest_of(4, &[&[1, 2, 3, 1, 2, 4, 1, 2, 3], &wide]);
        let bytes = bytes_of(&forest);
        let mut loaded = load_into(4, 1 << 20, &bytes).unwrap();
        loaded.check_invariants();
        assert_eq!(bytes_of(&loaded), bytes);
        for forest in [&mut forest, &mut loaded] {
            forest.extend(&mut OpenBranches::default(), &[7, 150, 7, 1000, 2, 3]);
        }
        assert_eq!(bytes_of(&loaded), bytes_of(&forest));
    }

    #[test]
    fn any_changed_byte_is_an_error() {
        let bytes = bytes_of(&forest_of(4, &[&[1, 2, 3, 1, 2, 4, 1, 2, 3]]));
        for position in 0..bytes.len() {
            for change in [0x01, 0x80, 0xff] {
                let mut damaged = bytes.clone();
                damaged[position] ^= change;
                assert!(load_into(4, 1 << 20, &damaged).is_err(), "byte {position} xor {change:#x}");
            }
        }
    }

    #[test]
    fn any_truncation_is_an_error() {
        let bytes = bytes_of(&forest_of(4, &[&[1, 2, 3, 1, 2, 4]]));
        for length in 0..bytes.len() {
            let error = load_into(4, 1 << 20, &bytes[..length]).err();
            assert!(matches!(error, Some(TrieError::Truncated { .. })), "length {length}: {error:?}");
        }
    }

    #[test]
    fn files_of_something_else_are_told_apart() {
        let error = load_into(4, 1 << 20, b"GGUF\x03\0\0\0 and more").err();
        assert!(matches!(error, Some(TrieError::NotATrieFile)), "{error:?}");

        let mut newer = file(4, 0, &[]);
        newer[6] = 2;
        let error = load_into(4, 1 << 20, &newer).err();
        assert!(matches!(error, Some(TrieError::Version { found: 2, supported: 1 })), "{error:?}");

        let error = load(Forest::new(4, 1 << 20), 99, &file(4, 0, &[])[..]).err();
        assert!(
            matches!(error, Some(TrieError::Fingerprint { found: TOKENIZER, expected: 99 })),
            "{error:?}"
        );
    }

    #[test]
    fn contradictions_behind_a_right_checksum_are_errors() {
        let cases: [(&str, Vec<u8>); 7] = [
            ("branch length 0", file(0, 0, &[])),
            ("branch length 256", file(256, 0, &[])),
            ("frequency 0", file(4, 1, &[[1, 0, 0]])),
            ("a child more frequent than its parent", file(4, 1, &[[1, 2, 1], [2, 3, 0]])),
            ("a branch too long", file(2, 1, &[[1, 1, 1], [2, 1, 1], [3, 1, 0]])),
            ("equal siblings", file(4, 1, &[[1, 4, 2], [2, 1, 0], [2, 1, 0]])),
            ("equal first tokens", file(4, 2, &[[1, 4, 0], [1, 4, 0]])),
        ];
        for (name, bytes) in cases {
            let error = load_into(4, 1 << 20, &bytes).err();
            assert!(matches!(error, Some(TrieError::Corrupt { .. })), "{name}: {error:?}");
        }
    }

    #[test]
    fn counts_that_promise_more_than_there_is_end_in_truncation() {
        for bytes in [file(4, u32::MAX, &[[1, 1, 0]]), file(4, 1, &[[1, 1, u32::MAX]])] {
            let error = load_into(4, 1 << 20, &bytes).err();
            assert!(matches!(error, Some(TrieError::Truncated { .. })), "{error:?}");
        }
    }

    #[test]
    fn loading_cuts_branches_to_the_length_wanted() {
        let texts: [&[u32]; 2] = [&[1, 2, 3, 4, 5, 6], &[1, 2, 3, 9]];
        let loaded = load_into(3, 1 << 20, &bytes_of(&forest_of(6, &texts))).unwrap();
        loaded.check_invariants();
        assert_eq!(bytes_of(&loaded), bytes_of(&forest_of(3, &texts)));
    }

    #[test]
    fn loading_prunes_to_a_smaller_bound() {
        let text: Vec<u32> = (0..20_000).collect();
        let mut frequent = text.clone();
        frequent.extend([5, 6, 7, 5, 6, 7, 5, 6, 7]);
        let bytes = bytes_of(&forest_of(4, &[&frequent]));
        assert!(bytes.len() > MIN_BYTES);
        let loaded = load_into(4, MIN_BYTES, &bytes).unwrap();
        loaded.check_invariants();
        assert!(loaded.bytes() <= MIN_BYTES);
        assert!(loaded.find(&[5, 6, 7]).is_some());
    }
}
