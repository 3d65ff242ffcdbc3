//! Routes of requests.

use base64::Engine;

use super::field::Field;
use super::{Place, destination, expression, format, sources, weighted};
use crate::ingest::policies::decode::spelling::{HEADER_NAME, HEADER_VALUE, PARAMETER};
use crate::model::Name;
use crate::model::policy::{
    Abort, Cors, Delay, DirectResponse, Fault, HeaderChanges, Headers, HttpAction, HttpMatch, HttpRoute,
    Mirror, Percent, PolicyId, Redirect, RedirectPort, RegexRewrite, Retries, Rewrite, TextMatch,
};
use crate::proto::GRPC_CODES;

type Decoded<T> = Result<T, String>;

/// How many headers one list of changes may set and add: Envoy takes 1000 of a route together with its destination.
const MAX_CHANGES: usize = 500;

pub(super) fn route(route: &Field<'_>, place: Place<'_>) -> Decoded<HttpRoute> {
    let matches = route.get("match")?.list()?;
    Ok(HttpRoute {
        name: route.get("name")?.spelled(HEADER_VALUE)?.into(),
        matches: matches.iter().map(|one| matched(one, place)).collect::<Decoded<_>>()?,
        action: action(route, place)?,
        rewrite: rewrite(&route.get("rewrite")?)?,
        timeout: route.get("timeout")?.duration()?.filter(|time| !time.is_zero()),
        retries: route.get("retries")?.set().map(|field| retries(&field)).transpose()?,
        fault: route.get("fault")?.set().map(|field| fault(&field)).transpose()?,
        mirrors: mirrors(route, place)?,
        cors: route.get("corsPolicy")?.set().map(|field| cors(&field)).transpose()?,
        headers: headers(&route.get("headers")?)?,
    })
}

fn action(route: &Field<'_>, place: Place<'_>) -> Decoded<HttpAction> {
    let (to, redirect, direct) = (route.get("route")?, route.get("redirect")?, route.get("directResponse")?);
    let delegate = route.get("delegate")?;
    match (to.is_set(), redirect.is_set(), direct.is_set(), delegate.is_set()) {
        (true, false, false, false) => Ok(HttpAction::Forward(weighted(route, place)?)),
        (false, true, false, false) => Ok(HttpAction::Redirect(redirected(&redirect)?)),
        (false, false, true, false) => Ok(HttpAction::Respond(respond(&direct)?)),
        (false, false, false, true) => Ok(HttpAction::Delegate(delegated(&delegate, place)?)),
        _ => Err(route.bad("needs exactly one of route, redirect, directResponse, delegate")),
    }
}

/// The VirtualService whose routes are meant: of this namespace unless it says another.
fn delegated(field: &Field<'_>, place: Place<'_>) -> Decoded<PolicyId> {
    let (name, namespace) = (field.get("name")?, field.get("namespace")?);
    if name.text()?.is_empty() {
        return Err(name.bad("is needed"));
    }
    let namespace = Some(namespace.text()?).filter(|text| !text.is_empty()).unwrap_or(place.namespace);
    Ok(PolicyId::new(namespace, name.text()?))
}

fn redirected(field: &Field<'_>) -> Decoded<Redirect> {
    let derived = field.get("derivePort")?;
    let of = match derived.text()? {
        "" => None,
        "FROM_PROTOCOL_DEFAULT" => Some(RedirectPort::OfProtocol),
        "FROM_REQUEST_PORT" => Some(RedirectPort::OfRequest),
        _ => return Err(derived.bad("is neither FROM_PROTOCOL_DEFAULT nor FROM_REQUEST_PORT")),
    };
    let code = field.get("redirectCode")?;
    let number = code.number(0, 599)?.filter(|number| *number != 0).unwrap_or(301);
    let number = u16::try_from(number).ok().filter(|number| [301, 302, 303, 307, 308].contains(number));
    Ok(Redirect {
        uri: field.get("uri")?.spelled(HEADER_VALUE)?.into(),
        authority: field.get("authority")?.spelled(HEADER_VALUE)?.into(),
        port: field.get("port")?.port()?.map(RedirectPort::Number).or(of),
        scheme: field.get("scheme")?.spelled(HEADER_VALUE)?.into(),
        code: number.ok_or_else(|| code.bad("is none of 301, 302, 303, 307, 308"))?,
    })
}

