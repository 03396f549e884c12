//! Replays recorded answers through draft engines, without a model: how many tokens a forward pass would have yielded,
//! what the drafts cost, and what that is worth under a cost curve.
//!
//! A [`Stream`] is a recorded request. [`Tally::play`] plays one as the engine would; an [`Experiment`] plays many, with
//! several engines, warm-ups and sizes of the draft tree; a [`Fleet`] spreads them over replicas that share what they
//! learn. A draft engine is a [`ReplayDrafter`]; [`DRAFTERS`] has ours and those of others to compare it with.
//!
//! ```
//! use lookahead_engine::{CostCurve, CostPoint};
//! use lookahead_replay::{Experiment, Target, Stream};
//!
//! let curve = CostCurve::new(vec![CostPoint { tokens: 1, ms: 1.0 }, CostPoint { tokens: 8, ms: 1.5 }])?;
//! let stream = Stream {
//!     task: "copying".to_owned(),
//!     prompt_ids: (0..100).collect(),
//!     output_ids: (0..100).collect(),
//!     runners_up: Vec::new(),
//! };
//! let experiment = Experiment::new(vec![stream], Vec::new(), None, &["pld".to_owned()], vec![8])?;
//! let outcomes = experiment.run(&Target { curve, spellings: None }, || ());
//! assert!(outcomes[0].edl > 7.0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod depth_reliability;
mod drafter;
mod drafters;
mod experiment;
mod fleet;
mod ours;
mod paper;
mod player;
mod pld;
mod stream;
mod suffix;
mod suffix_tree;

pub use depth_reliability::{DepthReliability, ReliabilityByDepth};
pub use drafter::ReplayDrafter;
pub use drafters::{DRAFTERS, NewDrafter, Target, UnknownDrafter};
pub use experiment::{Experiment, Outcome, Quantiles, Warmth};
pub use fleet::{Fleet, FleetOutcome, FleetSharing, NotASharing};
pub use player::Tally;
pub use stream::{DEFAULT_TASK, LineProblem, RUNNERS_UP, Recorder, Stream, StreamError};
