//! Models from the model hub, through the `hf-hub` crate.
//!
//! `HF_ENDPOINT`, `HF_TOKEN` and `HF_HOME` (for a saved token) are honoured. The crate's own cache layout is
//! used inside a temporary directory only: the file moves on to our store, so nothing is stored twice.

use std::io;
use std::path::Path;

use anyhow::{Context as _, anyhow, ensure};
use hf_hub::api::sync::{Api, ApiBuilder, ApiError, ApiRepo};
use indicatif::ProgressBar;
use lookahead_model::gguf::part_paths;

use super::digest::Digest;
use super::disk;
use super::fetched::Fetched;
use super::reference::{is_gguf, is_safe_path};
use crate::progress;

const DEFAULT_ENDPOINT: &str = "https://huggingface.co";
/// How often a broken connection is taken up again where it broke.
const RETRIES: usize = 3;
/// What is chosen from a repository with several files: good quality for its size, then nearly lossless.
const PREFERRED: [&str; 2] = ["q4_k_m", "q8_0"];

/// What the name of a repository stands for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// A GGUF file.
    File(String),
    /// `config.json`, safetensors and what belongs to them.
    Checkpoint,
}

/// Files of a checkpoint besides its weights.
const CHECKPOINT_FILES: [&str; 7] = [
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "chat_template.jinja",
    "model.safetensors.index.json",
];

/// Whether a checkpoint that can be used is among the files of a repository.
fn is_checkpoint(files: &[String]) -> bool {
    files.iter().any(|name| name == "config.json") && files.iter().any(|name| is_weights(name))
}

fn is_weights(name: &str) -> bool {
    name.starts_with("model") && name.ends_with(".safetensors") && is_safe_path(name) && !name.contains('/')
}

fn is_checkpoint_file(name: &str) -> bool {
    CHECKPOINT_FILES.contains(&name) || is_weights(name)
}

/// One repository on the hub.
pub(super) struct Repository {
    api: Api,
    files: ApiRepo,
    endpoint: String,
    name: String,
}

impl Repository {
    /// The repository `name` (`OWNER/REPO`); files are downloaded below `directory`. No request is made yet.
    pub(super) fn new(name: &str, directory: &Path) -> anyhow::Result<Self> {
        let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let endpoint = variable("HF_ENDPOINT").unwrap_or_else(|| DEFAULT_ENDPOINT.to_owned());
        let endpoint = endpoint.trim_end_matches('/').to_owned();
        let mut builder = ApiBuilder::from_env()
            .with_endpoint(endpoint.clone())
            .with_cache_dir(directory.to_owned())
            .with_progress(false)
            .with_retries(RETRIES);
        if let Some(token) = variable("HF_TOKEN") {
            builder = builder.with_token(Some(token));
        }
        let api = builder.build().context("cannot set up the model hub's client")?;
        let files = api.model(name.to_owned());
        Ok(Self { api, files, endpoint, name: name.to_owned() })
    }

    /// Asks the hub for the repository's files and chooses what to use: one of its GGUF files, or if it has none its
    /// checkpoint.
    pub(super) fn choose(&self) -> anyhow::Result<Choice> {
        let all = self.all_files()?;
        let files: Vec<String> = all.iter().filter(|name| is_gguf(name)).cloned().collect();
        if files.is_empty() && is_checkpoint(&all) {
            return Ok(Choice::Checkpoint);
        }
        choose(&files)
            .map(|file| Choice::File(file.to_owned()))
            .map_err(|problem| anyhow!("hf:{}: {problem}{}", self.name, self.list(&files)))
    }

    /// The files of the repository's checkpoint.
    pub(super) fn checkpoint_files(&self) -> anyhow::Result<Vec<String>> {
        let all = self.all_files()?;
        ensure!(is_checkpoint(&all), "hf:{}: there is no checkpoint in this repository", self.name);
        Ok(all.into_iter().filter(|name| is_checkpoint_file(name)).collect())
    }

    /// The .gguf files of the repository.
    fn gguf_files(&self) -> anyhow::Result<Vec<String>> {
        Ok(self.all_files()?.into_iter().filter(|name| is_gguf(name)).collect())
    }

    fn all_files(&self) -> anyhow::Result<Vec<String>> {
        let info = self.files.info().map_err(|error| self.explain(error, None))?;
        Ok(info.siblings.into_iter().map(|file| file.rfilename).collect())
    }

    /// A line for each of `files`, as the user would name it.
    fn list(&self, files: &[String]) -> String {
        files.iter().flat_map(|file| ["\n  hf:", &self.name, "/", file]).collect()
    }

