//! The table of secrets and of what only looks like one, each in a file of its own, through the scanner.
//!
//! No sample stands here as it would in a file: all are put together when the test runs, so that nobody's scanner takes
//! this file for a leak.
#![expect(clippy::unwrap_used, reason = "the functions beside the tests are tests too")]

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use kuz_verify::secrets::Scanner;

const LETTERS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const WORD: &str = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const HEX: &str = "0123456789abcdef";
const UPPER: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// Characters that look drawn, the same in each run.
fn drawn(alphabet: &str, count: usize) -> String {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64 ^ (count as u64) << 32 ^ alphabet.len() as u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize
    };
    let alphabet = alphabet.as_bytes();
    (0..count).map(|_| char::from(alphabet[next() % alphabet.len()])).collect()
}

fn der(length: usize) -> Vec<u8> {
    let bytes = drawn(WORD, length).into_bytes();
    let short = u8::try_from(length).ok().filter(|length| *length < 0x80);
    let head = match short {
        Some(length) => vec![0x30, length],
        None => vec![0x30, 0x82, u8::try_from(length >> 8).unwrap(), u8::try_from(length & 0xFF).unwrap()],
    };
    [head, bytes].concat()
}

/// A key in armour; `between` ends its lines.
fn armour(label: &str, headers: &str, bytes: &[u8], between: &str) -> String {
    let text = STANDARD.encode(bytes);
    let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    let (begin, end) = (["-----BE", "GIN "].concat(), ["-----E", "ND "].concat());
    format!("{begin}{label}-----{between}{headers}{}{between}{end}{label}-----{between}", lines.join(between))
}

fn openssh(cipher: &str) -> Vec<u8> {
    let length = u8::try_from(cipher.len()).unwrap();
    [&b"openssh-key-v1\0\0\0\0"[..], &[length], cipher.as_bytes(), drawn(WORD, 200).as_bytes()].concat()
}

fn checksummed(prefix: &str) -> String {
    let body = drawn(WORD, 30);
    let sum = body.bytes().fold(!0_u32, |sum, byte| {
        (0..8).fold(sum ^ u32::from(byte), |sum, _| if sum & 1 == 1 { (sum >> 1) ^ 0xEDB8_8320 } else { sum >> 1 })
    });
    let mut rest = !sum;
    let mut digits = Vec::new();
    for _ in 0..6 {
        digits.push(char::from(WORD.as_bytes()[(rest % 62) as usize]));
        rest /= 62;
    }
    format!("{prefix}{body}{}", digits.iter().rev().collect::<String>())
}

