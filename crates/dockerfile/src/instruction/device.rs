//! The value of `RUN --device=`: a device's name and whether the step can do without.
//!
//! Text to [`Device`]. Doesn't ask whether there is such a device.

use thiserror::Error;

use crate::split::csv_fields;
use crate::suggest;

/// What a step asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Device {
    /// A CDI name, a class or a vendor.
    pub name: String,
    /// The step fails without it.
    pub required: bool,
}

/// Why the text is no device. The texts are BuildKit's.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[expect(missing_docs, reason = "the fields are the parts of the messages")]
pub enum DeviceError {
    /// Quotes that don't fit.
    #[error("failed to parse csv devices: {0}")]
    Csv(&'static str),
    /// A second name.
    #[error("device name already set to {0}")]
    TwoNames(String),
    /// A word that is no option.
    #[error("invalid field '{0}' must be a key=value pair")]
    NoPair(String),
    /// `required=` something.
    #[error("invalid value for {key}: {value}")]
    Value { key: String, value: String },
    /// An option that there isn't.
    #[error("unexpected key '{key}' in '{field}'{suggestion}")]
    UnknownKey { key: String, field: String, suggestion: String },
}

/// Reads the value.
pub fn parse(value: &str) -> Result<Device, DeviceError> {
    let mut device = Device::default();
    for field in csv_fields(value).map_err(DeviceError::Csv)? {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key.to_lowercase(), Some(value)),
            None => (field.to_lowercase(), None),
        };
        match (key.as_str(), value) {
            ("required", None) => device.required = true,
            ("required", Some(value)) => {
                device.required = boolean(value).ok_or_else(|| DeviceError::Value { key, value: value.to_owned() })?;
            }
            ("name", Some(_)) if !device.name.is_empty() => return Err(DeviceError::TwoNames(device.name)),
            ("name", Some(value)) => value.clone_into(&mut device.name),
            _ if device.name.is_empty() => device.name = field,
            (_, None) => return Err(DeviceError::NoPair(field)),
            _ => {
                let near = suggest::nearest(&key, ["name", "required"]);
                let suggestion = near.map_or_else(String::new, |near| format!(" (did you mean {near}?)"));
                return Err(DeviceError::UnknownKey { key, field, suggestion });
            }
        }
    }
    Ok(device)
}

/// A truth value as Go's `strconv.ParseBool` reads it.
pub fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices() {
        for (value, name, required) in
            [("v/d=a", "v/d=a", false), ("v/d,required", "v/d", true), ("name=v/d,required=0", "v/d", false)]
        {
            assert_eq!(parse(value), Ok(Device { name: name.to_owned(), required }), "{value}");
        }
        for (value, message) in [
            ("a,name=b", "device name already set to a"),
            ("a,b", "invalid field 'b' must be a key=value pair"),
            ("a,requird=1", "unexpected key 'requird' in 'requird=1' (did you mean required?)"),
            ("a,required=maybe", "invalid value for required: maybe"),
        ] {
            assert_eq!(parse(value).map_err(|error| error.to_string()), Err(message.to_owned()), "{value}");
        }
    }
}
