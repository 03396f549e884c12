//! Cost curves on this machine: measured once for a model, kept beside the models.
//!
//! Contract: a curve serves the model, threads, CPU, instruction set, KV cache type and version of the program that it
//! was measured with, wherever the model's file lies. A file that is damaged or says something else counts as none and
//! is replaced.
//! Nothing here fails a command: without a place to keep a curve, it is measured each time; without a curve, drafts
//! follow the engine's fixed policy.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use lookahead_engine::{CostCurve, measure_cost_curve};
use lookahead_model::DeviceModel;
use serde::{Deserialize, Serialize};

use crate::loaded_model::{LoadedModel, weight_files};
use crate::store::ModelStore;

/// Tokens in front of the passes that are measured, unless the user says otherwise: a short conversation.
pub(crate) const CONTEXT: usize = 256;

/// Tokens of the passes that are measured, as far as a device's passes go: every one where drafts are likely, fewer beyond.
const TOKENS: [usize; 19] = [1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 32, 48, 64, 96, 128];

/// The time for the passes; a model that takes longer for one round of them gets it.
pub(crate) const BUDGET: Duration = Duration::from_secs(5);

/// Tokens of the passes that a first answer waits for: adaptive drafts may be longer, but the curve goes on as a line from there.
const FIRST_USE_TOKENS: [usize; 14] = [1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 24, 32];

/// What a first answer may wait for them, as far as a slow model allows.
const FIRST_USE_BUDGET: Duration = Duration::from_secs(1);

/// What a server may take for them before it serves.
const BATCH_BUDGET: Duration = Duration::from_secs(2);

/// Bytes at both ends of a model file that tell it from others of its size: its metadata, and its last weights.
const FINGERPRINT_BYTES: u64 = 1 << 20;

/// This program. Without optimisation, kernels have other costs.
const VERSION: &str = if cfg!(debug_assertions) {
    concat!(env!("CARGO_PKG_VERSION"), "-debug")
} else {
    env!("CARGO_PKG_VERSION")
};

/// Tokens of the passes that are measured for `model`, ascending. A GPU is idle in small passes, so that larger ones cost it little
/// more; on a CPU nothing pays in passes over more than 64.
pub(crate) fn tokens(model: &DeviceModel) -> &'static [usize] {
    let largest = if model.gpu().is_some() { 128 } else { 64 };
    &TOKENS[..TOKENS.partition_point(|&tokens| tokens <= largest)]
}

/// The curve of `loaded`: the one that is kept, or else a new one, which takes about a second and is kept for next time.
/// `None`, and a warning in the log, if it cannot be measured.
pub(crate) fn cost_curve(loaded: &mut LoadedModel) -> Option<Arc<CostCurve>> {
    curve_over(loaded, &FIRST_USE_TOKENS, FIRST_USE_BUDGET)
}

/// As [`cost_curve`], for passes of several sequences together, which run more tokens.
pub(crate) fn cost_curve_of_batches(loaded: &mut LoadedModel) -> Option<Arc<CostCurve>> {
    curve_over(loaded, tokens(&loaded.model), BATCH_BUDGET)
}

fn curve_over(loaded: &mut LoadedModel, tokens: &[usize], budget: Duration) -> Option<Arc<CostCurve>> {
    let place = Place::of(loaded);
    let reaches =
        |curve: &CostCurve| curve.points().last().map(|point| point.tokens) >= tokens.last().copied();
    if let Some(curve) = place.as_ref().and_then(Place::load).filter(reaches) {
        return Some(Arc::new(curve));
    }
    let began = Instant::now();
    let measured = measure_cost_curve(&mut loaded.model, CONTEXT, tokens, budget, |_| ());
    match measured {
        Ok(curve) => {
            tracing::info!(seconds = began.elapsed().as_secs_f64(), "measured what a forward pass costs");
            if let Some(place) = place {
                place.save(CONTEXT, &curve);
            }
            Some(Arc::new(curve))
        }
        Err(error) => {
            tracing::warn!(%error, "cannot measure what a forward pass costs; drafts are of a fixed length");
            None
        }
    }
}

