//! Records are found again, whatever happens to the bytes around them.

use proptest::prelude::*;

use crate::usage::spool::frame::{Draft, HEADER_BYTES, Kind, Record, Salt, Scan, Tail};

const BASE: u64 = 4096;

fn salt() -> Salt {
    Salt::new(&[7; 16], 3)
}

fn kinds() -> impl Strategy<Value = Kind> {
    prop_oneof![4 => Just(Kind::Row), 2 => Just(Kind::Intent), 1 => Just(Kind::Refused), 1 => Just(Kind::Cut)]
}

fn records() -> impl Strategy<Value = Vec<(Kind, Vec<u8>)>> {
    proptest::collection::vec((kinds(), proptest::collection::vec(any::<u8>(), 0..90)), 1..30)
}

type Written = Vec<(Kind, Vec<u8>)>;

/// A segment's records, with zeros behind them, and where each begins.
fn written(records: &[(Kind, Vec<u8>)], n_zeros: usize) -> (Vec<u8>, Vec<usize>) {
    let mut tail = Tail::new(salt(), BASE, u64::MAX);
    let mut draft = Draft::default();
    let (mut bytes, mut begins) = (Vec::new(), Vec::new());
    for (kind, payload) in records {
        draft.fill(|to| to.extend_from_slice(payload));
        begins.push(bytes.len());
        bytes.extend_from_slice(tail.place(*kind, &mut draft));
        tail.advance(*kind, &draft);
    }
    bytes.resize(bytes.len() + n_zeros * 8, 0);
    (bytes, begins)
}

fn scanned(bytes: &[u8]) -> (Written, Scan<'_>) {
    let mut scan = Scan::from_first(bytes, BASE, salt());
    let found = scan.by_ref().map(|Record { kind, payload, .. }| (kind, payload.to_vec()));
    (found.collect(), scan)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn undamaged_records_are_all_there(records in records(), n_zeros in 0..50_usize) {
        let (bytes, _) = written(&records, n_zeros);
        let (found, scan) = scanned(&bytes);
        prop_assert_eq!(found, records);
        prop_assert_eq!(scan.damage().gaps, 0);
    }

    /// Each case is damaged five times: ten thousand damaged segments.
    #[test]
    fn damage_costs_what_it_touches_and_is_counted(
        records in records(),
        n_zeros in 0..20_usize,
        damage in proptest::collection::vec((any::<prop::sample::Index>(), 1..40_usize, any::<u8>(), any::<bool>()), 5),
    ) {
        let (bytes, begins) = written(&records, n_zeros);
        for (at, length, value, is_flip) in damage {
            let mut damaged = bytes.clone();
            let at = at.index(damaged.len());
            let end = (at + length).min(damaged.len());
            for byte in &mut damaged[at..end] {
                *byte = if is_flip { *byte ^ value } else { value };
            }
            let is_touched = |n: usize| {
                let from = begins[n];
                // Zeros that fill up a record up to the next mean nothing.
                let to = from + HEADER_BYTES + records[n].1.len();
                damaged[from..to] != bytes[from..to]
            };
            let expected: Vec<_> = (0..records.len()).filter(|n| !is_touched(*n)).collect();
            let (found, scan) = scanned(&damaged);
            let kept: Vec<_> = expected.iter().map(|n| records[*n].clone()).collect();
            prop_assert_eq!(&found, &kept, "nothing lost that is whole, nothing invented");
            let lost = records.len() - kept.len();
            prop_assert!(lost == 0 || scan.damage().gaps > 0);
            prop_assert!(damaged != bytes || scan.damage().gaps == 0);
            // Rows before the last record that is whole are counted to the row.
            let last = expected.last().map_or(0, |n| n + 1);
            let lost_rows = (0..last)
                .filter(|n| is_touched(*n) && records[*n].0 == Kind::Row)
                .count() as u64;
            prop_assert!(scan.damage().rows >= lost_rows);
            let all_lost = (0..records.len())
                .filter(|n| is_touched(*n) && records[*n].0 == Kind::Row)
                .count() as u64;
            prop_assert!(scan.damage().rows <= all_lost);
        }
    }

    #[test]
    fn torn_end_is_cut(records in records(), at: prop::sample::Index) {
        let (bytes, begins) = written(&records, 0);
        let at = at.index(bytes.len());
        let (found, scan) = scanned(&bytes[..at]);
        let whole = begins.iter().skip(1).filter(|begin| **begin <= at).count();
        prop_assert!(found.len() >= whole);
        prop_assert_eq!(&found[..], &records[..found.len()]);
        prop_assert!(scan.damage().gaps <= 1);
    }

    #[test]
    fn records_in_a_payload_are_not_taken_for_records(inner in records(), outer in records()) {
        // A client that knew the format, but not the salt.
        let mut tail = Tail::new(Salt::new(&[8; 16], 3), BASE, u64::MAX);
        let mut draft = Draft::default();
        let mut forged = Vec::new();
        for (kind, payload) in &inner {
            draft.fill(|to| to.extend_from_slice(payload));
            forged.extend_from_slice(tail.place(*kind, &mut draft));
            tail.advance(*kind, &draft);
        }
        let mut records = outer;
        records.insert(0, (Kind::Row, forged));
        let (mut bytes, _) = written(&records, 0);
        bytes[1] ^= 1; // So that the forged bytes are searched.
        let (found, _) = scanned(&bytes);
        prop_assert_eq!(&found[..], &records[1..]);
    }

    #[test]
    fn any_bytes_end(bytes in proptest::collection::vec(any::<u8>(), 0..2_000)) {
        let (found, _) = scanned(&bytes);
        prop_assert!(found.is_empty());
    }
}

#[test]
fn search_after_damage_is_linear() {
    // The worst there is: nothing but beginnings of records.
    let step: Vec<u8> = [b"SL\xa5\x01", &[0xff, 0xff, 0, 0][..]].concat();
    let bytes = step.repeat(1 << 20);
    let began = std::time::Instant::now();
    let (found, scan) = scanned(&bytes);
    assert_eq!((found.len(), scan.damage().bytes), (0, bytes.len() as u64));
    assert!(began.elapsed() < std::time::Duration::from_secs(20), "{:?}", began.elapsed());
}
