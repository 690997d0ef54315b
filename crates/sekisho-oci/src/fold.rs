//! Names that another reader takes for known ones.
//!
//! Go's `encoding/json` matches a field's name without regard to case, and of two that match the
//! last one counts: a document with `layers` and `Layers` is one image to us, and another one to
//! most clients. Where we would pass a name over and Go would not, the document is refused.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// What may stand at a place of a document.
#[derive(Debug)]
pub(crate) enum Shape {
    /// A value without fields of ours: a text, or a map whose keys are free.
    Value,
    /// A value with these fields.
    Fields(&'static [(&'static str, &'static Self)]),
    /// A list of such values.
    List(&'static Self),
}

/// A field that is read in two ways.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{name}` is passed over by some readers and taken for `{known}` by others: write `{known}`, once"
)]
pub struct TwoWays {
    /// As it stands in the document.
    pub name: String,
    /// As which it is read without regard to case.
    pub known: &'static str,
}

/// The first field of the document that is read in two ways. Fields at places where `shape` has
/// none are nobody's.
pub(crate) fn in_two_ways(bytes: &[u8], shape: &Shape) -> serde_json::Result<Option<TwoWays>> {
    let mut found = None;
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    Look { shape, found: &mut found }.deserialize(&mut reader)?;
    Ok(found)
}

/// Whether Go takes `name` for `known`, which is ASCII. Source: Go's `encoding/json/fold.go`: two
/// letters beyond ASCII fold into it, the long s and the Kelvin sign.
fn folds_to(name: &str, known: &str) -> bool {
    let folded = name.chars().map(|letter| match letter {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        other => other.to_ascii_lowercase(),
    });
    folded.eq(known.chars().map(|letter| letter.to_ascii_lowercase()))
}

/// Walks through a value, and remembers the first name that is read in two ways.
struct Look<'a> {
    shape: &'a Shape,
    found: &'a mut Option<TwoWays>,
}

impl<'de> DeserializeSeed<'de> for Look<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        match self.shape {
            Shape::Value => deserializer.deserialize_ignored_any(IgnoredAny).map(drop),
            Shape::Fields(_) | Shape::List(_) => deserializer.deserialize_any(self),
        }
    }
}

/// A value of the wrong kind is passed over here: reading it into its type says what is wrong.
impl<'de> Visitor<'de> for Look<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let fields = match self.shape {
            Shape::Fields(fields) => *fields,
            Shape::Value | Shape::List(_) => &[],
        };
        while let Some(name) = map.next_key::<Cow<'de, str>>()? {
            let known = fields.iter().find(|(known, _)| folds_to(&name, known));
            match known {
                Some((known, shape)) if name == *known => {
                    map.next_value_seed(Look { shape, found: &mut *self.found })?;
                }
                other => {
                    if let Some((known, _)) = other.filter(|_| self.found.is_none()) {
                        *self.found = Some(TwoWays { name: name.into_owned(), known });
                    }
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let shape = match self.shape {
            Shape::List(shape) => shape,
            Shape::Value | Shape::Fields(_) => &Shape::Value,
        };
        while list.next_element_seed(Look { shape, found: &mut *self.found })?.is_some() {}
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

const V: &Shape = &Shape::Value;

const PLATFORM: &Shape = &Shape::Fields(&[
    ("architecture", V),
    ("os", V),
    ("os.version", V),
    ("os.features", V),
    ("variant", V),
]);

const DESCRIPTOR: &Shape = &Shape::Fields(&[
    ("mediaType", V),
    ("digest", V),
    ("size", V),
    ("urls", V),
    ("annotations", V),
    ("data", V),
    ("artifactType", V),
    ("platform", PLATFORM),
]);

const DESCRIPTORS: &Shape = &Shape::List(DESCRIPTOR);

/// A manifest or an index: a reader finds out by the fields which of them it is, so no name of
/// either may have a second spelling in the other.
pub(crate) const DOCUMENT: &Shape = &Shape::Fields(&[
    ("schemaVersion", V),
    ("mediaType", V),
    ("artifactType", V),
    ("config", DESCRIPTOR),
    ("layers", DESCRIPTORS),
    ("manifests", DESCRIPTORS),
    ("subject", DESCRIPTOR),
    ("annotations", V),
]);

const HEALTHCHECK: &Shape = &Shape::Fields(&[
    ("Test", V),
    ("Interval", V),
    ("Timeout", V),
    ("StartPeriod", V),
    ("StartInterval", V),
    ("Retries", V),
]);

const RUN_CONFIG: &Shape = &Shape::Fields(&[
    ("User", V),
    ("ExposedPorts", V),
    ("Env", V),
    ("Entrypoint", V),
    ("Cmd", V),
    ("ArgsEscaped", V),
    ("Volumes", V),
    ("WorkingDir", V),
    ("Labels", V),
    ("StopSignal", V),
    ("Healthcheck", HEALTHCHECK),
    ("OnBuild", V),
    ("Shell", V),
]);

const ROOT_FS: &Shape = &Shape::Fields(&[("type", V), ("diff_ids", V)]);

const HISTORY: &Shape = &Shape::Fields(&[
    ("created", V),
    ("created_by", V),
    ("author", V),
    ("comment", V),
    ("empty_layer", V),
]);

/// An image's config.
pub(crate) const CONFIG: &Shape = &Shape::Fields(&[
    ("created", V),
    ("author", V),
    ("architecture", V),
    ("os", V),
    ("os.version", V),
    ("os.features", V),
    ("variant", V),
    ("config", RUN_CONFIG),
    ("rootfs", ROOT_FS),
    ("history", &Shape::List(HISTORY)),
]);

#[cfg(test)]
mod tests;
