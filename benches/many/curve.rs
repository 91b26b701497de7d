//! How well does what is expected of an answer tell whether a change concerns it?
//!
//! What is measured is that of `perennial calibrate`; here it is printed, by kind of edit, for the gold
//! answers and, where all answers were read, for their regret.

use std::io::Write as _;
use std::path::Path;

use perennial::ask::Profile;
use perennial::ask::pull::Curve;
use perennial::ask::pull::fit::{self, Sample};
use perennial::calibration::edit::Kind;
use perennial::calibration::measure::{Point, Reading};

use crate::rig::Error;

/// Writes all points as comma-separated values.
pub fn dump(points: &[Point], profile: &Profile, path: &Path) -> Result<(), Error> {
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
            profile.expected_regret(&p.pulled),
            u8::from(p.is_concerned)
        )?;
    }
    Ok(())
}

/// Prints the coefficients that fit best, and how well fits without a group tell its answers apart.
pub fn print_fit(model: &str, points: &[Point], (regret, bound): (f32, f32)) {
    let samples: Vec<Sample<'_>> = points.iter().map(Point::sample).collect();
    let [bias, closeness, lead, passage_lead, lost, mass] = fit::fitted(&samples).as_array();
    println!(
        "{model}: bias {bias:.2}, closeness {closeness:.2}, lead {lead:.2}, passage lead {passage_lead:.2}, \
         lost {lost:.2}, mass {mass:.2}, by {} answers of which {} had to change\n",
        points.len(),
        points.iter().filter(|p| p.is_concerned).count()
    );
    let chances = fit::cross_validated(&samples).into_iter();
    let scores: Vec<f32> = chances.map(|chance| regret * chance).collect();
    println!("Each group by a fit without it.\n");
    print_by(model, points, (&scores, bound), "gold changed", |p| {
        p.is_concerned
    });
}

/// How well what a profile expects tells the answers apart that have to change: those whose gold answer
/// changes, and, where answers were read, those whose regret is past the bound.
pub fn print(model: &str, points: &[Point], profile: &Profile, bound: f32) {
    let samples: Vec<Sample<'_>> = points.iter().map(Point::sample).collect();
    let expected = fit::expected(profile, &samples);
    println!("By {profile}.\n");
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
fn print_by(
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
    let share = |share: Option<f64>| share.map_or_else(|| "-".to_owned(), |x| format!("{x:.3}"));
    for kind in Kind::ALL.map(Some).into_iter().chain([None]) {
        let of_kind = points.iter().zip(scores);
        let of_kind = of_kind.filter(|(p, _)| kind.is_none_or(|kind| p.kind == kind));
        let curve = Curve::of(of_kind.map(|(p, score)| (*score, is_positive(p))), bound);
        if curve.answers == 0 {
            continue;
        }
        println!(
            "| {model} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            kind.map_or("**all**", Kind::name),
            curve.answers,
            curve.concerned,
            curve
                .auc
                .map_or_else(|| "-".to_owned(), |auc| format!("{auc:.4}")),
            share(curve.others_read_at_recall_95),
            share(curve.others_read_at_recall_99),
            share(curve.others_read_at_recall_100),
            share(Some(curve.others_read_at_bound)),
            curve.missed_at_bound,
        );
    }
    println!();
}
