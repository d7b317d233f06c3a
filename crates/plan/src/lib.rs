//! A Dockerfile, a request and known images to a plan: a pure function over values that can be printed.

pub mod plan;
pub mod request;
