//! Whether this Redis keeps what it is given, and how well.

use redis::Value;

use super::super::{Durability, Error, Result};
use super::connection::Connections;
use super::options::Options;

/// The oldest Redis that runs the scripts: flags on scripts came with it.
const OLDEST: (u32, u32) = (7, 0);

/// What one server says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Server {
    version: String,
    replicas: u32,
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
        let level = judge(&server, options)?;
        if options.wait_replicas > server.replicas {
            tracing::warn!(
                have = server.replicas,
                want = options.wait_replicas,
                "fewer replicas are connected than wait-replicas asks for: pushes are refused until they are"
            );
        }
        levels.push(level);
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
    let infos = connections.ask_all(redis::cmd("INFO")).await?;
    let mut settings = Vec::new();
    for name in ["appendonly", "appendfsync", "maxmemory-policy"] {
        let mut command = redis::cmd("CONFIG");
        command.arg("GET").arg(name);
        let answers = match connections.ask_all(command).await {
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
            let info = redis::from_redis_value_ref::<String>(info)
                .map_err(|_| Error::Corrupt { detail: "INFO gave no text".into() })?;
            Ok(Server {
                version: info_field(&info, "redis_version").unwrap_or_default(),
                replicas: info_field(&info, "connected_slaves").and_then(|text| text.parse().ok()).unwrap_or(0),
                aof: at(0, node) == "yes",
                fsync: at(1, node),
                eviction: at(2, node),
            })
        })
        .collect()
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
        Server {
            version: "7.0.15".into(),
            replicas: 0,
            aof: true,
            fsync: "always".into(),
            eviction: "noeviction".into(),
        }
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
}
