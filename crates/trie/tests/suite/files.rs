//! Files as they are found: written by an earlier version of this crate, or changed by others while they are open.

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use lookahead_trie::{
    Corpus, CorpusBuilder, DraftParams, DraftTree, Namespace, Sharing, TokenId, TrieError, merge_corpora,
};

/// Where files of earlier versions lie, and how they were made: `files/README.md`.
const FILES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/files");

/// Of the tokenizer that they belong to.
const FINGERPRINT: u64 = 7;

const MAX_BYTES: usize = 64 << 20;

/// The answers that they hold: two in the file, two in the journal.
fn answers() -> [Vec<TokenId>; 4] {
    let [first, second] = [1000, 2000].map(|first| (first..first + 20).collect());
    [first, vec![3, 4, 5, 3, 4, 6, 3, 4, 5, 3, 4, 6, 3, 4, 5], second, vec![8, 9, 8, 9, 8]]
}

/// A copy of the file of a version and of its journal, which is written to where it is opened.
fn copy_of(version: &str, directory: &Path) -> PathBuf {
    let path = directory.join("d.trie");
    for end in ["", ".journal"] {
        fs::copy(format!("{FILES}/{version}.trie{end}"), format!("{}{end}", path.display())).unwrap();
    }
    path
}

#[test]
fn files_of_the_first_version_hold_what_was_put_into_them() {
    let directory = tempfile::tempdir().unwrap();
    let corpus = Corpus::open(&copy_of("version_1", directory.path()), Some(FINGERPRINT)).unwrap();
    corpus.check().unwrap();
    let texts: Vec<_> = corpus.texts().chain(corpus.journaled().unwrap()).collect();
    assert_eq!(texts, answers());
}

/// A prompt, and the draft behind it: tokens, parents and probabilities.
type Expected = (&'static [TokenId], [TokenId; 7], [u32; 7], [f32; 7]);

#[test]
fn files_of_the_first_version_are_drafted_from_as_they_were() {
    let directory = tempfile::tempdir().unwrap();
    let path = copy_of("version_1", directory.path());
    let namespace = Namespace::open(&path, FINGERPRINT, MAX_BYTES).unwrap();
    assert!(namespace.is_saved());
    // Drafts, with the trust and the runners-up in the files, as the first version made them.
    let expected: [Expected; 5] = [
        (
            &[1003, 1004],
            [1004, 1005, 1006, 1007, 1008, 1009, 1],
            [0, 0, 1, 2, 3, 4, 4],
            [1.0, 0.083_333_336, 0.007_575_758, 0.000_757_575_8, 8.417_509e-5, 9.352_788e-6, 3.323_223e-6],
        ),
        (
            &[2010],
            [2010, 2011, 2012, 2013, 2014, 2015, 2016],
            [0, 0, 1, 2, 3, 4, 5],
            [
                1.0,
                0.076_923_08,
                0.006_410_257,
                0.000_582_750_65,
                5.827_506_5e-5,
                6.475_007_5e-6,
                7.194_452_7e-7,
            ],
        ),
        (
            &[3, 4],
            [4, 5, 6, 3, 3, 4, 4],
            [0, 0, 0, 1, 2, 3, 4],
            [1.0, 0.200_000_02, 0.133_333_34, 0.036_664_452, 0.022_222_225, 0.018_830_309, 0.012_726_451],
        ),
        (
            &[8],
            [8, 9, 1, 2, 8, 3, 4],
            [0, 0, 0, 0, 1, 0, 0],
            [1.0, 0.142_857_15, 0.048_947_003, 0.022_026_151, 0.021_978_024, 0.014_684_102, 0.009_870_884],
        ),
        (
            &[77, 5, 1000],
            [1000, 1001, 1, 2, 3, 1002, 4],
            [0, 0, 0, 0, 0, 1, 0],
            [1.0, 0.076_923_08, 0.028_383_467, 0.012_772_56, 0.008_515_04, 0.006_410_257, 0.005_723_944_4],
        ),
    ];
    for (prompt, tokens, parents, probabilities) in expected {
        let mut request = namespace.begin(prompt, &[], Sharing::Read);
        let params = DraftParams { nodes: 6, min_probability: 0.0, ..DraftParams::default() };
        let draft = namespace.draft(&mut request, &params);
        assert_eq!((draft.tokens(), draft.parents()), (&tokens[..], &parents[..]), "{prompt:?}");
        assert_eq!(draft.probabilities(), probabilities, "{prompt:?}");
    }
    // They are written on, too.
    namespace.warm_up(&[70, 71, 72]).unwrap();
    namespace.save().unwrap();
    drop(namespace);
    let corpus = Corpus::open(&path, Some(FINGERPRINT)).unwrap();
    assert_eq!(corpus.journaled().unwrap().last(), Some(&vec![70, 71, 72]));
}

#[test]
fn files_are_merged_with_their_journals_in_their_order_and_one_of_them_may_be_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let first = copy_of("version_1", directory.path());
    let second = directory.path().join("second.trie");
    let mut builder = CorpusBuilder::default();
    builder.add(&[70, 71]);
    builder.write(&second, FINGERPRINT).unwrap();
    let merged = merge_corpora(&[&second, &first], &first).unwrap();
    let expected = [&[vec![70, 71]][..], &answers()].concat();
    assert_eq!((merged.path(), merged.fingerprint()), (&*first, FINGERPRINT));
    assert_eq!(merged.texts().collect::<Vec<_>>(), expected);
    // What was in its journal is in the file now, and there once.
    let again = Corpus::open(&first, Some(FINGERPRINT)).unwrap();
    assert_eq!(again.texts().chain(again.journaled().unwrap()).collect::<Vec<_>>(), expected);

    let other = directory.path().join("other.trie");
    CorpusBuilder::default().write(&other, 8).unwrap();
    let error = merge_corpora(&[&first, &other], &second).err().unwrap().to_string();
    assert!(error.contains("other.trie: made with another tokenizer"), "{error}");
    let nothing = merge_corpora::<PathBuf>(&[], &second).err();
    assert!(matches!(nothing, Some(TrieError::NothingToMerge)));
    assert_eq!(Corpus::open(&second, None).unwrap().texts().count(), 1, "it is as it was");
}

