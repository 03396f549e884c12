//! The list of models: all that the catalogue knows, and all that is here.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::hub::is_later_part;
use super::model_store::ModelStore;
use super::reference::is_gguf;
use super::source::{CHECKPOINT, Source};
use crate::catalogue::{self, Entry};
use crate::loaded_model::weight_file_bytes;

/// One model of the list.
#[derive(Debug)]
pub(crate) struct Listed {
    /// What the catalogue says about it, if it is in it.
    pub(crate) entry: Option<&'static Entry>,
    /// Where it comes from, as far as that is known.
    pub(crate) source: Option<Source>,
    /// Where it lies, if it is here.
    pub(crate) path: Option<PathBuf>,
    /// Size of the file, if it is here or pinned.
    pub(crate) size_bytes: Option<u64>,
}

impl ModelStore {
    /// The models of the catalogue, in its order, then whatever else is here, by path. Unfinished downloads
    /// are not.
    pub(crate) fn list(&self) -> Vec<Listed> {
        let mut others = BTreeSet::new();
        collect(self.directory(), &mut others);
        let known = catalogue::ENTRIES.iter().map(|entry| {
            let path = self.path_of(&entry.source);
            let path = others.remove(&path).then_some(path);
            let size_bytes = path.as_deref().and_then(size_of).or(entry.size_bytes);
            Listed { entry: Some(entry), source: Some(entry.source.clone()), path, size_bytes }
        });
        let mut list: Vec<Listed> = known.collect();
        list.extend(others.into_iter().map(|path| Listed {
            entry: None,
            source: self.hub_source(&path),
            size_bytes: size_of(&path),
            path: Some(path),
        }));
        list
    }

    /// The file on the hub that `path` was fetched from, by its place in the store.
    fn hub_source(&self, path: &Path) -> Option<Source> {
        let relative = path.strip_prefix(self.directory().join("hf")).ok()?;
        let parts: Option<Vec<&str>> = relative.iter().map(|part| part.to_str()).collect();
        match parts?.as_slice() {
            [owner, name, CHECKPOINT] => {
                Some(Source::Checkpoint { repository: format!("{owner}/{name}").into() })
            }
            [owner, name, file @ ..] if !file.is_empty() => Some(Source::Hub {
                repository: format!("{owner}/{name}").into(),
                file: file.join("/").into(),
            }),
            _ => None,
        }
    }
}

fn size_of(path: &Path) -> Option<u64> {
    weight_file_bytes(path).ok()
}

/// Adds the `.gguf` files, later parts left out, and the folders with checkpoints below `directory`, hidden directories and links to directories left out.
fn collect(directory: &Path, files: &mut BTreeSet<PathBuf>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let path = entry.path();
        if name.starts_with('.') {
            continue;
        }
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            if path.join("config.json").is_file() {
                files.insert(path);
            } else {
                collect(&path, files);
            }
        } else if is_gguf(&name) && path.is_file() && !is_later_part(&path) {
            files.insert(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_is_here_is_listed_once_and_nothing_unfinished() {
        let directory = tempfile::tempdir().unwrap();
        let store = ModelStore::at(directory.path().to_owned());
        let pulled = store.path_of(&catalogue::ENTRIES[0].source);
        let from_hub = directory.path().join("hf/a/b/sub/c.gguf");
        let by_hand = directory.path().join("mine.gguf");
        let unfinished = directory.path().join(".partial-x/model.gguf");
        let other = directory.path().join("notes.txt");
        for path in [&pulled, &from_hub, &by_hand, &unfinished, &other] {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "GGUF").unwrap();
        }
        let list = store.list();
        assert_eq!(list.len(), catalogue::ENTRIES.len() + 2);
        let here: Vec<_> = list.iter().filter_map(|model| model.path.clone()).collect();
        assert_eq!(here, [pulled, from_hub, by_hand]);
        assert_eq!(list[list.len() - 2].source.as_ref().unwrap().to_string(), "hf:a/b/sub/c.gguf");
        assert!(list[list.len() - 1].source.is_none());
    }

    #[test]
    fn a_store_that_does_not_exist_yet_is_empty() {
        let list = ModelStore::at("/no/such/store".into()).list();
        assert_eq!(list.len(), catalogue::ENTRIES.len());
        assert!(list.iter().all(|model| model.path.is_none()));
    }
}
