//! What the errors of each provider are about, as data: the first rule that fits decides.
//!
//! A status says little: a wrong key is a 400 at one provider, an empty account a 429 at another. The
//! rules look for words in the places where a provider puts its codes, and in its message. What
//! takes a connection away from everybody (a bad credential, an empty account) is only ever told by a
//! code, or by how the message begins: a message may repeat what a caller has sent.

mod said;
mod table;
#[cfg(test)]
mod tests;

pub use self::said::Said;
use self::table::{COMMON, of_provider};
use super::Provider;
use crate::route::failure::Reason;

/// One line of a table.
#[derive(Debug, Clone, Copy)]
struct Rule {
    /// The statuses that it is about; none means any.
    statuses: &'static [u16],
    sign: Sign,
    reason: Reason,
}

/// By what an error is told. Cases do not matter in messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sign {
    /// The status alone.
    Status,
    /// A code, a type or a status word.
    Word(&'static str),
    /// How the message begins.
    Starts(&'static str),
    /// What the message holds.
    Has(&'static str),
    /// A member of the error's metadata.
    Member(&'static str),
}

impl Provider {
    /// What an error that came with `status` is about, if it says more than the status does.
    pub fn reason(self, status: Option<u16>, said: &Said) -> Option<Reason> {
        let rules = of_provider(self).iter().chain(COMMON);
        let mut fitting = rules.filter(|rule| rule.fits(status, said));
        fitting.next().map(|rule| rule.reason)
    }
}

impl Rule {
    fn fits(&self, status: Option<u16>, said: &Said) -> bool {
        let is_about = self.statuses.is_empty()
            || status.is_some_and(|status| self.statuses.contains(&status));
        is_about
            && match self.sign {
                Sign::Status => true,
                Sign::Word(word) => said.has_word(word),
                Sign::Starts(start) => said.starts(start),
                Sign::Has(part) => said.has(part),
                Sign::Member(name) => said.has_member(name),
            }
    }
}
