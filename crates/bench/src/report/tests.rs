//! What is in the reports, from made-up results.

use lookahead_engine::CostPoint;

use super::*;
use crate::results::{
    BatchResults, Counterpart, LookaheadResults, Measure, OnlinePoint, PeerResults, Spread, Subject,
    TaskResults, VERSION,
};

const TASKS: [&str; 14] = [
    "specbench_mt_bench",
    "specbench_translation",
    "specbench_summarization",
    "specbench_qa",
    "specbench_math_reasoning",
    "specbench_rag",
    "xquad_rag",
    "humaneval_x",
    "mbpp",
    "code_editing",
    "agent_tool_calls",
    "json_extraction",
    "chat_multi_turn",
    "log_analysis",
];
const POLICIES: [&str; 7] = ["adaptive", "fixed", "4", "8", "16", "16:prompt", "16:output"];

/// Made-up numbers with the shape of measured ones, the same ones each time.
fn sample(tasks: &[&str], policies: &[&str]) -> Results {
    let tasks = tasks.iter().zip(0..).map(|(task, place)| {
        let variation = f64::from(place * 7 % 10) / 10.0;
        let around = |median: f64| Spread { median, min: median * 0.97, max: median * 1.02 };
        let measure = |speed| Measure { tokens_per_s: around(speed), ttft_ms: 180.0 + 90.0 * variation };
        let lookahead = policies.iter().zip(0..).flat_map(|(policy, order)| {
            Warmth::ALL.into_iter().zip([0.4, 1.0, 0.6, 0.8]).map(move |(warmth, known)| {
                let source = if policy.contains(':') { 0.6 } else { 1.0 };
                let accepted = (0.4 + 2.2 * variation) * known * source * (1.0 + 0.1 * f64::from(order));
                let speed_up = (1.0 + accepted) / (1.1 + 0.05 * f64::from(order));
                let steps =
                    |mean: f64| (0..20).map(|n| (1000.0 * (-f64::from(n) / mean).exp()) as u64).collect();
                let online = |served: usize| {
                    let gain = 1.0 - 0.5 / (1.0 + served as f64 / 6.0) + 0.1 * (served as f64 * 1.7).sin();
                    OnlinePoint { served, edl: 1.0 + accepted * gain, speed_up: speed_up * gain }
                };
                LookaheadResults {
                    policy: (*policy).to_owned(),
                    warmth,
                    measure: measure(21.3 * speed_up),
                    speed_up: around(speed_up),
                    paired_speed_up: speed_up * 0.99,
                    speed_up_by_curve: speed_up * 1.03,
                    edl: 1.0 + accepted,
                    retrieval_share: 0.0123,
                    draft_lengths: steps(2.0 + 2.0 * f64::from(order)),
                    accepted_lengths: steps(accepted + 0.4),
                    online: (0..20).map(online).filter(|_| warmth == Warmth::Online).collect(),
                }
            })
        });
        let peer = |mode: &str, speed, differing| PeerResults {
            mode: mode.to_owned(),
            prompts: 5,
            measure: measure(speed),
            differing,
        };
        TaskResults {
            task: (*task).to_owned(),
            prompts: 20,
            warm_up_prompts: 20,
            plain: measure(21.3),
            lookahead: lookahead.collect(),
            peers: vec![peer("plain", 19.8, 0), peer("ngram-simple", 24.0 + 9.0 * variation, 3)],
            counterparts: policies
                .iter()
                .map(|policy| Counterpart {
                    policy: (*policy).to_owned(),
                    warmth: Warmth::Same,
                    measure: measure(40.0 + 20.0 * variation),
                })
                .collect(),
        }
    });
    let curve = [(1, 47.0), (2, 49.5), (4, 53.1), (8, 66.0), (16, 104.0), (32, 190.2), (64, 371.0)];
    let subject = Subject {
        program: "0.1.0".to_owned(),
        model: "SmolLM2-1.7B-Instruct-Q4_K_M.gguf".to_owned(),
        model_bytes: 1_055_609_536,
        cpu: "AMD EPYC 7B13".to_owned(),
        gpu: None,
        instruction_set: "AVX2".to_owned(),
        threads: 8,
        kv_type: "f16".to_owned(),
        max_tokens: 256,
        repeats: 3,
        peer: Some("llama.cpp build 9000".to_owned()),
    };
    let tasks: Vec<TaskResults> = tasks.collect();
    let batch = |size| {
        let task = tasks.first()?;
        let lookahead = task.lookahead.iter().filter(|ours| ours.warmth == Warmth::Cold).cloned().collect();
        Some(BatchResults { size, batches: 5, plain: task.plain, lookahead })
    };
    Results {
        version: VERSION,
        subject,
        curve: curve.map(|(tokens, ms)| CostPoint { tokens, ms }).to_vec(),
        lossless: Lossless { answers: 23_520, tokens: 4_812_034, differing: 0 },
        batches: [4, 16].into_iter().filter_map(batch).collect(),
        tasks,
    }
}

