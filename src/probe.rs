//! `process-operator probe`: one HTTP request, for an image that holds no other program.

use std::io::{Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use http::Uri;

/// How long one try may take.
const TRY: Duration = Duration::from_secs(3);
/// Pause between tries.
const PAUSE: Duration = Duration::from_millis(500);
/// No answer of the operator is longer; a foreign server's is cut.
const LONGEST: u64 = 1 << 20;

/// Arguments of `probe`.
#[derive(Debug, Clone, Args)]
pub(crate) struct Probe {
    /// What is asked for, such as `http://process-operator:8080/readyz`.
    pub url: Uri,
    /// Seconds until it must have answered with 200.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub timeout_seconds: u64,
}

/// Asks until the answer is 200, and prints it.
pub(crate) fn run(probe: &Probe) -> anyhow::Result<()> {
    let begun = Instant::now();
    loop {
        match ask(&probe.url) {
            Ok(body) => {
                print!("{body}");
                return Ok(());
            }
            Err(error) if begun.elapsed() > Duration::from_secs(probe.timeout_seconds) => {
                return Err(error.context(format!("{} is not well", probe.url)));
            }
            Err(_) => std::thread::sleep(PAUSE),
        }
    }
}

fn ask(url: &Uri) -> anyhow::Result<String> {
    ensure!(
        url.scheme_str() == Some("http"),
        "the URL must begin with http://"
    );
    let host = url.host().context("the URL names no host")?;
    let port = url.port_u16().unwrap_or(80);
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let mut addresses = (bare, port).to_socket_addrs()?;
    let address = addresses.next().context("the host has no address")?;
    let mut stream = TcpStream::connect_timeout(&address, TRY)?;
    stream.set_read_timeout(Some(TRY))?;
    stream.set_write_timeout(Some(TRY))?;
    let path = url.path_and_query().map_or("/", |path| path.as_str());
    // HTTP/1.0: the end of the connection is the end of the answer.
    // In one piece.
    let request = format!(
        "GET {path} HTTP/1.0\r\nHost: {host}:{port}\r\nUser-Agent: process-operator-probe\r\n\r\n"
    );
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(LONGEST).read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .context("the answer is not HTTP")?;
    match head.split(' ').nth(1) {
        Some("200") => Ok(body.to_owned()),
        code => bail!("{} {body}", code.unwrap_or("no code")),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// A server that gives these answers, one to each request.
    fn server(answers: &'static [&'static str]) -> Uri {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        std::thread::spawn(move || {
            for answer in answers {
                let (mut stream, _) = listener.accept().expect("a request");
                let mut request = [0; 1024];
                let read = stream.read(&mut request).expect("a request");
                assert!(request[..read].starts_with(b"GET /readyz HTTP/1.0\r\n"));
                write!(stream, "HTTP/1.1 {answer}").expect("answered");
            }
        });
        format!("http://{address}/readyz").parse().expect("a URL")
    }

    fn probe(url: Uri, timeout_seconds: u64) -> anyhow::Result<()> {
        run(&Probe {
            url,
            timeout_seconds,
        })
    }

    #[test]
    fn it_asks_until_the_answer_is_200() {
        let url = server(&["503 Unavailable\r\n\r\n[-]crd", "200 OK\r\n\r\n[+]crd ok\n"]);
        probe(url, 10).expect("well at last");
    }

    #[test]
    fn it_says_what_it_saw_last() {
        let answers = &["503 Unavailable\r\n\r\n[-]crd failed"; 20];
        let error = probe(server(answers), 1).expect_err("never well");
        assert!(
            format!("{error:#}").contains("503 [-]crd failed"),
            "{error:#}"
        );
        let url = Uri::from_static("https://example.invalid/readyz");
        let error = probe(url, 1).expect_err("no TLS here");
        assert!(format!("{error:#}").contains("http://"), "{error:#}");
    }
}
