//! What the handlers of a connection and the stream below them tell each other: the framework stands between, and tells neither.

use std::cell::{Cell, RefCell};
use std::future::{pending, poll_fn};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use actix_web::HttpRequest;

/// How long work goes on for a client that has closed its side, with nothing to send. Few close only their half; all others
/// have left, which would not come to light before something is sent.
const ABANDONED_AFTER: Duration = Duration::from_secs(5);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    /// Requests in the hands of a handler, or whose answer is not yet whole in the hands of the framework.
    in_hand: Cell<u32>,
    /// Requests that ever were.
    begun: Cell<u64>,
    /// What comes is a body that somebody reads, which has bounds of its own.
    body: Cell<bool>,
    /// An answer leaves that is made while it is taken.
    streams: Cell<bool>,
    /// Who would read on as soon as any of this changes.
    waiting: RefCell<Option<Waker>>,
    /// The client has closed its side.
    closed: Cell<bool>,
    /// Who works for the client, and would know of that.
    working: RefCell<Option<Waker>>,
}

impl Pulse {
    /// A request begins; it ends with what is handed back.
    pub(super) fn begin(self: &Rc<Self>) -> InHand {
        self.in_hand.set(self.in_hand.get() + 1);
        self.begun.set(self.begun.get() + 1);
        InHand(Rc::clone(self))
    }

    /// Whether a request is in hand.
    pub(super) fn is_in_hand(&self) -> bool {
        self.in_hand.get() > 0
    }

    /// Requests that ever began.
    pub(super) fn begun(&self) -> u64 {
        self.begun.get()
    }

    /// Whether somebody reads the body of the request in hand.
    pub(super) fn is_body_read(&self) -> bool {
        self.body.get()
    }

    /// Whether an answer leaves that is made while it is taken.
    pub(super) fn streams(&self) -> bool {
        self.streams.get()
    }

    /// Wakes this task as soon as anything of this changes.
    pub(super) fn wait(&self, context: &Context<'_>) {
        self.waiting.replace(Some(context.waker().clone()));
    }

    /// Wakes who waits.
    pub(super) fn wake(&self) {
        if let Some(waker) = self.waiting.take() {
            waker.wake();
        }
    }

    /// The client has closed its side: nothing more comes.
    pub(super) fn close(&self) {
        self.closed.set(true);
        if let Some(waker) = self.working.take() {
            waker.wake();
        }
    }

    fn poll_closed(&self, context: &Context<'_>) -> Poll<()> {
        if self.closed.get() {
            return Poll::Ready(());
        }
        self.working.replace(Some(context.waker().clone()));
        Poll::Pending
    }

    fn reads_body(&self, yes: bool) {
        self.body.set(yes);
        self.wake();
    }
}

/// Waits until it is not worth while to work for the client of this request any more: it has closed its side, and nothing was
/// ready to be sent for long.
pub(super) async fn abandoned(request: &HttpRequest) {
    abandoned_on(request.conn_data::<Rc<Pulse>>()).await;
}

async fn abandoned_on(pulse: Option<&Rc<Pulse>>) {
    match pulse {
        Some(pulse) => poll_fn(|context| pulse.poll_closed(context)).await,
        None => pending().await,
    }
    tokio::time::sleep(ABANDONED_AFTER).await;
}

/// A body that is read, until this goes.
#[derive(Debug)]
pub(super) struct Reading(Option<Rc<Pulse>>);

impl Reading {
    /// The body of this request.
    pub(super) fn of(request: &HttpRequest) -> Self {
        Self::on(request.conn_data::<Rc<Pulse>>().map(Rc::clone))
    }

    pub(super) fn on(pulse: Option<Rc<Pulse>>) -> Self {
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
        Self::on(request.conn_data::<Rc<Pulse>>().map(Rc::clone))
    }

    pub(super) fn on(pulse: Option<Rc<Pulse>>) -> Self {
        if let Some(pulse) = &pulse {
            pulse.streams.set(true);
        }
        Self(pulse)
    }

    /// As [`abandoned`].
    pub(super) async fn abandoned(&self) {
        abandoned_on(self.0.as_ref()).await;
    }
}

impl Drop for Streaming {
    fn drop(&mut self) {
        if let Some(pulse) = &self.0 {
            pulse.streams.set(false);
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
