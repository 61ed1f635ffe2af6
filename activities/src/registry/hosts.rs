//! Hosts that may be asked.

use std::fmt;
use std::str::FromStr;

use http::Uri;

/// A host with scheme and port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    secure: bool,
    name: String,
    port: u16,
}

impl Host {
    /// The host of an address.
    pub fn of(url: &str) -> Result<Self, String> {
        let no_address = |_| format!("{url} is not an http or https address");
        let uri: Uri = url.parse().map_err(no_address)?;
        let secure = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(format!("{url} is not an http or https address")),
        };
        let Some(authority) = uri.authority() else {
            return Err(format!("{url} names no host"));
        };
        let (name, rest) = authority.as_str().split_at(authority.host().len());
        if name != authority.host() {
            return Err("user and password have no place in an address".to_owned());
        }
        let port = match (rest, authority.port_u16()) {
            ("", _) if secure => 443,
            ("", _) => 80,
            (_, Some(port)) => port,
            (_, None) => return Err(format!("{url} has no valid port")),
        };
        Ok(Self {
            secure,
            name: name.to_ascii_lowercase(),
            port,
        })
    }
}

/// Reads `host`, `host:port`, or either after `https://` or `http://`. Without a scheme it is https.
impl FromStr for Host {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let url = if text.contains("://") {
            text.to_owned()
        } else {
            format!("https://{text}")
        };
        let bare = |rest: &str| !rest.contains(['/', '?', '#', '*']);
        let rest = url.split_once("://").map_or("", |(_, rest)| rest);
        if rest.is_empty() || !bare(rest) {
            return Err(
                "must be <host> or <host>:<port>, after http:// where it is asked without TLS"
                    .to_owned(),
            );
        }
        Self::of(&url)
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.secure { "https" } else { "http" };
        let usual = if self.secure { 443 } else { 80 };
        write!(f, "{scheme}://{}", self.name)?;
        if self.port != usual {
            write!(f, ":{}", self.port)?;
        }
        Ok(())
    }
}

impl Host {
    /// Whether it is asked over TLS.
    pub(super) fn secure(&self) -> bool {
        self.secure
    }
}
