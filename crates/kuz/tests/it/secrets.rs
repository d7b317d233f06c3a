//! Keys and tokens that would be given away: the build fails, says where they are and never what they are.

use std::process::Command;

use crate::kit::{Place, skip};

/// A private key of this moment; none where there is no openssl.
fn key() -> Option<String> {
    let output = Command::new("openssl").args(["genpkey", "-algorithm", "ed25519"]).output().ok()?;
    output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
}

#[test]
fn a_private_key_fails_the_build_and_is_not_shown() {
    let Some(key) = key() else { return skip("no openssl") };
    let place = Place::new();
    place.dockerfile("FROM scratch\nCOPY app /app\nCOPY certs /certs\nCMD [\"/app\"]\n");
    place.write("ctx/app", "x");
    place.write("ctx/certs/server.key", &key);
    let body = key.lines().nth(1).unwrap();
    let ran = place.build(&["-t", "leaky"]);
    assert_eq!(ran.code, 3, "{ran:?}");
    assert!(ran.message().contains("key") && ran.stderr.contains("certs/server.key"), "{ran:?}");
    assert!(!ran.stderr.contains(body) && !ran.stdout.contains(body), "{ran:?}");
    assert_eq!(place.kuz(&["image", "inspect", "leaky"]).code, 3, "it was named");
    // Nothing of it goes out either.
    let archive = place.path("out.tar");
    let output = format!("type=oci,dest={}", archive.display());
    assert_eq!(place.build(&["-o", &output]).code, 3);
    assert!(!archive.exists());
    // A later step does not take it away.
    place.dockerfile("FROM scratch\nCOPY certs /certs\nCOPY app /app\nCOPY --exclude=*.key certs /certs\n");
    assert_eq!(place.build(&[]).code, 3);
    for allowed in ["certs/server.key", "/certs/*.key", "**/*.key"] {
        let ran = place.build(&["-t", "meant", "--allow-secret", allowed]);
        assert_eq!(ran.code, 0, "{allowed}: {ran:?}");
    }
    assert_eq!(place.build(&["--allow-secret", "other"]).code, 3);
    assert_eq!(place.kuz(&["verify", "meant"]).code, 1);
    assert_eq!(place.kuz(&["verify", "--allow-secret", "certs/*", "meant"]).code, 0);
    assert_eq!(place.build(&["--verify=off"]).code, 0);
}

#[test]
fn what_an_ignore_file_leaves_out_is_no_secret_of_the_image() {
    let Some(key) = key() else { return skip("no openssl") };
    let place = Place::new();
    place.dockerfile("FROM scratch\nCOPY . /app\n");
    place.write("ctx/.dockerignore", "*.key\n");
    place.write("ctx/server.key", &key);
    place.write("ctx/main.py", "print('hello')\n");
    assert_eq!(place.build(&["-t", "app"]).code, 0);
}
