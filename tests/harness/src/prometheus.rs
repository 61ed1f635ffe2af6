//! A real Prometheus, as Debian packages it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::env::Env;
use crate::wait::until;

/// Both programs of the package.
struct Programs {
    prometheus: PathBuf,
    promtool: PathBuf,
}

impl Programs {
    /// What promtool says against a file.
    fn check(&self, what: &str, file: &Path) -> Result<()> {
        let checked = Command::new(&self.promtool)
            .args(["check", what])
            .arg(file)
            .output()?;
        ensure!(
            checked.status.success(),
            "promtool: {}{}",
            String::from_utf8_lossy(&checked.stdout),
            String::from_utf8_lossy(&checked.stderr)
        );
        Ok(())
    }
}

/// The installed ones, or those of the package, unpacked into the cache: installing it would start a
/// server of its own.
fn programs(cache: &Path) -> Result<Programs> {
    let of = |directory: &Path| Programs {
        prometheus: directory.join("prometheus"),
        promtool: directory.join("promtool"),
    };
    let unpacked = cache.join("prometheus-deb");
    for directory in [Path::new("/usr/bin"), &unpacked.join("usr/bin")] {
        let found = of(directory);
        if found.prometheus.exists() && found.promtool.exists() {
            return Ok(found);
        }
    }
    let fresh = cache.join(format!("prometheus-deb-{}", std::process::id()));
    std::fs::create_dir_all(&fresh)?;
    let run = |command: &mut Command| -> Result<()> {
        let output = command.current_dir(&fresh).output()?;
        ensure!(
            output.status.success(),
            "{command:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    };
    let download = || run(Command::new("apt-get").args(["download", "prometheus"]));
    if download().is_err() {
        run(Command::new("apt-get").args(["update", "--quiet"]))?;
        download()?;
    }
    let package = std::fs::read_dir(&fresh)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|it| it == "deb"))
        .context("a package")?;
    run(Command::new("dpkg-deb").arg("-x").arg(&package).arg("."))?;
    std::fs::remove_file(package)?;
    // Another test may have been faster.
    if std::fs::rename(&fresh, &unpacked).is_err() {
        std::fs::remove_dir_all(&fresh)?;
    }
    Ok(of(&unpacked.join("usr/bin")))
}

/// A running server. It is stopped when this is dropped.
pub struct Prometheus {
    child: Child,
    url: String,
    directory: PathBuf,
}

impl Prometheus {
    /// Starts one that scrapes `target` (`host:port`) every second and evaluates these rules as often.
    /// The rules are checked with promtool first.
    pub async fn start(env: &Env, target: &str, rules: &str) -> Result<Self> {
        let cache = process_operator_tests::testbed::cache_dir()?;
        let programs = tokio::task::block_in_place(|| programs(&cache))?;
        let directory = std::env::temp_dir().join(format!("prometheus-{}", env.namespace));
        std::fs::create_dir_all(&directory)?;
        std::fs::write(directory.join("rules.yaml"), rules)?;
        let config = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\n\
             rule_files: [rules.yaml]\n\
             scrape_configs:\n\
             - job_name: process-operator\n  static_configs: [{{targets: ['{target}']}}]\n"
        );
        std::fs::write(directory.join("prometheus.yaml"), config)?;
        programs.check("config", &directory.join("prometheus.yaml"))?;
        let port = std::net::TcpListener::bind("127.0.0.1:0")?
            .local_addr()?
            .port();
        let log = std::fs::File::create(directory.join("log"))?;
        let child = Command::new(&programs.prometheus)
            .args(["--config.file=prometheus.yaml", "--storage.tsdb.path=data"])
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .current_dir(&directory)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()?;
        let server = Self {
            child,
            url: format!("http://127.0.0.1:{port}"),
            directory,
        };
        until("Prometheus is ready", Duration::from_secs(30), async || {
            env.fetch(&format!("{}/-/ready", server.url)).await
        })
        .await?;
        Ok(server)
    }

    /// Checks a file of rules as it is.
    pub fn check_rules(file: &Path) -> Result<()> {
        let cache = process_operator_tests::testbed::cache_dir()?;
        let programs = tokio::task::block_in_place(|| programs(&cache))?;
        programs.check("rules", file)
    }

    /// What an expression gives now.
    pub async fn query(&self, env: &Env, expression: &str) -> Result<Value> {
        let encoded: String = expression
            .bytes()
            .map(|byte| {
                if byte.is_ascii_alphanumeric() {
                    char::from(byte).to_string()
                } else {
                    format!("%{byte:02X}")
                }
            })
            .collect();
        let answer = env
            .fetch(&format!("{}/api/v1/query?query={encoded}", self.url))
            .await?;
        let answer: Value = serde_json::from_str(&answer)?;
        ensure!(answer["status"] == "success", "{expression}: {answer}");
        Ok(answer["data"]["result"].clone())
    }

    /// Names of the alerts that fire.
    pub async fn firing(&self, env: &Env) -> Result<Vec<String>> {
        let answer = env.fetch(&format!("{}/api/v1/alerts", self.url)).await?;
        let answer: Value = serde_json::from_str(&answer)?;
        let alerts = answer["data"]["alerts"].as_array();
        Ok(alerts
            .into_iter()
            .flatten()
            .filter(|alert| alert["state"] == "firing")
            .filter_map(|alert| Some(alert["labels"]["alertname"].as_str()?.to_owned()))
            .collect())
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // It may have ended by itself.
        _ = self.child.kill();
        _ = self.child.wait();
        _ = std::fs::remove_dir_all(&self.directory);
    }
}
