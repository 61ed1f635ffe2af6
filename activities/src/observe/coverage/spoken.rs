//! What a test writes into a spec, read from its source: where a field stands in the JSON that it makes, also
//! when that is put together of parts.

use std::collections::{BTreeMap, BTreeSet};

/// One place where a key is written.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    /// Keys from the outermost that can be seen to this one.
    keys: Vec<String>,
    /// Nothing can be around it: it began with `spec`.
    whole: bool,
    /// Its value is a variable, so that something else may be put in here.
    hole: bool,
}

/// The functions of a file by name, each with its whole text. As rustfmt writes them: the last line is a brace
/// that is indented like the first one.
fn functions(code: &str) -> BTreeMap<&str, String> {
    let mut found: BTreeMap<&str, String> = BTreeMap::new();
    let mut open: Option<(&str, &str)> = None;
    for line in code.lines() {
        if open.is_none()
            && let Some((before, after)) = line.split_once("fn ")
            && before
                .chars()
                .all(|it| it.is_ascii_lowercase() || " ()".contains(it))
        {
            let end = after.find(|it: char| !it.is_alphanumeric() && it != '_');
            let indent = &line[..line.len() - line.trim_start().len()];
            open = Some((&after[..end.unwrap_or(after.len())], indent));
        }
        let Some((name, indent)) = open else {
            continue;
        };
        let text = found.entry(name).or_default();
        text.push_str(line);
        text.push('\n');
        if line.strip_prefix(indent).is_some_and(|it| it == "}") {
            open = None;
        }
    }
    found
}

/// The text of a function and of all that it calls in these files; `None` when the first has no such function.
pub(super) fn with_helpers(name: &str, files: &[String]) -> Option<String> {
    let own = functions(files.first()?);
    own.get(name)?;
    let mut all: BTreeMap<&str, String> = BTreeMap::new();
    for file in files {
        for (name, text) in functions(file) {
            all.entry(name).or_insert(text);
        }
    }
    let (mut told, mut seen, mut open) = (String::new(), BTreeSet::new(), vec![name]);
    while let Some(next) = open.pop() {
        if !seen.insert(next) {
            continue;
        }
        let text = &all[next];
        let calls = |name: &str| {
            text.match_indices(&format!("{name}(")).any(|(at, _)| {
                let before = text[..at].chars().next_back();
                !before.is_some_and(|it| it.is_alphanumeric() || it == '_')
            })
        };
        open.extend(all.keys().copied().filter(|name| calls(name)));
        told.push_str(text);
    }
    Some(told)
}

/// Whether this text writes the field at `path`, such as `.rollout.steps[].weight`, under its parents' names.
pub(super) fn writes(text: &str, path: &str) -> bool {
    let path = path.replace("[]", ".[]");
    let fields: Vec<&str> = path.split('.').filter(|field| !field.is_empty()).collect();
    is_written(&places(text, &fields), &fields, false)
}

fn is_written(places: &[Place], fields: &[&str], around: bool) -> bool {
    if fields.is_empty() {
        return true;
    }
    let here = |place: &&Place| {
        let fits = fields.ends_with(&place.keys.iter().map(String::as_str).collect::<Vec<_>>());
        fits && (place.hole || !around) && !place.keys.is_empty()
    };
    places.iter().filter(here).any(|place| {
        let rest = &fields[..fields.len() - place.keys.len()];
        if place.whole || rest.is_empty() {
            return rest.is_empty();
        }
        is_written(places, rest, true)
    })
}

/// A bracket that is open.
#[derive(Debug)]
struct Frame {
    /// Keys whose value it is, and `[]` in a list.
    keys: Vec<String>,
    /// It is JSON, not code.
    json: bool,
}

struct Scan<'a> {
    text: &'a str,
    at: usize,
    /// Names of the fields around: a variable that is named like one of them is taken for it.
    fields: &'a [&'a str],
    frames: Vec<Frame>,
    /// Keys whose value is next.
    pending: Vec<String>,
    found: Vec<Place>,
}

fn places(text: &str, fields: &[&str]) -> Vec<Place> {
    let mut scan = Scan {
        text,
        at: 0,
        fields,
        frames: Vec::new(),
        pending: Vec::new(),
        found: Vec::new(),
    };
    while scan.step().is_some() {}
    scan.found
}

fn is_word(it: char) -> bool {
    it.is_alphanumeric() || it == '_'
}

