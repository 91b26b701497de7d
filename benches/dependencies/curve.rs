//! How well do scores part what mattered from what did not?

use std::fmt::Write;
use std::path::Path;

use perennial::ask::Evidence;
use plotters::prelude::*;

use crate::rig::Error;

/// One sub-paragraph and one passage.
#[derive(Clone, Copy, Debug)]
pub struct Pair {
    /// How much the one depends on the other, it is thought.
    pub score: f32,
    /// Whether the sub-paragraph was another without the passage.
    pub mattered: bool,
}

/// All pairs of a set.
#[derive(Default)]
pub struct Pairs(pub Vec<Pair>);

impl Pairs {
    fn n_mattered(&self) -> usize {
        self.0.iter().filter(|pair| pair.mattered).count()
    }

    /// The probability that a pair that mattered scores higher than one that did not; a tie
    /// is half.
    fn auc(&self) -> f64 {
        let (mattered, other): (Vec<&Pair>, Vec<&Pair>) =
            self.0.iter().partition(|pair| pair.mattered);
        let mut sum = 0.0;
        for a in &mattered {
            for b in &other {
                sum += match a.score.total_cmp(&b.score) {
                    std::cmp::Ordering::Greater => 1.0,
                    std::cmp::Ordering::Equal => 0.5,
                    std::cmp::Ordering::Less => 0.0,
                };
            }
        }
        sum / (mattered.len() * other.len()).max(1) as f64
    }

    /// The highest threshold at which at least `recall` of what mattered is not below it.
    fn threshold(&self, recall: f64) -> f32 {
        let mut scores: Vec<f32> = self.mattered().collect();
        scores.sort_by(f32::total_cmp);
        let n_missed = ((1.0 - recall) * scores.len() as f64 + 1e-9) as usize;
        scores.get(n_missed).copied().unwrap_or_default()
    }

    fn mattered(&self) -> impl Iterator<Item = f32> {
        let mattered = self.0.iter().filter(|pair| pair.mattered);
        mattered.map(|pair| pair.score)
    }

    /// Share of all pairs below a threshold.
    fn skipped(&self, threshold: f32) -> f64 {
        let below = self.0.iter().filter(|pair| pair.score < threshold).count();
        below as f64 / self.0.len().max(1) as f64
    }

    /// Recall against skip rate, for every threshold.
    fn curve(&self) -> Vec<(f64, f64)> {
        let mut scores: Vec<f32> = self.0.iter().map(|pair| pair.score).collect();
        scores.sort_by(f32::total_cmp);
        scores.dedup();
        let n = self.n_mattered().max(1) as f64;
        let recall = |t: f32| self.mattered().filter(|score| *score >= t).count() as f64 / n;
        let mut curve: Vec<_> = scores
            .into_iter()
            .map(|t| (self.skipped(t), recall(t)))
            .collect();
        curve.push((1.0, 0.0));
        curve
    }
}

/// Recalls in the table.
const RECALLS: [f64; 4] = [1.0, 0.99, 0.95, 0.9];

/// A line a kind of evidence and set.
pub fn markdown(model: &str, kinds: &[(Evidence, Vec<(String, Pairs)>)]) -> String {
    let mut table = "| model | evidence | set | pairs | mattered | AUC |".to_owned();
    let mut rule = "\n| --- | --- | --- | ---: | ---: | ---: |".to_owned();
    for recall in RECALLS {
        let _ = write!(
            table,
            " skipped at {}% recall (threshold) |",
            recall * 100.0
        );
        rule.push_str(" ---: |");
    }
    table.push_str(&rule);
    let sets = kinds
        .iter()
        .flat_map(|(kind, sets)| sets.iter().map(move |of| (kind, of)));
    for (kind, (set, pairs)) in sets {
        let (n, n_mattered) = (pairs.0.len(), pairs.n_mattered());
        let auc = pairs.auc();
        let _ = write!(
            table,
            "\n| {model} | {kind} | {set} | {n} | {n_mattered} | {auc:.3} |"
        );
        for recall in RECALLS {
            let threshold = pairs.threshold(recall);
            let skipped = pairs.skipped(threshold) * 100.0;
            let _ = write!(table, " {skipped:.0}% ({threshold:.3}) |");
        }
    }
    table.push('\n');
    table
}

/// Draws the curves.
pub fn draw(path: &Path, model: &str, sets: &[(String, Pairs)]) -> Result<(), Error> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let area = SVGBackend::new(path, (720, 480)).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption(
            format!("Dependencies of {model}: what may be left unread"),
            ("sans-serif", 18),
        )
        .margin(16)
        .x_label_area_size(40)
        .y_label_area_size(48)
        .build_cartesian_2d(0.0..1.0, 0.0..1.02)?;
    chart
        .configure_mesh()
        .x_desc("share of changes skipped")
        .y_desc("recall of changes that mattered")
        .draw()?;
    for (i, (set, pairs)) in sets.iter().enumerate() {
        let color = Palette99::pick(i).to_rgba();
        let label = format!("{set} (AUC {:.3})", pairs.auc());
        chart
            .draw_series(LineSeries::new(pairs.curve(), color.stroke_width(2)))?
            .label(label)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], color.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerLeft)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK)
        .draw()?;
    area.present()?;
    Ok(())
}
