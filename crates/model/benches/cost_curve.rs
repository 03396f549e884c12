//! The cost curve c(N) of a model: the time of a forward pass over N tokens behind a context, and of the prefill of a prompt. By
//! instruction set; or that of two builds, which take turns block by block, so that what else the machine does meets both.
//!
//! It uses little of the library, so that the file can be copied into the sources of an older commit to build what is compared with.

#![allow(clippy::print_stdout, clippy::print_stderr)] // its output is the result

use std::error::Error;
use std::fmt;
use std::io::{self, BufRead, BufReader, Lines, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio};
use std::str::FromStr;
use std::time::{Duration, Instant};

use lookahead_kernels::{Isa, Kernels};
use lookahead_model::gguf::GgufFile;
use lookahead_model::{
    Accepted, CpuModel, Keep, KvCache, LanguageModel, Logits, LogitsOf, SequenceStep, TokenTree,
};

const USAGE: &str = "\
usage: cargo bench -p lookahead-model --bench cost_curve -- MODEL.gguf [OPTION VALUE]...

  --threads N       threads [2]
  --context N       tokens in front of each pass [256]
  --tokens N,N,...  sizes of passes [1,2,3,4,5,6,7,8,12,16,24,32,48,64,128]
  --prefill N       tokens of a prompt, which has no context; 0 for none [2048]
  --isa NAME        one instruction set, as the output names it [each, or the best of each build]
  --rounds N        blocks of passes, of whose times the median is told [8]
  --against BINARY  another build of this benchmark (target/release/deps/cost_curve-...), run in turn with this one";

/// Passes of a block take so long, at least: the first half of them brings caches into the state in which passes of this size leave them.
const BLOCK: Duration = Duration::from_millis(60);

/// Tokens of a prompt that the engine computes in one pass.
const PREFILL_CHUNK: usize = 256;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    let arguments = std::env::args().skip(1).filter(|argument| argument != "--bench"); // which `cargo bench` adds
    let outcome = match Options::parse(arguments) {
        Ok(Some(options)) => run(&options),
        Ok(None) => {
            println!("{USAGE}");
            Ok(())
        }
        Err(error) => Err(error),
    };
    if let Err(error) = outcome {
        eprintln!("cost_curve: {error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn run(options: &Options) -> Result<()> {
    if options.answer {
        return answer(options);
    }
    println!(
        "{}, {} threads, context {}; medians of {} blocks",
        options.model, options.threads, options.context, options.rounds
    );
    match &options.against {
        Some(other) => compare(options, other),
        None => measure(options),
    }
}

struct Options {
    model: String,
    threads: usize,
    context: usize,
    tokens: Vec<usize>,
    prefill: usize,
    isa: Option<String>,
    rounds: usize,
    against: Option<String>,
    /// Whether this is a build that another process compares.
    answer: bool,
}

/// How a process is told to answer another.
const ANSWER: &str = "--answer";

impl Options {
    /// None if no model is named, as in a run of all benchmarks.
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Option<Self>> {
        let Some(model) = arguments.next().filter(|model| !model.starts_with('-')) else { return Ok(None) };
        let mut options = Self {
            model,
            threads: 2,
            context: 256,
            tokens: vec![1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 24, 32, 48, 64, 128],
            prefill: 2048,
            isa: None,
            rounds: 8,
            against: None,
            answer: false,
        };
        while let Some(option) = arguments.next() {
            if option == ANSWER {
                options.answer = true;
                continue;
            }
            let value = arguments.next().ok_or_else(|| format!("{option} needs a value\n{USAGE}"))?;
            match option.as_str() {
                "--threads" => options.threads = at_least_1(&option, &value)?,
                "--context" => options.context = number(&option, &value)?,
                "--tokens" => {
                    let sizes = value.split(',').map(|size| at_least_1(&option, size));
                    options.tokens = sizes.collect::<Result<_>>()?;
                }
                "--prefill" => options.prefill = number(&option, &value)?,
                "--isa" => options.isa = Some(value),
                "--rounds" => options.rounds = at_least_1(&option, &value)?,
                "--against" => options.against = Some(value),
                _ => return Err(format!("there is no option {option}\n{USAGE}").into()),
            }
        }
        Ok(Some(options))
    }

    /// What is timed.
    fn works(&self) -> impl Iterator<Item = Work> {
        let prefill = Some(self.prefill).filter(|&tokens| tokens > 0);
        self.tokens.iter().copied().map(Work::Pass).chain(prefill.map(Work::Prefill))
    }
}

fn number(option: &str, value: &str) -> Result<usize> {
    value.parse().map_err(|_| format!("{option} needs a number, not \"{value}\"").into())
}

fn at_least_1(option: &str, value: &str) -> Result<usize> {
    match number(option, value)? {
        0 => Err(format!("{option} needs at least 1").into()),
        number => Ok(number),
    }
}

/// What is timed, of so many tokens.
#[derive(Clone, Copy)]
enum Work {
    /// A pass behind the context.
    Pass(usize),
    /// A prompt, in as many passes as it needs.
    Prefill(usize),
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pass(tokens) => write!(f, "N = {tokens}"),
            Self::Prefill(tokens) => write!(f, "prefill of {tokens}"),
        }
    }
}