impl Scan<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    /// The next thing; `None` at the end.
    fn step(&mut self) -> Option<()> {
        let next = self.rest().chars().next()?;
        match next {
            '/' if self.rest().starts_with("//") => {
                self.at += self.rest().find('\n').unwrap_or(self.rest().len());
            }
            '"' => {
                let text = self.string();
                let value = self.rest().trim_start();
                if value.starts_with(':') && !value.starts_with("::") {
                    self.at = self.text.len() - value.len() + 1;
                    self.key(vec![text]);
                }
            }
            // Neither a character in quotes nor what is in a raw string is a bracket.
            '\'' if self.rest().chars().nth(2) == Some('\'') => {
                self.at += 2 + self.rest().chars().nth(1).map_or(1, char::len_utf8);
            }
            'r' if self.rest().starts_with("r#\"") => {
                let end = self.rest().find("\"#");
                self.at += end.map_or(self.rest().len(), |end| end + 2);
            }
            '[' if self.index() => {}
            '{' | '[' | '(' => {
                let mut keys = std::mem::take(&mut self.pending);
                let json = match next {
                    '(' => self.text[..self.at].ends_with("json!"),
                    _ => self.frames.last().is_some_and(|around| around.json),
                };
                if json && next == '[' {
                    keys.push("[]".to_owned());
                }
                self.frames.push(Frame { keys, json });
                self.at += 1;
            }
            '}' | ']' | ')' => {
                self.pending.clear();
                self.frames.pop();
                self.at += 1;
            }
            ',' | ';' => {
                self.pending.clear();
                self.at += 1;
            }
            _ => self.at += next.len_utf8(),
        }
        Some(())
    }

    /// A string that begins here.
    fn string(&mut self) -> String {
        let mut text = String::new();
        let mut letters = self.rest().char_indices().skip(1);
        let mut length = self.rest().len();
        while let Some((at, letter)) = letters.next() {
            match letter {
                '\\' => _ = letters.next(),
                '"' => {
                    length = at + 1;
                    break;
                }
                letter => text.push(letter),
            }
        }
        self.at += length;
        text
    }

    /// Assignments such as `rollout["gate"] = …` and `process["spec"]["replicas"] = …`.
    fn index(&mut self) -> bool {
        let before = self.text[..self.at].trim_end_matches(is_word);
        let variable = &self.text[before.len()..self.at];
        if variable.is_empty() {
            return false;
        }
        let start = self.at;
        let mut keys = Vec::new();
        if self.fields.contains(&variable) {
            keys.push(variable.to_owned());
        }
        while self.rest().starts_with('[') {
            self.at += 1;
            if self.rest().starts_with('"') {
                keys.push(self.string());
            } else {
                self.at += self.rest().find(|it| !is_word(it)).unwrap_or(0);
            }
            if !self.rest().starts_with(']') {
                self.at = start;
                return false;
            }
            self.at += 1;
        }
        let value = self.rest().trim_start();
        if value.starts_with('=') && !value.starts_with("==") {
            self.at = self.text.len() - value.len() + 1;
            self.key(keys);
        }
        true
    }

    /// Keys that are written here, before their value.
    fn key(&mut self, keys: Vec<String>) {
        let around = self.frames.iter().flat_map(|frame| frame.keys.iter());
        let mut all: Vec<String> = around.chain(&keys).cloned().collect();
        let spec = all.iter().rposition(|key| key == "spec");
        if let Some(spec) = spec {
            all.drain(..=spec);
        }
        let value = self.rest().trim_start().trim_start_matches('&');
        let word = &value[..value.find(|it| !is_word(it)).unwrap_or(value.len())];
        let known = ["true", "false", "null", "json"].contains(&word);
        let number = word.starts_with(|it: char| it.is_ascii_digit());
        self.found.push(Place {
            keys: all,
            whole: spec.is_some(),
            hole: !word.is_empty() && !known && !number,
        });
        self.pending = keys;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
fn gated(gate: &Value, steps: &Value) -> Value {
    let mut rollout = canary(steps);
    rollout["gate"] = gate.clone();
    rollout
}

fn canary(steps: &Value) -> Value {
    json!({ "strategy": "Canary", "steps": steps })
}

fn change(rollout: &Value) -> Value {
    let mut change = json!({});
    change["spec"]["rollout"] = rollout.clone();
    change
}

#[tokio::test]
async fn of_the_rollout() -> Result<()> {
    // "replicas": 1 is not written here.
    let policy = gated(&json!({ "attempts": 2 }), &json!([{ "weight": 30, "pause": {} }]));
    env.patch("l2o", &change(&policy)).await?;
}

async fn of_a_step() -> Result<()> {
    let policy = canary(&json!([{ "weight": 30, "gate": { "attempts": 2 } }]));
    env.patch("l2o", &change(&policy)).await?;
    env.patch("l2o", &json!({ "spec": { "drain": { "timeoutSeconds": 2 } } })).await?;
}

async fn of_nothing() -> Result<()> {
    let policy = json!({ "steps": [{ "weight": 30 }] });
    ensure!(found["spec"]["replicas"] == 1, "{found}");
}
"#;

    fn says(test: &str, path: &str) -> bool {
        let body = with_helpers(test, &[FILE.to_owned()]).expect("a function");
        writes(&body, path)
    }

    #[test]
    fn a_field_counts_under_its_parents_only() {
        assert!(says("of_the_rollout", ".rollout.gate.attempts"));
        assert!(!says("of_the_rollout", ".rollout.steps[].gate.attempts"));
        assert!(says("of_a_step", ".rollout.steps[].gate.attempts"));
        assert!(!says("of_a_step", ".rollout.gate.attempts"));
        assert!(says("of_a_step", ".drain.timeoutSeconds"));
        assert!(!says("of_a_step", ".deletion.timeoutSeconds"));
        assert!(says("of_the_rollout", ".rollout.strategy"));
        assert!(says("of_the_rollout", ".rollout.steps[].weight"));
    }

    #[test]
    fn what_is_only_looked_at_or_put_nowhere_does_not_count() {
        assert!(!says("of_nothing", ".replicas"));
        assert!(!says("of_nothing", ".rollout.steps[].weight"));
        assert!(!says("of_the_rollout", ".replicas"));
        assert!(with_helpers("of_something", &[FILE.to_owned()]).is_none());
    }
}
