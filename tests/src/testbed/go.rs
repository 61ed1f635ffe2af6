//! Builds the components from the pinned Go modules, once for each set of pins.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use sha2::{Digest as _, Sha256};

use super::paths::cache_dir;
use super::pki::hex;
use super::process::{run, wait_for};
use super::refusal::refuse;

/// Counts up when the way of building changes, so that nothing stale is used.
const RECIPE: &str = "1";

/// Modules that are pinned together: a directory of `testbed/go`.
struct Family {
    name: &'static str,
    /// The variable that holds the version, without which clients take the
    /// server for an ancient one.
    version: Option<(&'static str, &'static str)>,
    tools: &'static [(&'static str, &'static str)],
}

const FAMILIES: [Family; 10] = [
    Family {
        name: "etcd",
        version: None,
        tools: &[("etcd", "go.etcd.io/etcd/server/v3")],
    },
    Family {
        name: "containerd",
        version: None,
        tools: &[
            (
                "containerd",
                "github.com/containerd/containerd/v2/cmd/containerd",
            ),
            (
                "containerd-shim-runc-v2",
                "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2",
            ),
            ("ctr", "github.com/containerd/containerd/v2/cmd/ctr"),
        ],
    },
    Family {
        name: "temporal",
        version: None,
        tools: &[("temporal-server", "go.temporal.io/server/cmd/server")],
    },
    Family {
        name: "kubernetes",
        version: Some((
            "k8s.io/component-base/version.gitVersion",
            "k8s.io/kubernetes",
        )),
        tools: &[
            ("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver"),
            (
                "kube-controller-manager",
                "k8s.io/kubernetes/cmd/kube-controller-manager",
            ),
            ("kube-scheduler", "k8s.io/kubernetes/cmd/kube-scheduler"),
            ("kubelet", "k8s.io/kubernetes/cmd/kubelet"),
            ("kube-proxy", "k8s.io/kubernetes/cmd/kube-proxy"),
            ("kubectl", "k8s.io/kubernetes/cmd/kubectl"),
        ],
    },
    Family {
        name: "coredns",
        version: None,
        tools: &[("coredns", "github.com/coredns/coredns")],
    },
    Family {
        name: "ui",
        version: None,
        tools: &[(
            "temporal-ui",
            "github.com/temporalio/ui-server/v2/cmd/server",
        )],
    },
    Family {
        name: "helm",
        version: Some((
            "helm.sh/helm/v4/internal/version.version",
            "helm.sh/helm/v4",
        )),
        tools: &[("helm", "helm.sh/helm/v4/cmd/helm")],
    },
    Family {
        name: "pause",
        version: None,
        tools: &[("pause", ".")],
    },
    // Last: little is left of them to build after Kubernetes, whose modules they share.
    Family {
        name: "kstatus",
        version: None,
        tools: &[("kstatus", ".")],
    },
    Family {
        name: "policies",
        version: None,
        tools: &[("policies", ".")],
    },
];

/// Where the built programs are.
#[derive(Debug)]
pub(super) struct Binaries(Vec<(&'static str, PathBuf)>);

impl Binaries {
    pub(super) fn path(&self, tool: &str) -> Result<&Path> {
        let found = self.0.iter().find(|(name, _)| *name == tool);
        let (_, path) = found.with_context(|| format!("{tool} is not a part of the testbed."))?;
        Ok(path)
    }
}

/// Builds what is not in the cache yet and says so line by line.
pub(super) fn build() -> Result<Binaries> {
    build_families(&pins(), &FAMILIES.iter().collect::<Vec<_>>())
}

/// One program that the running testbed does without, built when it is not in the cache.
pub(super) fn tool(name: &str) -> Result<PathBuf> {
    let has = |family: &&Family| family.tools.iter().any(|(tool, _)| *tool == name);
    let families: Vec<_> = FAMILIES.iter().filter(has).collect();
    Ok(build_families(&pins(), &families)?
        .path(name)?
        .to_path_buf())
}

/// The example worker in Go, built when it is not in the cache.
pub fn worker() -> Result<PathBuf> {
    const NAME: &str = "process-example-worker-go";
    let family = Family {
        name: "worker-go",
        version: None,
        tools: &[(NAME, ".")],
    };
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let built = build_families(&examples, &[&family])?;
    Ok(built.path(NAME)?.to_path_buf())
}

/// The directory of the families.
fn pins() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testbed/go")
}

fn build_families(root: &Path, families: &[&Family]) -> Result<Binaries> {
    let go = go_version()?;
    let cache = cache_dir()?.join("bin");
    fs::create_dir_all(&cache)
        .with_context(|| format!("The cache {} cannot be made.", cache.display()))?;
    // One builder at a time: a second one waits and then finds everything made.
    let lock = File::create(cache.join(".lock"))?;
    if lock.try_lock().is_err() {
        eprintln!("Waiting for another build of the testbed's components.");
        lock.lock()?;
    }

    let mut all = Vec::new();
    let mut missing = Vec::new();
    for family in families {
        let source = root.join(family.name);
        let target = cache.join(format!("{}-{}", family.name, key(&source, &go)?));
        for (tool, package) in family.tools {
            let path = target.join(tool);
            if !path.is_file() {
                missing.push((*family, *tool, *package, path.clone()));
            }
            all.push((*tool, path));
        }
    }
    let total = missing.len();
    for (index, (family, tool, package, path)) in missing.into_iter().enumerate() {
        let left = total - index - 1;
        build_tool(
            &root.join(family.name),
            family,
            package,
            &path,
            &|elapsed, done| {
                let state = if done {
                    "built in"
                } else {
                    "still building after"
                };
                eprintln!(
                    "{tool}: {state} {} s, {left} of {total} left",
                    elapsed.as_secs()
                );
            },
        )?;
    }
    Ok(Binaries(all))
}

fn build_tool(
    source: &Path,
    family: &Family,
    package: &str,
    path: &Path,
    progress: &dyn Fn(Duration, bool),
) -> Result<()> {
    let mut flags = String::from("-s -w");
    if let Some((variable, module)) = family.version {
        let pins = fs::read_to_string(source.join("go.mod"))?;
        let version = pinned_version(&pins, module)
            .with_context(|| format!("go.mod of {} does not pin {module}.", family.name))?;
        flags = format!("{flags} -X {variable}={version}");
    }
    let unfinished = path.with_extension("unfinished");
    let begun = Instant::now();
    let mut child = Command::new("go")
        .args([
            "build",
            "-trimpath",
            "-buildvcs=false",
            "-ldflags",
            &flags,
            "-o",
        ])
        .arg(&unfinished)
        .arg(package)
        .current_dir(source)
        .env("CGO_ENABLED", "0")
        .env("GOTOOLCHAIN", "local")
        .env("GOWORK", "off")
        .env_remove("GOFLAGS")
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("go cannot be run.")?;
    // Module downloads are a line each: kept for the error only.
    let mut stderr = child.stderr.take();
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        if let Some(stderr) = &mut stderr {
            stderr.read_to_string(&mut text).ok();
        }
        text
    });
    let status = loop {
        let mut status = None;
        wait_for(Duration::from_secs(30), || {
            status = child.try_wait().ok().flatten();
            status.is_some()
        });
        match status {
            Some(status) => break status,
            None => progress(begun.elapsed(), false),
        }
    };
    if !status.success() {
        let output = reader.join().unwrap_or_default();
        bail!(
            "`go build {package}` in {} failed: {}",
            source.display(),
            output.trim()
        );
    }
    fs::rename(&unfinished, path)?;
    progress(begun.elapsed(), true);
    Ok(())
}

