//! A browser that is used as a person does: it looks at what is displayed, clicks and types.
//!
//! Chromium is led by Debian's `chromedriver`, by the few calls of JSON that the W3C's `WebDriver` is. The
//! libraries for that turn on features of crates that the operator is made of, in every build of the
//! workspace (`serde_json/preserve_order` for one), and a test must not change what it tests.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use k8s_openapi::ByteString;
use process_operator_tests::testbed;
use serde_json::{Value, json};

use crate::SOON;
use crate::wait::until;

/// By which `WebDriver` names an element.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";
/// A call that takes longer is stuck: two cores carry everything.
const PATIENCE: Duration = Duration::from_secs(60);

/// A Chromium that nobody sees. It ends when dropped.
#[derive(Debug)]
pub struct Browser {
    driver: Child,
    /// Address of its session at the driver.
    session: String,
}

impl Browser {
    /// Starts one with a window of so many pixels. Debian's packages are installed when they are missing.
    pub async fn start(width: u32, height: u32) -> Result<Self> {
        let programs = tokio::task::spawn_blocking(testbed::browser).await??;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let driver = Command::new(&programs.driver)
            .arg(format!("--port={port}"))
            // Times are shown in the browser's zone.
            .env("TZ", "UTC")
            .env("LANG", "C.UTF-8")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("{} cannot be started.", programs.driver.display()))?;
        let address = format!("http://127.0.0.1:{port}");
        // From here on it is ended when something fails.
        let mut browser = Self {
            driver,
            session: String::new(),
        };
        until("the driver of Chromium is ready", SOON, async || {
            let status = call("GET", format!("{address}/status"), None).await?;
            ensure!(status["ready"] == true, "{status}");
            Ok(())
        })
        .await?;
        let mut args = vec![
            "--headless=new".to_owned(),
            "--disable-gpu".to_owned(),
            // Containers have little of the shared memory that it would use.
            "--disable-dev-shm-usage".to_owned(),
            "--hide-scrollbars".to_owned(),
            format!("--window-size={width},{height}"),
        ];
        if nix::unistd::geteuid().is_root() {
            // Its sandbox is not for root, and the pages are the testbed's own.
            args.push("--no-sandbox".to_owned());
        }
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "browserName": "chrome",
            "goog:chromeOptions": { "binary": programs.program, "args": args },
        }}});
        let made = call("POST", format!("{address}/session"), Some(&wanted)).await?;
        let id = made["sessionId"].as_str().context("no session")?;
        browser.session = format!("{address}/session/{id}");
        Ok(browser)
    }

    async fn get(&self, path: &str) -> Result<Value> {
        call("GET", format!("{}{path}", self.session), None).await
    }

    async fn post(&self, path: &str, body: &Value) -> Result<Value> {
        call("POST", format!("{}{path}", self.session), Some(body)).await
    }

    /// Goes to a page.
    pub async fn open(&self, url: &str) -> Result<()> {
        self.post("/url", &json!({ "url": url })).await?;
        Ok(())
    }

    /// Loads the page again.
    pub async fn reload(&self) -> Result<()> {
        self.post("/refresh", &json!({})).await?;
        Ok(())
    }

    /// All that is displayed, by `XPath`.
    async fn all(&self, xpath: &str) -> Result<Vec<String>> {
        let by = json!({ "using": "xpath", "value": xpath });
        let found = self.post("/elements", &by).await?;
        let mut displayed = Vec::new();
        for element in found.as_array().into_iter().flatten() {
            let id = element[ELEMENT].as_str().context("an element")?;
            if self.get(&format!("/element/{id}/displayed")).await? == true {
                displayed.push(id.to_owned());
            }
        }
        Ok(displayed)
    }

    async fn first(&self, xpath: &str) -> Result<String> {
        let all = self.all(xpath).await?;
        all.into_iter()
            .next()
            .context("nothing like that is displayed")
    }

    /// Clicks on the first that is displayed, once it is.
    pub async fn click(&self, xpath: &str) -> Result<()> {
        until(&format!("a click on {xpath}"), SOON, async || {
            let id = self.first(xpath).await?;
            self.post(&format!("/element/{id}/click"), &json!({})).await
        })
        .await?;
        Ok(())
    }

    /// Types into the first that is displayed, once it is.
    pub async fn write(&self, xpath: &str, text: &str) -> Result<()> {
        let id = until(&format!("{xpath} to write into"), SOON, async || {
            self.first(xpath).await
        })
        .await?;
        let keys = json!({ "text": text });
        self.post(&format!("/element/{id}/value"), &keys).await?;
        Ok(())
    }

    /// The text of the first that is displayed.
    pub async fn read(&self, xpath: &str) -> Result<String> {
        let id = self.first(xpath).await?;
        let text = self.get(&format!("/element/{id}/text")).await?;
        Ok(text.as_str().unwrap_or_default().to_owned())
    }

    /// All text that is displayed, that of frames at the end.
    pub async fn text(&self) -> Result<String> {
        let mut text = self.read("//body").await?;
        for frame in self.all("//iframe").await? {
            self.post("/frame", &json!({ "id": { ELEMENT: frame } }))
                .await?;
            let inside = self.read("//body").await;
            self.post("/frame/parent", &json!({})).await?;
            text.push('\n');
            text.push_str(&inside?);
        }
        Ok(text)
    }

    /// Runs a script of the page's.
    pub async fn run(&self, script: &str) -> Result<Value> {
        let body = json!({ "script": script, "args": [] });
        self.post("/execute/sync", &body).await
    }

    /// Writes what the window shows as PNG.
    pub async fn picture(&self, path: &Path) -> Result<()> {
        write_picture(self.get("/screenshot").await?, path)
    }

    /// Writes the first that is displayed as PNG.
    pub async fn picture_of(&self, xpath: &str, path: &Path) -> Result<()> {
        let id = self.first(xpath).await?;
        write_picture(self.get(&format!("/element/{id}/screenshot")).await?, path)
    }
}

