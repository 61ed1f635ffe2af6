//! Registries of definitions: what may be asked, how it is asked, and what became of it.
//!
//! * `hosts`: which hosts the operator may talk to.
//! * `fetch`: one request.
//! * `answer`: how a definition is read out of an answer.
//!
//! When is asked, and where what was fetched is kept, is the watcher's.

mod answer;
mod fetch;
mod hosts;

use std::path::PathBuf;
use std::time::Duration;

use process_operator_crds::spec::{DefinitionRef, RegistryProtocol};
use process_operator_crds::{Process, Reason};

use crate::build::hash;

pub use fetch::Registries;
pub use hosts::Host;

/// Most bytes that a definition may have: a ConfigMap holds a mebibyte, and this leaves room for what else
/// is in it.
pub const MAX_BYTES: usize = 1_048_576 - 16_384;

/// What the flags of the operator say about registries.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Hosts that may be asked; none when empty.
    pub hosts: Vec<Host>,
    /// File with the bearer token.
    pub token_file: Option<PathBuf>,
    /// File with certificate authorities in PEM, beside those of the system.
    pub ca_file: Option<PathBuf>,
}

/// Where a definition comes from. Processes with the same source share its fetches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Address, as in the spec.
    pub url: String,
    /// How it is asked.
    pub protocol: RegistryProtocol,
    /// Id and tenant, where the registry is told of them.
    pub asks: Option<(String, String)>,
    /// Time between two questions.
    pub refresh: Duration,
}

impl Source {
    /// Of a Process; `None` when it names no registry.
    pub fn of(process: &Process) -> Option<Self> {
        Self::named(&process.spec.definition_ref)
    }

    fn named(reference: &DefinitionRef) -> Option<Self> {
        let registry = reference.registry.as_ref()?;
        let asks = match registry.protocol {
            RegistryProtocol::Get => None,
            RegistryProtocol::Connect => Some((reference.id.clone(), reference.tenant_id.clone())),
        };
        Some(Self {
            url: registry.url.clone(),
            protocol: registry.protocol,
            asks,
            refresh: Duration::from_secs(u64::try_from(registry.refresh_seconds).unwrap_or(300)),
        })
    }

    /// A short mark: what comes from elsewhere has another one. How often is asked is no part of it.
    pub fn mark(&self) -> String {
        let mut text = format!("{:?}\n{}", self.protocol, self.url);
        if let Some((id, tenant)) = &self.asks {
            text = format!("{text}\n{id}\n{tenant}");
        }
        hash::short(text.as_bytes())
    }

    /// What the address names, without its path: safe to show, and enough to find it.
    pub fn shown(&self) -> String {
        Host::of(&self.url).map_or_else(|_| "the registry".to_owned(), |host| host.to_string())
    }
}

/// A definition as it was fetched.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Definition {
    /// Name of the file that workers read.
    pub file: String,
    /// Its content.
    pub content: Vec<u8>,
    /// Its version, if it says a number.
    pub version: Option<i64>,
    /// What it says instead.
    pub unversioned: Option<String>,
    /// What a later question is asked with, to be told only of another content.
    pub etag: Option<String>,
}

/// What a registry has answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The same as with this `ETag`.
    Unchanged,
    /// This is it.
    Fetched(Definition),
}

/// Why nothing was fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// No answer, or one that says to come again.
    Unavailable,
    /// The operator is not let in.
    Refused,
    /// The registry does not have it.
    NotFound,
    /// An answer that nothing can be made of.
    Unusable,
}

impl Trouble {
    /// Reason of the conditions that tell of it.
    pub fn reason(self) -> Reason {
        match self {
            Self::Unavailable => Reason::RegistryUnavailable,
            Self::Refused => Reason::RegistryRefused,
            Self::NotFound => Reason::DefinitionNotFound,
            Self::Unusable => Reason::DefinitionUnusable,
        }
    }

    /// Value of a metric label: a closed set.
    pub fn label(self) -> &'static str {
        match self {
            Self::Unavailable => "unavailable",
            Self::Refused => "refused",
            Self::NotFound => "not_found",
            Self::Unusable => "unusable",
        }
    }
}

/// A fetch that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What kind of failure.
    pub trouble: Trouble,
    /// For people; names the field or flag, and the fix.
    pub message: String,
    /// Not to be asked again before so long (`Retry-After`).
    pub retry_after: Option<Duration>,
}

impl Failure {
    fn new(trouble: Trouble, message: impl Into<String>) -> Self {
        Self {
            trouble,
            message: message.into(),
            retry_after: None,
        }
    }
}

#[cfg(test)]
mod tests;
