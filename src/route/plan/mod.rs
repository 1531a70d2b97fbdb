//! Which targets a request tries, and in which order.

mod draw;

use self::draw::Draw;
use super::swrr::Swrr;
use crate::clock::Millis;

/// The most attempts that one request can make.
pub const ATTEMPTS_MAX: usize = 16;
/// Targets of a deployment beyond this number are never chosen; configuration allows no more.
pub const TARGETS_MAX: usize = 128;

/// A target as one request sees it.
#[derive(Debug, Clone, Copy, Default)]
pub struct TargetView {
    /// A number that stays the target's own whatever happens to the others, such as a part of its id.
    pub identity: u64,
    /// 0 drains: the target is never chosen.
    pub weight: u32,
    pub tier: u16,
    /// When it may be tried again, if it may not be now.
    pub unavailable_until: Option<Millis>,
    /// Attempts in flight.
    pub in_flight: u32,
    /// How long its answers take; zero when nothing is known.
    pub latency_us: u64,
    /// Any number that is larger for a dearer target; `u64::MAX` when unknown.
    pub price: u64,
}

/// How the first target is chosen among those of the best tier.
#[derive(Debug)]
pub enum Choice<'a> {
    WeightedRoundRobin(&'a mut Swrr),
    /// The faster of two that `seed` draws by weight; in-flight attempts count as slowness.
    LeastLatency {
        seed: u64,
    },
    /// The fewest attempts in flight for its weight; `seed` decides among equals, by weight.
    LeastBusy {
        seed: u64,
    },
    /// The lowest price; `seed` decides among equals, by weight.
    Cheapest {
        seed: u64,
    },
    /// Always the same one for the same `key`; a target that goes away moves only its own keys.
    Hash {
        key: u64,
    },
}

/// The targets to try, best first, as indexes into the deployment's; never empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    targets: [u8; ATTEMPTS_MAX],
    len: u8,
}

impl Plan {
    /// A plan of one target, as a caller can ask for.
    pub fn pinned(target: u8) -> Self {
        let mut targets = [0; ATTEMPTS_MAX];
        if let Some(first) = targets.first_mut() {
            *first = target;
        }
        Self { targets, len: 1 }
    }

    pub fn iter(&self) -> impl Iterator<Item = usize> {
        self.targets.iter().take(self.len()).map(|&target| usize::from(target))
    }

    pub fn get(&self, position: usize) -> Option<usize> {
        self.iter().nth(position)
    }

    #[expect(clippy::len_without_is_empty, reason = "it is never empty")]
    pub fn len(&self) -> usize {
        usize::from(self.len)
    }
}

/// No target can be tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoTarget {
    /// When the first of them may be tried again; `None` when waiting does not help.
    pub soonest: Option<Millis>,
}

/// Orders the targets of a deployment for one request.
///
/// Of the `n_targets` targets those are left out for which `view` gives nothing (they do not serve
/// this kind of request), that have weight 0, or that are unavailable. The lowest tier that is left is
/// tried first, its first target chosen by `choice`; the others of the tier follow in the order of
/// their merit, then the next tiers. The plan holds at most `attempts_max` targets, each once.
pub fn plan(
    n_targets: usize,
    attempts_max: u8,
    choice: Choice<'_>,
    view: impl Fn(usize) -> Option<TargetView>,
) -> Result<Plan, NoTarget> {
    let mut field = Field::default();
    for index in 0..n_targets.min(TARGETS_MAX) {
        if let (Ok(target), Some(view)) = (u8::try_from(index), view(index)) {
            field.enter(target, &view, &choice);
        }
    }
    let first = match choice {
        Choice::WeightedRoundRobin(swrr) => {
            let eligible = field.best_tier_mask;
            swrr.next(|index| index < TARGETS_MAX && eligible & (1 << index) != 0)
                .and_then(|index| u8::try_from(index).ok())
        }
        Choice::LeastLatency { .. } => field.drawn.faster(),
        Choice::LeastBusy { .. } | Choice::Cheapest { .. } | Choice::Hash { .. } => None,
    };
    field.finish(first, attempts_max)
}

/// Where a target stands among the others: the smallest goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
struct Rank {
    tier: u16,
    cost: u64,
    draw: Draw,
    target: u8,
}

/// What has been seen of the targets so far.
#[derive(Debug, Default)]
struct Field {
    /// The best so far, sorted.
    ranks: [Rank; ATTEMPTS_MAX],
    len: usize,
    best_tier: Option<u16>,
    /// One bit for each available target of the best tier.
    best_tier_mask: u128,
    drawn: Drawn,
    soonest: Option<Millis>,
}

