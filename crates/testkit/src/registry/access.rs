//! Who may do what: open, basic, or bearer tokens with scopes from the registry's own `/token`.

use std::collections::BTreeSet;

use super::state::State;

/// How a registry checks its callers.
#[derive(Debug, Clone)]
pub enum Access {
    /// It doesn't.
    Open,
    /// One name and password, sent with every request.
    Basic {
        /// The name.
        user: String,
        /// The password.
        password: String,
    },
    /// Tokens.
    Bearer(Bearer),
}

/// How a token registry behaves.
#[derive(Debug, Clone)]
pub struct Bearer {
    /// The account that may do everything.
    pub user: String,
    /// Its password.
    pub password: String,
    /// A refresh token that stands for the account.
    pub refresh_token: Option<String>,
    /// Whether callers without an account may pull.
    pub anonymous_pull: bool,
    /// The realm, where it isn't this registry's own `/token`.
    pub realm: Option<String>,
    /// `expires_in` of the tokens.
    pub expires_in: Option<u64>,
    /// Requests that a token is good for.
    pub uses: usize,
    /// `token` or `access_token`.
    pub field: String,
}

impl Default for Bearer {
    fn default() -> Self {
        Self {
            user: "ada".to_owned(),
            password: "hunter2".to_owned(),
            refresh_token: None,
            anonymous_pull: true,
            realm: None,
            expires_in: Some(300),
            uses: usize::MAX,
            field: "token".to_owned(),
        }
    }
}

/// The `Basic` header for a name and a password.
pub(super) fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", base64(format!("{user}:{password}").as_bytes()))
}

impl State {
    /// `Ok` if the request may pass, else the challenge.
    pub(super) fn admit(&mut self, authorization: Option<&str>, scope: &str) -> Result<(), String> {
        match &self.access {
            Access::Open => Ok(()),
            Access::Basic { user, password } => {
                let good = authorization == Some(basic(user, password).as_str());
                if good { Ok(()) } else { Err("Basic realm=\"test registry\"".to_owned()) }
            }
            Access::Bearer(bearer) => {
                let realm = bearer.realm.clone().unwrap_or_else(|| format!("{}/token", self.base));
                let challenge = format!("Bearer realm=\"{realm}\",service=\"test registry\",scope=\"{scope}\"");
                let Some(token) = authorization.and_then(|header| header.strip_prefix("Bearer ")) else {
                    return Err(challenge);
                };
                let Some((scopes, uses)) = self.tokens.get_mut(token) else {
                    return Err(format!("{challenge},error=\"invalid_token\""));
                };
                if *uses == 0 || !covers(scopes, scope) {
                    return Err(format!("{challenge},error=\"insufficient_scope\""));
                }
                *uses -= 1;
                Ok(())
            }
        }
    }

    /// The challenge that `admit` would give.
    pub(super) fn challenge(&self, scope: &str) -> String {
        match &self.access {
            Access::Open | Access::Basic { .. } => "Basic realm=\"test registry\"".to_owned(),
            Access::Bearer(bearer) => {
                let realm = bearer.realm.clone().unwrap_or_else(|| format!("{}/token", self.base));
                format!("Bearer realm=\"{realm}\",service=\"test registry\",scope=\"{scope}\"")
            }
        }
    }

    /// Issues a token: the response's status and JSON body.
    pub(super) fn issue(&mut self, authorization: Option<&str>, form: &[(String, String)]) -> (u16, String) {
        let Access::Bearer(bearer) = self.access.clone() else {
            return (404, "{}".to_owned());
        };
        let value = |name: &str| form.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        let account = authorization == Some(basic(&bearer.user, &bearer.password).as_str())
            || (value("grant_type") == Some("password")
                && value("username") == Some(&bearer.user)
                && value("password") == Some(&bearer.password))
            || (bearer.refresh_token.is_some() && value("refresh_token") == bearer.refresh_token.as_deref());
        if !account && (authorization.is_some() || value("grant_type").is_some()) {
            return (401, r#"{"errors":[{"code":"UNAUTHORIZED","message":"incorrect username or password"}]}"#.into());
        }
        let mut scopes = BTreeSet::new();
        let asked = form.iter().filter(|(key, _)| key == "scope").flat_map(|(_, value)| value.split(' '));
        for scope in asked.filter(|scope| !scope.is_empty()) {
            let (resource, actions) = scope.rsplit_once(':').unwrap_or((scope, ""));
            for action in actions.split(',') {
                if account || (bearer.anonymous_pull && action == "pull") {
                    scopes.insert(format!("{resource}:{action}"));
                }
            }
        }
        let token = format!("token-{}", self.next());
        self.tokens.insert(token.clone(), (scopes, bearer.uses));
        let mut answer = serde_json::Map::new();
        answer.insert(bearer.field, token.into());
        if let Some(seconds) = bearer.expires_in {
            answer.insert("expires_in".to_owned(), seconds.into());
        }
        (200, serde_json::Value::Object(answer).to_string())
    }
}

/// Whether every action of `wanted` (`repository:a/b:pull,push`) was granted. An empty wish asks for any token.
fn covers(granted: &BTreeSet<String>, wanted: &str) -> bool {
    let Some((resource, actions)) = wanted.rsplit_once(':') else { return true };
    actions.split(',').all(|action| granted.contains(&format!("{resource}:{action}")))
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let word = group.iter().fold(0_u32, |word, byte| (word << 8) | u32::from(*byte)) << (8 * (3 - group.len()));
        for position in 0..4 {
            let index = (word >> (18 - 6 * position)) & 63;
            text.push(if position <= group.len() { ALPHABET[index as usize] as char } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_pads() {
        for (plain, coded) in [("", ""), ("a", "YQ=="), ("ab", "YWI="), ("abc", "YWJj"), ("abcd", "YWJjZA==")] {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
    }
}
