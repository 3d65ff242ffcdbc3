//! What is said of single clusters.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::model::ClusterId;

/// Options of one cluster by key (D35), as text: whoever reads clusters knows the keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct ClusterSettings(BTreeMap<String, Text>);

impl ClusterSettings {
    /// Keys and values; the entries of a list are joined by commas.
    pub fn texts(&self) -> BTreeMap<String, String> {
        self.0.iter().map(|(key, value)| (key.clone(), value.to_text())).collect()
    }
}

/// A value as YAML may spell it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
enum Text {
    Flag(bool),
    Number(i64),
    One(String),
    Several(Vec<String>),
}

impl Text {
    fn to_text(&self) -> String {
        match self {
            Self::Flag(flag) => flag.to_string(),
            Self::Number(number) => number.to_string(),
            Self::One(text) => text.clone(),
            Self::Several(texts) => texts.join(","),
        }
    }
}

/// Reads `alias=id,…` (R1.8): at most one alias for each cluster.
pub(super) fn aliases(text: Option<&str>) -> Result<BTreeMap<ClusterId, ClusterId>, String> {
    let mut aliases: BTreeMap<ClusterId, ClusterId> = BTreeMap::new();
    for entry in text.unwrap_or_default().split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
        let (alias, id) = match entry.split_once('=').map(|(alias, id)| (alias.trim(), id.trim())) {
            Some((alias, id)) if !alias.is_empty() && !id.is_empty() => (alias, id),
            _ => return Err(format!("--cluster-aliases: `{entry}` is not alias=id")),
        };
        if aliases.values().any(|other| **other == *id) {
            return Err(format!("--cluster-aliases: cluster {id} has two aliases; give one"));
        }
        if aliases.insert(alias.into(), id.into()).is_some() {
            return Err(format!("--cluster-aliases: {alias} stands for two clusters"));
        }
    }
    Ok(aliases)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r1_8_aliases_name_each_cluster_once() {
        let read = aliases(Some("a=east, b=west,")).expect("valid");
        assert_eq!(read.get("a"), Some(&"east".into()));
        assert_eq!(read.len(), 2);
        assert_eq!(aliases(None), Ok(BTreeMap::new()));
        for (text, words) in [("a", "not alias=id"), ("a=x,b=x", "two aliases"), ("a=x,a=y", "two clusters")]
        {
            let error = aliases(Some(text)).expect_err(text);
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn values_may_be_flags_numbers_and_lists() {
        let settings: ClusterSettings =
            serde_saphyr::from_str("start: required\nserve-without-pods: true\ntrusted-networks: [n1, n2]\n")
                .expect("valid");
        let texts = settings.texts();
        let texts: Vec<_> = texts.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        assert_eq!(
            texts,
            [("serve-without-pods", "true"), ("start", "required"), ("trusted-networks", "n1,n2")]
        );
    }
}
