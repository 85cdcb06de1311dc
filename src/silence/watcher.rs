//! The service: looks every few seconds, raises and clears, and delivers what waits.
//!
//! Every process with rules runs it; one of them holds the watch, the others ask for it. All is done by one task, so nothing is
//! shared and nothing locked; only deliveries, which block, are on threads of their own.

use std::collections::BTreeMap;
use std::future::pending;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::deliver::Letter;
use super::metrics::{Metrics, Outcome};
use super::session::{Session, Shut};
use super::skew::{Clocks, Skew};
use super::{DELIVERIES_AT_ONCE, Door, Rules};
use crate::buffer::{
    Alarms, Change, DEVICES_AT_ONCE, Error, Event, EventKind, MAX_CHANGES, MAX_RAISED, Marked, Queued, Raised, Result,
    SeenDevice, Watch, WatcherId,
};
use crate::failpoint;
use crate::heartbeat::Partition;
use crate::telemetry::health::{Affects, Health, Reporter};

/// An event that could not be delivered for so long is given up.
const GIVE_UP_AFTER: Duration = Duration::from_secs(24 * 3600);
/// Devices, events and numbers of one call.
const PAGE: u32 = 500;
/// Events of one look that are logged one by one; the others are counted.
const LOGGED_EACH: usize = 20;
/// A watcher that has not reported for longer hangs: longer than a look through all devices takes.
const SILENCE: Duration = Duration::from_secs(120);
/// How long an end waits for deliveries that are under way. They are delivered again by the next watch otherwise.
const LAST_DELIVERIES: Duration = Duration::from_secs(3);

/// See the module.
#[derive(Debug)]
pub struct Watcher {
    id: WatcherId,
    alarms: Arc<dyn Alarms>,
    rules: Arc<Rules>,
    door: Door,
    health: Health,
    metrics: Metrics,
}

/// How a watch goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Going {
    /// In one piece.
    On,
    /// It has to begin again.
    Broken,
    /// Another process has it.
    Elsewhere,
}

/// A delivery that has ended.
type Landed = (Queued, std::result::Result<(), String>);

impl Watcher {
    /// A watcher over these rules. What fails and is run again is the same watcher, so it goes on with its own watch.
    pub fn new(alarms: Arc<dyn Alarms>, rules: Rules, door: Door, health: &Health, metrics: Metrics) -> Self {
        for rule in rules.unsigned() {
            warn!(rule, "the events of this rule are not signed: it names no secret-file");
        }
        Self { id: WatcherId::new(), alarms, rules: Arc::new(rules), door, health: health.clone(), metrics }
    }

    /// Watches until told to stop.
    pub async fn run(&self, stop: CancellationToken) {
        let reporter = self.health.part("silence", Affects::Nothing, SILENCE);
        let mut looks = interval(*self.rules.options.silence_every);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut flights: JoinSet<Landed> = JoinSet::new();
        let (mut session, mut broken): (Option<Session>, Option<Session>) = (None, None);
        let mut clocks = Clocks::new(self.rules.shortest_after_ms());
        loop {
            let under_way = flights.len();
            tokio::select! {
                () = stop.cancelled() => break,
                _ = looks.tick() => {
                    // A look may be cut off anywhere, as by a death: one that takes long holds up no end.
                    let look = self.look(&mut session, &mut broken, &mut clocks, &reporter);
                    if stop.run_until_cancelled(look).await.is_none() {
                        break;
                    }
                }
                Some(landed) = flights.join_next() => self.land(&mut session, landed.ok(), &reporter).await,
                () = next_delivery(session.as_ref(), under_way) => {}
            }
            self.launch(&mut session, &mut flights);
        }
        let last = async {
            while let Some(landed) = flights.join_next().await {
                self.land(&mut session, landed.ok(), &reporter).await;
            }
        };
        // Past it they go on to their own deadlines, and what becomes of them is nobody's any more.
        let _ = timeout(LAST_DELIVERIES, last).await;
        if let Some(watching) = session {
            // Where these fail, it runs out by itself.
            let _ = self.alarms.watch(self.id, self.rules.options.ttl(), Some(watching.ended_at())).await;
            let _ = self.alarms.unwatch(self.id).await;
        }
    }

