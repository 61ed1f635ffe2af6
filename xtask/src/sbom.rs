//! The bill of materials of the operator's image, in `CycloneDX`'s JSON. It is small enough to be written
//! as it is, and nothing in it says when or where it was made: what is the same gives the same text.

use std::env;
use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use serde_json::{Map, Value, json};
use spdx::Expression;
use spdx::detection::{Store, TextData};

use crate::arch::Arch;
use crate::linked::{Crate, Linked};

/// What a licence's text may be. Those that crates name by a file alone have one of these.
const TEXTS: [&str; 6] = [
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "MIT",
    "MPL-2.0",
];
/// How alike a text must be to that of a licence.
const ALIKE: f32 = 0.9;

/// Of an image that holds this program, `data` (a crate that was unpacked into files) and nothing else.
pub(crate) fn sbom(linked: &Linked, data: &[Crate], arch: Option<Arch>) -> Result<String> {
    let store = texts();
    let mut components = Vec::new();
    let mut dependencies = Vec::new();
    for (place, found) in linked.crates.iter().enumerate() {
        if place != linked.root {
            components.push(component(found, "library", &store)?);
        }
        let needs = found.needs.iter().filter_map(|at| linked.crates.get(*at));
        let mut needs: Vec<String> = needs.map(reference).collect();
        if place == linked.root {
            let other = [rust()?, libc(arch)?];
            needs.extend(other.iter().filter_map(|it| text(&it["bom-ref"])));
            components.extend(other);
            needs.extend(data.iter().map(reference));
        }
        dependencies.push(json!({ "ref": reference(found), "dependsOn": needs }));
    }
    for found in data {
        components.push(component(found, "data", &store)?);
    }
    let program = linked.crates.get(linked.root).context("No program.")?;
    let bom = json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": { "component": component(program, "application", &store)? },
        "components": components,
        "dependencies": dependencies,
    });
    Ok(serde_json::to_string_pretty(&bom)? + "\n")
}

fn component(found: &Crate, kind: &str, store: &Store) -> Result<Value> {
    let mut component = Map::new();
    component.insert("type".into(), kind.into());
    component.insert("bom-ref".into(), reference(found).into());
    component.insert("name".into(), found.name.clone().into());
    component.insert("version".into(), found.version.clone().into());
    if let Some(checksum) = &found.checksum {
        let hash = json!([{ "alg": "SHA-256", "content": checksum }]);
        component.insert("hashes".into(), hash);
    }
    let licence = licence(found, store)?;
    component.insert("licenses".into(), json!([{ "expression": licence }]));
    if found.public {
        component.insert("purl".into(), purl(found).into());
    }
    Ok(component.into())
}

fn reference(found: &Crate) -> String {
    if found.public {
        return purl(found);
    }
    format!("{}@{}", found.name, found.version)
}

fn purl(found: &Crate) -> String {
    format!(
        "pkg:cargo/{}@{}",
        found.name,
        found.version.replace('+', "%2B")
    )
}

/// The licence as an SPDX expression.
fn licence(found: &Crate, store: &Store) -> Result<String> {
    if let Some(named) = &found.licence {
        let named = Expression::canonicalize(named)?.unwrap_or_else(|| named.clone());
        Expression::parse(&named)?;
        return Ok(named);
    }
    let Some(file) = &found.licence_file else {
        bail!("{} {} names no licence.", found.name, found.version);
    };
    let text = fs::read_to_string(file)?;
    let best = store.analyze(&TextData::new(&text));
    if best.score < ALIKE {
        bail!(
            "{} is not the text of {}.",
            file.display(),
            TEXTS.join(", ")
        );
    }
    Ok(best.name.to_owned())
}

fn texts() -> Store {
    let mut store = Store::new();
    for name in TEXTS {
        if let Some(id) = spdx::license_id(name) {
            store.add_license(name.to_owned(), TextData::new(id.text()));
        }
    }
    store
}

/// Rust's own library, which every program holds.
fn rust() -> Result<Value> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).arg("-vV").output();
    let output = output.context("rustc cannot be run.")?;
    let said = String::from_utf8(output.stdout)?;
    let version = said.lines().find_map(|line| line.strip_prefix("release: "));
    let version = version.context("rustc does not say its version.")?;
    Ok(json!({
        "type": "library",
        "bom-ref": format!("rust-std@{version}"),
        "name": "rust-std",
        "version": version,
        "licenses": [{ "expression": "Apache-2.0 OR MIT" }],
    }))
}

/// The C library, which is linked statically.
fn libc(arch: Option<Arch>) -> Result<Value> {
    let compiler = arch.map_or_else(|| "gcc".to_owned(), |arch| arch.tool("gcc"));
    let output = Command::new(&compiler)
        .args([
            "-dM",
            "-E",
            "-include",
            "features.h",
            "-x",
            "c",
            "/dev/null",
        ])
        .output()
        .with_context(|| format!("{compiler} cannot be run."))?;
    let said = String::from_utf8(output.stdout)?;
    let part = |name: &str| {
        let mut lines = said.lines();
        lines.find_map(|line| line.strip_prefix(&format!("#define {name} ")))
    };
    let (Some(major), Some(minor)) = (part("__GLIBC__"), part("__GLIBC_MINOR__")) else {
        bail!("{compiler} does not compile with the GNU C library.");
    };
    let version = format!("{major}.{minor}");
    Ok(json!({
        "type": "library",
        "bom-ref": format!("glibc@{version}"),
        "name": "glibc",
        "version": version,
        "cpe": format!("cpe:2.3:a:gnu:glibc:{version}:*:*:*:*:*:*:*"),
        "licenses": [{ "expression": "LGPL-2.1-or-later" }],
    }))
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(ToOwned::to_owned)
}
