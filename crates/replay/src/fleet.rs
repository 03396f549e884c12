//! Requests spread over the replicas of a service, each of which learns from its own, and from all others' by snapshots.

use std::fmt;
use std::num::NonZeroUsize;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use crate::drafter::ReplayDrafter;
use crate::drafters::{Target, UnknownDrafter, find_drafters};
use crate::player::Tally;
use crate::stream::Stream;

/// How replicas learn from requests that others answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FleetSharing {
    /// Not at all.
    None,
    /// From all up to then, each time that the fleet has answered so many: the age of the snapshot, in requests.
    Snapshot(NonZeroUsize),
}

impl fmt::Display for FleetSharing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Snapshot(age) => write!(f, "snapshot:{age}"),
        }
    }
}

impl Serialize for FleetSharing {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Text that is no [`FleetSharing`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is neither `none` nor `snapshot:K` with a number of requests K of at least 1")]
pub struct NotASharing(String);

impl FromStr for FleetSharing {
    type Err = NotASharing;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let age = || text.strip_prefix("snapshot:")?.parse().ok();
        match text {
            "none" => Ok(Self::None),
            _ => age().map(Self::Snapshot).ok_or_else(|| NotASharing(text.to_owned())),
        }
    }
}

/// What to play: the streams in their order, dealt to the replicas in turn.
#[derive(Clone, Debug)]
pub struct Fleet {
    /// The requests.
    pub streams: Vec<Stream>,
    /// What every replica has learned before.
    pub warm_up: Vec<Stream>,
    /// Names of the draft engines.
    pub drafters: Vec<String>,
    /// Numbers of replicas.
    pub replicas: Vec<NonZeroUsize>,
    /// Ways to share.
    pub sharing: Vec<FleetSharing>,
    /// Nodes of a pass, the root included, at most.
    pub budgets: Vec<usize>,
}

/// What one fleet came to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FleetOutcome {
    /// The draft engine of each replica.
    pub drafter: &'static str,
    /// How they share.
    pub share: FleetSharing,
    /// How many there are.
    pub replicas: usize,
    /// The most nodes of a pass, the root included.
    pub budget: usize,
    /// Requests.
    pub requests: usize,
    /// Tokens per decode step.
    pub edl: f64,
    /// The same of the last quarter of the requests, by when most of what can be learned was learned.
    pub edl_late: f64,
    /// Share of steps with at least one accepted draft token.
    pub hit_rate: f64,
    /// The most memory that one replica's engine took.
    pub bytes: usize,
    /// How many times faster than plain decoding the steps are under the cost curve.
    pub speed_up: f64,
}

impl Fleet {
    /// Requests to be played, over all combinations: the work of [`run`](Self::run).
    pub fn plays(&self) -> usize {
        let fleets = self.drafters.len() * self.budgets.len() * self.sharing.len() * self.replicas.len();
        self.streams.len() * fleets
    }

    /// Plays everything; calls `on_play` after each request.
    ///
    /// # Errors
    /// If there is no draft engine of a name.
    pub fn run(
        &self,
        target: &Target,
        mut on_play: impl FnMut(),
    ) -> Result<Vec<FleetOutcome>, UnknownDrafter> {
        let mut outcomes = Vec::new();
        for (drafter, new) in find_drafters(&self.drafters)? {
            for &budget in &self.budgets {
                for &share in &self.sharing {
                    for replicas in self.replicas.iter().map(|replicas| replicas.get()) {
                        let (tally, edl_late) =
                            self.play(&|| new(target), replicas, share, budget, &mut on_play);
                        outcomes.push(FleetOutcome {
                            drafter,
                            share,
                            replicas,
                            budget,
                            requests: tally.requests,
                            edl: tally.edl(),
                            edl_late,
                            hit_rate: tally.hit_rate(),
                            bytes: tally.bytes,
                            speed_up: tally.speed_up(&target.curve),
                        });
                    }
                }
            }
        }
        Ok(outcomes)
    }

    /// Plays one fleet; returns the tally of all requests and the EDL of their last quarter.
    fn play(
        &self,
        new: &dyn Fn() -> Box<dyn ReplayDrafter>,
        replicas: usize,
        share: FleetSharing,
        budget: usize,
        on_play: &mut impl FnMut(),
    ) -> (Tally, f64) {
        let mut engines: Vec<Box<dyn ReplayDrafter>> = (0..replicas).map(|_| new()).collect();
        for engine in &mut engines {
            self.warm_up.iter().for_each(|stream| engine.warm_up(stream));
        }
        let late = self.streams.len() - self.streams.len() / 4;
        let (mut tally, mut early) = (Tally::default(), (0, 0));
        // Requests before this one are known to every replica.
        let mut shared = 0;
        for (index, stream) in self.streams.iter().enumerate() {
            if index == late {
                early = (tally.decode_tokens, tally.steps());
            }
            let engine = &mut engines[index % replicas];
            tally.play(stream, &mut **engine, budget);
            engine.warm_up(stream);
            on_play();
            if let FleetSharing::Snapshot(age) = share
                && (index + 1).is_multiple_of(age.get())
            {
                for (replica, engine) in engines.iter_mut().enumerate() {
                    let others = (shared..=index).filter(|request| request % replicas != replica);
                    others.for_each(|request| engine.warm_up(&self.streams[request]));
                }
                shared = index + 1;
            }
        }
        let (tokens, steps) = (tally.decode_tokens - early.0, tally.steps() - early.1);
        (tally, tokens as f64 / steps.max(1) as f64)
    }
}

