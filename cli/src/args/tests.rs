//! Arguments as they are typed, and as the documentation types them.

use clap::CommandFactory as _;
use process_operator_tests::pages;

use super::*;

#[test]
fn the_arguments_fit_together() {
    Cli::command().debug_assert();
    Ameide::command().debug_assert();
}

#[test]
fn spans_of_time_are_read() {
    assert_eq!(span("90"), Ok(Duration::from_secs(90)));
    assert_eq!(span("1h30m"), Ok(Duration::from_secs(5400)));
    for wrong in ["", "soon", "-5s", "0"] {
        assert!(span(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn command_lines_in_the_documentation_are_taken() {
    let found = pages::commands(&["kubectl", "process"]).expect("pages");
    assert!(found.len() > 10, "{found:#?}");
    let refused: Vec<String> = found
        .iter()
        .filter_map(|command| command.refused(Cli::try_parse_from))
        .collect();
    assert!(refused.is_empty(), "{}", refused.join("\n"));
}

#[test]
fn the_manifest_for_krew_names_the_program_that_is_built() {
    let text = include_str!("../../../deploy/krew/process.yaml");
    let manifest: serde_json::Value = serde_yaml_ng::from_str(text).expect("YAML");
    let name = format!(
        "kubectl-{}",
        manifest["metadata"]["name"].as_str().expect("a name")
    );
    assert_eq!(name, env!("CARGO_BIN_NAME"));
    let mut seen = Vec::new();
    for platform in manifest["spec"]["platforms"].as_array().expect("platforms") {
        let labels = &platform["selector"]["matchLabels"];
        let (os, arch) = (labels["os"].as_str(), labels["arch"].as_str());
        let (os, arch) = (os.expect("a system"), arch.expect("an architecture"));
        let archive = format!("${{BASE_URL}}/${{VERSION}}/{name}_{os}_{arch}.tar.gz");
        assert_eq!(platform["uri"], archive);
        let sum = format!("SHA256_{os}_{arch}").to_uppercase();
        assert_eq!(platform["sha256"], format!("${{{sum}}}"));
        // Whoever fills it in is told of each.
        assert!(text.contains(&format!("{sum}=")), "{sum}");
        assert_eq!(platform["bin"], name);
        seen.push(format!("{os}/{arch}"));
    }
    assert_eq!(
        seen,
        ["linux/amd64", "linux/arm64", "darwin/amd64", "darwin/arm64"]
    );
}
