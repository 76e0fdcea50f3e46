//! What clients would show of rows that change, and what they should.

use std::collections::{HashMap, HashSet};

use uuid::Uuid;

use crate::ledger::At;

/// The rows that change.
#[derive(Default)]
pub(crate) struct States {
    ids: HashSet<Uuid>,
}

/// What a client shows of them: the title, or that the row is gone; since when.
pub(crate) type View = HashMap<Uuid, (Option<String>, At)>;

/// What the table has: whose a row is, and its title.
pub(crate) type Table = HashMap<Uuid, (Uuid, String)>;

/// A row of which a client shows something else than the table.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Difference {
    pub(crate) id: Uuid,
    pub(crate) shown: Option<(Option<String>, At)>,
    pub(crate) is: Option<String>,
}

impl States {
    /// A row may be there from now on.
    pub(crate) fn known(&mut self, id: Uuid) {
        self.ids.insert(id);
    }

    /// Whether it is one of these.
    pub(crate) fn include(&self, id: Uuid) -> bool {
        self.ids.contains(&id)
    }

    /// Where `view` of a client of `user` differs. Every row of the table has been changed
    /// since the client began.
    pub(crate) fn differences<'a>(
        &'a self,
        view: &'a View,
        user: Uuid,
        table: &'a Table,
    ) -> impl Iterator<Item = Difference> + 'a {
        self.ids.iter().filter_map(move |id| {
            let is = table.get(id).filter(|(owner, _)| *owner == user).map(|(_, title)| title);
            let shown = view.get(id);
            let is_shown = shown.and_then(|(title, _)| title.as_ref());
            (is_shown != is).then(|| Difference { id: *id, shown: shown.cloned(), is: is.cloned() })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_held_against_the_table() {
        let mut states = States::default();
        let (mine, other) = (Uuid::new_v4(), Uuid::new_v4());
        let ids: Vec<Uuid> = (0..5).map(|_| Uuid::new_v4()).collect();
        ids.iter().for_each(|id| states.known(*id));
        let at = At::ZERO;
        let title = |title: &str| Some(title.to_owned());
        let table = Table::from([
            (ids[0], (mine, "new".to_owned())),
            (ids[1], (mine, "new".to_owned())),
            (ids[2], (other, "new".to_owned())),
        ]);
        let good = View::from([
            (ids[0], (title("new"), at)),
            (ids[1], (title("new"), at)),
            (ids[2], (None, at)),
        ]);
        assert_eq!(states.differences(&good, mine, &table).count(), 0);
        let bad = View::from([
            (ids[0], (title("old"), at)),
            (ids[2], (title("new"), at)),
            (ids[3], (title("gone"), at)),
        ]);
        let mut wrong: Vec<Uuid> = states.differences(&bad, mine, &table).map(|it| it.id).collect();
        let mut expected = [ids[0], ids[1], ids[2], ids[3]];
        wrong.sort();
        expected.sort();
        assert_eq!(wrong, expected);
    }
}