/// Keeps `curve`, measured behind `context` tokens, for later answers of `loaded`.
pub(crate) fn keep(loaded: &LoadedModel, context: usize, curve: &CostCurve) {
    if let Some(place) = Place::of(loaded) {
        place.save(context, curve);
    }
}

/// Everything that a curve depends on but the context.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Key {
    model_bytes: u64,
    model_fingerprint: String,
    threads: usize,
    cpu: String,
    instruction_set: String,
    kv_type: String,
    quantize: Option<String>,
    /// The GPU and its driver; `None` on the CPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    gpu: Option<String>,
    version: String,
}

/// What a file holds.
#[derive(Debug, Serialize, Deserialize)]
struct Record<Curve> {
    key: Key,
    context: usize,
    points: Curve,
}

/// Where the curve of a model is kept.
#[derive(Debug)]
struct Place {
    file: PathBuf,
    key: Key,
}

impl Place {
    /// `None`, and a warning in the log, if there is no place or the model's file cannot be read any more.
    fn of(loaded: &LoadedModel) -> Option<Self> {
        let kernels = loaded.model.kernels();
        let place = || -> anyhow::Result<Self> {
            let (model_bytes, model_fingerprint) = fingerprint(&loaded.path)
                .with_context(|| format!("cannot read {}", loaded.path.display()))?;
            let key = Key {
                model_bytes,
                model_fingerprint,
                threads: kernels.threads(),
                cpu: cpu_model(),
                instruction_set: kernels.isa().name().to_owned(),
                kv_type: loaded.model.kv_type().to_string(),
                quantize: loaded.quantize.map(|weight_type| weight_type.to_string()),
                gpu: loaded.model.gpu(),
                version: VERSION.to_owned(),
            };
            let name = &blake3::hash(&serde_json::to_vec(&key)?).to_hex()[..24];
            let directory = ModelStore::of_user()?.directory().with_file_name("calibration");
            Ok(Self { file: directory.join(name).with_extension("json"), key })
        };
        place()
            .inspect_err(|error| tracing::warn!("what a forward pass costs cannot be kept: {error:#}"))
            .ok()
    }

    /// The curve that is kept here, if it is one of this key.
    fn load(&self) -> Option<CostCurve> {
        let bytes = fs::read(&self.file).ok()?;
        match serde_json::from_slice::<Record<CostCurve>>(&bytes) {
            Ok(record) if record.key == self.key => {
                tracing::debug!(file = %self.file.display(), context = record.context, "using a cost curve");
                Some(record.points)
            }
            Ok(_) => None,
            Err(error) => {
                tracing::debug!(file = %self.file.display(), %error, "no cost curve; replacing it");
                None
            }
        }
    }

    /// Puts `curve` here in one step.
    fn save(self, context: usize, curve: &CostCurve) {
        let Self { file, key } = self;
        let record = Record { key, context, points: curve };
        let write = || -> io::Result<()> {
            let directory = file.parent().unwrap_or(&file);
            fs::create_dir_all(directory)?;
            let mut temporary = tempfile::Builder::new().prefix(".calibration-").tempfile_in(directory)?;
            serde_json::to_writer_pretty(&mut temporary, &record)?;
            temporary.write_all(b"\n")?;
            temporary.persist(&file)?;
            Ok(())
        };
        if let Err(error) = write() {
            tracing::warn!(file = %file.display(), %error, "what a forward pass costs cannot be kept");
        }
    }
}

