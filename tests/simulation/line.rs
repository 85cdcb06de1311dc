//! The line between a process and the buffer: the real buffer, with calls refused, answers lost, answers late, calls given
//! up that are carried out later, and a caller that dies at a call.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use systole::buffer::{
    Batchers, Buffer, Claim, ClaimBudget, Condemned, DeadLetter, DeadLetterId, DeadLetterNote, Durability, Error,
    Inlet, Inspect, Lease, LeaseAnswer, PartitionStatus, Reach, Registration, Room,
};
use systole::heartbeat::{BatcherId, ClaimId, Frame, Partition};
use tokio::time::Instant;

use crate::ground::Ground;
use crate::life::Life;
use crate::place::Place;
use crate::weather::Call;

/// What a caller waits for an answer: the default of `step-deadline`.
const DEADLINE: Duration = Duration::from_secs(10);

/// One process's way to the buffer.
#[derive(Clone)]
pub struct Line {
    place: Arc<Place>,
    ground: Arc<Ground>,
    life: Life,
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Line").finish_non_exhaustive()
    }
}

type Result<T> = std::result::Result<T, Error>;

const TIMED_OUT: Error = Error::TimedOut { after: DEADLINE };

impl Line {
    pub fn new(place: Arc<Place>, ground: Arc<Ground>, life: Life) -> Self {
        Self { place, ground, life }
    }

    async fn call<T, F>(
        &self,
        what: &'static str,
        call: impl FnOnce(Arc<dyn Buffer>) -> F + Send + 'static,
    ) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send,
    {
        self.live().await;
        let place = self.place.clone();
        self.ground.trace_step(what.to_owned());
        match self.ground.weather.call((self.life.number, what)) {
            Call::Plain(latency) => {
                let arrives = self.in_turn(latency);
                let answer = call(place.buffer()?).await;
                tokio::time::sleep_until(arrives).await;
                self.live().await;
                answer
            }
            Call::Refused => {
                tokio::time::sleep_until(self.in_turn(Duration::ZERO)).await;
                Err(Error::Refused { reason: "the weather is bad".into() })
            }
            Call::LostReply => {
                let gives_up = self.in_turn(DEADLINE);
                let _ = call(place.buffer()?).await;
                tokio::time::sleep_until(gives_up).await;
                Err(TIMED_OUT)
            }
            Call::LateReply(after) => {
                let arrives = self.in_turn(after);
                let answer = call(place.buffer()?).await;
                tokio::time::sleep_until(arrives).await;
                answer
            }
            Call::LateEffect(after) => {
                let (arrives, gives_up) = (self.in_turn(after), self.in_turn(DEADLINE));
                tokio::spawn(async move {
                    tokio::time::sleep_until(arrives).await;
                    if let Ok(buffer) = place.buffer() {
                        let _ = call(buffer).await;
                    }
                });
                tokio::time::sleep_until(gives_up).await;
                Err(TIMED_OUT)
            }
            Call::DiesBefore => self.die().await,
            Call::DiesAfter => {
                let dies = self.in_turn(Duration::ZERO);
                let _ = call(place.buffer()?).await;
                tokio::time::sleep_until(dies).await;
                self.die().await
            }
        }
    }

    /// When an answer comes: so much later, at an instant of its own.
    fn in_turn(&self, later: Duration) -> Instant {
        self.ground.turns.instant(Instant::now() + later)
    }

    /// Goes on only in a process that lives.
    async fn live(&self) {
        if self.life.is_dead() {
            std::future::pending::<()>().await;
        }
    }

    fn note(&self, what: &'static str, is_so: bool) {
        self.ground.weather.note(what, is_so.into());
    }

    async fn die<T>(&self) -> T {
        self.life.kill();
        std::future::pending().await
    }
}

#[async_trait]
impl Reach for Line {
    async fn durability(&self) -> Result<Durability> {
        self.call("durability", |buffer| async move { buffer.durability().await }).await
    }

    async fn ping(&self) -> Result<()> {
        self.call("ping", |buffer| async move { buffer.ping().await }).await
    }

    async fn registration(&self) -> Result<Option<Registration>> {
        self.call("registration", |buffer| async move { buffer.registration().await }).await
    }
}

#[async_trait]
impl Inlet for Line {
    async fn room(&self, wanted: &[(Partition, u64, u64)]) -> Result<Vec<Room>> {
        let wanted = wanted.to_vec();
        self.call("room", |buffer| async move { buffer.room(&wanted).await }).await
    }

