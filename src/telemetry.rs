//! Logs.

use tracing::Subscriber;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer};

use crate::config::{Config, LogFormat};

/// Installs the log. `RUST_LOG` filters; the SDK is quiet by default, since what it says of single
/// tasks stands in the histories.
pub(crate) fn install(config: &Config) -> anyhow::Result<()> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| {
        EnvFilter::new("info,temporalio_sdk_core=warn,temporalio_sdk=warn,temporalio_client=warn")
    });
    let registry = tracing_subscriber::registry().with(filter);
    match config.log_format {
        LogFormat::Json => registry.with(json(std::io::stdout)).try_init()?,
        LogFormat::Text => registry.with(tracing_subscriber::fmt::layer()).try_init()?,
    }
    Ok(())
}

/// One object for each line: what a line says stands at its root, what it was said in under `span`, so that neither
/// hides the other where both have a name.
fn json<S>(writer: impl for<'w> MakeWriter<'w> + Send + Sync + 'static) -> impl Layer<S>
where
    S: Subscriber + for<'l> LookupSpan<'l>,
{
    tracing_subscriber::fmt::layer()
        .json()
        .flatten_event(true)
        // All that surround a line would say the innermost one twice.
        .with_span_list(false)
        .with_writer(writer)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_line_has_its_own_fields_and_those_of_its_span() {
        let path = std::env::temp_dir().join(format!("telemetry-{}.log", std::process::id()));
        let log = fs::File::create(&path).unwrap();
        let subscriber = tracing_subscriber::registry()
            .with(EnvFilter::new("warn"))
            .with(super::json(log));
        tracing::subscriber::with_default(subscriber, || {
            let span = tracing::error_span!(
                "activity",
                workflow_id = "process/shop/l2o/1",
                namespace = tracing::field::Empty,
                generation = tracing::field::Empty,
            );
            let _inside = span.enter();
            tracing::Span::current().record("namespace", "shop");
            tracing::warn!(namespace = "other", "said");
        });
        let text = fs::read_to_string(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let mut line: Value = serde_json::from_str(&text).unwrap();
        for varies in ["timestamp", "target"] {
            line[varies].take();
        }
        let wanted = json!({
            "timestamp": null,
            "level": "WARN",
            "message": "said",
            "namespace": "other",
            "target": null,
            "span": { "name": "activity", "workflow_id": "process/shop/l2o/1", "namespace": "shop" },
        });
        assert_eq!(line, wanted);
    }
}