fn respond(field: &Field<'_>) -> Decoded<DirectResponse> {
    let status = field.get("status")?;
    let code = status.number(200, 599)?.and_then(|code| u16::try_from(code).ok());
    let body = field.get("body")?;
    let (text, bytes) = (body.get("string")?, body.get("bytes")?);
    let body = match bytes.is_set() {
        true => base64::engine::general_purpose::STANDARD
            .decode(bytes.text()?)
            .map_err(|_| bytes.bad("is no Base64"))?,
        false => text.text()?.as_bytes().to_vec(),
    };
    if body.len() > 1 << 20 {
        return Err(format!("{}: {} bytes are more than 1 MiB", "directResponse.body", body.len()));
    }
    Ok(DirectResponse { status: code.ok_or_else(|| status.bad("is no status from 200 to 599"))?, body })
}

fn matched(field: &Field<'_>, place: Place<'_>) -> Decoded<HttpMatch> {
    let part = |name: &str| -> Decoded<Option<TextMatch>> {
        let part = field.get(name)?;
        let text = text_match(&part)?;
        if part.is_set() && text.is_none() {
            Err(part.bad("has none of exact, prefix, regex"))
        } else {
            Ok(text)
        }
    };
    Ok(HttpMatch {
        name: field.get("name")?.spelled(HEADER_VALUE)?.into(),
        uri: part("uri")?,
        ignore_case: field.get("ignoreUriCase")?.flag()?.unwrap_or_default(),
        scheme: part("scheme")?,
        method: part("method")?,
        authority: part("authority")?,
        headers: named(&field.get("headers")?, true)?,
        without_headers: named(&field.get("withoutHeaders")?, true)?,
        query: named(&field.get("queryParams")?, false)?,
        sources: sources(field, place)?,
    })
}

fn named(field: &Field<'_>, headers: bool) -> Decoded<Vec<(Name, Option<TextMatch>)>> {
    let one = |(name, value): &(&str, Field<'_>)| {
        let like = if headers { HEADER_NAME } else { PARAMETER };
        if !like.takes(name) {
            return Err(value.bad(&format!("is not under {}", like.allowed)));
        }
        let name = if headers { name.to_ascii_lowercase() } else { (*name).to_owned() };
        Ok((name.into(), text_match(value)?))
    };
    field.map()?.iter().map(one).collect()
}

/// One of `exact`, `prefix`, `regex`; `None` for none.
fn text_match(field: &Field<'_>) -> Decoded<Option<TextMatch>> {
    let (exact, prefix, regex) = (field.get("exact")?, field.get("prefix")?, field.get("regex")?);
    let text = |field: &Field<'_>| -> Decoded<Name> { Ok(field.text()?.into()) };
    match (exact.is_set(), prefix.is_set(), regex.is_set()) {
        (false, false, false) => Ok(None),
        (true, false, false) => Ok(Some(TextMatch::Exact(text(&exact)?))),
        (false, true, false) => Ok(Some(TextMatch::Prefix(text(&prefix)?))),
        (false, false, true) => Ok(Some(TextMatch::Regex(self::regex(&regex)?))),
        _ => Err(field.bad("has more than one of exact, prefix, regex")),
    }
}

/// An expression that Envoy takes.
fn regex(field: &Field<'_>) -> Decoded<Name> {
    let text = field.text()?;
    expression::check(text).map_err(|why| field.bad(&why))?;
    Ok(text.into())
}

