//! The certificates and keys of one run.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::Result;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

use super::paths::BRIDGE_ADDRESS;

/// Writes the authority, the certificates of the API server and of the scheduler,
/// the client certificate that the API server shows to kubelet, and the key service
/// account tokens are signed with.
pub(super) fn write(dir: &Path) -> Result<()> {
    fs::create_dir_all(dir)?;
    fs::set_permissions(dir, fs::Permissions::from_mode(0o700))?;

    let ca = authority("process-operator-testbed")?;
    fs::write(dir.join("ca.crt"), &ca.certificate)?;
    let mut server = CertificateParams::new(
        [
            "127.0.0.1",
            BRIDGE_ADDRESS,
            "10.96.0.1",
            "localhost",
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "kubernetes.default.svc.cluster.local",
        ]
        .map(str::to_owned),
    )?;
    server
        .distinguished_name
        .push(DnType::CommonName, "kube-apiserver");
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    write_leaf(dir, "apiserver", &server, &ca.issuer)?;
    let mut scheduler = CertificateParams::new(["127.0.0.1".to_owned()])?;
    scheduler
        .distinguished_name
        .push(DnType::CommonName, "kube-scheduler");
    scheduler.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    write_leaf(dir, "scheduler", &scheduler, &ca.issuer)?;

    // An authority of its own: the API server must not take what kubelet takes.
    let clients = authority("process-operator-testbed-kubelet-clients")?;
    fs::write(dir.join("kubelet-client-ca.crt"), &clients.certificate)?;
    let mut client = CertificateParams::default();
    client
        .distinguished_name
        .push(DnType::CommonName, "kube-apiserver-kubelet-client");
    client
        .distinguished_name
        .push(DnType::OrganizationName, "system:masters");
    client.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    write_leaf(dir, "kubelet-client", &client, &clients.issuer)?;

    let service_accounts = KeyPair::generate()?;
    fs::write(
        dir.join("service-accounts.key"),
        service_accounts.serialize_pem(),
    )?;
    fs::write(
        dir.join("service-accounts.pub"),
        service_accounts.public_key_pem(),
    )?;
    Ok(())
}

struct Authority {
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

fn authority(name: &str) -> Result<Authority> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::DigitalSignature,
    ];
    let certificate = params.self_signed(&key)?.pem();
    Ok(Authority {
        certificate,
        issuer: Issuer::new(params, key),
    })
}

fn write_leaf(
    dir: &Path,
    name: &str,
    params: &CertificateParams,
    issuer: &Issuer<'static, KeyPair>,
) -> Result<()> {
    let key = KeyPair::generate()?;
    fs::write(
        dir.join(format!("{name}.crt")),
        params.signed_by(&key, issuer)?.pem(),
    )?;
    fs::write(dir.join(format!("{name}.key")), key.serialize_pem())?;
    Ok(())
}

/// A random token of 128 bits.
pub(super) fn token() -> Result<String> {
    let mut bytes = [0; 16];
    fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(hex(&bytes))
}

pub(super) fn hex(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from_digit(value.into(), 16).unwrap_or_default();
    bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 0xf)])
        .collect()
}
