//! The list of writes of a time window: what a learning run puts into the report of a test.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;

use crate::journal::{Mark, Record};
use crate::kube::request::{KubeRequest, Verb};

/// One write as the operator asked for it, whatever became of it.
#[derive(Clone, Debug)]
pub struct WriteRecord {
    /// Its place in the record.
    pub mark: Mark,
    /// When it arrived.
    pub at: Timestamp,
    /// What it was, without the object's name.
    pub kind: WriteKind,
    /// The object's namespace; empty if it has none.
    pub namespace: String,
    /// The object's name; empty if the server makes one up.
    pub name: String,
    /// The code the operator was told.
    pub code: Option<u16>,
}

/// What writes are grouped by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WriteKind {
    /// What was done.
    pub verb: Verb,
    /// The resource with its group.
    pub resource: String,
    /// The subresource; empty for the object itself.
    pub subresource: String,
    /// Who the fields belong to.
    pub field_manager: String,
}

/// The writes of a time window, in order. Prints as a table of grouped counts.
#[derive(Clone, Debug, Default)]
pub struct WriteReport {
    /// The writes. The n-th of them is the one that `RequestMatch::writes().nth(n)` hits in an
    /// equal run.
    pub writes: Vec<WriteRecord>,
}

impl WriteReport {
    pub(crate) fn new(records: &[Record<KubeRequest>]) -> Self {
        let writes = records
            .iter()
            .map(|record| {
                let request = &record.request;
                WriteRecord {
                    mark: record.mark(),
                    at: record.at,
                    kind: WriteKind {
                        verb: request.verb,
                        resource: request.full_resource(),
                        subresource: request.subresource.clone(),
                        field_manager: request.field_manager.clone(),
                    },
                    namespace: request.namespace.clone(),
                    name: request.name.clone(),
                    code: record.outcome.code(),
                }
            })
            .collect();
        Self { writes }
    }

    /// How many writes there were.
    pub fn len(&self) -> usize {
        self.writes.len()
    }

    /// Whether there were none.
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    /// How many there were of each kind.
    pub fn grouped(&self) -> BTreeMap<WriteKind, u64> {
        let mut groups = BTreeMap::new();
        for write in &self.writes {
            *groups.entry(write.kind.clone()).or_default() += 1;
        }
        groups
    }
}

impl fmt::Display for WriteKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.verb, self.resource)?;
        if !self.subresource.is_empty() {
            write!(f, "/{}", self.subresource)?;
        }
        write!(f, " by {}", self.field_manager)
    }
}

impl fmt::Display for WriteRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}/{}", self.kind, self.namespace, self.name)
    }
}

impl fmt::Display for WriteReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} writes", self.len())?;
        for (kind, count) in self.grouped() {
            writeln!(f, "{count:>6}  {kind}")?;
        }
        Ok(())
    }
}
