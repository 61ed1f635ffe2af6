//! The architectures an image can be made for.

use std::env;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;

/// An architecture of Linux, by the name that images use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Arch {
    Amd64,
    Arm64,
}

impl Arch {
    /// That of this machine, when it is a Linux of one of them.
    pub(crate) fn host() -> Option<Self> {
        match (env::consts::OS, env::consts::ARCH) {
            ("linux", "x86_64") => Some(Self::Amd64),
            ("linux", "aarch64") => Some(Self::Arm64),
            _ => None,
        }
    }

    /// That of this machine as the configuration of an image calls it.
    pub(crate) fn here() -> &'static str {
        Self::host().map_or(env::consts::ARCH, Self::of_image)
    }

    /// As the kernel and Rust call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64",
            Self::Arm64 => "aarch64",
        }
    }

    /// As the configuration of an image calls it.
    pub(crate) fn of_image(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }

    /// The target for which C libraries can be linked statically, so that a binary runs in an image
    /// that holds nothing else.
    pub(crate) fn target(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64-unknown-linux-gnu",
            Self::Arm64 => "aarch64-unknown-linux-gnu",
        }
    }

    /// A tool of GCC or binutils: the machine's own, or that of a cross toolchain.
    pub(crate) fn tool(self, name: &str) -> String {
        if Some(self) == Self::host() {
            return name.to_owned();
        }
        format!("{}-linux-gnu-{name}", self.name())
    }

    /// Whether this machine can build for it, before minutes go by.
    pub(crate) fn check(self) -> Result<()> {
        if Some(self) == Self::host() {
            return Ok(());
        }
        let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let output = Command::new(rustc)
            .args(["--print", "target-libdir", "--target", self.target()])
            .output()
            .context("rustc cannot be run.")?;
        let dir = String::from_utf8(output.stdout)?;
        if !std::path::Path::new(dir.trim()).is_dir() {
            bail!(
                "Rust's standard library for {target} is not installed: run `rustup target add {target}`.",
                target = self.target()
            );
        }
        for tool in ["gcc", "objcopy"] {
            let tool = self.tool(tool);
            if Command::new(&tool).arg("--version").output().is_err() {
                bail!(
                    "{tool} is not installed. On Debian: apt install gcc-{name}-linux-gnu libc6-dev-{image}-cross",
                    name = self.name().replace('_', "-"),
                    image = self.of_image(),
                );
            }
        }
        Ok(())
    }
}
