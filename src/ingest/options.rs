//! What may be said per cluster (D35): annotations of its Secret, and entries under `clusters:` of the file of
//! settings, which win.
//!
//! Both spell the same keys: `stale-after` in the file is annotation `tombolo.dev/stale-after`. A value that
//! cannot be used is told and its default stays; it never delays or refuses a cluster. A restriction of what is
//! read is different: if it cannot be used, nothing is read that was not read before.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use super::convert::Advertised;
use crate::model::policy::NamespaceSelector;
use crate::model::{Labels, Name, NetworkId, StartRule};

/// What the annotations begin with.
pub const PREFIX: &str = "tombolo.dev/";
/// The age of `demote` and `drop` where `stale-after` does not say one.
const STALE_AFTER: Duration = Duration::from_secs(300);
/// The longest list that is read.
const MAX_ENTRIES: usize = 1000;

/// What happens to the endpoints of a cluster whose API server is not heard (§2.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StalePolicy {
    /// They are served as they are, for ever.
    #[default]
    Hold,
    /// After this time others are preferred to them.
    Demote(Duration),
    /// After this time they are not served, unless a service would have none left.
    Drop(Duration),
}

impl fmt::Display for StalePolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (action, after) = match self {
            Self::Hold => return f.write_str("hold"),
            Self::Demote(after) => ("demote", after),
            Self::Drop(after) => ("drop", after),
        };
        write!(f, "{action} after {}", humantime::format_duration(*after))
    }
}

/// Which namespaces of a cluster are read (Z-11). The system namespace always is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Only these; `None` for all.
    pub only: Option<BTreeSet<Name>>,
    /// Never these.
    pub except: BTreeSet<Name>,
    /// Only those whose labels match all of these; empty for all.
    pub labels: Vec<Requirement>,
    /// MeshConfig's `discoverySelectors`: only those whose labels match one of these; empty for all. None where
    /// the cluster says itself which namespaces are read.
    pub discovery: Vec<NamespaceSelector>,
}

impl Selection {
    /// Nothing but the system namespace.
    fn nothing() -> Self {
        Self { only: Some(BTreeSet::new()), ..Self::default() }
    }

    /// Whether labels of namespaces say which are read.
    pub fn is_by_labels(&self) -> bool {
        !self.labels.is_empty() || !self.discovery.is_empty()
    }

    /// Whether a namespace with these labels is selected by them.
    pub fn takes(&self, labels: &Labels) -> bool {
        let discovered = self.discovery.is_empty() || self.discovery.iter().any(|one| one.selects(labels));
        discovered && self.labels.iter().all(|requirement| requirement.is_met(labels))
    }

    /// The same under a mesh with these `discoverySelectors`: they hold where the cluster names neither namespaces
    /// nor labels itself.
    pub fn discovering(self, mesh: &[NamespaceSelector]) -> Self {
        let has_own = self.only.is_some() || !self.labels.is_empty();
        let discovery = if has_own { Vec::new() } else { mesh.to_vec() };
        Self { discovery, ..self }
    }

    /// Whether every namespace is read.
    pub fn is_everything(&self) -> bool {
        *self == Self::default()
    }
}

/// One term of a namespace selector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Requirement {
    /// `key=value`.
    Is(Name, Name),
    /// `key!=value`: also met without the label.
    IsNot(Name, Name),
    /// `key`.
    Exists(Name),
    /// `!key`.
    Absent(Name),
}

impl Requirement {
    /// Whether labels meet it.
    pub fn is_met(&self, labels: &Labels) -> bool {
        match self {
            Self::Is(key, value) => labels.get(key) == Some(value),
            Self::IsNot(key, value) => labels.get(key) != Some(value),
            Self::Exists(key) => labels.contains_key(key),
            Self::Absent(key) => !labels.contains_key(key),
        }
    }
}

