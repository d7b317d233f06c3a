//! What a plan asks for that cannot be done here: said before anything is run, never ignored.
//!
//! A plan in, diagnostics out.

use kuz_dockerfile::{Diagnostic, Span};
use kuz_plan::plan::{Op, Plan};

use crate::error::{BuildError, Findings};
use crate::inputs::Inputs;

/// All steps that cannot be honoured, at once.
pub(crate) fn check(plan: &Plan, inputs: &Inputs) -> Result<(), BuildError> {
    let mut diagnostics = Vec::new();
    for step in plan.stages.iter().flat_map(|stage| &stage.steps) {
        match &step.op {
            Op::Run(run) if run.insecure => diagnostics.push(insecure(step.span)),
            Op::Run(_) | Op::Copy(_) | Op::Add(_) | Op::MakeDir(_) | Op::Nothing => {}
        }
    }
    if diagnostics.is_empty() {
        return Ok(());
    }
    let source = inputs.dockerfile.source.clone();
    Err(BuildError::Findings(Box::new(Findings { file: inputs.file.clone(), source, diagnostics })))
}

/// Real root is what a user namespace is there to withhold.
fn insecure(span: Span) -> Diagnostic {
    let message = "`RUN --security=insecure` needs the machine's real root, which steps in a user namespace never have";
    Diagnostic::error("InsecureRun", span, message).hint("leave the flag out; most steps do not need it")
}
