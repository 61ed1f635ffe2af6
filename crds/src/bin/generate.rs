//! Writes everything that is generated from the API types, or with `--check` only compares.
//!
//! Run it as `cargo xtask generate`. Exit code 1: a file differs and `--check` was given; 2: a
//! file cannot be read or written.

use std::{
    error::Error,
    path::{Path, PathBuf},
    process::ExitCode,
};

use process_operator_crds::generated::{GeneratedFile, files};

fn main() -> ExitCode {
    let check = match std::env::args().skip(1).collect::<Vec<_>>().as_slice() {
        [] => false,
        [flag] if flag == "--check" => true,
        _ => {
            eprintln!("usage: generate [--check]");
            return ExitCode::from(2);
        }
    };
    match run(check) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("generate: {error}");
            ExitCode::from(2)
        }
    }
}

/// Whether all files are, or now have been made, as they should be.
fn run(check: bool) -> Result<bool, Box<dyn Error>> {
    let root = repository()?;
    let mut current = true;
    for file in files()? {
        let path = root.join(file.path);
        let found = std::fs::read_to_string(&path).unwrap_or_default();
        if found == file.content {
            continue;
        }
        if check {
            current = false;
            eprintln!("{}", difference(&file, &found));
        } else {
            write(&path, &file.content).map_err(|error| format!("{}: {error}", file.path))?;
            println!("wrote {}", file.path);
        }
    }
    if !current {
        eprintln!("run `cargo xtask generate` and commit the result");
    }
    Ok(current)
}

fn write(path: &Path, content: &str) -> std::io::Result<()> {
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)?;
    }
    std::fs::write(path, content)
}

/// The first line in which a file differs.
fn difference(file: &GeneratedFile, found: &str) -> String {
    let line = found
        .lines()
        .zip(file.content.lines())
        .position(|(found, wanted)| found != wanted)
        .unwrap_or_else(|| found.lines().count().min(file.content.lines().count()));
    let show = |text: &str| text.lines().nth(line).unwrap_or("(end of file)").to_owned();
    format!(
        "{} line {}:\n  - {}\n  + {}",
        file.path,
        line + 1,
        show(found),
        show(&file.content)
    )
}

/// The root of the repository: the parent of this crate when cargo runs the program, else the
/// working directory.
fn repository() -> std::io::Result<PathBuf> {
    match std::env::var_os("CARGO_MANIFEST_DIR") {
        Some(directory) => Ok(Path::new(&directory).join("..")),
        None => std::env::current_dir(),
    }
}
