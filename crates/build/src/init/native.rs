//! Debian packages that Python packages need and do not bring along: a table, and which of it a project needs.
//!
//! Only what works without a doubt on the present and the previous Debian is installed; the rest is said in a note. What
//! wheels bundle is not in the table.

use super::dependencies::Dependencies;

/// One Python package.
struct Need {
    package: &'static str,
    /// A package that brings the library along; nothing is needed with it.
    unless: &'static str,
    /// What it is loaded or started from in the final image.
    run: &'static [&'static str],
    /// What building it needs that the full image does not have.
    build: &'static [&'static str],
    /// What cannot be said for all versions of Debian.
    note: &'static str,
}

const fn run(package: &'static str, run: &'static [&'static str]) -> Need {
    Need { package, unless: "", run, build: &[], note: "" }
}

const fn both(package: &'static str, run: &'static [&'static str], build: &'static [&'static str]) -> Need {
    Need { package, unless: "", run, build, note: "" }
}

const fn note(package: &'static str, note: &'static str) -> Need {
    Need { package, unless: "", run: &[], build: &[], note }
}

const fn unless(mut need: Need, other: &'static str) -> Need {
    need.unless = other;
    need
}

const PANGO: &[&str] = &["libpango-1.0-0", "libpangoft2-1.0-0", "libharfbuzz-subset0"];

const NEEDS: &[Need] = &[
    // Databases.
    run("psycopg2", &["libpq5"]),
    unless(run("psycopg", &["libpq5"]), "psycopg-binary"),
    run("psycopg-c", &["libpq5"]),
    run("mysqlclient", &["libmariadb3"]),
    run("mariadb", &["libmariadb3"]),
    both("pylibmc", &["libmemcached11"], &["libmemcached-dev"]),
    note("pyodbc", "pyodbc needs the ODBC driver of your database in the final image"),
    note("cx-oracle", "cx_Oracle needs Oracle's client library in the final image; oracledb needs none"),
    // Security.
    run("gssapi", &["libgssapi-krb5-2"]),
    run("kerberos", &["libgssapi-krb5-2"]),
    both("xmlsec", &["libxmlsec1-openssl"], &["libxmlsec1-dev", "libxmlsec1-openssl", "pkg-config"]),
    note(
        "python-ldap",
        "python-ldap needs libldap2-dev and libsasl2-dev in the builder stage and Debian's LDAP library in the final one (libldap-2.5-0 in Debian 12, libldap2 in 13)",
    ),
    // Documents and pictures.
    run("weasyprint", PANGO),
    run("cairosvg", &["libcairo2"]),
    run("cairocffi", &["libcairo2"]),
    run("pycairo", &["libcairo2"]),
    run("python-magic", &["libmagic1"]),
    run("pyzbar", &["libzbar0"]),
    run("pytesseract", &["tesseract-ocr"]),
    run("pdf2image", &["poppler-utils"]),
    run("graphviz", &["graphviz"]),
    run("pydot", &["graphviz"]),
    run("opencv-python", &["libgl1", "libglib2.0-0"]),
    run("opencv-contrib-python", &["libgl1", "libglib2.0-0"]),
    note("pdfkit", "pdfkit starts wkhtmltopdf, which Debian no longer has"),
    note(
        "gdal",
        "GDAL's Python package has to have the version of Debian's library: install python3-gdal's library in both stages",
    ),
    // Sound, video, devices, programs.
    run("pydub", &["ffmpeg"]),
    run("ffmpeg-python", &["ffmpeg"]),
    run("sounddevice", &["libportaudio2"]),
    both("pyaudio", &["libportaudio2"], &["portaudio19-dev"]),
    run("pyusb", &["libusb-1.0-0"]),
    run("gitpython", &["git"]),
    run("pyspark", &["default-jre-headless"]),
    run("tabula-py", &["default-jre-headless"]),
    note("playwright", "playwright's browsers are not installed: Microsoft's image with them is a better base"),
    note("selenium", "selenium needs a browser, best in a container of its own"),
];

/// What a project needs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Native {
    pub(super) run: Vec<&'static str>,
    pub(super) build: Vec<&'static str>,
}

/// Looks the project's packages up.
pub(super) fn needed(dependencies: &Dependencies, notes: &mut Vec<String>) -> Native {
    let mut native = Native::default();
    for need in NEEDS.iter().filter(|need| dependencies.has(need.package)) {
        let extra = need.unless.strip_prefix(need.package).and_then(|rest| rest.strip_prefix('-'));
        let bundled = dependencies.has(need.unless)
            || extra.is_some_and(|extra| dependencies.has(&format!("{}[{extra}]", need.package)));
        if bundled {
            continue;
        }
        native.run.extend(need.run);
        native.build.extend(need.build);
        if !need.note.is_empty() {
            notes.push(need.note.to_owned());
        }
    }
    for list in [&mut native.run, &mut native.build] {
        list.sort_unstable();
        list.dedup();
    }
    native
}
