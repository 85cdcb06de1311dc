//! A connection with the bounds that the framework lacks.
//!
//! The framework bounds the time of a connection's first head, and the silence between two requests. It does not bound a
//! later head that comes byte by byte (its first byte ends the silence), nor an answer that nobody reads; and it takes heads
//! of 128 KiB. Each would hold a connection, and its buffers, for as long as a client likes; with enough of them nobody else
//! is served. So the stream itself keeps time and measure, since it alone sees every byte.
//!
//! Whoever passes a bound is cut off: with an answer where it is the first head of the connection, else without a word, as
//! what was answered before may still be on its way.

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use actix_web::HttpRequest;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::problem::Kind;

/// What a connection may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadlines {
    /// From the first byte of a head to the last; for the first head from the connection's begin.
    pub(super) head: Duration,
    /// From the moment in which the client stops taking an answer until what was made of it is all taken, or of one that is
    /// made while it is taken [`STREAM_PROGRESS`] more.
    pub(super) answer: Duration,
}

/// The longest head, and about as much as is read ahead of an answer. A head begins in a buffer of 8 KiB, and what is
/// longer than that takes one of 16 KiB; a limit just below keeps it the last.
pub(super) const MAX_HEAD_BYTES: usize = 12 << 10;

/// Bytes that the taker of a stream must take within the deadline, since what is made of it may never be all taken.
pub(super) const STREAM_PROGRESS: usize = 32 << 10;

/// What a connection's handlers tell of it.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    /// Requests in the hands of a handler.
    in_hand: Cell<u32>,
    /// Requests that ever were.
    begun: Cell<u64>,
    /// What comes is a body that somebody reads, which has bounds of its own.
    body: Cell<bool>,
    /// An answer leaves that is made while it is taken.
    streams: Cell<bool>,
    /// Who would read on as soon as any of this changes.
    waiting: RefCell<Option<Waker>>,
}

impl Pulse {
    /// A request begins; it ends with what is handed back.
    pub(super) fn begin(self: &Rc<Self>) -> InHand {
        self.in_hand.set(self.in_hand.get() + 1);
        self.begun.set(self.begun.get() + 1);
        InHand(Rc::clone(self))
    }

    /// From now on, and until said otherwise, what comes is the body of the request in hand.
    pub(super) fn reads_body(&self, yes: bool) {
        self.body.set(yes);
        self.wake();
    }

    fn wake(&self) {
        if let Some(waker) = self.waiting.take() {
            waker.wake();
        }
    }
}

/// A body that is read, until this goes.
#[derive(Debug)]
pub(super) struct Reading(Option<Rc<Pulse>>);

impl Reading {
    /// The body of this request.
    pub(super) fn of(request: &HttpRequest) -> Self {
        let pulse = request.conn_data::<Rc<Pulse>>().map(Rc::clone);
        if let Some(pulse) = &pulse {
            pulse.reads_body(true);
        }
        Self(pulse)
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        if let Some(pulse) = &self.0 {
            pulse.reads_body(false);
        }
    }
}

/// An answer that is made while it is taken, until this goes.
#[derive(Debug)]
pub(super) struct Streaming(Option<Rc<Pulse>>);

impl Streaming {
    /// The answer to this request.
    pub(super) fn of(request: &HttpRequest) -> Self {
        let pulse = request.conn_data::<Rc<Pulse>>().map(Rc::clone);
        if let Some(pulse) = &pulse {
            pulse.streams.set(true);
        }
        Self(pulse)
    }
}

impl Drop for Streaming {
    fn drop(&mut self) {
        if let Some(pulse) = &self.0 {
            pulse.streams.set(false);
            pulse.wake();
        }
    }
}

/// One request in hand.
#[derive(Debug)]
pub(super) struct InHand(Rc<Pulse>);

