//! Which of the results there are.

use crate::results::{LookaheadResults, Results, TaskResults};
use crate::setting::Warmth;

/// The policies, in the order of their measurement.
pub(super) fn policies(results: &Results) -> Vec<&str> {
    let mut policies: Vec<&str> = Vec::new();
    for ours in results.tasks.iter().flat_map(|task| &task.lookahead) {
        if !policies.contains(&ours.policy.as_str()) {
            policies.push(&ours.policy);
        }
    }
    policies
}

/// What `policy` was measured with in any task.
pub(super) fn warmths(results: &Results, policy: &str) -> Vec<Warmth> {
    let is_measured =
        |&warmth: &Warmth| results.tasks.iter().any(|task| find(task, policy, warmth).is_some());
    Warmth::ALL.into_iter().filter(is_measured).collect()
}

pub(super) fn find<'a>(task: &'a TaskResults, policy: &str, warmth: Warmth) -> Option<&'a LookaheadResults> {
    task.lookahead.iter().find(|ours| ours.policy == policy && ours.warmth == warmth)
}
