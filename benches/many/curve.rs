//! Which answers does a change concern, and would they be read?
//!
//! Documents, and questions about them. After each edit *every* answer is read over the new layout,
//! which says its regret; beside that stands what is expected of it unread. To fit what is expected,
//! the gold answers are enough, and nothing is read again.

use std::io::Write as _;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use perennial::ask::{Before, LayoutDelta, Pull, Pulled, Tolerance};
use perennial::bank::PassageLayout;

use crate::Options;
use crate::corpus::{self, Case, Edit, Kind, Passage};
use crate::rig::opened::embedder;
use crate::rig::question::TitledText;
use crate::rig::random::Random;
use crate::rig::{Error, Rig};

/// Answers written or read at a time.
const AT_A_TIME: usize = 8;

/// One answer after one edit.
pub struct Point {
    /// By which edits are grouped where something is fitted.
    pub group: String,
    /// Of the edit.
    pub kind: Kind,
    /// What is known without reading.
    pub pulled: Pulled,
    /// Least margin of the old answer, in logits.
    pub margin: f32,
    /// Tokens of the old answer.
    pub n_tokens: usize,
    /// What reading it says.
    pub read: Option<Reading>,
    /// Whether the gold answer is another.
    pub is_concerned: bool,
}

/// What became of an answer that was read.
#[derive(Clone, Copy)]
pub struct Reading {
    /// Of the old answer over the new layout, in nats a token.
    pub regret: f32,
    /// Whether the answer from scratch is another.
    pub is_changed: bool,
}

/// A question with its answer before the edit.
struct Standing<'a> {
    /// The ids of the documents that it is about.
    of: &'a [String],
    asked: &'a corpus::Asked,
    before: Before,
}

/// Judges all answers after each edit; reads them, too, unless something is to be fitted.
pub fn measure(
    rig: &Rig,
    (cases, passages): &(Vec<Case>, Vec<Passage>),
    options: &Options,
) -> Result<Vec<Point>, Error> {
    let pull = Pull::new(embedder(options.threads)?);
    let mut random = Random(options.seed);
    let mut points = Vec::new();
    for (n, case) in cases.iter().enumerate() {
        let layout = layout(rig, &case.documents)?;
        let standing = in_parallel(&case.asked, |(of, asked)| {
            let nothing = Before::default();
            let outcome = rig.answer(&asked.question, &layout, &nothing, Tolerance::EXACT);
            let outcome = outcome.map_err(|error| error.to_string())?;
            let question = asked.question.as_str().into();
            Ok(Standing {
                of,
                asked,
                before: Before::of(question, layout.clone(), &outcome),
            })
        })?;
        for kind in Kind::ALL.iter().cycle().take(options.edits) {
            eprint!(
                "\r{}: case {} of {}, {}      ",
                rig.name,
                n + 1,
                cases.len(),
                kind.name()
            );
            let Some(edit) = Edit::draw(*kind, &case.documents, passages, &mut random) else {
                continue;
            };
            let after = self::layout(rig, &edit.apply(&case.documents))?;
            let of_edit = in_parallel(&standing, |standing| {
                let rig = (rig, !options.fit);
                let point = point(rig, &pull, standing, (case, &edit), &after);
                point.map_err(|error| error.to_string())
            })?;
            points.extend(of_edit.into_iter().flatten());
        }
    }
    eprintln!();
    Ok(points)
}

fn layout(rig: &Rig, documents: &[Passage]) -> Result<PassageLayout, Error> {
    let texts: Vec<TitledText> = documents
        .iter()
        .map(|document| TitledText {
            title: document.title.clone(),
            text: document.text.clone(),
        })
        .collect();
    rig.layout_of(&texts, documents.iter().map(|document| &*document.id))
}

fn point(
    (rig, reads): (&Rig, bool),
    pull: &Pull,
    standing: &Standing<'_>,
    (case, edit): (&Case, &Edit),
    after: &PassageLayout,
) -> Result<Option<Point>, Error> {
    let before = &standing.before;
    let Some(written) = before.written.as_deref() else {
        return Ok(None);
    };
    let delta = LayoutDelta::between(written.layout.passages(), after.passages());
    let Some(pulled) = pull.of(written, after.passages(), &delta)? else {
        return Ok(None);
    };
    let read = || {
        // The old answer as the draft, without words exchanged in it.
        let draft = Before::draft(before.tokens.clone());
        let outcome = rig.answer(&standing.asked.question, after, &draft, Tolerance::EXACT)?;
        Ok::<_, Error>(outcome.draft.map(|check| Reading {
            regret: check.regret,
            is_changed: outcome.tokens != before.tokens,
        }))
    };
    Ok(Some(Point {
        group: case.group.clone(),
        kind: edit.kind,
        pulled,
        margin: written.min_margin,
        n_tokens: before.tokens.len(),
        read: if reads { read()? } else { None },
        is_concerned: edit.concerns(&case.documents, standing.of, standing.asked),
    }))
}

/// What `of` makes of each item, by some threads: their passes are joined.
fn in_parallel<'a, T: Sync, U: Send>(
    items: &'a [T],
    of: impl Fn(&'a T) -> Result<U, String> + Sync,
) -> Result<Vec<U>, Error> {
    let next = AtomicUsize::new(0);
    let results: Mutex<Vec<(usize, Result<U, String>)>> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                loop {
                    let i = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = items.get(i) else { return };
                    let result = of(item);
                    results.lock().expect("no panic holds it").push((i, result));
                }
            });
        }
    });
    let mut results = results.into_inner().expect("no panic holds it");
    results.sort_by_key(|(i, _)| *i);
    Ok(results
        .into_iter()
        .map(|(_, result)| result)
        .collect::<Result<_, _>>()?)
}

