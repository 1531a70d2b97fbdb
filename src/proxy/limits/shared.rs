//! The limits that are counted over all nodes: one round trip for those of a request, and one for
//! those of an attempt's target.
//!
//! What this node counts by itself has been asked before. When the store refuses, that is given back;
//! when the store cannot be asked, this node decides by its share.

use std::sync::Arc;

use super::{Caller, Counting, owners, rejection, sharing};
use crate::control::limits::{Counted, Limits, Refused, Sharing, Subject, reserve};
use crate::control::snapshot::{Deployment, Target};
use crate::limit::{Amounts, Mode, Now, Wait};
use crate::proxy::record::Recorder;
use crate::rejection::Rejection;
use crate::shared::{Answer, Asked};

/// The shared limits among those of `owners`, in their order.
fn shared_of<'a>(
    owners: impl Iterator<Item = &'a Limits>,
) -> impl Iterator<Item = (&'a Limits, &'a Counted)> {
    let all = owners.flat_map(|limits| limits.counted.iter().map(move |counted| (limits, counted)));
    all.filter(|(_, counted)| counted.limit.mode == Mode::Shared)
}

fn asked<'a>(
    owners: impl Iterator<Item = &'a Limits>,
    ask: &Amounts,
    subject: &Subject<'_>,
) -> Vec<Asked> {
    let one = |(limits, counted): (&Limits, &Counted)| Asked {
        key: counted.shared_key(&limits.owner, subject),
        metric: counted.limit.metric,
        period: counted.limit.period,
        amount: counted.limit.amount,
        ask: ask.of_reserved(counted.limit.metric),
    };
    shared_of(owners).map(one).collect()
}

fn refused<'a>(
    owners: impl Iterator<Item = &'a Limits>,
    which: usize,
    ask: &Amounts,
    (wait, at): (Wait, Now),
) -> Option<Box<Refused>> {
    let (limits, counted) = shared_of(owners).nth(which)?;
    Some(Box::new(Refused {
        level: limits.owner.level,
        owner: Arc::clone(&limits.name),
        limit: counted.limit.clone(),
        asked: ask.of_reserved(counted.limit.metric),
        wait,
        at,
    }))
}

/// Asks the shared store about a request that this node would let in.
pub async fn admit_shared(
    recorder: &mut Recorder,
    ((key, environment), deployment): (Caller<'_>, Option<&Deployment>),
    counting: Counting<'_>,
) -> Result<(), Rejection> {
    let Some(governed) = recorder.governed.as_deref() else { return Ok(()) };
    let Some(shared) = governed.shared.as_ref().map(Arc::clone) else { return Ok(()) };
    let owners = owners(key, environment, deployment);
    let ask = governed.ask;
    let answer = shared.reserve(asked(owners.clone(), &ask, &recorder.subject())).await;
    let now = super::now(counting.clock);
    if let Answer::Granted(hold) = answer {
        if let Some(governed) = recorder.governed.as_deref_mut() {
            governed.asks_shared = false;
            governed.standing = governed.standing.and(hold.standing());
            governed.shared_request = Some(hold);
        }
        return Ok(());
    }
    let Some(mut governed) = recorder.governed.take() else { return Ok(()) };
    std::mem::take(&mut governed.request).cancel(now);
    if let Answer::Refused(which, wait) = answer
        && let Some(refused) = refused(owners.clone(), which, &ask, (wait, now))
    {
        return Err(rejection(&refused, counting.metrics));
    }
    // By this node's share.
    let sharing = Sharing::OneOf { nodes: shared.nodes() };
    governed.request = reserve(owners, &ask, &recorder.subject(), (sharing, now))
        .map_err(|refused| rejection(&refused, counting.metrics))?;
    governed.asks_shared = false;
    governed.standing = governed.request.standing(now);
    recorder.governed = Some(governed);
    Ok(())
}

impl Recorder {
    /// Whether the shared store must be asked about the request.
    pub fn asks_shared(&self) -> bool {
        self.governed.as_ref().is_some_and(|governed| governed.asks_shared)
    }

    /// Whether the shared store must be asked about an attempt on `target`.
    pub fn asks_shared_at(&self, target: &Target) -> bool {
        self.governed.as_ref().is_some_and(|governed| {
            governed.shared.is_some()
                && target.limits().any(|limits| limits.is_shared)
                && sharing(governed.shared.as_ref()) == Sharing::Elsewhere
        })
    }

    /// Asks the shared store about an attempt that this node would make.
    pub async fn begin_shared_attempt(&mut self, target: &Target) -> Result<(), Box<Refused>> {
        let Some(governed) = self.governed.as_deref() else { return Ok(()) };
        let Some(shared) = governed.shared.as_ref().map(Arc::clone) else { return Ok(()) };
        let ask = governed.demand.at(target);
        let answer = shared.reserve(asked(target.limits(), &ask, &self.subject())).await;
        let Some(governed) = self.governed.as_deref_mut() else { return Ok(()) };
        let now = super::now(&governed.clock);
        if let Answer::Granted(hold) = answer {
            governed.standing = governed.standing.and(hold.standing());
            governed.shared_attempt = Some(hold);
            return Ok(());
        }
        std::mem::take(&mut governed.attempt).cancel(now);
        if let Answer::Refused(which, wait) = answer
            && let Some(refused) = refused(target.limits(), which, &ask, (wait, now))
        {
            return Err(refused);
        }
        self.begin_attempt_as(target, Sharing::OneOf { nodes: shared.nodes() })
    }
}
