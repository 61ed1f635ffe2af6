//! `docs/specification.md` names tests and files that exist.

use std::path::Path;

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// Everything between single backticks.
fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

#[test]
fn what_it_names_exists() {
    let text = std::fs::read_to_string(root().join("docs/specification.md")).expect("the document");
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
            ]
            .iter()
            .any(|place| name.starts_with(place))
        {
            assert!(root().join(name).exists(), "{name}");
            files += 1;
        }
    }
    assert!(tests > 20 && files > 10, "{tests} tests, {files} files");
}
