//! The tables of a report.

use super::document::{Cell, NOTHING, Table};
use super::format::{
    amount, arithmetic_mean, geometric_mean, grouped, is_positive, mean_length, number, percent, spread,
    times,
};
use super::plots;
use super::selection::{find, warmths};
use crate::results::{Counterpart, LookaheadResults, Measure, PeerResults, Results, Subject, TaskResults};
use crate::setting::Warmth;

pub(super) fn subject_table(subject: &Subject) -> Table {
    let rows = [
        ("Model", subject.model.clone()),
        ("Size", format!("{:.1} MB", subject.model_bytes as f64 / 1e6)),
        ("CPU", subject.cpu.clone()),
        ("Instruction set", subject.instruction_set.clone()),
        ("Threads", subject.threads.to_string()),
        ("KV cache", subject.kv_type.clone()),
        ("New tokens of an answer, at most", grouped(subject.max_tokens as u64)),
        ("Repeats", subject.repeats.to_string()),
        ("Program", format!("Lookahead {}", subject.program)),
        ("Compared with", subject.peer.clone().unwrap_or_else(|| NOTHING.to_owned())),
    ];
    let gpu = subject.gpu.iter().map(|gpu| ("GPU", gpu.clone()));
    Table {
        columns: vec!["Subject".to_owned(), String::new()],
        texts: 2,
        rows: gpu.chain(rows).map(|(name, value)| vec![name.into(), value.into()]).collect(),
        has_mean: false,
    }
}

pub(super) fn headline_table(results: &Results, policy: Option<&str>) -> Table {
    let warmths = policy.map_or(Vec::new(), |policy| warmths(results, policy));
    let first = warmths.first();
    let mut columns: Vec<String> = ["Task", "Prompts", "Plain tokens/s"].map(str::to_owned).to_vec();
    columns.extend(warmths.iter().map(|warmth| format!("Speed-up {}", warmth.as_str())));
    columns.extend(warmths.iter().map(|warmth| format!("EDL {}", warmth.as_str())));
    columns.push("TTFT plain, ms".to_owned());
    columns.extend(first.map(|warmth| format!("TTFT {}, ms", warmth.as_str())));

    let ours = |task, &warmth: &Warmth| find(task, policy?, warmth);
    let mut rows: Vec<Vec<Cell>> = Vec::new();
    for task in &results.tasks {
        let mut row: Vec<Cell> = vec![
            task.task.as_str().into(),
            task.prompts.to_string().into(),
            spread(task.plain.tokens_per_s, amount).into(),
        ];
        let of_all = warmths.iter().map(|warmth| ours(task, warmth));
        let speed_up = |ours: &LookaheadResults| spread(ours.speed_up, times);
        row.extend(of_all.clone().map(|ours| Cell::from(ours.map_or(NOTHING.to_owned(), speed_up))));
        row.extend(of_all.map(|ours| Cell::from(number(ours.map_or(f64::NAN, |ours| ours.edl), 2))));
        row.push(amount(task.plain.ttft_ms).into());
        row.extend(first.map(|warmth| {
            Cell::from(amount(ours(task, warmth).map_or(f64::NAN, |ours| ours.measure.ttft_ms)))
        }));
        rows.push(row);
    }
    let has_mean = rows.len() > 1;
    if has_mean {
        let of_warmth = |warmth, value: fn(&LookaheadResults) -> f64| {
            results.tasks.iter().filter_map(|task| ours(task, warmth)).map(value).collect::<Vec<_>>()
        };
        let of_plain = |value: fn(&TaskResults) -> f64| arithmetic_mean(results.tasks.iter().map(value));
        let mut row: Vec<Cell> = vec![
            "mean".into(),
            grouped(results.tasks.iter().map(|task| task.prompts as u64).sum()).into(),
            amount(of_plain(|task| task.plain.tokens_per_s.median)).into(),
        ];
        let speed_up = |warmth| times(geometric_mean(of_warmth(warmth, |ours| ours.speed_up.median)));
        row.extend(warmths.iter().map(|warmth| Cell::from(speed_up(warmth))));
        let edl = |warmth| number(geometric_mean(of_warmth(warmth, |ours| ours.edl)), 2);
        row.extend(warmths.iter().map(|warmth| Cell::from(edl(warmth))));
        row.push(amount(of_plain(|task| task.plain.ttft_ms)).into());
        row.extend(first.map(|warmth| {
            Cell::from(amount(arithmetic_mean(of_warmth(warmth, |ours| ours.measure.ttft_ms))))
        }));
        rows.push(row);
    }
    Table { columns, texts: 1, rows, has_mean }
}

