//! Which answers does a change concern, and would they be read?
//!
//! Passages of one article, and questions about them. After each edit *every* answer is read over the
//! new layout, which says its regret; beside that stands what is expected of it unread.

use std::io::Write as _;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use perennial::ask::{Before, LayoutDelta, Pull, Pulled, Tolerance};
use perennial::bank::PassageLayout;

use crate::Options;
use crate::corpus::{self, Edit, Kind, Passage};
use crate::rig::opened::embedder;
use crate::rig::question::TitledText;
use crate::rig::random::Random;
use crate::rig::{Error, Rig};

/// Answers written or read at a time.
const AT_A_TIME: usize = 8;

/// One answer after one edit.
pub struct Point {
    /// By which edits are grouped where something is fitted.
    pub article: String,
    /// Of the edit.
    pub kind: Kind,
    /// What is known without reading.
    pub pulled: Pulled,
    /// Least margin of the old answer, in logits.
    pub margin: f32,
    /// Tokens of the old answer.
    pub n_tokens: usize,
    /// Of the old answer over the new layout, in nats a token.
    pub regret: f32,
    /// Whether the answer from scratch is another.
    pub is_changed: bool,
    /// Whether the gold answer is another.
    pub is_concerned: bool,
}

/// A question with its answer before the edit.
struct Standing<'a> {
    /// The id of the document that it is about.
    of: &'a str,
    asked: &'a corpus::Asked,
    before: Before,
}

/// Reads all answers after each edit.
pub fn measure(rig: &Rig, passages: &[Passage], options: &Options) -> Result<Vec<Point>, Error> {
    let pull = Pull::new(embedder(options.threads)?);
    let mut random = Random(options.seed);
    let mut articles: Vec<&str> = passages.iter().map(Passage::article).collect();
    articles.dedup();
    let mut points = Vec::new();
    let n_articles = options.articles.min(articles.len());
    for (n, article) in articles
        .iter()
        .step_by(articles.len() / n_articles)
        .take(n_articles)
        .enumerate()
    {
        let documents: Vec<Passage> = passages
            .iter()
            .filter(|p| p.article() == *article)
            .take(options.documents)
            .cloned()
            .collect();
        let layout = layout(rig, &documents)?;
        let asked = corpus::questions(&documents, options.questions);
        let standing = in_parallel(&asked, |(of, asked)| {
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
                "\r{}: article {} of {n_articles}, {}      ",
                rig.name,
                n + 1,
                kind.name()
            );
            let Some(edit) = Edit::draw(*kind, &documents, passages, &mut random) else {
                continue;
            };
            let after = self::layout(rig, &edit.apply(&documents))?;
            let of_edit = in_parallel(&standing, |standing| {
                let point = point(rig, &pull, standing, (&documents, &edit), &after);
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
    rig: &Rig,
    pull: &Pull,
    standing: &Standing<'_>,
    (documents, edit): (&[Passage], &Edit),
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
    // The old answer as the draft, without words exchanged in it.
    let draft = Before::draft(before.tokens.clone());
    let outcome = rig.answer(&standing.asked.question, after, &draft, Tolerance::EXACT)?;
    Ok(outcome.draft.map(|check| Point {
        article: documents[0].article().to_owned(),
        kind: edit.kind,
        pulled,
        margin: written.min_margin,
        n_tokens: before.tokens.len(),
        regret: check.regret,
        is_changed: outcome.tokens != before.tokens,
        is_concerned: edit.concerns(documents, standing.of, standing.asked),
    }))
}

/// What `of` makes of each item, by some threads: their passes are joined.
fn in_parallel<T: Sync, U: Send>(
    items: &[T],
    of: impl Fn(&T) -> Result<U, String> + Sync,
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
        "article,kind,nearness,similarity,mass,margin,tokens,expected,regret,changed,concerned"
    )?;
    for p in points {
        writeln!(
            file,
            "{},{},{},{},{},{},{},{},{},{},{}",
            p.article,
            p.kind.name(),
            p.pulled.nearness,
            p.pulled.similarity,
            p.pulled.mass,
            p.margin,
            p.n_tokens,
            p.pulled.expected_regret(),
            p.regret,
            u8::from(p.is_changed),
            u8::from(p.is_concerned)
        )?;
    }
    Ok(())
}

/// How well what is expected tells the answers apart that have to change, by kind of edit, and the
/// share of the others that would be read: twice, for those whose gold answer changes, and for those
/// whose regret is past the bound.
pub fn print(model: &str, points: &[Point], bound: f32) {
    print_by(model, points, bound, "gold changed", |p| p.is_concerned);
    print_by(model, points, bound, "regret past the bound", |p| {
        p.regret > bound
    });
    let mean = |points: Vec<&Point>| {
        points.iter().map(|p| p.regret).sum::<f32>() / points.len().max(1) as f32
    };
    let (concerned, others): (Vec<&Point>, Vec<&Point>) =
        points.iter().partition(|p| p.is_concerned);
    println!(
        "{model}: mean regret {:.3} where the gold answer changed, {:.3} elsewhere; {} of {} answers are \
         others from scratch.\n",
        mean(concerned),
        mean(others),
        points.iter().filter(|p| p.is_changed).count(),
        points.len()
    );
}

fn print_by(
    model: &str,
    points: &[Point],
    bound: f32,
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
            .filter(|p| kind.is_none_or(|kind| p.kind == kind));
        let name = kind.map_or("**all**", Kind::name);
        let (mut positive, others): (Vec<&Point>, Vec<&Point>) =
            of_kind.partition(|p| is_positive(p));
        positive.sort_by(|a, b| score(b).total_cmp(&score(a)));
        let read = |cut: f32| others.iter().filter(|p| score(p) >= cut).count();
        let share = |n: usize| format!("{:.3}", n as f64 / others.len().max(1) as f64);
        let read_at = |recall: f64| {
            let n = (positive.len() as f64 * recall).ceil() as usize;
            let cut = positive.get(n.saturating_sub(1)).map(|p| score(p));
            cut.map_or_else(|| "-".to_owned(), |cut| share(read(cut)))
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
            positive.iter().filter(|p| score(p) < bound).count(),
        );
    }
    println!();
}

fn score(point: &Point) -> f32 {
    point.pulled.expected_regret()
}

/// The chance that one that has to change has a higher score than one that has not.
fn auc(positive: &[&Point], others: &[&Point]) -> Option<f64> {
    let mut wins = 0.0;
    for a in positive {
        for b in others {
            wins += match score(a).total_cmp(&score(b)) {
                std::cmp::Ordering::Greater => 1.0,
                std::cmp::Ordering::Equal => 0.5,
                std::cmp::Ordering::Less => 0.0,
            };
        }
    }
    let n_pairs = positive.len() * others.len();
    (n_pairs > 0).then(|| wins / n_pairs as f64)
}
