//! How a command ends: one number for programs, one sentence for people.

use std::fmt;

/// Exit codes. They are part of the interface: programs compare them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done; the answer is yes.
    Done = 0,
    /// The answer is no: the rollout has failed, the request was refused, a check has failed.
    No = 1,
    /// It could not be asked: usage, no such Process, no right, no cluster.
    Unasked = 2,
    /// Not yet; with a time limit, the time is up.
    NotYet = 3,
}

impl Exit {
    /// The number.
    pub(crate) fn code(self) -> u8 {
        self as u8
    }
}

/// An end that is not `Done`, with the reason on stderr.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The exit code.
    pub(crate) exit: Exit,
    message: String,
}

impl Failure {
    /// With this code and reason.
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            exit,
            message: message.into(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// It could not be asked.
pub(crate) fn unasked(message: impl Into<String>) -> anyhow::Error {
    Failure::new(Exit::Unasked, message).into()
}

/// The answer is no.
pub(crate) fn no(message: impl Into<String>) -> anyhow::Error {
    Failure::new(Exit::No, message).into()
}

/// Not yet.
pub(crate) fn not_yet(message: impl Into<String>) -> anyhow::Error {
    Failure::new(Exit::NotYet, message).into()
}
