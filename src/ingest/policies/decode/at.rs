//! A value and where it stands in its document: every error names the field, what was there and what is allowed.

use std::fmt;
use std::time::Duration;

use serde_json::Value;

use super::notes::Notes;
use super::spelling::{self, Spelling};

/// How much of a value an error repeats.
const SHOWN: usize = 60;

/// A value of a document. `null` counts as missing.
#[derive(Clone, Copy)]
pub(in crate::ingest) struct At<'a> {
    parent: Option<&'a At<'a>>,
    step: Step<'a>,
    value: &'a Value,
    /// Where it is noted who looked at what.
    notes: Option<&'a Notes>,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Root(&'a str),
    Field(&'a str),
    Item(usize),
}

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let below_named =
            self.parent.inspect(|parent| _ = parent.fmt(f)).is_some_and(|parent| !parent.is_nameless());
        match self.step {
            Step::Root(name) => f.write_str(name),
            Step::Field(name) if below_named => write!(f, ".{name}"),
            Step::Field(name) => f.write_str(name),
            Step::Item(index) => write!(f, "[{index}]"),
        }
    }
}

impl<'a> At<'a> {
    /// A whole document; `name` precedes its fields in errors, may be empty.
    pub(in crate::ingest) fn root(name: &'a str, value: &'a Value) -> Self {
        Self { parent: None, step: Step::Root(name), value, notes: None }
    }

    /// The same, noting what is looked at.
    pub(in crate::ingest) fn noted(name: &'a str, value: &'a Value, notes: &'a Notes) -> Self {
        Self { notes: Some(notes), ..Self::root(name, value) }
    }

