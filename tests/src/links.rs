//! Links in the documentation lead to files that exist. Of the pages in `docs` also anchors are looked at,
//! when `cargo xtask docs` makes a book of them.

use std::fs;
use std::path::{Path, PathBuf};

/// Where documents are.
const PLACES: [&str; 4] = ["", "docs", "deploy", "examples"];

/// All Markdown files in a directory, and for those below the root in what is below it.
fn documents(dir: &Path, deep: bool, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() && deep {
            documents(&path, deep, found);
        } else if path.extension().is_some_and(|it| it == "md") {
            found.push(path);
        }
    }
}

/// What a document links to, outside of code.
fn links(text: &str) -> Vec<&str> {
    let mut code = false;
    let mut found = Vec::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            code = !code;
        }
        // Between backticks is code too.
        let parts = line.split('`').step_by(2).filter(|_| !code);
        for part in parts {
            let ends = part.split("](").skip(1);
            found.extend(ends.filter_map(|rest| Some(rest.split_once(')')?.0)));
        }
    }
    found
}

#[test]
fn each_leads_to_a_file() {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let mut found = Vec::new();
    for place in PLACES {
        documents(&root.join(place), !place.is_empty(), &mut found);
    }
    let (mut checked, mut broken) = (0, Vec::new());
    for document in &found {
        let text = fs::read_to_string(document).expect("text");
        for link in links(&text) {
            let file = link.split('#').next().unwrap_or_default();
            if file.is_empty() || link.contains("://") {
                continue;
            }
            checked += 1;
            if !document.with_file_name(file).exists() {
                broken.push(format!("{}: {link}", document.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
    assert!(checked > 100, "{checked}");
}

#[test]
fn each_page_is_in_the_book() {
    let docs = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs"));
    let summary = fs::read_to_string(docs.join("SUMMARY.md")).expect("the summary");
    let listed: Vec<_> = links(&summary);
    let mut pages = Vec::new();
    documents(docs, true, &mut pages);
    for page in pages {
        let name = page.strip_prefix(docs).expect("below docs");
        let name = name.to_str().expect("a name");
        assert!(name == "SUMMARY.md" || listed.contains(&name), "{name}");
    }
}

#[test]
fn code_has_no_links() {
    let text = "[a](b.md#c) `[d](e)` [f](g)\n```\n[h](i)\n```\n[j](k)";
    assert_eq!(links(text), ["b.md#c", "g", "k"]);
}
