//! The book: the pages of `docs` as HTML, made by mdBook, and whether its links lead anywhere.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use process_operator_tests::testbed;

use crate::cargo::{root, run};

/// A program of its own: as a library it would be compiled into `cargo xtask`, which is built before
/// anything else.
const VERSION: &str = "0.5.4";
/// Where the book goes. Its pages are below, at the place that they have in the source: links to files
/// beside `docs` are the same for both.
const SITE: &str = "target/book";
const PAGES: &str = "docs";
/// Of the site itself.
const INDEX: &str = "<!doctype html>\n<meta charset=\"utf-8\">\n<meta http-equiv=\"refresh\" content=\"0; url=docs/index.html\">\n<a href=\"docs/index.html\">The Process operator</a>\n";

/// Makes the book and looks at its links. The page to begin with.
pub(crate) fn make() -> Result<PathBuf> {
    let site = root().join(SITE);
    if site.is_dir() {
        fs::remove_dir_all(&site)?;
    }
    run(Command::new(mdbook()?)
        .arg("build")
        .arg("--dest-dir")
        .arg(site.join(PAGES))
        .arg(root().join(PAGES)))?;
    fs::write(site.join("index.html"), INDEX)?;
    let pages = pages(&site.join(PAGES))?;
    for file in beside(&pages) {
        let (from, to) = (root().join(&file), site.join(&file));
        // What is not there is told with the page that links to it.
        if from.is_file() {
            fs::create_dir_all(to.with_file_name(""))?;
            fs::copy(from, to)?;
        }
    }
    let broken = broken(&site, &pages);
    ensure!(
        broken.is_empty(),
        "The book has links that lead nowhere:\n{}",
        broken.join("\n")
    );
    Ok(site.join(PAGES).join("index.html"))
}

/// The program, built when it is not in the cache.
fn mdbook() -> Result<PathBuf> {
    let tools = testbed::cache_dir()?.join("tools");
    let program = tools.join("bin/mdbook");
    let found = Command::new(&program).arg("--version").output();
    let found = found.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    if !found.is_ok_and(|text| text.trim().ends_with(&format!("v{VERSION}"))) {
        eprintln!("Building mdBook {VERSION}");
        // Not by `cargo()`: it is a program of this machine's and not of the workspace's target.
        run(Command::new("cargo")
            // Optimised it takes longer to build, and these are few pages.
            .args(["install", "mdbook", "--locked", "--quiet", "--debug"])
            .args(["--version", VERSION])
            .args(["--no-default-features", "--features", "search", "--root"])
            .arg(&tools))?;
    }
    Ok(program)
}

/// What a page of the book says.
struct Page {
    ids: BTreeSet<String>,
    links: Vec<String>,
}

/// Every page by its path below the site.
fn pages(dir: &Path) -> Result<BTreeMap<PathBuf, Page>> {
    let mut found = BTreeMap::new();
    let mut left = vec![dir.to_path_buf()];
    while let Some(dir) = left.pop() {
        for entry in fs::read_dir(&dir)? {
            let path = entry?.path();
            if path.is_dir() {
                left.push(path);
                continue;
            }
            let name = path.file_name().unwrap_or_default();
            let is_page = path.extension().is_some_and(|it| it == "html");
            // The first is a concatenation of all pages, the second is shown at any address.
            if !is_page || name == "print.html" || name == "404.html" || name == "toc.html" {
                continue;
            }
            let text = fs::read_to_string(&path)?;
            let below = path.strip_prefix(root().join(SITE));
            let below = below.context("A page is outside of the book.")?;
            found.insert(below.to_path_buf(), page(&text));
        }
    }
    if found.is_empty() {
        bail!("The book has no pages.");
    }
    Ok(found)
}

/// The attributes that matter, of HTML that mdBook wrote.
fn page(text: &str) -> Page {
    let values = |attribute: &str| -> Vec<String> {
        let begin = format!(" {attribute}=\"");
        let values = text.split(&begin).skip(1);
        values
            .filter_map(|rest| Some(rest.split_once('"')?.0.replace("&amp;", "&")))
            .collect()
    };
    let mut links = values("href");
    links.extend(values("src"));
    Page {
        ids: values("id").into_iter().collect(),
        links,
    }
}

/// Path and anchor of a link within the site; none for one that leaves it.
fn target(page: &Path, link: &str) -> Option<(PathBuf, String)> {
    let elsewhere = ["http:", "https:", "mailto:", "javascript:", "data:"];
    if elsewhere.iter().any(|it| link.starts_with(it)) {
        return None;
    }
    let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
    let full = if path.is_empty() {
        page.to_path_buf()
    } else {
        page.with_file_name("").join(path)
    };
    let mut clean = PathBuf::new();
    for part in full.components() {
        match part {
            Component::ParentDir => {
                clean.pop();
            }
            Component::CurDir => {}
            other => clean.push(other),
        }
    }
    Some((clean, anchor.to_owned()))
}

/// Files outside of the pages that pages link to.
fn beside(pages: &BTreeMap<PathBuf, Page>) -> BTreeSet<PathBuf> {
    let links = pages
        .iter()
        .flat_map(|(path, page)| page.links.iter().map(move |link| (path, link)));
    links
        .filter_map(|(path, link)| Some(target(path, link)?.0))
        .filter(|path| !path.starts_with(PAGES))
        .collect()
}

/// Each link that leads nowhere, with its page.
fn broken(site: &Path, pages: &BTreeMap<PathBuf, Page>) -> Vec<String> {
    let mut broken = Vec::new();
    for (path, page) in pages {
        for link in &page.links {
            let Some((to, anchor)) = target(path, link) else {
                continue;
            };
            let there = match pages.get(&to) {
                Some(other) => anchor.is_empty() || other.ids.contains(&anchor),
                None => site.join(&to).is_file(),
            };
            if !there {
                broken.push(format!("{}: {link}", path.display()));
            }
        }
    }
    broken
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_followed_to_pages_anchors_and_files_beside_them() {
        let site = std::env::temp_dir().join(format!("book-{}", std::process::id()));
        fs::create_dir_all(site.join("examples")).unwrap();
        fs::write(site.join("examples/canary.yaml"), "").unwrap();
        let with = |links: &str| {
            BTreeMap::from([
                (PathBuf::from("docs/a.html"), page(links)),
                (
                    PathBuf::from("docs/reference/b.html"),
                    page("<h1 id=\"there\">B</h1><a href=\"../a.html\">A</a>"),
                ),
            ])
        };
        let good = "<a href=\"reference/b.html#there\"></a> <a href=\"../examples/canary.yaml\"></a> \
                    <a href=\"https://temporal.io/\"></a> <a id=\"here\" href=\"#here\"></a>";
        assert_eq!(broken(&site, &with(good)), Vec::<String>::new());
        assert_eq!(
            beside(&with(good)).into_iter().collect::<Vec<_>>(),
            [PathBuf::from("examples/canary.yaml")]
        );
        for bad in [
            "<a href=\"b.html\">",
            "<a href=\"reference/b.html#elsewhere\">",
            "<img src=\"images/none.svg\">",
            "<a href=\"../examples\">",
            "<a href=\"#nowhere\">",
        ] {
            assert_eq!(broken(&site, &with(bad)).len(), 1, "{bad}");
        }
        fs::remove_dir_all(site).unwrap();
    }
}
