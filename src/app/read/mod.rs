//! `systole read`: what a user's devices have reported, from buffer and files, for people and programs.
//!
//! Constraints: it writes what it finds as it finds it, in bounded memory; a file appears under its name only once it is
//! whole; nothing but heartbeats goes to standard output.

mod draft;
mod progress;
mod sink;
mod table;

use std::io::IsTerminal;
use std::path::Path;
use std::sync::Arc;

use self::progress::{Progress, Way};
use self::sink::Sink;
use self::table::Table;
use super::start::{expect_dataset, open_dataset_to_read, reach_buffer, stop_on_signals};
use super::{Done, Failure, Outcome, output, place};
use crate::buffer::Frames;
use crate::cli::read::{Form, Read};
use crate::dataset::{self, Dataset, ExportError};
use crate::heartbeat::HeartbeatRef;
use crate::query::output::{Encoder, Format};
use crate::query::{self, Page, Query, Reading, Scan};
use crate::telemetry::metrics;

/// Heartbeats that are read and written at a time.
const ROWS: usize = 4096;

/// Reads once. An interrupted run leaves no file behind.
pub async fn run(args: Read) -> Outcome {
    let stop = stop_on_signals()?;
    tokio::select! {
        written = Box::pin(read(args)) => written,
        () = stop.cancelled() => Err(Failure::OutOfReach("interrupted before all was read".into())),
    }
}

async fn read(args: Read) -> Outcome {
    let form = form_of(&args)?;
    if args.from.zip(args.to).is_some_and(|(from, to)| from > to) {
        return Err(Failure::Usage("--from lies behind --to".into()));
    }
    let reading = open(&args).await?;
    let wanted = args.out.is_some() || !std::io::stdout().is_terminal();
    let progress = Progress::begin(wanted, Way::new(args.to, args.limit));
    let query = Query { user_id: args.user, device_id: args.device, from: args.from, to: args.to };
    let writer = Writer {
        encoding: Encoding::new(form, &query)?,
        sink: Sink::open(args.out.as_deref()).await?,
        left: args.limit.unwrap_or(u64::MAX),
        progress,
    };
    writer.write(reading.scan(query, None)).await
}

fn form_of(args: &Read) -> Result<Form, Failure> {
    let form = args.format.or_else(|| args.out.as_deref().and_then(named_by)).unwrap_or(Form::Table);
    if form == Form::Parquet && args.out.is_none() && std::io::stdout().is_terminal() {
        return Err(Failure::Usage("Parquet is nothing for a terminal: name a file with --out".into()));
    }
    Ok(form)
}

/// The format that the name of a file speaks of.
fn named_by(file: &Path) -> Option<Form> {
    match file.extension()?.to_str()? {
        "json" => Some(Form::Json),
        "ndjson" | "jsonl" => Some(Form::Ndjson),
        "csv" => Some(Form::Csv),
        "parquet" => Some(Form::Parquet),
        _ => None,
    }
}

/// The buffer, and the files of its dataset.
async fn open(args: &Read) -> Result<Reading, Failure> {
    let dataset = match open_dataset_to_read(&args.dataset).await {
        Err(dataset::Error::NoDataset { .. }) if args.redis.buffer.is_some() => {
            let buffer = reach_buffer(&args.buffer, &args.redis).await?;
            let data = args.dataset.data.display();
            output::note(&format!("there is no dataset in {data}: only what still waits in the buffer is read"));
            return reading(buffer, None);
        }
        opened => opened?,
    };
    let buffer: Arc<dyn Frames> = place::buffer_of(&dataset, &args.buffer, &args.redis).await?;
    expect_dataset(buffer.as_ref(), &dataset).await?;
    reading(buffer, Some(dataset))
}

fn reading(buffer: Arc<dyn Frames>, dataset: Option<Dataset>) -> Result<Reading, Failure> {
    // Nobody scrapes a command.
    let metrics = query::Metrics::register(&metrics::registry()?)?;
    Ok(Reading::new(buffer, dataset, &query::Options::default(), metrics))
}

enum Encoding {
    /// A format, and what a text ends with beside it.
    Format(Encoder, &'static str),
    Table(Table),
}

impl Encoding {
    fn new(form: Form, query: &Query) -> Result<Self, Failure> {
        let (format, end) = match form {
            Form::Table => return Ok(Self::Table(Table::new(query.device_id.is_none()))),
            Form::Json => (Format::Json, "\n"),
            Form::Ndjson => (Format::Ndjson, ""),
            Form::Csv => (Format::Csv, ""),
            Form::Parquet => (Format::Parquet, ""),
        };
        Ok(Self::Format(Encoder::new(format)?, end))
    }

    fn write(&mut self, rows: &[HeartbeatRef<'_>]) -> Result<Vec<u8>, ExportError> {
        match self {
            Self::Format(encoder, _) => {
                rows.iter().try_for_each(|row| encoder.push(*row))?;
                Ok(encoder.take())
            }
            Self::Table(table) => Ok(table.lines(rows)),
        }
    }

    fn finish(self) -> Result<Vec<u8>, ExportError> {
        match self {
            Self::Format(encoder, end) => Ok([encoder.finish()?, end.into()].concat()),
            Self::Table(table) => Ok(table.finish()),
        }
    }
}

/// Writes what a scan finds.
struct Writer {
    encoding: Encoding,
    sink: Sink,
    /// Heartbeats that may still be written.
    left: u64,
    progress: Progress,
}

impl Writer {
    async fn write(mut self, mut scan: Scan) -> Outcome {
        while self.left > 0 {
            let most = usize::try_from(self.left).unwrap_or(ROWS).min(ROWS);
            let Some(page) = scan.next(most).await? else { break };
            let bytes = self.encode(&page)?;
            if !self.sink.put(bytes).await? {
                return Ok(Done::Well);
            }
        }
        let end = self.encoding.finish()?;
        self.sink.put(end).await?;
        self.progress.end();
        self.sink.finish().await?;
        Ok(Done::Well)
    }

    fn encode(&mut self, page: &Page) -> Result<Vec<u8>, Failure> {
        let rows: Vec<HeartbeatRef<'_>> = page.rows().collect();
        self.left = self.left.saturating_sub(rows.len() as u64);
        let bytes = self.encoding.write(&rows)?;
        if let (Some(first), Some(last)) = (rows.first(), rows.last()) {
            self.progress.reached(rows.len(), first.timestamp, last.timestamp);
        }
        Ok(bytes)
    }
}

impl From<ExportError> for Failure {
    fn from(error: ExportError) -> Self {
        Self::OutOfReach(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_says_by_its_name_what_it_is_to_hold() {
        for (name, form) in [
            ("ada.csv", Some(Form::Csv)),
            ("a.b.parquet", Some(Form::Parquet)),
            ("x/ada.jsonl", Some(Form::Ndjson)),
            ("ada.txt", None),
            ("csv", None),
        ] {
            assert_eq!(named_by(Path::new(name)), form, "{name}");
        }
    }
}
