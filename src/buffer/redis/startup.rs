//! Whether this Redis keeps what it is given, and how well.

use redis::Value;

use super::super::{Durability, Error, Result};
use super::connection::Connections;
use super::options::Options;

/// The oldest Redis that runs the scripts: flags on scripts came with it.
const OLDEST: (u32, u32) = (7, 0);
/// A replica tells every second how far it is; one that has not for longer confirms nothing. As Redis's own
/// `min-replicas-max-lag`.
const REPLICA_LAG_MAX_S: u64 = 10;

/// What one server says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Server {
    version: String,
    aof: bool,
    fsync: String,
    eviction: String,
}

/// Looks at every master and judges the weakest.
///
/// # Errors
/// [`Error::Unsafe`] with the line to change, unless `--allow-volatile-buffer`; or what the network said.
pub(super) async fn look(connections: &Connections, options: &Options) -> Result<Durability> {
    let mut levels = Vec::new();
    for server in servers(connections, options).await? {
        check_version(&server.version)?;
        levels.push(judge(&server, options)?);
    }
    let weakest = levels.into_iter().min_by_key(|level| strength(level)).unwrap_or("volatile");
    Ok(Durability { level: weakest, window: window(weakest).into(), wait_replicas: options.wait_replicas })
}

fn strength(level: &str) -> u8 {
    match level {
        "always" => 3,
        "everysec" => 2,
        "no" => 1,
        _ => 0,
    }
}

fn window(level: &str) -> &'static str {
    match level {
        "always" => "redis, appendfsync always: nothing acknowledged is lost short of losing the disk",
        "everysec" => {
            // Redis answers without having handed its file to the system while an fsync of the last second is under way.
            "redis, appendfsync everysec: a power cut, or a crash of Redis while it syncs, may lose the last two seconds"
        }
        "no" => "redis, appendfsync no: a power cut may lose half a minute; a crash of Redis nothing",
        _ => "redis, volatile: whatever it holds may be lost at any time",
    }
}

async fn servers(connections: &Connections, options: &Options) -> Result<Vec<Server>> {
    let infos = connections.ask(redis::cmd("INFO"), None).await?;
    let mut settings = Vec::new();
    for name in ["appendonly", "appendfsync", "maxmemory-policy"] {
        let mut command = redis::cmd("CONFIG");
        command.arg("GET").arg(name);
        let answers = match connections.ask(command, None).await {
            // Somebody who accepts a volatile buffer need not show what it is.
            Err(error) if !error.is_transient() && options.allow_volatile_buffer => vec![Value::Nil; infos.len()],
            Err(error) if !error.is_transient() => {
                return Err(Error::Unsafe {
                    advice: format!(
                        "Redis does not let Systole look at `{name}` ({error}); allow it with ACL SETUSER <user> +config|get, or start with --allow-volatile-buffer"
                    ),
                });
            }
            answers => answers?,
        };
        settings.push(answers);
    }
    let at = |setting: usize, node: usize| {
        settings.get(setting).and_then(|answers: &Vec<Value>| answers.get(node)).map(config_value).unwrap_or_default()
    };
    infos
        .iter()
        .enumerate()
        .map(|(node, info)| {
            let info = info_text(info)?;
            Ok(Server {
                version: info_field(&info, "redis_version").unwrap_or_default(),
                aof: at(0, node) == "yes",
                fsync: at(1, node),
                eviction: at(2, node),
            })
        })
        .collect()
}

/// Replicas that hear of what is written, the fewest that any master has.
///
/// # Errors
/// What the network said.
pub(super) async fn replicas_online(connections: &Connections) -> Result<u32> {
    let mut command = redis::cmd("INFO");
    command.arg("replication");
    let mut fewest = None;
    for info in connections.ask(command, None).await? {
        let online = count_online(&info_text(&info)?);
        fewest = Some(fewest.map_or(online, |fewest: u32| fewest.min(online)));
    }
    Ok(fewest.unwrap_or(0))
}

