//! All combinations of task, draft engine, warm-up and budget, played and summed up.

use std::collections::BTreeMap;
use std::time::Duration;

use lookahead_engine::CostCurve;
use serde::Serialize;

use crate::depth_reliability::ReliabilityByDepth;
use crate::drafters::{NewDrafter, Target, UnknownDrafter, find_drafters};
use crate::player::Tally;
use crate::stream::Stream;

/// What a draft engine has learned before the test requests, each of which it meets alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Warmth {
    /// Nothing.
    Cold,
    /// The warm-up requests of the same task.
    Same,
    /// The warm-up requests of all other tasks.
    Other,
}

impl Warmth {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Cold, Self::Same, Self::Other];

    /// The name in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cold => "cold",
            Self::Same => "same",
            Self::Other => "other",
        }
    }
}

/// Requests of one task.
#[derive(Clone, Debug, Default)]
struct Task {
    tests: Vec<Stream>,
    warm_up: Vec<Stream>,
}

/// What to play.
#[derive(Clone, Debug)]
pub struct Experiment {
    tasks: BTreeMap<String, Task>,
    drafters: Vec<(&'static str, NewDrafter)>,
    budgets: Vec<usize>,
}

/// The middle and the upper end of some times, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Quantiles {
    /// Half of the times are no longer.
    pub p50: f64,
    /// Of a hundred times, 99 are no longer.
    pub p99: f64,
}

/// What one combination came to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Outcome {
    /// The task; `None` for the mean over all tasks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// The draft engine.
    pub drafter: &'static str,
    /// What it had learned before.
    pub warm: Warmth,
    /// The most nodes of a pass, the root included.
    pub budget: usize,
    /// Test requests.
    pub requests: usize,
    /// Tokens per decode step.
    pub edl: f64,
    /// Share of steps with at least one accepted draft token.
    pub hit_rate: f64,
    /// Drafted tokens a step.
    pub drafted: f64,
    /// Accepted draft tokens a step.
    pub accepted: f64,
    /// The time of a draft.
    pub retrieval_us: Quantiles,
    /// The time to insert a step's tokens.
    pub insertion_us: Quantiles,
    /// The most memory that the engine took.
    pub bytes: usize,
    /// How many times faster than plain decoding the steps are under the cost curve.
    pub speed_up: f64,
    /// How true its estimates were, by depth.
    pub reliability: ReliabilityByDepth,
}

impl Experiment {
    /// Plays `streams` with the draft engines named, with trees of each of `budgets` nodes. Warm-up are the streams of
    /// `warm_up`; without any, every second stream of a task, and only the others are played. At most `limit` requests of
    /// a task are played.
    ///
    /// # Errors
    /// If there is no draft engine of a name.
    pub fn new(
        streams: Vec<Stream>,
        warm_up: Vec<Stream>,
        limit: Option<usize>,
        drafters: &[String],
        budgets: Vec<usize>,
    ) -> Result<Self, UnknownDrafter> {
        let drafters = find_drafters(drafters)?;
        let is_split = warm_up.is_empty();
        let mut tasks: BTreeMap<String, Task> = BTreeMap::new();
        for stream in warm_up {
            tasks.entry(stream.task.clone()).or_default().warm_up.push(stream);
        }
        for stream in streams {
            let task = tasks.entry(stream.task.clone()).or_default();
            if is_split && task.tests.len() > task.warm_up.len() {
                task.warm_up.push(stream);
            } else {
                task.tests.push(stream);
            }
        }
        for task in tasks.values_mut() {
            task.tests.truncate(limit.unwrap_or(usize::MAX));
        }
        Ok(Self { tasks, drafters, budgets })
    }

    /// Requests to be played, over all combinations: the work of [`run`](Self::run).
    pub fn plays(&self) -> usize {
        let combinations = self.drafters.len() * self.budgets.len();
        self.settings().map(|(_, task, ..)| task.tests.len() * combinations).sum()
    }