#[cfg(test)]
mod tests {
    use lookahead_engine::{CostCurve, CostPoint};
    use lookahead_model::TokenId;

    use super::*;

    /// Answers to different questions.
    fn streams(answers: &[&[TokenId]]) -> Vec<Stream> {
        let stream = |(question, answer): (TokenId, &&[TokenId])| Stream {
            prompt_ids: vec![question],
            output_ids: answer.to_vec(),
            ..Stream::default()
        };
        (100..).zip(answers).map(stream).collect()
    }

    /// The outcome of a fleet with trees of four nodes.
    fn outcome(streams: &[Stream], warm_up: &[Stream], replicas: usize, share: &str) -> FleetOutcome {
        let fleet = Fleet {
            streams: streams.to_vec(),
            warm_up: warm_up.to_vec(),
            drafters: vec!["lookahead".to_owned()],
            replicas: vec![NonZeroUsize::new(replicas).unwrap()],
            sharing: vec![share.parse().unwrap()],
            budgets: vec![4],
        };
        let curve =
            CostCurve::new(vec![CostPoint { tokens: 1, ms: 1.0 }, CostPoint { tokens: 4, ms: 1.0 }]).unwrap();
        let mut plays = 0;
        let mut outcomes = fleet.run(&Target { curve, spellings: None }, || plays += 1).unwrap();
        assert_eq!((plays, outcomes.len()), (fleet.plays(), 1));
        outcomes.remove(0)
    }

    /// An answer of four decode steps cold and of one step if it was learned.
    const ANSWER: &[TokenId] = &[1, 2, 3, 4, 5];

    #[test]
    fn a_replica_learns_from_its_own_requests_at_once_and_from_no_others() {
        let streams = streams(&[ANSWER; 4]);
        // The first is cold on each replica, all after it take one step of four tokens.
        let edl = |replicas| outcome(&streams, &[], replicas, "none").edl;
        assert_eq!([1, 2, 4].map(edl), [16.0 / 7.0, 16.0 / 10.0, 1.0]);
        assert_eq!(outcome(&streams, &streams[..1], 4, "none").edl, 4.0, "all were warmed up");
    }

    #[test]
    fn a_snapshot_hands_all_requests_up_to_then_to_all_replicas() {
        let streams = streams(&[ANSWER; 8]);
        // Cold are the first requests of each replica, until the first snapshot.
        for (share, cold) in
            [("snapshot:1", 1), ("snapshot:2", 2), ("snapshot:3", 3), ("snapshot:9", 4), ("none", 4)]
        {
            let found = outcome(&streams, &[], 4, share);
            assert_eq!(found.edl, 32.0 / f64::from(8 + 3 * cold), "{share}");
            assert_eq!(found.edl_late, 4.0, "{share}");
            assert_eq!((found.requests, found.share.to_string()), (8, share.to_owned()));
        }
    }

    #[test]
    fn what_is_shared_each_time_is_what_came_since_the_last() {
        let other: &[TokenId] = &[11, 12, 13, 14, 15];
        let streams = streams(&[ANSWER, ANSWER, other, other, ANSWER, other, other, ANSWER]);
        // Replica 0 has four of them and meets `other` first, replica 1 as well: two cold each without snapshots.
        assert_eq!(outcome(&streams, &[], 2, "none").edl, 32.0 / 20.0);
        assert_eq!(outcome(&streams, &[], 2, "snapshot:1").edl, 32.0 / 14.0);
    }

    #[test]
    fn with_immediate_snapshots_a_fleet_is_as_good_as_one_replica() {
        let answers: Vec<Vec<TokenId>> =
            (0..12).map(|i| (0..20).map(|j| (i % 3 * j * j + i % 2) % 17).collect()).collect();
        let streams = streams(&answers.iter().map(|answer| &**answer).collect::<Vec<_>>());
        let one = outcome(&streams, &[], 1, "none").edl;
        assert_eq!(outcome(&streams, &[], 3, "snapshot:1").edl, one);
        assert!(outcome(&streams, &[], 3, "none").edl < one);
    }

    #[test]
    fn ways_to_share_are_read_as_they_are_written() {
        for text in ["none", "snapshot:1", "snapshot:500"] {
            assert_eq!(text.parse::<FleetSharing>().unwrap().to_string(), text);
        }
        for text in ["", "all", "snapshot", "snapshot:", "snapshot:0", "snapshot:-1", "snapshot:1.5"] {
            let error = text.parse::<FleetSharing>().unwrap_err();
            assert!(error.to_string().contains("neither `none` nor `snapshot:K`"));
        }
    }
}
