//! Images of the operator and of the example workers.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use process_operator_tests::testbed::{self, Base, Contents, Testbed};

use crate::cargo::{Profile, binary, build, cargo, root, run};
use crate::phases::minutes;
use crate::python;

const WORKER: &str = "process-example-worker";
/// The same program under several tags, so that a test can change the image.
const TAGS: [&str; 3] = [
    "localhost/process-example-worker:v1",
    "localhost/process-example-worker:v2",
    "localhost/process-example-worker:v3",
];
const GO_TAGS: [&str; 2] = [
    "localhost/process-example-worker-go:v1",
    "localhost/process-example-worker-go:v2",
];
const PYTHON_TAGS: [&str; 2] = [
    "localhost/process-example-worker-python:v1",
    "localhost/process-example-worker-python:v2",
];
const OPERATOR: &str = "process-operator";
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Where programs look for what they trust.
const ROOTS: &str = "/etc/ssl/certs/ca-certificates.crt";

/// One that can be made alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Only {
    /// The operator.
    Operator,
    /// The example worker in Go.
    WorkerGo,
    /// The example worker in Python.
    WorkerPython,
}

/// Builds the images of what is written in Rust and imports them into the testbed, if that is up. Each
/// step is left out when its result is there. The archive of the operator's.
pub(crate) fn image(profile: Profile) -> Result<PathBuf> {
    build(profile)?;
    let begun = Instant::now();
    let archive = testbed::archive(&stripped(WORKER, profile)?, &TAGS)?;
    eprintln!("{}", told(&TAGS, import(&archive)?, begun.elapsed(), 1));
    operator(profile)
}

/// Where the images of an archive are now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// In the cluster.
    Cluster,
    /// In the cache alone: no cluster is up.
    Cache,
    /// In the cache alone: nobody here knows the way into the cluster.
    Elsewhere,
}

fn import(archive: &Path) -> Result<Place> {
    let Ok(testbed) = Testbed::current() else {
        return Ok(Place::Cache);
    };
    let imported = testbed.image_import(archive)?;
    Ok(if imported {
        Place::Cluster
    } else {
        Place::Elsewhere
    })
}

/// One archive is done.
fn told(names: &[&str], place: Place, elapsed: Duration, left: usize) -> String {
    let place = match place {
        Place::Cluster => "in the cluster",
        Place::Cache => "made; the testbed is not up: they are imported with the next call",
        Place::Elsewhere => "made; to be brought into the cluster by hand",
    };
    let left = match left {
        0 => String::new(),
        left => format!(", {left} more to come"),
    };
    format!("{}: {place} ({}{left})", names.join(", "), minutes(elapsed))
}

/// Those of the example workers in Go and Python.
pub(crate) fn languages() -> Result<()> {
    go()?;
    python()?;
    Ok(())
}

fn go() -> Result<PathBuf> {
    let roots = roots();
    let begun = Instant::now();
    let archive = testbed::archive_of(&Contents {
        binary: &testbed::go_worker()?,
        base: None,
        names: &GO_TAGS,
        labels: &[],
        files: &[(ROOTS, roots.as_bytes())],
    })?;
    eprintln!("{}", told(&GO_TAGS, import(&archive)?, begun.elapsed(), 1));
    Ok(archive)
}

fn python() -> Result<PathBuf> {
    let source = root().join("examples/worker-python");
    let workflows = fs::read(source.join("workflows.py"))?;
    let begun = Instant::now();
    let roots = roots();
    let archive = testbed::archive_of(&Contents {
        binary: &source.join("worker.py"),
        base: Some(Base {
            layer: &python::base()?,
            interpreter: &[python::INTERPRETER],
        }),
        names: &PYTHON_TAGS,
        labels: &[],
        files: &[(ROOTS, roots.as_bytes()), ("/workflows.py", &workflows)],
    })?;
    let place = import(&archive)?;
    eprintln!("{}", told(&PYTHON_TAGS, place, begun.elapsed(), 0));
    Ok(archive)
}