fn rewrite(field: &Field<'_>) -> Decoded<Rewrite> {
    let regex = field.get("uriRegexRewrite")?;
    let regex = match regex.is_set() {
        false => None,
        true => Some(RegexRewrite {
            pattern: self::regex(&regex.get("match")?)?,
            substitution: regex.get("rewrite")?.spelled(HEADER_VALUE)?.into(),
        }),
    };
    let uri = field.get("uri")?;
    if uri.is_set() && regex.is_some() {
        return Err(uri.bad("excludes uriRegexRewrite"));
    }
    Ok(Rewrite {
        uri: uri.spelled(HEADER_VALUE)?.into(),
        authority: field.get("authority")?.spelled(HEADER_VALUE)?.into(),
        regex,
    })
}

fn retries(field: &Field<'_>) -> Decoded<Retries> {
    let conditions = field.get("retryOn")?;
    let words = conditions.spelled(HEADER_VALUE)?.split(',').map(str::trim).filter(|word| !word.is_empty());
    let (codes, names): (Vec<_>, Vec<_>) = words.partition(|word| word.bytes().all(|b| b.is_ascii_digit()));
    let code = |word: &&str| word.parse().ok().filter(|code| (100..600).contains(code));
    let codes: Option<Vec<u32>> = codes.iter().map(code).collect();
    Ok(Retries {
        attempts: field.get("attempts")?.number(0, i32::MAX as u32)?.unwrap_or_default(),
        per_try_timeout: field.get("perTryTimeout")?.duration()?.filter(|time| !time.is_zero()),
        conditions: names.into_iter().map(Name::from).collect(),
        codes: codes.ok_or_else(|| conditions.bad("holds a number that is no status"))?,
        other_localities: field.get("retryRemoteLocalities")?.flag()?.unwrap_or_default(),
        skip_previous: field.get("retryIgnorePreviousHosts")?.flag()?.unwrap_or(true),
        backoff: field.get("backoff")?.positive()?,
    })
}

fn share(field: &Field<'_>) -> Decoded<Percent> {
    let value = field.get("value")?;
    Percent::new(value.float()?.unwrap_or_default()).ok_or_else(|| value.bad("is no percentage"))
}

/// `percentage.value`, else the old `percent` in whole numbers, else everything.
fn percentage(field: &Field<'_>) -> Decoded<Percent> {
    let (exact, whole) = (field.get("percentage")?, field.get("percent")?);
    if exact.is_set() {
        return share(&exact);
    }
    let percent = whole.number(0, 100)?.map(f64::from);
    Ok(percent.and_then(Percent::new).unwrap_or(Percent::ALL))
}

fn fault(field: &Field<'_>) -> Decoded<Fault> {
    let (delay, abort) = (field.get("delay")?, field.get("abort")?);
    let fixed = delay.get("fixedDelay")?;
    let late = match delay.is_set() {
        false => None,
        true => Some(Delay {
            fixed: fixed.positive()?.ok_or_else(|| fixed.bad("is needed"))?,
            share: percentage(&delay)?,
        }),
    };
    let broken = match abort.is_set() {
        false => None,
        true => Some(Abort { status: status(&abort)?, share: percentage(&abort)? }),
    };
    Ok(Fault { delay: late, abort: broken })
}

fn status(abort: &Field<'_>) -> Decoded<Result<u16, u32>> {
    let (http, grpc) = (abort.get("httpStatus")?, abort.get("grpcStatus")?);
    if let Some(code) = http.number(200, 599)?.and_then(|code| u16::try_from(code).ok()) {
        return Ok(Ok(code));
    }
    let code =
        GRPC_CODES.iter().zip(0..).find(|(name, _)| Ok(**name) == grpc.text()).map(|(_, code)| Err(code));
    code.ok_or_else(|| {
        abort.bad("needs an httpStatus from 200 to 599 or the name of a gRPC code as grpcStatus")
    })
}