    /// Downloads `file` and checks it against the hub's digest.
    pub(super) fn fetch(&self, file: &str, directory: &Path) -> anyhow::Result<Fetched> {
        let explain = |error| self.explain(error, Some(file));
        let metadata = self.api.metadata(&self.files.url(file)).map_err(explain)?;
        // Both become file names.
        ensure!(
            is_safe_path(metadata.etag()) && is_safe_path(metadata.commit_hash()),
            "{} answers with an ETag or a commit that is none; is HF_ENDPOINT right?",
            self.endpoint
        );
        let size_bytes = metadata.size() as u64;
        disk::require_space(directory, size_bytes)?;
        let bar = progress::bytes("Downloading", size_bytes);
        let downloaded = self.files.download_with_progress(file, Bar(bar.clone())).map_err(explain)?;
        bar.finish_and_clear();
        // The crate returns a link to the file proper, except where links are not to be had.
        let downloaded =
            downloaded.canonicalize().with_context(|| format!("cannot read {}", downloaded.display()))?;
        let received_bytes = downloaded.metadata().map_or(0, |metadata| metadata.len());
        ensure!(
            received_bytes == size_bytes,
            "{received_bytes} bytes of {size_bytes} arrived; nothing was kept, try again"
        );
        let sha256 = Digest::of_file(&downloaded)?;
        // The ETag of a large file is its SHA-256.
        if let Ok(expected) = metadata.etag().parse::<Digest>() {
            ensure!(
                sha256 == expected,
                "the file was damaged on its way: its SHA-256 is {sha256}, and {expected} on the hub\n\
                 Nothing was kept; try again"
            );
        } else if CHECKPOINT_FILES.contains(&file) {
            tracing::debug!("the hub tells no SHA-256 of {file}, as it is small");
        } else {
            tracing::warn!("the hub tells no SHA-256 of {file}: only its size was checked");
        }
        Ok(Fetched { file: downloaded, sha256 })
    }

    /// Says what `error` means for the user who asked for this repository, or for `file` in it.
    fn explain(&self, error: ApiError, file: Option<&str>) -> anyhow::Error {
        let Self { endpoint, name, .. } = self;
        match error {
            ApiError::TooManyRetries(inner) => self.explain(*inner, file),
            ApiError::RequestError(error) => match *error {
                ureq::Error::StatusCode(status) => self.explain_status(status, file),
                error => anyhow::Error::new(error).context(format!(
                    "cannot reach the model hub at {endpoint}\n\
                     Check the network, the proxy (HTTPS_PROXY) and HF_ENDPOINT. A model file that you got \
                     in another way can be used by its path: --model FILE.gguf"
                )),
            },
            ApiError::IoError(error) if disk::is_disk_error(&error) => {
                disk::explain(error, Path::new(file.unwrap_or(name)))
            }
            ApiError::IoError(error) => explain_break(error, endpoint),
            ApiError::MissingHeader(_) | ApiError::InvalidHeader(_) | ApiError::ParseIntError(_) => {
                anyhow::Error::new(error).context(format!(
                    "{endpoint} does not answer as the model hub does; is HF_ENDPOINT right?"
                ))
            }
            error => anyhow::Error::new(error).context(format!("the download from {endpoint} failed")),
        }
    }

    fn explain_status(&self, status: u16, file: Option<&str>) -> anyhow::Error {
        let Self { endpoint, name, .. } = self;
        match (status, file) {
            (404, Some(file)) => {
                // The repository may be right and the file misspelt: show what there is.
                let files = self.gguf_files().unwrap_or_default();
                let there = if files.is_empty() { "" } else { "\nIts GGUF files:" };
                let list = self.list(&files);
                anyhow!("there is no {file} in {name} on {endpoint} (HTTP 404){there}{list}")
            }
            (404, None) => {
                anyhow!("there is no repository {name} on {endpoint} (HTTP 404); check the spelling")
            }
            // The hub says 401 for private, gated and non-existing repositories alike.
            (401 | 403, _) => anyhow!(
                "{endpoint} does not give out {name} (HTTP {status})\n\
                 Check the spelling. If it is private or asks for its licence to be accepted, accept that at \
                 {endpoint}/{name} and set HF_TOKEN to an access token of yours"
            ),
            (429, _) => {
                anyhow!("{endpoint} limits the number of requests (HTTP 429); try later, or set HF_TOKEN")
            }
            _ => anyhow!("{endpoint} answers with HTTP status {status} for {name}; try again later"),
        }
    }
}

