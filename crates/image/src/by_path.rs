//! Maps by path in compact records: `#[serde(with = "kuz_image::by_path")]`.
//!
//! The bytes are those that serde's own form of such a map has in postcard. But a path is copied at once and not as a
//! sequence of numbers, and a sorted list becomes a map without a search for each of its entries: an index of a base
//! image is read in a third of the time. For formats that lend their bytes only; JSON does not.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A record's own count is not trusted with more memory than this many entries take.
const ROOM: usize = 1 << 12;

/// Writes a map.
pub fn serialize<S, V>(map: &BTreeMap<Vec<u8>, V>, serializer: S) -> Result<S::Ok, S::Error>
where
    S: Serializer,
    V: Serialize,
{
    serializer.collect_map(map.iter().map(|(path, value)| (Bytes(path), value)))
}

/// Reads a map.
pub fn deserialize<'de, D, V>(deserializer: D) -> Result<BTreeMap<Vec<u8>, V>, D::Error>
where
    D: Deserializer<'de>,
    V: Deserialize<'de>,
{
    deserializer.deserialize_map(Sorted(PhantomData))
}

/// The same for maps to bytes.
pub mod bytes {
    use super::{BTreeMap, Bytes, Deserializer, Serializer};

    /// Writes a map.
    pub fn serialize<S: Serializer>(map: &BTreeMap<Vec<u8>, Vec<u8>>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(map.iter().map(|(path, value)| (Bytes(path), Bytes(value))))
    }

    /// Reads a map.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, D::Error> {
        let borrowed: BTreeMap<Vec<u8>, &[u8]> = super::deserialize(deserializer)?;
        Ok(borrowed.into_iter().map(|(path, value)| (path, value.to_vec())).collect())
    }
}

struct Bytes<'b>(&'b [u8]);

impl Serialize for Bytes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

struct Sorted<V>(PhantomData<V>);

impl<'de, V: Deserialize<'de>> Visitor<'de> for Sorted<V> {
    type Value = BTreeMap<Vec<u8>, V>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map by path")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
        let mut entries = Vec::with_capacity(access.size_hint().unwrap_or_default().min(ROOM));
        while let Some((path, value)) = access.next_entry::<&'de [u8], V>()? {
            entries.push((path.to_vec(), value));
        }
        Ok(entries.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Fast {
        #[serde(with = "super")]
        sizes: BTreeMap<Vec<u8>, u64>,
        #[serde(with = "super::bytes")]
        texts: BTreeMap<Vec<u8>, Vec<u8>>,
    }

    #[derive(Serialize)]
    struct Plain {
        sizes: BTreeMap<Vec<u8>, u64>,
        texts: BTreeMap<Vec<u8>, Vec<u8>>,
    }

    #[test]
    fn the_form_is_the_plain_one() {
        let sizes: BTreeMap<Vec<u8>, u64> =
            (0..300_u64).map(|number| (format!("dir/{number}").into_bytes(), number * 1000)).collect();
        let texts: BTreeMap<_, _> = [(b"a".to_vec(), vec![0, 255, 7]), (Vec::new(), Vec::new())].into();
        let plain = postcard::to_stdvec(&Plain { sizes: sizes.clone(), texts: texts.clone() }).unwrap();
        let fast = Fast { sizes, texts };
        assert_eq!(postcard::to_stdvec(&fast).unwrap(), plain);
        assert_eq!(postcard::from_bytes::<Fast>(&plain).unwrap(), fast);
    }

    #[test]
    fn cut_and_lying_records_are_refused() {
        let map = Fast { sizes: [(b"path".to_vec(), 5)].into(), texts: BTreeMap::new() };
        let bytes = postcard::to_stdvec(&map).unwrap();
        for end in 0..bytes.len() {
            assert!(postcard::from_bytes::<Fast>(&bytes[..end]).is_err(), "{end}");
        }
        // A count of 2^63 entries.
        assert!(postcard::from_bytes::<Fast>(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]).is_err());
    }
}