impl Drop for InHand {
    fn drop(&mut self) {
        self.0.in_hand.set(self.0.in_hand.get().saturating_sub(1));
        self.0.wake();
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Guarded<T> {
    io: T,
    pulse: Rc<Pulse>,
    deadlines: Deadlines,
    head: Head,
    answer: Timer,
    /// Bytes of a stream that were taken since the deadline for its answer began.
    taken: usize,
}

/// What comes and is no body: the head that is on its way, and what a client sends ahead of its answers.
#[derive(Debug, Default)]
struct Head {
    timer: Timer,
    bytes: usize,
    /// Requests that had begun when its first byte was waited for.
    after: u64,
    /// The framework was asked once more whether what it has is a whole request.
    asked_again: bool,
}

impl Head {
    fn next(&mut self, after: u64) {
        self.timer.stop();
        (self.bytes, self.after, self.asked_again) = (0, after, false);
    }
}

impl<T> Guarded<T> {
    pub(super) fn new(io: T, deadlines: Deadlines) -> Self {
        let mut head = Head::default();
        head.timer.start(deadlines.head);
        Self { io, pulse: Rc::default(), deadlines, head, answer: Timer::default(), taken: 0 }
    }

    /// Where handlers say that they have a request of this connection.
    pub(super) fn pulse(&self) -> Rc<Pulse> {
        Rc::clone(&self.pulse)
    }

    /// The client has taken so many bytes more.
    fn progress(&mut self, length: usize) {
        if !self.answer.runs() || !self.pulse.streams.get() {
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
    fn read_head(&mut self, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        // While an answer is made or taken, the framework gathers what is sent ahead, and parses it into requests of some 6 KiB
        // each, however short they came: so little of it is read then, and the rest stays with the client.
        let busy = self.pulse.in_hand.get() > 0 || self.pulse.streams.get() || self.answer.runs();
        let begun = self.pulse.begun.get();
        if !busy && begun != self.head.after {
            self.head.next(begun);
        }
        if self.head.bytes > MAX_HEAD_BYTES {
            return self.too_much(busy, context);
        }
        let before = into.filled().len();
        match Pin::new(&mut self.io).poll_read(context, into) {
            Poll::Pending if busy => Poll::Pending,
            Poll::Pending => self.head.timer.poll(context).map(|()| Err(self.refuse(context, Kind::HeadTimeout))),
            step => {
                let came = into.filled().len() - before;
                self.head.bytes += came;
                if came > 0 && !busy {
                    self.head.timer.start(self.deadlines.head);
                }
                step
            }
        }
    }

    fn too_much(&mut self, busy: bool, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if busy {
            self.pulse.waiting.replace(Some(context.waker().clone()));
            return Poll::Pending;
        }
        if self.head.asked_again {
            return Poll::Ready(Err(self.refuse(context, Kind::HeadTooLarge)));
        }
        // It may be many short requests in a row.
        self.head.asked_again = true;
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// Says why, where nothing else was said on this connection; the error then makes the framework drop it.
    fn refuse(&mut self, context: &mut Context<'_>, kind: Kind) -> io::Error {
        if self.pulse.begun.get() == 0 {
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
        if this.pulse.body.get() {
            return Pin::new(&mut this.io).poll_read(context, into);
        }
        this.read_head(context, into)
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
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

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
        let (pulse, in_hand) = (server.pulse(), server.pulse().begin());
        pulse.reads_body(true);
        tokio::select! {
            error = read_all(&mut server) => panic!("cut off: {error}"),
            () = trickle(client) => unreachable!("it goes on for ever"),
            () = tokio::time::sleep(3 * HEAD) => {}
        }
        drop(in_hand);
        let (_client, mut silent) = connection();
        drop(silent.pulse().begin());
        let waited = tokio::time::timeout(3 * HEAD, silent.read_u8()).await;
        assert!(waited.is_err(), "silence is the framework's to end");
    }

    #[tokio::test]
    async fn each_head_has_its_own_time() {
        let (mut client, mut server) = connection();
        for _ in 0..3 {
            client.write_all(b"head").await.unwrap();
            let mut head = [0; 4];
            server.read_exact(&mut head).await.unwrap();
            tokio::time::sleep(HEAD / 2).await;
            let in_hand = server.pulse().begin();
            // The framework looks for more of the connection while a request is in hand.
            let looked = tokio::time::timeout(HEAD, server.read_u8()).await;
            assert!(looked.is_err());
            drop(in_hand);
        }
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
        server.pulse.streams.set(streams);
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
        let mut piece = [0; 1 << 10];
        for _ in 0..40 {
            client.write_all(&piece).await.unwrap();
            server.read_exact(&mut piece).await.unwrap();
            drop(server.pulse().begin());
        }
    }

    #[tokio::test]
    async fn little_is_read_ahead_of_an_answer_and_the_rest_behind_it() {
        let (client, mut server) = connection();
        let (mut answers, mut requests) = tokio::io::split(client);
        let all = 200 << 10;
        let send = tokio::spawn(async move { requests.write_all(&vec![b'x'; all]).await });
        let in_hand = server.pulse().begin();
        let mut ahead = 0;
        let mut piece = [0; 1 << 10];
        while let Ok(len) = tokio::time::timeout(HEAD, server.read(&mut piece)).await {
            ahead += len.unwrap();
        }
        assert!(ahead > 8 << 10 && ahead <= MAX_HEAD_BYTES + piece.len(), "{ahead}");
        assert!(!send.is_finished());
        // It ends within the wait for more, which goes on by itself.
        let end = async {
            tokio::time::sleep(TICK).await;
            drop(in_hand);
        };
        let (len, ()) = tokio::join!(server.read(&mut piece), end);
        assert!(len.unwrap() > 0);
        drop((send, answers.read_u8()));
    }
}