    /// The notes, if any are taken.
    pub(in crate::ingest) fn notes(&self) -> Option<&'a Notes> {
        self.notes
    }

    /// The value itself, for somebody who tells what of it is not known.
    pub(in crate::ingest) fn elsewhere(&self) -> &'a Value {
        self.notes.inspect(|notes| notes.leave(self.value));
        self.value
    }

    /// Notes that this has no effect, or not the one that it was written for.
    pub(in crate::ingest) fn tell(&self, why: impl fmt::Display) {
        let Some(notes) = self.notes else { return };
        notes.tell(if self.is_nameless() { why.to_string() } else { format!("{self}: {why}") });
    }

    /// A value below this one.
    fn below<'s>(&'s self, step: Step<'s>, value: &'s Value) -> At<'s> {
        At { parent: Some(self), step, value, notes: self.notes }
    }

    /// Calls `what` with everything directly below that is not `null`, and whether it has a name.
    pub(super) fn each(&self, mut what: impl FnMut(&At<'_>, bool)) {
        match self.value {
            Value::Object(fields) => fields
                .iter()
                .filter(|(_, value)| !value.is_null())
                .for_each(|(name, value)| what(&self.below(Step::Field(name), value), true)),
            Value::Array(items) => items
                .iter()
                .enumerate()
                .for_each(|(index, value)| what(&self.below(Step::Item(index), value), false)),
            _ => {}
        }
    }

    /// The value itself.
    pub(in crate::ingest) fn value(&self) -> &'a Value {
        self.value
    }

    fn is_nameless(&self) -> bool {
        matches!(self.step, Step::Root(""))
    }

    /// The value is wrong: `allowed` says what would be right.
    pub(in crate::ingest) fn wrong<T>(&self, allowed: impl fmt::Display) -> Result<T, String> {
        let mut shown = self.value.to_string();
        if let Some((end, _)) = shown.char_indices().nth(SHOWN) {
            shown.truncate(end);
            shown.push('…');
        }
        Err(format!("{self}: {shown} is not allowed: {allowed}"))
    }

    /// A field; `None` when it is missing or `null`. A value that has no fields has none.
    pub(in crate::ingest) fn field<'s>(&'s self, name: &'s str) -> Option<At<'s>> {
        let value = self.value.get(name).filter(|value| !value.is_null())?;
        self.notes.inspect(|notes| notes.saw(value));
        Some(self.below(Step::Field(name), value))
    }

    /// What `read` makes of a field, if that is there.
    pub(in crate::ingest) fn read<'s, T>(
        &'s self,
        name: &'s str,
        read: impl FnOnce(&At<'s>) -> Result<T, String>,
    ) -> Result<Option<T>, String> {
        self.field(name).map(|field| read(&field)).transpose()
    }

    /// What `read` makes of each item of the list in a field; none if that is missing.
    pub(in crate::ingest) fn list<T>(
        &self,
        name: &str,
        read: impl Fn(&At<'_>) -> Result<T, String>,
    ) -> Result<Vec<T>, String> {
        let Some(field) = self.field(name) else {
            return Ok(Vec::new());
        };
        field.items(read)
    }

    /// What `read` makes of each item of this list.
    pub(in crate::ingest) fn items<T>(
        &self,
        read: impl Fn(&At<'_>) -> Result<T, String>,
    ) -> Result<Vec<T>, String> {
        let Value::Array(items) = self.value else {
            return self.wrong("a list belongs there");
        };
        let at = |(index, value)| self.below(Step::Item(index), value);
        items.iter().enumerate().map(|item| read(&at(item))).collect()
    }

    /// What `read` makes of each entry of this object, by key.
    pub(in crate::ingest) fn entries<T>(
        &self,
        read: impl Fn(&str, &At<'_>) -> Result<T, String>,
    ) -> Result<Vec<T>, String> {
        let Value::Object(entries) = self.value else {
            return self.wrong("an object belongs there");
        };
        let entry = |(name, value): (&String, &Value)| {
            self.notes.inspect(|notes| notes.saw(value));
            read(name, &self.below(Step::Field(name), value))
        };
        entries.iter().map(entry).collect()
    }

    /// That this is an object.
    pub(in crate::ingest) fn object(&self) -> Result<(), String> {
        if self.value.is_object() { Ok(()) } else { self.wrong("an object belongs there") }
    }

    /// A text, possibly empty.
    pub(in crate::ingest) fn text(&self) -> Result<&'a str, String> {
        match self.value {
            Value::String(text) => Ok(text),
            _ => self.wrong("a text belongs there"),
        }
    }

    /// A text of at least one character.
    pub(in crate::ingest) fn filled(&self) -> Result<&'a str, String> {
        match self.text()? {
            "" => self.wrong("it must not be empty"),
            text => Ok(text),
        }
    }

    /// A text of this sort.
    pub(in crate::ingest) fn spelled(&self, like: Spelling) -> Result<&'a str, String> {
        let text = self.text()?;
        if like.takes(text) { Ok(text) } else { self.wrong(like.allowed) }
    }

    /// `true` or `false`.
    pub(in crate::ingest) fn boolean(&self) -> Result<bool, String> {
        match self.value {
            Value::Bool(value) => Ok(*value),
            _ => self.wrong("true or false"),
        }
    }

    /// A whole number of `least..=most`; also as a text, as large numbers are written.
    pub(in crate::ingest) fn number(&self, least: u64, most: u64) -> Result<u64, String> {
        let number = match self.value {
            Value::Number(number) => number.as_u64().or_else(|| whole(number.as_f64()?)),
            Value::String(text) => text.parse().ok(),
            _ => None,
        };
        match number {
            Some(number) if (least..=most).contains(&number) => Ok(number),
            _ if most == u64::MAX => self.wrong(format_args!("a whole number, {least} or more")),
            _ => self.wrong(format_args!("a whole number from {least} to {most}")),
        }
    }

    /// A number of 0 or more that fits 32 bits with their sign.
    pub(in crate::ingest) fn count(&self) -> Result<u32, String> {
        self.number(0, i32::MAX as u64).map(|number| number as u32)
    }

    /// A percentage.
    pub(in crate::ingest) fn percent(&self) -> Result<u32, String> {
        self.number(0, 100).map(|number| number as u32)
    }

    /// A port number.
    pub(in crate::ingest) fn port(&self) -> Result<u16, String> {
        self.number(1, u64::from(u16::MAX)).map(|number| number as u16)
    }

    /// A duration, not negative: `10s`, `1m30s`, `0.5s`, `100ms`.
    pub(in crate::ingest) fn duration(&self) -> Result<Duration, String> {
        let parsed = self.value.as_str().and_then(spelling::duration);
        parsed.map_or_else(|| self.wrong("a duration like 10s, 1m30s, 0.5s or 100ms, at most 83333h"), Ok)
    }

    /// A duration of at least a millisecond.
    pub(in crate::ingest) fn some_time(&self) -> Result<Duration, String> {
        let duration = self.duration()?;
        if duration < Duration::from_millis(1) { self.wrong("at least 1ms") } else { Ok(duration) }
    }

    /// One of some names.
    pub(in crate::ingest) fn one_of<T: Clone>(&self, names: &[(&str, T)]) -> Result<T, String> {
        let found = self.value.as_str().and_then(|text| names.iter().find(|(name, _)| *name == text));
        match found {
            Some((_, value)) => Ok(value.clone()),
            None => {
                let names: Vec<_> = names.iter().map(|(name, _)| *name).collect();
                self.wrong(format_args!("one of {}", names.join(", ")))
            }
        }
    }

    /// That at most one of these fields is there; which one.
    pub(in crate::ingest) fn at_most_one<'n>(&self, names: &[&'n str]) -> Result<Option<&'n str>, String> {
        let there: Vec<_> = names.iter().copied().filter(|name| self.field(name).is_some()).collect();
        match there.as_slice() {
            [] => Ok(None),
            [one] => Ok(Some(one)),
            several => Err(format!("{self}: {} are not allowed together", several.join(" and "))),
        }
    }
}

/// A whole number that was written with a fraction or an exponent.
fn whole(number: f64) -> Option<u64> {
    (number.fract() == 0.0 && (0.0..=9e15).contains(&number)).then_some(number as u64)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn errors_name_the_place_what_was_there_and_what_is_allowed() {
        let document =
            json!({"a": {"b": [{"port": 70000}]}, "long": "x".repeat(100), "none": null, "f": 8.0});
        let root = At::root("", &document);
        let port = |item: &At<'_>| item.read("port", At::port);
        let told = root.field("a").unwrap().list("b", port).unwrap_err();
        assert_eq!(told, "a.b[0].port: 70000 is not allowed: a whole number from 1 to 65535");
        assert!(root.field("long").unwrap().boolean().unwrap_err().len() < 200);
        assert!(root.field("none").is_none());
        assert_eq!(root.field("f").unwrap().count(), Ok(8));
        let named = At::root("spec", &document);
        assert!(named.at_most_one(&["a", "f"]).unwrap_err().starts_with("spec: a and f are"));
        assert!(named.field("f").unwrap().text().unwrap_err().starts_with("spec.f: 8.0"));
    }
}