    /// Plays everything; calls `on_play` after each request. The means over all tasks come last.
    pub fn run(&self, target: &Target, mut on_play: impl FnMut()) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        for (name, task, warm, warm_up) in self.settings() {
            for &(drafter, new) in &self.drafters {
                let mut engine = new(target);
                for stream in &warm_up {
                    engine.warm_up(stream);
                }
                for &budget in &self.budgets {
                    let mut tally = Tally::default();
                    for stream in &task.tests {
                        tally.play(stream, &mut *engine, budget);
                        on_play();
                    }
                    outcomes.push(outcome(
                        Some(name.to_owned()),
                        drafter,
                        warm,
                        budget,
                        &tally,
                        &target.curve,
                    ));
                }
            }
        }
        let means = self.means(&outcomes);
        outcomes.extend(means);
        outcomes
    }

    /// Each task in each state of warm-up that there are requests for.
    fn settings(&self) -> impl Iterator<Item = (&str, &Task, Warmth, Vec<&Stream>)> {
        let tested = self.tasks.iter().filter(|(_, task)| !task.tests.is_empty());
        tested.flat_map(move |(name, task)| {
            Warmth::ALL.into_iter().filter_map(move |warm| {
                let warm_up: Vec<&Stream> = match warm {
                    Warmth::Cold => Vec::new(),
                    Warmth::Same => task.warm_up.iter().collect(),
                    Warmth::Other => {
                        let others = self.tasks.iter().filter(|(other, _)| *other != name);
                        others.flat_map(|(_, other)| &other.warm_up).collect()
                    }
                };
                (warm == Warmth::Cold || !warm_up.is_empty()).then_some((&**name, task, warm, warm_up))
            })
        })
    }

    /// The mean over all tasks of every combination of the rest.
    fn means(&self, outcomes: &[Outcome]) -> Vec<Outcome> {
        let mut means = Vec::new();
        for warm in Warmth::ALL {
            for &(drafter, _) in &self.drafters {
                for &budget in &self.budgets {
                    let rows = outcomes
                        .iter()
                        .filter(|row| (row.warm, row.drafter, row.budget) == (warm, drafter, budget));
                    means.extend(mean(&rows.collect::<Vec<_>>()));
                }
            }
        }
        means
    }
}

fn outcome(
    task: Option<String>,
    drafter: &'static str,
    warm: Warmth,
    budget: usize,
    tally: &Tally,
    curve: &CostCurve,
) -> Outcome {
    let steps = tally.steps().max(1) as f64;
    Outcome {
        task,
        drafter,
        warm,
        budget,
        requests: tally.requests,
        edl: tally.edl(),
        hit_rate: tally.hit_rate(),
        drafted: (tally.nodes.sum() - tally.steps()) as f64 / steps,
        accepted: tally.accepted.sum() as f64 / steps,
        retrieval_us: quantiles(&tally.retrievals),
        insertion_us: quantiles(&tally.insertions),
        bytes: tally.bytes,
        speed_up: tally.speed_up(curve),
        reliability: tally.reliability.clone(),
    }
}

/// The means of `rows`, which differ in their task; requests and what reliability counts are added up.
fn mean(rows: &[&Outcome]) -> Option<Outcome> {
    let first = *rows.first()?;
    let mut reliability = ReliabilityByDepth::default();
    for row in rows {
        reliability.join(&row.reliability);
    }
    let of = |value: fn(&Outcome) -> f64| rows.iter().map(|row| value(row)).sum::<f64>() / rows.len() as f64;
    Some(Outcome {
        task: None,
        requests: rows.iter().map(|row| row.requests).sum(),
        edl: of(|row| row.edl),
        hit_rate: of(|row| row.hit_rate),
        drafted: of(|row| row.drafted),
        accepted: of(|row| row.accepted),
        retrieval_us: Quantiles { p50: of(|row| row.retrieval_us.p50), p99: of(|row| row.retrieval_us.p99) },
        insertion_us: Quantiles { p50: of(|row| row.insertion_us.p50), p99: of(|row| row.insertion_us.p99) },
        bytes: of(|row| row.bytes as f64) as usize,
        speed_up: of(|row| row.speed_up),
        reliability,
        ..first.clone()
    })
}

fn quantiles(times: &[Duration]) -> Quantiles {
    let mut times = times.to_vec();
    times.sort_unstable();
    let at = |share: f64| {
        let rank = (times.len() as f64 * share).ceil() as usize;
        times.get(rank.saturating_sub(1)).map_or(0.0, |time| time.as_secs_f64() * 1e6)
    };
    Quantiles { p50: at(0.5), p99: at(0.99) }
}