/// What holds for one cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterOptions {
    /// `start`: whether the start gate waits for it without limit.
    pub start: StartRule,
    /// `stale` and `stale-after`.
    pub stale: StalePolicy,
    /// `gateway-address`: where its gateways are reached, unless their objects have an annotation of their own.
    pub gateway_address: Option<Advertised>,
    /// `trusted-networks`: networks it may have gateways of without belonging to them (D10).
    pub trusted_networks: BTreeSet<NetworkId>,
    /// `namespaces` and `namespace-selector`.
    pub selection: Selection,
    /// `trust-domain`: whose identities its workloads have (R5.9, D34); `None` for the process's.
    pub trust_domain: Option<Name>,
    /// `serve-without-pods`: endpoints are served although its Pods may not be read (D9).
    pub serve_without_pods: bool,
}

/// Keys and values of one source, keys without prefix.
pub type Texts = BTreeMap<String, String>;

type Parse = fn(&mut ClusterOptions, &str) -> Result<(), String>;

/// Every key. `stale-after` comes after `stale`, whose time it sets.
const KEYS: &[(&str, Parse)] = &[
    ("start", start),
    ("stale", stale),
    ("stale-after", stale_after),
    ("gateway-address", gateway_address),
    ("trusted-networks", trusted_networks),
    ("namespaces", namespaces),
    ("namespace-selector", namespace_selector),
    ("trust-domain", trust_domain),
    ("serve-without-pods", serve_without_pods),
];

impl ClusterOptions {
    /// Reads one source after the other; a later one wins key by key. `last`: what holds until now. Says what
    /// could not be used.
    pub fn read<'a>(
        sources: impl IntoIterator<Item = &'a Texts>,
        last: Option<&Self>,
    ) -> (Self, Vec<String>) {
        let texts = by_key(sources);
        let idle = texts.contains_key("stale-after") && !texts.contains_key("stale");
        let (options, mut problems) = Self::of(texts, |options, key| Some(options.restrict(key, last)));
        if idle {
            problems.push("stale-after: it has no effect without `stale` = `demote` or `drop`".to_owned());
        }
        (options, problems)
    }

    /// What cannot be used of one source, whatever others say.
    pub fn check(source: &Texts) -> Vec<String> {
        Self::of(by_key([source]), |_, _| None).1
    }

    /// `keep` says what holds in place of a key that cannot be used.
    fn of(
        mut texts: BTreeMap<&str, Vec<&str>>,
        keep: impl Fn(&mut Self, &str) -> Option<&'static str>,
    ) -> (Self, Vec<String>) {
        let mut options = Self::default();
        let mut problems = Vec::new();
        for (key, parse) in KEYS {
            for text in texts.remove(key).unwrap_or_default() {
                if let Err(problem) = parse(&mut options, text) {
                    let kept = keep(&mut options, key).map(|kept| format!("; {kept}")).unwrap_or_default();
                    problems.push(format!("{key}: {problem}{kept}"));
                }
            }
        }
        for key in texts.into_keys() {
            let known: Vec<_> = KEYS.iter().map(|(key, _)| *key).collect();
            let shown: String = key.chars().take(60).filter(|c| !c.is_control()).collect();
            problems.push(format!("{shown} is not known; known are {}", known.join(", ")));
        }
        (options, problems)
    }

    /// Z-11: a restriction that cannot be used leaves what was in force; before anything was, nothing is read. Whose
    /// identities are expected stays too. Says which.
    fn restrict(&mut self, key: &str, last: Option<&Self>) -> &'static str {
        let nothing = Selection::nothing();
        let kept = last.map_or(&nothing, |last| &last.selection);
        match key {
            "namespaces" => {
                self.selection.only.clone_from(&kept.only);
                self.selection.except.clone_from(&kept.except);
            }
            "namespace-selector" => {
                self.selection.labels.clone_from(&kept.labels);
                if last.is_none() {
                    self.selection.only = nothing.only;
                }
            }
            "trust-domain" => {
                self.trust_domain = last.and_then(|last| last.trust_domain.clone());
                return if last.is_some() { "the one before stays" } else { "the default stays" };
            }
            _ => return "the default stays",
        }
        match last {
            Some(_) => "the namespaces that were read are read on",
            None => "nothing but the system namespace is read until it is corrected",
        }
    }
}

