//! What the requests of a namespace share.

use std::sync::Arc;

use crate::corpus::Corpus;
use crate::draft_params::DraftSource;
use crate::history::{History, Log, LogView};
use crate::node_evidence::{Knowledge, Progress};
use crate::runners_up::RunnersUp;
use crate::trust::{ANSWERED, OWN, RESPELLED, RESUMED, RETURNED, SHARED};

/// Texts by age: the newer half takes all that comes; when it has grown to half of the bound, it becomes the older one,
/// which goes. Text that is still of use comes again, as the output of those who used it.
#[derive(Clone, Default)]
pub(crate) struct Shared {
    pub(crate) newer: Arc<Log>,
    pub(crate) older: Arc<Log>,
    /// The file that the namespace was opened from.
    pub(crate) base: Option<Corpus>,
    pub(crate) corpora: Vec<(String, Corpus)>,
}

impl Shared {
    /// What grows, as it is now: the request's own text, then what is shared, the newest first.
    pub(crate) fn logs<'a>(&'a self, own: &'a Log) -> [LogView<'a>; 3] {
        [own.view(), self.newer.view(), self.older.view()]
    }

    /// What grows, then what does not: what is shared, then corpora.
    pub(crate) fn histories<'a>(&'a self, logs: &'a [LogView<'_>; 3]) -> Vec<&'a dyn History> {
        let mut histories: Vec<&dyn History> = Vec::with_capacity(4 + self.corpora.len());
        histories.extend(logs.iter().map(|log| log as &dyn History));
        histories.extend(self.base.iter().map(|base| base.shard() as &dyn History));
        histories.extend(self.corpora.iter().map(|(_, corpus)| corpus.shard() as &dyn History));
        histories
    }

    pub(crate) fn knowledge<'a>(
        &self,
        histories: &'a [&'a dyn History],
        source: DraftSource,
        runners_up: [&'a RunnersUp; 2],
        progress: Progress<'a>,
    ) -> Knowledge<'a> {
        let own = usize::from(source != DraftSource::Output);
        let (shared, all) = match source {
            DraftSource::Prompt => (1, 1),
            _ => (3 + usize::from(self.base.is_some()), histories.len()),
        };
        let runners_up = match source {
            DraftSource::Prompt => [runners_up[0], runners_up[0]],
            DraftSource::Output => [runners_up[1], runners_up[1]],
            DraftSource::Mixed => runners_up,
        };
        let sources = std::array::from_fn(|source| match source {
            OWN | RESUMED | RETURNED | RESPELLED => (0, own),
            ANSWERED | SHARED => (1, shared),
            _ => (shared, all),
        });
        Knowledge { histories, sources, runners_up, progress }
    }
}

impl Shared {
    /// The files that are drafted from.
    pub(crate) fn files(&self) -> impl Iterator<Item = &Corpus> {
        self.base.iter().chain(self.corpora.iter().map(|(_, corpus)| corpus))
    }
}
