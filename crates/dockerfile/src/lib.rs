//! Dockerfile text to a syntax tree with spans, all errors at once.
//!
//! ```text
//! bytes ─► source (lines) ─► statement (keyword, flags, arguments, heredocs) ─► instruction ─► ast
//!                                                                                 ast ─► lint
//! word: quotes and ${} · ignore, glob: which paths · suggest: did you mean
//! ```
//!
//! [`span`] places · [`ast`] the tree · [`diagnostic`] what is wrong. No I/O.

pub mod ast;
pub mod diagnostic;
pub mod directive;
pub mod glob;
pub mod heredoc;
pub mod ignore;
mod instruction;
mod json;
mod lexer;
pub mod lint;
mod parse;
pub mod path;
mod pattern;
mod source;
pub mod span;
mod split;
pub mod statement;
pub mod suggest;
pub mod syntax;
pub mod word;

pub use ast::Dockerfile;
pub use diagnostic::{Diagnostic, Severity};
pub use instruction::device::{Device, DeviceError, boolean, parse as parse_device};
pub use instruction::duration::{DurationError, parse as parse_duration};
pub use instruction::{SINCE, instruction_flags};
pub use lint::lint;
pub use parse::{Parsed, parse, parse_one};
pub use source::MAX_SOURCE;
pub use span::{Lines, Span, Spanned, line_of};
pub use split::Flag;
pub use statement::MAX_STATEMENTS;
