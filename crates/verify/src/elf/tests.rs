//! Libraries over synthetic images, as a table: what lies where; which findings there are.

use crate::facts::Path;
use crate::finding::Finding;
use crate::testing::{Entry, Made, config, file, link, program, seen, subject};

const LOADER: &str = "/lib64/ld-linux-x86-64.so.2";
const GLIBC: &[&str] = &["GLIBC_2.2.5", "GLIBC_2.34", "GLIBC_2.36"];
const PACKAGES: &str = "usr/local/lib/python3.10/site-packages";

fn library(path: &str, made: &Made<'_>) -> Entry {
    program(path, made.bytes())
}

fn lib(path: &str, soname: &str) -> Entry {
    library(path, &Made { soname, ..Made::default() })
}

/// Debian with an interpreter of Python.
fn debian() -> Vec<Entry> {
    vec![
        link("lib", "usr/lib"),
        link("lib64", "usr/lib64"),
        library("usr/lib64/ld-linux-x86-64.so.2", &Made { soname: "ld-linux-x86-64.so.2", ..Made::default() }),
        library(
            "usr/lib/x86_64-linux-gnu/libc.so.6",
            &Made { soname: "libc.so.6", provides: GLIBC, ..Made::default() },
        ),
        lib("usr/lib/x86_64-linux-gnu/libz.so.1.2.13", "libz.so.1"),
        link("usr/lib/x86_64-linux-gnu/libz.so.1", "libz.so.1.2.13"),
        file("etc/ld.so.conf", "include /etc/ld.so.conf.d/*.conf\n"),
        file("etc/ld.so.conf.d/libc.conf", "/usr/local/lib\n"),
        library("usr/local/bin/python3.10", &Made { interpreter: LOADER, needed: &["libc.so.6"], ..Made::default() }),
        program("usr/bin/apt-get", Made::default().bytes()),
    ]
}

fn musl() -> Vec<Entry> {
    vec![
        lib("lib/ld-musl-x86_64.so.1", "libc.musl-x86_64.so.1"),
        lib("usr/lib/libz.so.1", "libz.so.1"),
        library(
            "usr/local/bin/python3.10",
            &Made {
                interpreter: "/lib/ld-musl-x86_64.so.1",
                needed: &["libc.musl-x86_64.so.1", "libz.so.1"],
                ..Made::default()
            },
        ),
    ]
}

fn shown(finding: &Finding) -> String {
    let lines =
        finding.advice.iter().flat_map(|advice| &advice.lines).fold(String::new(), |all, line| all + " + " + line);
    format!("{} {}: {}{lines}", finding.level.name(), finding.rule, finding.message)
}

fn judged(json: &str, base: Vec<Entry>, layer: Vec<Entry>, programs: &[&str], other: Vec<Entry>) -> Vec<String> {
    let config = config(json);
    let other = seen(&[other]);
    let subject = subject(&config, &[base, layer], &[("builder", &other)]);
    let programs: Vec<Path> = programs.iter().map(|path| path.as_bytes().to_vec()).collect();
    super::closure::check(&subject, &programs, None).iter().map(shown).collect()
}

/// A program at `app` that needs one library, with directories of its own.
fn app<'a>(needed: &'a [&'a str], rpath: &'a str, runpath: &'a str) -> Entry {
    library("srv/app", &Made { interpreter: LOADER, needed, rpath, runpath, ..Made::default() })
}

