//! `lookahead replay`, and recording for it.

use crate::program::Directory;
use lookahead_fixtures::TinyModel;
use serde_json::{Value, json};

fn lines(lines: &[Value]) -> String {
    lines.iter().map(Value::to_string).collect::<Vec<_>>().join("\n")
}

/// Two tasks of two streams; in `copy` the answer is the prompt.
fn streams() -> String {
    let text: Vec<u32> = (0..40).collect();
    lines(&[
        json!({"task": "copy", "prompt_ids": text, "output_ids": text}),
        json!({"task": "new", "prompt_ids": [1], "output_ids": (50..90).collect::<Vec<u32>>()}),
        json!({"task": "copy", "prompt_ids": text, "output_ids": text}),
        json!({"task": "new", "prompt_ids": [1], "output_ids": (50..90).collect::<Vec<u32>>()}),
    ])
}

#[test]
fn a_row_says_how_many_tokens_a_pass_yields() {
    let directory = Directory::new();
    directory.write("s.jsonl", streams());
    let run = directory.run("replay s.jsonl --json --budgets 1,4 --drafters pld,suffix:tree");
    assert_eq!(run.code, 0, "{}", run.stderr);
    let report: Value = serde_json::from_str(&run.stdout).unwrap();
    let edl = |rows: &Value, task: Value, drafter: &str, warm: &str, budget: u64| {
        let rows = rows.as_array().unwrap();
        let row = rows.iter().find(|row| {
            (&row["task"], &row["drafter"], &row["warm"], &row["budget"])
                == (&task, &json!(drafter), &json!(warm), &json!(budget))
        });
        row.unwrap()["edl"].as_f64().unwrap()
    };
    let results = &report["results"];
    assert_eq!(results.as_array().unwrap().len(), 2 * 2 * 3 * 2, "tasks, drafters, warm-ups, budgets");
    assert_eq!(edl(results, json!("copy"), "pld", "cold", 1), 1.0);
    assert_eq!(edl(results, json!("copy"), "pld", "cold", 4), 3.9, "39 tokens in 10 passes");
    assert_eq!(edl(results, json!("new"), "suffix:tree", "cold", 4), 1.0);
    assert_eq!(edl(results, json!("new"), "suffix:tree", "same", 4), 3.9);
    assert_eq!(edl(results, json!("new"), "suffix:tree", "other", 4), 1.0);
    assert_eq!(edl(&report["means"], Value::Null, "pld", "same", 4), 2.45);
    assert!(report["curve"][0]["ms"].as_f64().unwrap() > 0.0);

    let table = directory.run("replay s.jsonl --warmup s.jsonl --limit 1 --budgets 4");
    assert_eq!(table.code, 0, "{}", table.stderr);
    assert!(table.stdout.starts_with("task ") && table.stdout.contains("\n(mean)"), "{}", table.stdout);
}

#[test]
fn replicas_learn_from_each_other_by_snapshots() {
    let directory = Directory::new();
    directory.write("s.jsonl", streams());
    let flags = "--drafters lookahead --budgets 4";
    let run = directory.run(&format!("replay s.jsonl --json {flags} --replicas 1,4 --share none,snapshot:1"));
    assert_eq!(run.code, 0, "{}", run.stderr);
    let report: Value = serde_json::from_str(&run.stdout).unwrap();
    let rows = report["fleets"].as_array().unwrap();
    let keys: Vec<_> = rows.iter().map(|row| (row["share"].as_str().unwrap(), &row["replicas"])).collect();
    assert_eq!(
        keys,
        [("none", &json!(1)), ("none", &json!(4)), ("snapshot:1", &json!(1)), ("snapshot:1", &json!(4))]
    );
    let edl: Vec<_> = rows.iter().map(|row| row["edl"].as_f64().unwrap()).collect();
    assert!(edl[1] < edl[0] && edl[2] == edl[0] && edl[3] == edl[0], "{edl:?}");

    let table = directory.run(&format!("replay s.jsonl {flags} --replicas 2 --limit 1"));
    assert_eq!(table.code, 0, "{}", table.stderr);
    assert!(table.stdout.starts_with("drafter ") && table.stdout.contains("snapshot:64"), "{}", table.stdout);

    for (arguments, problem) in [
        ("--replicas 2 --share snapshot:0", "neither `none` nor `snapshot:K`"),
        ("--replicas 0", "invalid value '0'"),
        ("--share none", "--replicas"),
    ] {
        let run = directory.run(&format!("replay s.jsonl {arguments}"));
        assert_eq!(run.code, 2, "{arguments}");
        assert!(run.stderr.contains(problem) && run.stdout.is_empty(), "{}", run.stderr);
    }
}

