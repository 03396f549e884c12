//! The draft engine, as Python holds it: namespaces by name, and files.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use lookahead_trie::{
    Corpus, CorpusBuilder, DraftParams, DraftTree, Namespace, Namespaces, RequestText, Spellings,
};
use pyo3::exceptions::{PyKeyError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::draft::PyDraftBatch;
use crate::error::of_trie;
use crate::parallel::in_parallel;
use crate::params::{params, sharing};
use crate::request::{PyDraftRequest, finished};
use crate::tokens::{self, texts_of};

/// What requests draft from: namespaces by name, each with a memory bound of its own. Safe to use from many threads.
#[pyclass(name = "DraftTrie", module = "lookahead_drafts", frozen, weakref)]
pub(crate) struct PyDraftTrie {
    max_bytes: usize,
    fingerprint: u64,
    spellings: Option<Arc<Spellings>>,
    namespaces: Namespaces,
}

impl PyDraftTrie {
    pub(crate) fn namespace(&self, name: &str) -> PyResult<Arc<Namespace>> {
        self.namespaces.get(name).map_err(of_trie)
    }

    fn existing(&self, name: &str) -> PyResult<Arc<Namespace>> {
        self.namespaces.find(name).ok_or_else(|| {
            let names = self.namespaces.names().join("', '");
            PyKeyError::new_err(format!("there is no namespace '{name}'; there are: '{names}'"))
        })
    }
}

#[pymethods]
impl PyDraftTrie {
    /// Each namespace takes at most `max_bytes` (at least 1 MiB; a token of real text takes about 40). `fingerprint` tells
    /// tokenizers apart: files made with another one are refused; `vocabulary_fingerprint` computes one. `vocabulary` holds the
    /// texts of all tokens in the order of their ids, as `convert_ids_to_tokens` gives them: with it, what a prompt says behind
    /// a space is drafted behind a quotation mark too.
    #[new]
    #[pyo3(signature = (max_bytes=268_435_456, fingerprint=0, *, vocabulary=None))]
    fn new(max_bytes: i64, fingerprint: u64, vocabulary: Option<&Bound<'_, PyAny>>) -> PyResult<Self> {
        let max_bytes = usize::try_from(max_bytes).map_err(|_| {
            PyValueError::new_err(format!("max_bytes is {max_bytes}; at least 1 MiB is needed"))
        })?;
        let namespaces = Namespaces::new(max_bytes).map_err(of_trie)?;
        let spellings = vocabulary.map(|texts| texts_of(texts, "vocabulary")).transpose()?;
        let spellings = spellings.map(|texts| Arc::new(spellings_of(&texts)));
        Ok(Self { max_bytes, fingerprint, spellings, namespaces })
    }

    /// Bound of each namespace.
    #[getter]
    fn max_bytes(&self) -> usize {
        self.max_bytes
    }

    /// Of the tokenizer.
    #[getter]
    fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// Starts a request. Its prompt and `references`, texts that its output may repeat, serve it alone.
    ///
    /// share="readwrite": it drafts from what its namespace shares, and its output is shared when it is finished.
    /// share="read": it drafts from what is shared, and shares nothing. share="off": it drafts from its own text alone.
    #[pyo3(signature = (prompt_ids, *, namespace="default", share="readwrite", references=None))]
    fn start(
        &self,
        py: Python<'_>,
        prompt_ids: &Bound<'_, PyAny>,
        namespace: &str,
        share: &str,
        references: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<PyDraftRequest> {
        let prompt = tokens::from_python(prompt_ids, "prompt_ids")?;
        let sharing = sharing(share)?;
        let mut texts = Vec::new();
        if let Some(references) = references {
            for (index, text) in references.try_iter()?.enumerate() {
                texts.push(tokens::from_python(&text?, &format!("references[{index}]"))?);
            }
        }
        let (name, namespace) = (namespace.to_owned(), self.namespace(namespace)?);
        let request = py.detach(|| {
            let texts: Vec<&[u32]> = texts.iter().map(Vec::as_slice).collect();
            let text = RequestText::new(&prompt, &texts).with_spellings(self.spellings.as_ref());
            namespace.begin_with(text, sharing)
        });
        Ok(PyDraftRequest::new(namespace, name, request))
    }

    /// Drafts for several requests at once, of any namespaces; the drafts come in their order. The arguments are those of
    /// `DraftRequest.draft_tree`.
    #[pyo3(signature = (requests, budget=16, *, depth=None, min_probability=0.01, shape="hierarchical", source="mixed"))]
    #[expect(clippy::too_many_arguments, reason = "Python's keyword arguments")]
    fn draft_trees(
        &self,
        py: Python<'_>,
        requests: Vec<Py<PyDraftRequest>>,
        budget: i64,
        depth: Option<i64>,
        min_probability: f64,
        shape: &str,
        source: &str,
    ) -> PyResult<PyDraftBatch> {
        let params = params(budget, depth, min_probability, shape, source)?;
        let requests: Vec<&PyDraftRequest> = requests.iter().map(Py::get).collect();
        let mut seen = HashSet::with_capacity(requests.len());
        if let Some(twice) = requests.iter().position(|&request| !seen.insert(std::ptr::from_ref(request))) {
            return Err(PyValueError::new_err(format!("requests[{twice}] is in the batch twice")));
        }
        let trees = py.detach(|| draft_all(requests, &params)).ok_or_else(finished)?;
        Ok(PyDraftBatch::new(py, trees))
    }

    /// Appends to each request its tokens: `DraftRequest.append` for a batch.
    fn append_all(
        &self,
        py: Python<'_>,
        requests: Vec<Py<PyDraftRequest>>,
        token_ids: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let rows = token_ids
            .try_iter()?
            .enumerate()
            .map(|(row, ids)| tokens::from_python(&ids?, &format!("token_ids[{row}]")))
            .collect::<PyResult<Vec<_>>>()?;
        if rows.len() != requests.len() {
            let message =
                format!("there are {} requests and {} rows of token_ids", requests.len(), rows.len());
            return Err(PyValueError::new_err(message));
        }
        let requests: Vec<&PyDraftRequest> = requests.iter().map(Py::get).collect();
        py.detach(|| {
            for (request, tokens) in requests.iter().zip(&rows) {
                request.namespace().accept(request.lock().as_mut()?, tokens);
            }
            Some(())
        })
        .ok_or_else(finished)
    }

    /// Adds a text, or an earlier answer, to a namespace.
    #[pyo3(signature = (token_ids, *, namespace="default"))]
    fn warm_up(&self, py: Python<'_>, token_ids: &Bound<'_, PyAny>, namespace: &str) -> PyResult<()> {
        let tokens = tokens::from_python(token_ids, "token_ids")?;
        let namespace = self.namespace(namespace)?;
        py.detach(|| namespace.warm_up(&tokens)).map_err(of_trie)
    }

    /// Keeps a namespace in the file at `path` and a journal beside it: what is there is known at once, and each answer is
    /// written when it is finished. Whether this process may write: one at a time does.
    #[pyo3(signature = (path, *, namespace="default"))]
    fn open(&self, py: Python<'_>, path: PathBuf, namespace: &str) -> PyResult<bool> {
        let opened =
            py.detach(|| Namespace::open(&path, self.fingerprint, self.max_bytes)).map_err(of_trie)?;
        let is_saved = opened.is_saved();
        self.namespaces.insert(namespace, Arc::new(opened));
        Ok(is_saved)
    }

    /// Makes sure that all that the namespaces kept in files have learned is on the disk.
    fn save(&self, py: Python<'_>) -> PyResult<()> {
        py.detach(|| {
            let namespaces = self.namespaces.names();
            namespaces
                .iter()
                .filter_map(|name| self.namespaces.find(name))
                .try_for_each(|namespace| namespace.save())
        })
        .map_err(of_trie)
    }

    /// Lets the requests of a namespace draft from the corpus at `path` too, under `name`, in place of one that had this
    /// name: in one step, and those under way draft on. It returns the corpus's tokens.
    #[pyo3(signature = (name, path, *, namespace="default"))]
    fn add_corpus(&self, py: Python<'_>, name: &str, path: PathBuf, namespace: &str) -> PyResult<u64> {
        let namespace = self.namespace(namespace)?;
        py.detach(|| {
            let corpus = Corpus::open(&path, Some(self.fingerprint))?;
            let tokens = corpus.tokens();
            namespace.add_corpus(name, corpus)?;
            Ok(tokens)
        })
        .map_err(of_trie)
    }

    /// Takes a corpus away; whether there was one of this name.
    #[pyo3(signature = (name, *, namespace="default"))]
    fn remove_corpus(&self, name: &str, namespace: &str) -> PyResult<bool> {
        Ok(self.existing(namespace)?.remove_corpus(name))
    }

    /// Tokens of each corpus of a namespace, by name.
    #[pyo3(signature = (*, namespace="default"))]
    fn corpora<'py>(&self, py: Python<'py>, namespace: &str) -> PyResult<Bound<'py, PyDict>> {
        let corpora = PyDict::new(py);
        if let Some(namespace) = self.namespaces.find(namespace) {
            for (name, corpus) in namespace.corpora() {
                corpora.set_item(name, corpus.tokens())?;
            }
        }
        Ok(corpora)
    }

    /// The namespaces, by name.
    fn namespaces(&self) -> Vec<String> {
        self.namespaces.names()
    }

    /// Forgets a namespace; whether there was one of this name. Its file stays, its requests go on with what they have.
    fn remove_namespace(&self, name: &str) -> bool {
        self.namespaces.remove(name).is_some()
    }

    /// How full a namespace is: `tokens_learned` (since it was made or opened), `tokens` (to draft from, corpora included),
    /// `bytes` (allocated) and `mapped_bytes` (of copies of files).
    #[pyo3(signature = (*, namespace="default"))]
    fn stats<'py>(&self, py: Python<'py>, namespace: &str) -> PyResult<Bound<'py, PyDict>> {
        let stats = self.namespaces.find(namespace).map(|namespace| namespace.stats()).unwrap_or_default();
        let dictionary = PyDict::new(py);
        dictionary.set_item("tokens_learned", stats.tokens_learned)?;
        dictionary.set_item("tokens", stats.tokens)?;
        dictionary.set_item("bytes", stats.bytes)?;
        dictionary.set_item("mapped_bytes", stats.mapped_bytes)?;
        Ok(dictionary)
    }
}