/// Size of the model's files and a hash of their ends.
fn fingerprint(path: &Path) -> io::Result<(u64, String)> {
    let mut total = 0;
    let mut ends = Vec::new();
    for path in weight_files(path)? {
        let mut file = File::open(path)?;
        let size = file.metadata()?.len();
        total += size;
        for start in [0, size.saturating_sub(FINGERPRINT_BYTES)] {
            file.seek(SeekFrom::Start(start))?;
            (&file).take(FINGERPRINT_BYTES).read_to_end(&mut ends)?;
        }
    }
    Ok((total, blake3::hash(&ends).to_hex().to_string()))
}

/// What the system calls the CPU; where it says nothing, the architecture.
pub(crate) fn cpu_model() -> String {
    let description = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    cpu_model_in(&description).unwrap_or_else(|| std::env::consts::ARCH.to_owned())
}

/// The first CPU in a description such as Linux gives: x86 by name, Arm by numbers.
fn cpu_model_in(description: &str) -> Option<String> {
    let field = |name: &str| {
        description.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            (key.trim() == name).then_some(value.trim())
        })
    };
    let numbers = || Some(format!("{} {}", field("CPU implementer")?, field("CPU part")?));
    field("model name").map(str::to_owned).or_else(numbers)
}

#[cfg(test)]
mod tests {
    use lookahead_engine::CostPoint;

    use super::*;

    fn key(threads: usize) -> Key {
        Key {
            model_bytes: 7,
            model_fingerprint: "f".to_owned(),
            threads,
            cpu: "c".to_owned(),
            instruction_set: "i".to_owned(),
            quantize: None,
            gpu: None,
            kv_type: "f16".to_owned(),
            version: "v".to_owned(),
        }
    }

    #[test]
    fn only_a_whole_curve_of_the_same_key_is_used() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("not/there/yet/a.json");
        let place = |threads| Place { file: file.clone(), key: key(threads) };
        assert_eq!(place(1).load(), None);
        let curve = CostCurve::new(vec![CostPoint { tokens: 1, ms: 2.5 }]).unwrap();
        place(1).save(256, &curve);
        assert_eq!(place(1).load(), Some(curve.clone()));
        assert_eq!(place(2).load(), None, "a file of another key");
        let whole = fs::read_to_string(&file).unwrap();
        for damaged in [&whole[..whole.len() / 2], "", "{}", &whole.replace("2.5", "-2.5")] {
            fs::write(&file, damaged).unwrap();
            assert_eq!(place(1).load(), None, "{damaged}");
        }
        place(1).save(256, &curve);
        assert_eq!(place(1).load(), Some(curve));
        assert_eq!(fs::read_dir(file.parent().unwrap()).unwrap().count(), 1, "nothing else is left");
    }

    #[test]
    fn a_model_is_known_by_its_size_and_its_two_ends() {
        let directory = tempfile::tempdir().unwrap();
        let of = |change: Option<usize>, len: usize| {
            let mut bytes = vec![7; len];
            if let Some(at) = change {
                bytes[at] = 8;
            }
            let path = directory.path().join("model");
            fs::write(&path, bytes).unwrap();
            fingerprint(&path).unwrap()
        };
        let long = 3 << 20;
        let same = of(None, long);
        assert_eq!(of(None, long), same);
        for change in [0, long - 1] {
            assert_ne!(of(Some(change), long), same);
        }
        assert_ne!(of(None, long + 1), same);
        assert_ne!(of(Some(50), 100), of(None, 100), "a short file is all ends");
    }

    #[test]
    fn the_cpu_has_a_name() {
        assert!(!cpu_model().is_empty());
        let x86 =
            "processor\t: 0\nmodel\t\t: 1\nmodel name\t: AMD EPYC 9B45\nprocessor : 1\nmodel name : other\n";
        assert_eq!(cpu_model_in(x86).unwrap(), "AMD EPYC 9B45");
        let arm = "processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd40\n";
        assert_eq!(cpu_model_in(arm).unwrap(), "0x41 0xd40");
        assert_eq!(cpu_model_in("?"), None);
    }
}
