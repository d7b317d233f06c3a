//! How much planning does, counted: that it grows with the file and not with its square is a matter of tests, and a
//! count is the same on every machine.
//!
//! Whatever walks over something that grows with the file says so here. Outside this crate's tests nothing is counted.

/// So many things were looked at, copied or written.
#[cfg(not(test))]
pub(crate) fn done(_things: usize) {}

#[cfg(test)]
pub(crate) use counted::done;

#[cfg(test)]
mod counted {
    use std::cell::Cell;

    thread_local!(static DONE: Cell<usize> = const { Cell::new(0) });

    pub(crate) fn done(things: usize) {
        DONE.set(DONE.get() + things);
    }

    /// What planning `text` takes, with every image known and empty.
    pub(super) fn of(text: &str) -> usize {
        let parsed = kuz_dockerfile::parse(text.as_bytes());
        assert!(!parsed.has_errors(), "{:?}", &parsed.diagnostics[..1]);
        DONE.set(0);
        super::tests::plan(&parsed.file);
        DONE.get()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::fmt::Write as _;

    use kuz_dockerfile::Dockerfile;
    use kuz_image::{Digest, ImageConfig, Platform};

    use super::counted;
    use crate::plan::{KnownImage, KnownImages, Network};
    use crate::{Planned, Request};

    /// Plans; errors end it, which is an end too.
    pub(super) fn plan(file: &Dockerfile) {
        let request = Request {
            build_args: BTreeMap::new(),
            target: None,
            platform: Platform::host(),
            build_platform: Platform::host(),
            labels: BTreeMap::new(),
            network: Network::Host,
            named_contexts: BTreeSet::new(),
            named_images: BTreeMap::new(),
        };
        let mut known = KnownImages::new();
        while let Ok(Planned::Needs(needs)) = crate::plan(file, &request, &known) {
            let image = || KnownImage { manifest: Digest::of(b""), config: ImageConfig::default() };
            known.extend(needs.into_iter().map(|need| ((need.reference, need.platform), image())));
        }
    }

    /// A file of a shape, with about so many instructions.
    type Shape = fn(usize) -> String;

    fn lines(head: &str, count: usize, line: impl Fn(usize) -> String) -> String {
        (0..count).fold(head.to_owned(), |mut text, number| {
            let _ = writeln!(text, "{}", line(number));
            text
        })
    }

    const SHAPES: [(&str, Shape); 13] = [
        ("distinct ENVs", |n| lines("FROM a\n", n, |i| format!("ENV V{i}=x"))),
        ("ENVs and RUNs in turn", |n| lines("FROM a\n", n / 2, |i| format!("ENV V{i}=x\nRUN y"))),
        ("one ENV again and again, and RUNs", |n| lines("FROM a\n", n / 2, |i| format!("ENV V={i}\nRUN y"))),
        ("ARGs", |n| lines("FROM a\n", n, |i| format!("ARG V{i}=x"))),
        ("global ARGs", |n| lines("", n, |i| format!("ARG V{i}=x")) + "FROM a\n"),
        ("LABELs", |n| lines("FROM a\n", n, |i| format!("LABEL l{i}=x"))),
        ("undefined variables", |n| lines("FROM a\n", n / 2, |i| format!("ENV V{i}=x W{i}=$U{i}"))),
        ("a chain of stages", |n| lines("FROM a AS s0\n", n / 2, |i| format!("FROM s{i} AS s{}\nRUN x", i + 1))),
        ("a fan of stages", |n| {
            let stages = lines("FROM a AS base\nENV X=y\n", n / 3, |i| format!("FROM base AS s{i}\nRUN x"));
            lines(&(stages + "FROM a\n"), n / 3, |i| format!("COPY --from=s{i} /x /x"))
        }),
        ("images", |n| lines("FROM a\n", n, |i| format!("COPY --from=image{i} /x /x"))),
        ("stages that come too late", |n| {
            let copies = lines("FROM a\n", n / 2, |i| format!("COPY --from=s{i} /x /x"));
            lines(&copies, n / 2, |i| format!("FROM a AS s{i}"))
        }),
        ("mounts", |n| lines("FROM a\n", n, |i| format!("RUN --mount=type=cache,target=/c{i} x"))),
        ("everything", |n| {
            lines("FROM a\n", n / 10, |i| {
                format!(
                    "ENV E{i}=x\nARG A{i}=x\nLABEL l{i}=$E{i}\nWORKDIR /w{i}\nCOPY a{i} .\nEXPOSE {}\nUSER u{i}\n\
                     VOLUME /v{i}\nCMD [\"c{i}\"]\nONBUILD RUN o{i}",
                    i % 60_000 + 1
                )
            })
        }),
    ];

    /// Four times the file is at most about four times the work.
    #[test]
    fn planning_grows_with_the_file() {
        for (name, shape) in SHAPES {
            let (small, large) = (counted::of(&shape(1000)), counted::of(&shape(4000)));
            assert!(small > 0, "{name}: nothing is counted");
            assert!(large < 6 * small, "{name}: {small} things for 1000 instructions, {large} for 4000");
        }
    }
}