/// A picture comes as Base64.
fn write_picture(encoded: Value, path: &Path) -> Result<()> {
    let picture: ByteString = serde_json::from_value(encoded)?;
    std::fs::write(path, picture.0).with_context(|| format!("{} cannot be written", path.display()))
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Chromium ends with its session, and would outlive its driver.
        if !self.session.is_empty() {
            let _ = ureq::delete(&self.session)
                .config()
                .timeout_global(Some(Duration::from_secs(10)))
                .build()
                .call();
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

/// One call; its value, or what the driver says is wrong.
async fn call(method: &'static str, url: String, body: Option<&Value>) -> Result<Value> {
    let body = body.map(serde_json::to_vec).transpose()?;
    tokio::task::spawn_blocking(move || {
        let answer = match body {
            Some(body) => ureq::post(&url)
                .config()
                .timeout_global(Some(PATIENCE))
                .http_status_as_error(false)
                .build()
                .content_type("application/json")
                .send(&body[..]),
            None => ureq::get(&url)
                .config()
                .timeout_global(Some(PATIENCE))
                .http_status_as_error(false)
                .build()
                .call(),
        };
        let mut answer = answer.with_context(|| format!("{method} {url}"))?;
        let status = answer.status();
        // Pictures are some hundreds of kilobytes.
        let text = answer
            .body_mut()
            .with_config()
            .limit(1 << 26)
            .read_to_string()?;
        let mut answer: Value = serde_json::from_str(&text)?;
        let value = answer["value"].take();
        if !status.is_success() {
            let part = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
            let message = part("message");
            bail!(
                "{}: {}",
                part("error"),
                message.lines().next().unwrap_or_default()
            );
        }
        Ok(value)
    })
    .await?
}
