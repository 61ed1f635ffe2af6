//! The image of the operator, as `cargo xtask image` has imported it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::PathBuf;
use std::str::FromStr as _;

use anyhow::{Context as _, Result, ensure};
use auditable_serde::VersionInfo;
use process_operator_tests::testbed::cache_dir;
use serde_json::Value;

use crate::support::root;

/// The archive; an older one is removed when there is a newer.
fn archive() -> Result<PathBuf> {
    let dir = cache_dir()?.join("images");
    let entries = fs::read_dir(&dir)?.collect::<std::io::Result<Vec<_>>>()?;
    let found = entries.into_iter().map(|entry| entry.path()).find(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("process-operator-") && name.ends_with(".tar")
    });
    found.with_context(|| format!("{} has no image of the operator", dir.display()))
}

/// Path and content of each entry; directories end in a slash.
fn unpacked(from: impl Read) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut found = BTreeMap::new();
    for entry in tar::Archive::new(from).entries()? {
        let mut entry = entry?;
        let path = entry.path()?.to_string_lossy().into_owned();
        let mut content = Vec::new();
        entry.read_to_end(&mut content)?;
        found.insert(path, content);
    }
    Ok(found)
}

/// A blob of an image.
fn blob<'a>(image: &'a BTreeMap<String, Vec<u8>>, descriptor: &Value) -> Result<&'a [u8]> {
    let digest = descriptor["digest"].as_str().unwrap_or_default();
    let path = format!("blobs/{}", digest.replace(':', "/"));
    let found = image.get(&path);
    Ok(found.with_context(|| format!("the image has no {path}"))?)
}

#[test]
fn it_holds_one_program_that_says_what_it_is_linked_from() -> Result<()> {
    let image = unpacked(File::open(archive()?)?)?;
    let index = image.get("index.json").context("no index.json")?;
    let index: Value = serde_json::from_slice(index)?;
    let manifest: Value = serde_json::from_slice(blob(&image, &index["manifests"][0])?)?;
    let config: Value = serde_json::from_slice(blob(&image, &manifest["config"])?)?;
    ensure!(config["config"]["User"] == "65532", "{config}");
    // For those who build with a container engine it is the same.
    let source = fs::read_to_string(root().join("deploy/image/Dockerfile"))?;
    let set: Vec<&str> = source
        .lines()
        .filter_map(|line| line.strip_prefix("ENV "))
        .collect();
    ensure!(
        !set.is_empty() && config["config"]["Env"] == serde_json::json!(set),
        "{config}"
    );
    let architecture = match std::env::consts::ARCH {
        "aarch64" => "arm64",
        _ => "amd64",
    };
    ensure!(config["architecture"] == architecture, "{config}");
    let files = unpacked(blob(&image, &manifest["layers"][0])?)?;
    let names: Vec<&str> = files.keys().map(String::as_str).collect();
    let wanted = [
        "etc/",
        "etc/ssl/",
        "etc/ssl/certs/",
        "etc/ssl/certs/ca-certificates.crt",
        "process-operator",
        "tmp/",
    ];
    ensure!(names == wanted, "{names:?}");

    // As scanners of images do it.
    let data = auditable_extract::raw_auditable_data(&files["process-operator"]);
    let data = data.map_err(|error| anyhow::anyhow!("{error}"))?;
    let mut text = String::new();
    flate2::read::ZlibDecoder::new(data).read_to_string(&mut text)?;
    let linked = VersionInfo::from_str(&text)?.packages;
    let one = |name: &str| linked.iter().find(|found| found.name == name);
    let root = one("process-operator").context("not itself")?;
    ensure!(root.root && root.version.to_string() == env!("CARGO_PKG_VERSION"));
    for name in ["temporalio-sdk", "kube", "process-operator-workflows"] {
        ensure!(one(name).is_some(), "{name} is missing");
    }
    ensure!(linked.len() > 200, "{} crates", linked.len());
    // A macro, and what only tests need.
    ensure!(one("serde_derive").is_none() && one("mlua").is_none());
    Ok(())
}
