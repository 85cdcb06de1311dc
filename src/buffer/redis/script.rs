//! The scripts: each step of the buffer is one, in a file of its own, run by its SHA.

use std::sync::LazyLock;

use redis::Cmd;

use super::keys::{self, Key};
use crate::heartbeat::Partition;

/// One step in Lua.
#[derive(Debug)]
pub(super) struct Script {
    /// As error messages call it.
    pub(super) name: &'static str,
    /// Its KEYS, in order.
    keys: &'static [Key],
    #[cfg(test)]
    text: &'static str,
    loaded: LazyLock<Loaded, fn() -> Loaded>,
}

#[derive(Debug)]
struct Loaded {
    code: String,
    sha: String,
}

const COMMON: &str = include_str!("lua/common.lua");

macro_rules! scripts {
    ($($constant:ident = $name:literal [$($key:ident),*];)*) => {
        $(
            #[doc = concat!("See `lua/", $name, ".lua`.")]
            pub(super) static $constant: Script = Script {
                name: $name,
                keys: &[$(keys::$key),*],
                #[cfg(test)]
                text: include_str!(concat!("lua/", $name, ".lua")),
                loaded: LazyLock::new(|| load(include_str!(concat!("lua/", $name, ".lua")))),
            };
        )*
        #[cfg(test)]
        static ALL: &[&Script] = &[$(&$constant),*];
    };
}

scripts! {
    PUSH = "push" [state, pending, devices];
    ROOM = "room" [state];
    PING = "ping" [state];
    CLAIM = "claim" [state, pending, processing];
    ACK = "ack" [state, processing, dead];
    CONDEMN = "condemn" [state, processing];
    IN_HAND = "in_hand" [state];
    LEASE = "lease" [state];
    RENEW = "renew" [state];
    RELEASE = "release" [state];
    ANNOUNCE = "announce" [batchers];
    BATCHERS = "batchers" [batchers];
    STATUS = "status" [state, pending, processing, devices];
    DEVICES_OF = "devices_of" [state, devices];
    DEVICES_UNSEEN = "devices_unseen" [state, devices];
    FRAMES = "frames" [state, pending, processing];
    REGISTER = "register" [state];
    DEAD_LIST = "dead_list" [state, dead];
    DEAD_NEWEST = "dead_newest" [state, dead];
    DEAD_SHOW = "dead_show" [state, dead];
    DEAD_RETRY = "dead_retry" [state, pending, dead];
    DEAD_DROP = "dead_drop" [state, dead];
    TOKEN_CREATE = "token_create" [tokens];
    TOKEN_REVOKE = "token_revoke" [tokens];
    DEVICES_LAST = "devices_last" [state, devices];
    ALARM_WATCH = "alarm_watch" [watch, raised, outbox];
    ALARM_UNWATCH = "alarm_unwatch" [watch];
    ALARM_RULES = "alarm_rules" [watch];
    ALARM_MARK = "alarm_mark" [watch, raised, outbox];
    ALARM_RAISED = "alarm_raised" [raised];
    ALARM_OUTBOX = "alarm_outbox" [outbox];
    ALARM_SETTLE = "alarm_settle" [watch, outbox];
    DRAIN_LOOK = "drain_look" [state, pending, processing, dead, devices];
    DRAIN_BEGIN = "drain_begin" [state, pending, processing, dead, devices];
    DRAIN_FRAMES = "drain_frames" [state, pending, processing];
    DRAIN_LETTERS = "drain_letters" [state, dead];
    DRAIN_DEVICES = "drain_devices" [state, devices];
    DRAIN_CONDEMNED = "drain_condemned" [state];
    DRAIN_TOKENS = "drain_tokens" [tokens];
    DRAIN_FINISH = "drain_finish" [state, pending, processing, dead];
}

/// Puts the common beginning behind the shebang line, which must stay the first.
fn load(text: &str) -> Loaded {
    let (shebang, rest) = text.split_once('\n').unwrap_or((text, ""));
    let code = format!("{shebang}\n{COMMON}\n{rest}");
    let sha = redis::Script::new(&code).get_hash().to_owned();
    Loaded { code, sha }
}

impl Script {
    /// The command that runs it on the keys of a partition; arguments are added behind.
    pub(super) fn call(&self, partition: Partition) -> Cmd {
        self.call_on(&[partition])
    }

    /// The same for a script that writes nothing, by one who has no right to.
    pub(super) fn call_to_look(&self, partition: Partition) -> Cmd {
        self.command("EVALSHA_RO", &[partition])
    }

    /// The same on the keys of several partitions, one behind the other.
    pub(super) fn call_on(&self, partitions: &[Partition]) -> Cmd {
        self.command("EVALSHA", partitions)
    }

    fn command(&self, name: &str, partitions: &[Partition]) -> Cmd {
        let mut command = redis::cmd(name);
        command.arg(&self.loaded.sha).arg(partitions.len() * self.keys.len());
        for partition in partitions {
            for key in self.keys {
                command.arg(key(*partition));
            }
        }
        command
    }

    /// The first of its keys: on a Cluster it tells the node.
    pub(super) fn first_key(&self, partition: Partition) -> String {
        self.keys.first().map(|key| key(partition)).unwrap_or_default()
    }

    /// The command that makes a server know it.
    pub(super) fn load(&self) -> Cmd {
        let mut command = redis::cmd("SCRIPT");
        command.arg("LOAD").arg(&self.loaded.code);
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_script_says_what_it_takes_and_gives() {
        for script in ALL {
            let lines: Vec<&str> = script.text.lines().collect();
            assert!(lines[0].starts_with("#!lua"), "{}", script.name);
            for word in ["-- KEYS  ", "-- Gives "] {
                assert!(lines.iter().any(|line| line.starts_with(word)), "{} lacks {word}", script.name);
            }
        }
    }

    #[test]
    fn every_script_is_given_the_keys_that_it_names() {
        for script in ALL {
            let named = script.text.lines().find_map(|line| line.strip_prefix("-- KEYS  ")).unwrap();
            let given: Vec<String> = script.keys.iter().map(|key| key(7)).collect();
            let given: Vec<&str> = given.iter().map(|key| key.rsplit(':').next().unwrap()).collect();
            assert_eq!(named, given.join(", "), "{}", script.name);
        }
    }

    /// Redis runs them on a replica too, where what they tell was true once.
    #[test]
    fn every_script_that_only_looks_asks_first_whether_this_is_a_master() {
        for script in ALL.iter().filter(|script| script.text.contains("no-writes")) {
            let body = script.text.lines().filter(|line| !line.starts_with("--") && !line.starts_with("#!"));
            let first = body.take(3).find(|line| line.contains("redis.call") || line.contains("check_"));
            assert!(first.is_some_and(|line| line.contains("= check_master()")), "{}", script.name);
        }
    }

    #[test]
    fn only_what_fills_the_buffer_is_refused_by_a_full_redis() {
        let filling = [
            "push",
            "ping",
            "token_create",
            "alarm_mark",
            "drain_begin",
            "drain_frames",
            "drain_letters",
            "drain_devices",
            "drain_condemned",
            "drain_tokens",
        ];
        for script in ALL {
            let expected = !filling.contains(&script.name);
            assert_eq!(script.text.starts_with("#!lua flags=allow-oom"), expected, "{}", script.name);
        }
    }
}
