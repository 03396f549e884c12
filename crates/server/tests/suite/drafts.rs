//! Namespaces and corpora: what one tenant has costs no other anything, and what is broken stops nothing.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::common::{Reply, TestServer, options, until};
use crate::server::begin_stream;
use lookahead_server::{ApiKey, DraftOptions, ServerOptions};
use serde_json::{Value, json};

const CORPORA: &str = "/v1/lookahead/corpora";
const KEYS: [&str; 2] = ["alice:a", "bob:b"];

fn start(drafts: DraftOptions, keys: &[&str]) -> TestServer {
    let keys = keys.iter().map(|key| ApiKey::parse(key).unwrap()).collect();
    TestServer::start(ServerOptions { drafts, keys, ..options() })
}

fn kept_in(directory: &Path) -> DraftOptions {
    DraftOptions { directory: Some(directory.to_owned()), ..options().drafts }
}

fn ask(server: &TestServer, key: Option<&str>, namespace: Option<&str>) -> Reply {
    let body = json!({
        "messages": [{ "role": "user", "content": "Tell me about glass." }], "temperature": 0, "max_tokens": 60,
        "lookahead": { "namespace": namespace },
    });
    let reply = server.post_as("/v1/chat/completions", key, &body.to_string());
    assert_eq!(reply.status, 200, "{}", reply.text);
    reply
}

/// Tokens of an answer that came from earlier ones.
fn from_earlier(reply: &Reply) -> u64 {
    reply.json()["usage"]["lookahead"]["accepted_by_source"]["output"].as_u64().unwrap_or(0)
}

fn namespace(server: &TestServer, key: Option<&str>, name: Option<&str>) -> Value {
    let query = name.map_or(String::new(), |name| format!("?namespace={name}"));
    server.get_as(&format!("/v1/lookahead/stats{query}"), key).json()["namespace"].clone()
}

/// Returns when a namespace has learned the answers that were given.
fn until_it_has_learned(server: &TestServer, key: Option<&str>, name: Option<&str>) {
    until("the namespace has learned", || namespace(server, key, name)["tokens_learned"].as_u64() > Some(0));
}

fn add(server: &TestServer, key: Option<&str>, query: &str, text: &str) -> Reply {
    server.post_as(&format!("{CORPORA}?{query}"), key, &json!({ "text": text }).to_string())
}