/// Writes all points as comma-separated values.
pub fn dump(points: &[Point], path: &Path) -> Result<(), Error> {
    let mut file = std::io::BufWriter::new(std::fs::File::create(path)?);
    writeln!(
        file,
        "group,kind,closeness,lead,passage_lead,lost,mass,margin,tokens,expected,regret,changed,concerned"
    )?;
    for p in points {
        let (regret, is_changed) = match p.read {
            Some(read) => (
                read.regret.to_string(),
                u8::from(read.is_changed).to_string(),
            ),
            None => (String::new(), String::new()),
        };
        writeln!(
            file,
            "{},{},{},{},{},{},{},{},{},{},{regret},{is_changed},{}",
            p.group,
            p.kind.name(),
            p.pulled.closeness,
            p.pulled.lead,
            p.pulled.passage_lead,
            p.pulled.lost,
            p.pulled.mass,
            p.margin,
            p.n_tokens,
            p.pulled.expected_regret(),
            u8::from(p.is_concerned)
        )?;
    }
    Ok(())
}

/// How well what is expected tells the answers apart that have to change, by kind of edit, and the
/// share of the others that would be read: for those whose gold answer changes, and, where answers were
/// read, for those whose regret is past the bound.
pub fn print(model: &str, points: &[Point], bound: f32) {
    let expected: Vec<f32> = points.iter().map(|p| p.pulled.expected_regret()).collect();
    print_by(model, points, (&expected, bound), "gold changed", |p| {
        p.is_concerned
    });
    let read: Vec<(&Point, Reading)> = points.iter().filter_map(|p| Some((p, p.read?))).collect();
    if read.is_empty() {
        return;
    }
    print_by(
        model,
        points,
        (&expected, bound),
        "regret past the bound",
        |p| p.read.is_some_and(|read| read.regret > bound),
    );
    let mean = |is_concerned: bool| {
        let of = read.iter().filter(|(p, _)| p.is_concerned == is_concerned);
        let regrets: Vec<f32> = of.map(|(_, read)| read.regret).collect();
        regrets.iter().sum::<f32>() / regrets.len().max(1) as f32
    };
    println!(
        "{model}: mean regret {:.3} where the gold answer changed, {:.3} elsewhere; {} of {} answers are \
         others from scratch.\n",
        mean(true),
        mean(false),
        read.iter().filter(|(_, read)| read.is_changed).count(),
        read.len()
    );
}

/// By scores of the points, of which those at the bound and above are read.
pub fn print_by(
    model: &str,
    points: &[Point],
    (scores, bound): (&[f32], f32),
    what: &str,
    is_positive: impl Fn(&Point) -> bool,
) {
    println!(
        "| model | edit | answers | {what} | AUC | others read at recall .95 | .99 | 1.0 | others read at \
         the bound | missed there |"
    );
    println!("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
    for kind in Kind::ALL.map(Some).into_iter().chain([None]) {
        let of_kind = points
            .iter()
            .zip(scores)
            .filter(|(p, _)| kind.is_none_or(|kind| p.kind == kind));
        let name = kind.map_or("**all**", Kind::name);
        let (positive, others): (Vec<_>, Vec<_>) = of_kind.partition(|(p, _)| is_positive(p));
        if positive.len() + others.len() == 0 {
            continue;
        }
        let scores = |points: Vec<(&Point, &f32)>| {
            let mut scores: Vec<f32> = points.into_iter().map(|(_, score)| *score).collect();
            scores.sort_by(|a, b| b.total_cmp(a));
            scores
        };
        let (positive, others) = (scores(positive), scores(others));
        let read = |cut: f32| others.iter().filter(|score| **score >= cut).count();
        let share = |n: usize| format!("{:.3}", n as f64 / others.len().max(1) as f64);
        let read_at = |recall: f64| {
            let n = (positive.len() as f64 * recall).ceil() as usize;
            let cut = positive.get(n.saturating_sub(1));
            cut.map_or_else(|| "-".to_owned(), |cut| share(read(*cut)))
        };
        println!(
            "| {model} | {name} | {} | {} | {} | {} | {} | {} | {} | {} |",
            positive.len() + others.len(),
            positive.len(),
            auc(&positive, &others).map_or_else(|| "-".to_owned(), |auc| format!("{auc:.4}")),
            read_at(0.95),
            read_at(0.99),
            read_at(1.0),
            share(read(bound)),
            positive.iter().filter(|score| **score < bound).count(),
        );
    }
    println!();
}

/// The chance that one that has to change has a higher score than one that has not. Both fall.
fn auc(positive: &[f32], others: &[f32]) -> Option<f64> {
    let n_pairs = positive.len() * others.len();
    let wins = |score: &f32| {
        let n_above = others.partition_point(|other| other > score);
        let n_equal = others[n_above..].partition_point(|other| other >= score);
        (others.len() - n_above) as f64 - n_equal as f64 / 2.0
    };
    (n_pairs > 0).then(|| positive.iter().map(wins).sum::<f64>() / n_pairs as f64)
}
