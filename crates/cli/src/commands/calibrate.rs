//! `lookahead calibrate`: what a forward pass costs by its number of tokens, and what it must cost at least.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use lookahead_engine::{CostCurve, CostPoint, measure_cost_curve};
use lookahead_kernels::{Ceilings, Isa};
use lookahead_model::{CpuModel, LanguageModel as _};
use serde_json::json;

use crate::arguments::LoadArgs;
use crate::loaded_model::LoadedModel;
use crate::{calibration, output, progress};

const HELP: &str = "\
Examples:
  lookahead calibrate
      Measure the default model on all threads
  lookahead calibrate --model qwen2.5-coder-0.5b --threads 4 --context 4000
      For long prompts: attention costs more, and so do drafts
  lookahead calibrate --isa avx2
      As on a CPU that has less: the first lines name what this one has
  lookahead calibrate --json
      The same for programs

A forward pass over several tokens costs little more than one over a single token; c(N) is how much more. From it,
`generate` and `chat` choose in each step how much to draft. They measure it themselves, in about a second, the first
time that a model runs on so many threads; later runs use what was measured last, here or there, until the model, the
CPU or this program changes. So run this on a quiet machine, or for your usual length of prompts. It changes no answer.

Columns: `ms` is the median time of a pass; `floor ms` the least that it can take on this machine, the longer of reading
all weights once and of making all multiply-adds, at rates measured in the same run; `ratio` is ms over floor. On a GPU,
whose rates are not measured, there are neither.

Fields of --json: `model`, `threads`, `isa`, `context`, `points` (`tokens` and `ms` each), `floor` (ms, in the same
order; null on a GPU), `gpu` (its name and driver; null on the CPU).";

/// The time for measuring the machine itself.
const CEILINGS_BUDGET: Duration = Duration::from_millis(600);

/// Measure what a forward pass costs by its number of tokens
#[derive(Debug, Args)]
#[command(after_long_help = HELP)]
pub(crate) struct CalibrateArgs {
    #[command(flatten)]
    pub(crate) load: LoadArgs,

    /// Tokens in front of each pass
    #[arg(long, value_name = "N", default_value_t = calibration::CONTEXT, help_heading = "Measurement")]
    pub(crate) context: usize,

    /// Print one JSON object
    #[arg(long, help_heading = "Output")]
    pub(crate) json: bool,
}

/// Runs the command.
pub(crate) fn run(arguments: &CalibrateArgs) -> anyhow::Result<ExitCode> {
    let mut loaded = arguments.load.load()?;
    let tokens = calibration::tokens(&loaded.model);
    let context = fitting_context(arguments.context, loaded.model.context_length(), tokens);
    let bar = progress::steps(100);
    bar.set_message("Measuring forward passes");
    let measured = measure_cost_curve(&mut loaded.model, context, tokens, calibration::BUDGET, |part| {
        bar.set_position((100.0 * part) as u64);
    });
    bar.set_message("Measuring the machine");
    let ceilings = match loaded.model.gpu() {
        None => Some(Ceilings::measure(loaded.model.kernels(), CEILINGS_BUDGET)),
        Some(_) => None,
    };
    bar.finish_and_clear();
    let (curve, ceilings) = (measured?, ceilings.transpose()?);
    calibration::keep(&loaded, context, &curve);

    let calibration = Calibration { loaded, context, curve, ceilings };
    let mut stdout = output::stdout();
    if arguments.json {
        writeln!(stdout, "{}", calibration.to_json())?;
    } else {
        calibration.write(&mut stdout)?;
    }
    stdout.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// `context`, or as much of it as the model's own context of `context_length` tokens holds in front of passes over `tokens`.
fn fitting_context(context: usize, context_length: usize, tokens: &[usize]) -> usize {
    let largest = tokens.iter().copied().filter(|&tokens| tokens <= context_length).max().unwrap_or(0);
    let fitting = context.min(context_length - largest);
    if fitting < context {
        progress::note(&format!(
            "The model's context holds {context_length} tokens: measuring behind {fitting}, not {context}"
        ));
    }
    fitting
}

/// What was measured.
struct Calibration {
    loaded: LoadedModel,
    context: usize,
    curve: CostCurve,
    /// Of the CPU; `None` where a GPU computes.
    ceilings: Option<Ceilings>,
}

impl Calibration {
    /// What computes.
    fn machine(&self) -> String {
        let kernels = self.loaded.model.kernels();
        let cpu = || format!("threads {}, {}", kernels.threads(), kernels.isa().name());
        self.loaded.model.gpu().unwrap_or_else(cpu)
    }

    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let Self { loaded, context, curve, ceilings } = self;
        writeln!(out, "{}, {}, context {context}", loaded.file_name(), self.machine())?;
        if let Some(ceilings) = ceilings {
            let sets: Vec<&str> = Isa::available().into_iter().map(Isa::id).collect();
            let isa = loaded.model.kernels().isa();
            writeln!(out, "instruction sets (--isa): {}; measured with {}", sets.join(", "), isa.id())?;
            writeln!(out, "the machine: {ceilings}")?;
        }
        writeln!(out)?;
        let floor_heading = if ceilings.is_some() { "  floor ms  ratio" } else { "" };
        writeln!(out, "tokens        ms    c(N){floor_heading}  tokens/s")?;
        for &CostPoint { tokens, ms } in curve.points() {
            write!(out, "{tokens:>6} {ms:>9.2} {:>7.2}", curve.relative(tokens))?;
            if let Some(ceilings) = ceilings {
                let floor = floor_ms(loaded.model.cpu(), ceilings, tokens);
                write!(out, " {floor:>9.2} {:>6.2}", ms / floor)?;
            }
            writeln!(out, " {:>9.0}", tokens as f64 / ms * 1e3)?;
        }
        Ok(())
    }

    fn to_json(&self) -> serde_json::Value {
        let floor = self.ceilings.as_ref().map(|ceilings| {
            let floor = |point: &CostPoint| floor_ms(self.loaded.model.cpu(), ceilings, point.tokens);
            self.curve.points().iter().map(floor).collect::<Vec<_>>()
        });
        json!({
            "model": self.loaded.path.to_string_lossy(),
            "threads": self.loaded.model.kernels().threads(),
            "isa": self.loaded.model.kernels().isa().id(),
            "context": self.context,
            "gpu": self.loaded.model.gpu(),
            "points": self.curve,
            "floor": floor,
        })
    }
}

/// The longer of reading all weights once, and of all multiply-adds of `tokens` tokens, in milliseconds.
fn floor_ms(model: &CpuModel, ceilings: &Ceilings, tokens: usize) -> f64 {
    let [integer, float] = model.macs_per_token().map(|macs| (tokens * macs) as f64);
    let read = model.weight_bytes() as f64 / ceilings.read_bytes_per_second;
    let integer_rate = ceilings.tile_macs_per_second.unwrap_or(0.0).max(ceilings.int8_macs_per_second);
    let multiply = integer / integer_rate + float / ceilings.f32_macs_per_second;
    read.max(multiply) * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_context_leaves_room_for_the_passes() {
        for (context, context_length, fitting) in [
            (256, 8192, 256),
            (256, 320, 256),
            (256, 319, 255),
            (10_000, 8192, 8128),
            (256, 64, 0),
            (9, 40, 8),
        ] {
            let found = fitting_context(context, context_length, &[1, 2, 4, 32, 64]);
            assert_eq!(found, fitting, "{context} of {context_length}");
        }
    }
}
