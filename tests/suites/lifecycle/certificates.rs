//! The certificates for Temporal are replaced while the operator runs, as by cert-manager.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use anyhow::{Result, ensure};
use process_operator_harness::{
    Authority, Env, Invariants, Issued, Operator, OperatorOptions, TlsFront, condition, manifest,
    until,
};
use tokio_rustls::rustls::ServerConfig;

use crate::support::{QUIET, SOON, version};

const HERE: &str = "127.0.0.1";
const REFUSED: &str = "new certificates for Temporal cannot be used";

/// A server that knows this authority and no other.
fn of(authority: &Authority) -> Result<ServerConfig> {
    authority.server(HERE, &[authority])
}

/// A volume of a Secret: its files are replaced all at once.
struct Volume {
    dir: PathBuf,
}

impl Volume {
    fn new(env: &Env) -> Result<Self> {
        let dir = std::env::temp_dir().join(format!("{}-certificates", env.namespace));
        fs::create_dir_all(&dir)?;
        for file in ["tls.crt", "tls.key", "ca.crt"] {
            symlink(format!("..data/{file}"), dir.join(file))?;
        }
        Ok(Self { dir })
    }

    /// What is in it from now on.
    fn holds(&self, turn: &str, pair: &Issued, authority: &Authority) -> Result<()> {
        let content = self.dir.join(format!("..{turn}"));
        fs::create_dir(&content)?;
        fs::write(content.join("tls.crt"), &pair.certificate)?;
        fs::write(content.join("tls.key"), &pair.key)?;
        fs::write(content.join("ca.crt"), &authority.pem)?;
        let link = self.dir.join("..data_tmp");
        symlink(format!("..{turn}"), &link)?;
        fs::rename(link, self.dir.join("..data"))?;
        Ok(())
    }

    fn variables(&self) -> Vec<(String, String)> {
        let variables = [
            ("CLIENT_CERT", "tls.crt"),
            ("CLIENT_KEY", "tls.key"),
            ("SERVER_CA_CERT", "ca.crt"),
        ];
        let variable = |(name, file)| {
            let file = self.dir.join(file);
            (
                format!("TEMPORAL_TLS_{name}_PATH"),
                file.display().to_string(),
            )
        };
        variables.map(variable).into()
    }
}

/// Waits until the log says it, and the metric whether something waits.
async fn says(operator: &Operator, words: &str, waits: bool) -> Result<()> {
    let metric = format!(
        "process_operator_temporal_certificates_waiting {}\n",
        u8::from(waits)
    );
    until(&format!("the log says {words:?}"), SOON, async || {
        let log = fs::read_to_string(&operator.log)?;
        ensure!(log.contains(words), "not yet");
        ensure!(!log.contains("PRIVATE KEY"), "a key is in the log");
        let (_, page) = operator.get("/metrics").await?;
        ensure!(page.contains(&metric), "not {metric}");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn new_certificates_in_the_files_need_no_restart() -> Result<()> {
    let env = Env::new("certificates").await?;
    let (first, second) = (Authority::new("first")?, Authority::new("second")?);
    let front = TlsFront::before_temporal(HERE, &env.temporal_address, of(&first)?).await?;
    let volume = Volume::new(&env)?;
    let ours = first.issue("operator")?;
    volume.holds("first", &ours, &first)?;
    let options = OperatorOptions {
        temporal_address: Some(front.address.to_string()),
        env: volume.variables(),
        ..OperatorOptions::default()
    };
    let operator = Operator::start(&env, options).await?;
    let invariants = Invariants::start(&env)?;
    env.apply(&manifest(&env, "l2o", "v1")).await?;
    env.wait_settled("l2o", "v1").await?;

    // A new certificate beside the old key, and a connection that must be made anew meanwhile.
    let half = Issued {
        certificate: first.issue("operator")?.certificate,
        key: ours.key,
    };
    volume.holds("half", &half, &first)?;
    says(&operator, "the client certificate and its key", true).await?;
    front.becomes(of(&first)?);
    env.patch("l2o", &version("v2", &[])).await?;
    env.wait_settled("l2o", "v2").await?;

    // The operator has them before the server does: those that it has are of use still.
    volume.holds("second", &second.issue("operator")?, &second)?;
    says(&operator, "UnknownIssuer", true).await?;
    front.becomes(of(&first)?);
    env.patch("l2o", &version("v3", &[])).await?;
    env.wait_settled("l2o", "v3").await?;
    front.becomes(of(&second)?);
    says(&operator, "certificates for Temporal are new ones", false).await?;
    env.patch("l2o", &version("v1", &[])).await?;
    env.wait_settled("l2o", "v1").await?;

    // The server has them before the operator does, which is without Temporal until then.
    front.becomes(of(&first)?);
    env.patch("l2o", &version("v2", &[])).await?;
    volume.holds("third", &first.issue("operator")?, &first)?;
    let settled = env.wait_settled("l2o", "v2").await?;
    ensure!(condition(&settled, "TemporalReachable").0 == "True");
    let log = fs::read_to_string(&operator.log)?;
    let replaced = log.matches("certificates for Temporal are new ones");
    ensure!(replaced.count() == 2, "twice");
    ensure!(log.contains(REFUSED));
    ensure!(
        log.matches("worker polls").count() == 3,
        "no worker was replaced"
    );
    operator.ready().await?;
    invariants.hold(&env, &[&operator], QUIET).await?;
    fs::remove_dir_all(&volume.dir)?;
    env.remove().await
}
