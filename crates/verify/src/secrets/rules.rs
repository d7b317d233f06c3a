//! The table of rules: what is looked for in files, how bad it is, and how a match is told from a sample.
//!
//! Data and types only; [`super::scanner`] applies them. A rule either has keywords, of which one must stand in the text
//! before anything else is tried, or the names of the files that it is about. Errors are private keys and tokens whose
//! form says that they open something; what may be harmless is a warning; what everybody knows is a note.

use super::{pem, tokens};
use crate::finding::Level;

/// One kind of secret.
#[derive(Debug)]
pub struct Rule {
    /// A stable name in camel case.
    pub name: &'static str,
    /// How bad it is in what a build added to its base.
    pub level: Level,
    /// What it is, with its article.
    pub what: &'static str,
    pub(super) trigger: Trigger,
    /// Linear-time, on bytes. Group 1, or the whole match where there is none, is the secret part.
    pub(super) regex: &'static str,
    /// Tenths of a bit a character that the secret part has at least.
    pub(super) entropy: u8,
    pub(super) check: fn(&Found<'_>) -> Verdict,
    /// Whether the expression is worth a try on text that begins with a keyword: true wherever it can match.
    pub(super) gate: fn(&[u8]) -> bool,
}

/// Where a rule is tried.
#[derive(Debug)]
pub(super) enum Trigger {
    /// In every file, at these words.
    Tokens(&'static [&'static str], Reach),
    /// The same in text files only: the form says too little to be looked for in random bytes.
    Words(&'static [&'static str], Reach),
    /// In files with these names, whole; see [`super::paths`].
    Files(&'static [&'static str]),
    /// Never by itself: another rule's check, or the reading of assignments, says so.
    Said,
}

/// How far around its keyword a match may lie, in bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reach {
    pub(super) before: usize,
    pub(super) after: usize,
    /// The keyword may be the end of a longer word.
    pub(super) part: bool,
}

/// A match as a check sees it.
#[derive(Debug)]
pub(super) struct Found<'b> {
    pub(super) secret: &'b [u8],
    pub(super) whole: &'b [u8],
    /// From the match's beginning on.
    pub(super) rest: &'b [u8],
}

/// What a check says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    No,
    Yes,
    /// It is what another rule names.
    As(&'static str),
}

/// The most that a keyword rule but PEM's looks at before its keyword.
pub(super) const BEFORE: usize = 128;
/// From the keyword on: the longest tokens are signed ones.
const AFTER: usize = 4096;
const HEAD: Reach = Reach { before: 0, after: 320, part: false };
const LONG: Reach = Reach { before: 0, after: AFTER, part: false };
const KEY: Reach = Reach { before: 0, after: pem::KEY_TEXT + 128, part: false };
const INNER: Reach = Reach { before: BEFORE, after: 320, part: true };

impl Reach {
    const fn inside(mut self) -> Self {
        self.part = true;
        self
    }
}

const fn error(name: &'static str, what: &'static str, trigger: Trigger, regex: &'static str) -> Rule {
    Rule { name, level: Level::Error, what, trigger, regex, entropy: 30, check: tokens::plain, gate: |_| true }
}

const fn warning(name: &'static str, what: &'static str, trigger: Trigger, regex: &'static str) -> Rule {
    Rule { name, level: Level::Warning, what, trigger, regex, entropy: 0, check: tokens::plain, gate: |_| true }
}

const fn said(name: &'static str, level: Level, what: &'static str) -> Rule {
    Rule { name, level, what, trigger: Trigger::Said, regex: "", entropy: 0, check: tokens::plain, gate: |_| true }
}

impl Rule {
    const fn entropy(mut self, tenths: u8) -> Self {
        self.entropy = tenths;
        self
    }

    const fn check(mut self, check: fn(&Found<'_>) -> Verdict) -> Self {
        self.check = check;
        self
    }

    const fn gate(mut self, gate: fn(&[u8]) -> bool) -> Self {
        self.gate = gate;
        self
    }
}

/// `secret` in prose is no secret key's name, and compiling an expression takes longer than reading a file.
fn of_a_key(text: &[u8]) -> bool {
    let rest = text.get("secret".len()..).unwrap_or_default();
    let rest = rest.strip_prefix(b"_").unwrap_or(rest);
    let begins = |word: &[u8]| rest.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word));
    begins(b"key") || begins(b"access")
}

