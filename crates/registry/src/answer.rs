//! Statuses and error bodies to causes.

use std::time::Duration;

use reqwest::Response;
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use serde_json::Value;

use crate::error::{Cause, printable};
use crate::retry::retry_after;
use crate::secret::Secret;
use crate::transport::read_small;

/// Error bodies are a few lines; what is longer isn't shown anyway.
const ERROR_BYTES: usize = 64 << 10;

/// For whom and for what a request was made: goes into messages.
pub(crate) struct Whom<'a> {
    pub(crate) key: &'a str,
    pub(crate) scope: &'a str,
    pub(crate) identity: &'a str,
    /// Never shown, even if the server echoes them.
    pub(crate) secrets: &'a [Secret],
}

pub(crate) fn json_type() -> HeaderValue {
    HeaderValue::from_static("application/json")
}

/// The cause that an unwelcome response stands for. `foreign`: it came from where a redirect led.
pub(crate) async fn failure(response: Response, foreign: bool, stall: Duration, whom: &Whom<'_>) -> Cause {
    let status = response.status().as_u16();
    let retry_after = retry_after(response.headers());
    let elsewhere = response.url().host_str().unwrap_or_default().to_owned();
    let html = is_html(&response);
    let bytes = read_small(response, ERROR_BYTES, "error", stall).await.unwrap_or_default();
    let mut detail = if html { "a page for people".to_owned() } else { message(&bytes) };
    for secret in whom.secrets {
        detail = secret.scrub(&detail);
    }
    if !detail.is_empty() {
        detail.insert_str(0, ": ");
    }
    if foreign {
        detail = format!(" by {elsewhere}, where the registry redirected to{detail}");
        return Cause::Status { status, detail, retry_after };
    }
    let (scope, identity) = (whom.scope.to_owned(), whom.identity.to_owned());
    match status {
        404 => Cause::NotFound { status, detail },
        401 => {
            let hint = if identity.starts_with("without") {
                format!("it doesn't exist, or needs `kuz login {}`", whom.key)
            } else {
                format!("check the credentials with `kuz login {}`", whom.key)
            };
            Cause::Unauthorized { status, detail, scope, identity, hint }
        }
        403 => Cause::Denied { detail, scope, identity },
        _ => Cause::Status { status, detail, retry_after },
    }
}

/// Whether a response is a web page: a sign-in form, a proxy's excuse.
pub(crate) fn is_html(response: &Response) -> bool {
    let kind = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    kind.trim_start().to_ascii_lowercase().starts_with("text/html")
}

/// What a registry says in its error body, in one line.
fn message(bytes: &[u8]) -> String {
    let Ok(value) = serde_json::from_slice::<Value>(bytes) else {
        return printable(&String::from_utf8_lossy(bytes), 200);
    };
    let text = |value: &Value, field: &str| value.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    let errors = value.get("errors").and_then(Value::as_array);
    let parts: Vec<String> = errors
        .into_iter()
        .flatten()
        .take(3)
        .map(|error| [text(error, "code"), text(error, "message")].join(": "))
        .map(|line| line.trim_matches([':', ' ']).to_owned())
        .filter(|line| !line.is_empty())
        .collect();
    let plain = || ["details", "message", "error_description", "error"].map(|field| text(&value, field));
    let line =
        if parts.is_empty() { plain().into_iter().find(|line| !line.is_empty()) } else { Some(parts.join("; ")) };
    printable(&line.unwrap_or_default(), 300)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_bodies_become_one_line() {
        for (body, want) in [
            (r#"{"errors":[{"code":"DENIED","message":"no"},{"code":"X"}]}"#, "DENIED: no; X"),
            (r#"{"details":"incorrect username or password"}"#, "incorrect username or password"),
            (r#"{"errors":[]}"#, ""),
            ("bad\u{1b}gateway\n", "bad\\u{1b}gateway"),
            ("", ""),
        ] {
            assert_eq!(message(body.as_bytes()), want);
        }
    }
}
