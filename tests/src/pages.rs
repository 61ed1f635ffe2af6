//! Command lines in the pages of the documentation. Unit tests of the programs parse them with the arguments that the
//! programs have.

use std::fmt::Display;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// A command that stands in a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// The page and the line, such as `docs/cli.md:82`.
    pub place: String,
    /// The program and its arguments, without quotes.
    pub words: Vec<String>,
}

impl Command {
    /// Why a parser refuses it, and where it stands. What is written in upper case stands for something, which may
    /// have to be a number or a time.
    pub fn refused<T, E: Display>(
        &self,
        parse: impl Fn(Vec<String>) -> Result<T, E>,
    ) -> Option<String> {
        let error = parse(self.words.clone()).err()?;
        let filled = self.words.iter().map(|word| {
            let stands = word.len() > 1 && word.bytes().all(|it| it.is_ascii_uppercase());
            if stands { "1".to_owned() } else { word.clone() }
        });
        parse(filled.collect()).err()?;
        Some(format!("{}: {error}", self.place))
    }
}

/// The commands in the blocks of all pages that begin with these words, such as `cargo xtask`. The last of them is
/// the first of what is found.
pub fn commands(begin: &[&str]) -> Result<Vec<Command>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut pages = vec![root.join("README.md")];
    for place in ["docs", "examples"] {
        below(&root.join(place), &mut pages)?;
    }
    let mut found = Vec::new();
    for page in pages {
        let text = fs::read_to_string(&page).with_context(|| page.display().to_string())?;
        let name = page.strip_prefix(&root)?.display().to_string();
        // Made from the arguments, with brackets around what may be left out.
        if name.starts_with("docs/reference") {
            continue;
        }
        for (line, text) in lines(&text) {
            let commands = split(&text).into_iter();
            found.extend(commands.filter_map(|words| {
                let is_setting = |word: &String| !word.starts_with('-') && word.contains('=');
                let mut words: Vec<String> = words.into_iter().skip_while(is_setting).collect();
                let fits =
                    words.len() >= begin.len() && words.iter().zip(begin).all(|(a, b)| a == b);
                let place = format!("{name}:{line}");
                fits.then(|| Command {
                    place,
                    words: words.split_off(begin.len().saturating_sub(1)),
                })
            }));
        }
    }
    Ok(found)
}

/// All pages in a directory and below.
fn below(dir: &Path, pages: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(dir).with_context(|| dir.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            below(&path, pages)?;
        } else if path.extension().is_some_and(|it| it == "md") {
            pages.push(path);
        }
    }
    Ok(())
}

/// The lines in blocks, each with the number of its first one, without a prompt.
fn lines(page: &str) -> Vec<(usize, String)> {
    let mut found: Vec<(usize, String)> = Vec::new();
    // What the block is written in.
    let mut block: Option<&str> = None;
    let mut goes_on = false;
    for (number, line) in (1..).zip(page.lines()) {
        let line = line.trim();
        if let Some(language) = line.strip_prefix("```") {
            block = match block {
                Some(_) => None,
                None => Some(language),
            };
            goes_on = false;
            continue;
        }
        let Some(language) = block else {
            continue;
        };
        let mut line = line.strip_prefix("$ ").unwrap_or(line);
        if language == "text" {
            // The next column has words about the command.
            line = line.split("  ").next().unwrap_or_default();
        }
        let (part, open) = match line.strip_suffix('\\') {
            Some(part) => (part, true),
            None => (line, false),
        };
        match found.last_mut().filter(|_| goes_on) {
            Some((_, whole)) => whole.push_str(part),
            None => found.push((number, part.to_owned())),
        }
        goes_on = open;
    }
    found
}

