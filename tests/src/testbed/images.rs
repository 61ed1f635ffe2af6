//! Image archives (OCI layout) of one program each, without a builder. The same content gives the
//! same bytes: no time and no owner is written, and the order is fixed.

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

/// Variables in the operator's image. glibc keeps what a burst of work has taken, in each of its arenas: with one it is
/// less, and few threads allocate.
pub const OPERATOR_ENV: [(&str, &str); 1] = [("MALLOC_ARENA_MAX", "1")];

/// What an image is made of.
#[derive(Debug, Clone, Copy)]
pub struct Contents<'a> {
    /// The program, which is also the entry point. Without a base it is a static one.
    pub binary: &'a Path,
    /// What the program runs on, if it is not static.
    pub base: Option<Base<'a>>,
    /// The architecture it was built for, as images call it: `amd64` or `arm64`.
    pub architecture: &'a str,
    /// Full names with tag (`localhost/x:v1`): an image for each, all of the same files.
    pub names: &'a [&'a str],
    /// Labels beside the name, sorted by key.
    pub labels: &'a [(&'a str, &'a str)],
    /// Variables that the program starts with.
    pub env: &'a [(&'a str, &'a str)],
    /// Further files: absolute path and content.
    pub files: &'a [(&'a str, &'a [u8])],
}

/// The layer below the program's.
#[derive(Debug, Clone, Copy)]
pub struct Base<'a> {
    /// Its files, as an archive of `tar`.
    pub layer: &'a Path,
    /// Words of the entry point before the program, such as the path of an interpreter.
    pub interpreter: &'a [&'a str],
}

/// Makes an archive with an image for each of `names` (`localhost/x:v1`), all
/// of the same binary. A label makes their digests differ. Does nothing when
/// the archive is there: it is named by the binary's digest.
pub fn archive(binary: &Path, names: &[&str]) -> Result<PathBuf> {
    archive_of(&Contents {
        binary,
        base: None,
        architecture: architecture(),
        names,
        labels: &[],
        env: &[],
        files: &[],
    })
}

/// The same with labels and files.
pub fn archive_of(contents: &Contents<'_>) -> Result<PathBuf> {
    let digest = file_digest(contents.binary)?;
    let dir = images_dir()?;
    fs::create_dir_all(&dir)?;
    let stem = contents.names.first().context("An image has no name.")?;
    let stem = stem.rsplit('/').next().unwrap_or(stem);
    let stem = stem.split(':').next().unwrap_or(stem);
    let short = digest.get(..16).context("A digest is too short.")?;
    let mut rest = Sha256::new();
    rest.update(contents.names.join("\n"));
    for (key, value) in contents.labels {
        rest.update(format!("\n{key}={value}"));
    }
    for (name, value) in contents.env {
        rest.update(format!("\n{name}={value}"));
    }
    for (path, content) in contents.files {
        rest.update(format!("\n{path}\n"));
        rest.update(content);
    }
    if let Some(base) = contents.base {
        rest.update(file_digest(base.layer)?);
        rest.update(base.interpreter.join(" "));
    }
    let rest = hex(&rest.finalize());
    let path = dir.join(format!(
        "{stem}-{short}-{}.tar",
        rest.get(..8).unwrap_or("0")
    ));
    if !path.is_file() {
        let unfinished = path.with_extension(format!("{}.unfinished", std::process::id()));
        write(&unfinished, contents)?;
        fs::rename(&unfinished, &path)?;
        remove_older(&dir, stem, &path);
    }
    Ok(path)
}

