//! Images of the example workers in Go and Python.

use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::Result;
use process_operator_tests::testbed::{self, Base, Contents};

use crate::arch::Arch;
use crate::cargo::root;
use crate::image::{ROOTS, import, roots, told};
use crate::python;

const GO_TAGS: [&str; 2] = [
    "localhost/process-example-worker-go:v1",
    "localhost/process-example-worker-go:v2",
];
const PYTHON_TAGS: [&str; 2] = [
    "localhost/process-example-worker-python:v1",
    "localhost/process-example-worker-python:v2",
];

/// Those of the example workers in Go and Python.
pub(crate) fn all() -> Result<()> {
    go()?;
    python()?;
    Ok(())
}

pub(crate) fn go() -> Result<PathBuf> {
    let roots = roots();
    let begun = Instant::now();
    let archive = testbed::archive_of(&Contents {
        binary: &testbed::go_worker()?,
        base: None,
        architecture: Arch::here(),
        names: &GO_TAGS,
        labels: &[],
        env: &[],
        files: &[(ROOTS, roots.as_bytes())],
    })?;
    eprintln!("{}", told(&GO_TAGS, import(&archive)?, begun.elapsed(), 1));
    Ok(archive)
}

pub(crate) fn python() -> Result<PathBuf> {
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
        architecture: Arch::here(),
        names: &PYTHON_TAGS,
        labels: &[],
        env: &[],
        files: &[(ROOTS, roots.as_bytes()), ("/workflows.py", &workflows)],
    })?;
    let place = import(&archive)?;
    eprintln!("{}", told(&PYTHON_TAGS, place, begun.elapsed(), 0));
    Ok(archive)
}
