//! From runs to results.

use std::collections::{HashMap, HashSet};

use lookahead_engine::CostCurve;

use crate::bench::{Plan, batch_name};
use crate::journal::Journal;
use crate::peer::PEER_MODES;
use crate::results::{
    BatchResults, Counterpart, LookaheadResults, Lossless, Measure, OnlinePoint, PeerResults, Results,
    Spread, TaskResults, VERSION, median_of_sorted,
};
use crate::run::{Run, Setting, add_counts};
use crate::setting::Warmth;
use crate::suite::{Case, Prompt, Task};

impl Results {
    /// What the runs of `journal` come to, in the order of `plan`. Tasks that were not measured are left out.
    pub fn new(journal: &Journal, plan: &Plan) -> Self {
        let curve = &journal.header().curve;
        let mut lossless = Lossless::default();
        let tasks = plan.tasks.iter().filter_map(|task| {
            let runs = Runs::of(journal, task);
            runs.compare(&mut lossless);
            runs.results(task, plan, curve)
        });
        let tasks = tasks.collect();
        let batches = plan.batch_sizes.iter().filter_map(|&size| {
            let case = |number| Case { id: format!("#{number}"), prompt: Prompt::Known(Vec::new()) };
            let measured = (0..plan.batches(size).len()).map(case).collect();
            let task = Task { name: batch_name(size), measured, warm_up: Vec::new() };
            let runs = Runs::of(journal, &task);
            runs.compare(&mut lossless);
            let results = runs.results(&task, plan, curve)?;
            Some(BatchResults {
                size,
                batches: results.prompts,
                plain: results.plain,
                lookahead: results.lookahead,
            })
        });
        let batches = batches.collect();
        Self {
            version: VERSION,
            subject: journal.header().identity.subject.clone(),
            curve: curve.points().to_vec(),
            lossless,
            tasks,
            batches,
        }
    }
}

/// The runs of a task, by setting; those of a setting in the order of prompts, then repeats.
struct Runs<'a> {
    by_setting: HashMap<&'a Setting, Vec<&'a Run>>,
    /// The place of each prompt in the order in which they are served.
    places: HashMap<&'a str, usize>,
    /// Answers that teach.
    lessons: usize,
}

impl<'a> Runs<'a> {
    fn of(journal: &'a Journal, task: &'a Task) -> Self {
        let places: HashMap<&str, usize> =
            task.measured.iter().enumerate().map(|(place, case)| (&*case.id, place)).collect();
        let mut by_setting: HashMap<&Setting, Vec<&Run>> = HashMap::new();
        for run in journal.runs() {
            if run.key.task == task.name && places.contains_key(&*run.key.prompt) {
                by_setting.entry(&run.key.setting).or_default().push(run);
            }
        }
        for runs in by_setting.values_mut() {
            runs.sort_by_key(|run| (places[&*run.key.prompt], run.key.repeat));
        }
        let lessons = journal.lessons().iter().filter(|lesson| lesson.task == task.name).count();
        Self { by_setting, places, lessons }
    }

    fn get(&self, setting: &Setting) -> &[&'a Run] {
        self.by_setting.get(setting).map_or(&[], Vec::as_slice)
    }

    /// Each run of `setting` beside that of plain decoding.
    fn pairs(&self, setting: &Setting) -> Vec<(&'a Run, &'a Run)> {
        let plain: HashMap<_, _> =
            self.get(&Setting::Plain).iter().map(|run| ((&run.key.prompt, run.key.repeat), *run)).collect();
        let runs = self.get(setting).iter();
        runs.filter_map(|run| Some((*run, *plain.get(&(&run.key.prompt, run.key.repeat))?))).collect()
    }

    /// Compares every answer of lookahead with the plain one.
    fn compare(&self, lossless: &mut Lossless) {
        let ours = self.by_setting.keys().filter(|setting| matches!(setting, Setting::Lookahead { .. }));
        for (run, plain) in ours.flat_map(|setting| self.pairs(setting)) {
            lossless.answers += 1;
            lossless.tokens += plain.token_ids.len();
            lossless.differing += usize::from(run.token_ids != plain.token_ids);
        }
    }

    fn results(&self, task: &Task, plan: &Plan, curve: &CostCurve) -> Option<TaskResults> {
        let plain = self.get(&Setting::Plain);
        if plain.is_empty() {
            return None;
        }
        let lookahead = settings(plan).filter_map(|setting| self.lookahead(&setting, curve)).collect();
        let peers = PEER_MODES.iter().filter_map(|mode| self.peer(mode)).collect();
        Some(TaskResults {
            task: task.name.clone(),
            prompts: prompts(plain),
            warm_up_prompts: self.lessons,
            plain: measure(plain),
            lookahead,
            peers,
            counterparts: self.counterparts(plan),
        })
    }