/// Name and digest of each image in an archive.
pub fn digests(archive: &Path) -> Result<Vec<(String, String)>> {
    let mut archive = tar::Archive::new(File::open(archive)?);
    for entry in archive.entries()? {
        let entry = entry?;
        if entry.path()?.as_os_str() != "index.json" {
            continue;
        }
        let index: Value = serde_json::from_reader(entry)?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let manifests = index["manifests"].as_array().into_iter().flatten();
        return Ok(manifests
            .map(|manifest| {
                let name = &manifest["annotations"]["io.containerd.image.name"];
                (text(name), text(&manifest["digest"]))
            })
            .collect());
    }
    anyhow::bail!("The archive has no index.json.")
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

/// Writes an archive to a place of the caller's.
pub fn write(path: &Path, contents: &Contents<'_>) -> Result<()> {
    let layer_path = path.with_extension("layer");
    write_layer(&layer_path, contents)?;

    let mut out = tar::Builder::new(File::create(path)?);
    append(
        &mut out,
        "oci-layout",
        &to_bytes(&json!({ "imageLayoutVersion": "1.0.0" }))?,
    )?;
    let (mut layers, mut diff_ids) = (Vec::new(), Vec::new());
    let base = contents.base.map(|base| base.layer);
    for layer in base.into_iter().chain([layer_path.as_path()]) {
        let digest = format!("sha256:{}", file_digest(layer)?);
        let size = fs::metadata(layer)?.len();
        let blob = format!("blobs/{}", digest.replace(':', "/"));
        append_reader(&mut out, &blob, size, &mut File::open(layer)?)?;
        layers.push(json!({
            "mediaType": "application/vnd.oci.image.layer.v1.tar",
            "digest": digest,
            "size": size,
        }));
        diff_ids.push(digest);
    }
    let program = contents.binary.file_name().unwrap_or_default();
    let interpreter = contents.base.map_or(&[][..], |base| base.interpreter);
    let mut entrypoint: Vec<String> = interpreter.iter().map(|word| (*word).to_owned()).collect();
    entrypoint.push(format!("/{}", program.to_string_lossy()));
    let env = contents.env.iter();
    let env: Vec<String> = env.map(|(name, value)| format!("{name}={value}")).collect();
    let mut manifests = Vec::new();
    for name in contents.names {
        let mut labels = json!({ "org.opencontainers.image.ref.name": name });
        for (key, value) in contents.labels {
            labels[*key] = json!(value);
        }
        let config = to_bytes(&json!({
            "architecture": contents.architecture,
            "os": "linux",
            "config": {
                "Entrypoint": entrypoint,
                "Env": env,
                "User": USER.to_string(),
                "WorkingDir": "/",
                "Labels": labels,
            },
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
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
            "layers": layers,
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

/// The binary, a directory for temporary files, and further files.
fn write_layer(path: &Path, contents: &Contents<'_>) -> Result<()> {
    let mut out = tar::Builder::new(File::create(path)?);
    append_dir(&mut out, "tmp/", 0o1777)?;
    let mut made = Vec::new();
    for (file, content) in contents.files {
        let file = file.trim_start_matches('/');
        for (at, _) in file.match_indices('/') {
            let dir = &file[..=at];
            if !made.contains(&dir) {
                append_dir(&mut out, dir, 0o755)?;
                made.push(dir);
            }
        }
        append(&mut out, file, content)?;
    }
    let mut source = File::open(contents.binary)?;
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o755);
    header.set_size(source.metadata()?.len());
    out.append_data(
        &mut header,
        contents.binary.file_name().unwrap_or_default(),
        &mut source,
    )?;
    out.into_inner()?.flush()?;
    Ok(())
}

fn append_dir(out: &mut tar::Builder<File>, name: &str, mode: u32) -> Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Directory);
    header.set_mode(mode);
    header.set_size(0);
    Ok(out.append_data(&mut header, name, std::io::empty())?)
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

/// That of this machine.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "aarch64" => "arm64",
        _ => "amd64",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packing_twice_gives_the_same_bytes_and_every_part_counts() {
        let dir = std::env::temp_dir().join(format!("images-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let binary = dir.join("program");
        fs::write(&binary, "not a program").unwrap();
        let contents = Contents {
            binary: &binary,
            base: None,
            architecture: "amd64",
            names: &["localhost/x:v1", "localhost/x:v2"],
            labels: &[("org.opencontainers.image.version", "1")],
            env: &[("A", "1")],
            files: &[("/etc/ssl/a", b"a"), ("/etc/ssl/b", b"b")],
        };
        let pack = |name: &str, contents: &Contents<'_>| {
            let path = dir.join(name);
            write(&path, contents).unwrap();
            (fs::read(&path).unwrap(), digests(&path).unwrap())
        };
        let first = pack("first.tar", &contents);
        // As a second build would: the same content with another time.
        fs::remove_file(&binary).unwrap();
        fs::write(&binary, "not a program").unwrap();
        assert_eq!(first, pack("second.tar", &contents));
        assert_eq!(first.1[0].0, "localhost/x:v1");
        assert_ne!(first.1[0].1, first.1[1].1, "a tag tells images apart");
        let labels = Contents {
            labels: &[("org.opencontainers.image.version", "2")],
            ..contents
        };
        assert_ne!(first.1, pack("labels.tar", &labels).1);
        let env = Contents {
            env: &[],
            ..contents
        };
        assert_ne!(first.1, pack("env.tar", &env).1);
        let other = Contents {
            architecture: "arm64",
            ..contents
        };
        assert_ne!(first.1, pack("other.tar", &other).1);
        let files = Contents {
            files: &[("/etc/ssl/a", b"c")],
            ..contents
        };
        assert_ne!(first.1, pack("files.tar", &files).1);
        let layer = dir.join("base.tar");
        fs::write(&layer, "not an archive").unwrap();
        let base = Contents {
            base: Some(Base {
                layer: &layer,
                interpreter: &["/usr/bin/python3"],
            }),
            ..contents
        };
        assert_ne!(first.1, pack("with-base.tar", &base).1);
        fs::remove_dir_all(dir).unwrap();
    }
}
