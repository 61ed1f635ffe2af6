//! Bodies that pass through the proxies.

use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::Instant;

use crate::front::Conn;

pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;
pub(crate) type Body = UnsyncBoxBody<Bytes, BoxError>;

pub(crate) fn boxed<B>(body: B) -> Body
where
    B: hyper::body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    body.map_err(Into::into).boxed_unsync()
}

pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    boxed(Full::new(bytes.into()))
}

/// A piece of a body that is made here.
pub(crate) enum Piece {
    /// Bytes, not before the given moment. Order is kept: one late piece holds up all after it.
    Data(Instant, Bytes),
    /// The connection goes away in the middle of the body, after everything before this.
    Cut,
}

/// The pieces as they come. The body ends well when the sender is dropped.
pub(crate) fn pieces(pieces: UnboundedReceiver<Piece>, conn: Conn) -> Body {
    let frames = stream::unfold((pieces, conn), |(mut pieces, conn)| async move {
        match pieces.recv().await? {
            Piece::Data(due, bytes) => {
                tokio::time::sleep_until(due).await;
                Some((Ok::<_, BoxError>(Frame::data(bytes)), (pieces, conn)))
            }
            // The connection's task still writes out what it was given before this.
            Piece::Cut => conn.cut().await,
        }
    });
    boxed(StreamBody::new(frames))
}

/// The same body, in so many parts with a pause before each.
pub(crate) fn trickled(body: Body, time: Duration) -> Body {
    const PARTS: u32 = 8;
    let parts = async move {
        let whole = body.collect().await?;
        let trailers = whole.trailers().cloned().map(Frame::trailers);
        let bytes = whole.to_bytes();
        let (length, size) = (bytes.len(), bytes.len().div_ceil(PARTS as usize).max(1));
        let data = (0..length)
            .step_by(size)
            .map(move |at| Frame::data(bytes.slice(at..length.min(at + size))));
        Ok::<_, BoxError>(stream::iter(data.chain(trailers).map(Ok::<_, BoxError>)))
    };
    let frames = stream::once(parts)
        .try_flatten()
        .then(move |part| async move {
            tokio::time::sleep(time / PARTS).await;
            part
        });
    boxed(StreamBody::new(frames))
}

/// The first `n` bytes of a body, then the connection goes away.
pub(crate) fn truncated(body: Body, n: usize, conn: Conn) -> Body {
    let frames = stream::unfold((body, n, conn), |(mut body, left, conn)| async move {
        if left == 0 {
            conn.cut().await;
        }
        match body.frame().await? {
            Ok(frame) => match frame.into_data() {
                Ok(mut data) => {
                    data.truncate(left);
                    let left = left - data.len();
                    Some((Ok(Frame::data(data)), (body, left, conn)))
                }
                // Trailers before the cut: the body was shorter than n.
                Err(trailers) => Some((Ok(trailers), (body, left, conn))),
            },
            Err(error) => Some((Err(error), (body, left, conn))),
        }
    });
    // Fused, since a stream that has ended must not be polled into the cut.
    boxed(StreamBody::new(frames.fuse()))
}
