//! Lines of text with colours that can be left out.

use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};

/// What a piece of text means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Tone {
    /// Nothing special.
    #[default]
    Plain,
    /// Of less weight.
    Dim,
    /// A heading or a name.
    Strong,
    /// As it should be.
    Good,
    /// Under way.
    Busy,
    /// Wrong.
    Bad,
}

impl Tone {
    fn style(self) -> Style {
        match self {
            Self::Plain => Style::new(),
            Self::Dim => Style::new().dimmed(),
            Self::Strong => Style::new().bold(),
            Self::Good => AnsiColor::Green.on_default(),
            Self::Busy => AnsiColor::Yellow.on_default(),
            Self::Bad => AnsiColor::Red.on_default().bold(),
        }
    }
}

/// A line, or a part of one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Line(Vec<(String, Tone)>);

impl Line {
    /// Without special meaning.
    pub(crate) fn plain(text: impl Into<String>) -> Self {
        Self::toned(text, Tone::Plain)
    }

    /// With a meaning.
    pub(crate) fn toned(text: impl Into<String>, tone: Tone) -> Self {
        // A message with line breaks would tear the table apart, and one with escape sequences the
        // terminal.
        let text: String = text.into();
        let text = text.replace(char::is_control, " ");
        Self(vec![(text, tone)])
    }

    /// This and then `more`.
    #[must_use]
    pub(crate) fn and(mut self, more: Self) -> Self {
        self.0.extend(more.0);
        self
    }

    /// How many columns it takes.
    pub(crate) fn width(&self) -> usize {
        self.0.iter().map(|(text, _)| text.chars().count()).sum()
    }

    /// Filled up with blanks.
    #[must_use]
    pub(crate) fn padded(self, width: usize) -> Self {
        let missing = width.saturating_sub(self.width());
        self.and(Self(vec![(" ".repeat(missing), Tone::Plain)]))
    }

    /// Not wider than that.
    #[must_use]
    pub(crate) fn cut(self, width: usize) -> Self {
        if self.width() <= width {
            return self;
        }
        let mut left = width.saturating_sub(1);
        let mut kept = Vec::new();
        for (text, tone) in self.0 {
            let part: String = text.chars().take(left).collect();
            left -= part.chars().count();
            kept.push((part, tone));
            if left == 0 {
                break;
            }
        }
        kept.push(("…".to_owned(), Tone::Plain));
        Self(kept)
    }

    /// As it is written, without blanks at the end.
    pub(crate) fn text(&self, colour: bool) -> String {
        let last = self
            .0
            .iter()
            .rposition(|(text, _)| !text.trim_end().is_empty());
        let mut out = String::new();
        for (at, (text, tone)) in self.0.iter().enumerate() {
            let text = match last {
                Some(last) if at == last => text.trim_end(),
                Some(last) if at < last => text,
                _ => break,
            };
            let style = tone.style();
            if colour && !style.is_plain() {
                let _ = write!(out, "{style}{text}{style:#}");
            } else {
                out.push_str(text);
            }
        }
        out
    }
}

/// Lines as one text.
pub(crate) fn text(lines: &[Line], colour: bool) -> String {
    let lines = lines.iter().map(|line| line.text(colour) + "\n");
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_cut_and_keeps_its_colours() {
        let line = Line::toned("abc", Tone::Good).and(Line::plain("defgh"));
        assert_eq!(line.clone().cut(8).text(false), "abcdefgh");
        assert_eq!(line.clone().cut(5).text(false), "abcd…");
        assert_eq!(line.cut(5).text(true), "\u{1b}[32mabc\u{1b}[0md…");
    }

    #[test]
    fn messages_do_not_reach_the_terminal_as_commands() {
        let line = Line::plain("a\n\u{1b}[2Jb  ");
        assert_eq!(line.text(true), "a  [2Jb");
    }
}
