//! Every bound of the schema, one by one: what is just beyond it is refused by the real API server, with the
//! field's name. The values are made from the definition, so that no bound can be without its case.

use anyhow::{Context as _, Result, ensure};
use futures::StreamExt as _;
use process_operator_crds::cases::cases;
use process_operator_crds::crd::crd;
use process_operator_harness::Env;
use serde_json::{Value, json};

/// A step towards a field.
#[derive(Debug, Clone)]
enum Key {
    Field(String),
    /// The first of a list.
    Item,
    /// One of a map.
    Entry,
}

/// A write that must be refused with the name of a field, or not because of it.
#[derive(Debug, Clone)]
struct Probe {
    place: Vec<Key>,
    value: Value,
    /// Which bound it is about.
    bound: &'static str,
    fits: bool,
    /// The field that is named, below the place.
    below: String,
}

impl Probe {
    /// The field as the API server writes it.
    fn field(&self) -> String {
        let mut text = "spec".to_owned();
        for key in &self.place {
            match key {
                Key::Field(name) => text = format!("{text}.{name}"),
                Key::Item => text.push_str("[0]"),
                Key::Entry => text.push_str(".k"),
            }
        }
        format!("{text}{}", self.below)
    }

    fn manifest(&self, base: &Value) -> Value {
        let mut manifest = base.clone();
        let mut at = &mut manifest["spec"];
        for key in &self.place {
            at = match key {
                Key::Field(name) => &mut at[name.as_str()],
                Key::Entry => &mut at["k"],
                Key::Item => {
                    if at.get(0).is_none() {
                        *at = json!([null]);
                    }
                    &mut at[0]
                }
            };
        }
        *at = self.value.clone();
        manifest
    }
}

/// Collects the bounds of a schema and of what is below it.
struct Walk {
    place: Vec<Key>,
    probes: Vec<Probe>,
}

impl Walk {
    fn probe(&mut self, bound: &'static str, value: Value, fits: bool, below: &str) {
        self.probes.push(Probe {
            place: self.place.clone(),
            value,
            bound,
            fits,
            below: below.to_owned(),
        });
    }

    fn beyond(&mut self, bound: &'static str, value: Value) {
        self.probe(bound, value, false, "");
    }

    fn below(&mut self, key: Key, schema: &Value) {
        self.place.push(key);
        self.walk(schema);
        self.place.pop();
    }

    fn walk(&mut self, schema: &Value) {
        let whole = |name: &str| schema.get(name).and_then(Value::as_i64);
        let size = |name: &str| whole(name).and_then(|size| usize::try_from(size).ok());
        if let Some(most) = whole("maximum") {
            self.beyond("maximum", json!(i128::from(most) + 1));
            self.probe("maximum", json!(most), true, "");
            self.beyond("huge", json!(9_223_372_036_854_775_807_i64));
        }
        if let Some(least) = whole("minimum") {
            self.beyond("minimum", json!(i128::from(least) - 1));
            self.probe("minimum", json!(least), true, "");
            self.beyond("half", json!(0.5));
        }
        if let Some(longest) = size("maxLength") {
            self.beyond("maxLength", json!("a".repeat(longest + 1)));
        }
        if size("minLength").is_some_and(|least| least > 0) {
            self.beyond("minLength", json!(""));
        }
        if let Some(pattern) = schema.get("pattern").and_then(Value::as_str) {
            for odd in ["a\nb", "ü ü"] {
                self.beyond("pattern", json!(odd));
            }
            // Names that become a part of an address.
            if pattern.starts_with("^[a-z0-9]") {
                for path in ["..", "../a", "a/b", "A"] {
                    self.beyond("pattern", json!(path));
                }
            }
        }
        if schema.get("enum").is_some() {
            self.beyond("enum", json!("Unheard"));
        }
        if let Some(most) = size("maxItems") {
            let item = sample(&schema["items"]);
            self.beyond("maxItems", vec![item; most + 1].into());
        }
        if size("minItems").is_some_and(|least| least > 0) {
            self.beyond("minItems", json!([]));
        }
        if let Some(most) = size("maxProperties") {
            let value = sample(&schema["additionalProperties"]);
            let many = (0..=most).map(|n| (format!("k{n}"), value.clone()));
            self.beyond("maxProperties", Value::Object(many.collect()));
        }
        if schema["x-kubernetes-list-type"] == "map" {
            let item = sample(&schema["items"]);
            self.probe("list map", json!([item, item]), false, "[1]");
        }
        for name in schema["required"].as_array().into_iter().flatten() {
            let name = name.as_str().unwrap_or_default();
            self.probe("required", json!({}), false, &format!(".{name}"));
            let null = json!({ name: null });
            self.probe("null", null, false, &format!(".{name}"));
        }
        if schema["type"] == "object" && schema.get("properties").is_some() {
            self.probe("unknown", json!({ "unheard": 1 }), false, ".unheard");
        }
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            self.below(Key::Field(name.clone()), property);
        }
        if schema.get("items").is_some() {
            self.below(Key::Item, &schema["items"]);
        }
        if schema["additionalProperties"].is_object() {
            self.below(Key::Entry, &schema["additionalProperties"]);
        }
    }
}