    async fn push(&self, frames: &[(Partition, Frame)]) -> Vec<Result<()>> {
        let (count, frames) = (frames.len(), frames.to_vec());
        let answers = self.call("push", |buffer| async move { Ok(buffer.push(&frames).await) }).await;
        answers.unwrap_or_else(|error| vec![Err(error); count])
    }
}

#[async_trait]
impl Inspect for Line {
    async fn status(&self, partition: Partition) -> Result<PartitionStatus> {
        self.call("status", move |buffer| async move { buffer.status(partition).await }).await
    }

    async fn batchers(&self) -> Result<Batchers> {
        self.call("batchers", |buffer| async move { buffer.batchers().await }).await
    }

    async fn dead_letters(
        &self,
        partition: Partition,
        after: Option<DeadLetterId>,
        limit: u32,
    ) -> Result<Vec<DeadLetter>> {
        self.call("dead_letters", move |buffer| async move { buffer.dead_letters(partition, after, limit).await }).await
    }

    async fn newest_dead_letters(&self, partition: Partition, limit: u32) -> Result<Vec<DeadLetterNote>> {
        let ask = move |buffer: Arc<dyn Buffer>| async move { buffer.newest_dead_letters(partition, limit).await };
        self.call("newest_dead_letters", ask).await
    }

    async fn dead_letter(&self, partition: Partition, id: DeadLetterId) -> Result<Option<DeadLetter>> {
        self.call("dead_letter", move |buffer| async move { buffer.dead_letter(partition, id).await }).await
    }

    async fn retry_dead_letter(&self, partition: Partition, id: DeadLetterId) -> Result<bool> {
        self.call("retry_dead_letter", move |buffer| async move { buffer.retry_dead_letter(partition, id).await }).await
    }

    async fn drop_dead_letter(&self, partition: Partition, id: DeadLetterId) -> Result<bool> {
        self.call("drop_dead_letter", move |buffer| async move { buffer.drop_dead_letter(partition, id).await }).await
    }
}

#[async_trait]
impl Buffer for Line {
    async fn register(&self, registration: Registration) -> Result<()> {
        self.call("register", move |buffer| async move { buffer.register(registration).await }).await
    }

    async fn announce(&self, batcher: BatcherId, ttl: Duration) -> Result<Vec<BatcherId>> {
        self.call("announce", move |buffer| async move { buffer.announce(batcher, ttl).await }).await
    }

    async fn retire(&self, batcher: BatcherId) -> Result<()> {
        self.call("retire", move |buffer| async move { buffer.retire(batcher).await }).await
    }

    async fn lease(&self, partition: Partition, batcher: BatcherId, ttl: Duration) -> Result<LeaseAnswer> {
        self.call("lease", move |buffer| async move { buffer.lease(partition, batcher, ttl).await }).await
    }

    async fn renew(&self, lease: &Lease, ttl: Duration) -> Result<()> {
        let lease = *lease;
        self.call("renew", move |buffer| async move { buffer.renew(&lease, ttl).await }).await
    }

    async fn release(&self, lease: &Lease) -> Result<()> {
        let lease = *lease;
        self.call("release", move |buffer| async move { buffer.release(&lease).await }).await
    }

    async fn claim(&self, lease: &Lease, id: ClaimId, budget: ClaimBudget) -> Result<Option<Claim>> {
        let lease = *lease;
        let claimed = self.call("claim", move |buffer| async move { buffer.claim(&lease, id, budget).await }).await;
        if let Ok(Some(claim)) = &claimed {
            self.note("claims handed over again", claim.standing);
            self.note("claims that three owners died with", claim.deaths >= 3);
        }
        claimed
    }

    async fn take_in_hand(&self, lease: &Lease, claim: ClaimId, frame: Option<u32>) -> Result<()> {
        let lease = *lease;
        self.call("take_in_hand", move |buffer| async move { buffer.take_in_hand(&lease, claim, frame).await }).await
    }

    async fn condemn(&self, lease: &Lease, claim: ClaimId, condemned: &[Condemned]) -> Result<()> {
        let (lease, condemned) = (*lease, condemned.to_vec());
        self.note("condemned", true);
        self.call("condemn", move |buffer| async move { buffer.condemn(&lease, claim, &condemned).await }).await
    }

    async fn ack(&self, lease: &Lease, claim: ClaimId, left_out: &[Condemned]) -> Result<()> {
        let (lease, left_out) = (*lease, left_out.to_vec());
        let acked = self.call("ack", move |buffer| async move { buffer.ack(&lease, claim, &left_out).await }).await;
        self.note("acknowledgements fenced", matches!(acked, Err(Error::Fenced { .. })));
        self.note("acknowledgements of a claim that was closed", matches!(acked, Err(Error::NotStanding)));
        acked
    }
}
