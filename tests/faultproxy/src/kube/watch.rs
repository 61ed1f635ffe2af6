//! Watch streams, taken apart into their events.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::body::{Body, Piece};
use crate::kube::answer::Answer;
use crate::kube::frozen::Freezer;
use crate::kube::request::KubeRequest;
use crate::kube::rewrite::Rewriter;
use crate::matcher::Matcher;
use crate::rules::RuleSet;

/// The type of a watch event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventType {
    /// The object is new to the watcher.
    Added,
    /// The object changed.
    Modified,
    /// The object is gone.
    Deleted,
    /// Only the resource version moved.
    Bookmark,
    /// The stream is at its end.
    Error,
}

/// One event inside a watch stream.
#[derive(Clone, Debug)]
pub struct WatchEvent {
    /// The watch it belongs to.
    pub watch: Arc<KubeRequest>,
    /// Its type.
    pub event_type: EventType,
    /// The object as sent.
    pub object: Value,
}

impl WatchEvent {
    fn read(watch: &Arc<KubeRequest>, line: &[u8]) -> Option<Self> {
        let mut event: Value = serde_json::from_slice(line).ok()?;
        let event_type = match event["type"].as_str()? {
            "ADDED" => EventType::Added,
            "MODIFIED" => EventType::Modified,
            "DELETED" => EventType::Deleted,
            "BOOKMARK" => EventType::Bookmark,
            "ERROR" => EventType::Error,
            _ => return None,
        };
        Some(Self {
            watch: Arc::clone(watch),
            event_type,
            object: event["object"].take(),
        })
    }

    /// A text of the object's metadata, such as `name`, `uid` or `resourceVersion`.
    pub fn meta(&self, field: &str) -> &str {
        self.object["metadata"][field].as_str().unwrap_or_default()
    }

    /// The object's generation, if it has one.
    pub fn generation(&self) -> Option<i64> {
        self.object["metadata"]["generation"].as_i64()
    }

    fn as_bookmark(&self) -> Value {
        json!({"type": "BOOKMARK", "object": {
            "apiVersion": self.object["apiVersion"],
            "kind": self.object["kind"],
            "metadata": {"resourceVersion": self.object["metadata"]["resourceVersion"]},
        }})
    }
}

/// What a rule does to a watch event.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum WatchAction {
    /// Let it pass: an exception from a rule installed later.
    Pass,
    /// Leave it out. The watcher learns of it only when it lists again.
    Drop,
    /// Put a bookmark with its resource version in its place, so that not even a new watch from
    /// where the watcher believes to be brings it back.
    ToBookmark,
    /// Send it twice.
    Duplicate,
    /// Send it this much later, and whatever follows it on the stream not before it.
    Delay(Duration),
    /// Send `ERROR` 410 in its place and end the stream: the watcher has to list again.
    Gone,
    /// Cut the connection in its place.
    Cut,
}

/// How an open watch stream is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchEnd {
    /// As the server ends a watch whose time is over.
    Close,
    /// With an `ERROR` event 410.
    Gone,
    /// By cutting the connection in the middle of the body.
    Cut,
}

struct OpenWatch {
    request: Arc<KubeRequest>,
    end: UnboundedSender<WatchEnd>,
}

/// All watch streams that are open, with the rules about their events.
pub(crate) struct Watches {
    pub(crate) rules: RuleSet<WatchEvent, WatchAction>,
    open: Mutex<HashMap<u64, OpenWatch>>,
    next: AtomicU64,
}

impl Watches {
    pub(crate) fn new() -> Self {
        Self {
            rules: RuleSet::new(),
            open: Mutex::default(),
            next: AtomicU64::new(0),
        }
    }

    pub(crate) fn requests(&self) -> Vec<Arc<KubeRequest>> {
        self.open
            .lock()
            .values()
            .map(|watch| Arc::clone(&watch.request))
            .collect()
    }

    pub(crate) fn end(&self, which: &Matcher<KubeRequest>, end: WatchEnd) -> usize {
        let open = self.open.lock();
        let meant = open.values().filter(|watch| which.matches(&watch.request));
        meant.filter(|watch| watch.end.send(end).is_ok()).count()
    }
}

/// The pump between one upstream watch and its client.
pub(crate) struct Pump {
    id: u64,
    request: Arc<KubeRequest>,
    watches: Arc<Watches>,
    freezer: Arc<Freezer>,
    rewriter: Arc<Rewriter>,
    out: UnboundedSender<Piece>,
    ends: UnboundedReceiver<WatchEnd>,
    closing: CancellationToken,
}

