//! What users write to name a model: a path, a name of the catalogue, or a file on the hub.

use std::path::{Path, PathBuf};

use anyhow::{bail, ensure};

use crate::catalogue::{self, Entry};

/// The prefix of models on the hub.
const HUB_PREFIX: &str = "hf:";

/// A model, as the user named it.
#[derive(Debug)]
pub(crate) enum Reference {
    /// A file, or the folder of a checkpoint, that exists.
    Path(PathBuf),
    /// A model of the catalogue.
    Catalogue(&'static Entry),
    /// A repository on the hub, or one file of it.
    Hub {
        /// `OWNER/REPO`, valid as a path.
        repository: String,
        /// Path of the file in the repository, valid as a path.
        file: Option<String>,
    },
}

impl Reference {
    /// Reads `text`: an existing file wins, then a name of the catalogue, then `hf:OWNER/REPO[/FILE.gguf]`.
    ///
    /// # Errors
    /// If it is none of these; the message offers what may have been meant.
    pub(crate) fn parse(text: &str) -> anyhow::Result<Self> {
        let path = Path::new(text);
        if path.is_file() || path.join("config.json").is_file() {
            return Ok(Self::Path(path.to_owned()));
        }
        if let Some(entry) = catalogue::find(text) {
            return Ok(Self::Catalogue(entry));
        }
        if let Some(rest) = text.strip_prefix(HUB_PREFIX) {
            return parse_hub(text, rest);
        }
        ensure!(
            !path.is_dir(),
            "{text} is a directory without a config.json, so no checkpoint; if there is a .gguf file in it, give its path"
        );
        ensure!(!is_gguf(text), "there is no file {text}");
        if let [owner, repository] = *text.split('/').collect::<Vec<_>>()
            && is_component(owner)
            && is_component(repository)
        {
            bail!("there is no file {text}; if you mean the repository on the model hub: {HUB_PREFIX}{text}");
        }
        let meant = catalogue::close_matches(text);
        let hint = match meant.as_slice() {
            [] => String::new(),
            names => format!("; did you mean {}?", names.join(" or ")),
        };
        bail!(
            "there is no model or file called {text:?}{hint}\n\
             `lookahead models` lists the names that are known. A model can also be the path of a .gguf \
             file, or hf:OWNER/REPO[/FILE.gguf] on the model hub"
        );
    }
}

/// Whether `name` is that of a GGUF file.
pub(super) fn is_gguf(name: &str) -> bool {
    name.len() > 5
        && name.is_char_boundary(name.len() - 5)
        && name[name.len() - 5..].eq_ignore_ascii_case(".gguf")
}

/// Whether every part of `path` can be a file name everywhere and stays below where it starts.
pub(super) fn is_safe_path(path: &str) -> bool {
    path.split('/').all(is_component)
}

fn is_component(part: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.+()[]=,@!~".contains(c);
    // A leading dot would hide a file, or leave the directory.
    !part.is_empty() && part.len() <= 200 && !part.starts_with('.') && part.chars().all(allowed)
}

fn parse_hub(text: &str, rest: &str) -> anyhow::Result<Reference> {
    let mut parts = rest.splitn(3, '/');
    let (owner, name, file) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""), parts.next());
    ensure!(
        is_component(owner) && is_component(name) && file.is_none_or(is_safe_path),
        "{text:?} does not name a model on the hub: write hf:OWNER/REPO or hf:OWNER/REPO/FILE.gguf"
    );
    ensure!(
        file.is_none_or(is_gguf),
        "{text:?}: only GGUF files can be used, so the file name must end with .gguf"
    );
    Ok(Reference::Hub { repository: format!("{owner}/{name}"), file: file.map(str::to_owned) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        Reference::parse(text).unwrap_err().to_string()
    }

    #[test]
    fn an_existing_file_wins_over_a_name() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let text = file.path().to_str().unwrap();
        assert!(matches!(Reference::parse(text), Ok(Reference::Path(path)) if path == file.path()));
        assert!(matches!(Reference::parse("smollm2-135m"), Ok(Reference::Catalogue(_))));
    }

    #[test]
    fn hub_references_name_a_repository_and_perhaps_a_file() {
        for (text, wanted_repository, wanted_file) in [
            ("hf:a/b", "a/b", None),
            ("hf:Qwen/Q2.5-GGUF/x-q4_k_m.gguf", "Qwen/Q2.5-GGUF", Some("x-q4_k_m.gguf")),
            ("hf:a/b/sub/x.GGUF", "a/b", Some("sub/x.GGUF")),
        ] {
            let Ok(Reference::Hub { repository, file }) = Reference::parse(text) else { panic!("{text}") };
            assert_eq!((repository.as_str(), file.as_deref()), (wanted_repository, wanted_file));
        }
    }

    #[test]
    fn hub_references_cannot_leave_the_store() {
        for text in [
            "hf:",
            "hf:a",
            "hf:a/",
            "hf:/b",
            "hf:../b",
            "hf:a/..",
            "hf:a/b/../../../x.gguf",
            "hf:a/b/",
            "hf:a/b c",
        ] {
            assert!(error(text).contains("hf:OWNER/REPO"), "{text}");
        }
        assert!(error("hf:a/b/c.bin").contains("must end with .gguf"));
    }

    #[test]
    fn an_unknown_name_gets_advice() {
        assert!(error("smollm2-135").contains("did you mean smollm2-135m"));
        assert!(error("frobnicate").contains("`lookahead models`"));
        assert!(error("no/such.gguf").contains("there is no file no/such.gguf"));
        assert!(error("Qwen/Qwen2.5-0.5B-Instruct-GGUF").contains("hf:Qwen/Qwen2.5-0.5B-Instruct-GGUF"));
        assert!(error("/").contains("is a directory"));
    }
}
