//! Random steps against a model of a few lines: which frame is where, and what the ledger therefore says.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use systole::buffer::{Buffer, ClaimBudget, DeadLetterId, Error, Lease, Ledger};
use systole::heartbeat::{ClaimId, Frame};

use crate::backend::{AMPLE, Backend, Caps, DATASET, registered};
use crate::suite::{ALL, condemned, frame, lease, next_owner};

/// Caps of the partition under test: small enough that pushes are refused now and then.
const CAP: u64 = 40;
/// Those of the whole buffer.
pub const CAPS: Caps = Caps { heartbeats: CAP * DATASET.partitions as u64, ..AMPLE };

#[derive(Debug, Clone)]
pub enum Step {
    Push { rows: u32 },
    Claim { frames: u32 },
    Hand(prop::sample::Index),
    Condemn { frame: prop::sample::Index, whole: bool },
    Ack,
    Die,
    Leave,
    Retry(prop::sample::Index),
    Drop(prop::sample::Index),
}

pub fn step() -> impl Strategy<Value = Step> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        6 => (1..9_u32).prop_map(|rows| Step::Push { rows }),
        3 => (1..4_u32).prop_map(|frames| Step::Claim { frames }),
        1 => index().prop_map(Step::Hand),
        2 => (index(), any::<bool>()).prop_map(|(frame, whole)| Step::Condemn { frame, whole }),
        3 => Just(Step::Ack),
        1 => Just(Step::Die),
        1 => Just(Step::Leave),
        2 => index().prop_map(Step::Retry),
        1 => index().prop_map(Step::Drop),
    ]
}

#[derive(Debug)]
struct Standing {
    id: ClaimId,
    frames: Vec<Frame>,
    condemned: BTreeMap<(u32, Option<u32>), (DeadLetterId, Frame)>,
    deaths: u32,
    left: bool,
    handed_to: u64,
}

#[derive(Debug, Default)]
pub struct Model {
    pending: VecDeque<Frame>,
    claim: Option<Standing>,
    dead: BTreeMap<DeadLetterId, Frame>,
    accepted: u64,
    acked: u64,
    dropped: u64,
}

fn rows<'a>(frames: impl IntoIterator<Item = &'a Frame>) -> u64 {
    frames.into_iter().map(|frame| u64::from(frame.rows())).sum()
}

fn bytes<'a>(frames: impl IntoIterator<Item = &'a Frame>) -> u64 {
    frames.into_iter().map(|frame| frame.bytes().len() as u64).sum()
}

impl Model {
    fn ledger(&self) -> Ledger {
        let claimed = self.claim.as_ref().map(|claim| &claim.frames[..]).unwrap_or_default();
        Ledger {
            accepted: self.accepted,
            pending: rows(&self.pending),
            claimed: rows(claimed),
            acked: self.acked,
            dead: rows(self.dead.values()),
            dropped: self.dropped,
            bytes: bytes(&self.pending) + bytes(claimed) + bytes(self.dead.values()),
        }
    }

    fn nth_dead(&self, index: prop::sample::Index) -> DeadLetterId {
        let ids: Vec<_> = self.dead.keys().copied().collect();
        if ids.is_empty() { DeadLetterId::new() } else { *index.get(&ids) }
    }
}

/// The buffer and the model, side by side.
pub struct Pair {
    pub buffer: Arc<dyn Buffer>,
    pub lease: Lease,
    model: Model,
    next_tag: u64,
}

impl Pair {
    /// Of a new buffer of `backend`.
    pub async fn new(backend: &dyn Backend) -> Self {
        let buffer = registered(backend, CAPS).await;
        let lease = lease(&*buffer, 0).await;
        Self { buffer, lease, model: Model::default(), next_tag: 0 }
    }

    /// Fails unless the buffer is where the model is.
    pub async fn agree(&self) {
        let status = self.buffer.status(0).await.unwrap();
        assert!(status.ledger.balances(), "{:?}", status.ledger);
        assert_eq!(status.ledger, self.model.ledger());
        let letters = self.buffer.dead_letters(0, None, 100).await.unwrap();
        let wanted: Vec<_> = self.model.dead.iter().map(|(id, frame)| (*id, frame.bytes().clone())).collect();
        assert_eq!(letters.into_iter().map(|letter| (letter.id, letter.bytes)).collect::<Vec<_>>(), wanted);
    }

    pub async fn take(&mut self, step: Step) {
        match step {
            Step::Push { rows } => self.push(rows).await,
            Step::Claim { frames } => self.claim(frames).await,
            Step::Hand(index) => {
                if let Some(claim) = &self.model.claim {
                    let frame = index.index(claim.frames.len()) as u32;
                    self.buffer.take_in_hand(&self.lease, claim.id, Some(frame)).await.unwrap();
                }
            }
            Step::Condemn { frame, whole } => self.condemn(frame, whole).await,
            Step::Ack => self.ack().await,
            Step::Die => self.lease = next_owner(&*self.buffer, &self.lease).await,
            Step::Leave => {
                self.buffer.release(&self.lease).await.unwrap();
                if let Some(claim) = self.model.claim.as_mut().filter(|claim| claim.handed_to == self.lease.epoch) {
                    claim.left = true;
                }
                self.lease = lease(&*self.buffer, 0).await;
            }
            Step::Retry(index) => {
                let id = self.model.nth_dead(index);
                let frame = self.model.dead.remove(&id);
                assert_eq!(self.buffer.retry_dead_letter(0, id).await.unwrap(), frame.is_some());
                self.model.pending.extend(frame);
            }
            Step::Drop(index) => {
                let id = self.model.nth_dead(index);
                let frame = self.model.dead.remove(&id);
                assert_eq!(self.buffer.drop_dead_letter(0, id).await.unwrap(), frame.is_some());
                self.model.dropped += rows(&frame);
            }
        }
    }

