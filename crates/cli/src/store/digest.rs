//! SHA-256 digests of model files, computed, pinned and written beside the file.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::Context as _;
use sha2::{Digest as _, Sha256};

use crate::progress;

/// Bytes that are read at a time: large enough that system calls do not count.
pub(super) const CHUNK_BYTES: usize = 1 << 18;

/// A SHA-256 digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Digest([u8; 32]);

/// Text that is no digest.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NotADigest;

impl Digest {
    /// The digest of what `hasher` has seen.
    pub(super) fn of(hasher: Sha256) -> Self {
        Self(hasher.finalize().into())
    }

    /// Reads the file at `path` and returns its digest.
    pub(super) fn of_file(path: &Path) -> anyhow::Result<Self> {
        let hash = || -> io::Result<Self> {
            let mut file = File::open(path)?;
            let bar = progress::bytes("Checking", file.metadata()?.len());
            let mut hasher = Sha256::new();
            let mut chunk = vec![0; CHUNK_BYTES];
            loop {
                let read = file.read(&mut chunk)?;
                if read == 0 {
                    break;
                }
                hasher.update(&chunk[..read]);
                bar.inc(read as u64);
            }
            bar.finish_and_clear();
            Ok(Self::of(hasher))
        };
        hash().with_context(|| format!("cannot read {}", path.display()))
    }

    /// The digest that was written beside `file` when it was fetched, if it was.
    pub(super) fn beside(file: &Path) -> Option<Self> {
        fs::read_to_string(path_beside(file)).ok()?.split_whitespace().next()?.parse().ok()
    }

    /// The line that `sha256sum` writes and checks.
    pub(super) fn line(self, file: &Path) -> String {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        format!("{self}  {name}\n")
    }
}

/// Where the digest of `file` is written.
pub(super) fn path_beside(file: &Path) -> PathBuf {
    let mut path = file.as_os_str().to_owned();
    path.push(".sha256");
    path.into()
}

impl FromStr for Digest {
    type Err = NotADigest;

    fn from_str(text: &str) -> Result<Self, NotADigest> {
        if text.len() != 64 || !text.is_ascii() {
            return Err(NotADigest);
        }
        let mut bytes = [0; 32];
        for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let digit = |digit: u8| char::from(digit).to_digit(16).ok_or(NotADigest);
            *byte = (digit(digits[0])? << 4 | digit(digits[1])?) as u8;
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Display for NotADigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a SHA-256 digest has 64 hexadecimal digits")
    }
}

impl std::error::Error for NotADigest {}

#[cfg(test)]
mod tests {
    use super::*;

    /// The digest of "abc", from FIPS 180-4's examples.
    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn a_file_has_the_published_digest_of_its_bytes() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("abc.gguf");
        fs::write(&file, "abc").unwrap();
        let digest = Digest::of_file(&file).unwrap();
        assert_eq!(digest.to_string(), ABC);
        assert_eq!(Digest::beside(&file), None);
        fs::write(path_beside(&file), digest.line(&file)).unwrap();
        assert_eq!(Digest::beside(&file), Some(digest));
    }

    #[test]
    fn what_is_no_digest_is_refused() {
        assert!(ABC.to_uppercase().parse::<Digest>().is_ok());
        for text in ["", "ba7816", &ABC.replace('b', "g"), &ABC.replace("ba", "é"), &format!("{ABC}00")] {
            assert_eq!(text.parse::<Digest>(), Err(NotADigest), "{text}");
        }
    }
}
