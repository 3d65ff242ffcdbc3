//! Reading untyped objects: every error names the field and its value.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use serde_json::Value;

use crate::ingest::policies::decode::spelling::{self, Spelling};
use crate::ingest::policies::decode::{At, Notes};

/// How much of a value errors show.
const SHOWN: usize = 120;

/// A field of an object, perhaps not set.
#[derive(Clone, Debug)]
pub(super) struct Field<'a> {
    path: String,
    value: Option<&'a Value>,
    /// Where it is noted who looked at what.
    notes: Option<&'a Notes>,
    /// Whether errors leave out what it holds (Z-24).
    is_secret: bool,
}

impl<'a> Field<'a> {
    /// The object at `path`.
    pub(super) fn root(path: &str, at: &At<'a>) -> Self {
        let value = Some(at.value()).filter(|value| !value.is_null());
        Self { path: path.to_owned(), value, notes: at.notes(), is_secret: false }
    }

    /// The same, of which no error repeats what it and everything below holds: that may be anybody's credential (Z-24).
    pub(super) fn secret(self) -> Self {
        Self { is_secret: true, ..self }
    }

    /// A field of that name below, with this value.
    fn below(&self, path: String, value: Option<&'a Value>) -> Self {
        self.notes.zip(value).inspect(|(notes, value)| notes.saw(value));
        Self { path, value, notes: self.notes, is_secret: self.is_secret }
    }

    /// Notes that this has no effect, or not the one that it was written for.
    pub(super) fn tell(&self, why: &str) {
        self.notes.inspect(|notes| notes.tell(format!("{}: {why}", self.path)));
    }

    /// The field `name` of this object.
    pub(super) fn get(&self, name: &str) -> Result<Self, String> {
        let value = match self.value {
            None => None,
            Some(Value::Object(fields)) => fields.get(name).filter(|value| !value.is_null()),
            Some(_) => return Err(self.bad("is no object")),
        };
        Ok(self.below(format!("{}.{name}", self.path), value))
    }

    /// Whether it is set.
    pub(super) fn is_set(&self) -> bool {
        self.value.is_some()
    }

    /// The field itself, when it is set.
    pub(super) fn set(self) -> Option<Self> {
        self.is_set().then_some(self)
    }

    /// What is wrong with it.
    pub(super) fn bad(&self, why: &str) -> String {
        let mut shown = match self.value {
            None => "not set".to_owned(),
            Some(_) if self.is_secret => "a value".to_owned(),
            Some(value) => value.to_string(),
        };
        if let Some((at, _)) = shown.char_indices().nth(SHOWN) {
            shown.truncate(at);
            shown.push('…');
        }
        format!("{}: {shown}: {why}", self.path)
    }

    /// A text; empty when it is not set.
    pub(super) fn text(&self) -> Result<&'a str, String> {
        match self.value {
            None => Ok(""),
            Some(Value::String(text)) => Ok(text),
            Some(_) => Err(self.bad("is no text")),
        }
    }

    /// A text of this sort; empty when it is not set.
    pub(super) fn spelled(&self, like: Spelling) -> Result<&'a str, String> {
        let text = self.text()?;
        let fits = !self.is_set() || like.takes(text);
        fits.then_some(text).ok_or_else(|| self.bad(&format!("is not {}", like.allowed)))
    }

    /// Yes or no.
    pub(super) fn flag(&self) -> Result<Option<bool>, String> {
        match self.value {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(_) => Err(self.bad("is neither true nor false")),
        }
    }

    /// A whole number in a range.
    pub(super) fn number(&self, from: u32, to: u32) -> Result<Option<u32>, String> {
        let Some(value) = self.value else {
            return Ok(None);
        };
        let number = value.as_u64().and_then(|number| u32::try_from(number).ok());
        let number = number.filter(|number| (from..=to).contains(number));
        number.map(Some).ok_or_else(|| self.bad(&format!("is no whole number from {from} to {to}")))
    }

    /// A port.
    pub(super) fn port(&self) -> Result<Option<u16>, String> {
        let port = self.number(1, u16::MAX.into())?;
        Ok(port.and_then(|port| u16::try_from(port).ok()))
    }

    /// Any number.
    pub(super) fn float(&self) -> Result<Option<f64>, String> {
        let Some(value) = self.value else {
            return Ok(None);
        };
        value.as_f64().map(Some).ok_or_else(|| self.bad("is no number"))
    }

    /// The elements of a list.
    pub(super) fn list(&self) -> Result<Vec<Self>, String> {
        match self.value {
            None => Ok(Vec::new()),
            Some(Value::Array(values)) => Ok(values
                .iter()
                .enumerate()
                .map(|(at, value)| self.below(format!("{}[{at}]", self.path), Some(value)))
                .collect()),
            Some(_) => Err(self.bad("is no list")),
        }
    }

    /// The fields of a map, by name.
    pub(super) fn map(&self) -> Result<Vec<(&'a str, Self)>, String> {
        let Some(value) = self.value else {
            return Ok(Vec::new());
        };
        let fields = value.as_object().ok_or_else(|| self.bad("is no map"))?;
        let mut all: Vec<_> = fields
            .iter()
            .map(|(name, value)| (name.as_str(), self.below(format!("{}[{name}]", self.path), Some(value))))
            .collect();
        all.sort_by_key(|(name, _)| *name);
        Ok(all)
    }

    /// A duration such as `1.5s` or `1m30s`.
    pub(super) fn duration(&self) -> Result<Option<Duration>, String> {
        if !self.is_set() {
            return Ok(None);
        }
        let parsed = spelling::duration(self.text()?);
        parsed
            .map(Some)
            .ok_or_else(|| self.bad("is no duration such as 1.5s or 1m30s, or longer than 83333h"))
    }

    /// A duration of at least a millisecond.
    pub(super) fn positive(&self) -> Result<Option<Duration>, String> {
        match self.duration()? {
            Some(time) if time < Duration::from_millis(1) => Err(self.bad("is less than 1ms")),
            time => Ok(time),
        }
    }

    /// An address or a block of addresses.
    pub(super) fn block(&self) -> Result<IpNet, String> {
        let text = self.text()?;
        let block = text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
        block.ok_or_else(|| self.bad("is no address or block of addresses"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn errors_name_field_and_value() {
        let spec = json!({"a": [{"port": 70000}], "b": 1});
        let root = Field::root("spec", &At::root("", &spec));
        let port = root.get("a").expect("a").list().expect("list")[0].get("port").expect("port");
        assert_eq!(port.port(), Err("spec.a[0].port: 70000: is no whole number from 1 to 65535".to_owned()));
        assert_eq!(root.get("b").expect("b").text(), Err("spec.b: 1: is no text".to_owned()));
        assert!(root.get("b").expect("b").get("c").is_err());
        assert_eq!(root.get("none").expect("none").text(), Ok(""));
        let secret = root.get("b").expect("b").secret();
        assert_eq!(secret.text(), Err("spec.b: a value: is no text".to_owned()), "Z-24");
    }
}
