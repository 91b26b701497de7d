//! Which text stands in the documents of a benchmark of speed?

/// A plausible paragraph of about 64 tokens, a function of its number.
pub fn passage(i: usize) -> String {
    const TOWNS: [&str; 7] = [
        "Arden", "Brook", "Calder", "Dunmore", "Elham", "Farley", "Garth",
    ];
    const GOODS: [&str; 5] = [
        "copper kettles",
        "blue glass",
        "oak barrels",
        "wool",
        "river salt",
    ];
    let (town, goods) = (TOWNS[i % 7], GOODS[i % 5]);
    format!(
        "{town} Hill number {i} lies {} miles north of the old canal and has been known since {} \
         for its {goods}. The market opens at {} in the morning, and visitors who come by the \
         early train may walk to the mill in {} minutes.",
        3 + i % 40,
        1500 + i % 400,
        5 + i % 5,
        10 + i % 30,
    )
}
