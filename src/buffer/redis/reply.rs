//! Reading what the scripts answer, field by field: nothing unexpected is guessed around.

use std::str::FromStr;

use bytes::Bytes;
use redis::Value;

use super::super::{Error, Result};
use crate::heartbeat::{DatasetId, Partition};

/// An answer of a script: a word that says what it is, then its fields.
#[derive(Debug)]
pub(super) struct Reply {
    script: &'static str,
    word: String,
    fields: std::vec::IntoIter<Value>,
}

impl Reply {
    /// Reads the word and turns a refusal into its error.
    pub(super) fn read(script: &'static str, value: Value, asked: Asked) -> Result<Self> {
        let mut reply = Self { script, word: String::new(), fields: Vec::new().into_iter() };
        let Value::Array(fields) = value else { return Err(reply.unexpected("an array", &value)) };
        reply.fields = fields.into_iter();
        reply.word = reply.text()?;
        let partition = asked.partition;
        match reply.word.as_str() {
            "unregistered" => Err(Error::NotRegistered),
            "foreign" => Err(Error::ForeignDataset { expected: asked.dataset, found: reply.text()? }),
            "moving" => Err(Error::BeingMoved),
            "fenced" => Err(Error::Fenced { partition }),
            "notstanding" => Err(Error::NotStanding),
            "unwatched" => Err(Error::Unwatched),
            "full" => Err(Error::Full { partition }),
            "corrupt" => Err(Error::Corrupt { detail: format!("partition {partition}: {}", reply.text()?) }),
            _ => Ok(reply),
        }
    }

    /// What the answer is.
    pub(super) fn word(&self) -> &str {
        &self.word
    }

    /// Fails unless the answer is `word` and nothing more.
    pub(super) fn only(mut self, word: &str) -> Result<()> {
        self.expect(word)?;
        match self.fields.next() {
            None => Ok(()),
            Some(value) => Err(self.unexpected("no further field", &value)),
        }
    }

    /// Fails unless the answer is `word`.
    pub(super) fn expect(&self, word: &str) -> Result<()> {
        if self.word == word { Ok(()) } else { Err(self.strange()) }
    }

    /// The error for an answer that this script never gives.
    pub(super) fn strange(&self) -> Error {
        let word: String = self.word.chars().take(40).collect();
        Error::Corrupt { detail: format!("{} answered `{word}`", self.script) }
    }

    /// How many fields are still to be read.
    pub(super) fn left(&self) -> usize {
        self.fields.len()
    }

    /// The next field, a number that is not negative.
    pub(super) fn count(&mut self) -> Result<u64> {
        let value = self.field()?;
        match value {
            Value::Int(number) if number >= 0 => Ok(number.unsigned_abs()),
            value => Err(self.unexpected("a number that is not negative", &value)),
        }
    }

    /// The next field, a small number that is not negative.
    pub(super) fn small(&mut self) -> Result<u32> {
        let count = self.count()?;
        u32::try_from(count).map_err(|_| self.unexpected("a small number", &Value::Nil))
    }

    /// The next field, a number; `None` for -1.
    pub(super) fn count_or_none(&mut self) -> Result<Option<u64>> {
        let value = self.field()?;
        match value {
            Value::Int(-1) => Ok(None),
            Value::Int(number) if number >= 0 => Ok(Some(number.unsigned_abs())),
            value => Err(self.unexpected("a number from -1 up", &value)),
        }
    }

    /// The next field, bytes.
    pub(super) fn bytes(&mut self) -> Result<Bytes> {
        let value = self.field()?;
        self.as_bytes(value)
    }

    /// The next field, text.
    pub(super) fn text(&mut self) -> Result<String> {
        let value = self.field()?;
        match value {
            Value::BulkString(bytes) => String::from_utf8(bytes)
                .map_err(|error| self.unexpected("text", &Value::BulkString(error.into_bytes()))),
            Value::SimpleString(text) => Ok(text),
            value => Err(self.unexpected("text", &value)),
        }
    }

    /// The next field, an id of some kind.
    pub(super) fn id<T: FromStr>(&mut self) -> Result<T> {
        let text = self.text()?;
        text.parse().map_err(|_| self.unexpected("an id", &Value::BulkString(text.into_bytes())))
    }

    /// The next field, an id of some kind; `None` for an empty text.
    pub(super) fn id_or_none<T: FromStr>(&mut self) -> Result<Option<T>> {
        let text = self.text()?;
        if text.is_empty() {
            return Ok(None);
        }
        text.parse().map(Some).map_err(|_| self.unexpected("an id", &Value::BulkString(text.into_bytes())))
    }

    /// The next field, a list of bytes.
    pub(super) fn list(&mut self) -> Result<Vec<Bytes>> {
        let value = self.field()?;
        match value {
            Value::Array(values) => values.into_iter().map(|value| self.as_bytes(value)).collect(),
            value => Err(self.unexpected("a list", &value)),
        }
    }

    fn as_bytes(&self, value: Value) -> Result<Bytes> {
        match value {
            Value::BulkString(bytes) => Ok(bytes.into()),
            value => Err(self.unexpected("bytes", &value)),
        }
    }

    fn field(&mut self) -> Result<Value> {
        self.fields.next().ok_or_else(|| Error::Corrupt { detail: format!("{} answered too little", self.script) })
    }

    /// Names the kind of what was found, never its content: it may be user data.
    fn unexpected(&self, wanted: &str, found: &Value) -> Error {
        let found = match found {
            Value::Nil => "nothing".to_owned(),
            Value::Int(number) => format!("the number {number}"),
            Value::BulkString(bytes) => format!("{} bytes", bytes.len()),
            Value::Array(values) => format!("a list of {}", values.len()),
            Value::SimpleString(_) | Value::Okay => "a status".to_owned(),
            _ => "another kind of value".to_owned(),
        };
        Error::Corrupt { detail: format!("{} answered {found} where {wanted} was expected", self.script) }
    }
}

/// Whom a script was asked about, for its refusals.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    pub(super) dataset: DatasetId,
    pub(super) partition: Partition,
}