    fn lookahead(&self, setting: &Setting, curve: &CostCurve) -> Option<LookaheadResults> {
        let Setting::Lookahead { policy, warmth } = setting else { return None };
        let pairs = self.pairs(setting);
        let runs: Vec<&Run> = pairs.iter().map(|(run, _)| *run).collect();
        if runs.is_empty() {
            return None;
        }
        let [draft_lengths, accepted_lengths] = [
            histogram(runs.iter().map(|run| run.draft_lengths.as_slice())),
            histogram(runs.iter().map(|run| run.accepted_lengths.as_slice())),
        ];
        let steps: u64 = draft_lengths.iter().sum();
        let tokens: usize = runs.iter().map(|run| run.decode_tokens).sum();
        let passes = draft_lengths.iter().zip(1..);
        let cost: f64 = passes.map(|(&steps, nodes)| steps as f64 * curve.relative(nodes)).sum();
        let speed_ups = by_repeat(&pairs, |(run, _)| run.key.repeat).into_iter().map(|pairs| {
            let sum = |of: fn(&(&Run, &Run)) -> f64| pairs.iter().map(of).sum::<f64>();
            sum(|(_, plain)| plain.decode_ms) / sum(|(run, _)| run.decode_ms)
        });
        Some(LookaheadResults {
            policy: policy.clone(),
            warmth: *warmth,
            measure: measure(&runs),
            speed_up: Spread::of(speed_ups.filter(|ratio| ratio.is_finite()).collect()),
            paired_speed_up: median(pairs.iter().filter_map(speed_up).collect()),
            speed_up_by_curve: ratio(tokens as f64, cost),
            edl: ratio(tokens as f64, steps as f64),
            retrieval_share: ratio(
                runs.iter().map(|run| run.retrieval_ms).sum(),
                runs.iter().map(|run| run.decode_ms).sum(),
            ),
            draft_lengths,
            accepted_lengths,
            online: if *warmth == Warmth::Online { self.online(&pairs) } else { Vec::new() },
        })
    }

    /// The requests in the order in which they were served.
    fn online(&self, pairs: &[(&Run, &Run)]) -> Vec<OnlinePoint> {
        let of_prompt = pairs.chunk_by(|(a, _), (b, _)| a.key.prompt == b.key.prompt);
        let points = of_prompt.filter_map(|pairs| {
            let (first, _) = pairs.first()?;
            let speed_ups: Vec<f64> = pairs.iter().filter_map(speed_up).collect();
            (!speed_ups.is_empty()).then(|| OnlinePoint {
                served: self.places[&*first.key.prompt],
                edl: median(
                    pairs
                        .iter()
                        .map(|(run, _)| ratio(run.decode_tokens as f64, run.steps() as f64))
                        .collect(),
                ),
                speed_up: median(speed_ups),
            })
        });
        points.collect()
    }

    /// Lookahead on the prompts that another program decoded.
    fn counterparts(&self, plan: &Plan) -> Vec<Counterpart> {
        let theirs = self.get(&Setting::Peer { mode: PEER_MODES[0].to_owned() });
        let prompts: HashSet<&str> = theirs.iter().map(|run| &*run.key.prompt).collect();
        let counterparts = settings(plan).filter_map(|setting| {
            let all = self.get(&setting).iter();
            let runs: Vec<&Run> = all.copied().filter(|run| prompts.contains(&*run.key.prompt)).collect();
            let Setting::Lookahead { policy, warmth } = setting else { return None };
            (!runs.is_empty()).then(|| Counterpart { policy, warmth, measure: measure(&runs) })
        });
        counterparts.collect()
    }

    fn peer(&self, mode: &str) -> Option<PeerResults> {
        let of_mode = |mode: &str| self.get(&Setting::Peer { mode: mode.to_owned() });
        let runs = of_mode(mode);
        let plain: HashMap<_, _> =
            of_mode(PEER_MODES[0]).iter().map(|run| (&run.key.prompt, &run.token_ids)).collect();
        let differs =
            |run: &&&Run| plain.get(&run.key.prompt).is_some_and(|tokens| **tokens != run.token_ids);
        (!runs.is_empty()).then(|| PeerResults {
            mode: mode.to_owned(),
            prompts: prompts(runs),
            measure: measure(runs),
            differing: runs.iter().filter(differs).count(),
        })
    }
}

/// All settings of lookahead.
fn settings(plan: &Plan) -> impl Iterator<Item = Setting> {
    plan.policies.iter().flat_map(|policy| {
        plan.warmths.iter().map(|&warmth| Setting::Lookahead { policy: policy.to_string(), warmth })
    })
}

/// The number of prompts in runs, which are in the order of prompts.
fn prompts(runs: &[&Run]) -> usize {
    runs.chunk_by(|a, b| a.key.prompt == b.key.prompt).count()
}

/// How many times as fast as the plain one a run was; `None` where there was nothing to decode.
fn speed_up((run, plain): &(&Run, &Run)) -> Option<f64> {
    Some(plain.decode_ms / run.decode_ms).filter(|ratio| ratio.is_finite() && run.decode_tokens > 0)
}

fn measure(runs: &[&Run]) -> Measure {
    let speeds = by_repeat(runs, |run| run.key.repeat).into_iter().map(|runs| {
        let tokens: usize = runs.iter().map(|run| run.decode_tokens).sum();
        ratio(tokens as f64 * 1e3, runs.iter().map(|run| run.decode_ms).sum())
    });
    Measure {
        tokens_per_s: Spread::of(speeds.collect()),
        ttft_ms: median(runs.iter().map(|run| run.ttft_ms).collect()),
    }
}

/// `items` in groups of one repeat each.
fn by_repeat<T: Copy>(items: &[T], repeat: impl Fn(&T) -> usize) -> Vec<Vec<T>> {
    let mut groups: Vec<Vec<T>> = Vec::new();
    for &item in items {
        let index = repeat(&item);
        if groups.len() <= index {
            groups.resize_with(index + 1, Vec::new);
        }
        groups[index].push(item);
    }
    groups.retain(|group| !group.is_empty());
    groups
}

fn histogram<'a>(counts: impl Iterator<Item = &'a [u64]>) -> Vec<u64> {
    let mut sum = Vec::new();
    counts.for_each(|counts| add_counts(&mut sum, counts));
    sum
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    median_of_sorted(&values)
}

/// `a / b`, or 0 if `b` is 0.
fn ratio(a: f64, b: f64) -> f64 {
    if b == 0.0 { 0.0 } else { a / b }
}
