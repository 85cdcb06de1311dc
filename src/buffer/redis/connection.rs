//! Connections to Redis: kept, lent, and thrown away.
//!
//! Constraints:
//! - A connection goes back to the pool only after a call that it finished soundly. One that timed out, broke, or spoke
//!   for a server that is not in charge (READONLY, LOADING …) is thrown away: an answer that comes late would be taken
//!   for the answer to the next question, and a demoted master would go on refusing.
//! - Waiting for a connection, making one and trying one are bounded by `connect_timeout` each (where Sentinels are asked first,
//!   by a little more); calls by their callers.

use std::time::Duration;

use deadpool::Runtime;
use deadpool::managed::{self, Object, Pool};
use futures::future::join_all;
use redis::cluster_routing::{Route, SlotAddr};
use redis::{Cmd, Pipeline, RedisResult, Value};

use super::super::options::Options as Common;
use super::super::{Error, Result};
use super::fault;
use super::options::Options;
use super::script::Script;
use super::target::{Link, Manager};

/// How long the library waits for Sentinels that hang, all at the same time: a second for a connection, half a one for an answer.
/// It has no setting for that. Whoever waited for less in all would never hear of what the others say.
const SENTINEL_WAITS: Duration = Duration::from_millis(1_500);

/// One call of a script.
#[derive(Debug)]
pub(super) struct Call {
    /// The script, to load it where the server does not know it.
    pub(super) script: &'static Script,
    /// The command, with its keys and arguments.
    pub(super) command: Cmd,
    /// One of its keys: on a Cluster it tells the node.
    pub(super) key: String,
}

/// How many replicas must hold what was written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Replicas {
    pub(super) want: u32,
    pub(super) timeout: Duration,
}

/// What one call came to.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) answer: Result<Value>,
    /// Replicas that confirmed, where that was asked for.
    pub(super) replicas: Option<u32>,
}

/// Connections that are kept and lent. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Connections {
    pool: Pool<Manager>,
}

impl Connections {
    /// Reads the options and the files that they name; connects to nothing yet.
    pub(super) fn new(common: &Common, options: &Options) -> Result<Self> {
        let manager = Manager::new(common, options)?;
        let patience = *options.connect_timeout;
        let making = if options.redis_sentinel_master.is_some() { patience + SENTINEL_WAITS } else { patience };
        let (patience, making) = (Some(patience), Some(making));
        let pool = Pool::builder(manager)
            .max_size(options.buffer_connections)
            .timeouts(managed::Timeouts { wait: patience, create: making, recycle: patience })
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|error| Error::Unsafe { advice: format!("buffer-connections: {error}") })?;
        Ok(Self { pool })
    }

    /// Whether keys lie on different nodes.
    pub(super) fn to_cluster(&self) -> bool {
        self.pool.manager().to_cluster()
    }

    /// Runs scripts, in order where they share a node, all in one round trip a node (a second one for scripts that it
    /// did not know). With `replicas`, each node is then asked how many replicas hold what was written.
    ///
    /// # Errors
    /// No connection could be had; then no call was sent.
    pub(super) async fn run(&self, calls: Vec<Call>, replicas: Option<Replicas>) -> Result<Vec<Outcome>> {
        let mut lent = self.lend().await?;
        let outcomes = lent.run(calls, replicas).await;
        self.settle(lent);
        Ok(outcomes)
    }

    /// Sends one plain command to the one node, or to every master of a Cluster; an answer each.
    ///
    /// # Errors
    /// What the network or a server said.
    pub(super) async fn ask_all(&self, command: Cmd) -> Result<Vec<Value>> {
        let mut lent = self.lend().await?;
        let answers = lent.ask_all(command).await;
        self.settle(lent);
        answers
    }

    /// Sends one plain command to the node of `key`, which must be a master.
    ///
    /// # Errors
    /// What the network or the server said; what Redis says to a write, when it is a replica.
    pub(super) async fn ask(&self, command: Cmd, key: &str) -> Result<Value> {
        let mut lent = self.lend().await?;
        let answer = lent.ask(command, key).await;
        self.settle(lent);
        answer
    }

    /// Keeps none of the connections that nobody uses: they may lead to another server than the newest ones do.
    pub(super) fn forget(&self) {
        self.pool.retain(|_, _| false);
    }

    async fn lend(&self) -> Result<Lent> {
        // Boxed: making a connection, TLS and all, would add 20 KiB to the future of every step.
        let object = Box::pin(self.pool.get()).await.map_err(|error| fault::of_pool(error, self.to_cluster()))?;
        Ok(Lent { object: Some(object), spoilt: false })
    }

    fn settle(&self, lent: Lent) {
        if lent.spoilt {
            // Its fellows were made by the same server, which is gone or not in charge any more.
            self.forget();
        } else {
            lent.give_back();
        }
    }
}

