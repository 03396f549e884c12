//! A download in progress: a hidden directory beside the models that is gone when the download ends, however
//! it ends.
//!
//! Every such directory holds a file that its process keeps locked; the system releases the lock when the
//! process dies. So the next download can tell what a killed one left behind from what another one is working
//! in. One more lock, for the whole store, is held while such directories are looked at and made.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

use super::digest::{self, Digest};
use super::disk;
use crate::interrupt::{self, After};

/// Names of unfinished downloads start so.
const PREFIX: &str = ".partial-";
/// The locked file in each of them.
const LOCK: &str = "lock";
/// The store's own lock.
const STORE_LOCK: &str = ".lock";

/// A private directory for one download.
pub(super) struct Partial {
    // Dropped in this order: Ctrl-C is itself again, the lock opens, the directory goes.
    _interrupt: interrupt::Guard,
    _lock: File,
    directory: TempDir,
}

impl Partial {
    /// Makes one in `store`, which is made if need be, and removes what killed downloads left there.
    pub(super) fn new(store: &Path) -> anyhow::Result<Self> {
        let make = || -> io::Result<(TempDir, File)> {
            fs::create_dir_all(store)?;
            let store_lock = File::create(store.join(STORE_LOCK))?;
            // Where the file system has no locks, nothing stale is recognised either.
            let _ = store_lock.lock();
            remove_stale(store);
            let directory = tempfile::Builder::new().prefix(PREFIX).tempdir_in(store)?;
            let lock = File::create(directory.path().join(LOCK))?;
            let _ = lock.try_lock();
            Ok((directory, lock))
        };
        let (directory, lock) = make().map_err(|error| disk::explain(error, store))?;
        let path = directory.path().to_owned();
        let interrupt = interrupt::on_interrupt(move || {
            remove_busy(&path);
            After::End
        });
        Ok(Self { _interrupt: interrupt, _lock: lock, directory })
    }

    /// The directory; everything in it is temporary.
    pub(super) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Gives `file`, which lies in this directory, its final name in one step, and writes its digest beside
    /// it.
    pub(super) fn publish(self, file: &Path, destination: &Path, digest: Digest) -> anyhow::Result<()> {
        self.keep(file, destination, digest)
    }

    /// The same, where more files are to come.
    pub(super) fn keep(&self, file: &Path, destination: &Path, digest: Digest) -> anyhow::Result<()> {
        let publish = || -> io::Result<()> {
            let directory = destination.parent().unwrap_or(destination);
            fs::create_dir_all(directory)?;
            let line = self.path().join("digest");
            fs::write(&line, digest.line(destination))?;
            // The content reaches the disk before the name does: a name stands for a whole file, power cut or
            // not.
            File::options().write(true).open(file)?.sync_all()?;
            fs::rename(file, destination)?;
            fs::rename(line, digest::path_beside(destination))?;
            sync_directory(directory)
        };
        publish().map_err(|error| disk::explain(error, destination))
    }
}

impl Partial {
    /// Gives `folder`, which lies in this directory, its final name in one step. What was there before goes.
    pub(super) fn publish_folder(self, folder: &Path, destination: &Path) -> anyhow::Result<()> {
        let publish = || -> io::Result<()> {
            for entry in fs::read_dir(folder)? {
                File::options().write(true).open(entry?.path())?.sync_all()?;
            }
            sync_directory(folder)?;
            let directory = destination.parent().unwrap_or(destination);
            fs::create_dir_all(directory)?;
            if destination.exists() {
                fs::rename(destination, self.path().join("before"))?;
            }
            fs::rename(folder, destination)?;
            sync_directory(directory)
        };
        publish().map_err(|error| disk::explain(error, destination))
    }
}

/// Makes renames in `directory` durable, on the systems that can.
fn sync_directory(directory: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(directory)?.sync_all() } else { Ok(()) }
}

/// Removes the directories of downloads that are no longer running. What cannot be removed is left for next
/// time.
fn remove_stale(store: &Path) {
    for path in partials(store) {
        let stale = match File::options().write(true).open(path.join(LOCK)) {
            Ok(lock) => !matches!(lock.try_lock(), Err(TryLockError::WouldBlock | TryLockError::Error(_))),
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        };
        if stale {
            tracing::info!(path = %path.display(), "removing an unfinished download");
            let _ = fs::remove_dir_all(path);
        }
    }
}

fn partials(store: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(store).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(PREFIX)).map(|entry| entry.path())
}

/// Removes a directory that another thread or process may still be filling.
fn remove_busy(path: &Path) {
    for _ in 0..20 {
        match fs::remove_dir_all(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => thread::sleep(Duration::from_millis(20)),
            _ => break,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finished_file_has_its_name_and_digest_and_nothing_else_is_left() {
        let store = tempfile::tempdir().unwrap();
        let partial = Partial::new(store.path()).unwrap();
        let file = partial.path().join("download");
        fs::write(&file, "abc").unwrap();
        let digest = Digest::of_file(&file).unwrap();
        let destination = store.path().join("hf/a/b/c.gguf");
        partial.publish(&file, &destination, digest).unwrap();
        assert_eq!(fs::read(&destination).unwrap(), b"abc");
        assert_eq!(Digest::beside(&destination), Some(digest));
        assert_eq!(partials(store.path()).count(), 0);
    }

    #[test]
    fn what_a_killed_download_left_goes_and_what_a_running_one_uses_stays() {
        let store = tempfile::tempdir().unwrap();
        let running = Partial::new(store.path()).unwrap();
        for (name, locked) in [(".partial-killed", true), (".partial-killed-at-birth", false)] {
            fs::create_dir(store.path().join(name)).unwrap();
            if locked {
                File::create(store.path().join(name).join(LOCK)).unwrap();
            }
        }
        let second = Partial::new(store.path()).unwrap();
        let mut left: Vec<_> = partials(store.path()).collect();
        left.sort();
        let mut expected = [running.path().to_owned(), second.path().to_owned()];
        expected.sort();
        assert_eq!(left, expected);
        drop((running, second));
        assert_eq!(partials(store.path()).count(), 0);
    }
}
