//! Images of the operator and of the example worker.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use process_operator_tests::testbed::{self, Contents, Testbed};

use crate::arch::Arch;
use crate::cargo::{Profile, binary_for, build, cargo_of, root, run};
use crate::languages;
use crate::linked::{Crate, Linked};
use crate::phases::minutes;
use crate::sbom::sbom;

const WORKER: &str = "process-example-worker";
/// The same program under several tags, so that a test can change the image.
const TAGS: [&str; 3] = [
    "localhost/process-example-worker:v1",
    "localhost/process-example-worker:v2",
    "localhost/process-example-worker:v3",
];
const OPERATOR: &str = "process-operator";
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Where programs look for what they trust.
pub(crate) const ROOTS: &str = "/etc/ssl/certs/ca-certificates.crt";
/// The crate that is unpacked there.
const ROOTS_FROM: &str = "webpki-root-certs";
/// Section of the program that says what it is linked from.
const SECTION: &str = ".dep-v0";

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
    let worker = stripped(WORKER, profile, Arch::host(), None)?;
    let place = import(&testbed::archive(&worker, &TAGS)?)?;
    eprintln!("{}", told(&TAGS, place, begun.elapsed(), 1));
    imported(profile)
}

/// The operator's, for this machine and in the cluster.
fn imported(profile: Profile) -> Result<PathBuf> {
    let begun = Instant::now();
    let archive = operator(profile, Arch::host(), testbed::archive_of)?;
    let place = import(&archive)?;
    let released = released();
    eprintln!("{}", told(&[&released], place, begun.elapsed(), 0));
    Ok(archive)
}

/// Where the images of an archive are now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// In the cluster.
    Cluster,
    /// In the cache alone: no cluster is up.
    Cache,
    /// In the cache alone: nobody here knows the way into the cluster.
    Elsewhere,
}

