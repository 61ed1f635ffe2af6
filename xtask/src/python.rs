//! What the example worker in Python runs on: an interpreter of Debian packages and wheels, put together
//! without a container engine and without a Python on this machine.

use std::env::consts::ARCH;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use process_operator_tests::testbed;
use sha2::{Digest as _, Sha256};

use crate::cargo::{root, run};

/// Its path in the image.
pub(crate) const INTERPRETER: &str = "/usr/bin/python3.11";
/// What it needs. apt checks them by Debian's signatures; their versions are not pinned, as Debian does
/// not keep superseded ones.
const PACKAGES: [&str; 12] = [
    "libbz2-1.0",
    "libc6",
    "libexpat1",
    "libffi8",
    "libgcc-s1",
    "liblzma5",
    "libpython3.11-minimal",
    "libpython3.11-stdlib",
    "libssl3",
    "libuuid1",
    "python3.11-minimal",
    "zlib1g",
];
/// Has pip, which is used here and is not in the image.
const PIP: &str = "python3-pip-whl";
/// The pins of the wheels.
const REQUIREMENTS: &str = "examples/worker-python/requirements.txt";
/// Counts up when the way of building changes, so that nothing stale is used.
const RECIPE: &str = "1";

/// The files as an archive, made when it is not in the cache.
pub(crate) fn base() -> Result<PathBuf> {
    let mut hash = Sha256::new();
    hash.update(fs::read(root().join(REQUIREMENTS))?);
    for word in PACKAGES.iter().chain([&PIP, &RECIPE, &ARCH]) {
        hash.update(word);
        hash.update([0]);
    }
    let digest = hash.finalize();
    let digest = format!("{digest:x}");
    let key = &digest[..16];
    let dir = testbed::cache_dir()?.join("python");
    let layer = dir.join(format!("{key}.tar"));
    if !layer.is_file() {
        let work = dir.join(format!("{key}.{}", std::process::id()));
        eprintln!("Python for the example worker: Debian packages and wheels");
        let made = make(&work, &layer);
        fs::remove_dir_all(&work).ok();
        made.context("The image of the example worker in Python cannot be made.")?;
    }
    Ok(layer)
}

fn make(work: &Path, layer: &Path) -> Result<()> {
    let (debs, files, tool) = (work.join("debs"), work.join("files"), work.join("tool"));
    for dir in [&debs, &files, &tool] {
        fs::create_dir_all(dir)?;
    }
    download(&debs)?;
    for entry in fs::read_dir(&debs)? {
        let deb = entry?;
        let is_pip = deb.file_name().to_string_lossy().starts_with(PIP);
        let target = if is_pip { &tool } else { &files };
        quiet(
            Command::new("dpkg-deb")
                .arg("-x")
                .arg(deb.path())
                .arg(target),
        )?;
    }
    let wheels = fs::read_dir(tool.join("usr/share/python-wheels"))?;
    let pip = wheels
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|it| it == "whl"))
        .with_context(|| format!("There is no pip in {PIP}."))?;
    quiet(
        python(&files)?
            .env("PYTHONPATH", pip)
            .args(["-m", "pip", "install", "--quiet", "--no-compile"])
            .args(["--root-user-action=ignore", "--disable-pip-version-check"])
            .args(["--only-binary", ":all:", "--require-hashes", "--target"])
            .arg(files.join("usr/lib/python3/dist-packages"))
            .arg("-r")
            .arg(root().join(REQUIREMENTS)),
    )?;
    // Documentation, and tables that the interpreter does without.
    let gconv = format!("usr/lib/{}/gconv", machine()?.0);
    for dir in ["usr/share", &gconv] {
        fs::remove_dir_all(files.join(dir)).with_context(|| format!("{dir} is not there."))?;
    }
    // Nothing can be compiled later: the image is read by another user than it belongs to.
    quiet(
        python(&files)?
            .args(["-m", "compileall", "-q", "-p", "/", "-s"])
            .arg(&files)
            .args(["--invalidation-mode", "unchecked-hash"])
            .arg(files.join("usr/lib")),
    )?;
    let unfinished = work.join("layer.tar");
    quiet(
        Command::new("tar")
            .args(["--sort=name", "--mtime=@0", "--numeric-owner"])
            .args(["--owner=0", "--group=0", "--create", "--file"])
            .arg(&unfinished)
            .arg("--directory")
            .arg(&files)
            .arg("."),
    )?;
    Ok(fs::rename(unfinished, layer)?)
}

fn download(dir: &Path) -> Result<()> {
    let download = || {
        let mut apt = Command::new("apt-get");
        apt.args(["download", "--quiet", "-o", "APT::Sandbox::User=root"]);
        quiet(apt.args(PACKAGES).arg(PIP).current_dir(dir))
    };
    // The lists of a fresh machine are empty or old.
    if download().is_err() {
        run(Command::new("apt-get").args(["update", "--quiet"]))?;
        download()?;
    }
    Ok(())
}

/// The unpacked interpreter with its own libraries, whatever this machine has.
fn python(files: &Path) -> Result<Command> {
    let (triple, loader) = machine()?;
    let libraries = files.join("lib").join(triple);
    let mut command = Command::new(libraries.join(loader));
    command
        .arg("--library-path")
        .arg(format!(
            "{}:{}",
            libraries.display(),
            files.join("usr/lib").join(triple).display()
        ))
        .arg(files.join(INTERPRETER.trim_start_matches('/')))
        .env("PYTHONHOME", files.join("usr"));
    Ok(command)
}

/// Debian's name for this machine, and the dynamic loader.
fn machine() -> Result<(&'static str, &'static str)> {
    match ARCH {
        "x86_64" => Ok(("x86_64-linux-gnu", "ld-linux-x86-64.so.2")),
        "aarch64" => Ok(("aarch64-linux-gnu", "ld-linux-aarch64.so.1")),
        other => bail!("No image of the example worker in Python is made for {other}."),
    }
}

/// Runs a command; what it says is shown when it fails.
fn quiet(command: &mut Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).output();
    let program = command.get_program().to_string_lossy().into_owned();
    let output = output.with_context(|| format!("{program} cannot be run."))?;
    if !output.status.success() {
        bail!(
            "{program} failed ({}): {}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}
