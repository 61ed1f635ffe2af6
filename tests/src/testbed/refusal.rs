//! What the testbed cannot work with, said in one sentence.

use std::fmt;

/// The machine, or the way the command was called, is not fit: nothing was
/// started. Commands exit with code 2.
#[derive(Debug)]
pub struct Refusal(String);

impl Refusal {
    /// The sentence says what is wrong and what to do.
    pub fn new(sentence: impl Into<String>) -> Self {
        Self(sentence.into())
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refusal {}

/// Leaves the function with a [`Refusal`].
macro_rules! refuse {
    ($($arg:tt)*) => {
        return Err($crate::testbed::Refusal::new(format!($($arg)*)).into())
    };
}
pub(super) use refuse;
