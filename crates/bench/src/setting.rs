//! The ways in which a prompt is decoded.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use lookahead_engine::{CostCurve, DraftPolicy, DraftShape, DraftSource};
use serde::{Deserialize, Serialize};

/// What lookahead has learned before a prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Warmth {
    /// Nothing.
    Cold,
    /// The answers to other prompts of the task.
    Same,
    /// The answers to prompts of the other tasks.
    Other,
    /// The answers to the prompts of the task that were measured before it.
    Online,
}

impl Warmth {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Cold, Self::Same, Self::Other, Self::Online];

    /// The name in files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cold => "cold",
            Self::Same => "same",
            Self::Other => "other",
            Self::Online => "online",
        }
    }
}

/// A draft policy by name: `adaptive`, `fixed`, or `N` or `NxB` (draft length and branch length), each followed by any of
/// `:single`, `:parallel`, `:hierarchical`, `:prompt`, `:output`, `:mixed`, `:runners-up` and `:p=P` (the least path
/// probability).
///
/// ```
/// let policy: lookahead_bench::Policy = "8x16:parallel:prompt".parse()?;
/// assert_eq!(policy.to_string(), "8x16:parallel:prompt");
/// assert_eq!(policy.draft_policy(None).draft_length, 8);
/// # Ok::<(), lookahead_bench::PolicyError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    name: String,
    draft: DraftPolicy,
    is_adaptive: bool,
}

/// A text is no policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no draft policy: `adaptive`, `fixed`, or a draft length such as `8` or with a branch length `8x4`, and \
     behind it any of `:single`, `:parallel`, `:prompt`, `:output`, `:runners-up`, `:p=0.1`"
)]
pub struct PolicyError(String);

impl FromStr for Policy {
    type Err = PolicyError;

    fn from_str(name: &str) -> Result<Self, PolicyError> {
        let error = || PolicyError(name.to_owned());
        let mut parts = name.split(':');
        let size = parts.next().unwrap_or_default();
        let mut policy = DraftPolicy::default();
        if !matches!(size, "adaptive" | "fixed") {
            // The paper drafts whatever it has.
            policy.min_probability = 0.0;
            let (nodes, depth) = size.split_once('x').unwrap_or((size, ""));
            policy.draft_length = nodes.parse().ok().filter(|&nodes| nodes > 0).ok_or_else(error)?;
            if size.contains('x') {
                policy.branch_length = depth.parse().ok().filter(|&depth| depth > 0).ok_or_else(error)?;
            }
        }
        for part in parts {
            match part {
                "single" => policy.shape = DraftShape::Single,
                "parallel" => policy.shape = DraftShape::Parallel,
                "hierarchical" => policy.shape = DraftShape::Hierarchical,
                "prompt" => policy.source = DraftSource::Prompt,
                "output" => policy.source = DraftSource::Output,
                "mixed" => policy.source = DraftSource::Mixed,
                "runners-up" => policy.runners_up = true,
                _ => {
                    let probability = part.strip_prefix("p=").and_then(|text| text.parse::<f32>().ok());
                    policy.min_probability =
                        probability.filter(|p| (0.0..=1.0).contains(p)).ok_or_else(error)?;
                }
            }
        }
        Ok(Self { name: name.to_owned(), draft: policy, is_adaptive: size == "adaptive" })
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.name)
    }
}

impl Policy {
    /// The engine's policy, where a pass costs what `curve` says. Without a curve, an adaptive policy is the fixed one.
    pub fn draft_policy(&self, curve: Option<&Arc<CostCurve>>) -> DraftPolicy {
        match curve.filter(|_| self.is_adaptive) {
            Some(curve) => {
                let adaptive = DraftPolicy::adaptive(Arc::clone(curve));
                DraftPolicy {
                    shape: self.draft.shape,
                    source: self.draft.source,
                    runners_up: self.draft.runners_up,
                    ..adaptive
                }
            }
            None => self.draft.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use lookahead_engine::CostPoint;

    use super::*;

    #[test]
    fn a_name_is_a_policy() {
        let policy = |name: &str| name.parse::<Policy>().unwrap().draft_policy(None);
        assert_eq!(policy("fixed"), DraftPolicy::default());
        let grid = policy("8x4:single:output:p=0.1:runners-up");
        assert_eq!((grid.draft_length, grid.branch_length, grid.min_probability), (8, 4, 0.1));
        assert_eq!(
            (grid.shape, grid.source, grid.runners_up),
            (DraftShape::Single, DraftSource::Output, true)
        );
        assert_eq!(policy("12").branch_length, DraftPolicy::default().branch_length);
        let curve = Arc::new(CostCurve::new(vec![CostPoint { tokens: 1, ms: 1.0 }]).unwrap());
        let adaptive = "adaptive:prompt".parse::<Policy>().unwrap();
        let expected =
            DraftPolicy { source: DraftSource::Prompt, ..DraftPolicy::adaptive(Arc::clone(&curve)) };
        assert_eq!(adaptive.draft_policy(Some(&curve)), expected);
        assert_eq!(policy("8").cost, None);
    }

    #[test]
    fn what_is_no_policy_is_refused_with_what_is() {
        for name in ["", "0", "8x", "8x0", "x8", "best", "8:round", "8:p=2", "8:", "adaptive:p=x"] {
            let error = name.parse::<Policy>().unwrap_err().to_string();
            assert!(error.contains(&format!("`{name}` is no draft policy")), "{error}");
        }
    }
}