fn names_in(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_hundred_namespaces_of_one_key_cost_another_key_nothing() {
    let server = start(DraftOptions { max_namespaces: 4, ..options().drafts }, &KEYS);
    ask(&server, Some("b"), Some("mine"));
    for number in 0..100 {
        ask(&server, Some("a"), Some(&format!("n{number}")));
    }
    assert!(from_earlier(&ask(&server, Some("b"), Some("mine"))) > 0, "Bob's namespace is still open");
    assert!(server.metric("lookahead_namespaces") <= 5.0);
    assert_eq!(server.metric("lookahead_namespace_failures_total"), 0.0);
}

#[test]
fn looking_at_namespaces_opens_none() {
    let directory = tempfile::tempdir().unwrap();
    let server = start(kept_in(directory.path()), &[]);
    for number in 0..20 {
        assert_eq!(namespace(&server, None, Some(&format!("n{number}")))["is_open"], false);
        let listed = server.get(&format!("{CORPORA}?namespace=n{number}"));
        assert_eq!(listed.json()["data"], json!([]));
        assert_eq!(server.delete(&format!("{CORPORA}/x?namespace=n{number}")).status, 404);
    }
    assert_eq!(server.metric("lookahead_namespaces"), 0.0);
    assert!(names_in(directory.path()).is_empty());
}

#[test]
fn a_namespace_that_made_room_has_what_it_learned_when_it_is_named_again() {
    let directory = tempfile::tempdir().unwrap();
    let server = start(DraftOptions { max_namespaces: 1, ..kept_in(directory.path()) }, &[]);
    assert_eq!(from_earlier(&ask(&server, None, Some("one"))), 0);
    until_it_has_learned(&server, None, Some("one"));
    ask(&server, None, Some("two"));
    until_it_has_learned(&server, None, Some("two"));
    let closed = namespace(&server, None, Some("one"));
    assert_eq!(closed["is_open"], false);
    assert!(closed["disk_bytes"].as_u64() > Some(100), "{closed}");
    assert!(from_earlier(&ask(&server, None, Some("one"))) > 10);
    assert_eq!(server.metric("lookahead_namespaces"), 1.0);
    assert_eq!(server.metric("lookahead_namespace_fallbacks_total"), 0.0);
}

#[test]
fn where_all_namespaces_of_a_key_are_in_use_a_request_does_without() {
    let server = start(DraftOptions { max_namespaces: 1, ..options().drafts }, &[]);
    let mut number = 0;
    until("a request finds all in use", || {
        number += 1;
        let _in_use = begin_stream(&server, 400);
        ask(&server, None, Some(&format!("n{number}")));
        server.metric("lookahead_namespace_fallbacks_total") > 0.0
    });
    assert!(server.metric("lookahead_namespaces") <= 1.0);
}

#[test]
fn a_key_keeps_as_many_namespaces_as_it_may_and_forgets_the_oldest() {
    let directory = tempfile::tempdir().unwrap();
    let drafts = DraftOptions { max_namespaces: 1, max_kept_namespaces: 2, ..kept_in(directory.path()) };
    let server = start(drafts, &KEYS);
    ask(&server, Some("b"), None);
    until_it_has_learned(&server, Some("b"), None);
    for name in ["one", "two", "three"] {
        ask(&server, Some("a"), Some(name));
        until_it_has_learned(&server, Some("a"), Some(name));
    }
    let names = names_in(directory.path());
    for (name, is_kept) in
        [("alice+one.", false), ("alice+two.", true), ("alice+three.", true), ("bob.", true)]
    {
        assert_eq!(names.iter().any(|file| file.starts_with(name)), is_kept, "{name}: {names:?}");
    }
}

#[test]
fn a_damaged_corpus_is_told_of_stops_nothing_and_can_be_removed() {
    let directory = tempfile::tempdir().unwrap();
    let folder = directory.path().join("default.corpora");
    let mut server = start(kept_in(directory.path()), &[]);
    for name in ["good", "cut", "turned"] {
        assert_eq!(add(&server, None, &format!("name={name}"), "glass is made of sand").status, 200);
    }
    server.stop();
    let whole = fs::read(folder.join("good.drafts")).unwrap();
    fs::write(folder.join("cut.drafts"), &whole[..whole.len() / 2]).unwrap();
    fs::write(folder.join("no drafts.drafts"), "hello").unwrap();
    fs::write(folder.join("empty.drafts"), "").unwrap();
    fs::write(directory.path().join("default+odd.corpora"), "no folder").unwrap();
    // What a process that was killed two hours ago has left of a corpus.
    let unfinished = folder.join(".corpus-killed");
    fs::create_dir(&unfinished).unwrap();
    fs::write(unfinished.join("drafts"), &whole).unwrap();
    let long_ago = SystemTime::now() - Duration::from_hours(2);
    fs::File::open(&unfinished).unwrap().set_modified(long_ago).unwrap();

    let server = start(kept_in(directory.path()), &[]);
    let list = || server.get(CORPORA).json()["data"].as_array().unwrap().clone();
    let problems = |list: &[Value]| -> Vec<(String, bool)> {
        let entry =
            |corpus: &Value| (corpus["name"].as_str().unwrap().to_owned(), corpus["problem"].is_string());
        list.iter().map(entry).collect()
    };
    let expected = [("cut", true), ("empty", true), ("good", false), ("no drafts", true), ("turned", false)];
    let expected = expected.map(|(name, is_damaged)| (name.to_owned(), is_damaged));
    assert_eq!(problems(&list()), expected, "before the namespace is open");
    ask(&server, None, None);
    until_it_has_learned(&server, None, None);
    assert!(from_earlier(&ask(&server, None, None)) > 0, "the namespace itself is in use");
    assert_eq!(problems(&list()), expected);
    assert_eq!(server.metric("lookahead_corpus_failures_total"), 3.0);
    assert_eq!(server.metric("lookahead_namespace_failures_total"), 0.0);

    for name in ["cut", "no%20drafts", "empty", "turned"] {
        assert_eq!(server.delete(&format!("{CORPORA}/{name}")).status, 200, "{name}");
    }
    assert_eq!(server.delete(&format!("{CORPORA}/..%2Fdefault.corpora%2Fgood")).status, 404);
    assert_eq!(names_in(&folder), ["good.drafts"]);
    ask(&server, None, Some("odd"));
    assert_eq!(server.metric("lookahead_namespace_failures_total"), 0.0);
    // A new one of the same name works.
    assert_eq!(add(&server, None, "name=cut", "glass is made of sand").status, 200);
    assert_eq!(problems(&list()), [("cut".to_owned(), false), ("good".to_owned(), false)]);
}

#[test]
fn corpora_beyond_what_a_key_may_have_are_refused_and_leave_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let drafts = DraftOptions { max_corpora: 2, corpora_bytes: 200 << 10, ..kept_in(directory.path()) };
    let server = start(drafts, &KEYS);
    let refused = |reply: &Reply, name: &str, option: &str| {
        let error = &reply.json()["error"];
        assert_eq!(reply.status, 413, "{}", reply.text);
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(name) && message.contains(option), "{message}");
    };
    let words = |count: usize| {
        let words: Vec<_> = (0..count).map(|number| (number * 7919 % 10_007).to_string()).collect();
        words.join(" ")
    };
    assert_eq!(add(&server, Some("a"), "name=first", &words(300)).status, 200);
    let large = add(&server, Some("a"), "name=large&namespace=other", &words(20_000));
    refused(&large, "\"large\"", "--corpora-quota");
    assert_eq!(large.json()["error"]["code"], "quota_exceeded");
    assert!(!directory.path().join("alice+other.corpora").exists());
    assert_eq!(add(&server, Some("a"), "name=second&namespace=other", "short").status, 200);
    refused(&add(&server, Some("a"), "name=third", "short"), "\"third\"", "--max-corpora");
    assert_eq!(
        add(&server, Some("a"), "name=first", &words(200)).status,
        200,
        "in place of the one of this name"
    );
    assert_eq!(
        add(&server, Some("b"), "name=third", &words(300)).status,
        200,
        "another key's are not counted"
    );
    assert_eq!(server.delete_as(&format!("{CORPORA}/second?namespace=other"), Some("a")).status, 200);
    assert_eq!(add(&server, Some("a"), "name=third", "short").status, 200, "there is room again");
    assert_eq!(names_in(&directory.path().join("alice.corpora")), ["first.drafts", "third.drafts"]);

    // The index counts, not the text alone.
    let drafts = DraftOptions { corpora_bytes: u64::MAX, ..options().drafts };
    let server = start(drafts, &[]);
    let reply = add(&server, None, "name=large", &words(100_000));
    refused(&reply, "\"large\"", "--max-corpus");
    assert_eq!(reply.json()["error"]["code"], "request_too_large");
    let long = TestServer::start(ServerOptions { max_corpus_bytes: 64 << 20, ..options() });
    refused(&add(&long, None, "name=x", &"word ".repeat(1 << 20)), "line 1", "several lines");
}

