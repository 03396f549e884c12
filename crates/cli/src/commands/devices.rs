//! `lookahead devices`: the GPUs of this machine, and whether their answers are the CPU's.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Args;
use indicatif::BinaryBytes;
use lookahead_gpu::{AdapterListing, Exactness, Gpu, GpuError, adapters};
use lookahead_kernels::Kernels;
use lookahead_model::{GpuFit, gpu_fit};
use serde_json::{Value, json};

use crate::arguments::{NumberArgs, PrecisionArgs};
use crate::loaded_model::load_weights;
use crate::output;

const HELP: &str = "\
Examples:
  lookahead devices                         What GPUs there are, and how they compute
  lookahead devices --model qwen2.5-1.5b    How many layers of a model fit each of them
  lookahead devices --json                  The same for programs: one array of objects

Each GPU is opened, and each operation that a model is made of runs on it beside the CPU:
  the CPU's bits         Answers and logits are those of the CPU, bit for bit
  bits of its own        Answers do not depend on drafts, batches or chunks, but logits differ from the CPU's in their last bits";

/// List the GPUs of this machine and find out how they compute
#[derive(Debug, Args)]
#[command(after_long_help = HELP)]
pub(crate) struct DevicesArgs {
    /// Say what of this model fits, which is loaded for that: a path, a name that `lookahead models` lists, or
    /// hf:OWNER/REPO[/FILE.gguf], fetched on first use
    #[arg(short, long, value_name = "PATH|NAME", help_heading = "Model")]
    model: Option<String>,

    #[command(flatten)]
    numbers: NumberArgs,

    /// Print a JSON array
    #[arg(long, help_heading = "Output")]
    json: bool,
}

/// Runs the command.
pub(crate) fn run(arguments: &DevicesArgs) -> anyhow::Result<ExitCode> {
    let listings = adapters();
    let model = match &arguments.model {
        Some(name) => {
            let precision = PrecisionArgs { numbers: arguments.numbers.clone(), ..PrecisionArgs::default() };
            Some(load_weights(name, Kernels::new(1), &precision)?.0)
        }
        None => None,
    };
    let opened: Vec<_> = listings.iter().map(open).collect();
    let fit =
        |listing: &AdapterListing| model.as_ref().map(|model| gpu_fit(model.cpu(), listing.memory_bytes));
    let mut stdout = output::stdout();
    if arguments.json {
        let array: Value = listings
            .iter()
            .zip(&opened)
            .map(|(listing, opened)| to_json(listing, opened, fit(listing)))
            .collect();
        writeln!(stdout, "{array:#}")?;
    } else if listings.is_empty() {
        writeln!(stdout, "{}", GpuError::NoAdapter)?;
    }
    if !arguments.json {
        for (number, (listing, opened)) in listings.iter().zip(&opened).enumerate() {
            let memory = listing
                .memory_bytes
                .map_or("size unknown".to_owned(), |bytes| BinaryBytes(bytes).to_string());
            let kind = match (listing.is_software, listing.is_integrated) {
                (true, _) => ", a program on the CPU",
                (_, true) => ", integrated",
                _ => "",
            };
            writeln!(stdout, "{number}: {}{kind}", listing.name)?;
            writeln!(stdout, "   driver       {} ({})", listing.driver, listing.backend)?;
            writeln!(
                stdout,
                "   memory       {memory}, {} to a buffer",
                BinaryBytes(listing.largest_binding)
            )?;
            match opened {
                Ok(gpu) => {
                    writeln!(stdout, "   results      {}", exactness(gpu))?;
                    writeln!(stdout, "   arithmetic   {}", gpu.arithmetic())?;
                    if let Some(fit) = fit(listing) {
                        writeln!(stdout, "   model        {}", fitting(&fit))?;
                    }
                }
                Err(error) => writeln!(stdout, "   cannot be used: {error}")?,
            }
        }
    }
    stdout.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// Opens a GPU that can be used.
fn open(listing: &AdapterListing) -> Result<Gpu, String> {
    match listing.missing {
        Some(missing) => Err(missing.to_owned()),
        None => Gpu::open(listing).map_err(|error| error.to_string()),
    }
}

fn exactness(gpu: &Gpu) -> String {
    match gpu.exactness() {
        Exactness::Bits => "the CPU's bits".to_owned(),
        Exactness::SelfConsistent { why } => format!("bits of its own: {why}"),
    }
}

/// How much of the model fits, in words.
fn fitting(fit: &GpuFit) -> String {
    let &GpuFit { layers, fitting, weight_bytes, token_bytes } = fit;
    let bytes =
        format!("{} of weights, and {} for each token", BinaryBytes(weight_bytes), BinaryBytes(token_bytes));
    match fitting {
        0 => format!("none of its {layers} layers fits"),
        _ if fitting == layers => format!("all of its {layers} layers fit: {bytes}"),
        _ => format!("{fitting} of its {layers} layers fit (--gpu-layers {fitting}): {bytes}"),
    }
}

fn to_json(listing: &AdapterListing, opened: &Result<Gpu, String>, fit: Option<GpuFit>) -> Value {
    let gpu = opened.as_ref().ok();
    let mut object = json!({
        "name": listing.name,
        "driver": listing.driver,
        "backend": listing.backend,
        "is_software": listing.is_software,
        "is_integrated": listing.is_integrated,
        "memory_bytes": listing.memory_bytes,
        "largest_buffer_bytes": listing.largest_binding,
        "has_cpu_bits": gpu.map(|gpu| *gpu.exactness() == Exactness::Bits),
        "results": gpu.map(exactness),
        "arithmetic": gpu.map(|gpu| gpu.arithmetic().to_string()),
        "error": opened.as_ref().err(),
    });
    if let Some(GpuFit { layers, fitting, weight_bytes, token_bytes }) = fit {
        object["model"] = json!({
            "layers": layers,
            "fitting_layers": fitting,
            "weight_bytes": weight_bytes,
            "token_bytes": token_bytes,
        });
    }
    object
}
