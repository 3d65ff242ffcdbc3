//! What the reader of an object notices besides what it makes of it: fields that nobody looked at, and parts that
//! cannot have the effect that they were written for.

use std::cell::RefCell;
use std::collections::HashSet;

use serde_json::Value;

use super::At;

/// How many fields that nobody knows are told one by one.
const MAX_UNKNOWN: usize = 20;

/// Notes about one document. The values are known by where they are, hence only while the document is.
#[derive(Debug, Default)]
pub(in crate::ingest) struct Notes {
    seen: RefCell<HashSet<*const Value>>,
    /// Values that somebody reads by other means, and tells what of them is not known.
    elsewhere: RefCell<HashSet<*const Value>>,
    told: RefCell<Vec<String>>,
}

impl Notes {
    /// Somebody looked at this value.
    pub(in crate::ingest) fn saw(&self, value: &Value) {
        self.seen.borrow_mut().insert(value);
    }

    /// Whether somebody looked at this value.
    pub(in crate::ingest) fn has_seen(&self, value: &Value) -> bool {
        self.seen.borrow().contains(&std::ptr::from_ref(value))
    }

    /// Somebody reads this value, and everything below it, by other means.
    pub(in crate::ingest) fn leave(&self, value: &Value) {
        self.elsewhere.borrow_mut().insert(value);
    }

    /// Something of the document has no effect, or not the one that it was written for.
    pub(in crate::ingest) fn tell(&self, what: String) {
        self.told.borrow_mut().push(what);
    }

    /// Everything there is to tell of a document that was read: fields that nobody looked at last.
    pub(in crate::ingest) fn problems(&self, document: &At<'_>) -> Vec<String> {
        let mut unknown = Vec::new();
        self.unknown(document, &mut unknown);
        let more = unknown.len().saturating_sub(MAX_UNKNOWN);
        unknown.truncate(MAX_UNKNOWN);
        let mut problems = self.told.take();
        problems.extend(unknown);
        problems.extend((more > 0).then(|| format!("{more} more fields are not known here")));
        problems
    }

    fn unknown(&self, at: &At<'_>, unknown: &mut Vec<String>) {
        if self.elsewhere.borrow().contains(&std::ptr::from_ref(at.value())) {
            return;
        }
        at.each(|child, is_named| {
            if is_named && !self.has_seen(child.value()) {
                unknown.push(format!("{child}: not known here: it has no effect"));
            } else {
                self.unknown(child, unknown);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_that_nobody_looked_at_are_told() {
        let document = json!({"a": {"b": 1, "odd": {"c": 1}}, "list": [{"b": 1}, {"odd": 2, "b": 1}],
            "labels": {"x": "y"}, "none": null, "raw": {"odd": 1}, "unread": []});
        let notes = Notes::default();
        let at = At::noted("", &document, &notes);
        let b = |one: &At<'_>| one.read("b", At::count);
        at.read("a", b).unwrap();
        at.list("list", b).unwrap();
        at.read("labels", |labels| labels.entries(|_, value| value.text().map(str::len))).unwrap();
        at.field("raw").unwrap().elsewhere();
        at.tell("first");
        let problems = notes.problems(&at);
        let fields: Vec<_> = problems.iter().map(|one| one.split(": ").next().unwrap()).collect();
        assert_eq!(fields, ["first", "a.odd", "list[1].odd", "unread"], "{problems:?}");
        let many: Value =
            (0..30).map(|n| (n.to_string(), json!(1))).collect::<serde_json::Map<_, _>>().into();
        let notes = Notes::default();
        let problems = notes.problems(&At::noted("", &many, &notes));
        assert_eq!((problems.len(), problems[20].starts_with("10 more")), (21, true));
    }
}