#[expect(clippy::too_many_lines, reason = "a table")]
#[test]
fn programs_find_what_they_need_or_not() {
    let cases: Vec<(&str, &str, Vec<Entry>, &[&str])> = vec![
        ("a driver", "{}", vec![app(&["libcuda.so.1"], "", "")], &[]),
        ("all there", "{}", vec![app(&["libc.so.6", "libz.so.1", "ld-linux-x86-64.so.2"], "", "")], &[]),
        ("RPATH", "{}", vec![app(&["liba.so"], "$ORIGIN/lib", ""), lib("srv/lib/liba.so", "")], &[]),
        ("RUNPATH", "{}", vec![app(&["liba.so"], "", "/x:${ORIGIN}/lib"), lib("srv/lib/liba.so", "")], &[]),
        ("LIB", "{}", vec![app(&["liba.so"], "/opt/$LIB", ""), lib("opt/lib/x86_64-linux-gnu/liba.so", "")], &[]),
        (
            "RPATH is inherited",
            "{}",
            vec![
                app(&["liba.so"], "/opt", ""),
                library("opt/liba.so", &Made { needed: &["libb.so"], ..Made::default() }),
                lib("opt/libb.so", ""),
            ],
            &[],
        ),
        (
            "RUNPATH is not",
            "{}",
            vec![
                app(&["liba.so"], "", "/opt"),
                library("opt/liba.so", &Made { needed: &["libb.so"], ..Made::default() }),
                lib("opt/libb.so", ""),
            ],
            &["error LibraryNotFound: the library `libb.so` is not in the image; `/opt/liba.so` needs it"],
        ),
        (
            "RUNPATH ends RPATH",
            "{}",
            vec![app(&["liba.so"], "/opt", "/x"), lib("opt/liba.so", "")],
            &["error LibraryNotFound: the library `liba.so` is not in the image; `/srv/app` needs it"],
        ),
        (
            "LD_LIBRARY_PATH",
            r#"{"Env":["LD_LIBRARY_PATH=/x:/opt"]}"#,
            vec![app(&["liba.so"], "", ""), lib("opt/liba.so", "")],
            &[],
        ),
        ("a path", "{}", vec![app(&["/opt/liba.so"], "", ""), lib("opt/liba.so", "")], &[]),
        (
            "by soname",
            "{}",
            vec![
                app(&["liba-1.so", "libc.so"], "/opt", ""),
                library("opt/liba-1.so", &Made { soname: "liba.so", ..Made::default() }),
                library("opt/libc.so", &Made { needed: &["liba.so"], ..Made::default() }),
            ],
            &[],
        ),
        (
            "not in the cache",
            "{}",
            vec![
                app(&["liba.so"], "", ""),
                lib("usr/local/lib/liba.so", ""),
                file("etc/ld.so.cache", crate::elf::cache::tests::cache(&[])),
            ],
            &[
                "error LibraryNotCached: the library `liba.so` is at `/usr/local/lib/liba.so`, but the loader's cache does not know it; `/srv/app` needs it + RUN ldconfig",
            ],
        ),
        (
            "in the cache",
            "{}",
            vec![
                app(&["liba.so"], "", ""),
                lib("opt/a/liba.so.1", ""),
                file("etc/ld.so.cache", crate::elf::cache::tests::cache(&[("liba.so", "/opt/a/liba.so.1")])),
            ],
            &[],
        ),
        (
            "a cache that cannot be read",
            "{}",
            vec![app(&["liba.so"], "", ""), lib("usr/local/lib/liba.so", ""), file("etc/ld.so.cache", "?")],
            &[],
        ),
        (
            "for another machine",
            "{}",
            vec![app(&["liba.so"], "/opt", ""), library("opt/liba.so", &Made { machine: 183, ..Made::default() })],
            &[
                "error LibraryNotFound: the library `liba.so` is in the image only for another machine (`/opt/liba.so`); `/srv/app` needs it",
            ],
        ),
        (
            "a program for another machine",
            "{}",
            vec![library("srv/app", &Made { machine: 183, ..Made::default() })],
            &["error WrongMachine: `/srv/app` is built for arm64, but the image is for amd64"],
        ),
        (
            "no loader",
            "{}",
            vec![library("srv/app", &Made { interpreter: "/lib/ld-linux.so.9", ..Made::default() })],
            &[
                "error LoaderNotFound: `/srv/app` is started by the loader `/lib/ld-linux.so.9`, which is not in the image",
            ],
        ),
        (
            "the other libc",
            "{}",
            vec![library("srv/app", &Made { interpreter: "/lib/ld-musl-x86_64.so.1", ..Made::default() })],
            &["error WrongLibc: `/srv/app` is built for musl, but the image's C library is glibc"],
        ),
        (
            "versions",
            "{}",
            vec![library(
                "srv/app",
                &Made {
                    interpreter: LOADER,
                    needed: &["libc.so.6", "libz.so.1"],
                    needs: &[("libc.so.6", &["GLIBC_2.34", "GLIBC_2.37", "GLIBC_2.38"]), ("libz.so.1", &["ZLIB_9"])],
                    ..Made::default()
                },
            )],
            &["error SymbolVersionNotFound: `/srv/app` needs GLIBC_2.38, the image has 2.36 (`libc.so.6`)"],
        ),
    ];
    for (name, json, layer, want) in cases {
        assert_eq!(judged(json, debian(), layer, &["srv/app"], vec![]), want, "{name}");
    }
}

