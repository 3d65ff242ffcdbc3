//! VirtualServices whose routes lead on to those of another one.
//!
//! The routes of the delegate take the place of the route that leads on to them, for those requests alone that this
//! one lets through. One level only: a delegate leads on to nobody.

use std::collections::BTreeMap;

use super::{Headers, HttpAction, HttpMatch, HttpRoute, Rewrite, Sources, TextMatch, VirtualService};
use crate::model::policy::PolicyId;
use crate::model::{ExportTo, Name};

/// What the routes of delegates may cost one object: a route of a delegate stands in it once for every route that leads
/// on to it, so both may be within their limits, and their product not. Counted in routes, and what is in them.
const MAX_LED_ON: usize = 20_000;
/// As many bytes of a body count as one route.
const BODY: usize = 4096;
/// So many routes that are left out are told one by one.
const MAX_TOLD: usize = 100;

/// Headers or parameters by name.
type Named = Vec<(Name, Option<TextMatch>)>;

impl VirtualService {
    /// The objects whose routes it leads on to.
    pub fn delegates(&self) -> impl Iterator<Item = &PolicyId> {
        self.http.iter().filter_map(|route| match &route.action {
            HttpAction::Delegate(id) => Some(id),
            _ => None,
        })
    }

    /// It with the routes of its delegates in the place of those that lead on to them, and what is left out and why.
    /// `find` looks an object up; `default` is what objects export that do not say. A delegate that is not there, not
    /// exported to its namespace, or has hosts of its own has no routes; a route of a delegate that asks for what is
    /// never led on to it is left out, and so is what is more than 20 000 routes and matches. What the delegate does not say (rewriting, retries, faults, …) holds as said
    /// here.
    pub fn with_delegates<'a>(
        &self,
        find: impl Fn(&PolicyId) -> Option<&'a Self>,
        default: &ExportTo,
    ) -> (Self, Vec<String>) {
        let (mut http, mut left_out, mut room) = (Vec::new(), Told::default(), MAX_LED_ON);
        for (index, route) in self.http.iter().enumerate() {
            let HttpAction::Delegate(id) = &route.action else {
                http.push(route.clone());
                continue;
            };
            let place = format!("http[{index}].delegate");
            let delegate = match self.delegate(id, &find, default) {
                Ok(delegate) => delegate,
                Err(why) => {
                    left_out.push(format!("{place}: VirtualService {id} {why}; the route is left out"));
                    continue;
                }
            };
            for (inner, own) in delegate.http.iter().enumerate() {
                // Those that come to nothing count too: they are looked at.
                let Some(rest) = room.checked_sub(cost(route, own)) else {
                    left_out.push(format!(
                        "{place}: with http[{inner}] of {id} there are more than {MAX_LED_ON} routes and matches of \
                         delegates; it and all further ones are left out"
                    ));
                    room = 0;
                    break;
                };
                room = rest;
                match led_on(route, own) {
                    Some(merged) => http.push(merged),
                    None => left_out.push(format!(
                        "{place}: http[{inner}] of {id} matches requests that http[{index}] does not lead on to it; it \
                         is left out"
                    )),
                }
            }
        }
        (Self { http, ..self.clone() }, left_out.all())
    }

    fn delegate<'a>(
        &self,
        id: &PolicyId,
        find: impl Fn(&PolicyId) -> Option<&'a Self>,
        default: &ExportTo,
    ) -> Result<&'a Self, &'static str> {
        let own = self.meta.id.namespace.as_str();
        let found = find(id).ok_or("is not there")?;
        if !found.is_delegate() {
            return Err("has hosts of its own: a delegate has neither hosts nor gateways");
        }
        if own != id.namespace.as_str() && !found.export_to.reaches(own, &id.namespace, default) {
            return Err("is not exported to this namespace");
        }
        Ok(found)
    }
}

/// What a route of a delegate counts under a route that leads on to it.
fn cost(root: &HttpRoute, own: &HttpRoute) -> usize {
    let body = match &own.action {
        HttpAction::Respond(answer) => answer.body.len() / BODY,
        _ => 0,
    };
    1 + body + root.matches.len().max(1).saturating_mul(own.matches.len().max(1))
}