/// Something of the right type.
fn sample(schema: &Value) -> Value {
    match schema["type"].as_str() {
        Some("object") => {
            let required = schema["required"].as_array().into_iter().flatten();
            let fields = required.filter_map(|name| {
                let name = name.as_str()?;
                Some((name.to_owned(), sample(&schema["properties"][name])))
            });
            Value::Object(fields.collect())
        }
        Some("array") => json!([]),
        Some("integer") => json!(1),
        Some("boolean") => json!(true),
        _ => schema["enum"].get(0).cloned().unwrap_or(json!("a")),
    }
}

/// What the API server says against a manifest; empty when it is accepted.
async fn said(env: &Env, manifest: &Value) -> Result<String> {
    let request = http::Request::builder()
        .method("POST")
        .uri(format!(
            "/apis/ameide.io/v1/namespaces/{}/processes?fieldValidation=Strict&dryRun=All",
            env.namespace
        ))
        .header("Content-Type", "application/json")
        .body(serde_json::to_vec(manifest)?)?;
    match env.kube.request::<Value>(request).await {
        Ok(_) => Ok(String::new()),
        Err(kube::Error::Api(status)) => Ok(status.message.clone()),
        Err(error) => Err(error.into()),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_just_beyond_a_bound_is_refused_with_the_name_of_the_field() -> Result<()> {
    let env = Env::new("bounds").await?;
    let definition = serde_json::to_value(crd()?)?;
    let schema = definition
        .pointer("/spec/versions/0/schema/openAPIV3Schema/properties/spec")
        .context("the schema of the spec")?;
    let mut walk = Walk {
        place: Vec::new(),
        probes: Vec::new(),
    };
    walk.walk(schema);
    ensure!(walk.probes.len() > 500, "{} probes", walk.probes.len());
    let mut base = cases()?.base;
    base["metadata"]["namespace"] = env.namespace.clone().into();
    let wrong: Vec<String> = futures::stream::iter(&walk.probes)
        .map(|probe| {
            let (env, base) = (&env, &base);
            async move {
                let field = probe.field();
                let message = said(env, &probe.manifest(base)).await?;
                let named = message.contains(&format!("{field}:"))
                    || message.contains(&format!("{field}\""))
                    || message.contains(&format!("{field} "));
                let short: String = message.chars().take(300).collect();
                anyhow::Ok(
                    (named == probe.fits)
                        .then(|| format!("{} of {field} ({}): {short:?}", probe.bound, probe.fits)),
                )
            }
        })
        .buffer_unordered(8)
        .filter_map(|found| async { found.transpose() })
        .collect::<Vec<_>>()
        .await
        .into_iter()
        .collect::<Result<_>>()?;
    ensure!(
        wrong.is_empty(),
        "{} of {} bounds: {wrong:#?}",
        wrong.len(),
        walk.probes.len()
    );
    env.remove().await
}
