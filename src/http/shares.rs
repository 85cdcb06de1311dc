//! What one address may hold of the byte budget: by bodies that are still on their way, and by lists that it has asked for and
//! not yet taken.
//!
//! A body that comes slowly holds its room for as long as the body deadline lets it, an answer that is taken slowly as long as
//! that for answers, and a few large ones hold all there is. So one address may fill half of the budget in this way, and the
//! rest stays for others. A body that has come whole is no longer counted here: how long it stays is the server's doing.
//!
//! Only bodies that come in more than one piece are counted, and answers that leave so: a single heartbeat costs no lock.
//! Addresses are as many as there are such bodies and answers under way.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::budget::NoRoom;
use super::limits::unit_of;

/// Bytes held, by address.
#[derive(Debug)]
pub(super) struct Shares {
    held: Mutex<HashMap<IpAddr, usize>>,
    most: usize,
}

impl Shares {
    /// Half of the budget for each address, and at least what one body may take.
    pub(super) fn new(budget_bytes: usize, body_bytes: usize) -> Arc<Self> {
        Arc::new(Self { held: Mutex::default(), most: (budget_bytes / 2).max(body_bytes) })
    }

    /// For one body or answer of this address.
    pub(super) fn of(self: &Arc<Self>, holder: IpAddr) -> Share {
        Share { all: Arc::clone(self), holder: unit_of(holder), bytes: 0 }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        // Each change is one assignment, so a poisoned lock still holds whole values.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one body or answer holds of its address's share. Dropping it gives that back.
#[derive(Debug)]
pub(super) struct Share {
    all: Arc<Shares>,
    holder: IpAddr,
    bytes: usize,
}

impl Share {
    /// Takes more, so that it is `bytes`, or nothing.
    ///
    /// # Errors
    /// The address would hold more than its share.
    pub(super) fn grow_to(&mut self, bytes: usize) -> Result<(), NoRoom> {
        let more = bytes.saturating_sub(self.bytes);
        if more == 0 {
            return Ok(());
        }
        let mut held = self.all.lock();
        let of_holder = held.get(&self.holder).copied().unwrap_or_default().saturating_add(more);
        if of_holder > self.all.most {
            return Err(NoRoom);
        }
        held.insert(self.holder, of_holder);
        self.bytes = bytes;
        Ok(())
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        if self.bytes == 0 {
            return;
        }
        let mut held = self.all.lock();
        if let Some(of_holder) = held.get_mut(&self.holder) {
            *of_holder -= self.bytes;
            if *of_holder == 0 {
                held.remove(&self.holder);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_holds_half_of_the_budget_and_gives_it_back() {
        let shares = Shares::new(100, 10);
        let [one, other] = ["192.0.2.1", "192.0.2.2"].map(|address| address.parse().unwrap());
        let (mut first, mut second) = (shares.of(one), shares.of(one));
        first.grow_to(20).unwrap();
        first.grow_to(30).unwrap();
        assert_eq!(second.grow_to(21), Err(NoRoom));
        second.grow_to(20).unwrap();
        assert_eq!(first.grow_to(31), Err(NoRoom));
        shares.of(other).grow_to(50).unwrap();
        drop(first);
        second.grow_to(50).unwrap();
        drop(second);
        assert!(shares.lock().is_empty());
    }

    #[test]
    fn the_largest_body_always_fits() {
        let shares = Shares::new(100, 80);
        assert_eq!(shares.of([192, 0, 2, 1].into()).grow_to(80), Ok(()));
    }

    #[test]
    fn what_was_refused_leaves_nothing_behind() {
        let shares = Shares::new(100, 10);
        assert_eq!(shares.of([192, 0, 2, 1].into()).grow_to(51), Err(NoRoom));
        assert!(shares.lock().is_empty());
    }

    #[test]
    fn one_network_of_ipv6_is_one_address() {
        let shares = Shares::new(100, 10);
        let [one, other] = ["2001:db8::1", "2001:db8::2"].map(|address| address.parse().unwrap());
        let mut first = shares.of(one);
        first.grow_to(50).unwrap();
        assert_eq!(shares.of(other).grow_to(1), Err(NoRoom));
    }
}
