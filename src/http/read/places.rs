//! The places of answers that are under way, and who has how many of them.
//!
//! An answer holds its place for as long as its client takes, and there are few. So one reader has half of them at most, and
//! the rest stay for others: a reader is a token, or where none is needed an address. Those who wait or hold a place are all that is
//! remembered.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::super::auth::Pass;
use super::super::limits::unit_of;
use super::super::problem::{Kind, Problem};
use crate::token::TokenId;

/// How long a read waits for its place: once among those of its reader, once among all.
const PLACE_WAIT: Duration = Duration::from_millis(500);

/// Who reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Reader {
    Token(TokenId),
    Address(IpAddr),
}

impl Reader {
    pub(super) fn of(pass: &Pass, client: IpAddr) -> Self {
        pass.token().map_or_else(|| Self::Address(unit_of(client)), Self::Token)
    }
}

/// The places of reads.
#[derive(Debug)]
pub(in crate::http) struct Reads {
    all: Arc<Semaphore>,
    readers: Arc<Readers>,
}

/// A place. Dropping it gives it back.
#[derive(Debug)]
pub(super) struct Place {
    _own: OwnedSemaphorePermit,
    _claim: Claim,
    _among_all: OwnedSemaphorePermit,
}

impl Reads {
    /// So many places, and at most half of them (but one at least) for each reader.
    pub(in crate::http) fn new(at_once: usize) -> Self {
        let readers = Readers { most: (at_once / 2).max(1), of: Mutex::default() };
        Self { all: Arc::new(Semaphore::new(at_once)), readers: Arc::new(readers) }
    }

    /// Places that are free.
    pub(in crate::http) fn free(&self) -> usize {
        self.all.available_permits()
    }

    /// A place for one more answer to this reader.
    pub(super) async fn place(&self, reader: Reader) -> Result<Place, Problem> {
        let claim = Claim::of(&self.readers, reader);
        let Ok(Ok(own)) = timeout(PLACE_WAIT, claim.share().acquire_owned()).await else {
            let detail = "Too many answers are being read with this token, or without one from this address; read them one \
                          after the other.";
            return Err(Problem::new(Kind::Overloaded, detail).with_cause("one reader has half of read_streams"));
        };
        match timeout(PLACE_WAIT, Arc::clone(&self.all).acquire_owned()).await {
            Ok(Ok(among_all)) => Ok(Place { _own: own, _claim: claim, _among_all: among_all }),
            _ => Err(Problem::overloaded_reads("read_streams answers are under way")),
        }
    }
}

/// Those who hold a place or wait for one.
#[derive(Debug)]
struct Readers {
    /// Places of one of them.
    most: usize,
    of: Mutex<HashMap<Reader, Own>>,
}

/// The places of one reader.
#[derive(Debug)]
struct Own {
    places: Arc<Semaphore>,
    claims: usize,
}

impl Readers {
    fn lock(&self) -> MutexGuard<'_, HashMap<Reader, Own>> {
        // Each change is one step, so a poisoned lock still holds whole values.
        self.of.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One answer of a reader, from the wait for its place to its end.
#[derive(Debug)]
struct Claim {
    readers: Arc<Readers>,
    reader: Reader,
    places: Arc<Semaphore>,
}

impl Claim {
    fn of(readers: &Arc<Readers>, reader: Reader) -> Self {
        let mut of = readers.lock();
        let own = of.entry(reader).or_insert_with(|| Own { places: Arc::new(Semaphore::new(readers.most)), claims: 0 });
        own.claims += 1;
        Self { readers: Arc::clone(readers), reader, places: Arc::clone(&own.places) }
    }

    fn share(&self) -> Arc<Semaphore> {
        Arc::clone(&self.places)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut of = self.readers.lock();
        if let Some(own) = of.get_mut(&self.reader) {
            own.claims -= 1;
            if own.claims == 0 {
                of.remove(&self.reader);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(last: u8) -> Reader {
        Reader::of(&Pass::Anybody, [192, 0, 2, last].into())
    }

    #[tokio::test(start_paused = true)]
    async fn one_reader_has_half_of_the_places_and_others_the_rest() {
        let reads = Reads::new(4);
        let mut held = vec![reads.place(at(1)).await.unwrap(), reads.place(at(1)).await.unwrap()];
        assert!(reads.place(at(1)).await.is_err());
        held.push(reads.place(at(2)).await.unwrap());
        held.push(reads.place(at(3)).await.unwrap());
        assert!(reads.place(at(4)).await.is_err(), "there are four");
        held.remove(0);
        held.push(reads.place(at(1)).await.unwrap());
        assert_eq!((reads.free(), reads.readers.lock().len()), (0, 3));
        drop(held);
        assert_eq!((reads.free(), reads.readers.lock().len()), (4, 0), "nobody is remembered");
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_has_the_place_of_an_answer_that_ends() {
        let reads = Reads::new(1);
        let place = reads.place(at(1)).await.unwrap();
        let end = async {
            tokio::time::sleep(PLACE_WAIT / 2).await;
            drop(place);
        };
        let (next, ()) = tokio::join!(reads.place(at(1)), end);
        next.unwrap();
    }
}