/// Everything that decides what comes out of a build.
fn key(source: &Path, go: &str) -> Result<String> {
    let mut hash = Sha256::new();
    for file in ["go.mod", "go.sum", "main.go"] {
        // Without dependencies there is no go.sum, and only own programs have a source.
        hash.update(fs::read(source.join(file)).unwrap_or_default());
        hash.update([0]);
    }
    // Further sources of a program.
    let sources = fs::read_dir(source).into_iter().flatten().flatten();
    let mut sources: Vec<_> = sources.map(|entry| entry.path()).collect();
    sources.sort();
    for path in sources {
        if path.extension().is_some_and(|it| it == "go") && !path.ends_with("main.go") {
            hash.update(fs::read(path)?);
            hash.update([0]);
        }
    }
    hash.update(go);
    hash.update(std::env::consts::ARCH);
    hash.update(RECIPE);
    let digest = hex(&hash.finalize());
    Ok(digest
        .get(..16)
        .context("A digest is too short.")?
        .to_owned())
}

/// The version of the installed Go; too old a one is refused here instead of
/// after a download.
fn go_version() -> Result<String> {
    let root = pins();
    let mut needed = String::new();
    for family in &FAMILIES {
        let pins = fs::read_to_string(root.join(family.name).join("go.mod"))?;
        let version = pins.lines().find_map(|line| line.strip_prefix("go "));
        if let Some(version) = version
            && numbers(version) > numbers(&needed)
        {
            version.trim().clone_into(&mut needed);
        }
    }
    let mut command = Command::new("go");
    command
        .args(["env", "GOVERSION"])
        .env("GOTOOLCHAIN", "local")
        .current_dir("/");
    let Ok(found) = run(&mut command) else {
        refuse!(
            "The testbed is built from Go modules and Go is not installed: \
             install Go {needed} or newer from https://go.dev/dl/ and put it on the PATH."
        );
    };
    let found = found.trim().trim_start_matches("go").to_owned();
    if numbers(&found) < numbers(&needed) {
        refuse!(
            "Go {found} is too old for the testbed's components: \
             install Go {needed} or newer from https://go.dev/dl/."
        );
    }
    Ok(found)
}

fn numbers(version: &str) -> Vec<u32> {
    version
        .trim()
        .split('.')
        .map_while(|part| part.parse().ok())
        .collect()
}

fn pinned_version<'a>(pins: &'a str, module: &str) -> Option<&'a str> {
    pins.lines().find_map(|line| {
        let mut words = line
            .trim()
            .trim_start_matches("require ")
            .split_whitespace();
        (words.next() == Some(module))
            .then(|| words.next())
            .flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_number() {
        assert!(numbers("1.26.10") > numbers("1.26.8"));
        assert!(numbers("1.9") < numbers("1.26.0"));
        assert!(numbers("1.26.8") >= numbers("1.26.8"));
    }

    #[test]
    fn the_pin_of_a_module_is_found() {
        let pins = "require (\n\tk8s.io/kubernetes v1.37.2 // indirect\n)\n";
        assert_eq!(pinned_version(pins, "k8s.io/kubernetes"), Some("v1.37.2"));
        assert_eq!(pinned_version(pins, "k8s.io/kube"), None);
    }
}
