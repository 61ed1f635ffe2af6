//! The user guide says for each reason of a condition what to do.

use std::fs;
use std::path::Path;

/// With these nothing is wrong, or what is says another condition.
const WELL: [&str; 13] = [
    "Settled",
    "AsExpected",
    "RolloutComplete",
    "RollingOut",
    "WorkersReady",
    "TemporalReachable",
    "DrainingVersions",
    "NothingDraining",
    "OpaqueReference",
    "DefinitionFound",
    "NoDependencies",
    "DependenciesReady",
    "Unknown",
];

/// The first cells of the table under a heading.
fn first_cells<'a>(page: &'a str, heading: &str) -> Vec<&'a str> {
    let (_, rest) = page.split_once(heading).expect("the heading");
    let rest = rest.split("\n## ").next().unwrap_or_default();
    let cells = rest.lines().filter_map(|line| line.strip_prefix("| `"));
    cells
        .filter_map(|line| line.split(" | ").next())
        .flat_map(|cell| cell.split(['`', ',', ' ']))
        .filter(|word| !word.is_empty())
        .collect()
}

#[test]
fn each_that_asks_for_something_is_explained() {
    let docs = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs"));
    let read = |name: &str| fs::read_to_string(docs.join(name)).expect("a page");
    // Generated from the code, which a test compares.
    let all = read("reference/conditions.md");
    let all = first_cells(&all, "\n## Reasons\n");
    let told = read("user-guide.md");
    let told = first_cells(&told, "\n## When something is wrong\n");
    assert!(all.len() > 40, "{all:?}");
    let open = all.iter().filter(|it| !WELL.contains(it));
    let missing: Vec<_> = open.filter(|it| !told.contains(it)).collect();
    assert!(missing.is_empty(), "docs/user-guide.md lacks {missing:?}");
    let unknown: Vec<_> = told.iter().filter(|it| !all.contains(it)).collect();
    assert!(unknown.is_empty(), "there is no {unknown:?}");
}