/// Begins to send a corpus.
fn begin_upload(server: &TestServer, key: &str) -> TcpStream {
    let mut stream = TcpStream::connect(server.base().trim_start_matches("http://")).unwrap();
    let head = format!(
        "POST {CORPORA}?name=cut HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n\
         Content-Type: application/x-ndjson\r\nContent-Length: 100000\r\n\
         Connection: close\r\n\r\n"
    );
    let lines = "{\"text\": \"glass is made of sand\"}\n".repeat(2000);
    stream.write_all(format!("{head}{lines}").as_bytes()).unwrap();
    stream
}

#[test]
fn an_upload_that_is_cut_off_leaves_nothing_behind_and_one_at_a_time_is_taken() {
    let directory = tempfile::tempdir().unwrap();
    let server = start(kept_in(directory.path()), &KEYS);
    let mut cut = Vec::new();
    until("one is being taken", || {
        cut.push(begin_upload(&server, "a"));
        let second = add(&server, Some("a"), "name=second", "short");
        assert!(second.status == 200 || second.status == 429, "{}", second.text);
        second.status == 429
            && second.headers.contains_key("retry-after")
            && second.json()["error"]["code"] == "upload_in_progress"
    });
    assert_eq!(add(&server, Some("b"), "name=x", "short").status, 200, "another key does not wait");
    drop(cut);
    until("its place is free", || add(&server, Some("a"), "name=second", "short").status == 200);
    assert_eq!(names_in(&directory.path().join("alice.corpora")), ["second.drafts"]);
    let listed = server.get_as(CORPORA, Some("a")).json();
    assert_eq!(listed["data"].as_array().unwrap().len(), 1, "{listed}");

    // One that is wrong at its end leaves nothing either.
    let mut wrong = begin_upload(&server, "b");
    let rest = 100_000 - "{\"text\": \"glass is made of sand\"}\n".len() * 2000;
    wrong.write_all("x".repeat(rest).as_bytes()).unwrap();
    let mut answer = String::new();
    wrong.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("line 2001"), "{answer}");
    assert_eq!(names_in(&directory.path().join("bob.corpora")), ["x.drafts"]);
}
