//! From what is shown to text. Pure: the width, the colours and the time are given.

pub(crate) mod line;
pub(crate) mod table;
pub(crate) mod tree;
pub(crate) mod words;

pub(crate) use line::{Line, Tone};
