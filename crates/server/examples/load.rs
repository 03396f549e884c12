//! Load on OpenAI-compatible servers, side by side: the same prompts from so many clients at once, in turn on each server.
//!
//!     cargo run --release -p lookahead-server --example load -- PROMPTS.jsonl \
//!         ours=http://127.0.0.1:8080 plain=http://127.0.0.1:8080#plain llama.cpp=http://127.0.0.1:8081
//!
//! `#plain` asks a server of ours to decode plainly, `#json` asks for a JSON object. Each run has a namespace of its own, so that every one starts knowing
//! nothing; a run's answers may draft its later ones. Greedy, streamed. TTFT is the time to the first text of an answer, TPOT
//! the time for each token after it.
#![allow(clippy::unwrap_used, clippy::print_stdout)] // a measurement: what goes wrong ends it

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};
use std::{env, fs, thread};

use serde_json::{Value, json};

const CONCURRENCY: [usize; 3] = [1, 4, 8];
const ROUNDS: usize = 3;
const MAX_TOKENS: usize = 128;

struct Server {
    name: String,
    url: String,
    is_plain: bool,
    is_json: bool,
}

/// One answer.
struct Sample {
    tokens: usize,
    /// Until its first text.
    first: Duration,
    /// From there to its end.
    rest: Duration,
}

/// The answers to all prompts.
struct Run {
    tokens_per_s: f64,
    samples: Vec<Sample>,
}

fn main() {
    let mut arguments = env::args().skip(1);
    let prompts = read_prompts(&arguments.next().expect("PROMPTS.jsonl NAME=URL…"));
    let servers: Vec<Server> = arguments.map(|argument| parse(&argument)).collect();
    let mut all: BTreeMap<(usize, usize), Vec<Run>> = BTreeMap::new();
    for round in 0..ROUNDS {
        for clients in CONCURRENCY {
            for turn in 0..servers.len() {
                let index = (turn + round) % servers.len(); // nobody is always first
                let run = run(&servers[index], &prompts, clients);
                let (name, rate) = (&servers[index].name, run.tokens_per_s);
                eprintln!("round {round}, {clients} clients, {name}: {rate:.1} tokens/s");
                all.entry((clients, index)).or_default().push(run);
            }
        }
    }
    println!("| clients | server | tokens/s | TTFT p50, p99 ms | TPOT p50, p99 ms |");
    println!("| ---: | --- | ---: | ---: | ---: |");
    for ((clients, index), mut runs) in all {
        runs.sort_by(|a, b| a.tokens_per_s.total_cmp(&b.tokens_per_s));
        let median = runs[runs.len() / 2].tokens_per_s;
        let samples: Vec<&Sample> = runs.iter().flat_map(|run| &run.samples).collect();
        let first = samples.iter().map(|sample| sample.first.as_secs_f64() * 1e3).collect();
        let token = samples.iter().filter(|sample| sample.tokens > 1);
        let token = token.map(|sample| sample.rest.as_secs_f64() * 1e3 / (sample.tokens - 1) as f64);
        let ([first_50, first_99], [token_50, token_99]) = (percentiles(first), percentiles(token.collect()));
        println!(
            "| {clients} | {} | {median:.0} | {first_50:.0}, {first_99:.0} | {token_50:.1}, {token_99:.1} |",
            servers[index].name
        );
    }
}

fn parse(argument: &str) -> Server {
    let (name, url) = argument.split_once('=').expect("NAME=URL");
    let (url, how) = url.split_once('#').unwrap_or((url, ""));
    assert!(["", "plain", "json"].contains(&how), "#{how}: plain or json");
    Server {
        name: name.to_owned(),
        url: format!("{url}/v1/chat/completions"),
        is_plain: how == "plain",
        is_json: how == "json",
    }
}

/// What each line asks: the first of `messages`, or `prompt`.
fn read_prompts(path: &str) -> Vec<Value> {
    let lines = fs::read_to_string(path).unwrap();
    let prompts = lines.lines().filter(|line| !line.trim().is_empty()).map(|line| {
        let record: Value = serde_json::from_str(line).unwrap();
        match &record["messages"] {
            Value::Array(messages) => messages[..1].into(), // of several questions the first
            _ => json!([{ "role": "user", "content": record["prompt"] }]),
        }
    });
    prompts.collect()
}

/// Answers to all prompts from `clients` clients: tokens per second of them all, and each.
fn run(server: &Server, prompts: &[Value], clients: usize) -> Run {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let namespace = format!("run-{}", since.as_millis());
    let (next, samples) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let began = Instant::now();
    thread::scope(|scope| {
        for _ in 0..clients {
            scope.spawn(|| {
                let agent = ureq::agent();
                while let Some(messages) = prompts.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let sample = ask(&agent, server, messages, &namespace);
                    samples.lock().unwrap().push(sample);
                }
            });
        }
    });
    let seconds = began.elapsed().as_secs_f64();
    let samples = samples.into_inner().unwrap();
    let tokens: usize = samples.iter().map(|sample| sample.tokens).sum();
    Run { tokens_per_s: tokens as f64 / seconds, samples }
}

fn ask(agent: &ureq::Agent, server: &Server, messages: &Value, namespace: &str) -> Sample {
    let body = json!({
        "messages": messages, "temperature": 0, "max_tokens": MAX_TOKENS, "stream": true,
        "stream_options": { "include_usage": true }, "cache_prompt": false,
        "lookahead": { "enabled": !server.is_plain, "namespace": namespace },
        "response_format": { "type": if server.is_json { "json_object" } else { "text" } },
    });
    let began = Instant::now();
    // Some servers close a connection behind a stream without saying so.
    let request =
        agent.post(&server.url).header("Content-Type", "application/json").header("Connection", "close");
    let response = request.send(body.to_string()).unwrap();
    let (mut first, mut tokens) = (None, 0);
    for line in BufReader::new(response.into_body().into_reader()).lines() {
        let line = line.unwrap();
        let Some(Ok(piece)) = line.strip_prefix("data: ").map(serde_json::from_str::<Value>) else {
            continue;
        };
        if piece["choices"][0]["delta"]["content"].as_str().is_some_and(|text| !text.is_empty()) {
            first.get_or_insert_with(|| began.elapsed());
        }
        if let Some(count) = piece["usage"]["completion_tokens"].as_u64() {
            tokens = count as usize;
        }
    }
    let whole = began.elapsed();
    let first = first.unwrap_or(whole);
    Sample { tokens, first, rest: whole.saturating_sub(first) }
}

fn percentiles(mut values: Vec<f64>) -> [f64; 2] {
    values.sort_by(f64::total_cmp);
    [50, 99].map(|percent| values.get(values.len() * percent / 100).copied().unwrap_or(f64::NAN))
}
