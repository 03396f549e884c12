use super::*;

#[test]
fn old_and_new_versions_are_read() {
    let cases = [
        ("version: 6000 (0123abc)\nbuilt with cc for x86_64", Some("llama.cpp build 6000 (0123abc)")),
        (
            "noise\nversion: 0.5.0-dev (build 1, commit 0c1e570)\n",
            Some("llama.cpp 0.5.0-dev build 1 (0c1e570)"),
        ),
        ("Python 3.11.2", None),
        ("version: (", None),
        ("", None),
    ];
    for (said, expected) in cases {
        assert_eq!(parse_version(said).as_deref(), expected, "{said}");
    }
}

#[test]
fn an_unknown_mode_is_refused_before_anything_is_started() {
    for mode in ["", "draft-mtp", "ngram-simple,ngram-mod", "--help"] {
        let error = Peer::start(Path::new("/no/such/program"), Path::new("m.gguf"), 1, 64, mode).unwrap_err();
        let expected = format!("`{mode}` is no mode of llama-server that is measured: plain, ngram-simple, ");
        assert!(error.to_string().starts_with(&expected), "{error}");
    }
}

#[test]
fn a_program_that_is_not_there_is_named() {
    let binary = Path::new("/no/such/llama-server");
    let errors = [
        Peer::start(binary, Path::new("m.gguf"), 1, 64, PLAIN).unwrap_err(),
        Peer::version(binary).unwrap_err(),
    ];
    for error in errors {
        let text = error.to_string();
        assert!(text.contains("/no/such/llama-server: cannot be started: No such file"), "{text}");
        assert!(text.contains("give the path of a `llama-server`"), "{text}");
    }
}

#[cfg(unix)]
mod with_a_fake_server {
    use std::fs;
    use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::fs::PermissionsExt as _;
    use std::sync::{Mutex, MutexGuard, PoisonError};

    use tempfile::TempDir;

    use super::*;