fn by_key<'a>(sources: impl IntoIterator<Item = &'a Texts>) -> BTreeMap<&'a str, Vec<&'a str>> {
    let mut texts: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (key, value) in sources.into_iter().flatten() {
        texts.entry(key).or_default().push(value.trim());
    }
    texts
}

/// The annotations that are options, without their prefix.
pub fn from_annotations(annotations: &Labels) -> Texts {
    let own = annotations.iter().filter_map(|(key, value)| Some((key.strip_prefix(PREFIX)?, value)));
    own.map(|(key, value)| (key.to_owned(), value.to_string())).collect()
}

fn start(options: &mut ClusterOptions, text: &str) -> Result<(), String> {
    options.start = match text {
        "required" => StartRule::Required,
        "optional" => StartRule::Optional,
        other => return Err(unusable(other, "`required` or `optional`")),
    };
    Ok(())
}

fn stale(options: &mut ClusterOptions, text: &str) -> Result<(), String> {
    options.stale = match text {
        "hold" => StalePolicy::Hold,
        "demote" => StalePolicy::Demote(STALE_AFTER),
        "drop" => StalePolicy::Drop(STALE_AFTER),
        other => return Err(unusable(other, "`hold`, `demote` or `drop`")),
    };
    Ok(())
}

fn stale_after(options: &mut ClusterOptions, text: &str) -> Result<(), String> {
    let after = humantime::parse_duration(text).map_err(|_| unusable(text, "a time such as 90s or 10m"))?;
    // Another source may have chosen to hold.
    if let StalePolicy::Demote(time) | StalePolicy::Drop(time) = &mut options.stale {
        *time = after;
    }
    Ok(())
}

fn gateway_address(options: &mut ClusterOptions, text: &str) -> Result<(), String> {
    let (advertised, problems) = Advertised::parse(text);
    options.gateway_address = advertised;
    if problems.is_empty() { Ok(()) } else { Err(problems.join("; ")) }
}

fn trusted_networks(options: &mut ClusterOptions, text: &str) -> Result<(), String> {
    options.trusted_networks = entries(text)?.into_iter().map(NetworkId::from).collect();
    Ok(())
}

fn namespaces(options: &mut ClusterOptions, text: &str) -> Result<(), String> {
    let (mut only, mut except) = (BTreeSet::new(), BTreeSet::new());
    for entry in some_entries(text)? {
        let (set, name) = match entry.strip_prefix('!') {
            Some(name) => (&mut except, name),
            None => (&mut only, entry),
        };
        if !is_label(name) {
            return Err(unusable(name, "the name of a namespace, with `!` in front to leave it out"));
        }
        set.insert(Name::from(name));
    }
    options.selection.only = (!only.is_empty()).then_some(only);
    options.selection.except = except;
    Ok(())
}

fn namespace_selector(options: &mut ClusterOptions, text: &str) -> Result<(), String> {
    let entries = some_entries(text)?;
    let requirements = entries.into_iter().map(|entry| {
        let requirement = match (entry.split_once("!="), entry.split_once('='), entry.strip_prefix('!')) {
            (Some((key, value)), ..) => Requirement::IsNot(key.trim().into(), value.trim().into()),
            (None, Some((key, value)), _) => {
                let value = value.trim_start_matches('=');
                Requirement::Is(key.trim().into(), value.trim().into())
            }
            (None, None, Some(key)) => Requirement::Absent(key.trim().into()),
            (None, None, None) => Requirement::Exists(entry.into()),
        };
        let (Requirement::Is(key, _)
        | Requirement::IsNot(key, _)
        | Requirement::Exists(key)
        | Requirement::Absent(key)) = &requirement;
        let legal = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
        let usable = !key.is_empty() && key.chars().all(legal);
        usable
            .then_some(requirement)
            .ok_or_else(|| unusable(entry, "a term such as env=prod, env!=dev, env or !env"))
    });
    options.selection.labels = requirements.collect::<Result<_, _>>()?;
    Ok(())
}