#[cfg(test)]
mod tests {
    use lookahead_engine::CostPoint;
    use lookahead_model::TokenId;

    use super::*;

    fn stream(task: &str, first: TokenId, output_ids: &[TokenId]) -> Stream {
        Stream {
            task: task.to_owned(),
            prompt_ids: vec![first],
            output_ids: output_ids.to_vec(),
            runners_up: Vec::new(),
        }
    }

    fn target() -> Target {
        let points = vec![CostPoint { tokens: 1, ms: 1.0 }, CostPoint { tokens: 9, ms: 2.0 }];
        Target { curve: CostCurve::new(points).unwrap(), spellings: None }
    }

    /// The EDL of each row by task (a dash for the mean) and warm-up.
    fn edls(streams: &[Stream], warm_up: &[Stream]) -> Vec<(String, &'static str, f64)> {
        let drafters = ["lookahead".to_owned()];
        let experiment =
            Experiment::new(streams.to_vec(), warm_up.to_vec(), None, &drafters, vec![4]).unwrap();
        let mut plays = 0;
        let outcomes = experiment.run(&target(), || plays += 1);
        assert_eq!(plays, experiment.plays());
        outcomes
            .into_iter()
            .map(|row| (row.task.unwrap_or_else(|| "-".to_owned()), row.warm.as_str(), row.edl))
            .collect()
    }

    #[test]
    fn every_second_stream_of_a_task_is_its_warm_up_and_that_of_the_others() {
        let answer = [1, 2, 3, 4, 5];
        // Task b answers what the warm-up of task a answered.
        let streams = [
            stream("a", 7, &answer),
            stream("b", 8, &answer),
            stream("a", 9, &answer),
            stream("b", 8, &[20, 21, 22]),
        ];
        let expected = [
            ("a", "cold", 1.0),
            ("a", "same", 4.0),
            ("a", "other", 1.0),
            ("b", "cold", 1.0),
            ("b", "same", 1.0),
            ("b", "other", 4.0),
            ("-", "cold", 1.0),
            ("-", "same", 2.5),
            ("-", "other", 2.5),
        ];
        assert_eq!(edls(&streams, &[]), expected.map(|(task, warm, edl)| (task.to_owned(), warm, edl)));
    }

    #[test]
    fn with_a_warm_up_of_their_own_all_streams_are_tests() {
        let answer = [1, 2, 3, 4, 5];
        let streams = [stream("a", 7, &answer), stream("a", 8, &answer), stream("a", 9, &answer)];
        let rows = edls(&streams, &[stream("c", 8, &answer)]);
        // There is nothing of the same task.
        assert_eq!(
            rows,
            [("a", "cold", 1.0), ("a", "other", 4.0), ("-", "cold", 1.0), ("-", "other", 4.0)]
                .map(|(task, warm, edl)| (task.to_owned(), warm, edl))
        );
    }

    #[test]
    fn requests_can_be_limited_and_drafters_must_exist() {
        let streams = vec![stream("a", 7, &[1, 2]); 10];
        let drafters = ["pld".to_owned()];
        let experiment =
            Experiment::new(streams.clone(), Vec::new(), Some(2), &drafters, vec![2, 4]).unwrap();
        let outcomes = experiment.run(&target(), || ());
        assert!(outcomes.iter().all(|row| row.requests == 2));
        assert_eq!(outcomes.len(), 2 * 2 * 2, "two budgets, cold and same, the task and the mean");
        let error = Experiment::new(streams, Vec::new(), None, &["best".to_owned()], vec![2]).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("no draft engine `best`; there are lookahead, lookahead:adaptive, paper")
        );
    }

    #[test]
    fn quantiles_are_times_that_occurred() {
        let times: Vec<_> = (1..=200).rev().map(Duration::from_micros).collect();
        assert_eq!(quantiles(&times), Quantiles { p50: 100.0, p99: 198.0 });
        assert_eq!(quantiles(&times[..1]), Quantiles { p50: 200.0, p99: 200.0 });
        assert_eq!(quantiles(&[]), Quantiles::default());
    }
}
