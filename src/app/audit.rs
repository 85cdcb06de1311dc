//! `systole audit`: print what the books say.

use super::start::open_dataset;
use super::{Done, Failure, Outcome, output, place};
use crate::books::audit::{self, Report, Verdict};
use crate::cli::Audit;

/// Audits once; with `--accept` records a surplus.
pub async fn run(args: Audit) -> Outcome {
    let dataset = open_dataset(&args.dataset, false).await?;
    let buffer = place::buffer_of(&dataset, &args.buffer, &args.redis).await?;
    let report = audit::audit(buffer, dataset.clone()).await?;
    let accepted = args.accept && report.verdict == Verdict::Surplus;
    if accepted {
        let report = report.clone();
        let accepted = tokio::task::spawn_blocking(move || audit::accept(&dataset, &report)).await;
        accepted.map_err(|_| Failure::OutOfReach("recording the surplus was cut off".into()))??;
    }
    if args.output.json {
        output::json(&report)?;
    } else {
        print(&report, accepted)?;
    }
    Ok(match report.verdict {
        Verdict::Balanced | Verdict::Surplus => Done::Well,
        Verdict::Unbalanced | Verdict::Missing => Done::FoundSomething,
    })
}

fn print(report: &Report, accepted: bool) -> Result<(), Failure> {
    let sum = |figure: fn(&audit::PartitionBooks) -> u64| report.sum(figure);
    output::line(format!("dataset      {}", report.dataset))?;
    output::line(format!(
        "buffer       accepted {} = pending {} + claimed {} + acked {} + dead {} + dropped {}",
        sum(|books| books.ledger.accepted),
        sum(|books| books.ledger.pending),
        sum(|books| books.ledger.claimed),
        sum(|books| books.ledger.acked),
        sum(|books| books.ledger.dead),
        sum(|books| books.ledger.dropped),
    ))?;
    output::line(format!(
        "files        staged {} + merged {} + quarantined {}, of them {} of claims that still stand",
        sum(|books| books.files.staged),
        sum(|books| books.files.merged),
        sum(|books| books.files.quarantined),
        sum(|books| books.files.of_standing_claims),
    ))?;
    output::line(format!(
        "published    {} rows, {} dropped as duplicates",
        sum(|books| books.files.published),
        sum(|books| books.files.deduplicated),
    ))?;
    for books in report.partitions.iter().filter(|books| books.missing > 0 || books.surplus > 0 || !books.balances) {
        output::line(format!(
            "partition {}: missing {}, surplus {}, ledgers {}",
            books.partition,
            books.missing,
            books.surplus,
            if books.balances { "balance" } else { "do not balance" }
        ))?;
    }
    for books in report.partitions.iter().filter(|books| books.vanished > 0) {
        output::line(format!(
            "partition {}: the ledger counts {} heartbeats that its lists in Redis do not hold",
            books.partition, books.vanished
        ))?;
    }
    let moving = if report.moving { " (read while data moved)" } else { "" };
    output::line(format!("{}{moving}", verdict(report, accepted)))
}

fn verdict(report: &Report, accepted: bool) -> String {
    let missing = report.sum(|books| books.missing);
    let surplus = report.sum(|books| books.surplus);
    let vanished = report.sum(|books| books.vanished);
    match report.verdict {
        Verdict::Balanced => "the books balance".into(),
        Verdict::Surplus if accepted => format!("{surplus} heartbeats more in the files than in the books: recorded"),
        Verdict::Surplus => format!(
            "{surplus} heartbeats more in the files than in the books: the buffer came back older than the files; \
             nothing is lost; `systole audit --accept` records it"
        ),
        Verdict::Unbalanced if vanished > 0 => format!(
            "VANISHED: {vanished} acknowledged heartbeats that waited were taken out of Redis by something else than \
             Systole; see \"Frames that vanish from Redis\" in docs/reliability.md"
        ),
        Verdict::Unbalanced => "a ledger does not add up: please report this".into(),
        Verdict::Missing => format!("MISSING: {missing} acknowledged heartbeats stand in no file"),
    }
}
