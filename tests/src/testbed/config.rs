//! Filling in the templates of `testbed/config`.

use std::fs;
use std::path::Path;

use anyhow::{Result, bail};

use super::paths::{BRIDGE, CGROUP, NODE, RUN, cni_plugins, find_program};
use super::pki;
use super::ports::Ports;

/// Replaces every `@NAME@`; one that has no value is an error.
pub(super) fn render(template: &str, values: &[(&str, String)]) -> Result<String> {
    let mut text = template.to_owned();
    for (name, value) in values {
        text = text.replace(&format!("@{name}@"), value);
    }
    let left =
        text.split('@').skip(1).step_by(2).find(|word| {
            !word.is_empty() && word.chars().all(|c| c.is_ascii_uppercase() || c == '_')
        });
    if let Some(name) = left {
        bail!("The template has no value for {name}.");
    }
    Ok(text)
}

/// A user of the API server, with the file name of its kubeconfig.
const USERS: [(&str, &str, &str); 6] = [
    ("admin", "admin", "system:masters"),
    ("controller-manager", "system:kube-controller-manager", ""),
    ("scheduler", "system:kube-scheduler", ""),
    ("kubelet", "system:node:testbed", "system:nodes"),
    ("kube-proxy", "system:kube-proxy", ""),
    ("coredns", "testbed:coredns", ""),
];

/// Writes every file the components read, except Temporal's.
pub(super) fn write_all(data: &Path, ports: &Ports, server: &str) -> Result<()> {
    let config = data.join("config");
    fs::create_dir_all(config.join("cni"))?;
    fs::create_dir_all(config.join("ui"))?;
    let file = |path: Option<std::path::PathBuf>| path.unwrap_or_default().display().to_string();
    let common = [
        ("DATA", data.display().to_string()),
        ("RUN", RUN.to_owned()),
        ("BRIDGE", BRIDGE.to_owned()),
        ("CGROUP", CGROUP.to_owned()),
        ("NODE", NODE.to_owned()),
        ("RUNC", file(find_program("runc"))),
        ("CNI_BIN", file(cni_plugins())),
    ];
    let write = |name: &str, template: &str, own: &[(&str, &str)]| -> Result<()> {
        let mut values = common.to_vec();
        values.extend(
            own.iter()
                .map(|(key, port)| (*key, ports.get(port).to_string())),
        );
        Ok(fs::write(config.join(name), render(template, &values)?)?)
    };
    write(
        "containerd.toml",
        include_str!("../../testbed/config/containerd.toml"),
        &[],
    )?;
    write(
        "cni/testbed.conflist",
        include_str!("../../testbed/config/cni.conflist"),
        &[],
    )?;
    write(
        "kubelet.yaml",
        include_str!("../../testbed/config/kubelet.yaml"),
        &[("PORT", "kubelet"), ("HEALTH_PORT", "kubelet-health")],
    )?;
    write(
        "kube-proxy.yaml",
        include_str!("../../testbed/config/kube-proxy.yaml"),
        &[
            ("HEALTH_PORT", "kube-proxy-health"),
            ("METRICS_PORT", "kube-proxy-metrics"),
        ],
    )?;
    write(
        "Corefile",
        include_str!("../../testbed/config/Corefile"),
        &[("HEALTH_PORT", "coredns-health")],
    )?;
    write(
        "ui/testbed.yaml",
        include_str!("../../testbed/config/temporal-ui.yaml"),
        &[("FRONTEND_PORT", "temporal"), ("PORT", "temporal-ui")],
    )?;
    write(
        "objects.yaml",
        include_str!("../../testbed/config/objects.yaml"),
        &[("FRONTEND_PORT", "temporal")],
    )?;
    write(
        "admission.yaml",
        include_str!("../../testbed/config/admission.yaml"),
        &[],
    )?;
    write(
        "audit-policy.yaml",
        include_str!("../../testbed/config/audit-policy.yaml"),
        &[],
    )?;
    // Nothing outside the cluster has a name in it.
    fs::write(config.join("resolv.conf"), "")?;
    pki::write(&data.join("pki"))?;
    write_users(data, server)
}

fn write_users(data: &Path, server: &str) -> Result<()> {
    let dir = data.join("kubeconfig");
    fs::create_dir_all(&dir)?;
    let mut tokens = String::new();
    for (file, user, group) in USERS {
        let token = pki::token()?;
        tokens.push_str(&format!("{token},{user},{user},\"{group}\"\n").replace(",\"\"", ""));
        let text = kubeconfig(server, &data.join("pki/ca.crt"), user, &token, "default")?;
        super::write_private(&dir.join(format!("{file}.yaml")), &text)?;
    }
    super::write_private(&data.join("pki/tokens.csv"), &tokens)
}

/// A kubeconfig with one user.
pub(super) fn kubeconfig(
    server: &str,
    ca: &Path,
    user: &str,
    token: &str,
    namespace: &str,
) -> Result<String> {
    let text = render(
        include_str!("../../testbed/config/kubeconfig.yaml"),
        &[
            ("SERVER", server.to_owned()),
            ("CA", ca.display().to_string()),
            ("USER", user.to_owned()),
            ("TOKEN", token.to_owned()),
            ("NAMESPACE", namespace.to_owned()),
        ],
    )?;
    if server.starts_with("https://") {
        return Ok(text);
    }
    // Without TLS there is no authority to name.
    let lines = text
        .lines()
        .filter(|line| !line.contains("certificate-authority:"));
    Ok(lines.fold(String::new(), |text, line| text + line + "\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_is_filled_in_or_refused() {
        assert_eq!(render("a @B@ c", &[("B", "x".into())]).unwrap(), "a x c");
        assert!(render("a @B@ c", &[]).is_err());
    }

    #[test]
    fn without_tls_no_authority_is_named() {
        let with = kubeconfig("https://a", Path::new("/ca"), "u", "t", "n").unwrap();
        let without = kubeconfig("http://a", Path::new("/ca"), "u", "t", "n").unwrap();
        assert!(with.contains("certificate-authority"));
        assert!(!without.contains("certificate-authority"));
        assert!(without.contains("server: \"http://a\""));
    }
}
