//! Faults that are laid over whatever behaviour a request has, and what is counted for them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde_json::{Map, Value};

use super::behaviour::{Behaviour, BehaviourError, ErrorMix, Mishap};

/// Models whose rate is known; beyond it all are forgotten.
const RATED_MODELS_MAX: usize = 100_000;

#[derive(Debug, Default)]
pub(super) struct Faults {
    is_on: AtomicBool,
    set: Mutex<Option<Arc<Overlay>>>,
    /// Requests since the faults were set.
    requests_n: AtomicU64,
    /// Requests that each mishap of an error mix has been asked about.
    mixed_n: Mutex<HashMap<(usize, u64), u64>>,
    rates: Mutex<HashMap<String, Rate>>,
}

#[derive(Debug)]
struct Overlay {
    members: Map<String, Value>,
    every: u64,
}

impl Overlay {
    /// A mistake is told here, not to some request.
    fn of(mut members: Map<String, Value>) -> Result<Self, BehaviourError> {
        let every = match members.remove("every") {
            None => 1,
            Some(every) => every
                .as_u64()
                .filter(|every| *every > 0)
                .ok_or_else(|| BehaviourError::new("`every` is a whole number above 0"))?,
        };
        Behaviour::of_members(members.clone())?;
        Ok(Self { members, every })
    }
}

/// Whether a mock would take these faults.
pub fn check_faults(members: &Map<String, Value>) -> Result<(), BehaviourError> {
    Overlay::of(members.clone()).map(|_| ())
}

/// A bucket that fills at the rate of its model, with one second's worth of room.
#[derive(Debug)]
struct Rate {
    left: f64,
    at: Instant,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Faults {
    pub(super) fn set(&self, members: Option<Map<String, Value>>) -> Result<(), BehaviourError> {
        let overlay = members.map(Overlay::of).transpose()?.map(Arc::new);
        self.is_on.store(overlay.is_some(), Relaxed);
        *lock(&self.set) = overlay;
        self.requests_n.store(0, Relaxed);
        Ok(())
    }

    /// The behaviour of a request for `model`, if the faults are for it.
    pub(super) fn over(
        &self,
        model: &str,
        otherwise: &dyn Fn() -> Arc<Behaviour>,
    ) -> Option<Arc<Behaviour>> {
        if !self.is_on.load(Relaxed) {
            return None;
        }
        let overlay = lock(&self.set).clone()?;
        let number = self.requests_n.fetch_add(1, Relaxed) + 1;
        if !number.is_multiple_of(overlay.every) {
            return None;
        }
        let mut members = match model.split_once('?') {
            Some((_, text)) => Behaviour::members(text).ok()?,
            None if overlay.members.is_empty() => return Some(otherwise()),
            None => Map::new(),
        };
        for (key, value) in &overlay.members {
            members.insert(key.clone(), value.clone());
        }
        Behaviour::of_members(members).ok().map(Arc::new)
    }

    /// What goes wrong with this request: of any n in a row, n × share (rounded) for each mishap.
    #[expect(clippy::cast_precision_loss, reason = "counts of requests fit")]
    pub(super) fn mishap(&self, mix: &ErrorMix) -> Option<Mishap> {
        let mut counts = lock(&self.mixed_n);
        let mut found = None;
        for (index, (mishap, share)) in mix.0.iter().enumerate() {
            // Mixes are told apart by what they say.
            let count = counts.entry((index, share.to_bits())).or_default();
            let before = *count as f64;
            *count += 1;
            if ((before + 1.0) * share).floor() > (before * share).floor() && found.is_none() {
                found = Some(*mishap);
            }
        }
        found
    }

    /// Whether `model` may take one request more; else the seconds until it may.
    pub(super) fn take(&self, model: &str, per_second: f64, now: Instant) -> Result<(), u64> {
        let mut rates = lock(&self.rates);
        if rates.len() >= RATED_MODELS_MAX {
            rates.clear();
        }
        let room = per_second.max(1.0);
        let rate = rates.entry(model.to_owned()).or_insert(Rate { left: room, at: now });
        let elapsed = now.saturating_duration_since(rate.at).as_secs_f64();
        rate.left = (rate.left + elapsed * per_second).min(room);
        rate.at = now;
        if rate.left >= 1.0 {
            rate.left -= 1.0;
            return Ok(());
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped")]
        Err(((1.0 - rate.left) / per_second.max(1e-9)).ceil().clamp(1.0, 3600.0) as u64)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn over(faults: &Faults, model: &str) -> Option<Arc<Behaviour>> {
        faults.over(model, &|| Arc::new(Behaviour::default()))
    }

    #[test]
    fn faults_are_laid_over_what_the_model_says() {
        let faults = Faults::default();
        assert!(over(&faults, "sim?events=3").is_none());
        faults.set(Some(Behaviour::members("status=503&every=2").unwrap())).unwrap();
        assert!(over(&faults, "sim?events=3").is_none());
        let behaviour = over(&faults, "sim?events=3").unwrap();
        assert_eq!((behaviour.status, behaviour.events), (Some(503), Some(3)));
        assert!(faults.set(Some(Behaviour::members("statuss=1").unwrap())).is_err());
        faults.set(None).unwrap();
        assert!(over(&faults, "sim").is_none());
    }

    #[test]
    fn each_mishap_has_its_share() {
        let faults = Faults::default();
        let mix: ErrorMix = "429:0.1,reset:0.05".parse().unwrap();
        let drawn: Vec<_> = (0..1_000).filter_map(|_| faults.mishap(&mix)).collect();
        let n = |wanted| drawn.iter().filter(|mishap| **mishap == wanted).count();
        assert_eq!(n(Mishap::Status(429)), 100);
        // Where both fall on one request, the first counts.
        assert!((1..=50).contains(&(50 - n(Mishap::Reset)).max(1)));
        assert!("200:0.1".parse::<ErrorMix>().is_err() && "429:2".parse::<ErrorMix>().is_err());
    }

    #[test]
    fn rate_is_kept_and_says_when_to_come_again() {
        let faults = Faults::default();
        let start = Instant::now();
        let taken = |at_ms| faults.take("m", 2.0, start + Duration::from_millis(at_ms));
        assert_eq!([taken(0), taken(0), taken(0)], [Ok(()), Ok(()), Err(1)]);
        assert_eq!(taken(600), Ok(()));
        assert_eq!(faults.take("other", 2.0, start), Ok(()));
    }
}
