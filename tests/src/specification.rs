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
        if let [suite, files @ .., test] = &parts[..]
            && !files.is_empty()
            && *suite != "suite"
        {
            let path = root().join(format!("tests/suites/{suite}/{}.rs", files.join("/")));
            let code = std::fs::read_to_string(&path).unwrap_or_default();
            assert!(code.contains(&format!("fn {test}(")), "{name}");
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
