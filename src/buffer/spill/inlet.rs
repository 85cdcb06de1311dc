//! The door's side: to Redis, or to the spill where Redis is away.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::super::{Durability, Error, Inlet, Reach, Registration, Result, Room};
use super::course::{Course, Met, is_away};
use super::shared::Shared;
use crate::heartbeat::{Frame, Partition};

/// Pushes to Redis, or to the spill while Redis is away.
#[derive(Debug)]
pub struct SpillingInlet {
    shared: Arc<Shared>,
    after: Duration,
}

impl SpillingInlet {
    pub(super) fn new(shared: Arc<Shared>, after: Duration) -> Self {
        Self { shared, after }
    }

    /// Asks Redis, for `spill-after` at most; where it turns out to be away, pushes go to the spill from now on.
    async fn ask<T>(&self, call: impl Future<Output = Result<T>>) -> Result<T> {
        let after = self.after;
        let answer = tokio::time::timeout(after, call).await.unwrap_or(Err(Error::TimedOut { after }));
        self.shared.note(Met::ByPush, answer.as_ref().map(drop));
        answer
    }

    /// Spills, if there is a spill yet; else `why` Redis does not take them is the answer.
    async fn spill(&self, frames: &[(Partition, Frame)], why: &Error) -> Vec<Result<()>> {
        if self.shared.store.registration().is_none() {
            return vec![Err(why.clone()); frames.len()];
        }
        let outcomes = self.shared.store.push(frames).await;
        let held = frames.iter().zip(&outcomes).filter(|(_, outcome)| outcome.is_ok());
        self.shared.metrics.spilled.inc_by(held.map(|((_, frame), _)| u64::from(frame.rows())).sum());
        outcomes
    }

    async fn push_through(&self, frames: &[(Partition, Frame)]) -> Vec<Result<()>> {
        let pushed = self.ask(async { Ok(self.shared.redis.push(frames).await) }).await;
        let mut outcomes = pushed.unwrap_or_else(|error| vec![Err(error); frames.len()]);
        let lost = |outcome: &Result<()>| outcome.as_ref().err().filter(|error| is_away(error)).cloned();
        let Some(why) = outcomes.iter().find_map(lost) else { return outcomes };
        self.shared.note(Met::ByPush, Err(&why));
        let (places, away): (Vec<usize>, Vec<_>) = (outcomes.iter().zip(frames).enumerate())
            .filter(|(_, (outcome, _))| lost(outcome).is_some())
            .map(|(place, (_, frame))| (place, frame.clone()))
            .unzip();
        for (place, spilled) in places.into_iter().zip(self.spill(&away, &why).await) {
            outcomes[place] = spilled;
        }
        outcomes
    }
}

#[async_trait]
impl Reach for SpillingInlet {
    async fn durability(&self) -> Result<Durability> {
        let away = match self.shared.course() {
            Course::Barred(error) => return Err(error),
            Course::Spilling(error) => error,
            Course::Direct => match self.ask(self.shared.redis.durability()).await {
                Err(error) if is_away(&error) => error,
                found => return found,
            },
        };
        if self.shared.store.registration().is_none() {
            return Err(away);
        }
        self.shared.store.buffer.durability().await
    }

    async fn ping(&self) -> Result<()> {
        match self.shared.course() {
            Course::Barred(error) => return Err(error),
            Course::Spilling(_) => {}
            Course::Direct => match self.ask(self.shared.redis.ping()).await {
                Err(error) if is_away(&error) => {}
                found => return found,
            },
        }
        self.shared.store.takes().await.map_err(|reason| Error::Refused { reason })
    }

    async fn registration(&self) -> Result<Option<Registration>> {
        match (self.shared.course(), self.shared.store.registration()) {
            (Course::Barred(error), _) | (Course::Spilling(error), None) => Err(error),
            // Redis was found to be of the same dataset before anything went to it.
            (_, Some(known)) => Ok(Some(known)),
            (Course::Direct, None) => self.ask(self.shared.redis.registration()).await,
        }
    }
}

#[async_trait]
impl Inlet for SpillingInlet {
    async fn room(&self, wanted: &[(Partition, u64, u64)]) -> Result<Vec<Room>> {
        let away = match self.shared.course() {
            Course::Barred(error) => return Err(error),
            Course::Spilling(error) => error,
            Course::Direct => match self.ask(self.shared.redis.room(wanted)).await {
                Err(error) if is_away(&error) => error,
                found => return found,
            },
        };
        if self.shared.store.registration().is_none() {
            return Err(away);
        }
        self.shared.store.room(wanted).await
    }

    async fn push(&self, frames: &[(Partition, Frame)]) -> Vec<Result<()>> {
        match self.shared.course() {
            Course::Direct => self.push_through(frames).await,
            Course::Spilling(why) => self.spill(frames, &why).await,
            Course::Barred(error) => vec![Err(error); frames.len()],
        }
    }
}
