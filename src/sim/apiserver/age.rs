//! Times as tables show them: how long ago, in the short form of kubectl.

use serde_json::Value;

/// Time since `time` in at most two units: `42s`, `5m30s`, `3h`, `12d`; `<unknown>` without a time.
pub(super) fn age(time: &Value) -> String {
    since(time, jiff::Timestamp::now())
}

fn since(time: &Value, now: jiff::Timestamp) -> String {
    match time.as_str().and_then(|text| text.parse::<jiff::Timestamp>().ok()) {
        Some(time) => short(now.as_second().saturating_sub(time.as_second()).max(0)),
        None => "<unknown>".into(),
    }
}

/// A duration in seconds: the larger the unit, the fewer small ones are told.
fn short(seconds: i64) -> String {
    let (minutes, hours, days, years) =
        (seconds / 60, seconds / 3600, seconds / 86_400, seconds / 31_536_000);
    let two = |large: i64, unit: &str, small: i64, small_unit: &str| match small {
        0 => format!("{large}{unit}"),
        small => format!("{large}{unit}{small}{small_unit}"),
    };
    match seconds {
        0..120 => format!("{seconds}s"),
        120..600 => two(minutes, "m", seconds % 60, "s"),
        600..10_800 => format!("{minutes}m"),
        10_800..28_800 => two(hours, "h", minutes % 60, "m"),
        28_800..172_800 => format!("{hours}h"),
        172_800..691_200 => two(days, "d", hours % 24, "h"),
        691_200..63_072_000 => format!("{days}d"),
        63_072_000..252_288_000 => two(years, "y", days % 365, "d"),
        _ => format!("{years}y"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ages_are_short() {
        let now: jiff::Timestamp = "2024-01-03T00:00:00Z".parse().unwrap();
        for (created, want) in [
            ("2024-01-02T23:59:30Z", "30s"),
            ("2024-01-02T23:54:30Z", "5m30s"),
            ("2024-01-02T23:00:00Z", "60m"),
            ("2024-01-02T20:00:00Z", "4h"),
            ("2024-01-02T00:00:00Z", "24h"),
            ("2023-12-31T20:00:00Z", "2d4h"),
            ("2023-12-01T00:00:00Z", "33d"),
        ] {
            assert_eq!(since(&json!(created), now), want);
        }
        assert_eq!(since(&Value::Null, now), "<unknown>");
    }
}