/// The stream is over; everything that was to be said has been.
pub(crate) struct Over;

impl Pump {
    pub(crate) fn new(
        request: &Arc<KubeRequest>,
        watches: &Arc<Watches>,
        freezer: &Arc<Freezer>,
        rewriter: &Arc<Rewriter>,
        closing: CancellationToken,
    ) -> (Self, UnboundedReceiver<Piece>) {
        let (out, pieces) = mpsc::unbounded_channel();
        let (end, ends) = mpsc::unbounded_channel();
        let id = watches.next.fetch_add(1, Ordering::Relaxed);
        watches.open.lock().insert(
            id,
            OpenWatch {
                request: Arc::clone(request),
                end,
            },
        );
        let pump = Self {
            id,
            request: Arc::clone(request),
            watches: Arc::clone(watches),
            freezer: Arc::clone(freezer),
            rewriter: Arc::clone(rewriter),
            out,
            ends,
            closing,
        };
        (pump, pieces)
    }

    pub(crate) fn say(&self, line: &Value, due: Instant) {
        self.send(Bytes::from(format!("{line}\n")), due);
    }

    fn send(&self, line: Bytes, due: Instant) {
        let _ = self.out.send(Piece::Data(due, line));
    }

    pub(crate) fn end(&self, how: WatchEnd) -> Over {
        match how {
            WatchEnd::Close => {}
            WatchEnd::Gone => {
                let status = Answer::expired().body(&self.request);
                self.say(&json!({"type": "ERROR", "object": status}), Instant::now());
            }
            WatchEnd::Cut => drop(self.out.send(Piece::Cut)),
        }
        Over
    }

    /// Waits for something, unless the client leaves or the stream is to end meanwhile.
    pub(crate) async fn unless_over<T>(
        &mut self,
        work: impl Future<Output = T>,
    ) -> Result<T, Over> {
        tokio::select! {
            biased;
            Some(how) = self.ends.recv() => Err(self.end(how)),
            () = self.out.closed() => Err(Over),
            () = self.closing.cancelled() => Err(Over),
            done = work => Ok(done),
        }
    }

    /// Waits as long as the resource is frozen: its watches are open and silent.
    pub(crate) async fn thawed(&mut self) -> Result<(), Over> {
        while let Some(view) = self.freezer.view(&self.request) {
            self.unless_over(view.thawed.cancelled()).await?;
        }
        Ok(())
    }

    /// Passes on what the server sends, event by event, as it comes.
    pub(crate) async fn run(&mut self, mut upstream: Body) -> Result<(), Over> {
        let mut buffer = BytesMut::new();
        loop {
            let frame = self.unless_over(upstream.frame()).await?;
            match frame {
                None => break,
                // The server went away in the middle: so does the client's stream.
                Some(Err(_)) => {
                    self.thawed().await?;
                    return Err(self.end(WatchEnd::Cut));
                }
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        buffer.extend_from_slice(&data);
                    }
                }
            }
            while let Some(newline) = buffer.iter().position(|byte| *byte == b'\n') {
                let line = buffer.split_to(newline + 1).freeze();
                self.thawed().await?;
                self.pass(line)?;
            }
        }
        self.thawed().await?;
        if !buffer.is_empty() {
            self.send(buffer.freeze(), Instant::now());
        }
        Ok(())
    }

    fn pass(&self, line: Bytes) -> Result<(), Over> {
        let now = Instant::now();
        let line = self.rewriter.event(&self.request, line);
        let event = WatchEvent::read(&self.request, &line);
        let decided = event
            .as_ref()
            .and_then(|event| Some((event, self.watches.rules.decide(event)?)));
        match decided.map(|(event, applied)| (event, applied.action)) {
            None | Some((_, WatchAction::Pass)) => self.send(line, now),
            Some((_, WatchAction::Drop)) => {}
            Some((event, WatchAction::ToBookmark)) => self.say(&event.as_bookmark(), now),
            Some((_, WatchAction::Duplicate)) => {
                self.send(line.clone(), now);
                self.send(line, now);
            }
            Some((_, WatchAction::Delay(time))) => self.send(line, now + time),
            Some((_, WatchAction::Gone)) => return Err(self.end(WatchEnd::Gone)),
            Some((_, WatchAction::Cut)) => return Err(self.end(WatchEnd::Cut)),
        }
        Ok(())
    }
}

impl Drop for Pump {
    fn drop(&mut self) {
        self.watches.open.lock().remove(&self.id);
    }
}