/// Speed-up and EDL of each policy in each task; `None` if nothing was measured with `warmth`.
pub(super) fn policy_table(results: &Results, policies: &[&str], warmth: Warmth) -> Option<Table> {
    let rows = policies.iter().filter_map(|policy| {
        let values: Vec<(f64, f64)> = results
            .tasks
            .iter()
            .map(|task| {
                find(task, policy, warmth)
                    .map_or((f64::NAN, f64::NAN), |ours| (ours.speed_up.median, ours.edl))
            })
            .collect();
        let (speed_ups, edls) = values.iter().copied().unzip::<_, _, Vec<_>, Vec<_>>();
        let mean = (geometric_mean(speed_ups), geometric_mean(edls));
        mean.1.is_finite().then(|| (policy, std::iter::once(mean).chain(values).collect::<Vec<_>>()))
    });
    let rows: Vec<_> = rows.collect();
    if rows.is_empty() {
        return None;
    }
    let best: Vec<f64> = (0..=results.tasks.len())
        .map(|column| rows.iter().map(|(_, values)| values[column].0).fold(f64::NAN, f64::max))
        .collect();
    let mut columns = vec![format!("Speed-up and EDL, {}", warmth.as_str()), "mean".to_owned()];
    columns.extend(results.tasks.iter().map(|task| task.task.clone()));
    let rows = rows.into_iter().map(|(policy, values)| {
        let cells = values.iter().zip(&best).map(|(&(speed_up, edl), &best)| Cell {
            text: if edl.is_finite() {
                format!("{}, {}", times(speed_up), number(edl, 2))
            } else {
                NOTHING.to_owned()
            },
            is_best: speed_up == best,
        });
        std::iter::once(Cell::from(*policy)).chain(cells).collect()
    });
    Some(Table { columns, texts: 1, rows: rows.collect(), has_mean: false })
}

pub(super) fn details_table(results: &Results) -> Table {
    let columns = [
        "Task",
        "Policy",
        "Learned",
        "Tokens/s",
        "Speed-up",
        "Paired",
        "By the curve",
        "EDL",
        "Drafted",
        "Accepted",
        "Drafting",
        "TTFT, ms",
    ];
    let mut rows: Vec<Vec<Cell>> = Vec::new();
    for task in &results.tasks {
        let plain = [&task.task, "plain", NOTHING, &spread(task.plain.tokens_per_s, amount)].map(Cell::from);
        let mut row = Vec::from(plain);
        row.extend((0..7).map(|_| Cell::from(NOTHING)));
        row.push(amount(task.plain.ttft_ms).into());
        rows.push(row);
        for ours in &task.lookahead {
            let cells = [
                task.task.clone(),
                ours.policy.clone(),
                ours.warmth.as_str().to_owned(),
                spread(ours.measure.tokens_per_s, amount),
                spread(ours.speed_up, times),
                times(ours.paired_speed_up),
                times(ours.speed_up_by_curve),
                number(ours.edl, 2),
                number(mean_length(&ours.draft_lengths), 2),
                number(mean_length(&ours.accepted_lengths), 2),
                percent(ours.retrieval_share),
                amount(ours.measure.ttft_ms),
            ];
            rows.push(cells.map(Cell::from).into());
        }
    }
    Table { columns: columns.map(str::to_owned).to_vec(), texts: 3, rows, has_mean: false }
}

