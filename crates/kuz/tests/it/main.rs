//! The program from the outside: arguments and files in; exit code, JSON, messages and images out.
//!
//! One binary, a module a subject. Needs no network; tests that need user namespaces, root or another program report a
//! skip with the reason.

#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "a test fails by panicking and reports skips")]

mod base;
mod cache;
mod calls;
mod check;
mod contexts;
mod contract;
mod explain;
mod faults;
mod git;
mod golden;
mod hostile;
mod images;
mod init;
mod jobs;
mod kill;
mod kit;
mod layers;
mod mounts;
mod probes;
mod secrets;
mod size;
mod smoke;
mod sources;
mod steps;
mod traces;
mod users;
mod verify;
mod waits;
mod web;
mod wrong_inputs;
