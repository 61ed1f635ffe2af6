//! Label and field selectors, for lists that are served from remembered objects.

use serde_json::Value;

/// Whether an object fulfils a label selector such as `a=b,c!=d,e in (f,g),!h`.
pub(crate) fn labels_match(object: &Value, selector: &str) -> bool {
    let label = |key: &str| object["metadata"]["labels"][key.trim()].as_str();
    terms(selector).all(|term| {
        let term = term.trim();
        if let Some((key, values)) = term.split_once(" notin ") {
            label(key).is_none_or(|value| !listed(values, value))
        } else if let Some((key, values)) = term.split_once(" in ") {
            label(key).is_some_and(|value| listed(values, value))
        } else if let Some((key, wanted)) = term.split_once("!=") {
            label(key) != Some(wanted.trim())
        } else if let Some((key, wanted)) = term.split_once('=') {
            label(key) == Some(wanted.trim_start_matches('=').trim())
        } else if let Some(key) = term.strip_prefix('!') {
            label(key).is_none()
        } else {
            term.is_empty() || label(term).is_some()
        }
    })
}

/// Whether an object fulfils a field selector such as `metadata.name=x,status.phase!=Running`.
pub(crate) fn fields_match(object: &Value, selector: &str) -> bool {
    let field = |path: &str| {
        let found = path
            .trim()
            .split('.')
            .fold(object, |value, part| &value[part]);
        match found {
            Value::String(text) => text.clone(),
            Value::Null => String::new(),
            other => other.to_string(),
        }
    };
    terms(selector).all(|term| {
        if let Some((path, unwanted)) = term.split_once("!=") {
            field(path) != unwanted.trim()
        } else if let Some((path, wanted)) = term.split_once('=') {
            field(path) == wanted.trim_start_matches('=').trim()
        } else {
            term.trim().is_empty()
        }
    })
}

/// Splits at commas that are not inside parentheses.
fn terms(selector: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0_i32;
    selector.split(move |c| {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        c == ',' && depth == 0
    })
}

fn listed(values: &str, value: &str) -> bool {
    let inner = values.trim().trim_start_matches('(').trim_end_matches(')');
    inner.split(',').any(|listed| listed.trim() == value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn label_selectors() {
        let object = json!({"metadata": {"labels": {"app": "x", "tier": "web"}}});
        for (selector, expected) in [
            ("", true),
            ("app=x", true),
            ("app==x,tier=web", true),
            ("app=y", false),
            ("app!=y", true),
            ("none!=y", true),
            ("app in (a,x),tier in (web)", true),
            ("app in (a, b)", false),
            ("app notin (a,b),tier", true),
            ("!none", true),
            ("!app", false),
            ("none", false),
        ] {
            assert_eq!(labels_match(&object, selector), expected, "{selector}");
        }
    }

    #[test]
    fn field_selectors() {
        let object = json!({"metadata": {"name": "x"}, "spec": {"replicas": 3}});
        for (selector, expected) in [
            ("metadata.name=x", true),
            ("metadata.name==x,spec.replicas=3", true),
            ("metadata.name!=x", false),
            ("status.phase=", true),
            ("status.phase=Running", false),
        ] {
            assert_eq!(fields_match(&object, selector), expected, "{selector}");
        }
    }
}