/// A connection on loan. Dropping it, as a passed deadline does, throws the connection away.
struct Lent {
    object: Option<Object<Manager>>,
    spoilt: bool,
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(object) = self.object.take() {
            drop(Object::take(object));
        }
    }
}

impl Lent {
    fn give_back(mut self) {
        drop(self.object.take());
    }

    fn link(&mut self) -> Result<&mut Link> {
        // Only `give_back` and `drop` take the object, and both end the loan.
        self.object.as_deref_mut().ok_or_else(|| Error::Unreachable { reason: "the connection was given back".into() })
    }

    async fn run(&mut self, calls: Vec<Call>, replicas: Option<Replicas>) -> Vec<Outcome> {
        let count = calls.len();
        let link = match self.link() {
            Ok(link) => link,
            Err(error) => return failed(count, &error),
        };
        let groups = group(calls, link);
        let answered = join_all(groups.into_iter().map(|group| {
            let mut link = link.clone();
            async move { (group.places.clone(), group.run(&mut link, replicas).await) }
        }))
        .await;
        let mut outcomes: Vec<Option<Outcome>> = (0..count).map(|_| None).collect();
        for (places, answers) in answered {
            self.spoilt |= answers.spoilt;
            for (place, outcome) in places.into_iter().zip(answers.outcomes) {
                outcomes[place] = Some(outcome);
            }
        }
        let missing = || Outcome {
            answer: Err(Error::Corrupt { detail: "Redis gave fewer answers than it got questions".into() }),
            replicas: None,
        };
        outcomes.into_iter().map(|outcome| outcome.unwrap_or_else(missing)).collect()
    }

    async fn ask_all(&mut self, command: Cmd) -> Result<Vec<Value>> {
        let answers = self.link()?.ask_all(command).await;
        self.judge(answers)
    }

    async fn ask(&mut self, command: Cmd, key: &str) -> Result<Value> {
        let mut pipeline = Pipeline::with_capacity(2);
        pipeline.add_command(command);
        // Behind the question: who is a master still when it has answered was one when it did.
        pipeline.cmd("ROLE");
        let answers = self.link()?.pipeline(pipeline, Route::with_key(key, SlotAddr::Master)).await;
        let mut answers = self.judge(answers)?.into_iter();
        let (Some(answer), Some(role)) = (answers.next(), answers.next()) else {
            return Err(Error::Corrupt { detail: "Redis gave fewer answers than it got questions".into() });
        };
        if is_master(&role) {
            return Ok(answer);
        }
        self.spoilt = true;
        Err(fault::of_replica())
    }

    /// The answers, unless an error is among them.
    fn judge(&mut self, answers: RedisResult<Vec<Value>>) -> Result<Vec<Value>> {
        let on_cluster = self.link()?.is_cluster();
        match answers {
            Ok(answers) => {
                for answer in &answers {
                    if let Value::ServerError(error) = answer {
                        self.spoilt |= fault::spoils_connection(error);
                        return Err(fault::of_answer(error, on_cluster));
                    }
                }
                Ok(answers)
            }
            Err(error) => {
                self.spoilt = true;
                Err(fault::of_call(&error, on_cluster))
            }
        }
    }
}

fn failed(count: usize, error: &Error) -> Vec<Outcome> {
    (0..count).map(|_| Outcome { answer: Err(error.clone()), replicas: None }).collect()
}

