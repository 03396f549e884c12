//! How far the end of the engine's thread is.

/// What the engine's thread takes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// All that comes.
    Open,
    /// No more than it has begun.
    Closing,
    /// Nothing: what it has begun is given up.
    Ended,
}