/// What is left out and why: the first ones one by one.
#[derive(Default)]
struct Told {
    texts: Vec<String>,
    more: usize,
}

impl Told {
    fn push(&mut self, text: String) {
        match self.texts.len() < MAX_TOLD {
            true => self.texts.push(text),
            false => self.more += 1,
        }
    }

    fn all(mut self) -> Vec<String> {
        if self.more > 0 {
            self.texts.push(format!("{} more routes of delegates are left out", self.more));
        }
        self.texts
    }
}

/// A route of a delegate for the requests of the route that leads on to it; `None` when one of its matches takes none
/// of those, or it leads on itself.
fn led_on(root: &HttpRoute, own: &HttpRoute) -> Option<HttpRoute> {
    if matches!(own.action, HttpAction::Delegate(_)) {
        return None;
    }
    let said = |headers: &Headers| *headers != Headers::default();
    Some(HttpRoute {
        name: joined(&root.name, &own.name),
        matches: matches(&root.matches, &own.matches)?,
        action: own.action.clone(),
        rewrite: if own.rewrite == Rewrite::default() { root.rewrite.clone() } else { own.rewrite.clone() },
        timeout: own.timeout.or(root.timeout),
        retries: own.retries.clone().or_else(|| root.retries.clone()),
        fault: own.fault.clone().or_else(|| root.fault.clone()),
        mirrors: if own.mirrors.is_empty() { root.mirrors.clone() } else { own.mirrors.clone() },
        cors: own.cors.clone().or_else(|| root.cors.clone()),
        headers: if said(&own.headers) { own.headers.clone() } else { root.headers.clone() },
    })
}

fn joined(root: &Name, own: &Name) -> Name {
    match (root.is_empty(), own.is_empty()) {
        (true, _) => own.clone(),
        (_, true) => root.clone(),
        _ => format!("{root}-{own}").into(),
    }
}

/// What both lists match: each match of the delegate under every one of the root's that leads there. `None` when there
/// is none for one of them.
fn matches(root: &[HttpMatch], own: &[HttpMatch]) -> Option<Vec<HttpMatch>> {
    if root.is_empty() || own.is_empty() {
        return Some([root, own].concat());
    }
    let mut all = Vec::new();
    for one in own {
        let before = all.len();
        all.extend(root.iter().filter_map(|root| both(root, one)));
        if all.len() == before {
            return None;
        }
    }
    Some(all)
}

/// What both match; `None` unless the second is narrower than the first wherever both say something.
fn both(root: &HttpMatch, own: &HttpMatch) -> Option<HttpMatch> {
    let ignore_case = match (&root.uri, &own.uri) {
        (Some(_), Some(_)) if root.ignore_case != own.ignore_case => return None,
        (_, Some(_)) => own.ignore_case,
        (_, None) => root.ignore_case,
    };
    Some(HttpMatch {
        name: joined(&root.name, &own.name),
        uri: narrower(&root.uri, &own.uri, ignore_case)?,
        ignore_case,
        scheme: narrower(&root.scheme, &own.scheme, false)?,
        method: narrower(&root.method, &own.method, false)?,
        authority: narrower(&root.authority, &own.authority, false)?,
        headers: named(&root.headers, &own.headers, |root, own| narrower(root, own, false))?,
        // Of two things that must not be the wider one counts: only the same is surely no less.
        without_headers: named(&root.without_headers, &own.without_headers, |root, own| {
            (root == own).then(|| own.clone())
        })?,
        query: named(&root.query, &own.query, |root, own| narrower(root, own, false))?,
        sources: sources(&root.sources, &own.sources)?,
    })
}

/// The second where it is narrower than the first, the one that says something where only one does; `None` when they
/// differ otherwise.
fn narrower(
    root: &Option<TextMatch>,
    own: &Option<TextMatch>,
    ignore_case: bool,
) -> Option<Option<TextMatch>> {
    let begins = |text: &Name, prefix: &Name| match ignore_case {
        true => text.to_ascii_lowercase().starts_with(&prefix.to_ascii_lowercase()),
        false => text.starts_with(prefix.as_str()),
    };
    match (root, own) {
        (_, None) => Some(root.clone()),
        (None, _) => Some(own.clone()),
        (Some(a), Some(b)) if a == b => Some(own.clone()),
        (Some(TextMatch::Prefix(prefix)), Some(TextMatch::Exact(text) | TextMatch::Prefix(text)))
            if begins(text, prefix) =>
        {
            Some(own.clone())
        }
        _ => None,
    }
}

