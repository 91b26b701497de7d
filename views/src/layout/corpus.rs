//! Do all passages of a group fit the budget together, and what are they then?
//!
//! The tokens of a group are a sum that is maintained: a change of one passage adds or
//! takes away its own. Passages are gathered into a layout while they fit, which is a bound
//! on how many there are. So an epoch of a group that is too large costs what changed.

use differential_dataflow::operators::arrange::{Arranged, TraceAgent};
use differential_dataflow::trace::implementations::ValSpine;
use perennial_bank::{Passage, PassageLayout};

use super::{Group, Rows};
use crate::dataflow::Epoch;

/// The groups that are too large, as something to be joined with.
pub(super) type TooLarge<'scope, G> = Arranged<'scope, TraceAgent<ValSpine<G, (), Epoch, isize>>>;

/// The passages of all groups, by whether they fit.
pub(super) struct Corpus<'scope, G: Group> {
    /// One row for each group that fits and has passages or contexts: the layout of all.
    pub(super) layouts: Rows<'scope, (G, PassageLayout)>,
    /// Groups whose passages exceed the budget.
    pub(super) too_large: TooLarge<'scope, G>,
    /// The passages of those groups.
    pub(super) passages: Rows<'scope, (G, Passage)>,
}

/// Divides the groups into those that fit and those that do not. `asking` names the group
/// of each context, so that one without passages has an empty layout.
pub(super) fn corpus<'scope, G: Group>(
    passages: Rows<'scope, (G, Passage)>,
    asking: Rows<'scope, G>,
    budget_tokens: usize,
    lay_out: impl Fn(&[&Passage]) -> PassageLayout + 'static,
) -> Corpus<'scope, G> {
    // No collection of passages has more tokens than the largest sum.
    let budget = isize::try_from(budget_tokens).unwrap_or(isize::MAX);
    // A member that is no passage, so that no passages are a corpus as well.
    let nothing = asking.distinct().map(|group| (group, None));
    let members = passages
        .map(|(group, passage)| (group, Some(passage)))
        .concat(nothing);
    // Members are counted beside their tokens: a group without tokens is one, too.
    let sizes = members
        .clone()
        .explode(|(group, member)| {
            let n_tokens = member.map_or(0, |passage| passage.tokens.len());
            Some((group, (n_tokens as isize, 1)))
        })
        .count();
    let (small, large) = (sizes.clone(), sizes);
    let fitting = small
        .filter(move |(_, (n_tokens, _))| *n_tokens <= budget)
        .map(|(group, _)| (group, ()))
        .arrange_by_key();
    let too_large = large
        .filter(move |(_, (n_tokens, _))| *n_tokens > budget)
        .map(|(group, _)| (group, ()))
        .arrange_by_key();
    let members = members.arrange_by_key();
    let layouts = members
        .clone()
        .join_core(fitting, |group, member, ()| {
            Some((group.clone(), member.clone()))
        })
        .reduce(move |_group, members, output| {
            let members = members.iter().filter_map(|(member, _)| member.as_ref());
            output.push((lay_out(&members.collect::<Vec<_>>()), 1));
        });
    let passages = members.join_core(too_large.clone(), |group, member, ()| {
        Some((group.clone(), member.clone()?))
    });
    Corpus {
        layouts,
        too_large,
        passages,
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::{BTreeMap, BTreeSet};
    use std::rc::Rc;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use differential_dataflow::input::Input;
    use perennial_bank::{DocumentKey, PassageId};
    use proptest::prelude::*;

    use super::super::ordered;
    use super::*;
    use crate::view::Order;

    const BUDGET: usize = 20;

    fn passage(i: u8) -> Passage {
        Passage {
            document: DocumentKey::new(format!("{i:03}")),
            ordinal: 0,
            updated_at_ms: 0,
            id: PassageId::of("", &i.to_string()),
            title: "".into(),
            text: i.to_string().into(),
            tokens: vec![0; usize::from(i % 9)].into(),
            is_superseded: false,
        }
    }

    /// One row of the corpus: a group's layout, one that is too large, or a passage of it.
    #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
    enum Row {
        Layout(u8, PassageLayout),
        TooLarge(u8),
        Passage(u8, Passage),
    }

    fn from_scratch(passages: &BTreeSet<(u8, u8)>, asking: &BTreeSet<u8>) -> BTreeSet<Row> {
        let mut rows = BTreeSet::new();
        let mut groups: BTreeMap<u8, Vec<Passage>> = BTreeMap::new();
        asking.iter().for_each(|group| {
            groups.entry(*group).or_default();
        });
        for (group, i) in passages {
            groups.entry(*group).or_default().push(passage(*i));
        }
        for (group, passages) in groups {
            if passages.iter().map(|p| p.tokens.len()).sum::<usize>() > BUDGET {
                rows.insert(Row::TooLarge(group));
                rows.extend(passages.into_iter().map(|p| Row::Passage(group, p)));
            } else {
                rows.insert(Row::Layout(group, ordered(Order::Key, &passages)));
            }
        }
        rows
    }

    type Event = (bool, u8, u8);

    /// The rows after each epoch, and how many layouts were made in it.
    fn after_each(epochs: &[Vec<Event>]) -> Vec<(BTreeSet<Row>, usize)> {
        let epochs = epochs.to_vec();
        timely::execute_directly(move |worker| {
            let n_laid_out = Arc::new(AtomicUsize::new(0));
            let counted = n_laid_out.clone();
            let folded: Rc<RefCell<BTreeMap<Row, isize>>> = Rc::default();
            let heard = folded.clone();
            let (mut passages, mut asking, probe) = worker.dataflow(|scope| {
                let (passages, passage_rows) = scope.new_collection();
                let (asking, asking_rows) = scope.new_collection();
                let corpus = corpus(passage_rows, asking_rows, BUDGET, move |passages| {
                    counted.fetch_add(1, Ordering::Relaxed);
                    ordered(Order::Key, passages.iter().copied())
                });
                let (probe, _) = corpus
                    .layouts
                    .map(|(group, layout)| Row::Layout(group, layout))
                    .concat(
                        corpus
                            .too_large
                            .as_collection(|group, ()| Row::TooLarge(*group)),
                    )
                    .concat(corpus.passages.map(|(group, p)| Row::Passage(group, p)))
                    .inspect(move |(row, _, diff)| {
                        *heard.borrow_mut().entry(row.clone()).or_default() += diff;
                    })
                    .probe();
                (passages, asking, probe)
            });
            let (mut standing, mut askers) = (BTreeSet::new(), BTreeSet::new());
            let mut after = Vec::new();
            for (epoch, events) in (0u64..).zip(epochs) {
                for (is_passage, group, i) in events {
                    if is_passage {
                        let is_new = standing.insert((group, i));
                        let diff = if is_new { 1 } else { -1 };
                        if !is_new {
                            standing.remove(&(group, i));
                        }
                        passages.update((group, passage(i)), diff);
                    } else {
                        let is_new = askers.insert(group);
                        if !is_new {
                            askers.remove(&group);
                        }
                        asking.update(group, if is_new { 1 } else { -1 });
                    }
                }
                passages.advance_to(epoch + 1);
                asking.advance_to(epoch + 1);
                passages.flush();
                asking.flush();
                let before = n_laid_out.load(Ordering::Relaxed);
                while probe.less_equal(&epoch) {
                    worker.step();
                }
                folded.borrow_mut().retain(|_, count| *count != 0);
                assert!(folded.borrow().values().all(|count| *count == 1));
                let rows: BTreeSet<Row> = folded.borrow().keys().cloned().collect();
                assert_eq!(rows, from_scratch(&standing, &askers));
                after.push((rows, n_laid_out.load(Ordering::Relaxed) - before));
            }
            after
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn deltas_add_up_to_a_run_from_scratch(
            epochs in prop::collection::vec(
                prop::collection::vec((any::<bool>(), 0u8..3, 0u8..12), 1..6), 1..12),
        ) {
            prop_assert_eq!(after_each(&epochs).len(), epochs.len());
        }
    }

    #[test]
    fn a_corpus_that_is_too_large_is_not_gathered() {
        let all = (0..100).map(|i| (true, 0, i)).chain([(false, 0, 0)]);
        let epochs = [all.collect(), vec![(true, 0, 150)], vec![(true, 0, 17)]];
        let n_laid_out: Vec<usize> = after_each(&epochs).iter().map(|(_, n)| *n).collect();
        assert_eq!(n_laid_out, [0, 0, 0]);
    }
}
