//! Addresses of pages of the Temporal UI.

use std::fmt::Write as _;

/// As one part of a path, percent-encoded (RFC 3986, section 2): ids of workflows have slashes of their own.
#[must_use]
pub fn path_part(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}