fn explain_break(error: io::Error, endpoint: &str) -> anyhow::Error {
    anyhow::Error::new(error).context(format!(
        "the connection to {endpoint} broke before the file was complete; nothing was kept, try again"
    ))
}

/// Chooses the file to use out of the `.gguf` files of a repository, or says why none is the right one.
fn choose(files: &[String]) -> Result<&str, &'static str> {
    let whole: Vec<&str> = files.iter().map(String::as_str).filter(|file| begins_model(file)).collect();
    for preferred in PREFERRED {
        let mut matching = whole.iter().filter(|file| file.to_lowercase().contains(preferred));
        match (matching.next(), matching.next()) {
            (Some(file), None) => return Ok(file),
            (Some(_), Some(_)) => {
                return Err("there are several files of the preferred kind; choose one of:");
            }
            _ => {}
        }
    }
    match whole.as_slice() {
        [file] => Ok(file),
        [] if files.is_empty() => Err("there is no GGUF file in this repository"),
        [] => Err("there is no model of texts in this repository:"),
        _ => Err("there are several files; choose one of:"),
    }
}

/// Whether a file is a model or the first part of one: neither a later part (`…-00002-of-00003.gguf`) nor the vision part of a model.
fn begins_model(file: &str) -> bool {
    let name = file.rsplit('/').next().unwrap_or(file).to_lowercase();
    is_safe_path(file) && !is_later_part(Path::new(file)) && !name.starts_with("mmproj")
}

/// Whether a file is a part of a model in several files, and not the first.
pub(super) fn is_later_part(file: &Path) -> bool {
    part_paths(file)[0] != file
}

/// The crate's progress on our bar. It starts anew when a broken connection is taken up again.
struct Bar(ProgressBar);

impl hf_hub::api::Progress for Bar {
    fn init(&mut self, size: usize, _file: &str) {
        self.0.set_length(size as u64);
        self.0.set_position(0);
    }

    fn update(&mut self, size: usize) {
        self.0.inc(size as u64);
    }

    fn finish(&mut self) {}
}

/// Fails for files that can be downloaded and never used by themselves.
pub(super) fn require_beginning(file: &str) -> anyhow::Result<()> {
    ensure!(
        !is_later_part(Path::new(file)),
        "{file} is a later part of a model in several files; name the first, {}",
        part_paths(Path::new(file))[0].display()
    );
    ensure!(begins_model(file), "{file} is what a model sees with, no model; choose another file");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_is_its_weights_and_what_belongs_to_them() {
        let all = [
            "README.md",
            "config.json",
            "model-00001-of-00002.safetensors",
            "onnx/model.safetensors",
            "x.bin",
        ];
        let all: Vec<String> = all.map(str::to_owned).to_vec();
        assert!(is_checkpoint(&all) && !is_checkpoint(&all[..2]) && !is_checkpoint(&all[2..]));
        let kept: Vec<_> = all.iter().filter(|name| is_checkpoint_file(name)).collect();
        assert_eq!(kept, ["config.json", "model-00001-of-00002.safetensors"]);
    }

    #[test]
    fn the_preferred_file_is_chosen_and_doubt_is_an_error() {
        let case = |files: &[&str]| {
            let files: Vec<String> = files.iter().map(ToString::to_string).collect();
            choose(&files).map(str::to_owned)
        };
        assert_eq!(case(&["m-q8_0.gguf", "m-Q4_K_M.gguf", "m-q2_k.gguf"]).unwrap(), "m-Q4_K_M.gguf");
        assert_eq!(case(&["m-f16.gguf", "m-Q8_0.gguf"]).unwrap(), "m-Q8_0.gguf");
        assert_eq!(case(&["m-f16.gguf", "mmproj-m-q8_0.gguf"]).unwrap(), "m-f16.gguf");
        let parts = "m-q4_k_m-00001-of-00002.gguf";
        assert_eq!(case(&[parts, "m-q4_k_m-00002-of-00002.gguf", "m-q8_0.gguf"]).unwrap(), parts);
        assert!(case(&["mmproj-m-f16.gguf"]).unwrap_err().contains("no model of texts"));
        assert!(case(&["a-q4_k_m.gguf", "b-q4_k_m.gguf"]).unwrap_err().contains("choose"));
        assert!(case(&["a-f16.gguf", "a-f32.gguf"]).unwrap_err().contains("choose"));
        assert!(case(&[]).unwrap_err().contains("no GGUF file"));
    }
}
