//! Which tuples come first, by what a model says of two at a time?
//!
//! # Design
//! Values that are asked about are entrants of a tournament, each once. An entrant's place is a digest
//! of its values, and the tournament a tree over places, 4 bits a level: the best of a node's slots meet
//! in one contest (`contests.rs`), and the best of these go on to the node above. Where one slot has all
//! of a node's entrants, nobody is asked. So who meets whom depends on the values that there are, and on
//! nothing else: history leaves no trace.
//!
//! A value that comes meets others on its way up until it is among the best no more; one that goes lets
//! the next one up. Two values meet in one node only, and a verdict stands while both do.
//!
//! Tuples with a NULL among their values come behind all others, and nobody is asked about them.

mod contests;
mod standings;

use differential_dataflow::VecCollection;
use perennial_operators::call::call;
use perennial_rows::{Tuple, Value};

use crate::dataflow::Epoch;
use crate::query::expression::Expression;
use crate::render::place::{beginning, place};
use crate::render::{Tuples, with};
use contests::Contest;
use standings::Entrant;

pub(super) use contests::ContestCalls;

/// Levels of the tree: values whose places begin alike for longer meet in one contest.
const LEVELS: u32 = 5;
/// What a place is the digest of, and its version: another when a tournament stands otherwise.
const PLACE_OF: &str = "perennial 1 place in a tournament";
/// Contests that are held at a time by each worker.
const MAX_IN_FLIGHT: usize = 256;

type Of<'scope, D> = VecCollection<'scope, Epoch, D, isize>;
/// The first place of a slot, and the best of it.
type Part = (u64, Vec<Entrant>);

/// The tuples with the first `n_places` values, each with the place of its own behind it, from 1; and
/// those with a NULL among these, with NULL.
pub(super) fn rank<'scope>(
    tuples: Tuples<'scope>,
    arguments: Vec<Expression<usize>>,
    n_places: usize,
    calls: impl Fn() -> ContestCalls,
) -> Tuples<'scope> {
    let by_values = tuples.map(move |tuple| {
        let values = arguments.iter().map(|argument| argument.value(&tuple));
        (values.collect::<Tuple>(), tuple)
    });
    let is_unknown = |(values, _): &(Tuple, Tuple)| values.contains(&Value::Null);
    let unknown = by_values.clone().filter(is_unknown);
    let known = by_values.filter(move |row| !is_unknown(row));
    let places = best(
        known.clone().map(|(values, _)| values).distinct(),
        n_places,
        calls,
    );
    let ranked = known.join_map(places, |_, tuple, place| with(tuple, (*place).into()));
    ranked.concat(unknown.map(|(_, tuple)| with(&tuple, Value::Null)))
}

/// The first values, each with its place.
fn best<'scope>(
    values: Tuples<'scope>,
    n_places: usize,
    calls: impl Fn() -> ContestCalls,
) -> Of<'scope, (Tuple, i64)> {
    let mut parts: Of<'scope, Part> = values.map(|values| {
        let place = place(&values, PLACE_OF);
        (place, vec![(place, values)])
    });
    for level in (0..LEVELS).rev() {
        let nodes = parts
            .map(move |(place, best)| (beginning(place, level), (place, best)))
            .reduce_named("Node", |_, parts, output| {
                let parts: Vec<Part> = parts.iter().map(|(part, _)| (*part).clone()).collect();
                output.push((parts, 1));
            });
        let alone = nodes.clone().flat_map(|(node, parts)| match &parts[..] {
            [(_, best)] => Some((node, best.clone())),
            _ => None,
        });
        let contests = nodes.flat_map(move |(node, parts)| {
            let lists: Vec<Vec<Entrant>> = parts.into_iter().map(|(_, best)| best).collect();
            (lists.len() > 1).then_some(Contest {
                node: (level, node),
                lists,
            })
        });
        let decided = call(contests, "Contest", MAX_IN_FLIGHT, calls());
        parts = alone.concat(decided.map(|(contest, best)| (contest.node.1, best)));
    }
    parts.flat_map(move |(_, best)| {
        let placed = best.into_iter().take(n_places).zip(1i64..);
        placed.map(|((_, values), place)| (values, place))
    })
}