impl Field {
    fn enter(&mut self, target: u8, view: &TargetView, choice: &Choice<'_>) {
        if view.weight == 0 {
            return;
        }
        if let Some(until) = view.unavailable_until {
            self.soonest = Some(self.soonest.map_or(until, |soonest| soonest.min(until)));
            return;
        }
        if self.best_tier.is_none_or(|best| view.tier < best) {
            self.best_tier = Some(view.tier);
            self.best_tier_mask = 0;
            self.drawn = Drawn::default();
        }
        let rank = rank(target, view, choice);
        if self.best_tier == Some(view.tier) {
            self.best_tier_mask |= 1 << target;
            if let Choice::LeastLatency { seed } = *choice {
                let draw = Draw::new(seed, view.identity, view.weight);
                self.drawn.enter(DrawnTarget::new(target, draw, view));
            }
        }
        self.insert(rank);
    }

    /// Keeps `ranks` sorted; the worst one falls out when it is full.
    fn insert(&mut self, rank: Rank) {
        let mut carried = rank;
        let mut is_placed = false;
        for slot in self.ranks.iter_mut().take(self.len) {
            if is_placed || carried < *slot {
                std::mem::swap(slot, &mut carried);
                is_placed = true;
            }
        }
        if let Some(slot) = self.ranks.get_mut(self.len) {
            *slot = carried;
            self.len += 1;
        }
    }

    /// The order by rank, with `first` put before all others.
    fn finish(&self, first: Option<u8>, attempts_max: u8) -> Result<Plan, NoTarget> {
        let ranked = self.ranks.iter().take(self.len).map(|rank| rank.target);
        let rest = ranked.filter(|&target| Some(target) != first);
        let mut plan = Plan { targets: [0; ATTEMPTS_MAX], len: 0 };
        let most = usize::from(attempts_max.max(1));
        for (slot, target) in plan.targets.iter_mut().take(most).zip(first.into_iter().chain(rest))
        {
            *slot = target;
            plan.len += 1;
        }
        if plan.len == 0 { Err(NoTarget { soonest: self.soonest }) } else { Ok(plan) }
    }
}

fn rank(target: u8, view: &TargetView, choice: &Choice<'_>) -> Rank {
    let draw = |seed: u64| Draw::new(seed, view.identity, view.weight);
    let (cost, draw) = match choice {
        // The strongest claim first; flipping the sign bit orders signed numbers as unsigned ones.
        Choice::WeightedRoundRobin(swrr) => {
            let claim = swrr.claim(usize::from(target)).cast_unsigned() ^ (1 << 63);
            (!claim, Draw::default())
        }
        Choice::LeastLatency { .. } => (load(view), Draw::default()),
        Choice::LeastBusy { seed } => {
            ((u64::from(view.in_flight) << 31) / u64::from(view.weight.max(1)), draw(*seed))
        }
        Choice::Cheapest { seed } => (view.price, draw(*seed)),
        Choice::Hash { key } => (0, draw(*key)),
    };
    Rank { tier: view.tier, cost, draw, target }
}

/// How long an attempt more would take: latency, once for each one in flight.
fn load(view: &TargetView) -> u64 {
    view.latency_us.saturating_mul(u64::from(view.in_flight) + 1)
}

/// The two targets of the best tier with the smallest draws: a weighted sample of two.
#[derive(Debug, Default)]
struct Drawn {
    first: Option<DrawnTarget>,
    second: Option<DrawnTarget>,
}

#[derive(Debug, Clone, Copy)]
struct DrawnTarget {
    target: u8,
    draw: Draw,
    in_flight: u32,
    latency_us: u64,
    load: u64,
}

impl DrawnTarget {
    fn new(target: u8, draw: Draw, view: &TargetView) -> Self {
        let &TargetView { in_flight, latency_us, .. } = view;
        Self { target, draw, in_flight, latency_us, load: load(view) }
    }

    /// Of one that has not been measured, only what it is busy with is known.
    fn is_faster_than(&self, other: &Self) -> bool {
        if self.latency_us == 0 || other.latency_us == 0 {
            self.in_flight < other.in_flight
        } else {
            self.load < other.load
        }
    }
}

impl Drawn {
    fn enter(&mut self, entering: DrawnTarget) {
        let comes_before =
            |drawn: &Option<DrawnTarget>| drawn.is_none_or(|drawn| entering.draw < drawn.draw);
        if comes_before(&self.first) {
            self.second = self.first.replace(entering);
        } else if comes_before(&self.second) {
            self.second = Some(entering);
        }
    }

    fn faster(&self) -> Option<u8> {
        match (self.first, self.second) {
            (Some(first), Some(second)) if second.is_faster_than(&first) => Some(second.target),
            (Some(first), _) => Some(first.target),
            (None, _) => None,
        }
    }
}

#[cfg(test)]
mod tests;