pub(crate) fn import(archive: &Path) -> Result<Place> {
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
pub(crate) fn told(names: &[&str], place: Place, elapsed: Duration, left: usize) -> String {
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

/// All of them, or only one, with the archive of the operator's or of that one where somebody looks for it.
/// The operator's bill of materials is put beside it.
pub(crate) fn output(
    profile: Profile,
    only: Option<Only>,
    arch: Option<Arch>,
    dir: &Path,
) -> Result<PathBuf> {
    let arch = arch.or(Arch::host());
    let dir = root().join(dir);
    fs::create_dir_all(&dir)?;
    let name = match only {
        None | Some(Only::Operator) => OPERATOR,
        Some(Only::WorkerGo) => "process-example-worker-go",
        Some(Only::WorkerPython) => "process-example-worker-python",
    };
    let of = arch.map_or(std::env::consts::ARCH, Arch::name);
    let path = dir.join(format!("{name}-{VERSION}-{of}.tar"));
    match only {
        None => {
            copy(&image(profile)?, &path)?;
            languages::all()?;
        }
        Some(Only::WorkerGo) => copy(&languages::go()?, &path)?,
        Some(Only::WorkerPython) => copy(&languages::python()?, &path)?,
        Some(Only::Operator) if arch == Arch::host() => {
            build_operator(profile, arch)?;
            copy(&imported(profile)?, &path)?;
        }
        Some(Only::Operator) => {
            // The cluster is of this machine's architecture: the image has no place there.
            build_operator(profile, arch)?;
            operator(profile, arch, |contents| {
                testbed::write_archive(&path, contents)
            })?;
        }
    }
    if name == OPERATOR {
        fs::write(path.with_extension("cdx.json"), bill(arch)?)?;
    }
    let tenths = fs::metadata(&path)?.len() / 100_000;
    for (name, digest) in testbed::digests(&path)? {
        eprintln!("{name} {digest} {}.{} MB", tenths / 10, tenths % 10);
    }
    Ok(path)
}

fn copy(archive: &Path, path: &Path) -> Result<()> {
    fs::copy(archive, path).with_context(|| format!("{} cannot be written.", path.display()))?;
    Ok(())
}

fn build_operator(profile: Profile, arch: Option<Arch>) -> Result<()> {
    if let Some(arch) = arch {
        arch.check()?;
    }
    run(cargo_of(profile, arch)
        .args(["build", "--package", OPERATOR])
        .args(profile.flag()))
}

fn released() -> String {
    format!("localhost/{OPERATOR}:{VERSION}")
}

/// Makes the operator's image. For tests there is a second tag, so that one release can follow on another.
fn operator<T>(
    profile: Profile,
    arch: Option<Arch>,
    pack: impl FnOnce(&Contents<'_>) -> Result<T>,
) -> Result<T> {
    let released = released();
    let next = format!("{released}-next");
    let names: &[&str] = match profile {
        Profile::Release | Profile::Image => &[&released],
        Profile::Dev => &[&released, &next],
    };
    let roots = roots();
    let section = Linked::of(OPERATOR, arch)?.section()?;
    pack(&Contents {
        binary: &stripped(OPERATOR, profile, arch, Some(&section))?,
        base: None,
        architecture: arch.map_or(std::env::consts::ARCH, Arch::of_image),
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
        env: &testbed::OPERATOR_ENV,
        files: &[(ROOTS, roots.as_bytes())],
    })
}

/// The bill of materials of the operator's image.
fn bill(arch: Option<Arch>) -> Result<String> {
    let ours = Linked::of(env!("CARGO_PKG_NAME"), Arch::host())?;
    let roots = ours.crates.into_iter();
    let roots: Vec<Crate> = roots.filter(|found| found.name == ROOTS_FROM).collect();
    sbom(&Linked::of(OPERATOR, arch)?, &roots, arch)
}

/// Mozilla's certificates, by which servers such as Temporal Cloud are known.
pub(crate) fn roots() -> String {
    let roots = webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter();
    let roots: Vec<_> = roots
        .map(|root| pem::Pem::new("CERTIFICATE", root.as_ref()))
        .collect();
    let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    pem::encode_many_config(&roots, config)
}

/// A copy without debug information, which is most of the size, and with what the program is linked from.
fn stripped(
    name: &str,
    profile: Profile,
    arch: Option<Arch>,
    section: Option<&[u8]>,
) -> Result<PathBuf> {
    let built = binary_for(arch, name, profile);
    let dir = testbed::cache_dir()?.join("stripped");
    let dir = arch.map_or(dir.clone(), |arch| dir.join(arch.name()));
    fs::create_dir_all(&dir)?;
    let copy = dir.join(name);
    let made = |path: &Path| fs::metadata(path).and_then(|data| data.modified());
    let is_newer = made(&copy).is_ok_and(|copy| made(&built).is_ok_and(|built| copy > built));
    // The two profiles share the copy: the size tells which one it was made of.
    let mut source = fs::metadata(&built)?.len().to_string().into_bytes();
    source.extend(section.into_iter().flatten());
    let note = dir.join(format!("{name}-source"));
    if is_newer && fs::read(&note).is_ok_and(|noted| noted == source) {
        return Ok(copy);
    }
    let tool = arch.map_or_else(|| "objcopy".to_owned(), |arch| arch.tool("objcopy"));
    let mut objcopy = Command::new(tool);
    objcopy.arg("--strip-debug");
    if let Some(section) = section {
        let file = dir.join(format!("{name}-section"));
        fs::write(&file, section)?;
        let added = format!("{SECTION}={}", file.display());
        objcopy.args(["--add-section", &added]);
        objcopy.args(["--set-section-flags", &format!("{SECTION}=noload,readonly")]);
    }
    run(objcopy.arg(&built).arg(&copy))?;
    fs::write(note, source)?;
    Ok(copy)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

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

    #[test]
    fn the_bill_names_what_the_image_holds_and_nothing_of_the_machine() {
        let text = bill(Arch::host()).unwrap();
        assert_eq!(text, bill(Arch::host()).unwrap(), "it can be repeated");
        assert!(!text.contains(env!("CARGO_MANIFEST_DIR")));
        let bill: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(bill["bomFormat"], "CycloneDX");
        assert_eq!(bill["metadata"]["component"]["name"], OPERATOR);
        let components = bill["components"].as_array().unwrap();
        let one = |name: &str| components.iter().find(|found| found["name"] == name);
        for (name, licence) in [
            // By a file alone.
            ("temporalio-sdk", "MIT"),
            ("kube", "Apache-2.0"),
            ("process-operator-crds", "Apache-2.0"),
            (ROOTS_FROM, "CDLA-Permissive-2.0"),
            ("glibc", "LGPL-2.1-or-later"),
            ("rust-std", "Apache-2.0 OR MIT"),
        ] {
            let found = one(name).unwrap_or_else(|| panic!("{name} is missing"));
            assert_eq!(found["licenses"][0]["expression"], licence, "{found}");
        }
        // A macro, a build script's and a test's.
        for name in ["clap_derive", "tonic-prost-build", "process-operator-tests"] {
            assert!(one(name).is_none(), "{name} is not in the program");
        }
        let mut references =
            BTreeSet::from([bill["metadata"]["component"]["bom-ref"].clone().to_string()]);
        for found in components {
            assert!(
                references.insert(found["bom-ref"].to_string()),
                "{found} is there twice"
            );
            let public = found["purl"].is_string();
            assert_eq!(public, found["hashes"][0]["content"].is_string(), "{found}");
        }
        let dependencies = bill["dependencies"].as_array().unwrap();
        let mut needed = BTreeSet::new();
        for found in dependencies {
            needed.insert(found["ref"].to_string());
            let on = found["dependsOn"].as_array().unwrap();
            needed.extend(on.iter().map(ToString::to_string));
        }
        assert_eq!(references, needed);
    }
}
