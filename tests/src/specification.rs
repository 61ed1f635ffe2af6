//! `docs/specification.md` and `docs/reliability.md` name tests and files that exist.

use std::path::Path;

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// Everything between single backticks.
fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

#[test]
fn what_the_specification_names_exists() {
    let (tests, files) = named("docs/specification.md");
    assert!(tests > 20 && files > 10, "{tests} tests, {files} files");
}

#[test]
fn what_reliability_names_exists() {
    let (tests, files) = named("docs/reliability.md");
    assert!(tests > 80 && files > 3, "{tests} tests, {files} files");
}

/// Looks everything up that a page names. How many tests and files that are.
fn named(page: &str) -> (usize, usize) {
    let text = std::fs::read_to_string(root().join(page)).expect("the document");
    let (mut tests, mut files) = (0, 0);
    for name in quoted(&text) {
        let parts: Vec<&str> = name.split("::").collect();
        let has = |path: &str, test: &str| {
            let code = std::fs::read_to_string(root().join(path)).unwrap_or_default();
            assert!(code.contains(&format!("fn {test}(")), "{name}");
        };
        if let [file, test] = &parts[..]
            && Path::new(file)
                .extension()
                .is_some_and(|it| it.eq_ignore_ascii_case("rs"))
        {
            has(file, test);
            tests += 1;
        } else if let [suite, files @ .., test] = &parts[..]
            && !files.is_empty()
            && *suite != "suite"
        {
            has(
                &format!("tests/suites/{suite}/{}.rs", files.join("/")),
                test,
            );
            tests += 1;
        } else if name.contains('/')
            && [
                "src/",
                "activities/",
                "cli/",
                "workflows/",
                "crds/",
                "deploy/",
                "tests/",
            ]
            .iter()
            .any(|place| name.starts_with(place))
        {
            assert!(root().join(name).exists(), "{name}");
            files += 1;
        }
    }
    (tests, files)
}
