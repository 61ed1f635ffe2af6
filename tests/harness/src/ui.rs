//! The Temporal UI as a person uses it.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use process_operator_tests::testbed::Testbed;
use serde_json::Value;
use temporalio_client::Url;

use crate::SOON;
use crate::browser::Browser;
use crate::wait::until;

/// Width of the window, which is that of pictures: what is normal on a laptop.
const WIDTH: u32 = 1400;
/// What Chromium takes of the height for itself.
const FRAME: u32 = 87;
/// The form for a signal.
const FORM: &str = "//dialog[@data-testid='signal-confirmation-modal']";
/// A page shows what was true when it was loaded: after so long it is loaded again.
const STALE: Duration = Duration::from_secs(8);

/// A browser on the testbed's Temporal UI.
pub struct TemporalUi {
    /// For what has no name here.
    pub browser: Browser,
    base: Url,
}

/// A tab of a workflow's page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tab {
    /// What took how long, with the summary of each.
    Timeline,
    /// Summary, details, current details.
    UserMetadata,
    /// Its events.
    History,
    /// Search attributes.
    SearchAttributes,
}

impl Tab {
    fn path(self) -> &'static str {
        match self {
            Self::Timeline => "timeline",
            Self::UserMetadata => "user-metadata",
            Self::History => "history",
            Self::SearchAttributes => "search-attributes",
        }
    }
}

impl TemporalUi {
    /// Opens a window of the given height.
    pub async fn start(testbed: &Testbed, height: u32) -> Result<Self> {
        let base = testbed.state().ui_url.as_deref();
        let base = base.context("an existing cluster has no Temporal UI that is known here")?;
        Ok(Self {
            browser: Browser::start(WIDTH, height + FRAME).await?,
            base: Url::parse(base)?,
        })
    }

    fn url(&self, path: &[&str]) -> Result<Url> {
        let mut url = self.base.clone();
        url.path_segments_mut()
            .map_err(|()| anyhow::anyhow!("{} has no pages", self.base))?
            .extend(path);
        Ok(url)
    }

    /// A tab of the page of a workflow's last run. Without the run in its address the page looks for it
    /// first, and may show no tabs meanwhile.
    pub async fn workflow(&self, namespace: &str, id: &str, tab: Tab) -> Result<()> {
        let asked = self.url(&["api", "v1", "namespaces", namespace, "workflows", id])?;
        let found = tokio::task::spawn_blocking(move || -> Result<Value> {
            let mut answer = ureq::get(asked.as_str()).call()?;
            Ok(serde_json::from_str(&answer.body_mut().read_to_string()?)?)
        })
        .await??;
        let run = found["workflowExecutionInfo"]["execution"]["runId"].as_str();
        let run = run.context("no run")?;
        let path = ["namespaces", namespace, "workflows", id, run, tab.path()];
        self.browser.open(self.url(&path)?.as_str()).await
    }

    /// The list of workflows that a query finds.
    pub async fn list(&self, namespace: &str, query: &str) -> Result<()> {
        let mut url = self.url(&["namespaces", namespace, "workflows"])?;
        url.query_pairs_mut().append_pair("query", query);
        self.browser.open(url.as_str()).await
    }

    /// Waits until the page shows all of these. Lines are wrapped as they come, so white space counts as one.
    pub async fn shows(&self, parts: &[&str]) -> Result<String> {
        let (begun, mut loaded) = (Instant::now(), Instant::now());
        loop {
            // An element may go while it is read.
            let text = self.browser.text().await.unwrap_or_default();
            let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
            let Some(missing) = parts.iter().find(|part| !text.contains(**part)) else {
                return Ok(text);
            };
            if begun.elapsed() > SOON {
                let dir = std::env::temp_dir().join("process-operator-tests");
                std::fs::create_dir_all(&dir)?;
                let picture = dir.join(format!("ui-{}.png", std::process::id()));
                self.browser.picture(&picture).await?;
                anyhow::bail!("no {missing:?} on the page ({}): {text}", picture.display());
            }
            if loaded.elapsed() > STALE {
                self.browser.reload().await?;
                loaded = Instant::now();
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Fills the form of a signal to the workflow that is shown.
    pub async fn fill_signal(&self, name: &str, input: &str) -> Result<()> {
        // It may have been opened while the server was slow, and is then loaded anew.
        self.shows(&["More Actions"]).await?;
        let browser = &self.browser;
        browser
            .click("//button[contains(., 'More Actions')]")
            .await?;
        browser.click("//*[@data-testid='signal-button']").await?;
        // The input first: when it is left it is set out in lines, and the form grows. Whoever leaves it by a
        // click misses what moves away under the mouse, or closes the form.
        let data = format!("{FORM}//*[@role='textbox']");
        browser.write(&data, input).await?;
        browser
            .write(&format!("{FORM}//input[@data-testid='signal-name']"), name)
            .await?;
        let parsed = |text: &str| serde_json::from_str::<serde_json::Value>(text);
        until("the form has its input", SOON, async || {
            let typed = browser.read(&data).await?;
            ensure!(
                parsed(&typed)? == parsed(input)?,
                "typed was {input}, there is {typed}"
            );
            Ok::<_, anyhow::Error>(())
        })
        .await
    }

    /// Sends what the form has.
    pub async fn send_signal(&self) -> Result<()> {
        let button = format!("{FORM}//button[@data-testid='confirm-modal-button']");
        self.browser.click(&button).await?;
        // It closes when the signal is accepted. What the page says of that then goes after a moment.
        until("the form has closed", SOON, async || {
            ensure!(self.browser.read(FORM).await.is_err(), "it is there");
            Ok::<_, anyhow::Error>(())
        })
        .await
    }

    /// Writes the form for a signal as PNG.
    pub async fn picture_of_form(&self, path: &Path) -> Result<()> {
        self.browser.picture_of(FORM, path).await
    }
}