use Trigger::{Files, Tokens, Words};

/// All of them. Keywords of [`Trigger::Tokens`] have three bytes at least and are few: the search for them is what a scan
/// costs.
pub static RULES: &[Rule] = &[
    // Private keys.
    error("PrivateKey", "a private key", Tokens(&["-----BEGIN "], KEY), r"\A-----BEGIN ((?:[A-Z0-9]+ ){0,3})PRIVATE KEY(?: BLOCK)?-----").entropy(0).check(pem::pem),
    error("PuttyPrivateKey", "a private key of PuTTY", Tokens(&["PuTTY-User-Key-File-"], KEY), r"\APuTTY-User-Key-File-[0-9]: ?").entropy(0).check(pem::putty),
    error("AgeSecretKey", "a secret key of age", Tokens(&["AGE-SECRET-KEY-1"], HEAD), r"\AAGE-SECRET-KEY-1[QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L]{58}\b"),
    said("EncryptedPrivateKey", Level::Warning, "a private key under a passphrase"),
    // Libraries of TLS have keys in them that they test themselves with.
    said("EmbeddedPrivateKey", Level::Warning, "a private key within a program"),
    // Clouds.
    error("AwsSecretKey", "a secret access key of AWS", Words(&["secret", "SECRET", "Secret"], HEAD.inside()), r#"\A(?i:secret_?(?:access_?)?key)["'\]]{0,2}[ \t]{0,8}(?:=>|:=|=|:)[ \t]{0,8}["']?([A-Za-z0-9/+]{40})(?:[^A-Za-z0-9/+=_-]|\z)"#).entropy(43).check(aws).gate(of_a_key),
    warning("AwsAccessKeyId", "an access key id of AWS", Tokens(&["AKIA", "ASIA"], HEAD), r"\A(A[KS]IA[A-Z2-7]{16})(?:[^A-Za-z0-9]|\z)").entropy(30),
    error("GcpServiceAccount", "a key of a Google Cloud service account", Tokens(&["\"private_key_id\""], HEAD), r#"\A"private_key_id"\s{0,8}:\s{0,8}"([0-9a-f]{40})""#).entropy(25),
    warning("GoogleApiKey", "a Google API key", Tokens(&["AIza"], HEAD), r"\A(AIza[A-Za-z0-9_-]{35})(?:[^A-Za-z0-9_-]|\z)").entropy(35),
    warning("GoogleClientSecret", "a secret of a Google OAuth client", Tokens(&["GOCSPX-"], HEAD), r"\A(GOCSPX-[A-Za-z0-9_-]{28})(?:[^A-Za-z0-9_-]|\z)").entropy(35),
    error("AzureAccountKey", "an account key of Azure", Tokens(&["AccountKey="], HEAD), r"\AAccountKey=([A-Za-z0-9+/]{86}==)").entropy(45),
    error("AzureSharedAccessKey", "a shared access key of Azure", Tokens(&["SharedAccessKey="], HEAD), r"\ASharedAccessKey=([A-Za-z0-9+/]{43}=)").entropy(40),
    error("AzureClientSecret", "a client secret of Microsoft Entra", Tokens(&["7Q~", "8Q~"], INNER), r"(?:[^A-Za-z0-9~_.-]|\A)([A-Za-z0-9~_.]{3}[78]Q~[A-Za-z0-9~_.-]{31,34})(?:[^A-Za-z0-9~_.-]|\z)").entropy(40),
    error("DigitalOceanToken", "a token of DigitalOcean", Tokens(&["dop_v1_", "doo_v1_", "dor_v1_"], HEAD), r"\A(do[opr]_v1_[a-f0-9]{64})\b"),
    error("DatabricksToken", "a token of Databricks", Words(&["dapi"], HEAD), r"\A(dapi[a-f0-9]{32}(?:-[0-9])?)\b"),
    error("VaultToken", "a token of HashiCorp Vault", Tokens(&["hvs."], HEAD), r"\A(hvs\.[A-Za-z0-9_-]{90,300})\b").entropy(40),
    // Code and packages.
    error("GithubToken", "a GitHub token", Tokens(&["ghp_", "gho_", "ghu_", "ghs_", "ghr_"], HEAD), r"\A(gh[pousr]_[A-Za-z0-9]{36})(?:[^A-Za-z0-9]|\z)").check(tokens::checksummed),
    error("GithubFineGrainedToken", "a GitHub token", Tokens(&["github_pat_"], HEAD), r"\A(github_pat_[A-Za-z0-9]{22}_[A-Za-z0-9]{59})\b").entropy(40),
    error("GitlabToken", "a GitLab token", Tokens(&["glpat-", "gldt-", "glrt-"], HEAD), r"\A(gl(?:pat|dt|rt)-[A-Za-z0-9_-]{20,300}(?:\.[0-9a-z]{2}\.[0-9a-z]{9})?)\b").entropy(35),
    error("NpmToken", "an npm token", Tokens(&["npm_"], HEAD), r"\A(npm_[A-Za-z0-9]{36})(?:[^A-Za-z0-9]|\z)").check(tokens::checksummed),
    error("PypiToken", "an upload token of PyPI", Tokens(&["pypi-AgE"], HEAD), r"\A(pypi-AgE[A-Za-z0-9_-]{60,300})").entropy(40).check(tokens::macaroon),
    error("DockerHubToken", "a token of Docker Hub", Tokens(&["dckr_pat_", "dckr_oat_"], HEAD), r"\A(dckr_[po]at_[A-Za-z0-9_-]{27,40})(?:[^A-Za-z0-9_-]|\z)").entropy(35),
    error("HuggingFaceToken", "a token of Hugging Face", Tokens(&["hf_"], HEAD), r"\A(hf_[A-Za-z]{34})(?:[^A-Za-z0-9_]|\z)").entropy(37),
    // Services.
    error("SlackToken", "a Slack token", Tokens(&["xoxb-", "xoxp-", "xapp-"], HEAD), r"\A(xox[bp]-[0-9]{9,14}-[0-9]{9,14}-[A-Za-z0-9-]{20,120}|xapp-[0-9]-[A-Z0-9]{8,14}-[0-9]{9,14}-[a-f0-9]{64})(?:[^A-Za-z0-9-]|\z)").entropy(32),
    error("SlackWebhook", "an incoming webhook of Slack", Tokens(&["hooks.slack.com/"], HEAD), r"\Ahooks\.slack\.com/(?:services|workflows)/(T[A-Z0-9]{8,12}/[AB][A-Z0-9]{8,12}/[A-Za-z0-9]{20,30})(?:[^A-Za-z0-9]|\z)").entropy(37),
    error("StripeKey", "a live key of Stripe", Tokens(&["sk_live_", "rk_live_"], HEAD), r"\A([sr]k_live_[A-Za-z0-9]{24,110})(?:[^A-Za-z0-9]|\z)").entropy(35),
    warning("StripeTestKey", "a test key of Stripe", Tokens(&["sk_test_", "rk_test_"], HEAD), r"\A([sr]k_test_[A-Za-z0-9]{24,110})(?:[^A-Za-z0-9]|\z)").entropy(35),
    error("OpenAiKey", "a key of OpenAI", Tokens(&["T3BlbkFJ"], INNER), r"(?:[^A-Za-z0-9_-]|\A)(sk-(?:(?:proj|svcacct|admin)-)?[A-Za-z0-9_-]{20,100}T3BlbkFJ[A-Za-z0-9_-]{20,100})(?:[^A-Za-z0-9_-]|\z)").entropy(40),
    error("AnthropicKey", "a key of Anthropic", Tokens(&["sk-ant-"], HEAD), r"\A(sk-ant-(?:api|admin|oat|ort)[0-9]{2}-[A-Za-z0-9_-]{80,120})(?:[^A-Za-z0-9_-]|\z)").entropy(40),
    error("SendGridKey", "a key of SendGrid", Tokens(&["SG."], HEAD), r"\A(SG\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43})(?:[^A-Za-z0-9_-]|\z)").entropy(42),
    error("TelegramToken", "a token of a Telegram bot", Tokens(&[":AA"], INNER), r"(?:[^A-Za-z0-9]|\A)([0-9]{8,10}:AA[A-Za-z0-9_-]{33})(?:[^A-Za-z0-9_-]|\z)").entropy(40),
    error("ShopifyToken", "a token of Shopify", Tokens(&["shpat_"], HEAD), r"\A(shpat_[a-fA-F0-9]{32})\b"),
    error("GrafanaToken", "a token of Grafana", Tokens(&["glsa_"], HEAD), r"\A(glsa_[A-Za-z0-9]{32}_[a-f0-9]{8})\b").entropy(35),
    warning("TwilioToken", "a token of Twilio", Words(&["twilio", "TWILIO", "Twilio"], HEAD.inside()), r#"\A(?i:twilio)[A-Za-z_.-]{0,24}(?i:token|secret)[A-Za-z_]{0,12}["'\]]{0,2}[ \t]{0,8}(?:=>|:=|=|:)[ \t]{0,8}["']?([0-9a-f]{32})(?:[^A-Za-z0-9]|\z)"#).entropy(30),
    warning("Jwt", "a signed token (JWT)", Words(&["eyJ"], LONG), r"\A(eyJ[A-Za-z0-9_-]{10,1500}\.eyJ[A-Za-z0-9_-]{10,3000}\.[A-Za-z0-9_-]{20,1000})").entropy(40).check(tokens::jwt),
    // Addresses and programs' settings.
    warning("AddressWithPassword", "a password in an address", Words(&["://"], HEAD), r#"\A://[^\s:/@"'`<>{}\[\]\\|]{0,64}:([^\s/@"'`<>\\]{3,128})@"#).check(tokens::address),
    said("DjangoInsecureKey", Level::Note, "Django's development key"),
    said("SecretAssignment", Level::Warning, "what looks like a password or a key"),
    said("TooManyHits", Level::Warning, "more that looks like secrets than is kept of a layer"),
    said("KnownSample", Level::Note, "a key that stands in public manuals"),
    // Files.
    warning("EnvFile", "a file of environment variables", Files(&[".env", ".env.*", "*.env", ".envrc"]), r#"(?m)^[ \t]*(?:export[ \t]+)?[A-Za-z_][A-Za-z0-9_.]*[ \t]*=[ \t]*["']?([^\s"'#][^\r\n]*)"#).check(tokens::any),
    warning("NpmConfig", "npm's credentials", Files(&[".npmrc", "npmrc", ".yarnrc.yml"]), r#"(?m)^[^\r\n#;]*_?(?:authToken|auth|password|AuthToken|AuthIdent)\s*[=:]\s*["']?([^\s"']{4,})"#).check(tokens::any),
    warning("PypiConfig", "credentials for a package index", Files(&[".pypirc"]), r"(?m)^[ \t]*password[ \t]*[=:][ \t]*(\S{3,})").check(tokens::any),
    warning("PipConfig", "credentials in pip's configuration", Files(&["pip.conf", "pip.ini", "uv.toml", "poetry/auth.toml"]), r#"(?m)(?:://([^\s/@:]{16,}|[^\s/@:]*:[^\s/@]{3,})@|^[ \t]*password[ \t]*=[ \t]*["']?[^\s"']{3,})"#).check(tokens::any),
    warning("GitCredentials", "git's credentials", Files(&[".git/config", ".gitconfig", ".git-credentials", "etc/gitconfig"]), r"(?mi)(?:://[^\s/@:]*:([^\s/@]{3,})@|://([^\s/@:]{20,})@|extraheader[ \t]*=[ \t]*authorization:[ \t]*\S+[ \t]+\S{8,})").check(tokens::any),
    warning("Netrc", "passwords for hosts", Files(&[".netrc", "_netrc", "apt/auth.conf", "auth.conf.d/*.conf"]), r"(?m)(?:^|\s)password\s+(\S{3,})").check(tokens::any),
    warning("DockerConfig", "credentials for registries", Files(&[".docker/config.json", ".dockercfg", ".dockerconfigjson", "containers/auth.json", "kaniko/.docker/config.json"]), r#""(?:auth|identitytoken|registrytoken|password)"\s*:\s*"([^"]{4,})""#).check(tokens::basic),
    warning("Kubeconfig", "credentials for a Kubernetes cluster", Files(&[".kube/config", "kubeconfig", "*.kubeconfig", "kubeconfig.yaml", "kubeconfig.yml", "rancher/k3s/k3s.yaml"]), r#"(?m)^[ \t-]*"?(?:token|client-key-data|password)"?[ \t]*:[ \t]*["']?([^\s"',]{8,})"#).check(tokens::any),
    warning("AwsCredentials", "AWS's credentials", Files(&[".aws/credentials", ".aws/config"]), r"(?mi)^[ \t]*aws_(?:secret_access_key|session_token)[ \t]*=[ \t]*(\S{8,})").check(tokens::any),
    warning("GcloudCredentials", "Google Cloud's credentials", Files(&["application_default_credentials.json", "gcloud/credentials.db", "gcloud/access_tokens.db"]), r#"(?:"refresh_token"\s*:\s*"([^"]{8,})|\ASQLite format 3)"#).check(tokens::any),
    warning("AzureCredentials", "Azure's tokens", Files(&[".azure/accessTokens.json", ".azure/msal_token_cache.json", ".azure/service_principal_entries.json"]), r#""(?:secret|refreshToken|client_secret|password)"\s*:\s*"([^"]{8,})"#).check(tokens::any),
    warning("SshIdentity", "a key of SSH", Files(&["id_rsa", "id_dsa", "id_ecdsa", "id_ed25519", "id_ecdsa_sk", "id_ed25519_sk"]), r"PRIVATE KEY-----\s+\S{16,}").check(tokens::any),
    warning("PasswordHashes", "hashes of passwords", Files(&[".htpasswd", "htpasswd", "*.htpasswd", "etc/shadow", "etc/shadow-"]), r"(?m)^[^:\s#]{1,64}:(\$(?:apr1|1|2[abxy]?|5|6|7|y|gy)\$\S{16,}|\{S?SHA\}\S{16,})").check(there),
    warning("TerraformState", "Terraform's state, which holds secrets in the open", Files(&["*.tfstate", "*.tfstate.backup"]), r#""(terraform_version|lineage)"\s*:"#).check(tokens::any),
    warning("KeyStore", "a key store", Files(&["*.p12", "*.pfx", "*.jks", "*.keystore", "*.kdbx"]), r"\A(?:\x30[\x80-\x84]|\xFE\xED\xFE\xED|\xCE\xCE\xCE\xCE|\x03\xD9\xA2\x9A)").check(there),
];

/// The file is what its name says.
fn there(_: &Found<'_>) -> Verdict {
    Verdict::Yes
}

/// Forty characters under such a name: with digits and letters of both cases, else it is a digest or a path.
fn aws(found: &Found<'_>) -> Verdict {
    let has = |kind: fn(&u8) -> bool| found.secret.iter().any(kind);
    let mixed = has(u8::is_ascii_digit) && has(u8::is_ascii_lowercase) && has(u8::is_ascii_uppercase);
    if mixed { tokens::plain(found) } else { Verdict::No }
}

/// The rule of a name.
pub fn rule(name: &str) -> Option<&'static Rule> {
    RULES.iter().find(|rule| rule.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_consistent() {
        for (number, rule) in RULES.iter().enumerate() {
            assert!(RULES.iter().skip(number + 1).all(|other| other.name != rule.name), "{} stands twice", rule.name);
            match &rule.trigger {
                Trigger::Tokens(keywords, reach) | Trigger::Words(keywords, reach) => {
                    assert!(keywords.iter().all(|keyword| keyword.len() >= 3), "{}", rule.name);
                    // Without something before the keyword the match begins there, and nothing else is tried.
                    assert_eq!(reach.before == 0, rule.regex.starts_with(r"\A"), "{}", rule.name);
                    assert!(reach.before <= BEFORE);
                }
                Trigger::Files(names) => {
                    assert!(!names.is_empty());
                    let stars = |name: &str| name.split('/').all(|part| part.matches('*').count() <= 1);
                    assert!(names.iter().all(|name| stars(name)), "{}", rule.name);
                }
                Trigger::Said => assert_eq!(rule.regex, ""),
            }
        }
        let errors = RULES.iter().filter(|rule| rule.level == Level::Error).count();
        assert!(errors > 20, "{errors}");
    }
}