/// All of them, or only one, with the archive of the operator's or of that one where somebody looks for it.
pub(crate) fn output(profile: Profile, only: Option<Only>, dir: &Path) -> Result<PathBuf> {
    let (name, archive) = match only {
        None => {
            let archive = image(profile)?;
            languages()?;
            (OPERATOR, archive)
        }
        Some(Only::Operator) => {
            run(cargo()
                .args(["build", "--package", OPERATOR])
                .args(profile.flag()))?;
            (OPERATOR, operator(profile)?)
        }
        Some(Only::WorkerGo) => ("process-example-worker-go", go()?),
        Some(Only::WorkerPython) => ("process-example-worker-python", python()?),
    };
    let dir = root().join(dir);
    fs::create_dir_all(&dir)?;
    let path = dir.join(format!("{name}-{VERSION}-{}.tar", std::env::consts::ARCH));
    fs::copy(&archive, &path).with_context(|| format!("{} cannot be written.", path.display()))?;
    let tenths = fs::metadata(&path)?.len() / 100_000;
    for (name, digest) in testbed::digests(&path)? {
        eprintln!("{name} {digest} {}.{} MB", tenths / 10, tenths % 10);
    }
    Ok(path)
}

/// The operator's image. For tests there is a second tag, so that one release can follow on another.
fn operator(profile: Profile) -> Result<PathBuf> {
    let released = format!("localhost/{OPERATOR}:{VERSION}");
    let next = format!("{released}-next");
    let names: &[&str] = match profile {
        Profile::Release => &[&released],
        Profile::Dev => &[&released, &next],
    };
    let begun = Instant::now();
    let roots = roots();
    let archive = testbed::archive_of(&Contents {
        binary: &stripped(OPERATOR, profile)?,
        base: None,
        names,
        labels: &[
            (
                "org.opencontainers.image.description",
                "A Kubernetes operator that runs Temporal workers, driven by durable Temporal workflows",
            ),
            ("org.opencontainers.image.licenses", "Apache-2.0"),
            ("org.opencontainers.image.title", OPERATOR),
            ("org.opencontainers.image.version", VERSION),
        ],
        files: &[(ROOTS, roots.as_bytes())],
    })?;
    eprintln!("{}", told(names, import(&archive)?, begun.elapsed(), 0));
    Ok(archive)
}

/// Mozilla's certificates, by which servers such as Temporal Cloud are known.
fn roots() -> String {
    let roots = webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter();
    let roots: Vec<_> = roots
        .map(|root| pem::Pem::new("CERTIFICATE", root.as_ref()))
        .collect();
    let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    pem::encode_many_config(&roots, config)
}

/// A copy without debug information, which is most of the size.
fn stripped(name: &str, profile: Profile) -> Result<PathBuf> {
    let built = binary(name, profile);
    let dir = testbed::cache_dir()?.join("stripped");
    fs::create_dir_all(&dir)?;
    let copy = dir.join(name);
    let made = |path: &Path| fs::metadata(path).and_then(|data| data.modified());
    let is_newer = made(&copy).is_ok_and(|copy| made(&built).is_ok_and(|built| copy > built));
    // The two profiles share the copy: the size tells which one it was made of.
    let source = fs::metadata(&built)?.len().to_string();
    let note = dir.join(format!("{name}-source-size"));
    if is_newer && fs::read_to_string(&note).is_ok_and(|size| size == source) {
        return Ok(copy);
    }
    run(Command::new("strip")
        .arg("--strip-debug")
        .arg("-o")
        .arg(&copy)
        .arg(&built))?;
    fs::write(note, source)?;
    Ok(copy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_done_and_what_is_left_is_told() {
        let second = Duration::from_secs(1);
        assert_eq!(
            told(
                &["localhost/a:1", "localhost/a:2"],
                Place::Cluster,
                second,
                1
            ),
            "localhost/a:1, localhost/a:2: in the cluster (1.0 s, 1 more to come)"
        );
        assert_eq!(
            told(&["localhost/b:1"], Place::Cache, second, 0),
            "localhost/b:1: made; the testbed is not up: they are imported with the next call (1.0 s)"
        );
    }

    #[test]
    fn the_roots_are_certificates() {
        let text = roots();
        assert!(
            pem::parse_many(&text).unwrap().len() > 100,
            "{}",
            text.len()
        );
        assert!(!text.contains('\r'));
    }
}
