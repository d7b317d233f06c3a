//! `--build-context` and `--annotation`: words of the command line to values.
//!
//! What is known and cannot be honoured is an error that says so. Opens nothing.

use std::collections::BTreeMap;

use kuz_build::request::ContextSource;

/// `NAME=VALUE`, by name; of several with the same name the last counts, as in buildx.
pub(crate) fn contexts(words: &[String]) -> Result<BTreeMap<String, ContextSource>, String> {
    let mut contexts = BTreeMap::new();
    for word in words {
        let shape =
            || "`--build-context` wants NAME=VALUE, such as src=../src or base=docker-image://alpine".to_owned();
        let (name, value) = word.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or_else(shape)?;
        let source =
            ContextSource::parse(value).map_err(|why| format!("`--build-context {name}=…`: its value {why}"))?;
        contexts.insert(name.to_owned(), source);
    }
    Ok(contexts)
}

/// `[manifest:]KEY=VALUE`
pub(crate) fn annotations(words: &[String]) -> Result<BTreeMap<String, String>, String> {
    let mut annotations = BTreeMap::new();
    for word in words {
        let (key, value) = word.split_once('=').ok_or_else(|| format!("`--annotation {word}` is no KEY=VALUE"))?;
        let (kinds, key) = key.split_once(':').map_or(("manifest", key), |(kinds, key)| (kinds, key));
        for kind in kinds.split(',') {
            match kind {
                "manifest" => {}
                "index" | "manifest-descriptor" | "index-descriptor" => {
                    return Err(format!(
                        "`--annotation {word}`: an image for one platform has no index to annotate (leave out `{kind}:`)"
                    ));
                }
                kind if kind.starts_with("manifest[") => {
                    return Err(format!("`--annotation {word}`: annotations of one platform are not supported"));
                }
                other => return Err(format!("`--annotation {word}`: no type `{other}` (want manifest)")),
            }
        }
        if key.is_empty() {
            return Err(format!("`--annotation {word}` has no key (want KEY=VALUE)"));
        }
        annotations.insert(key.to_owned(), value.to_owned());
    }
    Ok(annotations)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(words: &[&str]) -> Vec<String> {
        words.iter().map(|&word| word.to_owned()).collect()
    }

    #[test]
    fn annotations_are_of_the_manifest() {
        let got = annotations(&list(&["a.b=c=d", "manifest:e=", "a.b=x"])).unwrap();
        assert_eq!(got, BTreeMap::from([("a.b".into(), "x".into()), ("e".into(), String::new())]));
        for bad in ["a", "=b", "index:a=b", "manifest[linux/amd64]:a=b", "manifest,index:a=b", "x:a=b", "manifest:=b"] {
            assert!(annotations(&list(&[bad])).is_err(), "{bad}");
        }
    }

    #[test]
    fn contexts_have_names() {
        let got = contexts(&list(&["a=x", "a=docker-image://b=c"])).unwrap();
        assert_eq!(got, BTreeMap::from([("a".into(), ContextSource::Image("b=c".into()))]));
        for bad in ["dir", "=dir", "a=", "a=file:///etc"] {
            assert!(contexts(&list(&[bad])).is_err(), "{bad}");
        }
    }
}
