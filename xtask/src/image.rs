//! Images of the example worker.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use process_operator_tests::testbed::{self, Testbed};

use crate::cargo::{Profile, binary, build, run};

const WORKER: &str = "process-example-worker";
/// The same program under several tags, so that a test can change the image.
const TAGS: [&str; 3] = [
    "localhost/process-example-worker:v1",
    "localhost/process-example-worker:v2",
    "localhost/process-example-worker:v3",
];

/// Builds the images and imports them into the testbed, if that is up. Each
/// step is left out when its result is there.
pub(crate) fn image(profile: Profile) -> Result<PathBuf> {
    build(profile)?;
    let archive = testbed::archive(&stripped(&binary(WORKER, profile))?, &TAGS)?;
    match Testbed::current() {
        Ok(testbed) => {
            if testbed.image_import(&archive)? {
                eprintln!("Images {} are in the cluster.", TAGS.join(", "));
            }
        }
        Err(_) => eprintln!("The testbed is not up: the images are imported with the next call."),
    }
    Ok(archive)
}

/// A copy without debug information, which is most of the size.
fn stripped(built: &Path) -> Result<PathBuf> {
    let dir = testbed::cache_dir()?.join("stripped");
    fs::create_dir_all(&dir)?;
    let copy = dir.join(WORKER);
    let made = |path: &Path| fs::metadata(path).and_then(|data| data.modified());
    let is_newer = made(&copy).is_ok_and(|copy| made(built).is_ok_and(|built| copy > built));
    // The two profiles share the copy: the size tells which one it was made of.
    let source = fs::metadata(built)?.len().to_string();
    let note = dir.join("source-size");
    if is_newer && fs::read_to_string(&note).is_ok_and(|size| size == source) {
        return Ok(copy);
    }
    run(Command::new("strip")
        .arg("--strip-debug")
        .arg("-o")
        .arg(&copy)
        .arg(built))?;
    fs::write(note, source)?;
    Ok(copy)
}
