//! Image archives (OCI layout) of one static binary each, without a builder.

use std::fs::{self, File};
use std::io::{Read, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::paths::{data_dir, images_dir};
use super::pki::hex;
use super::process::run;

/// The user of every image; a number, so that `runAsNonRoot` can be checked.
const USER: u32 = 65532;

/// Makes an archive with an image for each of `names` (`localhost/x:v1`), all
/// of the same binary. A label makes their digests differ. Does nothing when
/// the archive is there: it is named by the binary's digest.
pub fn archive(binary: &Path, names: &[&str]) -> Result<PathBuf> {
    let digest = file_digest(binary)?;
    let dir = images_dir()?;
    fs::create_dir_all(&dir)?;
    let stem = binary.file_stem().unwrap_or_default().to_string_lossy();
    let short = digest.get(..16).context("A digest is too short.")?;
    let label = hex(&Sha256::digest(names.join("\n")));
    let path = dir.join(format!(
        "{stem}-{short}-{}.tar",
        label.get(..8).unwrap_or("0")
    ));
    if !path.is_file() {
        let unfinished = path.with_extension(format!("{}.unfinished", std::process::id()));
        write(&unfinished, binary, names)?;
        fs::rename(&unfinished, &path)?;
        remove_older(&dir, &stem, &path);
    }
    Ok(path)
}

pub(super) fn pause_archive(binary: &Path) -> Result<PathBuf> {
    archive(binary, &["localhost/pause:dev"])
}

/// Says which archive was imported last, so that it is not imported again.
pub(super) struct Note {
    path: PathBuf,
    text: String,
}

pub(super) fn note(archive: &Path) -> Result<Note> {
    let name = archive.file_name().unwrap_or_default().to_string_lossy();
    let kind = name.split_once('.').map_or(&*name, |(stem, _)| stem);
    // Archives made here end with two digests.
    let kind = kind.rsplitn(3, '-').last().unwrap_or(kind);
    let data = fs::metadata(archive)
        .with_context(|| format!("The image archive {} cannot be read.", archive.display()))?;
    let text = format!("{name} {} {:?}", data.len(), data.modified()?);
    let path = data_dir()?.join("imported").join(kind);
    Ok(Note { path, text })
}

impl Note {
    pub(super) fn is_current(&self) -> bool {
        fs::read_to_string(&self.path).is_ok_and(|text| text == self.text)
    }

    pub(super) fn write(&self) -> Result<()> {
        fs::create_dir_all(self.path.with_file_name(""))?;
        Ok(fs::write(&self.path, &self.text)?)
    }
}

/// An archive is as large as its binary, and only the newest is used.
fn remove_older(dir: &Path, stem: &str, newest: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let same = name.strip_prefix(stem).is_some_and(|rest| {
            rest.starts_with('-') && rest.len() == "-0123456789abcdef-01234567.tar".len()
        });
        if same && entry.path() != newest {
            fs::remove_file(entry.path()).ok();
        }
    }
}

fn write(path: &Path, binary: &Path, names: &[&str]) -> Result<()> {
    let layer_path = path.with_extension("layer");
    write_layer(&layer_path, binary)?;
    let layer_digest = file_digest(&layer_path)?;
    let layer_size = fs::metadata(&layer_path)?.len();

    let mut out = tar::Builder::new(File::create(path)?);
    append(
        &mut out,
        "oci-layout",
        &to_bytes(&json!({ "imageLayoutVersion": "1.0.0" }))?,
    )?;
    let mut layer = File::open(&layer_path)?;
    append_reader(
        &mut out,
        &format!("blobs/sha256/{layer_digest}"),
        layer_size,
        &mut layer,
    )?;
    let program = binary.file_name().unwrap_or_default().to_string_lossy();
    let mut manifests = Vec::new();
    for name in names {
        let config = to_bytes(&json!({
            "architecture": architecture(),
            "os": "linux",
            "config": {
                "Entrypoint": [format!("/{program}")],
                "User": USER.to_string(),
                "WorkingDir": "/",
                "Labels": { "org.opencontainers.image.ref.name": name },
            },
            "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{layer_digest}")] },
        }))?;
        let config = blob(
            &mut out,
            "application/vnd.oci.image.config.v1+json",
            &config,
        )?;
        let manifest = to_bytes(&json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": config,
            "layers": [{
                "mediaType": "application/vnd.oci.image.layer.v1.tar",
                "digest": format!("sha256:{layer_digest}"),
                "size": layer_size,
            }],
        }))?;
        let mut entry = blob(
            &mut out,
            "application/vnd.oci.image.manifest.v1+json",
            &manifest,
        )?;
        let tag = name.rsplit(':').next().unwrap_or(name);
        entry["annotations"] = json!({
            "io.containerd.image.name": name,
            "org.opencontainers.image.ref.name": tag,
        });
        manifests.push(entry);
    }
    let index = to_bytes(&json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": manifests,
    }))?;
    append(&mut out, "index.json", &index)?;
    out.into_inner()?.flush()?;
    fs::remove_file(layer_path)?;
    Ok(())
}

/// The binary and a directory for temporary files.
fn write_layer(path: &Path, binary: &Path) -> Result<()> {
    let mut out = tar::Builder::new(File::create(path)?);
    let mut tmp = tar::Header::new_gnu();
    tmp.set_entry_type(tar::EntryType::Directory);
    tmp.set_mode(0o1777);
    tmp.set_size(0);
    out.append_data(&mut tmp, "tmp/", std::io::empty())?;
    let mut source = File::open(binary)?;
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o755);
    header.set_size(source.metadata()?.len());
    out.append_data(
        &mut header,
        binary.file_name().unwrap_or_default(),
        &mut source,
    )?;
    out.into_inner()?.flush()?;
    Ok(())
}

fn blob(out: &mut tar::Builder<File>, media_type: &str, bytes: &[u8]) -> Result<Value> {
    let digest = hex(&Sha256::digest(bytes));
    append(out, &format!("blobs/sha256/{digest}"), bytes)?;
    Ok(json!({
        "mediaType": media_type,
        "digest": format!("sha256:{digest}"),
        "size": bytes.len(),
    }))
}

fn append(out: &mut tar::Builder<File>, name: &str, bytes: &[u8]) -> Result<()> {
    append_reader(out, name, u64::try_from(bytes.len())?, &mut &*bytes)
}

fn append_reader(
    out: &mut tar::Builder<File>,
    name: &str,
    size: u64,
    bytes: &mut dyn Read,
) -> Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o644);
    header.set_size(size);
    Ok(out.append_data(&mut header, name, bytes)?)
}

fn to_bytes(value: &Value) -> Result<Vec<u8>> {
    Ok(serde_json::to_vec(value)?)
}

/// By the system's tool: it is many times faster on a hundred megabytes than
/// code that was built without optimisation.
fn file_digest(path: &Path) -> Result<String> {
    let line = run(Command::new("sha256sum").arg("--binary").arg(path))?;
    let digest = line.split_whitespace().next().unwrap_or_default();
    Ok(digest.trim_start_matches('\\').to_owned())
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "aarch64" => "arm64",
        _ => "amd64",
    }
}