    /// One look. A session that it breaks is left in `broken`, for what it has noted.
    async fn look(
        &self,
        session: &mut Option<Session>,
        broken: &mut Option<Session>,
        clocks: &mut Clocks,
        reporter: &Reporter,
    ) {
        let outcome = match session {
            Some(watching) => self.look_again(watching, clocks).await,
            None => Ok(Going::Broken),
        };
        if !matches!(outcome, Ok(Going::On)) {
            *broken = session.take().or(broken.take());
        }
        let outcome = match outcome {
            Ok(Going::Broken) => self.look_first(session, broken, clocks).await,
            outcome => outcome,
        };
        match (outcome, session) {
            (Ok(Going::On), Some(watching)) => {
                self.metrics.watching.set(1);
                self.metrics.raised.set(i64::try_from(watching.raised()).unwrap_or(i64::MAX));
                self.report(watching, reporter);
            }
            (Ok(_), _) => {
                // What another process has noted meanwhile is newer.
                *broken = None;
                self.stop_watching();
                match clocks.fault() {
                    None => reporter.well("another process watches"),
                    // The other one does not know it.
                    Some(fault) => {
                        reporter.unwell(format!("another process watches, by wrong times from here: {fault}"))
                    }
                }
            }
            (Err(error), session) => {
                *broken = session.take().or(broken.take());
                self.stop_watching();
                debug!(%error, "cannot watch over silence");
                reporter.unwell(format!("cannot watch over silence: {error}"));
            }
        }
    }

    fn stop_watching(&self) {
        for gauge in [&self.metrics.watching, &self.metrics.raised, &self.metrics.outbox] {
            gauge.set(0);
        }
    }

    /// Asks for the watch, and begins one where it is given.
    async fn look_first(
        &self,
        session: &mut Option<Session>,
        broken: &mut Option<Session>,
        clocks: &mut Clocks,
    ) -> Result<Going> {
        let Watch::Taken { now, looked, queued, .. } = self.ask(None, clocks).await? else {
            return Ok(Going::Elsewhere);
        };
        let registration = self.alarms.registration().await?.ok_or(Error::NotRegistered)?;
        let names: Vec<String> = self.rules.rules.iter().map(|rule| rule.name.clone()).collect();
        let since = self.alarms.rules(self.id, &names).await?;
        let begun = Session::begin(&self.rules, since, registration.partitions, now, looked, broken.take());
        let watching = session.insert(begun);
        watching.compare(*clocks);
        self.load(watching).await?;
        info!(rules = names.len(), raised = watching.raised(), undelivered = queued, "watching over silence");
        self.look_at_all(watching).await?;
        Ok(Going::On)
    }

    async fn look_again(&self, session: &mut Session, clocks: &mut Clocks) -> Result<Going> {
        let watch = self.ask(Some(session.ended_at()), clocks).await?;
        let Watch::Taken { now, began, queued, .. } = watch else { return Ok(Going::Elsewhere) };
        let pause = u128::try_from(now.saturating_sub(session.looked)).unwrap_or(u128::MAX);
        let gap = self.rules.options.gap();
        let went_by = session.looked_at.elapsed() + gap.saturating_sub(*self.rules.options.silence_every);
        if began || pause > went_by.as_millis() || session.renewed_at.elapsed() > gap {
            // Another may have watched meanwhile, a clock was set, or this process stood still: the door with it.
            info!("the watch over silence was broken");
            return Ok(Going::Broken);
        }
        if pause > gap.as_millis() {
            // The last look itself took so long, and the watch was held all the time.
            session.resume(now);
        }
        let at = Instant::now();
        (session.looked, session.looked_at, session.renewed_at) = (now, at, at);
        session.compare(*clocks);
        self.metrics.outbox.set(i64::try_from(queued).unwrap_or(i64::MAX));
        self.look_at_all(session).await?;
        Ok(Going::On)
    }