/// What is not well-formed in `xml`, if anything: tags that do not match, and bare `<` and `&`.
fn fault(xml: &str) -> Option<String> {
    let mut open: Vec<&str> = Vec::new();
    for part in xml.split('<').skip(1) {
        let (tag, text) = part.split_once('>')?;
        let is_entity =
            |text: &str| ["lt;", "gt;", "amp;", "quot;", "apos;"].iter().any(|end| text.starts_with(end));
        if text.contains('>') || part.split('&').skip(1).any(|text| !is_entity(text)) || part.contains('\0') {
            return Some(part.to_owned());
        }
        match tag.strip_prefix('/') {
            Some(name) if open.pop() != Some(name) => return Some(part.to_owned()),
            None if !tag.ends_with('/') => open.push(tag.split(' ').next().unwrap_or_default()),
            _ => {}
        }
    }
    (!open.is_empty() || !xml.starts_with("<svg ")).then(|| format!("{open:?} stay open"))
}

fn plots(results: &Results) -> Vec<(&'static str, String)> {
    let plots = document(results).blocks.into_iter().filter_map(|block| match block {
        Block::Plot(plot) => Some((plot.name, plot.svg.unwrap())),
        _ => None,
    });
    plots.collect()
}

#[test]
fn cells_are_the_numbers_that_were_measured() {
    let mut results = sample(&["a", "b"], &["adaptive"]);
    for (task, speed_up) in results.tasks.iter_mut().zip([2.0, 8.0]) {
        task.plain.tokens_per_s = Spread { median: 20.0, min: 19.04, max: 21.0 };
        for ours in &mut task.lookahead {
            ours.speed_up = Spread { median: speed_up, min: speed_up - 0.5, max: speed_up };
            ours.measure.tokens_per_s = Spread::of(vec![20.0 * speed_up]);
            ours.edl = speed_up;
            ours.draft_lengths = vec![1, 0, 3];
        }
        task.peers[1].measure.tokens_per_s = Spread::of(vec![10.0 * speed_up]);
        task.counterparts[0].measure.tokens_per_s = Spread::of(vec![20.0 * speed_up]);
    }
    results.tasks[0].peers[1].differing = 1;
    let text = markdown(&results);
    for line in [
        "> **Lossless: 23,520 answers, 4,812,034 tokens: all equal to plain decoding.**",
        "| a | 20 | 20.0 (19.0–21.0) | 2.00× (1.50–2.00) | 2.00× (1.50–2.00)",
        "| **mean** | **40** | **20.0** | **4.00×** | **4.00×** | **4.00×** | **4.00×** | **4.00** |",
        "| a | adaptive | cold | 40.0 | 2.00× (1.50–2.00) |",
        "| 2.00 | 1.50 |",
        "| 1.2 % |",
        "| 40.0 same | 2.00× ngram-simple |",
        "| **2.00×** |",
        "| 8 | 66.0 | 1.40 |",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
}

#[test]
fn answers_that_differ_are_told_before_all_else() {
    let mut results = sample(&["a"], &["adaptive"]);
    results.lossless.differing = 3;
    let expected = "NOT LOSSLESS: 3 of 23,520 answers (4,812,034 tokens) differ from plain decoding.";
    let text = markdown(&results);
    assert!(text.lines().nth(4).is_some_and(|line| line == format!("> **{expected}**")), "{text}");
    assert!(html(&results).contains(&format!("<p class=\"verdict fails\">{expected}</p>")));
}

#[test]
fn names_from_outside_are_text_everywhere() {
    let name = "<script>|x";
    let mut results = sample(&[name, "b"], &["adaptive", name]);
    results.subject.model = name.to_owned();
    results.subject.peer = Some(name.to_owned());
    results.tasks[0].peers[0].mode = name.to_owned();
    let (page, text) = (html(&results), markdown(&results));
    assert!(!page.contains("<script") && page.contains("&lt;script&gt;|x"), "{page}");
    assert!(!text.contains("<script") && text.contains("| &lt;script&gt;\\|x |"), "{text}");
    let links = page.matches("://").count();
    assert_eq!(links, page.matches("xmlns=\"http://").count(), "the page points outside");
}

#[test]
fn pictures_are_well_formed_whatever_was_measured() {
    let long: Vec<String> =
        (0..30).map(|n| format!("<&\"'>\0_a_task_with_a_very_long_name_{n:04}_")).collect();
    let long: Vec<&str> = long.iter().map(String::as_str).collect();
    let mut cases = vec![
        sample(&TASKS, &POLICIES),
        sample(&TASKS[..2], &POLICIES[..1]),
        sample(&TASKS[..1], &POLICIES),
        sample(&long, &POLICIES),
        sample(&[], &[]),
        sample(&TASKS, &[]),
    ];
    for value in [0.0, f64::NAN, f64::INFINITY, -1.0, f64::MAX, f64::MIN_POSITIVE] {
        let mut results = sample(&TASKS[..3], &POLICIES);
        let spread = Spread { median: value, min: value, max: value };
        results.curve = vec![CostPoint { tokens: 1, ms: value }];
        results.tasks[1].plain = Measure { tokens_per_s: spread, ttft_ms: value };
        results.tasks[1].peers.clear();
        results.tasks[2].lookahead.retain(|ours| ours.warmth == Warmth::Other);
        for ours in &mut results.tasks[1].lookahead {
            (ours.speed_up, ours.measure.tokens_per_s) = (spread, spread);
            (ours.edl, ours.paired_speed_up, ours.retrieval_share) = (value, value, value);
            (ours.draft_lengths, ours.accepted_lengths) = (vec![u64::MAX; 300], Vec::new());
            ours.online.truncate(1);
            ours.online.iter_mut().for_each(|point| (point.edl, point.speed_up) = (value, value));
        }
        cases.push(results.clone());
        results.tasks.swap_remove(0);
        cases.push(results.clone());
        results.tasks.swap_remove(0);
        cases.push(results);
    }
    for results in cases {
        for (name, svg) in plots(&results) {
            assert_eq!(fault(&svg), None, "{name}");
        }
        let text = markdown(&results) + &html(&results);
        assert!(!text.contains("NaN") && !text.contains("inf×"), "{text}");
    }
    let names: Vec<&str> = plots(&sample(&TASKS, &POLICIES)).iter().map(|plot| plot.0).collect();
    assert_eq!(names, ["speed-up", "draft-length", "source", "accepted-length", "online", "cost-curve"]);
    assert_eq!(plots(&sample(&[], &[])).len(), 1, "the cost curve needs no task");
}

#[test]
fn all_files_are_written_and_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path().join("report");
    write(&sample(&TASKS[..3], &POLICIES), &directory).unwrap();
    let results = sample(&TASKS[..2], &POLICIES);
    write(&results, &directory).unwrap();
    let read = |name: &str| std::fs::read_to_string(directory.join(name)).unwrap();
    let again: Results = serde_json::from_str(&read("results.json")).unwrap();
    assert_eq!(markdown(&again), markdown(&results));
    assert_eq!((read("report.md"), read("report.html")), (markdown(&results), html(&results)));
    for (name, svg) in plots(&results) {
        assert_eq!(read(&format!("plots/{name}.svg")), svg);
        assert!(markdown(&results).contains(&format!("(plots/{name}.svg)")));
    }
    assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 4, "nothing else is left behind");
}

#[test]
fn a_terminal_gets_a_line_a_task_with_the_first_policy() {
    let mut results = sample(&["a", "longer"], &["adaptive", "8"]);
    for task in &mut results.tasks {
        task.lookahead.retain(|ours| ours.warmth != Warmth::Other);
        for ours in &mut task.lookahead {
            (ours.speed_up, ours.edl) = (Spread::of(vec![1.5]), 2.0);
        }
    }
    results.tasks[1].lookahead.retain(|ours| ours.warmth != Warmth::Online);
    let expected = "\
task    plain tokens/s     cold  EDL      same  EDL    online  EDL 
a                 21.3    1.50x  2.00    1.50x  2.00    1.50x  2.00
longer            21.3    1.50x  2.00    1.50x  2.00        -  -   

All 23520 answers equal those of plain decoding
";
    assert_eq!(summary(&results), expected);
    results.lossless.differing = 2;
    assert!(summary(&results).contains("2 of 23520 answers DIFFER"));
    assert_eq!(summary(&sample(&[], &[])), "Nothing was measured\n");
}
