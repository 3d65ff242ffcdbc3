//! Faults: what a server, or a proxy in front of it, does wrong on purpose.

mod board;
mod bodies;
mod control;
mod effect;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

pub(super) use self::board::{Board, Struck};
pub(super) use self::bodies::{instead, strike};
pub(super) use self::control::answer;
pub(super) use self::effect::{Answer, Effect, Gone, Once};

/// *Fatal* for the fault: the text is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no fault: {why}")]
pub struct FaultError {
    text: String,
    why: String,
}

/// One fault: what, where and when.
///
/// A fault is written `NAME[=VALUE][,OPTION=VALUE…]`, for instance `status=503,on=list/pods,times=3` or
/// `stall-headers,on=watch,after=5s,for=1m`:
///
/// | fault | what happens |
/// |---|---|
/// | `refuse` | nothing listens: connections are refused, open ones are closed |
/// | `stall-headers` | requests are never answered |
/// | `stall-body[=BYTES]` | answers stop after the headers and so many bytes, open and silent |
/// | `stall-page` | the second and later pages of lists are never answered |
/// | `status=CODE` | this status, with `type=MEDIA`, `retry-after=SECONDS` and `body=TEXT` (the rest of the text) |
/// | `gone=start\|event\|page` | 410: as a status at the start, as an ERROR event of a watch, on later pages |
/// | `cut=BYTES` | the connection breaks after so many bytes of a body |
/// | `corrupt=BYTE` | one bit of that byte of a body is flipped |
/// | `duplicate` | each event of a watch comes twice |
/// | `reorder` | neighbouring events of a watch change places |
/// | `empty-list` | lists, streaming ones too, are answered as if there were nothing |
/// | `slow=BYTES` | bodies come with at most so many bytes per second |
/// | `endless-line` | bodies are one line that never ends |
/// | `expired-token` | every token is refused with 401 |
/// | `revision=±N` | once: the server's revisions jump, and its history is lost |
/// | `rotate-certificate` | once: another serving certificate of the same authority, connections are closed |
/// | `compact`, `disconnect` | once: history is forgotten; running watches break |
///
/// Options: `on=VERB` or `on=VERB/RESOURCE` or `on=/RESOURCE` (all requests about objects otherwise), `after=DURATION`,
/// `for=DURATION`, `times=N` requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub(super) what: What,
    /// As written.
    text: String,
    pub(super) verb: Option<String>,
    pub(super) resource: Option<String>,
    pub(super) after: Duration,
    pub(super) lasts: Option<Duration>,
    pub(super) times: Option<u64>,
}

/// Lasting, or done once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum What {
    Lasting(Effect),
    Once(Once),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Fault {
    /// The resource it befalls, if it is about one.
    pub fn resource(&self) -> Option<&str> {
        self.resource.as_deref()
    }
}

impl FromStr for Fault {
    type Err = FaultError;

    fn from_str(text: &str) -> Result<Self, FaultError> {
        parse(text).map_err(|why| FaultError { text: text.chars().take(120).collect(), why })
    }
}

fn parse(text: &str) -> Result<Fault, String> {
    let text = text.trim();
    // A body may contain anything, so it comes last.
    let (head, body) = match text.split_once(",body=") {
        Some((head, body)) => (head, Some(body)),
        None => (text, None),
    };
    let mut parts = head.split(',').map(|part| part.split_once('=').unwrap_or((part, "")));
    let (name, value) = parts.next().unwrap_or_default();
    let mut answer = Answer { body: body.unwrap_or_default().to_owned(), ..Answer::default() };
    let mut fault = Fault {
        what: What::Once(Once::Compact),
        text: text.to_owned(),
        verb: None,
        resource: None,
        after: Duration::ZERO,
        lasts: None,
        times: None,
    };
    let (mut selects, mut answers) = (false, body.is_some());
    for (option, value) in parts {
        match option.trim() {
            "on" => {
                let (verb, resource) = value.split_once('/').unwrap_or((value, ""));
                fault.verb = (!verb.is_empty()).then(|| verb.to_owned());
                fault.resource = (!resource.is_empty()).then(|| resource.to_owned());
                selects = true;
            }
            "after" => fault.after = duration(value)?,
            "for" => fault.lasts = Some(duration(value)?),
            "times" => {
                fault.times = Some(number(value)?);
                selects = true;
            }
            "type" => {
                answer.media = Some(value.to_owned());
                answers = true;
            }
            "retry-after" => {
                answer.retry_after = Some(number(value)?);
                answers = true;
            }
            other => {
                return Err(format!(
                    "option `{other}` is not on, after, for, times, type, retry-after or body"
                ));
            }
        }
    }
    fault.what = effect::parse(name.trim(), value, answer)?;
    let answering = matches!(fault.what, What::Lasting(Effect::Status(_)));
    if answers && !answering {
        return Err("type, retry-after and body belong to status".to_owned());
    }
    let whole = matches!(fault.what, What::Once(_) | What::Lasting(Effect::Refuse));
    if selects && whole {
        return Err("on and times do not go with what befalls the whole server".to_owned());
    }
    if fault.lasts.is_some() && matches!(fault.what, What::Once(_)) {
        return Err("for does not go with what happens once".to_owned());
    }
    if let Some(verb) = fault.verb.as_deref().filter(|verb| !effect::VERBS.contains(verb)) {
        return Err(format!("verb `{verb}` is not one of {}", effect::VERBS.join(", ")));
    }
    Ok(fault)
}

fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|_| format!("`{text}` is not a duration such as 5s or 1m"))
}

fn number<T: FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("`{text}` is not a number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_written_as_words() {
        let fault: Fault =
            "status=503,on=list/pods,times=3,retry-after=600,body={\"a\": 1, \"b\": 2}".parse().unwrap();
        assert_eq!(
            (fault.verb.as_deref(), fault.resource.as_deref(), fault.times),
            (Some("list"), Some("pods"), Some(3))
        );
        let What::Lasting(Effect::Status(answer)) = &fault.what else { panic!("{fault:?}") };
        assert_eq!(
            (answer.code, answer.retry_after, answer.body.as_str()),
            (503, Some(600), "{\"a\": 1, \"b\": 2}")
        );
        let fault: Fault = "stall-headers,on=watch,after=5s,for=1m".parse().unwrap();
        assert_eq!((fault.after.as_secs(), fault.lasts.map(|d| d.as_secs())), (5, Some(60)));
        for text in [
            "refuse,for=10s",
            "stall-body",
            "stall-body=7",
            "gone=page",
            "revision=-60",
            "compact,after=1s",
            "rotate-certificate",
            "slow=1",
            "corrupt=0,on=/services",
            "empty-list,on=list/services",
        ] {
            assert_eq!(text.parse::<Fault>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_fault_is_told_with_the_reason() {
        for (text, word) in [
            ("", "stall-headers"),
            ("stall", "stall-headers"),
            ("status=abc", "number"),
            ("status=99", "status"),
            ("gone=now", "start"),
            ("cut=x", "number"),
            ("slow=0", "slow"),
            ("stall-headers,on=look/pods", "look"),
            ("stall-headers,when=now", "when"),
            ("refuse,times=2", "whole server"),
            ("compact,for=2s", "once"),
            ("cut=1,body=x", "status"),
            ("refuse,for=soon", "soon"),
            ("refuse=now", "value"),
        ] {
            let error = text.parse::<Fault>().unwrap_err().to_string();
            assert!(error.contains(word), "{text:?}: {error}");
        }
    }
}
