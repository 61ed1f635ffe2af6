//! An example Temporal worker, as a user of the process operator would write one.
//!
//! The operator's integration tests deploy this worker, start its workflows and switch its faults
//! on. As a library it exports the workflow definitions, so that a test or a client can start them
//! by type; as a binary it is the container's program.
//!
//! * [`workflows`]: the workflow types with their inputs and outputs.
//! * [`activities`]: what the workflows call.
//! * [`config`]: the environment variables, read once at start-up.
//! * [`faults`]: what the worker can be told to do wrong.
//! * [`serve`]: connecting, polling and stopping.
//! * [`health`]: the probes' HTTP endpoint.

pub mod activities;
pub mod check;
pub mod config;
pub mod eventing;
pub mod faults;
pub mod health;
pub mod payload;
pub mod serve;
pub mod workflows;
