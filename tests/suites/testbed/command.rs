//! `cargo xtask` as people run it: what it refuses, and what it says of the testbed.

use std::fs;
use std::net::UdpSocket;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use process_operator_tests::testbed::{Testbed, cache_dir};

use crate::{alone, eventually};

const CACHE: &str = "PROCESS_OPERATOR_CACHE";
/// Whose end disturbs nobody.
const COMPONENT: &str = "temporal-ui";

/// The program that `cargo xtask` runs.
fn program() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let mut beside = own.ancestors().skip(1).map(|it| it.join("xtask"));
    beside
        .find(|candidate| candidate.is_file())
        .expect("xtask is built beside the tests")
}

fn xtask(args: &[&str]) -> Command {
    let mut command = Command::new(program());
    command.args(args);
    command
}

/// A directory of a test's own, with a cache in it that nobody has used.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("xtask-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    fn cache(&self) -> PathBuf {
        self.0.join("cache")
    }

    /// A program in a directory that is then the first of the PATH.
    fn path_with(&self, name: &str, script: &str) -> String {
        let dir = self.0.join("bin");
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join(name), script).unwrap();
        fs::set_permissions(dir.join(name), fs::Permissions::from_mode(0o755)).unwrap();
        let path = std::env::var("PATH").unwrap();
        format!("{}:{path}", dir.display())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn run(command: &mut Command) -> Output {
    command.output().unwrap()
}

/// Refused with code 2 and one sentence, which it gives.
fn refused(command: &mut Command) -> String {
    let output = run(command);
    let (said, told) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(2), "{said}{told}");
    assert!(said.is_empty(), "{said}");
    assert!(
        told.lines().count() == 1 && told.trim_end().ends_with('.'),
        "one sentence: {told}"
    );
    told
}

#[test]
fn nobody_but_root_gets_one_sentence_and_nothing_is_made() {
    let scratch = Scratch::new("nobody");
    // Where it was built may be nobody else's to look into.
    let copy = scratch.0.join("xtask");
    fs::copy(program(), &copy).unwrap();
    for task in ["up", "prepare"] {
        let mut command = Command::new("setpriv");
        command
            .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
            .arg(&copy)
            .arg(task)
            .env(CACHE, scratch.cache())
            .current_dir("/");
        let told = refused(&mut command);
        assert!(told.contains("needs root: use sudo, or"), "{told}");
    }
    assert!(!scratch.cache().exists());
}

#[test]
fn a_go_that_is_too_old_or_missing_is_told_before_anything_is_built() {
    let scratch = Scratch::new("go");
    let old = scratch.path_with("go", "#!/bin/sh\necho go1.19.1\n");
    let nothing = scratch.0.join("nothing");
    for (path, said) in [
        (old.as_str(), "Go 1.19.1 is too old"),
        (nothing.to_str().unwrap(), "Go is not installed"),
    ] {
        let mut command = xtask(&["prepare"]);
        command.env("PATH", path).env(CACHE, scratch.cache());
        let told = refused(&mut command);
        assert!(
            told.contains(said) && told.contains("https://go.dev/dl/"),
            "{told}"
        );
    }
    assert!(!scratch.cache().join("bin").exists());
}

/// All that the command would touch is the test's own: its network, and what is mounted over the directories in which
/// the running testbed has files.
const APART: &str = r#"set -e
mount --make-rprivate /
awk '$5 ~ "^/run/" { print $5 }' /proc/self/mountinfo | sort -r | xargs -r umount --lazy
for directory in /run /var /sys/fs/cgroup /sys/class/net; do mount -t tmpfs none "$directory"; done
exec "$0" up"#;

#[test]
fn a_name_server_on_every_address_is_told() {
    let scratch = Scratch::new("port");
    fs::create_dir_all(scratch.cache()).unwrap();
    // What is built is built already.
    symlink(
        cache_dir().unwrap().join("bin"),
        scratch.cache().join("bin"),
    )
    .unwrap();
    let cache = scratch.cache();
    // Namespaces are those of a thread, and of what it starts.
    let told = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).unwrap();
        let _name_server = UdpSocket::bind(("0.0.0.0", 53)).unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", APART]).arg(program()).env(CACHE, cache);
        refused(&mut command)
    });
    let told = told.join().unwrap();
    assert!(
        told.contains("Port 53 is in use") && told.contains("stop the name server"),
        "{told}"
    );
    assert!(!scratch.cache().join("testbed.json").exists());
}

#[test]
fn there_is_one_testbed_on_a_machine() {
    Testbed::current().unwrap();
    let scratch = Scratch::new("second");
    let told = refused(xtask(&["up"]).env(CACHE, scratch.cache()));
    let ours = format!("{CACHE}={}", cache_dir().unwrap().display());
    assert!(told.contains(&ours), "{told}");
}