/// Name, base, layer, another stage, findings.
type Case = (&'static str, Vec<Entry>, Vec<Entry>, Vec<Entry>, Vec<String>);

#[test]
fn libraries_of_python_packages() {
    let module = |made: Made<'_>| {
        library(&format!("{PACKAGES}/a/_a.cpython-310-x86_64-linux-gnu.so"), &Made { exports: "PyInit__a", ..made })
    };
    let plain = Made::default();
    let pq = || module(Made { needed: &["libpq.so.5", "libc.so.6"], ..Made::default() });
    let install =
        "RUN apt-get update && apt-get install -y --no-install-recommends libpq5 && rm -rf /var/lib/apt/lists/*";
    let missing = |lines: &str| {
        format!(
            "warning LibraryNotFound: the library `libpq.so.5` is not in the image; `/{PACKAGES}/a/_a.cpython-310-x86_64-linux-gnu.so` needs it{lines}"
        )
    };
    let other = vec![
        lib("usr/lib/x86_64-linux-gnu/libpq.so.5.15", "libpq.so.5"),
        link("usr/lib/x86_64-linux-gnu/libpq.so.5", "libpq.so.5.15"),
        file(
            "var/lib/dpkg/info/libpq5:amd64.list",
            "/usr/lib/x86_64-linux-gnu/libpq.so.5\n/usr/lib/x86_64-linux-gnu/libpq.so.5.15\n",
        ),
        program("usr/bin/apt-get", ""),
    ];
    let own = vec![lib("opt/pq/libpq.so.5", "libpq.so.5")];
    let wheel = vec![
        module(Made { needed: &["libq-1a2b.so.5", "libc.so.6"], rpath: "$ORIGIN/../a.libs", ..Made::default() }),
        library(
            &format!("{PACKAGES}/a.libs/libq-1a2b.so.5"),
            &Made { needed: &["libr-3c.so"], soname: "libq-1a2b.so.5", ..Made::default() },
        ),
        lib(&format!("{PACKAGES}/a.libs/libr-3c.so"), "libr-3c.so"),
    ];
    let preloaded = vec![
        module(Made { needed: &["libcuda_x.so.1"], ..Made::default() }),
        lib(&format!("{PACKAGES}/nvidia/lib/libcuda_x.so.1"), ""),
    ];
    let cases: Vec<Case> = vec![
        ("a wheel with its libraries", debian(), wheel, vec![], vec![]),
        ("a library of another package", debian(), preloaded, vec![], vec![]),
        ("known", debian(), vec![pq()], vec![], vec![missing(&format!(" + {install}"))]),
        ("owned there", debian(), vec![pq()], other.clone(), vec![missing(&format!(" + {install}"))]),
        (
            "owned by nobody",
            debian(),
            vec![pq()],
            own,
            vec![missing(" + COPY --from=builder /opt/pq/libpq.so.5 /opt/pq/libpq.so.5 + RUN ldconfig")],
        ),
        ("the other system", musl(), vec![pq()], other, vec![missing("")]),
        (
            "glibc on musl",
            musl(),
            vec![module(Made { needed: &["libc.so.6"], needs: &[("libc.so.6", &["GLIBC_2.14"])], ..Made::default() })],
            vec![],
            vec![format!(
                "warning WrongLibc: `/{PACKAGES}/a/_a.cpython-310-x86_64-linux-gnu.so` is built for glibc, but the image's C library is musl"
            )],
        ),
        (
            "musl on glibc",
            debian(),
            vec![module(Made { needed: &["libc.musl-x86_64.so.1"], ..Made::default() })],
            vec![],
            vec![format!(
                "warning WrongLibc: `/{PACKAGES}/a/_a.cpython-310-x86_64-linux-gnu.so` is built for musl, but the image's C library is glibc"
            )],
        ),
        (
            "another machine",
            debian(),
            vec![module(Made { machine: 183, ..plain.clone() })],
            vec![],
            vec![format!(
                "warning WrongMachine: `/{PACKAGES}/a/_a.cpython-310-x86_64-linux-gnu.so` is built for arm64, but the image is for amd64"
            )],
        ),
        (
            "sound on musl",
            musl(),
            vec![module(Made { needed: &["libc.musl-x86_64.so.1", "libz.so.1"], ..plain })],
            vec![],
            vec![],
        ),
    ];
    for (name, base, layer, other, want) in cases {
        assert_eq!(judged("{}", base, layer, &["usr/local/bin/python3.10"], other), want, "{name}");
    }
}

#[test]
fn what_the_application_imports_is_an_error() {
    let path = format!("{PACKAGES}/a.so");
    let layer = vec![library(&path, &Made { needed: &["libx.so.1"], exports: "PyInit_a", ..Made::default() })];
    let config = config("{}");
    let subject = subject(&config, &[debian(), layer], &[]);
    let reached = std::collections::BTreeSet::from([path.into_bytes()]);
    let findings = super::closure::check(&subject, &[], Some(&reached));
    assert_eq!(findings.len(), 1);
    assert_eq!(findings[0].level, crate::Level::Error);
}
