//! The requests of a stream: gRPC messages out of the body of a call.

use std::future::poll_fn;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;

use bytes::{Buf as _, Bytes, BytesMut};
use http_body::Body;
use prost::Message;
use tonic::Status;

use crate::xds::counts::Counts;

/// The flag and the length in front of every gRPC message.
const PREFIX: usize = 5;

/// Reads requests `R` of at most `longest` bytes. Between two of them it has no memory of its own: a proxy says much once
/// and then listens for hours.
pub(in crate::xds) struct Requests<R, B> {
    body: B,
    longest: usize,
    /// The rest of what came last.
    data: Bytes,
    /// The beginning of a request whose end has not come.
    begun: BytesMut,
    counts: Arc<Counts>,
    of: PhantomData<fn() -> R>,
}

impl<R: Message + Default, B: Body<Data = Bytes> + Unpin> Requests<R, B> {
    pub(super) fn new(body: B, longest: usize, counts: Arc<Counts>) -> Self {
        Self { body, longest, data: Bytes::new(), begun: BytesMut::new(), counts, of: PhantomData }
    }

    /// The next request; `None` once the client says no more. What was read stays when the wait is cancelled.
    ///
    /// # Errors
    /// OUT_OF_RANGE for one that is too long, INVALID_ARGUMENT for what is none, CANCELLED when the call is gone.
    pub(in crate::xds) async fn message(&mut self) -> Result<Option<R>, Status> {
        loop {
            if let Some(message) = self.whole()? {
                Counts::raise(&self.counts.largest_request, message.len());
                return R::decode(message).map(Some).map_err(|error| {
                    Status::invalid_argument(format!("a request that cannot be decoded: {error}"))
                });
            }
            match poll_fn(|context| Pin::new(&mut self.body).poll_frame(context)).await {
                // Trailers of a request say nothing.
                Some(Ok(frame)) => self.data = frame.into_data().unwrap_or_default(),
                Some(Err(_)) => return Err(Status::cancelled("the call was ended by its client")),
                None if self.begun.is_empty() => return Ok(None),
                None => return Err(Status::invalid_argument("the last request is incomplete")),
            }
        }
    }

    /// The next whole request of what was read.
    fn whole(&mut self) -> Result<Option<Bytes>, Status> {
        if self.begun.is_empty() {
            let end = self.end(&self.data)?;
            if end.is_some_and(|end| end <= self.data.len()) {
                let mut message = self.data.split_to(end.unwrap_or_default());
                message.advance(PREFIX);
                return Ok(Some(message));
            }
        }
        loop {
            // As much as is known to belong to it: its length, then the rest.
            let wanted = self.end(&self.begun)?.unwrap_or(PREFIX);
            if self.begun.len() >= wanted && self.begun.len() >= PREFIX {
                let mut message = std::mem::take(&mut self.begun).freeze();
                message.advance(PREFIX);
                return Ok(Some(message));
            }
            if self.data.is_empty() {
                return Ok(None);
            }
            let more = (wanted - self.begun.len()).min(self.data.len());
            // What it says of its length is believed as far as it has come.
            self.begun.extend_from_slice(&self.data.split_to(more));
        }
    }

    /// Where the request at the beginning of `bytes` ends; `None` while that is not known.
    fn end(&self, bytes: &[u8]) -> Result<Option<usize>, Status> {
        let Some((flag, length)) = bytes.split_first().filter(|(_, rest)| rest.len() >= PREFIX - 1) else {
            return Ok(None);
        };
        if *flag != 0 {
            return Err(Status::invalid_argument(
                "a compressed request; requests are taken uncompressed only",
            ));
        }
        let length = length.iter().take(PREFIX - 1).fold(0, |length, byte| length << 8 | usize::from(*byte));
        if length > self.longest {
            let longest = self.longest;
            let text = format!("a request of {length} bytes; at most {longest} are accepted");
            return Err(Status::out_of_range(text));
        }
        Ok(Some(PREFIX + length))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::convert::Infallible;

    use http_body::Frame;
    use http_body_util::StreamBody;

    use super::*;
    use crate::proto::discovery::DiscoveryRequest;

    type Frames = futures::stream::Iter<std::vec::IntoIter<Result<Frame<Bytes>, Infallible>>>;

    fn requests(pieces: Vec<Bytes>) -> Requests<DiscoveryRequest, StreamBody<Frames>> {
        let frames: Vec<_> = pieces.into_iter().map(|piece| Ok(Frame::data(piece))).collect();
        Requests::new(StreamBody::new(futures::stream::iter(frames)), 1000, Arc::default())
    }

    fn request(name: &str) -> DiscoveryRequest {
        DiscoveryRequest { resource_names: vec![name.into()], ..DiscoveryRequest::default() }
    }

    fn framed(requests: &[DiscoveryRequest]) -> Vec<u8> {
        let mut all = Vec::new();
        for request in requests {
            let message = request.encode_to_vec();
            all.push(0);
            all.extend_from_slice(&u32::try_from(message.len()).expect("a short one").to_be_bytes());
            all.extend_from_slice(&message);
        }
        all
    }

    #[tokio::test]
    async fn requests_are_read_however_they_are_cut() {
        let sent = [request("a"), DiscoveryRequest::default(), request(&"b".repeat(300)), request("c")];
        let all = framed(&sent);
        for size in [1, 2, 4, 5, 6, 7, 100, 310, 311, 10_000] {
            let mut requests = requests(all.chunks(size).map(Bytes::copy_from_slice).collect());
            let mut expected: VecDeque<_> = sent.iter().cloned().collect();
            while let Some(found) = requests.message().await.expect("a request") {
                assert_eq!(Some(found), expected.pop_front(), "in pieces of {size}");
            }
            assert!(expected.is_empty(), "in pieces of {size}");
            assert_eq!(requests.begun.capacity(), 0, "nothing is kept between requests");
        }
    }

    #[tokio::test]
    async fn z36_what_is_no_request_is_told_apart() {
        let code = async |bytes: &[u8]| {
            let mut requests = requests(vec![Bytes::copy_from_slice(bytes)]);
            requests.message().await.expect_err("an error").code()
        };
        let whole = framed(&[request("a")]);
        assert_eq!(code(&whole[..3]).await, tonic::Code::InvalidArgument);
        assert_eq!(code(&whole[..whole.len() - 1]).await, tonic::Code::InvalidArgument);
        assert_eq!(code(&[1, 0, 0, 0, 1, 9]).await, tonic::Code::InvalidArgument);
        assert_eq!(code(&[0, 0, 0, 0, 2, 0xff, 0xff]).await, tonic::Code::InvalidArgument);
        // Refused by its length alone: nothing is read or kept of it.
        assert_eq!(code(&[0, 0, 0, 0x10, 0]).await, tonic::Code::OutOfRange);
    }
}
