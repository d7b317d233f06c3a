//! Dockerfile text to a syntax tree with spans, all errors at once.
//!
//! [`span`] places · [`ast`] the tree · [`diagnostic`] what is wrong. No I/O.

pub mod ast;
pub mod diagnostic;
pub mod span;

pub use ast::Dockerfile;
pub use diagnostic::{Diagnostic, Severity};
pub use span::{Span, Spanned, line_of};
