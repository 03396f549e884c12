//! A stand-in for the model hub on 127.0.0.1, for tests: just enough HTTP/1.1 for its client.
//!
//! As the real one, it answers requests for a file with a redirect that carries the file's digest, and serves
//! the content elsewhere, by ranges.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// How the server behaves when the content of a file is asked for.
#[derive(Clone)]
pub(crate) enum Delivery {
    /// It sends the whole range.
    Whole,
    /// The first `times` times it closes the connection before byte `at` of the file, from then on it
    /// delivers.
    CutAt { at: usize, times: usize },
    /// It sends up to byte `at` of the file, reports that here, and then nothing more.
    StallAt { at: usize, reached: Sender<()> },
    /// It answers with this status.
    Status(u16),
}

/// One file of the repository.
#[derive(Clone)]
pub(crate) struct HubFile {
    pub(crate) content: Vec<u8>,
    /// What the hub says the SHA-256 is.
    pub(crate) sha256: String,
    pub(crate) delivery: Delivery,
}

/// The server; it lives as long as the test process.
pub(crate) struct Hub {
    /// For `HF_ENDPOINT`.
    pub(crate) endpoint: String,
    /// The lines and headers of all requests so far.
    pub(crate) requests: Arc<Mutex<Vec<String>>>,
}

struct State {
    repository: String,
    files: HashMap<String, HubFile>,
    endpoint: String,
    cuts: AtomicUsize,
}

impl Hub {
    /// Serves `files` as the repository `repository`.
    pub(crate) fn start(repository: &str, files: impl IntoIterator<Item = (&'static str, HubFile)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let state = Arc::new(State {
            repository: repository.to_owned(),
            files: files.into_iter().map(|(name, file)| (name.to_owned(), file)).collect(),
            endpoint: endpoint.clone(),
            cuts: AtomicUsize::new(0),
        });
        let log = Arc::clone(&requests);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (state, log) = (Arc::clone(&state), Arc::clone(&log));
                thread::spawn(move || serve(&state, &log, stream));
            }
        });
        Self { endpoint, requests }
    }
}

/// Answers one request and closes the connection. A client that is gone is no matter.
fn serve(state: &State, log: &Mutex<Vec<String>>, stream: TcpStream) -> Option<()> {
    let mut lines = BufReader::new(stream.try_clone().ok()?).lines().map_while(Result::ok);
    let request: Vec<String> = lines.by_ref().take_while(|line| !line.is_empty()).collect();
    log.lock().unwrap().push(request.join("\n"));
    let path = request.first()?.split(' ').nth(1)?.to_owned();
    let range = request.iter().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("range").then(|| value.trim_start_matches("bytes=").to_owned())
    });
    let repository = &state.repository;
    if path == format!("/api/models/{repository}/revision/main") {
        let siblings: Vec<_> =
            state.files.keys().map(|name| serde_json::json!({ "rfilename": name })).collect();
        let body = serde_json::json!({ "sha": "c0ffee", "siblings": siblings }).to_string();
        return respond(stream, "200 OK", &[], body.as_bytes());
    }
    if let Some(file) = path.strip_prefix(&format!("/{repository}/resolve/main/"))
        && let Some(HubFile { sha256, delivery, .. }) = state.files.get(file)
    {
        if let Delivery::Status(status) = delivery {
            return respond(stream, &format!("{status} So It Is"), &[], b"");
        }
        let headers = [
            ("Location", format!("{}/content/{file}", state.endpoint)),
            ("X-Repo-Commit", "c0ffee".to_owned()),
            ("X-Linked-Etag", format!("\"{sha256}\"")),
        ];
        return respond(stream, "302 Found", &headers, b"");
    }
    if let Some(file) = path.strip_prefix("/content/").and_then(|name| state.files.get(name)) {
        return deliver(state, stream, file, &range?);
    }
    respond(stream, "404 Not Found", &[], b"Entry not found")
}

/// Sends the asked range of a file, as its [`Delivery`] says.
fn deliver(state: &State, mut stream: TcpStream, file: &HubFile, range: &str) -> Option<()> {
    let size = file.content.len();
    let (start, end) = range.split_once('-')?;
    let start: usize = start.parse().ok()?;
    let end = end.parse().map_or(size, |end: usize| end + 1).min(size);
    let probe = end - start <= 1;
    let head = format!(
        "HTTP/1.1 206 Partial Content\r\nContent-Length: {}\r\nContent-Range: bytes {start}-{}/{size}\r\n\
         Connection: close\r\n\r\n",
        end - start,
        end - 1,
    );
    stream.write_all(head.as_bytes()).ok()?;
    let mut send = |to: usize| stream.write_all(&file.content[start..to.clamp(start, end)]).ok();
    match &file.delivery {
        Delivery::CutAt { at, times } if !probe && state.cuts.fetch_add(1, Ordering::SeqCst) < *times => {
            send(*at)
        }
        Delivery::StallAt { at, reached } if !probe => {
            send(*at)?;
            reached.send(()).ok()?;
            thread::sleep(Duration::from_mins(1));
            Some(())
        }
        _ => send(end),
    }
}

fn respond(mut stream: TcpStream, status: &str, headers: &[(&str, String)], body: &[u8]) -> Option<()> {
    let mut head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n", body.len());
    for (name, value) in headers {
        head.push_str(name);
        head.push_str(": ");
        head.push_str(value);
        head.push_str("\r\n");
    }
    stream.write_all(format!("{head}\r\n").as_bytes()).ok()?;
    stream.write_all(body).ok()
}
