//! A connection with the bounds that the framework lacks.
//!
//! The framework bounds the time of a connection's first head, and the silence between two requests. It does not bound a
//! later head that comes byte by byte (its first byte ends the silence), nor an answer that nobody reads; it takes heads of
//! 128 KiB; and it parses all that it has read into requests of some 6 KiB each, however short they came, before it works on
//! the second. Each would hold a connection, and memory, for as long as a client likes; with enough of them nobody else is
//! served. So the stream itself keeps time and measure, since it alone sees every byte, and hands the framework one request
//! at a time: what comes behind its end (`framing`) waits here, a few KiB at most, until its answer is taken. The rest stays
//! with the client.
//!
//! All bytes are handed on, in their order. Where a request was thought to end too early, the framework is asked once, takes
//! nothing in hand, and is handed more.
//!
//! Whoever passes a bound is cut off: with an answer where it is the first head of the connection, else without a word, as
//! what was answered before may still be on its way.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::framing::Framing;
use super::problem::Kind;
use super::pulse::Pulse;

/// What a connection may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadlines {
    /// From the first byte of a head to the last; for the first head from the connection's begin.
    pub(super) head: Duration,
    /// From the moment in which the client stops taking an answer until what was made of it is all taken, or of one that is
    /// made while it is taken [`STREAM_PROGRESS`] more.
    pub(super) answer: Duration,
}

/// Bytes that the taker of a stream must take within the deadline, since what is made of it may never be all taken.
const STREAM_PROGRESS: usize = 32 << 10;

/// The longest head. A head begins in a buffer of 8 KiB, and what is longer than that takes one of 16 KiB; a limit just below
/// keeps it the last.
pub(super) const MAX_HEAD_BYTES: usize = 12 << 10;

/// Read at most beyond what is known to belong to the request on hand: what the framework's buffer holds when it is empty.
const MAX_AHEAD_BYTES: usize = 8 << 10;

/// See the module.
#[derive(Debug)]
pub(super) struct Guarded<T> {
    io: T,
    pulse: Rc<Pulse>,
    deadlines: Deadlines,
    framing: Framing,
    /// What came behind the end of the request that was handed on.
    ahead: BytesMut,
    /// A request was handed on to its end, and the framework has had no time yet to look at it.
    is_whole: bool,
    head: Timer,
    /// Requests that had begun when the present head was waited for.
    begun: u64,
    answer: Timer,
    /// Bytes of a stream that were taken since the deadline for its answer began.
    taken: usize,
}

impl<T> Guarded<T> {
    pub(super) fn new(io: T, deadlines: Deadlines) -> Self {
        let mut head = Timer::default();
        head.start(deadlines.head);
        let (pulse, framing, ahead, answer) = Default::default();
        Self { io, pulse, deadlines, framing, ahead, is_whole: false, head, begun: 0, answer, taken: 0 }
    }

    /// Where handlers say that they have a request of this connection.
    pub(super) fn pulse(&self) -> Rc<Pulse> {
        Rc::clone(&self.pulse)
    }

    /// The client has taken so many bytes more.
    fn progress(&mut self, length: usize) {
        if !self.answer.runs() || !self.pulse.streams() {
            return;
        }
        self.taken += length;
        if self.taken >= STREAM_PROGRESS {
            self.answer.stop();
        }
    }

