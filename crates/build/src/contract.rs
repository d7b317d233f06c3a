//! The specification's contract: what goes in and what comes out, as Rust types, TypeScript and JSON Schema.
//!
//! The Rust types are the source; `types/kuz.d.ts` and `types/kuz.schema.json` are generated from their schemas and a
//! test fails when they differ. Exactly the specification's fields (section 3), no others. Prints nothing.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// What a build is asked for (section 3.1).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct InputData {
    /// The Dockerfile, relative to the working directory.
    pub dockerfile_path: String,
    /// The directory that COPY and ADD read from; the working directory if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build_context: Option<String>,
    /// Values for ARG.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build_args: Option<BTreeMap<String, String>>,
    /// The image's name, as typed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
}

/// What a build answers, on success and on failure alike (section 3.2).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OutputResult {
    /// The digest of the image's configuration, `sha256:…`; empty when there is no image.
    pub image_id: String,
    /// The first tag, as typed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// Bytes: the sum of the layers' uncompressed tars.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Whether the image was made.
    pub success: bool,
    /// One line: what went wrong, or what to know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// The JSON Schema of both types, as a document with `$defs`.
pub fn json_schema() -> Value {
    let mut generator = schemars::SchemaGenerator::default();
    generator.subschema_for::<InputData>();
    generator.subschema_for::<OutputResult>();
    let mut document = Map::new();
    document.insert("$schema".into(), "https://json-schema.org/draft/2020-12/schema".into());
    document.insert("title".into(), "kuz".into());
    document.insert("$defs".into(), Value::Object(generator.take_definitions(true)));
    Value::Object(document)
}

/// The same types as TypeScript interfaces, made from the schema.
pub fn typescript() -> String {
    let schema = json_schema();
    let mut text =
        String::from("// Generated from the Rust types InputData and OutputResult; a test keeps them equal.\n");
    let definitions = schema.get("$defs").and_then(Value::as_object).cloned().unwrap_or_default();
    for (name, definition) in &definitions {
        let required: Vec<&str> = definition
            .get("required")
            .and_then(Value::as_array)
            .map(|names| names.iter().filter_map(Value::as_str).collect())
            .unwrap_or_default();
        let _ = write!(text, "\n{}export interface {name} {{\n", comment(definition, ""));
        for (field, property) in definition.get("properties").and_then(Value::as_object).into_iter().flatten() {
            let mark = if required.contains(&field.as_str()) { "" } else { "?" };
            let _ = writeln!(text, "{}  {field}{mark}: {};", comment(property, "  "), type_of(property));
        }
        text.push_str("}\n");
    }
    text
}

fn comment(schema: &Value, indent: &str) -> String {
    schema
        .get("description")
        .and_then(Value::as_str)
        .map_or_else(String::new, |words| format!("{indent}/** {} */\n", words.replace('\n', " ")))
}

fn type_of(schema: &Value) -> String {
    let kinds: Vec<&str> = match schema.get("type") {
        Some(Value::String(kind)) => vec![kind],
        Some(Value::Array(kinds)) => kinds.iter().filter_map(Value::as_str).filter(|kind| *kind != "null").collect(),
        _ => vec![],
    };
    match kinds.first() {
        Some(&"string") => "string".into(),
        Some(&("integer" | "number")) => "number".into(),
        Some(&"boolean") => "boolean".into(),
        Some(&"object") => match schema.get("additionalProperties") {
            Some(values) if values.is_object() => format!("Record<string, {}>", type_of(values)),
            _ => "object".into(),
        },
        _ => "unknown".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `KUZ_BLESS=1` writes the files anew.
    fn same(path: &str, made: &str) {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../types").join(path);
        if std::env::var_os("KUZ_BLESS").is_some() {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, made).unwrap();
        }
        let kept = std::fs::read_to_string(&path).unwrap();
        assert_eq!(kept, made, "{} differs from the Rust types: run the tests once with KUZ_BLESS=1", path.display());
    }

    #[test]
    fn the_published_types_are_the_rust_types() {
        same("kuz.d.ts", &typescript());
        same("kuz.schema.json", &(serde_json::to_string_pretty(&json_schema()).unwrap() + "\n"));
    }

    #[test]
    fn a_result_has_the_five_fields_and_no_more() {
        let full = OutputResult {
            image_id: "sha256:00".into(),
            tag: Some("app".into()),
            size: Some(1),
            success: true,
            message: Some("m".into()),
        };
        let value = serde_json::to_value(&full).unwrap();
        let names: Vec<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(names, ["imageId", "tag", "size", "success", "message"]);
        let failed = serde_json::to_string(&OutputResult::default()).unwrap();
        assert_eq!(failed, r#"{"imageId":"","success":false}"#);
        assert!(serde_json::from_str::<OutputResult>(r#"{"imageId":"","success":true,"extra":1}"#).is_err());
    }
}
