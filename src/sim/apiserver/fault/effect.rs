//! What goes wrong.

use super::What;

/// Verbs that `on=` knows, as the request log names them.
pub(super) const VERBS: [&str; 8] =
    ["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"];

/// What lasts until it is taken away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::sim::apiserver) enum Effect {
    /// Nothing listens.
    Refuse,
    /// No answer at all.
    StallHeaders,
    /// Headers and so many bytes, then silence.
    StallBody(usize),
    /// Later pages of lists are never answered.
    StallPage,
    /// This answer instead.
    Status(Answer),
    /// 410 in one of its places.
    Gone(Gone),
    /// The body breaks after so many bytes.
    Cut(usize),
    /// A bit of this byte of the body is flipped.
    Corrupt(usize),
    /// Events come twice.
    Duplicate,
    /// Neighbouring events change places.
    Reorder,
    /// Lists are empty.
    EmptyList,
    /// Bytes per second of a body.
    Slow(u32),
    /// A body of one line without end.
    EndlessLine,
    /// 401 for every token.
    ExpiredToken,
}

/// What happens once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sim::apiserver) enum Once {
    /// Revisions jump by so many, and history is lost.
    Revision(i64),
    /// Another certificate of the same authority.
    RotateCertificate,
    /// History is forgotten.
    Compact,
    /// Running watches break.
    Disconnect,
}

/// The three places of a 410.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sim::apiserver) enum Gone {
    /// The status of a watch or of a list's first page.
    Start,
    /// An ERROR event, as API servers tell it.
    Event,
    /// The status of a later page.
    Page,
}

/// An answer that the server did not give.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::sim::apiserver) struct Answer {
    /// HTTP status.
    pub(in crate::sim::apiserver) code: u16,
    /// `Content-Type`; `text/plain` unless given.
    pub(in crate::sim::apiserver) media: Option<String>,
    /// `Retry-After`, in seconds.
    pub(in crate::sim::apiserver) retry_after: Option<u64>,
    /// The body.
    pub(in crate::sim::apiserver) body: String,
}

pub(super) fn parse(name: &str, value: &str, mut answer: Answer) -> Result<What, String> {
    let number = || super::number::<usize>(value);
    let plain = |effect| if value.is_empty() { Ok(effect) } else { Err(format!("{name} takes no value")) };
    let lasting = match name {
        "refuse" => plain(Effect::Refuse)?,
        "stall-headers" => plain(Effect::StallHeaders)?,
        "stall-body" if value.is_empty() => Effect::StallBody(0),
        "stall-body" => Effect::StallBody(number()?),
        "stall-page" => plain(Effect::StallPage)?,
        "status" => {
            answer.code = super::number(value)?;
            if !(200..=599).contains(&answer.code) {
                return Err(format!("`{value}` is not a status from 200 to 599"));
            }
            Effect::Status(answer)
        }
        "gone" => Effect::Gone(match value {
            "start" => Gone::Start,
            "event" => Gone::Event,
            "page" => Gone::Page,
            _ => return Err("gone is start, event or page".to_owned()),
        }),
        "cut" => Effect::Cut(number()?),
        "corrupt" => Effect::Corrupt(number()?),
        "duplicate" => plain(Effect::Duplicate)?,
        "reorder" => plain(Effect::Reorder)?,
        "empty-list" => plain(Effect::EmptyList)?,
        "slow" => match super::number(value)? {
            0 => return Err("slow=0 would be stall-body".to_owned()),
            rate => Effect::Slow(rate),
        },
        "endless-line" => plain(Effect::EndlessLine)?,
        "expired-token" => plain(Effect::ExpiredToken)?,
        _ => return once(name, value).map(What::Once),
    };
    Ok(What::Lasting(lasting))
}

fn once(name: &str, value: &str) -> Result<Once, String> {
    let plain = |once| if value.is_empty() { Ok(once) } else { Err(format!("{name} takes no value")) };
    match name {
        "revision" => Ok(Once::Revision(super::number(value)?)),
        "rotate-certificate" => plain(Once::RotateCertificate),
        "compact" => plain(Once::Compact),
        "disconnect" => plain(Once::Disconnect),
        _ => Err("the faults are refuse, stall-headers, stall-body, stall-page, status, gone, cut, corrupt, duplicate, \
                  reorder, empty-list, slow, endless-line, expired-token, revision, rotate-certificate, compact and \
                  disconnect"
            .to_owned()),
    }
}
