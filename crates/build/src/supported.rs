//! What a plan asks for that this version cannot do: said before anything is run, never ignored.
//!
//! A plan in, diagnostics out.

use kuz_dockerfile::{Diagnostic, Span};
use kuz_plan::plan::{Copy, Op, Plan, Source};

use crate::error::{BuildError, Findings};
use crate::inputs::Inputs;

/// All steps that cannot be honoured, at once.
pub(crate) fn check(plan: &Plan, inputs: &Inputs) -> Result<(), BuildError> {
    let mut diagnostics = Vec::new();
    for step in plan.stages.iter().flat_map(|stage| &stage.steps) {
        let mut not_yet = |what: &str| diagnostics.push(unsupported(step.span, what));
        match &step.op {
            Op::Run(run) => {
                if run.insecure {
                    diagnostics.push(insecure(step.span));
                }
            }
            Op::Copy(copy) | Op::Add(copy) => copy_parts(copy, matches!(step.op, Op::Add(_)), &mut not_yet),
            Op::MakeDir(_) | Op::Nothing => {}
        }
    }
    if diagnostics.is_empty() {
        return Ok(());
    }
    let source = inputs.dockerfile.source.clone();
    Err(BuildError::Findings(Box::new(Findings { file: inputs.file.clone(), source, diagnostics })))
}

fn copy_parts(copy: &Copy, add: bool, not_yet: &mut dyn FnMut(&str)) {
    if copy.parents {
        not_yet("`--parents`");
    }
    if matches!(copy.from, Source::Named(_)) {
        not_yet("a named context");
    }
    if add && copy.sources.iter().any(|word| is_remote(&word.text)) {
        not_yet("`ADD` of a URL or git repository");
    }
    if copy.checksum.is_some() {
        not_yet("`ADD --checksum`");
    }
}

/// Whether ADD would fetch this over the network.
fn is_remote(source: &str) -> bool {
    ["http://", "https://", "git://", "ssh://", "git@"].iter().any(|scheme| source.starts_with(scheme))
}

/// Real root is what a user namespace is there to withhold.
fn insecure(span: Span) -> Diagnostic {
    let message = "`RUN --security=insecure` needs the machine's real root, which steps in a user namespace never have";
    Diagnostic::error("InsecureRun", span, message).hint("leave the flag out; most steps do not need it")
}

fn unsupported(span: Span, what: &str) -> Diagnostic {
    Diagnostic::error("NotSupportedYet", span, format!("{what} is not supported yet"))
        .hint("this version of kuz refuses it rather than ignore it")
}