/// Plain decoding and each policy by how many prompts are decoded together.
pub(super) fn batch_table(results: &Results) -> Table {
    let columns =
        ["Policy", "Prompts at once", "Batches", "Tokens/s of all", "Speed-up", "EDL", "Drafted", "Accepted"];
    let mut rows: Vec<Vec<Cell>> = Vec::new();
    for batch in &results.batches {
        let row = |policy: &str, measure: Measure, rest: [String; 4]| {
            let counts = [batch.size, batch.batches].map(|count| grouped(count as u64));
            let cells = [policy.to_owned()].into_iter().chain(counts);
            cells.chain([spread(measure.tokens_per_s, amount)]).chain(rest).map(Cell::from).collect()
        };
        rows.push(row("plain", batch.plain, [NOTHING; 4].map(str::to_owned)));
        rows.extend(batch.lookahead.iter().map(|ours| {
            let rest = [
                spread(ours.speed_up, times),
                number(ours.edl, 2),
                number(mean_length(&ours.draft_lengths), 2),
                number(mean_length(&ours.accepted_lengths), 2),
            ];
            row(&ours.policy, ours.measure, rest)
        }));
    }
    Table { columns: columns.map(str::to_owned).to_vec(), texts: 1, rows, has_mean: false }
}

/// The other program beside ours; `None` if there was none.
pub(super) fn peer_table(results: &Results, policy: Option<&str>) -> Option<Table> {
    let mut modes: Vec<&str> = Vec::new();
    for peer in results.tasks.iter().flat_map(|task| &task.peers) {
        if !modes.contains(&peer.mode.as_str()) {
            modes.push(&peer.mode);
        }
    }
    if modes.is_empty() {
        return None;
    }
    let mut columns = vec!["Task".to_owned()];
    for mode in &modes {
        columns.extend([format!("{mode} tokens/s"), format!("{mode} changed")]);
    }
    columns.extend(["Lookahead tokens/s", "Over its best mode"].map(str::to_owned));

    let mut ratios = Vec::new();
    let mut rows: Vec<Vec<Cell>> = Vec::new();
    for task in &results.tasks {
        let mut row = vec![Cell::from(task.task.as_str())];
        for mode in &modes {
            let peer = task.peers.iter().find(|peer| peer.mode == *mode);
            row.push(peer.map_or(NOTHING.into(), |peer| spread(peer.measure.tokens_per_s, amount).into()));
            row.push(peer.map_or(NOTHING.into(), |peer| peer.differing.to_string().into()));
        }
        let is_compared = |ours: &&Counterpart| {
            Some(&*ours.policy) == policy && matches!(ours.warmth, Warmth::Cold | Warmth::Same)
        };
        let ours =
            fastest(task.counterparts.iter().filter(is_compared), |ours| ours.measure.tokens_per_s.median);
        let peer = fastest(task.peers.iter(), |peer: &&PeerResults| peer.measure.tokens_per_s.median);
        row.push(ours.map_or(NOTHING.into(), |(ours, _)| {
            format!("{} {}", spread(ours.measure.tokens_per_s, amount), ours.warmth.as_str()).into()
        }));
        row.push(ours.zip(peer).map_or(NOTHING.into(), |((_, ours), (peer, theirs))| {
            ratios.push(ours / theirs);
            format!("{} {}", times(ours / theirs), peer.mode).into()
        }));
        rows.push(row);
    }
    let has_mean = rows.len() > 1;
    if has_mean {
        let mut row = vec![Cell::from("mean")];
        row.extend((0..columns.len() - 2).map(|_| Cell::from("")));
        row.push(times(geometric_mean(ratios)).into());
        rows.push(row);
    }
    Some(Table { columns, texts: 1, rows, has_mean })
}

pub(super) fn curve_table(results: &Results) -> Table {
    let points = plots::relative_curve(results).into_iter();
    let rows = points.map(|(tokens, ms, relative)| {
        [tokens.to_string(), amount(ms), number(relative, 2)].map(Cell::from).into()
    });
    let columns = ["Tokens of the pass, N", "Time, ms", "c(N)"];
    Table { columns: columns.map(str::to_owned).to_vec(), texts: 0, rows: rows.collect(), has_mean: false }
}

/// The item of the greatest speed, with it.
fn fastest<T>(items: impl Iterator<Item = T>, speed: impl Fn(&T) -> f64) -> Option<(T, f64)> {
    let items = items.map(|item| {
        let speed = speed(&item);
        (item, speed)
    });
    items.filter(|(_, speed)| is_positive(*speed)).max_by(|(_, a), (_, b)| a.total_cmp(b))
}
