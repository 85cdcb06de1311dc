//! What one sender may hold of the byte budget by bodies that are still on their way.
//!
//! A body that comes slowly holds its room for as long as the body deadline lets it, and a few large ones hold all there is.
//! So one address may fill half of the budget in this way, and the rest stays for others. What has come whole is no longer
//! counted here: how long it stays is the server's doing.
//!
//! Only bodies that come in more than one piece are counted, so that a single heartbeat costs no lock. Addresses are as many
//! as there are such bodies under way.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::budget::NoRoom;
use super::limits::unit_of;

/// Bytes of bodies on their way, by address.
#[derive(Debug)]
pub(super) struct Arriving {
    held: Mutex<HashMap<IpAddr, usize>>,
    most: usize,
}

impl Arriving {
    /// Half of the budget for each address, and at least what one body may take.
    pub(super) fn new(budget_bytes: usize, body_bytes: usize) -> Arc<Self> {
        Arc::new(Self { held: Mutex::default(), most: (budget_bytes / 2).max(body_bytes) })
    }

    /// For one body of this address.
    pub(super) fn body_of(self: &Arc<Self>, sender: IpAddr) -> Share {
        Share { all: Arc::clone(self), sender: unit_of(sender), bytes: 0 }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        // Each change is one assignment, so a poisoned lock still holds whole values.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one body on its way holds of its sender's share. Dropping it gives that back.
#[derive(Debug)]
pub(super) struct Share {
    all: Arc<Arriving>,
    sender: IpAddr,
    bytes: usize,
}

impl Share {
    /// Takes more, so that it is `bytes`, or nothing.
    ///
    /// # Errors
    /// The sender would hold more than its share.
    pub(super) fn grow_to(&mut self, bytes: usize) -> Result<(), NoRoom> {
        let more = bytes.saturating_sub(self.bytes);
        if more == 0 {
            return Ok(());
        }
        let mut held = self.all.lock();
        let of_sender = held.get(&self.sender).copied().unwrap_or_default().saturating_add(more);
        if of_sender > self.all.most {
            return Err(NoRoom);
        }
        held.insert(self.sender, of_sender);
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
        if let Some(of_sender) = held.get_mut(&self.sender) {
            *of_sender -= self.bytes;
            if *of_sender == 0 {
                held.remove(&self.sender);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_holds_half_of_the_budget_and_gives_it_back() {
        let arriving = Arriving::new(100, 10);
        let [one, other] = ["192.0.2.1", "192.0.2.2"].map(|address| address.parse().unwrap());
        let (mut first, mut second) = (arriving.body_of(one), arriving.body_of(one));
        first.grow_to(20).unwrap();
        first.grow_to(30).unwrap();
        assert_eq!(second.grow_to(21), Err(NoRoom));
        second.grow_to(20).unwrap();
        assert_eq!(first.grow_to(31), Err(NoRoom));
        arriving.body_of(other).grow_to(50).unwrap();
        drop(first);
        second.grow_to(50).unwrap();
        drop(second);
        assert!(arriving.lock().is_empty());
    }

    #[test]
    fn the_largest_body_always_fits() {
        let arriving = Arriving::new(100, 80);
        assert_eq!(arriving.body_of([192, 0, 2, 1].into()).grow_to(80), Ok(()));
    }

    #[test]
    fn what_was_refused_leaves_nothing_behind() {
        let arriving = Arriving::new(100, 10);
        assert_eq!(arriving.body_of([192, 0, 2, 1].into()).grow_to(51), Err(NoRoom));
        assert!(arriving.lock().is_empty());
    }

    #[test]
    fn one_network_of_ipv6_is_one_address() {
        let arriving = Arriving::new(100, 10);
        let [one, other] = ["2001:db8::1", "2001:db8::2"].map(|address| address.parse().unwrap());
        let mut first = arriving.body_of(one);
        first.grow_to(50).unwrap();
        assert_eq!(arriving.body_of(other).grow_to(1), Err(NoRoom));
    }
}
