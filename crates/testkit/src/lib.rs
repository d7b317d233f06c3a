//! What the tests of several crates share: an in-process registry with scripted faults, and tables of other builders.
//!
//! Test code only: nothing here is part of the program, and nothing here talks to anything but loopback.

pub mod conformance;
pub mod layout_server;
pub mod registry;