/// Such lines: `slave0:ip=10.0.0.7,port=6379,state=online,offset=42,lag=1`. One that hangs is called online for a minute.
fn count_online(info: &str) -> u32 {
    let replica = |line: &&str| {
        let number = line.strip_prefix("slave").and_then(|line| line.split(':').next());
        number.is_some_and(|number| number.parse::<u32>().is_ok())
    };
    let hears = |line: &&str| {
        let field = |name: &str| line.split([':', ',']).find_map(|field| field.strip_prefix(name)).map(str::trim);
        let lag = field("lag=").and_then(|lag| lag.parse::<u64>().ok());
        field("state=") == Some("online") && lag.is_none_or(|lag| lag <= REPLICA_LAG_MAX_S)
    };
    let count = info.lines().filter(replica).filter(hears).count();
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn info_text(info: &Value) -> Result<String> {
    redis::from_redis_value_ref(info).map_err(|_| Error::Corrupt { detail: "INFO gave no text".into() })
}

fn config_value(answer: &Value) -> String {
    redis::from_redis_value_ref::<Vec<String>>(answer).ok().and_then(|pair| pair.into_iter().nth(1)).unwrap_or_default()
}

fn info_field(info: &str, name: &str) -> Option<String> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(|value| value.trim().to_owned())
}

fn check_version(version: &str) -> Result<()> {
    let mut numbers = version.split('.').map(|number| number.parse::<u32>().unwrap_or(0));
    let found = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if found >= OLDEST {
        return Ok(());
    }
    Err(Error::Unsafe {
        advice: format!("Redis {version} is too old: version {}.{} or newer is needed", OLDEST.0, OLDEST.1),
    })
}

fn judge(server: &Server, options: &Options) -> Result<&'static str> {
    let unfit = if !server.aof {
        Some(("appendonly", "no", "appendonly yes"))
    } else if server.eviction != "noeviction" {
        Some(("maxmemory-policy", server.eviction.as_str(), "maxmemory-policy noeviction"))
    } else {
        None
    };
    match (unfit, server.fsync.as_str()) {
        (Some(_), _) if options.allow_volatile_buffer => Ok("volatile"),
        (Some((setting, found, line)), _) => Err(Error::Unsafe {
            advice: format!(
                "Redis would forget heartbeats: its `{setting}` is `{found}`; put the line `{line}` into redis.conf and restart Redis, or start with --allow-volatile-buffer"
            ),
        }),
        (None, "always") => Ok("always"),
        (None, "everysec") => Ok("everysec"),
        (None, "no") => Ok("no"),
        (None, other) => Err(Error::Corrupt { detail: format!("appendfsync is `{other}`") }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fit() -> Server {
        Server { version: "7.0.15".into(), aof: true, fsync: "always".into(), eviction: "noeviction".into() }
    }

    #[test]
    fn an_unfit_redis_is_refused_with_the_line_to_write() {
        let options = Options::default();
        assert_eq!(judge(&fit(), &options).unwrap(), "always");
        for (server, line) in [
            (Server { aof: false, ..fit() }, "`appendonly yes`"),
            (Server { eviction: "allkeys-lru".into(), ..fit() }, "`maxmemory-policy noeviction`"),
        ] {
            let error = judge(&server, &options).unwrap_err().to_string();
            assert!(error.contains(line) && !error.contains('\n'), "{error}");
            let volatile = Options { allow_volatile_buffer: true, ..Options::default() };
            assert_eq!(judge(&server, &volatile).unwrap(), "volatile");
        }
        assert!(judge(&Server { fsync: String::new(), ..fit() }, &options).is_err());
    }

    #[test]
    fn an_old_redis_is_refused() {
        for (version, fits) in [("7.0.15", true), ("7.2.0", true), ("8.0", true), ("6.2.14", false), ("", false)] {
            assert_eq!(check_version(version).is_ok(), fits, "{version}");
        }
        assert_eq!(info_field("# Server\r\nredis_version:7.0.15\r\n", "redis_version").as_deref(), Some("7.0.15"));
    }

    #[test]
    fn replicas_count_while_they_hear() {
        let info = |replicas: &str| {
            format!(
                "# Replication\r\nrole:master\r\nconnected_slaves:1\r\n{replicas}master_failover_state:no-failover\r\n"
            )
        };
        let replica = |n: u8, state: &str, lag: u8| {
            format!("slave{n}:ip=127.0.0.1,port=25011,state={state},offset=14,lag={lag}\r\n")
        };
        assert_eq!(count_online(&info("")), 0);
        assert_eq!(count_online(&info(&replica(0, "online", 1))), 1);
        assert_eq!(count_online(&info(&(replica(0, "online", 0) + &replica(1, "online", 10)))), 2);
        for deaf in [replica(0, "wait_bgsave", 0), replica(0, "send_bulk", 0), replica(0, "online", 11)] {
            assert_eq!(count_online(&info(&deaf)), 0, "{deaf}");
        }
        assert_eq!(count_online("role:slave\r\nslave_repl_offset:14\r\nslave_priority:100\r\n"), 0);
    }
}
