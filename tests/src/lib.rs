//! The testbed and the suites that run on it.

pub mod pages;
pub mod testbed;

#[cfg(test)]
mod links;
#[cfg(test)]
mod reasons;
#[cfg(test)]
mod specification;
