//! Where namespaces and corpora lie on the disk: in one directory, for each namespace a file of drafts, its journal, and a folder
//! of corpora.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use tempfile::TempDir;

use super::corpora::{CorpusFolder, EXTENSION};
use super::error::{DraftStoreError, io_error};
use super::name::NamespaceName;

const JOURNAL: &str = ".journal";
const CORPORA: &str = "corpora";

/// A directory of drafts.
pub(super) struct Layout {
    root: PathBuf,
    /// Corpora that were sent lie here where there is no directory to stay in. Namespaces are in memory alone then.
    temporary: Option<TempDir>,
}

/// The files of a namespace.
pub(super) struct KeptNamespace {
    pub(super) stem: String,
    /// When it learned something last.
    modified: SystemTime,
}

impl Layout {
    /// The layout in `directory`, which is made if it is not there; in a temporary one without.
    pub(super) fn new(directory: Option<&Path>) -> Result<Self, DraftStoreError> {
        if let Some(directory) = directory {
            fs::create_dir_all(directory).map_err(io_error(directory))?;
            return Ok(Self { root: directory.to_owned(), temporary: None });
        }
        let temporary = tempfile::tempdir().map_err(io_error(&std::env::temp_dir()))?;
        Ok(Self { root: temporary.path().to_owned(), temporary: Some(temporary) })
    }

    /// The file of a namespace, if namespaces are kept.
    pub(super) fn drafts(&self, name: &NamespaceName) -> Option<PathBuf> {
        self.temporary.is_none().then(|| self.drafts_of(&name.stem()))
    }

    /// The folder of a namespace's corpora.
    pub(super) fn corpora(&self, name: &NamespaceName) -> CorpusFolder {
        CorpusFolder::new(self.root.join(format!("{}.{CORPORA}", name.stem())))
    }

    /// The folders of all corpora of a tenant.
    pub(super) fn all_corpora(&self, tenant: &str) -> Result<Vec<CorpusFolder>, DraftStoreError> {
        let mut folders = Vec::new();
        self.visit(|file_name, entry| {
            let stem = file_name.strip_suffix(CORPORA).and_then(|name| name.strip_suffix('.'));
            if stem.is_some_and(|stem| is_of(stem, tenant)) {
                folders.push(CorpusFolder::new(entry.path()));
            }
            Ok(())
        })?;
        Ok(folders)
    }

    /// The namespaces of a tenant that are kept, the one first that learned nothing for the longest time.
    pub(super) fn kept(&self, tenant: &str) -> Result<Vec<KeptNamespace>, DraftStoreError> {
        let mut modified = BTreeMap::new();
        self.visit(|file_name, entry| {
            let file = file_name.strip_suffix(JOURNAL).unwrap_or(file_name);
            let stem = file.strip_suffix(EXTENSION).and_then(|name| name.strip_suffix('.'));
            if let Some(stem) = stem.filter(|stem| is_of(stem, tenant)) {
                let this = entry.metadata()?.modified()?;
                let latest = modified.entry(stem.to_owned()).or_insert(this);
                *latest = this.max(*latest);
            }
            Ok(())
        })?;
        let mut kept: Vec<_> =
            modified.into_iter().map(|(stem, modified)| KeptNamespace { stem, modified }).collect();
        kept.sort_by_key(|kept| kept.modified);
        Ok(kept)
    }

    /// Bytes of a namespace's file and journal; `None` if there is neither.
    pub(super) fn kept_bytes(&self, name: &NamespaceName) -> Option<u64> {
        let file = self.drafts(name)?;
        let bytes = [journal_of(&file), file].map(|path| fs::metadata(path).ok().map(|of| of.len()));
        bytes.iter().any(Option::is_some).then(|| bytes.into_iter().flatten().sum())
    }

    /// Removes the file and the journal of a namespace.
    pub(super) fn forget(&self, kept: &KeptNamespace) -> Result<(), DraftStoreError> {
        let file = self.drafts_of(&kept.stem);
        [journal_of(&file), file].iter().try_for_each(|path| match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error(path)(error)),
            _ => Ok(()),
        })
    }

    fn drafts_of(&self, stem: &str) -> PathBuf {
        self.root.join(format!("{stem}.{EXTENSION}"))
    }

    /// Visits all entries whose names are text, as those of all our files are.
    fn visit(
        &self,
        mut visit: impl FnMut(&str, &fs::DirEntry) -> io::Result<()>,
    ) -> Result<(), DraftStoreError> {
        let entries = fs::read_dir(&self.root).map_err(io_error(&self.root))?;
        for entry in entries {
            let visited = entry.and_then(|entry| match entry.file_name().to_str() {
                Some(name) => visit(name, &entry),
                None => Ok(()),
            });
            match visited {
                // Another thread has removed it meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                visited => visited.map_err(io_error(&self.root))?,
            }
        }
        Ok(())
    }
}

fn journal_of(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(JOURNAL);
    name.into()
}

/// Whether the files that begin with `stem` are of a namespace of this tenant.
fn is_of(stem: &str, tenant: &str) -> bool {
    stem.strip_prefix(tenant).is_some_and(|rest| rest.is_empty() || rest.starts_with('+'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_told_apart_by_tenant_whatever_it_is_called() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::new(Some(directory.path())).unwrap();
        for tenant in ["a", "ab", "a.drafts", "a.corpora", "a.drafts.journal", ".."] {
            for within in [None, Some("b")] {
                let name = NamespaceName::new("namespace", tenant, within).unwrap();
                let file = layout.drafts(&name).unwrap();
                fs::write(journal_of(&file), "12345").unwrap();
                assert_eq!(layout.kept_bytes(&name), Some(5));
                fs::write(file, "123").unwrap();
                assert_eq!(layout.kept_bytes(&name), Some(8));
            }
            assert_eq!(layout.kept(tenant).unwrap().len(), 2, "{tenant}");
        }
        for kept in layout.kept("a").unwrap() {
            layout.forget(&kept).unwrap();
        }
        assert_eq!(layout.kept("a").unwrap().len(), 0);
        assert_eq!(layout.kept("a.drafts.journal").unwrap().len(), 2);
        assert_eq!(layout.kept_bytes(&NamespaceName::new("namespace", "a", None).unwrap()), None);
    }
}