    fn frame(&mut self, rows: u32) -> Frame {
        self.next_tag += 1;
        frame(self.next_tag, rows)
    }

    async fn push(&mut self, rows: u32) {
        let frame = self.frame(rows);
        let ledger = self.model.ledger();
        let fits = ledger.pending + ledger.claimed + ledger.dead + u64::from(rows) <= CAP;
        let outcome = self.buffer.push(&[(0, frame.clone())]).await.remove(0);
        assert_eq!(outcome.is_ok(), fits, "{outcome:?} {ledger:?}");
        if fits {
            self.model.accepted += u64::from(rows);
            self.model.pending.push_back(frame);
        } else {
            assert!(matches!(outcome, Err(Error::Full { partition: 0 })));
        }
    }

    async fn claim(&mut self, frames: u32) {
        let id = ClaimId::new();
        let claimed = self.buffer.claim(&self.lease, id, ClaimBudget { frames, ..ALL }).await.unwrap();
        let epoch = self.lease.epoch;
        match &mut self.model.claim {
            Some(standing) => {
                if standing.handed_to != epoch {
                    standing.deaths += u32::from(!standing.left);
                    (standing.handed_to, standing.left) = (epoch, false);
                }
            }
            None => {
                let count = self.model.pending.len().min(frames as usize);
                let frames: Vec<_> = self.model.pending.drain(..count).collect();
                let fresh =
                    Standing { id, frames, condemned: BTreeMap::new(), deaths: 0, left: false, handed_to: epoch };
                self.model.claim = (count > 0).then_some(fresh);
            }
        }
        let expected = self.model.claim.as_ref();
        assert_eq!(
            claimed.as_ref().map(|claim| (claim.id, claim.deaths)),
            expected.map(|claim| (claim.id, claim.deaths))
        );
        if let (Some(claim), Some(expected)) = (claimed, expected) {
            let bytes: Vec<_> = expected.frames.iter().map(|frame| frame.bytes().clone()).collect();
            assert_eq!((claim.frames, claim.rows), (bytes, rows(&expected.frames)));
            let condemned: Vec<_> = claim.condemned.iter().map(|entry| ((entry.frame, entry.row), entry.id)).collect();
            let wanted: Vec<_> = expected.condemned.iter().map(|(place, (id, _))| (*place, *id)).collect();
            assert_eq!(condemned, wanted);
        }
    }

    async fn condemn(&mut self, index: prop::sample::Index, whole: bool) {
        let kept = self.frame(1);
        let Some(standing) = &mut self.model.claim else { return };
        let at = index.index(standing.frames.len());
        let (row, kept) = if whole { (None, standing.frames[at].clone()) } else { (Some(0), kept) };
        let at = at as u32;
        let entry = condemned(at, row, &kept);
        self.buffer.condemn(&self.lease, standing.id, std::slice::from_ref(&entry)).await.unwrap();
        if standing.condemned.contains_key(&(at, None)) {
            return;
        }
        if whole {
            standing.condemned.retain(|(frame, _), _| *frame != at);
        }
        standing.condemned.entry((at, row)).or_insert((entry.id, kept));
    }

    async fn ack(&mut self) {
        let id = self.model.claim.as_ref().map_or_else(ClaimId::new, |claim| claim.id);
        let standing = self.model.claim.iter().flat_map(|claim| &claim.condemned);
        let left_out: Vec<_> = standing.map(|((frame, row), (_, kept))| condemned(*frame, *row, kept)).collect();
        let outcome = self.buffer.ack(&self.lease, id, &left_out).await;
        match self.model.claim.take() {
            None => assert!(matches!(outcome, Err(Error::NotStanding)), "{outcome:?}"),
            Some(standing) => {
                outcome.unwrap();
                let letters = standing.condemned.into_values();
                let before = rows(self.model.dead.values());
                self.model.dead.extend(letters);
                self.model.acked += rows(&standing.frames) - (rows(self.model.dead.values()) - before);
            }
        }
    }
}

/// Whatever is done in whatever order, the buffer is where the model is.
pub fn the_ledger_balances_after_any_steps(backend: &mut dyn Backend) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut runner = TestRunner::new(Config { cases: 40, failure_persistence: None, ..Config::default() });
    let backend = std::cell::RefCell::new(backend);
    runner
        .run(&proptest::collection::vec(step(), 1..60), |steps| {
            let mut backend = backend.borrow_mut();
            backend.clear();
            runtime.block_on(run(&**backend, steps));
            Ok(())
        })
        .unwrap();
}

async fn run(backend: &dyn Backend, steps: Vec<Step>) {
    let mut pair = Pair::new(backend).await;
    for step in steps {
        pair.take(step).await;
        pair.agree().await;
    }
    pair.buffer.renew(&pair.lease, Duration::ZERO).await.unwrap();
}