/// The commands of a line as words. It is as much of a shell as pages use.
fn split(line: &str) -> Vec<Vec<String>> {
    let mut shell = Shell::default();
    let mut quote = None;
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None | Some('"'), '\\') => shell.word().extend(chars.next()),
            (None, '\'' | '"') => {
                // Nothing in quotes is a word too.
                shell.word();
                quote = Some(c);
            }
            (None, '#') if shell.word.is_none() => break,
            (None, '|' | '&' | ';') => shell.end_command(),
            (None, '<' | '>') => {
                shell.redirect();
                while chars.next_if(|c| matches!(c, '<' | '>' | '&')).is_some() {}
            }
            (None, c) if c.is_whitespace() => shell.end_word(),
            (_, c) => shell.word().push(c),
        }
    }
    shell.end_command();
    shell.commands
}

/// What was read of a line.
#[derive(Default)]
struct Shell {
    commands: Vec<Vec<String>>,
    words: Vec<String>,
    word: Option<String>,
    /// The next word is a file and no argument.
    is_file: bool,
}

impl Shell {
    fn word(&mut self) -> &mut String {
        self.word.get_or_insert_default()
    }

    fn end_word(&mut self) {
        let Some(word) = self.word.take() else {
            return;
        };
        if !std::mem::take(&mut self.is_file) {
            self.words.push(word);
        }
    }

    fn redirect(&mut self) {
        // As the 2 of `2>file`.
        if let Some(word) = &self.word
            && word.bytes().all(|it| it.is_ascii_digit())
        {
            self.word = None;
        }
        self.end_word();
        self.is_file = true;
    }

    fn end_command(&mut self) {
        self.end_word();
        self.is_file = false;
        let words = std::mem::take(&mut self.words);
        if !words.is_empty() {
            self.commands.push(words);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_taken_apart_as_a_shell_does() {
        let cases: [(&str, &[&[&str]]); 6] = [
            ("a  b", &[&["a", "b"]]),
            (
                "a 'b c' \"d 'e\" '' f\\ g",
                &[&["a", "b c", "d 'e", "", "f g"]],
            ),
            ("a | b -c && d; e", &[&["a"], &["b", "-c"], &["d"], &["e"]]),
            ("a <b c 2>/dev/null > d e 2>&1", &[&["a", "c", "e"]]),
            ("a b#c # d", &[&["a", "b#c"]]),
            ("# a", &[]),
        ];
        for (line, commands) in cases {
            assert_eq!(split(line), commands, "{line}");
        }
    }

    #[test]
    fn lines_of_blocks_are_joined_and_have_no_prompt() {
        let page = "a\n```sh\nb \\\n  c\n$ d\n```\ne\n   ```text\n   f g   words\n   ```\nh";
        let found = lines(page);
        let found: Vec<_> = found
            .iter()
            .map(|(line, text)| (*line, text.as_str()))
            .collect();
        assert_eq!(found, [(3, "b c"), (5, "d"), (9, "f g")]);
    }

    #[test]
    fn what_stands_for_something_is_filled_in_only_where_it_is_refused() {
        let command = |last: &str| Command {
            place: "docs/a.md:7".into(),
            words: vec!["a".into(), last.into()],
        };
        let number = |words: Vec<String>| words[1].parse::<i64>();
        assert_eq!(command("LINES").refused(number), None);
        let refused = command("lines").refused(number).expect("a refusal");
        assert!(refused.starts_with("docs/a.md:7: "), "{refused}");
        let name = |words: Vec<String>| (words[1] == "NAME").then_some(()).ok_or("another");
        assert_eq!(command("NAME").refused(name), None);
    }

    #[test]
    fn pages_have_commands() {
        let found = commands(&["kubectl", "apply"]).expect("pages");
        let file = "-f examples/process.yaml".split(' ').collect::<Vec<_>>();
        let fits = |command: &Command| command.words[0] == "apply" && command.words[1..] == file;
        assert!(
            found
                .iter()
                .any(|it| fits(it) && it.place.starts_with("docs/quickstart.md:")),
            "{found:#?}"
        );
    }
}