/// The spellings of a vocabulary, in whose texts `Ġ` or `▁` stands for a space, by the kind of tokenizer.
fn spellings_of(vocabulary: &[String]) -> Spellings {
    let texts: Vec<String> = vocabulary
        .iter()
        .map(|text| match text.strip_prefix(['Ġ', '▁']) {
            Some(word) => format!(" {word}"),
            None => text.clone(),
        })
        .collect();
    Spellings::new(texts.iter().map(String::as_bytes))
}

/// Drafts for all of `requests`, no two the same, on several threads where there are many; none if one is finished.
///
/// Each is locked while it is drafted for and no longer, so that batches which share requests cannot wait for each other.
fn draft_all(requests: Vec<&PyDraftRequest>, params: &DraftParams) -> Option<Vec<DraftTree>> {
    let draft = |request: &PyDraftRequest| {
        let mut own = request.lock();
        Some(request.namespace().draft(own.as_mut()?, params).clone())
    };
    in_parallel(requests, draft).into_iter().collect()
}

/// Indexes texts (rows of token ids) as a file for `DraftTrie.add_corpus`, which takes the place of one at `path` in one step.
/// It returns its tokens.
#[pyfunction]
#[pyo3(signature = (path, texts, *, fingerprint=0))]
pub(crate) fn build_corpus(
    py: Python<'_>,
    path: PathBuf,
    texts: &Bound<'_, PyAny>,
    fingerprint: u64,
) -> PyResult<u64> {
    let mut builder = CorpusBuilder::default();
    for (index, text) in texts.try_iter()?.enumerate() {
        builder.add(&tokens::from_python(&text?, &format!("texts[{index}]"))?);
    }
    py.detach(|| builder.write(&path, fingerprint)).map(|corpus| corpus.tokens()).map_err(of_trie)
}

