//! The lines that findings advise, as a patch for the Dockerfile.
//!
//! Text in, a unified diff out; no file is written. Packages are installed first in the final stage, what is copied
//! comes after its last step that changes files.

use std::fmt::Write as _;

use kuz_dockerfile::ast::Kind;
use kuz_verify::elf::packages::{APK, APT};

use crate::verdict::Verdict;

/// Lines around a change.
const CONTEXT: usize = 3;

/// A patch that adds the advised lines to the last stage of a Dockerfile; `None` if there is nothing to add, or no
/// stage to add it to.
pub fn patch(file: &str, source: &str, verdict: &Verdict) -> Option<String> {
    let advised = verdict.findings.iter().filter_map(|placed| placed.finding.advice.as_ref());
    let (early, late) = lines(advised.flat_map(|advice| &advice.lines));
    if early.is_empty() && late.is_empty() {
        return None;
    }
    let parsed = kuz_dockerfile::parse(source.as_bytes()).file;
    let from = parsed.instructions.iter().rposition(|instruction| matches!(instruction.kind, Kind::From(_)))?;
    let stage = parsed.instructions.get(from..)?;
    let changes =
        |kind: &Kind| matches!(kind, Kind::From(_) | Kind::Run(_) | Kind::Copy(_) | Kind::Add(_) | Kind::Workdir(_));
    let last = stage.iter().rposition(|instruction| changes(&instruction.kind))?;
    let after = |at: usize| Some(kuz_dockerfile::line_of(&parsed.source, stage.get(at)?.span.end.saturating_sub(1)));
    let mut added = vec![(after(0)?, early), (after(last)?, late)];
    added.retain(|(_, lines)| !lines.is_empty());
    Some(diff(file, &parsed.source, &added))
}

/// The lines for the stage's beginning and for its end, each once, packages in one line.
fn lines<'l>(all: impl Iterator<Item = &'l String>) -> (Vec<String>, Vec<String>) {
    let (mut debian, mut alpine, mut late) = (Vec::new(), Vec::new(), Vec::new());
    for line in all {
        let package = line.strip_prefix(APT.0).and_then(|rest| rest.strip_suffix(APT.1));
        let (list, text) = match (package, line.strip_prefix(APK)) {
            (Some(package), _) => (&mut debian, package),
            (None, Some(package)) => (&mut alpine, package),
            (None, None) => (&mut late, line.as_str()),
        };
        if !list.iter().any(|known| known == text) {
            list.push(text.to_owned());
        }
    }
    let mut early = Vec::new();
    if !debian.is_empty() {
        early.push(format!("{}{}{}", APT.0, debian.join(" "), APT.1));
    }
    if !alpine.is_empty() {
        early.push(format!("{APK}{}", alpine.join(" ")));
    }
    // The cache is renewed once all libraries are there.
    late.sort_by_key(|line| line == "RUN ldconfig");
    (early, late)
}

/// A unified diff that adds lines after some lines (counted from 1, in order).
fn diff(file: &str, source: &str, added: &[(usize, Vec<String>)]) -> String {
    let old: Vec<&str> = source.lines().collect();
    let mut text = format!("--- {file}\n+++ {file}\n");
    let mut more = 0;
    let mut at = 0;
    while let Some((first, _)) = added.get(at) {
        // Changes whose surroundings touch are one piece.
        let mut end = at + 1;
        while let (Some((one, _)), Some((two, _))) = (added.get(end - 1), added.get(end)) {
            if two - one > 2 * CONTEXT {
                break;
            }
            end += 1;
        }
        let piece = added.get(at..end).unwrap_or_default();
        let last = piece.last().map_or(*first, |(line, _)| *line);
        let (begin, stop) = (first.saturating_sub(CONTEXT), (last + CONTEXT).min(old.len()));
        let new: usize = piece.iter().map(|(_, lines)| lines.len()).sum();
        let count = stop.saturating_sub(begin);
        let _ = writeln!(text, "@@ -{},{count} +{},{} @@", begin + 1, begin + 1 + more, count + new);
        for number in begin..stop {
            let line = old.get(number).copied().unwrap_or_default();
            let _ = writeln!(text, " {line}");
            // A last line without an end would run into the next one.
            if number + 1 == old.len() && !source.ends_with('\n') {
                text.pop();
                text.truncate(text.len() - line.len() - 1);
                let _ = write!(text, "-{line}\n\\ No newline at end of file\n+{line}\n");
            }
            for (_, lines) in piece.iter().filter(|(line, _)| *line == number + 1) {
                for line in lines {
                    let _ = writeln!(text, "+{line}");
                }
            }
        }
        more += new;
        at = end;
    }
    text
}

#[cfg(test)]
mod tests {
    use kuz_verify::{Advice, Finding, Level};

    use super::*;
    use crate::verdict::Placed;

    fn verdict(lines: &[&str]) -> Verdict {
        let findings = lines.iter().map(|line| {
            let finding = Finding::new("CommandNotFound", Level::Error, "x").advise(Some(Advice::line("do", *line)));
            Placed { finding, span: None, made_by: None }
        });
        Verdict { findings: findings.collect(), ..Verdict::default() }
    }

    #[test]
    fn a_patch_adds_the_lines_to_the_last_stage() {
        let apt = |packages: &str| format!("{}{packages}{}", APT.0, APT.1);
        let source = "FROM a AS b\nRUN x\n\nFROM c\nENV A=b\nCOPY . /x\n# end\nCMD a\n";
        let patched = patch(
            "Dockerfile",
            source,
            &verdict(&[&apt("p"), "RUN ldconfig", "COPY --from=b /l /l", &apt("q"), &apt("p"), "RUN ldconfig"]),
        );
        let want = format!(
            "--- Dockerfile\n+++ Dockerfile\n@@ -2,7 +2,10 @@\n RUN x\n \n FROM c\n+{}\n ENV A=b\n COPY . /x\n+COPY --from=b /l /l\n+RUN ldconfig\n # end\n CMD a\n",
            apt("p q")
        );
        assert_eq!(patched, Some(want));
        let patched = patch("D", "FROM a\nCOPY \\\n . /x", &verdict(&["ENV A=b"]));
        let want = "--- D\n+++ D\n@@ -1,3 +1,4 @@\n FROM a\n COPY \\\n- . /x\n\\ No newline at end of file\n+ . /x\n+ENV A=b\n";
        assert_eq!(patched.as_deref(), Some(want));
        assert_eq!(patch("D", source, &verdict(&[])), None);
        assert_eq!(patch("D", "ARG A\n", &verdict(&["ENV A=b"])), None);
    }
}
