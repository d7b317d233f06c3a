//! What the tests of several crates share: an in-process registry with scripted faults.
//!
//! Test code only: nothing here is part of the program, and nothing here talks to anything but loopback.

pub mod layout_server;
pub mod registry;