/// Calls that go to one node in one pipeline.
struct Group {
    route: Route,
    places: Vec<usize>,
    calls: Vec<Call>,
}

struct Answers {
    outcomes: Vec<Outcome>,
    spoilt: bool,
}

/// One group on a single node; one for each slot on a Cluster, where a pipeline must not cross slots.
fn group(calls: Vec<Call>, link: &Link) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for (place, call) in calls.into_iter().enumerate() {
        let route = Route::with_key(&call.key, SlotAddr::Master);
        let found = match link {
            Link::Node(_) => groups.first_mut(),
            Link::Cluster(_) => groups.iter_mut().find(|group| group.route == route),
        };
        match found {
            Some(group) => {
                group.places.push(place);
                group.calls.push(call);
            }
            None => groups.push(Group { route, places: vec![place], calls: vec![call] }),
        }
    }
    groups
}

impl Group {
    async fn run(self, link: &mut Link, replicas: Option<Replicas>) -> Answers {
        match self.try_run(link, replicas).await {
            Ok(answers) => answers,
            Err(error) => {
                let error = fault::of_call(&error, link.is_cluster());
                Answers { outcomes: failed(self.calls.len(), &error), spoilt: true }
            }
        }
    }

    async fn try_run(&self, link: &mut Link, replicas: Option<Replicas>) -> RedisResult<Answers> {
        let all: Vec<usize> = (0..self.calls.len()).collect();
        let (mut values, mut confirmed) = self.send(link, &all, false, replicas).await?;
        let unknown: Vec<usize> = all.into_iter().filter(|&at| is_no_script(&values[at])).collect();
        if !unknown.is_empty() {
            // The others took effect; only these are run again, in the order they had.
            let (again, confirmed_again) = self.send(link, &unknown, true, replicas).await?;
            for (at, value) in unknown.into_iter().zip(again) {
                values[at] = value;
            }
            confirmed = confirmed_again;
        }
        let spoilt =
            values.iter().any(|value| matches!(value, Value::ServerError(error) if fault::spoils_connection(error)));
        let outcomes = values
            .into_iter()
            .map(|value| Outcome {
                answer: match value {
                    Value::ServerError(error) => Err(fault::of_answer(&error, link.is_cluster())),
                    value => Ok(value),
                },
                replicas: confirmed,
            })
            .collect();
        Ok(Answers { outcomes, spoilt })
    }

    /// Sends the calls at `places` in one pipeline, before them their scripts if `load`, behind them WAIT if asked for.
    async fn send(
        &self,
        link: &mut Link,
        places: &[usize],
        load: bool,
        replicas: Option<Replicas>,
    ) -> RedisResult<(Vec<Value>, Option<u32>)> {
        let mut pipeline = Pipeline::with_capacity(places.len() + 2);
        let mut loaded: Vec<&str> = Vec::new();
        if load {
            for script in places.iter().map(|&at| self.calls[at].script) {
                if !loaded.contains(&script.name) {
                    loaded.push(script.name);
                    pipeline.add_command(script.load());
                }
            }
        }
        for &at in places {
            pipeline.add_command(self.calls[at].command.clone());
        }
        if let Some(replicas) = replicas {
            pipeline.cmd("WAIT").arg(replicas.want).arg(replicas.timeout.as_millis() as u64);
        }
        let mut values = link.pipeline(pipeline, self.route).await?;
        let confirmed = match replicas.map(|_| values.pop()) {
            None => None,
            Some(Some(Value::Int(count))) => Some(u32::try_from(count).unwrap_or(0)),
            // Whatever it is, it confirms nothing.
            Some(_) => Some(0),
        };
        values.drain(..loaded.len().min(values.len()));
        values.resize(places.len(), Value::Nil);
        Ok((values, confirmed))
    }
}

/// By the answer to ROLE.
fn is_master(role: &Value) -> bool {
    let Value::Array(parts) = role else { return false };
    parts.first().is_some_and(|word| redis::from_redis_value_ref::<String>(word).is_ok_and(|word| word == "master"))
}

fn is_no_script(value: &Value) -> bool {
    matches!(value, Value::ServerError(error) if error.code() == "NOSCRIPT")
}
