//! The byte budget: how much memory bodies and what is made of them may take, all requests together.
//!
//! A request's [`Reservation`] grows with its body, covers what the body inflates to, stays in place for the heartbeats
//! and frames made of it, and is given back when the request is answered. Nobody waits for room: waiting requests would
//! hold what they already have, and the client can wait better.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::shares::Share;

/// No room is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NoRoom;

/// The budget.
#[derive(Debug)]
pub(super) struct ByteBudget {
    used: AtomicUsize,
    limit: usize,
}

impl ByteBudget {
    pub(super) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { used: AtomicUsize::new(0), limit })
    }

    /// Bytes reserved at this moment.
    pub(super) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Bytes that may be reserved.
    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// Whether so much would fit now: a cheap look before reading a body that says how long it is.
    pub(super) fn has_room_for(&self, bytes: usize) -> bool {
        self.used().saturating_add(bytes) <= self.limit
    }
}

/// One request's share. Dropping it gives everything back.
#[derive(Debug)]
pub(super) struct Reservation {
    budget: Arc<ByteBudget>,
    bytes: usize,
}

impl Reservation {
    pub(super) fn empty(budget: &Arc<ByteBudget>) -> Self {
        Self { budget: Arc::clone(budget), bytes: 0 }
    }

    /// Takes `bytes` more, or nothing.
    ///
    /// # Errors
    /// They would pass the budget.
    pub(super) fn grow(&mut self, bytes: usize) -> Result<(), NoRoom> {
        let limit = self.budget.limit;
        let add = |used: usize| used.checked_add(bytes).filter(|&sum| sum <= limit);
        self.budget.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).map_err(|_| NoRoom)?;
        self.bytes += bytes;
        Ok(())
    }

    /// Gives back all but `bytes`.
    pub(super) fn shrink_to(&mut self, bytes: usize) {
        let freed = self.bytes.saturating_sub(bytes);
        self.bytes -= freed;
        self.budget.used.fetch_sub(freed, Ordering::Relaxed);
    }

    /// Takes more, or gives back all that is more, so that it is `bytes`.
    ///
    /// # Errors
    /// They would pass the budget.
    pub(super) fn resize(&mut self, bytes: usize) -> Result<(), NoRoom> {
        self.grow(bytes.saturating_sub(self.bytes))?;
        self.shrink_to(bytes);
        Ok(())
    }

    /// What is reserved.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.shrink_to(0);
    }
}

/// Why a buffer took no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// The buffer's own limit is reached.
    Limit,
    /// The byte budget is.
    Budget,
    /// What the sender may hold of it is.
    Sender,
}

/// Bytes that arrive piece by piece, up to a limit, within the budget.
#[derive(Debug)]
pub(super) struct BoundedBytes<'a> {
    bytes: Vec<u8>,
    limit: usize,
    /// How long they say that they will be.
    expected: usize,
    reservation: &'a mut Reservation,
    share: Option<Share>,
}

/// What is there must be at least this share of what is expected before room is made for all of it: who announces much
/// and sends little must not hold it.
const SHOWN_SHARE: usize = 8;

/// The smallest step in which [`BoundedBytes`] grows.
const STEP: usize = 16 * 1024;

impl<'a> BoundedBytes<'a> {
    pub(super) fn new(limit: usize, expected: usize, reservation: &'a mut Reservation) -> Self {
        Self { bytes: Vec::new(), limit, expected, reservation, share: None }
    }

    /// The same within what their sender may hold.
    pub(super) fn within(self, share: Share) -> Self {
        Self { share: Some(share), ..self }
    }

    /// Appends a piece.
    ///
    /// # Errors
    /// Which bound it would pass.
    pub(super) fn extend(&mut self, piece: &[u8]) -> Result<(), Stop> {
        let len = self.bytes.len() + piece.len();
        if len > self.limit {
            return Err(Stop::Limit);
        }
        if len > self.bytes.capacity() {
            // Doubling keeps copying cheap; what is reserved is what is allocated, not what is filled.
            let doubled = len.max(self.bytes.capacity() * 2).max(STEP);
            let shown = len >= self.expected / SHOWN_SHARE && len <= self.expected;
            let capacity = if shown { self.expected } else { doubled }.min(self.limit);
            if let Some(share) = &mut self.share {
                share.grow_to(capacity).map_err(|NoRoom| Stop::Sender)?;
            }
            self.reservation.grow(capacity - self.bytes.capacity()).map_err(|NoRoom| Stop::Budget)?;
            self.bytes.reserve_exact(capacity - self.bytes.len());
        }
        self.bytes.extend_from_slice(piece);
        Ok(())
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reservations_share_the_budget_and_give_it_back() {
        let budget = ByteBudget::new(100);
        let mut one = Reservation::empty(&budget);
        let mut other = Reservation::empty(&budget);
        one.grow(60).unwrap();
        assert_eq!(other.grow(41), Err(NoRoom));
        assert_eq!(other.grow(usize::MAX), Err(NoRoom));
        assert_eq!(budget.used(), 60, "a refused step takes nothing");
        other.grow(40).unwrap();
        assert!(!budget.has_room_for(1));
        one.shrink_to(10);
        assert_eq!((one.bytes(), budget.used()), (10, 50));
        drop(one);
        drop(other);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn bounded_bytes_stop_at_either_bound() {
        let budget = ByteBudget::new(100_000);
        let mut reservation = Reservation::empty(&budget);
        let mut bytes = BoundedBytes::new(50_000, 0, &mut reservation);
        for _ in 0..50 {
            bytes.extend(&[7; 1000]).unwrap();
        }
        assert_eq!(bytes.extend(&[7]), Err(Stop::Limit));
        assert_eq!(bytes.into_bytes().len(), 50_000);
        assert_eq!(budget.used(), 50_000, "never more than the limit is reserved");

        let mut bytes = BoundedBytes::new(1_000_000, 0, &mut reservation);
        assert_eq!(bytes.extend(&[7; 50_001]), Err(Stop::Budget));
    }

    #[test]
    fn room_for_all_is_made_at_once_when_some_has_come() {
        let budget = ByteBudget::new(1_000_000);
        let mut reservation = Reservation::empty(&budget);
        let mut bytes = BoundedBytes::new(500_000, 200_000, &mut reservation);
        bytes.extend(&[7; 1_000]).unwrap();
        assert_eq!(budget.used(), STEP, "an announcement alone takes nothing");
        bytes.extend(&[7; 30_000]).unwrap();
        assert_eq!(budget.used(), 200_000);
        bytes.extend(&[7; 170_000]).unwrap();
        assert_eq!(budget.used(), 400_000, "more than was announced is taken as it comes");
    }
}