#[test]
fn tests_and_measurements_are_refused_elsewhere_at_once() {
    let scratch = Scratch::new("elsewhere");
    let elsewhere = [
        "--context=kind-kind",
        "--temporal-address=localhost:7233",
        "--temporal-pod-address=172.18.0.1:7233",
    ];
    for task in ["test", "bench"] {
        for options in [&elsewhere[..], &elsewhere[..2], &elsewhere[1..2]] {
            let told = refused(xtask(&[task]).args(options).env(CACHE, scratch.cache()));
            assert!(
                told.contains("audit log") && told.contains("without --context"),
                "{told}"
            );
        }
    }
    // The same once `up` was given a cluster.
    let mut state = serde_json::to_value(Testbed::current().unwrap().state()).unwrap();
    state["external"] = true.into();
    let file = scratch.cache().join("testbed.json");
    fs::create_dir_all(scratch.cache()).unwrap();
    fs::write(&file, state.to_string()).unwrap();
    for task in ["test", "bench"] {
        let told = refused(xtask(&[task]).env(CACHE, scratch.cache()));
        assert!(told.contains("run `cargo xtask down` first"), "{told}");
    }
    let output = run(xtask(&["down"]).env(CACHE, scratch.cache()));
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(!file.exists(), "only the record goes");
}

/// The testbed's own cluster is somebody else's here.
#[test]
fn an_existing_cluster_is_used_and_then_left_alone() {
    let _alone = alone();
    let before = text(&run(&mut xtask(&["status"])).stdout);
    let testbed = Testbed::current().unwrap();
    let state = testbed.state();
    let scratch = Scratch::new("existing");
    let script = format!("#!/bin/sh\nexec {} \"$@\"\n", state.kubectl.display());
    let path = scratch.path_with("kubectl", &script);
    let there = |args: &[&str]| {
        let mut command = xtask(args);
        command
            .env("PATH", &path)
            .env("KUBECONFIG", testbed.kubeconfig())
            .env(CACHE, scratch.cache());
        command
    };
    let up = |context| {
        let address = state.temporal_address.as_str();
        there(&["up", "--context", context, "--temporal-address", address])
    };
    let told = refused(&mut up("nowhere"));
    assert!(told.contains("has no context nowhere"), "{told}");
    let record = scratch.cache().join("testbed.json");
    assert!(!record.exists());

    let output = run(&mut up("testbed"));
    let (said, told) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{said}{told}");
    assert!(said.starts_with("An existing cluster"), "{said}");
    let addresses = [&state.apiserver_url, &state.temporal_address];
    for part in addresses.map(String::as_str) {
        assert!(said.contains(part), "no {part}: {said}");
    }
    // What is used from now on is a copy.
    let kubeconfig = scratch.cache().join("existing/admin.yaml");
    let mut ask = Command::new(&state.kubectl);
    let ask = ask.arg("--kubeconfig").arg(&kubeconfig);
    let output = run(ask.args(["auth", "whoami"]));
    assert!(output.status.success(), "{}", text(&output.stderr));
    let output = run(&mut there(&["up"]));
    assert_eq!(text(&output.stderr), "The testbed is already up.\n");
    assert_eq!(text(&output.stdout), said);

    let output = run(&mut there(&["down"]));
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(
        !record.exists() && !kubeconfig.exists(),
        "no way in is left"
    );
    assert_eq!(text(&run(&mut xtask(&["status"])).stdout), before);
}

/// Name and process id of every component that runs.
fn components(status: &str) -> Vec<String> {
    let running = status.lines().filter(|line| line.contains(" running "));
    running.map(str::to_owned).collect()
}

#[test]
fn up_again_is_harmless_and_says_so() {
    let _alone = alone();
    let before = text(&run(&mut xtask(&["status"])).stdout);
    assert_eq!(components(&before).len(), 10, "{before}");
    let output = run(&mut xtask(&["up"]));
    let told = text(&output.stderr);
    assert!(output.status.success(), "{told}");
    assert_eq!(told, "The testbed is already up.\n");
    assert_eq!(text(&output.stdout), before, "no component is another");
}

/// The last line of a log.
fn last_line(log: &Path) -> String {
    let log = fs::read_to_string(log).unwrap();
    log.lines().last().unwrap().to_owned()
}

#[test]
fn a_component_that_was_killed_is_told_with_the_end_of_its_log_and_up_starts_it_again() {
    let _alone = alone();
    let testbed = Testbed::current().unwrap();
    let pid = testbed.component_pid(COMPONENT).unwrap();
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    let mut said = String::new();
    eventually("status has seen it", || {
        let output = run(&mut xtask(&["status"]));
        said = text(&output.stdout);
        assert_ne!(output.status.code(), Some(2), "{said}");
        output.status.code() == Some(1)
    });
    let line = said.lines().find(|line| line.starts_with(COMPONENT));
    assert!(line.is_some_and(|line| line.contains("CRASHED")), "{said}");
    assert_eq!(components(&said).len(), 9, "the others run: {said}");
    let log = testbed.component_log(COMPONENT).unwrap();
    let report = said
        .split(&format!("\n{COMPONENT} ended by itself."))
        .nth(1);
    let report = report.unwrap_or_else(|| panic!("no report: {said}"));
    assert!(
        report.contains(&log.display().to_string()) && report.contains(&last_line(&log)),
        "{said}"
    );

    let output = run(&mut xtask(&["up"]));
    let told = text(&output.stderr);
    assert!(output.status.success(), "{told}");
    assert!(
        told.contains(&format!("{COMPONENT} ended by itself.")),
        "{told}"
    );
    assert!(told.contains("Starting it again."), "{told}");
    assert_ne!(testbed.component_pid(COMPONENT).unwrap(), pid);
    let output = run(&mut xtask(&["status"]));
    assert!(output.status.success(), "{}", text(&output.stdout));
}