impl FromStr for Work {
    type Err = Box<dyn Error>;

    /// As it is displayed.
    fn from_str(text: &str) -> Result<Self> {
        match (text.strip_prefix("N = "), text.strip_prefix("prefill of ")) {
            (Some(tokens), _) => Ok(Self::Pass(tokens.parse()?)),
            (_, Some(tokens)) => Ok(Self::Prefill(tokens.parse()?)),
            _ => Err(format!("\"{text}\" is nothing to time").into()),
        }
    }
}

/// A model behind a context.
struct Bench {
    model: CpuModel,
    cache: KvCache,
    /// What passes run over: the first of these.
    tokens: Vec<u32>,
    logits: Logits,
}

impl Bench {
    fn new(model: CpuModel, options: &Options) -> Result<Self> {
        let largest = options.tokens.iter().copied().max().unwrap_or(0);
        let (needed, most) = ((options.context + largest).max(options.prefill), model.context_length());
        if needed > most {
            let asked = "--context with the largest of --tokens, or --prefill,";
            return Err(format!("the model holds {most} tokens; {asked} needs {needed}").into());
        }
        // Any tokens do: the time of a pass does not depend on what they say.
        let tokens = 0..options.context.max(largest).max(options.prefill);
        let tokens = tokens.map(|index| (index * 31 % model.vocabulary_size()) as u32).collect();
        let cache = model.new_cache(options.context + largest);
        let mut bench = Self { model, cache, tokens, logits: Logits::default() };
        bench.prefill(options.context)?;
        Ok(bench)
    }

    /// The median milliseconds of a block.
    fn block(&mut self, work: Work) -> Result<f64> {
        let least = if matches!(work, Work::Pass(_)) { 2 } else { 1 };
        let (mut times, began) = (Vec::new(), Instant::now());
        while times.len() < least || began.elapsed() < BLOCK {
            times.push(self.time(work)?);
        }
        let settled = times.len() / 2;
        Ok(median(&mut times[settled..]))
    }

    fn time(&mut self, work: Work) -> Result<f64> {
        let began = Instant::now();
        match work {
            Work::Pass(tokens) => self.pass(0, tokens, LogitsOf::Every)?,
            Work::Prefill(tokens) => {
                let cache = self.model.new_cache(tokens);
                let behind_context = std::mem::replace(&mut self.cache, cache);
                self.prefill(tokens)?;
                self.cache = behind_context;
            }
        }
        Ok(began.elapsed().as_secs_f64() * 1e3)
    }

    fn prefill(&mut self, tokens: usize) -> Result<()> {
        for first in (0..tokens).step_by(PREFILL_CHUNK) {
            let chunk = PREFILL_CHUNK.min(tokens - first);
            let logits_of = if first + chunk == tokens { LogitsOf::Last } else { LogitsOf::Nothing };
            self.pass(first, chunk, logits_of)?;
            let path: Vec<u32> = (0..chunk as u32).collect();
            self.model.commit(&mut [Accepted { cache: &mut self.cache, path: &path }]);
        }
        Ok(())
    }

    fn pass(&mut self, first: usize, tokens: usize, logits_of: LogitsOf) -> Result<()> {
        let tree = TokenTree::chain(&self.tokens[first..][..tokens])?;
        // As greedy decoding does.
        let step = SequenceStep { tree: &tree, cache: &mut self.cache, logits_of, keep: Keep::Best(1) };
        Ok(self.model.forward(&mut [step], &mut self.logits)?)
    }
}

/// Tells the times of this build, for each instruction set that is asked for.
fn measure(options: &Options) -> Result<()> {
    let mut model = load(options)?;
    let wanted = |isa: &Isa| options.isa.as_ref().is_none_or(|name| name == isa.name());
    // The scalar definition is asked for by name, or never.
    let skipped = usize::from(options.isa.is_none());
    for isa in Isa::available().into_iter().skip(skipped).filter(wanted) {
        println!("{}:", isa.name());
        let mut bench = Bench::new(model.with_kernels(Kernels::with_isa(isa, options.threads)), options)?;
        let mut first = None;
        for work in options.works() {
            let times = (0..options.rounds).map(|_| bench.block(work)).collect::<Result<Vec<_>>>();
            let [low, time, high] = quartiles(times?);
            let more = match work {
                Work::Pass(_) => format!("c = {:.2}", time / *first.get_or_insert(time)),
                Work::Prefill(tokens) => format!("{:.0} tokens/s", tokens as f64 / time * 1e3),
            };
            println!("  {:16} {time:9.2} ms ({low:.2} to {high:.2})  {more}", work.to_string());
        }
        model = bench.model;
    }
    Ok(())
}