#[test]
fn errors_name_file_line_and_field() {
    let directory = Directory::new();
    directory.write("good.jsonl", streams());
    directory.write("bad.jsonl", streams() + "\n{\"prompt_ids\": [1], \"output_ids\": [\"x\"]}\n");
    directory.write("curve.json", "[]");
    for (arguments, problem) in [
        ("bad.jsonl", "bad.jsonl, line 5: `output_ids`: invalid type"),
        ("good.jsonl --warmup bad.jsonl", "bad.jsonl, line 5: `output_ids`"),
        ("none.jsonl", "none.jsonl"),
        ("good.jsonl --curve curve.json", "curve.json is no cost curve"),
    ] {
        let run = directory.run(&format!("replay {arguments}"));
        assert_eq!(run.code, 1, "{arguments}");
        assert!(run.stderr.contains(problem) && run.stdout.is_empty(), "{}", run.stderr);
    }
    assert_eq!(directory.run("replay good.jsonl --drafters best").code, 2);
    assert_eq!(directory.run("replay good.jsonl --budgets 0").code, 2);
}

#[test]
fn what_generate_records_can_be_replayed() {
    let directory = Directory::with_model(&TinyModel::default());
    let generate = |flags: &str| {
        directory.run(&format!("generate -m model.gguf --prompt hello --max-tokens 12 --json {flags}"))
    };
    let plain = generate("--decoding plain --record s.jsonl --record-task t");
    assert_eq!(plain.code, 0, "{}", plain.stderr);
    assert_eq!(generate("--draft-length 8 --record s.jsonl").code, 0);
    let answer: Value = serde_json::from_str(&plain.stdout).unwrap();

    let text = String::from_utf8(directory.read("s.jsonl")).unwrap();
    let streams: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&streams[0]["task"], &streams[1]["task"]), (&json!("t"), &json!("default")));
    assert_eq!(streams[0]["output_ids"], answer["token_ids"]);
    assert_eq!(streams[0]["prompt_ids"].as_array().unwrap().len() as u64, answer["prompt_tokens"]);
    for field in ["prompt_ids", "output_ids", "runners_up"] {
        assert_eq!(streams[0][field], streams[1][field], "{field}: drafts change nothing");
    }
    let best = streams[0]["runners_up"].as_array().unwrap();
    for (best, chosen) in best.iter().zip(streams[0]["output_ids"].as_array().unwrap()) {
        assert_eq!((best.as_array().unwrap().len(), &best[0]), (8, chosen));
    }
    let replay = directory.run("replay s.jsonl");
    assert_eq!(replay.code, 0, "{}", replay.stderr);
}

#[test]
fn what_cannot_be_recorded_is_not_generated() {
    let directory = Directory::with_model(&TinyModel::default());
    let run = directory.run("generate -m model.gguf --prompt hello --record no/such/s.jsonl");
    assert_eq!((run.code, &*run.stdout), (1, ""));
    assert!(run.stderr.contains("cannot record to no/such/s.jsonl"), "{}", run.stderr);
    assert_eq!(directory.run("generate -m model.gguf --prompt hello --record-task t").code, 2);
}