/// Merges files of drafts, with what is in their journals, into one at `path`, which takes its place in one step: `lookahead
/// trie merge`. All must be of one tokenizer. It returns its tokens.
#[pyfunction]
#[pyo3(signature = (path, files, /))]
pub(crate) fn merge_corpora(py: Python<'_>, path: PathBuf, files: Vec<PathBuf>) -> PyResult<u64> {
    py.detach(|| lookahead_trie::merge_corpora(&files, &path)).map(|corpus| corpus.tokens()).map_err(of_trie)
}

/// What a file of drafts holds, after comparing all of it with its checksums: `fingerprint`, `tokens`, `texts`, `bytes`, and
/// `journaled`, the answers in its journal that are not in it yet.
#[pyfunction]
#[pyo3(signature = (path, /))]
pub(crate) fn inspect_corpus(py: Python<'_>, path: PathBuf) -> PyResult<Bound<'_, PyDict>> {
    let (corpus, texts, journaled) = py
        .detach(|| {
            let corpus = Corpus::open(&path, None)?;
            corpus.check()?;
            let (texts, journaled) = (corpus.texts().count(), corpus.journaled()?.len());
            Ok((corpus, texts, journaled))
        })
        .map_err(of_trie)?;
    let dictionary = PyDict::new(py);
    dictionary.set_item("fingerprint", corpus.fingerprint())?;
    dictionary.set_item("tokens", corpus.tokens())?;
    dictionary.set_item("texts", texts)?;
    dictionary.set_item("bytes", corpus.bytes())?;
    dictionary.set_item("journaled", journaled)?;
    Ok(dictionary)
}