fn jwt(header: &str, claims: &str) -> String {
    format!("{}.{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims), drawn(WORD, 43))
}

fn rules(path: &str, text: &[u8], piece: usize) -> String {
    let mut scanner = Scanner::new();
    scanner.begin(path.as_bytes(), text.len() as u64);
    text.chunks(piece).for_each(|bytes| scanner.bytes(bytes));
    scanner.end().iter().map(|hit| hit.rule.as_str()).collect::<Vec<_>>().join(" ")
}

/// Each text alone, in pieces of two sizes, and in the middle of a long file, about where windows meet.
fn check(table: &[(&str, String, &str)]) {
    let mut wrong = Vec::new();
    for (path, text, want) in table {
        let before = "a line of text\n".repeat((1 << 20) / 15 - 4200 + text.len() % 97);
        let long = format!("{before}{text}\n{before}");
        for (how, text, piece) in [("whole", text, 4096), ("pieces", text, 7), ("long", &long, 1 << 16)] {
            let got = rules(path, text.as_bytes(), piece);
            if got != *want {
                wrong.push(format!(
                    "{path} ({how}): {got:?}, not {want:?}: {:.90}",
                    text.trim_start_matches("a line of text\n")
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn private_keys() {
    let rsa = armour("RSA PRIVATE KEY", "", &der(1190), "\n");
    let begin = ["-----BE", "GIN RSA PRIVATE KEY-----"].concat();
    let json = format!("{{\"private_key\": \"{}\"}}", armour("PRIVATE KEY", "", &der(1200), "\\n"));
    let python = format!("KEY = (\n    \"{}\")\n", armour("RSA PRIVATE KEY", "", &der(600), "\\n\"\n    \""));
    let yaml = format!("key: |\n  {}", armour("EC PRIVATE KEY", "", &der(119), "\n  "));
    let headers = "Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,0123\n\n";
    let pgp = [&[0x95][..], drawn(WORD, 700).as_bytes()].concat();
    let putty = |how: &str| {
        let head = ["PuTTY-User-", "Key-File-3: ssh-ed25519"].concat();
        format!("{head}\nEncryption: {how}\nPublic-Lines: 1\nAAAA\nPrivate-Lines: 1\nAAAA\n")
    };
    check(&[
        ("app/key.pem", rsa.clone(), "PrivateKey"),
        ("app/key.pem", rsa.replace('\n', "\r\n"), "PrivateKey"),
        ("app/main.go", rsa.clone(), "PrivateKey"),
        ("app/key.json", json, "PrivateKey"),
        ("app/key.py", python, "PrivateKey"),
        ("app/key.yaml", yaml, "PrivateKey"),
        ("app/pkcs8", armour("PRIVATE KEY", "", &der(46), "\n"), "PrivateKey"),
        ("root/.ssh/id_ed25519", armour("OPENSSH PRIVATE KEY", "", &openssh("none"), "\n"), "PrivateKey"),
        ("root/.ssh/id_rsa", armour("OPENSSH PRIVATE KEY", "", &openssh("aes256-ctr"), "\n"), "EncryptedPrivateKey"),
        ("app/key.pem", armour("ENCRYPTED PRIVATE KEY", "", &der(1300), "\n"), "EncryptedPrivateKey"),
        ("app/key.pem", armour("RSA PRIVATE KEY", headers, &der(1190), "\n"), "EncryptedPrivateKey"),
        ("app/key.asc", armour("PGP PRIVATE KEY BLOCK", "Comment: me\n\n", &pgp, "\n"), "PrivateKey"),
        ("app/key.ppk", putty("none"), "PuttyPrivateKey"),
        ("app/key.ppk", putty("aes256-cbc"), "EncryptedPrivateKey"),
        (
            "app/age.txt",
            format!("{}{}", "AGE-SECRET-", "KEY-1QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7LQPZRY9X8GF2TVDW0S3JN54KHCE"),
            "AgeSecretKey",
        ),
        // None of these is one.
        ("app/key.pem", armour("PUBLIC KEY", "", &der(290), "\n"), ""),
        ("app/cert.pem", armour("CERTIFICATE", "", &der(900), "\n"), ""),
        ("app/doc.md", format!("{begin}\n...\n{}", begin.replace("BEGIN", "END")), ""),
        ("app/doc.md", format!("{begin}\nMIIEowIBAAKCAQEA...\n{}", begin.replace("BEGIN", "END")), ""),
        ("app/doc.md", format!("{begin}\n<your key>\n{}", begin.replace("BEGIN", "END")), ""),
        ("app/code.c", format!("#define PEM \"{begin}\""), ""),
        ("app/key.pem", armour("RSA PRIVATE KEY", "", &[0; 600], "\n"), ""),
        ("app/key.pem", rsa.replacen("MII", "AII", 1), ""),
        ("app/doc.md", format!("{}EXAMPLE{}", &rsa[..200], &rsa[207..]), ""),
        ("app/pub.asc", armour("PGP PUBLIC KEY BLOCK", "", &pgp, "\n"), ""),
    ]);
}

#[test]
fn tokens() {
    let say = |token: &str| format!("url = 'x'\ncall(\"{token}\")\n");
    let open = format!("{}{}{}{}", "sk-", drawn(WORD, 20), ["T3Blbk", "FJ"].concat(), drawn(WORD, 21));
    let macaroon = [&[2, 1, 8][..], b"pypi.org", drawn(WORD, 90).as_bytes()].concat();
    let slack =
        |kind: &str| format!("{kind}b-{}-{}-{}", drawn("123456789", 12), drawn("123456789", 13), drawn(WORD, 24));
    let aws = |name: &str| format!("{name} = {}\n", drawn(WORD, 40));
    let id = |prefix: &str| format!("{prefix}{}", drawn(UPPER, 16));
    let secret = ["aws_secret_", "access_key"].concat();
    check(&[
        ("a.py", say(&checksummed("ghp_")), "GithubToken"),
        ("a.bin", format!("\0\0{}\0", checksummed("ghs_")), "GithubToken"),
        ("a.py", say(&format!("{}{}_{}", "github_pat_", drawn(WORD, 22), drawn(WORD, 59))), "GithubFineGrainedToken"),
        ("a.py", say(&format!("{}{}", "glpat-", drawn(WORD, 20))), "GitlabToken"),
        ("a.py", say(&checksummed("npm_")), "NpmToken"),
        ("a.py", say(&format!("pypi-{}", URL_SAFE_NO_PAD.encode(&macaroon))), "PypiToken"),
        ("a.py", say(&format!("{}{}", "dckr_pat_", drawn(WORD, 27))), "DockerHubToken"),
        ("a.py", say(&format!("{}{}", "hf_", drawn(LETTERS, 34))), "HuggingFaceToken"),
        ("a.py", say(&slack("xox")), "SlackToken"),
        (
            "a.py",
            say(&format!(
                "https://hooks.slack{}T{}/B{}/{}",
                ".com/services/",
                drawn(UPPER, 9),
                drawn(UPPER, 10),
                drawn(WORD, 24)
            )),
            "SlackWebhook",
        ),
        ("a.py", say(&format!("{}{}", "sk_live_", drawn(WORD, 24))), "StripeKey"),
        ("a.py", say(&format!("{}{}", "sk_test_", drawn(WORD, 24))), "StripeTestKey"),
        ("a.py", say(&open), "OpenAiKey"),
        ("a.py", say(&format!("{}api03-{}AA", "sk-ant-", drawn(WORD, 93))), "AnthropicKey"),
        ("a.py", say(&format!("SG.{}.{}", drawn(WORD, 22), drawn(WORD, 43))), "SendGridKey"),
        ("a.py", say(&format!("{}:AA{}", drawn("123456789", 10), drawn(WORD, 33))), "TelegramToken"),
        ("a.py", format!("twilio_auth_token = '{}'", drawn(HEX, 32)), "TwilioToken"),
        ("a.conf", aws(&secret), "AwsSecretKey"),
        ("root/.aws/credentials", format!("[default]\n{}", aws(&secret)), "AwsSecretKey"),
        ("a.conf", id("AKIA"), "AwsAccessKeyId"),
        ("a.json", format!("{{\"private_{}\": \"{}\"}}", "key_id", drawn(HEX, 40)), "GcpServiceAccount"),
        ("a.js", say(&format!("{}{}", "AIza", drawn(WORD, 35))), "GoogleApiKey"),
        ("a.js", say(&format!("{}{}", "GOCSPX-", drawn(WORD, 28))), "GoogleClientSecret"),
        ("a.py", say(&format!("AccountName=x;Account{}{}==", "Key=", drawn(WORD, 86))), "AzureAccountKey"),
        ("a.py", say(&format!("SharedAccess{}{}=", "Key=", drawn(WORD, 43))), "AzureSharedAccessKey"),
        ("a.py", say(&format!("{}8Q~{}", drawn(WORD, 3), drawn(WORD, 34))), "AzureClientSecret"),
        ("a.py", say(&format!("{}{}", "dop_v1_", drawn(HEX, 64))), "DigitalOceanToken"),
        ("a.py", say(&format!("{}{}", "dapi", drawn(HEX, 32))), "DatabricksToken"),
        ("a.py", say(&jwt(r#"{"alg":"HS256","typ":"JWT"}"#, r#"{"sub":"u-91","exp":1}"#)), "Jwt"),
        // None of these is one.
        ("a.py", say(&checksummed("ghp_").replace("ghp_", "ghp_0").replacen(['1', '2'], "3", 1)), ""),
        ("a.py", say(&format!("ghp_{}", "a".repeat(36))), ""),
        ("a.py", say(&format!("x{}", checksummed("ghp_"))), ""),
        ("a.py", say(&format!("npm_{}", "config_registry_and_more_words_here_12")), ""),
        ("a.conf", "AKIAIOSFODNN7EXAMPLE".to_owned(), ""),
        ("a.conf", format!("{secret} = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"), ""),
        ("a.conf", format!("{secret} = {}", drawn(HEX, 40)), "SecretAssignment"),
        ("a.conf", format!("{secret} = ${{AWS_SECRET}}"), ""),
        ("a.py", say("sk_live_xxxxxxxxxxxxxxxxxxxxxxxx"), ""),
        ("a.py", say("hf_hub_download_and_some_more_words_in_it"), ""),
        ("a.py", say(&jwt(r#"{"alg":"none"}"#, r#"{"sub":"u-91"}"#)), ""),
        ("a.py", say(&jwt(r#"{"alg":"HS256"}"#, r#"{"sub":"1234567890","name":"John Doe"}"#)), ""),
        ("a.py", say(&format!("eyJ{}.eyJ{}.{}", drawn(WORD, 20), drawn(WORD, 30), drawn(WORD, 43))), ""),
        ("a.py", say(&format!("{}:AA{}", "10", drawn(WORD, 33))), ""),
        ("a.py", say(&format!("Account{}{}", "Key=", "A".repeat(86) + "==")), ""),
    ]);
}

#[test]
fn files_by_their_names() {
    let basic = STANDARD.encode("user:pw-8");
    let word = drawn(WORD, 24);
    check(&[
        ("app/.env", "DEBUG=1\nNAME=value\n".to_owned(), "EnvFile"),
        ("app/.env.prod", format!("export DB=\"{word}\"\n"), "EnvFile"),
        ("root/.npmrc", format!("//registry.npmjs.org/:_authToken={word}\n"), "NpmConfig"),
        ("root/.pypirc", format!("[pypi]\nusername = x\npassword = {word}\n"), "PypiConfig"),
        (
            "etc/pip.conf",
            format!("[global]\nindex-url = https://me:{word}@pypi.corp/simple\n"),
            "AddressWithPassword PipConfig",
        ),
        (
            "app/.git/config",
            format!("[remote \"origin\"]\n\turl = https://x:{word}@git.corp/a.git\n"),
            "AddressWithPassword GitCredentials",
        ),
        ("app/.git/config", format!("[http]\n\textraheader = AUTHORIZATION: basic {basic}\n"), "GitCredentials"),
        ("root/.netrc", format!("machine h\n  login me\n  password {word}\n"), "Netrc"),
        ("root/.docker/config.json", format!("{{\"auths\": {{\"h\": {{\"auth\": \"{basic}\"}}}}}}"), "DockerConfig"),
        ("root/.kube/config", format!("users:\n- name: x\n  user:\n    token: {word}\n"), "Kubeconfig"),
        ("root/.aws/config", format!("[x]\naws_session_token = {word}\n"), "AwsCredentials"),
        ("app/.htpasswd", format!("me:$apr1$ab$yz{word}\n"), "PasswordHashes"),
        ("etc/shadow", format!("root:$6$ab${word}:1:0:::::\n"), "PasswordHashes"),
        ("app/terraform.tfstate", "{\"terraform_version\": \"1.9\"}".to_owned(), "TerraformState"),
        ("app/a.p12", "\u{30}\u{0}".to_owned(), ""),
        // Nothing is in these, or only what is put in later.
        ("app/.env", "# nothing\n\n".to_owned(), ""),
        ("app/.env", "TOKEN=${TOKEN}\nOTHER=\n".to_owned(), ""),
        ("app/.env.example", format!("TOKEN={word}\n"), ""),
        ("root/.npmrc", "//registry.npmjs.org/:_authToken=${NPM_TOKEN}\nregistry=https://r/\n".to_owned(), ""),
        ("etc/pip.conf", "[global]\nindex-url = https://pypi.corp/simple\n".to_owned(), ""),
        ("app/.git/config", "[remote \"origin\"]\n\turl = git@git.corp:a.git\n".to_owned(), ""),
        ("app/.git/config", "[remote \"origin\"]\n\turl = https://me@git.corp/a.git\n".to_owned(), ""),
        ("root/.docker/config.json", "{\"credsStore\": \"pass\"}".to_owned(), ""),
        ("root/.kube/config", "clusters:\n- name: x\n".to_owned(), ""),
        ("etc/shadow", "root:*:1:0:::::\ndaemon:!:1::::::\n".to_owned(), ""),
    ]);
    let store = [&[0x30, 0x82, 9, 9][..], &[7; 99]].concat();
    assert_eq!(rules("app/a.p12", &store, 8), "KeyStore");
    let key = armour("RSA PRIVATE KEY", "", &der(1190), "\n");
    assert_eq!(rules("lib/libtls.so", format!("\x7fELF\0\0{key}\0").as_bytes(), 4096), "EmbeddedPrivateKey");
    assert_eq!(rules("app/blob", format!("\0\0{key}\0").as_bytes(), 4096), "PrivateKey");
}

#[test]
fn assignments_and_addresses() {
    let word = drawn(WORD, 32);
    check(&[
        ("app/settings.py", format!("SECRET_KEY = '{word}'\n"), "SecretAssignment"),
        ("app/settings.py", format!("SECRET_KEY: str = \"{word}\"\n"), "SecretAssignment"),
        ("app/settings.py", format!("app.config[\"SECRET_KEY\"] = b\"{word}\"\n"), "SecretAssignment"),
        ("app/settings.py", format!("SECRET_KEY = 'django-{}-{word}'\n", "insecure"), "DjangoInsecureKey"),
        ("app/a.js", format!("const cfg = {{ apiKey: \"{word}\" }}\n"), "SecretAssignment"),
        ("app/a.json", format!("{{\"db_password\": \"{word}\"}}\n"), "SecretAssignment"),
        ("app/a.yaml", format!("db:\n  password: {word}\n"), "SecretAssignment"),
        ("app/a.ini", format!("api_token={word}\n"), "SecretAssignment"),
        ("app/db.py", format!("connect('postgresql://app:{word}@db.corp:5432/app')\n"), "AddressWithPassword"),
        ("app/db.py", format!("URL = 'redis://:{word}@cache.corp/0'\n"), "AddressWithPassword"),
        // None of these is one.
        ("app/settings.py", "SECRET_KEY = os.environ['SECRET_KEY_OF_THE_APP_9_7']\n".to_owned(), ""),
        ("app/settings.py", format!("if token == '{word}': pass\n"), ""),
        ("app/settings.py", "SECRET_KEY = 'change-me-in-production-2024'\n".to_owned(), ""),
        ("app/settings.py", "PASSWORD = 'correct horse battery staple 12'\n".to_owned(), ""),
        ("app/settings.py", "TOKEN_URL = 'https://auth.corp/oauth2/v1/token'\n".to_owned(), ""),
        ("app/settings.py", "api_key = 'settings.production.api_key'\n".to_owned(), ""),
        ("app/settings.py", format!("PUBLIC_API_KEY = '{word}'\n"), ""),
        ("app/settings.py", format!("token = {word}\n"), ""),
        ("app/a.sha256", format!("secret_key = '{word}'\n"), ""),
        ("app/a.min.js", format!("{{apiKey:\"{word}\"}}"), ""),
        ("app/db.py", "connect('postgresql://postgres:postgres@localhost:5432/app')\n".to_owned(), ""),
        ("app/db.py", "connect('postgresql://user:password@db.corp/app')\n".to_owned(), ""),
        ("app/db.py", "connect(f'postgresql://{user}:{password}@{host}/app')\n".to_owned(), ""),
        ("app/a.py", "see https://corp/a:b@c\n".to_owned(), ""),
    ]);
}

#[test]
fn hits_say_where_and_how_often_and_nothing_else() {
    let token = checksummed("ghp_");
    let text = format!("a\nb\nc {token}\n{token}\n");
    let mut scanner = Scanner::new();
    scanner.begin(b"/app/x.py", 0);
    scanner.bytes(text.as_bytes());
    let hits = scanner.end();
    assert_eq!((hits.len(), hits[0].line, hits[0].count, hits[0].path.as_slice()), (1, Some(3), 2, &b"app/x.py"[..]));
    assert!(hits[0].md5.is_some());
    assert!(!format!("{hits:?}").contains(&token));
    // A file longer than a window: the line is counted on, the digest is that of the whole.
    let long = "line\n".repeat(500_000) + &token;
    scanner.begin(b"app/long", 0);
    long.as_bytes().chunks(999).for_each(|piece| scanner.bytes(piece));
    let hits = scanner.end();
    assert_eq!((hits[0].line, hits[0].count, hits[0].md5), (Some(500_001), 1, None));
    let digest = kuz_image::Digest::of(long.as_bytes());
    assert_eq!(kuz_image::Digest::from_sha256(hits[0].sha256), digest);
    // Binary files have no lines; a file of nothing but tokens has a bound.
    scanner.begin(b"app/b", 0);
    scanner.bytes(&[b"\0\n\n", format!("{token} ").repeat(5000).as_bytes()].concat());
    let hits = scanner.end();
    assert_eq!((hits[0].line, hits[0].count), (None, kuz_verify::secrets::scanner::MATCHES));
    // The next file begins anew.
    scanner.begin(b"app/c", 0);
    scanner.bytes(b"nothing");
    assert_eq!(scanner.end(), []);
}

#[test]
fn a_layer_has_a_bound() {
    let token = checksummed("ghp_");
    let mut scanner = Scanner::new();
    let mut count = 0;
    let mut notices = 0;
    for _ in 0..kuz_verify::secrets::scanner::HITS + 100 {
        scanner.begin(b"app/x", 0);
        scanner.bytes(token.as_bytes());
        let hits = scanner.end();
        count += hits.len();
        notices += hits.iter().filter(|hit| hit.rule == "TooManyHits").count();
    }
    assert_eq!((count, notices), (kuz_verify::secrets::scanner::HITS + 1, 1));
}