fn mirrors(route: &Field<'_>, place: Place<'_>) -> Decoded<Vec<Mirror>> {
    let one = |field: &Field<'_>| {
        let exact = field.get("percentage")?;
        let share = if exact.is_set() { share(&exact)? } else { Percent::ALL };
        if share.millionths() == 0 {
            field.tell("no request is copied: its percentage is 0");
        }
        Ok(Mirror { destination: destination(&field.get("destination")?, place)?, share })
    };
    let mut mirrors = route.get("mirrors")?.list()?.iter().map(one).collect::<Decoded<Vec<_>>>()?;
    if let Some(old) = route.get("mirror")?.set() {
        let exact = route.get("mirrorPercentage")?;
        let whole = route.get("mirrorPercent")?.number(0, 100)?.map(f64::from).and_then(Percent::new);
        let share = if exact.is_set() { share(&exact)? } else { whole.unwrap_or(Percent::ALL) };
        mirrors.insert(0, Mirror { destination: destination(&old, place)?, share });
    }
    Ok(mirrors)
}

fn cors(field: &Field<'_>) -> Decoded<Cors> {
    let names = |name: &str| -> Decoded<Vec<Name>> {
        field.get(name)?.list()?.iter().map(|one| Ok(one.spelled(HEADER_VALUE)?.into())).collect()
    };
    let origin =
        |one: &Field<'_>| text_match(one)?.ok_or_else(|| one.bad("has none of exact, prefix, regex"));
    let mut origins = field.get("allowOrigins")?.list()?.iter().map(origin).collect::<Decoded<Vec<_>>>()?;
    if origins.is_empty() {
        let old = |name: Name| match name.as_str() {
            "*" => TextMatch::Regex(".*".into()),
            _ => TextMatch::Exact(name),
        };
        origins = names("allowOrigin")?.into_iter().map(old).collect();
    }
    let unmatched = field.get("unmatchedPreflights")?;
    Ok(Cors {
        origins,
        methods: names("allowMethods")?,
        allow_headers: names("allowHeaders")?,
        expose_headers: names("exposeHeaders")?,
        max_age: field.get("maxAge")?.duration()?,
        credentials: field.get("allowCredentials")?.flag()?,
        forward_unmatched: match unmatched.text()? {
            "" | "UNSPECIFIED" => None,
            "FORWARD" => Some(true),
            "IGNORE" => Some(false),
            _ => return Err(unmatched.bad("is neither FORWARD nor IGNORE")),
        },
    })
}

pub(super) fn headers(field: &Field<'_>) -> Decoded<Headers> {
    Ok(Headers { request: changes(&field.get("request")?)?, response: changes(&field.get("response")?)? })
}

fn changes(field: &Field<'_>) -> Decoded<HeaderChanges> {
    let pairs = |name: &str| field.get(name)?.secret().map()?.iter().map(pair).collect::<Decoded<Vec<_>>>();
    let gone = |one: &Field<'_>| {
        let name = one.text()?;
        let ok = HEADER_NAME.takes(name) && !is_authority(name);
        ok.then(|| name.into()).ok_or_else(|| one.bad("is no header that may be removed"))
    };
    let (set, add) = (pairs("set")?, pairs("add")?);
    if set.len() + add.len() > MAX_CHANGES {
        return Err(field.bad(&format!("sets and adds more than {MAX_CHANGES} headers")));
    }
    Ok(HeaderChanges {
        set,
        add,
        remove: field.get("remove")?.list()?.iter().map(gone).collect::<Decoded<_>>()?,
    })
}

fn pair((name, value): &(&str, Field<'_>)) -> Decoded<(Name, Name)> {
    if !HEADER_NAME.takes(name) && !is_authority(name) {
        return Err(value.bad(&format!("is not under {}", HEADER_NAME.allowed)));
    }
    let text = value.spelled(HEADER_VALUE)?;
    format::check(text).map_err(|why| value.bad(&why))?;
    Ok(((*name).into(), text.into()))
}

/// Whether requests are told apart by this header: it is rewritten, not added.
fn is_authority(name: &str) -> bool {
    name.eq_ignore_ascii_case("host") || name == ":authority"
}