/// Tokens of a text that no other is like.
fn text(len: u32) -> Vec<TokenId> {
    (0..len).map(|index| index.wrapping_mul(0x9e37_79b1) >> 8).collect()
}

/// Drafts behind places all over a text.
fn drafts(namespace: &Namespace, text: &[TokenId]) -> Vec<DraftTree> {
    let places = text.windows(3).step_by(text.len() / 40);
    let draft = |prompt: &[TokenId]| {
        let mut request = namespace.begin(prompt, &[], Sharing::Read);
        namespace.draft(&mut request, &DraftParams::default()).clone()
    };
    places.map(draft).collect()
}

/// What the child process runs: it opens files, then they are cut to nothing where they lie.
#[test]
fn child_whose_files_vanish() {
    let Ok(directory) = std::env::var("LOOKAHEAD_VANISHING_FILES") else { return };
    // One that is small, and one that is not.
    for len in [2_000, 200_000] {
        let directory = Path::new(&directory);
        let (corpus, own) =
            (directory.join(format!("{len}.trie")), directory.join(format!("{len}.own.trie")));
        let text = text(len);
        let mut builder = CorpusBuilder::default();
        builder.add(&text);
        builder.write(&corpus, FINGERPRINT).unwrap();

        let namespace = Namespace::open(&own, FINGERPRINT, MAX_BYTES).unwrap();
        namespace.warm_up(&text[..len as usize / 2]).unwrap();
        namespace.save().unwrap();
        namespace.add_corpus("corpus", Corpus::open(&corpus, None).unwrap()).unwrap();
        let before = drafts(&namespace, &text);
        assert!(before.iter().all(|draft| draft.len() > 1));
        for path in [&corpus, &own] {
            OpenOptions::new().write(true).truncate(true).open(path).unwrap();
        }
        assert_eq!(drafts(&namespace, &text), before);
    }
}

/// Runs a test of this file in a process of its own, where it may end as it likes.
fn run_child(test: &str, directory: &Path, temporary: &Path) -> Output {
    Command::new(std::env::current_exe().unwrap())
        .args([&format!("files::{test}"), "--exact", "--nocapture"])
        .env("LOOKAHEAD_VANISHING_FILES", directory)
        .env("TMPDIR", temporary)
        .output()
        .unwrap()
}

#[test]
fn files_that_are_cut_short_while_they_are_open_change_no_draft_and_end_no_process() {
    let directory = tempfile::tempdir().unwrap();
    let output = run_child("child_whose_files_vanish", directory.path(), directory.path());
    assert!(output.status.success(), "{output:?}");
    let names = fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(names.count(), 6, "files and journals, and no copies");
}

/// What another child process runs, without a directory for copies.
#[test]
#[cfg(unix)]
fn child_without_room() {
    let Ok(directory) = std::env::var("LOOKAHEAD_VANISHING_FILES") else { return };
    let path = Path::new(&directory).join("d.trie");
    let namespace = Namespace::open(&path, FINGERPRINT, MAX_BYTES).unwrap();
    namespace.warm_up(&text(200_000)).unwrap();
    let error = namespace.save().unwrap_err().to_string();
    println!("error: {error}");
    // Nothing is lost: it stays in the journal, and is drafted from.
    assert!(!path.exists());
    namespace.warm_up(&[1, 2, 3]).unwrap();
    let known = text(200_000);
    assert!(drafts(&namespace, &known).iter().all(|draft| draft.len() > 1));
}

#[test]
#[cfg(unix)]
fn where_there_is_no_room_for_a_copy_the_error_names_the_file_its_size_and_the_way_out() {
    let directory = tempfile::tempdir().unwrap();
    let (path, nowhere) = (directory.path().join("d.trie"), directory.path().join("nowhere"));
    let output = run_child("child_without_room", directory.path(), &nowhere);
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stdout).unwrap();
    for part in ["/d.trie: ", " bytes", &nowhere.display().to_string(), "TMPDIR"] {
        assert!(said.contains(part), "{part} in {said}");
    }
    // Elsewhere all of it is there.
    let namespace = Namespace::open(&path, FINGERPRINT, MAX_BYTES).unwrap();
    assert_eq!(namespace.stats().tokens, 200_003 + 1);
    namespace.save().unwrap();
    assert_eq!(
        Corpus::open(&path, None).unwrap().texts().collect::<Vec<_>>(),
        [text(200_000), vec![1, 2, 3]]
    );
}

#[test]
fn a_file_is_inspected_by_its_header_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("corpus");
    let mut texts = CorpusBuilder::default();
    texts.add(&(0..5_000).collect::<Vec<_>>());
    let corpus = texts.write(&path, 7).unwrap();
    let summary = Corpus::inspect(&path, Some(7)).unwrap();
    assert_eq!((summary.tokens, summary.bytes), (corpus.tokens(), corpus.bytes()));
    assert!(Corpus::inspect(&path, Some(8)).is_err(), "another tokenizer's");
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(corpus.bytes() - 1).unwrap();
    let problem = Corpus::inspect(&path, Some(7)).unwrap_err().to_string();
    assert!(problem.contains("corpus"), "{problem}");
}