    /// Asks for the watch, or goes on with it, and compares the clocks by the answer.
    async fn ask(&self, looked: Option<i64>, clocks: &mut Clocks) -> Result<Watch> {
        let asked = now_ms();
        let watch = self.alarms.watch(self.id, self.rules.options.ttl(), looked).await?;
        let skew = Skew::between(asked, watch.now(), now_ms());
        self.metrics.clock_skew.set(skew.certain() as f64 / 1e3);
        if clocks.compare(skew) {
            match clocks.fault() {
                Some(fault) => warn!("devices are seen by a wrong clock: {fault}"),
                None => info!("the clock of this machine agrees with the buffer's again"),
            }
        }
        Ok(watch)
    }

    /// Reads what is raised. What rules raised that are no more is forgotten, and nobody is told.
    async fn load(&self, session: &mut Session) -> Result<()> {
        let (mut last, mut strays): (Option<Raised>, Vec<Change>) = (None, Vec::new());
        loop {
            let page = self.alarms.raised(last.as_ref(), PAGE).await?;
            let Some(end) = page.last().cloned() else { break };
            for raised in page {
                if self.rules.find(&raised.rule).is_some() {
                    session.raise(raised);
                } else {
                    strays.push(Change::Forget(raised));
                }
            }
            last = Some(end);
        }
        for some in strays.chunks(MAX_CHANGES) {
            self.alarms.mark(self.id, some).await?;
        }
        if !strays.is_empty() {
            info!(devices = strays.len(), "closed what was raised by rules that are no more");
        }
        Ok(())
    }

    async fn look_at_all(&self, session: &mut Session) -> Result<()> {
        // By a wrong clock nobody ends a silence either.
        if !session.clocks.are_apart() {
            let mut changes = Vec::new();
            for partition in 0..session.partitions {
                changes.extend(self.ended(session, partition).await?);
                self.go_on(session).await?;
            }
            self.mark(session, changes).await?;
        }
        let turned_away =
            self.door.turned_away_within(self.rules.longest_after().saturating_add(self.rules.options.ttl()));
        let turned_away = turned_away.into_iter().map(|(user, at)| (user, session.by_the_buffer(at))).collect();
        let mut silent = Vec::new();
        for partition in 0..session.partitions {
            silent.extend(self.silent(session, partition, &turned_away).await?);
            self.go_on(session).await?;
        }
        let room = usize::try_from(MAX_RAISED.saturating_sub(session.raised())).unwrap_or(usize::MAX);
        let mut waiting = silent.split_off(room.min(silent.len()));
        waiting.extend(self.mark(session, silent.into_iter().map(Change::Raise).collect()).await?);
        self.fetch(session).await?;
        self.give_up(session).await?;
        session.end_look(&waiting);
        Ok(())
    }

    /// Keeps the watch during a look that takes long.
    async fn go_on(&self, session: &mut Session) -> Result<()> {
        if session.renewed_at.elapsed() < *self.rules.options.silence_every {
            return Ok(());
        }
        match self.alarms.watch(self.id, self.rules.options.ttl(), None).await? {
            Watch::Taken { began: false, .. } if session.renewed_at.elapsed() <= self.rules.options.gap() => {
                session.renewed_at = Instant::now();
                Ok(())
            }
            _ => Err(Error::Unwatched),
        }
    }

    /// Which silences of a partition have ended.
    async fn ended(&self, session: &Session, partition: Partition) -> Result<Vec<Change>> {
        let raised = session.raised_of(partition);
        // What is forgotten is not seen to beat again; it is let go once its room may be needed.
        let crowded = session.raised() > MAX_RAISED / 2;
        let mut changes = Vec::new();
        for some in raised.chunks(PAGE as usize) {
            let last_seen = self.alarms.last_seen(partition, some).await?;
            for (raised, last_seen) in some.iter().zip(last_seen) {
                match last_seen {
                    Some(last_seen) => {
                        let ended = session.ended(raised, &self.rules, last_seen);
                        changes.extend(ended.map(|event| Change::Clear(raised.clone(), event)));
                    }
                    None if crowded => changes.push(Change::Forget(raised.clone())),
                    None => {}
                }
            }
        }
        Ok(changes)
    }