    const ANSWER: &str = r#"{"tokens": [5, 6, 7],
        "timings": {"prompt_n": 2, "prompt_ms": 1.5, "predicted_n": 3, "predicted_ms": 8.0}}"#;

    /// Holds the folder of a fake server, which runs this test program again, in [`fake_server`].
    ///
    /// Only one is made at a time: a child that another test starts at the moment at which a script is written inherits the
    /// open file for an instant, in which the system refuses to run the script.
    struct Fake {
        folder: TempDir,
        _one_at_a_time: MutexGuard<'static, ()>,
    }

    impl Fake {
        /// A program that does what `script` says.
        fn of(script: &str) -> Self {
            static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
            let guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
            let fake = Self { folder: tempfile::tempdir().unwrap(), _one_at_a_time: guard };
            let text = format!("#!/bin/sh\n{script}\n");
            fs::write(fake.path("llama-server"), text).unwrap();
            fs::set_permissions(fake.path("llama-server"), fs::Permissions::from_mode(0o755)).unwrap();
            fake
        }

        /// A server that answers with the HTTP `status` and `body`.
        fn answering(status: &str, body: &str) -> Self {
            let program = std::env::current_exe().unwrap();
            let fake = Self::of(&format!(
                "LOOKAHEAD_FAKE_SERVER=\"${{0%/*}}\"\nexport LOOKAHEAD_FAKE_SERVER\n\
                 env > \"$LOOKAHEAD_FAKE_SERVER/environment\"\n\
                 printf '%s\\n' \"$@\" > \"$LOOKAHEAD_FAKE_SERVER/arguments\"\n\
                 exec '{}' peer::tests::with_a_fake_server::fake_server --exact --nocapture",
                program.display()
            ));
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", body.len());
            fs::write(fake.path("response"), head + body).unwrap();
            fake
        }

        fn path(&self, file: &str) -> PathBuf {
            self.folder.path().join(file)
        }

        fn read(&self, file: &str) -> String {
            fs::read_to_string(self.path(file)).unwrap()
        }

        fn start(&self, model: &str, mode: &str) -> Result<Peer, PeerError> {
            Peer::start(&self.path("llama-server"), Path::new(model), 3, 512, mode)
        }

        /// What completing a prompt fails with.
        fn error(&self) -> String {
            self.start("m.gguf", PLAIN).unwrap().complete(&[1, 2], 3).unwrap_err().to_string()
        }
    }

    /// The server, in a process that [`Fake`] started; no test in any other.
    #[test]
    fn fake_server() {
        let Some(folder) = std::env::var_os("LOOKAHEAD_FAKE_SERVER").map(PathBuf::from) else { return };
        let arguments = fs::read_to_string(folder.join("arguments")).unwrap();
        let port = arguments.lines().skip_while(|&line| line != "--port").nth(1).unwrap();
        let listener = TcpListener::bind(("127.0.0.1", port.parse().unwrap())).unwrap();
        let mut loading = true;
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let (path, body) = read_request(&stream).unwrap();
            let response = match path.as_str() {
                "/health" if loading => b"HTTP/1.1 503 Loading\r\nContent-Length: 0\r\n\r\n".to_vec(),
                "/health" => b"HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n{\"status\":\"ok\"}".to_vec(),
                path => {
                    fs::write(folder.join("request"), format!("{path} {body}")).unwrap();
                    let response = fs::read(folder.join("response")).unwrap();
                    if response.windows(5).any(|bytes| bytes == b"crash") {
                        eprintln!("\x1b[31mGGML_ASSERT failed");
                        std::process::exit(3);
                    }
                    response
                }
            };
            loading = false;
            // The client may have had enough.
            let _ = stream.write_all(&response);
        }
    }

    fn read_request(stream: &TcpStream) -> io::Result<(String, String)> {
        let mut reader = BufReader::new(stream);
        let (mut path, mut length) = (String::new(), 0);
        for line in reader.by_ref().lines() {
            let line = line?.to_ascii_lowercase();
            match line.strip_prefix("content-length: ") {
                _ if line.is_empty() => break,
                Some(number) => length = number.parse().unwrap(),
                None if path.is_empty() => line.split(' ').nth(1).unwrap().clone_into(&mut path),
                None => {}
            }
        }
        let mut body = String::new();
        reader.take(length).read_to_string(&mut body)?;
        Ok((path, body))
    }

    #[test]
    fn a_prompt_is_completed_in_token_ids_after_the_model_is_loaded() {
        let fake = Fake::answering("200 OK", ANSWER);
        let mut peer = fake.start("m.gguf", "ngram-mod").unwrap();
        let answer = peer.complete(&[1, 2], 3).unwrap();
        assert_eq!((answer.token_ids.as_slice(), answer.decode_tokens), ([5, 6, 7].as_slice(), 2));
        assert_eq!((answer.prefill, answer.decode), (Duration::from_micros(1500), Duration::from_millis(8)));
        assert_eq!(peer.complete(&[1, 2], 3).unwrap(), answer);

        let request = fake.read("request");
        let json: serde_json::Value =
            serde_json::from_str(request.strip_prefix("/completion ").unwrap()).unwrap();
        assert_eq!(json["prompt"], serde_json::json!([1, 2]));
        assert_eq!((&json["n_predict"], &json["cache_prompt"]), (&3.into(), &false.into()));
        let arguments = fake.read("arguments");
        let port = peer.port.to_string();
        let expected = ["-m", "m.gguf", "-t", "3", "-tb", "3", "-c", "512", "-np", "1"];
        let expected = expected.into_iter().chain(["--host", "127.0.0.1", "--port", &port]);
        assert!(arguments.lines().eq(expected.chain(["--spec-type", "ngram-mod"])), "{arguments}");
        assert!(fake.read("environment").lines().any(|line| line == "LLAMA_ARG_CACHE_PROMPT=0"));
    }

    #[test]
    fn no_shell_sees_the_name_of_a_model() {
        let model = "a 'model' \"of\" $(touch pwned); touch pwned #.gguf";
        let fake = Fake::answering("200 OK", ANSWER);
        let _peer = fake.start(model, PLAIN).unwrap();
        assert_eq!(fake.read("arguments").lines().nth(1), Some(model));
        assert!(!fake.read("arguments").contains("--spec-type"));
        assert!(!Path::new("pwned").exists());
    }

    #[test]
    fn a_dropped_peer_no_longer_runs() {
        let fake = Fake::answering("200 OK", ANSWER);
        let mut peer = fake.start("m.gguf", PLAIN).unwrap();
        let first = peer.port;
        assert!(TcpStream::connect(("127.0.0.1", first)).is_ok());
        peer = fake.start("m.gguf", "ngram-simple").unwrap();
        assert!(TcpStream::connect(("127.0.0.1", first)).is_err());
        let second = peer.port;
        drop(peer);
        assert!(TcpStream::connect(("127.0.0.1", second)).is_err());
    }

    #[test]
    fn a_server_that_ends_early_is_quoted() {
        let fake = Fake::of("echo loading; echo \"error: invalid argument: ${15}\" >&2; exit 1");
        let text = fake.start("m.gguf", "ngram-cache").unwrap_err().to_string();
        assert!(
            text.contains("llama-server in mode `ngram-cache`: ended before it served, with exit status: 1")
        );
        assert!(text.ends_with("loading\nerror: invalid argument: --spec-type"), "{text}");
    }

    #[test]
    fn a_server_that_is_never_ready_is_given_up_and_ended() {
        let fake = Fake::of("echo $$ > \"${0%/*}/id\"; exec sleep 1000");
        let mut peer = Peer::spawn(&fake.path("llama-server"), Path::new("m.gguf"), 1, 64, PLAIN).unwrap();
        let error = peer.wait_until_ready(Duration::from_millis(300)).unwrap_err().to_string();
        assert!(error.contains("not ready after 0 s") && error.contains("(it said nothing)"), "{error}");
        drop(peer);
        let id = fake.read("id");
        let is_there = Command::new("kill").args(["-0", id.trim()]).output().unwrap().status.success();
        assert!(!is_there, "{id}");
    }

    #[test]
    fn a_server_that_dies_while_it_answers_is_quoted() {
        let text = Fake::answering("200 OK", "crash").error();
        assert!(text.contains("in mode `plain`: ended while it answered, with exit status: 3"), "{text}");
        assert!(text.contains("\n[31mGGML_ASSERT failed"), "{text}");
    }

    #[test]
    fn a_refusal_is_quoted() {
        let error = Fake::answering("400 Bad Request", r#"{"error": "too long"}"#).error();
        assert!(
            error.contains("(HTTP status 400)") && error.ends_with(r#"{"error": "too long"}"#),
            "{error}"
        );
    }

    #[test]
    fn what_is_no_answer_is_an_error() {
        let too_long = "x".repeat(MAX_BODY_BYTES as usize + 1);
        let cases = [
            ("200 OK", ANSWER.replace("predicted_ms", "ms"), "missing field `predicted_ms`"),
            ("200 OK", ANSWER.replace("7]", "7, 8]"), "`tokens` holds 4 ids, more than the 3 asked for"),
            ("200 OK", too_long, "no answer: the response body is larger than request limit"),
            ("302 Found\r\nLocation: http://127.0.0.1:1/", String::new(), "HTTP status 302"),
            ("what", String::new(), "no answer: "),
        ];
        for (status, body, expected) in cases {
            let error = Fake::answering(status, &body).error();
            assert!(error.contains(expected), "{error}: expected {expected}");
        }
    }

    #[test]
    fn a_version_is_asked_of_the_program() {
        let version = |script: &str| Peer::version(&Fake::of(script).path("llama-server"));
        assert_eq!(version("echo 'version: 7 (abc)' >&2").unwrap(), "llama.cpp build 7 (abc)");
        let error = version("echo \"$1: what?\"; exit 1").unwrap_err().to_string();
        assert!(error.ends_with("is it a `llama-server`? It said:\n--version: what?"), "{error}");
    }
}
