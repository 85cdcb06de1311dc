//! `systole verify`: print what is wrong with the files.

use super::start::open_dataset;
use super::{Done, Failure, Outcome, output};
use crate::books::verify;
use crate::cli::Verify;

/// Verifies once.
pub async fn run(args: Verify) -> Outcome {
    let dataset = open_dataset(&args.dataset, false).await?;
    let verified = tokio::task::spawn_blocking(move || verify::verify(&dataset)).await;
    let report = verified.map_err(|failed| Failure::OutOfReach(format!("verifying failed: {failed}")))??;
    if args.output.json {
        output::json(&report)?;
    } else {
        for fault in &report.faults {
            output::line(format!("{}: {}", fault.place, fault.reason))?;
        }
        output::line(format!(
            "{} buckets, {} published files with {} rows, {} fragments with {} rows: {}",
            report.buckets,
            report.published_files,
            report.published_rows,
            report.fragments,
            report.fragment_rows,
            match report.faults.len() as u64 + report.more_faults {
                0 => "all sound".to_owned(),
                faults => format!("{faults} faults"),
            }
        ))?;
    }
    Ok(if report.is_sound() { Done::Well } else { Done::FoundSomething })
}
