//! A disk that forgets what was not synced: any part of it, page by page.

use std::collections::HashMap;

use proptest::prelude::*;

use crate::usage::row::tests::{bare, encoded};
use crate::usage::spool::frame::{Draft, Kind, Salt, Scan, Tail};
use crate::usage::spool::{Slice, Step};

const PAGE: usize = 512;

#[derive(Debug, Clone, Copy)]
enum Action {
    Row,
    Cut,
    Sync,
    /// A slice is sent only when it is synced.
    Send,
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let action = prop_oneof![
        8 => Just(Action::Row),
        2 => Just(Action::Cut),
        2 => Just(Action::Sync),
        1 => Just(Action::Send),
    ];
    proptest::collection::vec(action, 1..120)
}

/// One segment as the process sees it, and as the disk has it.
struct Model {
    tail: Tail,
    seen: Vec<u8>,
    synced: Vec<u8>,
    rows: u64,
    synced_rows: u64,
    cuts: Vec<u64>,
    sent: Vec<(u64, u64)>,
}

fn salt() -> Salt {
    Salt::new(&[1; 16], 0)
}

impl Model {
    fn new() -> Self {
        Self {
            tail: Tail::new(salt(), 0, u64::MAX),
            seen: Vec::new(),
            synced: Vec::new(),
            rows: 0,
            synced_rows: 0,
            cuts: Vec::new(),
            sent: Vec::new(),
        }
    }

    fn write(&mut self, kind: Kind, payload: &[u8]) {
        let mut draft = Draft::default();
        draft.fill(|to| to.extend_from_slice(payload));
        self.seen.extend_from_slice(self.tail.place(kind, &mut draft));
        self.tail.advance(kind, &draft);
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Row => {
                self.write(Kind::Row, &encoded(&bare(self.rows)));
                self.rows += 1;
            }
            Action::Cut => {
                self.write(Kind::Cut, &[]);
                self.cuts.push(self.tail.at());
            }
            Action::Sync => self.sync(),
            Action::Send => {
                self.sync();
                let from = self.sent.last().map_or(0, |(_, to)| *to);
                if let Some(to) = self.cuts.iter().find(|cut| from < **cut) {
                    self.sent.push((from, *to));
                }
            }
        }
    }

    fn sync(&mut self) {
        self.synced.clone_from(&self.seen);
        self.synced_rows = self.rows;
    }

    /// The power goes: each page that differs is there or not.
    fn after_power_loss(&self, mut is_there: impl FnMut() -> bool) -> Vec<u8> {
        let mut disk = self.synced.clone();
        disk.resize(self.seen.len().next_multiple_of(PAGE), 0);
        for (n, page) in self.seen.chunks(PAGE).enumerate() {
            let to = &mut disk[n * PAGE..n * PAGE + page.len()];
            if *to != *page && is_there() {
                to.copy_from_slice(page);
            }
        }
        disk
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    #[test]
    fn synced_rows_are_there_once_and_sent_slices_are_the_same(
        actions in actions(), pages in proptest::collection::vec(any::<bool>(), 64),
    ) {
        let mut model = Model::new();
        for action in actions {
            model.act(action);
        }
        let mut pages = pages.into_iter().cycle();
        let disk = model.after_power_loss(|| pages.next().unwrap());

        let mut times = HashMap::new();
        for record in Scan::from_first(&disk, 0, salt()) {
            if record.kind == Kind::Row {
                *times.entry(record.payload.to_vec()).or_insert(0) += 1;
            }
        }
        for number in 0..model.synced_rows {
            prop_assert_eq!(times.remove(&encoded(&bare(number))), Some(1), "row {}", number);
        }
        for number in model.synced_rows..model.rows {
            times.remove(&encoded(&bare(number)));
        }
        prop_assert!(times.is_empty(), "rows that nobody wrote");

        for (from, to) in &model.sent {
            let range = usize::try_from(*from).unwrap()..usize::try_from(*to).unwrap();
            let mut began = Vec::new();
            let mut each = |step: Step<'_>| began.push(format!("{step:?}"));
            let before = Slice::read(&model.seen[range.clone()], *from, salt(), &mut each);
            let after = Slice::read(&disk[range], *from, salt(), each);
            prop_assert_eq!(before.days, after.days, "the same slice, the same batches");
            let cuts: Vec<u64> = Scan::from_first(&disk, 0, salt())
                .filter(|record| record.kind == Kind::Cut)
                .map(|record| record.end)
                .collect();
            prop_assert!(cuts.contains(to) && !cuts.iter().any(|cut| from < cut && cut < to));
        }
    }
}
