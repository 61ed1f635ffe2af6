//! What a program is linked from: crates, as cargo resolves them. And the section of the program that
//! says so itself, in the form of `cargo auditable`, which scanners of images read.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use auditable_serde::{DependencyKind, Package, Source, VersionInfo};
use flate2::Compression;
use flate2::write::ZlibEncoder;
use serde::Deserialize;

use crate::arch::Arch;
use crate::cargo::{cargo_for, root};

/// How a source begins that is a registry; there is but one, which `deny.toml` sees to.
const REGISTRY: &str = "registry+";

/// One crate.
#[derive(Debug)]
pub(crate) struct Crate {
    pub(crate) name: String,
    pub(crate) version: String,
    /// Whether it is from the registry, and not from this repository.
    pub(crate) public: bool,
    /// As its manifest says.
    pub(crate) licence: Option<String>,
    /// The text that takes the place of that.
    pub(crate) licence_file: Option<PathBuf>,
    /// SHA-256 of its archive, from `Cargo.lock`.
    pub(crate) checksum: Option<String>,
    /// Which others it needs in the program.
    pub(crate) needs: BTreeSet<usize>,
}

/// All of them, by name and version.
#[derive(Debug)]
pub(crate) struct Linked {
    pub(crate) crates: Vec<Crate>,
    /// The program.
    pub(crate) root: usize,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Described>,
    resolve: Resolve,
}

#[derive(Deserialize)]
struct Described {
    id: String,
    name: String,
    version: String,
    source: Option<String>,
    license: Option<String>,
    license_file: Option<PathBuf>,
    manifest_path: PathBuf,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    pkg: String,
    dep_kinds: Vec<Kind>,
}

#[derive(Deserialize)]
struct Kind {
    kind: Option<String>,
}

/// `Cargo.lock`.
#[derive(Deserialize)]
struct Lock {
    package: Vec<Locked>,
}

#[derive(Deserialize)]
struct Locked {
    name: String,
    version: String,
    checksum: Option<String>,
}

impl Linked {
    /// What the program of a package is linked from when that package is built. Build scripts, macros
    /// and tests are not in it.
    pub(crate) fn of(package: &str, arch: Option<Arch>) -> Result<Self> {
        let members = members(package, arch)?;
        let metadata = metadata(arch)?;
        let checksums = checksums()?;
        let mut found: Vec<Described> = metadata
            .packages
            .into_iter()
            .filter(|found| members.contains(&(found.name.clone(), found.version.clone())))
            .collect();
        found.sort_by(|a, b| (&a.name, &a.version).cmp(&(&b.name, &b.version)));
        let places: BTreeMap<String, usize> = found
            .iter()
            .enumerate()
            .map(|(place, found)| (found.id.clone(), place))
            .collect();
        let mut needs = vec![BTreeSet::new(); found.len()];
        for node in &metadata.resolve.nodes {
            let Some(needs) = places.get(&node.id).and_then(|at| needs.get_mut(*at)) else {
                continue;
            };
            let normal = |need: &&Dependency| need.dep_kinds.iter().any(|it| it.kind.is_none());
            let linked = node.deps.iter().filter(normal);
            needs.extend(linked.filter_map(|need| places.get(&need.pkg)));
        }
        let crates: Vec<Crate> = found
            .into_iter()
            .zip(needs)
            .map(|(found, needs)| described(found, needs, &checksums))
            .collect();
        let root = crates.iter().position(|found| found.name == package);
        let root = root.with_context(|| format!("{package} is not a package."))?;
        if crates.len() != members.len() {
            bail!("cargo tree and cargo metadata do not name the same packages.");
        }
        Ok(Self { crates, root })
    }

    /// The section `.dep-v0` of the program.
    pub(crate) fn section(&self) -> Result<Vec<u8>> {
        let mut packages = Vec::new();
        for (place, found) in self.crates.iter().enumerate() {
            packages.push(Package {
                name: found.name.clone(),
                version: found.version.parse()?,
                source: if found.public {
                    Source::CratesIo
                } else {
                    Source::Local
                },
                kind: DependencyKind::Runtime,
                dependencies: found.needs.iter().copied().collect(),
                root: place == self.root,
            });
        }
        let info = VersionInfo {
            packages,
            format: 1,
        };
        let mut zlib = ZlibEncoder::new(Vec::new(), Compression::best());
        zlib.write_all(&serde_json::to_vec(&info)?)?;
        Ok(zlib.finish()?)
    }
}

fn described(
    found: Described,
    needs: BTreeSet<usize>,
    checksums: &BTreeMap<(String, String), String>,
) -> Crate {
    let key = (found.name.clone(), found.version.clone());
    Crate {
        name: found.name,
        version: found.version,
        public: found
            .source
            .is_some_and(|source| source.starts_with(REGISTRY)),
        licence: found.license,
        licence_file: found
            .license_file
            .map(|file| found.manifest_path.with_file_name(file)),
        checksum: checksums.get(&key).cloned(),
        needs,
    }
}

/// Name and version of each. Only `cargo tree` resolves features for one package; `cargo metadata` does
/// for the whole workspace.
fn members(package: &str, arch: Option<Arch>) -> Result<BTreeSet<(String, String)>> {
    let mut command = cargo_for(arch);
    command.args(["tree", "--locked", "--package", package]);
    command.args(["--edges", "normal,no-proc-macro", "--prefix", "none"]);
    command.args(["--format", "{p}"]);
    if let Some(arch) = arch {
        command.args(["--target", arch.target()]);
    }
    let text = String::from_utf8(output(&mut command)?)?;
    let mut members = BTreeSet::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let (Some(name), Some(version)) = (words.next(), words.next()) else {
            continue;
        };
        let version = version.trim_start_matches('v');
        members.insert((name.to_owned(), version.to_owned()));
    }
    Ok(members)
}

fn metadata(arch: Option<Arch>) -> Result<Metadata> {
    let mut command = cargo_for(arch);
    command.args(["metadata", "--locked", "--format-version=1"]);
    if let Some(arch) = arch {
        command.args(["--filter-platform", arch.target()]);
    }
    Ok(serde_json::from_slice(&output(&mut command)?)?)
}

fn output(command: &mut Command) -> Result<Vec<u8>> {
    let output = command.output().context("cargo cannot be run.")?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(output.stdout)
}

fn checksums() -> Result<BTreeMap<(String, String), String>> {
    let lock: Lock = toml::from_str(&fs::read_to_string(root().join("Cargo.lock"))?)?;
    let known = lock.package.into_iter();
    Ok(known
        .filter_map(|found| Some(((found.name, found.version), found.checksum?)))
        .collect())
}