/// All names of both; `merge` says what holds for a name of both.
fn named(
    root: &Named,
    own: &Named,
    merge: impl Fn(&Option<TextMatch>, &Option<TextMatch>) -> Option<Option<TextMatch>>,
) -> Option<Named> {
    let mut all: BTreeMap<&Name, Option<TextMatch>> =
        root.iter().map(|(name, said)| (name, said.clone())).collect();
    for (name, said) in own {
        let merged = match all.get(name) {
            Some(before) => merge(before, said)?,
            None => said.clone(),
        };
        all.insert(name, merged);
    }
    Some(all.into_iter().map(|(name, said)| (name.clone(), said)).collect())
}

/// Who is meant by both; `None` when nobody is.
fn sources(root: &Sources, own: &Sources) -> Option<Sources> {
    let gateways = match (root.gateways.as_slice(), own.gateways.as_slice()) {
        ([], one) | (one, []) => one.to_vec(),
        (one, other) => {
            let common: Vec<_> = other.iter().filter(|name| one.contains(name)).cloned().collect();
            (!common.is_empty()).then_some(common)?
        }
    };
    let mut labels: BTreeMap<&Name, &Name> = root.labels.iter().collect();
    for (label, value) in own.labels.iter() {
        if labels.insert(label, value).is_some_and(|before| before != value) {
            return None;
        }
    }
    let namespace = match (root.namespace.is_empty(), own.namespace.is_empty()) {
        (false, false) if root.namespace != own.namespace => return None,
        (true, _) => own.namespace.clone(),
        _ => root.namespace.clone(),
    };
    let port = match (root.port, own.port) {
        (Some(one), Some(other)) if one != other => return None,
        (one, other) => other.or(one),
    };
    let labels = labels.into_iter().map(|(label, value)| (label.clone(), value.clone())).collect();
    Some(Sources { gateways, labels, namespace, port })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::policy::{DirectResponse, HostPattern, PolicyMeta};

    fn route(name: &str, matches: Vec<HttpMatch>, action: HttpAction) -> HttpRoute {
        HttpRoute { name: name.into(), matches, ..HttpRoute::new(action) }
    }

    fn answer(name: &str, matches: Vec<HttpMatch>) -> HttpRoute {
        route(name, matches, HttpAction::Respond(DirectResponse { status: 200, body: Vec::new() }))
    }

    fn to(matches: Vec<HttpMatch>) -> HttpRoute {
        route("root", matches, HttpAction::Delegate(PolicyId::new("team", "pages")))
    }

    fn object(place: &str, hosts: &[&str], http: Vec<HttpRoute>) -> VirtualService {
        let (namespace, name) = place.split_once('/').expect("namespace/name");
        VirtualService {
            meta: PolicyMeta { created: 1, id: PolicyId::new(namespace, name) },
            hosts: hosts.iter().map(|&host| HostPattern::new(host)).collect(),
            gateways: if hosts.is_empty() { Vec::new() } else { vec!["mesh".into()] },
            export_to: ExportTo::Unset,
            http,
            tls: Vec::new(),
            tcp: Vec::new(),
        }
    }

    fn prefix(text: &str) -> Option<TextMatch> {
        Some(TextMatch::Prefix(text.into()))
    }

    fn exact(text: &str) -> Option<TextMatch> {
        Some(TextMatch::Exact(text.into()))
    }

    fn regex(text: &str) -> Option<TextMatch> {
        Some(TextMatch::Regex(text.into()))
    }

    fn path(uri: Option<TextMatch>) -> HttpMatch {
        HttpMatch { uri, ..HttpMatch::default() }
    }

    /// `name: paths` of the routes of a root that leads on to a delegate, and how many are left out.
    fn merged(root: Vec<HttpMatch>, own: Vec<HttpRoute>) -> (Vec<String>, usize) {
        let delegate = object("team/pages", &[], own);
        let root = object("shop/root", &["a.b"], vec![to(root), answer("last", Vec::new())]);
        let (made, left_out) = root.with_delegates(|_| Some(&delegate), &ExportTo::Everywhere);
        let shown = |route: &HttpRoute| {
            let path = |one: &HttpMatch| match &one.uri {
                Some(TextMatch::Exact(text)) => format!("={text}"),
                Some(TextMatch::Prefix(text)) => format!("{text}*"),
                Some(TextMatch::Regex(text)) => format!("~{text}"),
                None => "any".to_owned(),
            };
            format!("{} {}", route.name, route.matches.iter().map(path).collect::<Vec<_>>().join(" "))
        };
        (made.http.iter().map(shown).collect(), left_out.len())
    }

    #[test]
    fn routes_of_a_delegate_take_the_place_of_the_one_that_leads_on_to_them() {
        let own = vec![answer("x", vec![path(prefix("/a/x"))]), answer("", Vec::new())];
        assert_eq!(
            merged(vec![path(prefix("/a"))], own),
            (vec!["root-x /a/x*".into(), "root /a*".into(), "last ".into()], 0)
        );
        let everything = merged(Vec::new(), vec![answer("", vec![path(exact("/x")), path(regex("/y+"))])]);
        assert_eq!(everything, (vec!["root =/x ~/y+".into(), "last ".into()], 0));
        let several = vec![path(prefix("/a")), path(prefix("/b"))];
        let own = vec![answer("", vec![path(exact("/b/1")), path(exact("/a/1"))])];
        assert_eq!(merged(several.clone(), own), (vec!["root =/b/1 =/a/1".into(), "last ".into()], 0));
        let by_method = answer("", vec![HttpMatch { method: exact("GET"), ..HttpMatch::default() }]);
        assert_eq!(merged(several, vec![by_method]), (vec!["root /a* /b*".into(), "last ".into()], 0));
    }

    #[test]
    fn what_is_never_led_on_to_a_delegate_is_left_out_of_it() {
        let last = || vec!["last ".to_owned()];
        for (root, own) in [
            (prefix("/a"), prefix("/b")),
            (prefix("/a/b"), prefix("/a")),
            (prefix("/a"), regex("/a.*")),
            (exact("/a"), prefix("/a")),
            (exact("/a"), exact("/b")),
            (regex("/a.*"), exact("/a")),
        ] {
            let made = merged(vec![path(root.clone())], vec![answer("", vec![path(own.clone())])]);
            assert_eq!(made, (last(), 1), "{root:?} {own:?}");
        }
        let one = |change: fn(&mut HttpMatch, &str)| {
            let of = |value: &str| {
                let mut matched = HttpMatch::default();
                change(&mut matched, value);
                vec![matched]
            };
            assert_eq!(merged(of("a"), vec![answer("", of("a"))]).1, 0);
            assert_eq!(merged(of("a"), vec![answer("", of("b"))]), (last(), 1));
        };
        one(|matched, value| matched.method = exact(value));
        one(|matched, value| matched.authority = exact(value));
        one(|matched, value| matched.scheme = exact(value));
        one(|matched, value| matched.headers = vec![("x".into(), exact(value))]);
        one(|matched, value| matched.without_headers = vec![("x".into(), exact(value))]);
        one(|matched, value| matched.query = vec![("x".into(), exact(value))]);
        one(|matched, value| matched.sources.namespace = value.into());
        one(|matched, value| matched.sources.gateways = vec![value.into()]);
        one(|matched, value| matched.sources.labels = [("x".into(), value.into())].into_iter().collect());
        one(|matched, value| matched.sources.port = Some(value.len() as u16 + u16::from(value == "b")));
        // One of two matches is enough to leave the route out: half of a route is another route.
        let half = answer("", vec![path(prefix("/a/1")), path(prefix("/b"))]);
        assert_eq!(merged(vec![path(prefix("/a"))], vec![half]), (last(), 1));
    }

    #[test]
    fn both_conditions_hold_and_the_delegate_says_more() {
        let root = HttpMatch {
            headers: vec![("a".into(), exact("1")), ("b".into(), None)],
            without_headers: vec![("c".into(), exact("1"))],
            uri: prefix("/A"),
            ignore_case: true,
            ..HttpMatch::default()
        };
        let own = HttpMatch {
            headers: vec![("b".into(), exact("2")), ("a".into(), None), ("d".into(), None)],
            without_headers: vec![("e".into(), None)],
            uri: exact("/a/x"),
            ignore_case: true,
            ..HttpMatch::default()
        };
        let made = both(&root, &own).expect("narrower");
        let headers = vec![("a".into(), exact("1")), ("b".into(), exact("2")), ("d".into(), None)];
        assert_eq!((made.headers, made.uri, made.ignore_case), (headers, exact("/a/x"), true));
        assert_eq!(made.without_headers, [("c".into(), exact("1")), ("e".into(), None)]);
        assert_eq!(both(&root, &HttpMatch { ignore_case: false, ..own }), None);
        let slow = HttpRoute { timeout: Some(Duration::from_secs(9)), ..to(Vec::new()) };
        let quick = HttpRoute { timeout: Some(Duration::from_secs(1)), ..answer("", Vec::new()) };
        assert_eq!(led_on(&slow, &quick).expect("led on").timeout, Some(Duration::from_secs(1)));
        assert_eq!(led_on(&slow, &answer("", Vec::new())).expect("led on").timeout, slow.timeout);
    }

    #[test]
    fn routes_do_not_multiply_without_limit() {
        let many = |count: usize, one: HttpRoute| vec![one; count];
        let made = |root: Vec<HttpRoute>, own: Vec<HttpRoute>| {
            let delegate = object("team/pages", &[], own);
            let root = object("shop/root", &["a.b"], root);
            let (made, left_out) = root.with_delegates(|_| Some(&delegate), &ExportTo::Everywhere);
            (made.http.len(), left_out)
        };
        let (routes, told) = made(many(3000, to(Vec::new())), many(2000, answer("", Vec::new())));
        assert!((5000..=MAX_LED_ON).contains(&routes), "{routes}");
        assert!(told.len() == MAX_TOLD + 1 && told[0].contains("are left out"), "{told:?}");
        let paths = || vec![path(prefix("/a")); 300];
        let (routes, told) = made(many(1, to(paths())), many(9, answer("", paths())));
        assert_eq!((routes, told.len()), (0, 1), "so many matches of one route");
        let large = HttpAction::Respond(DirectResponse { status: 200, body: vec![b'x'; 1 << 20] });
        let (routes, _) = made(many(1000, to(Vec::new())), many(1, HttpRoute::new(large)));
        assert!((1..100).contains(&routes), "{routes}");
        let none = many(3000, answer("", vec![path(prefix("/b"))]));
        let (routes, told) = made(many(3000, to(vec![path(prefix("/a"))])), none);
        assert_eq!((routes, told.len()), (0, MAX_TOLD + 1), "those that come to nothing");
        let (routes, told) = made(many(2, to(Vec::new())), many(2000, answer("", Vec::new())));
        assert_eq!((routes, told.len()), (4000, 0));
    }

    #[test]
    fn only_delegates_that_are_there_and_exported_are_led_on_to() {
        let root = object("shop/root", &["a.b"], vec![to(Vec::new())]);
        let told = |delegate: Option<&VirtualService>, default: &ExportTo| {
            let (made, left_out) = root.with_delegates(|_| delegate, default);
            (made.http.len(), left_out.concat())
        };
        let own = ExportTo::Namespaces(["".into()].into());
        let pages = object("team/pages", &[], vec![answer("", Vec::new())]);
        assert_eq!(told(Some(&pages), &ExportTo::Everywhere), (1, String::new()));
        assert!(
            told(None, &ExportTo::Everywhere)
                .1
                .contains("http[0].delegate: VirtualService team/pages is not there")
        );
        let (routes, text) = told(Some(&pages), &own);
        assert!(routes == 0 && text.contains("not exported"), "{text}");
        let hosted = object("team/pages", &["c.d"], vec![answer("", Vec::new())]);
        assert!(told(Some(&hosted), &ExportTo::Everywhere).1.contains("has hosts"));
        let further = object("team/pages", &[], vec![to(Vec::new())]);
        assert_eq!(told(Some(&further), &ExportTo::Everywhere).0, 0, "one level only");
    }
}
