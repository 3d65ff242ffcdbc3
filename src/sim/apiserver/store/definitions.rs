//! The kinds of CustomResourceDefinitions come and go with them.

use std::sync::Arc;

use serde_json::Value;

use super::super::definition::Definition;
use super::super::effect::Effect;
use super::super::error::ApiError;
use super::super::kinds::{self, Kind};
use super::core::{Core, Shelf};

impl Core {
    /// Checks a definition that is being written and completes its status; nothing for other kinds.
    pub(super) fn define(
        &self,
        kind: &Kind,
        current: Option<&Value>,
        object: &mut Value,
    ) -> Result<Option<Definition>, ApiError> {
        if !kind.is(&kinds::CUSTOM_RESOURCE_DEFINITIONS) {
            return Ok(None);
        }
        Definition::settle(object, current, &self.kinds).map(Some)
    }

    /// Serves the kinds of `definition` from now on.
    pub(super) fn serve(&mut self, definition: Definition) {
        let Some(versions) = definition.versions else { return };
        if let Some(kind) = versions.first() {
            let fresh = Shelf::new(kind, self.history, self.version);
            match self.shelves.iter_mut().find(|shelf| shelf.is_of(kind)) {
                None => self.shelves.push(fresh),
                Some(shelf) if shelf.collection.is_retired() => *shelf = fresh,
                Some(_) => {}
            }
        }
        self.kinds = Arc::new(self.kinds.with(&definition.group, &definition.plural, versions));
    }

    /// Deletes every object of the definition `name`, whatever holds them, ends their watches, and serves the kind
    /// no longer.
    pub(super) fn forget(&mut self, name: &str) {
        if kinds::KINDS.iter().any(|built_in| built_in.resource() == name) {
            return;
        }
        // The shelf, not the table, knows a kind of which no version is served any more.
        let Some(kind) = self.shelves.iter().find_map(|shelf| shelf.kind_named(name)) else { return };
        for key in self.keys(&kind, None) {
            if let Some(last) = self.collection(&kind).get(&key).map(|object| object.value()) {
                self.remove_as(&kind, &key, last, Effect::Stored);
            }
        }
        let version = self.version;
        self.collection_mut(&kind).retire(version);
        self.kinds = Arc::new(self.kinds.with(&kind.group, &kind.plural, Vec::new()));
    }
}