    /// Which devices of a partition are to be raised.
    async fn silent(
        &self,
        session: &mut Session,
        partition: Partition,
        to_users: &BTreeMap<String, i64>,
    ) -> Result<Vec<Raised>> {
        // What came before this look is in it; what was refused before it shut the door.
        let to_all = self.door.shut_at(partition).map(|at| session.by_the_buffer(at));
        let shut = Shut { to_all, to_users };
        let room = session.raised() < MAX_RAISED;
        let mut found = Vec::new();
        for group in 0..session.groups() {
            let Some((from, before)) = session.window(group, partition) else { continue };
            let mut last = SeenDevice { last_seen: from, user_id: String::new(), device_id: String::new() };
            loop {
                let page = self.alarms.devices_unseen(partition, before, Some(&last), DEVICES_AT_ONCE).await?;
                session.see(group, partition, &self.rules, &page);
                let whole = page.len() < DEVICES_AT_ONCE as usize;
                match page.into_iter().last().filter(|_| !whole) {
                    Some(end) => last = end,
                    None => break,
                }
            }
            found.extend(session.silent(group, partition, &self.rules, &shut, room));
        }
        Ok(found)
    }

    /// Makes these changes. Answers who is not raised for want of room.
    async fn mark(&self, session: &mut Session, changes: Vec<Change>) -> Result<Vec<Raised>> {
        let (mut logged, mut dropped, mut full) = (0, 0, Vec::new());
        for some in changes.chunks(MAX_CHANGES) {
            self.go_on(session).await?;
            reached("silence.marking")?;
            let marks = self.alarms.mark(self.id, some).await?;
            reached("silence.marked")?;
            for (change, marked) in some.iter().zip(&marks.marked) {
                self.note(session, change, *marked, &mut logged);
                if let (Change::Raise(raised), Marked::Full) = (change, marked) {
                    full.push(raised.clone());
                }
            }
            self.metrics.delivery(Outcome::Dropped, marks.dropped);
            dropped += marks.dropped;
            if let Some(oldest) = marks.oldest {
                session.lines.forget_below(oldest);
            }
        }
        if logged > LOGGED_EACH {
            info!(events = logged - LOGGED_EACH, "and more events of silence in the same look");
        }
        if dropped > 0 {
            warn!(events = dropped, "too many events wait to be delivered: the oldest are dropped");
        }
        Ok(full)
    }

    /// Takes in what became of a change.
    fn note(&self, session: &mut Session, change: &Change, marked: Marked, logged: &mut usize) {
        if marked != Marked::Done {
            return;
        }
        let event = match change {
            Change::Raise(raised) => {
                session.raise(raised.clone());
                Event::silent(raised)
            }
            Change::Clear(raised, event) => {
                session.lower(raised);
                event.clone()
            }
            Change::Forget(raised) => return session.lower(raised),
        };
        self.metrics.event(event.kind);
        *logged += 1;
        if *logged <= LOGGED_EACH {
            let Event { kind, id, rule, user_id, device_id, .. } = &event;
            match kind {
                EventKind::Silent => info!(rule, event = %id, "a device has fallen silent"),
                EventKind::Beating => info!(rule, event = %id, "a silent device beats again"),
            }
            debug!(event = %id, user_id, device_id, "the device of this event");
        }
    }

    /// Puts what is new in the outbox into the lines.
    async fn fetch(&self, session: &mut Session) -> Result<()> {
        loop {
            let page = self.alarms.outbox(session.last_number, PAGE).await?;
            let Some(end) = page.last().map(|queued| queued.number) else { return Ok(()) };
            let now = Instant::now();
            page.into_iter().for_each(|queued| session.lines.push(queued, now));
            session.last_number = Some(end);
        }
    }

    /// Gives up the events of rules that are no more, and those that are too old by the buffer's clock, as they were raised: many
    /// in one step, since all of them may be.
    async fn give_up(&self, session: &mut Session) -> Result<()> {
        let now = session.now();
        let is_over = |event: &Event| {
            let age = now.saturating_sub(event.at());
            self.rules.find(&event.rule).is_none() || u128::try_from(age).unwrap_or(0) > GIVE_UP_AFTER.as_millis()
        };
        let over = session.lines.take_if(is_over);
        for some in over.chunks(PAGE as usize) {
            self.go_on(session).await?;
            // Where that fails they are met again by the next watch.
            self.alarms.settle(self.id, &some.iter().map(|queued| queued.number).collect::<Vec<_>>()).await?;
            self.metrics.delivery(Outcome::GivenUp, some.len() as u64);
        }
        for Queued { event, .. } in over.iter().take(LOGGED_EACH) {
            warn!(rule = event.rule, event = %event.id, "an event is given up: its rule is no more, or it is a day old");
        }
        if over.len() > LOGGED_EACH {
            warn!(events = over.len() - LOGGED_EACH, "and more events are given up in the same look");
        }
        Ok(())
    }