/// A trust domain as the SPIFFE standard spells it.
fn trust_domain(options: &mut ClusterOptions, text: &str) -> Result<(), String> {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-._".contains(&b);
    if text.is_empty() || text.len() > 255 || !text.bytes().all(plain) || matches!(text, "." | "..") {
        let wanted =
            "a trust domain: up to 255 lower-case letters, digits, `.`, `-` and `_`, without `spiffe://`";
        return Err(unusable(text, wanted));
    }
    options.trust_domain = Some(text.into());
    Ok(())
}

fn serve_without_pods(options: &mut ClusterOptions, text: &str) -> Result<(), String> {
    options.serve_without_pods = text.parse().map_err(|_| unusable(text, "`true` or `false`"))?;
    Ok(())
}

fn entries(text: &str) -> Result<Vec<&str>, String> {
    let entries: Vec<_> = text.split(',').map(str::trim).filter(|entry| !entry.is_empty()).collect();
    if entries.len() > MAX_ENTRIES {
        return Err(format!("{} entries are more than {MAX_ENTRIES}", entries.len()));
    }
    Ok(entries)
}

/// An empty restriction is none that was meant.
fn some_entries(text: &str) -> Result<Vec<&str>, String> {
    let entries = entries(text)?;
    if entries.is_empty() { Err("it is empty; remove it to read everything".to_owned()) } else { Ok(entries) }
}

fn unusable(text: &str, wanted: &str) -> String {
    let shown: String = text.chars().take(60).map(|c| if c.is_control() { '?' } else { c }).collect();
    format!("`{shown}` is not {wanted}")
}

