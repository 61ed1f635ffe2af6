//! Files of the charts that are made from others: the tables of values in their READMEs, and what
//! they hold of `deploy/monitoring`.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

use crate::cargo::root;

const CHARTS: &str = "deploy/charts";
/// Between these lines a README has the table.
const MARKS: [&str; 2] = ["<!-- values -->\n", "<!-- end of values -->\n"];

/// Writes what differs, or with `check` only says what does.
pub(crate) fn generate(check: bool) -> Result<()> {
    let charts = root().join(CHARTS);
    let mut wanted = Vec::new();
    for name in ["process-operator-crds", "process-operator"] {
        let chart = charts.join(name);
        let values = read(&chart.join("values.yaml"))?;
        let path = chart.join("README.md");
        let text = with_table(&read(&path)?, &table(&values)?)
            .with_context(|| format!("{} lacks its marks.", path.display()))?;
        wanted.push((path, text));
    }
    for name in ["alerts.yaml", "dashboard.json"] {
        let text = read(&root().join("deploy/monitoring").join(name))?;
        wanted.push((charts.join("process-operator/files").join(name), text));
    }
    let mut differing = Vec::new();
    for (path, text) in wanted {
        if fs::read_to_string(&path).is_ok_and(|found| found == text) {
            continue;
        }
        let shown = path.strip_prefix(root()).unwrap_or(&path).display();
        if check {
            differing.push(shown.to_string());
        } else {
            fs::write(&path, text)?;
            println!("wrote {shown}");
        }
    }
    if !differing.is_empty() {
        bail!(
            "{}: run `cargo xtask generate` and commit the result",
            differing.join(", ")
        );
    }
    Ok(())
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("{} cannot be read.", path.display()))
}

fn with_table(readme: &str, table: &str) -> Option<String> {
    let [begin, end] = MARKS;
    let (before, rest) = readme.split_once(begin)?;
    let (_, after) = rest.split_once(end)?;
    Some(format!("{before}{begin}\n{table}\n{end}{after}"))
}

/// A row for each value, with the comment above it. `values.yaml` keeps to one line for each.
fn table(values: &str) -> Result<String> {
    let mut rows = String::from("| value | default | meaning |\n|---|---|---|\n");
    let mut path: Vec<&str> = Vec::new();
    let mut comment = Vec::new();
    for (number, line) in values.lines().enumerate() {
        let text = line.trim_start();
        if let Some(words) = text.strip_prefix("# ") {
            comment.push(words);
            continue;
        }
        if let Some((key, value)) = text.split_once(':') {
            path.truncate((line.len() - text.len()) / 2);
            path.push(key);
            let (name, value) = (path.join("."), value.trim());
            if !value.is_empty() {
                if comment.is_empty() {
                    bail!("values.yaml line {}: {name} has no comment", number + 1);
                }
                let meaning = comment.join(" ").replace('|', "\\|");
                writeln!(rows, "| `{name}` | `{value}` | {meaning} |")?;
            }
        }
        comment.clear();
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_is_a_row_and_none_goes_without_a_comment() {
        let values = "# Of the file.\n\n# How many.\ncount: 2\na:\n  # This\n  # or that.\n  b: []\n  c:\n    # x|y\n    d: \"\"\ne: {f: 1}\n";
        let error = table(values).unwrap_err().to_string();
        assert!(error.contains("line 12: e "), "{error}");
        let rows = table(&values.replace("e: {", "# E.\ne: {")).unwrap();
        let rows: Vec<_> = rows.lines().skip(2).collect();
        assert_eq!(
            rows,
            [
                "| `count` | `2` | How many. |",
                "| `a.b` | `[]` | This or that. |",
                "| `a.c.d` | `\"\"` | x\\|y |",
                "| `e` | `{f: 1}` | E. |",
            ]
        );
    }

    #[test]
    fn generated_files_of_the_charts_are_current() {
        generate(true).unwrap();
    }
}
