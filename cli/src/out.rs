//! Standard output: colours only for people, and a quiet end when nobody reads any more.

use std::io::{self, IsTerminal as _, Write as _};

use anstream::{AutoStream, ColorChoice};
use anyhow::Result;
use serde::Serialize;
use terminal_size::{Height, Width, terminal_size_of};

use crate::args::Format;
use crate::render::Line;
use crate::render::line::text;

/// Where text goes.
pub(crate) struct Out {
    /// With colours.
    colour: bool,
    /// Columns and lines of the terminal; `None` on a pipe.
    terminal: bool,
    /// Lines that the last drawing took.
    drawn: usize,
}

impl Out {
    /// Standard output.
    pub(crate) fn stdout() -> Self {
        let stdout = io::stdout();
        Self {
            colour: AutoStream::choice(&stdout) != ColorChoice::Never,
            terminal: stdout.is_terminal(),
            drawn: 0,
        }
    }

    /// Somebody looks at it.
    pub(crate) fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Writes lines.
    pub(crate) fn lines(&self, lines: &[Line]) -> Result<()> {
        write(&text(lines, self.colour))
    }

    /// Writes lines in the place of those that were drawn before.
    pub(crate) fn redraw(&mut self, lines: Vec<Line>) -> Result<()> {
        let (width, height) = terminal_size_of(io::stdout())
            .map_or((80, 24), |(Width(width), Height(height))| (width, height));
        let most = usize::from(height).saturating_sub(1).max(1);
        let mut lines: Vec<Line> = lines
            .into_iter()
            .map(|line| line.cut(usize::from(width)))
            .collect();
        if lines.len() > most {
            lines.truncate(most - 1);
            lines.push(Line::plain("…"));
        }
        let up = match self.drawn {
            0 => String::new(),
            drawn => format!("\u{1b}[{drawn}A\r\u{1b}[J"),
        };
        self.drawn = lines.len();
        write(&format!("{up}{}", text(&lines, self.colour)))
    }
}

/// Writes text as it is.
pub(crate) fn write(text: &str) -> Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()?;
    Ok(())
}

/// A value in a form for programs.
pub(crate) fn form<T: Serialize>(value: &T, format: Format) -> Result<String> {
    if format == Format::Yaml {
        return Ok(serde_yaml_ng::to_string(value)?);
    }
    Ok(serde_json::to_string_pretty(value)? + "\n")
}

/// Writes a value in a form for programs.
pub(crate) fn data<T: Serialize>(value: &T, format: Format) -> Result<()> {
    write(&form(value, format)?)
}

/// Whether an error only says that nobody reads any more.
pub(crate) fn nobody_reads(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
}