fn is_label(text: &str) -> bool {
    let inner = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-';
    let bytes = text.as_bytes();
    !bytes.is_empty()
        && bytes.len() <= 63
        && bytes.iter().all(inner)
        && bytes[0] != b'-'
        && !text.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(pairs: &[(&str, &str)]) -> Texts {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn d35_annotations_are_read_and_the_file_wins() {
        let annotations = Labels::from([
            ("tombolo.dev/start", "required"),
            ("tombolo.dev/stale", "demote"),
            ("tombolo.dev/stale-after", "90s"),
            ("tombolo.dev/gateway-address", "gw.example.com"),
            ("tombolo.dev/trusted-networks", "n1, n2"),
            ("tombolo.dev/namespaces", "a,b,!c"),
            ("tombolo.dev/trust-domain", "west.example"),
            ("tombolo.dev/namespace-selector", "env=prod,!off"),
            ("kubectl.kubernetes.io/last-applied-configuration", "{}"),
        ]);
        let file = texts(&[("start", "optional"), ("serve-without-pods", "true")]);
        let (options, problems) = ClusterOptions::read([&from_annotations(&annotations), &file], None);
        assert_eq!(problems, [""; 0]);
        assert_eq!(options.start, StartRule::Optional);
        assert_eq!(options.stale, StalePolicy::Demote(Duration::from_secs(90)));
        assert_eq!(options.gateway_address, Advertised::parse("gw.example.com").0);
        assert_eq!(options.trusted_networks, ["n1".into(), "n2".into()].into());
        assert_eq!(options.selection.only, Some(["a".into(), "b".into()].into()));
        assert_eq!(options.selection.except, ["c".into()].into());
        let labels = |pairs: &[(&str, &str)]| -> Labels {
            pairs.iter().map(|&(key, value)| (key.into(), value.into())).collect()
        };
        let met = |pairs| options.selection.labels.iter().all(|r| r.is_met(&labels(pairs)));
        assert!(met(&[("env", "prod")]) && !met(&[]) && !met(&[("env", "prod"), ("off", "")]));
        assert_eq!(options.trust_domain, Some("west.example".into()));
        assert!(options.serve_without_pods);
    }

    #[test]
    fn d35_bad_values_are_told_and_defaults_stay() {
        for (key, value, word) in [
            ("start", "perhaps", "`required` or `optional`"),
            ("stale", "forget", "`hold`, `demote` or `drop`"),
            ("stale-after", "5m", "no effect"),
            ("gateway-address", "a b", "host name"),
            ("serve-without-pods", "yes", "`true` or `false`"),
            ("trust-domain", "spiffe://west", "a trust domain"),
            ("trust-domain", "West", "a trust domain"),
            ("trust-domain", "", "a trust domain"),
            ("colour", "red", "is not known"),
        ] {
            let (options, problems) = ClusterOptions::read([&texts(&[(key, value)])], None);
            assert_eq!(options, ClusterOptions::default(), "{key}");
            assert!(problems.len() == 1 && problems[0].contains(word), "{problems:?}");
        }
        let (options, problems) =
            ClusterOptions::read([&texts(&[("stale", "drop"), ("stale-after", "soon")])], None);
        assert_eq!(options.stale, StalePolicy::Drop(STALE_AFTER));
        assert!(problems[0].contains("`soon` is not a time"), "{problems:?}");
    }

    #[test]
    fn z11_a_restriction_that_cannot_be_used_widens_nothing() {
        let read = |pairs: &[(&str, &str)], last| ClusterOptions::read([&texts(pairs)], last);
        let many = vec!["a"; MAX_ENTRIES + 1].join(",");
        let (good, problems) = read(&[("namespaces", "prod,!dev"), ("namespace-selector", "env")], None);
        assert_eq!(problems, [""; 0]);
        for (key, value) in [
            ("namespaces", "prod,Dev"),
            ("namespaces", &*many),
            ("namespaces", ""),
            ("namespaces", " , "),
            ("namespace-selector", "env in (a,b)"),
            ("namespace-selector", "=x"),
            ("namespace-selector", ""),
        ] {
            let (first, problems) = read(&[(key, value)], None);
            assert_eq!(first.selection, Selection::nothing(), "{key} {value}");
            assert!(problems[0].contains("nothing but the system namespace"), "{problems:?}");
            let (kept, problems) = read(&[(key, value)], Some(&good));
            match key {
                "namespaces" => {
                    assert_eq!(
                        (&kept.selection.only, &kept.selection.except),
                        (&good.selection.only, &good.selection.except)
                    );
                }
                _ => assert_eq!(kept.selection.labels, good.selection.labels),
            }
            assert!(problems[0].contains("are read on"), "{problems:?}");
        }
        let (corrected, _) = read(&[("namespaces", "b")], Some(&ClusterOptions::default()));
        assert_eq!(corrected.selection.only, Some(["b".into()].into()));
        // The file wins also over an annotation that cannot be used.
        let sources = [texts(&[("namespaces", "Prod")]), texts(&[("namespaces", "b")])];
        let (options, problems) = ClusterOptions::read(&sources, None);
        assert_eq!((options.selection, problems.len()), (corrected.selection, 1));
    }

    #[test]
    fn d35_one_source_may_say_how_and_the_other_when() {
        let annotations = texts(&[("stale", "demote")]);
        let file = texts(&[("stale-after", "10m")]);
        assert_eq!(ClusterOptions::check(&file), [""; 0]);
        let (options, problems) = ClusterOptions::read([&annotations, &file], None);
        assert_eq!(problems, [""; 0]);
        assert_eq!(options.stale, StalePolicy::Demote(Duration::from_secs(600)));
        let (options, problems) = ClusterOptions::read([&file, &texts(&[("stale", "hold")])], None);
        assert_eq!((options.stale, problems.len()), (StalePolicy::Hold, 0));
        assert!(ClusterOptions::check(&texts(&[("stale-after", "soon")]))[0].contains("soon"));
    }
}
