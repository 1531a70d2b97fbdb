//! The spool on a disk: another process finds what one has left.

use std::collections::HashMap;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::super::frame::Scan;
use super::super::*;
use crate::config::server::SyncPolicy;
use crate::usage::row::request_key;
use crate::usage::row::tests::{bare, encoded};

fn settings(folder: &Path) -> Settings {
    let limits = SliceLimits { rows_max: 10, bytes_max: 1 << 20, age_max: Duration::from_secs(1) };
    Settings {
        folder: folder.to_owned(),
        segment_bytes: 16 << 10,
        sync: SyncPolicy::Interval,
        usual: limits,
        outage: limits,
    }
}

fn put(spool: &Spool, kind: Kind, number: u64) -> Appended {
    let mut draft = Draft::default();
    draft.fill(|to| to.extend_from_slice(&encoded(&bare(number))));
    spool.append(kind, &mut draft).unwrap()
}

/// A copy of the spool, as it is when the process is killed.
fn killed(root: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for folder in folders(root).unwrap() {
        let to = copy.path().join(folder.file_name().unwrap());
        std::fs::create_dir(&to).unwrap();
        for entry in std::fs::read_dir(&folder).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
    copy
}

fn adopted(root: &Path) -> (Boot, Found) {
    let folder = folders(root).unwrap().remove(0);
    let boot = Boot::adopt(&folder).unwrap().expect("its process has ended");
    let found = recover(&boot).unwrap();
    (boot, found)
}

/// Rows by request, through the slices.
fn rows(boot: &Boot) -> HashMap<[u8; 16], usize> {
    let mut rows = HashMap::new();
    let mut bytes = Vec::new();
    for segment in boot.segments().iter() {
        while let Some(bounds) = segment.next() {
            segment.read(bounds, &mut bytes).unwrap();
            let slice = Slice::read(&bytes, bounds.from, segment.salt, |_| {});
            for (_, day) in slice.days {
                let mut begin = 0;
                for end in day.ends {
                    *rows.entry(request_key(&day.bytes[begin..end]).unwrap()).or_default() += 1;
                    begin = end;
                }
            }
            segment.sent(bounds.to).unwrap();
        }
    }
    rows
}

fn key(number: u64) -> [u8; 16] {
    request_key(&encoded(&bare(number))).unwrap()
}

#[test]
fn rows_survive_the_process_over_many_segments() {
    let root = tempfile::tempdir().unwrap();
    let spool = Spool::open(settings(root.path())).unwrap();
    for number in 0..500 {
        put(&spool, Kind::Row, number);
    }
    assert!(Boot::adopt(&spool.boot().folder).unwrap().is_none(), "its process lives");
    let copy = killed(root.path());
    let (boot, found) = adopted(copy.path());
    assert_eq!((found.rows, found.damage.gaps, found.crashed), (500, 0, 0));
    assert!(found.segments > 3);
    let rows = rows(&boot);
    assert!((0..500).all(|number| rows.get(&key(number)) == Some(&1)));
    assert_eq!(rows.len(), 500);
}

#[test]
fn what_is_sent_is_not_sent_again() {
    let root = tempfile::tempdir().unwrap();
    let spool = Spool::open(settings(root.path())).unwrap();
    for number in 0..25 {
        put(&spool, Kind::Row, number);
    }
    let segment = spool.boot().oldest().unwrap();
    segment.sent(segment.next().unwrap().to).unwrap();
    let copy = killed(root.path());
    let (boot, found) = adopted(copy.path());
    assert_eq!(found.rows, 15);
    // The second slice ends where it did, and the rest is the third.
    let bounds = boot.oldest().unwrap().next().unwrap();
    assert_eq!(Some(bounds), segment.next());
    assert_eq!(rows(&boot).len(), 15);
}

#[test]
fn requests_in_flight_have_a_row_and_have_it_once() {
    let root = tempfile::tempdir().unwrap();
    let spool = Spool::open(settings(root.path())).unwrap();
    for number in 0..30 {
        put(&spool, Kind::Intent, number);
    }
    for number in 0..20 {
        put(&spool, Kind::Row, number);
    }
    let copy = killed(root.path());
    let (boot, found) = adopted(copy.path());
    assert_eq!((found.rows, found.crashed), (30, 10));
    drop(boot);
    // The next process ends before it has sent anything: nobody is told twice.
    let (boot, found) = adopted(copy.path());
    assert_eq!((found.rows, found.crashed), (30, 0));
    let rows = rows(&boot);
    assert!((0..30).all(|number| rows.get(&key(number)) == Some(&1)), "{rows:?}");
}

#[test]
fn requests_in_flight_outlive_their_segment() {
    let root = tempfile::tempdir().unwrap();
    let spool = Spool::open(settings(root.path())).unwrap();
    put(&spool, Kind::Intent, 1);
    put(&spool, Kind::Intent, 2);
    let mut number = 10;
    while spool.boot().segments().len() == 1 {
        put(&spool, Kind::Row, number);
        number += 1;
    }
    put(&spool, Kind::Row, 2);
    let boot = spool.boot();
    let first = boot.oldest().unwrap();
    let begun = [encoded(&bare(1)), encoded(&bare(2))];
    boot.keep_begun(0, begun.iter().map(|row| &**row)).unwrap();
    // With the segment still there, and without it.
    let copy = killed(root.path());
    let (_, found) = adopted(copy.path());
    assert_eq!(found.crashed, 1);
    first.remove().unwrap();
    let copy = killed(root.path());
    let (boot, found) = adopted(copy.path());
    assert_eq!((found.crashed, found.missing), (1, 0));
    let rows = rows(&boot);
    assert_eq!((rows.get(&key(1)), rows.get(&key(2))), (Some(&1), Some(&1)));
}

#[test]
fn missing_and_damaged_segments_are_counted_and_passed_over() {
    let root = tempfile::tempdir().unwrap();
    let spool = Spool::open(settings(root.path())).unwrap();
    for number in 0..500 {
        put(&spool, Kind::Row, number);
    }
    let copy = killed(root.path());
    let folder = folders(copy.path()).unwrap().remove(0);
    let path = |number: u64| folder.join(segment::file_name(number));
    std::fs::remove_file(path(1)).unwrap();
    // The title page of one, and a record of another.
    let file = std::fs::File::options().write(true).open(path(2)).unwrap();
    file.write_all_at(&[0xff; 64], 0).unwrap();
    let file = std::fs::File::options().write(true).open(path(3)).unwrap();
    file.write_all_at(&[0xff; 8], RECORDS_AT + 4).unwrap();
    std::fs::write(path(4), b"").unwrap();
    let (boot, found) = adopted(copy.path());
    assert_eq!(found.missing, 1);
    assert_eq!(found.damage.rows, 1, "{found:?}");
    assert_eq!(rows(&boot).len() as u64, found.rows);
    assert!(found.rows > 250, "{found:?}");
}

#[test]
fn writers_do_not_disturb_each_other() {
    let root = tempfile::tempdir().unwrap();
    let spool = Arc::new(Spool::open(settings(root.path())).unwrap());
    let syncing = spool.start_syncing().unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let spool = &spool;
            scope.spawn(move || {
                for number in 0..500 {
                    put(spool, Kind::Row, thread * 1_000 + number);
                }
            });
        }
    });
    spool.sync_all().unwrap();
    spool.close().unwrap();
    drop(syncing);
    assert!(matches!(spool.append(Kind::Row, &mut Draft::default()), Err(NotAppended::Closed)));
    let copy = killed(root.path());
    let (boot, found) = adopted(copy.path());
    assert_eq!((found.rows, found.damage.gaps), (2_000, 0));
    assert_eq!(rows(&boot).len(), 2_000);
    // What is not needed has been given back.
    let used: u64 = boot.segments().iter().map(|segment| segment.bytes()).sum();
    let records: u64 = boot
        .segments()
        .iter()
        .map(|segment| {
            let mut bytes = Vec::new();
            segment.read_all(&mut bytes).unwrap();
            Scan::new(&bytes, RECORDS_AT, segment.salt).map(|r| r.end - r.at).sum::<u64>()
        })
        .sum();
    assert_eq!(used, records + RECORDS_AT * boot.segments().len() as u64);
}

#[test]
fn rows_wait_for_the_disk_when_they_have_to() {
    let root = tempfile::tempdir().unwrap();
    let always = Settings { sync: SyncPolicy::Always, ..settings(root.path()) };
    let spool = Arc::new(Spool::open(always).unwrap());
    let syncing = spool.start_syncing().unwrap();
    for number in 0..100 {
        let end = put(&spool, Kind::Row, number);
        spool.wait_synced(end);
        assert!(spool.is_synced(end));
    }
    drop(syncing);
}