    /// What becomes of a step of writing.
    fn written<R>(&mut self, step: Poll<io::Result<R>>, context: &mut Context<'_>) -> Poll<io::Result<R>> {
        if step.is_ready() {
            return step;
        }
        if !self.answer.runs() {
            self.taken = 0;
        }
        self.answer.start(self.deadlines.answer);
        self.answer.poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Guarded<T> {
    /// Hands on what comes next, no further than to the end of a request.
    fn hand_on(&mut self, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.begun != self.pulse.begun() {
            self.begun = self.pulse.begun();
            self.head.stop();
        }
        let before = into.filled().len();
        if self.ahead.is_empty() {
            let most = self.framing.announced().saturating_add(MAX_AHEAD_BYTES);
            match self.fill(context, into, most) {
                Poll::Ready(outcome) => outcome?,
                Poll::Pending if self.pulse.is_body_read() => return Poll::Pending,
                Poll::Pending => return self.head.poll(context).map(|()| Err(self.refuse(context, Kind::HeadTimeout))),
            }
            let came = &into.filled()[before..];
            let cut = self.framing.cut(came);
            self.is_whole = cut.ends;
            self.ahead.extend_from_slice(&came[cut.bytes..]);
            into.set_filled(before + cut.bytes);
        } else {
            let most = self.ahead.len().min(into.remaining());
            let cut = self.framing.cut(&self.ahead[..most]);
            self.is_whole = cut.ends;
            into.put_slice(&self.ahead[..cut.bytes]);
            self.ahead.advance(cut.bytes);
            if self.ahead.is_empty() {
                // Its memory is for those who send ahead.
                self.ahead = BytesMut::new();
            }
        }
        if self.pulse.is_body_read() {
            return Poll::Ready(Ok(()));
        }
        if self.framing.head_bytes() > MAX_HEAD_BYTES {
            return Poll::Ready(Err(self.refuse(context, Kind::HeadTooLarge)));
        }
        if self.framing.is_within_head() {
            self.head.start(self.deadlines.head);
        }
        Poll::Ready(Ok(()))
    }

    /// Sees whether the client sends more, or has ended, and hands nothing on.
    fn look_ahead(&mut self, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.ahead.is_empty() {
            let before = into.filled().len();
            ready!(self.fill(context, into, MAX_AHEAD_BYTES))?;
            if into.filled().len() == before {
                self.pulse.close();
                return Poll::Ready(Ok(()));
            }
            self.ahead.extend_from_slice(&into.filled()[before..]);
            into.set_filled(before);
        }
        self.pulse.wait(context);
        Poll::Pending
    }

    /// Reads no more than `most` bytes.
    fn fill(&mut self, context: &mut Context<'_>, into: &mut ReadBuf<'_>, most: usize) -> Poll<io::Result<()>> {
        let io = Pin::new(&mut self.io);
        if into.remaining() <= most {
            return io.poll_read(context, into);
        }
        let mut some = ReadBuf::new(into.initialize_unfilled_to(most));
        ready!(io.poll_read(context, &mut some))?;
        let came = some.filled().len();
        into.advance(came);
        Poll::Ready(Ok(()))
    }

    /// Says why, where nothing else was said on this connection; the error then makes the framework drop it.
    fn refuse(&mut self, context: &mut Context<'_>, kind: Kind) -> io::Error {
        if self.pulse.begun() == 0 {
            // Short, and the first that is written, so it goes into the socket's buffer whole.
            let _ = Pin::new(&mut self.io).poll_write(context, &kind.bare_answer());
            let _ = Pin::new(&mut self.io).poll_flush(context);
        }
        io::Error::new(io::ErrorKind::TimedOut, kind.slug())
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncRead for Guarded<T> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if std::mem::take(&mut this.is_whole) {
            let looked = this.look_ahead(context, into);
            if !this.ahead.is_empty() {
                // Should the framework make no request of what it was handed, nobody else would ask again.
                context.waker().wake_by_ref();
            }
            return looked;
        }
        let is_busy = this.pulse.is_in_hand() || this.answer.runs();
        if is_busy && !this.pulse.is_body_read() {
            return this.look_ahead(context, into);
        }
        this.hand_on(context, into)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Guarded<T> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let step = Pin::new(&mut this.io).poll_write(context, bytes);
        if let Poll::Ready(Ok(length)) = step {
            this.progress(length);
        }
        this.written(step, context)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let step = Pin::new(&mut this.io).poll_flush(context);
        if step.is_ready() && this.answer.runs() {
            this.answer.stop();
            this.pulse.wake();
        }
        this.written(step, context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let step = Pin::new(&mut this.io).poll_shutdown(context);
        this.written(step, context)
    }
}

/// A deadline that may be running. Most never are waited for, so the alarm is made and set only when somebody waits.
#[derive(Debug, Default)]
struct Timer {
    until: Option<Instant>,
    alarm: Option<Pin<Box<Sleep>>>,
}

impl Timer {
    /// Starts it, unless it runs.
    fn start(&mut self, span: Duration) {
        self.until.get_or_insert_with(|| Instant::now() + span);
    }

    fn stop(&mut self) {
        self.until = None;
    }

    fn runs(&self) -> bool {
        self.until.is_some()
    }

    /// Ready once it has run out; else it wakes the task by then. Pending while it does not run.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some(until) = self.until else { return Poll::Pending };
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
        if alarm.deadline() != until {
            alarm.as_mut().reset(until);
        }
        alarm.as_mut().poll(context)
    }
}

#[cfg(test)]
mod tests {
    use futures::future::poll_fn;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::super::framing;
    use super::super::pulse::{InHand, Reading, Streaming};
    use super::*;

    const DEADLINES: Deadlines = Deadlines { head: HEAD, answer: ANSWER };
    const HEAD: Duration = Duration::from_millis(300);
    const ANSWER: Duration = Duration::from_millis(600);
    const TICK: Duration = Duration::from_millis(30);

    fn connection() -> (DuplexStream, Guarded<DuplexStream>) {
        let (client, server) = duplex(16 << 10);
        (client, Guarded::new(server, DEADLINES))
    }

    /// Writes a byte a tick, for ever.
    async fn trickle(mut client: DuplexStream) {
        loop {
            if client.write_all(b"x").await.is_err() {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(TICK).await;
        }
    }

    async fn read_all(server: &mut Guarded<DuplexStream>) -> io::Error {
        let mut byte = [0];
        loop {
            if let Err(error) = server.read_exact(&mut byte).await {
                return error;
            }
        }
    }

    #[tokio::test]
    async fn a_head_that_trickles_in_is_cut_off_at_its_deadline() {
        let (client, mut server) = connection();
        let began = Instant::now();
        let error = tokio::select! {
            error = read_all(&mut server) => error,
            () = trickle(client) => unreachable!("it goes on for ever"),
        };
        assert!(error.kind() == io::ErrorKind::TimedOut && began.elapsed() >= HEAD, "{error}");
    }

    #[tokio::test]
    async fn a_body_and_silence_have_deadlines_of_their_own() {
        let (client, mut server) = connection();
        let (_in_hand, _reading) = (server.pulse().begin(), Reading::on(Some(server.pulse())));
        tokio::select! {
            error = read_all(&mut server) => panic!("cut off: {error}"),
            () = trickle(client) => unreachable!("it goes on for ever"),
            () = tokio::time::sleep(3 * HEAD) => {}
        }
        let (_client, mut silent) = connection();
        drop(silent.pulse().begin());
        let waited = tokio::time::timeout(3 * HEAD, silent.read_u8()).await;
        assert!(waited.is_err(), "silence is the framework's to end");
    }

    #[tokio::test]
    async fn each_head_has_its_own_time() {
        let (mut client, mut server) = connection();
        for _ in 0..3 {
            client.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
            let mut line = [0; 16];
            server.read_exact(&mut line).await.unwrap();
            tokio::time::sleep(HEAD / 2).await;
            client.write_all(b"\r\n").await.unwrap();
            server.read_exact(&mut line[..2]).await.unwrap();
            let in_hand = server.pulse().begin();
            // The framework looks for more of the connection while a request is in hand.
            let looked = tokio::time::timeout(HEAD, server.read_u8()).await;
            assert!(looked.is_err());
            drop(in_hand);
        }
        client.write_all(b"GET").await.unwrap();
        assert_eq!(read_all(&mut server).await.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn an_answer_that_nobody_reads_is_given_up() {
        let (_client, mut server) = connection();
        let began = Instant::now();
        let error = server.write_all(&[7; 64 << 10]).await.unwrap_err();
        assert!(error.kind() == io::ErrorKind::TimedOut && began.elapsed() >= ANSWER, "{error}");
    }

    /// Writes more than is ever taken within the deadline, while the client takes `length` bytes a tick.
    async fn write_while_taken_by(length: usize, streams: bool) -> io::Result<()> {
        let (mut client, mut server) = connection();
        let _streaming = Streaming::on(streams.then(|| server.pulse()));
        let take = async {
            let mut bytes = vec![0; length];
            while client.read_exact(&mut bytes).await.is_ok() {
                tokio::time::sleep(TICK).await;
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            written = server.write_all(&[7; 256 << 10]) => written,
            () = take => unreachable!("it takes for ever"),
        }
    }

    #[tokio::test]
    async fn a_stream_goes_on_as_long_as_it_is_taken_and_another_answer_has_its_deadline() {
        write_while_taken_by(4 << 10, true).await.unwrap();
        let error = write_while_taken_by(4 << 10, false).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        let error = write_while_taken_by(256, true).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut, "a trickle is no progress");
    }

    #[tokio::test]
    async fn a_reader_that_takes_a_whole_answer_has_all_time_for_the_next() {
        let (mut client, mut server) = connection();
        let take = async {
            let mut answer = vec![0; 64 << 10];
            for _ in 0..4 {
                tokio::time::sleep(ANSWER / 2).await;
                client.read_exact(&mut answer).await.unwrap();
            }
        };
        let give = async {
            for _ in 0..4 {
                server.write_all(&[7; 64 << 10]).await.unwrap();
                server.flush().await.unwrap();
            }
        };
        tokio::join!(take, give);
    }

    #[tokio::test]
    async fn a_connection_that_never_says_anything_is_told_and_cut_off() {
        let (mut client, mut server) = connection();
        assert_eq!(server.read_u8().await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        drop(server);
        let mut told = String::new();
        client.read_to_string(&mut told).await.unwrap();
        assert!(told.starts_with("HTTP/1.1 408 ") && told.contains("problem:head-timeout"), "{told}");
    }

    #[tokio::test]
    async fn a_head_is_read_only_as_far_as_allowed() {
        let (mut client, mut server) = connection();
        client.write_all(&[b'x'; 16 << 10]).await.unwrap();
        let error = read_all(&mut server).await;
        assert_eq!(error.to_string(), "head-too-large");
        drop(server);
        let mut told = String::new();
        client.read_to_string(&mut told).await.unwrap();
        assert!(told.starts_with("HTTP/1.1 431 "), "{told}");
    }

    #[tokio::test]
    async fn many_short_requests_are_no_long_head() {
        let (mut client, mut server) = connection();
        let mut request = [b'x'; 1 << 10];
        request[1020..].copy_from_slice(b"\r\n\r\n");
        for _ in 0..40 {
            client.write_all(&request).await.unwrap();
            server.read_exact(&mut request).await.unwrap();
            drop(server.pulse().begin());
        }
    }

    #[tokio::test]
    async fn little_is_read_ahead_of_an_answer_and_the_rest_behind_it() {
        let (mut client, mut server) = connection();
        let request = b"GET / HTTP/1.1\r\n\r\n";
        let send = tokio::spawn(async move { client.write_all(&request.repeat(10_000)).await });
        let mut one = vec![0; request.len()];
        let mut piece = vec![0; 100 << 10];
        for _ in 0..100 {
            server.read_exact(&mut one).await.unwrap();
            assert_eq!(one, request);
            let in_hand = server.pulse().begin();
            let more = tokio::time::timeout(TICK / 10, server.read(&mut piece)).await;
            assert!(more.is_err(), "{more:?} while a request is in hand");
            assert!(server.ahead.len() <= MAX_AHEAD_BYTES, "{}", server.ahead.len());
            // It ends within the wait for more, which goes on by itself.
            let end = async {
                tokio::task::yield_now().await;
                drop(in_hand);
            };
            let (len, ()) = tokio::join!(server.read_exact(&mut one), end);
            assert_eq!(len.unwrap(), request.len());
            drop(server.pulse().begin());
        }
        assert!(!send.is_finished());
    }

    /// What the framework does with a connection, and then some: it takes all that it is handed before it looks at it, and
    /// works on each request for some turns.
    struct Framework {
        server: Guarded<DuplexStream>,
        /// Where the head and the body of each request end.
        ends: Vec<(usize, usize)>,
        /// Turns that each takes.
        work: usize,
        room: usize,
        got: Vec<u8>,
        answered: usize,
        hand: Option<(InHand, Option<Reading>, usize)>,
    }

    impl Framework {
        /// Ready when the client has ended.
        fn turn(&mut self, context: &mut Context<'_>) -> Poll<()> {
            let before = self.got.len();
            let mut ended = false;
            while !ended {
                let mut buffer = vec![0; self.room];
                let mut into = ReadBuf::new(&mut buffer);
                match Pin::new(&mut self.server).poll_read(context, &mut into) {
                    Poll::Pending => break,
                    Poll::Ready(outcome) => outcome.unwrap(),
                }
                ended = into.filled().is_empty();
                self.got.extend_from_slice(into.filled());
            }
            if let Some((_, None, _)) = self.hand {
                assert_eq!(self.got.len(), before, "handed on while a request was in hand");
            }
            let Some(&(head, body)) = self.ends.get(self.answered) else { return self.end(ended) };
            assert!(self.got.len() <= body, "more than one request at a time");
            if self.got.len() >= head && self.hand.is_none() {
                let pulse = self.server.pulse();
                self.hand = Some((pulse.begin(), Some(Reading::on(Some(pulse))), self.work));
            }
            if let Some((_, reading, left)) = self.hand.as_mut().filter(|_| self.got.len() == body) {
                drop(reading.take());
                if *left == 0 {
                    self.hand = None;
                    self.answered += 1;
                } else {
                    *left -= 1;
                    context.waker().wake_by_ref();
                }
            }
            self.end(ended)
        }

        fn end(&self, ended: bool) -> Poll<()> {
            if ended && self.hand.is_none() { Poll::Ready(()) } else { Poll::Pending }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn pipelined_requests_are_handed_on_one_by_one_however_they_come(
            requests in vec(framing::tests::request(), 1..30),
            writes in vec(1_usize..3000, 1..20),
            work in 0_usize..3,
            room in 1_usize..20_000,
        ) {
            let stream = requests.concat();
            let mut end = 0;
            let ends = requests.iter().map(|request| {
                let head = end + framing::tests::head_of(request);
                end += request.len();
                (head, end)
            });
            let (mut client, server) = duplex(4 << 10);
            let server = Guarded::new(server, DEADLINES);
            let (ends, got) = (ends.collect(), Vec::new());
            let mut framework = Framework { server, ends, work, room, got, answered: 0, hand: None };
            let (sent, mut writes) = (stream.clone(), writes.into_iter().cycle());
            let send = async move {
                let mut rest = &sent[..];
                while !rest.is_empty() {
                    let (piece, behind) = rest.split_at(writes.next().unwrap().min(rest.len()));
                    client.write_all(piece).await.unwrap();
                    rest = behind;
                    tokio::task::yield_now().await;
                }
                client.shutdown().await.unwrap();
            };
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            runtime.block_on(async {
                let served = async { tokio::join!(send, poll_fn(|context| framework.turn(context))) };
                tokio::time::timeout(Duration::from_secs(20), served).await.expect("it goes on");
            });
            prop_assert_eq!(framework.got, stream);
            prop_assert_eq!(framework.answered, framework.ends.len());
        }
    }
}