fn load(options: &Options) -> Result<CpuModel> {
    let isa = match &options.isa {
        None => Isa::detect(),
        Some(name) => Isa::available().into_iter().find(|isa| isa.name() == name).ok_or_else(|| {
            let names: Vec<_> = Isa::available().into_iter().map(Isa::name).collect();
            format!("this CPU and this build have no --isa \"{name}\", but {names:?}")
        })?,
    };
    Ok(CpuModel::load(&GgufFile::open(&options.model)?, Kernels::with_isa(isa, options.threads))?)
}

/// What a process says when it has loaded its model, before its instruction set.
const READY: &str = "ready with ";

/// Times a block of what each line of the input says, and writes its milliseconds.
fn answer(options: &Options) -> Result<()> {
    let model = load(options)?;
    let isa = model.kernels().isa().name();
    let mut bench = Bench::new(model, options)?;
    println!("{READY}{isa}");
    for work in io::stdin().lines() {
        println!("{}", bench.block(work?.parse()?)?);
    }
    Ok(())
}

/// Another process, of this build or another, which computes when it is asked to: between blocks, its threads sleep.
struct Build {
    binary: String,
    isa: String,
    process: Child,
    questions: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Build {
    fn start(binary: &str, options: &Options) -> Result<Self> {
        let sizes: Vec<String> = options.tokens.iter().map(usize::to_string).collect();
        let mut command = Command::new(binary);
        command.arg(&options.model).arg(ANSWER).args(["--tokens", &sizes.join(",")]);
        for (option, value) in
            [("--threads", options.threads), ("--context", options.context), ("--prefill", options.prefill)]
        {
            command.arg(option).arg(value.to_string());
        }
        command.args(options.isa.iter().flat_map(|isa| ["--isa", isa]));
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{binary} does not start: {error}"))?;
        let questions = process.stdin.take().ok_or("a process without input")?;
        let output = process.stdout.take().ok_or("a process without output")?;
        let answers = BufReader::new(output).lines();
        let mut build = Self { binary: binary.to_owned(), isa: String::new(), process, questions, answers };
        let ready = build.next_line()?;
        let isa = ready.strip_prefix(READY).ok_or_else(|| {
            format!(
                "{binary} does not answer as this benchmark does, but says: {ready}\n\
                 Copy crates/model/benches/cost_curve.rs of this build into its sources, and build it anew."
            )
        })?;
        isa.clone_into(&mut build.isa);
        Ok(build)
    }

    fn block(&mut self, work: Work) -> Result<f64> {
        writeln!(self.questions, "{work}").map_err(|error| format!("{}: {error}", self.binary))?;
        let line = self.next_line()?;
        line.parse().map_err(|_| format!("{} answers \"{line}\", which is no time", self.binary).into())
    }

    fn next_line(&mut self) -> Result<String> {
        let line = self.answers.next().ok_or_else(|| format!("{} ends early", self.binary))?;
        Ok(line?)
    }
}

impl Drop for Build {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Tells the times of this build and of the one in `other`, and what part of the other's time this one takes.
fn compare(options: &Options, other: &str) -> Result<()> {
    let this = std::env::current_exe()?;
    let binaries = [&this.to_string_lossy(), other];
    let works: Vec<Work> = options.works().collect();
    let mut times = vec![[const { Vec::new() }; 2]; works.len()];
    // Whose model lies in memory first has the better of it by some percent: with two rounds and more, each build is the first once.
    for first in 0..options.rounds.min(2) {
        let mut builds = [const { None }; 2];
        for index in [first, 1 - first] {
            builds[index] = Some(Build::start(binaries[index], options)?);
        }
        let [Some(mut this), Some(mut other)] = builds else { unreachable!("both are started") };
        if first == 0 {
            println!("this build with {}, {} with {}:", this.isa, other.binary, other.isa);
        }
        for (&work, times) in works.iter().zip(&mut times) {
            for round in (first..options.rounds).step_by(2) {
                // Who computes first alternates, too.
                for index in [round / 2 % 2, 1 - round / 2 % 2] {
                    let build = if index == 0 { &mut this } else { &mut other };
                    times[index].push(build.block(work)?);
                }
            }
        }
    }
    for (work, times) in works.iter().zip(times) {
        let ratios = times[0].iter().zip(&times[1]).map(|(this, other)| this / other).collect();
        let ([low, ratio, high], [this, other]) =
            (quartiles(ratios), times.map(|mut times| median(&mut times)));
        println!(
            "  {:16} {this:9.2} ms, other {other:9.2} ms, ratio {ratio:.3} ({low:.3} to {high:.3})",
            work.to_string()
        );
    }
    Ok(())
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The lower quartile, the median and the upper quartile.
fn quartiles(mut values: Vec<f64>) -> [f64; 3] {
    values.sort_by(f64::total_cmp);
    [1, 2, 3].map(|quarter| values[values.len() * quarter / 4])
}
