//! A store is made aside, whole, and renamed into its place: fjall does not go on with one whose making was cut off.

use std::fs::{self, File};
use std::io;
use std::path::Path;

/// Where a store is made, beside its place.
const ASIDE: &str = "new";

/// Has `make` make what is to stand in `place`, unless it stands there. The caller has the folder around it to itself.
///
/// # Errors
/// Those of `make`; of the disk, as `fault` makes them.
pub(super) fn ensure<E>(
    place: &Path,
    fault: impl Fn(io::Error) -> E,
    make: impl FnOnce(&Path) -> Result<(), E>,
) -> Result<(), E> {
    if place.try_exists().map_err(&fault)? {
        return Ok(());
    }
    let aside = place.with_extension(ASIDE);
    match fs::remove_dir_all(&aside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(fault(error)),
        _ => {}
    }
    make(&aside)?;
    put_in_place(&aside, place).map_err(fault)
}

fn put_in_place(aside: &Path, place: &Path) -> io::Result<()> {
    File::open(aside)?.sync_all()?;
    fs::rename(aside, place)?;
    match place.parent() {
        Some(around) => File::open(around)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keep(error: io::Error) -> io::Error {
        error
    }

    #[test]
    fn what_was_left_half_made_is_made_anew_and_what_stands_stays() {
        let around = tempfile::tempdir().unwrap();
        let (place, aside) = (around.path().join("store"), around.path().join("store.new"));
        let make = |text: &'static str| {
            move |folder: &Path| {
                fs::create_dir(folder)?;
                fs::write(folder.join("file"), text)
            }
        };
        let cut_off = |folder: &Path| make("half")(folder).and(Err(io::ErrorKind::Interrupted.into()));
        assert!(ensure(&place, keep, cut_off).is_err());
        assert!(!place.exists() && aside.exists());
        ensure(&place, keep, make("whole")).unwrap();
        ensure(&place, keep, make("another")).unwrap();
        assert_eq!(fs::read_to_string(place.join("file")).unwrap(), "whole");
        assert!(!aside.exists());
    }
}
