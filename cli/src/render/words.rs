//! Times and shares in few characters.

use jiff::Timestamp;

/// A span such as `12s`, `4m12s`, `3h5m`, `2d3h`.
fn span(seconds: i64) -> String {
    let (first, second) = match seconds {
        ..60 => return format!("{}s", seconds.max(0)),
        60..3600 => ((seconds / 60, "m"), (seconds % 60, "s")),
        3600..86400 => ((seconds / 3600, "h"), (seconds % 3600 / 60, "m")),
        _ => ((seconds / 86400, "d"), (seconds % 86400 / 3600, "h")),
    };
    let end = match second {
        (0, _) => String::new(),
        (count, unit) => format!("{count}{unit}"),
    };
    format!("{}{}{end}", first.0, first.1)
}

/// How long ago that was.
pub(crate) fn age(at: Option<Timestamp>, now: Timestamp) -> String {
    at.map_or_else(String::new, |at| span(now.duration_since(at).as_secs()))
}

/// How long it takes until then, or that it is due.
pub(crate) fn ahead(at: Timestamp, now: Timestamp) -> String {
    let left = at.duration_since(now).as_secs();
    if left <= 0 {
        return "now".into();
    }
    format!("in {}", span(left))
}

/// A point in time to the second.
pub(crate) fn clock(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// A share as a bar of `width` characters.
pub(crate) fn bar(percent: i32, width: usize) -> String {
    let percent = usize::try_from(percent.clamp(0, 100)).unwrap_or_default();
    let full = (percent * width + 50) / 100;
    // Something is something, and not all is not all.
    let full = match percent {
        1..100 => full.clamp(1, width.saturating_sub(1)),
        _ => full,
    };
    format!("{}{}", "█".repeat(full), "░".repeat(width - full))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_two_units_at_most() {
        let told = [0, 59, 60, 252, 3600, 11_100, 86_400, 183_600].map(span);
        assert_eq!(
            told,
            ["0s", "59s", "1m", "4m12s", "1h", "3h5m", "1d", "2d3h"]
        );
        assert_eq!(span(-3), "0s", "clocks differ");
    }

    #[test]
    fn a_bar_is_full_only_at_the_end() {
        assert_eq!(bar(25, 8), "██░░░░░░");
        assert_eq!(bar(1, 8), "█░░░░░░░");
        assert_eq!(bar(99, 8), "███████░");
        assert_eq!(bar(0, 4), "░░░░");
        assert_eq!(bar(100, 4), "████");
    }
}
