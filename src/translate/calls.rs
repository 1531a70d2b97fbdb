//! Ids for calls of dialects that have none.

/// Some dialects' calls need no ids, and everywhere else they must have some: the same each time that
/// a conversation is sent.
#[derive(Default)]
pub(super) struct Calls {
    n_calls: usize,
    unanswered: Vec<(String, String)>,
}

impl Calls {
    pub(super) fn id_of(&mut self, id: Option<String>, name: &str) -> String {
        let id = id.unwrap_or_else(|| format!("call_{}", self.n_calls));
        self.n_calls += 1;
        self.unanswered.push((name.to_owned(), id.clone()));
        id
    }

    /// The id of the first call that waits for this result.
    pub(super) fn answered(&mut self, id: Option<String>, name: Option<&str>) -> String {
        let is_it = |(called, call): &(String, String)| match (&id, name) {
            (Some(id), _) => call == id,
            (None, Some(name)) => called == name,
            (None, None) => true,
        };
        match self.unanswered.iter().position(is_it) {
            Some(at) => self.unanswered.remove(at).1,
            None => id.unwrap_or_else(|| name.unwrap_or_default().to_owned()),
        }
    }
}
