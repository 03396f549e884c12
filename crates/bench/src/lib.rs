//! Measures lookahead against plain decoding, and against other programs, on real prompts; and reports it.
//!
//! Data flows one way: prompts → a [`Bench`] that decodes them in every setting → runs, kept in a [`Journal`] → [`Results`]
//! → reports. Plain decoding and lookahead alternate on the same prompt in one process, and every answer is compared with
//! the plain one, token by token.

mod bench;
mod journal;
mod peer;
pub mod report;
mod results;
mod run;
mod setting;
mod suite;
mod summary;

pub use bench::{Bench, BenchError, PeerPlan, Plan};
pub use journal::{Header, Identity, Journal, JournalError};
pub use peer::{PEER_MODES, Peer, PeerAnswer, PeerError};
pub use results::{
    BatchResults, Counterpart, LookaheadResults, Lossless, Measure, OnlinePoint, PeerResults, Results,
    Spread, Subject, TaskResults, VERSION,
};
pub use run::{Lesson, Run, RunKey, Setting};
pub use setting::{Policy, PolicyError, Warmth};
pub use suite::{Case, Conversation, Prompt, SUITE, Task};