    /// Starts as many deliveries as may be under way.
    fn launch(&self, session: &mut Option<Session>, flights: &mut JoinSet<Landed>) {
        let Some(watching) = session else { return };
        while flights.len() < DELIVERIES_AT_ONCE {
            let Some(queued) = watching.lines.next(Instant::now()) else { return };
            let Some(letter) = self.address(&queued) else {
                watching.lines.forget(&queued);
                continue;
            };
            let rules = self.rules.clone();
            flights.spawn_blocking(move || {
                let outcome = rules.sender.post(&letter);
                (queued, outcome)
            });
        }
    }

    /// What is to be posted. `None` for an event of a rule that is no more: it was given up.
    fn address(&self, queued: &Queued) -> Option<Letter> {
        let at = self.rules.find(&queued.event.rule)?;
        let (rule, secret) = (self.rules.rules.get(at)?, self.rules.secrets.get(at)?);
        Some(Letter {
            webhook: rule.webhook.clone(),
            secret: secret.clone(),
            id: queued.event.id.to_string(),
            timestamp: now_ms() / 1_000,
            body: queued.event.text().ok()?,
        })
    }

    async fn land(&self, session: &mut Option<Session>, landed: Option<Landed>, reporter: &Reporter) {
        // A delivery that panicked was logged; its event is delivered again by the next watch.
        let Some((queued, outcome)) = landed else { return };
        let (rule, event) = (queued.event.rule.as_str(), queued.event.id);
        let delivered = outcome.is_ok();
        self.metrics.delivery(if delivered { Outcome::Delivered } else { Outcome::Failed }, 1);
        let before = session.as_ref().and_then(|watching| watching.lines.fault_of(rule)).is_some();
        match &outcome {
            Ok(()) if before => info!(rule, "the webhook of this rule takes events again"),
            Ok(()) => debug!(rule, %event, "an event was delivered"),
            Err(why) if before => debug!(rule, %event, why, "an event was not delivered"),
            Err(why) => warn!(rule, why, "the webhook of this rule takes no events; they are kept and sent again"),
        }
        if delivered {
            let settled = match reached("silence.delivered") {
                Ok(()) => self.alarms.settle(self.id, &[queued.number]).await,
                Err(error) => Err(error),
            };
            if let Err(error) = settled {
                debug!(%error, "a delivered event is not settled: it is delivered again");
            }
        }
        if let Some(watching) = session {
            watching.lines.landed(&queued, outcome, Instant::now());
            self.report(watching, reporter);
        }
    }

    fn report(&self, session: &Session, reporter: &Reporter) {
        let faults = session.lines.faults().filter_map(|(rule, fault)| {
            let host = self.rules.rules.get(self.rules.find(rule)?)?.webhook.host();
            let since = fault.since.elapsed().as_secs();
            Some(format!("the webhook of rule {rule:?} at {host} has taken no event for {since} s: {}", fault.why))
        });
        let apart =
            session.clocks.fault().map(|fault| format!("nothing is raised or cleared until clocks agree: {fault}"));
        let faults: Vec<String> = apart.into_iter().chain(faults.take(5)).collect();
        if faults.is_empty() {
            reporter.well(format!("{} rules, {} devices raised", self.rules.rules.len(), session.raised()));
        } else {
            reporter.unwell(faults.join("; "));
        }
    }
}

/// Waits until something can be delivered.
async fn next_delivery(session: Option<&Session>, under_way: usize) {
    let at = session.filter(|_| under_way < DELIVERIES_AT_ONCE).and_then(|watching| watching.lines.next_at());
    match at {
        Some(at) => sleep_until(at.into()).await,
        None => pending().await,
    }
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

fn reached(step: &str) -> Result<()> {
    failpoint::reached(step).map_err(|error| Error::Unreachable { reason: error.to_string() })
}
