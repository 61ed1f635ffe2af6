//! The one place that calls cargo, so that everything is built with the same
//! target and flags and therefore once.

use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::arch::Arch;

/// The profile that is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    Dev,
    Release,
    /// Of an image for others, as small as it gets.
    Image,
}

impl Profile {
    pub(crate) fn dir(self) -> &'static str {
        match self {
            Self::Dev => "debug",
            Self::Release => "release",
            Self::Image => "image",
        }
    }

    /// The argument for cargo, if any.
    pub(crate) fn flag(self) -> Option<&'static str> {
        match self {
            Self::Dev => None,
            Self::Release => Some("--release"),
            Self::Image => Some("--profile=image"),
        }
    }
}

/// Programs run wherever their image does.
const STATIC: &str = "target-feature=+crt-static";

/// The root of the work tree.
pub(crate) fn root() -> &'static Path {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest)
}

/// A cargo command with the target and flags of every build.
pub(crate) fn cargo() -> Command {
    cargo_for(Arch::host())
}

/// The same for another architecture. Where none is known the host's own program is built.
pub(crate) fn cargo_for(arch: Option<Arch>) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    // Flags from outside would win over those below and split the build.
    command
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    // Set by `cargo run` for this program; they mean nothing to another package.
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    if let Some(arch) = arch {
        let prefix = arch.target().to_uppercase().replace('-', "_");
        let prefix = format!("CARGO_TARGET_{prefix}");
        command.env("CARGO_BUILD_TARGET", arch.target());
        command.env(format!("{prefix}_RUSTFLAGS"), format!("-C {STATIC}"));
        if Some(arch) != Arch::host() {
            command.env(format!("{prefix}_LINKER"), arch.tool("gcc"));
        }
    }
    command
}

/// The same for a profile. No path of this machine is in what others are given, so that another machine makes the
/// same of it.
pub(crate) fn cargo_of(profile: Profile, arch: Option<Arch>) -> Command {
    let mut command = cargo_for(arch);
    if profile != Profile::Image {
        return command;
    }
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| env::home_dir().map(|home| home.join(".cargo")));
    let places = [
        home.map(|home| (home, "/cargo")),
        Some((root().to_owned(), "/source")),
        Some((target_dir(), "/target")),
    ];
    let mut flags: Vec<String> = Vec::new();
    if arch.is_some() {
        flags.extend(["-C".into(), STATIC.into()]);
    }
    // The last one that fits counts.
    for (place, name) in places.into_iter().flatten() {
        flags.push(format!("--remap-path-prefix={}={name}", place.display()));
    }
    command.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"));
    command
}

/// Builds every program and example of the workspace.
///
/// Always all of it, and examples with it: what features a dependency is built
/// with follows from what is built at once, and any other choice would build
/// many of them a second time. `cargo test --workspace` chooses the same.
pub(crate) fn build(profile: Profile) -> Result<()> {
    run(cargo_of(profile, Arch::host())
        .args(["build", "--workspace", "--bins", "--examples"])
        .args(profile.flag()))
}

/// Where everything is built.
pub(crate) fn target_dir() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// Where a built program is.
pub(crate) fn binary(name: &str, profile: Profile) -> PathBuf {
    binary_for(Arch::host(), name, profile)
}

/// The same for another architecture.
pub(crate) fn binary_for(arch: Option<Arch>, name: &str, profile: Profile) -> PathBuf {
    let base = target_dir();
    let base = arch.map_or(base.clone(), |arch| base.join(arch.target()));
    base.join(profile.dir()).join(name)
}

/// Runs a command in the foreground; anything but success is an error.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let words: Vec<_> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(OsStr::to_string_lossy)
        .collect();
    let words = words.join(" ");
    let status = command
        .status()
        .with_context(|| format!("`{words}` cannot be run."))?;
    if !status.success() {
        bail!("`{words}` failed ({status}).");
    }
    Ok(())
}
