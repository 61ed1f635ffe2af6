//! Hashes by which drift is noticed without writing.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use process_operator_crds::names::manager;
use sha2::{Digest as _, Sha256};

/// First 16 hex digits of SHA-256.
pub fn short(bytes: &[u8]) -> String {
    prefix(bytes, 8)
}

/// First `length` bytes of SHA-256, in hex.
pub fn prefix(bytes: &[u8], length: usize) -> String {
    let digest = Sha256::digest(bytes);
    digest
        .iter()
        .take(length)
        .fold(String::new(), |mut text, byte| {
            use std::fmt::Write as _;
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}

/// Hash over the set of fields that our server-side apply owns. A field that somebody else writes
/// leaves the set, and so does an item that somebody else removes.
pub fn owned_fields(managed: Option<&Vec<ManagedFieldsEntry>>) -> String {
    managed
        .into_iter()
        .flatten()
        .find(|entry| {
            entry.manager.as_deref() == Some(manager::OPERATOR)
                && entry.operation.as_deref() == Some("Apply")
                && entry.subresource.as_deref().unwrap_or_default().is_empty()
        })
        .and_then(|entry| entry.fields_v1.as_ref())
        .map(|fields| short(fields.0.to_string().as_bytes()))
        .unwrap_or_default()
}
