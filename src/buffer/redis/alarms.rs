//! What is kept of silence: three keys in one hash tag, which belong to no dataset and to no partition.

use std::time::Duration;

use async_trait::async_trait;

use super::super::alarm::{
    Change, Event, MAX_CHANGES, MAX_QUEUED, MAX_RAISED, Marked, Marks, Queued, Raised, Watch, WatcherId,
};
use super::super::devices::name;
use super::super::{Alarms, Result};
use super::RedisBuffer;
use super::buffer::millis;
use super::script;
use crate::heartbeat::Partition;

fn member(raised: &Raised) -> String {
    format!("{}\n{}", raised.key(), raised.value())
}

fn read_member(text: &str) -> Result<Raised> {
    let (key, value) = text.rsplit_once('\n').unwrap_or((text, ""));
    Raised::read(key, value)
}

#[async_trait]
impl Alarms for RedisBuffer {
    async fn watch(&self, watcher: WatcherId, ttl: Duration, looked: Option<i64>) -> Result<Watch> {
        let reply = self.apart(&script::ALARM_WATCH, None, |command| {
            let looked = looked.map(|looked| looked.to_string()).unwrap_or_default();
            command.arg(watcher.to_string()).arg(millis(ttl)).arg(looked);
        });
        let mut reply = reply.await?;
        match reply.word() {
            "held" => {
                let now = i64::try_from(reply.count()?).map_err(|_| reply.strange())?;
                Ok(Watch::Held { now, expires_in: Duration::from_millis(reply.count()?) })
            }
            "taken" => {
                let now = i64::try_from(reply.count()?).map_err(|_| reply.strange())?;
                let began = reply.count()? == 1;
                let looked = reply.count_or_none()?.and_then(|looked| i64::try_from(looked).ok());
                Ok(Watch::Taken { now, began, looked, raised: reply.count()?, queued: reply.count()? })
            }
            _ => Err(reply.strange()),
        }
    }

    async fn unwatch(&self, watcher: WatcherId) -> Result<()> {
        let reply = self.apart(&script::ALARM_UNWATCH, None, |command| {
            command.arg(watcher.to_string());
        });
        reply.await?.only("done")
    }

    async fn rules(&self, watcher: WatcherId, names: &[String]) -> Result<Vec<i64>> {
        let reply = self.apart(&script::ALARM_RULES, None, |command| {
            command.arg(watcher.to_string()).arg(names);
        });
        let mut reply = reply.await?;
        reply.expect("rules")?;
        names.iter().map(|_| i64::try_from(reply.count()?).map_err(|_| reply.strange())).collect()
    }

    async fn mark(&self, watcher: WatcherId, changes: &[Change]) -> Result<Marks> {
        let mut arguments = Vec::with_capacity(4 * changes.len());
        for change in changes.iter().take(MAX_CHANGES) {
            let (word, raised, event) = match change {
                Change::Raise(raised) => ("raise", raised, Event::silent(raised).text()?),
                Change::Clear(raised, event) => ("clear", raised, event.text()?),
                Change::Forget(raised) => ("forget", raised, String::new()),
            };
            arguments.extend([word.to_owned(), raised.key(), member(raised), event]);
        }
        // A mark that a replica took over without would be made again, under another event.
        let reply = self.apart(&script::ALARM_MARK, self.replicas(), |command| {
            command.arg(watcher.to_string()).arg(MAX_RAISED).arg(MAX_QUEUED).arg(arguments);
        });
        let mut reply = reply.await?;
        reply.expect("marked")?;
        let (dropped, oldest) = (reply.count()?, reply.count_or_none()?);
        let marked = changes.iter().take(MAX_CHANGES).map(|_| match reply.count()? {
            0 => Ok(Marked::Stood),
            1 => Ok(Marked::Done),
            2 => Ok(Marked::Full),
            _ => Err(reply.strange()),
        });
        Ok(Marks { marked: marked.collect::<Result<_>>()?, dropped, oldest })
    }

    async fn last_seen(&self, partition: Partition, devices: &[Raised]) -> Result<Vec<Option<i64>>> {
        let reply = self.step(&script::DEVICES_LAST, partition, |command, _| {
            for device in devices {
                command.arg(name(&device.user_id, &device.device_id));
            }
        });
        let mut reply = reply.await?;
        reply.expect("devices")?;
        let mut last = || Ok(reply.count_or_none()?.and_then(|last| i64::try_from(last).ok()));
        devices.iter().map(|_| last()).collect()
    }

    async fn raised(&self, after: Option<&Raised>, limit: u32) -> Result<Vec<Raised>> {
        let reply = self.apart(&script::ALARM_RAISED, None, |command| {
            command.arg(after.map(Raised::key).unwrap_or_default()).arg(limit);
        });
        let mut reply = reply.await?;
        reply.expect("raised")?;
        (0..reply.left()).map(|_| read_member(&reply.text()?)).collect()
    }

    async fn outbox(&self, after: Option<u64>, limit: u32) -> Result<Vec<Queued>> {
        let reply = self.apart(&script::ALARM_OUTBOX, None, |command| {
            command.arg(after.unwrap_or(0)).arg(limit);
        });
        let mut reply = reply.await?;
        reply.expect("outbox")?;
        (0..reply.left() / 2)
            .map(|_| Ok(Queued { number: reply.count()?, event: Event::read(&reply.bytes()?)? }))
            .collect()
    }

    async fn settle(&self, watcher: WatcherId, numbers: &[u64]) -> Result<()> {
        if numbers.is_empty() {
            return Ok(());
        }
        let reply = self.apart(&script::ALARM_SETTLE, None, |command| {
            command.arg(watcher.to_string()).arg(numbers);
        });
        reply.await?.only("done")
    }
}
