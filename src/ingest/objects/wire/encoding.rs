//! The two encodings and how one asks for them.

/// How an API server writes objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// `application/json`; every server and kind.
    Json,
    /// `application/vnd.kubernetes.protobuf`; built-in kinds.
    Protobuf,
}

impl Encoding {
    /// What an answer's `Content-Type` says; `None` for what is neither, such as a portal's page (K-12).
    pub fn of_content_type(value: &str) -> Option<Self> {
        let media = value.split(';').next().unwrap_or_default().trim();
        if media.eq_ignore_ascii_case("application/json") {
            Some(Self::Json)
        } else if media.eq_ignore_ascii_case("application/vnd.kubernetes.protobuf") {
            Some(Self::Protobuf)
        } else {
            None
        }
    }
}

/// The `Accept` value for lists and single objects. JSON stays acceptable: not every server has messages.
pub fn accept_list(preferred: Encoding) -> &'static str {
    match preferred {
        Encoding::Json => "application/json",
        Encoding::Protobuf => "application/vnd.kubernetes.protobuf, application/json",
    }
}

/// The `Accept` value for watches.
pub fn accept_watch(preferred: Encoding) -> &'static str {
    match preferred {
        Encoding::Json => "application/json",
        Encoding::Protobuf => "application/vnd.kubernetes.protobuf;stream=watch, application/json",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn k12_only_the_two_encodings_are_read() {
        let of = Encoding::of_content_type;
        assert_eq!(of("application/json"), Some(Encoding::Json));
        assert_eq!(of("Application/JSON; charset=utf-8"), Some(Encoding::Json));
        assert_eq!(of("application/json;stream=watch"), Some(Encoding::Json));
        assert_eq!(of("application/vnd.kubernetes.protobuf;stream=watch"), Some(Encoding::Protobuf));
        for other in ["", "text/html; charset=utf-8", "application/json-patch+json", "text/plain"] {
            assert_eq!(of(other), None, "{other}");
        }
    }
}
