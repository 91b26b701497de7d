//! How does the time to an answer grow with what stands before the question?

use std::ops::Range;
use std::path::Path;

use plotters::prelude::*;

use crate::curve::Point;
use crate::rig::Error;

/// A line of the picture.
type Curve = (&'static str, RGBColor, Vec<(f64, f64)>);

/// Draws time against tokens, both logarithmic.
pub fn draw(path: &Path, model: &str, points: &[Point]) -> Result<(), Error> {
    let curves = curves(points);
    let all = || curves.iter().flat_map(|(.., curve)| curve.iter().copied());
    let (x, y) = (span(all().map(|p| p.0)), span(all().map(|p| p.1)));
    let sizes = points.iter().map(|point| point.n_tokens as f64).collect();
    let seconds = one_two_five(&y);
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let area = SVGBackend::new(path, (720, 480)).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption(
            format!("One passage replaced: time to an answer of {model}"),
            ("sans-serif", 18),
        )
        .margin(16)
        .x_label_area_size(40)
        .y_label_area_size(56)
        .build_cartesian_2d(
            x.log_scale().with_key_points(sizes),
            y.log_scale().with_key_points(seconds),
        )?;
    chart
        .configure_mesh()
        .x_desc("tokens of passages")
        .y_desc("seconds to an answer of 64 tokens")
        .x_label_formatter(&|x| format!("{x:.0}"))
        .y_label_formatter(&|y| format!("{y}"))
        .draw()?;
    for (label, color, curve) in curves {
        chart
            .draw_series(LineSeries::new(curve, color.stroke_width(2)).point_size(3))?
            .label(label)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], color.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK)
        .draw()?;
    area.present()?;
    Ok(())
}

fn curves(points: &[Point]) -> Vec<Curve> {
    let curve = |seconds: &dyn Fn(&Point) -> Option<f64>| -> Vec<(f64, f64)> {
        let seen = |point: &Point| Some((point.n_tokens as f64, seconds(point)?));
        points.iter().filter_map(seen).collect()
    };
    let mut curves = vec![
        (
            "from scratch",
            RGBColor(214, 39, 40),
            curve(&|p| Some(p.scratch.wall_s)),
        ),
        (
            "prefix cache",
            RGBColor(44, 160, 44),
            curve(&|p| Some(p.prefix_cache.wall_s)),
        ),
        (
            "EVENTUAL",
            RGBColor(31, 119, 180),
            curve(&|p| Some(p.eventual.wall_s)),
        ),
        (
            "llama.cpp, prompt cache",
            RGBColor(127, 127, 127),
            curve(&|p| Some(p.peer?.1.wall_s)),
        ),
    ];
    curves.retain(|(.., curve)| !curve.is_empty());
    curves
}

/// The numbers 1, 2 and 5 times a power of ten that lie in a range.
fn one_two_five(range: &Range<f64>) -> Vec<f64> {
    let powers = (-4..7).map(|power| 10f64.powi(power));
    let numbers = powers.flat_map(|power| [power, 2.0 * power, 5.0 * power]);
    numbers.filter(|x| range.contains(x)).collect()
}

/// From somewhat below the least to somewhat above the greatest.
fn span(values: impl Iterator<Item = f64>) -> Range<f64> {
    let (least, greatest) = values.fold((f64::MAX, f64::MIN_POSITIVE), |(least, greatest), x| {
        (least.min(x), greatest.max(x))
    });
    least * 0.7..greatest * 1.5
}
